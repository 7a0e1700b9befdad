"""The work of a snapshot in three steps that any executor can spread: map, reduce, root.

All functions are pure, and their arguments and results are bytes, numbers and plain lists, so they can be pickled and sent to
other processes or machines that see the same data::

    parts = [map_files(source, folders) for folders in ...]          # in parallel, cut as you like
    ranges = [reduce_shard_range(parts, a, b) for a, b in ...]       # in parallel, by shard
    root = root_from_shards(ranges)

Invariant: the root is the one that :func:`cognify_dagster.datasets.take_snapshot` finds, however the work was cut.

A row is ``u16 shard, u8 kind, u8 algorithm, u32 path length, u64 size, 32-byte digest, path`` in big-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.hashing.hash_worker import HEAD_SIZE
from cognify_dagster.datasets.hashing.packed import PackedFiles, root_over
from cognify_dagster.datasets.hashing.run import hash_local, hash_names
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import LocalSource
from cognify_dagster.datasets.tree import (
    NO_RECORDS,
    SHARD_BITS,
    ContentAlgorithm,
    FileKind,
    FileLeaf,
    RootFields,
    dataset_root,
    ignore_digest,
)

_ROW = struct.Struct(">HBBIQ32s")
_SHARDS = 1 << SHARD_BITS


@dataclass(frozen=True)
class FolderNames:
    """Part of a source: a folder's path below the root, and names of files in it."""

    path: bytes
    names: tuple[bytes, ...]


@dataclass(frozen=True)
class ShardRange:
    """What a reduce step gives for the shards ``first`` up to, not including, ``past``.

    Attributes:
        roots: 32 bytes a shard.
        files, total_bytes: how many, and their content.
        rows: the rows of the range in manifest order.
    """

    first: int
    past: int
    roots: bytes
    files: int
    total_bytes: int
    rows: bytes

    def manifest_part(self) -> bytes:
        """The range's part of the file manifest (Parquet); parts in order make the manifest.

        Raises:
            TableError: pyarrow is not installed.
        """
        from cognify_dagster.datasets.manifest import file_manifest_bytes

        return file_manifest_bytes(list(leaves_of([self.rows])))


def list_files(source: str, ignore: Sequence[str] = (), at_most: int = 10_000) -> Iterator[list[FolderNames]]:
    """The regular files of a local folder, in portions of at most so many; links are left to :func:`map_links`.

    Raises:
        SourceError: something cannot be listed.
    """
    opened = LocalSource(source)
    portion: list[FolderNames] = []
    room = at_most
    with opened.open_root() as root:
        for listed in opened.walk(root, IgnoreRules(ignore)):
            start = 0
            while start < len(listed.files):
                names = tuple(listed.files[start : start + room])
                portion.append(FolderNames(listed.path, names))
                start += len(names)
                room -= len(names)
                if not room:
                    yield portion
                    portion, room = [], at_most
    if portion:
        yield portion


def map_files(source: str, folders: Sequence[FolderNames]) -> bytes:
    """Hash files of a local source, in this process; return their rows.

    Raises:
        SourceError: one cannot be read, or changed while it was read.
    """
    return rows_of(hash_names(LocalSource(source), [(item.path, item.names) for item in folders]))


def map_links(source: str, ignore: Sequence[str] = ()) -> bytes:
    """The rows of a local source's symbolic links.

    Raises:
        SourceError: something cannot be listed.
    """
    from cognify_dagster.datasets.tree import symlink_leaf

    opened = LocalSource(source)
    leaves = []
    with opened.open_root() as root:
        for listed in opened.walk(root, IgnoreRules(ignore)):
            prefix = listed.path + b"/" if listed.path else b""
            leaves += [symlink_leaf(prefix + name, target) for name, target in listed.links]
    return rows_of(PackedFiles.of(leaves))


def map_source(source: str, ignore: Sequence[str] = ()) -> bytes:
    """All rows of a local source, by this machine's processes and threads."""
    return rows_of(hash_local(LocalSource(source), IgnoreRules(ignore)).files)


def rows_of(files: PackedFiles) -> bytes:
    """Packed files as rows."""
    heads, sizes = files.heads, files.sizes
    parts = []
    for number, path in enumerate(files.paths):
        at = HEAD_SIZE * number
        digest, kind, algorithm = bytes(heads[at + 32 : at + 64]), heads[at + 64], heads[at + 65]
        parts += [_ROW.pack(files.shard_of(number), kind, algorithm, len(path), sizes[number], digest), path]
    return b"".join(parts)


def leaves_of(parts: Iterable[bytes], first: int = 0, past: int = _SHARDS) -> Iterator[FileLeaf]:
    """The leaves of rows whose shard lies in a range.

    Raises:
        DatasetError: the rows are damaged.
    """
    try:
        for part in parts:
            place = 0
            while place < len(part):
                shard, kind, algorithm, length, size, digest = _ROW.unpack_from(part, place)
                place += _ROW.size
                path = part[place : place + length]
                place += length
                if len(path) != length:
                    raise DatasetError("rows of a snapshot end in the middle of one")
                if first <= shard < past:
                    yield FileLeaf(path, FileKind(kind), size, ContentAlgorithm(algorithm), digest)
    except (struct.error, ValueError) as error:
        raise DatasetError(f"rows of a snapshot are damaged ({error})") from error


def split_rows(rows: bytes, ranges: Sequence[tuple[int, int]]) -> list[bytes]:
    """Rows cut by shard ranges: what a map step hands to each reduce step."""
    return [rows_of(PackedFiles.of(leaves_of([rows], first, past))) for first, past in ranges]


def reduce_shard_range(rows: Iterable[bytes], first: int, past: int) -> ShardRange:
    """Sort the rows of a shard range and find its shard roots.

    Args:
        rows: from any map steps, in any order; rows of other shards are passed over.
        first, past: the range; ``past`` is not part of it.

    Raises:
        DatasetError: a path occurs twice, or rows are damaged.
    """
    if not 0 <= first < past <= _SHARDS:
        raise DatasetError(f"shards {first} to {past} are no range of the {_SHARDS} shards")
    files = PackedFiles.of(leaves_of(rows, first, past))
    roots = files.shard_roots[first:past]
    ordered = rows_of(PackedFiles.of(files.leaf(number) for number in files.order))
    return ShardRange(first, past, b"".join(roots), len(files), files.total_bytes, ordered)


def root_from_shards(
    ranges: Iterable[ShardRange], record_root: bytes = NO_RECORDS, ignore: Sequence[str] = ()
) -> tuple[bytes, bytes, RootFields]:
    """The dataset root from all shard ranges; also the tree root and the root fields.

    Raises:
        DatasetError: the ranges do not cover every shard once.
    """
    ordered = sorted(ranges, key=lambda item: item.first)
    covered = 0
    roots: list[bytes] = []
    for item in ordered:
        if item.first != covered or len(item.roots) != 32 * (item.past - item.first):
            raise DatasetError(f"the shard ranges do not cover every shard once: expected shard {covered} next")
        covered = item.past
        roots += [item.roots[start : start + 32] for start in range(0, len(item.roots), 32)]
    if covered != _SHARDS:
        raise DatasetError(f"the shard ranges do not cover every shard once: they end at {covered}")
    tree_root = root_over(roots)
    total = sum(item.total_bytes for item in ordered)
    fields = RootFields(sum(item.files for item in ordered), total, record_root, ignore_digest(sorted(set(ignore))))
    return dataset_root(tree_root, fields), tree_root, fields
