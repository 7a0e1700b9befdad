"""`cognify people` and `cognify act`: what people sign about people, here and each on their own machine."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.cli.people import command
from cognify_dagster.governance import create_key, directory
from tests.cli.conftest import Cognify, Outcome, key_file
from tests.governance.test_recovery import raw
from tests.governance.world import MODEL, PASSPHRASE, World

ROLE = "compliance_officer"


def keys(world: World, *names: str) -> list[object]:
    """The option --as for each of these people."""
    return [word for name in names for word in ("--as", key_file(world, name))]


def listed(cognify: Cognify, world: World, name: str) -> Any:
    people = cognify("people", "list", "--json", at=world).json["people"]
    return next(person for person in people if person["person"] == f"person/{name}")


def valid(cognify: Cognify, world: World, name: str) -> list[str]:
    return [key["key_id"] for key in listed(cognify, world, name)["keys"] if key["valid"]]


def done(result: Outcome) -> Outcome:
    assert result.code == 0, result.err
    return result


@pytest.mark.parametrize("name", sorted(command.commands))
def test_every_command_shows_an_example(cognify: Cognify, name: str) -> None:
    shown = done(cognify("people", name, "--help"))
    assert "Example:" in shown.out
    assert f"cognify people {name.replace('revoke-key', 'revoke')}" in shown.out


def test_an_enrolment_is_signed_on_two_machines(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    draft, ada, finn = (tmp_path / f"{name}.json" for name in ("draft", "ada", "finn"))
    exported = cognify(
        "people", "enrol", "--name", "Nora", "--role", "auditor", "--public-key", key_file(founded, "nora"),
        "--export", draft, "--signer", "person/ada", "--signer", "person/finn", at=founded,
    )  # fmt: skip
    assert "nothing is recorded yet" in done(exported).out
    assert "cognify act sign draft.json" in exported.out
    shown = done(cognify("act", "show", draft))
    for part in (
        "person_enrolled",
        "test.example/credit",
        "person.roles",
        "auditor",
        "person/finn",
        "has not signed yet",
    ):
        assert part in shown.out
    assert cognify("act", "show", draft, "--json").json["missing"] == ["person/ada", "person/finn"]
    early = cognify("act", "submit", draft, at=founded)
    assert early.code == 1
    assert "not signed yet by person/ada, person/finn" in early.err
    for name, out in (("ada", ada), ("finn", finn)):
        signed = done(cognify("act", "sign", draft, "--key", key_file(founded, name), "--out", out, "--yes"))
        assert "I know Nora" in signed.out
    assert cognify("act", "sign", draft, "--key", key_file(founded, "ada"), "--out", ada, "--yes").code == 5
    stranger = cognify("act", "sign", draft, "--key", key_file(founded, "vera"), "--out", tmp_path / "v.json", "--yes")
    assert "does not sign this" in stranger.err
    assert done(cognify("act", "submit", ada, finn, "--json", at=founded)).json["duplicate"] is False
    assert listed(cognify, founded, "nora")["witnesses"] == ["person/finn"]
    assert done(cognify("act", "submit", ada, finn, "--json", at=founded)).json["duplicate"] is True


def test_a_draft_that_was_altered_is_not_submitted(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    draft, signed = tmp_path / "draft.json", tmp_path / "signed.json"
    done(
        cognify(
            "people", "revoke", "person/vera", founded.key("vera").key_id, "--reason", "lost", "--export", draft,
            "--signer", "person/ada", "--json", at=founded,
        )
    )  # fmt: skip
    done(cognify("act", "sign", draft, "--key", key_file(founded, "ada"), "--out", signed, "--yes", "--json"))
    value = json.loads(signed.read_text())
    value["facts"]["holder"] = "person/carl"
    signed.write_text(json.dumps(value))
    refused = cognify("act", "submit", signed, at=founded)
    assert refused.code == 1
    assert "signs something else" in refused.err
    assert valid(cognify, founded, "carl")


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--signer", "person/ada"),
        ("--export", "x.json"),
        ("--export", "x.json", "--signer", "ada"),
        ("--export", "x.json", "--signer", "person/ada", "--signer", "person/finn"),
    ],
)
def test_who_signs_is_named_in_one_of_two_ways(words: tuple[str, ...], founded: World, cognify: Cognify) -> None:
    result = cognify("people", "recertify", "person/vera", *words, at=founded)
    assert result.code == 5
    assert not Path("x.json").exists()


def test_a_key_is_rotated_by_its_holder_and_an_admin(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    new = create_key(tmp_path / "vera2.key.json", "person/vera", PASSPHRASE)
    words = ("people", "rotate", "--public-key", tmp_path / "vera2.key.json", "--yes")
    alone = cognify(*words, *keys(founded, "ada"), at=founded)
    assert alone.code == 1
    assert "1 of 2 people vouched" in alone.err
    both = done(cognify(*words, *keys(founded, "vera", "ada"), "--json", at=founded))
    assert both.json["person"]["keys"][0]["key_id"] == new.key_id
    assert valid(cognify, founded, "vera") == [new.key_id]


def test_one_admin_takes_roles_and_keys_away(founded: World, cognify: Cognify) -> None:
    words = ("people", "enrol", "--person", "person/ben", "--yes", *keys(founded, "ada"))
    done(cognify(*words, "--role", "data_scientist", at=founded))
    assert listed(cognify, founded, "ben")["roles"] == ["data_scientist"]
    done(cognify(*words, "--no-role", "--retire-key", founded.key("ben").key_id, at=founded))
    assert listed(cognify, founded, "ben")["roles"] == []
    assert valid(cognify, founded, "ben") == []
    more = cognify(*words, "--role", "model_validator", at=founded)
    assert more.code == 1
    assert cognify(*words, "--role", "auditor", "--no-role", at=founded).code == 5
    assert "has no valid key" in cognify(*words, "--retire-key", "0" * 16, at=founded).err


def test_a_role_is_delegated_shown_and_taken_back(founded: World, cognify: Cognify) -> None:
    until = (datetime.now(timezone.utc) + timedelta(days=5)).strftime("%Y-%m-%d")
    words = ("people", "delegate", "person/vera", "--role", ROLE, "--model", MODEL, "--reason", "leave", "--yes")
    given = done(cognify(*words, "--until", until, *keys(founded, "carl"), "--json", at=founded))
    seq = given.json["entry"]
    (found,) = cognify("people", "list", "--json", at=founded).json["delegations"]
    assert (found["entry"], found["delegate"], found["models"]) == (seq, "person/vera", [MODEL])
    assert "Vera may sign as compliance_officer for Carl" in cognify("people", "list", at=founded).out
    ended = cognify("people", "end-delegation", seq, "--reason", "back", "--yes", *keys(founded, "carl"), at=founded)
    assert "This delegation ends" in done(ended).out
    assert "may sign as" not in cognify("people", "list", at=founded).out
    late = cognify(*words, "--until", "2099-01-01", *keys(founded, "carl"), at=founded)
    assert "within 30 days" in late.err


def test_a_role_is_delegated_for_one_model(founded: World, cognify: Cognify) -> None:
    until = (datetime.now(timezone.utc) + timedelta(days=5)).strftime("%Y-%m-%d")
    words = ("model", "delegate", MODEL, "person/vera", "--role", ROLE, "--until", until, "--reason", "leave", "--yes")
    shown = done(cognify(*words, *keys(founded, "carl"), at=founded)).out
    assert MODEL in shown
    assert "Let them sign" not in shown
    (found,) = cognify("people", "list", "--json", at=founded).json["delegations"]
    assert (found["delegator"], found["delegate"], found["models"]) == ("person/carl", "person/vera", [MODEL])
    other = cognify(*words, *keys(founded, "olga"), at=founded)
    assert "may not delegate compliance_officer" in other.err


def test_roles_are_recertified_by_somebody_else(founded: World, cognify: Cognify) -> None:
    done(cognify("people", "recertify", "person/vera", "--yes", *keys(founded, "ada"), at=founded))
    own = cognify("people", "recertify", "person/ada", "--yes", *keys(founded, "ada"), at=founded)
    assert "cannot recertify themselves" in own.err
    two = cognify("people", "recertify", "person/vera", "--yes", *keys(founded, "ada", "finn"), at=founded)
    assert two.code == 5


def test_a_person_is_recovered_with_the_founders_keys(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    new = create_key(tmp_path / "ada2.key.json", "person/ada", PASSPHRASE)
    words = ("people", "recover", "--public-key", tmp_path / "ada2.key.json", "--reason", "pass phrase lost", "--yes")
    one = cognify(*words, *keys(founded, "ada"), at=founded)
    assert one.code == 1
    assert "1 recovery keys signed; 2 are needed" in one.err
    assert "no recovery key of this ledger" in cognify(*words, *keys(founded, "ada", "vera"), at=founded).err
    done(cognify(*words, *keys(founded, "ada", "finn"), at=founded))
    assert valid(cognify, founded, "ada") == [new.key_id]
    assert listed(cognify, founded, "ada")["roles"] == ["workspace_admin"]


def test_recovery_keys_sign_on_their_own_machines(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    create_key(tmp_path / "ada2.key.json", "person/ada", PASSPHRASE)
    draft = tmp_path / "draft.json"
    signers = [word for name in ("ada", "finn") for word in ("--signer", founded.key(name).key_id)]
    done(
        cognify(
            "people", "recover", "--public-key", tmp_path / "ada2.key.json", "--reason", "lost", "--export", draft, *signers,
            at=founded,
        )
    )  # fmt: skip
    for name in ("ada", "finn"):
        out = tmp_path / f"{name}.signed.json"
        done(cognify("act", "sign", draft, "--key", key_file(founded, name), "--out", out, "--yes"))
    done(cognify("act", "submit", tmp_path / "ada.signed.json", tmp_path / "finn.signed.json", at=founded))
    assert founded.key("ada").key_id not in valid(cognify, founded, "ada")


def test_an_entry_that_stops_every_release_is_disregarded_by_two_admins(approved: World, cognify: Cognify) -> None:
    seq = raw(approved, "recall", ("people",))
    assert not approved.decide().released
    words = ("people", "disregard", seq, "--reason", "a stolen key wrote it", "--yes")
    alone = cognify(*words, *keys(approved, "ada"), at=approved)
    assert "2 different people" in alone.err
    done(cognify(*words, *keys(approved, "ada", "finn"), at=approved))
    assert approved.decide().released
    assert (
        f"Entry {seq} is disregarded by decisions since entry {seq + 1}" in cognify("people", "list", at=approved).out
    )
    genuine = cognify("people", "disregard", 2, "--reason", "x", "--yes", *keys(approved, "ada", "finn"), at=approved)
    assert "is valid" in genuine.err


def test_the_recovery_keys_disregard_where_no_admin_can(approved: World, cognify: Cognify) -> None:
    seqs = [raw(approved, "key_revoked", ("people", f"person/{name}")) for name in ("ada", "finn")]
    for seq in seqs:
        words = ("people", "disregard", seq, "--reason", "sabotage", "--yes", *keys(approved, "ada", "finn"))
        assert cognify(*words, at=approved).code == 1
        done(cognify(*words, "--recovery", at=approved))
    assert set(directory(approved.workspace.read()).disregarded) == set(seqs)
    assert approved.decide().released


def test_a_machine_signs_no_act(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    """Its key is no personal key file, and as a person it is enrolled nowhere."""
    key = founded.workspace.config.keys / "workload.key"
    result = cognify("people", "recertify", "person/vera", "--yes", "--as", key, at=founded)
    assert result.code != 0
    assert "not a personal key" in result.err or "UTF-8" in result.err or "cannot be read" in result.err
