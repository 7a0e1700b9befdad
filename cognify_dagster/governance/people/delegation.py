"""Signed acts about authority over time: delegating a role, ending that, and recertifying people."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.people.enrol import people_form
from cognify_dagster.governance.signing.acts import UNSIGNED
from cognify_dagster.governance.signing.drafts import perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import Delegated, DelegationEnded, Recertified, utc
from cognify_dagster.workspace import Reading, Workspace


def delegate(
    workspace: Workspace,
    to: str,
    role: str,
    by: PersonalKey,
    *,
    expires: datetime,
    reason: str,
    starts: datetime | None = None,
    models: Sequence[str] = (),
    stages: Sequence[str] = (),
) -> Receipt:
    """Let another person sign in a role that is one's own, for a while. They sign as themselves, on behalf of the delegator.

    Args:
        workspace: where.
        to: the delegate.
        role: a role that the delegator holds as their own.
        by: the delegator's key.
        expires: when it ends; within the policy's `people.max_delegation_days` after it starts.
        reason: why.
        starts: when it begins; now unless given.
        models: the models it is for; all unless given.
        stages: the stages it is for; all of the role unless given.

    Raises:
        GovernanceError: if the role is not the delegator's own, the delegate is not enrolled, or it lasts too long.
    """
    record = delegating(by.person, to, role, expires, reason, starts=starts, models=models, stages=stages)
    return perform_act(workspace, lambda reading: record, [by])


def delegating(
    by: str,
    to: str,
    role: str,
    expires: datetime,
    reason: str,
    *,
    starts: datetime | None = None,
    models: Sequence[str] = (),
    stages: Sequence[str] = (),
) -> Delegated:
    """Return the record of a delegation, for `propose_act`."""
    return Delegated(
        delegator=by,
        delegate=to,
        role=role,
        models=tuple(sorted(set(models))),
        stages=tuple(sorted(set(stages))),
        reason=reason,
        starts=utc(starts or datetime.now(timezone.utc).replace(microsecond=0) - timedelta(seconds=1)),
        expires=utc(expires),
        envelope=UNSIGNED,
    )


def end_delegation(workspace: Workspace, seq: int, reason: str, by: PersonalKey) -> Receipt:
    """End a delegation with this entry; signed by the delegator, the delegate or a workspace admin.

    Raises:
        GovernanceError: if entry `seq` is no running delegation, or the signer may not end it.
    """
    return perform_act(workspace, lambda reading: delegation_end(reading, seq, reason, by.person), [by])


def delegation_end(reading: Reading, seq: int, reason: str, by: str) -> DelegationEnded:
    """Return the record that ends a delegation, for `propose_act`.

    Raises:
        GovernanceError: if entry `seq` is no delegation.
    """
    found = directory(reading).delegation_of(seq)
    if found is None:
        raise GovernanceError(f"entry {seq} is no delegation; `cognify people list` shows those that run")
    return DelegationEnded(
        delegation_seq=seq,
        delegator=found.delegator,
        delegate=found.delegate,
        reason=reason,
        ended_by=by,
        envelope=UNSIGNED,
    )


def recertify(workspace: Workspace, person: str, by: PersonalKey) -> Receipt:
    """Confirm that a person still holds the roles they hold now; signed by a workspace admin, not by themselves.

    Raises:
        GovernanceError: if the person is not enrolled, or the signer may not recertify.
    """
    return perform_act(workspace, lambda reading: recertification(reading, person, by.person), [by])


def recertification(reading: Reading, person: str, by: str) -> Recertified:
    """Return the record of a recertification, for `propose_act`.

    Raises:
        GovernanceError: if the person is not enrolled.
    """
    found = directory(reading).person_at(person, reading.size)
    if found is None:
        raise GovernanceError(f"{person} is not enrolled in this workspace; see `cognify people list`")
    return Recertified(person=person, roles=tuple(found.roles), recertified_by=by, envelope=UNSIGNED)


register_form(
    people_form(
        Delegated,
        lambda record: (record.delegator,),
        lambda record: f"{record.delegate} may sign as {record.role} on my behalf until {record.expires}.",
    )
)
register_form(
    people_form(DelegationEnded, lambda record: (record.ended_by,), lambda record: "This delegation ends now.")
)
register_form(
    people_form(
        Recertified,
        lambda record: (record.recertified_by,),
        lambda record: f"{record.person} still holds these roles and needs them.",
    )
)
