"""A SQLite ledger's file: how it is created, opened and recognized.

Invariants: a file appears under its name complete or not at all, and never replaces another; a connection is durable
(synchronous FULL, asserted) and overwrites what it frees; no ledger is written on a network filesystem, nor in WAL mode by a
SQLite version whose WAL can be damaged by two connections.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cognify_dagster.ledger.errors import LedgerFull, LedgerUnreadable
from cognify_dagster.ledger.names import check_origin
from cognify_dagster.ledger.sqlite.connection import BUSY_TIMEOUT_S
from cognify_dagster.ledger.sqlite.schema import (
    _NETWORK_FILESYSTEMS,
    APPLICATION_ID,
    SCHEMA,
    SCHEMA_VERSION,
    WAL_SAFE,
    filesystem_of,
    journal_mode,
)

_SYNCHRONOUS_FULL = 2


def create(target: Path, origin: str, fill: Callable[[sqlite3.Connection], None]) -> None:
    """Make a ledger file that appears complete at its place or not at all; `fill` adds rows before that.

    Raises:
        LedgerUnreadable: if the file exists or lies on a network filesystem.
        LedgerFull: if the disk refuses; nothing is left behind.
    """
    check_origin(origin)
    if target.exists():
        raise LedgerUnreadable(f"{target}: there is already a file; a ledger is never overwritten")
    refuse_network(target)
    unfinished = target.with_name(target.name + ".new")
    try:
        _discard(unfinished)
        unfinished.touch(mode=0o600)
        db = sqlite3.connect(unfinished, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous=FULL")
            db.execute("PRAGMA secure_delete=ON")
            db.execute(f"PRAGMA application_id={APPLICATION_ID}")
            db.execute(f"PRAGMA user_version={SCHEMA_VERSION}")
            db.executescript("BEGIN;" + SCHEMA)
            db.execute("INSERT INTO meta VALUES ('origin', ?)", (origin,))
            fill(db)
            db.execute("COMMIT")
            if journal_mode() == "wal":  # kept in the file; other modes are a connection's own
                db.execute("PRAGMA journal_mode=WAL")
        finally:
            db.close()
        os.link(unfinished, target)  # unlike a rename, this never replaces a ledger made in the meantime
    except FileExistsError as error:
        raise LedgerUnreadable(f"{target}: there is already a file; a ledger is never overwritten") from error
    except (sqlite3.Error, OSError) as error:
        raise LedgerFull(f"{target}: the ledger could not be created: {error}") from error
    finally:
        _discard(unfinished)
    _sync_folder(target.parent)


def open_ledger(path: Path, read_only: bool) -> sqlite3.Connection:
    """Open a connection with the settings that every use of a ledger needs."""
    db = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={'ro' if read_only else 'rw'}",
        uri=True,
        timeout=BUSY_TIMEOUT_S,
        isolation_level=None,
        check_same_thread=False,  # `Connections` lets one thread use it at a time
    )
    try:
        for setting in (
            "synchronous=FULL",
            "fullfsync=ON",
            "trusted_schema=OFF",
            "secure_delete=ON",
            "cache_size=-16000",
        ):
            db.execute(f"PRAGMA {setting}")
        if db.execute("PRAGMA synchronous").fetchone()[0] != _SYNCHRONOUS_FULL:
            raise LedgerUnreadable(f"{path}: this SQLite library does not keep synchronous=FULL")
        if not read_only:
            _check_journal(db, path)
    except BaseException:
        db.close()
        raise
    return db


def _check_journal(db: sqlite3.Connection, path: Path) -> None:
    """Any version may use a rollback journal; a WAL file is turned back by a version that could damage it, or refused.

    The journal is truncated, not deleted, when a transaction commits: SQLite then flushes the truncation before it returns. It
    does not flush the folder after deleting a journal (synchronous=FULL), so after a loss of power a deleted one could be
    there again and take back a commit that was acknowledged.
    """
    found = db.execute("PRAGMA journal_mode").fetchone()[0]
    if found == "wal" and journal_mode() == "wal":
        return
    with suppress(sqlite3.OperationalError):
        found = db.execute("PRAGMA journal_mode=TRUNCATE").fetchone()[0]
    if found != "truncate":
        raise LedgerUnreadable(
            f"{path}: journal mode {found} is not safe with SQLite {sqlite3.sqlite_version}; stop the other "
            f"processes that use the ledger, or use SQLite {'.'.join(map(str, WAL_SAFE))} or newer everywhere"
        )


def refuse_network(path: Path) -> None:
    """Raise if a path lies where file locks cannot be trusted."""
    filesystem = filesystem_of(path.parent)
    if filesystem in _NETWORK_FILESYSTEMS:
        raise LedgerUnreadable(
            f"{path}: {filesystem} is a network filesystem, whose locks cannot be trusted; put the ledger on a local disk"
        )


def truncate_wal(db: sqlite3.Connection, path: Path) -> None:
    """Empty the write-ahead log, where there is one, of what was erased or moved away.

    Raises:
        LedgerUnreadable: if another process keeps it in use for too long.
    """
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0]:
        if time.monotonic() > deadline:
            raise LedgerUnreadable(
                f"{path}: the payloads are erased, but another process keeps the write-ahead log in use, which "
                "may still hold them; erase the same entries again when it has ended"
            )
        time.sleep(0.05)


def _discard(unfinished: Path) -> None:
    for suffix in ("", "-journal", "-wal", "-shm"):
        unfinished.with_name(unfinished.name + suffix).unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make a new file's name durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def read_origin(db: sqlite3.Connection, path: Path) -> str:
    """Return the origin that the file names, if it is a ledger of this release."""
    if db.execute("PRAGMA application_id").fetchone()[0] != APPLICATION_ID:
        raise LedgerUnreadable(f"{path}: this file is not a ledger")
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version != SCHEMA_VERSION:
        raise LedgerUnreadable(
            f"{path}: ledger schema {version}; this release reads {SCHEMA_VERSION}. Go on with the release that made "
            "it, or make a portable backup there (`cognify ledger dump`) and restore it here (`cognify ledger restore`)"
        )
    row = db.execute("SELECT value FROM meta WHERE key = 'origin'").fetchone()
    if row is None:
        raise LedgerUnreadable(f"{path}: the ledger does not name its origin")
    return str(row[0])
