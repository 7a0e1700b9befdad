"""Differences and proofs from large manifests: only the shards that matter are read.

Invariant: every answer rests on shards whose files give their root, and on shard roots that give the snapshot's.
"""

from __future__ import annotations

import bisect
import hashlib
import struct
from dataclasses import dataclass

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.proofs import FileAbsence, FileProof, Step
from cognify_dagster.datasets.scale.manifests import LargeManifest
from cognify_dagster.datasets.scale.reducing import FileColumns
from cognify_dagster.datasets.tree import FileLeaf, check_path, merkle_path, merkle_root, sha256, shard_of, show_path

_EMPTY = merkle_root(())


@dataclass(frozen=True)
class LeafDiff:
    """Files that are not the same in two manifests.

    Attributes:
        old: leaves that only the old one has (removed files, and the old form of changed ones).
        new: leaves that only the new one has.
        unchanged: files that are the same.
        shards: how many shards differ, and therefore were read.
    """

    old: list[FileLeaf]
    new: list[FileLeaf]
    unchanged: int
    shards: int


def diff_manifests(old: LargeManifest, new: LargeManifest) -> LeafDiff:
    """Compare two manifests; shards with equal roots are not read.

    Memory grows with the number of files that differ, not with the number of files.

    Raises:
        ManifestError: the files of a shard do not give its root.
    """
    differ = [n for n, (a, b) in enumerate(zip(old.shard_roots, new.shard_roots, strict=True)) if a != b]
    gone: list[FileLeaf] = []
    come: list[FileLeaf] = []
    left, right = old.shards(differ), new.shards(differ)
    before, after = next(left, None), next(right, None)
    for shard in differ:
        for side, root in ((before, old.shard_roots[shard]), (after, new.shard_roots[shard])):
            if root != _EMPTY and not (side is not None and side[0] == shard):
                raise DatasetError(f"the files of shard {shard} are not in the file manifest: it was altered")
        here = before if before is not None and before[0] == shard else None
        there = after if after is not None and after[0] == shard else None
        gone += _only(here, there)
        come += _only(there, here)
        before = next(left, None) if here is not None else before
        after = next(right, None) if there is not None else after
    return LeafDiff(gone, come, old.fields.file_count - len(gone), len(differ))


_Shard = tuple[int, FileColumns, list[bytes]]


def _only(side: _Shard | None, other: _Shard | None) -> list[FileLeaf]:
    """The leaves of one side that the other has not."""
    if side is None:
        return []
    known = set(other[2]) if other is not None else set()
    _, columns, hashes = side
    return [columns.leaf(number) for number, leaf in enumerate(hashes) if leaf not in known]


def all_added(manifest: LargeManifest, shown: int) -> tuple[tuple[str, ...], str]:
    """The first paths of a snapshot as text, and the digest of its files as of a list of added ones.

    The digest is that of :func:`~cognify_dagster.datasets.compare.files.list_digest` against nothing. Paths and leaf hashes are held
    for it, some 150 bytes a file.

    Raises:
        ManifestError: the files of a shard do not give its root.
    """
    rows = []
    for _, columns, hashes in manifest.shards():
        # no path holds a zero byte, so these sort as their paths do
        rows += [path + b"\x00" + leaf for path, leaf in zip(columns.paths, hashes, strict=True)]
    rows.sort()
    out = hashlib.sha256()
    for row in rows:
        path = row[:-33]
        out.update(struct.pack(">I", len(path)) + path + bytes(32) + row[-32:])
    return tuple(show_path(row[:-33]) for row in rows[:shown]), out.hexdigest()


def prove_in_manifest(manifest: LargeManifest, path: bytes) -> FileProof | FileAbsence:
    """Prove that a path is in a snapshot, or that it is not, from one shard of its manifest.

    The proof is that of :func:`~cognify_dagster.datasets.proofs.prove_file`.

    Raises:
        DatasetError: the path is not canonical.
        ManifestError: the shard's files do not give its root.
    """
    check_path(path)
    shard = shard_of(path)
    members = manifest.shard(shard)
    hashes = [leaf.leaf_hash() for leaf in members]
    upper, level, number = [], list(manifest.shard_roots), shard
    while len(level) > 1:
        upper.append(level[number ^ 1])
        level = [sha256(b"\x01" + level[i] + level[i + 1]) for i in range(0, len(level), 2)]
        number //= 2
    position = bisect.bisect_left([leaf.path for leaf in members], path)
    if position < len(members) and members[position].path == path:
        step = Step(position, merkle_path(hashes, position))
        return FileProof(members[position], step, len(members), tuple(upper), manifest.fields)
    left, right = (
        (members[i], Step(i, merkle_path(hashes, i))) if 0 <= i < len(members) else None
        for i in (position - 1, position)
    )
    return FileAbsence(path, left, right, len(members), tuple(upper), manifest.fields)
