"""Files in a local folder, written so that a crash leaves either the whole file or none.

Invariants:
    * A file appears under its final name complete and flushed to disk: temporary file in the same folder,
      fsync, hard link (or rename), fsync of the folder.
    * A file that exists is never overwritten by :meth:`LocalFolder.create`.
    * Files get mode 0600, folders 0700. Symbolic links below the root are refused, not followed.
    * When the disk is full nothing partial stays behind.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from cognify_dagster.evidence.errors import (
    EvidenceCorrupt,
    EvidenceDiskFull,
    EvidenceError,
    EvidenceMissing,
    EvidenceTooLarge,
)

CHUNK_BYTES = 1 << 20
_TEMPORARY = ".tmp-"
_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0)
_CLOEXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}


def fsync_folder(folder: Path) -> None:
    """Flush the names in ``folder`` to disk, where the system can do that."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | _CLOEXEC)
    try:
        os.fsync(fd)
    except OSError as error:
        # Some network filesystems cannot flush a folder; they order names by themselves.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(fd)


@contextlib.contextmanager
def explained(folder: Path, doing: str) -> Iterator[None]:
    """Turn an ``OSError`` into an :class:`EvidenceError` that names the folder and what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise EvidenceDiskFull(
                f"no space left in {folder} while {doing}; nothing partial was kept. Free space there and run again"
            ) from error
        raise EvidenceError(f"{doing} failed in {folder}: {error.strerror or error}") from error


def read_chunks(path: Path, limit: int, *, follow: bool) -> Iterator[bytes]:
    """Yield the content of a regular file in pieces of at most 1 MiB.

    Args:
        path: The file.
        limit: Most bytes to read.
        follow: Whether ``path`` itself may be a symbolic link.

    Raises:
        EvidenceMissing: There is no such file.
        EvidenceCorrupt: It is a symbolic link or not a regular file.
        EvidenceTooLarge: It holds more than ``limit`` bytes.
        EvidenceError: It cannot be read.
    """
    try:
        # O_NONBLOCK so that a named pipe is refused below instead of waited for.
        fd = os.open(path, os.O_RDONLY | _CLOEXEC | _NONBLOCK | (0 if follow else _NOFOLLOW))
    except (FileNotFoundError, NotADirectoryError):
        raise EvidenceMissing(f"{path} does not exist") from None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise EvidenceCorrupt(f"{path} is a symbolic link; evidence files are regular files") from None
        raise EvidenceError(f"{path} cannot be read: {error.strerror or error}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise EvidenceCorrupt(f"{path} is not a regular file")
        total = 0
        while True:
            with explained(path.parent, f"reading {path.name}"):
                chunk = os.read(fd, CHUNK_BYTES)
            if not chunk:
                return
            total += len(chunk)
            if total > limit:
                raise EvidenceTooLarge(f"{path} holds more than the {limit} bytes allowed")
            yield chunk
    finally:
        os.close(fd)


class LocalFolder:
    """A local folder as a place for files that are written once. Names are relative, with ``/``."""

    def __init__(self, root: Path) -> None:
        """Use ``root``, which is created on the first write."""
        self._root = Path(os.path.abspath(root))
        self._durable: set[Path] = set()

    def label(self, name: str) -> str:
        """Return the full path of ``name`` for messages."""
        return str(self._root / name)

    def size(self, name: str) -> int | None:
        """Return the size of a file in bytes, or None if nothing lies there."""
        try:
            return os.lstat(self._root / name).st_size
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise EvidenceError(f"{self._root / name} cannot be examined: {error.strerror or error}") from error

    def chunks(self, name: str, limit: int) -> Iterator[bytes]:
        """Yield the content of a file; raises what :func:`read_chunks` raises."""
        return read_chunks(self._root / name, limit, follow=False)

    def create(self, name: str, chunks: Iterable[bytes], *, exclusive: bool = False) -> bool:
        """Write a file unless one is there.

        Args:
            name: Where.
            chunks: Content. If producing it raises, nothing is written.
            exclusive: Two writers at once may bring different content, and exactly one must win. Otherwise
                their contents are known to be interchangeable.

        Returns:
            True if this call wrote the file, False if one was already there.

        Raises:
            EvidenceDiskFull: No space left; no partial file stays.
            EvidenceError: The file cannot be written.
        """
        target = self._root / name
        folder = target.parent
        self._ensure(folder)
        if self.size(name) is not None:
            self._touch(target)
            self._flush(folder)
            return False
        temporary = folder / f"{_TEMPORARY}{secrets.token_hex(16)}"
        try:
            with explained(folder, f"writing {target.name}"):
                _write_new(temporary, chunks)
                written = _publish(temporary, target, exclusive=exclusive)
        finally:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        # Flushed also when another process won, so that success here never depends on it surviving.
        self._flush(folder)
        return written

    def create_bytes(self, name: str, data: bytes, *, exclusive: bool = False) -> bool:
        """Like :meth:`create` for content in memory."""
        return self.create(name, [data], exclusive=exclusive)

    def check_erasable(self) -> None:
        """A local file is removed by removing it; nothing to check."""

    def delete(self, name: str) -> bool:
        """Overwrite a small file with zeros, then remove it; False if there was none.

        A filesystem that writes elsewhere (copy on write, flash memory, snapshots, backups) may keep the old bytes.
        """
        target = self._root / name
        with explained(target.parent, f"erasing {target.name}"):
            try:
                fd = os.open(target, os.O_WRONLY | _NOFOLLOW | _CLOEXEC)
            except (FileNotFoundError, NotADirectoryError):
                if target.parent.is_dir():  # an earlier call may have removed it and failed to flush that
                    fsync_folder(target.parent)
                return False
            try:
                write_all(fd, bytes(os.fstat(fd).st_size))
                os.fsync(fd)
            finally:
                os.close(fd)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(target)
        self._flush(target.parent)
        return True

    def remove(self, name: str) -> bool:
        """Remove a file; False if there was none."""
        target = self._root / name
        with explained(target.parent, f"removing {target.name}"):
            try:
                os.unlink(target)
            except FileNotFoundError:
                return False
        self._flush(target.parent)
        return True

    def move(self, name: str, target: str) -> None:
        """Give a file another name below the root, with the time of now; where that name is taken by the same file's other
        copy, only the old name goes."""
        source, goal = self._root / name, self._root / target
        self._ensure(goal.parent)
        with explained(source.parent, f"moving {source.name}"):
            # before the move: a kill in between then only makes it look younger than it is
            os.utime(source)
            try:
                os.link(source, goal)
            except FileExistsError:
                pass
            except OSError as error:
                if error.errno not in _NO_LINKS:
                    raise
                os.replace(source, goal)
            self._flush(goal.parent)
            with contextlib.suppress(FileNotFoundError):
                os.unlink(source)
        self._flush(source.parent)

    def modified(self, name: str) -> float | None:
        """Return when a file was last written, or found again, as POSIX time; None if nothing lies there."""
        try:
            return os.lstat(self._root / name).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise EvidenceError(f"{self._root / name} cannot be examined: {error.strerror or error}") from error

    @staticmethod
    def _touch(path: Path) -> None:
        """Content that is stored again is young again: garbage collection goes by that. Best effort."""
        with contextlib.suppress(OSError):
            os.utime(path, follow_symlinks=False)

    def names(self, prefix: str) -> Iterator[str]:
        """Yield the names of all regular files below the folder ``prefix``, without following links."""
        top = self._root / prefix
        with explained(top, "listing"):
            for folder, _, files in os.walk(top, onerror=_raise_unless_missing):
                for file in files:
                    yield (Path(folder) / file).relative_to(self._root).as_posix()

    def remove_stale(self, prefix: str, older_than_s: float) -> int:
        """Remove temporary files that a killed process left below ``prefix``; return how many."""
        limit, removed = time.time() - older_than_s, 0
        for name in list(self.names(prefix)):
            path = self._root / name
            if path.name.startswith(_TEMPORARY):
                with contextlib.suppress(FileNotFoundError), explained(path.parent, "removing a temporary file"):
                    if os.lstat(path).st_mtime < limit:
                        os.unlink(path)
                        removed += 1
        return removed

    def _ensure(self, folder: Path) -> None:
        """Make ``folder`` and its parents, and make their names durable once per process."""
        if folder in self._durable and folder.is_dir():
            return
        below_root = folder != self._root and folder.is_relative_to(self._root)
        if below_root or not folder.parent.is_dir():
            self._ensure(folder.parent)
        with explained(folder, "making the folder"):
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            # The root may be a link that an administrator made; nothing below it may be one.
            mode = os.lstat(folder).st_mode if below_root else os.stat(folder).st_mode
            if not stat.S_ISDIR(mode):
                raise EvidenceError(f"{folder} is not a folder (a file or a symbolic link); move it away")
            fsync_folder(folder.parent)
        self._durable.add(folder)

    def _flush(self, folder: Path) -> None:
        with explained(folder, "flushing the folder"):
            fsync_folder(folder)


def _raise_unless_missing(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def write_all(fd: int, data: bytes) -> None:
    """Write all of ``data``; the system may take less than it is given."""
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view[: 1 << 30]) :]


def _write_new(path: Path, chunks: Iterable[bytes]) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _NOFOLLOW | _CLOEXEC, 0o600)
    try:
        for chunk in chunks:
            write_all(fd, chunk)
        os.fsync(fd)
    finally:
        os.close(fd)


def _publish(temporary: Path, target: Path, *, exclusive: bool) -> bool:
    """Give a finished temporary file its name unless that is taken."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if exclusive:
            raise EvidenceError(
                f"{target.parent} lies on a filesystem without hard links, where two writers cannot be kept apart; "
                "keep keys on another filesystem"
            ) from error
        os.replace(temporary, target)
    return True
