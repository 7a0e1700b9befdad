"""Adopting gate sets and policies with people's signatures, and the policy that is in force."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cognify_dagster.governance.errors import PolicyError, SignatureError
from cognify_dagster.governance.people.authority import Directory, PolicyInForce
from cognify_dagster.governance.people.directory import directory, effect_problem
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.drafts import ActForm, perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.statements import read_act
from cognify_dagster.ledger import Receipt, canonical_json
from cognify_dagster.records import GateRule, GateSetAdopted, PolicyAdopted
from cognify_dagster.workspace import Reading, Recorded, Workspace


def policy_in_force(reading: Reading) -> PolicyInForce:
    """Return the policy in force at the end of a reading.

    Raises:
        PolicyError: if the genesis policy cannot be read by this release.
    """
    people = directory(reading)
    if not people.policies:
        raise PolicyError(people.policy_unreadable[0][1])
    seq, policy, digest = people.policies[-1]
    unreadable = tuple(item for item in people.policy_unreadable if item[0] not in people.disregarded)
    return PolicyInForce(policy, seq, digest, tuple(people.policy_problems), unreadable)


# --- policies ------------------------------------------------------------------------------------------------------------


def adopt_policy(workspace: Workspace, policy: Policy, reason: str, signers: Sequence[PersonalKey]) -> Receipt:
    """Adopt a new policy, signed by as many adopters as the policy in force demands.

    Raises:
        GovernanceError: if too few of them sign, or one who may not.
    """
    return perform_act(workspace, lambda reading: policy_adoption(policy, reason), signers)


def policy_adoption(policy: Policy, reason: str) -> PolicyAdopted:
    """Return the record of an adoption, for `propose_act` with the ids of those who sign."""
    return PolicyAdopted(policy=policy.as_json(), policy_digest=policy.digest, reason=reason, envelopes=())


def _check_policy(reading: Reading, record: PolicyAdopted, signers: Sequence[str]) -> str | None:
    current = policy_in_force(reading).policy
    quorum = 1 if reading.trial else current.policy_quorum
    if len(set(signers)) < quorum:
        return f"a policy is adopted by {quorum} different people; each holds one of: {', '.join(current.adopters)}"
    return None


register_form(
    ActForm(
        PolicyAdopted,
        signers=lambda record: (),
        roles=lambda reading, record, person: policy_in_force(reading).policy.adopters,
        meaning=lambda record: "I adopt this policy for this workspace.",
        judge=effect_problem,
        check=_check_policy,
    )
)


# --- gate sets -----------------------------------------------------------------------------------------------------------


def adopt_gate_set(workspace: Workspace, name: str, model: str, gates: Sequence[GateRule], by: PersonalKey) -> Receipt:
    """Adopt thresholds for a model with a person's signature.

    Raises:
        GovernanceError: if the person has none of the roles that may adopt gate sets.
    """
    record = gate_set_adoption(name, model, gates, by.person)
    return perform_act(workspace, lambda reading: record, [by])


def gate_set_adoption(name: str, model: str, gates: Sequence[GateRule], by: str) -> GateSetAdopted:
    """Return the record of an adoption, for `propose_act`."""
    return GateSetAdopted(
        name=name, model=model, gates=tuple(gates), digest=gate_digest(gates), adopted_by=by, envelope=UNSIGNED
    )


def gate_digest(gates: Sequence[GateRule]) -> str:
    """Return `sha256:` and the digest of the canonical list of gates."""
    return "sha256:" + hashlib.sha256(canonical_json([gate.model_dump(mode="json") for gate in gates])).hexdigest()


def check_gate_set(reading: Reading, item: Recorded[GateSetAdopted], people: Directory, policy: Policy) -> str | None:
    """Say why a gate set does not count, or None."""
    record = item.record
    try:
        predicate = read_act(item, record.envelope, reading.origin, lambda p, k: people.signing_key(p, k, item.seq))
    except SignatureError as error:
        return f"gate set entry {item.seq}: {error}"
    signer = str(predicate["person"])
    roles = people.roles_at(signer, item.seq, item.time_us)
    if signer != record.adopted_by or not roles & set(policy.gate_set_adopters):
        return f"gate set entry {item.seq}: its signer may not adopt gate sets"
    if not people.trusted(signer, str(predicate["key_id"]), item.seq):
        return f"gate set entry {item.seq}: it was signed with a key that was not to be trusted then"
    if gate_digest(record.gates) != record.digest:
        return f"gate set entry {item.seq}: its digest is not that of its gates"
    return None


def _check_adopter(reading: Reading, record: GateSetAdopted, signers: Sequence[str]) -> str | None:
    people, wanted = directory(reading), policy_in_force(reading).policy.gate_set_adopters
    person = people.person_at(record.adopted_by, reading.size)
    if person is None or not set(person.roles) & set(wanted):
        return (
            f"{people.name(record.adopted_by)} may not adopt gate sets: one of the roles {', '.join(wanted)} is needed"
        )
    return None


register_form(
    ActForm(
        GateSetAdopted,
        signers=lambda record: (record.adopted_by,),
        roles=lambda reading, record, person: policy_in_force(reading).policy.gate_set_adopters,
        meaning=lambda record: "I adopt these thresholds before results exist.",
        judge=lambda reading, item: check_gate_set(reading, item, directory(reading), policy_in_force(reading).policy),
        check=_check_adopter,
    )
)
