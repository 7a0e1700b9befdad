"""Which entries concern a subject, in a SQLite ledger.

An entry's row names its subjects (`entry.subjects`). `entry_subject` leads from a subject to its newest entry: once a block of
`BLOCK` entries is complete, one row for each subject in it names the newest of the block. So an append writes no index page
for its subjects, and at most the rows of one block are read to find a head that the index does not have yet.

Invariant: the index is a search copy like any other. Where it deviates from the rows, `deviations` says so and verification finds
the subjects of that entry to be others than those in its bytes.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import cast

from cognify_dagster.ledger.entry import MAX_SUBJECTS
from cognify_dagster.ledger.sqlite.schema import BLOCK

Pair = tuple[int, str]


def written(subjects: Iterable[str]) -> str:
    """Subjects as a row names them; a subject has no space in it."""
    return " ".join(subjects)


def listed(text: object) -> list[str]:
    """The subjects that a row names; one edited into another type must not crash the verifier."""
    return str(text).split(" ")


def all_listed(texts: Sequence[object]) -> list[list[str]]:
    """As `listed`, of many at once."""
    if {*map(type, texts)} != {str}:
        return [listed(text) for text in texts]
    return [*map(str.split, cast(Sequence[str], texts), repeat(" "))]


def finish(block: dict[str, int], seq: int, subjects: Iterable[str]) -> list[tuple[str, int]]:
    """Note an entry's subjects in the block that is being filled; return the index rows if the entry completes it."""
    block.update(dict.fromkeys(subjects, seq))
    if (seq + 1) % BLOCK:
        return []
    rows = sorted(block.items())
    block.clear()
    return rows


def open_block(db: sqlite3.Connection, size: int) -> dict[str, int]:
    """Return the newest entry of each subject in the block that is not complete yet."""
    rows = db.execute(
        "SELECT seq, subjects FROM entry WHERE seq >= ? AND seq < ? ORDER BY seq", (size - size % BLOCK, size)
    ).fetchall()
    return {subject: seq for seq, text in rows for subject in listed(text)}


def newest(db: sqlite3.Connection, subject: str, size: int) -> int:
    """Return a subject's newest entry in the complete blocks, -1 if there is none."""
    row = db.execute("SELECT max(seq) FROM entry_subject WHERE subject = ? AND seq < ?", (subject, size)).fetchone()
    return -1 if row[0] is None else int(row[0])


def agrees(db: sqlite3.Connection, start: int, end: int, subjects: Sequence[Sequence[str]]) -> bool:
    """Whether the index is exactly that of whole blocks [start, end); if not, `deviations` tells what matters.

    Args:
        db: a connection in a transaction.
        start: first sequence number, of a block.
        end: one more than the last, of a block.
        subjects: those of each entry, in order.
    """
    found = db.execute(
        "SELECT subject, seq FROM entry_subject WHERE seq >= ? AND seq < ? ORDER BY seq LIMIT ?",
        (start, end, (end - start) * (MAX_SUBJECTS + 1)),
    ).fetchall()
    done = 0
    for low in range(start, end, BLOCK):
        named = enumerate(subjects[low - start : low - start + BLOCK], low)
        block = {subject: seq for seq, names in named for subject in names}  # as `finish`, without its calls
        past = done + len(block)
        if dict(found[done:past]) != block:  # as many rows as the block has subjects: none is twice
            return False
        done = past
    return done == len(found)


def archived_deviations(db: sqlite3.Connection, start: int, end: int, pairs: Sequence[Pair]) -> list[Pair]:
    """Compare the index with detached entries; see `IndexedStore.index_deviations`. Of these it keeps the newest row of a subject
    at least, and of every other one what it led to when its segment was detached."""
    found = set(
        db.execute(
            "SELECT seq, subject FROM entry_subject WHERE seq >= ? AND seq < ? LIMIT ?",
            (start, end, (end - start) * (MAX_SUBJECTS + 1)),
        ).fetchall()
    )
    last = {(seq // BLOCK, subject): seq for seq, subject in pairs}
    lacking = {(seq, subject) for (_, subject), seq in last.items()} - found
    later = "SELECT 1 FROM entry_subject WHERE subject = ? AND seq > ? LIMIT 1"
    wrong = found - set(pairs)
    wrong |= {(seq, subject) for seq, subject in lacking if db.execute(later, (subject, seq)).fetchone() is None}
    return sorted(wrong, key=lambda pair: (pair[0], str(pair[1])))


def deviations(db: sqlite3.Connection, start: int, end: int, pairs: Sequence[Pair]) -> list[Pair]:
    """Compare the index with what the rows [start, end) name; return what it lacks or should not have, in order.

    A row that is true but not the newest of its block (left over where later entries were cut off) leads nobody astray.

    Args:
        db: a connection in a transaction.
        start: first sequence number.
        end: one more than the last.
        pairs: (seq, subject) of each subject that the rows name, in order.
    """
    past = end + -end % BLOCK
    found = db.execute(
        "SELECT seq, subject FROM entry_subject WHERE seq >= ? AND seq < ? ORDER BY seq, subject LIMIT ?",
        (start, past, (past - start) * (MAX_SUBJECTS + 1)),
    ).fetchall()
    whole = db.execute("SELECT 1 FROM entry WHERE seq = ?", (past - 1,)).fetchone() is not None
    complete = past // BLOCK if whole else past // BLOCK - 1
    later = {
        (seq // BLOCK, subject) for seq, subject in found if seq >= end
    }  # compared with the rows it names, not here
    last = {(seq // BLOCK, subject): seq for seq, subject in pairs}
    expected = {(seq, key[1]) for key, seq in last.items() if key[0] < complete and key not in later}
    wrong = expected.symmetric_difference(pair for pair in found if pair[0] < end)
    if wrong:
        wrong -= set(pairs) - expected
    return sorted(wrong, key=lambda pair: (pair[0], str(pair[1])))
