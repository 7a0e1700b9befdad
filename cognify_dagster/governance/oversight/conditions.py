"""Conditions of approvals and limits of reviews: open until a signed closure, enforced by the deployment, or overdue.

Invariants: a condition counts as met only by a signed `condition_closed` entry of somebody who holds the role of the stage (of a
review: a review role) or of compliance; who gave the condition may close it, who had a hand in the version may not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.release.case import Signed
from cognify_dagster.governance.release.involvement import hand_problem
from cognify_dagster.governance.signing.acts import COMPLIANCE, act_problem
from cognify_dagster.governance.signing.statements import Condition
from cognify_dagster.records import ConditionClosed, parse_utc
from cognify_dagster.workspace import Reading, Recorded

ENFORCED = ("use_cap", "population")
REVIEWER = "reviewer"
"""In the place of a role, where a review set the limit."""


@dataclass(frozen=True)
class OpenCondition:
    """One condition of a counting approval or review: `index` counts from 0 in entry `sign_off_seq`."""

    sign_off_seq: int
    index: int
    person: str
    name: str
    role: str
    condition: Condition
    closed_seq: int | None = None

    @property
    def open(self) -> bool:
        """Whether nobody signed yet that it is met."""
        return self.closed_seq is None

    def overdue(self, now: datetime) -> bool:
        """Whether it should have been met before now."""
        return self.open and self.condition.due is not None and parse_utc(self.condition.due) <= now

    @property
    def ended(self) -> str | None:
        """Until when a limit of a review lets the version be used, None if it names no such time."""
        limited = self.role == REVIEWER and self.condition.kind == "expiry"
        return str(self.condition.limit["until"]) if limited and self.open else None

    def against(self, now: datetime) -> str | None:
        """Say what speaks against the use of the version now: it should have been met, or ended its use; or None."""
        if self.overdue(now):
            given = f"{self.condition.text!r} of {self.name} (entry {self.sign_off_seq})"
            return f"the condition {given} was due {self.condition.due}"
        if self.ended is not None and parse_utc(self.ended) <= now:
            return f"the review of {self.name} (entry {self.sign_off_seq}) allows its use until {self.ended}: {self.condition.text}"
        return None

    def as_json(self) -> dict[str, Any]:
        """Return it as a grant records it."""
        found: dict[str, Any] = {
            "sign_off_seq": self.sign_off_seq,
            "condition": self.index,
            "text": self.condition.text,
        }
        found["kind"] = self.condition.kind
        if self.condition.due:
            found["due"] = self.condition.due
        if self.condition.limit:
            found["limit"] = dict(self.condition.limit)
        return found


@dataclass(frozen=True)
class Given:
    """Conditions that stand in one entry: a counting approval or review, who gave them, and which roles may close them."""

    seq: int
    person: str
    name: str
    role: str
    closers: frozenset[str]
    conditions: tuple[Condition, ...]


def given_by(signed: Sequence[Signed]) -> list[Given]:
    """Return the conditions of approvals: closed by the role that gave them, or by compliance."""
    return [
        Given(
            item.seq,
            item.person,
            item.name,
            item.predicate.role,
            frozenset({item.predicate.role, COMPLIANCE}),
            item.predicate.conditions,
        )
        for item in signed
    ]


def conditions(
    reading: Reading, people: Directory, subject: str, given: Sequence[Given], excluded: Collection[str]
) -> tuple[list[OpenCondition], list[tuple[int, str]]]:
    """Return the conditions of counting approvals and reviews, and closures that have no effect.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        subject: subject id of the version.
        given: the conditions of what counts.
        excluded: people who had a hand in the version.
    """
    by_seq = {item.seq: item for item in given}
    closed: dict[tuple[int, int], int] = {}
    problems: list[tuple[int, str]] = []
    for item in reading.all(ConditionClosed, subject):
        problem = closure_problem(reading, item, people, by_seq.get(item.record.sign_off_seq), excluded)
        if problem:
            problems.append((item.seq, problem))
        else:
            closed.setdefault((item.record.sign_off_seq, item.record.condition), item.seq)
    found = [
        OpenCondition(
            source.seq, index, source.person, source.name, source.role, condition, closed.get((source.seq, index))
        )
        for source in given
        for index, condition in enumerate(source.conditions)
    ]
    return found, problems


def closure_problem(
    reading: Reading,
    item: Recorded[ConditionClosed],
    people: Directory,
    given: Given | None,
    excluded: Collection[str],
) -> str | None:
    """Say why a closure does not count, or None."""
    record = item.record
    if given is None or given.seq >= item.seq:
        return f"entry {record.sign_off_seq} is no approval or review of this version that counts"
    if record.condition >= len(given.conditions):
        return f"entry {record.sign_off_seq} has no condition {record.condition}"
    hand = hand_problem(people, (record.closed_by,), excluded)
    if hand:
        return f"{hand}, and cannot close its conditions"
    return act_problem(
        reading, item, (record.envelope,), people, given.closers, needed=1, claimed=(record.closed_by,), allows=True
    )


def expired_by_condition(condition: Condition, now: datetime) -> bool:
    """Whether an expiry condition ends the approval at or before now."""
    return condition.kind == "expiry" and parse_utc(str(condition.limit["until"])) <= now


def unenforced(found: Sequence[OpenCondition], enforces: Collection[str]) -> list[OpenCondition]:
    """Return the open conditions that the deployment would have to enforce and does not say it does."""
    return [
        item for item in found if item.open and item.condition.kind in ENFORCED and item.condition.kind not in enforces
    ]
