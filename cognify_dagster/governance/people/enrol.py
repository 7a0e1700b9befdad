"""Signed acts about who is who: people join, change and rotate keys, machines are admitted, keys are revoked."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.authority import ADMIN, RECOVERY, PolicyInForce
from cognify_dagster.governance.people.directory import directory, effect_problem, rule_problem
from cognify_dagster.governance.policy.adoption import (
    adopt_gate_set,
    adopt_policy,
    check_gate_set,
    gate_digest,
    policy_in_force,
)
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.drafts import ActForm, perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import KeyRevoked, Person, PersonEnrolled, PublicKey, Record, Workload, WorkloadEnrolled
from cognify_dagster.workspace import Reading, Workspace

__all__ = [
    "PolicyInForce",
    "adopt_gate_set",
    "adopt_policy",
    "check_gate_set",
    "enrol_person",
    "enrol_workload",
    "enrolment",
    "gate_digest",
    "people_form",
    "policy_in_force",
    "revoke_key",
    "rotate_key",
    "rotated",
]
R = TypeVar("R", bound=Record)


def enrol_person(workspace: Workspace, person: Person, *vouchers: PersonalKey) -> Receipt:
    """Enrol a person, or change their roles and keys. Keys of theirs that are not listed end.

    Args:
        workspace: where.
        person: the new state.
        vouchers: keys of those who vouch: a workspace admin and, as the policy demands, others who are enrolled; the person's own
            valid key may be one of them where only keys are added. One admin suffices where something is only taken away.

    Raises:
        GovernanceError: if they may not vouch or are too few, a role is unknown, or a key or alias belongs to somebody else.
    """
    names = [key.person for key in vouchers]
    return perform_act(workspace, lambda reading: enrolment(reading, person, names), vouchers)


def enrolment(reading: Reading, person: Person, vouchers: Sequence[str]) -> PersonEnrolled:
    """Return the record of an enrolment or change, for `propose_act`. The first admin among the vouchers is the one who enrols.

    Raises:
        GovernanceError: if a role is not in the policy, or nobody is named.
    """
    check_roles(reading, person)
    people = directory(reading)
    if not vouchers:
        raise GovernanceError(f"{people.vouchers_at(reading.size)} people vouch for a person; name them")
    for voucher in vouchers:
        if people.person_at(voucher, reading.size) is None:
            raise GovernanceError(f"{voucher} is not enrolled in this workspace, so they cannot vouch")

    def admin(voucher: str) -> bool:
        standing = people.person_at(voucher, reading.size)
        return standing is not None and ADMIN in standing.roles

    first = min(vouchers, key=lambda voucher: (voucher == person.person, not admin(voucher)))
    rest = list(vouchers)
    rest.remove(first)
    return PersonEnrolled(person=person, vouched_by=first, witnesses=tuple(rest), envelope=UNSIGNED)


def check_roles(reading: Reading, person: Person) -> None:
    """Refuse roles that the policy in force does not have.

    Raises:
        GovernanceError: naming the role.
    """
    policy = policy_in_force(reading).policy
    unknown = [role for role in person.roles if role not in policy.roles]
    if unknown:
        raise GovernanceError(f"role {unknown[0]!r} is not in the policy; it has {', '.join(policy.roles)}")


def rotate_key(
    workspace: Workspace, who: str, new: PublicKey, signers: Sequence[PersonalKey], *, retire_others: bool = True
) -> Receipt:
    """Give a person a new key; with `retire_others` their older ones end with the entry.

    Args:
        workspace: where.
        who: the person.
        new: the new public key.
        signers: the person's own valid key and an admin's, or two others' as for an enrolment.
        retire_others: whether the new key replaces all others.

    Raises:
        GovernanceError: if the person is not enrolled, or too few sign.
    """
    names = [key.person for key in signers]
    return perform_act(
        workspace, lambda reading: enrolment(reading, rotated(reading, who, new, retire_others), names), signers
    )


def rotated(reading: Reading, who: str, new: PublicKey, retire_others: bool) -> Person:
    """Return a person's state with a new key.

    Raises:
        GovernanceError: if the person is not enrolled, or has the key already.
    """
    people = directory(reading)
    person = people.person_at(who, reading.size)
    if person is None:
        raise GovernanceError(f"{who} is not enrolled in this workspace; see `cognify people list`")
    if new.key_id in {span.key.key_id for span in people.keys.get(who, ())}:
        raise GovernanceError(f"{who} has or had the key {new.key_id}; a rotation brings a new one")
    kept = () if retire_others else tuple(people.valid_keys(who, reading.size).values())
    return person.model_copy(update={"keys": (*kept, new)})


def enrol_workload(workspace: Workspace, workload: Workload, by: PersonalKey) -> Receipt:
    """Admit a machine key, or replace one that was revoked; signed by a workspace admin. A machine can never sign off.

    Raises:
        GovernanceError: if the person is no workspace admin, or the key is malformed or somebody else's.
    """
    record = WorkloadEnrolled(workload=workload, enrolled_by=by.person, envelope=UNSIGNED)
    return perform_act(workspace, lambda reading: record, [by])


def revoke_key(
    workspace: Workspace, holder: str, key_id: str, reason: str, by: PersonalKey, *, effective_from: int | None = None
) -> Receipt:
    """Revoke a key with effect from this entry on. The holder may do it, or a workspace admin.

    Args:
        workspace: where.
        holder: whose key it is.
        key_id: which one.
        reason: why.
        by: who revokes it.
        effective_from: the earlier entry from which on a person's key was not to be trusted: what it signed from there on to
            allow something counts no more. Also for a key that has ended already.

    Raises:
        GovernanceError: if the holder has no such valid key, or the signer may not revoke it.
    """
    return perform_act(
        workspace,
        lambda reading: revocation(reading, holder, key_id, reason, by.person, effective_from=effective_from),
        [by],
    )


def revocation(
    reading: Reading, holder: str, key_id: str, reason: str, by: str, *, effective_from: int | None = None
) -> KeyRevoked:
    """Return the record of a revocation, for `propose_act`.

    Raises:
        GovernanceError: if the holder has no such key, or it has ended already and no earlier entry is named.
    """
    people = directory(reading)
    had = effective_from is not None and any(span.key.key_id == key_id for span in people.keys.get(holder, ()))
    if not had and people.key_at(holder, key_id, reading.size) is None:
        raise GovernanceError(f"{holder} has no valid key {key_id}; `cognify people list` shows the keys")
    return KeyRevoked(
        holder=holder,
        key_id=key_id,
        reason=reason,
        revoked_by=by,
        effective_from=effective_from,
        envelope=UNSIGNED,
    )


# --- forms ---------------------------------------------------------------------------------------------------------------


def people_form(
    record: type[R], signers: Callable[[R], Sequence[str]], meaning: Callable[[R], str], *, roles: Sequence[str] = ()
) -> ActForm[R]:
    """Return the form of an act that changes the directory: the rules of `people_rules` judge it, before and after signing."""

    def check(reading: Reading, item: R, names: Sequence[str]) -> str | None:
        keys = {name.partition(":")[2] for name in names if name.startswith(f"{RECOVERY}:")}
        persons = {name for name in names if not name.startswith(f"{RECOVERY}:")}
        now = max(reading.view.entries[-1].entry.time_us, time.time_ns() // 1000)
        return rule_problem(reading, item, persons, keys, now)

    return ActForm(record, signers, lambda reading, item, person: roles, meaning, effect_problem, check)


def _meaning(record: PersonEnrolled) -> str:
    return f"I know {record.person.name}, and these are their roles and keys."


register_form(people_form(PersonEnrolled, lambda record: (record.vouched_by, *record.witnesses), _meaning))
register_form(
    people_form(
        WorkloadEnrolled,
        lambda record: (record.enrolled_by,),
        lambda record: f"I admit this key as {record.workload.workload}.",
        roles=(ADMIN,),
    )
)
register_form(
    people_form(
        KeyRevoked,
        lambda record: (record.revoked_by,),
        lambda record: (
            f"The key {record.key_id} must not be trusted any more."
            if record.effective_from is None
            else f"The key {record.key_id} was not to be trusted from entry {record.effective_from} on."
        ),
    )
)
