"""Periodic reviews of a model in use: which count, when the next one is due, and what they say about further use.

Invariants: a review counts only by a review role of somebody without a hand in the version; its own date for the next one never
lies beyond the tier's interval; `restricted` names limits, which stay open until they are closed one by one; `retire` stands
against every version of the model until a later review says otherwise, whoever of a review role said it.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognify_dagster.governance.oversight.conditions import REVIEWER, Given
from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.history import grant_of, live
from cognify_dagster.governance.release.involvement import excluded_from, hand_problem
from cognify_dagster.governance.signing.acts import COMPLIANCE, act_problem, first_use
from cognify_dagster.governance.signing.statements import Condition
from cognify_dagster.records import RecordError, ReviewCompleted, build, parse_utc, utc
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class Review:
    """The next review of what is live. `due` is None where nothing is live or the policy sets no interval."""

    due: str | None = None
    overdue: bool = False
    blocking: bool = False


@dataclass(frozen=True)
class Reviews:
    """The reviews of a model that count, oldest first, and those without effect."""

    items: tuple[Recorded[ReviewCompleted], ...]
    problems: tuple[tuple[int, str], ...] = ()

    @property
    def retired(self) -> Recorded[ReviewCompleted] | None:
        """The review that ended the use of the model; None if there is none or a later one says otherwise."""
        last = self.items[-1] if self.items else None
        return last if last is not None and last.record.outcome == "retire" else None


def reviews_of(reading: Reading, people: Directory, policy: Policy, model: str) -> Reviews:
    """Return the reviews of a model that count at the end of a reading."""
    found: list[Recorded[ReviewCompleted]] = []
    problems: list[tuple[int, str]] = []
    used: set[str] = set()
    for item in reading.all(ReviewCompleted, f"oversight/{model}"):
        excluded = excluded_from(reading, policy, model, item.record.version)
        problem = review_problem(reading, item, people, policy, excluded)
        problem = problem or first_use((item.record.envelope,), used)
        if problem:
            problems.append((item.seq, f"the review does not count: {problem}"))
        else:
            found.append(item)
    return Reviews(tuple(found), tuple(problems))


def review(
    reading: Reading, policy: Policy, model: str, target: str, tier: str, now: datetime, done: Reviews
) -> Review:
    """Return when the model that is live on a target is due for its review.

    The interval counts from the release, or from the newest review since; a review may set an earlier date of its own.

    Args:
        reading: verified entries.
        policy: the policy in force.
        model: model key.
        target: deployment target.
        tier: the model's tier.
        now: the moment it is asked for.
        done: the reviews that count.
    """
    current = live(reading, model, target)
    grant = grant_of(reading, current) if current is not None else None
    if current is None or grant is None or tier not in policy.tiers:
        return Review()
    rule = policy.tiers[tier]
    since = [item for item in done.items if item.seq > current.seq and item.record.version == current.record.version]
    last = since[-1].when if since else current.when
    own = since[-1].record.next_due if since else None
    dates = [parse_utc(own)] if own is not None else []
    if rule.review_days is not None:
        dates.append(last + timedelta(days=rule.review_days))
    if not dates:
        return Review()
    due = min(dates)
    overdue = due <= now
    return Review(utc(due), overdue, overdue and rule.overdue_review == "block")


def restrictions(done: Reviews, people: Directory, policy: Policy, version: str) -> list[Given]:
    """Return the limits that reviews of a version set: closed by a review role or compliance."""
    closers = frozenset({*policy.review_roles, COMPLIANCE})
    return [
        Given(
            item.seq,
            item.record.reviewed_by,
            people.name(item.record.reviewed_by),
            REVIEWER,
            closers,
            limits_of(item.record),
        )
        for item in done.items
        if item.record.version == version and item.record.outcome == "restricted"
    ]


def limits_of(record: ReviewCompleted) -> tuple[Condition, ...]:
    """Return the limits of a review as conditions.

    Raises:
        RecordError: naming what of a limit cannot be read.
    """
    return tuple(build(Condition, item.model_dump(mode="json")) for item in record.conditions)


def review_problem(
    reading: Reading, item: Recorded[ReviewCompleted], people: Directory, policy: Policy, excluded: Collection[str]
) -> str | None:
    """Say why a review does not count, or None.

    What ends the use of a model counts also from somebody with a hand in the version, or with a key that was revoked since.
    """
    record, retires = item.record, item.record.outcome == "retire"
    if not retires and (record.outcome == "restricted") != bool(record.conditions):
        return "a review with the outcome restricted names its limits, and no other review does"
    try:
        limits_of(record) if not retires else ()
    except RecordError as error:
        return f"its limits cannot be read: {error}"
    hand = None if retires else hand_problem(people, (record.reviewed_by,), excluded)
    if hand:
        return f"{hand}, and cannot review it"
    signers, roles = (record.reviewed_by,), policy.review_roles
    return act_problem(reading, item, (record.envelope,), people, roles, needed=1, claimed=signers, allows=not retires)


def date_problem(item: Recorded[ReviewCompleted], policy: Policy, tier: str) -> str | None:
    """Say why nobody should sign a review with this date for the next one, or None. In the ledger a late date is cut short."""
    own = item.record.next_due
    if own is None:
        return None
    due, days = parse_utc(own), policy.tiers[tier].review_days if tier in policy.tiers else None
    if due <= item.when:
        return f"the next review would have been due already ({own})"
    if days is not None and due > item.when + timedelta(days=days):
        return f"the next review is due within {days} days in tier {tier!r}; {own} is later"
    return None
