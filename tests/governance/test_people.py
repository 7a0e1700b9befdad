"""People and keys: who counts, since when, and what a forged or replayed entry does (nothing)."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from cognify_dagster.governance import (
    GovernanceError,
    PersonalKey,
    adopt_gate_set,
    adopt_policy,
    create_key,
    directory,
    enrol_person,
    enrol_workload,
    parse_policy,
    policy_in_force,
    propose_act,
    public_key,
    recertification,
    recertify,
    revoke_key,
    rotate_key,
    seal,
)
from cognify_dagster.governance.signing.statements import act_content_digest, sign_act
from cognify_dagster.ledger import canonical_json
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


def enrolment_of(world: World, name: str, *held: str) -> PersonEnrolled:
    return PersonEnrolled(
        person=person(world, name, *(held or ("auditor",))),
        vouched_by="person/ada",
        witnesses=("person/finn",),
        envelope=NO_SIGNATURE,
    )


def signed(world: World, record: PersonEnrolled, *names: str, ledger: str = "") -> PersonEnrolled:
    """Sign an enrolment as these people, past every check."""
    reading = world.workspace.read()
    envelopes = tuple(
        sign_act(
            record,
            world.key(name),
            ledger=ledger or reading.origin,
            role="workspace_admin",
            meaning="…",
            head=reading.view.checkpoint(),
        )
        for name in names
    )
    return record.model_copy(update={"envelope": envelopes[0], "envelopes": envelopes[1:]})


def last_record(world: World) -> PersonEnrolled:
    found = world.workspace.read().all(PersonEnrolled)
    return found[-1].record


# --- enrolment -------------------------------------------------------------------------------------------------------


def test_an_admin_enrols_a_person(founded: World) -> None:
    founded.enrol("una", "auditor")
    assert roles(founded, "una") == ("auditor",)


def test_nobody_vouches_for_themselves(founded: World) -> None:
    with pytest.raises(GovernanceError, match="vouch for themselves"):
        founded.enrol("ada", "workspace_admin", "compliance_officer", vouchers=("ada", "finn"))


def test_two_signatures_of_one_person_are_one(founded: World) -> None:
    with pytest.raises(GovernanceError, match="named twice"):
        founded.enrol("una", "auditor", vouchers=("ada", "ada"))


def test_only_an_admin_vouches(founded: World) -> None:
    with pytest.raises(GovernanceError, match="workspace_admin is needed"):
        founded.enrol("una", "auditor", vouchers=("vera", "carl"))


def test_a_stranger_does_not_vouch(founded: World) -> None:
    founded.key("eve")
    with pytest.raises(GovernanceError, match="not enrolled"):
        founded.enrol("una", "auditor", vouchers=("eve", "ada"))


def test_a_role_the_policy_does_not_have_is_refused(founded: World) -> None:
    with pytest.raises(GovernanceError, match="'wizard' is not in the policy"):
        founded.enrol("una", "wizard")


def test_somebody_elses_key_is_refused(founded: World) -> None:
    una = Person(person="person/una", name="Una", roles=("auditor",), keys=(founded.key("vera").public,))
    with pytest.raises(GovernanceError, match="belongs to person/vera"):
        enrol_person(founded.workspace, una, founded.key("ada"), founded.key("finn"))


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
        enrol_person(founded.workspace, una, founded.key("ada"), founded.key("finn"))


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


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ("none", ""),
        ("self", "cannot vouch for themselves"),
        ("not admin", "the role workspace_admin is needed"),
        ("alone", "1 of 2 people vouched"),
        ("twice", "signed twice"),
        ("no role", "hold no role that counts"),
        ("a stranger", "no valid key"),
        ("a machine", "no valid key"),
        ("key of another", "belongs to person/vera"),
        ("wrong key id", "the id is not that of the key"),
        ("key twice", "is listed twice"),
        ("alias of another", "belongs to person/ben"),
        ("other voucher named", "not those who signed"),
        ("a witness more named", "not those who signed"),
    ],
)
def test_a_signed_enrolment_that_breaks_a_rule_has_no_effect(founded: World, change: str, problem: str) -> None:
    """The rules hold when reading, too: somebody may have appended without asking `enrol_person`."""
    eve, founders = person(founded, "eve", "compliance_officer"), ("ada", "finn")
    signers = {"not admin": ("vera", "carl"), "alone": ("ada",), "twice": ("ada", "ada")}
    signers |= {"no role": ("ada", "walt"), "a stranger": ("ada", "stranger"), "a machine": ("ada", "machine")}
    named = [f"person/{name}" for name in signers.get(change, founders)]
    if change == "no role":
        founded.enrol("walt")
    if change == "self":
        eve = person(founded, "ada", "compliance_officer", "workspace_admin")
    elif change == "key of another":
        eve = eve.model_copy(update={"keys": (founded.key("vera").public,)})
    elif change == "wrong key id":
        eve = eve.model_copy(update={"keys": (PublicKey(key_id="0" * 16, public=founded.key("vera").public.public),)})
    elif change == "key twice":
        eve = eve.model_copy(update={"keys": eve.keys * 2})
    elif change == "alias of another":
        eve = eve.model_copy(update={"aliases": ("USER:ben",)})
    elif change == "other voucher named":
        named[0] = "person/carl"
    elif change == "a witness more named":
        named.append("person/carl")
    elif change == "twice":
        named = ["person/ada"]
    elif change == "a machine":
        writer = founded.workspace.writer
        assert writer is not None
        founded.keys["machine"] = PersonalKey("workload/pipeline", writer._private)
        named[1] = "person/finn"
    record = PersonEnrolled(person=eve, vouched_by=named[0], witnesses=tuple(named[1:]), envelope=NO_SIGNATURE)
    seq = founded.write(signed(founded, record, *signers.get(change, founders)))
    people = directory(founded.workspace.read())
    if not problem:
        assert roles(founded, "eve") == ("compliance_officer",)
        return
    assert [found for found, _ in people.problems] == [seq]
    assert problem in people.problems[0][1]
    assert people.name("person/eve") == "person/eve"
    assert roles(founded, "ada") == ("workspace_admin",)


def test_a_signature_made_for_another_ledger_has_no_effect(founded: World) -> None:
    founded.write(signed(founded, enrolment_of(founded, "eve"), "ada", "finn", ledger="other.example/x"))
    assert roles(founded, "eve") == ()
    assert "another ledger" in directory(founded.workspace.read()).problems[0][1]


@pytest.mark.parametrize("checkpoint", [None, {}, {"size": "1"}, {"size": True}, {"size": -1}, {"size": 10**6}])
def test_a_statement_that_does_not_say_what_its_signer_saw_has_no_effect(founded: World, checkpoint: object) -> None:
    record = signed(founded, enrolment_of(founded, "eve"), "ada", "finn")
    statement = json.loads(base64.b64decode(record.envelopes[0].payload))
    statement["predicate"]["checkpoint"] = checkpoint
    finn = founded.key("finn")
    bent = seal(canonical_json(statement), finn.key_id, finn.sign)
    founded.write(record.model_copy(update={"envelopes": (bent,)}))
    assert roles(founded, "eve") == ()
    assert "which entries its signer saw" in directory(founded.workspace.read()).problems[0][1]


def test_an_old_enrolment_cannot_be_replayed_to_bring_roles_back(founded: World) -> None:
    founded.enrol("una", "compliance_officer")
    old = last_record(founded)
    founded.enrol("una", "auditor")
    founded.write(old)
    assert roles(founded, "una") == ("auditor",)


def test_an_old_enrolment_that_was_never_submitted_brings_nothing_back(founded: World) -> None:
    """Who signs a change has seen the state that it changes."""
    founded.enrol("una", "auditor")
    kept = signed(founded, enrolment_of(founded, "una", "compliance_officer"), "ada", "finn")
    founded.enrol("una", "business_owner")
    seq = founded.write(kept)
    assert roles(founded, "una") == ("business_owner",)
    assert directory(founded.workspace.read()).problems[-1][0] == seq


def test_entries_in_another_order_have_only_the_effect_they_have_in_that_order(founded: World) -> None:
    """A witness who is enrolled later does not vouch now, nor with the key they get later."""
    record = PersonEnrolled(
        person=person(founded, "una", "auditor"),
        vouched_by="person/ada",
        witnesses=("person/nora",),
        envelope=NO_SIGNATURE,
    )
    founded.write(signed(founded, record, "ada", "nora"))
    founded.enrol("nora", "auditor")
    assert roles(founded, "una") == ()
    founded.write(signed(founded, record, "ada", "nora"))
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
    with pytest.raises(GovernanceError, match="belongs to workload/pipeline"):
        enrol_person(founded.workspace, machine, founded.key("ada"), founded.key("finn"))
    assert roles(founded, "bot") == ()


# --- what one admin may do alone, and what takes two ------------------------------------------------------------------


def change(world: World, who: str, *signers: str, **changes: object) -> None:
    """Change some of a person's state."""
    reading = world.workspace.read()
    before = directory(reading).person_at(f"person/{who}", reading.size)
    assert before is not None
    enrol_person(world.workspace, before.model_copy(update=changes), *(world.key(signer) for signer in signers))


@pytest.mark.parametrize(
    "changes",
    [
        {"roles": ("compliance_officer", "business_owner")},
        {"roles": ("business_owner",)},
        {"aliases": ("user:x",)},
        {"name": "Carla"},
        {"title": "Chief"},
    ],
)
def test_nothing_is_added_or_altered_by_one_admin(founded: World, changes: dict[str, object]) -> None:
    with pytest.raises(GovernanceError, match="1 of 2 people vouched"):
        change(founded, "carl", "ada", **changes)
    change(founded, "carl", "ada", "vera", **changes)
    reading = founded.workspace.read()
    now = directory(reading).person_at("person/carl", reading.size)
    assert now is not None
    assert {name: getattr(now, name) for name in changes} == changes


def test_an_alias_is_not_taken_away_by_one_admin(founded: World) -> None:
    """Work would no longer be laid at the person's door."""
    with pytest.raises(GovernanceError, match="1 of 2 people vouched"):
        change(founded, "ben", "ada", aliases=("user:ben",))


def test_roles_and_keys_are_taken_away_by_one_admin(founded: World) -> None:
    change(founded, "ben", "ada", roles=("data_scientist",))
    assert roles(founded, "ben") == ("data_scientist",)
    change(founded, "ben", "ada", roles=(), keys=())
    reading = founded.workspace.read()
    assert directory(reading).valid_keys("person/ben", reading.size) == {}
    with pytest.raises(GovernanceError, match="1 of 2 people vouched"):
        change(founded, "ben", "ada", roles=("data_scientist",))


def test_no_admin_resets_a_credential_alone(founded: World, tmp_path: Path) -> None:
    """Otherwise one could sign as anybody."""
    new = create_key(tmp_path / "vera2.json", "person/vera", PASSPHRASE)
    with pytest.raises(GovernanceError, match="1 of 2 people vouched"):
        rotate_key(founded.workspace, "person/vera", new.public, [founded.key("ada")])
    with pytest.raises(GovernanceError, match="not valid here"):  # nor with the new key as the second signature
        rotate_key(founded.workspace, "person/vera", new.public, [founded.key("ada"), new])
    rotate_key(founded.workspace, "person/vera", new.public, [founded.key("finn"), founded.key("ada")])


@pytest.mark.parametrize("retire", [True, False])
def test_a_person_rotates_their_key_with_one_admin(founded: World, tmp_path: Path, retire: bool) -> None:
    old, new = founded.key("vera"), create_key(tmp_path / "vera2.json", "person/vera", PASSPHRASE)
    signers = [old, founded.key("ada")]
    seq = rotate_key(founded.workspace, "person/vera", new.public, signers, retire_others=retire).seq
    people = directory(founded.workspace.read())
    assert set(people.valid_keys("person/vera", seq - 1)) == {old.key_id}
    assert set(people.valid_keys("person/vera", seq + 1)) == ({new.key_id} if retire else {old.key_id, new.key_id})
    assert people.problems == []


def test_with_their_own_signature_nobody_gets_more_than_a_key(founded: World, tmp_path: Path) -> None:
    new = create_key(tmp_path / "vera2.json", "person/vera", PASSPHRASE)
    for more in ({"roles": ("model_validator", "auditor")}, {"aliases": ("user:vera",)}, {"name": "Vera II"}):
        with pytest.raises(GovernanceError, match="cannot vouch for themselves"):
            change(founded, "vera", "vera", "ada", keys=(new.public,), **more)
    with pytest.raises(GovernanceError, match="cannot vouch for themselves"):
        change(founded, "vera", "vera", "ada", roles=("model_validator", "auditor"))
    with pytest.raises(GovernanceError, match="workspace_admin is needed"):
        change(founded, "vera", "vera", "carl", keys=(new.public,))


def test_keys_that_an_enrolment_no_longer_lists_end_with_it(founded: World, tmp_path: Path) -> None:
    old = founded.key("vera").key_id
    founded.keys["vera"] = create_key(tmp_path / "vera2.json", "person/vera", PASSPHRASE)
    founded.enrol("vera", "model_validator")
    reading = founded.workspace.read()
    assert set(directory(reading).valid_keys("person/vera", reading.size)) == {founded.key("vera").key_id}
    assert directory(reading).key_at("person/vera", old, reading.size - 2) is not None


def test_the_number_of_vouchers_is_that_of_the_policy_of_the_time(founded: World) -> None:
    policy = policy_in_force(founded.workspace.read()).policy.as_json() | {"people": {"vouchers": 3}}
    adopt_policy(founded.workspace, parse_policy(policy), "x", [founded.key("ada"), founded.key("finn")])
    with pytest.raises(GovernanceError, match="2 of 3 people vouched"):
        founded.enrol("una", "auditor")
    founded.enrol("una", "auditor", vouchers=("ada", "finn", "vera"))
    assert roles(founded, "una") == ("auditor",)
    assert roles(founded, "vera") == ("model_validator",), "what two vouched for under the policy before still stands"


def test_recertification_that_is_overdue_ends_what_roles_may_sign(founded: World) -> None:
    policy = policy_in_force(founded.workspace.read()).policy.as_json() | {"people": {"recertify_days": 30}}
    adopt_policy(founded.workspace, parse_policy(policy), "x", [founded.key("ada"), founded.key("finn")])
    people, size = directory(founded.workspace.read()), founded.workspace.ledger.size()
    since = people.confirmed_us("person/vera", size)
    assert since is not None
    day = 86_400 * 1_000_000
    assert people.roles_at("person/vera", size, since + 30 * day) == {"model_validator"}
    assert people.roles_at("person/vera", size, since + 30 * day + 1) == frozenset()
    later = datetime.fromtimestamp(since / 1e6, timezone.utc) + timedelta(days=31)
    assert people.may_sign_as("person/vera", "model_validator", MODEL, "validation", size, later) is None
    assert [item.person for item in people.role_holders_at("model_validator", size, since)] == [
        "person/ben",
        "person/vera",
    ]
    assert people.role_holders_at("model_validator", size, since + 31 * day) == []
    recertify(founded.workspace, "person/vera", founded.key("ada"))
    again = directory(founded.workspace.read())
    assert (again.confirmed_us("person/vera", size + 1) or 0) > since
    assert again.confirmed_us("person/vera", size) == since


def test_nobody_recertifies_themselves_nor_without_the_role(founded: World) -> None:
    with pytest.raises(GovernanceError, match="cannot recertify themselves"):
        recertify(founded.workspace, "person/ada", founded.key("ada"))
    with pytest.raises(GovernanceError, match="workspace_admin is needed"):
        recertify(founded.workspace, "person/ada", founded.key("vera"))


def test_a_recertification_of_other_roles_than_those_held_has_no_effect(founded: World) -> None:
    record = recertification(founded.workspace.read(), "person/vera", "person/ada")
    founded.enrol("vera", "auditor")
    with pytest.raises(GovernanceError, match="holds other roles"):
        propose_act(founded.workspace.read(), record)


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
