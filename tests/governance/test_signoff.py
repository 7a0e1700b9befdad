"""Sign-off: what `submit` refuses, that every refusal is kept, and that concurrent signers both land."""

from __future__ import annotations

import base64
import multiprocessing
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cognify_dagster.governance import (
    Choice,
    Condition,
    EntryRef,
    GovernanceError,
    SignatureError,
    SignOffDenied,
    create_key,
    policy_in_force,
    propose,
    read_sign_off,
    revoke_key,
    sign_off,
    submit,
)
from cognify_dagster.governance.signing.statements import Head, PackageRef
from cognify_dagster.ledger import Outcome
from cognify_dagster.records import Envelope, SignOff, SignOffRefused, utc
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL, PASSPHRASE, World


def refused(world: World, envelope: Envelope) -> str:
    """Submit a statement that must be refused; return the reasons, after checking that the ledger keeps them."""
    before = world.workspace.ledger.size()
    with pytest.raises(SignOffDenied) as caught:
        submit(world.workspace, envelope)
    reading = world.workspace.read()
    assert reading.size == before + 1
    kept = reading.at(before)
    assert kept is not None
    assert isinstance(kept.record, SignOffRefused)
    assert list(kept.record.reasons) == caught.value.reasons
    return str(caught.value)


def test_the_statement_names_all_that_the_signer_saw(ready: World) -> None:
    reading = ready.workspace.read()
    vera = ready.key("vera")
    predicate = read_sign_off(propose(reading, MODEL, "1", vera.person, vera.key_id, Choice("approve")))
    package = ready.decide().package
    assert package is not None
    assert predicate.ledger == "test.example/credit"
    assert predicate.package == PackageRef(
        digest=package.record.package.digest, entry_seq=package.seq, entry_leaf=package.leaf
    )
    assert predicate.checkpoint == Head(size=reading.size, root=reading.view.root.hex())
    assert predicate.viewed.media_type == "application/pdf"
    assert (predicate.stage, predicate.role, predicate.target_environments) == (
        "validation",
        "model_validator",
        ("production",),
    )


def test_a_signed_approval_becomes_an_entry_about_version_and_person(ready: World) -> None:
    seq = ready.approve("vera")
    entry = ready.workspace.read().view.entries[seq].entry
    assert entry.kind == "sign_off"
    assert entry.actor == "person/vera"
    assert {"model/credit_default@1", "person/vera"} <= set(entry.subjects)


def test_the_builder_is_refused_also_in_a_second_role(ready: World) -> None:
    assert "had a hand in this version" in refused(ready, ready.sign("ben"))  # ben is a validator as well


def test_a_person_without_the_stages_role_is_refused(ready: World) -> None:
    text = refused(ready, ready.sign("olga", stage="validation"))
    assert "signed by a model_validator, not by a business_owner" in text


def test_claiming_a_role_not_held_is_refused(ready: World) -> None:
    text = refused(ready, ready.sign("olga", stage="validation", alter={"role": "model_validator"}))
    assert "does not hold the role model_validator" in text


def test_a_stage_out_of_order_is_refused(ready: World) -> None:
    assert "'validation' comes first" in refused(ready, ready.sign("carl"))


def test_signing_is_refused_while_a_gate_fails(founded: World) -> None:
    founded.train("1")
    founded.evaluate("1", failing=("fairness",))
    founded.package("1")
    assert "'automated' comes first" in refused(founded, founded.sign("vera"))


def test_the_same_person_is_refused_at_a_second_stage(founded: World) -> None:
    founded.enrol("mia", "model_validator", "compliance_officer")
    founded.ready()
    founded.approve("mia", stage="validation")
    assert "stages need different people" in refused(founded, founded.sign("mia", stage="compliance"))


def test_nor_at_an_earlier_stage_which_would_void_their_own_later_signature(founded: World) -> None:
    founded.enrol("mia", "model_validator", "compliance_officer")
    founded.ready()
    founded.approve("vera")
    founded.approve("mia", stage="compliance")
    assert "stages need different people" in refused(founded, founded.sign("mia", stage="validation"))


def test_a_stage_the_tier_does_not_have_is_refused(founded: World) -> None:
    founded.tier = "medium"
    founded.ready()
    assert "no sign-off stage 'validation'" in refused(founded, founded.sign("vera", stage="validation"))


def test_a_statement_for_another_workspace_is_worthless_here(ready: World) -> None:
    before = ready.workspace.ledger.size()
    with pytest.raises(SignatureError, match=r"is for workspace 'other\.example/x'"):
        submit(ready.workspace, ready.sign("vera", alter={"ledger": "other.example/x"}))
    assert ready.workspace.ledger.size() == before


def test_a_statement_about_an_older_package_is_refused(ready: World) -> None:
    envelope = ready.sign("vera")
    ready.package("1")
    assert "another package than the current one" in refused(ready, envelope)


def test_a_statement_for_a_version_without_a_package_is_refused(ready: World) -> None:
    assert "has no package" in refused(ready, ready.sign("vera", alter={"version": "2"}))


def test_a_statement_naming_other_model_bytes_is_refused(ready: World) -> None:
    assert "other model bytes" in refused(ready, ready.sign("vera", alter={"model_digest": "sha256:" + "0" * 64}))


def test_an_altered_statement_is_refused(ready: World) -> None:
    envelope = ready.sign("vera", "reject", comments="no")
    payload = base64.b64decode(envelope.payload).replace(b'"decision":"reject"', b'"decision":"approve"')
    altered = envelope.model_copy(update={"payload": base64.b64encode(payload).decode()})
    assert "does not verify" in refused(ready, altered)


def test_another_payload_type_is_refused_even_over_the_same_bytes(ready: World) -> None:
    envelope = ready.sign("vera").model_copy(update={"payloadType": "text/plain"})
    assert "payload type" in refused(ready, envelope)


def test_a_second_signature_in_the_envelope_is_refused(ready: World) -> None:
    envelope = ready.sign("vera")
    assert "exactly one signature" in refused(
        ready, envelope.model_copy(update={"signatures": envelope.signatures * 2})
    )


def test_a_key_nobody_enrolled_is_refused(ready: World, tmp_path: Path) -> None:
    stray = create_key(tmp_path / "stray.json", "person/vera", PASSPHRASE)
    assert "no valid key" in refused(ready, ready.sign("vera", key=stray, alter={"key_id": stray.key_id}))


def test_a_key_nobody_enrolled_under_an_enrolled_id_is_refused(ready: World, tmp_path: Path) -> None:
    stray = create_key(tmp_path / "stray.json", "person/vera", PASSPHRASE)
    assert "does not verify" in refused(ready, ready.sign("vera", key=stray))


def test_somebody_elses_key_is_refused(ready: World) -> None:
    olga = ready.key("olga")
    assert "no valid key" in refused(ready, ready.sign("vera", key=olga, alter={"key_id": olga.key_id}))


def test_a_revoked_key_is_refused(ready: World) -> None:
    envelope = ready.sign("vera")
    revoke_key(ready.workspace, "person/vera", ready.key("vera").key_id, "lost", ready.key("ada"))
    assert "no valid key" in refused(ready, envelope)


def test_a_statement_naming_another_policy_is_refused(ready: World) -> None:
    assert "another policy" in refused(ready, ready.sign("vera", alter={"policy_digest": "sha256:" + "0" * 64}))


@pytest.mark.parametrize(
    "head", [Head(size=0, root="0" * 64), Head(size=5, root="0" * 64), Head(size=9999, root="0" * 64)]
)
def test_a_statement_made_on_another_history_is_refused(ready: World, head: Head) -> None:
    assert "another history" in refused(ready, ready.sign("vera", alter={"checkpoint": head}))


@pytest.mark.parametrize(("days", "ok"), [(-13, True), (-15, False), (1, False)])
def test_a_statement_too_old_or_from_the_future_is_refused(ready: World, days: int, ok: bool) -> None:
    signed_at = utc(datetime.now(timezone.utc) + timedelta(days=days))
    envelope = ready.sign("vera", alter={"signed_at": signed_at})
    if ok:
        submit(ready.workspace, envelope)
    else:
        assert "check the clock" in refused(ready, envelope)


def test_the_meaning_is_that_of_the_policy(ready: World) -> None:
    assert "meaning" in refused(ready, ready.sign("vera", alter={"meaning": "Whatever."}))


def test_an_approval_with_conditions_names_them(ready: World) -> None:
    assert "at least one condition" in refused(ready, ready.sign("vera", "approve_with_conditions"))
    submit(ready.workspace, ready.sign("vera", "approve_with_conditions", conditions=(Condition(text="recalibrate"),)))
    assert "stage_validation" not in ready.codes()


def test_an_approval_names_a_target(ready: World) -> None:
    assert "target environment" in refused(ready, ready.sign("vera", alter={"target_environments": ()}))


def test_an_approval_that_has_expired_already_is_refused(ready: World) -> None:
    assert "expired already" in refused(ready, ready.sign("vera", expires="2020-01-01T00:00:00Z"))


def test_only_blockers_block(ready: World) -> None:
    assert "may not block" in refused(ready, ready.sign("olga", "block"))
    assert "does not hold" in refused(ready, ready.sign("olga", "block", alter={"role": "compliance_officer"}))


@pytest.mark.parametrize("reference", ["none", "somebody else's", "other leaf", "beyond the ledger", "other kind"])
def test_a_withdrawal_names_an_own_earlier_sign_off(ready: World, reference: str) -> None:
    seq = ready.approve("vera")
    found = ready.workspace.read().at(seq)
    first = ready.workspace.read().at(0)
    assert found is not None
    assert first is not None
    ref = {
        "none": None,
        "somebody else's": EntryRef(entry_seq=seq, entry_leaf=found.leaf),
        "other leaf": EntryRef(entry_seq=seq, entry_leaf="0" * 64),
        "beyond the ledger": EntryRef(entry_seq=10_000, entry_leaf=found.leaf),
        "other kind": EntryRef(entry_seq=0, entry_leaf=first.leaf),
    }[reference]
    who = "carl" if reference == "somebody else's" else "vera"
    assert "a withdrawal names" in refused(ready, ready.sign(who, "withdraw", reference=ref))


def test_a_replayed_envelope_returns_the_old_receipt(ready: World) -> None:
    envelope = ready.sign("vera")
    first = submit(ready.workspace, envelope)
    ready.approve("carl")
    again = submit(ready.workspace, envelope)
    assert again.duplicate
    assert (again.seq, again.leaf) == (first.seq, first.leaf)
    assert len(ready.workspace.read().all(SignOff)) == 2


def test_an_entry_that_only_claims_a_statements_digest_opens_no_way_past_the_checks(ready: World) -> None:
    envelope = ready.sign("ben")
    ready.force(envelope)
    assert "had a hand" in refused(ready, envelope)


def test_nobody_unknown_can_propose(ready: World, tmp_path: Path) -> None:
    key = create_key(tmp_path / "eve.json", "person/eve", PASSPHRASE)
    with pytest.raises(GovernanceError, match="not enrolled"):
        sign_off(ready.workspace, MODEL, "1", key, Choice("approve"))


def test_without_a_package_there_is_nothing_to_sign(founded: World) -> None:
    founded.train("1")
    with pytest.raises(GovernanceError, match="nothing to sign"):
        founded.approve("vera")


@pytest.mark.parametrize(
    "junk", [b"", b"{}", b"not json", b'{"_type":1,"predicate":{},"predicateType":"","subject":[]}']
)
def test_an_envelope_without_a_statement_is_a_signature_error(ready: World, junk: bytes) -> None:
    envelope = ready.sign("vera").model_copy(update={"payload": base64.b64encode(junk).decode()})
    with pytest.raises(SignatureError):
        submit(ready.workspace, envelope)
    with pytest.raises(SignatureError, match="base64"):
        submit(ready.workspace, envelope.model_copy(update={"payload": "!!"}))


def test_a_statement_whose_subjects_differ_from_its_predicate_is_refused(ready: World) -> None:
    statement = base64.b64decode(ready.sign("vera").payload)
    moved = statement.replace(b'"name":"model/credit_default@1/package"', b'"name":"model/credit_default@2/package"')
    with pytest.raises(SignatureError, match="subjects"):
        read_sign_off(moved)


def _sign_in_process(project: str, envelope: Envelope) -> None:
    submit(Workspace.open(project), envelope)


@pytest.mark.parametrize("kind", ["threads", "processes"])
def test_two_people_signing_at_once_both_land_and_the_chain_verifies(founded: World, kind: str) -> None:
    names = ["val1", "val2", "val3"]
    for name in names:
        founded.enrol(name, "model_validator")
    founded.ready()
    envelopes = [founded.sign(name) for name in names]
    project = str(founded.folder / "project")
    context = multiprocessing.get_context("spawn")
    workers = [
        threading.Thread(target=_sign_in_process, args=(project, envelope))
        if kind == "threads"
        else context.Process(target=_sign_in_process, args=(project, envelope))
        for envelope in envelopes
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(60)
    reading = founded.workspace.read()
    assert {item.record.person for item in reading.all(SignOff)} == {f"person/{name}" for name in names}
    report = founded.workspace.ledger.verify(founded.workspace.trust())
    assert report.outcome is Outcome.HOLDS
    assert report.uncovered == 0


def test_policy_text_reaches_the_statement(ready: World) -> None:
    policy = policy_in_force(ready.workspace.read()).policy
    predicate = read_sign_off(base64.b64decode(ready.sign("vera").payload))
    assert predicate.meaning == policy.stages["validation"].meaning
    assert predicate.policy_digest == policy.digest
