"""Reading rows of a SQLite ledger in ranges: entries, raw columns, payloads. The caller holds the transaction.

Invariant: what the file's owner may have edited into another type is passed on as something that differs, never as an error.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from cognify_dagster.ledger.errors import LedgerUnreadable
from cognify_dagster.ledger.sqlite.connection import BUSY_TIMEOUT_S
from cognify_dagster.ledger.sqlite.nodes import blob, integer
from cognify_dagster.ledger.sqlite.schema import BLOCK
from cognify_dagster.ledger.sqlite.subjects import Pair, agrees, all_listed, deviations, listed
from cognify_dagster.ledger.store import Columns, StoredEntry, StoredPayload, Tombstone

RANGE = 2_000
_RANGE_BYTES = 16 * 1024 * 1024
_LOOK_AGAIN_S = 0.0003
# a value edited into another type shows, also if it is the right hex as text: whoever looks for the bytes does not find it
_HEX = "CASE typeof({0}) WHEN 'blob' THEN lower(hex({0})) WHEN 'null' THEN NULL ELSE typeof({0}) || ' ' || {0} END"
_WITHIN = "WHERE seq >= ? AND seq < ? ORDER BY seq"
_ENTRIES = f"SELECT seq, bytes, leaf, {_HEX.format('prev')}, {_HEX.format('idem')}, kind, time_us, subjects FROM entry {_WITHIN}"
_COLUMNS = f"SELECT seq, bytes, leaf, prev, idem, kind, time_us, subjects FROM entry {_WITHIN}"
_ROW = (
    f"SELECT e.seq, e.bytes, e.leaf, {_HEX.format('e.prev')}, {_HEX.format('e.idem')}, e.kind, e.time_us, p.salt, "
    f"{_HEX.format('p.facts_digest')}, p.bytes FROM"
)
_NAMES = "instr(' ' || e.subjects || ' ', ' ' || ?1 || ' ')"
_ABOUT_LATE = (
    f"{_ROW} entry e LEFT JOIN payload p USING (seq) WHERE e.seq >= ?2 AND e.seq < ?3 AND {_NAMES} ORDER BY e.seq DESC"
)
_ABOUT_EARLY = (
    f"{_ROW} entry_subject s CROSS JOIN entry e ON e.seq >= s.seq / {BLOCK} * {BLOCK} AND e.seq <= s.seq AND {_NAMES} "
    "LEFT JOIN payload p ON p.seq = e.seq WHERE s.subject = ?1 AND s.seq < ?2 ORDER BY s.seq DESC, e.seq DESC"
)
_THESE = (
    f"{_ROW} entry e LEFT JOIN payload p USING (seq) WHERE e.seq IN (SELECT value FROM json_each(?)) ORDER BY e.seq"
)
_PAYLOADS = f"SELECT seq, salt, {_HEX.format('facts_digest')}, bytes FROM payload {_WITHIN}"


@contextmanager
def snapshot(db: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """Several reads that see one state of the ledger."""
    if db.in_transaction:
        yield db
        return
    db.execute("BEGIN")
    try:
        _share(db)
        yield db
    finally:
        with suppress(sqlite3.ProgrammingError):  # an error inside closed the connection: there is nothing to end
            if db.in_transaction:
                db.execute("COMMIT")


def _share(db: sqlite3.Connection) -> None:
    """Take the lock that readers share. SQLite itself would look for it ever more rarely, up to ten times a second, and with the
    DELETE journal a writer that appends without pause leaves only short gaps: so look often."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    db.execute("PRAGMA busy_timeout=0")
    try:
        while True:
            try:
                db.execute("SELECT 1 FROM meta LIMIT 1").fetchone()
                return
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
                time.sleep(_LOOK_AGAIN_S)
    finally:
        db.execute(f"PRAGMA busy_timeout={int(BUSY_TIMEOUT_S * 1000)}")


def refuse_detached(db: sqlite3.Connection, path: Path, start: int, end: int) -> None:
    """Raise if some of the entries [start, end) lie in a detached segment.

    Raises:
        LedgerUnreadable: naming the segment.
    """
    row = db.execute("SELECT first, past FROM segment WHERE first < ? AND ? < past", (end, start)).fetchone()
    if row is not None:
        raise LedgerUnreadable(
            f"{path}: entries {row[0]}..{row[1] - 1} were moved into an archive; attach that segment first"
        )


def read_entries(db: sqlite3.Connection, start: int, end: int) -> list[StoredEntry]:
    """Return the first entries of [start, end), bounded in number and bytes; none once there are no more."""
    found = _some(db.execute(_ENTRIES, (start, end)), 1)
    subjects = [listed(row[7]) for row in found]
    pairs = [(row[0], subject) for row, names in zip(found, subjects, strict=True) for subject in names]
    extra: dict[int, list[str]] = {}
    for seq, subject in deviations(db, start, found[-1][0] + 1, pairs) if found else ():
        extra.setdefault(seq, []).append(str(subject))
    return [
        StoredEntry(
            seq, blob(data), blob(leaf), str(prev), str(idem), str(kind), time_us, (*names, *extra.get(seq, ()))
        )
        for (seq, data, leaf, prev, idem, kind, time_us, _), names in zip(found, subjects, strict=True)
    ]


def read_data(db: sqlite3.Connection, start: int, end: int) -> list[tuple[int, bytes]]:
    """Return (seq, bytes) of the entries [start, end) in order."""
    return db.execute(f"SELECT seq, bytes FROM entry {_WITHIN}", (start, end)).fetchall()


def read_columns(db: sqlite3.Connection, start: int, end: int) -> tuple[list[Columns], list[list[str]], list[Pair]]:
    """Return raw columns of the entries [start, end), the subjects in the last one, and where their index deviates from them."""
    found = db.execute(_COLUMNS, (start, end)).fetchall()
    subjects = all_listed([row[7] for row in found])
    low, high = start + -start % BLOCK, end - end % BLOCK
    whole = low < high and [row[0] for row in found] == list(range(start, end))
    if whole and agrees(db, low, high, subjects[low - start : high - start]):
        edges = [(start, low, 0), (high, end, high - start)]
    else:
        edges = [(start, end, 0)]
    deviating: list[Pair] = []
    for first, past, at in edges:
        if first < past:
            rows = zip(found[at : at + past - first], subjects[at : at + past - first], strict=True)
            deviating += deviations(db, first, past, [(row[0], name) for row, names in rows for name in names])
    return found, subjects, deviating


def read_payloads(db: sqlite3.Connection, start: int, end: int) -> list[StoredPayload]:
    """Return the first payload rows of [start, end), bounded in number and bytes; none once there are no more."""
    return [_payload(*row) for row in _some(db.execute(_PAYLOADS, (start, end)), 3)]


def read_about(
    db: sqlite3.Connection, subject: str, before: int, limit: int
) -> list[tuple[StoredEntry, StoredPayload]]:
    """Return the newest rows of entries before one that name a subject, newest first, bounded in number and bytes. The rows of
    the block that ends there are looked through; before it the index tells in which blocks to look."""
    start = max(before - 1, 0) // BLOCK * BLOCK
    found = _some(db.execute(_ABOUT_LATE, (subject, start, before)), 9, limit)
    if len(found) < limit:
        found += _some(db.execute(_ABOUT_EARLY, (subject, start)), 9, limit - len(found))
    rows = []
    for row in found:
        if row[0] < before:  # a row left over in the index would bring a block once more
            rows.append(_row(*row))
            before = row[0]
    return rows


def read_rows(db: sqlite3.Connection, seqs: Sequence[int]) -> list[tuple[StoredEntry, StoredPayload]]:
    """Return the rows of some entries in order, as far as they are here, bounded in number and bytes."""
    return [_row(*row) for row in _some(db.execute(_THESE, (json.dumps(list(seqs)),)), 9)]


def _row(
    seq: int, data: object, leaf: object, prev: object, idem: object, kind: object, time_us: int, *kept: object
) -> tuple[StoredEntry, StoredPayload]:
    return StoredEntry(seq, blob(data), blob(leaf), str(prev), str(idem), str(kind), time_us, ()), _payload(seq, *kept)


def read_checkpoints(db: sqlite3.Connection, since: int) -> list[tuple[int, str]]:
    """Return the checkpoints of the largest size that is not above `since`, and all above."""
    found = db.execute(
        "SELECT size, note FROM checkpoint WHERE size IS NULL OR size >= coalesce((SELECT max(size) FROM checkpoint WHERE size <= ?), 0) "
        "ORDER BY size",
        (since,),
    ).fetchall()
    return [(integer(size), str(note)) for size, note in found]


def read_tombstones(db: sqlite3.Connection, start: int, end: int) -> list[Tombstone]:
    """Return what is kept of detached entries."""
    found = db.execute(
        f"SELECT seq, {_HEX.format('idem')}, leaf, time_us, {_HEX.format('facts_digest')} FROM archived {_WITHIN}",
        (start, end),
    ).fetchall()
    return [
        Tombstone(seq, str(idem), blob(leaf), time_us, None if facts is None else str(facts))
        for seq, idem, leaf, time_us, facts in found
    ]


def _payload(seq: int, salt: object, facts_digest: object, data: object) -> StoredPayload:
    return StoredPayload(
        seq,
        None if salt is None else blob(salt),
        None if facts_digest is None else str(facts_digest),
        None if data is None else blob(data),
    )


def _some(cursor: sqlite3.Cursor, data: int, limit: int = RANGE) -> list[tuple[Any, ...]]:
    """Return the next rows, bounded in number and in the bytes of column `data`."""
    found: list[tuple[Any, ...]] = []
    budget = _RANGE_BYTES
    while budget > 0 and len(found) < limit:
        asked = min(100, limit - len(found))
        some = cursor.fetchmany(asked)
        found += some
        budget -= sum(len(row[data]) for row in some if isinstance(row[data], bytes))
        if len(some) < asked:
            break
    cursor.close()
    return found
