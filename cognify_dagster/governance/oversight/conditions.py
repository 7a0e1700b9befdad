"""Conditions of approvals: open until a signed closure, enforced by the deployment, or overdue.

Invariants: a condition counts as met only by a signed `condition_closed` entry of somebody who holds the role of the stage or
of compliance; who gave the condition may close it, who had a hand in the version may not.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.release.case import Signed
from cognify_dagster.governance.signing.acts import COMPLIANCE, act_problem
from cognify_dagster.governance.signing.statements import Condition
from cognify_dagster.records import ConditionClosed, parse_utc
from cognify_dagster.workspace import Reading, Recorded

ENFORCED = ("use_cap", "population")


@dataclass(frozen=True)
class OpenCondition:
    """One condition of a counting approval: `index` counts from 0 in the statement of entry `sign_off_seq`."""

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


def conditions(
    reading: Reading, people: Directory, subject: str, signed: Sequence[Signed], excluded: Collection[str]
) -> tuple[list[OpenCondition], list[tuple[int, str]]]:
    """Return the conditions of counting approvals, and closures that have no effect.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        subject: subject id of the version.
        signed: the approvals that count.
        excluded: people who had a hand in the version.
    """
    closures = reading.all(ConditionClosed, subject)
    by_seq = {item.seq: item for item in signed}
    closed: dict[tuple[int, int], int] = {}
    problems: list[tuple[int, str]] = []
    for item in closures:
        problem = closure_problem(reading, item, people, by_seq.get(item.record.sign_off_seq), excluded)
        if problem:
            problems.append((item.seq, problem))
        else:
            closed.setdefault((item.record.sign_off_seq, item.record.condition), item.seq)
    found = [
        OpenCondition(
            given.seq, index, given.person, given.name, given.predicate.role, condition, closed.get((given.seq, index))
        )
        for given in signed
        for index, condition in enumerate(given.predicate.conditions)
    ]
    return found, problems


def closure_problem(
    reading: Reading,
    item: Recorded[ConditionClosed],
    people: Directory,
    given: Signed | None,
    excluded: Collection[str],
) -> str | None:
    """Say why a closure does not count, or None."""
    record = item.record
    if given is None or given.seq >= item.seq:
        return f"entry {record.sign_off_seq} is no approval of this version that counts"
    if record.condition >= len(given.predicate.conditions):
        return f"the approval of entry {record.sign_off_seq} has no condition {record.condition}"
    if record.closed_by in excluded:
        return f"{people.name(record.closed_by)} had a hand in this version and cannot close its conditions"
    roles = {given.predicate.role, COMPLIANCE}
    return act_problem(reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.closed_by,))


def expired_by_condition(condition: Condition, now: datetime) -> bool:
    """Whether an expiry condition ends the approval at or before now."""
    return condition.kind == "expiry" and parse_utc(str(condition.limit["until"])) <= now


def unenforced(found: Sequence[OpenCondition], enforces: Collection[str]) -> list[OpenCondition]:
    """Return the open conditions that the deployment would have to enforce and does not say it does."""
    return [
        item for item in found if item.open and item.condition.kind in ENFORCED and item.condition.kind not in enforces
    ]
