"""Snapshots: what the root covers, what the header says, manifests, and verification that names what changed."""

from __future__ import annotations

import json
from dataclasses import replace

import pyarrow as pa
import pytest

from cognify_dagster.datasets import (
    DatasetError,
    DuplicateKeyError,
    ExclusionRule,
    ManifestError,
    Provenance,
    TableError,
    check_header,
    header_bytes,
    key_id,
    manifest_bytes,
    prove_file,
    prove_record,
    read_file_manifest,
    record_manifest_bytes,
    record_set,
    take_snapshot,
    unpack_records,
    verify_proof,
    verify_snapshot,
)
from cognify_dagster.datasets.tree import FileTree
from tests.datasets.test_sources import fill

KEY = bytes(range(32))
TABLE = pa.table({"id": [1, 2, 3], "sex": ["f", "m", "f"], "label": [0, 1, 0]})


def test_a_snapshot_is_the_same_every_time_and_its_header_is_canonical_json(tmp_path, provenance):
    fill(tmp_path, {"a.csv": b"id,v\n1,2\n2,3\n"})
    one, other = (take_snapshot(tmp_path, name="d", provenance=provenance, record_key="id") for _ in range(2))
    assert header_bytes(one) == header_bytes(other)
    assert json.loads(header_bytes(one)) == one.header
    assert one.data_version == f"sha256:{one.root}"
    assert one.header["root"] == one.root
    assert one.header["evidence"] == {"hashed": 1, "reused": 0, "provider": 0}
    assert str(tmp_path) not in header_bytes(one).decode()
    check_header(one.header, one.files, unpack_records(record_manifest_bytes(one)))


def test_root_depends_on_records_and_files_but_not_on_name_or_provenance(tmp_path, provenance):
    fill(tmp_path, {"a.csv": b"id,v\n1,2\n2,3\n"})
    base = take_snapshot(tmp_path, name="d", provenance=provenance)
    assert take_snapshot(tmp_path, name="e", provenance=Provenance(source="other")).root == base.root
    fill(tmp_path, {"a.csv": b"id,v\n2,3\n1,2\n"})  # other bytes, same records
    shuffled = take_snapshot(tmp_path, name="d", provenance=provenance)
    assert shuffled.root != base.root
    assert shuffled.record_root == base.record_root


def test_renaming_a_column_changes_schema_hash_and_root(provenance):
    one = take_snapshot(TABLE, name="d", provenance=provenance)
    other = take_snapshot(TABLE.rename_columns(["id", "gender", "label"]), name="d", provenance=provenance)
    assert one.schema_hash != other.schema_hash
    assert one.root != other.root
    wider = take_snapshot(TABLE.set_column(0, "id", TABLE["id"].cast(pa.int32())), name="d", provenance=provenance)
    assert wider.schema_hash != one.schema_hash
    assert wider.record_root == one.record_root


def test_personal_data_needs_a_key_and_shows_none_of_its_values(provenance):
    personal = provenance.model_copy(update={"contains_personal_data": True})
    with pytest.raises(DatasetError, match="record_hmac_key"):
        take_snapshot(TABLE, name="d", provenance=personal)
    with pytest.raises(DatasetError, match="record_hmac_key"):
        take_snapshot(TABLE, name="d", provenance=provenance.model_copy(update={"contains_phi": True}))
    kept = take_snapshot(TABLE, name="d", provenance=personal, record_hmac_key=KEY, record_key="id")
    assert kept.header["records"]["digest"] == "hmac-sha256"
    assert kept.record_key_id == kept.header["records"]["key_id"] == key_id(KEY)
    assert KEY.hex() not in json.dumps(kept.header)
    assert kept.record_digests == b"".join(record_set(TABLE, key=KEY).sorted_digests())
    assert "min" not in kept.profile["columns"]["id"]
    assert kept.root != take_snapshot(TABLE, name="d", provenance=provenance).root


def test_bad_arguments_are_clear_errors(tmp_path, provenance):
    with pytest.raises(DatasetError, match="needs a name"):
        take_snapshot(TABLE, name="", provenance=provenance)
    with pytest.raises(DuplicateKeyError, match="rows 0 and 2"):
        take_snapshot(TABLE, name="d", provenance=provenance, record_key="sex")
    for arguments in ({"record_key": "x"}, {"label": "x"}, {"group_columns": ["x"]}):
        with pytest.raises(TableError, match="no column 'x'"):
            take_snapshot(TABLE, name="d", provenance=provenance, **arguments)
    fill(tmp_path, {"a.bin": b"1"})
    with pytest.raises(DatasetError, match="not a table"):
        take_snapshot(tmp_path, name="d", provenance=provenance, record_key="id")
    rule = ExclusionRule(name="split", description="train part", rows_before=10, rows_after=4)
    with pytest.raises(DatasetError, match="'split' kept 4 rows"):
        take_snapshot(TABLE, name="d", provenance=provenance.model_copy(update={"processing": (rule,)}))


def test_progress_is_reported(tmp_path, provenance):
    fill(tmp_path, {f"p{i}.csv": b"a\n%d\n" % i for i in range(3)})
    seen: list[tuple[str, int, int]] = []
    take_snapshot(tmp_path, name="d", provenance=provenance, progress=lambda *step: seen.append(step))
    assert seen == [("hash", 3, 3), ("read", 1, 3), ("read", 2, 3), ("read", 3, 3)]


# --- manifests -----------------------------------------------------------------------------------------------------------


def test_manifests_are_deterministic_and_come_back(tmp_path, provenance):
    fill(tmp_path, {f"d{i % 7}/f{i}": bytes([i % 256]) * i for i in range(300)})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance)
    data = manifest_bytes(snapshot)
    assert data == manifest_bytes(take_snapshot(tmp_path, name="d", provenance=provenance))
    assert tuple(read_file_manifest(data)) == snapshot.files
    with pytest.raises(DatasetError, match="no records"):
        record_manifest_bytes(snapshot)


def test_manifests_of_other_snapshots_and_damaged_ones_are_refused(tmp_path, provenance):
    fill(tmp_path, {"a.csv": b"x\n1\n2\n"})
    one = take_snapshot(tmp_path, name="d", provenance=provenance)
    fill(tmp_path, {"a.csv": b"x\n1\n3\n"})
    other = take_snapshot(tmp_path, name="d", provenance=provenance)
    with pytest.raises(ManifestError, match="another snapshot"):
        verify_snapshot(tmp_path, one.header, manifest_bytes(other))
    with pytest.raises(ManifestError, match="another snapshot"):
        verify_snapshot(tmp_path, one.header, manifest_bytes(one), record_manifest_bytes(other))
    with pytest.raises(ManifestError, match="needs its file manifest"):
        verify_snapshot(tmp_path, one.header)
    for bad in (b"", b"nonsense", manifest_bytes(one)[:-5]):
        with pytest.raises(ManifestError):
            verify_snapshot(tmp_path, one.header, bad)


@pytest.mark.parametrize(
    "change",
    [
        {"root": "00" * 32},
        {"data_version": "sha256:" + "00" * 32},
        {"format": "cognify/dataset/v9"},
        {"files": {"count": 2, "total_bytes": 4, "tree_root": "00" * 32}},
        {"records": {"mode": "canonical", "root": "00" * 32}},
        {"params": {"ignore_digest": "00" * 32, "shard_bits": 12}},
        {"params": {"ignore_digest": "00", "shard_bits": 12}},
        {"params": {}},
    ],
)
def test_altered_headers_are_refused(change, provenance):
    header = take_snapshot(TABLE, name="d", provenance=provenance).header
    with pytest.raises(ManifestError):
        check_header({**header, **change})


def test_an_altered_ignore_list_is_refused(tmp_path, provenance):
    fill(tmp_path, {"a": b"1"})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance, ignore=["*.tmp"])
    header = {**snapshot.header, "params": {**snapshot.header["params"], "ignore": ["*"]}}
    with pytest.raises(ManifestError, match="ignore rules"):
        verify_snapshot(tmp_path, header, manifest_bytes(snapshot))


# --- verification --------------------------------------------------------------------------------------------------------


def test_verification_names_changed_missing_extra_and_renamed_files(tmp_path, provenance):
    fill(tmp_path, {"same": b"1", "changed": b"2", "gone": b"3", "old-name": b"4"})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance)
    assert verify_snapshot(tmp_path, snapshot).ok
    assert verify_snapshot(tmp_path, snapshot).reasons == ()
    (tmp_path / "changed").write_bytes(b"x")
    (tmp_path / "gone").unlink()
    (tmp_path / "old-name").rename(tmp_path / "new-name")
    (tmp_path / "added").write_bytes(b"5")
    report = verify_snapshot(tmp_path, snapshot.header, manifest_bytes(snapshot))
    assert not report.ok
    assert report.changed == ("changed",)
    assert report.missing == ("gone", "old-name")
    assert report.extra == ("added", "new-name")
    assert "file old-name is now named new-name" in report.reasons
    assert report.found_root != report.expected_root == snapshot.root


def test_verification_counts_changed_records(tmp_path, provenance):
    fill(tmp_path, {"a.csv": b"id,v\n1,2\n2,3\n3,4\n"})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance)
    fill(tmp_path, {"a.csv": b"id,v\n1,2\n2,9\n3,4\n4,5\n"})
    report = verify_snapshot(tmp_path, snapshot)
    assert (report.records_expected, report.records_found) == (3, 4)
    assert (report.records_added, report.records_removed) == (2, 1)
    alone = verify_snapshot(tmp_path, snapshot.header, manifest_bytes(snapshot))
    assert alone.records_added is None
    assert any("3 then, 4 now" in reason for reason in alone.reasons)
    fill(tmp_path, {"a.csv": b"id,w\n1,2\n"})
    assert "the records have other columns" in verify_snapshot(tmp_path, snapshot).reasons
    fill(tmp_path, {"a.csv": b"id,v\n1\n"})
    broken = verify_snapshot(tmp_path, snapshot)
    assert (broken.ok, broken.found_root, broken.changed) == (False, None, ("a.csv",))


def test_verification_of_tables_and_keyed_records(provenance):
    personal = provenance.model_copy(update={"contains_personal_data": True})
    snapshot = take_snapshot(TABLE, name="d", provenance=personal, record_hmac_key=KEY)
    assert verify_snapshot(TABLE.take([2, 0, 1]), snapshot, record_hmac_key=KEY).ok
    assert not verify_snapshot(TABLE.slice(1), snapshot, record_hmac_key=KEY).ok
    with pytest.raises(DatasetError, match="pass the record key"):
        verify_snapshot(TABLE, snapshot)
    with pytest.raises(DatasetError, match="not with key"):
        verify_snapshot(TABLE, snapshot, record_hmac_key=bytes(32))
    unkeyed = take_snapshot(TABLE, name="d", provenance=provenance)
    assert verify_snapshot(TABLE, unkeyed, record_hmac_key=KEY).ok


def test_every_file_and_record_of_a_snapshot_can_be_proven(tmp_path, provenance):
    fill(tmp_path, {f"p{i}.csv": b"id\n%d\n" % i for i in range(10)})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance)
    root, tree = bytes.fromhex(snapshot.root), FileTree(snapshot.files)
    for leaf in snapshot.files:
        verify_proof(prove_file(tree, leaf.path, snapshot.fields), root)
    records = record_set(pa.table({"id": list(range(11))}))
    packed = unpack_records(record_manifest_bytes(snapshot))
    proofs = [
        prove_record(
            packed.digests,
            digest,
            tree_root=tree.tree_root,
            fields=snapshot.fields,
            algorithm=packed.algorithm,
            schema_id=packed.schema_id,
        )
        for digest in records.digests
    ]
    for proof in proofs:
        verify_proof(proof, root)
    assert [type(proof).__name__ for proof in proofs] == ["RecordProof"] * 10 + ["RecordAbsence"]


def test_csv_is_verified_with_the_types_that_were_recorded(tmp_path, provenance):
    fill(tmp_path, {"a.csv": b"v\n1\n2.5\n"})
    snapshot = take_snapshot(tmp_path, name="d", provenance=provenance)
    assert verify_snapshot(tmp_path, replace(snapshot, name="renamed")).ok
