"""People and keys: who counts, since when, and what a forged or replayed entry does (nothing)."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognify_dagster.governance import (
    GovernanceError,
    adopt_gate_set,
    create_key,
    directory,
    enrol_person,
    enrol_workload,
    public_key,
    revoke_key,
)
from cognify_dagster.governance.statements import act_content_digest, sign_act
from cognify_dagster.records import (
    Envelope,
    EnvelopeSignature,
    GateRule,
    KeyRevoked,
    Person,
    PersonEnrolled,
    PublicKey,
    Workload,
    WorkloadEnrolled,
)
from cognify_dagster.workspace import Writer
from tests.governance.world import MODEL, PASSPHRASE, World

NO_SIGNATURE = Envelope(
    payload="e30=", payloadType="application/vnd.in-toto+json", signatures=(EnvelopeSignature(keyid="", sig=""),)
)


def roles(world: World, name: str) -> tuple[str, ...]:
    reading = world.workspace.read()
    person = directory(reading).person_at(f"person/{name}", reading.size)
    return person.roles if person else ()


def person(world: World, name: str, *held: str) -> Person:
    return Person(person=f"person/{name}", name=name.title(), roles=held, keys=(world.key(name).public,))


def last_record(world: World) -> PersonEnrolled:
    found = world.workspace.read().all(PersonEnrolled)
    return found[-1].record


# --- enrolment -------------------------------------------------------------------------------------------------------


def test_an_admin_enrols_a_person(founded: World) -> None:
    founded.enrol("una", "auditor")
    assert roles(founded, "una") == ("auditor",)


def test_nobody_vouches_for_themselves(founded: World) -> None:
    with pytest.raises(GovernanceError, match="vouch for themselves"):
        founded.enrol("ada", "workspace_admin", "compliance_officer", voucher="ada")


def test_only_an_admin_vouches(founded: World) -> None:
    with pytest.raises(GovernanceError, match="workspace_admin is needed"):
        founded.enrol("una", "auditor", voucher="vera")


def test_a_stranger_does_not_vouch(founded: World) -> None:
    founded.key("eve")
    with pytest.raises(GovernanceError, match="not enrolled"):
        founded.enrol("una", "auditor", voucher="eve")


def test_a_role_the_policy_does_not_have_is_refused(founded: World) -> None:
    with pytest.raises(GovernanceError, match="'wizard' is not in the policy"):
        founded.enrol("una", "wizard")


def test_somebody_elses_key_is_refused(founded: World) -> None:
    una = Person(person="person/una", name="Una", roles=("auditor",), keys=(founded.key("vera").public,))
    with pytest.raises(GovernanceError, match="belongs to Vera already"):
        enrol_person(founded.workspace, una, founded.key("ada"))


def test_a_key_id_that_is_not_that_of_the_key_is_refused(founded: World) -> None:
    """Under another id the same key could be enrolled for a second person."""
    vera = founded.key("vera").public
    una = Person(
        person="person/una",
        name="Una",
        roles=("compliance_officer",),
        keys=(PublicKey(key_id="0" * 16, public=vera.public),),
    )
    with pytest.raises(GovernanceError, match="the id is not that of the key"):
        enrol_person(founded.workspace, una, founded.key("ada"))


def test_a_revoked_admin_key_vouches_no_more(founded: World) -> None:
    revoke_key(founded.workspace, "person/ada", founded.key("ada").key_id, "lost", founded.key("finn"))
    with pytest.raises(GovernanceError, match="not valid here"):
        founded.enrol("una", "auditor")


def test_a_changed_role_holds_from_its_entry_on_and_not_before(founded: World) -> None:
    founded.enrol("carl", "auditor")
    reading = founded.workspace.read()
    before = directory(reading).person_at("person/carl", reading.size - 1)
    assert before is not None
    assert before.roles == ("compliance_officer",)
    assert roles(founded, "carl") == ("auditor",)


def test_aliases_map_to_people_whatever_their_case(founded: World) -> None:
    found, unknown = directory(founded.workspace.read()).resolve(["GIT:Ben@bank.example", "user:ben", "user:eve"])
    assert found == ["person/ben"]
    assert unknown == ["user:eve"]


# --- forged entries, written past every check ------------------------------------------------------------------------


def test_a_forged_enrolment_has_no_effect_and_is_reported(founded: World) -> None:
    eve = person(founded, "eve", "workspace_admin")
    seq = founded.write(PersonEnrolled(person=eve, vouched_by="person/ada", envelope=NO_SIGNATURE))
    people = directory(founded.workspace.read())
    assert people.person_at("person/eve", seq + 1) is None
    assert [found for found, _ in people.problems] == [seq]


def test_a_genuine_signature_does_not_carry_over_to_another_person(founded: World) -> None:
    founded.enrol("una", "auditor")
    envelope = last_record(founded).envelope
    founded.write(
        PersonEnrolled(person=person(founded, "eve", "workspace_admin"), vouched_by="person/ada", envelope=envelope)
    )
    assert roles(founded, "eve") == ()


@pytest.mark.parametrize("change", ["self", "not admin", "key of another", "wrong key id", "other voucher named"])
def test_a_signed_enrolment_that_breaks_a_rule_has_no_effect(founded: World, change: str) -> None:
    """The rules hold when reading, too: somebody may have appended without asking `enrol_person`."""
    eve = person(founded, "eve", "compliance_officer")
    signer = founded.key("vera" if change == "not admin" else "ada")
    if change == "self":
        eve = person(founded, "ada", "compliance_officer", "workspace_admin")
    elif change == "key of another":
        eve = eve.model_copy(update={"keys": (founded.key("vera").public,)})
    elif change == "wrong key id":
        eve = eve.model_copy(update={"keys": (PublicKey(key_id="0" * 16, public=founded.key("vera").public.public),)})
    voucher = "person/finn" if change == "other voucher named" else signer.person
    record = PersonEnrolled(person=eve, vouched_by=voucher, envelope=NO_SIGNATURE)
    reading = founded.workspace.read()
    envelope = sign_act(
        record, signer, ledger=reading.origin, role="workspace_admin", meaning="…", head=reading.view.checkpoint()
    )
    seq = founded.write(record.model_copy(update={"envelope": envelope}))
    people = directory(founded.workspace.read())
    assert [found for found, _ in people.problems] == [seq]
    assert people.name("person/eve") == "person/eve"
    assert roles(founded, "ada") == ("workspace_admin",)


def test_a_signature_made_for_another_ledger_has_no_effect(founded: World) -> None:
    record = PersonEnrolled(person=person(founded, "eve", "auditor"), vouched_by="person/ada", envelope=NO_SIGNATURE)
    head = founded.workspace.read().view.checkpoint()
    envelope = sign_act(
        record, founded.key("ada"), ledger="other.example/x", role="workspace_admin", meaning="…", head=head
    )
    founded.write(record.model_copy(update={"envelope": envelope}))
    assert roles(founded, "eve") == ()


def test_an_old_enrolment_cannot_be_replayed_to_bring_roles_back(founded: World) -> None:
    founded.enrol("una", "compliance_officer")
    old = last_record(founded)
    founded.enrol("una", "auditor")
    founded.write(old)
    assert roles(founded, "una") == ("auditor",)


# --- revocation ------------------------------------------------------------------------------------------------------


def test_a_revoked_key_is_valid_before_and_not_after(founded: World) -> None:
    key = founded.key("vera")
    seq = revoke_key(founded.workspace, "person/vera", key.key_id, "stolen", founded.key("vera")).seq
    people = directory(founded.workspace.read())
    assert people.key_at("person/vera", key.key_id, seq - 1) is not None
    assert people.key_at("person/vera", key.key_id, seq) is None
    with pytest.raises(GovernanceError, match="no valid key"):
        revoke_key(founded.workspace, "person/vera", key.key_id, "again", founded.key("ada"))


def test_a_key_is_not_valid_before_it_was_enrolled(founded: World) -> None:
    founded.enrol("una", "auditor")
    seq = founded.workspace.ledger.size() - 1
    key = founded.key("una").key_id
    people = directory(founded.workspace.read())
    valid = [people.key_at("person/una", key, at) is not None for at in (0, seq - 1, seq, seq + 1)]
    assert valid == [False, False, False, True]


def test_a_revoked_key_does_not_come_back_but_a_new_one_may(founded: World, tmp_path: Path) -> None:
    old = founded.key("vera")
    revoke_key(founded.workspace, "person/vera", old.key_id, "stolen", founded.key("ada"))
    founded.enrol("vera", "model_validator")
    reading = founded.workspace.read()
    assert directory(reading).key_at("person/vera", old.key_id, reading.size) is None
    founded.keys["vera"] = create_key(tmp_path / "vera2.json", "person/vera", PASSPHRASE)
    founded.enrol("vera", "model_validator")
    reading = founded.workspace.read()
    assert directory(reading).key_at("person/vera", founded.key("vera").key_id, reading.size) is not None


def test_nobody_but_holder_and_admin_revokes(founded: World) -> None:
    with pytest.raises(GovernanceError, match="may not revoke"):
        revoke_key(founded.workspace, "person/carl", founded.key("carl").key_id, "spite", founded.key("vera"))


def test_a_forged_revocation_has_no_effect(founded: World) -> None:
    key = founded.key("carl").key_id
    founded.write(
        KeyRevoked(holder="person/carl", key_id=key, reason="x", revoked_by="person/ada", envelope=NO_SIGNATURE)
    )
    reading = founded.workspace.read()
    assert directory(reading).key_at("person/carl", key, reading.size) is not None


# --- workloads -------------------------------------------------------------------------------------------------------


def test_an_admin_enrols_a_workload_and_nobody_else(founded: World) -> None:
    writer = Writer("workload/monitor", b"\x01" * 32)
    workload = Workload(workload=writer.workload, key=public_key(writer.public), kinds=("finding",))
    with pytest.raises(GovernanceError, match="workspace_admin is needed"):
        enrol_workload(founded.workspace, workload, founded.key("vera"))
    enrol_workload(founded.workspace, workload, founded.key("ada"))
    people = directory(founded.workspace.read())
    assert [item.workload for _, item in people.workloads] == ["workload/pipeline", "workload/monitor"]


def test_a_workload_does_not_get_a_persons_key(founded: World) -> None:
    """Nor the other way round: machines never sign off."""
    workload = Workload(workload="workload/x", key=founded.key("vera").public, kinds=("finding",))
    with pytest.raises(GovernanceError, match="belongs to person/vera"):
        enrol_workload(founded.workspace, workload, founded.key("ada"))
    founded.write(WorkloadEnrolled(workload=workload, enrolled_by="person/ada", envelope=NO_SIGNATURE))
    assert len(directory(founded.workspace.read()).workloads) == 1
    writer = founded.workspace.writer
    assert writer is not None
    machine = Person(person="person/bot", name="Bot", roles=("auditor",), keys=(public_key(writer.public),))
    enrol_person(founded.workspace, machine, founded.key("ada"))
    assert roles(founded, "bot") == ()


# --- gate sets -------------------------------------------------------------------------------------------------------


def test_thresholds_are_adopted_by_those_the_policy_names(founded: World) -> None:
    gates = [GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=0.7, source="policy")]
    with pytest.raises(GovernanceError, match="may not adopt gate sets"):
        adopt_gate_set(founded.workspace, "g", MODEL, gates, founded.key("olga"))
    assert adopt_gate_set(founded.workspace, "g", MODEL, gates, founded.key("vera")).seq > 0


def test_what_a_person_signs_covers_every_fact_but_the_signatures() -> None:
    facts = {"a": 1, "envelope": {"x": 1}, "envelopes": []}
    assert act_content_digest(facts) == act_content_digest({"a": 1})
    assert act_content_digest(facts) != act_content_digest({"a": 2})
