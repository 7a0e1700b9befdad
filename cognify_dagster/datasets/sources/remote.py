"""Remote files (any fsspec filesystem) as a dataset source.

Invariants:
    * Messages never show credentials: user information and query strings are cut from every address.
    * The bytes read are as many as the listing said; otherwise the object changed and the snapshot is refused.
"""

from __future__ import annotations

import hashlib
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from cognify_dagster.datasets.errors import SourceChangedError, SourceError
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.tree import CHUNK_SIZE, FileKind, FileLeaf, check_path, digest_from_chunks, show_path


def redact(text: str) -> str:
    """A text without user information and query strings in the addresses it holds."""
    text = re.sub(r"(://)[^/@\s]*@", r"\1", text)
    return re.sub(r"(://[^\s?]*)\?[^\s]*", r"\1", text)


class RemoteSource:
    """A file or prefix on an fsspec filesystem.

    Args:
        url: fsspec address.
        fs: the filesystem.
        root: the path on it.

    Raises:
        SourceError: nothing is there, or it cannot be reached.
    """

    kind = "fsspec"

    def __init__(self, url: str, fs: Any, root: str) -> None:
        self._fs, self._path = fs, root
        self.location = redact(url)
        try:
            if hasattr(fs, "invalidate_cache"):
                fs.invalidate_cache()  # a listing kept from earlier could hide a change
            self.is_file = bool(fs.isfile(root))
            exists = self.is_file or bool(fs.exists(root)) or bool(fs.find(root))
        except Exception as exc:
            raise self._error("cannot be reached", exc) from None
        if not exists:
            raise SourceError(f"source {self.location} does not exist; check the address")

    def _error(self, what: str, exc: Exception) -> SourceError:
        # No exception chain here: messages of remote clients can hold signed addresses.
        return SourceError(f"source {self.location} {what} ({type(exc).__name__}: {redact(str(exc))[:300]})")

    def describe(self) -> str:
        """The location without credentials, for messages and observations; it is not part of any digest."""
        return self.location

    def entries(self, rules: IgnoreRules) -> tuple[list[Found], int]:
        """All objects, sorted by path bytes, and how many the rules left out. Keys ending in ``/`` are folders.

        Raises:
            SourceError: the listing fails, or a key is not a canonical path.
        """
        try:
            if self.is_file:
                names = {self._path: self._fs.info(self._path)}
            else:
                names = self._fs.find(self._path, detail=True)
        except Exception as exc:
            raise self._error("cannot be listed", exc) from None
        found: list[Found] = []
        ignored = 0
        for name, info in names.items():
            path = self._relative(name)
            if name.endswith("/") or info.get("type") == "directory":
                continue
            if rules.match(path):
                ignored += 1
                continue
            check_path(path)
            size = info.get("size")
            found.append(Found(path, FileKind.FILE, -1 if size is None else int(size)))
        found.sort(key=lambda item: item.path)
        return found, ignored

    def _relative(self, name: str) -> bytes:
        if self.is_file:
            return name.rstrip("/").rpartition("/")[2].encode("utf-8", "surrogateescape")
        prefix = self._path.rstrip("/") + "/" if self._path.strip("/") else self._path
        if not name.startswith(prefix):
            raise SourceError(f"source {self.location} lists {redact(name)!r}, which lies outside it")
        return name[len(prefix) :].encode("utf-8", "surrogateescape")

    def _full(self, path: bytes) -> str:
        if self.is_file:
            return self._path
        prefix = self._path.rstrip("/") + "/" if self._path.strip("/") else self._path
        return prefix + path.decode("utf-8", "surrogateescape")

    def hash(self, found: Found, pool: ThreadPoolExecutor | None = None) -> FileLeaf:
        """The leaf of one listed object, streamed in 8 MiB chunks.

        Raises:
            SourceChangedError: the object does not have the size that the listing said.
            SourceError: it cannot be read.
        """
        chunks: list[tuple[int, bytes]] = []
        try:
            with self._fs.open(self._full(found.path), "rb") as file:
                while True:
                    length, hasher = 0, hashlib.sha256()
                    while length < CHUNK_SIZE and (piece := file.read(CHUNK_SIZE - length)):
                        hasher.update(piece)
                        length += len(piece)
                    if not length:
                        break
                    chunks.append((length, hasher.digest()))
                    if length < CHUNK_SIZE:
                        break
        except Exception as exc:
            raise self._error(f"has an object {show_path(found.path)} that cannot be read", exc) from None
        size = sum(length for length, _ in chunks)
        if found.size not in (-1, size):
            raise SourceChangedError(
                f"object {show_path(found.path)} in source {self.location} has {size} bytes, the listing said {found.size}; "
                "take the snapshot when nothing writes to it"
            )
        algorithm, digest = digest_from_chunks(chunks)
        return FileLeaf(found.path, FileKind.FILE, size, algorithm, digest)

    def read(self, found: Found, limit: int) -> bytes:
        """The bytes of one object, at most ``limit``.

        Raises:
            SourceError: the object is larger or cannot be read.
        """
        if found.size > limit:
            raise SourceError(f"object {show_path(found.path)} has {found.size} bytes; the limit is {limit}")
        try:
            with self._fs.open(self._full(found.path), "rb") as file:
                data = bytes(file.read(limit + 1))
        except Exception as exc:
            raise self._error(f"has an object {show_path(found.path)} that cannot be read", exc) from None
        if len(data) > limit:
            raise SourceError(f"object {show_path(found.path)} has more than {limit} bytes")
        return data
