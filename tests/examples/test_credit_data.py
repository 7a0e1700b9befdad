"""The demo's data: the published bytes, what cleaning leaves out, and a split that shares no record."""

from __future__ import annotations

import gzip
import hashlib
import json

import numpy as np
import pandas as pd
import pytest

from examples.credit_default.cleaning import (
    COLUMNS,
    KEY,
    LABEL,
    SOURCE_PATH,
    SOURCE_SHA256,
    CreditDataError,
    clean,
    load_source,
    overlap_count,
    rows_digest,
    split,
    take_records,
)

EXPECTED_TRAIN = "sha256:5ce223040c1377ae40fa9b69862826685949394554fdc892cb59681afc97c90d"
EXPECTED_HOLDOUT = "sha256:dfd9c6f18921a5d24b7bf9617fede6f660cfbdb7ba9683bf551c71e9f0aad155"
ATTRIBUTES = [column for column in COLUMNS if column not in (KEY, LABEL)]


def test_the_shipped_file_is_the_published_one(credit):
    assert hashlib.sha256(gzip.decompress(SOURCE_PATH.read_bytes())).hexdigest() == SOURCE_SHA256
    assert credit.raw.shape == (30_000, 25)
    assert tuple(credit.raw.columns) == COLUMNS  # the byte order mark is not part of the first name


def test_compression_leaves_no_name_or_time_in_the_file():
    header = SOURCE_PATH.read_bytes()[:10]
    assert header[3] == 0  # no optional fields
    assert header[4:8] == b"\0\0\0\0"  # no time


def test_thirty_five_repeated_rows_are_dropped_and_conflicting_ones_kept(credit):
    report = credit.cleaning
    (exclusion,) = report.exclusions
    assert (report.rows_before, report.rows_after, exclusion.excluded) == (30_000, 29_965, 35)
    assert (report.conflicting_groups, report.conflicting_rows) == (21, 42)
    without_key = credit.cleaned.drop(columns=KEY)
    assert not without_key.duplicated().any()
    assert without_key.drop(columns=LABEL).duplicated(keep=False).sum() == 42


def test_the_excluded_rows_are_named_by_a_digest_anyone_can_recompute(credit):
    kept = set(credit.cleaned[KEY])
    excluded = credit.raw[~credit.raw[KEY].isin(kept)]
    text = excluded.sort_values(KEY).to_csv(index=False, lineterminator="\n")
    assert credit.cleaning.exclusions[0].excluded_digest == "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def test_the_lowest_key_of_equal_rows_stays(credit):
    by_content = credit.raw.groupby([*ATTRIBUTES, LABEL])[KEY]
    assert set(by_content.min()) == set(credit.cleaned[KEY])


def test_reports_are_plain_json(credit):
    for report in (credit.cleaning, credit.split):
        assert json.loads(json.dumps(report.to_facts(), allow_nan=False))


def test_no_record_lies_in_both_sides(credit):
    train = {tuple(row) for row in credit.train[ATTRIBUTES].itertuples(index=False)}
    holdout = {tuple(row) for row in credit.holdout[ATTRIBUTES].itertuples(index=False)}
    assert not train & holdout
    assert overlap_count(credit.train, credit.holdout) == 0
    assert len(credit.train) + len(credit.holdout) == len(credit.cleaned)
    assert not set(credit.train[KEY]) & set(credit.holdout[KEY])


def test_without_grouping_the_conflicting_rows_would_have_been_split(credit):
    # The group rule does real work: a plain split of the same rows puts some of the 21 pairs on both sides.
    order = np.random.default_rng(0).permutation(len(credit.cleaned))
    cut = int(len(order) * 0.7)
    assert overlap_count(credit.cleaned.iloc[order[:cut]], credit.cleaned.iloc[order[cut:]]) > 0


def test_the_split_is_seventy_to_thirty_with_equal_default_rates(credit):
    assert len(credit.holdout) / len(credit.cleaned) == pytest.approx(0.3, abs=0.001)
    assert credit.train[LABEL].mean() == pytest.approx(credit.holdout[LABEL].mean(), abs=0.001)


def test_the_split_depends_on_seed_and_content_only(credit):
    shuffled = credit.cleaned.sample(frac=1.0, random_state=3)
    train, holdout, _ = split(shuffled)
    assert train.equals(credit.train)
    assert holdout.equals(credit.holdout)
    other, _, _ = split(credit.cleaned, seed=1)
    assert set(other[KEY]) != set(train[KEY])


def test_the_split_is_the_same_on_every_machine(credit):
    # A change of these digests means that every earlier snapshot of the demo can't be made again.
    assert rows_digest(credit.train) == EXPECTED_TRAIN
    assert rows_digest(credit.holdout) == EXPECTED_HOLDOUT


def test_a_planted_shared_record_is_counted(credit):
    planted = credit.train.head(3).assign(**{KEY: [900_001, 900_002, 900_003], LABEL: 1})
    assert overlap_count(credit.train, pd.concat([credit.holdout, planted])) == 3


def test_fewer_records_are_chosen_by_seed(credit):
    some = take_records(credit.train, 500, seed=1)
    assert len(some) == 500
    assert some.equals(take_records(credit.train.sample(frac=1.0, random_state=1), 500, seed=1))
    assert not some.equals(take_records(credit.train, 500, seed=2))
    assert take_records(credit.train, None, seed=1) is credit.train
    with pytest.raises(CreditDataError, match="max_records"):
        take_records(credit.train, 0, seed=1)


def test_one_changed_byte_of_the_source_is_refused(tmp_path):
    raw = bytearray(gzip.decompress(SOURCE_PATH.read_bytes()))
    raw[5000] ^= 1
    file = tmp_path / "source.csv"
    file.write_bytes(bytes(raw))
    with pytest.raises(CreditDataError, match="source was changed") as caught:
        load_source(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\x1f\x8b", b"\x1f\x8bnot gzip at all", SOURCE_PATH.read_bytes()[:1000]])
def test_damaged_files_are_refused(tmp_path, content):
    file = tmp_path / "source.csv.gz"
    file.write_bytes(content)
    for expected in (SOURCE_SHA256, None):
        with pytest.raises(CreditDataError, match=r"source\.csv\.gz"):
            load_source(file, expected_sha256=expected)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(CreditDataError, match="can't be read"):
        load_source(tmp_path / "none.csv")


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda f: f.drop(columns="AGE"), "missing columns \\['AGE'\\]"),
        (lambda f: f.assign(EXTRA=1), "unknown columns \\['EXTRA'\\]"),
        (lambda f: f.head(0), "no rows"),
        (lambda f: f.assign(AGE=f["AGE"].where(f["AGE"] > 30)), "column AGE"),
        (lambda f: f.assign(SEX="x"), "column SEX"),
        (lambda f: f.assign(DEFAULT=2), "column DEFAULT"),
        (lambda f: f.assign(ID=7), "column ID repeats 7"),
    ],
)
def test_another_form_is_named_by_column(credit, change, named):
    with pytest.raises(CreditDataError, match=named):
        clean(change(credit.raw.head(50)))


def test_a_split_needs_two_sides(credit):
    with pytest.raises(CreditDataError, match="one side would be empty"):
        split(credit.cleaned.head(1))
    with pytest.raises(CreditDataError, match="holdout_fraction"):
        split(credit.cleaned, holdout_fraction=1.0)
