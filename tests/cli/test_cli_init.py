"""The genesis ceremony from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognify_dagster.governance import DEFAULT_POLICY_YAML, create_key
from cognify_dagster.ledger import TrustFile
from cognify_dagster.workspace import Workspace, os_login
from tests.cli.conftest import Cognify, at_terminal
from tests.governance.world import PASSPHRASE


@pytest.fixture(scope="module")
def founders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ada", "finn"):
        create_key(folder / f"{name}.key.json", f"person/{name}", PASSPHRASE)
    return {name: folder / f"{name}.key.json" for name in ("ada", "finn")}


def _words(founders: dict[str, Path], *names: str) -> list[str]:
    return [word for name in names for word in ("--founder", f"{name.title()} Founder={founders[name]}")]


def test_two_founders_found_a_workspace(founders: dict[str, Path], cognify: Cognify, tmp_path: Path) -> None:
    folder = tmp_path / "project"
    result = cognify("init", folder, "--origin", "bank.example/credit", *_words(founders, "ada", "finn"), "--yes")
    assert result.code == 0, result.err
    for name in ("cognify.toml", "policy.yaml", "trust.txt", ".cognify/ledger.sqlite"):
        assert (folder / name).exists()
    reading = Workspace.open(folder).read()
    assert reading.origin == "bank.example/credit"
    assert reading.trial is False
    assert [person.name for person in reading.genesis.record.founders] == ["Ada Founder", "Finn Founder"]
    trust = TrustFile.parse((folder / "trust.txt").read_text())
    assert trust.genesis is not None
    assert trust.genesis.hex() == reading.genesis.leaf
    assert "Copy trust.txt" in result.out
    assert "TRIAL" not in result.out
    assert cognify("ledger", "verify", "--workspace", folder).code == 0


def test_one_founder_needs_trial_which_is_said_everywhere(
    founders: dict[str, Path], cognify: Cognify, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    alone = cognify("init", folder, *_words(founders, "ada"), "--yes")
    assert alone.code == 5
    assert "--trial" in alone.err
    assert not (folder / ".cognify").exists()
    made = cognify("init", folder, "--trial", *_words(founders, "ada"), "--alias", "Ada Founder=user:ada", "--yes")
    assert made.code == 0, made.err
    assert "TRIAL" in made.out
    for words in (("ledger", "verify"), ("people", "list"), ("policy", "show"), ("doctor",), ("ledger", "show")):
        assert "TRIAL" in cognify(*words, "--workspace", folder).out, words
    ada = cognify("people", "list", "--json", "--workspace", folder).json["people"][0]
    assert ada["aliases"] == ["user:ada", f"os:{os_login()}"]
    assert {"workspace_admin", "model_validator"} <= set(ada["roles"])


def test_recovery_keys_kept_apart(founders: dict[str, Path], cognify: Cognify, tmp_path: Path) -> None:
    offline = create_key(tmp_path / "offline.key.json", "person/vault", PASSPHRASE)
    words = ("--trial", *_words(founders, "ada"), "--recovery-key", tmp_path / "offline.key.json", "--yes")
    too_many = cognify("init", tmp_path / "p", *words, "--recovery-threshold", 2)
    assert too_many.code == 1
    assert "between 1 and 1" in too_many.err
    assert cognify("init", tmp_path / "p", *words).code == 0
    genesis = Workspace.open(tmp_path / "p").read().genesis.record
    assert [key.key_id for key in genesis.recovery_keys] == [offline.key_id]


def test_the_default_origin_is_made_from_the_folder_and_unique(
    founders: dict[str, Path], cognify: Cognify, tmp_path: Path
) -> None:
    origins = set()
    for name in ("a", "b"):
        folder = tmp_path / name / "My Project!"
        origins.add(cognify("init", folder, "--trial", *_words(founders, "ada"), "--yes", "--json").json["origin"])
    assert len(origins) == 2
    assert all(origin.startswith("local/my-project-") for origin in origins)


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("--founder", "Ada"), "NAME=KEYFILE"),
        (("--founder", "Ada=absent.json"), "no such key file"),
        (("--origin", "no spaces please"), "--origin"),
        (("--alias", "Nobody=user:x"), "--alias"),
    ],
)
def test_bad_options_found_nothing(
    words: tuple[str, ...], part: str, founders: dict[str, Path], cognify: Cognify, tmp_path: Path
) -> None:
    folder = tmp_path / "project"
    result = cognify("init", folder, *_words(founders, "ada", "finn"), *words, "--yes")
    assert result.code == 5
    assert part in result.err
    assert not (folder / "cognify.toml").exists()


def test_the_same_person_twice_and_a_wrong_pass_phrase(
    founders: dict[str, Path], cognify: Cognify, tmp_path: Path
) -> None:
    twice = cognify("init", tmp_path / "p", *_words(founders, "ada", "ada"), "--yes")
    assert twice.code == 1
    assert "each founder must be another person" in twice.err
    wrong = cognify("init", tmp_path / "p", *_words(founders, "ada", "finn"), "--yes", passphrase="not the right one")
    assert wrong.code == 1
    assert "the pass phrase is wrong" in wrong.err
    assert not (tmp_path / "p" / ".cognify").exists()


def test_an_existing_workspace_or_trust_file_is_left_alone(
    founders: dict[str, Path], cognify: Cognify, tmp_path: Path
) -> None:
    words = ("init", tmp_path, "--trial", *_words(founders, "ada"), "--yes")
    (tmp_path / "trust.txt").write_text("another ledger's")
    assert "move it away" in cognify(*words).err
    assert (tmp_path / "trust.txt").read_text() == "another ledger's"
    (tmp_path / "trust.txt").unlink()
    assert cognify(*words).code == 0
    again = cognify(*words)
    assert again.code == 5
    assert "there is a workspace here already" in again.err


def test_inside_a_dagster_project_it_uses_the_policy_there_and_says_what_to_add(
    founders: dict[str, Path], cognify: Cognify, tmp_path: Path
) -> None:
    (tmp_path / "pyproject.toml").write_text('[tool.dagster]\nmodule_name = "x.definitions"\n')
    policy = DEFAULT_POLICY_YAML.replace("approval_days: 180", "approval_days: 30")
    (tmp_path / "policy.yaml").write_text(policy)
    result = cognify("init", tmp_path, *_words(founders, "ada", "finn"), "--yes")
    assert result.code == 0, result.err
    assert "this Dagster project (pyproject.toml)" in result.out
    added = [line for line in result.out.splitlines() if line.startswith("  +")]
    assert 0 < len(added) <= 10
    assert any("LedgerResource" in line for line in added)
    assert any("GovernedModel" in line for line in added)
    assert "leave its line out where your definitions have it already" in result.out
    reading = Workspace.open(tmp_path).read()
    assert reading.genesis.record.policy["tiers"]["high"]["approval_days"] == 30
    assert (tmp_path / "policy.yaml").read_text() == policy


def test_a_policy_with_an_unknown_role_founds_nothing(
    founders: dict[str, Path], cognify: Cognify, tmp_path: Path
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(DEFAULT_POLICY_YAML.replace("role: business_owner", "role: chief_wizard"))
    result = cognify("init", tmp_path / "p", "--policy", bad, *_words(founders, "ada", "finn"), "--yes")
    assert result.code == 1
    assert "chief_wizard" in result.err
    assert not (tmp_path / "p" / ".cognify").exists()


def test_without_a_terminal_the_founders_have_to_be_named(cognify: Cognify, tmp_path: Path) -> None:
    result = cognify("init", tmp_path / "p")
    assert result.code == 5
    assert "--founder" in result.err


def test_at_a_terminal_it_asks_for_names_and_makes_keys(tmp_path: Path) -> None:
    folder, home, secret = tmp_path / "project", tmp_path / "home", PASSPHRASE.encode() + b"\n"
    answers = [
        (b"Name of founder 1", b"Ada Lindqvist\n"),
        (b"Id [person/al-", b"\n"),
        (b"Key file", b"\n"),
        (b"New pass phrase (at least 12 characters)", b"\n"),
        (b"New pass phrase", b"short\n"),
        (b"New pass phrase", secret),
        (b"Repeat for confirmation", secret),
        (b"Found this ledger?", b"y\n"),
    ]
    code, shown = at_terminal(
        {"HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")},
        ["init", str(folder), "--trial"],
        answers,
    )
    assert code == 0, shown
    assert PASSPHRASE not in shown
    assert "Nothing was typed." in shown
    assert "That has 5 characters; at least 12 are needed." in shown
    keys = list((tmp_path / "home").rglob("*.key.json"))
    assert len(keys) == 1
    founder = Workspace.open(folder).read().genesis.record.founders[0]
    assert founder.name == "Ada Lindqvist"
    assert founder.person.startswith("person/al-"), "the proposed id does not spell the name"


def test_stopping_after_a_key_was_made_says_which_file_is_kept(tmp_path: Path) -> None:
    secret = PASSPHRASE.encode() + b"\n"
    answers = [
        (b"Name of founder 1", b"Ada\n"),
        (b"Id [person/a-", b"\n"),
        (b"Key file", b"\n"),
        (b"New pass phrase", secret),
        (b"Repeat for confirmation", secret),
        (b"Found this ledger?", b"n\n"),
    ]
    code, shown = at_terminal(
        {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "home" / "config")},
        ["init", str(tmp_path / "project"), "--trial"],
        answers,
    )
    assert code == 1
    (key,) = (tmp_path / "home").rglob("*.key.json")
    assert "nothing was written" not in shown
    assert f"Written before that, and kept: {key}" in shown.replace("\r\n", "\n")
    assert not (tmp_path / "project").exists()


def test_a_key_file_of_somebody_else_is_refused_not_silently_taken(founders: dict[str, Path], tmp_path: Path) -> None:
    secret = PASSPHRASE.encode() + b"\n"
    answers = [
        (b"Name of founder 1", b"Ada\n"),
        (b"Id [person/a-", b"person/ada-two\n"),
        (b"Key file", str(founders["finn"]).encode() + b"\n"),
        (b"holds the key of person/finn, not of person/ada-two", b"\n"),
        (b"New pass phrase", secret),
        (b"Repeat for confirmation", secret),
        (b"Found this ledger?", b"y\n"),
    ]
    code, shown = at_terminal(
        {"HOME": str(tmp_path / "home"), "XDG_CONFIG_HOME": str(tmp_path / "home" / "config")},
        ["init", str(tmp_path / "project"), "--trial"],
        answers,
    )
    assert code == 0, shown
    assert Workspace.open(tmp_path / "project").read().genesis.record.founders[0].person == "person/ada-two"
