"""SQLite connections that last: one a thread, opened when first used, never carried across a fork.

Invariants: a connection serves one thread at a time (its lock); before a fork every idle connection is closed, because a child that
inherits one would believe in file locks it does not hold; after any SQLite error the connection is closed, so that the
next operation starts from what is on the disk; a connection to a file that was moved or replaced is never used again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cognify_dagster.ledger.errors import LedgerError, LedgerFull, LedgerUnreadable

BUSY_TIMEOUT_S = 30.0
_abandoned: list[sqlite3.Connection] = []  # inherited through a fork that bypassed the hooks: closing them drops locks


def translated(path: Path, error: sqlite3.Error) -> LedgerError:
    """Return what an error of SQLite means for a ledger at a path."""
    text = str(error)
    if isinstance(error, sqlite3.OperationalError):
        if "full" in text or "disk I/O" in text or "readonly" in text or "read-only" in text:
            return LedgerFull(f"{path}: {text}; nothing was appended. Free space or mend the disk")
        if "locked" in text:
            text += f" by another process for more than {BUSY_TIMEOUT_S:.0f} s; nothing was changed, try again"
    return LedgerUnreadable(f"{path}: {text}")


class Handle:
    """One thread's connection. `cache` is for whoever uses it and is emptied when the connection goes."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.depth = 0
        self.pid = 0
        self.file: tuple[int, int] | None = None
        self.cache: Any = None
        self._db: sqlite3.Connection | None = None

    @property
    def db(self) -> sqlite3.Connection:
        """The open connection."""
        assert self._db is not None
        return self._db

    def ready(self, path: str, connect: Callable[[], sqlite3.Connection]) -> None:
        """Open the connection unless it is open, in this process, to the file that is at the path now."""
        try:
            found = os.stat(path)
        except OSError as error:
            self.close()
            raise LedgerUnreadable(f"{path}: no ledger here any more: {error.strerror}") from error
        if self._db is not None:
            if self.pid == os.getpid() and self.file == (found.st_dev, found.st_ino):
                return
            self.close()
        self._db = connect()
        self.pid, self.file = os.getpid(), (found.st_dev, found.st_ino)

    def close(self) -> None:
        """Close the connection; the next use opens another."""
        db, self._db, self.cache = self._db, None, None
        if db is None:
            return
        if self.pid == os.getpid():
            db.close()
        else:
            _abandoned.append(db)

    def __del__(self) -> None:
        try:
            self.close()
        except (AttributeError, TypeError):  # the interpreter is ending, or __init__ never ran
            self._db = None


class Connections:
    """The connections of one store. `writing` lets one thread of this process write at a time, first come, first served."""

    def __init__(self, path: Path, connect: Callable[[], sqlite3.Connection]) -> None:
        self._path, self._connect = str(path), connect
        self._local = threading.local()
        self._handles: weakref.WeakSet[Handle] = weakref.WeakSet()
        self.writing = threading.Lock()
        with _registry_lock:
            _registry.add(self)

    def enter(self) -> Handle:
        """Take this thread's connection, opening it if need be; `leave` must follow.

        Raises:
            LedgerUnreadable: if no file is at the path any more.
        """
        handle: Handle | None = getattr(self._local, "handle", None)
        if handle is None:
            handle = self._local.handle = Handle()
            with _registry_lock:
                self._handles.add(handle)
        handle.lock.acquire()
        try:
            if handle.depth == 0:
                handle.ready(self._path, self._connect)
        except BaseException:
            handle.lock.release()
            raise
        handle.depth += 1
        return handle

    def leave(self, handle: Handle) -> None:
        """Give the connection back."""
        handle.depth -= 1
        handle.lock.release()

    @contextmanager
    def use(self) -> Iterator[Handle]:
        """Hold this thread's connection; it is closed if SQLite fails in the block."""
        handle = self.enter()
        try:
            yield handle
        except sqlite3.Error:
            handle.close()
            raise
        finally:
            self.leave(handle)

    def close(self) -> None:
        """Close all connections of this process; waits for operations of other threads to end."""
        with _registry_lock:
            handles = list(self._handles)
        for handle in handles:
            with handle.lock:
                if handle.depth == 0:
                    handle.close()


_registry: weakref.WeakSet[Connections] = weakref.WeakSet()
_registry_lock = threading.Lock()
_held: list[Handle] = []


def close_all() -> None:
    """Close the idle connections of all stores of this process, for example before a disk is unmounted."""
    with _registry_lock:
        everything = list(_registry)
    for connections in everything:
        connections.close()


def _before_fork() -> None:
    """Wait until no thread uses a connection, and keep it so over the fork. SQLite's own view of file locks is copied into the
    child, where it would be wrong for as long as a connection of the parent was busy or open."""
    _registry_lock.acquire()
    for connections in list(_registry):
        for handle in list(connections._handles):
            if handle.lock.acquire(timeout=BUSY_TIMEOUT_S):  # else its process id gives it away in the child
                _held.append(handle)
                if handle.depth == 0:
                    handle.close()


def _after_fork() -> None:
    while _held:
        _held.pop().lock.release()
    _registry_lock.release()


def _after_fork_in_child() -> None:
    for connections in list(_registry):
        connections.writing = threading.Lock()  # a thread that does not exist here may have held it
    _after_fork()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child)
