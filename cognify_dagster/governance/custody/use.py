"""When the use of a model's versions began and ended: what retention terms that run from there are counted by.

Invariants: only deployments that follow from a grant count, and a review that retires the model; while a version is live on any
target, was live before the ledger and nobody knows since when not, or a deployment cannot be read, its use has not ended.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

from cognify_dagster.governance.oversight.reviews import reviews_of
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.release.history import completions
from cognify_dagster.records import DeploymentCompleted, ModelAdopted
from cognify_dagster.workspace import Reading

#: The end of a use that has not ended. Later than every other moment.
OPEN = datetime.max.replace(tzinfo=timezone.utc)


@dataclass(frozen=True)
class Use:
    """When a version first went live, and when it last stopped being live; `OPEN` while it is."""

    began: datetime
    ended: datetime


def moment_of(time_us: int) -> datetime:
    """Return microseconds since 1970 as a moment in UTC."""
    return datetime(1970, 1, 1, tzinfo=timezone.utc) + timedelta(microseconds=time_us)


def uses(reading: Reading, model: str) -> dict[str, Use]:
    """Return the use of each version of a model that ever went live, by version."""
    found: dict[str, Use] = {}

    def note(version: str, began: datetime, ended: datetime) -> None:
        known = found.get(version)
        found[version] = Use(min(known.began, began), max(known.ended, ended)) if known else Use(began, ended)

    retired = reviews_of(reading, directory(reading), policy_in_force(reading).policy, model).retired
    gone = None if retired is None else moment_of(retired.time_us)
    for target in _targets(reading, model):
        subject = f"release/{model}.{target}"
        steps = [(moment_of(item.time_us), item.record.version) for item in completions(reading, model, target)]
        adopted = reading.latest(ModelAdopted, subject)
        if adopted is not None:
            steps.insert(0, (moment_of(adopted.time_us), adopted.record.version))
        for (began, version), after in zip(steps, [*steps[1:], None], strict=True):
            last = gone if gone is not None and gone >= began else OPEN
            note(version, began, after[0] if after is not None else last)
    return found


def all_readable(reading: Reading, model: str) -> bool:
    """Whether every deployment of a model can be read; if not, nobody can say what ended."""
    return all(
        reading.at(item.entry.seq) is not None
        for item in reading.view.history(f"model/{model}")
        if item.entry.kind in (DeploymentCompleted.kind, ModelAdopted.kind)
    )


def _targets(reading: Reading, model: str) -> list[str]:
    subject = f"model/{model}"
    known = {item.record.target for item in reading.all(DeploymentCompleted, subject)}
    return sorted(known | {item.record.target for item in reading.all(ModelAdopted, subject)})
