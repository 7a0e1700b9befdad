"""The files of a snapshot as columns: what a hundred thousand files cost little in.

Invariants:
    * The tree over the columns has the same roots as :class:`~cognify_dagster.datasets.tree.FileTree` over their leaves.
    * Paths are unique and canonical, or the columns are refused.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cached_property
from typing import Any, overload

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.hashing.hash_worker import HEAD_SIZE, KEY_SIZE, NO_KEY
from cognify_dagster.datasets.tree import (
    NO_RECORDS,
    SHARD_BITS,
    ContentAlgorithm,
    FileKind,
    FileLeaf,
    RootFields,
    check_path,
    ignore_digest,
    merkle_root,
    sha256,
    show_path,
)

_SHARDS = 1 << SHARD_BITS
_EMPTY = merkle_root(())
_KINDS = {int(kind): kind for kind in FileKind}
_ALGORITHMS = {int(algorithm): algorithm for algorithm in ContentAlgorithm}


class Level(IntEnum):
    """How a snapshot knows a file's content.

    HASHED: read and hashed for this snapshot. REUSED: hashed for an earlier one, and size, times, inode, device and mode
    are still those of then. PROVIDER: hashed for an earlier one, and the provider says that the object is still the same.
    """

    HASHED = 1
    REUSED = 2
    PROVIDER = 3


@dataclass(frozen=True)
class Origin:
    """The snapshot for which a file was last hashed: its root in hex, and when it started (microseconds since 1970, UTC)."""

    root: str
    time_us: int


@dataclass(frozen=True)
class FolderFiles:
    """Names in one folder, sorted; ``links`` tells symbolic links from files."""

    path: bytes
    names: Sequence[bytes]
    links: bool = False

    def paths(self) -> Iterator[bytes]:
        """The names as paths below the root."""
        prefix = self.path + b"/" if self.path else b""
        return (prefix + name for name in self.names)


@dataclass
class PackedFiles:
    """Files in listing order, one fixed-width item in each column.

    Attributes:
        folders: the names.
        shards: first 2 bytes of SHA-256(path).
        sizes: bytes.
        heads: leaf hash, content digest, kind, algorithm.
        keys: stat keys, zeros where there is none.
        levels: a :class:`Level` each.
        origins: a number each: 0 for this snapshot, otherwise into ``known`` from 1 on.
        known: earlier snapshots.
        tokens, grades: what a provider identifies content by, for remote sources.
    """

    folders: list[FolderFiles] = field(repr=False)
    shards: bytes | bytearray = field(repr=False)
    sizes: array[int] = field(repr=False)
    heads: bytes | bytearray = field(repr=False)
    keys: bytes | bytearray = field(repr=False)
    levels: bytes | bytearray = field(repr=False)
    origins: array[int] = field(repr=False)
    known: tuple[Origin, ...] = ()
    tokens: list[bytes] | None = field(default=None, repr=False)
    grades: list[str] | None = field(default=None, repr=False)

    @classmethod
    def of(cls, leaves: Iterable[FileLeaf]) -> PackedFiles:
        """Columns of leaves, all taken as hashed now."""
        listed = list(leaves)
        for leaf in listed:
            check_path(leaf.path)
            if leaf.record_root is not None:
                raise DatasetError(f"file {show_path(leaf.path)!r} has a record root, which version 1 does not use")
        count = len(listed)
        return cls(
            [FolderFiles(b"", [leaf.path for leaf in listed])],
            b"".join(sha256(leaf.path)[:2] for leaf in listed),
            array("Q", [leaf.size for leaf in listed]),
            b"".join(leaf.leaf_hash() + leaf.digest + bytes((leaf.kind, leaf.algorithm)) for leaf in listed),
            NO_KEY * count,
            bytes([Level.HASHED]) * count,
            array("I", bytes(4 * count)),
        )

    def __len__(self) -> int:
        return len(self.sizes)

    @cached_property
    def paths(self) -> list[bytes]:
        """Paths in listing order."""
        return [path for folder in self.folders for path in folder.paths()]

    @cached_property
    def total_bytes(self) -> int:
        """Content of all files, in bytes."""
        return sum(self.sizes)

    @cached_property
    def _members(self) -> list[list[int]]:
        """The files of each shard, in path order."""
        members: list[list[int]] = [[] for _ in range(_SHARDS)]
        high, low = self.shards[0::2], self.shards[1::2]
        for number, shard in enumerate(map(_shard, high, low)):
            members[shard].append(number)
        paths = self.paths
        for listed in members:
            if len(listed) > 1:
                listed.sort(key=paths.__getitem__)
                before = paths[listed[0]]
                for number in listed[1:]:
                    here = paths[number]
                    if here == before:
                        raise DatasetError(f"path {show_path(here)!r} occurs twice; every file needs its own path")
                    before = here
        return members

    @cached_property
    def order(self) -> array[int]:
        """Manifest order: by shard, then path bytes; numbers into the listing order."""
        return array("I", [number for listed in self._members for number in listed])

    def shard_of(self, number: int) -> int:
        """The shard of a file."""
        return _shard(self.shards[2 * number], self.shards[2 * number + 1])

    @cached_property
    def shard_roots(self) -> list[bytes]:
        """Root of each shard."""
        return [self._root_of(listed) for listed in self._members]

    def _root_of(self, listed: Sequence[int]) -> bytes:
        heads = self.heads
        return merkle_root([bytes(heads[n * HEAD_SIZE : n * HEAD_SIZE + 32]) for n in listed]) if listed else _EMPTY

    def take_over(self, order: array[int], shard_roots: Sequence[bytes], changed: Iterable[int]) -> None:
        """Take over the order and shard roots of an earlier listing with the same paths in the same places.

        Args:
            order: its manifest order.
            shard_roots: its shard roots.
            changed: files whose leaf may be another one; their shards are computed again.
        """
        roots = list(shard_roots)
        touched = {self.shard_of(number) for number in changed}
        if len(touched) * 4 > _SHARDS:  # most of the tree is new: the plain way is the faster one
            self.__dict__["order"] = order
            members: list[list[int]] = [[] for _ in range(_SHARDS)]
            high, low = self.shards[0::2], self.shards[1::2]
            for number in order:
                members[_shard(high[number], low[number])].append(number)
            self.__dict__["_members"] = members
            return
        if touched:
            members = [[] for _ in range(_SHARDS)]
            high, low = self.shards[0::2], self.shards[1::2]
            for number in order:
                shard = _shard(high[number], low[number])
                if shard in touched:
                    members[shard].append(number)
            for shard in touched:
                roots[shard] = self._root_of(members[shard])
        self.__dict__["order"] = order
        self.__dict__["shard_roots"] = roots

    @cached_property
    def tree_root(self) -> bytes:
        """Root over all shards."""
        return root_over(self.shard_roots)

    def fields(self, record_root: bytes = NO_RECORDS, ignore: bytes | None = None) -> RootFields:
        """The root fields of these files."""
        return RootFields(
            len(self), self.total_bytes, record_root, ignore_digest(()) if ignore is None else ignore, SHARD_BITS
        )

    def digest(self, number: int) -> bytes:
        """Content digest of a file."""
        return bytes(self.heads[number * HEAD_SIZE + 32 : number * HEAD_SIZE + 64])

    def key(self, number: int) -> bytes:
        """Stat key of a file."""
        return bytes(self.keys[number * KEY_SIZE : (number + 1) * KEY_SIZE])

    def leaf(self, number: int) -> FileLeaf:
        """The leaf of a file."""
        kind, algorithm = self.heads[number * HEAD_SIZE + 64], self.heads[number * HEAD_SIZE + 65]
        return FileLeaf(
            self.paths[number], _KINDS[kind], self.sizes[number], _ALGORITHMS[algorithm], self.digest(number)
        )

    def counts(self) -> dict[str, int]:
        """How many files each evidence level has."""
        return {level.name.lower(): self.levels.count(int(level)) for level in Level}

    def algorithms(self) -> set[ContentAlgorithm]:
        """The digest algorithms that occur."""
        return {_ALGORITHMS[value] for value in set(self.heads[65::HEAD_SIZE])}


def _shard(high: int, low: int) -> int:
    return high << 4 | low >> 4


def root_over(shard_roots: Sequence[bytes]) -> bytes:
    """The root of the complete binary tree over shard roots, whose number is a power of two."""
    level = list(shard_roots)
    while len(level) > 1:
        level = [sha256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level), 2)]
    return level[0]


class Leaves(Sequence[FileLeaf]):
    """The leaves of packed files in manifest order, made when they are asked for."""

    def __init__(self, packed: PackedFiles) -> None:
        self.packed = packed

    def __len__(self) -> int:
        return len(self.packed)

    @overload
    def __getitem__(self, index: int) -> FileLeaf: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[FileLeaf, ...]: ...
    def __getitem__(self, index: int | slice) -> FileLeaf | tuple[FileLeaf, ...]:
        if isinstance(index, slice):
            return tuple(self.packed.leaf(number) for number in self.packed.order[index])
        return self.packed.leaf(self.packed.order[index])

    def __iter__(self) -> Iterator[FileLeaf]:
        leaf = self.packed.leaf
        return (leaf(number) for number in self.packed.order)

    def __eq__(self, other: Any) -> bool:
        if isinstance(other, Sequence) and not isinstance(other, (str, bytes)):
            return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))
        return NotImplemented

    def __hash__(self) -> int:
        return hash(self.packed.tree_root)

    def __repr__(self) -> str:
        return f"<leaves of {len(self)} files>"
