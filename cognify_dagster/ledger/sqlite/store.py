"""A ledger in one SQLite file.

Invariants: one transaction an append (BEGIN IMMEDIATE, synchronous FULL, asserted), so that an acknowledged entry survives a
crash and a failed one leaves nothing; rows are never updated or deleted through this module except by erasing a payload and
by detaching an archived segment, and triggers refuse more than that to others (this delays an attacker, it does not stop the file's
owner: only signed checkpoints do). SQLite before 3.51.3 can corrupt a WAL database under two connections, so those versions
use the DELETE journal.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import TypeVar

from cognify_dagster.ledger.entry import SealedBody
from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable
from cognify_dagster.ledger.sqlite import moving, nodes, reading
from cognify_dagster.ledger.sqlite.appending import Batch, find, read_head, size_of
from cognify_dagster.ledger.sqlite.connection import Connections, Handle, close_all, translated
from cognify_dagster.ledger.sqlite.file import create, open_ledger, read_origin, refuse_network, truncate_wal
from cognify_dagster.ledger.sqlite.schema import (
    _NETWORK_FILESYSTEMS,
    APPLICATION_ID,
    WAL_SAFE,
    filesystem_of,
    journal_mode,
)
from cognify_dagster.ledger.sqlite.subjects import archived_deviations
from cognify_dagster.ledger.store import Columns, Receipt, Segment, StoredEntry, StoredPayload, Tombstone

__all__ = [
    "APPLICATION_ID",
    "WAL_SAFE",
    "_NETWORK_FILESYSTEMS",
    "SqliteStore",
    "close_all",
    "filesystem_of",
    "journal_mode",
]

_Outcome = TypeVar("_Outcome", Receipt, "Receipt | LedgerError")


class SqliteStore:
    """A `Store` in one SQLite file. Threads, forks and processes may share it: every thread has its own connection."""

    def __init__(self, path: str | os.PathLike[str], *, read_only: bool = False) -> None:
        """Open a ledger file.

        Raises:
            LedgerUnreadable: if it is missing, foreign, of another release, or (for writing) on a network filesystem or
                in a journal mode that this SQLite version cannot be trusted with.
        """
        self.path = Path(path)
        self._read_only = read_only
        if not self.path.is_file():
            raise LedgerUnreadable(f"{self.path}: no ledger here. Create one with `cognify init`")
        if not read_only:
            refuse_network(self.path)
        self._connections = Connections(self.path, partial(open_ledger, self.path, read_only))
        with self._session() as handle:
            self._origin = read_origin(handle.db, self.path)

    def __reduce__(self) -> tuple[Callable[..., SqliteStore], tuple[Path, bool]]:
        """A store goes to another process as its path: connections never do."""
        return _reopen, (self.path, self._read_only)

    @classmethod
    def create(cls, path: str | os.PathLike[str], origin: str) -> SqliteStore:
        """Create an empty ledger file.

        Raises:
            LedgerUnreadable: if the file exists or lies on a network filesystem, where SQLite locks cannot be trusted.
            LedgerFull: if the disk refuses; nothing is left behind.
        """
        create(Path(path), origin, lambda db: None)
        return cls(path)

    @classmethod
    def create_from(
        cls,
        path: str | os.PathLike[str],
        origin: str,
        entries: Iterable[StoredEntry],
        payloads: Iterable[StoredPayload],
        checkpoints: Iterable[tuple[int, str]],
    ) -> SqliteStore:
        """Create a ledger file with the rows of another store, byte for byte. It appears at `path` complete or not at all.

        Raises:
            LedgerUnreadable, LedgerFull: as `create`.
            LedgerError: if a row does not follow the one before it.
        """
        create(Path(path), origin, lambda db: moving.fill(db, entries, payloads, checkpoints))
        return cls(path)

    @property
    def origin(self) -> str:
        """The origin of the ledger kept here."""
        return self._origin

    def close(self) -> None:
        """Close this process's connections. The store stays usable: the next operation opens one again."""
        self._connections.close()

    @contextmanager
    def _session(self) -> Iterator[Handle]:
        """This thread's connection, with SQLite's errors translated into ours."""
        try:
            with self._connections.use() as handle:
                yield handle
        except sqlite3.Error as error:
            raise translated(self.path, error) from error

    @contextmanager
    def _transaction(self) -> Iterator[Handle]:
        """A write transaction: committed durably when the block ends, rolled back when it raises."""
        with self._connections.writing, self._session() as handle:
            db, handle.cache = handle.db, None
            db.execute("BEGIN IMMEDIATE")
            try:
                yield handle
                db.execute("COMMIT")
            except BaseException:
                if db.in_transaction:  # a full disk rolls back by itself
                    db.execute("ROLLBACK")
                raise

    def size(self) -> int:
        """Return the number of entries (one more than the highest sequence number)."""
        with self._snapshot() as db:
            return size_of(db)

    def append(self, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        """Append one entry; see `Store.append`.

        Raises:
            IdempotencyConflict: the key is taken by an entry with other facts.
            SizeChanged: `expected_size` is given and no longer true.
            ClockError: the clock lies more than five minutes before the last entry.
            EntryError: the entry would be too large.
            LedgerFull: the disk refused; nothing was appended.
        """
        return self.append_many((sealed,), now_us, expected_size)[0]

    def append_many(self, sealed: Sequence[SealedBody], now_us: int, expected_size: int | None = None) -> list[Receipt]:
        """Append entries in one transaction, all or none; see `Store.append_many`.

        `expected_size` is not compared where every entry is there already: a retry after success is a success.

        Raises:
            IdempotencyConflict, SizeChanged, ClockError, EntryError, LedgerFull: as `append`.
        """

        def add(batch: Batch) -> list[Receipt]:
            return [batch.add(item) for item in sealed]

        return self._append(sealed, now_us, expected_size, add)

    def append_each(self, sealed: Sequence[SealedBody], now_us: int) -> list[Receipt | LedgerError]:
        """Append entries in one transaction; a refused one leaves its error in its place. See `Store.append_each`.

        Raises:
            LedgerFull, LedgerUnreadable: the storage failed; nothing was appended.
        """

        def add(batch: Batch, item: SealedBody) -> Receipt | LedgerError:
            try:
                return batch.add(item)
            except LedgerError as error:
                return error

        return self._append(sealed, now_us, None, lambda batch: [add(batch, item) for item in sealed])

    def _append(
        self,
        sealed: Sequence[SealedBody],
        now_us: int,
        expected_size: int | None,
        add: Callable[[Batch], list[_Outcome]],
    ) -> list[_Outcome]:
        """Append entries that are presumed to be new: their keys are only looked for once anything was refused."""
        done = self._attempt(sealed, now_us, expected_size, add, presume_new=True)
        return self._attempt(sealed, now_us, expected_size, add) or [] if done is None else done

    def _attempt(
        self,
        sealed: Sequence[SealedBody],
        now_us: int,
        expected_size: int | None,
        add: Callable[[Batch], list[_Outcome]],
        *,
        presume_new: bool = False,
    ) -> list[_Outcome] | None:
        """As `_transaction`, written out because it is the path that has to be quick; keeps the head for the next time.

        Returns None, with nothing appended, if keys were presumed to be new and anything at all was refused.
        """
        connections = self._connections
        try:
            with connections.writing:
                handle = connections.enter()
                try:
                    db = handle.db
                    cached, handle.cache = handle.cache, None
                    db.execute("BEGIN IMMEDIATE")
                    try:
                        head = read_head(db, cached)
                        batch = Batch(db, self._origin, head, now_us, expected_size, presume_new)
                        if len(sealed) > 1 and not presume_new:
                            batch.look_up(sealed)
                        outcomes = add(batch)
                        if presume_new and (refused := next((o for o in outcomes if isinstance(o, LedgerError)), None)):
                            raise refused
                        head = batch.write()
                        db.execute("COMMIT")
                    except BaseException as error:
                        if db.in_transaction:  # a full disk rolls back by itself
                            db.execute("ROLLBACK")
                        if presume_new and isinstance(error, (LedgerError, sqlite3.IntegrityError)):
                            return None
                        raise
                    handle.cache = head
                except sqlite3.Error:
                    handle.close()
                    raise
                finally:
                    connections.leave(handle)
        except sqlite3.Error as error:
            raise translated(self.path, error) from error
        return outcomes

    def find(self, idem: str) -> Receipt | None:
        """Return the receipt of the entry with this idempotency key, None if there is none."""
        with self._snapshot() as db:
            found = find(db, idem)
        return found[0] if found else None

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end) in short ranges, so that writers are never held up.

        Raises:
            LedgerUnreadable: if some of them lie in a detached segment.
        """
        while start < end:
            with self._reading(start, end) as db:
                found = reading.read_entries(db, start, end)
            yield from found
            start = found[-1].seq + 1 if found else end

    def data(self, start: int, end: int) -> list[tuple[int, bytes]]:
        """Return (seq, bytes) of the entries [start, end) in order; see `BulkStore`."""
        with self._reading(start, end) as db:
            return reading.read_data(db, start, end)

    def columns(self, start: int, end: int) -> tuple[list[Columns], list[list[str]], list[tuple[int, str]]]:
        """Return raw columns of the entries [start, end), their subjects, deviations of the index; see `BulkStore`."""
        with self._reading(start, end) as db:
            return reading.read_columns(db, start, end)

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield payload rows of entries [start, end), in short ranges.

        Raises:
            LedgerUnreadable: if some of them lie in a detached segment.
        """
        while start < end:
            with self._reading(start, end) as db:
                found = reading.read_payloads(db, start, end)
            yield from found
            start = found[-1].seq + 1 if found else end

    def about(self, subject: str, before: int, limit: int) -> list[tuple[StoredEntry, StoredPayload]]:
        """Return the newest rows before an entry that the search index says are about a subject; see `view.SubjectStore`."""
        with self._snapshot() as db:
            return reading.read_about(db, subject, before, min(limit, reading.RANGE))

    def rows(self, seqs: Sequence[int]) -> list[tuple[StoredEntry, StoredPayload]]:
        """Return the rows of some entries; see `view.SubjectStore`."""
        with self._snapshot() as db:
            return reading.read_rows(db, seqs)

    @contextmanager
    def _snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several reads that see one state of the ledger."""
        with self._session() as handle, reading.snapshot(handle.db) as db:
            yield db

    def held(self) -> AbstractContextManager[sqlite3.Connection]:
        """Let this thread's reads inside the block share one snapshot; see `HoldingStore`."""
        return self._snapshot()

    @contextmanager
    def _reading(self, start: int, end: int) -> Iterator[sqlite3.Connection]:
        """As `_snapshot`, of entries that are all here."""
        with self._snapshot() as db:
            reading.refuse_detached(db, self.path, start, end)
            yield db

    def node(self, level: int, index: int) -> bytes:
        """Return the cached hash of a complete subtree."""
        with self._snapshot() as db:
            return nodes.read_node(db, level, index)

    def nodes(self, level: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the cached complete subtrees of one level with index in [start, end) as (index, hash), in order.

        Level 0 is the entries' own leaf hashes.
        """
        for low in range(start, end, reading.RANGE):
            with self._snapshot() as db:
                found = nodes.read_nodes(db, level, low, min(end, low + reading.RANGE))
            yield from found

    def completed(self, start: int, end: int) -> dict[tuple[int, int], bytes]:
        """Return the cached subtrees above the leaves that the entries [start, end) completed; see `BulkStore`."""
        with self._snapshot() as db:
            return nodes.completed(db, start, end)

    def add_checkpoint(self, size: int, note: str) -> None:
        """Keep a signed checkpoint."""
        with self._transaction() as handle:
            handle.db.execute("INSERT OR IGNORE INTO checkpoint VALUES (?,?)", (size, note))

    def checkpoints(self, since: int = 0) -> list[tuple[int, str]]:
        """Return kept checkpoints, smallest size first; see `Store.checkpoints`."""
        with self._snapshot() as db:
            return reading.read_checkpoints(db, since)

    def tombstones(self, start: int, end: int) -> list[Tombstone]:
        """Return what is kept of the detached entries among [start, end); see `TombstoneStore`."""
        with self._snapshot() as db:
            return reading.read_tombstones(db, start, end)

    def opener(self) -> Callable[[], SqliteStore]:
        """Return what opens this file in another process; see `ReopenableStore`."""
        return partial(_reopen, self.path, True)

    def erase(self, seqs: Sequence[int]) -> None:
        """Remove payloads for good: freed space is overwritten and the WAL, where there is one, truncated.

        Copies that SQLite does not control (backups, blocks of a deleted journal on the medium) age out on their own.

        Raises:
            LedgerError: if there is no such entry, or its payload lies in a detached segment; nothing is erased then.
        """
        with self._transaction() as handle:
            moving.erase(handle.db, self.path, seqs)
        self._truncate_wal()

    def forget(self, seqs: Sequence[int]) -> None:
        """See `ForgetfulStore.forget`."""
        with self._transaction() as handle:
            moving.forget(handle.db, seqs)
        self._truncate_wal()

    def _truncate_wal(self) -> None:
        with self._connections.writing, self._session() as handle:
            truncate_wal(handle.db, self.path)

    def load(
        self, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], checkpoints: Iterable[tuple[int, str]]
    ) -> None:
        """Fill this empty ledger in one transaction; see `Store.load`. `create_from` makes a file and fills it."""
        with self._transaction() as handle:
            moving.fill(handle.db, entries, payloads, checkpoints)

    def detach(self, segment: Segment) -> None:
        """Remove the rows of an archived segment; see `Store.detach`. Keys, leaf hashes and times stay, so that retries,
        receipts, heads and proofs keep working. Detaching the same segment again changes nothing.

        Raises:
            LedgerError: if the segment does not begin and end at a multiple of 256, or overlaps another.
        """
        with self._transaction() as handle:
            moving.detach(handle.db, segment)
        self._truncate_wal()

    def attach(self, segment: Segment, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload]) -> None:
        """Put a detached segment's rows back; see `Store.attach`. Attaching it again changes nothing.

        Raises:
            LedgerError, Tampered: if they are not the rows that were detached; nothing changes then.
        """
        with self._transaction() as handle:
            moving.attach(handle.db, segment, entries, payloads)

    def index_deviations(self, start: int, end: int, pairs: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """Compare the index of subjects with detached entries; see `IndexedStore.index_deviations`."""
        with self._snapshot() as db:
            return archived_deviations(db, start, end, pairs)

    def segments(self) -> list[Segment]:
        """Return the detached segments in order."""
        with self._snapshot() as db:
            return moving.segments(db)


def _reopen(path: Path, read_only: bool) -> SqliteStore:
    return SqliteStore(path, read_only=read_only)
