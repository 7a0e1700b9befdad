"""Backup and restore of a ledger, and what to do when the restored one is older than what others remember.

Two kinds of backup: a copy of the SQLite file, made by SQLite itself; and, for any store, a folder of archive folders (`archive`)
with a signed list of them, from which any store can be filled.

Invariants: a backup appears complete or not at all and is verified before it counts; a restore verifies everything and compares
it with every head that somebody outside remembers; a restored ledger that is older than one of these heads is marked before
it becomes visible, and `require_appendable` refuses appends while the mark stands. The ways out are `replay`, which
brings the lost entries back byte for byte, or a new ledger that cites the loss. Nothing is resumed silently.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from cognify_dagster.ledger.archive.detaching import ArchivedStore
from cognify_dagster.ledger.archive.format import Source, erasures
from cognify_dagster.ledger.archive.reader import Archive
from cognify_dagster.ledger.errors import (
    LedgerError,
    LedgerFull,
    LedgerUnreadable,
    Tampered,
)
from cognify_dagster.ledger.merkle import root_at
from cognify_dagster.ledger.note import Checkpoint, TrustFile, parse_note
from cognify_dagster.ledger.recovery.copying import compare, require_empty
from cognify_dagster.ledger.recovery.progress import Progress, Telling
from cognify_dagster.ledger.recovery.rollback import (
    BAD,
    Heads,
    RestoreReport,
    check_restored,
    mark_path,
    mark_rolled_back,
    mark_unfinished,
    put_back,
    read_mark,
)
from cognify_dagster.ledger.sqlite.store import SqliteStore
from cognify_dagster.ledger.store import Store, StoredEntry, StoredPayload
from cognify_dagster.ledger.verification.acts import ActJudge
from cognify_dagster.ledger.verification.verify import Outcome, verify_store


@dataclass(frozen=True)
class BackupReport:
    """What was backed up: `digest` is the SHA-256 hex of the database file, or of the folder's signed list."""

    path: Path
    origin: str
    size: int
    root: bytes
    digest: str


# --- the SQLite file ---


def backup_sqlite(
    store: SqliteStore,
    target: str | os.PathLike[str],
    *,
    trust: TrustFile | None = None,
    archives: Sequence[Archive] = (),
    acts: ActJudge | None = None,
    progress: Progress | None = None,
) -> BackupReport:
    """Copy a SQLite ledger into a new file while it is in use, verify the copy and flush it.

    SQLite's own backup is used in one step: writers wait while it runs. Copying the file by other means can miss what
    lies in its journal. Detached segments stay detached: back their archive folders up as well.

    Args:
        store: the ledger.
        target: a new file.
        trust: the trust file, for verifying the copy's checkpoints.
        archives: the archive folders of detached segments; without them such a copy cannot be verified and is refused.
        acts: judges who signed the acts about log keys and the clock; see `verify_store`.
        progress: called with (entries of the copy verified, entries in all).

    Raises:
        LedgerError: if the target exists or the ledger is empty.
        Tampered: if the copy does not verify; no file appears then.
        LedgerFull: if the disk refused; no file appears then.
    """
    return _copy_file(store, Path(target), trust, archives, acts, progress)


def _copy_file(
    store: SqliteStore,
    target: Path,
    trust: TrustFile | None,
    archives: Sequence[Archive],
    acts: ActJudge | None,
    progress: Progress | None,
) -> BackupReport:
    if target.exists():
        raise LedgerError(f"{target} exists already; it is never overwritten. Name a new file")
    partial = target.with_name(f".{target.name}.partial")
    try:
        _drop(partial)
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        with (
            closing(sqlite3.connect(f"{store.path.absolute().as_uri()}?mode=ro", uri=True, timeout=30.0)) as source,
            closing(sqlite3.connect(partial)) as copy,
        ):
            source.backup(copy, pages=-1)
            copy.execute("PRAGMA journal_mode=DELETE")  # one file, nothing beside it
        _flush(partial)
        copied = SqliteStore(partial, read_only=True)
        report = _verified(ArchivedStore(copied, archives), trust, acts, target, _digest(partial), progress)
        copied.close()
        os.link(partial, target)
        try:
            _flush(target.parent)
        except OSError:
            target.unlink()  # its name may not outlive a crash, so it is no backup
            raise
    except FileExistsError as error:
        raise LedgerError(f"{target} exists already; it is never overwritten. Name a new file") from error
    except (OSError, sqlite3.Error) as error:
        raise LedgerFull(f"{target}: the copy could not be written: {error}; make room and run again") from error
    finally:
        _drop(partial)
    return report


def _verified(
    copied: Store, trust: TrustFile | None, acts: ActJudge | None, target: Path, digest: str, progress: Progress | None
) -> BackupReport:
    size = copied.size()
    if size == 0:
        raise LedgerError("the ledger has no entries; an empty backup is never made. Is it the right ledger?")
    report = verify_store(copied, trust=trust, acts=acts, progress=progress)
    bad = [finding for finding in report.findings if finding.outcome in BAD]
    if bad:
        raise Tampered(f"{target} was not made: {bad[0]}; run `cognify ledger verify`")
    return BackupReport(target, copied.origin, size, root_at(size, copied.node), digest)


# --- restoring ---


def restore_sqlite(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    trust: TrustFile | None,
    heads: Heads = (),
    signer_head: Checkpoint | None = None,
    archives: Sequence[Archive] = (),
    acts: ActJudge | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Restore a SQLite ledger from a backup file into a new file.

    If the backup is older than a remembered head, the new file is marked (`mark_path`) before it appears. `trust`, `heads`,
    `signer_head` and `acts` are as for `check_restored`.

    Raises:
        LedgerError: if the target exists.
        LedgerUnreadable: if the source is no ledger; an empty one is none either.
        Tampered: if it does not verify; nothing is restored then.
    """
    backup = SqliteStore(source, read_only=True)
    told = Telling(progress, 2 * backup.size())  # the backup is verified, then its copy
    known = _Known(trust, heads, signer_head, acts)
    report = _judge(ArchivedStore(backup, archives), known, Path(source), told)
    if report.rolled_back:
        mark_rolled_back(mark_path(target), report)
    _copy_file(backup, Path(target), trust, archives, acts, told.part())
    backup.close()
    return report


def restore_into(
    source: Source,
    target: Store,
    *,
    size: int,
    checkpoints: Iterable[tuple[int, str]],
    trust: TrustFile | None,
    heads: Heads = (),
    signer_head: Checkpoint | None = None,
    acts: ActJudge | None = None,
    mark: Path | None = None,
    progress: Progress | None = None,
) -> RestoreReport:
    """Fill an empty store (Postgres, or a new SQLite file) with the entries of any source, and judge it.

    Args:
        source: where the entries come from: a `Dump`, or another store.
        target: an empty store.
        size: how many entries to take.
        checkpoints: the checkpoints that belong to them.
        trust: the trust file.
        heads: signed checkpoints held elsewhere.
        signer_head: what the log's signer remembers.
        acts: judges who signed the acts about log keys and the clock.
        mark: where to mark a rollback; `mark_path` of the ledger, or a file of the workspace.
        progress: called with (entries filled in or verified, both together).

    Raises:
        Tampered: if what was filled in does not verify. The target must then be discarded.
    """
    require_empty(target, target.origin)
    earlier = read_mark(mark)
    if mark is not None:  # closed until judged, so that a kill in between leaves it closed
        mark_unfinished(mark, target.origin, size, earlier)
    told = Telling(progress, 2 * size)
    notes = [item for item in checkpoints if item[0] <= size]
    try:
        target.load(told.each(source.entries(0, size)), source.payloads(0, size), notes)
    except BaseException:  # one transaction: nothing is there, unless the answer to its COMMIT was lost
        with suppress(LedgerError):
            if target.size() == 0:
                put_back(mark, earlier)
        raise
    report = _judge(target, _Known(trust, heads, signer_head, acts), Path(target.origin), told)
    if not report.rolled_back:
        put_back(mark, earlier)
        return report
    if mark is not None:
        mark_rolled_back(mark, report)
    if report.witness is not None:  # seen by every writer of a shared database, and by whoever verifies it
        target.add_checkpoint(Checkpoint.parse(parse_note(report.witness[1]).text).size, report.witness[1])
    return report


@dataclass(frozen=True)
class _Known:
    """What a restored ledger is compared with, and who judges acts in it."""

    trust: TrustFile | None
    heads: Heads
    signer_head: Checkpoint | None
    acts: ActJudge | None


def _judge(store: Store, known: _Known, where: Path, told: Telling) -> RestoreReport:
    if store.size() == 0:
        raise LedgerUnreadable(f"{where}: the backup holds no entries; that is never a ledger to restore")
    report = check_restored(
        store,
        trust=known.trust,
        heads=known.heads,
        signer_head=known.signer_head,
        acts=known.acts,
        progress=told.part(),
    )
    bad = [finding for finding in report.findings if finding.outcome in (Outcome.TAMPERED, Outcome.UNREADABLE)]
    if bad:
        raise Tampered(f"{where} does not verify: {bad[0]}; take an older backup")
    return report


def replay(
    base: Store,
    lost: Source,
    end: int,
    target: Store,
    *,
    trust: TrustFile | None,
    heads: Heads = (),
    signer_head: Checkpoint | None = None,
    acts: ActJudge | None = None,
    checkpoints: Iterable[tuple[int, str]] = (),
    progress: Progress | None = None,
) -> RestoreReport:
    """Build a whole ledger from a restored one and the entries it lost, byte for byte, in an empty store.

    What the replayed entries say was erased is left out, so a restore does not bring it back.

    Args:
        base: the restored ledger, rolled back.
        lost: holds entries [base.size(), end): a newer backup, an archive folder, a copy.
        end: how many entries the whole has.
        target: an empty store; it takes the place of the restored one when the report is `sound`.
        trust, heads, signer_head, acts: as for `check_restored`.
        checkpoints: further checkpoints to keep.
        progress: called with (entries written or verified, both together).

    Raises:
        LedgerError: if the entries do not continue the restored ledger.
    """
    size = base.size()
    require_empty(target, base.origin)
    if end <= size:
        raise LedgerError(f"the restored ledger has {size} entries already; there is nothing to replay up to {end}")
    erased = erasures(_Joined(base, lost, size), 0, end)
    notes = {*base.checkpoints(), *((count, note) for count, note in checkpoints if count <= end)}
    both = _Joined(base, lost, size)
    told = Telling(progress, 2 * end)
    target.load(told.each(both.entries(0, end)), both.without(erased, 0, end), sorted(notes))
    report = check_restored(target, trust=trust, heads=heads, signer_head=signer_head, acts=acts, progress=told.part())
    bad = [finding for finding in report.findings if finding.outcome in (Outcome.TAMPERED, Outcome.UNREADABLE)]
    if bad:
        raise Tampered(f"the replayed ledger does not verify: {bad[0]}; discard it")
    return report


class _Joined:
    """Entries of a ledger, and beyond its size those of another source."""

    def __init__(self, base: Source, lost: Source, size: int) -> None:
        self.base, self.lost, self.size = base, lost, size

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        return chain(
            self.base.entries(start, min(end, self.size)) if start < self.size else iter(()),
            self.lost.entries(max(start, self.size), end) if end > self.size else iter(()),
        )

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        return chain(
            self.base.payloads(start, min(end, self.size)) if start < self.size else iter(()),
            self.lost.payloads(max(start, self.size), end) if end > self.size else iter(()),
        )

    def without(self, erased: Iterable[int], start: int, end: int) -> Iterator[StoredPayload]:
        gone = frozenset(erased)
        for row in self.payloads(start, end):
            yield StoredPayload(row.seq, None, None, None) if row.seq in gone else row


def same_ledger(one: Store, other: Store) -> bytes:
    """Compare two stores completely and return their root; a check before one takes the other's place.

    Raises:
        Tampered: naming the first difference.
    """
    return compare(one, other, one.size())[0]


def _digest(path: Path) -> str:
    hasher = hashlib.sha256()
    with open(path, "rb") as stream:
        while chunk := stream.read(1 << 20):
            hasher.update(chunk)
    return hasher.hexdigest()


def _flush(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _drop(path: Path) -> None:
    for name in (
        path,
        path.with_name(path.name + "-journal"),
        path.with_name(path.name + "-wal"),
        path.with_name(path.name + "-shm"),
    ):
        name.unlink(missing_ok=True)
