"""Local files as a dataset source.

Invariants:
    * Every folder below the root is opened part by part with ``O_NOFOLLOW``, so a path swapped for a link while the
      snapshot runs cannot lead outside the root. Links are leaves of their own and are never followed; only the path
      that the user named may itself be, or pass through, a link.
    * A file's digest counts only if size, times and inode were the same before and after reading and the bytes read
      are as many as the size says.
    * FIFOs, sockets and devices are refused and named, never opened for reading.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass

from cognify_dagster.datasets.errors import SourceChangedError, SourceError
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.tree import (
    CHUNK_SIZE,
    FileKind,
    FileLeaf,
    check_path,
    digest_from_chunks,
    show_path,
    symlink_leaf,
)

_NOFOLLOW = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_CLOEXEC", 0)
_FILE_FLAGS = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_NONBLOCK", 0)
_DIR_FLAGS = os.O_RDONLY | _NOFOLLOW | getattr(os, "O_DIRECTORY", 0)
_ATTEMPTS = 2


@dataclass(frozen=True)
class Found:
    """A file or link met while listing a source; ``target`` is the text of a link."""

    path: bytes
    kind: FileKind
    size: int
    target: bytes | None = None


class LocalSource:
    """A local file or folder.

    Args:
        path: what the user named.

    Raises:
        SourceError: the path does not exist, cannot be read, or is neither a file nor a folder.
    """

    kind = "local"

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.location = os.fspath(path)
        if not self.location or "\x00" in self.location:
            raise SourceError("the source path is empty or holds a NUL byte; name a file or folder")
        try:
            self._real = os.fsencode(os.path.realpath(self.location, strict=True))
            mode = os.stat(self._real).st_mode
        except FileNotFoundError as exc:
            raise SourceError(f"source {self.location} does not exist; check the path") from exc
        except OSError as exc:
            raise SourceError(f"source {self.location} cannot be read: {exc.strerror}") from exc
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise SourceError(f"source {self.location} is neither a file nor a folder; name one of these")
        self.is_file = stat.S_ISREG(mode)
        # A single file's leaf carries the name that the user gave, even when that name is a link.
        self._name = os.path.basename(os.path.normpath(os.fsencode(self.location))) if self.is_file else b""

    def describe(self) -> str:
        """The location, for messages and observations; it is not part of any digest."""
        return self.location

    @contextmanager
    def _root(self) -> Iterator[int]:
        folder = os.path.dirname(self._real) if self.is_file else self._real
        try:
            fd = os.open(folder, _DIR_FLAGS)
        except OSError as exc:
            raise SourceError(f"source {self.location} cannot be opened: {exc.strerror}") from exc
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _folder(self, root: int, path: bytes) -> Iterator[int]:
        """Open a folder below the root without following links."""
        fd = os.dup(root)
        try:
            for part in filter(None, path.split(b"/")):
                below = os.open(part, _DIR_FLAGS, dir_fd=fd)
                os.close(fd)
                fd = below
            yield fd
        finally:
            os.close(fd)

    def entries(self, rules: IgnoreRules) -> tuple[list[Found], int]:
        """All files and links, sorted by path bytes, and how many entries the rules left out.

        Raises:
            SourceError: a folder cannot be read, an entry is a FIFO, socket or device, or a path is not canonical.
        """
        with self._root() as root:
            if self.is_file:
                return self._list_one(root, rules)
            found: list[Found] = []
            special: list[str] = []
            ignored = 0
            todo = [b""]
            while todo:
                here = todo.pop()
                for entry_path, entry in self._scan(root, here):
                    if rules.match(entry_path):
                        ignored += 1
                        continue
                    mode = entry.st_mode
                    if stat.S_ISDIR(mode):
                        todo.append(entry_path)
                        continue
                    check_path(entry_path)
                    if stat.S_ISREG(mode):
                        found.append(Found(entry_path, FileKind.FILE, entry.st_size))
                    elif stat.S_ISLNK(mode):
                        target = self._read_link(root, entry_path)
                        found.append(Found(entry_path, FileKind.SYMLINK, len(target), target))
                    else:
                        special.append(show_path(entry_path))
        if special:
            raise SourceError(
                f"source {self.location} holds entries that are neither files nor folders "
                f"({', '.join(sorted(special)[:5])}); remove them or name them in ignore"
            )
        found.sort(key=lambda item: item.path)
        return found, ignored

    def _list_one(self, root: int, rules: IgnoreRules) -> tuple[list[Found], int]:
        check_path(self._name)
        if rules.match(self._name):
            return [], 1
        size = os.stat(os.path.basename(self._real), dir_fd=root, follow_symlinks=False).st_size
        return [Found(self._name, FileKind.FILE, size)], 0

    def _scan(self, root: int, here: bytes) -> list[tuple[bytes, os.stat_result]]:
        entries = []
        name = show_path(here) or "."
        try:
            with self._folder(root, here) as fd, os.scandir(fd) as scan:
                for entry in scan:
                    name = show_path(os.path.join(here, os.fsencode(entry.name)))
                    entries.append((os.path.join(here, os.fsencode(entry.name)), entry.stat(follow_symlinks=False)))
        except OSError as exc:
            raise SourceError(
                f"{name} in source {self.location} cannot be listed: {exc.strerror}; make it readable or name it in ignore"
            ) from exc
        return entries

    def _read_link(self, root: int, path: bytes) -> bytes:
        head, _, name = path.rpartition(b"/")
        try:
            with self._folder(root, head) as fd:
                return os.fsencode(os.readlink(name, dir_fd=fd))
        except OSError as exc:
            raise SourceChangedError(
                f"link {show_path(path)} vanished while source {self.location} was listed"
            ) from exc

    @contextmanager
    def _open(self, root: int, path: bytes) -> Iterator[tuple[int, os.stat_result]]:
        head, _, name = path.rpartition(b"/")
        if self.is_file:
            head, name = b"", os.path.basename(self._real)
        try:
            with self._folder(root, head) as folder:
                fd = os.open(name, _FILE_FLAGS, dir_fd=folder)
        except OSError as exc:
            raise SourceError(
                f"file {show_path(path)} in source {self.location} cannot be opened: {exc.strerror}; "
                "make it readable, or take the snapshot when nothing else changes the source"
            ) from exc
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise SourceChangedError(f"{show_path(path)} in source {self.location} is no longer a file")
            yield fd, status
        finally:
            os.close(fd)

    def hash(self, found: Found, pool: ThreadPoolExecutor | None = None) -> FileLeaf:
        """The leaf of one listed file or link; chunks of files above 8 MiB are spread over ``pool``.

        Raises:
            SourceChangedError: the file changed while it was read, twice in a row.
            SourceError: the file cannot be read.
        """
        if found.kind is FileKind.SYMLINK:
            return symlink_leaf(found.path, found.target or b"")
        with self._root() as root:
            for _ in range(_ATTEMPTS):
                with self._open(root, found.path) as (fd, before):
                    try:
                        chunks = _hash_chunks(fd, before.st_size, pool)
                        after = os.fstat(fd)
                    except OSError as exc:
                        raise SourceError(
                            f"file {show_path(found.path)} in source {self.location} cannot be read: {exc.strerror}"
                        ) from exc
                size = sum(length for length, _ in chunks)
                if _same(before, after) and size == before.st_size:
                    algorithm, digest = digest_from_chunks(chunks)
                    return FileLeaf(found.path, FileKind.FILE, size, algorithm, digest)
        raise SourceChangedError(
            f"file {show_path(found.path)} in source {self.location} changed while it was read; "
            "take the snapshot when nothing writes to it"
        )

    def read(self, found: Found, limit: int) -> bytes:
        """The bytes of one file, at most ``limit``.

        Raises:
            SourceError: the file is larger or cannot be read.
        """
        with self._root() as root, self._open(root, found.path) as (fd, status):
            if status.st_size > limit:
                raise SourceError(f"file {show_path(found.path)} has {status.st_size} bytes; the limit is {limit}")
            with os.fdopen(os.dup(fd), "rb") as file:
                try:
                    return file.read(limit + 1)[: limit + 1]
                except OSError as exc:
                    raise SourceError(f"file {show_path(found.path)} cannot be read: {exc.strerror}") from exc


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_dev", "st_mode")
    return all(getattr(before, name) == getattr(after, name) for name in names)


def _hash_chunks(fd: int, size: int, pool: ThreadPoolExecutor | None) -> list[tuple[int, bytes]]:
    """(length, SHA-256) of each 8 MiB chunk, and of one byte more than ``size`` so that growth shows."""
    starts = range(0, max(size, 1), CHUNK_SIZE)
    if pool is not None and len(starts) > 1:
        chunks = list(pool.map(lambda start: _hash_range(fd, start), starts))
    else:
        chunks = [_hash_range(fd, start) for start in starts]
    return [chunk for chunk in chunks if chunk[0]]


def _hash_range(fd: int, start: int) -> tuple[int, bytes]:
    hasher = hashlib.sha256()
    done = 0
    while done < CHUNK_SIZE:
        piece = os.pread(fd, min(1 << 20, CHUNK_SIZE - done), start + done)
        if not piece:
            break
        hasher.update(piece)
        done += len(piece)
    return done, hasher.digest()
