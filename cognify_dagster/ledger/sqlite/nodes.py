"""The cached tree of a SQLite ledger: where each complete subtree's hash lies, and how it is read back.

Invariant: a hash is only taken from the row where it belongs; a node that was moved counts as missing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from cognify_dagster.ledger.errors import LedgerUnreadable
from cognify_dagster.ledger.merkle import merkle_root
from cognify_dagster.ledger.sqlite.schema import SEGMENT_LEVEL

ADD_NODE = "INSERT INTO node VALUES (?,?,?,?)"
_NODE = "SELECT hash FROM node WHERE pos = ? AND level = ? AND idx = ?"
_DENSE = 3  # up to this level so many rows are of one level that reading past the others is quickest


def place(level: int, index: int) -> int:
    """Return a node's row number: nodes are kept in the order in which leaves complete them, so that an append writes to the
    end of the table only. Of the first n leaves, n less the number of one bits of n nodes above level 0 are complete."""
    return (
        ((index + 1) << level) - 2 - index.bit_count()
    )  # the last leaf below has all one bits of the index, and `level` more


def is_place(pos: object, level: object, index: object) -> bool:
    """Whether a node's row stands where it belongs: one that was moved is not found by appends and proofs."""
    return type(level) is int and type(index) is int and 0 < level < 64 and index >= 0 and pos == place(level, index)


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


def completed(db: sqlite3.Connection, start: int, end: int) -> dict[tuple[int, int], bytes]:
    """Return the cached subtrees above the leaves that the entries [start, end) completed: (level, index) -> hash."""
    found = db.execute(
        "SELECT pos, level, idx, hash FROM node WHERE pos >= ? AND pos < ?",
        (start - start.bit_count(), end - end.bit_count()),
    ).fetchall()
    if not found:
        return {}
    places, levels, indexes, hashes = map(list, zip(*found, strict=True))
    # as `is_place`, in columns: every verification asks it of every node
    if (
        {*map(type, places), *map(type, levels), *map(type, indexes)} == {int}
        and 0 < min(levels) <= max(levels) < 64
        and min(indexes) >= 0
        and places
        == [((index + 1) << level) - 2 - index.bit_count() for level, index in zip(levels, indexes, strict=True)]
    ):
        return dict(zip(zip(levels, indexes, strict=True), hashes, strict=True))
    return {(level, index): value for pos, level, index, value in found if is_place(pos, level, index)}


def integer(value: object) -> int:
    """A column that holds a whole number.

    Raises:
        ValueError: if it was edited into another type.
    """
    if type(value) is not int:
        raise ValueError(f"{value!r} is no whole number")
    return value


def blob(value: object) -> bytes:
    """Columns that hold bytes; a row edited into another type must not crash the verifier."""
    return value if isinstance(value, bytes) else repr(value).encode()
