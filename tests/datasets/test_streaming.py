"""Streams of batches give the records that reading the whole gives, whatever the block size, and notice other bytes."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    DuplicateKeyError,
    FileKind,
    FileLeaf,
    SourceChangedError,
    TableError,
    check_record_key,
    content_digest,
    read_table,
    record_index,
    record_set,
)
from cognify_dagster.datasets.records.collecting import RecordCollector
from cognify_dagster.datasets.records.packed import (
    PackedDigests,
    difference,
    is_sorted,
    packed_path,
    packed_root,
    sort_packed,
)
from cognify_dagster.datasets.records.reading import TablePart
from cognify_dagster.datasets.records.tables import parse_table
from cognify_dagster.datasets.records.verified import VerifiedReader
from cognify_dagster.datasets.sources.local import Found, LocalSource
from cognify_dagster.datasets.sources.streaming import TableStream
from cognify_dagster.datasets.tree import merkle_path, merkle_root, root_from_path
from tests.datasets.test_records import tables


def streamed(data: bytes, name: bytes, block: int = 64) -> pa.Table:
    part = TablePart(lambda: io.BytesIO(data), name, block=block)
    found = list(part.batches())
    return pa.concat_tables(found) if found else part.schema.empty_table()


def same(data: bytes, name: bytes, block: int = 64) -> None:
    """Streaming gives the table, or fails as reading at once fails."""
    try:
        whole = parse_table(data, name)
    except TableError:
        with pytest.raises(TableError):
            streamed(data, name, block)
        return
    found = streamed(data, name, block)
    assert set(found.column_names) == set(whole.column_names)
    assert record_set(found).digests == record_set(whole).digests
    assert {f.name: str(f.type) for f in found.schema} == {f.name: str(f.type) for f in whole.schema}


CELLS = st.sampled_from(
    ["1", "-7", "2.5", "true", "False", "2020-01-31", "10:00:00", "2020-01-31 10:00:00", "2020-01-31T10:00:00.25", "2020-01-31T10:00:00Z",
     "2020-01-31T10:00:00.5Z", "", "NA", "nan", "text", "ü", '"a,b"', '"line\nbreak"', '"a""b"', "18446744073709551616", "1e3", "007"]
)  # fmt: skip


@settings(max_examples=150, deadline=None)
@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=14), st.integers(24, 200))
@example([("1", "a")] * 12 + [("x", "b")], 32)
@example([("NA", "1")] * 12 + [("2.5", "1")], 32)
def test_csv_types_are_those_of_all_rows(rows: list[tuple[str, str]], block: int) -> None:
    same("\n".join(["a,b", *(",".join(row) for row in rows)]).encode() + b"\n", b"x.csv", block)


def test_csv_with_a_byte_order_mark_long_lines_and_gzip() -> None:
    text = "a,b\n" + "".join(f"{i},{'x' * (i % 90)}\n" for i in range(200))
    for data in (text.encode(), b"\xef\xbb\xbf" + text.encode(), text.replace("\n", "\r\n").encode()):
        same(data, b"x.csv", 40)
    same(gzip.compress(text.encode()), b"x.csv.gz", 40)
    same(b"a,b\n", b"x.csv")


@pytest.mark.parametrize(
    ("data", "name", "part"),
    [
        (b"a,b\n1,2\n" * 30 + b"1,2,3\n", b"x.csv", r"x\.csv.*3 columns where the header has 2"),
        (b"a,b\n1,2\n1,\xff\n", b"x.csv", "not UTF-8"),
        (b"", b"x.csv", "empty"),
        (b"a,a\n1,2\n", b"x.csv", "two columns named 'a'"),
        (gzip.compress(b"a\n" + b"1\n" * 9000, mtime=0)[:-20], b"x.csv.gz", "whole gzip"),
        (b'{"a": 1}\n' * 20 + b'{"a": \n', b"x.jsonl", "line 21"),
        (b'{"a": 1}\n' * 20 + b'{"a": "x"}\n', b"x.jsonl", "'a' mixes types"),
        (b'{"a": 1}\n{"a": NaN}\n', b"x.jsonl", "line 2"),
        (b'{"a": 1, "a": 2}\n', b"x.jsonl", "line 1"),
        (b"[1]\n", b"x.jsonl", "a list where a JSON object is needed"),
        (b"PAR1 no", b"x.parquet", "not a whole Parquet file"),
    ],
)
def test_what_is_wrong_is_named_with_file_and_line(data: bytes, name: bytes, part: str) -> None:
    with pytest.raises(TableError, match=part):
        streamed(data, name)


NUMBER = st.integers(-(2**40), 2**40) | st.floats(allow_nan=False, allow_infinity=False, width=32)
JSON = {
    "a": st.none() | NUMBER | st.text(max_size=4),
    "b": st.none() | st.booleans(),
    "c": st.none() | st.lists(st.none() | NUMBER, max_size=2),
    "d": st.none() | st.fixed_dictionaries({}, optional={"x": st.integers(0, 3), "y": st.text(max_size=2)}),
}


@settings(max_examples=100, deadline=None)
@given(st.lists(st.fixed_dictionaries({}, optional=JSON), min_size=1, max_size=9).filter(any))
def test_json_lines_types_are_those_of_all_rows(rows: list[dict[str, Any]]) -> None:
    same(b"".join(json.dumps(row).encode() + b"\n" for row in rows), b"x.jsonl", 8)


def test_truth_values_among_numbers_are_refused_in_a_stream() -> None:
    with pytest.raises(TableError, match="'a' mixes types"):
        streamed(b'{"a": 0.5}\n{"a": true}\n', b"x.jsonl", 8)


@settings(max_examples=40, deadline=None)
@given(tables(min_rows=1))
def test_parquet_is_read_row_group_by_row_group(made: Any) -> None:
    table, _ = made
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=2)
    same(out.getvalue(), b"x.parquet")


def test_a_damaged_row_group_is_named() -> None:
    out = io.BytesIO()
    pq.write_table(
        pa.table({"a": list(range(1000)), "b": ["x" * 50] * 1000}), out, row_group_size=100, compression="zstd"
    )
    data = bytearray(out.getvalue())
    middle = len(data) // 3
    data[middle : middle + 60] = bytes(60)
    with pytest.raises(TableError, match=r"x\.parquet, row group \d+ of 10"):
        streamed(bytes(data), b"x.parquet")


def folder_of(folder: Path, parts: dict[str, bytes]) -> tuple[LocalSource, list[Found], dict[bytes, FileLeaf]]:
    found, leaves = [], {}
    for name, data in sorted(parts.items()):
        (folder / name).write_bytes(data)
        path = name.encode()
        found.append(Found(path, FileKind.FILE, len(data)))
        leaves[path] = FileLeaf(path, FileKind.FILE, len(data), *content_digest(data))
    return LocalSource(folder), found, leaves


def parquet(columns: dict[str, Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def test_several_files_become_one_table_with_common_types(tmp_path: Path) -> None:
    parts = {
        "a.parquet": parquet({"id": [1, 2], "v": pa.array([1, 2], pa.int32()), "w": pa.array([None, None], pa.null())}),
        "b.parquet": parquet({"w": ["x"], "v": [2.5], "id": [3]}),
    }
    source, found, leaves = folder_of(tmp_path, parts)
    stream = TableStream(source, found, leaves)
    collector = RecordCollector(["id"], bytes(32))
    batches = list(collector.watch(stream.batches()))
    assert all(batch.schema == stream.schema for batch in batches)
    whole = read_table(str(tmp_path))
    made, index = collector.finish()
    expected = record_set(whole, key=bytes(32))
    assert list(made.digests) == sorted(expected.digests)
    assert (made.root(), made.columns, collector.rows) == (expected.root(), expected.columns, 3)
    assert index == record_index(whole, ["id"], expected.digests, bytes(32))


def test_parts_with_other_columns_are_named(tmp_path: Path) -> None:
    source, found, leaves = folder_of(tmp_path, {"a.csv": b"a,b\n1,2\n", "b.csv": b"a\n1\n"})
    with pytest.raises(TableError, match="differ in column 'b'"):
        TableStream(source, found, leaves)


def test_a_file_that_is_another_one_by_now_fails_the_stream(tmp_path: Path) -> None:
    source, found, leaves = folder_of(tmp_path, {"a.csv": b"a,b\n" + b"1,2\n" * 50})
    stream = TableStream(source, found, leaves)
    (tmp_path / "a.csv").write_bytes(b"a,b\n" + b"1,2\n" * 49 + b"1,3\n")
    with pytest.raises(SourceChangedError, match=r"a\.csv changed"):
        list(stream.batches())


def test_a_chunk_that_changes_between_two_reads_is_noticed() -> None:
    data = bytearray(b"x" * (8 * 1024 * 1024 + 5))
    leaf = FileLeaf(b"f", FileKind.FILE, len(data), *content_digest(bytes(data)))
    reader = VerifiedReader(lambda at, size: bytes(data[at : at + size]), leaf)
    reader.seek(-5, io.SEEK_END)
    assert reader.read() == b"xxxxx"
    data[3] = 0
    with pytest.raises(SourceChangedError):
        reader.finish()


def test_keys_are_checked_across_batches() -> None:
    def collect(*batches: list[Any]) -> None:
        collector = RecordCollector(["id"])
        for ids in batches:
            collector.add(pa.table({"id": pa.array(ids, pa.int64()), "v": list(range(len(ids)))}))
        collector.finish()

    collect([1, 2], [3])
    with pytest.raises(DuplicateKeyError, match="rows 1 and 3"):
        collect([1, 2], [3, 2])
    with pytest.raises(DuplicateKeyError, match="empty in row 2"):
        collect([1, 2], [None])
    with pytest.raises(TableError, match="no column 'id'"):
        RecordCollector(["id"]).add(pa.table({"a": [1]}))


def test_nan_and_null_are_different_records() -> None:
    values = pa.array([float("nan"), None, float("nan")])
    made = record_set(pa.table({"v": values})).digests
    assert made[0] == made[2] != made[1]
    with pytest.raises(DuplicateKeyError):
        check_record_key(pa.table({"v": values.slice(0, 1)}).take([0, 0]), ["v"], personal=False)


# --- packed digests ----------------------------------------------------------------------------------------------------

DIGESTS = st.lists(
    st.integers(0, 40).map(lambda n: bytes(8) + n.to_bytes(24, "big")) | st.binary(min_size=32, max_size=32),
    max_size=40,
)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that few digests take the ways of many."""
    monkeypatch.setattr("cognify_dagster.datasets.records.packed._BLOCK", 4)
    monkeypatch.setattr("cognify_dagster.datasets.records.packed._SMALL", 0)
    monkeypatch.setattr("cognify_dagster.datasets.records.packed._STEP", 3)


@settings(max_examples=150, deadline=None)
@given(DIGESTS, DIGESTS)
def test_the_difference_is_that_of_multisets(old: list[bytes], new: list[bytes]) -> None:
    from collections import Counter

    added, removed = difference(sort_packed(old), sort_packed(new))
    assert list(added) == sorted((Counter(new) - Counter(old)).elements())
    assert list(removed) == sorted((Counter(old) - Counter(new)).elements())


@settings(max_examples=80, deadline=None)
@given(DIGESTS)
def test_packed_digests_sort_search_and_hash_as_lists_do(digests: list[bytes]) -> None:
    packed = sort_packed(digests)
    assert packed == sorted(digests)
    assert is_sorted(packed)
    assert is_sorted(PackedDigests.of(digests)) == (digests == sorted(digests))
    assert packed_root(packed) == merkle_root(sorted(digests))
    for index in range(len(digests)):
        path = packed_path(packed, index)
        assert path == merkle_path(sorted(digests), index)
        assert root_from_path(packed[index], index, len(packed), path) == packed_root(packed)
    assert list(packed[1:3]) == sorted(digests)[1:3]
    assert list(packed[::-2]) == sorted(digests)[::-2]


def test_bytes_that_are_no_digests_are_refused() -> None:
    with pytest.raises(DatasetError):
        PackedDigests(bytes(33))
    with pytest.raises(IndexError):
        PackedDigests(bytes(32))[1]


def test_a_large_source_has_the_snapshot_that_a_small_one_has(
    tmp_path: Path, provenance: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.datasets import take_snapshot, verify_snapshot

    people = pa.table(
        {"id": list(range(300)), "sex": ["f", "m", None] * 100, "y": [0, 1] * 150, "x": [0.5 * i for i in range(300)]}
    )
    pq.write_table(people.slice(0, 200), tmp_path / "a.parquet", row_group_size=64)
    pq.write_table(people.slice(200), tmp_path / "b.parquet")
    options: dict[str, Any] = {
        "name": "d",
        "provenance": provenance,
        "record_key": "id",
        "label": "y",
        "group_columns": ["sex"],
    }
    small = take_snapshot(str(tmp_path), **options)
    for module in ("snapshot", "verify"):
        monkeypatch.setattr(f"cognify_dagster.datasets.{module}.STREAM_BYTES", 0)
    large = take_snapshot(str(tmp_path), **options)
    assert large.header == small.header
    assert (large.record_digests, large.record_index) == (small.record_digests, small.record_index)
    assert large.profile == small.profile
    assert verify_snapshot(str(tmp_path), small).ok
    pq.write_table(people.slice(200, 99), tmp_path / "b.parquet")
    report = verify_snapshot(str(tmp_path), small)
    assert not report.ok
    assert report.records_removed == 1
    with pytest.raises(DuplicateKeyError):
        take_snapshot(str(tmp_path), **{**options, "record_key": "y"})


def test_a_helper_process_gives_the_same_digests_and_is_not_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.datasets.records.helping import RowHasher

    table = pa.table({"a": list(range(500)), "b": [str(i) * 3 for i in range(500)]})
    for secret in (None, bytes(range(32))):
        alone = record_set(table, key=secret).digests
        monkeypatch.setattr("cognify_dagster.datasets.records.digests.HELPED_ROWS", 1)
        monkeypatch.setattr("cognify_dagster.datasets.records.digests.BATCH_ROWS", 64)
        monkeypatch.setattr("cognify_dagster.datasets.records.helping.os.cpu_count", lambda: 2)
        assert record_set(table, key=secret).digests == alone
        assert record_set(table.slice(3, 200), key=secret).digests == alone[3:203]
        started = RowHasher._ask

        def killed(self: RowHasher, bounds: Any, data: Any, ask: Any = started) -> bytes:
            if self._process is not None:
                self._process.kill()
                self._process.wait()
            return bytes(ask(self, bounds, data))

        with monkeypatch.context() as patch:
            patch.setattr(RowHasher, "_ask", killed)
            assert record_set(table, key=secret).digests == alone
        with monkeypatch.context() as patch:
            patch.setattr("cognify_dagster.datasets.records.helping.sys.executable", "")
            assert record_set(table, key=secret).digests == alone
        monkeypatch.undo()


def test_a_collector_takes_a_helper_when_there_are_many_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cognify_dagster.datasets.records.collecting.HELPED_ROWS", 20)
    monkeypatch.setattr("cognify_dagster.datasets.records.helping.os.cpu_count", lambda: 2)
    table = pa.table({"id": list(range(60)), "b": ["x"] * 60})
    collector = RecordCollector(["id"])
    for start in range(0, 60, 6):
        collector.add(table.slice(start, 6))
    assert collector._hasher is not None
    assert collector._hasher.helped
    made, index = collector.finish()
    assert not collector._hasher.helped
    assert list(made.digests) == sorted(record_set(table).digests)
    assert index == record_index(table, ["id"], record_set(table).digests)
