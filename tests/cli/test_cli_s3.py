"""Anchors and evidence on a real S3 server, configured in cognify.toml and driven by the command alone."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.evidence import EvidenceKeyErased
from cognify_dagster.ledger import Checkpoint, sign_note
from cognify_dagster.ledger.anchors.base import escape
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import Cognify
from tests.cli.test_cli_verify import add_config, grow
from tests.governance.world import World

pytestmark = pytest.mark.xdist_group("s3")
ORIGIN = "test.example/credit"


@pytest.fixture(scope="module")
def admin(s3_admin: Any) -> Any:
    for bucket, lock in (("heads", True), ("unlocked", False), ("blobs", True), ("keys", False)):
        s3_admin.create_bucket(Bucket=bucket, ObjectLockEnabledForBucket=lock)
    return s3_admin


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return str(abs(hash(request.node.name)))


@pytest.fixture
def anchored(ready: World, admin: Any, s3_access: str, prefix: str) -> World:
    """A workspace whose cognify.toml names a bucket with object lock."""
    add_config(
        ready,
        f'\n[[anchor]]\nkind = "s3"\nname = "bucket"\nbucket = "heads"\nprefix = "{prefix}"\nretention_days = 1\n'
        f'endpoint_url = "{s3_access}"\n',
    )
    return ready


def test_checkpoint_anchor_verify_reaches_l3(
    anchored: World, cognify: Cognify, admin: Any, prefix: str, tmp_path: Path
) -> None:
    grow(anchored, 2)
    assert cognify("ledger", "checkpoint", at=anchored).code == 0
    before = cognify("ledger", "verify", "--external", at=anchored)
    assert before.code == 4
    assert "nothing was anchored yet" in before.out
    made = cognify("ledger", "anchor", "--json", at=anchored)
    assert (made.code, made.json["anchors"][0]["error"]) == (0, None)
    trust = shutil.copy(anchored.workspace.config.trust, tmp_path / "kept-apart.txt")
    result = cognify("ledger", "verify", "--external", "--trust", trust, "--json", at=anchored)
    report = result.json
    assert (result.code, report["level"], report["anchored_size"]) == (0, "L3", report["size"])
    assert report["anchored_at"]
    (kept,) = admin.list_objects_v2(Bucket="heads", Prefix=prefix)["Contents"]
    held = admin.get_object_retention(Bucket="heads", Key=kept["Key"])["Retention"]
    assert held["Mode"] == "COMPLIANCE"
    grow(anchored, 1, prefix="later")
    shown = cognify("ledger", "verify", "--external", at=anchored)
    assert shown.code == 0
    assert "1 newest entries are under no anchored head yet" in shown.out


def test_a_bucket_notices_a_rollback_even_under_a_delete_marker(
    anchored: World, cognify: Cognify, admin: Any, prefix: str, tmp_path: Path
) -> None:
    cognify("ledger", "checkpoint", at=anchored)
    old = shutil.copy(anchored.workspace.config.ledger, tmp_path / "old.sqlite")
    grow(anchored, 2)
    cognify("ledger", "checkpoint", at=anchored)
    assert cognify("ledger", "anchor", at=anchored).code == 0
    shutil.copy(old, anchored.workspace.config.ledger)
    anchored.workspace.config.home.joinpath("signer-state.json").unlink()
    shutil.rmtree(anchored.workspace.config.home / "anchors")  # the receipts went with it
    for item in admin.list_objects_v2(Bucket="heads", Prefix=prefix)["Contents"]:
        admin.delete_object(Bucket="heads", Key=item["Key"])
    result = cognify("ledger", "verify", "--external", at=anchored)
    assert result.code == 2
    assert "anchor bucket" in result.out
    backup = tmp_path / "backup.sqlite"
    assert cognify("ledger", "backup", backup, at=anchored).code == 0
    proof = cognify("ledger", "restore", backup, "--to", tmp_path / "proof.sqlite", at=anchored)
    assert (proof.code, "anchor bucket" in proof.out) == (2, True)


def test_another_head_in_the_bucket_is_a_fork(anchored: World, cognify: Cognify, admin: Any, prefix: str) -> None:
    cognify("ledger", "checkpoint", at=anchored)
    assert cognify("ledger", "anchor", at=anchored).code == 0
    (kept,) = admin.list_objects_v2(Bucket="heads", Prefix=prefix)["Contents"]
    signer = anchored.workspace.ledger.signer
    assert signer is not None
    other = Checkpoint(ORIGIN, int(kept["Key"].rpartition("/")[2]), bytes(32))
    note = sign_note(other.text(), signer.origin, signer._private[0])
    admin.put_object(Bucket="heads", Key=f"{prefix}/{escape(ORIGIN)}/{other.size}", Body=note.encode())
    result = cognify("ledger", "verify", "--external", at=anchored)
    assert result.code == 2
    assert "anchor bucket" in result.out


def test_a_bucket_without_lock_or_out_of_reach_is_said(
    ready: World, cognify: Cognify, admin: Any, s3_access: str
) -> None:
    cognify("ledger", "checkpoint", at=ready)
    add_config(ready, f'\n[[anchor]]\nkind = "s3"\nname = "b"\nbucket = "unlocked"\nendpoint_url = "{s3_access}"\n')
    refused = cognify("ledger", "anchor", at=ready)
    assert refused.code == 4
    assert "no object lock" in refused.out + refused.err
    add_config(ready, "require_lock = false\n")
    assert cognify("ledger", "anchor", at=ready).code == 0
    report = cognify("ledger", "verify", "--external", "--json", at=ready).json
    assert (report["exit_code"], report["level"]) == (0, "L1"), "who may delete there vouches for no time"
    path = ready.workspace.config.path
    path.write_text(path.read_text().replace(s3_access, "http://127.0.0.1:9"))
    silent = cognify("ledger", "verify", "--external", at=ready)
    assert silent.code == 4
    assert "not compared: anchor b" in silent.out


def test_evidence_in_a_locked_bucket_with_its_keys_in_another(
    ready: World, cognify: Cognify, admin: Any, s3_access: str, tmp_path: Path
) -> None:
    path = ready.workspace.config.path
    text = path.read_text().replace("[workspace]", '[workspace]\nevidence = "s3://blobs/credit"', 1)
    path.write_text(text)
    from cognify_dagster.evidence import EvidenceError

    with pytest.raises(EvidenceError, match="keys_root"):
        Workspace.open(path).evidence.put(b"secret", media_type="text/plain", sensitivity="personal")
    path.write_text(text.replace("[workspace]", '[workspace]\nevidence_keys = "s3://keys/credit"', 1))
    workspace = Workspace.open(path)
    ref = workspace.evidence.put(b"secret", media_type="text/plain", sensitivity="personal")
    out = tmp_path / "secret.txt"
    got = cognify("evidence", "get", ref.digest, "-o", out, at=ready)
    assert got.code == 0, got.err
    assert out.read_bytes() == b"secret"
    assert workspace.evidence.erase_key(ref.digest)
    with pytest.raises(EvidenceKeyErased):
        Workspace.open(path).evidence.get(ref)
    dry = cognify("evidence", "collect", "--dry-run", "--json", at=ready)
    assert dry.code == 0, dry.err
