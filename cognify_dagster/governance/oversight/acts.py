"""The acts by which people oversee a model: one function each, all through `perform_act`.

Invariants: an act is appended only if it would count as the entry it becomes, judged by the same function with which a decision
judges it later; who may sign what is the policy's word, never the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from cognify_dagster.governance.changes.adopted import end_problem, plan_problem
from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.governance.oversight.classification import classification_of, classification_problem
from cognify_dagster.governance.oversight.conditions import Given, closure_problem, given_by
from cognify_dagster.governance.oversight.exceptions import break_glass_problem, lift_problem, order_problem
from cognify_dagster.governance.oversight.findings import opening_problem, resolution_problem, who_may_not
from cognify_dagster.governance.oversight.reviews import date_problem, restrictions, review_problem, reviews_of
from cognify_dagster.governance.oversight.signed import before_signing
from cognify_dagster.governance.oversight.voids import event_problem
from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.decision import decide
from cognify_dagster.governance.release.history import live, was_live
from cognify_dagster.governance.release.in_use import live_state
from cognify_dagster.governance.release.involvement import excluded_from
from cognify_dagster.governance.signing.acts import COMPLIANCE, UNSIGNED, act_problem
from cognify_dagster.governance.signing.drafts import ActForm, perform_act, register_form
from cognify_dagster.governance.signing.keys import PersonalKey
from cognify_dagster.governance.signing.statements import envelope_statement, read_sign_off
from cognify_dagster.ledger import Receipt
from cognify_dagster.records import (
    BlockLifted,
    BreakGlassOpened,
    ChangePlanAdopted,
    ChangePlanEnded,
    ConditionClosed,
    FindingOpened,
    FindingResolved,
    ModelAdopted,
    ModelClassified,
    ModelEvent,
    Record,
    ReviewCompleted,
    RollbackOrdered,
    SignOff,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

R = TypeVar("R", bound=Record)
Signers = Sequence[PersonalKey]


def classify_model(workspace: Workspace, signers: Signers, **facts: Any) -> Receipt:
    """Sign the tier, owner and scope of a model; see `ModelClassified` for the facts.

    Raises:
        GovernanceError: if it would not count: two people sign where sign-off stages are lost.
    """
    return _together(workspace, ModelClassified, signers, "signers", facts)


def open_finding(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """Raise a finding about a model or a version; see `FindingOpened`."""
    return _alone(workspace, FindingOpened, by, "raised_by", facts)


def resolve_finding(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """Close a finding, or accept its risk until a date; see `FindingResolved`."""
    return _alone(workspace, FindingResolved, by, "resolved_by", facts)


def close_condition(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """Sign that a condition of an approval is met; see `ConditionClosed`."""
    return _alone(workspace, ConditionClosed, by, "closed_by", facts)


def lift_block(workspace: Workspace, signers: Signers, **facts: Any) -> Receipt:
    """Lift somebody's block, as two people who may block; see `BlockLifted`."""
    return _together(workspace, BlockLifted, signers, "lifted_by", facts)


def adopt_change_plan(workspace: Workspace, signers: Signers, **facts: Any) -> Receipt:
    """Adopt a change plan, signed for every sign-off stage of the tier; see `ChangePlanAdopted`."""
    return _together(workspace, ChangePlanAdopted, signers, "signers", facts)


def end_change_plan(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """End a change plan; see `ChangePlanEnded`."""
    return _alone(workspace, ChangePlanEnded, by, "ended_by", facts)


def break_glass(workspace: Workspace, signers: Signers, **facts: Any) -> Receipt:
    """Open an emergency release without some sign-offs; see `BreakGlassOpened`."""
    return _together(workspace, BreakGlassOpened, signers, "signers", facts)


def order_rollback(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """Order that an earlier version goes live again; `replaces_seq` is what is live now unless given. See `RollbackOrdered`."""
    if "replaces_seq" not in facts:
        current = live(workspace.read(), str(facts["model"]), str(facts["target"]))
        if current is None:
            raise GovernanceError(
                f"nothing of {facts['model']} is live on {facts['target']}; there is nothing to replace"
            )
        facts = {**facts, "replaces_seq": current.seq}
    return _alone(workspace, RollbackOrdered, by, "ordered_by", facts)


def adopt_model(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """Record a model that was live before the ledger existed, as unattested; see `ModelAdopted`."""
    return _alone(workspace, ModelAdopted, by, "adopted_by", facts)


def complete_review(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """Sign the periodic review of what is live; see `ReviewCompleted`."""
    return _alone(workspace, ReviewCompleted, by, "reviewed_by", facts)


def report_event(workspace: Workspace, by: PersonalKey, **facts: Any) -> Receipt:
    """Report what may void approvals, such as an incident; see `ModelEvent`."""
    return _alone(workspace, ModelEvent, by, "reported_by", facts)


def _alone(
    workspace: Workspace, record: type[Record], by: PersonalKey, field: str, facts: Mapping[str, Any]
) -> Receipt:
    value = {**facts, field: by.person, "envelope": UNSIGNED}
    return perform_act(workspace, lambda _: record.model_validate(value), [by])


def _together(
    workspace: Workspace, record: type[Record], signers: Signers, field: str, facts: Mapping[str, Any]
) -> Receipt:
    people = tuple(sorted({key.person for key in signers}))
    value = {**facts, field: people, "envelopes": ()}
    return perform_act(workspace, lambda _: record.model_validate(value), signers)


# --- how each act is signed and judged


def _policy(reading: Reading) -> Policy:
    return policy_in_force(reading).policy


def _form(
    record: type[R],
    signers: Callable[[R], Sequence[str]],
    roles: Callable[[Policy, R], Sequence[str]],
    meaning: Callable[[R], str],
    judge: Callable[[Reading, Recorded[R], Directory, Policy], str | None],
) -> None:
    def judged(reading: Reading, item: Recorded[R]) -> str | None:
        return judge(reading, item, directory(reading), _policy(reading))

    register_form(
        ActForm(
            record=record,
            signers=signers,
            roles=lambda reading, item, _: roles(_policy(reading), item),
            meaning=meaning,
            judge=judged,
            check=before_signing(judged),
        )
    )


def _judge_resolution(
    reading: Reading, item: Recorded[FindingResolved], people: Directory, policy: Policy
) -> str | None:
    record = item.record
    excluded = who_may_not(reading, policy, record.model, record.version)
    return resolution_problem(reading, item, people, policy, excluded)


def _judge_lift(reading: Reading, item: Recorded[BlockLifted], people: Directory, policy: Policy) -> str | None:
    excluded = excluded_from(reading, policy, item.record.model, item.record.version)
    return lift_problem(reading, item, people, policy, excluded)


def _judge_review(reading: Reading, item: Recorded[ReviewCompleted], people: Directory, policy: Policy) -> str | None:
    record = item.record
    tier = classification_of(reading, people, policy, record.model).tier
    excluded = excluded_from(reading, policy, record.model, record.version)
    return date_problem(item, policy, tier) or review_problem(reading, item, people, policy, excluded)


def _judge_closure(reading: Reading, item: Recorded[ConditionClosed], people: Directory, policy: Policy) -> str | None:
    record = item.record
    source = reading.at(record.sign_off_seq)
    given: list[Given] = []
    if source is not None and isinstance(source.record, ReviewCompleted):
        given = restrictions(reviews_of(reading, people, policy, record.model), people, policy, record.version)
    elif source is None or not isinstance(source.record, SignOff):
        return f"entry {record.sign_off_seq} is no sign-off and no review"
    else:
        for target in read_sign_off(envelope_statement(source.record.envelope)).target_environments:
            decision = decide(reading, record.model, record.version, target, item.when)
            counted = [signed for stage in decision.stages for signed in stage.signed]
            given += given_by([*counted, *live_state(reading, record.model, target, item.when).signed])
    found = next((one for one in given if one.seq == record.sign_off_seq), None)
    excluded = excluded_from(reading, policy, record.model, record.version)
    return closure_problem(reading, item, people, found, excluded)


def _judge_glass(reading: Reading, item: Recorded[BreakGlassOpened], people: Directory, policy: Policy) -> str | None:
    record = item.record
    tier = classification_of(reading, people, policy, record.model).tier
    signed = {name for name, stage in policy.stages_of(tier) if stage.kind == "sign_off"}
    unknown = sorted(set(record.waived) - signed)
    if unknown:
        return f"tier {tier!r} has no sign-off stage {unknown[0]!r}"
    return break_glass_problem(
        reading, item, people, policy, excluded_from(reading, policy, record.model, record.version)
    )


def _judge_rollback(reading: Reading, item: Recorded[RollbackOrdered], people: Directory, policy: Policy) -> str | None:
    record = item.record
    current = live(reading, record.model, record.target)
    if current is None or current.seq != record.replaces_seq:
        return f"entry {record.replaces_seq} is not what is live on {record.target} now"
    if current.record.version == record.version:
        return f"version {record.version} is live on {record.target} already"
    if not was_live(reading, record.model, record.version, record.target):
        return f"version {record.version} was never live on {record.target}; release it instead"
    return order_problem(reading, item, people, policy)


def _judge_plan(reading: Reading, item: Recorded[ChangePlanAdopted], people: Directory, policy: Policy) -> str | None:
    tier = classification_of(reading, people, policy, item.record.model).tier
    if tier in policy.tiers and not policy.tiers[tier].change_plans:
        return f"the policy allows no change plans in tier {tier!r}"
    return plan_problem(reading, item, people, policy, tier)


def _judge_adopted(reading: Reading, item: Recorded[ModelAdopted], people: Directory, policy: Policy) -> str | None:
    record = item.record
    if live(reading, record.model, record.target) is not None:
        return f"{record.model} went live on {record.target} through this ledger already"
    return act_problem(
        reading, item, (record.envelope,), people, policy.acting_roles, needed=1, claimed=(record.adopted_by,)
    )


_form(
    ModelClassified,
    lambda record: record.signers,
    lambda policy, _: policy.classifiers,
    lambda record: f"I classify the model {record.model} in tier {record.tier}: {record.rationale}",
    classification_problem,
)
_form(
    FindingOpened,
    lambda record: (record.raised_by,),
    lambda policy, _: policy.findings.open_roles,
    lambda record: f"I found: {record.title}",
    opening_problem,
)
_form(
    FindingResolved,
    lambda record: (record.resolved_by,),
    lambda policy, record: policy.findings.close_roles if record.outcome == "closed" else policy.findings.accept_roles,
    lambda record: (
        f"Finding {record.finding_seq} is closed."
        if record.outcome == "closed"
        else f"I accept the risk of finding {record.finding_seq} until {record.accepted_until}."
    ),
    _judge_resolution,
)
_form(
    ConditionClosed,
    lambda record: (record.closed_by,),
    lambda policy, _: tuple({COMPLIANCE, *(role for stage in policy.stages.values() for role in stage.wanted)}),
    lambda record: f"Condition {record.condition} of the approval in entry {record.sign_off_seq} is met.",
    _judge_closure,
)
_form(
    BlockLifted,
    lambda record: record.lifted_by,
    lambda policy, _: policy.blockers,
    lambda record: f"I lift the block of entry {record.sign_off_seq}.",
    _judge_lift,
)
_form(
    ChangePlanAdopted,
    lambda record: record.signers,
    lambda policy, _: tuple({role for stage in policy.stages.values() for role in stage.wanted}),
    lambda record: f"I approve the change plan {record.plan} for {record.model} against version {record.base_version}.",
    _judge_plan,
)
_form(
    ChangePlanEnded,
    lambda record: (record.ended_by,),
    lambda policy, _: policy.acting_roles,
    lambda record: f"The change plan of entry {record.plan_seq} covers no further version.",
    end_problem,
)
_form(
    BreakGlassOpened,
    lambda record: record.signers,
    lambda policy, _: tuple(dict.fromkeys((*policy.break_glass.roles, policy.break_glass.extra_role))),
    lambda record: (
        f"In an emergency version {record.version} of {record.model} may be released to {record.target} without: "
        f"{', '.join(record.waived)}."
    ),
    _judge_glass,
)
_form(
    RollbackOrdered,
    lambda record: (record.ordered_by,),
    lambda policy, _: policy.rollback_roles,
    lambda record: (
        f"Version {record.version} of {record.model} goes live on {record.target} again in place of what is live."
    ),
    _judge_rollback,
)
_form(
    ModelAdopted,
    lambda record: (record.adopted_by,),
    lambda policy, _: policy.acting_roles,
    lambda record: (
        f"Version {record.version} of {record.model} was live on {record.target} before this ledger; nothing about it is attested."
    ),
    _judge_adopted,
)
_form(
    ReviewCompleted,
    lambda record: (record.reviewed_by,),
    lambda policy, _: policy.review_roles,
    lambda record: f"I reviewed {record.model} {record.version} in use: {record.outcome}.",
    _judge_review,
)
_form(
    ModelEvent,
    lambda record: (record.reported_by,),
    lambda policy, _: policy.acting_roles,
    lambda record: f"I report: {record.event}: {record.text}",
    event_problem,
)
