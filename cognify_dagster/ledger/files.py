"""Private files: keys and state, mode 0600, written durably and as a whole."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable


def new_secret(path: Path, size: int = 32) -> bytes:
    """Create a private file of random bytes; refuse to overwrite one."""
    if path.exists():
        raise LedgerError(f"{path}: the key exists already; it is never overwritten")
    secret = os.urandom(size)
    write_private(path, secret)
    return secret


def read_secret(path: Path, size: int = 32) -> bytes:
    """Read a private key file; refuse one that others can read."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise LedgerUnreadable(f"{path}: the key cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise LedgerUnreadable(f"{path}: others can read this key; run `chmod 600 {path}`")
    if len(data) != size:
        raise LedgerUnreadable(f"{path}: a key of {size} bytes was expected, not {len(data)}")
    return data


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 durably: temporary file, fsync, rename, fsync of the folder.

    Raises:
        OSError: naming the file; what was there before stays, unless the folder's flush failed last.
    """
    try:
        _write_durably(path, data)
    except OSError as error:  # that of a flush or write names no file
        raise OSError(error.errno, error.strerror, str(path)) from error


def _write_durably(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
