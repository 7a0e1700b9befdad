"""Single cases of oversight that random histories reach rarely or not at all."""

from __future__ import annotations

import itertools

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
from cognify_dagster.governance.acts import UNSIGNED
from cognify_dagster.governance.adoption import policy_adoption
from cognify_dagster.records import BreakGlassOpened, DeploymentCompleted, Recertified, ReleaseGranted, utc
from tests.governance import memory
from tests.governance.memory import ROLES_OF, moment
from tests.governance.naive_policy import Event, Rules
from tests.governance.test_oversight_histories import Played
from tests.governance.world import MODEL, World

FOUNDERS = (("ada", True), ("finn", True))


def released(rules: Rules = Rules()) -> Played:
    """Version 1 is live on production."""
    played = Played()
    played.happen(Event("adopt", 0, signers=FOUNDERS, rules=rules))
    played.happen(Event("train", 0, "1", who="ben"))
    played.happen(Event("evaluate", 0, "1"))
    package = played.happen(Event("package", 0, "1", who="ben"))
    for who, stage in (("vito", "validation"), ("carl", "compliance"), ("olga", "business")):
        role = ROLES_OF[who][0]
        facts = {"stage": stage, "role": role, "targets": ("production",), "of": package}
        played.happen(Event("approve", 0, "1", who=who, signers=((who, True),), **facts))  # type: ignore[arg-type]
    played.release("1", "production", 0, finish=True, enforces=frozenset())
    return played


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


def test_nobody_signs_automated_gates(ready: World) -> None:
    with pytest.raises(GovernanceError, match="met by automated gates"):
        sign_off(ready.workspace, MODEL, "1", ready.key("vera"), Choice("approve", stage="automated"))


def test_an_auditor_reports_findings_not_events(approved: World) -> None:
    approved.enrol("ian", "auditor")
    with pytest.raises(GovernanceError):
        report_event(approved.workspace, approved.key("ian"), model=MODEL, version="1", event="incident", text="x")
    open_finding(approved.workspace, approved.key("ian"), model=MODEL, version="1", severity="high", title="x")
    assert approved.codes() == ["finding_open"]
