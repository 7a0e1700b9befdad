"""The version that came before: the one released last, and the one that is live; and how entries are picked from a history.

Invariant: training is sealed once, so that of several runs of a version the first counts; an evaluation counts for the training that it
names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from cognify_dagster.documents.facts.data import DatasetFact, pinned
from cognify_dagster.records import DeploymentCompleted, Evaluation, Record, ReleaseGranted, TrainingRun, VersionOpened
from cognify_dagster.workspace import Reading, Recorded

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class PreviousVersion:
    """The version released last before this one, with what changes are measured against."""

    version: str
    release: Recorded[ReleaseGranted]
    training: Recorded[TrainingRun] | None
    evaluation: Recorded[Evaluation] | None
    datasets: tuple[DatasetFact, ...]
    evaluation_data: DatasetFact | None = None

    @property
    def datasets_used(self) -> tuple[DatasetFact, ...]:
        """The data it was trained on, and evaluated on."""
        return (*self.datasets, *([self.evaluation_data] if self.evaluation_data is not None else []))


def all_of(events: Iterable[Recorded[Record]], kind: type[R]) -> tuple[Recorded[R], ...]:
    """Return the entries of a kind, in order."""
    return tuple(cast("Recorded[R]", item) for item in events if isinstance(item.record, kind))


def last_of(events: Iterable[Recorded[Record]], kind: type[R]) -> Recorded[R] | None:
    """Return the last entry of a kind."""
    found = all_of(events, kind)
    return found[-1] if found else None


def first_of(events: Iterable[Recorded[Record]], kind: type[R]) -> Recorded[R] | None:
    """The first one: training is sealed once, a second run never counts."""
    found = all_of(events, kind)
    return found[0] if found else None


def evaluation_of(
    evaluations: tuple[Recorded[Evaluation], ...], training: Recorded[TrainingRun] | None
) -> Recorded[Evaluation] | None:
    """The newest one of the sealed training; else the newest at all, which then counts as stale."""
    mine = [item for item in evaluations if training and item.record.training_seq == training.seq]
    found = mine or list(evaluations)
    return found[-1] if found else None


def live_version(reading: Reading, model: str, version: str) -> str | None:
    """The version that was deployed last before this one first was; the one a release of this would replace."""
    live: str | None = None
    for item in reading.all(DeploymentCompleted, f"model/{model}"):
        if item.record.version == version:
            return item.record.supersedes or live
        live = item.record.version
    return live


def previous_version(
    reading: Reading, model: str, version: str, opened: Recorded[VersionOpened] | None
) -> PreviousVersion | None:
    """The newest release of a version that was opened before this one."""
    subject = f"model/{model}"
    opened_at = {item.record.version: item.seq for item in reversed(reading.all(VersionOpened, subject))}
    limit = opened.seq if opened else reading.size
    grants = [
        item
        for item in reading.all(ReleaseGranted, subject)
        if item.record.version != version and opened_at.get(item.record.version, -1) < limit
    ]
    if not grants:
        return None
    grant = grants[-1]
    events = reading.history(f"{subject}@{grant.record.version}")
    training = first_of(events, TrainingRun)
    evaluation = evaluation_of(all_of(events, Evaluation), training)
    return PreviousVersion(
        version=grant.record.version,
        release=grant,
        training=training,
        evaluation=evaluation,
        datasets=pinned(reading, training.record.datasets) if training else (),
        evaluation_data=pinned(reading, (evaluation.record.dataset,))[0] if evaluation else None,
    )


def parent_of(base: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return model key and version of the governed run that a base model comes from, where the training run names one."""
    stated = base.get("parent")
    if isinstance(stated, Mapping):
        stated = (stated.get("model"), stated.get("version"))
    if (
        isinstance(stated, (list, tuple))
        and len(stated) == 2
        and all(isinstance(part, str) and part for part in stated)
    ):
        return str(stated[0]), str(stated[1])
    return None
