"""Profiles equal a pandas recomputation, and every value in them is JSON."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from cognify_dagster.datasets import DatasetError, TableError, json_value, profile_table, schema_hash, schema_list
from cognify_dagster.datasets.profile.statistics import QUANTILES
from cognify_dagster.ledger import canonical_json


@pytest.fixture(scope="module")
def frame() -> pd.DataFrame:
    rng = np.random.default_rng(7)
    n = 2_000
    frame = pd.DataFrame(
        {
            "whole": rng.integers(-50, 50, n),
            "amount": rng.normal(1e5, 3e4, n),
            "sex": rng.choice(["f", "m", "x"], n, p=[0.5, 0.49, 0.01]),
            "flag": rng.random(n) < 0.3,
            "label": (rng.random(n) < 0.22).astype(int),
            "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(rng.integers(0, 300, n), unit="D"),
        }
    )
    frame.loc[frame.index % 17 == 0, "amount"] = np.nan
    frame.loc[frame.index % 13 == 0, "sex"] = None
    return frame


def test_statistics_equal_pandas(frame):
    profile = profile_table(pa.Table.from_pandas(frame), label="label", group_columns=["sex"])
    assert profile["rows"] == len(frame)
    for name in frame.columns:
        column, series = profile["columns"][name], frame[name]
        assert column["nulls"] == series.isna().sum()
        assert column["distinct"] == series.nunique()
    for name in ("whole", "amount", "label"):
        column, series = profile["columns"][name], frame[name]
        assert (column["min"], column["max"]) == (series.min(), series.max())
        assert column["mean"] == pytest.approx(series.mean(), rel=1e-11)
        assert column["std"] == pytest.approx(series.std(), rel=1e-11)
        for q in QUANTILES:
            assert column["quantiles"][str(q)] == pytest.approx(series.quantile(q), rel=1e-11)
    assert profile["columns"]["day"]["min"] == frame["day"].min().isoformat()
    counts = frame["sex"].value_counts()
    assert {item["value"]: item["count"] for item in profile["columns"]["sex"]["top"]} == counts.to_dict()
    balance = frame["label"].value_counts(normalize=True)
    assert {c["value"]: c["fraction"] for c in profile["label"]["classes"]} == pytest.approx(
        balance.to_dict(), rel=1e-11
    )
    groups = frame.groupby("sex", dropna=False)["label"].agg(["size", "sum"])
    for group in profile["groups"]["sex"]:
        size, positives = groups.loc[group["value"] if group["value"] is not None else np.nan]
        classes = {c["value"]: c["count"] for c in group["classes"]}
        assert (group["count"], classes.get(1, 0)) == (size, positives)
    assert len(profile["groups"]["sex"]) == 4


def test_nan_and_null_are_counted_apart_and_both_left_out():
    column = profile_table(pa.table({"x": pa.array([1.0, math.nan, None, 3.0])}))["columns"]["x"]
    assert (column["nulls"], column["nans"], column["distinct"], column["mean"]) == (1, 1, 2, 2.0)


def test_awkward_columns_still_give_json():
    table = pa.table(
        {
            "all_null": pa.nulls(3),
            "all_nan": pa.array([math.nan] * 3),
            "inf": pa.array([math.inf, -math.inf, 1.0]),
            "big": pa.array([2**63, 2**64 - 1, 0], pa.uint64()),
            "decimal": pa.array([decimal.Decimal("1.50"), None, decimal.Decimal("2")]),
            "binary": pa.array([b"\xff", None, b""]),
            "list": pa.array([[1], [], None]),
            "struct": pa.array([{"a": 1}, None, {"a": 2}]),
            "date": pa.array([dt.date(2020, 1, 1), None, dt.date(1900, 1, 1)]),
            "time": pa.array([dt.time(1), None, dt.time(2)]),
            "delta": pa.array([dt.timedelta(seconds=1), None, dt.timedelta(days=1)]),
            "dict": pa.array(["a", "b", "a"]).dictionary_encode(),
            "view": pa.array(["a", None, "b"], pa.string_view()),
            "half": pa.array([1.5, None, 2.5], pa.float16()),
            "long": pa.array(["x" * 5000, "y", "z"]),
            "bool": pa.array([True, None, False]),
        }
    )
    profile = profile_table(table, label="dict", group_columns=["inf", "all_nan", "date", "bool", "decimal"])
    assert len(canonical_json(profile)) < 20_000
    columns = profile["columns"]
    assert (columns["inf"]["min"], columns["inf"]["max"], columns["inf"]["std"]) == ("-Infinity", "Infinity", "NaN")
    assert columns["big"]["max"] == str(2**64 - 1)
    assert columns["decimal"]["mean"] == 1.75
    assert columns["dict"]["top"][0] == {"value": "a", "count": 2}
    assert profile["groups"]["all_nan"][0]["count"] == 3
    assert sum(c["count"] for c in profile["groups"]["all_nan"][0]["classes"]) == 3


def test_json_value():
    values = [math.nan, math.inf, -math.inf, -0.0, 2**53, 2**53 - 1, True, None, b"\x01", dt.datetime(2020, 1, 1)]
    assert json.dumps([json_value(v) for v in values]) == json.dumps(
        ["NaN", "Infinity", "-Infinity", 0.0, "9007199254740992", 2**53 - 1, True, None, "01", "2020-01-01T00:00:00"]
    )


def test_personal_data_shows_no_small_counts_and_no_text_ranges():
    table = pa.table({"id": list(range(30)), "town": ["Bern"] * 28 + ["Zermatt", "Arosa"]})
    profile = profile_table(table, personal=True, hidden=["id"])
    town = profile["columns"]["town"]
    assert town["top"] == [{"value": "Bern", "count": 28}]
    assert town["other_rows"] == 2
    assert "Zermatt" not in json.dumps(profile)
    assert "min" not in town
    assert "max" not in profile["columns"]["id"]


def test_unknown_columns_and_too_many_groups_are_refused():
    table = pa.table({"a": list(range(1001))})
    with pytest.raises(TableError, match="no column 'b'"):
        profile_table(table, label="b")
    with pytest.raises(DatasetError, match="1001 values; bin it"):
        profile_table(table, group_columns=["a"])


def test_schema_names_do_not_depend_on_layout():
    plain = pa.table({"b": ["x"], "a": [[1]]})
    other = pa.table({"a": pa.array([[1]], pa.large_list(pa.int64())), "b": pa.array(["x"]).dictionary_encode()})
    assert schema_list(plain) == [["a", "list<int64>", True], ["b", "string", True]]
    assert schema_hash(schema_list(plain)) == schema_hash(schema_list(other))


def test_zero_and_negative_zero_are_one_value_as_in_pandas():
    table = pa.table({"x": [0.0, -0.0, 1.0]})
    assert profile_table(table)["columns"]["x"]["distinct"] == table.to_pandas()["x"].nunique() == 2
    assert profile_table(pa.table({"x": pa.array([0.0, -0.0], pa.float16())}))["columns"]["x"]["distinct"] == 1
