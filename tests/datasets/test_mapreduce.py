"""Map, reduce and root: any executor can spread them, and the root is that of one machine."""

from __future__ import annotations

import os
import pickle
import random
import signal
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    FolderNames,
    Provenance,
    list_files,
    manifest_bytes,
    map_files,
    map_links,
    map_source,
    read_file_manifest,
    reduce_shard_range,
    root_from_shards,
    split_rows,
    take_snapshot,
)
from cognify_dagster.datasets.tree import CHUNK_SIZE

SHARDS = 4096


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for i in range(200):
        target = folder / f"d{i % 5}" / f"f{i}"
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(b"%d" % i * (i % 30))
    (folder / "big").write_bytes(bytes(CHUNK_SIZE + 9))
    (folder / "leave.tmp").write_bytes(b"x")
    (folder / "d0" / "link").symlink_to("../big")
    return folder


@pytest.fixture(scope="module")
def truth(data):
    return take_snapshot(data, name="d", provenance=Provenance(), ignore=["*.tmp"])


def cuts(numbers) -> list[tuple[int, int]]:
    borders = sorted({0, SHARDS, *numbers})
    return list(pairwise(borders))


@pytest.mark.parametrize("at_most", [1, 7, 64, 10_000])
def test_the_root_is_that_of_one_machine_however_the_work_is_cut(data, truth, at_most):
    portions = list(list_files(str(data), ["*.tmp"], at_most))
    assert all(sum(len(item.names) for item in portion) <= at_most for portion in portions)
    parts = [map_files(str(data), portion) for portion in portions] + [map_links(str(data), ["*.tmp"])]
    random.Random(at_most).shuffle(parts)
    ranges = [reduce_shard_range(parts, *cut) for cut in cuts([1, 17, 2048, 4095])]
    random.Random(1).shuffle(ranges)
    root, tree_root, fields = root_from_shards(ranges, ignore=["*.tmp"])
    assert root.hex() == truth.root
    assert tree_root == truth.packed.tree_root
    assert fields == truth.fields
    leaves = [leaf for item in sorted(ranges, key=lambda item: item.first) for leaf in _leaves(item)]
    assert tuple(leaves) == truth.files == read_file_manifest(manifest_bytes(truth))


def _leaves(item):
    return read_file_manifest(item.manifest_part())


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(borders=st.lists(st.integers(1, SHARDS - 1), max_size=8))
def test_any_cut_of_the_shards_gives_the_root(data, truth, borders):
    rows = map_source(str(data), ["*.tmp"])
    ranges = cuts(borders)
    shuffled = list(zip(ranges, split_rows(rows, ranges), strict=True))
    reduced = [reduce_shard_range([part], *cut) for cut, part in shuffled]
    assert root_from_shards(reduced, ignore=["*.tmp"])[0].hex() == truth.root


def test_arguments_and_results_travel_between_processes(data, truth):
    portions = list(list_files(str(data), ["*.tmp"], 50))
    assert pickle.loads(pickle.dumps(portions)) == portions
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        parts = list(pool.map(map_files, [str(data)] * len(portions), portions))
        parts.append(pool.submit(map_links, str(data), ["*.tmp"]).result())
        ranges = list(pool.map(reduce_shard_range, [parts] * 2, [0, 1000], [1000, SHARDS]))
    assert root_from_shards(ranges, ignore=["*.tmp"])[0].hex() == truth.root


def die(source, portion):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_map_step_that_was_killed_is_done_again_elsewhere(data, truth):
    portions = list(list_files(str(data), ["*.tmp"], 100))
    with ProcessPoolExecutor(1, get_context("spawn")) as pool, pytest.raises(BrokenProcessPool):
        pool.submit(die, str(data), portions[0]).result()
    parts = [map_files(str(data), portion) for portion in portions] + [map_links(str(data), ["*.tmp"])]
    assert root_from_shards([reduce_shard_range(parts, 0, SHARDS)], ignore=["*.tmp"])[0].hex() == truth.root


def test_ranges_that_do_not_cover_the_shards_once_have_no_root(data):
    rows = [map_source(str(data))]
    whole = reduce_shard_range(rows, 0, SHARDS)
    first, second = reduce_shard_range(rows, 0, 2048), reduce_shard_range(rows, 2048, SHARDS)
    for ranges in ([], [first], [second], [first, first, second], [whole, second], [first, whole]):
        with pytest.raises(DatasetError, match="cover every shard once"):
            root_from_shards(ranges)
    for cut in ((0, 0), (5, 4), (-1, 3), (0, SHARDS + 1)):
        with pytest.raises(DatasetError, match="no range"):
            reduce_shard_range(rows, *cut)


def test_a_portion_that_was_mapped_twice_and_damaged_rows_are_refused(data):
    portion = next(list_files(str(data)))
    part = map_files(str(data), portion)
    with pytest.raises(DatasetError, match="occurs twice"):
        reduce_shard_range([part, part], 0, SHARDS)
    for bad in (part[:-1], part[:5], b"\xff" * 100):
        with pytest.raises(DatasetError):
            reduce_shard_range([bad], 0, SHARDS)


def test_a_named_file_that_is_not_there_is_refused(data):
    with pytest.raises(DatasetError, match="nothing"):
        map_files(str(data), [FolderNames(b"d0", (b"nothing",))])
