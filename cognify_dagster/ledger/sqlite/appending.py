"""How entries are appended to a SQLite ledger, under its lock.

Every function runs inside a transaction of the caller and leaves commit and rollback to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from cognify_dagster.ledger.entry import SealedBody, assemble, time_floor
from cognify_dagster.ledger.errors import ClockError, EntryError, IdempotencyConflict, LedgerUnreadable, SizeChanged
from cognify_dagster.ledger.merkle import Frontier, leaf_hash
from cognify_dagster.ledger.sqlite.nodes import ADD_NODE, blob, node_rows, read_node
from cognify_dagster.ledger.sqlite.subjects import finish, newest, open_block, written
from cognify_dagster.ledger.store import Receipt

MAX_SKEW_US = 5 * 60 * 1_000_000
_SUBJECTS = 10_000  # how many subjects' heads a connection remembers
_KEYS = 100
_NO_LEAF = bytes(32)
_TAKEN = "SELECT idem FROM entry WHERE idem IN ({0}) UNION ALL SELECT idem FROM archived WHERE idem IN ({0})".format(
    ",".join("?" * _KEYS)
)

EntryRow = tuple[int, bytes, bytes, bytes, str, int, str, bytes]
PayloadRow = tuple[int, "bytes | None", "bytes | None", "bytes | None"]


@dataclass(frozen=True)
class Head:
    """The ledger's end as one connection last saw it. `version` tells whether another connection wrote since; `block` are the
    newest entries of the subjects in the block that is being filled, `newest` those of some subjects before it."""

    frontier: Frontier
    leaf: bytes
    time_us: int
    version: int
    block: dict[str, int]
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
    return Head(frontier, row[1] if row else b"", row[2] if row else 0, version, open_block(db, size))


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
    """Entries finished one after the other in memory, then written with a statement for each table.

    Args:
        db: a connection inside BEGIN IMMEDIATE.
        origin: the ledger's origin.
        head: the end of the ledger under the lock.
        now_us: the clock, in microseconds since 1970 UTC.
        expected_size: refuse new entries if the ledger has another size.
        presume_new: do not look for keys: the database refuses one that is taken, and the caller then begins again.
    """

    db: sqlite3.Connection
    origin: str
    head: Head
    now_us: int
    expected_size: int | None = None
    presume_new: bool = False
    _frontier: Frontier = field(init=False)
    _absent: set[str] = field(default_factory=set)
    _known: dict[str, tuple[Receipt, str | None]] = field(default_factory=dict)
    _entries: list[EntryRow] = field(default_factory=list)
    _subjects: list[tuple[str, int]] = field(default_factory=list)
    _payloads: list[PayloadRow] = field(default_factory=list)
    _nodes: list[tuple[int, int, int, bytes]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._frontier = self.head.frontier.copy()
        self._block = self.head.block
        self._newest = self.head.newest if len(self.head.newest) < _SUBJECTS else {}
        self._leaf, self._time = self.head.leaf, self.head.time_us

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
        if found is None and not self.presume_new and draft.idem not in self._absent:
            found = find(self.db, draft.idem)
        if found is not None:
            receipt, digest = found
            if digest != draft.facts_digest:
                raise conflict(receipt.seq, digest)
            return replace(receipt, duplicate=True)
        if self.expected_size is not None and self.head.size != self.expected_size:
            raise SizeChanged(f"the ledger has {self.head.size} entries, not {self.expected_size}; decide again")
        seq, floor = self._frontier.size, time_floor(draft, self._time)
        if self.now_us < floor - MAX_SKEW_US:
            raise ClockError(
                f"this machine's clock is {(floor - self.now_us) / 1e6:.0f} s before entry {seq - 1}; correct the clock. "
                "If it is that entry's clock that ran ahead, two workspace admins run `cognify ledger correct-clock`"
            )
        time_us = max(self.now_us, floor)
        subjects = sorted(set(draft.subjects))
        heads = {subject: self._head_of(subject) for subject in subjects}
        prev = self._leaf if seq else _NO_LEAF
        data = assemble(self.origin, sealed.body, heads, prev.hex(), seq, time_us)
        leaf = leaf_hash(data)
        receipt = Receipt(seq, leaf, time_us)
        self._entries.append((seq, bytes.fromhex(draft.idem), prev, leaf, draft.kind, time_us, written(subjects), data))
        self._payloads.append((seq, sealed.salt, bytes.fromhex(draft.facts_digest), draft.payload))
        self._nodes += node_rows(self._frontier.append(leaf))
        self._newest.update(dict.fromkeys(subjects, seq))
        if complete := finish(self._block, seq, subjects):
            self._newest.update(complete)  # not in the index before this is written
            self._subjects += complete
        self._known[draft.idem] = (receipt, draft.facts_digest)
        self._leaf, self._time = leaf, time_us
        return receipt

    def _head_of(self, subject: str) -> int:
        known = self._newest.get(subject, self._block.get(subject))
        if known is None:
            known = self._newest[subject] = newest(self.db, subject, self.head.size)
        return known

    def write(self) -> Head:
        """Insert the finished rows, read the bytes back, and return the head that holds once this is committed.

        Raises:
            EntryError: if the database did not keep the very bytes that were hashed.
        """
        if not self._entries:
            return self.head
        db = self.db
        insert_rows(db, self._entries, self._payloads, self._nodes, self._subjects)
        first = self.head.size
        kept = db.execute(
            "SELECT entry.bytes, payload.bytes FROM entry JOIN payload USING (seq) WHERE seq >= ? ORDER BY seq",
            (first,),
        ).fetchall()
        if kept != [(entry[7], payload[3]) for entry, payload in zip(self._entries, self._payloads, strict=True)]:
            raise EntryError("the database did not keep the entry's bytes; nothing was appended")
        return Head(self._frontier, self._leaf, self._time, self.head.version, self._block, self._newest)


def insert_rows(
    db: sqlite3.Connection,
    entries: Sequence[EntryRow],
    payloads: Sequence[PayloadRow],
    nodes: Sequence[tuple[int, int, int, bytes]],
    subjects: Sequence[tuple[str, int]],
) -> None:
    """Insert rows in the order that the triggers demand: entries before what belongs to them."""
    db.executemany("INSERT INTO entry VALUES (?,?,?,?,?,?,?,?)", entries)
    db.executemany("INSERT INTO payload VALUES (?,?,?,?)", payloads)
    if nodes:
        db.executemany(ADD_NODE, nodes)
    if subjects:  # one may be left over in a ledger that was cut off, or have stayed where its segment was detached
        db.executemany("INSERT OR IGNORE INTO entry_subject VALUES (?,?)", subjects)
