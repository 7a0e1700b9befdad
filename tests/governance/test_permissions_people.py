"""The permission matrix of acts about people: every role with every act, and who has none: a machine, a stranger, one without roles.

Each pair is judged as the next entry of a real ledger, with real signatures, past every check that is made before signing.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.governance import (
    ROLES,
    PersonalKey,
    delegate,
    delegating,
    directory,
    disregarding,
    policy_in_force,
    public_key,
    recovery_record,
    rotated,
)
from cognify_dagster.governance.policy.adoption import policy_adoption
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.drafts import form_of, next_entry
from cognify_dagster.governance.signing.statements import sign_act
from cognify_dagster.records import (
    DelegationEnded,
    Envelope,
    KeyRevoked,
    Person,
    PersonEnrolled,
    Recertified,
    Record,
    Workload,
    WorkloadEnrolled,
)
from cognify_dagster.workspace import Reading
from tests.governance.test_recovery import raw
from tests.governance.world import World, clone

ACTORS = (*ROLES, "nobody's role", "machine", "stranger")
ADMIN = {"workspace_admin"}
ENROLLED = set(ROLES)
Make = Callable[[World, str], tuple[Record, list[str]]]


def key_of(seed: int) -> PersonalKey:
    return PersonalKey("person/new", Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32))


NEW = Person(person="person/new", name="New", roles=("auditor",), keys=(key_of(200).public,))


def enrolment(person: Person, first: str, second: str | None) -> PersonEnrolled:
    return PersonEnrolled(person=person, vouched_by=first, witnesses=(second,) if second else (), envelope=UNSIGNED)


def state(world: World, name: str) -> Person:
    reading = world.workspace.read()
    found = directory(reading).person_at(f"person/{name}", reading.size)
    assert found is not None
    return found


def new_key(world: World, name: str, actor: str, second: str | None) -> tuple[Record, list[str]]:
    person = rotated(world.workspace.read(), f"person/{name}", key_of(201).public, True)
    return enrolment(person, actor, second), [actor, *([second] if second else [])]


def fewer_roles(world: World, actor: str) -> tuple[Record, list[str]]:
    return enrolment(state(world, "vera").model_copy(update={"roles": ()}), actor, None), [actor]


def more_roles(world: World, actor: str) -> tuple[Record, list[str]]:
    """On their own and one admin's word."""
    person = (
        state(world, actor.removeprefix("person/")) if actor in directory(world.workspace.read()).standings else NEW
    )
    person = person.model_copy(update={"roles": (*person.roles, "business_owner", "auditor")})
    return enrolment(person, "person/finn", actor), ["person/finn", actor]


def revoke(world: World, holder: str, actor: str) -> tuple[Record, list[str]]:
    keys = directory(world.workspace.read()).keys.get(holder)
    key_id = keys[0].key.key_id if keys else "0" * 16
    return KeyRevoked(holder=holder, key_id=key_id, reason="x", revoked_by=actor, envelope=UNSIGNED), [actor]


def lend(world: World, role: str, actor: str) -> tuple[Record, list[str]]:
    expires = datetime.now(timezone.utc) + timedelta(days=2)
    return delegating(actor, "person/olga", role, expires, "x"), [actor]


def end_lent(world: World, actor: str) -> tuple[Record, list[str]]:
    (found,) = directory(world.workspace.read()).delegations
    return DelegationEnded(
        delegation_seq=found.seq, delegator=found.delegator, delegate=found.delegate, reason="x", ended_by=actor,
        envelope=UNSIGNED,
    ), [actor]  # fmt: skip


def machine_admitted(world: World, actor: str) -> tuple[Record, list[str]]:
    workload = Workload(workload="workload/two", key=public_key(b"\x05" * 32), kinds=("finding",))
    return WorkloadEnrolled(workload=workload, enrolled_by=actor, envelope=UNSIGNED), [actor]


def recertify_oneself(world: World, actor: str) -> tuple[Record, list[str]]:
    known = directory(world.workspace.read()).standings.get(actor)
    held = known[-1].person.roles if known else ()
    return Recertified(person=actor, roles=held, recertified_by=actor, envelope=UNSIGNED), [actor]


def recover(world: World, actor: str) -> tuple[Record, list[str]]:
    """With a personal key in the place of one of the two recovery keys."""
    ada, finn = world.key("ada").key_id, world.key("finn").key_id
    record = recovery_record(world.workspace.read(), NEW, "x", [ada, finn])
    return record, ["recovery:ada", actor]


def disregard(world: World, actor: str) -> tuple[Record, list[str]]:
    seq = next(item.entry.seq for item in world.workspace.read().view.entries if item.entry.kind == "recall")
    names = sorted({"person/finn", actor})
    return disregarding(world.workspace.read(), seq, "x", names), names


def adopt(world: World, actor: str) -> tuple[Record, list[str]]:
    policy = policy_in_force(world.workspace.read()).policy.model_copy(update={"title": "Other"})
    return policy_adoption(policy, "x"), ["person/finn", actor]


#: What each act is, and who may do it. `actor` is who is tried; others whom the act needs besides are there.
MATRIX: dict[str, tuple[Make, set[str]]] = {
    "enrol a person, as the first of two": (lambda w, a: (enrolment(NEW, a, "person/vera"), [a, "person/vera"]), ADMIN),
    "enrol a person, as the second": (lambda w, a: (enrolment(NEW, "person/finn", a), ["person/finn", a]), ENROLLED),
    "enrol a person alone": (lambda w, a: (enrolment(NEW, a, None), [a]), set()),
    "give oneself roles": (more_roles, set()),
    "take somebody's roles away": (fewer_roles, ADMIN),
    "reset somebody's key alone": (lambda w, a: new_key(w, "vera", a, None), set()),
    "reset somebody's key with a second person": (lambda w, a: new_key(w, "vera", a, "person/carl"), ADMIN),
    "witness a new key of somebody": (lambda w, a: new_key(w, "vera", "person/finn", a), ENROLLED),
    "revoke somebody's key": (lambda w, a: revoke(w, "person/vera", a), ADMIN),
    "revoke one's own key": (lambda w, a: revoke(w, a, a), ENROLLED | {"nobody's role"}),
    "revoke a machine's key": (lambda w, a: revoke(w, "workload/pipeline", a), ADMIN),
    "admit a machine": (machine_admitted, ADMIN),
    **{
        f"delegate {role}": (lambda w, a, role=role: lend(w, role, a), {role} - ADMIN)  # type: ignore[misc]
        for role in ROLES
    },
    "end somebody's delegation": (end_lent, ADMIN),
    "recertify somebody": (
        lambda w, a: (
            Recertified(person="person/vera", roles=("model_validator",), recertified_by=a, envelope=UNSIGNED),
            [a],
        ),
        ADMIN,
    ),
    "recertify oneself": (recertify_oneself, set()),
    "recover a person with a personal key": (recover, set()),
    "disregard an entry, as the second": (disregard, ADMIN),
    "adopt a policy, as the second": (adopt, ADMIN),
}


@pytest.fixture(scope="module")
def staffed(founded_template: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    """One person for each role, a delegation that runs, an entry that nobody can read."""
    world = clone(founded_template, tmp_path_factory.mktemp("matrix") / "world")
    for number, role in enumerate(ROLES):
        world.enrol(f"p{number}", role)
    world.enrol("none")
    expires = datetime.now(timezone.utc) + timedelta(days=2)
    delegate(world.workspace, "person/olga", "compliance_officer", world.key("carl"), expires=expires, reason="x")
    raw(world, "recall", ("people",))
    writer = world.workspace.writer
    assert writer is not None
    world.keys["machine"] = PersonalKey("person/machine", writer._private)
    world.keys["stranger"] = key_of(202)
    return world


def name_of(actor: str) -> str:
    return f"p{ROLES.index(actor)}" if actor in ROLES else "none" if actor == "nobody's role" else actor


def sealed(world: World, reading: Reading, record: Record, signers: list[str]) -> Record:
    envelopes: list[Envelope] = []
    for signer in signers:
        recovery = signer.startswith("recovery:")
        key = world.key(signer.removeprefix("recovery:").removeprefix("person/"))
        person = "recovery" if recovery else signer
        envelopes.append(
            sign_act(
                record, PersonalKey(person, key.private), ledger=reading.origin, role="x", meaning="…",
                head=reading.view.checkpoint(),
            )
        )  # fmt: skip
    update: dict[str, object] = {}
    if "envelope" in type(record).model_fields:
        update["envelope"] = envelopes.pop(0)
    if "envelopes" in type(record).model_fields:
        update["envelopes"] = tuple(envelopes)
    return record.model_copy(update=update)


@pytest.mark.parametrize("act", MATRIX)
@pytest.mark.parametrize("actor", ACTORS)
def test_who_may_do_what(staffed: World, act: str, actor: str) -> None:
    make, allowed = MATRIX[act]
    who = f"person/{name_of(actor)}"
    record, signers = make(staffed, who)
    reading = staffed.workspace.read()
    done = sealed(staffed, reading, record, signers)
    problem = form_of(record.kind).judge(reading, next_entry(reading, done))
    assert (problem is None) == (actor in allowed), problem


def test_the_matrix_names_every_role_and_every_act_about_people() -> None:
    from cognify_dagster.governance.people.authority import PERSON_SIGNED

    assert set(ACTORS) >= set(ROLES)
    assert set().union(*(allowed for _, allowed in MATRIX.values())) <= set(ACTORS)
    assert {
        "person_enrolled", "workload_enrolled", "key_revoked", "delegated", "delegation_ended", "person_recertified",
        "person_recovered", "entry_disregarded", "policy_adopted",
    } == PERSON_SIGNED, "a new kind needs lines in the matrix"  # fmt: skip
