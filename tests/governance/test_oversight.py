"""Findings, conditions, blocks, events, exceptions and reviews: what they hold back, and what sets it free again."""

from __future__ import annotations

import pytest

from cognify_dagster.governance import (
    Choice,
    Condition,
    EntryRef,
    GovernanceError,
    classify_model,
    close_condition,
    complete,
    end_change_plan,
    lift_block,
    live,
    open_finding,
    order_rollback,
    report_event,
    request_release,
    resolve_finding,
    sign_off,
)
from cognify_dagster.records import (
    DatasetSnapshot,
    FindingOpened,
    ModelEvent,
    ModelRegistered,
    Reconciliation,
    ReleaseGranted,
)
from tests.governance.overseeing import (
    ALL_STAGES,
    approve_with,
    based,
    broken,
    later,
    plan,
    policy,
    release,
    state,
    two_releases,
)
from tests.governance.world import MODEL, World

# --- findings


@pytest.mark.parametrize(
    ("severity", "blocks"), [("low", False), ("medium", False), ("high", True), ("critical", True)]
)
def test_an_open_finding_of_a_grave_kind_holds_a_release_back(approved: World, severity: str, blocks: bool) -> None:
    open_finding(approved.workspace, approved.key("vera"), model=MODEL, version="1", severity=severity, title="leak")
    assert approved.codes() == (["finding_open"] if blocks else [])


@pytest.mark.parametrize("version", ["1", None])
def test_a_finding_is_closed_by_a_signature_with_evidence(approved: World, version: str | None) -> None:
    seq = open_finding(
        approved.workspace, approved.key("vera"), model=MODEL, version=version, severity="high", title="leak"
    ).seq
    assert approved.codes() == ["finding_open"]
    resolve_finding(
        approved.workspace,
        approved.key("carl"),
        model=MODEL,
        version=version,
        finding_seq=seq,
        outcome="closed",
        reason="the leak is mended, see ticket 7",
    )
    assert approved.decide().released


def test_an_accepted_risk_counts_until_its_date_only(approved: World) -> None:
    seq = open_finding(
        approved.workspace, approved.key("vera"), model=MODEL, version="1", severity="high", title="leak"
    ).seq
    resolve_finding(
        approved.workspace,
        approved.key("olga"),
        model=MODEL,
        version="1",
        finding_seq=seq,
        outcome="accepted",
        reason="small",
        accepted_until=later(10),
    )
    assert approved.codes() == []
    assert approved.codes(days=11) == ["finding_open"]


def test_who_may_not_resolve_a_finding_is_refused_and_nothing_is_written(approved: World) -> None:
    seq = open_finding(
        approved.workspace, approved.key("vera"), model=MODEL, version="1", severity="high", title="leak"
    ).seq
    size = approved.workspace.ledger.size()
    with pytest.raises(GovernanceError, match="model_validator"):
        resolve_finding(
            approved.workspace,
            approved.key("olga"),
            model=MODEL,
            version="1",
            finding_seq=seq,
            outcome="closed",
            reason="fine",
        )
    assert approved.workspace.ledger.size() == size


def test_a_finding_with_a_bad_signature_stays_open(approved: World) -> None:
    found = approved.workspace.read()
    seq = open_finding(
        approved.workspace, approved.key("vera"), model=MODEL, version="1", severity="low", title="x"
    ).seq
    item = approved.workspace.read().at(seq)
    assert found.size
    assert item is not None
    assert isinstance(item.record, FindingOpened)
    approved.write(item.record.model_copy(update={"severity": "critical"}))
    assert "finding_open" in approved.codes()


def test_an_unattested_event_holds_a_release_back_until_somebody_resolved_it(approved: World) -> None:
    seq = approved.write(
        Reconciliation(code="unattested_materialization", model=MODEL, version="1", asset="model", text="forged")
    )
    assert approved.codes() == ["finding_open"]
    resolve_finding(
        approved.workspace,
        approved.key("carl"),
        model=MODEL,
        version="1",
        finding_seq=seq,
        outcome="closed",
        reason="a test of the red team",
    )
    assert approved.codes() == []


# --- conditions


def test_an_overdue_condition_blocks_and_suspends_until_it_is_closed(ready: World) -> None:
    seq = approve_with(ready, Condition(text="monitor drift", due=later(30), kind="remediation"))
    release(ready)
    assert state(ready).standing == "live"
    assert [item.condition.text for item in state(ready).conditions] == ["monitor drift"]
    suspended = state(ready, days=31)
    assert suspended.standing == "suspended"
    assert [reason.code for reason in suspended.reasons] == ["condition_overdue"]
    close_condition(
        ready.workspace, ready.key("olga"), model=MODEL, version="1", sign_off_seq=seq, condition=0, reason="dashboard"
    )
    assert state(ready, days=31).standing == "live"


def test_who_had_a_hand_in_the_version_does_not_close_its_conditions(ready: World) -> None:
    seq = approve_with(ready, Condition(text="monitor drift"))
    ready.enrol("ben", "data_scientist", "business_owner", aliases=("user:ben", "git:ben@bank.example"))
    with pytest.raises(GovernanceError, match="had a hand"):
        close_condition(
            ready.workspace, ready.key("ben"), model=MODEL, version="1", sign_off_seq=seq, condition=0, reason="done"
        )


def test_a_use_cap_needs_a_deployment_that_enforces_it_and_stands_in_the_grant(ready: World) -> None:
    approve_with(ready, Condition(text="10 a day", kind="use_cap", limit={"per_day": 10}))
    assert ready.codes() == ["condition_unenforced"]
    grant = request_release(ready.workspace, MODEL, "1", "production", "run", "person/ben", enforces=("use_cap",))
    assert [item["limit"] for item in grant.conditions] == [{"per_day": 10}]


def test_an_expiry_condition_ends_the_approval(ready: World) -> None:
    approve_with(ready, Condition(text="pilot only", kind="expiry", limit={"until": later(20)}))
    assert ready.decide().released
    assert "approval_expired" in ready.codes(days=21)


# --- blocks


def test_a_block_is_lifted_by_two_who_may_block_never_by_one(approved: World) -> None:
    seq = sign_off(approved.workspace, MODEL, "1", approved.key("carl"), Choice("block", comments="complaint")).seq
    assert approved.codes() == ["blocked"]
    approved.enrol("cleo", "compliance_officer")
    facts = {"model": MODEL, "version": "1", "sign_off_seq": seq, "reason": "answered"}
    with pytest.raises(GovernanceError):
        lift_block(approved.workspace, [approved.key("cleo")], **facts)
    assert approved.codes() == ["blocked"]
    lift_block(approved.workspace, [approved.key("cleo"), approved.key("carl")], **facts)
    assert approved.decide().released


@pytest.mark.parametrize(("rule", "standing"), [("suspend", "suspended"), ("report", "live")])
def test_a_block_of_what_is_live_does_what_the_policy_says(founded: World, rule: str, standing: str) -> None:
    policy(founded, blocked_live=rule)
    founded.ready()
    founded.approve_all()
    release(founded)
    sign_off(founded.workspace, MODEL, "1", founded.key("carl"), Choice("block", comments="complaint"))
    assert state(founded).standing == standing


# --- what voids approvals


@pytest.mark.parametrize("version", ["1", None])
def test_an_incident_voids_the_approvals_before_it_and_suspends_what_is_live(
    approved: World, version: str | None
) -> None:
    release(approved)
    report_event(approved.workspace, approved.key("ben"), model=MODEL, version=version, event="incident", text="outage")
    assert state(approved).standing == "suspended"
    assert approved.codes() == ["approval_void", *ALL_STAGES]


def test_a_monitor_reports_a_breach_without_a_person(approved: World) -> None:
    approved.write(
        ModelEvent(model=MODEL, version="1", event="drift_breach", text="PSI 0.4", reported_by="workload/pipeline")
    )
    assert "approval_void" in approved.codes()


def test_an_event_in_somebodys_name_needs_their_signature(approved: World) -> None:
    approved.write(ModelEvent(model=MODEL, version="1", event="incident", text="x", reported_by="person/vera"))
    decision = approved.decide()
    assert decision.released
    assert any("did not sign" in note for note in decision.notes)


def test_newer_data_void_an_approval_only_where_the_policy_says_so(approved: World) -> None:
    found = approved.workspace.read().latest(DatasetSnapshot, "dataset/loans_train")
    assert found is not None
    approved.write(found.record.model_copy(update={"root": "cd" * 32, "data_version": "sha256:" + "cd" * 32}))
    assert approved.decide().released
    policy(approved, voids=["data_change"])
    assert "approval_void" in approved.codes()


def test_a_new_policy_voids_approvals_where_it_says_so(approved: World) -> None:
    policy(approved, voids=["policy_change"])
    assert "approval_void" in approved.codes()


# --- classification


def test_taking_signatures_away_needs_two_people(ready: World) -> None:
    facts = {"model": MODEL, "tier": "low", "owner": "person/olga", "rationale": "toy"}
    with pytest.raises(GovernanceError, match=r"2 (are needed|different people)"):
        classify_model(ready.workspace, [ready.key("olga")], **facts)
    classify_model(ready.workspace, [ready.key("olga"), ready.key("carl")], **facts)
    assert ready.codes() == ALL_STAGES  # the code still asks for more
    ready.write(ModelRegistered(model=MODEL, owner="team:risk", risk_tier="low", intended_use="x", limitations="y"))
    assert ready.decide().released


def test_a_classification_names_the_thresholds_that_apply(approved: World) -> None:
    classify_model(
        approved.workspace,
        [approved.key("carl")],
        model=MODEL,
        tier="high",
        owner="person/olga",
        rationale="credit",
        gate_set="other_gates",
    )
    assert approved.codes() == ["gate_set_other"]


# --- break-glass


def test_broken_glass_waives_named_sign_offs_for_a_while_and_shows_in_the_grant(founded: World) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.approve("vera")
    assert founded.codes() == ["stage_business", "stage_compliance"]
    broken(founded, "olga", "carl")
    decision = founded.decide()
    assert decision.released
    assert decision.waived == ("compliance", "business")
    release(founded)
    current = state(founded)
    assert current.grant is not None
    assert current.grant.record.purpose == "break_glass"
    assert current.grant.record.waived == ("compliance", "business")
    assert state(founded).standing == "live"
    assert [reason.code for reason in state(founded, days=2).reasons] == ["break_glass_expired"]


def test_a_full_sign_off_afterwards_makes_it_a_usual_release(founded: World) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.approve("vera")
    broken(founded, "olga", "carl")
    release(founded)
    founded.approve("carl")
    founded.approve("olga")
    grant = request_release(founded.workspace, MODEL, "1", "production", "again", "person/ben")
    assert grant.purpose == "release"
    complete(founded.workspace, grant, location="here", detail={})
    assert state(founded, days=2).standing == "live"


@pytest.mark.parametrize(
    ("names", "changes", "text"),
    [
        (("olga",), {}, "2 different people"),
        (("olga", "ollie"), {}, "compliance_officer"),
        (("olga", "carl"), {"expires": later(30)}, "longer than 72 hours"),
        (("olga", "carl"), {"waived": ("automated",)}, "no sign-off stage"),
        (("carl", "ben"), {}, "had a hand"),
    ],
    ids=["one person", "without compliance", "too long", "gates", "the builder"],
)
def test_broken_glass_keeps_its_rules(
    founded: World, names: tuple[str, ...], changes: dict[str, object], text: str
) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.enrol("ollie", "business_owner")
    founded.enrol("ben", "data_scientist", "business_owner", aliases=("user:ben", "git:ben@bank.example"))
    with pytest.raises(GovernanceError, match=text):
        broken(founded, *names, **changes)


def test_without_the_policys_word_no_glass_is_broken(ready: World) -> None:
    with pytest.raises(GovernanceError, match="does not allow"):
        broken(ready, "olga", "carl")


def test_broken_glass_waives_no_block_and_no_finding(founded: World) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.approve("vera")
    broken(founded, "olga", "carl")
    open_finding(founded.workspace, founded.key("vera"), model=MODEL, version="1", severity="high", title="leak")
    sign_off(founded.workspace, MODEL, "1", founded.key("carl"), Choice("block", comments="no"))
    assert founded.codes() == ["blocked", "finding_open"]


# --- rollback, targets, reviews


def test_a_rollback_takes_an_order_and_serves_once(founded: World) -> None:
    two_releases(founded)
    assert "already_released" in founded.codes("1")
    order_rollback(
        founded.workspace, founded.key("olga"), model=MODEL, version="1", target="production", reason="v2 fails"
    )
    grant = request_release(founded.workspace, MODEL, "1", "production", "back", "person/ben")
    assert (grant.purpose, grant.supersedes) == ("rollback", "2")
    complete(founded.workspace, grant, location="here", detail={})
    current = live(founded.workspace.read(), MODEL, "production")
    assert current is not None
    assert current.record.version == "1"
    assert "already_released" in founded.codes("1")
    assert "already_released" in founded.codes("2")


def test_a_rollback_needs_approvals_that_still_hold(founded: World) -> None:
    two_releases(founded)
    order_rollback(
        founded.workspace, founded.key("olga"), model=MODEL, version="1", target="production", reason="v2 fails"
    )
    assert founded.codes("1") == []
    assert "approval_expired" in founded.codes("1", days=181)


def test_nobody_without_the_role_orders_a_rollback_nor_to_a_version_never_live(founded: World) -> None:
    two_releases(founded)
    founded.ready("3")
    facts = {"model": MODEL, "target": "production", "reason": "x"}
    with pytest.raises(GovernanceError, match="ml_engineer"):
        order_rollback(founded.workspace, founded.key("vera"), version="1", **facts)
    with pytest.raises(GovernanceError, match="never live"):
        order_rollback(founded.workspace, founded.key("olga"), version="3", **facts)


def test_production_may_ask_for_a_canary_first(founded: World) -> None:
    policy(founded, targets={"production": {"after": ["canary"], "min_hours": 24}})
    founded.ready()
    for name in ("vera", "carl", "olga"):
        founded.approve(name, targets=("canary", "production"))
    assert founded.codes() == ["target_order"]
    release(founded, target="canary")
    assert founded.codes() == ["target_order"]
    assert founded.codes(days=1.1) == []


def test_a_withdrawn_approval_suspends_what_is_live(approved: World) -> None:
    release(approved)
    given = next(item for item in approved.workspace.read().view.entries if item.entry.kind == "sign_off")
    reference = EntryRef(entry_seq=given.entry.seq, entry_leaf=given.entry.leaf.hex())
    sign_off(approved.workspace, MODEL, "1", approved.key("vera"), Choice("withdraw", reference=reference))
    assert [reason.code for reason in state(approved).reasons] == ["withdrawn"]


# --- change plans


def test_a_version_inside_the_plan_needs_only_the_stages_the_plan_leaves(founded: World) -> None:
    seq = based(founded)
    founded.ready("2", config={"learning_rate": 0.15})
    decision = founded.decide("2")
    assert decision.plan is not None
    assert decision.plan.covered, decision.plan.lines
    assert founded.codes("2") == ["stage_business"]
    assert decision.waived == ("validation", "compliance")
    founded.approve("olga", "2")
    grant = request_release(founded.workspace, MODEL, "2", "production", "run-2", "person/ben")
    item = founded.workspace.read().at(grant.seq)
    assert item is not None
    assert isinstance(item.record, ReleaseGranted)
    assert (item.record.plan_seq, item.record.waived) == (seq, ("validation", "compliance"))


def test_a_version_outside_the_plan_needs_everybody_and_says_why(founded: World) -> None:
    based(founded, bounds={"datasets": []})
    founded.ready("2", config={"learning_rate": 30})
    assert founded.codes("2") == ALL_STAGES
    assert any("learning_rate" in note for note in founded.decide("2").notes)


def test_a_plan_covers_no_more_versions_than_it_says(founded: World) -> None:
    based(founded, bounds={"datasets": ["loans_train"], "max_versions": 1})
    for version in ("2", "3"):
        founded.ready(version)
    founded.approve("olga", "2")
    release(founded, "2")
    assert founded.codes("3") == ALL_STAGES


@pytest.mark.parametrize(
    ("names", "changes", "text"),
    [
        (("vera", "carl"), {}, "3 different people"),
        (("vera", "carl", "ben"), {}, "had a hand"),
        (("vera", "carl", "olga"), {"stages": ("automated",)}, "no sign-off stage"),
        (("vera", "carl", "olga"), {"base_version": "7"}, "no training run"),
    ],
    ids=["a stage without signature", "the builder", "gates", "no such base"],
)
def test_a_plan_keeps_its_rules(founded: World, names: tuple[str, ...], changes: dict[str, object], text: str) -> None:
    founded.ready("1")
    founded.approve_all("1")
    release(founded)
    founded.enrol("ben", "data_scientist", "business_owner", aliases=("user:ben", "git:ben@bank.example"))
    with pytest.raises(GovernanceError, match=text):
        plan(founded, *names, **changes)


def test_a_plan_ends_by_a_signature_by_its_date_and_never_covers_what_was_trained_before(founded: World) -> None:
    seq = based(founded)
    founded.ready("2")
    assert founded.codes("2", days=181) == ALL_STAGES
    end_change_plan(founded.workspace, founded.key("vera"), plan_seq=seq, model=MODEL, reason="drift")
    assert founded.codes("2") == ALL_STAGES
    plan(founded, plan="later-plan")
    assert founded.codes("2") == ALL_STAGES


def test_a_run_that_claims_to_have_started_later_is_not_covered_by_a_later_plan(founded: World) -> None:
    seq = based(founded)
    founded.ready("2", started_after_seq=10**6)
    end_change_plan(founded.workspace, founded.key("vera"), plan_seq=seq, model=MODEL, reason="drift")
    plan(founded, plan="later-plan")
    assert founded.codes("2") == ALL_STAGES
