"""When the next periodic review of a model in use is due."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.history import grant_of, live
from cognify_dagster.governance.signing.acts import act_problem, first_use
from cognify_dagster.records import ReviewCompleted, parse_utc, utc
from cognify_dagster.workspace import Reading, Recorded


@dataclass(frozen=True)
class Review:
    """The next review of what is live. `due` is None where nothing is live or the policy sets no interval."""

    due: str | None = None
    overdue: bool = False
    blocking: bool = False
    problems: tuple[tuple[int, str], ...] = ()


def review(
    reading: Reading, people: Directory, policy: Policy, model: str, target: str, tier: str, now: datetime
) -> Review:
    """Return when the model that is live on a target is due for its review.

    The interval counts from the release, or from the newest review since; a review may set its own next date.
    """
    current = live(reading, model, target)
    grant = grant_of(reading, current) if current is not None else None
    if current is None or grant is None or tier not in policy.tiers:
        return Review()
    rule = policy.tiers[tier]
    last, own, problems = current.when, None, []
    used: set[str] = set()
    for item in reading.all(ReviewCompleted, f"oversight/{model}"):
        problem = review_problem(reading, item, people, policy) or first_use((item.record.envelope,), used)
        if problem:
            problems.append((item.seq, f"the review does not count: {problem}"))
        elif item.seq > current.seq and item.record.version == current.record.version:
            last, own = item.when, item.record.next_due
    if own is not None:
        due = parse_utc(own)
    elif rule.review_days is not None:
        due = last + timedelta(days=rule.review_days)
    else:
        return Review(problems=tuple(problems))
    overdue = due <= now
    return Review(utc(due), overdue, overdue and rule.overdue_review == "block", tuple(problems))


def review_problem(reading: Reading, item: Recorded[ReviewCompleted], people: Directory, policy: Policy) -> str | None:
    """Say why a review does not count, or None."""
    record = item.record
    return act_problem(
        reading, item, (record.envelope,), people, policy.review_roles, needed=1, claimed=(record.reviewed_by,)
    )
