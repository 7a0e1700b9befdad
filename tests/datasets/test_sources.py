"""Sources: what can be a dataset, what is refused and how, and that the same data has the same root wherever it lies."""

from __future__ import annotations

import gzip
import os
import socket
import sys

import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

from cognify_dagster.datasets import SourceChangedError, SourceError, TableError, read_table, take_snapshot, to_arrow
from cognify_dagster.datasets.hashing import hash_worker, large
from cognify_dagster.datasets.hashing.run import hash_names
from cognify_dagster.datasets.records.tables import parse_table
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import LocalSource
from cognify_dagster.datasets.sources.remote import redact
from cognify_dagster.datasets.tree import CHUNK_SIZE

CONTENT = {"a.bin": b"alpha", "b/c.bin": bytes(300_000), "b/d/zoë": b"", "big.bin": b"x" * (2 * CHUNK_SIZE + 5)}


def fill(folder, content):
    for path, data in content.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)
    return folder


def parquet_bytes(table):
    out = pa.BufferOutputStream()
    parquet.write_table(table, out)
    return out.getvalue().to_pybytes()


def test_the_same_files_on_disk_and_remote_have_the_same_root(tmp_path, memory_url, put, provenance):
    fill(tmp_path, CONTENT)
    for path, data in CONTENT.items():
        put(path, data)
    on_disk = take_snapshot(tmp_path, name="d", provenance=provenance)
    by_url = take_snapshot(f"file://{tmp_path}", name="d", provenance=provenance)
    remote = take_snapshot(memory_url, name="other name", provenance=provenance)
    assert on_disk.root == by_url.root == remote.root
    assert on_disk.files == remote.files
    assert (on_disk.file_count, on_disk.total_bytes) == (4, sum(map(len, CONTENT.values())))
    labels = [leaf.algorithm.label for leaf in on_disk.files if leaf.size > CHUNK_SIZE]
    assert labels == ["sha256-chunked-8MiB"]


def test_one_file_has_the_same_root_on_disk_remote_and_through_a_link(tmp_path, memory_url, put, provenance):
    fill(tmp_path, {"x/data.csv": b"a\n1\n"})
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "data.csv").symlink_to(tmp_path / "x" / "data.csv")
    put("data.csv", b"a\n1\n")
    roots = {
        take_snapshot(source, name="d", provenance=provenance).root
        for source in (tmp_path / "x" / "data.csv", str(tmp_path / "y" / "data.csv"), f"{memory_url}/data.csv")
    }
    assert len(roots) == 1


def test_links_below_the_root_are_leaves_and_never_followed(tmp_path, provenance):
    secret = fill(tmp_path / "outside", {"secret": b"do not read"})
    data = fill(tmp_path / "data", {"a": b"1"})
    (data / "file-link").symlink_to(secret / "secret")
    (data / "folder-link").symlink_to(secret)
    (data / "dangling").symlink_to("nowhere")
    before = take_snapshot(data, name="d", provenance=provenance)
    (secret / "secret").write_bytes(b"changed")
    assert take_snapshot(data, name="d", provenance=provenance).root == before.root
    assert {leaf.path: leaf.kind.name for leaf in before.files} == {
        b"a": "FILE",
        b"file-link": "SYMLINK",
        b"folder-link": "SYMLINK",
        b"dangling": "SYMLINK",
    }
    (data / "dangling").unlink()
    (data / "dangling").symlink_to("elsewhere")
    assert take_snapshot(data, name="d", provenance=provenance).root != before.root


def test_a_folder_swapped_for_a_link_while_the_snapshot_runs_is_refused(tmp_path):
    outside = fill(tmp_path / "outside", {"f": b"secret"})
    data = fill(tmp_path / "data", {"sub/f": b"plain"})
    source = LocalSource(data)
    found, _ = source.entries(IgnoreRules())
    (data / "sub" / "f").unlink()
    (data / "sub").rmdir()
    (data / "sub").symlink_to(outside)
    with pytest.raises(SourceError, match="sub/f"):
        hash_names(source, [(b"sub", [b"f"])])
    with pytest.raises(SourceError, match="sub/f"):
        source.read(found[0], 100)


def test_a_file_swapped_for_a_fifo_does_not_block(tmp_path):
    data = fill(tmp_path / "data", {"f": b"plain"})
    source = LocalSource(data)
    (data / "f").unlink()
    os.mkfifo(data / "f")
    with pytest.raises(SourceChangedError, match=r"f in source .* is no longer a file"):
        hash_names(source, [(b"", [b"f"])])


@pytest.mark.parametrize("kind", ["fifo", "socket"])
def test_special_files_are_refused_by_name_unless_ignored(tmp_path, monkeypatch, provenance, kind):
    fill(tmp_path, {"a": b"1"})
    monkeypatch.chdir(tmp_path)  # socket addresses are short
    if kind == "fifo":
        os.mkfifo("odd")
    else:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("odd")
    with pytest.raises(SourceError, match="odd"):
        take_snapshot(tmp_path, name="d", provenance=provenance)
    assert take_snapshot(tmp_path, name="d", provenance=provenance, ignore=["odd"]).file_count == 1
    with pytest.raises(SourceError, match="neither a file nor a folder"):
        take_snapshot(tmp_path / "odd", name="d", provenance=provenance)


# Small files are read in one go, larger ones by a thread, those above a chunk by several.
SIZES = [100, 40_000, CHUNK_SIZE + 5]


def meddle(monkeypatch, change):
    """Call ``change`` after each read of a file's content."""
    honest_small, honest_large = hash_worker.read_into, hash_worker.hash_range

    def small(fd, view):
        out = honest_small(fd, view)
        change()
        return out

    def large_one(fd, start, length, view):
        out = honest_large(fd, start, length, view)
        change()
        return out

    monkeypatch.setattr(hash_worker, "read_into", small)
    monkeypatch.setattr(large.hash_worker, "hash_range", large_one)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch, provenance, size):
    target = fill(tmp_path, {"a.bin": b"1" * size}) / "a.bin"

    def grow():
        with target.open("ab") as file:
            file.write(b"more")

    meddle(monkeypatch, grow)
    with pytest.raises(SourceChangedError, match=r"a\.bin .*changed while it was read"):
        take_snapshot(tmp_path, name="d", provenance=provenance)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path, monkeypatch, provenance, size):
    target = fill(tmp_path, {"a.bin": b"1" * size}) / "a.bin"
    left = iter(range(size - 1, 0, -1))
    meddle(monkeypatch, lambda: os.truncate(target, next(left)))
    with pytest.raises(SourceChangedError, match=r"a\.bin"):
        take_snapshot(tmp_path, name="d", provenance=provenance)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_rewritten_with_its_old_times_while_it_is_read_is_refused(tmp_path, monkeypatch, provenance, size):
    target = fill(tmp_path, {"a.bin": b"1" * size}) / "a.bin"

    def rewrite():
        status = target.stat()
        with target.open("r+b") as file:
            file.write(b"2")
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    meddle(monkeypatch, rewrite)
    with pytest.raises(SourceChangedError):
        take_snapshot(tmp_path, name="d", provenance=provenance)


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_changed_once_is_read_again(tmp_path, monkeypatch, provenance, size):
    target = fill(tmp_path, {"a.bin": b"1" * size}) / "a.bin"
    changes = iter([True])

    def rewrite():
        if next(changes, False):
            target.write_bytes(b"2" * (size + 1))

    meddle(monkeypatch, rewrite)
    taken = take_snapshot(tmp_path, name="d", provenance=provenance)
    monkeypatch.undo()
    assert taken.total_bytes == size + 1
    assert taken.root == take_snapshot(tmp_path, name="d", provenance=provenance).root


def test_a_table_changed_between_hashing_and_reading_is_refused(tmp_path, monkeypatch, provenance):
    target = fill(tmp_path, {"a.csv": b"x\n1\n"}) / "a.csv"
    honest = LocalSource.read

    def meddling(self, found, limit):
        target.write_bytes(b"x\n2\n")
        return honest(self, found, limit)

    monkeypatch.setattr(LocalSource, "read", meddling)
    with pytest.raises(SourceChangedError, match=r"a\.csv changed between"):
        take_snapshot(tmp_path, name="d", provenance=provenance)


def test_missing_and_empty_sources_are_clear_errors(tmp_path, memory_url, put, provenance):
    def refused(source, match, **more):
        with pytest.raises(SourceError, match=match):
            take_snapshot(source, name="d", provenance=provenance, **more)

    refused(tmp_path / "none", "does not exist")
    refused(f"{memory_url}/none", "does not exist")
    refused("", "empty")
    refused("a\x00b", "NUL")
    refused(tmp_path, "holds no files")
    refused(42, "not a dataset source")
    refused("nosuchprotocol://x", "nosuchprotocol")
    fill(tmp_path, {"a": b""})
    refused(tmp_path, "0 bytes")
    refused(tmp_path, "ignore rules left out 1", ignore=["a"])
    refused(pa.table({"a": pa.array([], pa.int64())}), "no records")
    put("rows.csv", b"a,b\n")
    refused(f"{memory_url}/rows.csv", "no records")


@pytest.mark.parametrize("size", SIZES)
def test_an_unreadable_file_is_named(tmp_path, monkeypatch, provenance, size):
    fill(tmp_path, {"sub/a": b"1" * size})

    def broken():
        raise OSError(5, "Input/output error")

    meddle(monkeypatch, broken)
    with pytest.raises(SourceError, match=r"sub/a .*Input/output error"):
        take_snapshot(tmp_path, name="d", provenance=provenance)


@pytest.mark.skipif(sys.platform == "darwin", reason="names have to be UTF-8 there")
def test_file_names_that_are_not_utf8_keep_their_bytes(tmp_path, provenance):
    with open(os.path.join(os.fsencode(tmp_path), b"\xff\xfe"), "wb") as file:
        file.write(b"1")
    assert [leaf.path for leaf in take_snapshot(tmp_path, name="d", provenance=provenance).files] == [b"\xff\xfe"]


def test_names_that_collide_elsewhere_are_warned_about(tmp_path, provenance):
    fill(tmp_path, {"Data": b"1", "data": b"2", "cafe\u0301": b"3", "caf\u00e9": b"4"})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance)
    assert snapshot.file_count == 4
    assert len(snapshot.header["warnings"]) == 2


@pytest.mark.parametrize(
    ("rule", "left_out"),
    [
        ("*.tmp", {"x.tmp", "d/y.tmp"}),
        ("/x.tmp", {"x.tmp"}),
        ("d", {"d/y.tmp", "d/e/z", "d/[1]"}),
        ("d/*", {"d/y.tmp", "d/e/z", "d/[1]"}),
        ("d/?", {"d/e/z"}),
        ("d/**/z", {"d/e/z"}),
        ("**/z", {"d/e/z"}),
        ("[1]", {"d/[1]"}),
        ("e/", {"d/e/z"}),
    ],
)
def test_ignore_rules(tmp_path, memory_url, put, provenance, rule, left_out):
    content = dict.fromkeys(["x.tmp", "d/y.tmp", "d/e/z", "d/[1]", "keep"], b"1")
    fill(tmp_path, content)
    for path, data in content.items():
        put(path, data)
    one, other = (take_snapshot(s, name="d", provenance=provenance, ignore=[rule]) for s in (tmp_path, memory_url))
    assert {leaf.path.decode() for leaf in one.files} == content.keys() - left_out
    assert one.root == other.root
    # the rule itself is part of the root, even where it leaves nothing out
    assert take_snapshot(tmp_path, name="d", provenance=provenance, ignore=[rule, "no-such-file"]).root != one.root


def test_bad_ignore_rules_are_refused():
    for bad in ("!x", "", "/", "x" * 2000):
        with pytest.raises(ValueError, match="ignore rule"):
            IgnoreRules([bad])
    with pytest.raises(ValueError, match="list of rules"):
        IgnoreRules("*.tmp")


def test_addresses_in_messages_hold_no_credentials():
    text = redact("failed: https://user:pw@host/p?X-Amz-Signature=abc and s3://k:s@bucket/x")
    assert text == "failed: https://host/p and s3://bucket/x"


# --- tables --------------------------------------------------------------------------------------------------------------

CSV = '\ufeffid,name,score\n1,Zoë,0.5\n2,,1.5\n3,"a\nb",\n'.encode()


def test_csv_with_a_byte_order_mark(tmp_path):
    table = read_table(fill(tmp_path, {"a.csv": CSV}) / "a.csv")
    assert table.column_names == ["id", "name", "score"]
    assert table.to_pydict() == {"id": [1, 2, 3], "name": ["Zoë", "", "a\nb"], "score": [0.5, 1.5, None]}


def test_csv_types_come_from_all_rows_not_from_the_first_block():
    rows = 400_000
    data = b"x\n" + b"1\n" * rows + b"1.5\n"
    assert str(parse_table(data, b"a.csv").schema.field("x").type) == "double"


def test_csv_jsonl_and_parquet_give_the_same_records(tmp_path, provenance):
    table = pa.table({"a": [1, 2], "b": ["x", "y"], "c": [0.5, 2.0], "d": [True, False]})
    fill(
        tmp_path,
        {
            "t.csv": b"d,c,b,a\ntrue,0.5,x,1\nfalse,2.0,y,2\n",
            "t.csv.gz": gzip.compress(b"a,b,c,d\n1,x,0.5,true\n2,y,2.0,false\n"),
            "t.jsonl": b'{"a":1,"b":"x","c":0.5,"d":true}\n\n{"d":false,"c":2.0,"b":"y","a":2}\n',
            "t.parquet": parquet_bytes(table),
        },
    )
    roots = {
        take_snapshot(source, name="d", provenance=provenance).record_root
        for source in [*(tmp_path / n for n in ("t.csv", "t.csv.gz", "t.jsonl", "t.parquet")), table, table.to_pandas()]
    }
    assert len(roots) == 1


@pytest.mark.parametrize(
    ("name", "data", "match"),
    [
        ("a.csv", b"x,y\n1,2\nSECRET\n", r"a\.csv, line 3: 1 columns where the header has 2"),
        ("a.csv", b"", "empty"),
        ("a.csv", b"x,x\n1,2\n", "two columns named 'x'"),
        ("a.csv", b"x\nSECRET\xff\n", "not UTF-8"),
        ("a.csv.gz", b"SECRET", "gzip"),
        ("a.csv.gz", gzip.compress(b"x\n1\n", mtime=0)[:-4], "gzip"),
        ("a.jsonl", b'{"a":1}\n{"SECRET"\n', r"a\.jsonl, line 2"),
        ("a.jsonl", b'{"a":1}\n[1]\n', "line 2: a list"),
        ("a.jsonl", b'{"a":NaN}\n', "NaN is not JSON"),
        ("a.jsonl", b'{"a":1,"a":2}\n', "line 1.*twice"),
        ("a.jsonl", b'{"a":1}\n{"a":"SECRET"}\n', "field 'a' mixes types"),
        ("a.jsonl", b'{"a":%d}\n' % 2**70, "field 'a'"),
        ("a.jsonl", b"[" * 100_000, "line 1"),
        ("a.parquet", b"SECRET", "Parquet"),
        ("a.parquet", parquet_bytes(pa.table({"a": [1]}))[:-9], "Parquet"),
    ],
)
def test_broken_tables_are_clear_errors_without_values(tmp_path, provenance, name, data, match):
    fill(tmp_path, {name: data})
    with pytest.raises(TableError, match=match) as caught:
        take_snapshot(tmp_path / name, name="d", provenance=provenance)
    shown = caught.value
    while shown is not None:  # what a traceback would print
        assert "SECRET" not in str(shown)
        shown = None if shown.__suppress_context__ else shown.__context__


def test_a_folder_of_parts_is_one_table_and_marker_files_are_no_records(tmp_path, provenance):
    fill(tmp_path, {"part-0.csv": b"a,b\n1,x\n", "part-1.csv": b"b,a\ny,2.5\n", "_SUCCESS": b""})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance)
    assert (snapshot.file_count, snapshot.record_count) == (3, 2)
    assert read_table(tmp_path).to_pydict() == {"a": [1.0, 2.5], "b": ["x", "y"]}
    fill(tmp_path, {"part-2.csv": b"a\n1\n"})
    with pytest.raises(TableError, match=r"part-2\.csv and part-0\.csv differ in column 'b'"):
        take_snapshot(tmp_path, name="d", provenance=provenance)
    files_only = take_snapshot(tmp_path, name="d", provenance=provenance, records=False)
    assert files_only.record_count is None
    fill(tmp_path, {"readme.txt": b"hello"})
    assert take_snapshot(tmp_path, name="d", provenance=provenance).record_count is None
    with pytest.raises(ValueError, match="holds no table"):
        read_table(tmp_path)


def test_pandas_frames(provenance):
    frame = pd.DataFrame({"a": [1.0, None], "b": ["x", None]}, index=pd.Index([5, 6], name="id"))
    assert to_arrow(frame).to_pydict() == {"id": [5, 6], "a": [1.0, None], "b": ["x", None]}
    assert to_arrow(frame.reset_index(drop=True).iloc[[1]]).column_names == ["a", "b"]
    with pytest.raises(TableError, match="column name 0"):
        to_arrow(pd.DataFrame([[1]]))
    with pytest.raises(TableError, match="column m"):
        to_arrow(pd.DataFrame({"m": [1, "SECRET"]}))
    with pytest.raises(TableError, match="one name"):
        to_arrow(pd.DataFrame([[1, 2]], columns=["a", "a"]))


def test_anything_with_an_arrow_stream_is_a_table(provenance):
    class Frame:  # as polars and duckdb offer it
        def __arrow_c_stream__(self, requested_schema=None):
            return pa.table({"a": [1, 2]}).__arrow_c_stream__(requested_schema)

    one = take_snapshot(Frame(), name="d", provenance=provenance)
    assert one.root == take_snapshot(pa.table({"a": [2, 1]}), name="d", provenance=provenance).root
    assert (one.file_count, one.total_bytes, one.record_count) == (0, 0, 2)
    assert to_arrow("text") is None
