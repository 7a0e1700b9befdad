"""The file tree and the dataset root: pure functions over bytes, no I/O.

Invariants:
    * The root depends only on relative paths, file kinds, sizes, contents, records and ignore rules. Times, owners,
      locations, worker counts and listing order have no influence on it.
    * Leaves start with 0x00, inner nodes with 0x01, roots with 0x02, so none can pass for another (RFC 6962, section 2.1).
    * An odd node is promoted, never duplicated, so two different lists of leaves never share a root.
    * Integers are unsigned and big-endian; every variable part is preceded by its length.

The byte layout is described in ``docs/dataset-format.md``.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise

from cognify_dagster.datasets.errors import DatasetError, SourceError

CHUNK_SIZE = 8 * 1024 * 1024
"""Bytes in a content chunk (8 MiB). Files up to this size have their plain SHA-256 as digest."""
SHARD_BITS = 12
"""Bits of SHA-256(path) that choose a file's shard: 4096 shards."""
MAX_PATH_BYTES = 65_535
"""Longest relative path accepted, in bytes."""

NO_RECORDS = bytes(32)
"""Record root of a snapshot whose records were not taken (an empty set of records has a root of its own)."""

_FILE_TAG = b"\x00cognify/file/v1"
_DATASET_TAG = b"\x02cognify/dataset/v1"
_IGNORE_TAG = b"\x02cognify/ignore/v1"
_EMPTY = hashlib.sha256(b"").digest()


class FileKind(IntEnum):
    """What a leaf stands for. ``EMPTY_DIRECTORY`` is reserved: version 1 snapshots leave empty folders out."""

    FILE = 1
    SYMLINK = 2
    EMPTY_DIRECTORY = 3


class ContentAlgorithm(IntEnum):
    """How a content digest was made."""

    SHA256 = 1
    SHA256_CHUNKED_8MIB = 2

    @property
    def label(self) -> str:
        """The name used in headers and documents."""
        return "sha256" if self is ContentAlgorithm.SHA256 else "sha256-chunked-8MiB"


def sha256(data: bytes) -> bytes:
    """SHA-256 of ``data`` (FIPS 180-4)."""
    return hashlib.sha256(data).digest()


# --- Merkle tree, RFC 6962 shape -------------------------------------------------------------------------------------


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """RFC 6962 tree hash over leaf hashes; the empty list gives SHA-256 of the empty string."""
    if not leaves:
        return _EMPTY
    digest = hashlib.sha256
    level = list(leaves)
    while len(level) > 1:
        pairs = [digest(b"\x01" + left + right).digest() for left, right in zip(level[0::2], level[1::2], strict=False)]
        if len(level) % 2:
            pairs.append(level[-1])
        level = pairs
    return level[0]


def merkle_path(leaves: Sequence[bytes], index: int) -> tuple[bytes, ...]:
    """The sibling hashes, from the leaf upwards, that prove ``leaves[index]`` (RFC 6962, section 2.1.1).

    Raises:
        DatasetError: the index is outside the list.
    """
    if not 0 <= index < len(leaves):
        raise DatasetError(f"leaf index {index} is outside a tree of {len(leaves)} leaves")
    digest = hashlib.sha256
    level = list(leaves)
    siblings: list[bytes] = []
    while len(level) > 1:
        other = index ^ 1
        if other < len(level):
            siblings.append(level[other])
        pairs = [digest(b"\x01" + left + right).digest() for left, right in zip(level[0::2], level[1::2], strict=False)]
        if len(level) % 2:
            pairs.append(level[-1])
        level = pairs
        index //= 2
    return tuple(siblings)


def root_from_path(leaf: bytes, index: int, size: int, siblings: Sequence[bytes]) -> bytes:
    """The root that a membership proof leads to (RFC 9162, section 2.1.3.2).

    Raises:
        DatasetError: the index is outside the tree, or the proof has too few or too many hashes.
    """
    if not 0 <= index < size:
        raise DatasetError(f"leaf index {index} is outside a tree of {size} leaves")
    node, last, here = index, size - 1, leaf
    for sibling in siblings:
        if len(sibling) != 32:
            raise DatasetError("a proof hash is not 32 bytes long")
        if last == 0:
            raise DatasetError("the proof has more hashes than the tree has levels")
        if node % 2 or node == last:
            here = sha256(b"\x01" + sibling + here)
            while node % 2 == 0 and node != 0:
                node //= 2
                last //= 2
        else:
            here = sha256(b"\x01" + here + sibling)
        node //= 2
        last //= 2
    if last != 0:
        raise DatasetError("the proof has fewer hashes than the tree has levels")
    return here


# --- content -----------------------------------------------------------------------------------------------------------


def chunk_leaf(index: int, length: int, digest: bytes) -> bytes:
    """Leaf of one 8 MiB chunk: ``H(0x00 || u64 index || u64 length || SHA-256 of the chunk)``."""
    return sha256(struct.pack(">BQQ", 0, index, length) + digest)


def digest_from_chunks(chunks: Sequence[tuple[int, bytes]]) -> tuple[ContentAlgorithm, bytes]:
    """The content digest of a file, from ``(length, SHA-256)`` of its consecutive 8 MiB chunks.

    Raises:
        DatasetError: a chunk other than the last is not exactly 8 MiB long.
    """
    if any(length != CHUNK_SIZE for length, _ in chunks[:-1]) or (chunks and chunks[-1][0] > CHUNK_SIZE):
        raise DatasetError("every chunk but the last has to be 8 MiB long")
    if not chunks:
        return ContentAlgorithm.SHA256, _EMPTY
    if len(chunks) == 1:
        return ContentAlgorithm.SHA256, chunks[0][1]
    leaves = [chunk_leaf(index, length, digest) for index, (length, digest) in enumerate(chunks)]
    return ContentAlgorithm.SHA256_CHUNKED_8MIB, merkle_root(leaves)


def content_digest(data: bytes | memoryview) -> tuple[ContentAlgorithm, bytes]:
    """The content digest of bytes held in memory: plain SHA-256 up to 8 MiB, the chunk tree's root above."""
    view = memoryview(data).cast("B")
    pieces = [view[start : start + CHUNK_SIZE] for start in range(0, len(view), CHUNK_SIZE)]
    return digest_from_chunks([(len(piece), hashlib.sha256(piece).digest()) for piece in pieces])


# --- paths and leaves --------------------------------------------------------------------------------------------------


def check_path(path: bytes) -> None:
    """Refuse a relative path that is not in canonical form.

    Raises:
        SourceError: the path is empty or too long, starts with ``/``, holds NUL, or has an empty, ``.`` or ``..`` part.
    """
    shown = show_path(path)
    if not path or len(path) > MAX_PATH_BYTES:
        raise SourceError(f"path {shown[:200]!r} is empty or longer than {MAX_PATH_BYTES} bytes; rename the file")
    if b"\x00" in path:
        raise SourceError(f"path {shown!r} holds a NUL byte; rename the file")
    if any(part in (b"", b".", b"..") for part in path.split(b"/")):
        raise SourceError(f"path {shown!r} has an empty, '.' or '..' part; rename the file")


def show_path(path: bytes) -> str:
    """A path as text for people: UTF-8, with bytes that are not UTF-8 written as ``\\xNN``."""
    return path.decode("utf-8", "backslashreplace")


def shard_of(path: bytes, bits: int = SHARD_BITS) -> int:
    """The shard of a path: the first ``bits`` bits of SHA-256(path)."""
    return int.from_bytes(sha256(path)[:4], "big") >> (32 - bits)


@dataclass(frozen=True)
class FileLeaf:
    """One file (or symbolic link) of a dataset.

    Attributes:
        path: relative path as raw bytes, separated by ``/``, never normalised.
        kind: see :class:`FileKind`.
        size: content length in bytes (for a link: length of the target text).
        algorithm: how ``digest`` was made.
        digest: 32 bytes.
        record_root: optional root over this file's own records; version 1 snapshots do not set it.
    """

    path: bytes
    kind: FileKind
    size: int
    algorithm: ContentAlgorithm
    digest: bytes
    record_root: bytes | None = None

    def encode(self) -> bytes:
        """The bytes whose SHA-256 is the leaf hash."""
        hashes = (self.digest,) if self.record_root is None else (self.digest, self.record_root)
        if any(len(part) != 32 for part in hashes):
            raise DatasetError(f"the leaf of {show_path(self.path)!r} has a digest that is not 32 bytes long")
        return b"".join(
            (
                _FILE_TAG,
                struct.pack(">BI", self.kind, len(self.path)),
                self.path,
                struct.pack(">QB", self.size, self.algorithm),
                self.digest,
                self.record_root or b"",
            )
        )

    def leaf_hash(self) -> bytes:
        """The leaf hash."""
        return sha256(self.encode())


def symlink_leaf(path: bytes, target: bytes) -> FileLeaf:
    """The leaf of a symbolic link: its content is the target text, and the target is not followed."""
    return FileLeaf(path, FileKind.SYMLINK, len(target), ContentAlgorithm.SHA256, sha256(target))


def ignore_digest(rules: Iterable[str]) -> bytes:
    """Digest of the ignore rules: order and repetition do not matter.

    ``H(0x02 || "cognify/ignore/v1" || u32 count || for each, sorted by UTF-8 bytes: u32 length || UTF-8)``.
    """
    encoded = sorted({rule.encode() for rule in rules})
    return sha256(
        _IGNORE_TAG + struct.pack(">I", len(encoded)) + b"".join(struct.pack(">I", len(r)) + r for r in encoded)
    )


@dataclass(frozen=True)
class RootFields:
    """What the dataset root commits to, apart from the file tree itself."""

    file_count: int
    total_bytes: int
    record_root: bytes = NO_RECORDS
    ignore_digest: bytes = ignore_digest(())
    shard_bits: int = SHARD_BITS


def dataset_root(tree_root: bytes, fields: RootFields) -> bytes:
    """The dataset root.

    ``H(0x02 || "cognify/dataset/v1" || u8 shard bits || u64 files || u64 bytes || tree root || record root || ignore digest)``.
    """
    if any(len(part) != 32 for part in (tree_root, fields.record_root, fields.ignore_digest)):
        raise DatasetError("a hash in the root fields is not 32 bytes long")
    return sha256(
        _DATASET_TAG
        + struct.pack(">BQQ", fields.shard_bits, fields.file_count, fields.total_bytes)
        + tree_root
        + fields.record_root
        + fields.ignore_digest
    )


class FileTree:
    """The 4096-shard Merkle tree over file leaves.

    Args:
        leaves: in any order.
        bits: shard bits, 1 to 20; version 1 snapshots use 12.

    Raises:
        DatasetError: two leaves have the same path, or a path is not canonical.
    """

    def __init__(self, leaves: Iterable[FileLeaf], bits: int = SHARD_BITS) -> None:
        if not 1 <= bits <= 20:
            raise DatasetError(f"shard bits must lie between 1 and 20, not {bits}")
        self.bits = bits
        self.shards: dict[int, list[FileLeaf]] = {}
        count = total = 0
        for leaf in leaves:
            check_path(leaf.path)
            self.shards.setdefault(shard_of(leaf.path, bits), []).append(leaf)
            count += 1
            total += leaf.size
        for members in self.shards.values():
            members.sort(key=lambda leaf: leaf.path)
            for left, right in pairwise(members):
                if left.path == right.path:
                    raise DatasetError(f"path {show_path(left.path)!r} occurs twice; every file needs its own path")
        self.file_count = count
        self.total_bytes = total
        level = [_EMPTY] * (1 << bits)
        for shard, members in self.shards.items():
            level[shard] = merkle_root([leaf.leaf_hash() for leaf in members])
        self.levels: list[list[bytes]] = [level]
        while len(level) > 1:
            level = [sha256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level), 2)]
            self.levels.append(level)

    @property
    def tree_root(self) -> bytes:
        """Root over all shards."""
        return self.levels[-1][0]

    @property
    def shard_roots(self) -> list[bytes]:
        """The roots of the shards, by shard number; an empty shard has SHA-256 of the empty string."""
        return self.levels[0]

    def sorted_leaves(self) -> list[FileLeaf]:
        """All leaves in manifest order: by shard, then by path bytes."""
        return [leaf for shard in sorted(self.shards) for leaf in self.shards[shard]]

    def upper_path(self, shard: int) -> tuple[bytes, ...]:
        """The sibling hashes between a shard root and the tree root, from below."""
        siblings = []
        for level in self.levels[:-1]:
            siblings.append(level[shard ^ 1])
            shard //= 2
        return tuple(siblings)

    def fields(self, record_root: bytes = NO_RECORDS, ignore: bytes | None = None) -> RootFields:
        """The root fields of this tree with the given record root and ignore digest."""
        return RootFields(
            self.file_count, self.total_bytes, record_root, ignore_digest(()) if ignore is None else ignore, self.bits
        )
