"""Keys, people, gates and policy."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
import yaml

from cognify_dagster.governance import DEFAULT_POLICY_YAML, directory, policy_in_force, unlock_key
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.records import GateSetAdopted, ModelRegistered, VersionOpened
from cognify_dagster.workspace import Workspace, Writer, idempotency_key
from tests.cli.conftest import Cognify, Outcome, key_file
from tests.governance.world import MODEL, PASSPHRASE, World

GATES = """\
name: credit_gates
gates:
  - {id: auc, family: performance, metric: auc, op: ">=", threshold: 0.72, source: policy, reason: Accepted by the committee.}
"""


def test_a_new_key_is_private_encrypted_and_never_overwritten(cognify: Cognify, tmp_path: Path) -> None:
    out = tmp_path / "vera.key.json"
    made = cognify("key", "new", "--person", "person/vera", "--out", out)
    assert made.code == 0, made.err
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    key = unlock_key(out, PASSPHRASE)
    assert key.key_id in made.out
    assert cognify("key", "new", "--person", "person/vera", "--out", out).code == 5
    assert unlock_key(out, PASSPHRASE).key_id == key.key_id


def test_a_short_pass_phrase_makes_no_key(cognify: Cognify, tmp_path: Path) -> None:
    out = tmp_path / "k.json"
    result = cognify("key", "new", "--person", "person/vera", "--out", out, passphrase="short")
    assert result.code == 1
    assert "at least 12" in result.err
    assert not out.exists()


def test_key_show_prints_a_public_half_that_can_be_enrolled(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    public = cognify("key", "show", key_file(founded, "nora"), "--json")
    assert set(public.json) == {"format", "person", "key_id", "public"}
    half = tmp_path / "nora.pub.json"
    half.write_text(public.out)
    assert public.json["key_id"] in cognify("key", "show", half).out
    result = cognify(
        "people", "enrol", "--name", "Nora", "--role", "auditor", "--public-key", half,
        "--as", key_file(founded, "ada"), "--as", key_file(founded, "finn"), "--yes", at=founded,
    )  # fmt: skip
    assert result.code == 0, result.err
    listed = cognify("people", "list", "--json", at=founded).json["people"]
    nora = next(person for person in listed if person["person"] == "person/nora")
    assert nora["roles"] == ["auditor"]
    assert nora["keys"][0]["valid"] is True
    assert (nora["vouched_by"], nora["witnesses"]) == ("person/ada", ["person/finn"])
    assert "Nora" in cognify("people", "list", at=founded).out


def test_a_file_that_is_no_key(cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "k.json"
    file.write_text("{}")
    result = cognify("key", "show", file)
    assert result.code == 1
    assert "not a personal key file" in result.err


def test_an_alias_is_added_and_the_rest_stays(founded: World, cognify: Cognify) -> None:
    result = cognify(
        "people", "enrol", "--person", "person/ben", "--alias", "git:ben@home.example",
        "--as", key_file(founded, "ada"), "--as", key_file(founded, "vera"), "--yes", "--json", at=founded,
    )  # fmt: skip
    assert result.code == 0, result.err
    reading = founded.workspace.read()
    ben = directory(reading).person_at("person/ben", reading.size)
    assert ben is not None
    assert ben.aliases == ("user:ben", "git:ben@bank.example", "git:ben@home.example")
    assert ben.roles == ("data_scientist", "model_validator")


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        (("--person", "person/new"), 5, "is not enrolled yet"),
        (("--name", "X", "--role", "astronaut", "--public-key", "nora"), 1, "role 'astronaut' is not in the policy"),
        (("--name", "X", "--role", "auditor"), 5, "name one person"),
        (("--person", "person/ada", "--public-key", "nora"), 1, "this key belongs to person/nora"),
    ],
)
def test_enrolments_that_are_refused(
    words: tuple[str, ...], code: int, part: str, founded: World, cognify: Cognify
) -> None:
    given = [key_file(founded, "nora") if word == "nora" else word for word in words]
    size = founded.workspace.ledger.size()
    signers = ("--as", key_file(founded, "ada"), "--as", key_file(founded, "finn"))
    result = cognify("people", "enrol", *given, *signers, "--yes", at=founded)
    assert result.code == code
    assert part in result.err
    assert founded.workspace.ledger.size() == size


def test_an_admin_and_another_vouch_and_nobody_for_themselves(founded: World, cognify: Cognify) -> None:
    words = ("people", "enrol", "--name", "N", "--role", "auditor", "--public-key", key_file(founded, "nora"), "--yes")
    keys = {name: ("--voucher", key_file(founded, name)) for name in ("ada", "finn", "vera", "carl")}
    assert "may not enrol people" in cognify(*words, *keys["vera"], *keys["carl"], at=founded).err
    assert "1 of 2 people vouched" in cognify(*words, *keys["ada"], at=founded).err
    own = cognify(
        "people", "enrol", "--person", "person/ada", "--role", "business_owner", *keys["ada"], *keys["finn"],
        "--yes", at=founded,
    )  # fmt: skip
    assert own.code == 1
    assert "vouch for themselves" in own.err


def test_a_revoked_key_is_shown_and_cannot_sign(ready: World, cognify: Cognify) -> None:
    key_id = ready.key("vera").key_id
    result = cognify(
        "people",
        "revoke-key",
        "person/vera",
        key_id,
        "--reason",
        "laptop lost",
        "--key",
        key_file(ready, "ada"),
        "--yes",
        at=ready,
    )
    assert result.code == 0, result.err
    assert "revoked by entry" in cognify("people", "list", at=ready).out
    refused = cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--yes", at=ready)
    assert refused.code == 1
    again = cognify(
        "people",
        "revoke-key",
        "person/vera",
        key_id,
        "--reason",
        "x",
        "--key",
        key_file(ready, "ada"),
        "--yes",
        at=ready,
    )
    assert again.code == 1
    assert "has no valid key" in again.err


def test_gates_are_shown_before_adoption_and_signed(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(GATES)
    result = cognify("gates", "adopt", file, "--model", MODEL, "--key", key_file(founded, "vera"), "--yes", at=founded)
    assert result.code == 0, result.err
    assert "auc >= 0.72" in result.out
    adopted = founded.workspace.read().all(GateSetAdopted)[-1]
    assert adopted.record.gates[0].threshold == 0.72
    shown = cognify("gates", "show", "credit_gates", "--json", at=founded).json
    assert shown[0]["adopted_by_name"] == "Vera"
    assert shown[0]["problem"] is None
    assert "Adopted by Vera" in cognify("gates", "show", at=founded).out
    assert cognify("gates", "show", "absent", at=founded).code == 1


def test_gates_by_the_wrong_person_or_from_a_bad_file(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(GATES)
    words = ("gates", "adopt", file, "--model", MODEL, "--yes")
    refused = cognify(*words, "--key", key_file(founded, "olga"), at=founded)
    assert refused.code == 1
    assert "may not adopt gate sets" in refused.err
    file.write_text(GATES.replace("threshold", "treshold"))
    bad = cognify(*words, "--key", key_file(founded, "vera"), at=founded)
    assert bad.code == 1
    assert "gates.yaml" in bad.err
    assert "threshold" in bad.err


def test_policy_check(cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(DEFAULT_POLICY_YAML)
    good = cognify("policy", "check", file)
    assert good.code == 0
    assert "Independent validation" in good.out
    assert cognify("policy", "check", file, "--json").json["digest"].startswith("sha256:")
    file.write_text(DEFAULT_POLICY_YAML.replace("role: business_owner", "role: chief_wizard"))
    bad = cognify("policy", "check", file)
    assert bad.code == 1
    assert "chief_wizard" in bad.err
    assert "stages.business.role" in bad.err


def test_policy_adoption_needs_two_people(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    value = yaml.safe_load(DEFAULT_POLICY_YAML)
    value["tiers"]["high"]["approval_days"] = 90
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(value))
    words = ("policy", "adopt", file, "--reason", "yearly review", "--yes", "--key", key_file(founded, "ada"))
    alone = cognify(*words, at=founded)
    assert alone.code == 1
    assert "2 different people" in alone.err
    both = cognify(*words, "--key", key_file(founded, "finn"), at=founded)
    assert both.code == 0, both.err
    assert policy_in_force(founded.workspace.read()).policy.tiers["high"].approval_days == 90
    shown = cognify("policy", "show", "--json", at=founded).json
    assert shown["policy"]["tiers"]["high"]["approval_days"] == 90
    assert "in force since entry" in cognify("policy", "show", at=founded).out
    same = cognify(*words, "--json", at=founded)
    assert same.json["duplicate"] is True


def test_one_pass_phrase_file_a_key_in_order(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    value = yaml.safe_load(DEFAULT_POLICY_YAML)
    value["title"] = "Another policy"
    file = tmp_path / "policy.yaml"
    file.write_text(json.dumps(value))
    secrets = []
    for number, text in enumerate((PASSPHRASE, "not this pass phrase")):
        secret = tmp_path / f"secret{number}"
        secret.write_text(text)
        secret.chmod(0o600)
        secrets += ["--passphrase-file", secret]
    keys = ("--key", key_file(founded, "ada"), "--key", key_file(founded, "finn"))
    result = cognify("policy", "adopt", file, "--reason", "r", "--yes", *keys, *secrets, passphrase=None, at=founded)
    assert result.code == 1
    assert "finn.key.json: the pass phrase is wrong" in result.err


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (b"version: 1\ntiers: [high\nstages: {}\n", "policy.yaml, line 3, column"),
        (b"", "policy.yaml, line 1: nothing is in this file"),
        (b"# only a comment\n", "policy.yaml, line 1: nothing is in this file"),
        (b"version: 1\n\x89PNG\xff\x00", "policy.yaml, line 2: not UTF-8 text"),
        (b"version: 1\ntitle: \x00\x01\n", "policy.yaml, line 2: not YAML: a control character"),
        (b"- one\n- two\n", "policy.yaml, line 1: this is a list"),
    ],
)
def test_a_policy_file_that_cannot_be_read_names_file_and_line(
    content: bytes, part: str, cognify: Cognify, tmp_path: Path
) -> None:
    (tmp_path / "policy.yaml").write_bytes(content)
    result = cognify("policy", "check", tmp_path / "policy.yaml")
    assert result.code == 3
    assert part in result.err
    assert len(result.err.splitlines()) == 1


def _admit(cognify: Cognify, world: World, *words: object) -> Outcome:
    return cognify("people", "enrol-workload", *words, "--voucher", key_file(world, "ada"), "--yes", at=world)


def test_a_new_machine_is_admitted_for_the_kinds_named_and_its_entries_count(
    founded: World, cognify: Cognify, tmp_path: Path
) -> None:
    file = tmp_path / "second.key"
    words = ("workload/second", "--new-key", file)
    unnamed = _admit(cognify, founded, *words)
    assert unnamed.code == 5
    assert "is new: name what it may write" in unnamed.err
    assert not file.exists()
    done = _admit(cognify, founded, *words, "--kind", "version_opened")
    assert done.code == 0, done.err
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    ws = founded.workspace
    second = Workspace(ws.config, ws.ledger, ws.evidence, Writer("workload/second", file.read_bytes()))
    second.append(VersionOpened(model=MODEL, version="7", run="r", opened_by="person/ben"), idem=idempotency_key("7"))
    reading = ws.read()
    assert directory(reading).writer_problem(reading.view.entries[-1].entry) is None
    with pytest.raises(WriterRefused, match="--kind model_registered"):
        second.append(ModelRegistered(model=MODEL, owner="o", risk_tier="low"), idem=idempotency_key("8"))
    again = _admit(cognify, founded, "workload/second", "--key-file", file)
    assert again.code == 1
    assert "is enrolled already" in again.err


def test_a_revoked_machine_key_is_replaced_with_the_kinds_it_had(founded: World, cognify: Cognify) -> None:
    ws = founded.workspace
    assert ws.writer is not None
    before = directory(ws.read()).workloads[-1][1]
    revoked = cognify(
        "people", "revoke-key", ws.writer.workload, ws.writer.key_id, "--reason", "host stolen",
        "--key", key_file(founded, "ada"), "--yes", at=founded,
    )  # fmt: skip
    assert revoked.code == 0, revoked.err
    key = ws.config.keys / "workload.key"
    assert "was revoked" in _admit(cognify, founded, ws.writer.workload, "--key-file", key).err
    key.unlink()
    done = _admit(cognify, founded, ws.writer.workload, "--new-key", key, "--json")
    assert done.code == 0, done.err
    assert tuple(done.json["workload"]["kinds"]) == before.kinds
    opened = Workspace.open(founded.folder / "project")
    seq = opened.append(ModelRegistered(model="m2", owner="o", risk_tier="low"), idem=idempotency_key("x")).seq
    reading = opened.read()
    assert directory(reading).writer_problem(reading.view.entries[seq].entry) is None


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ((), 5, "one of --key-file, --new-key and --public"),
        (("--public", "AAAA", "--all-kinds"), 5, "has 32 bytes, this has 3"),
        (("--public", "A" * 43 + "=", "--kind", "genesis"), 5, "no machine writes that"),
        (("--public", "A" * 43 + "=", "--kind", "x", "--all-kinds"), 5, "use either"),
    ],
)
def test_machines_that_are_not_admitted(
    words: tuple[str, ...], code: int, part: str, founded: World, cognify: Cognify
) -> None:
    size = founded.workspace.ledger.size()
    result = _admit(cognify, founded, "workload/second", *words)
    assert result.code == code
    assert part in result.err
    assert founded.workspace.ledger.size() == size


def test_only_an_admin_admits_a_machine_and_no_key_file_is_left(
    founded: World, cognify: Cognify, tmp_path: Path
) -> None:
    file = tmp_path / "second.key"
    result = cognify(
        "people", "enrol-workload", "workload/second", "--new-key", file, "--all-kinds",
        "--voucher", key_file(founded, "vera"), "--yes", at=founded,
    )  # fmt: skip
    assert result.code == 1
    assert "may not enrol workloads" in result.err
    assert not file.exists()
