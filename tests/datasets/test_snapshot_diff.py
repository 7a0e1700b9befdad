"""The one difference of two recorded snapshots: made from evidence alone, deterministic, with a digest to sign."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cognify_dagster.datasets import (
    ManifestError,
    Provenance,
    diff_digest,
    diff_snapshots,
    read_index,
    record_digests,
    record_index,
    record_set,
    take_snapshot,
    unpack_records,
)
from cognify_dagster.datasets.compare.distributions import ValueShift, column_shifts, psi
from cognify_dagster.datasets.compare.keyed import diff_indexes
from cognify_dagster.datasets.recording import record_snapshot
from cognify_dagster.ledger import canonical_json
from cognify_dagster.workspace import Workspace
from tests.workspace.conftest import make

OLD = {
    "id": [1, 2, 3, 4],
    "income": [10.0, 20.0, None, 40.0],
    "sex": ["f", "m", "f", "m"],
    "y": [0, 1, 0, 1],
    "city": ["a", "b", "c", "d"],
}
NEW = {
    "id": [5, 4, 2, 3],
    "income": [50.0, 40.0, 21.0, None],
    "sex": ["f", "m", "m", "f"],
    "y": [1, 1, 0, 0],
    "town": ["e", "d", "b", "c"],
}


@pytest.fixture(scope="module")
def ws(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace.open(make(tmp_path_factory.mktemp("diff") / "project"))


def taken(ws: Workspace, folder: Path, columns: dict[str, Any], run: str, **more: Any) -> Any:
    folder.mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table(columns), folder / "part.parquet")
    name = more.pop("name", "loans")
    personal = more.pop("personal", False)
    told = Provenance(source="s", owner="o", licence="l", collected_unknown="made up", contains_personal_data=personal)
    options = {"record_key": "id", "label": "y", "group_columns": ["sex"], **more}
    secret = ws.record_key() if personal else None
    snapshot = take_snapshot(str(folder), name=name, provenance=told, record_hmac_key=secret, **options)
    return record_snapshot(ws, snapshot, run=run, record_key="id", label="y")


@pytest.fixture(scope="module")
def versions(ws: Workspace, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Any]:
    folder = tmp_path_factory.mktemp("data")
    return taken(ws, folder / "a", OLD, "1"), taken(ws, folder / "b", NEW, "2")


def test_records_by_key_and_column_without_the_data(ws: Workspace, versions: tuple[Any, Any]) -> None:
    diff = diff_snapshots(ws, *versions)
    keyed = diff.keyed
    assert keyed.compared
    assert (keyed.added, keyed.removed, keyed.changed, keyed.unchanged) == (1, 1, 1, 2)
    assert keyed.columns == {"income": 1, "y": 1}
    (example,) = keyed.examples
    assert set(example.columns) == {"income", "y"}
    assert example.key == record_digests(pa.table({"id": [2]}))[0].hex()


def test_a_renamed_column_is_recognised_by_its_values(ws: Workspace, versions: tuple[Any, Any]) -> None:
    schema = diff_snapshots(ws, *versions).schema
    assert [(item.old, item.new, item.found_by) for item in schema.renamed] == [("city", "town", "values")]
    assert schema.added == schema.removed == ()


def test_records_with_other_columns_say_why_they_are_not_compared_by_content(
    ws: Workspace, versions: tuple[Any, Any]
) -> None:
    diff = diff_snapshots(ws, *versions)
    assert not diff.records.compared
    assert "different columns" in diff.records.reason


def test_distributions_label_and_groups_move(ws: Workspace, versions: tuple[Any, Any]) -> None:
    diff = diff_snapshots(ws, *versions)
    moved = {item.column: item for item in diff.columns}
    assert moved["income"].before["mean"] == pytest.approx(70 / 3)
    assert moved["income"].after["mean"] == pytest.approx(37)
    assert diff.label is None  # two of each class, before and after
    assert {(g.column, g.value): [(c.value, c.before, c.after) for c in g.classes] for g in diff.groups} == {
        ("sex", "f"): [(0, 2, 1), (1, 0, 1)],
        ("sex", "m"): [(0, 0, 1), (1, 2, 1)],
    }


def test_the_digest_is_that_of_the_canonical_json_and_holds_no_time_or_place(
    ws: Workspace, versions: tuple[Any, Any], tmp_path: Path
) -> None:
    diff = diff_snapshots(ws, *versions)
    value = diff.to_dict()
    assert json.loads(canonical_json(value)) == value
    assert diff_digest(diff) == diff_digest(diff_snapshots(ws, *versions))
    again = taken(ws, tmp_path / "elsewhere", {k: v[::-1] for k, v in NEW.items()}, "3")
    text = json.dumps(diff_snapshots(ws, versions[0], again).to_dict())
    assert str(tmp_path) not in text
    assert "location" not in text
    assert "time" not in text


def test_a_changed_difference_has_another_digest(ws: Workspace, versions: tuple[Any, Any]) -> None:
    diff = diff_snapshots(ws, *versions)
    other = replace(diff, keyed=replace(diff.keyed, changed=diff.keyed.changed + 1))
    assert diff_digest(other) != diff_digest(diff)


def test_the_same_version_differs_in_nothing(ws: Workspace, versions: tuple[Any, Any]) -> None:
    diff = diff_snapshots(ws, versions[0], versions[0])
    assert diff.equal
    assert diff.summary == "no change"
    assert diff.schema.empty
    assert (diff.columns, diff.groups, diff.label) == ((), (), None)
    assert (diff.records.added, diff.records.removed, diff.records.unchanged) == (0, 0, 4)


def test_of_a_first_snapshot_everything_is_new(ws: Workspace, versions: tuple[Any, Any]) -> None:
    diff = diff_snapshots(ws, None, versions[0])
    assert diff.old is None
    assert (diff.files.added, diff.records.added, diff.records.removed) == (1, 4, 0)
    assert "first snapshot" in diff.summary
    assert diff_digest(diff).startswith("sha256:")


def test_records_as_a_multiset_when_the_columns_are_the_same(ws: Workspace, tmp_path: Path) -> None:
    first = taken(ws, tmp_path / "a", OLD, "m1", name="same")
    second = taken(ws, tmp_path / "b", {**OLD, "income": [10.0, 20.0, 30.0, 40.0]}, "m2", name="same")
    diff = diff_snapshots(ws, first, second)
    assert (diff.records.added, diff.records.removed, diff.records.unchanged) == (1, 1, 3)
    assert (diff.keyed.changed, diff.keyed.columns) == (1, {"income": 1})
    assert diff.files.changed_paths == ("part.parquet",)


def test_personal_data_appear_as_keyed_digests_only(ws: Workspace, tmp_path: Path) -> None:
    people = {"id": ["ann", "bob"], "income": [1.0, 1.0], "sex": ["f", "m"], "y": [0, 1]}
    first = taken(ws, tmp_path / "a", people, "p1", name="people", personal=True)
    second = taken(ws, tmp_path / "b", {**people, "income": [1.0, 2.5]}, "p2", name="people", personal=True)
    diff = diff_snapshots(ws, first, second)
    assert diff.personal
    assert diff.keyed.columns == {"income": 1}
    assert "ann" not in json.dumps(diff.to_dict())
    assert record_digests(pa.table({"id": ["bob"]}))[0].hex() != diff.keyed.examples[0].key
    assert record_digests(pa.table({"id": ["bob"]}), key=ws.record_key())[0].hex() == diff.keyed.examples[0].key
    assert first.record.record_index.sensitivity == "personal"


def test_equal_values_of_two_people_do_not_show_in_a_keyed_index() -> None:
    table = pa.table({"id": [1, 2], "v": ["same", "same"]})
    for secret, distinct in ((None, 1), (bytes(32), 2)):
        rows = record_set(table, key=secret).digests
        index = read_index(record_index(table, ["id"], rows, secret))
        assert len(set(index.values["v"].to_pylist())) == distinct


def test_without_a_record_key_it_is_said_that_records_cannot_be_told_apart(ws: Workspace, tmp_path: Path) -> None:
    one = taken(ws, tmp_path / "a", OLD, "k1", name="nokey", record_key=None)
    other = taken(ws, tmp_path / "b", {**OLD, "y": [1, 1, 1, 1]}, "k2", name="nokey", record_key=None)
    diff = diff_snapshots(ws, one, other)
    assert one.record.record_index is None
    assert not diff.keyed.compared
    assert "without a record key" in diff.keyed.reason
    assert diff.records.added == 2


def test_indexes_under_other_keys_are_not_compared() -> None:
    table = pa.table({"id": [1, 2], "v": [1, 2]})

    def index(columns: list[str], secret: bytes | None) -> Any:
        return read_index(record_index(table, columns, record_set(table, key=secret).digests, secret))

    assert "different keys" in diff_indexes(index(["id"], bytes(32)), index(["id"], b"k" * 32))[0].reason
    assert "the record key was id and is now v" in diff_indexes(index(["id"], None), index(["v"], None))[0].reason


def test_an_index_of_other_records_or_damaged_is_refused(ws: Workspace, versions: tuple[Any, Any]) -> None:
    record = versions[0].record
    data = ws.evidence.get(record.record_index.digest)
    manifest = unpack_records(ws.evidence.get(record.record_manifest.digest))
    assert len(read_index(data, manifest)) == 4
    other = unpack_records(ws.evidence.get(versions[1].record.record_manifest.digest))
    with pytest.raises(ManifestError, match="other records"):
        read_index(data, other)
    for bad in (b"", data[:-9], b"PAR1" + data[4:-4] + b"XXXX"):
        with pytest.raises(ManifestError):
            read_index(bad, manifest)


def test_the_index_does_not_depend_on_the_order_of_rows() -> None:
    table = pa.table({"id": [3, 1, 2], "v": ["c", "a", "b"]})
    turned = table.take([2, 0, 1])
    both = [record_index(t, ["id"], record_set(t).digests) for t in (table, turned)]
    assert both[0] == both[1]


def test_psi_is_the_textbook_sum() -> None:
    import math

    values = (ValueShift("a", 50, 25), ValueShift("b", 50, 75))
    assert psi(values) == pytest.approx(0.25 * math.log(1.5) - (-0.25) * -math.log(0.5), abs=1e-6)
    assert psi((ValueShift("a", 5, 5),)) == 0
    assert psi((ValueShift("a", 0, 5),)) is None


def test_a_distribution_that_moved_entirely_is_at_distance_one() -> None:
    def profile(shift: int) -> dict[str, Any]:
        quantiles = {str(q): 10 * q + shift for q in (0.05, 0.25, 0.5, 0.75, 0.95)}
        column = {
            "type": "float64",
            "nulls": 0,
            "min": shift,
            "max": 10 + shift,
            "mean": 5 + shift,
            "quantiles": quantiles,
        }
        return {"rows": 100, "columns": {"x": column}}

    (far,) = column_shifts(profile(0), profile(1000))
    (near,) = column_shifts(profile(0), profile(1))
    assert (far.measure, far.distance) == ("ks_profile", 1.0)
    assert near.distance == pytest.approx(0.1, abs=0.01)
    assert column_shifts(profile(0), profile(0)) == ()


def test_the_short_digests_are_those_that_are_documented() -> None:
    """So that whoever has a value (and the key) can check it against a difference."""
    import hashlib
    import hmac

    from cognify_dagster.datasets.records.cells import encode_cells
    from cognify_dagster.datasets.records.index import cell_digest

    table = pa.table({"id": [7], "v": ["text"]})
    cell = bytes(encode_cells(pa.array(["text"]), "v")[0].as_py())
    for secret in (None, b"k" * 32):
        index = read_index(record_index(table, ["id"], record_set(table, key=secret).digests, secret))
        if secret is None:
            expected, bound = hashlib.sha256(b"\x00rec-cell/v1" + cell).digest()[:16], None
        else:
            bound = hmac.digest(secret, b"\x00rec-cell/v1" + index.keys[0].as_py(), "sha256")
            expected = hashlib.sha256(bound + cell).digest()[:8]
        assert index.values["v"][0].as_py() == expected == cell_digest(cell, bound)


def test_erased_records_are_said_to_be_unknown_and_the_rest_is_still_compared(ws: Workspace, tmp_path: Path) -> None:
    people = {"id": [1, 2], "income": [1.0, 1.0], "sex": ["f", "m"], "y": [0, 1]}
    first = taken(ws, tmp_path / "a", people, "e1", name="erased", personal=True)
    second = taken(ws, tmp_path / "b", {**people, "income": [1.0, 2.5]}, "e2", name="erased", personal=True)
    for item in (first.record.record_manifest, first.record.record_index):
        assert ws.evidence.erase_key(item.digest)
    diff = diff_snapshots(ws, first, second)
    assert (diff.records.compared, diff.keyed.compared) == (False, False)
    assert "of the old version were erased" in diff.records.reason
    assert "of the old version was erased" in diff.keyed.reason
    assert diff.files.changed == 1
    assert [item.column for item in diff.columns] == ["income"]
