"""What needs witnesses fails closed without them; everything else goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from cognify_dagster.ledger import NotWitnessed, RolledBack, TrustFile
from cognify_dagster.ledger.recovery.rollback import mark_path
from cognify_dagster.ledger.verification.verify import Outcome
from cognify_dagster.records import ModelRegistered
from cognify_dagster.workspace import Workspace, WorkspaceError, idempotency_key, load_config
from tests.governance.world import World, make_world
from tests.ledger.test_witnessed_ledger import witness


def demand(world: World, remote: object, url: bool = True) -> None:
    """Add a witness to the workspace's trust file, and its quorum."""
    path = world.workspace.config.trust
    trust = TrustFile.parse(path.read_text(encoding="utf-8"))
    name, key = remote.name, remote.key  # type: ignore[attr-defined]
    urls = ((name, remote.url),) if url else ()  # type: ignore[attr-defined]
    path.write_text(replace(trust, witnesses=((name, key),), quorum=name, urls=urls).text(), encoding="utf-8")


def reopened(world: World) -> Workspace:
    return Workspace.open(world.workspace.config.path)


def registration() -> ModelRegistered:
    """Any record will do: the kind decides."""
    return ModelRegistered(
        model="credit_default", owner="team:risk", risk_tier="high", frameworks=(), intended_use="x", limitations="y"
    )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return make_world(tmp_path / "w")


def test_a_witnessed_kind_is_refused_until_the_quorum_cosigns(world: World, tmp_path: Path) -> None:
    workspace = reopened(world)
    assert workspace.ledger.signer is not None
    with witness(tmp_path, "audit", workspace.ledger.signer.verifier) as remote:
        demand(world, replace(remote, url="http://127.0.0.1:9"))
        workspace = reopened(world)
        record = registration()
        config = replace(workspace.config, witnessed=(record.kind,))
        workspace.config = config
        with pytest.raises(NotWitnessed, match="is kept and signed"):
            workspace.append(record, idem=idempotency_key("w"), checkpoint=True)
        size = workspace.ledger.size()
        demand(world, remote)
        workspace = reopened(world)
        workspace.config = config
        receipt = workspace.append(record, idem=idempotency_key("w"), checkpoint=True)
        assert receipt.duplicate
        assert workspace.ledger.size() == size
        report = workspace.ledger.verify(workspace.trust())
        assert (report.outcome, report.level) == (Outcome.HOLDS, "L2")


def test_other_kinds_go_on_without_witnesses(world: World, tmp_path: Path) -> None:
    workspace = reopened(world)
    assert workspace.ledger.signer is not None
    with witness(tmp_path, "audit", workspace.ledger.signer.verifier) as remote:
        demand(world, replace(remote, url="http://127.0.0.1:9"))
    workspace = reopened(world)
    receipt = workspace.append(registration(), idem=idempotency_key("x"), checkpoint=True)
    assert not receipt.duplicate


def test_a_damaged_trust_file_is_no_way_around_the_quorum(world: World) -> None:
    workspace = reopened(world)
    record = registration()
    workspace.config = replace(workspace.config, witnessed=(record.kind,))
    workspace.config.trust.write_text("nonsense\n", encoding="utf-8")
    with pytest.raises(WorkspaceError, match="trust"):
        workspace.append(record, idem=idempotency_key("y"), checkpoint=True)


def test_nothing_is_appended_to_a_ledger_marked_as_rolled_back(world: World) -> None:
    workspace = reopened(world)
    size = workspace.ledger.size()
    mark_path(workspace.config.ledger).write_text('{"findings": ["entries 3..4 were cut off"]}', encoding="utf-8")
    with pytest.raises(RolledBack, match=r"entries 3\.\.4 were cut off"):
        workspace.append(registration(), idem=idempotency_key("z"))
    assert workspace.ledger.size() == size
    assert workspace.read().size == size, "reading goes on"


@pytest.mark.parametrize(
    ("line", "url"),
    [('ledger = "postgresql://db/ledger"', "postgresql://db/ledger"), ('ledger = "env:LEDGER_URL"', "env:LEDGER_URL")],
)
def test_a_ledger_in_postgres_is_named_by_url_or_environment_variable(tmp_path: Path, line: str, url: str) -> None:
    (tmp_path / "cognify.toml").write_text(f'[workspace]\norigin = "a.example/b/c"\n{line}\n', encoding="utf-8")
    assert load_config(tmp_path / "cognify.toml").ledger_url == url


def test_an_unset_variable_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LEDGER_URL", raising=False)
    (tmp_path / "cognify.toml").write_text(
        '[workspace]\norigin = "a.example/b/c"\nledger = "env:LEDGER_URL"\n', encoding="utf-8"
    )
    with pytest.raises(WorkspaceError, match="LEDGER_URL is not set"):
        Workspace.open(tmp_path)
