"""A file read in any order, of which every byte handed out is one that the file's digest covers.

Invariants:
    * Bytes are read 8 MiB at a time, the chunks of the content digest. A chunk read twice has to have the digest it had first.
    * After `finish`, the chunks together have the digest of the leaf. What was parsed before that is not believed until then.
"""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from collections.abc import Callable

from cognify_dagster.datasets.errors import SourceChangedError
from cognify_dagster.datasets.tree import CHUNK_SIZE, FileLeaf, digest_from_chunks, show_path

_KEPT = 6


class VerifiedReader(io.RawIOBase):
    """A readable, seekable file over verified chunks.

    Args:
        read_range: returns the bytes at an offset, fewer at the end of the file.
        leaf: the file's leaf: size and digest to be found.
        chunk: bytes in a chunk; tests make it small where the digest is of one chunk only.
    """

    def __init__(self, read_range: Callable[[int, int], bytes], leaf: FileLeaf) -> None:
        self._read_range = read_range
        self._leaf = leaf
        self._at = 0
        self._kept: OrderedDict[int, bytes] = OrderedDict()
        self._digests: dict[int, bytes] = {}

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def size(self) -> int:
        """The file's size in bytes."""
        return self._leaf.size

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._leaf.size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        view = memoryview(buffer).cast("B")
        done = 0
        while done < len(view) and self._at < self._leaf.size:
            number, inner = divmod(self._at, CHUNK_SIZE)
            part = memoryview(self._chunk(number))[inner : inner + len(view) - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._at += len(part)
        return done

    def _chunk(self, number: int) -> bytes:
        kept = self._kept.get(number)
        if kept is not None:
            self._kept.move_to_end(number)
            return kept
        start = number * CHUNK_SIZE
        wanted = min(CHUNK_SIZE, self._leaf.size - start)
        data = self._read_range(start, wanted)
        digest = hashlib.sha256(data).digest()
        if len(data) != wanted or self._digests.setdefault(number, digest) != digest:
            raise self._changed()
        self._kept[number] = data
        if len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return data

    def finish(self) -> None:
        """Read what was not asked for, and compare the whole with the leaf.

        Raises:
            SourceChangedError: the file is not the one that was hashed.
        """
        count = -(-self._leaf.size // CHUNK_SIZE)
        for number in range(count):
            if number not in self._digests:
                self._chunk(number)
        chunks = [
            (min(CHUNK_SIZE, self._leaf.size - number * CHUNK_SIZE), self._digests[number]) for number in range(count)
        ]
        if digest_from_chunks(chunks) != (self._leaf.algorithm, self._leaf.digest):
            raise self._changed()

    def _changed(self) -> SourceChangedError:
        return SourceChangedError(
            f"file {show_path(self._leaf.path)} changed between hashing and reading; "
            "take the snapshot when nothing writes to it"
        )
