"""Many digests as one run of bytes: sorted, searched, compared and hashed to a root without an object for each of them.

Invariant: equality and order are always those of all 32 bytes. The first eight only narrow down where to look.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, overload

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.tree import merkle_path, merkle_root

if TYPE_CHECKING:
    import numpy as np

WIDTH = 32
_BLOCK = 1 << 14
_SMALL = 4_096
_STEP = 1 << 19


class PackedDigests(Sequence[bytes]):
    """Digests of 32 bytes each, one after another, to be used like a list of bytes.

    Args:
        data: a whole number of digests.

    Raises:
        DatasetError: the bytes are no whole number of digests.
    """

    __slots__ = ("_view",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        if len(data) % WIDTH:
            raise DatasetError(f"digests have {WIDTH} bytes each; {len(data)} bytes are no whole number of them")
        self._view = memoryview(data).cast("B")

    @classmethod
    def of(cls, digests: Sequence[bytes]) -> PackedDigests:
        """The same digests packed; packed ones as they are."""
        return digests if isinstance(digests, PackedDigests) else cls(b"".join(digests))

    @property
    def view(self) -> memoryview:
        """The bytes, not copied."""
        return self._view

    def __len__(self) -> int:
        return len(self._view) // WIDTH

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> PackedDigests: ...
    def __getitem__(self, index: int | slice) -> bytes | PackedDigests:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step == 1:
                return PackedDigests(self._view[WIDTH * start : WIDTH * max(stop, start)])
            return PackedDigests(b"".join(self[i] for i in range(start, stop, step)))
        place = index + len(self) if index < 0 else index
        if not 0 <= place < len(self):
            raise IndexError(index)
        return self._view[WIDTH * place : WIDTH * (place + 1)].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        for start in range(0, len(self._view), WIDTH * _BLOCK):
            part = self._view[start : start + WIDTH * _BLOCK].tobytes()
            for at in range(0, len(part), WIDTH):
                yield part[at : at + WIDTH]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PackedDigests):
            return self._view == other._view
        return isinstance(other, list | tuple) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"PackedDigests({len(self)})"


def words(data: Any) -> np.ndarray[Any, Any]:
    """The first eight bytes of each digest as numbers that sort like the bytes do."""
    import numpy as np

    return np.frombuffer(data, ">u8").reshape(-1, 4)[:, 0].astype(np.uint64)


def sort_packed(digests: Iterable[bytes] | PackedDigests | bytes | bytearray) -> PackedDigests:
    """Digests in order, each as often as it occurs. With numpy memory stays near twice the digests themselves."""
    if isinstance(digests, bytes | bytearray):
        packed = PackedDigests(digests)
    elif isinstance(digests, PackedDigests):
        packed = digests
        if is_sorted(packed):
            return packed
    else:
        packed = PackedDigests(b"".join(digests))
    if len(packed) < _SMALL:
        return PackedDigests(b"".join(sorted(packed)))
    try:
        import numpy as np
    except ImportError:
        return PackedDigests(b"".join(sorted(packed)))
    heads = words(packed.view)
    order = np.argsort(heads)
    heads = heads[order]
    rows = np.frombuffer(packed.view, "V32")[order]
    data = bytearray(rows.tobytes())
    del rows
    same = np.flatnonzero(heads[1:] == heads[:-1])
    done = -1
    for first in same.tolist():  # rare, unless records repeat: put runs with one head in order by all of their bytes
        if first < done:
            continue
        past = int(np.searchsorted(heads, heads[first], "right"))
        part = bytes(data[WIDTH * first : WIDTH * past])
        ordered = sorted(part[at : at + WIDTH] for at in range(0, len(part), WIDTH))
        data[WIDTH * first : WIDTH * past] = b"".join(ordered)
        done = past
    return PackedDigests(data)


def is_sorted(digests: PackedDigests) -> bool:
    """Whether digests stand in order."""
    if len(digests) < _SMALL:
        return all(left <= right for left, right in pairwise(digests))
    try:
        import numpy as np
    except ImportError:
        return all(left <= right for left, right in pairwise(digests))
    heads = words(digests.view)
    if bool(np.any(heads[1:] < heads[:-1])):
        return False
    same = np.flatnonzero(heads[1:] == heads[:-1])
    return all(digests[i] <= digests[i + 1] for i in same.tolist())


def packed_root(digests: PackedDigests) -> bytes:
    """The RFC 6962 root over the digests as leaves, taken in blocks so that memory stays small."""
    if len(digests) <= _BLOCK:
        return merkle_root(list(digests))
    return merkle_root(_block_roots(digests))


def packed_path(digests: PackedDigests, index: int) -> tuple[bytes, ...]:
    """The sibling hashes, from the leaf upwards, that prove `digests[index]`.

    Raises:
        DatasetError: the index is outside the list.
    """
    if len(digests) <= _BLOCK:
        return merkle_path(list(digests), index)
    if not 0 <= index < len(digests):
        raise DatasetError(f"leaf index {index} is outside a tree of {len(digests)} leaves")
    block, inner = divmod(index, _BLOCK)
    own = list(digests[block * _BLOCK : (block + 1) * _BLOCK])
    return merkle_path(own, inner) + merkle_path(_block_roots(digests), block)


def _block_roots(digests: PackedDigests) -> list[bytes]:
    # Blocks hold a power of two, so their roots are nodes of one level of the whole tree.
    return [merkle_root(list(digests[at : at + _BLOCK])) for at in range(0, len(digests), _BLOCK)]


def difference(old: PackedDigests, new: PackedDigests) -> tuple[PackedDigests, PackedDigests]:
    """What is only in one of two sorted runs, each digest as often as it is there more often.

    Both runs are walked together in ranges of their first bytes, so memory beside them stays at a few megabytes.

    Returns:
        (added, removed), both sorted.
    """
    try:
        import numpy as np
    except ImportError:
        return _difference_of_lists(old, new)
    if old.view == new.view:
        return PackedDigests(b""), PackedDigests(b"")
    added, removed = bytearray(), bytearray()
    before, after = (np.frombuffer(side.view, ">u8").reshape(-1, 4)[:, 0] for side in (old, new))
    step = _STEP
    at_old = at_new = 0
    while at_old < len(old) or at_new < len(new):
        # A range ends at the head of the digest that is `step` further on, in the run that gets there first.
        ends = [int(side[at + step]) for side, at in ((before, at_old), (after, at_new)) if at + step < len(side)]
        if ends:
            end = min(ends)
            past_old, past_new = _past(before, at_old, step, end), _past(after, at_new, step, end)
            if (past_old, past_new) == (at_old, at_new):  # a long run of one head: take all of it
                past_old, past_new = _past(before, at_old, 0, end + 1), _past(after, at_new, 0, end + 1)
        else:
            past_old, past_new = len(old), len(new)
        _range(old[at_old:past_old], new[at_new:past_new], added, removed)
        at_old, at_new = past_old, past_new
    return PackedDigests(added), PackedDigests(removed)


def _past(heads: np.ndarray[Any, Any], start: int, step: int, end: int) -> int:
    """The first place at or after `start` whose head is `end` or more; `step` is where to stop looking, 0 for nowhere."""
    import numpy as np

    part = heads[start : start + step + 1] if step else heads[start:]
    return start + int(np.searchsorted(part, np.uint64(min(end, 2**64 - 1)), "left")) if end < 2**64 else len(heads)


def _range(old: PackedDigests, new: PackedDigests, added: bytearray, removed: bytearray) -> None:
    import numpy as np

    heads = words(old.view), words(new.view)
    for side in heads:
        if len(side) > 1 and bool(np.any(side[1:] == side[:-1])):
            come, gone = _difference_of_lists(old, new)
            added += come.view
            removed += gone.view
            return
    both = np.concatenate(heads)
    both.sort()
    paired = np.zeros(len(both) + 1, bool)  # no head is there twice in one run, so two equal ones are one of each
    paired[1:-1] = both[1:] == both[:-1]
    single = both[~(paired[:-1] | paired[1:])]
    keep, alone = [], []
    for side in heads:
        place = np.searchsorted(side, single)
        inside = place < len(side)
        mine = place[inside][side[place[inside]] == single[inside]]
        mask = np.ones(len(side), bool)
        mask[mine] = False
        keep.append(mask)
        alone.append(~mask)
    rows = [np.frombuffer(side.view, "<u8").reshape(-1, 4) for side in (old, new)]
    left, right = (side[mask] for side, mask in zip(rows, keep, strict=True))
    other = np.flatnonzero((left[:, 1:] != right[:, 1:]).any(axis=1))
    for apart, side, out in ((alone[0], rows[0], removed), (alone[1], rows[1], added)):
        if len(other):  # equal heads, other digests: as good as impossible by chance
            shared = np.flatnonzero(~apart)
            apart[shared[other]] = True
        out.extend(side[apart].tobytes())


def _difference_of_lists(old: PackedDigests, new: PackedDigests) -> tuple[PackedDigests, PackedDigests]:
    """A plain merge of two sorted runs."""
    come, gone = [], []
    left, right = iter(old), iter(new)
    a, b = next(left, None), next(right, None)
    while a is not None and b is not None:
        if a == b:
            a, b = next(left, None), next(right, None)
        elif a < b:
            gone.append(a)
            a = next(left, None)
        else:
            come.append(b)
            b = next(right, None)
    while a is not None:
        gone.append(a)
        a = next(left, None)
    while b is not None:
        come.append(b)
        b = next(right, None)
    return PackedDigests(b"".join(come)), PackedDigests(b"".join(gone))
