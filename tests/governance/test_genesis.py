"""The genesis ceremony: who may found a ledger, and what an interrupted ceremony leaves."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from datetime import datetime, timezone
from pathlib import Path

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Founder,
    GovernanceError,
    PersonalKey,
    decide,
    directory,
    found_workspace,
    parse_policy,
)
from cognify_dagster.ledger import EntryError, Outcome, TrustFile
from cognify_dagster.records import Genesis
from cognify_dagster.workspace import Workspace, WorkspaceError, idempotency_key, open_prepared, prepare, publish
from tests.governance.world import World

POLICY = parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML))


@pytest.fixture(scope="session")
def founders(founded_template: World) -> list[PersonalKey]:
    return [founded_template.key("ada"), founded_template.key("finn")]


def found(folder: Path, *people: Founder, **options: object) -> Workspace:
    given = {"origin": "test.example/credit", "policy": POLICY, "policy_text": DEFAULT_POLICY_YAML, **options}
    return found_workspace(folder, founders=people, **given)  # type: ignore[arg-type]


def test_two_founders_sign_origin_keys_and_policy(tmp_path: Path, founders: list[PersonalKey]) -> None:
    workspace = found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[1], "Finn"))
    reading = workspace.read()
    genesis = reading.genesis.record
    assert reading.size == 1
    assert not reading.trial
    assert len(genesis.envelopes) == 2
    assert genesis.policy_digest == POLICY.digest
    assert directory(reading).problems == []
    assert [path.name for path in sorted(tmp_path.iterdir())] == [
        ".cognify",
        "cognify.toml",
        "policy.yaml",
        "trust.txt",
    ]
    assert (tmp_path / ".cognify").stat().st_mode & 0o777 == 0o700


def test_the_trust_file_pins_origin_log_key_and_genesis(tmp_path: Path, founders: list[PersonalKey]) -> None:
    workspace = found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[1], "Finn"))
    trust = TrustFile.parse((tmp_path / "trust.txt").read_text())
    assert trust.genesis is not None
    assert trust.genesis.hex() == workspace.read().genesis.leaf
    report = workspace.ledger.verify(trust)
    assert report.outcome is Outcome.HOLDS
    assert report.level == "L1"


def test_one_founder_is_not_enough(tmp_path: Path, founders: list[PersonalKey]) -> None:
    with pytest.raises(GovernanceError, match="at least two people"):
        found(tmp_path, Founder(founders[0], "Ada"))
    with pytest.raises(GovernanceError, match="at least two people"):
        found(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_trial_allows_one_and_says_so_everywhere(tmp_path: Path, founders: list[PersonalKey]) -> None:
    workspace = found(tmp_path, Founder(founders[0], "Ada"), trial=True)
    assert workspace.read().trial
    with pytest.raises(GovernanceError):
        found(tmp_path / "empty", trial=True)


def test_the_same_person_does_not_count_twice(tmp_path: Path, founders: list[PersonalKey]) -> None:
    with pytest.raises(GovernanceError, match="another person"):
        found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[0], "Ada again"))
    alias = PersonalKey("person/adb", founders[0].private)
    with pytest.raises(GovernanceError, match="key of their own"):
        found(tmp_path, Founder(founders[0], "Ada"), Founder(alias, "Adb"))


@pytest.mark.parametrize(
    ("roles", "message"),
    [(("wizard",), "'wizard' is not in the policy"), ((), "at least one role"), (("auditor",), "workspace_admin")],
)
def test_founders_have_roles_of_the_policy_and_one_can_enrol_others(
    tmp_path: Path, founders: list[PersonalKey], roles: tuple[str, ...], message: str
) -> None:
    with pytest.raises(GovernanceError, match=message):
        found(tmp_path, Founder(founders[0], "Ada", roles), Founder(founders[1], "Finn", roles))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("threshold", [0, 1, 3])
def test_the_recovery_threshold_lies_within_the_keys(
    tmp_path: Path, founders: list[PersonalKey], threshold: int
) -> None:
    with pytest.raises(GovernanceError, match="recovery needs between 2 and 2"):
        found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[1], "Finn"), recovery_threshold=threshold)


def test_a_malformed_origin_is_refused(tmp_path: Path, founders: list[PersonalKey]) -> None:
    with pytest.raises(EntryError, match="origin"):
        found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[1], "Finn"), origin='x"\nhome = "/"')
    with pytest.raises(WorkspaceError):
        Workspace.open(tmp_path)


def test_a_workspace_is_never_founded_over_another(tmp_path: Path, founders: list[PersonalKey]) -> None:
    people = (Founder(founders[0], "Ada"), Founder(founders[1], "Finn"))
    first = found(tmp_path, *people).read().genesis.leaf
    with pytest.raises(WorkspaceError, match="already a workspace"):
        found(tmp_path, *people)
    config = (tmp_path / "cognify.toml").read_text()
    (tmp_path / "cognify.toml").unlink()
    with pytest.raises(WorkspaceError, match="restore the file"):
        found(tmp_path, *people)
    (tmp_path / "cognify.toml").write_text(config)
    assert Workspace.open(tmp_path).read().genesis.leaf == first


def test_a_ledger_in_use_is_never_taken_for_an_unfinished_ceremony(
    tmp_path: Path, founded_template: World, founders: list[PersonalKey]
) -> None:
    shutil.copytree(founded_template.folder / "project", tmp_path / "project")
    (tmp_path / "project" / ".cognify" / "unpublished").write_text("trust.txt")
    (tmp_path / "project" / "cognify.toml").unlink()
    with pytest.raises(WorkspaceError, match="restore the file"):
        found(tmp_path / "project", Founder(founders[0], "Ada"), Founder(founders[1], "Finn"))
    assert (tmp_path / "project" / ".cognify" / "ledger.sqlite").exists()
    assert (tmp_path / "project" / "trust.txt").exists()


def test_nor_beside_the_trust_file_of_another(tmp_path: Path, founders: list[PersonalKey]) -> None:
    """A stale trust file would make the new ledger look forged, or an old one be trusted for it."""
    (tmp_path / "trust.txt").write_text("old")
    with pytest.raises(WorkspaceError, match=r"trust\.txt"):
        found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[1], "Finn"))
    assert (tmp_path / "trust.txt").read_text() == "old"


def test_a_policy_file_that_exists_is_kept(tmp_path: Path, founders: list[PersonalKey]) -> None:
    (tmp_path / "policy.yaml").write_text("# mine\n")
    found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[1], "Finn"))
    assert (tmp_path / "policy.yaml").read_text() == "# mine\n"


CEREMONY = """
    import os, signal, sys
    from pathlib import Path
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    import cognify_dagster.governance.genesis as genesis
    import cognify_dagster.workspace.founding as module
    from cognify_dagster.governance import DEFAULT_POLICY_YAML, Founder, PersonalKey, found_workspace, parse_policy
    import yaml

    point, folder = sys.argv[1], Path(sys.argv[2])
    die = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)
    if point == "before genesis":
        genesis.sign_act = die
    elif point == "before publish":
        genesis.publish = die
    elif point == "before files":
        module.Path.write_text = lambda self, *a, **k: die() if self.name == "trust.txt" else original(self, *a, **k)
    elif point == "before config":
        module.os.replace = lambda a, b: die() if str(b).endswith("cognify.toml") else replace(a, b)
    keys = [PersonalKey(f"person/{n}", Ed25519PrivateKey.generate()) for n in ("ada", "finn")]
    found_workspace(folder, origin="test.example/x", founders=[Founder(k, k.person) for k in keys],
                    policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)), policy_text=DEFAULT_POLICY_YAML)
"""


@pytest.mark.parametrize("point", ["before genesis", "before publish", "before files", "before config"])
def test_an_interrupted_ceremony_leaves_no_workspace_and_can_be_repeated(
    tmp_path: Path, founders: list[PersonalKey], point: str
) -> None:
    prelude = "import os, pathlib\noriginal, replace = pathlib.Path.write_text, os.replace\n"
    script = prelude + textwrap.dedent(CEREMONY)
    done = subprocess.run([sys.executable, "-c", script, point, str(tmp_path)], env={**os.environ}, check=False)
    assert done.returncode == -signal.SIGKILL
    with pytest.raises(WorkspaceError, match="no cognify"):
        Workspace.open(tmp_path)
    workspace = found(tmp_path, Founder(founders[0], "Ada"), Founder(founders[1], "Finn"))
    assert workspace.ledger.verify(workspace.trust()).outcome is Outcome.HOLDS
    assert sorted(path.name for path in tmp_path.iterdir()) == [".cognify", "cognify.toml", "policy.yaml", "trust.txt"]


@pytest.mark.parametrize(
    ("forge", "text"),
    [
        (lambda genesis: {"envelopes": genesis.envelopes[:1]}, "not signed by person/finn"),
        (lambda genesis: {"envelopes": (), "founders": genesis.founders[:1]}, "too few founders"),
        (lambda genesis: {"policy": {**genesis.policy, "tiers": {"high": {"stages": ["automated"]}}}}, "digest"),
        (lambda genesis: {"log_key": genesis.log_key + "x"}, "signs something else"),
        (lambda genesis: {"origin": "test.example/other"}, "founds 'test.example/other'"),
    ],
)
def test_a_genesis_its_founders_did_not_sign_releases_nothing(
    tmp_path: Path, founded_template: World, forge: object, text: str
) -> None:
    genesis = founded_template.workspace.read().genesis.record
    config = prepare(tmp_path, genesis.origin)
    workspace = open_prepared(config)
    changes = forge(genesis)  # type: ignore[operator]
    forged = Genesis.model_validate({**genesis.model_dump(), **changes})
    workspace.append(forged, idem=idempotency_key("genesis"), checkpoint=True)
    opened = Workspace.open(publish(config, {}))
    decision = decide(opened.read(), "credit_default", "1", "production", datetime.now(timezone.utc))
    assert any(reason.code == "genesis_unsigned" and text in reason.text for reason in decision.reasons)
