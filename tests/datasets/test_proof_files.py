"""Proof files and the single file that checks them: every record is proven with its count, every other one absent, and
nothing altered holds. The verifier's own cells and digests are those of the Arrow encoder."""

from __future__ import annotations

import ast
import copy
import datetime as dt
import decimal
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import (
    DatasetError,
    FileTree,
    ProofError,
    RecordManifest,
    check_proof_file,
    dataset_root,
    file_proof_file,
    proof_verifier,
    record_digests,
    record_proof_file,
    record_set,
    schema_list,
    typed_digest,
    typed_record,
    typed_row,
)
from cognify_dagster.datasets.errors import TableError
from cognify_dagster.datasets.manifest import FORMAT
from tests.datasets.test_records import tables
from tests.datasets.test_tree import files, leaf, paths

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "datasets"
KEY = bytes(range(32))


def header_of(tree: FileTree, record_root: bytes = bytes(32)) -> dict[str, Any]:
    fields = tree.fields(record_root)
    root = dataset_root(tree.tree_root, fields).hex()
    return {
        "format": FORMAT,
        "name": "made_up",
        "root": root,
        "data_version": f"sha256:{root}",
        "params": {"ignore_digest": fields.ignore_digest.hex(), "shard_bits": fields.shard_bits},
        "files": {"count": fields.file_count, "total_bytes": fields.total_bytes, "tree_root": tree.tree_root.hex()},
        "records": {"root": record_root.hex()},
    }


def of_values(values: list[int], key: bytes | None = None) -> tuple[dict[str, Any], RecordManifest, bytes]:
    made = record_set(pa.table({"v": pa.array(values, pa.int64())}), key=key)
    header = header_of(FileTree([]), made.root())
    return header, RecordManifest(made.algorithm, made.schema_id, made.sorted_digests()), bytes.fromhex(header["root"])


def digest_of(value: int, key: bytes | None = None) -> bytes:
    return record_digests(pa.table({"v": pa.array([value], pa.int64())}), key=key)[0]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 9), max_size=24), st.booleans())
def test_every_record_is_proven_with_how_often_it_is_there(values: list[int], keyed: bool) -> None:
    key = KEY if keyed else None
    header, manifest, root = of_values(values, key)
    for value in range(10):
        proof = json.loads(json.dumps(record_proof_file(header, manifest, digest_of(value, key))))
        shown = check_proof_file(proof, root)
        assert (shown["what"], shown["present"], shown["count"]) == ("record", value in values, values.count(value))
        with pytest.raises(ProofError):
            check_proof_file(proof, hashlib.sha256(root).digest())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=16), st.data())
def test_no_other_claim_can_be_made_of_a_proof_file(values: list[int], data: st.DataObject) -> None:
    """Whatever is put in place of the subject or left out: the true count, or no proof."""
    header, manifest, root = of_values(values)
    value = data.draw(st.sampled_from(values))
    proof = record_proof_file(header, manifest, digest_of(value))
    others = [record_proof_file(header, manifest, digest_of(v))["proofs"] for v in range(6)]
    pieces = [piece for found in others for piece in found.values()] + [None]
    forged = {name: data.draw(st.sampled_from(pieces)) for name in ("subject", "last", "before", "after")}
    altered = {**proof, "proofs": {name: piece for name, piece in forged.items() if piece is not None}}
    try:
        shown = check_proof_file(altered, root)
    except ProofError:
        return
    named = {digest_of(v).hex(): v for v in range(6)}[shown["subject"]]
    assert shown["count"] == values.count(named)
    assert shown["present"] == (named in values)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 9), min_size=1, max_size=12), st.data())
def test_one_changed_hex_digit_is_never_accepted_for_another_claim(values: list[int], data: st.DataObject) -> None:
    header, manifest, root = of_values(values)
    good = record_proof_file(header, manifest, digest_of(data.draw(st.integers(0, 9))))
    bad = copy.deepcopy(good)
    subject = bad["proofs"]["subject"]
    name = data.draw(st.sampled_from(["digest", "schema_id", "tree_root"]))
    at = data.draw(st.integers(0, 63))
    text = subject[name]
    subject[name] = text[:at] + ("0" if text[at] != "0" else "1") + text[at + 1 :]
    try:
        shown = check_proof_file(bad, root)
    except ProofError:
        return
    assert name == "digest"  # another digest in the same gap: it is absent too
    assert not shown["present"]
    assert shown["subject"] == subject["digest"]
    assert shown["subject"] not in {digest_of(v).hex() for v in values}


@settings(max_examples=25, deadline=None)
@given(files, paths)
def test_files_are_proven_present_or_absent(content: dict[bytes, bytes], stranger: bytes) -> None:
    leaves = [leaf(path, data) for path, data in content.items()]
    header = header_of(FileTree(leaves))
    root = bytes.fromhex(header["root"])
    for path in [*content, stranger]:
        shown = check_proof_file(json.loads(json.dumps(file_proof_file(header, leaves, path))), root)
        assert (shown["what"], shown["present"], shown["subject"]) == ("file", path in content, path.hex())


@settings(max_examples=80, deadline=None)
@given(tables(min_rows=1, max_rows=3), st.booleans())
def test_the_verifier_digests_typed_cells_as_the_snapshot_does(made: Any, keyed: bool) -> None:
    table, _ = made
    key = KEY if keyed else None
    cells = [json.loads(json.dumps(typed_row(table, row))) for row in range(table.num_rows)]
    assert [typed_digest(row, key) for row in cells] == record_digests(table, key=key)


def test_typed_cells_of_rare_types() -> None:
    table = pa.table(
        {
            "dict": pa.array(["a"]).dictionary_encode(),
            "duration": pa.array([-1_500_000], pa.duration("us")),
            "early": pa.array([dt.datetime(1, 1, 2, 3, 4, 5)], pa.timestamp("s")),
            "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
            "nano": pa.array([-1], pa.timestamp("ns", "Europe/Zurich")),
            "big": pa.array([2**64 - 1], pa.uint64()),
            "dec": pa.array([decimal.Decimal("-1.500")]),
            "inf": pa.array([float("-inf")]),
        }
    )
    assert typed_digest(json.loads(json.dumps(typed_row(table, 0)))) == record_digests(table)[0]


def test_plain_values_become_typed_by_the_recorded_schema() -> None:
    table = pa.table(
        {
            "n": pa.array([5], pa.int8()),
            "x": pa.array([2.0]),
            "d": pa.array([decimal.Decimal("1.50")]),
            "t": pa.array([dt.datetime(2020, 1, 2, 3, 4, 5)], pa.timestamp("us")),
            "z": pa.array([dt.datetime(2020, 1, 2, 3, 4, 5)], pa.timestamp("ms", "UTC")),
            "day": pa.array([dt.date(2020, 1, 2)]),
            "tags": pa.array([[1, None]], pa.list_(pa.int64())),
            "who": pa.array([{"a": 1, "b": "x"}]),
            "none": pa.array([None], pa.string()),
            "ok": pa.array([True]),
        }
    )
    plain = {
        "n": 5, "x": 2, "d": "1.5", "t": "2020-01-02 03:04:05", "z": "2020-01-02T05:04:05+02:00", "day": "2020-01-02", "tags": [1, None],
        "who": {"a": 1, "b": "x"}, "none": None, "ok": True,
    }  # fmt: skip
    assert typed_digest(typed_record(plain, schema_list(table))) == record_digests(table)[0]
    assert typed_digest(typed_record({**plain, "n": 6}, schema_list(table))) != record_digests(table)[0]


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"n": 1}, "no column 't'"),
        ({"n": 1, "t": "x", "u": 1}, "no column 'u'"),
        ({"n": True, "t": "x"}, "'n' has type int64; a bool does not fit"),
        ({"n": 1.5, "t": "x"}, "'n' has type int64; a float does not fit"),
        ({"n": 1, "t": 5}, "'t' has type string; a int does not fit"),
    ],
)
def test_values_that_do_not_fit_are_named_by_column(values: dict[str, Any], part: str) -> None:
    with pytest.raises(TableError, match=part):
        typed_record(values, [["n", "int64", True], ["t", "string", True]])


@pytest.mark.parametrize(
    "cell",
    [{"int": 2**64}, {"int": 1.5}, {"int": "x"}, {"float": "x"}, {"text": 5}, {"bytes": "0G"}, {"date": "1.2.2020"}, {"time": "25:00:00"},
     {"timestamp": "2020-01-01T00:00:00Z"}, {"instant": "2020-01-01T00:00:00"}, {"decimal": "NaN"}, {"list": {}}, {"what": 1}, {}, 5, "x",
     {"int": 1, "text": "x"}, {"bool": 1}, {"duration": "0.0000000001"}],
    ids=json.dumps,
)  # fmt: skip
def test_cells_that_are_none_are_refused(cell: Any) -> None:
    with pytest.raises(TableError):
        typed_digest({"v": cell})


def test_digests_of_another_length_are_refused() -> None:
    header, manifest, _ = of_values([1])
    with pytest.raises(DatasetError, match="32 bytes"):
        record_proof_file(header, manifest, b"short")


def test_the_single_file_imports_only_the_standard_library_and_is_short() -> None:
    source = Path(proof_verifier.__file__).read_text("utf-8")
    assert len(source.splitlines()) < 400
    names = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            names.add(str(node.module).split(".")[0])
    assert names <= set(sys.stdlib_module_names)
    assert not names & {"socket", "urllib", "http", "subprocess", "os", "ctypes", "importlib"}


def test_its_published_digest_is_that_of_the_file() -> None:
    published = (ROOT / "docs" / "proof-verifier.sha256").read_text("utf-8").split()
    assert published == [
        hashlib.sha256(Path(proof_verifier.__file__).read_bytes()).hexdigest(),
        "verify_dataset_proof.py",
    ]


def golden_files() -> dict[str, Any]:
    """What the frozen proofs are made of; they never change."""
    keyed = of_values([3, 1, 1, 2], KEY)
    plain = of_values([3, 1, 1, 2])
    leaves = [leaf(b"a.csv", b"1"), leaf(b"b/c.csv", b"2")]
    tree = header_of(FileTree(leaves))
    return {
        "record-twice": record_proof_file(plain[0], plain[1], digest_of(1)),
        "record-keyed": record_proof_file(keyed[0], keyed[1], digest_of(2, KEY)),
        "record-absent": record_proof_file(plain[0], plain[1], digest_of(9)),
        "file": file_proof_file(tree, leaves, b"b/c.csv"),
        "file-absent": file_proof_file(tree, leaves, b"d.csv"),
    }


def test_the_frozen_proof_files_still_hold_and_are_still_made() -> None:
    frozen = json.loads((GOLDEN / "proof-files-v1.json").read_text("utf-8"))
    assert golden_files() == {name: item["proof"] for name, item in frozen.items()}
    for item in frozen.values():
        assert check_proof_file(item["proof"], bytes.fromhex(item["root"])) == item["shows"]


def test_the_file_run_alone_says_what_it_found(tmp_path: Path) -> None:
    frozen = json.loads((GOLDEN / "proof-files-v1.json").read_text("utf-8"))
    (tmp_path / "verify_dataset_proof.py").write_bytes(Path(proof_verifier.__file__).read_bytes())
    (tmp_path / "key").write_bytes(KEY)
    (tmp_path / "good.json").write_text('{"v": {"int": 2}}')
    (tmp_path / "bad.json").write_text('{"v": {"int": 3}}')
    (tmp_path / "junk.json").write_text('{"v": NaN}')
    for name, item in frozen.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(item["proof"]))

    def run(name: str, *more: str) -> tuple[int, str]:
        words = [sys.executable, "-I", "verify_dataset_proof.py", f"{name}.json", *more]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
        return done.returncode, done.stdout

    root = frozen["record-twice"]["root"]
    keyed = frozen["record-keyed"]["root"]
    code, out = run("record-twice", "--root", root)
    assert code == 0
    assert "is in the dataset, 2 times" in out
    assert "is NOT in the dataset" in run("record-absent", "--root", root)[1]
    assert run("record-twice", "--root", "0" * 64)[0] == 1
    assert run("record-twice")[0] == 4
    assert run("record-keyed", "--root", keyed, "--record", "good.json", "--key-file", "key")[0] == 0
    assert run("record-keyed", "--root", keyed, "--record", "bad.json", "--key-file", "key")[0] == 1
    code, out = run("record-keyed", "--root", keyed, "--record", "good.json")
    assert code == 1
    assert "--key-file" in out
    assert run("record-keyed", "--root", keyed, "--record", "junk.json")[0] == 3
    assert run("absent", "--root", root)[0] == 3
    assert run("record-twice", "--nonsense")[0] == 5
