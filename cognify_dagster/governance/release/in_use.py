"""Whether what is live still stands: its approvals, blocks, conditions, findings and reviews, judged anew.

Invariants: a release is not forgotten because it is done: what was withdrawn, blocked, voided, or is overdue since suspends
it; a model that was live before the ledger existed is shown as unattested, never as approved.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from cognify_dagster.governance.oversight.classification import classification_of
from cognify_dagster.governance.oversight.conditions import OpenCondition, conditions, expired_by_condition, given_by
from cognify_dagster.governance.oversight.findings import findings_about, freed_by
from cognify_dagster.governance.oversight.reviews import Review, Reviews, restrictions, review, reviews_of
from cognify_dagster.governance.oversight.voids import voids
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.release.approvals import blocks, standing, valid_sign_offs
from cognify_dagster.governance.release.case import Case, Reason, Signed
from cognify_dagster.governance.release.history import grant_of, live, said_again
from cognify_dagster.governance.release.involvement import excluded_from
from cognify_dagster.governance.signing.acts import distrusted, distrusted_text
from cognify_dagster.records import (
    BreakGlassOpened,
    ChangePlanAdopted,
    DeploymentCompleted,
    ModelAdopted,
    ReleaseGranted,
    RollbackOrdered,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class LiveState:
    """What is live on a target and whether it still stands. `reasons` say why it is suspended."""

    model: str
    target: str
    standing: Literal["none", "live", "suspended", "unattested"]
    version: str | None = None
    completed: Recorded[DeploymentCompleted] | None = None
    grant: Recorded[ReleaseGranted] | None = None
    reasons: tuple[Reason, ...] = ()
    review: Review = field(default_factory=Review)
    conditions: tuple[OpenCondition, ...] = ()
    signed: tuple[Signed, ...] = ()
    notes: tuple[str, ...] = ()


def live_state(reading: Reading, model: str, target: str, now: datetime) -> LiveState:
    """Judge what is live on a target at a moment."""
    completed = live(reading, model, target)
    if completed is None:
        return _before_the_ledger(reading, model, target)
    grant = grant_of(reading, completed)
    assert grant is not None
    case = Case(reading, model, completed.record.version, now, target)
    tier = classification_of(reading, case.people, case.policy, model).tier
    reviews = reviews_of(reading, case.people, case.policy, model)
    reviewed = review(reading, case.policy, model, target, tier, now, reviews)
    signed = _approvals(case, grant)
    for entry in (grant.entry.entry, completed.entry.entry):
        if problem := case.people.writer_problem(entry):
            case.block("unproven_writer", problem, "a workspace admin")
    _blocked(case)
    _voided(case, signed, grant)
    found = _conditions(case, signed, reviews)
    _findings(case, grant)
    _exceptions(case, grant)
    case.retired(reviews.retired)
    case.without_effect(said_again(reading, model, completed.record.version, target))
    if reviewed.blocking:
        case.block("review_overdue", f"the periodic review was due {reviewed.due}", "a model validator")
    return LiveState(
        model,
        target,
        "suspended" if case.reasons else "live",
        completed.record.version,
        completed,
        grant,
        tuple(case.reasons),
        reviewed,
        tuple(found),
        tuple(signed),
        tuple(case.notes),
    )


def _before_the_ledger(reading: Reading, model: str, target: str) -> LiveState:
    """What nothing was released of: perhaps it was live before the ledger existed."""
    adopted = reading.latest(ModelAdopted, f"release/{model}.{target}")
    if adopted is None:
        return LiveState(model, target, "none")
    notes = ["it was live before this ledger existed; nothing about it is attested"]
    retired = reviews_of(reading, directory(reading), policy_in_force(reading).policy, model).retired
    if retired is not None:
        notes.insert(0, f"a review retired the model (entry {retired.seq}): {retired.record.text}")
    return LiveState(model, target, "unattested", adopted.record.version, notes=tuple(notes))


def _approvals(case: Case, grant: Recorded[ReleaseGranted]) -> list[Signed]:
    """Return the approvals that the grant relied on and that still stand; withdrawn ones and later rejections are reasons."""
    valid = valid_sign_offs(case)
    left = {item.seq: (item, predicate) for item, predicate in standing(valid)}
    for seq in grant.record.sign_off_seqs:
        if seq not in left:
            case.block(
                "withdrawn", f"the sign-off of entry {seq}, on which the release relied, was withdrawn", "a new release"
            )
        elif not case.people.trusted(left[seq][0].record.person, left[seq][0].record.key_id, seq):
            name = case.people.name(left[seq][0].record.person)
            text = f"the sign-off of entry {seq}, on which the release relied: {distrusted_text(case.people, left[seq][0].record.person)}"
            case.block("key_revoked", text, f"{name} (a new release)")
    for item, predicate in left.values():
        same = predicate.package.digest == grant.record.package_digest
        if predicate.decision == "reject" and same and item.seq > grant.seq:
            name = case.people.name(item.record.person)
            case.block("rejected", f"{name} rejected the package since (entry {item.seq}): {predicate.comments}", name)
    return [
        Signed(item.seq, item.record.person, case.people.name(item.record.person), predicate)
        for seq in grant.record.sign_off_seqs
        if seq in left
        for item, predicate in [left[seq]]
    ]


def _blocked(case: Case) -> None:
    for item, predicate in blocks(case, valid_sign_offs(case)):
        text = f"{case.people.name(item.record.person)} blocked it (entry {item.seq}): {predicate.comments}"
        if case.policy.blocked_live == "suspend":
            case.block("blocked", text, case.people.name(item.record.person))
        else:
            case.notes.append(text)


def _voided(case: Case, signed: list[Signed], grant: Recorded[ReleaseGranted]) -> None:
    """Events since the release. Newer data are no event for what is live: they concern the next version."""
    found, _ = voids(case.reading, case.people, case.policy, case.model, case.version)
    for void in found:
        if void.seq > grant.seq and void.event != "data_change":
            case.block("approval_void", void.text, "the people who approved it (review and sign again)")
    for item in signed:
        for condition in item.predicate.conditions:
            if expired_by_condition(condition, case.now):
                text = f"the approval of {item.name} (entry {item.seq}) ended: {condition.text}"
                case.block("approval_expired", text, item.name)


def _conditions(case: Case, signed: list[Signed], reviews: Reviews) -> list[OpenCondition]:
    excluded = excluded_from(case.reading, case.policy, case.model, case.version)
    given = [*given_by(signed), *restrictions(reviews, case.people, case.policy, case.version)]
    found, _ = conditions(case.reading, case.people, case.subject, given, excluded)
    for item in found:
        if text := item.against(case.now):
            case.block("condition_overdue", text, f"{item.name} (`cognify model close-condition`)")
    return [item for item in found if item.open]


def _findings(case: Case, grant: Recorded[ReleaseGranted]) -> None:
    found = findings_about(case.reading, case.people, case.policy, case.model, case.version, case.now)
    for item in found.blocking(case.policy):
        if item.seq > grant.seq or item.lapsed:
            text = f"finding {item.seq} ({item.severity}): {item.title}"
            case.block("finding_open", text, freed_by(item, case.policy))


def _exceptions(case: Case, grant: Recorded[ReleaseGranted]) -> None:
    """The change plan, broken glass or order that the release rests on: expired, or signed with a key that was not to be trusted."""
    for seq in (grant.record.plan_seq, grant.record.order_seq):
        found = case.reading.at(seq) if seq is not None else None
        record = found.record if found is not None else None
        if found is None or not isinstance(record, (ChangePlanAdopted, BreakGlassOpened, RollbackOrdered)):
            continue
        envelopes = (record.envelope,) if isinstance(record, RollbackOrdered) else record.envelopes
        problem = distrusted(found, envelopes, case.people)
        if problem:
            text = f"entry {seq} ({record.kind}), on which the release relied, counts no more: {problem}"
            case.block("key_revoked", text, "a new release")
    if grant.record.purpose != "break_glass" or grant.record.order_seq is None:
        return
    found = case.reading.at(grant.record.order_seq)
    if found is None or not isinstance(found.record, BreakGlassOpened) or parse_utc(found.record.expires) <= case.now:
        text = "it went live by broken glass, which has expired, and was not signed off in full since"
        case.block("break_glass_expired", text, "the people of the stages that were waived")
