"""Overlap of holdout and training data, and duplicates within one table."""

from __future__ import annotations

import json
import random

import pyarrow as pa
import pytest

from cognify_dagster.datasets import TableError, duplicate_groups, find_overlap

KEY = bytes(range(32))


def table(rows):
    columns = list(zip(*rows, strict=True))
    return pa.table({"id": list(columns[0]), "a": list(columns[1]), "b": list(columns[2]), "label": list(columns[3])})


TRAIN = table([(1, 10, "x", 0), (2, 20, "y", 1), (3, 30, "z", 0), (4, 20, "y", 0)])
HOLDOUT = table([(11, 20, "y", 0), (12, 30, "z", 1), (13, 40, "q", 0), (14, 10, "X", 0)])


def test_planted_copies_are_found_whatever_key_and_label_say():
    report = find_overlap(HOLDOUT, TRAIN, exclude=["id", "label"])
    assert (report.overlap_holdout, report.overlap_train, report.overlap_distinct) == (2, 3, 2)
    assert not report.separate
    assert report.holdout_rows == (0, 1)
    assert report.compared_columns == ("a", "b")
    assert report.level == "exact-normalised-types"
    assert {(e.holdout_rows, e.train_rows) for e in report.examples} == {((0,), (1, 3)), ((1,), (2,))}
    text = json.dumps(report.to_dict())
    assert '"y"' not in text
    assert find_overlap(HOLDOUT, TRAIN).separate  # keys differ, so nothing matches with them


def test_planted_copies_among_many_rows_are_all_found():
    rnd = random.Random(3)
    train = [(i, rnd.randrange(10**6), f"t{i}", 0) for i in range(3000)]
    copies = rnd.sample(range(3000), 25)
    holdout = [(10_000 + i, *train[i][1:]) for i in copies] + [(20_000 + i, i, f"h{i}", 0) for i in range(500)]
    rnd.shuffle(holdout)
    report = find_overlap(table(holdout), table(train), exclude=["id"])
    assert report.overlap_holdout == 25
    assert [holdout[row][0] >= 20_000 for row in report.holdout_rows] == [False] * 25
    assert len(report.examples) == 20


def test_a_column_that_is_float_on_one_side_only_still_matches():
    floats = HOLDOUT.set_column(1, "a", HOLDOUT["a"].cast(pa.float64()))
    assert find_overlap(floats, TRAIN, exclude=["id", "label"]).overlap_holdout == 2
    decimals = HOLDOUT.set_column(1, "a", HOLDOUT["a"].cast(pa.decimal128(25, 2)))
    assert find_overlap(decimals, TRAIN, exclude=["id", "label"]).overlap_holdout == 2
    coded = HOLDOUT.set_column(2, "b", HOLDOUT["b"].dictionary_encode())
    assert find_overlap(coded, TRAIN, exclude=["id", "label"]).overlap_holdout == 2


def test_columns_that_can_never_match_are_an_error_not_a_clean_result():
    text = HOLDOUT.set_column(1, "a", HOLDOUT["a"].cast(pa.string()))
    with pytest.raises(TableError, match="'a' is string in holdout and int in train"):
        find_overlap(text, TRAIN, exclude=["id"])
    with pytest.raises(TableError, match="differ in column 'b'"):
        find_overlap(HOLDOUT.drop_columns(["b"]), TRAIN, exclude=["id"])
    with pytest.raises(TableError, match="'idd' to leave out exists in neither"):
        find_overlap(HOLDOUT, TRAIN, exclude=["idd"])
    with pytest.raises(TableError, match="nothing can be compared"):
        find_overlap(HOLDOUT, TRAIN, exclude=["id", "a", "b", "label"])
    huge = HOLDOUT.set_column(1, "a", pa.array([2**60 + 1] * 4))
    with pytest.raises(TableError, match="'a' holds integers"):
        find_overlap(huge, TRAIN.set_column(1, "a", TRAIN["a"].cast(pa.float64())), exclude=["id"])


def test_keyed_reports_show_keyed_digests():
    plain, keyed = (find_overlap(HOLDOUT, TRAIN, exclude=["id", "label"], key=k) for k in (None, KEY))
    assert keyed.digest == "hmac-sha256"
    assert keyed.overlap_holdout == plain.overlap_holdout
    assert not {e.digest for e in keyed.examples} & {e.digest for e in plain.examples}


def test_duplicate_groups():
    data = table([(1, 10, "x", 0), (2, 20, "y", 1), (3, 10, "x", 0), (4, 20, "y", 0), (5, 10, "x", 0)])
    assert duplicate_groups(data) == []
    assert [g.rows for g in duplicate_groups(data, ignore=["id"])] == [(0, 2, 4)]
    assert [g.rows for g in duplicate_groups(data, ignore=["id", "label"])] == [(0, 2, 4), (1, 3)]
    with pytest.raises(TableError, match="no column 'ID'"):
        duplicate_groups(data, ignore=["ID"])
