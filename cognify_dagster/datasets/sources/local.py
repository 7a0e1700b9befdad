"""Local files as a dataset source.

Invariants:
    * Every folder below the root is opened part by part with ``O_NOFOLLOW``, so a path swapped for a link while the
      snapshot runs cannot lead outside the root. Links are leaves of their own and are never followed; only the path
      that the user named may itself be, or pass through, a link.
    * FIFOs, sockets and devices are refused and named, never opened for reading.

How files are hashed stands in :mod:`cognify_dagster.datasets.hashing`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from cognify_dagster.datasets.errors import SourceChangedError, SourceError
from cognify_dagster.datasets.hashing.hash_worker import FILE_FLAGS, FOLDER_FLAGS, open_folder
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.tree import MAX_PATH_BYTES, FileKind, check_path, show_path


@dataclass(frozen=True, slots=True)
class Found:
    """A file or link met while listing a source.

    Attributes:
        path: relative path as raw bytes.
        kind: file or link.
        size: bytes; -1 where the listing does not say.
        target: the text of a link.
        token: what identifies unchanged content at a provider (version id, checksum, or ETag, size and time).
        grade: what ``token`` is made of: ``version``, ``checksum`` or ``etag``; empty where nothing identifies content.
        etag: the provider's ETag without quotes, or empty.
        version_id: the provider's version id, or empty; it is the version that gets read.
    """

    path: bytes
    kind: FileKind
    size: int
    target: bytes | None = None
    token: bytes = b""
    grade: str = ""
    etag: str = ""
    version_id: str = ""


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
        self.name = os.path.basename(os.path.normpath(os.fsencode(self.location))) if self.is_file else b""

    def describe(self) -> str:
        """The location, for messages and observations; it is not part of any digest."""
        return self.location

    @property
    def alias(self) -> bytes:
        """The name to open for a single-file source, which may be another one than its leaf carries."""
        return os.path.basename(self._real) if self.is_file else b""

    @property
    def real(self) -> str:
        """Where the source really is."""
        return os.fsdecode(self._real)

    @contextmanager
    def open_root(self) -> Iterator[int]:
        """A descriptor of the source's folder.

        Raises:
            SourceError: it cannot be opened.
        """
        folder = os.path.dirname(self._real) if self.is_file else self._real
        try:
            fd = os.open(folder, FOLDER_FLAGS)
        except OSError as exc:
            raise SourceError(f"source {self.location} cannot be opened: {exc.strerror}") from exc
        try:
            yield fd
        finally:
            os.close(fd)

    @contextmanager
    def _folder(self, root: int, path: bytes) -> Iterator[int]:
        """Open a folder below the root without following links."""
        fd = open_folder(root, path)
        try:
            yield fd
        finally:
            os.close(fd)

    def walk(self, root: int, rules: IgnoreRules) -> Walk:
        """List the source, folder by folder.

        Args:
            root: what :meth:`open_root` gave.
            rules: what to leave out.
        """
        return Walk(self, root, rules)

    def entries(self, rules: IgnoreRules) -> tuple[list[Found], int]:
        """All files and links, sorted by path bytes, and how many entries the rules left out.

        Raises:
            SourceError: a folder cannot be read, an entry is a FIFO, socket or device, or a path is not canonical.
        """
        found: list[Found] = []
        with self.open_root() as root:
            walk = self.walk(root, rules)
            for listed in walk:
                prefix = listed.path + b"/" if listed.path else b""
                found += [Found(prefix + name, FileKind.SYMLINK, len(to), to) for name, to in listed.links]
                try:
                    with self._folder(root, listed.path) as fd:
                        for name in listed.files:
                            size = os.stat(self.alias or name, dir_fd=fd, follow_symlinks=False).st_size
                            found.append(Found(prefix + name, FileKind.FILE, size))
                except OSError as exc:
                    raise SourceChangedError(
                        f"a file in {show_path(listed.path) or '.'} vanished while source {self.location} was listed; "
                        "take the snapshot when nothing writes to it"
                    ) from exc
        found.sort(key=lambda item: item.path)
        return found, walk.ignored

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
                fd = os.open(name, FILE_FLAGS, dir_fd=folder)
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

    @contextmanager
    def open_file(self, found: Found) -> Iterator[int]:
        """A descriptor of one file, opened without following links below the root.

        Raises:
            SourceError: it cannot be opened.
        """
        with self.open_root() as root, self._open(root, found.path) as (fd, _):
            yield fd

    def read(self, found: Found, limit: int) -> bytes:
        """The bytes of one file, at most ``limit``.

        Raises:
            SourceError: the file is larger or cannot be read.
        """
        with self.open_root() as root, self._open(root, found.path) as (fd, status):
            if status.st_size > limit:
                raise SourceError(f"file {show_path(found.path)} has {status.st_size} bytes; the limit is {limit}")
            with os.fdopen(os.dup(fd), "rb") as file:
                try:
                    return file.read(limit + 1)[: limit + 1]
                except OSError as exc:
                    raise SourceError(f"file {show_path(found.path)} cannot be read: {exc.strerror}") from exc


@dataclass(frozen=True)
class Listed:
    """What one folder holds: names of files, sorted; names and targets of links, sorted."""

    path: bytes
    files: list[bytes]
    links: list[tuple[bytes, bytes]]


class Walk:
    """The folders of a source that hold files or links, one after the other, always in the same order.

    ``ignored`` counts what the rules left out, as far as the walk has come.

    Raises:
        SourceError: while iterating: a folder cannot be read, an entry is a FIFO, socket or device, or a path is not
            canonical.
    """

    def __init__(self, source: LocalSource, root: int, rules: IgnoreRules) -> None:
        self._source, self._root, self._rules = source, root, rules
        self.ignored = 0
        self._special: list[str] = []

    def __iter__(self) -> Iterator[Listed]:
        source = self._source
        if source.is_file:
            check_path(source.name)
            if self._rules.match(source.name):
                self.ignored = 1
            else:
                yield Listed(b"", [source.name], [])
            return
        todo = [b""]
        while todo:
            here = todo.pop()
            listed, folders = self._list(here)
            todo += reversed(folders)
            if listed.files or listed.links:
                yield listed
        if self._special:
            raise SourceError(
                f"source {source.location} holds entries that are neither files nor folders "
                f"({', '.join(sorted(self._special)[:5])}); remove them or name them in ignore"
            )

    def _list(self, here: bytes) -> tuple[Listed, list[bytes]]:
        prefix = here + b"/" if here else b""
        files, folders, links = (self._keep(prefix, names) for names in self._scan(here))
        longest = max(map(len, (*files, *links)), default=0)
        if len(prefix) + longest > MAX_PATH_BYTES:
            for name in (*files, *links):
                check_path(prefix + name)
        targets = [(name, self._source._read_link(self._root, prefix + name)) for name in sorted(links)]
        return Listed(here, sorted(files), targets), sorted(prefix + name for name in folders)

    def _scan(self, here: bytes) -> tuple[list[str], list[str], list[str]]:
        files: list[str] = []
        folders: list[str] = []
        links: list[str] = []
        special: list[str] = []
        name = show_path(here) or "."
        try:
            folder = open_folder(self._root, here)
            try:
                with os.scandir(folder) as scan:
                    for entry in scan:
                        if entry.is_file(follow_symlinks=False):
                            files.append(entry.name)
                        elif entry.is_dir(follow_symlinks=False):
                            folders.append(entry.name)
                        elif entry.is_symlink():
                            links.append(entry.name)
                        else:
                            special.append(entry.name)
            finally:
                os.close(folder)
        except OSError as exc:
            raise SourceError(
                f"{name} in source {self._source.location} cannot be listed: {exc.strerror}; "
                "make it readable or name it in ignore"
            ) from exc
        prefix = here + b"/" if here else b""
        self._special += [show_path(prefix + odd) for odd in self._keep(prefix, special)]
        return files, folders, links

    def _keep(self, prefix: bytes, names: list[str]) -> list[bytes]:
        """The names as bytes, without the ignored ones."""
        if not names:
            return []
        encoded = os.fsencode("\0".join(names)).split(b"\0")
        if not self._rules.rules:
            return encoded
        kept = [name for name in encoded if not self._rules.match(prefix + name)]
        self.ignored += len(encoded) - len(kept)
        return kept
