"""Overseeing a model: classifying, adopting what is live, blocks, conditions, emergencies, rollback, reviews, events, plans."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import yaml

from cognify_dagster.governance import DEFAULT_POLICY_YAML, Grant, adopt_policy, complete, parse_policy, request_release
from cognify_dagster.records import BreakGlassOpened, ModelAdopted, ModelClassified, SignOff, utc
from tests.cli.conftest import Cognify, Outcome, at_terminal, key_file
from tests.governance.world import MODEL, PASSPHRASE, World


def keys(world: World, *names: str) -> list[object]:
    return [word for name in names for word in ("--as", key_file(world, name))]


def policy(world: World, **changes: object) -> None:
    value = yaml.safe_load(DEFAULT_POLICY_YAML) | changes
    adopt_policy(world.workspace, parse_policy(value), "for this test", [world.key("ada"), world.key("finn")])


def release(world: World, version: str = "1") -> Grant:
    grant = request_release(world.workspace, MODEL, version, "production", f"run-{version}", "person/ben")
    complete(world.workspace, grant, location="here", detail={})
    return grant


def classify(cognify: Cognify, world: World, *words: object, by: tuple[str, ...] = ("carl",)) -> Outcome:
    return cognify("model", "classify", MODEL, *words, *keys(world, *by), "--yes", at=world)


FULL = ("--tier", "high", "--owner", "person/olga", "--rationale", "decides on credit")


# --- classify


def test_a_classification_is_shown_signed_and_kept(ready: World, cognify: Cognify) -> None:
    done = classify(cognify, ready, *FULL, "--framework", "sr26-2", "--responsible", "monitoring=person/ben")
    assert done.code == 0, done.err
    assert "people sign: validation, compliance, business" in done.out
    assert "Recorded as entry" in done.out
    again = classify(cognify, ready, "--rationale", "yearly review", "--responsible", "training=person/vera")
    assert again.code == 0, again.err
    record = ready.workspace.read().all(ModelClassified)[-1].record
    assert (record.tier, record.owner, record.frameworks) == ("high", "person/olga", ("sr26-2",))
    assert record.responsible == {"monitoring": "person/ben", "training": "person/vera"}
    assert "tier high, owner Olga, signed by Carl" in cognify("status", MODEL, at=ready).out


@pytest.mark.parametrize(
    ("words", "code", "part"),
    [
        ((), 5, "--tier, --owner, --rationale is needed"),
        ((*FULL, "--framework", "nope"), 5, "there is no such framework"),
        ((*FULL, "--responsible", "monitoring"), 5, "expected an activity and a person"),
        ((*FULL, "--responsible", "monitoring=person/nobody"), 5, "person/nobody is not enrolled"),
        (("--tier", "huge", *FULL[2:]), 1, "no tier 'huge'"),
        (("--tier", "low", *FULL[2:]), 1, "this needs the signatures of 2 different people"),
    ],
)
def test_classifications_that_are_refused_before_anybody_is_asked(
    words: tuple[str, ...], code: int, part: str, ready: World, cognify: Cognify
) -> None:
    size = ready.workspace.ledger.size()
    result = classify(cognify, ready, *words)
    assert result.code == code
    assert part in result.err
    assert result.out == ""
    assert ready.workspace.ledger.size() == size


def test_two_people_may_take_stages_away(ready: World, cognify: Cognify) -> None:
    result = classify(cognify, ready, "--tier", "low", *FULL[2:], by=("carl", "olga"))
    assert result.code == 0, result.err
    assert "no longer signed: business, compliance, validation (two people sign this)" in result.out


# --- adopt


def test_a_model_that_is_live_without_history_is_shown_as_unattested(
    founded: World, cognify: Cognify, tmp_path: Path
) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text("live_since: 2023-04-11\nknown: {algorithm: svm, rows: 120000}\nunknown: [who approved it]\n")
    words = ("model", "adopt", "fraud", "--version", "2023-04", "--facts", facts, "--known", "algorithm=xgboost")
    done = cognify(*words, *keys(founded, "ben"), "--yes", at=founded)
    assert done.code == 0, done.err
    record = founded.workspace.read().all(ModelAdopted)[-1].record
    assert record.known == {"algorithm": "xgboost", "rows": 120000}
    assert (record.live_since, record.unknown) == ("2023-04-11T23:59:59Z", ("who approved it",))
    shown = cognify("status", "fraud", at=founded)
    assert shown.code == 1
    assert "2023-04, live but UNATTESTED" in shown.out
    value = cognify("status", "fraud", "--json", at=founded).json
    assert [item["standing"] for item in value["targets"]] == ["unattested"]
    assert value["versions"][0]["state"] == "unattested"
    assert cognify("status", "fraud", "2023-04", at=founded).code == 1


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("knwon: {a: 1}\n", "knwon: unknown field"),
        ("known: [a]\n", "known: a mapping is expected"),
        ("live_since: soon\n", "live_since: 'soon' is not a UTC time"),
        ("known: {a: 1}\nknown: {b: 2}\n", "key 'known' is repeated"),
    ],
)
def test_what_is_known_is_read_strictly(text: str, part: str, founded: World, cognify: Cognify, tmp_path: Path) -> None:
    facts = tmp_path / "facts.yaml"
    facts.write_text(text)
    words = ("model", "adopt", "fraud", "--version", "1", "--facts", facts, *keys(founded, "ben"), "--yes")
    result = cognify(*words, at=founded)
    assert result.code == 3
    assert "facts.yaml" in result.err
    assert part in result.err


# --- blocks


def test_a_block_is_a_sign_off_and_two_people_lift_it(released: World, cognify: Cognify) -> None:
    released.enrol("mia", "compliance_officer")
    carl = ("--key", key_file(released, "carl"))
    blocked = cognify("model", "block", MODEL, "1", "--reason", "complaints", *carl, "--yes", at=released)
    assert blocked.code == 0, blocked.err
    given = released.workspace.read().all(SignOff)[-1]
    assert given.record.decision == "block"
    value = cognify("status", MODEL, "1", "--json", at=released).json
    assert value["state"] == "suspended"
    assert [reason["code"] for reason in value["live"]["reasons"]] == ["blocked"]
    words = ("model", "lift-block", MODEL, "1", "--reason", "answered", "--yes")
    assert "2 different people" in cognify(*words, *keys(released, "carl"), at=released).err
    lifted = cognify(*words, *keys(released, "carl", "mia"), at=released)
    assert lifted.code == 0, lifted.err
    assert "They said       complaints" in lifted.out
    assert cognify("status", MODEL, "1", at=released).code == 0
    assert "no block stands" in cognify(*words, *keys(released, "carl", "mia"), at=released).err


def test_a_withdrawn_approval_suspends_what_is_live(released: World, cognify: Cognify) -> None:
    words = ("model", "withdraw", MODEL, "1", "--key", key_file(released, "vera"), "--reason", "overlap", "--yes")
    assert cognify(*words, "--json", at=released).json["decision"] == "withdraw"
    assert "LIVE BUT SUSPENDED" in cognify("status", MODEL, at=released).out


def test_a_reason_is_asked_for_and_demanded(ready: World, cognify: Cognify) -> None:
    carl = ("--key", str(key_file(ready, "carl")))
    refused = cognify("model", "block", MODEL, "1", *carl, "--yes", at=ready)
    assert refused.code == 5
    assert "say why with --reason" in refused.err
    answers = [(b"Why do you block it?", b"\n"), (b"Why do you block it?", b"complaints\n")]
    where = {"COGNIFY_WORKSPACE": str(ready.folder / "project"), "COGNIFY_PASSPHRASE": PASSPHRASE}
    code, shown = at_terminal(where, ["model", "block", MODEL, "1", *carl, "--yes"], answers)
    assert code == 0, shown
    assert "complaints" in shown
    assert cognify("model", "block", MODEL, "1", "--reason", "x", "--yes", at=ready).code == 5


# --- conditions


def test_a_condition_is_closed_by_its_name_or_as_the_only_one(ready: World, cognify: Cognify) -> None:
    vera = ("--key", key_file(ready, "vera"))
    signed = cognify(
        "sign", MODEL, "1", *vera, "--condition", "a", "--condition", "b", "--yes", "--json", at=ready
    ).json
    seq = signed["entry"]
    close = ("model", "close-condition", MODEL, "1")
    done = ("--reason", "done", *keys(ready, "carl"), "--yes")
    assert f"open on production: {seq}.0, {seq}.1" in cognify(*close, *done, at=ready).err
    assert cognify(*close, "first", *done, at=ready).code == 5
    assert cognify(*close, f"{seq}.7", *done, at=ready).code == 1
    first = cognify(*close, f"{seq}.0", *done, at=ready)
    assert first.code == 0, first.err
    assert f"{seq}.0: a" in first.out
    assert f"{seq}.1" in cognify("status", MODEL, "1", at=ready).out
    assert cognify(*close, *done, at=ready).code == 0
    assert "Open conditions" not in cognify("status", MODEL, "1", at=ready).out


def test_who_had_a_hand_in_the_version_closes_no_condition(ready: World, cognify: Cognify) -> None:
    cognify("sign", MODEL, "1", "--key", key_file(ready, "vera"), "--condition", "a", "--yes", at=ready)
    words = ("model", "close-condition", MODEL, "1", "--reason", "done", *keys(ready, "ben"), "--yes")
    result = cognify(*words, at=ready)
    assert result.code == 1
    assert "had a hand" in result.err


# --- break-glass


GLASS = ("model", "break-glass", MODEL, "1", "--reason", "the live one refuses everybody")


def test_the_glass_is_broken_by_two_people_on_two_machines(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.approve("vera")
    draft, elsewhere = tmp_path / "glass.json", tmp_path / "elsewhere"
    elsewhere.mkdir()
    signers = ("--signer", "person/olga", "--signer", "person/carl")
    exported = cognify(*GLASS, "--export", draft, *signers, at=founded)
    assert exported.code == 0, exported.err
    assert "nothing is recorded yet" in exported.out
    copies = []
    for name in ("olga", "carl"):  # neither reads a workspace
        copies.append(elsewhere / f"{name}.json")
        signed = cognify("act", "sign", draft, "--key", key_file(founded, name), "--out", copies[-1], "--yes")
        assert signed.code == 0, signed.err
        assert "without: compliance, business" in signed.out
    half = cognify("act", "submit", copies[0], at=founded)
    assert half.code == 1
    assert "not signed yet by person/carl" in half.err
    assert founded.workspace.read().all(BreakGlassOpened) == []
    done = cognify("act", "submit", *copies, "--json", at=founded)
    assert done.code == 0, done.err
    assert cognify("act", "submit", *copies, "--json", at=founded).json["duplicate"] is True
    shown = cognify("status", MODEL, "1", at=founded)
    assert shown.code == 0
    assert "WAIVED by broken glass" in shown.out
    assert "still to be signed: compliance, business" in shown.out
    assert release(founded).purpose == "break_glass"
    assert "by broken glass" in cognify("status", MODEL, at=founded).out
    value = cognify("status", MODEL, "1", "--json", at=founded).json
    assert value["waived"] == ["compliance", "business"]
    assert value["live"]["purpose"] == "break_glass"


@pytest.mark.parametrize(
    ("words", "names", "part"),
    [
        ((), ("olga",), "2 different people"),
        ((), ("olga", "ben"), "Ben had a hand in this version"),
        (("--until", utc(datetime.now(timezone.utc) + timedelta(days=30))), ("olga", "carl"), "longer than 72 hours"),
        (("--waive", "automated"), ("olga", "carl"), "no sign-off stage 'automated'"),
    ],
)
def test_the_glass_stays_whole(
    words: tuple[str, ...], names: tuple[str, ...], part: str, founded: World, cognify: Cognify
) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.enrol("ben", "data_scientist", "business_owner", aliases=("user:ben", "git:ben@bank.example"))
    result = cognify(*GLASS, *words, *keys(founded, *names), "--yes", at=founded)
    assert result.code == 1
    assert part in result.err
    assert founded.workspace.read().all(BreakGlassOpened) == []


def test_the_policy_has_to_allow_it(ready: World, cognify: Cognify) -> None:
    result = cognify(*GLASS, *keys(ready, "olga", "carl"), "--yes", at=ready)
    assert result.code == 1
    assert "break_glass.enabled" in result.err


# --- rollback, reviews, events


def test_a_rollback_is_ordered_for_a_version_that_was_live(released: World, cognify: Cognify) -> None:
    released.ready("2")
    released.approve_all("2")
    release(released, "2")
    words = ("model", "rollback", MODEL, "1", "--reason", "2 fails", "--yes")
    refused = cognify(*words, *keys(released, "vera"), at=released)
    assert refused.code == 1
    assert "ml_engineer" in refused.err
    done = cognify(*words, *keys(released, "olga"), at=released)
    assert done.code == 0, done.err
    assert "Its approvals    hold" in done.out
    assert "ordered by entry" in cognify("status", MODEL, "1", at=released).out
    assert request_release(released.workspace, MODEL, "1", "production", "back", "person/ben").purpose == "rollback"
    never = cognify("model", "rollback", MODEL, "7", "--reason", "x", *keys(released, "olga"), "--yes", at=released)
    assert "never live" in never.err


def test_a_review_is_about_what_is_live_and_sets_the_next_date(released: World, cognify: Cognify) -> None:
    assert "review due 20" in cognify("status", MODEL, at=released).out
    due = utc(datetime.now(timezone.utc) + timedelta(days=30))
    words = ("model", "review", MODEL, "--outcome", "confirmed", "--text", "as expected", "--next-due", due, "--yes")
    assert cognify(*words, *keys(released, "olga"), at=released).code == 1
    done = cognify(*words, *keys(released, "vera"), at=released)
    assert done.code == 0, done.err
    assert "version 1" in done.out
    assert f"review due {due}" in cognify("status", MODEL, at=released).out


def test_without_anything_live_a_review_names_its_version(ready: World, cognify: Cognify) -> None:
    words = ("model", "review", MODEL, "--outcome", "confirmed", "--text", "x", *keys(ready, "vera"), "--yes")
    assert "name the VERSION" in cognify(*words, at=ready).err


def test_an_incident_voids_approvals_and_a_change_of_data_does_not_here(released: World, cognify: Cognify) -> None:
    words = ("model", "report-event", MODEL, "1", "--text", "wrong refusals", *keys(released, "ben"), "--yes")
    told = cognify(*words, "--event", "data_change", at=released)
    assert "none: the policy does not list it" in told.out
    assert cognify("status", MODEL, "1", at=released).code == 0
    assert cognify(*words, "--event", "incident", "--json", at=released).json["voids_approvals"] is True
    assert "an incident was reported" in cognify("status", MODEL, "1", at=released).out


# --- change plans


PLAN = f"""\
plan: quarterly-refresh
model: {MODEL}
base_version: 1
reason: The same recipe on the same data.
bounds:
  metrics:
    auc: {{min: 0.75}}
    auc.ci_low: {{report_only: true}}
    auc.ci_high: {{report_only: true}}
    auc.n: {{report_only: true}}
"""


def test_a_plan_is_adopted_checked_shown_and_ended(released: World, cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN)
    words = ("model", "plan", "adopt", file, "--yes")
    undated = cognify(*words, *keys(released, "vera", "carl", "olga"), at=released)
    assert undated.code == 5
    assert "--expires" in undated.err
    expires = ("--expires", utc(datetime.now(timezone.utc) + timedelta(days=90)))
    few = cognify(*words, *expires, *keys(released, "vera", "carl"), at=released)
    assert few.code == 1
    assert "3 different people" in few.err
    done = cognify(*words, *expires, *keys(released, "vera", "carl", "olga"), at=released)
    assert done.code == 0, done.err
    assert "validation, compliance, business" in done.out
    shown = cognify("model", "plan", "show", MODEL, "--json", at=released).json["plans"]
    assert [item["state"] for item in shown] == ["in force"]
    released.ready("2")
    check = cognify("model", "plan", "check", MODEL, "2", at=released)
    assert "base version 1" in check.out
    value = cognify("model", "plan", "check", MODEL, "2", "--json", at=released).json
    assert value["covered"] is (check.code == 0)
    assert value["covered"] is True, value
    assert "Done by the plan: " in check.out
    assert "covers this version" in cognify("status", MODEL, "2", at=released).out
    table = cognify("model", "plan", "check", MODEL, "2", "--format", "md", at=released).out
    assert table.startswith("# ")
    released.train("3", config={"learning_rate": 0.5})
    released.evaluate("3")
    outside = cognify("model", "plan", "check", MODEL, "3", at=released)
    assert outside.code == 1
    assert "learning_rate" in outside.out
    ended = cognify(
        "model", "plan", "end", MODEL, "quarterly-refresh", "--reason", "new data", *keys(released, "vera"), "--yes",
        at=released,
    )  # fmt: skip
    assert ended.code == 0, ended.err
    assert "ended by entry" in cognify("model", "plan", "show", MODEL, at=released).out
    assert "has no change plan in force" in cognify("model", "plan", "check", MODEL, "2", at=released).out


def test_a_plan_that_cannot_be_read_names_file_and_field(released: World, cognify: Cognify, tmp_path: Path) -> None:
    file = tmp_path / "plan.yaml"
    file.write_text(PLAN.replace("metrics:", "metrix:"))
    result = cognify("model", "plan", "adopt", file, *keys(released, "vera"), "--yes", at=released)
    assert result.code == 1
    assert "plan.yaml" in result.err
    assert "metrix" in result.err
    assert cognify("model", "plan", "check", MODEL, "1", at=released).code == 1
    assert "has no version '9'" in cognify("model", "plan", "check", MODEL, "9", at=released).err
