"""Verification of a ledger's stored rows: pure functions over what a store returns.

Invariants: every claim is recomputed from entry bytes; search columns are compared with the bytes, never trusted; nothing to
check is never "ok". The level states what was proven: L0 internally consistent, L1 head signed by a key from the trust file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

from cognify_dagster.ledger.canonical import canonical_json, parse_canonical
from cognify_dagster.ledger.entry import NO_PREVIOUS, Entry, payload_commitment
from cognify_dagster.ledger.errors import CanonicalJsonError, EntryError, NoteError
from cognify_dagster.ledger.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash
from cognify_dagster.ledger.note import Checkpoint, TrustFile, open_checkpoint, parse_note
from cognify_dagster.ledger.store import StoredEntry, StoredPayload


class Outcome(IntEnum):
    """Result of a verification; the number is the command's exit code."""

    HOLDS = 0
    TAMPERED = 1
    ROLLED_BACK = 2
    UNREADABLE = 3
    UNPROVEN = 4


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. `seq` is the sequence number concerned, None if it concerns the ledger as a whole."""

    outcome: Outcome
    seq: int | None
    message: str

    def __str__(self) -> str:
        return f"entry {self.seq}: {self.message}" if self.seq is not None else self.message


@dataclass(frozen=True)
class Report:
    """What a verification proved. `level` is L0 or L1, None when not even L0 holds; `uncovered` counts the entries
    younger than the newest trusted checkpoint (the exposure window)."""

    origin: str
    size: int
    root: bytes
    findings: tuple[Finding, ...]
    level: str | None
    signed_size: int
    erased: int = 0
    notes: tuple[str, ...] = field(default=())

    @property
    def outcome(self) -> Outcome:
        """The worst finding; HOLDS without findings at L1, UNPROVEN when nothing signed covers the ledger."""
        if self.findings:
            return min(finding.outcome for finding in self.findings)
        return Outcome.HOLDS if self.level == "L1" else Outcome.UNPROVEN

    @property
    def uncovered(self) -> int:
        """Entries that no trusted checkpoint covers yet."""
        return self.size - self.signed_size


class EntryChecker:
    """Checks entries one by one in order; `feed` yields findings and keeps root and subject heads from verified bytes."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.frontier = Frontier()
        self.heads: dict[str, int] = {}
        self.roots: dict[int, bytes] = {}
        self._wanted: set[int] = set()
        self._prev = NO_PREVIOUS
        self._time = 0
        self._next = 0
        self._lost_heads = False
        self.leaves: list[bytes] = []

    def want_roots(self, sizes: Iterable[int]) -> None:
        """Keep the roots at these sizes while feeding."""
        self._wanted.update(sizes)
        if 0 in self._wanted:
            self.roots[0] = EMPTY_ROOT

    def feed(self, row: StoredEntry) -> tuple[Entry | None, list[Finding]]:
        """Check one row; return its entry if the bytes parse, and what is wrong with it."""
        problems: list[str] = []
        if row.seq != self._next:
            missing = f"{self._next}" if row.seq == self._next + 1 else f"{self._next}..{row.seq - 1}"
            problems.append(f"entry {missing} is missing before it" if row.seq > self._next else "it is out of order")
        leaf = leaf_hash(row.data)
        if leaf != row.leaf:
            problems.append("the stored leaf hash is not that of the entry's bytes: one of them was changed")
        entry: Entry | None = None
        try:
            entry = Entry.parse(row.data)
        except EntryError as error:
            problems.append(f"the bytes are not an entry ({error})")
            self._lost_heads = True  # which subjects it had is gone: later heads cannot be judged any more
        if entry is not None:
            problems += self._check_links(row, entry)
            self._time = max(self._time, entry.time_us)
            for subject in entry.subjects:
                self.heads[subject] = entry.seq
        self._prev = leaf.hex()
        self._next = row.seq + 1
        self.frontier.append(leaf)
        self.leaves.append(leaf)
        if self.frontier.size in self._wanted:
            self.roots[self.frontier.size] = self.frontier.root()
        return entry, [Finding(Outcome.TAMPERED, row.seq, problem) for problem in problems]

    def _check_links(self, row: StoredEntry, entry: Entry) -> list[str]:
        problems = []
        if entry.ledger != self.origin:
            problems.append(f"it belongs to ledger {entry.ledger!r}, not {self.origin!r}")
        if entry.seq != row.seq:
            problems.append(f"its bytes say sequence number {entry.seq}")
        if entry.prev != self._prev:
            problems.append("its previous-leaf hash does not match the entry before it: the chain is broken here")
        if entry.time_us < self._time:
            problems.append("its time lies before that of an earlier entry")
        expected = {subject: self.heads.get(subject, -1) for subject in entry.subjects}
        if dict(entry.heads) != expected and not self._lost_heads:
            problems.append(f"its subject heads {dict(entry.heads)} are not {expected}")
        for name, stored, true in (
            ("prev", row.prev, entry.prev),
            ("idem", row.idem, entry.idem),
            ("kind", row.kind, entry.kind),
            ("time_us", row.time_us, entry.time_us),
            ("subjects", row.subjects, entry.subjects),
        ):
            if stored != true:
                problems.append(f"the search column {name!r} holds {stored!r}, the entry's bytes say {true!r}")
        return problems


def check_payload(entry: Entry, payload: StoredPayload | None, erased: set[int]) -> Finding | None:
    """Compare a payload with the entry's commitment. An absent payload needs an erasure entry naming its sequence number."""
    if payload is None or payload.data is None or payload.salt is None:
        if entry.seq in erased:
            return None
        return Finding(Outcome.TAMPERED, entry.seq, "its payload is missing and no erasure entry accounts for it")
    if len(payload.salt) != 32 or payload_commitment(payload.salt, payload.data) != entry.commitment:
        return Finding(Outcome.TAMPERED, entry.seq, "its payload is not the one the entry commits to")
    if payload.facts_digest != facts_digest_of(payload.data, payload.facts_digest):
        return Finding(Outcome.TAMPERED, entry.seq, "the search column 'facts_digest' is not that of its payload")
    return None


def facts_digest_of(payload: bytes, otherwise: str | None) -> str | None:
    """SHA-256 hex over the canonical `facts` of a payload; `otherwise` for a payload that has no such member."""
    try:
        value = parse_canonical(payload)
        return hashlib.sha256(canonical_json(value["facts"])).hexdigest() if "facts" in value else otherwise
    except (CanonicalJsonError, TypeError):
        return otherwise


def check_nodes(leaves: Sequence[bytes], cached: Iterable[tuple[int, int, bytes]]) -> str | None:
    """Compare a cache of complete subtrees with the leaves; return what is wrong. The cache is never trusted, but a wrong
    one would make honest proofs fail."""
    level, row = 0, list(leaves)
    index = 0
    for found_level, found_index, value in cached:
        while index == len(row) and row:
            level, index = level + 1, 0
            row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        if (found_level, found_index) != (level, index) or not row or value != row[index]:
            return f"the tree cache is wrong at node {level}/{index}"
        index += 1
    return None if index == len(row) and len(row) <= 1 else f"the tree cache ends before node {level}/{index}"


def trusted_checkpoints(
    notes: Sequence[tuple[int, str]], trust: TrustFile, origin: str
) -> tuple[list[Checkpoint], list[Finding]]:
    """Return the checkpoints that a trusted log key signed; anything else in the list is a finding."""
    good: list[Checkpoint] = []
    findings: list[Finding] = []
    for size, note in notes:
        try:
            parse_note(note)
            checkpoint = open_checkpoint(note, trust.logs)
        except NoteError as error:
            findings.append(Finding(Outcome.TAMPERED, None, f"stored checkpoint of size {size}: {error}"))
            continue
        if checkpoint.origin != origin or checkpoint.size != size:
            findings.append(
                Finding(Outcome.TAMPERED, None, f"stored checkpoint of size {size} is about something else")
            )
            continue
        good.append(checkpoint)
    return good, findings


def check_roots(checkpoints: Iterable[tuple[str, Checkpoint]], size: int, roots: dict[int, bytes]) -> list[Finding]:
    """Compare remembered checkpoints (label, checkpoint) with the recomputed roots of the entries."""
    findings = []
    for label, checkpoint in checkpoints:
        if checkpoint.size > size:
            findings.append(
                Finding(
                    Outcome.ROLLED_BACK,
                    None,
                    f"{label} covers {checkpoint.size} entries, the ledger has {size}: "
                    f"entries {size}..{checkpoint.size - 1} were cut off",
                )
            )
        elif checkpoint.size and roots.get(checkpoint.size) != checkpoint.root:
            findings.append(
                Finding(
                    Outcome.ROLLED_BACK,
                    None,
                    f"the first {checkpoint.size} entries do not have the root that {label} signed: history was rewritten",
                )
            )
    return findings
