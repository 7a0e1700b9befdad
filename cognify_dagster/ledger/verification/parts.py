"""Checking stored rows in parts, each by itself. Memory does not grow with the ledger.

Invariants: a part's result follows from its rows alone; whatever depends on what came before (previous leaf, time, subject
heads, erasures) is a claim of the part that `Seam` compares with the parts before it; no row is believed because another
row says so.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import repeat
from typing import Any

from cognify_dagster.ledger.canonical import canonical_json, parse_canonical
from cognify_dagster.ledger.entry import CLOCK_KIND, NO_PREVIOUS, Entry, payload_commitment
from cognify_dagster.ledger.errors import CanonicalJsonError, EntryError
from cognify_dagster.ledger.merkle import leaf_hash
from cognify_dagster.ledger.store import BulkStore, Store, StoredEntry, StoredPayload
from cognify_dagster.ledger.tree import Tree
from cognify_dagster.ledger.verification import bulk
from cognify_dagster.ledger.verification.reading import held, read, rows, strange
from cognify_dagster.ledger.verification.report import Finding, Outcome
from cognify_dagster.ledger.verification.tombstones import check_tombstones

CHUNK = 256  # what a run touches stays in the processor's cache
AT_ONCE = 1_024  # a part of so few rows is read in one snapshot: a few milliseconds, for which a writer can wait
ERASURE_KIND = "payload_erased"
ARCHIVE_KIND = "segment_archived"
REVOCATION_KIND = "log_key_revoked"
_NOTED = frozenset({ERASURE_KIND, ARCHIVE_KIND, REVOCATION_KIND})


@dataclass
class Part:
    """What the rows [start, end) say, and what they claim about the rows before them. `joined` are cached subtrees, not compared
    yet, that the part completes but that began before it. `back` are the entries that correct the
    clock and whose time lies before that of the one before them, with the latter."""

    start: int
    end: int
    count: int = 0
    findings: list[Finding] = field(default_factory=list)
    peaks: list[tuple[int, bytes]] = field(default_factory=list)
    cuts: dict[int, list[tuple[int, bytes]]] = field(default_factory=dict)
    joined: dict[tuple[int, int], bytes] = field(default_factory=dict)
    first_leaf: bytes = b""
    first_prev: str = NO_PREVIOUS
    first_time: int = 0
    last_leaf: bytes = b""
    last_time: int = 0
    claims: dict[str, tuple[int, int]] = field(default_factory=dict)
    heads: dict[str, int] = field(default_factory=dict)
    damaged: bool = False
    missing: set[int] = field(default_factory=set)
    noted: list[tuple[int, str, Any]] = field(default_factory=list)
    back: dict[int, int] = field(default_factory=dict)
    first_kind: str = ""
    entries: list[Entry] = field(default_factory=list)
    payloads: list[StoredPayload | None] = field(default_factory=list)
    leaves: list[bytes] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)


@dataclass
class Committed:
    """Sequence number, payload commitment and kind of entries that were read, in columns: a hundred thousand small tuples would
    keep the garbage collector busy."""

    seqs: list[int] = field(default_factory=list)
    commitments: list[str] = field(default_factory=list)
    kinds: list[str] = field(default_factory=list)

    def add(self, seqs: Iterable[int], commitments: Iterable[str], kinds: Iterable[str]) -> None:
        """Add the next ones."""
        self.seqs += seqs
        self.commitments += commitments
        self.kinds += kinds


@dataclass(frozen=True)
class Depth:
    """How much is checked: search columns and links beside the leaves, payload commitments, the cached tree; `keep` also
    returns entries and payloads, `leaves` the leaf hash and kind of each entry."""

    columns: bool = True
    payloads: bool = True
    nodes: bool = True
    keep: bool = False
    leaves: bool = False


def scan_part(store: Store, start: int, end: int, cuts: Sequence[int] = (), depth: Depth = Depth()) -> Part:
    """Check the rows [start, end) of a store by themselves.

    Args:
        store: where the rows are.
        start: first sequence number; a multiple of `PART`, or where an earlier check ended.
        end: one more than the last.
        cuts: sizes in (start, end] at which the subtrees are kept, so that roots can be computed there.
        depth: what to check.
    """
    if end - start > AT_ONCE:
        return _scan_part(store, start, end, cuts, depth)
    with held(store):
        return _scan_part(store, start, end, cuts, depth)


def _scan_part(store: Store, start: int, end: int, cuts: Sequence[int], depth: Depth) -> Part:
    part = Part(start, end)
    leaves, committed = _read_rows(store, part, depth)
    part.count = len(leaves)
    if depth.leaves:
        part.leaves, part.kinds = leaves, committed.kinds
    finished: dict[int, tuple[int, list[bytes]]] | None = {} if depth.nodes else None
    tree, done = Tree(start), 0
    for cut in sorted({*cuts, end}):
        tree.extend(leaves[done : cut - start], finished)
        done = cut - start
        part.cuts[cut] = list(tree.peaks)
    part.peaks = list(tree.peaks)
    if depth.columns and depth.payloads:
        _check_payloads(store, part, committed, keep=depth.keep)
    if finished is not None and not part.findings:
        same = isinstance(store, BulkStore) and depth.columns and _same_nodes(store, part, finished)
        part.findings += [] if same else check_nodes(store, finished)
    if depth.columns:
        part.findings += check_tombstones(store, start, end, payloads=depth.payloads)
    return part


def _same_nodes(store: BulkStore, part: Part, finished: Mapping[int, tuple[int, list[bytes]]]) -> bool:
    """Whether the cache above the (already compared) leaves is as computed; what it has of subtrees that began before the part
    is left for `Seam`."""
    stored = read(store.completed, part.start, part.end)
    for level, (first, values) in finished.items():
        places = zip(repeat(level), range(first, first + len(values)))
        if level and [*map(stored.pop, places, repeat(None))] != values:
            return False
    part.joined = stored
    return True


def _read_rows(store: Store, part: Part, depth: Depth) -> tuple[list[bytes], Committed]:
    """Return leaf hashes and commitments of a part's rows: quickly where nothing is wrong, else row by row."""
    if isinstance(store, BulkStore) and not depth.keep:
        if not depth.columns:
            quick = _leaves_only(store, part)
            if quick is not None:
                return quick, Committed()
        else:
            run = _runs(store, part, depth)
            if run is not None:
                return run
    checker = _Rows(part, store.origin, depth)
    for row in rows(store.entries, part.start, part.end):
        checker.feed(row)
    return checker.leaves, checker.committed


def _chunks(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Cut [start, end) at multiples of `CHUNK`: there a store's own blocks begin, wherever the check does."""
    while start < end:
        high = min(end, start - start % CHUNK + CHUNK)
        yield start, high
        start = high


def _leaves_only(store: BulkStore, part: Part) -> list[bytes] | None:
    leaves: list[bytes] = []
    for low, high in _chunks(part.start, part.end):
        found = read(store.data, low, high)
        if [row[0] for row in found] != list(range(low, high)) or any(type(row[1]) is not bytes for row in found):
            return None
        leaves += bulk.leaf_hashes([row[1] for row in found])
    return leaves


def _runs(store: BulkStore, part: Part, depth: Depth) -> tuple[list[bytes], Committed] | None:
    """Check a part in runs that fit the processor's cache; None if any of them is not plainly sound."""
    leaves: list[bytes] = []
    committed = Committed()
    sweep = bulk.Sweep(store.origin, part.start)
    first: bulk.Run | None = None
    last: bulk.Run | None = None
    for low, high in _chunks(part.start, part.end):
        run = sweep.check(*read(store.columns, low, high), low, high)
        if run is None or (
            last is not None and (run.first_prev != leaves[-1].hex() or run.first_time < last.last_time)
        ):
            return None
        leaves += run.leaves
        if depth.payloads or depth.leaves:
            committed.add(range(low, high), run.commitments, run.kinds)
        first, last = first or run, run
    if first is None or last is None:
        return None
    part.claims, part.heads = sweep.claims, sweep.heads
    part.first_leaf, part.last_leaf = leaves[0], leaves[-1]
    part.first_kind = first.kinds[0]
    part.first_prev, part.first_time, part.last_time = first.first_prev, first.first_time, last.last_time
    return leaves, committed


class _Rows:
    """Checks rows one by one within a part."""

    def __init__(self, part: Part, origin: str, depth: Depth) -> None:
        self.part, self.origin, self.depth = part, origin, depth
        self.leaves: list[bytes] = []
        self.committed = Committed()
        self._next = part.start
        self._prev: str | None = None
        self._time = 0

    def feed(self, row: StoredEntry) -> None:
        """Check one row; the usual case in one comparison, anything else line by line for the message."""
        part = self.part
        if problem := strange(row):
            part.findings.append(Finding(Outcome.TAMPERED, row.seq if type(row.seq) is int else self._next, problem))
            if type(row.seq) is not int or type(row.data) is not bytes:
                self._advance(row._replace(seq=self._next), None, leaf_hash(b""))
                return
        if not self.depth.columns:
            leaf = leaf_hash(row.data)
            if leaf != row.leaf or row.seq != self._next:
                self._complain(row, None, leaf, None)
            self._next = row.seq + 1
            self.leaves.append(leaf)
            return
        try:
            entry = Entry.parse(row.data)
        except EntryError as error:
            self._complain(row, None, leaf_hash(row.data), error)
            self._advance(row, None, leaf_hash(row.data))
            return
        heads, known = entry.heads, part.heads
        if (
            (entry.seq, entry.leaf, entry.prev, entry.idem, entry.kind, entry.time_us, entry.subjects)
            != (row.seq, row.leaf, row.prev, row.idem, row.kind, row.time_us, row.subjects)
            or entry.seq != self._next
            or entry.ledger != self.origin
            or (self._prev is not None and entry.prev != self._prev)
            or entry.time_us < self._time
            or any(heads[s] != known[s] if s in known else heads[s] >= part.start for s in entry.subjects)
        ):
            self._complain(row, entry, entry.leaf, None)
        self._advance(row, entry, entry.leaf)

    def _advance(self, row: StoredEntry, entry: Entry | None, leaf: bytes) -> None:
        part = self.part
        if self._prev is None:
            part.first_leaf = leaf
            part.first_prev = entry.prev if entry else NO_PREVIOUS
            part.first_time = entry.time_us if entry else 0
            part.first_kind = entry.kind if entry and entry.seq == part.start else ""
        if entry is None:
            part.damaged = True  # which subjects it had is gone: later heads cannot be judged any more
        else:
            self._time = part.last_time = entry.time_us if entry.seq in part.back else max(self._time, entry.time_us)
            for subject in entry.subjects:
                if subject not in part.heads:
                    part.claims[subject] = (entry.seq, entry.heads[subject])
                part.heads[subject] = entry.seq
            self.committed.add((entry.seq,), (entry.commitment,), (entry.kind,))
            if self.depth.keep:
                part.entries.append(entry)
        self._prev = leaf.hex()
        part.last_leaf = leaf
        self._next = row.seq + 1
        self.leaves.append(leaf)

    def _complain(self, row: StoredEntry, entry: Entry | None, leaf: bytes, error: EntryError | None) -> None:
        problems = []
        if row.seq != self._next:
            missing = f"{self._next}" if row.seq == self._next + 1 else f"{self._next}..{row.seq - 1}"
            problems.append(f"entry {missing} is missing before it" if row.seq > self._next else "it is out of order")
        if leaf != row.leaf:
            problems.append("the stored leaf hash is not that of the entry's bytes: one of them was changed")
        if error is not None:
            problems.append(f"the bytes are not an entry ({error})")
        if entry is not None:
            problems += self._links(row, entry)
        self.part.findings += [Finding(Outcome.TAMPERED, row.seq, problem) for problem in problems]

    def _links(self, row: StoredEntry, entry: Entry) -> list[str]:
        part, problems = self.part, []
        if entry.ledger != self.origin:
            problems.append(f"it belongs to ledger {entry.ledger!r}, not {self.origin!r}")
        if entry.seq != row.seq:
            problems.append(f"its bytes say sequence number {entry.seq}")
        if self._prev is not None and entry.prev != self._prev:
            problems.append("its previous-leaf hash does not match the entry before it: the chain is broken here")
        if entry.time_us < self._time and entry.kind == CLOCK_KIND:
            part.back[entry.seq] = self._time  # whether it counts is judged when all is read
        elif entry.time_us < self._time:
            problems.append("its time lies before that of an earlier entry")
        for subject in entry.subjects:
            wrong = entry.heads[subject] >= part.start if subject not in part.heads else None
            if wrong or (wrong is None and entry.heads[subject] != part.heads[subject]):
                expected = "an entry before this range" if wrong else str(part.heads[subject])
                if not part.damaged:
                    problems.append(f"its head of {subject!r} is {entry.heads[subject]}, not {expected}")
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


def _check_payloads(store: Store, part: Part, committed: Committed, *, keep: bool) -> None:
    kept = {row.seq: row for row in rows(store.payloads, part.start, part.end)}
    for seq, commitment, kind in zip(committed.seqs, committed.commitments, committed.kinds, strict=True):
        row = kept.get(seq)
        if row is None or (row.data, row.salt, row.facts_digest) == (None, None, None):  # half a row is no erasure
            part.missing.add(seq)
        elif (problem := payload_problem(commitment, row)) is not None:
            part.findings.append(Finding(Outcome.TAMPERED, seq, problem))
        elif kind in _NOTED and row.data is not None:
            part.noted.append((seq, kind, _facts(row.data)))
        if keep:
            part.payloads.append(row)


def payload_problem(commitment: str, row: StoredPayload) -> str | None:
    """Compare a payload that is there with the entry's commitment; return what is wrong with it."""
    if (type(row.data), type(row.salt), type(row.facts_digest)) != (bytes, bytes, str) and (problem := strange(row)):
        return problem
    if row.data is None or row.salt is None or len(row.salt) != 32:
        return "its payload is not the one the entry commits to"
    if payload_commitment(row.salt, row.data) != commitment:
        return "its payload is not the one the entry commits to"
    if row.facts_digest != facts_digest_of(row.data, row.facts_digest):
        return "the search column 'facts_digest' is not that of its payload"
    return None


def facts_digest_of(payload: bytes, otherwise: str | None) -> str | None:
    """SHA-256 hex over the canonical `facts` of a payload; `otherwise` for a payload that has no such member."""
    try:
        value = parse_canonical(payload)
        return sha256(canonical_json(value["facts"])).hexdigest() if "facts" in value else otherwise
    except (CanonicalJsonError, TypeError):
        return otherwise


def _facts(payload: bytes) -> Any:
    try:
        value = json.loads(payload)
    except ValueError:
        return None
    return value.get("facts") if isinstance(value, dict) else None


def check_nodes(store: Store, finished: Mapping[int, tuple[int, list[bytes]]]) -> list[Finding]:
    """Compare the cached tree with the subtrees computed from entry bytes. The cache is never trusted, but a wrong one
    would stop honest appends and proofs."""
    for level, (first, expected) in sorted(finished.items()):
        stored = dict(rows(store.nodes, level, first, first + len(expected)))
        for offset, value in enumerate(expected):
            if stored.get(first + offset) != value:
                text = f"the tree cache is wrong at node {level}/{first + offset}"
                return [Finding(Outcome.TAMPERED, None, text)]
    return []
