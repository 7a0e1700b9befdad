"""Files of two versions by path: added, removed, changed, renamed."""

from __future__ import annotations

import hashlib
import struct
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cognify_dagster.datasets.tree import FileLeaf, show_path


@dataclass(frozen=True)
class FileDiff:
    """Files by path (as text); ``renamed`` holds (old path, new path) of equal content."""

    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: tuple[str, ...]
    renamed: tuple[tuple[str, str], ...]
    unchanged: int

    @property
    def empty(self) -> bool:
        """Whether the files are the same."""
        return not (self.added or self.removed or self.changed or self.renamed)


def diff_files(old: Sequence[FileLeaf], new: Sequence[FileLeaf]) -> FileDiff:
    """Compare two lists of leaves. A removed and an added file of one content are a rename (paired in path order)."""
    before, after = {leaf.path: leaf for leaf in old}, {leaf.path: leaf for leaf in new}
    gone, come = sorted(before.keys() - after.keys()), sorted(after.keys() - before.keys())
    changed = [path for path in sorted(before.keys() & after.keys()) if before[path] != after[path]]
    by_content: dict[Any, list[bytes]] = defaultdict(list)
    for path in gone:
        by_content[_content(before[path])].append(path)
    renamed: list[tuple[bytes, bytes]] = []
    for path in come:
        waiting = by_content.get(_content(after[path]))
        if waiting:
            renamed.append((waiting.pop(0), path))
    old_names, new_names = {a for a, _ in renamed}, {b for _, b in renamed}
    return FileDiff(
        added=tuple(show_path(path) for path in come if path not in new_names),
        removed=tuple(show_path(path) for path in gone if path not in old_names),
        changed=tuple(show_path(path) for path in changed),
        renamed=tuple((show_path(a), show_path(b)) for a, b in renamed),
        unchanged=len(before.keys() & after.keys()) - len(changed),
    )


def _content(leaf: FileLeaf) -> tuple[Any, ...]:
    return leaf.kind, leaf.size, leaf.algorithm, leaf.digest


def list_digest(old: Sequence[FileLeaf], new: Sequence[FileLeaf]) -> str:
    """SHA-256 (hex) over every file that is not the same in both: its path and its leaf hash before and after.

    ``H(for each path, sorted: u32 length || path || old leaf hash or 32 zeros || new leaf hash or 32 zeros)``.
    """
    before, after = {leaf.path: leaf for leaf in old}, {leaf.path: leaf for leaf in new}
    out = hashlib.sha256()
    for path in sorted(before.keys() | after.keys()):
        left, right = before.get(path), after.get(path)
        if left != right:
            sides = [side.leaf_hash() if side is not None else bytes(32) for side in (left, right)]
            out.update(struct.pack(">I", len(path)) + path + b"".join(sides))
    return out.hexdigest()
