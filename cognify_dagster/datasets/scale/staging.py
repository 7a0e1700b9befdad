"""A place where the steps of one snapshot leave bytes for each other: a folder that all of them see, or an fsspec address.

Invariants:
    * Everything is named by its SHA-256 and checked against it when it is read, so a step never works on bytes that are not those
      that another step left; nothing that is read can run code.
    * A name is a fixed word and hexadecimal digits: no name leads out of the place.
    * A local file appears under its name only when it is whole and on disk.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.sources.remote import redact

_NAME = re.compile(r"[a-z]{1,20}-[0-9a-f]{64}")
MAX_DOCUMENT_BYTES = 1 << 30


class StagingError(DatasetError):
    """Something that an earlier step left is gone or is not what it left."""


class Staging:
    """The place.

    Args:
        place: a local folder, or an fsspec address such as ``s3://bucket/staging/loans``.
    """

    def __init__(self, place: str | os.PathLike[str]) -> None:
        self._place = os.fspath(place)
        self._fs: Any = None
        if "://" in self._place:
            from fsspec.core import url_to_fs
            from fsspec.implementations.local import LocalFileSystem

            self._fs, self._root = url_to_fs(self._place.rstrip("/"))
            if isinstance(self._fs, LocalFileSystem):
                self._fs, self._place = None, str(self._root)
        self.label = redact(self._place)

    def put(self, word: str, data: bytes) -> str:
        """Leave bytes; return their name. The same bytes have the same name, so doing it again changes nothing."""
        name = f"{word}-{hashlib.sha256(data).hexdigest()}"
        self._check(name)
        if self._fs is not None:
            self._fs.makedirs(self._root, exist_ok=True)
            self._fs.pipe_file(f"{self._root}/{name}", data)
            return name
        folder = Path(self._place)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, temporary = tempfile.mkstemp(dir=folder, prefix=".part-")
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, folder / name)
        except BaseException:
            os.unlink(temporary)
            raise
        return name

    def put_json(self, word: str, value: Any) -> str:
        """Leave a JSON value."""
        return self.put(word, json.dumps(value, sort_keys=True, separators=(",", ":")).encode())

    def get(self, name: str) -> bytes:
        """The bytes of a name.

        Raises:
            StagingError: they are gone, or others.
        """
        return self._checked(name, self._read(name, None), name.rpartition("-")[2])

    def get_json(self, name: str) -> Any:
        """The JSON value of a name; raises as :meth:`get`."""
        return json.loads(self.get(name))

    def get_part(self, name: str, start: int, length: int, digest: str) -> bytes:
        """Some of the bytes of a name, which have a SHA-256 (hex) of their own; raises as :meth:`get`."""
        return self._checked(name, self._read(name, (start, start + length)), digest)

    def _read(self, name: str, bounds: tuple[int, int] | None) -> bytes:
        self._check(name)
        start, end = bounds or (0, None)
        if bounds is not None and start == end:
            return b""
        try:
            if self._fs is not None:
                more = {} if bounds is None else {"start": start, "end": end}
                return bytes(self._fs.cat_file(f"{self._root}/{name}", **more))
            with open(Path(self._place) / name, "rb") as stream:
                stream.seek(start)
                return stream.read() if end is None else stream.read(end - start)
        except FileNotFoundError:
            raise StagingError(
                f"{name} is not in {self.label} any more; it was cleared, or the steps do not share that place. Start a new run "
                "from its first step, with a staging place that every step can reach"
            ) from None

    def _checked(self, name: str, data: bytes, digest: str) -> bytes:
        if hashlib.sha256(data).hexdigest() != digest:
            raise StagingError(
                f"{name} in {self.label} does not hold what an earlier step left there; find out who writes to that place, then "
                "start a new run from its first step"
            )
        return data

    @staticmethod
    def _check(name: str) -> None:
        if not _NAME.fullmatch(name):
            raise StagingError(f"{name[:100]!r} is no name of something staged")

    def clear(self) -> None:
        """Remove the place and everything in it; what cannot be removed stays."""
        if self._fs is None:
            shutil.rmtree(self._place, ignore_errors=True)
            return
        try:
            self._fs.rm(self._root, recursive=True)
        except FileNotFoundError:
            return
