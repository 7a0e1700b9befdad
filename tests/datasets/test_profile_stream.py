"""Profiles of streams equal those of whole tables and a pandas recomputation; hints name kinds of personal data, never values."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import DatasetError, TableError, profile_batches, profile_table
from cognify_dagster.datasets.profile.hints import luhn, name_hints
from cognify_dagster.datasets.profile.sketches import DistinctCounter, Sample
from cognify_dagster.datasets.profile.statistics import QUANTILES

ROW = st.fixed_dictionaries(
    {
        "whole": st.none() | st.integers(-(2**40), 2**40),
        "amount": st.none() | st.just(math.nan) | st.floats(-1e6, 1e6),
        "word": st.none() | st.text("abcé ", max_size=4),
        "flag": st.none() | st.booleans(),
        "label": st.integers(0, 2),
    }
)
SCHEMA = pa.schema(
    {"whole": pa.int64(), "amount": pa.float64(), "word": pa.string(), "flag": pa.bool_(), "label": pa.int64()}
)


def near(one: object, other: object) -> bool:
    """Equal, numbers to nine digits."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(near(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(near(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, float) or isinstance(other, float):
        return one == pytest.approx(other, rel=1e-9, abs=1e-6)
    return one == other


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=2, max_size=40), st.integers(1, 7), st.booleans())
def test_a_stream_has_the_profile_of_the_whole_table(rows: list[dict[str, object]], size: int, personal: bool) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    batches = [table.slice(start, size) for start in range(0, table.num_rows, size)]
    options = {"label": "label", "group_columns": ["word", "flag"], "personal": personal, "hidden": ["whole"]}
    whole = profile_table(table, **options)  # type: ignore[arg-type]
    assert profile_batches(iter(batches), **options) == whole  # type: ignore[arg-type]
    streamed = profile_batches(iter(batches), exact_rows=0, **options)  # type: ignore[arg-type]
    assert near(json.loads(json.dumps(streamed)), json.loads(json.dumps(whole)))


@settings(max_examples=60, deadline=None)
@given(st.lists(ROW, min_size=1, max_size=40))
def test_statistics_equal_a_pandas_recomputation(rows: list[dict[str, object]]) -> None:
    table = pa.Table.from_pylist(rows, SCHEMA)
    profile = profile_batches(table.to_batches(max_chunksize=5), label="label", group_columns=["flag"], exact_rows=0)
    for name in ("whole", "amount", "label"):
        column = profile["columns"][name]
        series = pd.Series(table.column(name).to_pylist(), dtype="float64")
        assert column["nulls"] + column.get("nans", 0) == series.isna().sum()
        assert column["distinct"] == series.nunique()
        if not series.count():
            continue
        assert (column["min"], column["max"]) == (series.min(), series.max())
        assert column["mean"] == pytest.approx(series.mean(), rel=1e-9, abs=1e-6)
        if series.count() > 1:
            assert column["std"] == pytest.approx(series.std(), rel=1e-6, abs=1e-3)
        for q in QUANTILES:
            assert column["quantiles"][str(q)] == pytest.approx(series.quantile(q), rel=1e-9, abs=1e-6)
    words = pd.Series(table.column("word").to_pylist(), dtype="object").dropna()
    if len(words):
        lengths = words.str.len()
        column = profile["columns"]["word"]
        assert (column["min_length"], column["max_length"]) == (lengths.min(), lengths.max())
        assert column["mean_length"] == pytest.approx(lengths.mean())
        assert {item["value"]: item["count"] for item in column["top"]} == words.value_counts().to_dict() or len(
            words
        ) > 20
    frame = pd.DataFrame(rows)
    assert {c["value"]: c["count"] for c in profile["label"]["classes"]} == frame["label"].value_counts().to_dict()
    for group in profile["groups"]["flag"]:
        same = frame["flag"].isna() if group["value"] is None else frame["flag"].map(lambda v, g=group: v is g["value"])
        assert group["count"] == same.sum()
        assert {c["value"]: c["count"] for c in group["classes"]} == frame.loc[same, "label"].value_counts().to_dict()


def test_what_is_estimated_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.datasets.profile import sketches

    monkeypatch.setattr(sketches, "EXACT_DISTINCT", 20_000)
    monkeypatch.setattr(sketches, "KEPT_HASHES", 4096)
    values = np.random.default_rng(3).permutation(200_000)
    table = pa.table({"n": values, "t": [f"v{value % 50_000}" for value in values], "few": values % 7})
    monkeypatch.setattr(Sample, "__init__", lambda self, **_: _small(self))
    profile = profile_batches(table.to_batches(max_chunksize=9_000), exact_rows=0)
    n, t, few = (profile["columns"][name] for name in ("n", "t", "few"))
    assert n["distinct"] == pytest.approx(200_000, rel=0.08)
    assert t["distinct"] == pytest.approx(50_000, rel=0.08)
    assert (few["distinct"], len(few["top"])) == (7, 7)
    assert n["estimated"]["distinct"]["standard_error"] == pytest.approx(1 / math.sqrt(4094), rel=0.01)
    assert n["estimated"]["quantiles"] == {"sampled_rows": 10_000}
    assert "distinct" not in few["estimated"]
    assert (n["min"], n["max"], n["nulls"]) == (0, 199_999, 0)
    assert n["mean"] == pytest.approx(99_999.5)
    assert n["quantiles"]["0.5"] == pytest.approx(100_000, rel=0.05)


def _small(sample: Sample) -> None:
    sample.exact, sample.size, sample._parts, sample._drawn, sample._held, sample._random = (
        True,
        10_000,
        [],
        [],
        0,
        None,
    )


def test_counting_different_values_is_exact_at_first_and_close_later(monkeypatch: pytest.MonkeyPatch) -> None:
    counter = DistinctCounter()
    counter.add(pa.chunked_array([pa.array([0.0, -0.0, 1.5, 1.5])]))
    assert (counter.count(), counter.exact) == (2, True)
    counter.add(pa.chunked_array([pa.array([2.5, 0.0])]))
    assert counter.count() == 3


def test_batches_that_do_not_fit_are_refused() -> None:
    one = pa.table({"a": [1]})
    with pytest.raises(TableError, match="nothing to profile"):
        profile_batches([])
    with pytest.raises(TableError, match="differ in column 'a'"):
        profile_batches([one, pa.table({"b": [1]})])
    with pytest.raises(TableError, match="'a' is double in one batch and int64"):
        profile_batches([one, pa.table({"a": [1.5]})])
    with pytest.raises(TableError, match="no column 'b'"):
        profile_batches([one, one], label="b", exact_rows=0)
    many = [pa.table({"a": list(range(start, start + 600))}) for start in (0, 600)]
    with pytest.raises(DatasetError, match="bin it into at most 1000 groups"):
        profile_batches(many, group_columns=["a"], exact_rows=0)


# --- hints of personal data ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "seen", "unseen"),
    [
        ("e-mail address", ["write to ada@bank.example please"], ["ada at bank", "@home", "a@b"]),
        (
            "phone number",
            ["+41 44 668 18 00", "call (212) 555-0147"],
            ["2024-01-02", "1234567890123", "10.0.0.1", "3.14"],
        ),
        (
            "IBAN",
            ["GB82 WEST 1234 5698 7654 32", "to DE89370400440532013000"],
            ["GB83 WEST 1234 5698 7654 32", "AB12 CDEF"],
        ),
        (
            "payment card number",
            ["4111 1111 1111 1111", "x 5500005555555559"],
            ["4111 1111 1111 1112", "0000000000000000"],
        ),
        (
            "US social security number",
            ["ssn 219-09-9999"],
            ["000-12-3456", "666-12-3456", "912-34-5678", "12-345-6789"],
        ),
    ],
)
def test_values_that_look_like_personal_data_are_counted_and_never_shown(
    kind: str, seen: list[str], unseen: list[str]
) -> None:
    profile = profile_table(pa.table({"x": [*seen, *unseen, None, "plain"]}), personal=False)
    hints = {hint["kind"]: hint for hint in profile["columns"]["x"].get("hints", [])}
    assert hints[kind]["rows"] == len(seen)
    assert hints[kind]["scanned"] == len(seen) + len(unseen) + 1
    assert not any(value in json.dumps(hints) for value in seen)
    clean = profile_table(pa.table({"x": unseen}))["columns"]["x"].get("hints", [])
    assert kind not in {hint["kind"] for hint in clean}


def test_card_numbers_are_seen_in_columns_of_integers() -> None:
    hints = profile_table(pa.table({"x": [4111111111111111, 7, 4111111111111112]}))["columns"]["x"]["hints"]
    assert [(hint["kind"], hint["rows"]) for hint in hints] == [("payment card number", 1)]
    assert "hints" not in profile_table(pa.table({"x": [1, 2, 3]}))["columns"]["x"]


def test_few_hits_in_personal_data_are_not_counted_out() -> None:
    table = pa.table({"x": ["ada@bank.example"] + ["y"] * 30})
    (hint,) = profile_table(table, personal=True)["columns"]["x"]["hints"]
    assert hint["rows"] == "fewer than 10"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("birth_date", "birth date"),
        ("dateOfBirth", "birth date"),
        ("DOB", "birth date"),
        ("customer_name", "name of a person"),
        ("lastName", "name of a person"),
        ("E-Mail", "e-mail address"),
        ("mobile", "phone number"),
        ("zip_code", "postal address"),
        ("SSN", "identity document"),
        ("iban", "account or card"),
        ("MRN", "health record number"),
        ("ip_address", "network address"),
    ],
)
def test_names_of_columns_are_hints(name: str, kind: str) -> None:
    assert kind in name_hints(name)
    assert {"kind": kind, "by": "name"} in profile_table(pa.table({name: ["x"]}))["columns"][name]["hints"]


@pytest.mark.parametrize(
    "name", ["LIMIT_BAL", "PAY_AMT1", "description", "filename", "tip", "telemetry", "zipped", "BILL_AMT2"]
)
def test_other_names_are_no_hints(name: str) -> None:
    assert name_hints(name) == []


@given(st.integers(10**11, 10**17))
def test_luhn_finds_every_single_wrong_digit(number: int) -> None:
    body = str(number)
    check = next(digit for digit in "0123456789" if luhn(body + digit))
    whole = body + check
    for place, digit in enumerate(whole):
        wrong = whole[:place] + str((int(digit) + 1) % 10) + whole[place + 1 :]
        assert not luhn(wrong)
