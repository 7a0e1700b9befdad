"""A ledger in Postgres.

Invariants: rows are written by server functions only, which the writer role may call and nothing else; one durable transaction
an append, under an advisory lock that is held until the commit is visible; a call whose connection was lost is repeated, and
the idempotency key makes it return the receipt of the first one; reads are short statements, so that nobody is held up.
The guards delay whoever owns the database, they do not stop a superuser: only signed and witnessed checkpoints show that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from cognify_dagster.ledger.entry import NO_PREVIOUS, SealedBody
from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable, WriterRefused
from cognify_dagster.ledger.merkle import merkle_root
from cognify_dagster.ledger.postgres import earlier
from cognify_dagster.ledger.postgres.connection import _OURS as _ERRORS
from cognify_dagster.ledger.postgres.derived import OUTDATED, check_code, check_meta, check_rights, check_rows
from cognify_dagster.ledger.postgres.rows import ROW, ROW_TYPES, columns, members, numbers, stored
from cognify_dagster.ledger.postgres.session import Session
from cognify_dagster.ledger.postgres.setup import PostgresSetup, fill, init_postgres
from cognify_dagster.ledger.store import Receipt, Segment, StoredEntry, StoredPayload, Tombstone

__all__ = ["PostgresSetup", "PostgresStore", "WriterRefused", "init_postgres"]

SEGMENT_LEVEL = 8
_RANGE = 2_000
_RANGE_BYTES = 8 * 1024 * 1024
_FIRST_RANGE = 64
_APPEND = "SELECT * FROM {s}.append(%s::bytea, %s::bytea, %s::bytea, %s::bytea, %s::bigint, %s::bigint)"
_APPEND_MEMBERS = (
    "SELECT * FROM {s}.append_members(%s::bytea, %s::text, %s::bytea, %s::bytea, %s::bytea, %s::text, %s::int, %s::bytea, "
    "%s::text, %s::bytea, %s::bytea, %s::bytea, %s::bigint, %s::bigint)"
)


class PostgresStore(Session):
    """A `Store` in one schema of a Postgres database. Threads and forked processes may share the object."""

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
        given = members(sealed)
        if given is not None:
            rows = self._write(_APPEND_MEMBERS, (*given, *numbers(now_us, expected_size)))
        else:
            facts = bytes.fromhex(sealed.draft.facts_digest)
            given = (sealed.body, sealed.salt, facts, sealed.draft.payload)
            rows = self._write(_APPEND, (*given, *numbers(now_us, expected_size)))
        return Receipt(*rows[0])

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
                *numbers(now_us, expected_size),
                each,
            ),
        )

    def opener(self) -> Callable[[], PostgresStore]:
        """Return what opens this ledger for reading in another process; see `ReopenableStore`."""
        return partial(PostgresStore, self._place._url, self.origin, schema=self.schema, read_only=True)

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
            "WHERE s.seq = e.seq LIMIT 65) FROM {s}.entry e WHERE e.seq >= %s AND e.seq < %s ORDER BY e.seq",
            start,
            end,
            1,
        ):
            seq, data, leaf, prev, idem, kind, time_us, subjects = row
            # sorted here: asked for in order, a server without statistics (after a restore) reads the whole index for each row
            yield StoredEntry(seq, data, leaf, prev.hex(), idem.hex(), kind, time_us, tuple(sorted(subjects)))

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

    def about(self, subject: str, before: int, limit: int) -> list[tuple[StoredEntry, StoredPayload]]:
        """Return the newest rows before an entry that the search index says are about a subject; see `view.SubjectStore`."""
        return [
            stored(row)
            for row in self._read(
                f"{ROW} FROM {{s}}.entry_subject s JOIN {{s}}.entry e ON e.seq = s.seq LEFT JOIN {{s}}.payload p ON p.seq = s.seq "
                "WHERE s.subject = %s AND s.seq < %s ORDER BY s.seq DESC LIMIT %s",
                (subject, before, limit),
            )
        ]

    def rows(self, seqs: Sequence[int]) -> list[tuple[StoredEntry, StoredPayload]]:
        """Return the rows of some entries; see `view.SubjectStore`."""
        statement = (
            f"{ROW} FROM {{s}}.entry e LEFT JOIN {{s}}.payload p ON p.seq = e.seq WHERE e.seq = ANY(%s::bigint[])"
        )
        return [stored(row) for row in self._read(statement, (list(seqs),))]

    def row(self, seq: int) -> tuple[StoredEntry, StoredPayload] | None:
        """Return the row of an entry with its subjects; see `view.SubjectStore`."""
        statement = (
            f"{ROW}, ARRAY(SELECT s.subject FROM {{s}}.entry_subject s WHERE s.seq = e.seq LIMIT 65) FROM {{s}}.entry e "
            "LEFT JOIN {s}.payload p ON p.seq = e.seq WHERE e.seq = %s"
        )
        for found in self._read(statement, (seq,)):
            entry, payload = stored(found[:-1])
            return entry._replace(subjects=tuple(sorted(found[-1]))), payload
        return None

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

    def checkpoints(self, since: int = 0) -> list[tuple[int, str]]:
        """Return kept checkpoints, smallest size first; see `Store.checkpoints`."""
        rows = self._read(
            "SELECT size, note FROM {s}.checkpoint WHERE size IS NULL OR size >= "
            "coalesce((SELECT max(size) FROM {s}.checkpoint WHERE size <= %s), 0) ORDER BY size, digest",
            (since,),
        )
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

    def forget(self, seqs: Sequence[int]) -> None:
        """Remove the facts digests kept of detached entries; needs the eraser role. See `ForgetfulStore.forget`."""
        if seqs:
            self._write("SELECT {s}.forget(%s::bigint[])", (list(seqs),))

    # --- archive, restore: the archivist role ---------------------------------------------------------------------------

    def load(
        self, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], checkpoints: Iterable[tuple[int, str]]
    ) -> None:
        """Fill this empty ledger in one transaction; see `Store.load`."""

        def fill(put: Callable[..., None]) -> None:
            for first, chunk in columns(entries, payloads, 0, NO_PREVIOUS):
                put("SELECT {s}.load_rows(%s::bigint, " + ROW_TYPES + ")", (first, *chunk))
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
            for first, chunk in columns(entries, payloads, start, prev):
                put("SELECT {s}.attach_rows(%s::bigint, " + ROW_TYPES + ")", (first, *chunk))
            put("SELECT {s}.attach_done(%s::bigint, %s::bigint, %s::text)", (start, end, segment.manifest))

        self._transaction(fill)

    def tombstones(self, start: int, end: int) -> list[Tombstone]:
        """Return what is kept of the detached entries among [start, end); see `TombstoneStore`."""
        rows = self._read(
            "SELECT seq, idem, leaf, time_us, facts_digest FROM {s}.detached WHERE seq >= %s AND seq < %s ORDER BY seq",
            (start, end),
        )
        return [
            Tombstone(seq, (idem or b"").hex(), leaf or b"", time_us, None if facts is None else facts.hex())
            for seq, idem, leaf, time_us, facts in rows  # NULL only where somebody took the constraints away
        ]

    def index_deviations(self, start: int, end: int, pairs: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """Compare the index of subjects, which keeps every row, with detached entries; see `IndexedStore.index_deviations`."""
        found = self._read("SELECT seq, subject FROM {s}.entry_subject WHERE seq >= %s AND seq < %s", (start, end))
        return sorted(set(pairs).symmetric_difference((seq, subject) for seq, subject in found))

    def segments(self) -> list[Segment]:
        """Return the detached segments in order."""
        rows = self._read("SELECT start_seq, end_seq, manifest FROM {s}.segment ORDER BY start_seq")
        return [Segment(int(start), int(end), str(manifest)) for start, end, manifest in rows]

    def check_derived(self) -> list[tuple[int | None, str]]:
        """Compare everything kept beside the entries with what follows from them; see `DerivedStore.check_derived`.

        Holds up appends while the writers' tables are derived again; a standby server cannot do that part and says so.
        """
        server_clock = self._read("SELECT 1 FROM {s}.meta WHERE key = 'server_clock' AND value = 'true'") != []
        found = [
            *check_meta(self._read, self.origin),
            *check_code(
                self._read,
                self.schema,
                lambda text: fill(text, self.schema, self.origin, server_clock),
                (earlier.current(), earlier.releases),
            ),
            *check_rights(self._read, self.schema),
        ]
        if self._read("SELECT pg_is_in_recovery()")[0][0]:
            return [
                *found,
                (
                    None,
                    "not checked: the writers' table was not derived again: this server is a standby; verify on the primary",
                ),
            ]
        if any(not text.startswith(OUTDATED) for _, text in found):
            return found  # functions that were changed would derive anything
        return [*found, *check_rows(self._read)]
