"""The frozen vectors: what version 1 of the dataset formats gives, byte for byte."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pyarrow as pa
import pytest

from cognify_dagster.datasets import (
    FileKind,
    FileLeaf,
    FileTree,
    RecordDigestAlgorithm,
    content_digest,
    dataset_root,
    ignore_digest,
    record_root,
    record_set,
)
from cognify_dagster.datasets.records.cells import encode_cells
from tests.datasets import naive

GOLDEN = json.loads((Path(__file__).parents[1] / "golden" / "datasets" / "vectors-v1.json").read_text("utf-8"))


def leaves() -> list[FileLeaf]:
    out = []
    for item in GOLDEN["files"]:
        data = bytes.fromhex(item["content_hex"])
        out.append(FileLeaf(item["path"].encode(), FileKind(item["kind"]), len(data), *content_digest(data)))
    return out


def rows() -> pa.Table:
    columns = list(zip(*GOLDEN["records"]["rows"], strict=True))
    amounts = [float(value) for value in columns[2]]
    return pa.table({"id": pa.array(columns[0], pa.int64()), "name": list(columns[1]), "amount": amounts})


def test_the_second_implementation_still_gives_the_frozen_vectors():
    assert naive.vectors() == GOLDEN


@pytest.mark.parametrize("vector", GOLDEN["content"], ids=lambda v: str(v["pattern_bytes"]))
def test_content_digest(vector):
    algorithm, digest = content_digest(naive.pattern(vector["pattern_bytes"]))
    assert (int(algorithm), digest.hex()) == (vector["algorithm"], vector["digest"])


def test_file_leaves_and_tree_root():
    assert [leaf.leaf_hash().hex() for leaf in leaves()] == [item["leaf"] for item in GOLDEN["files"]]
    assert FileTree(leaves()).tree_root.hex() == GOLDEN["tree_root"]
    assert FileTree([]).tree_root.hex() == GOLDEN["empty_tree_root"]


@pytest.mark.parametrize("vector", GOLDEN["ignore"], ids=lambda v: str(v["rules"]))
def test_ignore_digest(vector):
    assert ignore_digest(vector["rules"]).hex() == vector["digest"]


ARROW = {
    "null": pa.null(),
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "int8": pa.int8(),
    "uint64": pa.uint64(),
    "double": pa.float64(),
    "float": pa.float32(),
    "decimal128(10, 2)": pa.decimal128(10, 2),
    "decimal128(10, 3)": pa.decimal128(10, 3),
    "string": pa.string(),
    "binary": pa.binary(),
    "date32": pa.date32(),
    "time64[us]": pa.time64("us"),
    "timestamp[ms]": pa.timestamp("ms"),
    "timestamp[us, UTC]": pa.timestamp("us", "UTC"),
    "duration[ms]": pa.duration("ms"),
    "list<int64>": pa.list_(pa.int64()),
    "list<string>": pa.list_(pa.string()),
    "struct<b: string, a: int64>": pa.struct([("b", pa.string()), ("a", pa.int64())]),
}


@pytest.mark.parametrize("position", range(len(GOLDEN["cells"])), ids=lambda i: GOLDEN["cells"][i]["name"])
def test_cell_bytes(position):
    vector, (name, value, _) = GOLDEN["cells"][position], naive.CELLS[position]
    assert vector["name"] == name
    if isinstance(value, naive.Duration):
        value = int(value) // 1_000_000
    column = pa.array([None, value], ARROW[vector["arrow_type"]])
    assert [bytes(cell.as_py()).hex() for cell in encode_cells(column, "x")] == ["00", vector["bytes"]]


def test_record_digests_and_roots():
    frozen = GOLDEN["records"]
    plain, keyed = record_set(rows()), record_set(rows(), key=bytes.fromhex(frozen["hmac_key"]))
    assert math.isnan(rows()["amount"][2].as_py())
    assert plain.schema_id.hex() == frozen["schema_id"]
    assert [d.hex() for d in plain.digests] == frozen["digests"]
    assert plain.root().hex() == frozen["root"]
    assert [d.hex() for d in keyed.digests] == frozen["keyed_digests"]
    assert keyed.root().hex() == frozen["keyed_root"]
    assert record_root([], RecordDigestAlgorithm.SHA256, plain.schema_id).hex() == frozen["empty_root"]


def test_dataset_roots():
    tree, nothing, records = FileTree(leaves()), FileTree([]), bytes.fromhex(GOLDEN["records"]["root"])
    found = {
        "files only": dataset_root(tree.tree_root, tree.fields()),
        "files and records": dataset_root(tree.tree_root, tree.fields(records)),
        "records only": dataset_root(nothing.tree_root, nothing.fields(records)),
        "files, records, ignore *.tmp": dataset_root(tree.tree_root, tree.fields(records, ignore_digest(["*.tmp"]))),
    }
    assert {name: root.hex() for name, root in found.items()} == GOLDEN["dataset_roots"]
