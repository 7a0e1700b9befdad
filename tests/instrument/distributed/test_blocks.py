"""Blocks of a tensor: covered exactly once, or the gap and the overlap are found; where their elements lie in the whole."""

from __future__ import annotations

import itertools
import math
import struct

from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.instrument.distributed.blocks import Block, fits, row_major, runs, tiling, volume
from tests.instrument.distributed.shards import block_of, tilings


@given(tilings())
def test_a_grid_covers_its_tensor_exactly_once(case) -> None:
    shape, blocks = case
    assert tiling(shape, [Block(*block) for block in blocks]) == ([], [])


@given(tilings(), st.data())
def test_a_block_that_is_missing_is_a_gap_of_its_volume(case, data: st.DataObject) -> None:
    shape, blocks = case
    lost = data.draw(st.integers(0, len(blocks) - 1))
    gaps, overlaps = tiling(shape, [Block(*block) for index, block in enumerate(blocks) if index != lost])
    assert sum(volume(gap.sizes) for gap in gaps) == volume(blocks[lost][1])
    assert not overlaps


@given(tilings(), st.data())
def test_a_block_that_is_there_twice_overlaps_in_its_volume(case, data: st.DataObject) -> None:
    shape, blocks = case
    again = data.draw(st.sampled_from(blocks))
    gaps, overlaps = tiling(shape, [Block(*block) for block in [*blocks, again]])
    assert not gaps
    assert sum(volume(both.sizes) for _, _, both in overlaps) == volume(again[1])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=5))
def test_what_is_uncovered_and_doubled_agrees_with_counting_every_element(parts) -> None:
    shape = (6, 5)
    blocks = [Block((a, b), (min(c, 6 - a), min(d, 5 - b))) for a, b, c, d in parts]
    counts = dict.fromkeys(itertools.product(range(6), range(5)), 0)
    for block in blocks:
        for i, j in itertools.product(*(range(o, o + s) for o, s in zip(*block, strict=True))):
            counts[i, j] += 1
    gaps, overlaps = tiling(shape, blocks)
    assert sum(volume(gap.sizes) for gap in gaps) == sum(1 for count in counts.values() if count == 0)
    assert sum(volume(both.sizes) for _, _, both in overlaps) == sum(max(0, count - 1) for count in counts.values())


def test_an_empty_tensor_needs_no_block_and_an_empty_block_covers_nothing() -> None:
    assert tiling((0, 3), []) == ([], [])
    gaps, _ = tiling((2,), [Block((0,), (0,)), Block((0,), (2,))])
    assert gaps == []
    gaps, _ = tiling((2,), [Block((2,), (0,))])
    assert [gap.sizes for gap in gaps] == [(2,)]


@given(tilings(), st.data())
def test_runs_visit_a_blocks_elements_in_its_own_order(case, data: st.DataObject) -> None:
    shape, blocks = case
    offsets, sizes = data.draw(st.sampled_from(blocks))
    values = list(range(math.prod(shape)))
    visited = [values[first + step] for first, count in runs(shape, Block(offsets, sizes)) for step in range(count)]
    assert struct.pack(f"<{len(visited)}i", *visited) == block_of(values, shape, offsets, sizes)


def test_a_shard_of_whole_rows_is_one_run() -> None:
    assert list(runs((100, 7, 3), Block((10, 0, 0), (20, 7, 3)))) == [(210, 420)]


def test_blocks_outside_the_shape_do_not_fit() -> None:
    assert fits((4, 2), Block((2, 0), (2, 2)))
    assert not fits((4, 2), Block((3, 0), (2, 2)))
    assert not fits((4, 2), Block((0,), (4,)))
    assert not fits((4,), Block((-1,), (2,)))


def test_only_strides_without_holes_are_row_major() -> None:
    assert row_major((3, 1), (7, 3))
    assert row_major((1, 1), (7, 1))
    assert not row_major((1, 7), (7, 3))
