"""Arithmetic on the blocks that a tensor is cut into: what is uncovered, what overlaps, where a block's bytes lie.

A block is given by the offset of its first element and its size along every axis of the whole tensor. Pure functions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

Extent = tuple[int, ...]


class Block(NamedTuple):
    """A part of a tensor: first element and size along each axis."""

    offsets: Extent
    sizes: Extent


def volume(sizes: Sequence[int]) -> int:
    """Number of elements; 1 for a scalar."""
    return math.prod(sizes)


def fits(shape: Sequence[int], block: Block) -> bool:
    """Whether a block lies inside a tensor of that shape."""
    return (
        len(block.offsets) == len(block.sizes) == len(shape)
        and all(value >= 0 for value in (*block.offsets, *block.sizes))
        and all(o + s <= n for o, s, n in zip(block.offsets, block.sizes, shape, strict=True))
    )


def tiling(shape: Sequence[int], blocks: Sequence[Block]) -> tuple[list[Block], list[tuple[int, int, Block]]]:
    """Compare blocks with the tensor they are parts of.

    Args:
        shape: The whole tensor's shape.
        blocks: Its blocks, each of which `fits`. Empty ones cover nothing.

    Returns:
        The uncovered parts, and the overlaps as (index of a block, index of another, the part that both cover).
    """
    whole = Block((0,) * len(shape), tuple(shape))
    if not volume(shape):
        return [], []
    full = [index for index, block in enumerate(blocks) if volume(block.sizes)]
    if len(full) == 1 and blocks[full[0]] == whole:
        return [], []
    gaps: list[Block] = []
    overlaps: list[tuple[int, int, Block]] = []
    _sweep(tuple(shape), 0, blocks, full, (), (), gaps, overlaps)
    return gaps, overlaps


def _sweep(
    shape: Extent,
    axis: int,
    blocks: Sequence[Block],
    present: Sequence[int],
    offsets: Extent,
    sizes: Extent,
    gaps: list[Block],
    overlaps: list[tuple[int, int, Block]],
) -> None:
    """Cut the axis at every block's edge; every slab is covered by the same blocks throughout, so the next axis can be judged."""
    if not present:
        gaps.append(Block(offsets + (0,) * (len(shape) - axis), sizes + shape[axis:]))
        return
    if axis == len(shape):
        overlaps.extend((present[0], other, Block(offsets, sizes)) for other in present[1:])
        return
    edges = {0, shape[axis]}
    for index in present:
        start = blocks[index].offsets[axis]
        edges.update((start, start + blocks[index].sizes[axis]))
    cuts = sorted(edges)
    waiting = sorted(present, key=lambda index: blocks[index].offsets[axis])
    active: list[int] = []
    at = 0
    for start, end in pairwise(cuts):
        while at < len(waiting) and blocks[waiting[at]].offsets[axis] <= start:
            active.append(waiting[at])
            at += 1
        active = [index for index in active if blocks[index].offsets[axis] + blocks[index].sizes[axis] > start]
        _sweep(shape, axis + 1, blocks, tuple(active), (*offsets, start), (*sizes, end - start), gaps, overlaps)


def runs(shape: Sequence[int], block: Block) -> Iterator[tuple[int, int]]:
    """Where a block's elements lie in the row-major whole: (index of the first element, how many), in the block's own order."""
    if not volume(block.sizes):
        return
    inner = len(shape)
    while inner and block.sizes[inner - 1] == shape[inner - 1]:
        inner -= 1
    outer = max(inner - 1, 0)  # this axis and those behind it are one run
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    count = volume(block.sizes[outer:])
    base = sum(offset * stride for offset, stride in zip(block.offsets, strides, strict=True))
    position = [0] * outer
    while True:
        yield base + sum(index * stride for index, stride in zip(position, strides, strict=False)), count
        axis = outer - 1
        while axis >= 0:
            position[axis] += 1
            if position[axis] < block.sizes[axis]:
                break
            position[axis] = 0
            axis -= 1
        if axis < 0:
            return


def row_major(stride: Sequence[int], shape: Sequence[int]) -> bool:
    """Whether elements with these strides lie one behind the other in row-major order."""
    expected = 1
    for size, step in zip(reversed(shape), reversed(stride), strict=True):
        if size != 1 and step != expected:
            return False
        expected *= size
    return True
