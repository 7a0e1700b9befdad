"""`Ledger`: append, read verified bytes, sign checkpoints, prove and verify, over any `Store`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cognify_dagster.ledger.canonical import parse_canonical
from cognify_dagster.ledger.entry import Draft, Entry, seal_body
from cognify_dagster.ledger.errors import LedgerError, ProofError, Tampered
from cognify_dagster.ledger.merkle import consistency_proof, inclusion_proof, root_at
from cognify_dagster.ledger.note import Checkpoint, ProofFile, TrustFile, parse_note
from cognify_dagster.ledger.signer import LogSigner
from cognify_dagster.ledger.store import Receipt, Store, StoredPayload
from cognify_dagster.ledger.verification.report import Report
from cognify_dagster.ledger.verification.scan import ERASURE_KIND, Depth, Seam, erased_by, scan
from cognify_dagster.ledger.verification.state import StateFile
from cognify_dagster.ledger.verification.verify import Anchored, verify_store

if TYPE_CHECKING:
    from cognify_dagster.ledger.witness import Finding as WitnessFinding
    from cognify_dagster.ledger.witness import Remote

WITNESS_TIMEOUT_S = 5.0


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
    """One ledger: a store, and the signer of its checkpoints if this process may sign.

    Args:
        store: where the rows are.
        signer: signs checkpoints, if this process has a log key.
        clock_us: the clock, microseconds since 1970 UTC.
        witnesses: asked to cosign each checkpoint that is signed here.
        guard: called before every append; raises where nothing may be appended (a ledger known to be rolled back).
    """

    def __init__(
        self,
        store: Store,
        *,
        signer: LogSigner | None = None,
        clock_us: Callable[[], int] | None = None,
        witnesses: Sequence[Remote] = (),
        guard: Callable[[], None] | None = None,
    ) -> None:
        self.store = store
        self.signer = signer
        self.witnesses = tuple(witnesses)
        self.witnessing: tuple[WitnessFinding, ...] = ()
        """What became of asking each witness the last time."""
        self._clock = clock_us or (lambda: time.time_ns() // 1000)
        self._guard = guard or (lambda: None)

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
        self._guard()
        return self.store.append(seal_body(self.origin, draft), self._clock(), expected_size)

    def append_many(self, drafts: Sequence[Draft], expected_size: int | None = None) -> list[Receipt]:
        """Append entries in order in one durable transaction: all or, if one is refused, none. Otherwise as `append`."""
        self._guard()
        sealed = [seal_body(self.origin, draft) for draft in drafts]
        return self.store.append_many(sealed, self._clock(), expected_size)

    def view(self, size: int | None = None) -> VerifiedView:
        """Read and check the first `size` entries (all, unless given).

        Payloads that a later entry erased are None, also where that entry is not among the first `size`.

        Raises:
            Tampered: naming the first entry that does not check.
        """
        total = self.store.size() if size is None else size
        depth = Depth(nodes=False, keep=True)
        seam, verified = Seam(), []
        for part in scan(self.store, 0, total, depth=depth):
            seam.add(part, depth)
            if seam.findings:
                raise Tampered(f"{seam.findings[0]}; run `cognify ledger verify` for the whole picture")
            verified += [_verified(entry, row) for entry, row in zip(part.entries, part.payloads, strict=True)]
        if len(verified) != total:
            raise Tampered(f"the ledger says it has {total} entries but {len(verified)} could be read")
        unaccounted = seam.missing - seam.erased()
        if unaccounted:
            unaccounted -= self._erased_later(total)
        if unaccounted:
            text = "its payload is missing and no erasure entry accounts for it"
            raise Tampered(f"entry {min(unaccounted)}: {text}; run `cognify ledger verify` for the whole picture")
        return VerifiedView(self.origin, total, seam.position.root, tuple(verified), dict(seam.heads))

    def _erased_later(self, size: int) -> set[int]:
        """Return what entries from `size` on erased; they are checked as any other."""
        depth = Depth(nodes=False)
        erased: set[int] = set()
        for part in scan(self.store, size, self.store.size(), depth=depth):
            if part.findings:
                raise Tampered(f"{part.findings[0]}; run `cognify ledger verify` for the whole picture")
            erased |= erased_by(facts for _, kind, facts in part.noted if kind == ERASURE_KIND)
        return erased

    def sign_checkpoint(self) -> str:
        """Sign the present head and keep the signed note.

        Raises:
            Tampered: if the entries contradict themselves or the head signed last.
            LedgerError: if this process has no log key.
        """
        if self.signer is None:
            raise LedgerError("this process has no log key, so it cannot sign a checkpoint")
        note = self.signer.sign(self.store)
        return self.cosign(note) if self.witnesses else note

    def cosign(self, note: str, timeout: float = WITNESS_TIMEOUT_S) -> str:
        """Ask the witnesses to cosign a checkpoint; keep and return the note with the lines of those that did.

        A witness that does not answer is no error here: whether the lines suffice is for the trust file's quorum to say, and
        what becomes of an act without it is for the caller.
        """
        from cognify_dagster.ledger.witness import collect

        collected = collect(note, self.witnesses, self.consistency, timeout, current_size=self.store.size)
        self.witnessing = collected.findings
        if collected.note != note:
            self.store.add_checkpoint(Checkpoint.parse(parse_note(collected.note).text).size, collected.note)
        return collected.note

    def latest_checkpoint(self) -> str | None:
        """Return the newest kept checkpoint note, unverified."""
        notes = self.store.checkpoints()
        return max(notes, key=_weight)[1] if notes else None

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
        size, note = max(covering, key=_weight)
        return ProofFile(seq, tuple(self.inclusion(seq, size)), note)

    def verify(
        self,
        trust: TrustFile | None = None,
        *,
        remembered: Iterable[tuple[str, str]] = (),
        anchored: Sequence[Anchored] = (),
        since: StateFile | None = None,
        depth: Depth = Depth(),
        processes: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> Report:
        """Recompute the ledger from entry bytes and compare it with every signed head; see `verify.verify_store`."""
        return verify_store(
            self.store,
            trust=trust,
            remembered=remembered,
            anchored=anchored,
            signer_head=self.signer.last_signed() if self.signer is not None else None,
            since=since,
            depth=depth,
            processes=processes,
            progress=progress,
        )


def _weight(kept: tuple[int, str]) -> tuple[int, int]:
    """Of kept checkpoints prefer the largest, and of one size the one with the most signatures."""
    return kept[0], kept[1].count("\n\u2014 ")


def _verified(entry: Entry, row: StoredPayload | None) -> VerifiedEntry:
    data = row.data if row else None
    return VerifiedEntry(entry, None if data is None else parse_canonical(data), row.salt if row else None)
