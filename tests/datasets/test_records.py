"""Record digests: equal values have equal digests, different values have different ones, and the root is a multiset's."""

from __future__ import annotations

import datetime as dt
import decimal
import math

import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    DuplicateKeyError,
    ManifestError,
    RecordDigestAlgorithm,
    TableError,
    check_record_key,
    key_id,
    record_digests,
    record_root,
    record_set,
    unpack_records,
)
from cognify_dagster.datasets.records.digests import pack_records
from tests.datasets import naive

KEY = bytes(range(32))

COLUMNS = {
    "bool": (pa.bool_(), st.booleans()),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "float32": (pa.float32(), st.floats(width=32)),
    "float64": (pa.float64(), st.floats()),
    "decimal": (pa.decimal128(20, 4), st.decimals(-(10**9), 10**9, places=4)),
    "string": (pa.string(), st.text(max_size=8)),
    "binary": (pa.binary(), st.binary(max_size=8)),
    "date": (pa.date32(), st.dates()),
    "time": (pa.time64("us"), st.times()),
    "timestamp": (pa.timestamp("us"), st.datetimes()),
    "instant": (pa.timestamp("us", "UTC"), st.datetimes(timezones=st.just(dt.timezone.utc))),
    "list": (pa.list_(pa.int32()), st.lists(st.none() | st.integers(-5, 5), max_size=4)),
    "texts": (pa.large_list(pa.string()), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    "nested": (
        pa.list_(pa.struct([("b", pa.string()), ("a", pa.list_(pa.bool_()))])),
        st.lists(
            st.none()
            | st.fixed_dictionaries(
                {"b": st.none() | st.text(max_size=2), "a": st.none() | st.lists(st.booleans(), max_size=2)}
            ),
            max_size=3,
        ),
    ),
}


@st.composite
def tables(draw, min_rows=0, max_rows=8):
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=4, unique=True))
    count = draw(st.integers(min_rows, max_rows))
    columns = {n: draw(st.lists(st.none() | COLUMNS[n][1], min_size=count, max_size=count)) for n in names}
    table = pa.table({n: pa.array(v, COLUMNS[n][0]) for n, v in columns.items()})
    return table, [{n: columns[n][i] for n in names} for i in range(count)]


@settings(max_examples=120, deadline=None)
@given(tables())
def test_digests_are_those_of_the_second_implementation(made):
    table, rows = made
    assert record_digests(table) == [naive.record_digest(row) for row in rows]
    assert record_digests(table, key=KEY) == [naive.record_digest(row, KEY) for row in rows]
    assert record_set(table).root() == naive.record_root(rows, table.column_names)


@settings(max_examples=40, deadline=None)
@given(tables(min_rows=1), st.data())
def test_slices_and_chunks_do_not_matter(made, data):
    table, _ = made
    digests = record_digests(table)
    cut = data.draw(st.integers(0, table.num_rows))
    assert record_digests(table.slice(cut)) == digests[cut:]
    assert record_digests(pa.concat_tables([table.slice(0, cut), table.slice(cut)])) == digests


@settings(max_examples=40, deadline=None)
@given(tables(min_rows=2), st.data())
def test_the_root_does_not_depend_on_order_but_on_how_often_a_record_occurs(made, data):
    table, _ = made
    order = data.draw(st.permutations(range(table.num_rows)))
    root = record_set(table).root()
    assert record_set(table.take(list(order))).root() == root
    assert record_set(table.select(table.column_names[::-1])).root() == root
    assert record_set(table.take([*order, 0])).root() != root
    assert record_set(table.take(list(order)[1:])).root() != root


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pa.array([1, -2], pa.int8()), pa.array([1, -2], pa.int64())),
        (pa.array([1, 2], pa.uint64()), pa.array([1, 2], pa.int16())),
        (pa.array([1.5, None], pa.float16()), pa.array([1.5, None], pa.float64())),
        (pa.array([0.0, math.nan]), pa.array([-0.0, math.nan])),
        (pa.array(["a", None]), pa.array(["a", None], pa.large_string())),
        (pa.array(["a", None]), pa.array(["a", None], pa.string_view())),
        (pa.array(["a", None, "a"]), pa.array(["a", None, "a"]).dictionary_encode()),
        (pa.array([b"ab"], pa.binary()), pa.array([b"ab"], pa.binary(2))),
        (pa.array([decimal.Decimal("1.50")]), pa.array([decimal.Decimal("1.5")])),
        (pa.array([decimal.Decimal("1.5")], pa.decimal256(50, 9)), pa.array([decimal.Decimal("1.5")])),
        (pa.array([dt.date(2020, 1, 2)], pa.date64()), pa.array([dt.date(2020, 1, 2)], pa.date32())),
        (pa.array([-1], pa.timestamp("s")), pa.array([-1_000_000_000], pa.timestamp("ns"))),
        (pa.array([1], pa.timestamp("s", "UTC")), pa.array([1000], pa.timestamp("ms", "Europe/Zurich"))),
        (pa.array([3], pa.duration("s")), pa.array([3000], pa.duration("ms"))),
        (pa.array([5], pa.time32("s")), pa.array([5_000_000], pa.time64("us"))),
        (pa.array([[1, 2]], pa.list_(pa.int8())), pa.array([[1, 2]], pa.list_(pa.int64(), 2))),
        (pa.array([[1, 2], None], pa.list_(pa.int8())), pa.array([[1, 2], None], pa.list_view(pa.int8()))),
        (
            pa.array([{"a": 1, "b": 2}], pa.struct([("a", pa.int8()), ("b", pa.int8())])),
            pa.array([{"a": 1, "b": 2}], pa.struct([("b", pa.int8()), ("a", pa.int8())])),
        ),
        (
            pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
            pa.array([[{"key": "k", "value": 1}], None]),
        ),
    ],
)
def test_the_same_values_in_another_layout_have_the_same_digest(one, other):
    assert record_digests(pa.table({"x": one})) == record_digests(pa.table({"x": other}))


def test_different_values_never_share_a_digest():
    columns = [
        pa.array([None], pa.int8()),
        pa.array([False]),
        pa.array([0]),
        pa.array([0.0]),
        pa.array([decimal.Decimal("0")]),
        pa.array(["0"]),
        pa.array([b"0"]),
        pa.array([""]),
        pa.array([b""]),
        pa.array([dt.date(1970, 1, 1)]),
        pa.array([0], pa.timestamp("s")),
        pa.array([0], pa.timestamp("s", "UTC")),
        pa.array([0], pa.time32("s")),
        pa.array([0], pa.duration("s")),
        pa.array([[]], pa.list_(pa.int8())),
        pa.array([[0]], pa.list_(pa.int8())),
        pa.array([[None]], pa.list_(pa.int8())),
        pa.array([{"a": 0}]),
        pa.array([{"b": 0}]),
        pa.array([{}], pa.struct([])),
    ]
    digests = [record_digests(pa.table({"x": column}))[0] for column in columns]
    assert len(set(digests)) == len(columns)
    assert record_digests(pa.table({"y": columns[2]}))[0] not in digests


def test_values_do_not_flow_from_one_column_into_the_next():
    assert record_digests(pa.table({"a": ["ab"], "b": ["c"]})) != record_digests(pa.table({"a": ["a"], "b": ["bc"]}))


def test_more_rows_than_one_batch(monkeypatch):
    table = pa.table({"a": list(range(100)), "b": [str(i) for i in range(100)]})
    whole = record_digests(table)
    monkeypatch.setattr("cognify_dagster.datasets.records.digests.BATCH_ROWS", 7)
    assert record_digests(table) == whole


def test_keyed_digests_need_a_key_of_32_bytes_and_depend_on_it():
    table = pa.table({"a": [1]})
    for bad in (b"short", "x" * 32, bytes(33)):
        with pytest.raises(DatasetError, match="32 bytes"):
            record_digests(table, key=bad)
    assert record_digests(table, key=KEY) != record_digests(table, key=bytes(32)) != record_digests(table)
    assert key_id(KEY) != key_id(bytes(32))
    assert KEY.hex() not in key_id(KEY)


def test_no_records_and_one_record_have_roots_of_their_own():
    ids = record_set(pa.table({"a": [1]}))
    empty = record_root([], RecordDigestAlgorithm.SHA256, ids.schema_id)
    assert len({empty, ids.root(), bytes(32), record_root([], RecordDigestAlgorithm.HMAC_SHA256, ids.schema_id)}) == 4


def test_columns_that_cannot_be_digested_are_named():
    union = pa.UnionArray.from_sparse(pa.array([0], pa.int8()), [pa.array([1])])
    with pytest.raises(TableError, match="'u' has type"):
        record_digests(pa.table({"u": union}))
    with pytest.raises(TableError, match="'a' occurs twice"):
        record_digests(pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(TableError, match="no column 'z'"):
        record_digests(pa.table({"a": [1]}), columns=["z"])
    with pytest.raises(TableError, match="at least one column"):
        record_digests(pa.table({"a": [1]}), columns=[])
    broken = pa.Array.from_buffers(
        pa.string(), 1, [None, pa.array([0, 1], pa.int32()).buffers()[1], pa.py_buffer(b"\xff")]
    )
    with pytest.raises(TableError, match="'t'"):
        record_digests(pa.table({"t": broken}))


def test_duplicate_keys_name_the_key_and_both_rows():
    table = pa.table({"id": [7, 8, 7], "name": ["Ann", "Bob", "Cyd"]})
    with pytest.raises(DuplicateKeyError, match="id = 7 occurs in rows 0 and 2"):
        check_record_key(table, ["id"], personal=False)
    with pytest.raises(DuplicateKeyError) as caught:
        check_record_key(table, ["id"], personal=True)
    assert "rows 0 and 2" in str(caught.value)
    assert "7" not in str(caught.value)
    check_record_key(table, ["id", "name"], personal=False)
    with pytest.raises(DuplicateKeyError, match="empty in row 1"):
        check_record_key(pa.table({"id": [1, None]}), ["id"], personal=True)


def test_record_manifest_round_trip_and_damage():
    made = record_set(pa.table({"a": [3, 1, 2, 1]}))
    data = pack_records(made.algorithm, made.schema_id, b"".join(made.sorted_digests()))
    assert unpack_records(data).root() == made.root()
    swapped = data[:-128] + b"".join(made.sorted_digests()[::-1])
    for bad in (b"", data[:-1], data[:-32], data + b"x", b"X" + data[1:], data[:8] + b"\x09" + data[9:], swapped):
        with pytest.raises(ManifestError):
            unpack_records(bad)


def test_digesting_by_columns_beats_hashing_row_by_row():
    import time

    table = pa.table({f"c{i}": list(range(i, 30_000 + i)) for i in range(25)})
    record_digests(table.slice(0, 10))
    started = time.process_time()  # not by the clock: another process may have the core while one of the two runs
    record_digests(table)
    ours = time.process_time() - started
    started = time.process_time()
    for row in table.to_pylist():
        naive.h(repr(row).encode())
    assert ours < time.process_time() - started


def test_pandas_and_arrow_give_the_same_records():
    frame = pd.DataFrame({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 1.0]})
    assert record_digests(pa.Table.from_pandas(frame)) == record_digests(
        pa.table({"c": [0.5, 1.0], "b": ["x", "y"], "a": [1, 2]})
    )
