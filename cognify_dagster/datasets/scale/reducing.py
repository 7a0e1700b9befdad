"""Rows of a shard range to shard roots and a part of the manifest, at a few microseconds and some 300 bytes a row.

The rows are those of :mod:`cognify_dagster.datasets.hashing.mapreduce`, and so is the result; what differs is that nothing is an
object here but the paths.

Invariants:
    * A row counts only in the shard that its path has, and a path only once.
    * A part of the manifest holds the rows that its shard roots cover, in their order.
"""

from __future__ import annotations

import hashlib
import re
import struct
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.hashing.mapreduce import ShardRange
from cognify_dagster.datasets.hashing.packed import PackedFiles
from cognify_dagster.datasets.tree import (
    MAX_PATH_BYTES,
    SHARD_BITS,
    ContentAlgorithm,
    FileKind,
    FileLeaf,
    check_path,
    merkle_root,
    show_path,
)

SHARDS = 1 << SHARD_BITS
ROW = struct.Struct(">HBBIQ32s")
_TAG = b"\x00cognify/file/v1"
_KIND_LENGTH = struct.Struct(">BI")
_SIZE_ALGORITHM = struct.Struct(">QB")
_ODD = re.compile(rb"\A\Z|(?:\A|/)\.{0,2}(?:/|\Z)|\x00")
_KINDS = frozenset(int(kind) for kind in FileKind)
_ALGORITHMS = frozenset(int(algorithm) for algorithm in ContentAlgorithm)
_EMPTY = merkle_root(())


@dataclass
class FileColumns:
    """Files in manifest order, a column each.

    Attributes:
        shards, kinds, sizes, algorithms: numbers.
        paths: raw bytes.
        digests: 32 bytes a file.
    """

    shards: array[int] = field(default_factory=lambda: array("I"))
    paths: list[bytes] = field(default_factory=list)
    kinds: bytearray = field(default_factory=bytearray)
    sizes: array[int] = field(default_factory=lambda: array("Q"))
    algorithms: bytearray = field(default_factory=bytearray)
    digests: bytearray = field(default_factory=bytearray)

    def __len__(self) -> int:
        return len(self.paths)

    def leaf(self, number: int) -> FileLeaf:
        """One file as a leaf."""
        return FileLeaf(
            self.paths[number],
            FileKind(self.kinds[number]),
            self.sizes[number],
            ContentAlgorithm(self.algorithms[number]),
            bytes(self.digests[32 * number : 32 * number + 32]),
        )

    def leaf_hashes(self) -> list[bytes]:
        """The leaf hash of each file."""
        sha, head, tail, digests = hashlib.sha256, _KIND_LENGTH.pack, _SIZE_ALGORITHM.pack, self.digests
        out = []
        place = 0
        for path, kind, size, algorithm in zip(self.paths, self.kinds, self.sizes, self.algorithms, strict=True):
            body = (_TAG, head(kind, len(path)), path, tail(size, algorithm), digests[place : place + 32])
            out.append(sha(b"".join(body)).digest())
            place += 32
        return out

    def bounds(self) -> list[tuple[int, int, int]]:
        """(shard, first file, past its last file) of every shard that holds files."""
        out, start = [], 0
        count = len(self.shards)
        while start < count:
            shard, past = self.shards[start], start + 1
            while past < count and self.shards[past] == shard:
                past += 1
            out.append((shard, start, past))
            start = past
        return out


@dataclass(frozen=True)
class Reduced:
    """What one shard range came to.

    Attributes:
        range: roots and counts; without rows.
        columns: its files.
        algorithms: the digest algorithms that occur.
    """

    range: ShardRange
    columns: FileColumns = field(repr=False)
    algorithms: tuple[str, ...]


def range_of(shard: int, ranges: int) -> int:
    """Which of so many equal shard ranges a shard lies in."""
    return shard * ranges >> SHARD_BITS


def range_bounds(ranges: int) -> list[tuple[int, int]]:
    """The shard ranges, if the shards are cut into so many of equal size.

    Raises:
        DatasetError: it is no power of two up to 4096.
    """
    if ranges < 1 or ranges > SHARDS or ranges & (ranges - 1):
        raise DatasetError(f"the shards can be cut into 1, 2, 4 … {SHARDS} ranges, not {ranges}")
    width = SHARDS // ranges
    return [(first, first + width) for first in range(0, SHARDS, width)]


def sections_of(files: PackedFiles, ranges: int) -> list[bytes]:
    """The rows of packed files, cut by shard range: what a map step hands to each reduce step."""
    parts: list[list[bytes]] = [[] for _ in range(ranges)]
    heads, sizes = files.heads, files.sizes
    pack = ROW.pack
    for number, path in enumerate(files.paths):
        at = 66 * number
        shard = files.shard_of(number)
        row = pack(shard, heads[at + 64], heads[at + 65], len(path), sizes[number], bytes(heads[at + 32 : at + 64]))
        parts[range_of(shard, ranges)] += (row, path)
    return [b"".join(part) for part in parts]


def reduce_range(parts: Iterable[bytes], first: int, past: int) -> Reduced:
    """Sort the rows of a shard range and find its shard roots.

    Args:
        parts: rows of this range alone, from any map steps, in any order.
        first, past: the range.

    Raises:
        DatasetError: rows are damaged or belong elsewhere, or a path occurs twice.
    """
    if not 0 <= first < past <= SHARDS:
        raise DatasetError(f"shards {first} to {past} are no range of the {SHARDS} shards")
    entries = sorted(_entries(parts, first, past))
    columns = FileColumns()
    before = b""
    for key, kind, algorithm, size, digest in entries:
        if key == before:
            raise DatasetError(f"path {show_path(key[2:])!r} occurs twice; every file needs its own path")
        before = key
        columns.shards.append(key[0] << 8 | key[1])
        columns.paths.append(key[2:])
        columns.kinds.append(kind)
        columns.sizes.append(size)
        columns.algorithms.append(algorithm)
        columns.digests += digest
    del entries
    hashes = columns.leaf_hashes()
    roots = [_EMPTY] * (past - first)
    for shard, start, end in columns.bounds():
        roots[shard - first] = merkle_root(hashes[start:end])
    found = ShardRange(first, past, b"".join(roots), len(columns), sum(columns.sizes), b"")
    labels = tuple(sorted(ContentAlgorithm(value).label for value in set(columns.algorithms)))
    return Reduced(found, columns, labels)


def _entries(parts: Iterable[bytes], first: int, past: int) -> list[tuple[bytes, int, int, int, bytes]]:
    out = []
    unpack, head, sha, odd = ROW.unpack_from, ROW.size, hashlib.sha256, _ODD.search
    for part in parts:
        place, end = 0, len(part)
        while place < end:
            if place + head > end:
                raise DatasetError("rows of a snapshot end in the middle of one")
            shard, kind, algorithm, length, size, digest = unpack(part, place)
            start = place + head
            place = start + length
            path = part[start:place]
            if place > end or kind not in _KINDS or algorithm not in _ALGORITHMS:
                raise DatasetError("rows of a snapshot are damaged")
            drawn = sha(path).digest()
            if shard != drawn[0] << 4 | drawn[1] >> 4 or not first <= shard < past:
                raise DatasetError(f"the row of {show_path(path)!r} names shard {shard}, where it does not belong")
            if length > MAX_PATH_BYTES or odd(path):
                check_path(path)
            out.append((shard.to_bytes(2, "big") + path, kind, algorithm, size, digest))
    return out
