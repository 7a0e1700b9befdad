"""Differences between versions: files, record digests, and records by key and column."""

from __future__ import annotations

import json
import math
from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    DuplicateKeyError,
    RecordManifest,
    TableError,
    diff_files,
    diff_record_manifests,
    diff_tables,
    record_set,
)
from tests.datasets.test_tree import files, leaf


def manifest(values, key=None):
    made = record_set(pa.table({"v": pa.array(values, pa.int64())}), key=key)
    return RecordManifest(made.algorithm, made.schema_id, made.sorted_digests())


def test_files_added_removed_changed_renamed():
    old = [leaf(b"same", b"1"), leaf(b"changed", b"2"), leaf(b"gone", b"3"), leaf(b"old", b"4")]
    new = [leaf(b"same", b"1"), leaf(b"changed", b"x"), leaf(b"come", b"5"), leaf(b"new", b"4")]
    diff = diff_files(old, new)
    assert (diff.added, diff.removed, diff.changed, diff.renamed) == (
        ("come",),
        ("gone",),
        ("changed",),
        (("old", "new"),),
    )
    assert diff.unchanged == 1
    assert diff_files(old, old[::-1]).empty


@settings(max_examples=40, deadline=None)
@given(files, files)
def test_every_path_is_accounted_for_once(old, new):
    diff = diff_files([leaf(*i) for i in old.items()], [leaf(*i) for i in new.items()])
    assert len(diff.removed) + len(diff.changed) + len(diff.renamed) + diff.unchanged == len(old)
    assert len(diff.added) + len(diff.changed) + len(diff.renamed) + diff.unchanged == len(new)
    assert diff.empty == (old == new)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 6), max_size=12), st.lists(st.integers(0, 6), max_size=12))
def test_record_digests_are_compared_as_multisets(old, new):
    diff = diff_record_manifests(manifest(old), manifest(new))
    assert diff.added == (Counter(new) - Counter(old)).total()
    assert diff.removed == (Counter(old) - Counter(new)).total()
    assert diff.unchanged + diff.added == len(new)
    assert (len(diff.added_digests), len(diff.removed_digests)) == (diff.added, diff.removed)


def test_digests_made_differently_are_not_compared():
    with pytest.raises(DatasetError, match="differently"):
        diff_record_manifests(manifest([1]), manifest([1], key=bytes(32)))


OLD = pa.table({"id": [1, 2, 3, 4], "a": [1.0, math.nan, 3.0, None], "b": ["x", "y", "z", "w"], "gone": [0, 0, 0, 0]})
NEW = pa.table({"b": ["q", "y", "Z", "n"], "id": [4, 2, 3, 5], "a": [None, math.nan, 3.5, 0.0], "come": [1, 1, 1, 1]})


def test_records_by_key_and_column():
    diff = diff_tables(OLD, NEW, "id")
    assert (diff.added, diff.removed, diff.changed, diff.unchanged) == (1, 1, 2, 1)
    assert (diff.columns_added, diff.columns_removed) == (("come",), ("gone",))
    assert diff.changed_columns == {"a": 1, "b": 2}
    assert (diff.added_rows, diff.removed_rows) == ((3,), (0,))
    assert {e.key[0]: (e.old_row, e.new_row, e.columns) for e in diff.examples} == {
        4: (3, 0, ("b",)),
        3: (2, 2, ("a", "b")),
    }
    json.dumps(diff.to_dict())


def test_personal_keys_are_left_out_and_examples_are_limited():
    diff = diff_tables(OLD, NEW, ["id"], personal=True, limit=1)
    assert [e.key for e in diff.examples] == [()]
    assert diff.changed == 2


def test_a_key_that_does_not_name_records_is_refused():
    with pytest.raises(DuplicateKeyError):
        diff_tables(OLD, OLD, "gone")
    with pytest.raises(TableError, match="no column 'gone'"):
        diff_tables(OLD.select(["id", "gone"]), NEW, ["id", "gone"])
