"""What happened after an approval and voids it, by the policy in force.

Invariants: an event counts if an enrolled person signed it or an enrolled workload wrote it; data changes are seen in the
ledger itself, without anybody reporting them.
"""

from __future__ import annotations

from dataclasses import dataclass

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.signing.acts import act_problem, first_use
from cognify_dagster.records import DatasetSnapshot, ModelEvent, TrainingRun
from cognify_dagster.workspace import Reading, Recorded

_WORDS = {
    "data_change": "the data changed",
    "base_model_change": "the base model changed",
    "drift_breach": "a drift limit was breached",
    "incident": "an incident was reported",
    "framework_change": "a framework changed",
}


@dataclass(frozen=True)
class Void:
    """An event at entry `seq`: approvals before it count no more."""

    seq: int
    event: str
    text: str


def voids(
    reading: Reading, people: Directory, policy: Policy, model: str, version: str
) -> tuple[list[Void], list[tuple[int, str]]]:
    """Return the reported events that void approvals of a version, oldest first, and those without effect."""
    found: list[Void] = []
    problems: list[tuple[int, str]] = []
    used: set[str] = set()
    for subject in (f"oversight/{model}", f"model/{model}@{version}"):
        for item in reading.all(ModelEvent, subject):
            record = item.record
            problem = event_problem(reading, item, people, policy)
            if problem is None and record.envelope is not None:
                problem = first_use((record.envelope,), used)
            if problem:
                problems.append((item.seq, f"the reported event does not count: {problem}"))
            elif record.event in policy.voids:
                found.append(Void(item.seq, record.event, f"{_WORDS[record.event]} (entry {item.seq}): {record.text}"))
    return sorted(found, key=lambda item: item.seq), problems


def changed_data(reading: Reading, training: Recorded[TrainingRun] | None, policy: Policy) -> list[Void]:
    """Return newer snapshots, with other content, of the datasets a version was trained on."""
    if training is None or "data_change" not in policy.voids:
        return []
    found: list[Void] = []
    for ref in training.record.datasets:
        newest = reading.latest(DatasetSnapshot, f"dataset/{ref.name}")
        if newest is not None and newest.seq > ref.seq and newest.record.root != ref.root:
            text = f"dataset {ref.name} changed (entry {newest.seq})"
            found.append(Void(newest.seq, "data_change", text))
    return found


def event_problem(reading: Reading, item: Recorded[ModelEvent], people: Directory, policy: Policy) -> str | None:
    """Say why a reported event does not count, or None."""
    record = item.record
    if record.envelope is not None:
        roles = policy.acting_roles
        return act_problem(reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.reported_by,))
    if record.reported_by.startswith("person/"):
        return "it names a person who did not sign it"
    return people.writer_problem(item.entry.entry)
