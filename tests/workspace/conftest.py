"""A small workspace without governance: this room knows nothing of policy."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from cognify_dagster.ledger import TrustFile
from cognify_dagster.records import Envelope, Genesis, ModelRegistered, PublicKey, utc
from cognify_dagster.workspace import Workspace, idempotency_key, open_prepared, prepare, publish

ORIGIN = "test.example/workspace"


def register(model: str = "credit", **facts: str) -> ModelRegistered:
    return ModelRegistered(**{"model": model, "owner": "team:x", "risk_tier": "low", **facts})


def make(folder: Path) -> Path:
    """Make a workspace with a bare genesis entry; return its folder."""
    config = prepare(folder, ORIGIN)
    workspace = open_prepared(config)
    signer = workspace.ledger.signer
    assert signer is not None
    genesis = Genesis(
        origin=ORIGIN,
        log_key=str(signer.verifier),
        trial=True,
        founders=(),
        policy={},
        policy_digest="sha256:" + "0" * 64,
        recovery_threshold=1,
        recovery_keys=(PublicKey(key_id="0" * 16, public=""),),
        created=utc(),
        envelopes=(Envelope(payload="", payloadType="", signatures=()),),
    )
    receipt = workspace.append(genesis, idem=idempotency_key("genesis"), checkpoint=True)
    trust = TrustFile((signer.verifier,), receipt.leaf)
    publish(config, {"trust.txt": trust.text()})
    return folder


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("workspaces") / "template")


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "project"))


@pytest.fixture
def workspace(folder: Path) -> Workspace:
    return Workspace.open(folder)
