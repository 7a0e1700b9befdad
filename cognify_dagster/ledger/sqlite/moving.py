"""How rows of a SQLite ledger come and go other than by appending: loaded from another store, moved to and from an archive, erased.

Every function runs inside a transaction of the caller and leaves commit and rollback to it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path

from cognify_dagster.ledger.entry import NO_PREVIOUS
from cognify_dagster.ledger.errors import LedgerError, Tampered
from cognify_dagster.ledger.merkle import Frontier, leaf_hash
from cognify_dagster.ledger.sqlite.appending import insert_rows, size_of
from cognify_dagster.ledger.sqlite.nodes import ADD_NODE, integer, node_rows, place, read_node
from cognify_dagster.ledger.sqlite.reading import refuse_detached
from cognify_dagster.ledger.sqlite.schema import SEGMENT_LEVEL, SEGMENT_UNIT
from cognify_dagster.ledger.sqlite.subjects import finish, written
from cognify_dagster.ledger.store import Segment, StoredEntry, StoredPayload

_CHUNK = 500


def _copy_rows(
    db: sqlite3.Connection,
    entries: Iterable[StoredEntry],
    payloads: Iterable[StoredPayload],
    start: int,
    prev: str,
) -> Iterator[tuple[StoredEntry, bytes]]:
    """Insert rows of another store as they are, yielding each with its recomputed leaf hash; the caller adds nodes.

    Raises:
        LedgerError: if a row does not follow the one before it, or payloads are missing.
    """
    rows, beside = iter(entries), iter(payloads)
    seq, block = start, dict[str, int]()
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
                (
                    r.seq,
                    bytes.fromhex(r.idem),
                    bytes.fromhex(r.prev),
                    r.leaf,
                    r.kind,
                    r.time_us,
                    written(r.subjects),
                    r.data,
                )
                for r in chunk
            ]
            payload_rows = [
                (r.seq, r.salt, None if r.facts_digest is None else bytes.fromhex(r.facts_digest), r.data) for r in kept
            ]
        except ValueError as error:
            raise LedgerError(
                f"a key or digest of entries {chunk[0].seq}..{chunk[-1].seq} is not hex; verify the ledger they come from"
            ) from error
        index = [found for row in chunk for found in finish(block, row.seq, row.subjects)]
        insert_rows(db, entry_rows, payload_rows, (), index)
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
            db.executemany(ADD_NODE, nodes)
            nodes.clear()
    db.executemany(ADD_NODE, nodes)
    db.executemany("INSERT OR IGNORE INTO checkpoint VALUES (?,?)", checkpoints)


def erase(db: sqlite3.Connection, path: Path, seqs: Sequence[int]) -> None:
    """Empty payload rows; see `Store.erase`."""
    for seq in seqs:
        refuse_detached(db, path, seq, seq + 1)
        if not db.execute("SELECT 1 FROM payload WHERE seq = ?", (seq,)).fetchone():
            raise LedgerError(f"there is no entry {seq} whose payload could be erased")
    db.executemany(
        "UPDATE payload SET salt = NULL, facts_digest = NULL, bytes = NULL WHERE seq = ? AND "
        "(salt IS NOT NULL OR facts_digest IS NOT NULL OR bytes IS NOT NULL)",
        [(seq,) for seq in seqs],
    )


def forget(db: sqlite3.Connection, seqs: Sequence[int]) -> None:
    """Empty the facts digests that tombstones keep; see `ForgetfulStore.forget`."""
    db.executemany(
        "UPDATE archived SET facts_digest = NULL WHERE seq = ? AND facts_digest IS NOT NULL", [(seq,) for seq in seqs]
    )


def segments(db: sqlite3.Connection) -> list[Segment]:
    """Return the detached segments in order."""
    rows = db.execute("SELECT first, past, manifest FROM segment ORDER BY first").fetchall()
    return [Segment(integer(first), integer(past), str(manifest)) for first, past, manifest in rows]


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
    for row, leaf in _copy_rows(db, entries, payloads, start, prev):
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
