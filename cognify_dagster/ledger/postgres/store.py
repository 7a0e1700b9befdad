"""A ledger in Postgres.

Invariants: rows are written by server functions only, which the writer role may call and nothing else; one durable transaction
an append, under an advisory lock that is held until the commit is visible; a call whose connection was lost is repeated, and
the idempotency key makes it return the receipt of the first one; reads are short statements, so that nobody is held up.
The guards delay whoever owns the database, they do not stop a superuser: only signed and witnessed checkpoints show that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from cognify_dagster.ledger.entry import NO_PREVIOUS, SealedBody
from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable
from cognify_dagster.ledger.merkle import merkle_root
from cognify_dagster.ledger.postgres.connection import _OURS as _ERRORS
from cognify_dagster.ledger.postgres.connection import (
    Connections,
    Place,
    WriterRefused,
    driver,
    insist,
    preflight,
)
from cognify_dagster.ledger.postgres.schema import FORMAT
from cognify_dagster.ledger.postgres.setup import PostgresSetup, init_postgres
from cognify_dagster.ledger.store import Receipt, Segment, StoredEntry, StoredPayload

if TYPE_CHECKING:
    import psycopg

__all__ = ["PostgresSetup", "PostgresStore", "WriterRefused", "init_postgres"]

SEGMENT_LEVEL = 8
_RANGE = 2_000
_RANGE_BYTES = 8 * 1024 * 1024
_FIRST_RANGE = 64
_CHUNK = 500
T = TypeVar("T")


class PostgresStore:
    """A `Store` in one schema of a Postgres database. Threads and forked processes may share the object."""

    def __init__(
        self,
        url: str,
        origin: str | None = None,
        *,
        schema: str | None = None,
        read_only: bool = False,
        connections: int = 8,
        patience_s: float = 20.0,
    ) -> None:
        """Open a ledger that `init_postgres` made.

        Args:
            url: libpq URL or keyword string of a login with the writer role (with the reader role for `read_only`).
            origin: the origin expected here; refused if the ledger has another one.
            schema: the ledger's schema; the one named in the URL (`?schema=…`), or `cognify`, unless given.
            read_only: refuse to write, and accept a standby server.
            connections: how many connections this process may use at once.
            patience_s: seconds to go on trying after the connection was lost.

        Raises:
            LedgerUnreadable: if the server cannot be reached, is not durable (the message names the setting), or holds no
                such ledger.
        """
        self._place = Place(url, schema)
        self._read_only = read_only
        self._patience = patience_s
        self._schema = self._place.schema.replace('"', '""')
        self._statements: dict[str, bytes] = {}
        self.warnings: tuple[str, ...] = ()
        self._connections = Connections(self._place, self._prepare, connections)
        meta = insist(lambda: self._rows("SELECT key, value FROM {s}.meta"), self._place, 0.0)
        found = {str(key): str(value) for key, value in meta}
        if found.get("format") != str(FORMAT) or "origin" not in found:
            raise LedgerUnreadable(
                f"{self._place}: storage format {found.get('format')}; this release reads {FORMAT}. Use `cognify upgrade`"
            )
        if origin is not None and found["origin"] != origin:
            raise LedgerUnreadable(f"{self._place}: this is the ledger {found['origin']!r}, not {origin!r}")
        self._origin = found["origin"]

    def __repr__(self) -> str:
        return f"PostgresStore({self._place})"

    def __getstate__(self) -> dict[str, Any]:
        raise TypeError("a PostgresStore holds connections and a password; open it anew in the other process instead")

    def _prepare(self, connection: psycopg.Connection[Any]) -> None:
        self.warnings = preflight(connection, self._place, writing=not self._read_only)

    def close(self) -> None:
        """Close idle connections. The store stays usable and opens new ones when needed."""
        self._connections.close()

    @property
    def origin(self) -> str:
        """The origin of the ledger kept here."""
        return self._origin

    @property
    def schema(self) -> str:
        """The schema that holds this ledger."""
        return self._place.schema

    # --- how statements are run -----------------------------------------------------------------------------------------

    def _rows(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        query = self._statements.get(statement)
        if query is None:
            query = self._statements[statement] = statement.replace("{s}", f'"{self._schema}"').encode()
        with self._connections.use() as connection:
            return connection.execute(query, parameters, binary=True).fetchall()

    def _read(self, statement: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        return insist(lambda: self._rows(statement, parameters), self._place, self._patience)

    def _write(self, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        self._refuse_read_only()
        return insist(lambda: self._rows(statement, parameters), self._place, self._patience)

    def _refuse_read_only(self) -> None:
        if self._read_only:
            raise LedgerError(f"{self._place}: opened read-only; nothing was changed")

    # --- appending ------------------------------------------------------------------------------------------------------

    def append(self, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        """Append one entry in one round trip; see `Store.append`.

        Raises:
            IdempotencyConflict: the key is taken by an entry with other facts.
            SizeChanged: `expected_size` is given and no longer true.
            ClockError: the clock lies more than five minutes before the last entry.
            EntryError: the entry is too large or malformed.
            WriterRefused: the key that signed it is not enrolled for its kind.
            LedgerFull: the server's disk refused; nothing was appended.
            LedgerUnreadable: the server cannot be reached, or its settings are not durable.
        """
        draft = sealed.draft
        rows = self._write(
            "SELECT * FROM {s}.append(%s::bytea, %s::bytea, %s::bytea, %s::bytea, %s::bigint, %s::bigint)",
            (
                sealed.body,
                sealed.salt,
                bytes.fromhex(draft.facts_digest),
                draft.payload,
                *_numbers(now_us, expected_size),
            ),
        )
        seq, leaf, time_us, duplicate = rows[0]
        return Receipt(seq, leaf, time_us, duplicate)

    def append_many(self, sealed: Sequence[SealedBody], now_us: int, expected_size: int | None = None) -> list[Receipt]:
        """Append entries in one transaction, all or none; see `Store.append_many`.

        Raises:
            IdempotencyConflict, SizeChanged, ClockError, EntryError, WriterRefused, LedgerFull: as `append`.
        """
        return [Receipt(*row[:4]) for row in self._batch(sealed, now_us, expected_size, each=False)]

    def append_each(self, sealed: Sequence[SealedBody], now_us: int) -> list[Receipt | LedgerError]:
        """Append entries in one transaction; a refused one leaves its error in its place. See `Store.append_each`."""
        rows = self._batch(sealed, now_us, None, each=True)
        return [
            Receipt(seq, leaf, time_us, duplicate) if code is None else _ERRORS[code](message)
            for seq, leaf, time_us, duplicate, code, message in rows
        ]

    def _batch(
        self, sealed: Sequence[SealedBody], now_us: int, expected_size: int | None, *, each: bool
    ) -> list[tuple[Any, ...]]:
        if not sealed:
            return []
        return self._write(
            "SELECT * FROM {s}.append_batch(%b::bytea[], %b::bytea[], %b::bytea[], %b::bytea[], %s::bigint, %s::bigint, %s::boolean)",
            (
                [item.body for item in sealed],
                [item.salt for item in sealed],
                [bytes.fromhex(item.draft.facts_digest) for item in sealed],
                [item.draft.payload for item in sealed],
                *_numbers(now_us, expected_size),
                each,
            ),
        )

    # --- reading --------------------------------------------------------------------------------------------------------

    def size(self) -> int:
        """Return the number of entries, detached ones included."""
        rows = self._read(
            "SELECT greatest((SELECT max(seq) + 1 FROM {s}.entry), (SELECT max(end_seq) FROM {s}.segment), 0)"
        )
        return int(rows[0][0])

    def find(self, idem: str) -> Receipt | None:
        """Return the receipt of the entry with this idempotency key, None if there is none."""
        try:
            key = bytes.fromhex(idem)
        except ValueError:
            return None
        rows = self._read(
            "SELECT seq, leaf, time_us FROM {s}.entry WHERE idem = %s UNION ALL SELECT seq, leaf, time_us FROM {s}.detached WHERE idem = %s",
            (key, key),
        )
        return Receipt(rows[0][0], rows[0][1], rows[0][2], duplicate=True) if rows else None

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end) in short ranges.

        Raises:
            LedgerUnreadable: if some of them lie in a detached segment.
        """
        for row in self._ranges(
            "SELECT e.seq, e.bytes, e.leaf, e.prev, e.idem, e.kind, e.time_us, ARRAY(SELECT s.subject FROM {s}.entry_subject s "
            "WHERE s.seq = e.seq ORDER BY s.subject LIMIT 65) FROM {s}.entry e WHERE e.seq >= %s AND e.seq < %s ORDER BY e.seq",
            start,
            end,
            1,
        ):
            seq, data, leaf, prev, idem, kind, time_us, subjects = row
            yield StoredEntry(seq, data, leaf, prev.hex(), idem.hex(), kind, time_us, tuple(subjects))

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield payload rows of entries [start, end), in short ranges.

        Raises:
            LedgerUnreadable: if some of them lie in a detached segment.
        """
        for seq, salt, facts, data in self._ranges(
            "SELECT seq, salt, facts_digest, bytes FROM {s}.payload WHERE seq >= %s AND seq < %s ORDER BY seq",
            start,
            end,
            3,
        ):
            yield StoredPayload(seq, salt, None if facts is None else facts.hex(), data)

    def _ranges(self, statement: str, start: int, end: int, data: int) -> Iterator[tuple[Any, ...]]:
        """Rows of [start, end) in statements that each bring about `_RANGE_BYTES` at most."""
        step = _FIRST_RANGE
        while start < end:
            high = min(end, start + step)
            rows = self._read(statement, (start, high))
            if len(rows) < high - start:
                self._refuse_detached(start, high)
            size = sum(len(row[data]) for row in rows if row[data] is not None)
            step = max(16, min(_RANGE, step * 4, step * _RANGE_BYTES // (size or 1)))
            yield from rows
            start = high

    def _refuse_detached(self, start: int, end: int) -> None:
        for segment in self.segments():
            if segment.start < end and start < segment.end:
                raise LedgerUnreadable(
                    f"{self._place}: entries {segment.start}..{segment.end - 1} were moved into an archive; attach that segment first"
                )

    def node(self, level: int, index: int) -> bytes:
        """Return the cached hash of a complete subtree; level 0 is the entries' own leaf column."""
        if level == 0:
            rows = self._read(
                "SELECT leaf FROM {s}.entry WHERE seq = %s UNION ALL SELECT leaf FROM {s}.detached WHERE seq = %s",
                (index, index),
            )
        else:
            rows = self._read("SELECT hash FROM {s}.node WHERE level = %s AND idx = %s", (level, index))
        if rows and rows[0][0] is not None:
            return bytes(rows[0][0])
        if 0 < level < SEGMENT_LEVEL:  # dropped with its segment, whose leaves are kept
            rows = self._read(
                "SELECT leaf FROM {s}.detached WHERE seq >= %s AND seq < %s ORDER BY seq",
                (index << level, (index + 1) << level),
            )
            if len(rows) == 1 << level:
                return merkle_root(row[0] for row in rows)
        raise LedgerUnreadable(f"the tree cache misses node {level}/{index}; run `cognify ledger verify`")

    def nodes(self, level: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the cached complete subtrees of one level with index in [start, end) as (index, hash), in order."""
        if level == 0:
            statement = (
                "SELECT seq, leaf FROM {s}.entry WHERE seq >= %s AND seq < %s UNION ALL "
                "SELECT seq, leaf FROM {s}.detached WHERE seq >= %s AND seq < %s ORDER BY seq LIMIT %s"
            )
        else:
            statement = (
                "SELECT idx, hash FROM {s}.node WHERE level = %s AND idx >= %s AND idx < %s ORDER BY idx LIMIT %s"
            )
        while start < end:
            rows = self._read(
                statement, (start, end, start, end, _RANGE) if level == 0 else (level, start, end, _RANGE)
            )
            for index, value in rows:
                yield index, bytes(value or b"")  # NULL only where somebody took the constraints away
            start = rows[-1][0] + 1 if rows else end

    # --- checkpoints, erasure -------------------------------------------------------------------------------------------

    def add_checkpoint(self, size: int, note: str) -> None:
        """Keep a signed checkpoint; needs the signer role."""
        self._write("SELECT {s}.add_checkpoint(%s::bigint, %s::bytea)", (size, note.encode()))

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return all kept checkpoints, smallest size first."""
        rows = self._read("SELECT size, note FROM {s}.checkpoint ORDER BY size, digest")
        return [(int(size), bytes(note).decode(errors="replace")) for size, note in rows]

    def erase(self, seqs: Sequence[int]) -> None:
        """Remove payloads; needs the eraser role.

        Old row versions leave the table's files when vacuum runs (the payload table asks autovacuum to come soon); write-ahead
        log and backups age out on their own.

        Raises:
            LedgerError: if there is no such entry, or its payload lies in a detached segment; nothing is erased then.
        """
        if seqs:
            self._write("SELECT {s}.erase(%s::bigint[])", (list(seqs),))

    # --- archive, restore: the archivist role ---------------------------------------------------------------------------

    def load(
        self, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], checkpoints: Iterable[tuple[int, str]]
    ) -> None:
        """Fill this empty ledger in one transaction; see `Store.load`."""

        def fill(put: Callable[..., None]) -> None:
            for first, columns in _columns(entries, payloads, 0, NO_PREVIOUS):
                put("SELECT {s}.load_rows(%s::bigint, " + _ROW_TYPES + ")", (first, *columns))
            for size, note in checkpoints:
                put("SELECT {s}.add_checkpoint(%s::bigint, %s::bytea)", (size, note.encode()))

        if self.size():
            raise LedgerError(f"this ledger has {self.size()} entries already; only an empty one can be filled")
        self._transaction(fill)

    def detach(self, segment: Segment) -> None:
        """Remove the rows of an archived segment; see `Store.detach`. Keys, leaf hashes, times and subjects stay.

        Raises:
            LedgerError: if the segment does not begin and end at a multiple of 256, or overlaps another.
        """
        self._write(
            "SELECT {s}.detach(%s::bigint, %s::bigint, %s::text)", (segment.start, segment.end, segment.manifest)
        )

    def attach(self, segment: Segment, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload]) -> None:
        """Put a detached segment's rows back; see `Store.attach`. Attaching it again changes nothing.

        Raises:
            LedgerError, Tampered: if they are not the rows that were detached; nothing changes then.
        """
        start, end = segment.start, segment.end
        if segment not in self.segments():
            rows = self._read("SELECT count(*) FROM {s}.entry WHERE seq >= %s AND seq < %s", (start, end))
            if rows[0][0] == end - start > 0:
                return
            raise LedgerError(f"no segment of entries {start}..{end - 1} with manifest {segment.manifest} is detached")
        prev = self.node(0, start - 1).hex() if start else NO_PREVIOUS

        def fill(put: Callable[..., None]) -> None:
            for first, columns in _columns(entries, payloads, start, prev):
                put("SELECT {s}.attach_rows(%s::bigint, " + _ROW_TYPES + ")", (first, *columns))
            put("SELECT {s}.attach_done(%s::bigint, %s::bigint, %s::text)", (start, end, segment.manifest))

        self._transaction(fill)

    def segments(self) -> list[Segment]:
        """Return the detached segments in order."""
        rows = self._read("SELECT start_seq, end_seq, manifest FROM {s}.segment ORDER BY start_seq")
        return [Segment(int(start), int(end), str(manifest)) for start, end, manifest in rows]

    def _transaction(self, work: Callable[[Callable[..., None]], None]) -> None:
        """Run several statements in one transaction. It is not repeated by itself: the rows came from an iterator."""
        self._refuse_read_only()
        try:
            with self._connections.use() as connection, connection.transaction():

                def put(statement: str, parameters: Sequence[Any]) -> None:
                    connection.execute(statement.replace("{s}", f'"{self._schema}"').encode(), parameters)

                work(put)
        except driver().Error as error:
            raise self._place.translate(error) from None


_ROW_TYPES = ", ".join(
    f"%b::{kind}[]"
    for kind in ("bigint", "bytea", "bytea", "bytea", "text", "bigint", "text", "bytea", "bytea", "bytea")
)


def _numbers(now_us: int, expected_size: int | None) -> tuple[Any, Any]:
    """Numbers of one type whatever their size, so that one prepared statement serves all calls."""
    from psycopg.types.numeric import Int8

    return Int8(now_us), None if expected_size is None else Int8(expected_size)


def _columns(
    entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], start: int, prev: str
) -> Iterator[tuple[int, tuple[list[Any], ...]]]:
    """Rows of another store, in chunks, as columns; the server compares each column with the bytes.

    Raises:
        LedgerError: if rows are missing or do not follow one another.
    """
    from psycopg.types.numeric import Int8

    rows, beside, seq = iter(entries), iter(payloads), start
    while chunk := list(islice(rows, _CHUNK)):
        kept = list(islice(beside, len(chunk)))
        if [payload.seq for payload in kept] != [row.seq for row in chunk]:
            raise LedgerError(f"the payload rows beside entries {chunk[0].seq}..{chunk[-1].seq} do not fit them")
        for row in chunk:
            if row.seq != seq or row.prev != prev:
                raise LedgerError(f"entry {row.seq} does not follow entry {seq - 1}; verify the ledger it comes from")
            seq, prev = seq + 1, row.leaf.hex()
        try:
            idems = [bytes.fromhex(row.idem) for row in chunk]
            facts = [None if payload.facts_digest is None else bytes.fromhex(payload.facts_digest) for payload in kept]
        except ValueError as error:
            raise LedgerError(
                f"entries {chunk[0].seq}..{seq - 1}: {error}; verify the ledger they come from"
            ) from error
        yield (
            chunk[0].seq,
            (
                [Int8(row.seq) for row in chunk],
                [row.data for row in chunk],
                [row.leaf for row in chunk],
                idems,
                [row.kind for row in chunk],
                [Int8(row.time_us) for row in chunk],
                [",".join(row.subjects) for row in chunk],
                [payload.salt for payload in kept],
                facts,
                [payload.data for payload in kept],
            ),
        )
    if next(beside, None) is not None:
        raise LedgerError(f"there are payload rows beyond entry {seq - 1}")
