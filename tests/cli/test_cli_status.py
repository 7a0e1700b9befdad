"""Status, deployments, package, evidence and schema: reading commands."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.cli.moments import _size_at
from cognify_dagster.cli.output import moment
from cognify_dagster.cli.package import exporter
from cognify_dagster.governance import ReleaseBlocked, adopt_policy, policy_in_force, request_release
from cognify_dagster.records import DeploymentCompleted, Package, Reconciliation, kinds
from tests.cli.conftest import Cognify, key_file
from tests.governance.world import MODEL, World


def test_a_waiting_version_says_who_can_sign_and_how(ready: World, cognify: Cognify) -> None:
    result = cognify("status", MODEL, "1", at=ready)
    assert result.code == 1
    project = ready.folder / "project"
    assert "blocked" in result.out
    assert f"cognify --workspace {project} sign {MODEL} 1 --key KEYFILE    # Vera" in result.out
    assert f"cognify --workspace {project} evidence get sha256:" in result.out
    assert "Compliance and legal review is not signed" in result.out
    value = cognify("status", MODEL, "1", "--json", at=ready).json
    assert value["state"] == "blocked"
    assert [stage["done"] for stage in value["stages"]] == [True, False, False, False]
    assert value["stages"][1]["waiting_for"] == ["Vera"]
    assert value["package"]["built_by"] == "Ben"


def test_commands_are_short_inside_the_project(ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ready.folder / "project")
    assert f"  cognify sign {MODEL} 1 --key KEYFILE" in cognify("status", MODEL, "1").out


def test_an_approved_version_may_be_released(approved: World, cognify: Cognify) -> None:
    result = cognify("status", MODEL, "1", at=approved)
    assert result.code == 0
    assert "ready" in result.out
    assert "the approval sensor releases it" in result.out
    assert cognify("status", MODEL, "1", "--target", "staging", at=approved).code == 1


def test_a_live_version(released: World, cognify: Cognify) -> None:
    result = cognify("status", MODEL, "1", at=released)
    assert result.code == 0
    assert "live" in result.out
    assert "not be released again" not in result.out
    whole = cognify("status", MODEL, "--json", at=released).json
    assert whole["live"] == "1"
    assert whole["versions"][0]["state"] == "live"
    assert "live" in cognify("status", MODEL, at=released).out


def test_a_live_version_that_was_blocked_since(released: World, cognify: Cognify) -> None:
    cognify(
        "sign", MODEL, "1", "--key", key_file(released, "carl"), "--decision", "block", "--comments", "complaints",
        "--yes", at=released,
    )  # fmt: skip
    result = cognify("status", MODEL, "1", at=released)
    assert result.code == 1
    assert "Version 1 on production is suspended" in result.out
    assert "It would not be released again today" in result.out
    assert "complaints" in result.out
    whole = cognify("status", MODEL, at=released)
    assert whole.code == 1
    assert "LIVE BUT SUSPENDED" in whole.out


def test_an_unattested_event_makes_the_status_fail_until_it_is_resolved(released: World, cognify: Cognify) -> None:
    seq = released.write(
        Reconciliation(code="unattested_check", model=MODEL, version="1", asset="package", text="a forged check")
    )
    for words in (("status", MODEL), ("status", MODEL, "1")):
        assert cognify(*words, at=released).code == 1
    value = cognify("status", MODEL, "--json", at=released).json
    assert value["alarms"] == [
        "version 1 on production is suspended",
        f"finding {seq} is open and holds releases back",
    ]
    done = ("finding", "resolve", seq, "--close", "--reason", "a test of ours", "--as", key_file(released, "carl"))
    assert cognify(*done, "--yes", at=released).code == 0
    for words in (("status", MODEL), ("status", MODEL, "1")):
        assert cognify(*words, at=released).code == 0


def test_the_past_is_answered_with_the_entries_and_policy_of_then(ready: World, cognify: Cognify) -> None:
    first = cognify("status", MODEL, "1", "--json", at=ready).json
    time.sleep(1.1)  # times are told to the second
    ready.approve_all()
    assert cognify("status", MODEL, "1", at=ready).code == 0
    then = moment(ready.workspace.read().view.entry(first["decided_on_size"] - 1).entry.time_us)
    past = cognify("status", MODEL, "1", "--at", then, "--json", at=ready)
    assert past.code == 1
    assert (past.json["state"], past.json["decided_on_size"]) == ("blocked", first["decided_on_size"])
    assert past.json["stages"] == first["stages"]
    text = cognify("status", MODEL, "1", "--at", then, at=ready).out
    assert f"as of {then} ({first['decided_on_size']} entries)" in text
    assert "To sign:" not in text, "nobody signs in the past"
    assert f"as of {then}" in cognify("status", MODEL, "--at", then, at=ready).out
    today = then[:10]
    assert cognify("status", MODEL, "1", "--at", today, at=ready).code in (0, 1)


@pytest.mark.parametrize(
    ("when", "part"),
    [("2001-01-01", "the ledger begins at"), ("2999-01-01T00:00:00Z", "in the future"), ("soon", "is not a UTC time")],
)
def test_a_moment_outside_the_ledgers_time_is_wrong_usage(when: str, part: str, ready: World, cognify: Cognify) -> None:
    result = cognify("status", MODEL, "1", "--at", when, at=ready)
    assert result.code == 5
    assert part in result.err


class _Entry(NamedTuple):
    seq: int
    time_us: int
    kind: str = "x"


class _View:
    """Entries with times, as a reading has them."""

    def __init__(self, times: list[int], corrected: bool) -> None:
        self.entries = [SimpleNamespace(entry=_Entry(seq, time_us)) for seq, time_us in enumerate(times)]
        self.corrected = corrected

    def entry(self, seq: int) -> object:
        return self.entries[seq]

    def of_kind(self, kind: str) -> Iterator[object]:
        assert kind in kinds()
        return iter(self.entries if self.corrected else ())


@given(st.lists(st.integers(0, 30), min_size=1, max_size=30), st.integers(-1, 31), st.booleans())
def test_the_ledger_at_a_time_ends_with_the_last_entry_that_is_not_later(
    times: list[int], when: int, corrected: bool
) -> None:
    """Also where a corrected clock made an entry older than the one before it."""
    found = times if corrected else sorted(times)
    reading = SimpleNamespace(view=_View(found, corrected), size=len(found))
    expected = max((seq + 1 for seq, time_us in enumerate(found) if time_us <= when), default=0)
    assert _size_at(reading, when) == expected  # type: ignore[arg-type]


def test_refused_attempts_are_shown(ready: World, cognify: Cognify) -> None:
    with pytest.raises(ReleaseBlocked) as caught:
        request_release(ready.workspace, MODEL, "1", "production", "run-7", "person/ben")
    assert f"ledger show --seq {caught.value.seq}" in cognify("status", MODEL, "1", at=ready).out
    assert cognify("status", MODEL, "1", "--json", at=ready).json["refusals"][0]["run"] == "run-7"


def test_unknown_model_and_version(ready: World, cognify: Cognify) -> None:
    unknown = cognify("status", "other_model", at=ready)
    assert unknown.code == 1
    assert f"it has {MODEL}" in unknown.err
    missing = cognify("status", MODEL, "77", at=ready)
    assert missing.code == 1
    assert missing.out == ""
    assert f"{MODEL} has no version '77'; there are 1" in missing.err


def test_deployments_name_who_approved(released: World, cognify: Cognify) -> None:
    rows = cognify("deployments", MODEL, "--json", at=released).json["deployments"]
    assert len(rows) == 1
    assert rows[0]["state"] == "live"
    assert [item["name"] for item in rows[0]["approved_by"]] == ["Vera", "Carl", "Olga"]
    text = cognify("deployments", MODEL, at=released).out
    assert "Olga (business" in text
    assert "production" in text


def test_deployments_at_a_time_and_on_a_target(released: World, cognify: Cognify) -> None:
    assert cognify("deployments", MODEL, "--at", "2001-01-01", "--json", at=released).json["deployments"] == []
    assert "Nothing was live" in cognify("deployments", MODEL, "--target", "staging", at=released).out
    later = cognify("deployments", MODEL, "--at", "2999-01-01T00:00:00Z", "--json", at=released).json
    assert later["deployments"][0]["version"] == "1"
    assert cognify("deployments", "other_model", at=released).code == 1


def test_a_newer_version_supersedes(released: World, cognify: Cognify) -> None:
    released.ready("2")
    released.approve_all("2")
    grant = request_release(released.workspace, MODEL, "2", "production", "run-2", "person/olga")
    from cognify_dagster.governance import complete

    complete(released.workspace, grant, location="/srv/2", detail={})
    assert len(released.workspace.read().all(DeploymentCompleted)) == 2
    rows = cognify("deployments", MODEL, "--json", at=released).json["deployments"]
    assert [(row["version"], row["state"]) for row in rows] == [("1", "superseded"), ("2", "live")]
    assert rows[0]["until"] == rows[1]["since"]
    versions = cognify("status", MODEL, "--json", at=released).json
    assert [item["state"] for item in versions["versions"]] == ["superseded", "live"]
    assert versions["live"] == "2"
    when = rows[1]["since"]
    old = cognify("status", MODEL, "1", at=released)
    assert old.code == 1
    assert f"Superseded   by 2 at {when} (entry {rows[1]['entry']})" in old.out
    assert "What is missing" not in old.out
    value = cognify("status", MODEL, "1", "--json", at=released).json
    assert value["superseded_by"] == {"version": "2", "entry": rows[1]["entry"], "time": when}
    assert f"superseded by 2 at {when}" in " ".join(cognify("status", MODEL, at=released).out.split())


def test_a_package_that_is_none_or_not_there_is_an_error_without_a_traceback(ready: World, cognify: Cognify) -> None:
    damaged = cognify("package", "show", MODEL, "1", at=ready)
    assert (damaged.code, "this is no package of format" in damaged.err) == (1, True)
    missing = cognify("package", "show", MODEL, "5", at=ready)
    assert (missing.code, "has no version '5'; there are 1" in missing.err) == (1, True)


def test_evidence_get(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    item = ready.workspace.read().all(Package)[-1].record.package
    out = tmp_path / "package.json"
    result = cognify("evidence", "get", item.digest, "-o", out, at=ready)
    assert result.code == 0, result.err
    assert out.read_bytes() == ready.workspace.evidence.get(item.digest)
    assert cognify("evidence", "get", item.digest, "-o", out, at=ready).code == 5
    assert (
        cognify("evidence", "get", item.digest[7:], "-o", tmp_path / "again", "--json", at=ready).json["size"]
        == item.size
    )
    absent = cognify("evidence", "get", "sha256:" + "0" * 64, "-o", tmp_path / "x", at=ready)
    assert absent.code == 3
    assert not (tmp_path / "x").exists()


def test_damaged_evidence_is_not_handed_out(ready: World, cognify: Cognify, tmp_path: Path) -> None:
    item = ready.workspace.read().all(Package)[-1].record.package
    blob = next(
        path
        for path in Path(ready.workspace.config.evidence).rglob("*")
        if path.is_file() and path.read_bytes() == ready.workspace.evidence.get(item.digest)
    )
    blob.chmod(0o600)
    blob.write_bytes(blob.read_bytes()[:-1] + b" ")
    result = cognify("evidence", "get", item.digest, "-o", tmp_path / "x", at=ready)
    assert result.code == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("kind", ["training_run", "genesis", "policy"])
def test_schemas_are_json(kind: str, cognify: Cognify) -> None:
    value = cognify("schema", kind).json
    assert value["type"] == "object"
    assert value["properties"]


def test_schema_list_and_misuse(cognify: Cognify) -> None:
    listed = cognify("schema", "--list")
    for name in ("sign_off", "release_granted", "policy", "package"):
        assert name in listed.out
    assert cognify("schema").code == 5
    assert cognify("schema", "policy", "--list").code == 5


def test_hostile_names_are_shown_harmlessly(founded: World, cognify: Cognify) -> None:
    from cognify_dagster.governance import enrol_person
    from cognify_dagster.records import Person

    key = founded.key("eve")
    person = Person(person=key.person, name="Eve\x1b[2J\nAda", roles=("auditor",), keys=(key.public,))
    enrol_person(founded.workspace, person, founded.key("ada"), founded.key("finn"))
    shown = cognify("people", "list", at=founded).out
    assert "\x1b" not in shown
    listed = json.loads(cognify("people", "list", "--json", at=founded).out)
    assert any(item["name"] == "Eve\x1b[2J\nAda" for item in listed["people"])


def test_the_exporter_is_whom_the_operating_system_knows_whatever_the_environment_says(
    ready: World, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "ben")  # who is enrolled with the alias user:ben
    assert exporter(ready.workspace.read()) == "unattributed"
    monkeypatch.setattr("cognify_dagster.workspace.os_login", lambda: "ben")
    assert exporter(ready.workspace.read()) == "person/ben"
    monkeypatch.setattr("cognify_dagster.workspace.os_login", lambda: "b.builder")
    assert exporter(ready.workspace.read()) == "unattributed"
    words = ("people", "enrol", "--person", "person/ben", "--alias", "os:b.builder")
    done = cognify(*words, "--as", key_file(ready, "ada"), "--as", key_file(ready, "finn"), "--yes", at=ready)
    assert done.code == 0, done.err
    assert exporter(ready.workspace.read()) == "person/ben"


def test_a_framework_that_the_policy_lets_block_is_told_before_anybody_tries_to_release(
    cognify: Cognify, ready: World
) -> None:
    policy = policy_in_force(ready.workspace.read()).policy
    high = policy.tiers["high"].model_copy(update={"blocking_frameworks": ("sr26-2",)})
    changed = policy.model_copy(update={"tiers": {**policy.tiers, "high": high}})
    adopt_policy(ready.workspace, changed, "for this test", [ready.key("ada"), ready.key("finn")])
    ready.approve_all()
    result = cognify("status", MODEL, "1", at=ready)
    assert result.code == 1
    assert "sr26-2, which the policy lets block a release" in result.out
    value = cognify("status", MODEL, "1", "--json", at=ready).json
    assert (value["state"], value["may_be_released"]) == ("blocked", False)
    assert "blocked" in cognify("status", MODEL, at=ready).out
