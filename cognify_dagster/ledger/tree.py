"""A growing RFC 6962 tree, and where a check of one stands."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256

from cognify_dagster.ledger.entry import NO_PREVIOUS
from cognify_dagster.ledger.merkle import EMPTY_ROOT, node_hash


@dataclass(frozen=True)
class Position:
    """Where a check stands after `size` entries: all it needs to go on without reading them again, but the subject heads.

    `peaks` are the complete subtrees of the tree of `size` leaves as (level, hash), largest first; `prev` is the hex leaf
    of the last entry, `time_us` its time.
    """

    size: int = 0
    peaks: tuple[tuple[int, bytes], ...] = ()
    prev: str = NO_PREVIOUS
    time_us: int = 0

    @property
    def root(self) -> bytes:
        """The root of the first `size` entries."""
        return _fold(self.peaks)


class Tree:
    """A growing RFC 6962 tree that takes leaves in bulk and gives back the subtrees they complete."""

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[tuple[int, bytes]] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)

    def extend(self, leaves: Sequence[bytes], finished: dict[int, tuple[int, list[bytes]]] | None = None) -> None:
        """Add leaf hashes. `finished` collects the completed subtrees: level -> (first index, hashes in order)."""
        done = 0
        while done < len(leaves):
            level = (len(leaves) - done).bit_length() - 1
            if self.size:
                level = min(level, (self.size & -self.size).bit_length() - 1)
            row = list(leaves[done : done + (1 << level)])
            done += len(row)
            for height in range(level + 1):
                if finished is not None:
                    finished.setdefault(height, (self.size >> height, []))[1].extend(row)
                if height < level:
                    row = _pairs(row)
            self.push(level, row[0], finished)

    def push(self, level: int, value: bytes, finished: dict[int, tuple[int, list[bytes]]] | None = None) -> None:
        """Add a complete subtree whose size divides the tree's size. Right siblings join the left ones that are here."""
        index = self.size >> level
        self.size += 1 << level
        while index & 1 and self.peaks and self.peaks[-1][0] == level:
            value = node_hash(self.peaks.pop()[1], value)
            level, index = level + 1, index >> 1
            if finished is not None:
                finished.setdefault(level, (index, []))[1].append(value)
        self.peaks.append((level, value))

    def root(self) -> bytes:
        """Return the root hash."""
        return _fold(self.peaks)


def _pairs(row: Sequence[bytes]) -> list[bytes]:
    """The node hash of each two neighbours; a copied hash starts sooner than a new one."""
    nodes: list[bytes] = []
    begun = sha256(b"\x01").copy
    for left, right in zip(*[iter(row)] * 2, strict=True):
        node = begun()
        node.update(left + right)
        nodes.append(node.digest())
    return nodes


def _fold(peaks: Sequence[tuple[int, bytes]]) -> bytes:
    if not peaks:
        return EMPTY_ROOT
    root = peaks[-1][1]
    for _, peak in reversed(peaks[:-1]):
        root = node_hash(peak, root)
    return root
