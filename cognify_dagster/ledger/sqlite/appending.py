"""How rows get into a SQLite ledger: appended under the lock, loaded from another store, moved to and from an archive.

Every function runs inside a transaction of the caller and leaves commit and rollback to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice

from cognify_dagster.ledger.entry import NO_PREVIOUS, SealedBody, assemble
from cognify_dagster.ledger.errors import (
    ClockError,
    EntryError,
    IdempotencyConflict,
    LedgerError,
    LedgerUnreadable,
    SizeChanged,
    Tampered,
)
from cognify_dagster.ledger.merkle import Frontier, leaf_hash, merkle_root
from cognify_dagster.ledger.sqlite.schema import SEGMENT_LEVEL, SEGMENT_UNIT
from cognify_dagster.ledger.store import Receipt, Segment, StoredEntry, StoredPayload

MAX_SKEW_US = 5 * 60 * 1_000_000
_CHUNK = 500
_SUBJECTS = 10_000  # how many subjects' heads a connection remembers
_KEYS = 100
_NO_LEAF = bytes(32)
_DENSE = 3  # up to this level so many rows are of one level that reading past the others is quickest
_TAKEN = "SELECT idem FROM entry WHERE idem IN ({0}) UNION ALL SELECT idem FROM archived WHERE idem IN ({0})".format(
    ",".join("?" * _KEYS)
)
_NODE = "SELECT hash FROM node WHERE pos = ? AND level = ? AND idx = ?"
_ADD_NODE = "INSERT INTO node VALUES (?,?,?,?)"
_SUBJECT = "INSERT INTO entry_subject VALUES (?,?)"


@dataclass(frozen=True)
class Head:
    """The ledger's end as one connection last saw it. `version` tells whether another connection wrote since; `newest` are
    the newest entries of some subjects."""

    frontier: Frontier
    leaf: bytes
    time_us: int
    version: int
    newest: dict[str, int] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.frontier.size


def size_of(db: sqlite3.Connection) -> int:
    """Return one more than the highest sequence number, detached entries included."""
    row = db.execute("SELECT max(seq) FROM entry").fetchone()
    last = -1 if row[0] is None else int(row[0])
    row = db.execute("SELECT max(seq) FROM archived").fetchone()
    return max(last, -1 if row[0] is None else int(row[0])) + 1


def read_head(db: sqlite3.Connection, cached: Head | None) -> Head:
    """Return the head; the cached one if no other connection wrote since (SQLite's own page cache relies on the same counter).

    Raises:
        LedgerUnreadable: if the last row's hash or the tree cache does not fit; nothing is appended to such a ledger.
    """
    version = int(db.execute("PRAGMA data_version").fetchone()[0])
    if cached is not None and cached.version == version:
        return cached
    row = db.execute("SELECT seq, leaf, time_us FROM entry ORDER BY seq DESC LIMIT 1").fetchone()
    size = size_of(db)
    if row is None or row[0] != size - 1:
        row = db.execute("SELECT seq, leaf, time_us FROM archived WHERE seq = ?", (size - 1,)).fetchone()
    elif leaf_hash(db.execute("SELECT bytes FROM entry WHERE seq = ?", (row[0],)).fetchone()[0]) != row[1]:
        raise LedgerUnreadable(
            f"the stored hash of entry {row[0]} is not that of its bytes; run `cognify ledger verify`. Nothing was appended"
        )
    frontier = Frontier.load(size, lambda level, index: read_node(db, level, index))
    return Head(frontier, row[1] if row else b"", row[2] if row else 0, version)


def place(level: int, index: int) -> int:
    """Return a node's row number: nodes are kept in the order in which leaves complete them, so that an append writes to the
    end of the table only. Of the first n leaves, n less the number of one bits of n nodes above level 0 are complete."""
    last = ((index + 1) << level) - 1
    return last - last.bit_count() + level - 1


def is_place(pos: object, level: object, index: object) -> bool:
    """Whether a node's row stands where it belongs: one that was moved is not found by appends and proofs."""
    return type(level) is int and type(index) is int and level > 0 and index >= 0 and pos == place(level, index)


def node_rows(finished: Sequence[tuple[int, int, bytes]]) -> list[tuple[int, int, int, bytes]]:
    """Return the rows for subtrees that one leaf finished; the leaf itself has none."""
    return [(place(level, index), level, index, value) for level, index, value in finished[1:]]


def read_node(db: sqlite3.Connection, level: int, index: int) -> bytes:
    """Return a complete subtree's hash from the cache; level 0 is the entries' own leaf column."""
    if level == 0:
        row = db.execute(
            "SELECT leaf FROM entry WHERE seq = ?1 UNION ALL SELECT leaf FROM archived WHERE seq = ?1", (index,)
        ).fetchone()
    else:
        row = db.execute(_NODE, (place(level, index), level, index)).fetchone()
    if row is not None:
        return blob(row[0])
    if 0 < level < SEGMENT_LEVEL:  # dropped with its segment, whose leaves are kept
        rows = db.execute(
            "SELECT leaf FROM archived WHERE seq >= ? AND seq < ? ORDER BY seq", (index << level, (index + 1) << level)
        ).fetchall()
        if len(rows) == 1 << level:
            return merkle_root(blob(row[0]) for row in rows)
    raise LedgerUnreadable(f"the tree cache misses node {level}/{index}; run `cognify ledger verify`")


def read_nodes(db: sqlite3.Connection, level: int, start: int, end: int) -> list[tuple[int, bytes]]:
    """Return cached subtrees of one level with index in [start, end) as (index, hash), in order; missing ones are left out."""
    if level == 0:
        found = db.execute(
            "SELECT seq, leaf FROM entry WHERE seq >= ?1 AND seq < ?2 UNION ALL "
            "SELECT seq, leaf FROM archived WHERE seq >= ?1 AND seq < ?2 ORDER BY seq",
            (start, end),
        ).fetchall()
    elif level <= _DENSE:
        span = (place(level, start), place(level, end - 1), level)
        found = [
            (index, value)
            for pos, index, value in db.execute(
                "SELECT pos, idx, hash FROM node WHERE pos >= ? AND pos <= ? AND level = ? ORDER BY pos", span
            )
            if is_place(pos, level, index)
        ]
    else:
        read = (db.execute(_NODE, (place(level, index), level, index)).fetchone() for index in range(start, end))
        return [(start + offset, blob(row[0])) for offset, row in enumerate(read) if row is not None]
    return [(index, blob(value)) for index, value in found]


def blob(value: object) -> bytes:
    """Columns that hold bytes; a row edited into another type must not crash the verifier."""
    return value if isinstance(value, bytes) else repr(value).encode()


def find(db: sqlite3.Connection, idem: str) -> tuple[Receipt, str | None] | None:
    """Return receipt and facts digest (None once erased) of the entry with an idempotency key."""
    row = db.execute(
        "SELECT e.seq, e.leaf, e.time_us, p.facts_digest FROM entry e LEFT JOIN payload p USING (seq) WHERE e.idem = ?1 "
        "UNION ALL SELECT seq, leaf, time_us, facts_digest FROM archived WHERE idem = ?1",
        (_key(idem),),
    ).fetchone()
    if row is None:
        return None
    return Receipt(row[0], row[1], row[2], duplicate=True), None if row[3] is None else blob(row[3]).hex()


def _key(idem: str) -> bytes:
    """An idempotency key as it is stored; one that is not hex is in no ledger."""
    try:
        return bytes.fromhex(idem)
    except ValueError:
        return b""


def conflict(seq: int, digest: str | None) -> IdempotencyConflict:
    """The error for a key that is taken by an entry with other, or erased, facts."""
    if digest is None:
        return IdempotencyConflict(
            f"entry {seq} already has this idempotency key and its payload was erased, so that a retry cannot be "
            "compared with it; record something new under a new key"
        )
    return IdempotencyConflict(
        f"entry {seq} already has this idempotency key with other facts; a retry must record the same facts"
    )


@dataclass
class Batch:
    """Entries finished one after the other in memory, then written with four statements.

    Args:
        db: a connection inside BEGIN IMMEDIATE.
        origin: the ledger's origin.
        head: the end of the ledger under the lock.
        now_us: the clock, in microseconds since 1970 UTC.
    """

    db: sqlite3.Connection
    origin: str
    head: Head
    now_us: int
    expected_size: int | None = None
    _frontier: Frontier = field(init=False)
    _absent: set[str] = field(default_factory=set)
    _known: dict[str, tuple[Receipt, str | None]] = field(default_factory=dict)
    _newest: dict[str, int] = field(init=False)
    _entries: list[tuple[int, bytes, bytes, bytes, str, int, bytes]] = field(default_factory=list)
    _subjects: list[tuple[str, int]] = field(default_factory=list)
    _payloads: list[tuple[int, bytes, bytes, bytes]] = field(default_factory=list)
    _nodes: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._frontier = self.head.frontier.copy()
        self._newest = self.head.newest if len(self.head.newest) < _SUBJECTS else {}
        self._leaf, self._time = self.head.leaf, self.head.time_us

    def presume_new(self, sealed: Sequence[SealedBody]) -> None:
        """Do not look for these keys: the database refuses one that is taken, and the caller then begins again."""
        self._absent.update(item.draft.idem for item in sealed)

    def look_up(self, sealed: Sequence[SealedBody]) -> None:
        """Find out with few statements which of many keys are not in the ledger."""
        for start in range(0, len(sealed), _KEYS):
            keys = {_key(item.draft.idem): item.draft.idem for item in sealed[start : start + _KEYS]}
            asked = [*keys, *[b""] * (_KEYS - len(keys))]
            taken = {row[0] for row in self.db.execute(_TAKEN, asked * 2)}
            self._absent.update(idem for key, idem in keys.items() if key not in taken)

    def add(self, sealed: SealedBody) -> Receipt:
        """Finish one entry; nothing is kept of one that is refused.

        Raises:
            IdempotencyConflict, SizeChanged, ClockError, EntryError: see `Store.append`.
        """
        draft = sealed.draft
        found = self._known.get(draft.idem)
        if found is None and draft.idem not in self._absent:
            found = find(self.db, draft.idem)
        if found is not None:
            receipt, digest = found
            if digest != draft.facts_digest:
                raise conflict(receipt.seq, digest)
            return receipt
        if self.expected_size is not None and self.head.size != self.expected_size:
            raise SizeChanged(f"the ledger has {self.head.size} entries, not {self.expected_size}; decide again")
        seq, floor = self._frontier.size, self._time
        if self.now_us < floor - MAX_SKEW_US:
            raise ClockError(
                f"this machine's clock is {(floor - self.now_us) / 1e6:.0f} s before entry {seq - 1}; correct the clock"
            )
        time_us = max(self.now_us, floor)
        subjects = sorted(set(draft.subjects))
        heads = {subject: self._head_of(subject) for subject in subjects}
        prev = self._leaf if seq else _NO_LEAF
        data = assemble(self.origin, sealed.body, heads, prev.hex(), seq, time_us)
        leaf = leaf_hash(data)
        self._entries.append((seq, bytes.fromhex(draft.idem), prev, leaf, draft.kind, time_us, data))
        self._subjects += [(subject, seq) for subject in subjects]
        self._payloads.append((seq, sealed.salt, bytes.fromhex(draft.facts_digest), draft.payload))
        self._nodes += node_rows(self._frontier.append(leaf))
        self._newest.update(dict.fromkeys(subjects, seq))
        self._known[draft.idem] = (Receipt(seq, leaf, time_us, duplicate=True), draft.facts_digest)
        self._leaf, self._time = leaf, time_us
        return Receipt(seq, leaf, time_us)

    def _head_of(self, subject: str) -> int:
        known = self._newest.get(subject)
        if known is not None:
            return known
        row = self.db.execute(
            "SELECT max(seq) FROM entry_subject WHERE subject = ? AND seq < ?", (subject, self.head.size)
        ).fetchone()
        self._newest[subject] = newest = -1 if row[0] is None else int(row[0])
        return newest

    def write(self) -> Head:
        """Insert the finished rows, read the bytes back, and return the head that holds once this is committed.

        Raises:
            EntryError: if the database did not keep the very bytes that were hashed.
        """
        if not self._entries:
            return self.head
        db = self.db
        insert_rows(db, self._entries, self._subjects, self._payloads, self._nodes)
        first = self.head.size
        kept = db.execute(
            "SELECT entry.bytes, payload.bytes FROM entry JOIN payload USING (seq) WHERE seq >= ? ORDER BY seq",
            (first,),
        ).fetchall()
        if kept != [(entry[6], payload[3]) for entry, payload in zip(self._entries, self._payloads, strict=True)]:
            raise EntryError("the database did not keep the entry's bytes; nothing was appended")
        return Head(self._frontier, self._leaf, self._time, self.head.version, self._newest)


def insert_rows(
    db: sqlite3.Connection,
    entries: Sequence[tuple[int, bytes, bytes, bytes, str, int, bytes]],
    subjects: Sequence[tuple[str, int]],
    payloads: Sequence[tuple[int, bytes | None, bytes | None, bytes | None]],
    nodes: Sequence[tuple[int, int, int, bytes]],
    *,
    some_subjects_stayed: bool = False,
) -> None:
    """Insert rows in the order that the triggers demand: a payload row seals its entry."""
    subject = "INSERT OR IGNORE INTO entry_subject VALUES (?,?)" if some_subjects_stayed else _SUBJECT
    db.executemany("INSERT INTO entry VALUES (?,?,?,?,?,?,?)", entries)
    db.executemany(subject, subjects)
    db.executemany("INSERT INTO payload VALUES (?,?,?,?)", payloads)
    if nodes:
        db.executemany(_ADD_NODE, nodes)


def _copy_rows(
    db: sqlite3.Connection,
    entries: Iterable[StoredEntry],
    payloads: Iterable[StoredPayload],
    start: int,
    prev: str,
    *,
    some_subjects_stayed: bool = False,
) -> Iterator[tuple[StoredEntry, bytes]]:
    """Insert rows of another store as they are, yielding each with its recomputed leaf hash; the caller adds nodes.

    Raises:
        LedgerError: if a row does not follow the one before it, or payloads are missing.
    """
    rows, beside = iter(entries), iter(payloads)
    seq = start
    while chunk := list(islice(rows, _CHUNK)):
        kept = list(islice(beside, len(chunk)))
        if [payload.seq for payload in kept] != [row.seq for row in chunk]:
            raise LedgerError(f"the payload rows beside entries {chunk[0].seq}..{chunk[-1].seq} do not fit them")
        leaves = []
        for row in chunk:
            leaf = leaf_hash(row.data)
            if row.seq != seq or leaf != row.leaf or row.prev != prev or f'"prev":"{prev}"'.encode() not in row.data:
                raise LedgerError(f"entry {row.seq} does not follow entry {seq - 1}; verify the ledger it comes from")
            leaves.append(leaf)
            seq, prev = seq + 1, leaf.hex()
        try:
            entry_rows = [
                (r.seq, bytes.fromhex(r.idem), bytes.fromhex(r.prev), r.leaf, r.kind, r.time_us, r.data) for r in chunk
            ]
            payload_rows = [
                (r.seq, r.salt, None if r.facts_digest is None else bytes.fromhex(r.facts_digest), r.data) for r in kept
            ]
        except ValueError as error:
            raise LedgerError(
                f"a key or digest of entries {chunk[0].seq}..{chunk[-1].seq} is not hex; verify the ledger they come from"
            ) from error
        subjects = [(subject, row.seq) for row in chunk for subject in row.subjects]
        insert_rows(db, entry_rows, subjects, payload_rows, (), some_subjects_stayed=some_subjects_stayed)
        yield from zip(chunk, leaves, strict=True)
    if next(beside, None) is not None:
        raise LedgerError(f"there are payload rows beyond entry {seq - 1}")


def fill(
    db: sqlite3.Connection,
    entries: Iterable[StoredEntry],
    payloads: Iterable[StoredPayload],
    checkpoints: Iterable[tuple[int, str]],
) -> None:
    """Load an empty ledger; see `Store.load`."""
    if size_of(db):
        raise LedgerError(f"this ledger has {size_of(db)} entries already; only an empty one can be filled")
    frontier = Frontier()
    nodes: list[tuple[int, int, int, bytes]] = []
    for _, leaf in _copy_rows(db, entries, payloads, 0, NO_PREVIOUS):
        nodes += node_rows(frontier.append(leaf))
        if len(nodes) > _CHUNK:
            db.executemany(_ADD_NODE, nodes)
            nodes.clear()
    db.executemany(_ADD_NODE, nodes)
    db.executemany("INSERT OR IGNORE INTO checkpoint VALUES (?,?)", checkpoints)


def segments(db: sqlite3.Connection) -> list[Segment]:
    """Return the detached segments in order."""
    rows = db.execute("SELECT first, past, manifest FROM segment ORDER BY first").fetchall()
    return [Segment(int(first), int(past), str(manifest)) for first, past, manifest in rows]


def detach(db: sqlite3.Connection, segment: Segment) -> None:
    """Move an archived segment out, leaving tombstones (key, leaf, time) and each subject's newest entry."""
    start, end = segment.start, segment.end
    if segment in segments(db):
        return
    size = size_of(db)
    if not 0 <= start < end <= size or start % SEGMENT_UNIT or end % SEGMENT_UNIT:
        raise LedgerError(
            f"entries {start}..{end - 1} cannot be detached: a segment begins and ends at a multiple of {SEGMENT_UNIT} "
            f"within the ledger's {size} entries"
        )
    for other in segments(db):
        if start < other.end and other.start < end:
            raise LedgerError(f"entries {start}..{end - 1} overlap the detached segment {other.start}..{other.end - 1}")
    span = (start, end)
    db.execute("INSERT INTO segment VALUES (?,?,?)", (start, end, segment.manifest))
    done = db.execute(
        "INSERT INTO archived SELECT e.seq, e.idem, e.leaf, e.time_us, p.facts_digest "
        "FROM entry e LEFT JOIN payload p USING (seq) WHERE e.seq >= ? AND e.seq < ?",
        span,
    )
    if done.rowcount != end - start:
        raise Tampered(f"entries {start}..{end - 1} are not all there; run `cognify ledger verify`")
    db.execute("DELETE FROM payload WHERE seq >= ? AND seq < ?", span)
    db.execute(
        "DELETE FROM entry_subject WHERE seq >= ? AND seq < ? AND EXISTS (SELECT 1 FROM entry_subject AS later "
        "WHERE later.subject = entry_subject.subject AND later.seq > entry_subject.seq)",
        span,
    )
    db.execute("DELETE FROM entry WHERE seq >= ? AND seq < ?", span)
    db.execute(
        "DELETE FROM node WHERE pos >= ? AND pos < ? AND level < ?",
        (start - start.bit_count(), end - end.bit_count(), SEGMENT_LEVEL),
    )


def attach(
    db: sqlite3.Connection, segment: Segment, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload]
) -> None:
    """Put a detached segment's rows back; they must be those whose leaf hashes were left behind."""
    start, end = segment.start, segment.end
    if segment not in segments(db):
        present = db.execute("SELECT count(*) FROM entry WHERE seq >= ? AND seq < ?", (start, end)).fetchone()[0]
        if present == end - start > 0:
            return
        raise LedgerError(f"no segment of entries {start}..{end - 1} with manifest {segment.manifest} is detached")
    prev = read_node(db, 0, start - 1).hex() if start else NO_PREVIOUS
    kept = db.execute("SELECT seq, leaf FROM archived WHERE seq >= ? AND seq < ? ORDER BY seq", (start, end))
    frontier = Frontier()
    for row, leaf in _copy_rows(db, entries, payloads, start, prev, some_subjects_stayed=True):
        if kept.fetchone() != (row.seq, leaf):
            raise Tampered(f"entry {row.seq} of the archive is not the one that was detached")
        for level, index, value in frontier.append(leaf)[1:]:
            whole = (start >> level) + index
            if level < SEGMENT_LEVEL:
                db.execute("INSERT OR REPLACE INTO node VALUES (?,?,?,?)", (place(level, whole), level, whole, value))
            elif not start % (1 << level) and read_node(db, level, whole) != value:
                raise Tampered(f"the archive does not lead to the kept node {level}/{whole}")
    if frontier.size != end - start:
        raise LedgerError(f"the archive gives {frontier.size} of the {end - start} entries of this segment")
    kept.close()
    db.execute("DELETE FROM archived WHERE seq >= ? AND seq < ?", (start, end))
    db.execute("DELETE FROM segment WHERE first = ?", (start,))
