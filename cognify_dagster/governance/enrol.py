"""Signed governance acts: enrolling people, adopting gate sets and policies, revoking keys."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from cognify_dagster.governance.errors import GovernanceError, PolicyError, SignatureError
from cognify_dagster.governance.keys import PersonalKey
from cognify_dagster.governance.people import ADMIN, Directory, directory, key_problem
from cognify_dagster.governance.policy import Policy, parse_policy
from cognify_dagster.governance.statements import read_act, sign_act, statement_digest
from cognify_dagster.ledger import Receipt, canonical_json
from cognify_dagster.records import (
    Envelope,
    EnvelopeSignature,
    GateRule,
    GateSetAdopted,
    KeyRevoked,
    Person,
    PersonEnrolled,
    PolicyAdopted,
    Record,
    Workload,
    WorkloadEnrolled,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

_UNSIGNED = Envelope(payload="", payloadType="", signatures=(EnvelopeSignature(keyid="", sig=""),))


def enrol_person(workspace: Workspace, person: Person, voucher: PersonalKey) -> Receipt:
    """Enrol a person, or change their roles and keys; a second person vouches with their key.

    Raises:
        GovernanceError: if the voucher may not vouch, a role is unknown or a key belongs to somebody else.
    """
    reading = workspace.read()
    policy = policy_in_force(reading).policy
    unknown = [role for role in person.roles if role not in policy.roles]
    if unknown:
        raise GovernanceError(f"role {unknown[0]!r} is not in the policy; it has {', '.join(policy.roles)}")
    people = directory(reading)
    _require_role(people, voucher, (ADMIN,), reading.size, "enrol people")
    if voucher.person == person.person:
        raise GovernanceError("nobody can vouch for themselves; ask a second workspace admin")
    for other in people.people():
        if other.person != person.person and {k.key_id for k in other.keys} & {k.key_id for k in person.keys}:
            raise GovernanceError(f"this key belongs to {other.name} already; every person has their own")
    for key in person.keys:
        problem = key_problem(key)
        if problem:
            raise GovernanceError(problem)
    record = PersonEnrolled(person=person, vouched_by=voucher.person, envelope=_UNSIGNED)
    envelope = _sign(reading, record, voucher, ADMIN, f"I know {person.name} and that this key is theirs.")
    return workspace.append(
        record.model_copy(update={"envelope": envelope}),
        actor=voucher.person,
        idem=_once(reading, "people", record),
        checkpoint=True,
    )


def enrol_workload(workspace: Workspace, workload: Workload, by: PersonalKey) -> Receipt:
    """Admit a machine key, or replace one that was revoked; signed by a workspace admin.

    Raises:
        GovernanceError: if the person is no workspace admin, or the key is malformed or somebody else's.
    """
    reading = workspace.read()
    people = directory(reading)
    _require_role(people, by, (ADMIN,), reading.size, "enrol workloads")
    problem = key_problem(workload.key)
    if problem:
        raise GovernanceError(problem)
    for holder, spans in people.keys.items():
        if holder != workload.workload and any(span.key.public == workload.key.public for span in spans):
            raise GovernanceError(f"the key {workload.key.key_id} belongs to {holder} already")
    record = WorkloadEnrolled(workload=workload, enrolled_by=by.person, envelope=_UNSIGNED)
    envelope = _sign(reading, record, by, ADMIN, f"I admit this key as {workload.workload}.")
    return workspace.append(
        record.model_copy(update={"envelope": envelope}),
        actor=by.person,
        idem=_once(reading, "people", record),
        checkpoint=True,
    )


def revoke_key(workspace: Workspace, holder: str, key_id: str, reason: str, by: PersonalKey) -> Receipt:
    """Revoke a key with effect from this entry on. The holder may do it, or a workspace admin."""
    reading = workspace.read()
    people = directory(reading)
    if people.key_at(holder, key_id, reading.size) is None:
        raise GovernanceError(f"{holder} has no valid key {key_id}; `cognify people list` shows the keys")
    if by.person != holder:
        _require_role(people, by, (ADMIN,), reading.size, "revoke somebody else's key")
    record = KeyRevoked(holder=holder, key_id=key_id, reason=reason, revoked_by=by.person, envelope=_UNSIGNED)
    envelope = _sign(reading, record, by, ADMIN, f"The key {key_id} must not be trusted any more.")
    return workspace.append(
        record.model_copy(update={"envelope": envelope}),
        actor=by.person,
        idem=_once(reading, holder, record),
        checkpoint=True,
    )


def adopt_gate_set(workspace: Workspace, name: str, model: str, gates: Sequence[GateRule], by: PersonalKey) -> Receipt:
    """Adopt thresholds for a model with a person's signature.

    Raises:
        GovernanceError: if the person has none of the roles that may adopt gate sets.
    """
    reading = workspace.read()
    policy = policy_in_force(reading).policy
    role = _require_role(directory(reading), by, policy.gate_set_adopters, reading.size, "adopt gate sets")
    record = GateSetAdopted(
        name=name, model=model, gates=tuple(gates), digest=gate_digest(gates), adopted_by=by.person, envelope=_UNSIGNED
    )
    envelope = _sign(reading, record, by, role, "I adopt these thresholds before results exist.")
    return workspace.append(
        record.model_copy(update={"envelope": envelope}),
        actor=by.person,
        idem=_once(reading, f"gates/{name}", record),
        checkpoint=True,
    )


def gate_digest(gates: Sequence[GateRule]) -> str:
    """Return `sha256:` and the digest of the canonical list of gates."""
    return "sha256:" + hashlib.sha256(canonical_json([gate.model_dump(mode="json") for gate in gates])).hexdigest()


def adopt_policy(workspace: Workspace, policy: Policy, reason: str, signers: Sequence[PersonalKey]) -> Receipt:
    """Adopt a new policy, signed by as many adopters as the policy in force demands."""
    reading = workspace.read()
    current = policy_in_force(reading).policy
    people = directory(reading)
    roles = [_require_role(people, key, current.adopters, reading.size, "adopt a policy") for key in signers]
    if len({key.person for key in signers}) < _policy_quorum(reading, current):
        raise GovernanceError(f"a policy is adopted by {_policy_quorum(reading, current)} different people")
    record = PolicyAdopted(policy=policy.as_json(), policy_digest=policy.digest, reason=reason, envelopes=())
    envelopes = tuple(
        _sign(reading, record, key, role, "I adopt this policy for this workspace.")
        for key, role in zip(signers, roles, strict=True)
    )
    return workspace.append(
        record.model_copy(update={"envelopes": envelopes}),
        actor=signers[0].person,
        idem=_once(reading, "policy", record),
        checkpoint=True,
    )


@dataclass(frozen=True)
class PolicyInForce:
    """The policy that counts, the entry that established it, and why later ones do not count.

    `unreadable` names entries that may hold a newer policy which cannot be read here; a decision must then refuse.
    """

    policy: Policy
    seq: int
    digest: str
    problems: tuple[tuple[int, str], ...] = ()
    unreadable: tuple[tuple[int, str], ...] = ()


def policy_in_force(reading: Reading) -> PolicyInForce:
    """Return the policy in force at the end of a reading, walking the history of `policy`."""
    genesis = reading.genesis.record
    current, seq, digest = parse_policy(genesis.policy, "the genesis policy"), 0, genesis.policy_digest
    problems: list[tuple[int, str]] = []
    unreadable = [
        (item.entry.seq, "its payload was erased")
        for item in reading.erased("policy")
        if item.entry.kind == PolicyAdopted.kind
    ]
    if _digest(genesis.policy) != genesis.policy_digest:
        problems.append((0, "its policy digest is not that of its policy"))
    people: Directory | None = None
    used: set[str] = set()
    for item in reading.history("policy"):
        record = item.record
        if not isinstance(record, PolicyAdopted):
            continue
        people = people or directory(reading)
        problem = _adoption_problem(reading, item, record, current, people, used)
        if problem:
            problems.append((item.seq, problem))
            continue
        used |= {statement_digest(envelope) for envelope in record.envelopes}
        try:
            current, seq, digest = parse_policy(record.policy, "the policy"), item.seq, record.policy_digest
        except PolicyError as error:
            unreadable.append((item.seq, str(error)))
    return PolicyInForce(current, seq, digest, tuple(problems), tuple(unreadable))


def _digest(policy: Mapping[str, object]) -> str:
    """The digest of a policy as it stands in the ledger, whatever fields today's schema has."""
    return "sha256:" + hashlib.sha256(canonical_json(policy)).hexdigest()


def _adoption_problem(
    reading: Reading,
    item: Recorded[Record],
    record: PolicyAdopted,
    current: Policy,
    people: Directory,
    used: Collection[str],
) -> str | None:
    signers: set[str] = set()
    for envelope in record.envelopes:
        try:
            predicate = read_act(item, envelope, reading.origin, lambda p, k: people.key_at(p, k, item.seq))
            if statement_digest(envelope) in used:
                return "the same signed statement had its effect in an earlier entry"
        except SignatureError as error:
            return str(error)
        person = people.person_at(str(predicate["person"]), item.seq)
        if person is not None and set(person.roles) & set(current.adopters):
            signers.add(person.person)
    if len(signers) < _policy_quorum(reading, current):
        return "not enough people with the right role signed it"
    if _digest(record.policy) != record.policy_digest:
        return "its digest is not that of its policy"
    return None


def _policy_quorum(reading: Reading, policy: Policy) -> int:
    return 1 if reading.trial else policy.policy_quorum


def check_gate_set(reading: Reading, item: Recorded[GateSetAdopted], people: Directory, policy: Policy) -> str | None:
    """Say why a gate set does not count, or None."""
    record = item.record
    try:
        predicate = read_act(item, record.envelope, reading.origin, lambda p, k: people.key_at(p, k, item.seq))
    except SignatureError as error:
        return f"gate set entry {item.seq}: {error}"
    person = people.person_at(str(predicate["person"]), item.seq)
    if person is None or person.person != record.adopted_by or not set(person.roles) & set(policy.gate_set_adopters):
        return f"gate set entry {item.seq}: its signer may not adopt gate sets"
    if gate_digest(record.gates) != record.digest:
        return f"gate set entry {item.seq}: its digest is not that of its gates"
    return None


def _require_role(people: Directory, key: PersonalKey, roles: Sequence[str], size: int, act: str) -> str:
    person = people.person_at(key.person, size)
    if person is None:
        raise GovernanceError(f"{key.person} is not enrolled in this workspace; see `cognify people enrol --help`")
    if people.key_at(key.person, key.key_id, size) is None:
        raise GovernanceError(f"the key {key.key_id} of {person.name} is not valid here (not enrolled, or revoked)")
    held = [role for role in roles if role in person.roles]
    if not held:
        raise GovernanceError(f"{person.name} may not {act}: one of the roles {', '.join(roles)} is needed")
    return held[0]


def _sign(reading: Reading, record: Record, key: PersonalKey, role: str, meaning: str) -> Envelope:
    return sign_act(record, key, ledger=reading.origin, role=role, meaning=meaning, head=reading.view.checkpoint())


def _once(reading: Reading, subject: str, record: Record) -> str:
    """Key an act by the state it changes, so that the same change can be made again later but never twice at once."""
    return idempotency_key(record.kind, subject, record.facts_digest(), reading.view.heads.get(subject, -1))
