"""Single cases of oversight that random histories reach rarely or not at all."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest
import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Choice,
    GovernanceError,
    decide,
    live_state,
    open_finding,
    parse_policy,
    report_event,
    sign_off,
)
from cognify_dagster.governance.policy.adoption import policy_adoption
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.records import BreakGlassOpened, DeploymentCompleted, Recertified, ReleaseGranted, utc
from tests.governance import memory
from tests.governance.memory import ROLES_OF, moment
from tests.governance.naive_policy import Event, Rules
from tests.governance.test_oversight_histories import Played
from tests.governance.world import MODEL, World

FOUNDERS = (("ada", True), ("finn", True))


def released(rules: Rules = Rules(), *before: Event, condition: tuple[str, float] | None = None) -> Played:
    """Version 1 is live on production; `before` happens first, the last approval has the condition."""
    played = Played()
    played.happen(Event("adopt", 0, signers=FOUNDERS, rules=rules))
    played.happen(Event("train", 0, "1", who="ben"))
    played.happen(Event("evaluate", 0, "1"))
    package = played.happen(Event("package", 0, "1", who="ben"))
    for who, stage in (("vito", "validation"), ("carl", "compliance"), ("olga", "business")):
        role = ROLES_OF[who][0]
        given = condition if stage == "business" else None
        facts = {"stage": stage, "role": role, "targets": ("production",), "of": package, "condition": given}
        played.happen(Event("approve", 0, "1", who=who, signers=((who, True),), **facts))  # type: ignore[arg-type]
    for event in before:
        played.happen(event)
    played.release("1", "production", 0, finish=True, enforces=frozenset())
    assert played.naive.live("production", 0) == "live"
    return played


def act(what: str, *names: str, day: float = 1, **facts: Any) -> Event:
    """An act that these people sign."""
    return Event(what, day, who=names[0], signers=tuple((name, True) for name in names), **facts)


def standing(played: Played, day: float) -> str:
    """What is live on production, as the naive model says it too."""
    played.compare(day)
    return live_state(played.memory.reading(), memory.MODEL, "production", moment(day)).standing


def test_what_an_erased_entry_about_all_versions_said_is_not_taken_for_nothing(approved: World) -> None:
    """A finding, an event, a classification: gone is not the same as never said."""
    facts = {"model": MODEL, "version": None, "severity": "critical", "title": "leak"}
    seq = open_finding(approved.workspace, approved.key("vera"), **facts).seq
    approved.erase(seq)
    decision = approved.decide()
    assert [reason.code for reason in decision.reasons] == ["erased_entry"]
    assert all(reason.resolved_by for reason in decision.reasons)


def test_a_role_that_was_not_recertified_does_not_open_the_glass() -> None:
    ledger = memory.founded()
    value = yaml.safe_load(DEFAULT_POLICY_YAML) | {"people": {"recertify_days": 30}, "break_glass": {"enabled": True}}
    adoption = policy_adoption(parse_policy(value), "x")
    ledger.append(ledger.sealed(adoption, FOUNDERS), 1)
    memory.train(ledger, "1", "ben", 0.1, 39)
    memory.evaluate(ledger, "1", None, 39)
    memory.package(ledger, "1", "ben", 39)

    def confirm(name: str) -> None:
        record = Recertified(
            person=f"person/{name}", roles=ROLES_OF[name], recertified_by="person/ada", envelope=UNSIGNED
        )
        ledger.append(ledger.sealed(record, [("ada", True)]), 40)

    for name in ("olga", "otto"):
        confirm(name)
    names = ("carl", "olga", "otto")
    glass = BreakGlassOpened(
        model=memory.MODEL, version="1", target="production", waived=("validation", "compliance", "business"),
        reason="an emergency", expires=utc(moment(42)), signers=tuple(f"person/{name}" for name in names), envelopes=(),
    )  # fmt: skip
    signed = [(name, True) for name in names]
    ledger.append(ledger.sealed(glass, signed), 40)
    decision = decide(ledger.reading(), memory.MODEL, "1", "production", moment(40))
    assert not decision.released
    assert any("nobody with the role compliance_officer" in note for note in decision.notes)
    confirm("carl")
    ledger.append(ledger.sealed(glass, signed), 41)
    assert decide(ledger.reading(), memory.MODEL, "1", "production", moment(41)).released


def test_what_a_stranger_wrote_is_not_shown_as_live() -> None:
    """Somebody who can write to the database, but has no workload's key, claims a release."""
    played = released()
    ledger = played.memory
    grant = ledger.reading().all(ReleaseGranted)[-1].record
    seq = ledger.append(grant.model_copy(update={"round": "f" * 64}), 1, signed=False)
    done = ledger.reading().all(DeploymentCompleted)[-1].record
    ledger.append(done.model_copy(update={"grant_seq": seq}), 1, signed=False)
    state = live_state(ledger.reading(), memory.MODEL, "production", moment(1))
    assert state.standing == "suspended"
    assert {reason.code for reason in state.reasons} == {"unproven_writer"}


def test_who_adopted_the_thresholds_closes_no_condition_of_what_is_live_where_the_policy_excludes_them() -> None:
    for excluded in (False, True):
        played = released(Rules(adopter=excluded))
        package = played.happen(Event("package", 1, "1", who="ben"))
        approvals = []
        for who, stage in (("vito", "validation"), ("carl", "compliance"), ("olga", "business")):
            given = ("remediation", 5.0) if stage == "validation" else None
            facts = {"stage": stage, "role": ROLES_OF[who][0], "targets": ("production",), "of": package}
            event = Event("approve", 1, "1", who=who, signers=((who, True),), condition=given, **facts)  # type: ignore[arg-type]
            approvals.append(played.happen(event))
        played.release("1", "production", 1, finish=True, enforces=frozenset())
        played.happen(Event("close", 2, "1", who="vera", of=approvals[0], signers=(("vera", True),)))
        state = live_state(played.memory.reading(), memory.MODEL, "production", moment(6))
        assert state.standing == ("suspended" if excluded else "live")
        assert state.standing == played.naive.live("production", 6)


def test_a_sign_off_in_a_role_that_the_stage_does_not_ask_for_uses_nobody_up() -> None:
    played = Played()
    played.happen(Event("adopt", 0, signers=FOUNDERS, rules=Rules()))
    played.happen(Event("train", 0, "1", who="ben"))
    played.happen(Event("evaluate", 0, "1"))
    package = played.happen(Event("package", 0, "1", who="ben"))
    for who, stage, role in (
        ("mia", "validation", "compliance_officer"),
        ("vito", "validation", "model_validator"),
        ("mia", "compliance", "compliance_officer"),
        ("olga", "business", "business_owner"),
    ):
        facts = {"stage": stage, "role": role, "targets": ("production",), "of": package}
        played.happen(Event("approve", 0, "1", who=who, signers=((who, True),), **facts))  # type: ignore[arg-type]
        played.compare(0)
    assert played.decide("1", "production", 0).released


def test_an_approval_of_an_older_package_counts_for_no_newer_one_of_the_same_bytes() -> None:
    played = Played()
    played.happen(Event("adopt", 0, signers=FOUNDERS, rules=Rules()))
    played.happen(Event("train", 0, "1", who="ben"))
    played.happen(Event("evaluate", 0, "1"))
    old = played.happen(Event("package", 0, "1", who="ben"))
    new = played.happen(Event("package", 0, "1", who="ben"))
    assert played.naive.content(old) == played.naive.content(new)
    facts = {"stage": "validation", "role": "model_validator", "targets": ("production",)}
    for of, done in ((old, False), (new, True)):
        event = Event("approve", 0, "1", who="vito", of=of, signers=(("vito", True),), **facts)  # type: ignore[arg-type]
        played.happen(event)
        played.compare(0)
        stages = {state.name: state.done for state in played.decide("1", "production", 0).stages}
        assert stages["validation"] is done


@pytest.mark.parametrize("distinct", [True, False])
@pytest.mark.parametrize("number", [3, 4])
def test_a_plan_needs_somebody_for_every_stage(distinct: bool, number: int) -> None:
    """Whichever people sign it, as the naive model says; nobody is wasted on a stage that another one could take."""
    counted = set()
    for names in itertools.combinations(("ian", "mia", "nat", "olga", "otto", "vito"), number):
        played = released(Rules(distinct=distinct))
        stages = ("validation", "compliance", "business")
        signers = tuple((name, True) for name in names)
        played.happen(Event("plan", 1, "1", who=names[0], signers=signers, stages=stages, until=90))
        played.happen(Event("train", 2, "2", who="ben"))
        played.happen(Event("evaluate", 2, "2"))
        played.happen(Event("package", 2, "2", who="ben"))
        counted.add(played.decide("2", "production", 2).released)
    assert counted == {True, False}


def test_an_accepted_risk_suspends_what_is_live_once_its_time_is_over() -> None:
    found = act("finding", "vera", day=0, severity="high")
    place = 7
    accepted = act("resolve", "carl", day=0, of=place, outcome="accepted", until=3.0)
    played = released(Rules(), found, accepted)
    assert played.events[place] == found
    assert standing(played, 2) == "live"
    assert standing(played, 4) == "suspended"


def test_a_stricter_policy_does_not_suspend_for_a_finding_that_was_known_at_the_release() -> None:
    played = released(Rules(), act("finding", "vera", day=0, severity="medium"))
    played.happen(Event("adopt", 1, signers=FOUNDERS, rules=Rules(blocking=("medium",))))
    assert standing(played, 1) == "live"
    played.happen(act("finding", "vera", severity="medium"))
    assert standing(played, 1) == "suspended"


def test_a_finding_is_resolved_by_an_act_about_the_same_versions() -> None:
    played = released()
    place = played.happen(act("finding", "vera", severity="high"))
    played.happen(act("resolve", "carl", of=place, outcome="closed", version="1"))
    assert standing(played, 1) == "suspended"
    played.happen(act("resolve", "carl", of=place, outcome="closed"))
    assert standing(played, 1) == "live"


def test_an_expiry_condition_suspends_what_is_live() -> None:
    played = released(condition=("expiry", 5.0))
    assert standing(played, 4) == "live"
    assert standing(played, 6) == "suspended"


def test_rejecting_a_newer_package_does_not_suspend_what_is_live() -> None:
    played = released()
    newer = [played.happen(Event("package", 1, "1", who="ben")) for _ in range(2)][-1]
    played.happen(act("reject", "vera", version="1", of=newer))
    assert standing(played, 1) == "live"
    played.happen(act("reject", "vera", version="1", of=3))
    assert standing(played, 1) == "suspended"


def test_a_deployment_without_a_grant_of_its_own_is_not_live() -> None:
    played = released()
    done = played.memory.reading().all(DeploymentCompleted)[-1].record
    for changes in ({"version": "2"}, {"grant_seq": 1}, {"target": "canary"}, {"model_digest": "sha256:" + "0" * 64}):
        played.memory.append(done.model_copy(update=changes), 1)
        state = live_state(played.memory.reading(), memory.MODEL, "production", moment(1))
        assert (state.standing, state.version) == ("live", "1")
    assert live_state(played.memory.reading(), memory.MODEL, "canary", moment(1)).standing == "none"


def test_a_plan_that_was_ended_is_not_revived_by_a_copy_of_it() -> None:
    played = released()
    stages = ("validation", "compliance", "business")
    plan = played.happen(act("plan", "vito", "carl", "olga", version="1", stages=stages, until=90.0))
    played.happen(act("unplan", "vera", of=plan))
    played.happen(replace(played.events[plan], day=2, copied=plan))
    played.happen(Event("train", 3, "2", who="ben"))
    played.happen(Event("evaluate", 3, "2"))
    played.happen(Event("package", 3, "2", who="ben"))
    assert not played.decide("2", "production", 3).released


@pytest.mark.parametrize(("way", "covers"), [("all signed", True), ("broken glass", False), ("granted only", False)])
def test_a_plan_starts_from_a_version_that_went_live_with_all_its_sign_offs(way: str, covers: bool) -> None:
    stages = ("validation", "compliance", "business")
    if way == "all signed":
        played = released()
    else:
        played = Played()
        played.happen(Event("adopt", 0, signers=FOUNDERS, rules=Rules(glass=True)))
        played.happen(Event("train", 0, "1", who="ben"))
        played.happen(Event("evaluate", 0, "1"))
        played.happen(Event("package", 0, "1", who="ben"))
        played.happen(act("glass", "carl", "olga", day=0, version="1", stages=stages, until=2.0))
        played.release("1", "production", 0, finish=way == "broken glass", enforces=frozenset())
    played.happen(act("plan", "vito", "carl", "olga", version="1", stages=stages, until=90.0))
    played.happen(Event("train", 3, "2", who="ben"))
    played.happen(Event("evaluate", 3, "2"))
    played.happen(Event("package", 3, "2", who="ben"))
    assert played.decide("2", "production", 3).released is covers


def test_a_classification_is_not_revived_by_a_copy_of_it() -> None:
    played = released()
    played.happen(Event("register", 1, tier="low"))
    low = played.happen(act("classify", "carl", "olga", tier="low"))
    assert played.decide("1", "production", 1).tier == "low"
    played.happen(act("classify", "vera", tier="high"))
    played.happen(replace(played.events[low], day=2, copied=low))
    assert played.decide("1", "production", 2).tier == "high"


def test_a_review_before_the_release_sets_no_date_for_what_is_live_now() -> None:
    played = released(
        Rules(review="block"), act("review", "vera", day=0, version="1", outcome="confirmed", until=400.0)
    )
    assert standing(played, 29) == "live"
    assert standing(played, 31) == "suspended"
    played.happen(act("review", "vera", day=31, version="1", outcome="confirmed", until=60.0))
    assert standing(played, 59) == "live"
    assert standing(played, 61) == "suspended"


@pytest.mark.parametrize("conflict", [True, False])
def test_who_has_a_conflict_with_somebody_who_had_a_hand_does_not_count(conflict: bool) -> None:
    played = Played()
    played.happen(Event("adopt", 0, signers=FOUNDERS, rules=Rules(conflict=conflict)))
    played.happen(Event("train", 0, "1", who="ben"))
    played.happen(Event("evaluate", 0, "1"))
    package = played.happen(Event("package", 0, "1", who="ben"))
    facts: dict[str, Any] = {
        "stage": "validation",
        "role": "model_validator",
        "targets": ("production",),
        "of": package,
    }
    played.happen(act("approve", "vera", day=0, version="1", **facts))
    assert played.decide("1", "production", 0).stages[1].done is not conflict


def test_nobody_signs_automated_gates(ready: World) -> None:
    with pytest.raises(GovernanceError, match="met by automated gates"):
        sign_off(ready.workspace, MODEL, "1", ready.key("vera"), Choice("approve", stage="automated"))


def test_an_auditor_reports_findings_not_events(approved: World) -> None:
    approved.enrol("ian", "auditor")
    with pytest.raises(GovernanceError):
        report_event(approved.workspace, approved.key("ian"), model=MODEL, version="1", event="incident", text="x")
    open_finding(approved.workspace, approved.key("ian"), model=MODEL, version="1", severity="high", title="x")
    assert approved.codes() == ["finding_open"]
