"""Who had a hand in a version judges nothing about it; what a key signed that was not to be trusted allows nothing."""

from __future__ import annotations

from datetime import timedelta

import pytest

from cognify_dagster.governance import (
    Choice,
    Condition,
    GovernanceError,
    SignOffDenied,
    attest,
    attestation_record,
    classification_of,
    complete,
    delegate,
    directory,
    end_change_plan,
    findings_about,
    lift_block,
    order_rollback,
    policy_in_force,
    report_event,
    request_release,
    revoke_key,
    sign_off,
    withdraw_attestation,
)
from cognify_dagster.governance.people.directory import signed_about_people
from cognify_dagster.governance.release.history import completions
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.records import AttestationMade, BlockLifted, DeploymentCompleted, FindingResolved, Record
from cognify_dagster.workspace import Reading
from tests.governance.overseeing import (
    ALL_STAGES,
    approve_with,
    based,
    broken,
    closed,
    found,
    later,
    now,
    plan,
    policy,
    promote_ben,
    release,
    resolved,
    state,
    stolen,
    two_releases,
)
from tests.governance.world import MODEL, World


def attest_data(world: World, name: str, dataset: str, role: str) -> int:
    key, about = world.key(name), f"dataset/{dataset}"

    def make(reading: Reading) -> AttestationMade:
        return attestation_record(reading, "origin", about, "I looked at it.", key.person, role=role, expires=None)

    return attest(world.workspace, key, make).seq


def test_who_attested_the_data_of_a_version_does_not_sign_it_off_where_the_policy_says_so(ready: World) -> None:
    attest_data(ready, "vera", "loans_train", "model_validator")
    ready.snapshot("loans_holdout", "ef" * 32)
    attest_data(ready, "carl", "loans_holdout", "compliance_officer")  # about another snapshot than the version's
    exclude = ["run_launcher", "commit_authors", "package_builder"]
    policy(ready, separation_of_duties={"exclude": exclude})
    ready.approve("vera")
    assert "stage_validation" not in ready.codes()
    policy(ready, separation_of_duties={"exclude": [*exclude, "dataset_approver"]})
    assert {"separation_of_duties", "stage_validation"} <= set(ready.codes())
    with pytest.raises(SignOffDenied, match="Vera had a hand in this version"):
        ready.approve("vera")
    ready.enrol("mia", "model_validator")
    ready.approve("mia")
    ready.approve("carl")
    assert ready.codes() == ["stage_business"]


def test_who_attested_the_data_does_not_free_themselves_by_withdrawing_it(ready: World) -> None:
    policy(ready, separation_of_duties={"exclude": ["dataset_approver"]})
    seq = attest_data(ready, "vera", "loans_holdout", "model_validator")
    withdraw_attestation(ready.workspace, ready.key("vera"), seq, "a mistake")
    with pytest.raises(SignOffDenied, match="had a hand in this version"):
        ready.approve("vera")


def test_nobody_is_shut_out_by_an_attestation_in_their_name_that_they_did_not_sign(ready: World) -> None:
    policy(ready, separation_of_duties={"exclude": ["dataset_approver"]})
    attest_data(ready, "carl", "loans_train", "compliance_officer")
    (made,) = ready.workspace.read().all(AttestationMade)
    ready.write(made.record.model_copy(update={"attested_by": "person/vera", "role": "model_validator"}))
    ready.approve("vera")
    assert "stage_validation" not in ready.codes()


def write(world: World, record: Record, *who: str) -> int:
    """Write a signed act past every check before signing."""
    reading = world.workspace.read()
    head = reading.view.checkpoint()
    signed = tuple(sign_act(record, world.key(n), ledger=reading.origin, role="x", meaning="…", head=head) for n in who)
    whole = "envelopes" in type(record).model_fields
    return world.write(record.model_copy(update={"envelopes": signed} if whole else {"envelope": signed[0]}))


# --- findings


@pytest.mark.parametrize("how", ["closed", "accepted"])
def test_who_had_a_hand_in_a_version_resolves_no_finding_about_it(approved: World, how: str) -> None:
    promote_ben(approved, "model_validator", "compliance_officer")
    seq = found(approved)
    more = {"accepted_until": later(5)} if how == "accepted" else {}
    with pytest.raises(GovernanceError, match="had a hand in this version"):
        resolved(approved, "ben", seq, **more)
    facts = {"model": MODEL, "version": "1", "finding_seq": seq, "outcome": how, "reason": "x", **more}
    record = FindingResolved.model_validate({**facts, "resolved_by": "person/ben", "envelope": UNSIGNED})
    write(approved, record, "ben")  # past the check before signing it has no effect
    assert approved.codes() == ["finding_open"]
    assert any("had a hand" in note for note in approved.decide().notes)
    resolved(approved, "carl", seq, **more)
    assert approved.codes() == []


def test_a_finding_about_all_versions_is_resolved_by_nobody_with_a_hand_in_any(founded: World) -> None:
    founded.ready("1")
    founded.enrol("max", "data_scientist", "model_validator")
    founded.ready("2", launched_by="person/max", touched_by=("person/max",))
    seq = found(founded, None)
    with pytest.raises(GovernanceError, match="had a hand"):
        resolved(founded, "max", seq, None)
    facts = {"model": MODEL, "finding_seq": seq, "outcome": "closed", "reason": "x", "resolved_by": "person/max"}
    write(founded, FindingResolved.model_validate({**facts, "envelope": UNSIGNED}), "max")
    reading = founded.workspace.read()
    people, rules = directory(reading), policy_in_force(reading).policy

    def open_for(version: str | None) -> bool:
        return findings_about(reading, people, rules, MODEL, version, now()).items[0].open

    assert (open_for("1"), open_for("2"), open_for(None)) == (False, True, True)


def test_a_conflict_of_interest_is_a_hand(founded: World) -> None:
    duties = {
        "exclude": ["run_launcher", "commit_authors", "package_builder"],
        "conflicts": [["person/ben", "person/carl"]],
    }
    policy(founded, separation_of_duties=duties)
    founded.ready()
    seq = found(founded)
    with pytest.raises(GovernanceError, match="conflict"):
        resolved(founded, "carl", seq)


# --- blocks


def test_who_had_a_hand_in_a_version_lifts_no_block_of_it(approved: World) -> None:
    promote_ben(approved, "compliance_officer")
    approved.enrol("cleo", "compliance_officer")
    seq = sign_off(approved.workspace, MODEL, "1", approved.key("carl"), Choice("block", comments="no")).seq
    facts = {"model": MODEL, "version": "1", "sign_off_seq": seq, "reason": "settled"}
    with pytest.raises(GovernanceError, match="had a hand"):
        lift_block(approved.workspace, [approved.key("ben"), approved.key("cleo")], **facts)
    names = ("person/ben", "person/cleo")
    write(approved, BlockLifted.model_validate({**facts, "lifted_by": names, "envelopes": ()}), "ben", "cleo")
    assert approved.codes() == ["blocked"]
    lift_block(approved.workspace, [approved.key("carl"), approved.key("cleo")], **facts)
    assert approved.codes() == []


# --- keys that were not to be trusted


def test_broken_glass_signed_with_a_stolen_key_opens_nothing_and_suspends_what_it_let_live(founded: World) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.approve("vera")
    broken(founded, "olga", "carl")
    seq = founded.workspace.ledger.size() - 1
    release(founded)
    revoke_key(founded.workspace, "person/carl", founded.key("carl").key_id, "left", founded.key("ada"))
    assert state(founded).standing == "live", "an ordinary revocation leaves what was signed before it"
    stolen(founded, "carl", seq + 1)
    assert state(founded).standing == "live", "with effect from a later entry"
    stolen(founded, "carl", seq)
    assert [reason.code for reason in state(founded).reasons] == ["key_revoked"]
    assert founded.codes() == ["stage_business", "stage_compliance"]
    assert any("with effect from before it" in note for note in founded.decide().notes)


def test_a_plan_signed_with_a_stolen_key_covers_nothing(founded: World) -> None:
    seq = based(founded)
    founded.ready("2")
    founded.approve("olga", "2")
    release(founded, "2")
    founded.ready("3")
    stolen(founded, "vera", seq + 1)
    assert founded.codes("3") == ["stage_business"]
    assert state(founded).standing == "live"
    stolen(founded, "vera", seq)
    assert founded.codes("3") == ALL_STAGES
    assert [reason.code for reason in state(founded).reasons] == ["key_revoked"]


def test_an_order_signed_with_a_stolen_key_rolls_nothing_back(founded: World) -> None:
    two_releases(founded)
    facts = {"model": MODEL, "version": "1", "target": "production", "reason": "v2 fails"}
    founded.enrol("otto", "business_owner")
    seq = order_rollback(founded.workspace, founded.key("otto"), **facts).seq
    stolen(founded, "otto", seq + 1)
    assert founded.codes("1") == []
    stolen(founded, "otto", seq)
    assert "already_released" in founded.codes("1")


def test_what_else_a_stolen_key_allowed_counts_no_more_but_what_it_stopped_stands(founded: World) -> None:
    founded.enrol("cleo", "compliance_officer")
    founded.ready()
    founded.approve_all()
    start = founded.workspace.ledger.size()
    finding = found(founded)
    resolved(founded, "cleo", finding)
    report_event(founded.workspace, founded.key("cleo"), model=MODEL, version="9", event="incident", text="x")
    founded.classify("cleo", "carl", tier="low")
    sign_off(founded.workspace, MODEL, "1", founded.key("cleo"), Choice("block", comments="no"))
    stolen(founded, "cleo", start)
    assert founded.codes() == ["blocked", "finding_open"]
    assert founded.decide().tier == "high"


def test_a_classification_that_only_asks_for_more_stands_whoever_holds_the_key(ready: World) -> None:
    ready.classify("carl", "olga", tier="medium")
    seq = ready.classify("vera", tier="high")
    stolen(ready, "vera", seq)
    reading = ready.workspace.read()
    assert classification_of(reading, directory(reading), policy_in_force(reading).policy, MODEL).tier == "high"


def test_a_closure_with_a_stolen_key_leaves_the_condition_open(ready: World) -> None:
    ready.enrol("cleo", "compliance_officer")
    given = approve_with(ready, Condition(text="monitor drift", due=later(5)))
    seq = closed(ready, "cleo", given)
    assert ready.codes(days=6) == []
    stolen(ready, "cleo", seq)
    assert ready.codes(days=6) == ["condition_overdue"]


def test_a_sign_off_with_a_stolen_key_suspends_the_release_that_relied_on_it(approved: World) -> None:
    release(approved)
    size = approved.workspace.ledger.size()
    stolen(approved, "vera", size)
    assert state(approved).standing == "live"
    stolen(approved, "vera", 1)
    assert [reason.code for reason in state(approved).reasons] == ["key_revoked"]


def test_a_role_lent_with_a_stolen_key_lets_nobody_sign(ready: World) -> None:
    ready.enrol("dora")
    until = now() + timedelta(days=5)
    seq = delegate(ready.workspace, "person/dora", "model_validator", ready.key("vera"), expires=until, reason="x").seq
    ready.approve("dora")
    assert "stage_validation" not in ready.codes()
    stolen(ready, "vera", seq + 1)
    assert "stage_validation" not in ready.codes(), "it was signed before the key was not to be trusted"
    stolen(ready, "vera", seq)
    assert "stage_validation" in ready.codes()


def test_thresholds_signed_with_a_stolen_key_judge_nothing(founded: World) -> None:
    founded.ready()
    stolen(founded, "vera", founded.data["gates"] + 1)
    assert "gate_set_invalid" not in founded.codes()
    stolen(founded, "vera", founded.data["gates"])
    assert "gate_set_invalid" in founded.codes()


def test_what_a_stolen_key_signed_about_people_is_listed_for_them_to_undo(founded: World) -> None:
    before = founded.workspace.ledger.size()
    founded.enrol("mallory", "model_validator")
    listed = signed_about_people(founded.workspace.read(), "person/finn", founded.key("finn").key_id, before)
    assert listed == [before]
    assert signed_about_people(founded.workspace.read(), "person/carl", founded.key("carl").key_id, 1) == []


def test_a_revocation_reaches_back_at_most_to_now_and_for_people_only(founded: World) -> None:
    with pytest.raises(GovernanceError, match="at the latest with its own entry"):
        stolen(founded, "vera", founded.workspace.ledger.size() + 5)
    writer = founded.workspace.writer
    assert writer is not None
    with pytest.raises(GovernanceError, match="only a person's key"):
        revoke_key(founded.workspace, writer.workload, writer.key_id, "copied", founded.key("ada"), effective_from=1)
    stolen(founded, "vera", 3)
    stolen(founded, "vera", 5)  # a later word does not take the earlier one back
    key = founded.key("vera")
    assert not directory(founded.workspace.read()).trusted(key.person, key.key_id, 4)


# --- plans after an event


@pytest.mark.parametrize("about", [None, "1", "2"], ids=["all versions", "the base", "a version under the plan"])
def test_an_event_that_voids_approvals_ends_the_use_of_a_plan_until_it_is_adopted_anew(
    founded: World, about: str | None
) -> None:
    based(founded, stages=("validation", "compliance", "business"))
    founded.ready("2")
    release(founded, "2")
    founded.ready("3")
    assert founded.codes("3") == []
    report_event(
        founded.workspace, founded.key("ben"), model=MODEL, version=about, event="incident", text="wrong refusals"
    )
    assert founded.codes("3") == ALL_STAGES
    assert any("is not used: an incident was reported" in note for note in founded.decide("3").notes)
    plan(founded, plan="again", stages=("validation", "compliance", "business"))
    assert founded.codes("3") == ALL_STAGES, "it was trained before the plan was adopted anew"
    founded.ready("4")
    assert founded.codes("4") == []


def test_an_event_about_the_version_itself_holds_it_back_though_the_plan_covers_it(founded: World) -> None:
    based(founded, stages=("validation", "compliance", "business"))
    founded.ready("2")
    report_event(founded.workspace, founded.key("ben"), model=MODEL, version="2", event="incident", text="x")
    assert founded.codes("2") == ALL_STAGES


def test_an_event_about_an_unrelated_version_or_that_voids_nothing_leaves_the_plan(founded: World) -> None:
    based(founded, stages=("validation", "compliance", "business"))
    founded.ready("2")
    report_event(founded.workspace, founded.key("ben"), model=MODEL, version="7", event="incident", text="x")
    report_event(founded.workspace, founded.key("ben"), model=MODEL, event="data_change", text="new rows")
    assert founded.codes("2") == []


def test_a_new_policy_ends_the_use_of_a_plan_where_it_voids_approvals(founded: World) -> None:
    policy(founded, voids=["policy_change"])
    based(founded, stages=("validation", "compliance", "business"))
    founded.ready("2")
    assert founded.codes("2") == []
    policy(founded, voids=["policy_change"], title="another")
    assert founded.codes("2") == ALL_STAGES


# --- one grant, one deployment; the glass that lasts


def test_a_grant_serves_one_deployment(founded: World) -> None:
    two_releases(founded)
    first = completions(founded.workspace.read(), MODEL, "production")[0]
    again = first.record.model_copy(update={"location": "elsewhere"})
    seq = founded.write(again)
    current = state(founded)
    assert (current.standing, current.version) == ("live", "2")
    assert len(completions(founded.workspace.read(), MODEL, "production")) == 2
    told = [note for note in founded.decide("1").notes if f"entry {seq}" in note]
    assert told == [
        f"entry {seq}: the release of entry {first.record.grant_seq} was completed by entry {first.seq}; it serves one deployment"
    ]


def test_a_completion_that_fits_no_grant_uses_none_up(approved: World) -> None:
    grant = request_release(approved.workspace, MODEL, "1", "production", "r", "person/ben")
    facts = {"model": MODEL, "version": "1", "target": "production", "grant_seq": grant.seq}
    approved.write(DeploymentCompleted.model_validate({**facts, "model_digest": "sha256:" + "0" * 64}))
    assert state(approved).standing == "none"
    done = complete(approved.workspace, grant, location="here", detail={})
    completed = state(approved).completed
    assert completed is not None
    assert completed.seq == done


def test_an_older_glass_that_lasts_outlives_a_newer_one(founded: World) -> None:
    policy(founded, break_glass={"enabled": True})
    founded.ready()
    founded.approve("vera")
    broken(founded, "olga", "carl", expires=later(2))
    broken(founded, "olga", "carl", expires=later(1), waived=("business",))
    assert founded.codes() == ["stage_compliance"], "the newest that lasts counts"
    assert founded.codes(days=1.5) == []
    assert founded.codes(days=2.5) == ["stage_business", "stage_compliance"]


def test_a_plan_that_was_ended_is_ended_whoevers_key_it_was(founded: World) -> None:
    seq = based(founded)
    founded.ready("2")
    ended = end_change_plan(founded.workspace, founded.key("carl"), plan_seq=seq, model=MODEL, reason="drift").seq
    stolen(founded, "carl", ended)
    assert founded.codes("2") == ALL_STAGES
