"""`Ledger`: append, read verified bytes, sign checkpoints, prove and verify, over any `Store`."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from cognify_dagster.ledger.canonical import parse_canonical
from cognify_dagster.ledger.entry import Draft, Entry, seal_body
from cognify_dagster.ledger.errors import LedgerError, NoteError, ProofError, Tampered
from cognify_dagster.ledger.merkle import consistency_proof, inclusion_proof, root_at
from cognify_dagster.ledger.note import Checkpoint, ProofFile, TrustFile, open_checkpoint
from cognify_dagster.ledger.signer import LogSigner
from cognify_dagster.ledger.store import Receipt, Store
from cognify_dagster.ledger.verify import (
    EntryChecker,
    Finding,
    Outcome,
    Report,
    check_nodes,
    check_payload,
    check_roots,
    trusted_checkpoints,
)

ERASURE_KIND = "payload_erased"


@dataclass(frozen=True)
class VerifiedEntry:
    """An entry whose bytes, chain and payload commitment were checked, with its payload (None if erased)."""

    entry: Entry
    payload: Mapping[str, Any] | None
    salt: bytes | None


@dataclass(frozen=True)
class VerifiedView:
    """The first `size` entries, all checked, with the index of subjects rebuilt from their bytes.

    `root` is recomputed; `heads` gives each subject's newest entry.
    """

    origin: str
    size: int
    root: bytes
    entries: tuple[VerifiedEntry, ...]
    heads: Mapping[str, int]

    def history(self, subject: str) -> list[VerifiedEntry]:
        """Walk a subject's heads backwards through verified bytes; return its entries oldest first."""
        found = []
        seq = self.heads.get(subject, -1)
        while seq >= 0:
            item = self.entries[seq]
            found.append(item)
            seq = item.entry.heads[subject]
        found.reverse()
        return found

    def checkpoint(self) -> Checkpoint:
        """Return this view's head, unsigned."""
        return Checkpoint(self.origin, self.size, self.root)


class Ledger:
    """One ledger: a store, and the signer of its checkpoints if this process may sign."""

    def __init__(
        self, store: Store, *, signer: LogSigner | None = None, clock_us: Callable[[], int] | None = None
    ) -> None:
        self.store = store
        self.signer = signer
        self._clock = clock_us or (lambda: time.time_ns() // 1000)

    @property
    def origin(self) -> str:
        """The ledger's identity; part of every entry and checkpoint."""
        return self.store.origin

    def size(self) -> int:
        """Return the number of entries."""
        return self.store.size()

    def append(self, draft: Draft, expected_size: int | None = None) -> Receipt:
        """Append one entry durably.

        Args:
            draft: the entry to be.
            expected_size: append only if the ledger still has this many entries.

        Returns:
            The receipt; the old one (`duplicate`) if an entry with this idempotency key and the same facts exists.

        Raises:
            IdempotencyConflict, SizeChanged, ClockError, EntryError, LedgerFull, LedgerUnreadable.
        """
        return self.store.append(seal_body(self.origin, draft), self._clock(), expected_size)

    def view(self, size: int | None = None) -> VerifiedView:
        """Read and check the first `size` entries (all, unless given).

        Raises:
            Tampered: naming the first entry that does not check.
        """
        total = self.store.size() if size is None else size
        checker = EntryChecker(self.origin)
        entries: list[Entry] = []
        for row in self.store.entries(0, total):
            entry, findings = checker.feed(row)
            if findings or entry is None:
                raise Tampered(f"{findings[0]}; run `cognify ledger verify` for the whole picture")
            entries.append(entry)
        if len(entries) != total:
            raise Tampered(f"the ledger says it has {total} entries but {len(entries)} could be read")
        return self._with_payloads(checker, entries)

    def _with_payloads(self, checker: EntryChecker, entries: list[Entry]) -> VerifiedView:
        payloads = {payload.seq: payload for payload in self.store.payloads(0, len(entries))}
        erased = _erased(payloads[e.seq].data for e in entries if e.kind == ERASURE_KIND and e.seq in payloads)
        verified = []
        for entry in entries:
            payload = payloads.get(entry.seq)
            finding = check_payload(entry, payload, erased)
            if finding is not None:
                raise Tampered(f"{finding}; run `cognify ledger verify` for the whole picture")
            data = payload.data if payload else None
            salt = payload.salt if payload else None
            verified.append(VerifiedEntry(entry, None if data is None else parse_canonical(data), salt))
        return VerifiedView(self.origin, len(entries), checker.frontier.root(), tuple(verified), dict(checker.heads))

    def sign_checkpoint(self, view: VerifiedView | None = None) -> str:
        """Sign the present head and keep the signed note.

        Raises:
            Tampered: if the entries contradict themselves or the head signed last.
            LedgerError: if this process has no log key.
        """
        if self.signer is None:
            raise LedgerError("this process has no log key, so it cannot sign a checkpoint")
        with self.signer.exclusive():
            last = self.signer.last_signed()
            total = self.store.size()
            checker = EntryChecker(self.origin)
            checker.want_roots([last.size] if last else [])
            for row in self.store.entries(0, total):
                _, findings = checker.feed(row)
                if findings:
                    raise Tampered(f"no checkpoint is signed over a damaged ledger: {findings[0]}")
            head = Checkpoint(self.origin, checker.frontier.size, checker.frontier.root())
            note = self.signer.sign(head, checker.roots.get(last.size) if last else None)
            self.store.add_checkpoint(head.size, note)
        return note

    def latest_checkpoint(self) -> str | None:
        """Return the newest kept checkpoint note, unverified."""
        notes = self.store.checkpoints()
        return notes[-1][1] if notes else None

    def inclusion(self, seq: int, size: int) -> list[bytes]:
        """Return the audit path of entry `seq` in the tree of the first `size` entries."""
        return inclusion_proof(seq, size, self.store.node)

    def consistency(self, size1: int, size2: int) -> list[bytes]:
        """Return the proof that the first `size1` entries are a prefix of the first `size2`."""
        if size2 > self.store.size():
            raise ProofError(f"the ledger has {self.store.size()} entries, not {size2}")
        return consistency_proof(size1, size2, self.store.node)

    def root(self, size: int) -> bytes:
        """Return the cached root of the first `size` entries."""
        return root_at(size, self.store.node)

    def proof_file(self, seq: int) -> ProofFile:
        """Return a C2SP tlog-proof of entry `seq` under the newest kept checkpoint that covers it.

        Raises:
            ProofError: if no checkpoint covers the entry yet.
        """
        covering = [(size, note) for size, note in self.store.checkpoints() if size > seq]
        if not covering:
            raise ProofError(f"no checkpoint covers entry {seq} yet; run `cognify ledger checkpoint` first")
        size, note = covering[-1]
        return ProofFile(seq, tuple(self.inclusion(seq, size)), note)

    def verify(self, trust: TrustFile | None = None, *, remembered: Iterator[tuple[str, str]] = iter(())) -> Report:
        """Recompute everything from entry bytes and compare it with every signed head.

        Args:
            trust: keys from outside the ledger; without it at best L0 is reached.
            remembered: further signed checkpoints held outside the ledger, as (label, note).

        Returns:
            A report with every finding; it never raises for what an attacker could have written.
        """
        size = self.store.size()
        findings: list[Finding] = []
        notes: list[str] = []
        heads: list[tuple[str, Checkpoint]] = []
        if trust is not None:
            stored, bad = trusted_checkpoints(self.store.checkpoints(), trust, self.origin)
            findings += bad
            heads += [(f"the checkpoint of size {checkpoint.size}", checkpoint) for checkpoint in stored]
            for label, note in remembered:
                try:
                    heads.append((label, open_checkpoint(note, trust.logs)))
                except NoteError as error:
                    findings.append(Finding(Outcome.UNREADABLE, None, f"{label}: {error}"))
        if self.signer is not None and (last := self.signer.last_signed()) is not None:
            heads.append(("the signer's own memory", last))
        checker = EntryChecker(self.origin)
        checker.want_roots(checkpoint.size for _, checkpoint in heads)
        entries: list[Entry] = []
        for row in self.store.entries(0, size):
            entry, problems = checker.feed(row)
            findings += problems
            if entry is not None:
                entries.append(entry)
        erased_count = self._check_payloads(entries, size, findings)
        if checker.frontier.size != size:
            findings.append(Finding(Outcome.TAMPERED, None, f"{size} entries announced, {checker.frontier.size} found"))
        self._check_cache(checker, findings)
        if trust is not None and trust.genesis is not None and entries and entries[0].leaf != trust.genesis:
            findings.append(Finding(Outcome.ROLLED_BACK, 0, "the first entry is not the one the trust file pins"))
        findings += check_roots(heads, checker.frontier.size, checker.roots)
        signed = max((c.size for label, c in heads if trust and label != "the signer's own memory"), default=0)
        if size == 0:
            findings.append(Finding(Outcome.UNPROVEN, None, "the ledger is empty: there is nothing to prove"))
        level = None if any(f.outcome in (Outcome.TAMPERED, Outcome.ROLLED_BACK) for f in findings) else "L0"
        if level == "L0" and signed > 0:
            level = "L1"
        if trust is None:
            notes.append("no trust file was given, so no signature was checked")
        return Report(
            self.origin, size, checker.frontier.root(), tuple(findings), level, signed, erased_count, tuple(notes)
        )

    def _check_payloads(self, entries: list[Entry], size: int, findings: list[Finding]) -> int:
        payloads = {payload.seq: payload for payload in self.store.payloads(0, size)}
        erased = _erased(payloads[e.seq].data for e in entries if e.kind == ERASURE_KIND and e.seq in payloads)
        for entry in entries:
            finding = check_payload(entry, payloads.get(entry.seq), erased)
            if finding is not None:
                findings.append(finding)
        return len(erased)

    def _check_cache(self, checker: EntryChecker, findings: list[Finding]) -> None:
        """The tree cache is never trusted, but a wrong one would stop honest appends and proofs: say so."""
        problem = check_nodes(checker.leaves, self.store.nodes(checker.frontier.size))
        if problem:
            findings.append(Finding(Outcome.TAMPERED, None, problem))


def _erased(payloads: Iterator[bytes | None] | Any) -> set[int]:
    """Return the sequence numbers that erasure entries account for."""
    erased: set[int] = set()
    for data in payloads:
        if data is None:
            continue
        try:
            erased.add(int(json.loads(data)["facts"]["seq"]))
        except (ValueError, KeyError, TypeError):
            continue
    return erased
