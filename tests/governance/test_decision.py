"""The release decision: what blocks a release, what stops blocking it, and that anyone can replay it."""

from __future__ import annotations

import base64
import hashlib
import json
from datetime import datetime, timedelta, timezone

import pytest

from cognify_dagster.governance import (
    Choice,
    Condition,
    EntryRef,
    adopt_policy,
    complete,
    decide,
    enrol_workload,
    parse_policy,
    policy_in_force,
    public_key,
    request_release,
    revoke_key,
    sign_off,
    submit,
)
from cognify_dagster.governance.signing.statements import Head
from cognify_dagster.ledger import Draft, canonical_json
from cognify_dagster.records import (
    BundleExported,
    Evaluation,
    GateOutcome,
    GateSetAdopted,
    ModelRegistered,
    ReleaseGranted,
    VersionOpened,
    Workload,
    kinds,
    parse_utc,
    utc,
)
from cognify_dagster.workspace import Workspace, Writer, idempotency_key
from cognify_dagster.workspace.writing import Permission
from tests.governance.world import MODEL, World

ALL_STAGES = ["stage_business", "stage_compliance", "stage_validation"]


def reference(world: World, seq: int) -> EntryRef:
    found = world.workspace.read().at(seq)
    assert found is not None
    return EntryRef(entry_seq=seq, entry_leaf=found.leaf)


# --- what a release needs --------------------------------------------------------------------------------------------


def test_of_a_model_nobody_registered_every_reason_is_named(founded: World) -> None:
    decision = founded.decide("9")
    assert not decision.released
    codes = {reason.code for reason in decision.reasons}
    assert {"model_unknown", "version_unknown", "no_package", *ALL_STAGES} <= codes


def test_a_registered_model_without_anything_else_lacks_gates_and_every_stage(founded: World) -> None:
    founded.register()
    assert founded.codes("9") == [
        "gate_completeness",
        "gate_data_quality",
        "gate_fairness",
        "gate_performance",
        "no_package",
        *ALL_STAGES,
        "version_unknown",
    ]


def test_every_reason_says_who_can_resolve_it_by_name(ready: World) -> None:
    waiting = {reason.code: reason.resolved_by for reason in ready.decide().reasons}
    # ben is a validator too, but he built the version
    assert waiting == {"stage_validation": "Vera", "stage_compliance": "Carl", "stage_business": "Olga"}


def test_a_stage_nobody_can_sign_says_whom_to_enrol(founded: World) -> None:
    founded.ready()
    revoke_key(founded.workspace, "person/carl", founded.key("carl").key_id, "left", founded.key("ada"))
    policy = policy_in_force(founded.workspace.read()).policy.as_json()
    policy["stages"]["compliance"]["role"] = "auditor"
    adopt_policy(founded.workspace, parse_policy(policy), "audit signs", [founded.key("ada"), founded.key("finn")])
    waiting = {reason.code: reason.resolved_by for reason in founded.decide().reasons}
    assert waiting["stage_compliance"] == "nobody yet: enrol a auditor"


def test_with_all_stages_signed_it_is_released(approved: World) -> None:
    decision = approved.decide()
    assert decision.released
    assert decision.reasons == ()
    assert [stage.name for stage in decision.stages] == ["automated", "validation", "compliance", "business"]
    assert len(decision.sign_off_seqs) == 3


@pytest.mark.parametrize(
    ("tier", "missing"), [("low", []), ("medium", ["stage_compliance"]), ("high", ALL_STAGES)], ids=str
)
def test_the_tier_says_which_people_must_sign(founded: World, tier: str, missing: list[str]) -> None:
    founded.tier = tier
    founded.ready()
    assert founded.codes() == missing


def test_a_tier_the_policy_does_not_have_blocks(founded: World) -> None:
    founded.tier = "extreme"
    founded.ready()
    assert founded.codes() == [*ALL_STAGES, "tier_unknown"]


def test_a_lower_tier_that_nobody_signed_does_not_skip_signatures(ready: World) -> None:
    ready.write(ModelRegistered(model=MODEL, owner="team:risk", risk_tier="low", intended_use="x", limitations="y"))
    decision = ready.decide()
    assert ready.codes() == ALL_STAGES
    assert any("nobody signed that" in note for note in decision.notes)


def test_a_signed_classification_outranks_the_code_but_the_code_may_ask_for_more(founded: World) -> None:
    founded.tier = "low"
    founded.ready()
    assert founded.decide().released
    founded.tier = "high"
    founded.register()
    assert founded.codes() == ALL_STAGES


# --- training, evaluation, package -----------------------------------------------------------------------------------


def test_a_version_opened_but_not_trained_is_blocked(founded: World) -> None:
    founded.register()
    founded.write(VersionOpened(model=MODEL, version="1", run="r", opened_by="person/ben"))
    assert "not_trained" in founded.codes()


def test_trained_but_not_evaluated_is_blocked(founded: World) -> None:
    founded.train("1")
    assert "not_evaluated" in founded.codes()


def test_a_second_sealed_training_run_blocks_for_good(approved: World) -> None:
    approved.train("1")
    assert approved.codes() == ["trained_twice"]


def test_a_failed_gate_blocks(founded: World) -> None:
    founded.train("1")
    founded.evaluate("1", failing=("fairness",))
    founded.package("1")
    assert founded.codes() == sorted(["gate_fairness", *ALL_STAGES])


def test_a_missing_gate_blocks(founded: World) -> None:
    founded.tier = "low"
    founded.train("1")
    founded.evaluate("1", families=("performance", "fairness", "data_quality"))
    founded.package("1")
    assert founded.codes() == ["gate_completeness"]


def test_gates_older_than_the_evaluation_are_stale(founded: World) -> None:
    founded.tier = "low"
    founded.train("1")
    founded.evaluate("1")
    founded.evaluate("1", families=())
    founded.package("1")
    decision = founded.decide()
    assert {reason.code for reason in decision.reasons} == {
        "gate_performance",
        "gate_fairness",
        "gate_data_quality",
        "gate_completeness",
    }
    assert "older than the evaluation" in decision.reasons[0].text


def test_a_gate_said_to_pass_against_the_evaluation_itself_blocks(founded: World) -> None:
    founded.tier = "low"
    founded.train("1")
    outcome = GateOutcome(
        id="auc", family="performance", metric="auc", op=">=", threshold=0.7, value=0.5, status="fail"
    )
    founded.evaluate("1", outcomes=(outcome,), status="failed")
    founded.package("1")
    assert founded.codes() == ["gate_performance"]


def test_thresholds_adopted_after_training_started_block(founded: World) -> None:
    founded.tier = "low"
    founded.train("0")
    started = founded.workspace.ledger.size()
    founded.data["gates"] = founded.adopt_gates()
    founded.train("1", started_after_seq=started)
    founded.evaluate("1")
    founded.package("1")
    assert founded.codes() == ["gate_set_late"]


def test_a_training_run_cannot_claim_to_have_started_after_it_was_sealed(founded: World) -> None:
    founded.tier = "low"
    founded.train("1", started_after_seq=10_000)
    founded.data["gates"] = founded.adopt_gates("vera", 0.1)
    founded.evaluate("1")
    founded.package("1")
    assert founded.codes() == ["gate_set_late"]


def test_a_training_run_cannot_claim_to_have_started_after_its_version_was_opened(founded: World) -> None:
    founded.tier = "low"
    founded.train("0")
    founded.write(VersionOpened(model=MODEL, version="1", run="run-1", opened_by="person/ben"))
    founded.data["gates"] = founded.adopt_gates("vera", 0.1)
    founded.train("1", started_after_seq=founded.workspace.ledger.size(), observed={"run": "run-1"})
    founded.evaluate("1")
    founded.package("1")
    assert founded.codes() == ["gate_set_late"]


def test_looser_thresholds_replaced_before_training_cannot_be_used(founded: World) -> None:
    founded.tier = "low"
    founded.train("0")
    founded.adopt_gates("vera", 0.9)
    founded.train("1")
    founded.evaluate("1")  # against the first set
    founded.package("1")
    assert founded.codes() == ["gate_set_superseded"]


def test_thresholds_nobody_entitled_signed_block(founded: World) -> None:
    founded.tier = "low"
    founded.train("0")
    reading = founded.workspace.read()
    genuine = reading.at(founded.data["gates"])
    assert genuine is not None
    forged = genuine.record.model_copy(update={"adopted_by": "person/ben"})
    founded.data["gates"] = founded.write(forged)
    founded.train("1")
    founded.evaluate("1")
    founded.package("1")
    assert "gate_set_invalid" in founded.codes()


@pytest.mark.parametrize("seq", [-1, 0, 3, 10_000])
def test_an_evaluation_naming_no_gate_set_blocks(founded: World, seq: int) -> None:
    founded.tier = "low"
    founded.train("1")
    founded.evaluate("1", gate_set_seq=seq)
    founded.package("1")
    assert founded.codes() == ["no_gate_set"]


def test_an_evaluation_of_other_model_bytes_blocks(founded: World) -> None:
    founded.tier = "low"
    founded.train("1")
    founded.evaluate("1", model_digest="sha256:" + "0" * 64)
    founded.package("1")
    assert founded.codes() == ["evaluation_of_other_model"]


def test_a_package_of_other_model_bytes_blocks(founded: World) -> None:
    founded.tier = "low"
    founded.train("1")
    founded.evaluate("1")
    founded.package("1", model_digest="sha256:" + "0" * 64)
    assert founded.codes() == ["package_of_other_model"]


def test_a_new_evaluation_makes_the_package_stale(approved: World) -> None:
    approved.evaluate("1")
    assert approved.codes() == ["package_stale"]


@pytest.mark.parametrize(
    ("change", "code"),
    [({"root": "ef" * 32}, "dataset_differs"), ({"name": "other"}, "dataset_differs"), ({"seq": 0}, "dataset_unknown")],
)
def test_a_dataset_with_another_root_or_no_snapshot_blocks(
    founded: World, change: dict[str, object], code: str
) -> None:
    founded.tier = "low"
    founded.ready()
    evaluation = founded.workspace.read().latest(Evaluation, founded.subject("1"))
    assert evaluation is not None
    founded.evaluate("1", dataset=evaluation.record.dataset.model_copy(update=change))
    founded.package("1")
    assert founded.codes() == [code]


def test_a_dataset_may_not_point_at_a_snapshot_from_the_end_of_the_ledger(founded: World) -> None:
    """A negative sequence number must not be read as Python reads a negative index."""
    founded.tier = "low"
    founded.train("1")
    founded.evaluate("1")
    evaluation = founded.workspace.read().latest(Evaluation, founded.subject("1"))
    assert evaluation is not None
    founded.evaluate("1", dataset=evaluation.record.dataset.model_copy(update={"seq": -1}))
    founded.package("1")
    founded.snapshot("loans_holdout", "cd" * 32)
    assert founded.codes() == ["dataset_unknown"]


def test_a_snapshot_taken_after_its_use_proves_nothing(founded: World) -> None:
    founded.tier = "low"
    founded.ready()
    evaluation = founded.workspace.read().latest(Evaluation, founded.subject("1"))
    assert evaluation is not None
    later = founded.workspace.ledger.size() + 6  # evaluation, four gates, package: then the snapshot
    founded.evaluate("1", dataset=evaluation.record.dataset.model_copy(update={"seq": later}))
    founded.package("1")
    snapshot = founded.workspace.read().at(founded.data["holdout"])
    assert snapshot is not None
    assert founded.write(snapshot.record) == later
    assert founded.codes() == ["dataset_unknown"]


# --- attribution -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "changes",
    [
        {"unattributed": ("git:stranger@example.org",)},
        {"launched_by": "unattributed"},
        {"launched_by": "person/nobody"},
        {"touched_by": ("person/nobody",)},
    ],
)
def test_who_is_not_an_enrolled_person_blocks(founded: World, changes: dict[str, object]) -> None:
    founded.tier = "low"
    founded.train("1", **changes)  # type: ignore[arg-type]
    founded.evaluate("1")
    founded.package("1")
    assert founded.codes() == ["unattributed"]


def test_an_unattributed_package_builder_blocks(founded: World) -> None:
    founded.tier = "low"
    founded.train("1")
    founded.evaluate("1")
    founded.package("1", built_by="unattributed")
    assert founded.codes() == ["unattributed"]


def test_a_policy_may_only_warn_of_the_unattributed(founded: World) -> None:
    founded.tier = "low"
    founded.train("1", unattributed=("git:stranger@example.org",))
    founded.evaluate("1")
    founded.package("1")
    policy = policy_in_force(founded.workspace.read()).policy.as_json() | {"unattributed": "warn"}
    adopt_policy(founded.workspace, parse_policy(policy), "small team", [founded.key("ada"), founded.key("finn")])
    decision = founded.decide()
    assert decision.released
    assert any("git:stranger@example.org" in note for note in decision.notes)


# --- sign-offs that stop counting ------------------------------------------------------------------------------------


def test_a_rebuilt_package_voids_every_signature(approved: World) -> None:
    approved.package("1")
    assert approved.codes() == ALL_STAGES


def test_a_package_rebuilt_with_the_same_bytes_voids_them_too(approved: World) -> None:
    package = approved.decide().package
    assert package is not None
    approved.write(package.record.model_copy(update={"revision": 2}))
    assert approved.codes() == sorted(["package_rebuilt", *ALL_STAGES])


def test_an_approval_for_staging_is_none_for_production(ready: World) -> None:
    for name in ("vera", "carl", "olga"):
        ready.approve(name, targets=("staging",))
    assert ready.decide(target="staging").released
    assert ready.codes() == sorted(["target_not_approved", *ALL_STAGES])


def test_an_approval_that_names_no_target_counts_for_none(ready: World) -> None:
    ready.force(ready.sign("vera", alter={"target_environments": ()}))
    assert "target_not_approved" in ready.codes()


def test_approvals_expire_after_the_days_of_the_tier(approved: World) -> None:
    assert approved.decide(days=179).released
    assert approved.codes(days=181) == sorted(["approval_expired", *ALL_STAGES])


def test_an_approval_may_expire_earlier_by_its_own_word(ready: World) -> None:
    ready.approve("vera", expires=utc(datetime.now(timezone.utc) + timedelta(days=2)))
    ready.approve("carl")
    ready.approve("olga")
    assert ready.decide(days=1).released
    assert "approval_expired" in ready.codes(days=3)


def test_an_overdue_condition_voids_the_approval(ready: World) -> None:
    due = utc(datetime.now(timezone.utc) + timedelta(days=30))
    envelope = ready.sign(
        "vera",
        "approve_with_conditions",
        conditions=(Condition(text="recalibrate", due=due), Condition(text="tell IT")),
    )
    submit(ready.workspace, envelope)
    ready.approve("carl")
    ready.approve("olga")
    assert ready.decide(days=29).released
    reasons = {reason.code: reason.text for reason in ready.decide(days=31).reasons}
    assert "recalibrate" in reasons["condition_overdue"]


def test_a_rejection_blocks_until_it_is_withdrawn(ready: World) -> None:
    seq = sign_off(ready.workspace, MODEL, "1", ready.key("vera"), Choice("reject", comments="leaks the label")).seq
    ready.approve_all()
    assert ready.codes() == ["rejected"]
    sign_off(ready.workspace, MODEL, "1", ready.key("vera"), Choice("withdraw", reference=reference(ready, seq)))
    assert ready.decide().released


def test_a_rejection_of_one_package_does_not_hold_for_the_next(ready: World) -> None:
    sign_off(ready.workspace, MODEL, "1", ready.key("vera"), Choice("reject", comments="no"))
    ready.package("1")
    assert ready.codes() == ALL_STAGES


def test_a_block_stops_a_version_even_after_all_approvals_until_withdrawn(approved: World) -> None:
    seq = sign_off(approved.workspace, MODEL, "1", approved.key("carl"), Choice("block", comments="complaint")).seq
    assert approved.codes() == ["blocked"]
    sign_off(
        approved.workspace, MODEL, "1", approved.key("carl"), Choice("withdraw", reference=reference(approved, seq))
    )
    assert approved.decide().released


def test_a_block_holds_for_packages_built_later(approved: World) -> None:
    sign_off(approved.workspace, MODEL, "1", approved.key("carl"), Choice("block", comments="complaint"))
    approved.package("1")
    assert "blocked" in approved.codes()


def test_a_block_holds_when_its_signers_key_is_revoked_later(approved: World) -> None:
    sign_off(approved.workspace, MODEL, "1", approved.key("carl"), Choice("block", comments="complaint"))
    revoke_key(approved.workspace, "person/carl", approved.key("carl").key_id, "left", approved.key("ada"))
    assert "blocked" in approved.codes()


def test_a_withdrawn_approval_counts_no_more(approved: World) -> None:
    seq = approved.decide().sign_off_seqs[1]
    sign_off(
        approved.workspace, MODEL, "1", approved.key("carl"), Choice("withdraw", reference=reference(approved, seq))
    )
    # olga signed after carl; with his signature gone nobody signed compliance, and hers came too early for the next one
    assert "stage_compliance" in approved.codes()
    approved.approve("carl")
    assert approved.codes() == ["stage_business"]


def test_nobody_withdraws_for_somebody_else(approved: World) -> None:
    """Neither with effect on the approval, nor by shadowing the signer's own withdrawal."""
    seq = approved.decide().sign_off_seqs[0]
    other = approved.sign("olga", "withdraw", reference=reference(approved, seq))
    approved.force(other)
    assert approved.decide().released
    sign_off(
        approved.workspace, MODEL, "1", approved.key("vera"), Choice("withdraw", reference=reference(approved, seq))
    )
    approved.force(approved.sign("olga", "withdraw", reference=reference(approved, seq)))
    assert "stage_validation" in approved.codes()


def test_a_withdrawn_approval_cannot_be_replayed(approved: World) -> None:
    seq = approved.decide().sign_off_seqs[2]
    old = approved.workspace.read().at(seq)
    assert old is not None
    sign_off(
        approved.workspace, MODEL, "1", approved.key("olga"), Choice("withdraw", reference=reference(approved, seq))
    )
    approved.write(old.record)
    assert "stage_business" in approved.codes()


def test_an_expired_approval_cannot_be_refreshed_by_a_replay(approved: World) -> None:
    seq = approved.decide().sign_off_seqs[2]
    old = approved.workspace.read().at(seq)
    assert old is not None
    later = 190 * 86_400 * 1_000_000
    workspace = Workspace.open(approved.folder / "project", clock_us=lambda: old.time_us + later)
    workspace.append(old.record, idem=idempotency_key("replay"))
    assert "stage_business" in approved.codes(days=190)


def test_a_revoked_key_takes_its_approval_with_it(approved: World) -> None:
    revoke_key(approved.workspace, "person/vera", approved.key("vera").key_id, "stolen", approved.key("vera"))
    codes = approved.codes()
    assert "key_revoked" in codes
    assert "stage_validation" in codes


def test_a_further_signature_on_an_earlier_stage_voids_no_later_one(approved: World) -> None:
    approved.enrol("val", "model_validator")
    approved.approve("val")
    assert approved.decide().released
    approved.approve("vera")
    assert approved.decide().released


def test_sign_offs_out_of_order_do_not_count(ready: World) -> None:
    ready.force(ready.sign("olga", stage="business"))
    ready.force(ready.sign("carl", stage="compliance"))
    ready.force(ready.sign("vera", stage="validation"))
    assert ready.codes() == ["stage_business", "stage_compliance"]


def test_the_builders_signature_does_not_count_even_in_another_role(ready: World) -> None:
    ready.force(ready.sign("ben", stage="validation"))
    codes = ready.codes()
    assert "separation_of_duties" in codes
    assert "stage_validation" in codes


def test_a_signature_in_a_role_not_held_does_not_count(ready: World) -> None:
    ready.force(ready.sign("olga", stage="validation", alter={"role": "model_validator"}))
    assert "role_missing" in ready.codes()


def test_one_person_does_not_count_for_two_stages(founded: World) -> None:
    founded.enrol("mia", "model_validator", "compliance_officer", "business_owner")
    founded.ready()
    for stage in ("validation", "compliance", "business"):
        founded.force(founded.sign("mia", stage=stage, alter=_role(founded, stage)))
    assert founded.codes() == ["stage_business", "stage_compliance"]


def _role(world: World, stage: str) -> dict[str, object]:
    return {"role": policy_in_force(world.workspace.read()).policy.stages[stage].role}


def test_an_altered_statement_does_not_count(ready: World) -> None:
    envelope = ready.sign("vera")
    payload = base64.b64decode(envelope.payload).replace(b'"comments":""', b'"comments":"x"')
    ready.force(envelope.model_copy(update={"payload": base64.b64encode(payload).decode()}))
    reasons = {reason.code: reason.text for reason in ready.decide().reasons}
    assert "does not verify" in reasons["sign_off_invalid"]


def test_an_entry_that_says_something_else_than_its_statement_does_not_count(ready: World) -> None:
    ready.force(ready.sign("vera", "reject", comments="no"), decision="approve")
    assert "sign_off_invalid" in ready.codes()
    assert "stage_validation" in ready.codes()


def test_a_statement_made_on_another_history_does_not_count(ready: World) -> None:
    ready.force(ready.sign("vera", alter={"checkpoint": Head(size=3, root="0" * 64)}))
    reasons = {reason.code: reason.text for reason in ready.decide().reasons}
    assert "another history" in reasons["sign_off_invalid"]


def test_a_min_strength_nobody_reached_keeps_the_stage_open(approved: World) -> None:
    policy = policy_in_force(approved.workspace.read()).policy.as_json()
    policy["stages"]["business"]["min_strength"] = "S4"
    adopt_policy(approved.workspace, parse_policy(policy), "passkeys", [approved.key("ada"), approved.key("finn")])
    assert approved.codes() == ["stage_business"]


def test_a_quorum_of_two_needs_two_people(approved: World) -> None:
    policy = policy_in_force(approved.workspace.read()).policy.as_json()
    policy["stages"]["business"]["quorum"] = 2
    adopt_policy(approved.workspace, parse_policy(policy), "four eyes", [approved.key("ada"), approved.key("finn")])
    approved.approve("olga")
    assert approved.codes() == ["stage_business"]
    approved.enrol("otto", "business_owner")
    approved.approve("otto")
    assert approved.decide().released


# --- what cannot be judged -------------------------------------------------------------------------------------------


def draft(world: World, kind: str, schema: int, subject: str, payload: bytes) -> Draft:
    writer = world.workspace.writer
    assert writer is not None
    value = json.loads(payload)
    return Draft(
        kind=kind,
        schema=schema,
        subjects=(subject,),
        actor="workload/pipeline",
        idem=idempotency_key("raw", kind, schema, subject, payload.hex()),
        payload=payload,
        facts_digest=hashlib.sha256(canonical_json(value["facts"])).hexdigest() if "facts" in value else "0" * 64,
        key_id=writer.key_id,
        sign=writer.sign,
    )


@pytest.mark.parametrize(("kind", "schema"), [("recall", 1), ("sign_off", 99), ("sign_off", 1)])
@pytest.mark.parametrize(
    "payload", [b'{"facts":{},"observed":{}}', b'{"facts":[]}', b'{"facts":{"a":1,"extra":"text"}}']
)
def test_what_this_release_cannot_read_about_the_version_blocks(
    approved: World, kind: str, schema: int, payload: bytes
) -> None:
    """A newer release may have written a veto in a form this one does not know."""
    approved.workspace.ledger.append(draft(approved, kind, schema, approved.subject("1"), payload))
    assert approved.codes() == ["unreadable_entry"]


@pytest.mark.parametrize(
    "subject", ["policy", "people", "dataset/loans_train", f"oversight/{MODEL}", "gates/credit_gates"]
)
def test_the_same_holds_for_everything_the_decision_relies_on(approved: World, subject: str) -> None:
    approved.workspace.ledger.append(draft(approved, "recall", 1, subject, b'{"facts":{}}'))
    assert approved.codes() == ["unreadable_entry"]


@pytest.mark.parametrize("subject", ["model/other@1", "person/vera"])
def test_what_is_about_something_else_does_not_block(approved: World, subject: str) -> None:
    """What changes a person's authority always has the subject `people` too."""
    approved.workspace.ledger.append(draft(approved, "recall", 1, subject, b'{"facts":{}}'))
    assert approved.decide().released


@pytest.mark.parametrize("erased", ["sign_off", "training_run", "evaluation", "gate_result", "model_registered"])
def test_an_erased_entry_that_may_have_said_no_blocks(approved: World, erased: str) -> None:
    sign_off(approved.workspace, MODEL, "1", approved.key("carl"), Choice("block", comments="complaint"))
    seq = [item.entry.seq for item in approved.workspace.read().view.entries if item.entry.kind == erased][-1]
    approved.erase(seq)
    assert "erased_entry" in approved.codes()


def test_an_erased_revocation_does_not_bring_the_key_back(approved: World) -> None:
    seq = revoke_key(approved.workspace, "person/vera", approved.key("vera").key_id, "stolen", approved.key("ada")).seq
    approved.erase(seq)
    assert "key_revoked" in approved.codes()


def test_an_erased_adoption_of_a_policy_blocks(approved: World) -> None:
    policy = policy_in_force(approved.workspace.read()).policy.as_json()
    policy["stages"]["business"]["quorum"] = 2
    keys = [approved.key("ada"), approved.key("finn")]
    approved.erase(adopt_policy(approved.workspace, parse_policy(policy), "four eyes", keys).seq)
    assert approved.codes() == ["policy_unreadable"]


def test_erasing_somebody_who_did_not_sign_blocks_nothing(approved: World) -> None:
    approved.enrol("una", "auditor")
    approved.erase(approved.workspace.ledger.size() - 1)
    assert approved.decide().released


def test_an_entry_no_workload_signed_is_not_taken_as_fact(approved: World) -> None:
    approved.workspace.writer = None
    approved.write(BundleExported(model=MODEL, version="1", package_digest="sha256:" + "0" * 64, relied_on=()))
    assert approved.codes() == ["unproven_writer"]


def test_an_entry_signed_by_an_unknown_workload_is_not_taken_as_fact(
    approved: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Permission, "require", lambda *_: None)  # somebody else's program asks nobody
    approved.workspace.writer = Writer("workload/rogue", b"\x07" * 32)
    approved.evaluate("1")
    assert "unproven_writer" in approved.codes()


def test_what_a_rogue_wrote_about_another_version_speaks_against_that_version_alone(
    approved: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It names the same thresholds and the same data; it says nothing about them."""
    monkeypatch.setattr(Permission, "require", lambda *_: None)
    honest = approved.workspace.writer
    approved.workspace.writer = Writer("workload/rogue", b"\x07" * 32)
    approved.train("2")
    approved.evaluate("2")
    approved.workspace.writer = honest
    assert approved.decide("1").released
    assert "unproven_writer" in approved.codes("2")


@pytest.mark.parametrize("record", ["gates", "data"])
def test_what_a_rogue_says_about_thresholds_or_data_speaks_against_every_version_that_rests_on_them(
    approved: World, monkeypatch: pytest.MonkeyPatch, record: str
) -> None:
    monkeypatch.setattr(Permission, "require", lambda *_: None)
    reading = approved.workspace.read()
    gates = reading.all(GateSetAdopted)[-1].record
    approved.workspace.writer = Writer("workload/rogue", b"\x07" * 32)
    if record == "gates":
        approved.write(gates.model_copy(update={"model": "other"}))
    else:
        approved.snapshot("loans_train", "cd" * 32)
    assert "unproven_writer" in approved.codes("1")


def test_a_workload_writes_only_the_kinds_it_was_enrolled_for(approved: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Permission, "require", lambda *_: None)
    writer = Writer("workload/monitor", b"\x08" * 32)
    monitor = Workload(workload=writer.workload, key=public_key(writer.public), kinds=("finding",))
    enrol_workload(approved.workspace, monitor, approved.key("ada"))
    assert approved.decide().released
    approved.workspace.writer = writer
    approved.evaluate("1")
    assert "unproven_writer" in approved.codes()


def test_a_revoked_workload_key_can_be_replaced_and_its_earlier_entries_stand(approved: World) -> None:
    old = approved.workspace.writer
    assert old is not None
    revoke_key(approved.workspace, old.workload, old.key_id, "leaked", approved.key("ada"))
    assert approved.decide().released
    new = Writer(old.workload, b"\x09" * 32)
    workload = Workload(workload=new.workload, key=public_key(new.public), kinds=tuple(sorted(kinds())))
    enrol_workload(approved.workspace, workload, approved.key("ada"))
    approved.workspace.writer = new
    approved.train("2")
    approved.evaluate("2")
    approved.package("2")
    assert approved.codes("2") == ALL_STAGES
    approved.workspace.writer = old
    approved.evaluate("1")
    assert "unproven_writer" in approved.codes("1")


# --- purity and replay -----------------------------------------------------------------------------------------------


def test_the_decision_is_pure(approved: World) -> None:
    now = datetime.now(timezone.utc)
    reading = approved.workspace.read()
    first = decide(reading, MODEL, "1", "production", now)
    assert decide(reading, MODEL, "1", "production", now) == first
    assert decide(approved.workspace.read(), MODEL, "1", "production", now) == first


def test_a_release_replays_from_the_size_and_time_that_its_entry_names(approved: World) -> None:
    grant = request_release(approved.workspace, MODEL, "1", "production", "run-1", "person/ben")
    complete(approved.workspace, grant, location="/srv/model", detail={})
    approved.package("1")  # later entries change nothing
    found = approved.workspace.read().latest(ReleaseGranted, approved.subject("1"))
    assert found is not None
    record = found.record
    assert record.decided_on_size == found.seq
    replayed = decide(
        approved.workspace.read(size=record.decided_on_size),
        MODEL,
        record.version,
        record.target,
        parse_utc(record.decided_at),
    )
    assert replayed.released
    assert replayed.round == record.round
    assert replayed.sign_off_seqs == record.sign_off_seqs
    assert replayed.policy_digest == record.policy_digest
    assert set(record.relied_on) <= set(found.entry.entry.subjects)


def test_a_release_names_everything_it_relied_on_as_a_subject(approved: World) -> None:
    grant = request_release(approved.workspace, MODEL, "1", "production", "run-1", "person/ben")
    subjects = set(approved.workspace.read().view.entries[grant.seq].entry.subjects)
    assert {
        "model/credit_default",
        "model/credit_default@1",
        "release/credit_default.production",
        "policy",
        "people",
        "ledger",
        "dataset/loans_train",
        "dataset/loans_holdout",
        "gates/credit_gates",
        "person/vera",
        "person/carl",
        "person/olga",
    } <= subjects


def test_approvals_release_to_a_target_once(approved: World) -> None:
    grant = request_release(approved.workspace, MODEL, "1", "production", "run-1", "person/ben")
    complete(approved.workspace, grant, location="/srv/model", detail={})
    assert approved.codes() == ["already_released"]
