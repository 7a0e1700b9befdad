"""The page of one model: what is in use, its versions and their course, releases, reviews and findings."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

from cognify_dagster.documents.charts import Moment, timeline
from cognify_dagster.documents.labels import words
from cognify_dagster.documents.view.cleaning import screen_text
from cognify_dagster.governance import classification_of, directory, policy_in_force
from cognify_dagster.governance.oversight.reviews import reviews_of
from cognify_dagster.governance.people.authority import Directory
from cognify_dagster.governance.release.history import completions, grant_of
from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    Evaluation,
    GateResult,
    ModelAdopted,
    ModelRegistered,
    Package,
    Record,
    ReleaseRefused,
    ReleaseSuspended,
    RollbackOrdered,
    SignOff,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.review.reading.board import Board, Snapshot
from cognify_dagster.review.reading.briefs import ModelBrief, VersionBrief, moment_of
from cognify_dagster.review.reading.comparison import kept
from cognify_dagster.review.reading.model_standing import model_brief
from cognify_dagster.review.reading.runs import Run, runs_of
from cognify_dagster.workspace import Reading, Recorded

if TYPE_CHECKING:
    from cognify_dagster.review.visit import Visit

DRAWN = 10
"""Of so many versions, the newest, the course is drawn."""
MAX_EVENTS = 60


@dataclass(frozen=True)
class Event:
    """One step of a version: entry, time, what happened in words, the runs that did it."""

    seq: int
    time_us: int
    version: str
    text: str
    runs: tuple[Run, ...] = ()


@dataclass(frozen=True)
class ReleaseRow:
    """A deployment that made a version live on a target; `until_us` is when another took its place, 0 while it is live."""

    seq: int
    version: str
    target: str
    purpose: str
    since_us: int
    until_us: int
    grant_seq: int
    waived: tuple[str, ...]


@dataclass(frozen=True)
class ReviewRow:
    """A periodic review that counts."""

    seq: int
    version: str
    outcome: str
    by: str
    time_us: int
    text: str
    next_due: str | None


@dataclass(frozen=True)
class ModelPage:
    """Everything that the page shows."""

    brief: ModelBrief
    registered: ModelRegistered | None
    rationale: str
    classified_seq: int | None
    versions: tuple[VersionBrief, ...]
    events: tuple[Event, ...]
    cut: int
    chart: Markup
    releases: tuple[ReleaseRow, ...]
    reviews: tuple[ReviewRow, ...]
    problems: tuple[tuple[int, str], ...]


def model_page(visit: Visit, board: Board, snapshot: Snapshot, model: str) -> ModelPage | None:
    """Return the page of a model; None if the ledger has no such model."""
    reading = visit.reading
    if f"oversight/{model}" not in reading.view.heads:
        return None
    people, policy = directory(reading), policy_in_force(reading).policy
    targets = board.targets(model)
    brief, _ = model_brief(reading, model, targets, board.finding_versions(model), visit.now)
    known = classification_of(reading, people, policy, model)
    reviews = reviews_of(reading, people, policy, model)
    versions = snapshot.versions.get(model, ())
    events = sorted(
        (event for item in versions[:DRAWN] for event in _course(visit, people, model, item.version)),
        key=lambda event: event.seq,
    )
    shown = events[-MAX_EVENTS:]
    return ModelPage(
        brief=brief,
        registered=known.registered.record if known.registered else None,
        rationale=known.signed.record.rationale if known.signed else "",
        classified_seq=known.signed.seq if known.signed else None,
        versions=versions,
        events=tuple(reversed(shown)),
        cut=len(events) - len(shown),
        chart=_chart(model, shown),
        releases=_released(visit, model, targets),
        reviews=tuple(
            ReviewRow(
                item.seq, item.record.version, item.record.outcome, people.name(item.record.reviewed_by), item.time_us,
                item.record.text, item.record.next_due,
            )
            for item in reversed(reviews.items)
        ),
        problems=(*known.problems, *reviews.problems),
    )  # fmt: skip


def _released(visit: Visit, model: str, targets: Sequence[str]) -> tuple[ReleaseRow, ...]:
    """Return the releases, read anew only when one was added, or something was erased."""
    reading, heads = visit.reading, visit.reading.view.heads
    marks = tuple((target, heads.get(f"release/{model}.{target}", -1)) for target in targets)
    key = ("releases", model, marks, heads.get("erasures", -1))
    return kept(visit.site).get(
        visit.site, key, lambda: tuple(_releases(reading, model, targets)), lambda found: 600 * len(found)
    )


def _course(visit: Visit, people: Directory, model: str, version: str) -> tuple[Event, ...]:
    """Return the steps of a version, read anew only when its verified head moved, something was erased, or people changed."""
    heads = visit.reading.view.heads
    head = heads.get(f"model/{model}@{version}", -1)
    key = ("course", model, version, head, heads.get("erasures", -1), people.newest)
    return kept(visit.site).get(
        visit.site, key, lambda: tuple(events_of(visit, people.name, model, version)), lambda found: 600 * len(found)
    )


def _releases(reading: Reading, model: str, targets: Sequence[str]) -> Iterator[ReleaseRow]:
    found = []
    for target in targets:
        done = completions(reading, model, target)
        for number, item in enumerate(done):
            grant = grant_of(reading, item)
            after = done[number + 1].time_us if number + 1 < len(done) else 0
            record = grant.record if grant is not None else None
            purpose = {"release": "release", "rollback": "rollback", "break_glass": "broken glass"}
            found.append(
                ReleaseRow(
                    item.seq, item.record.version, target, purpose[record.purpose] if record else "release", item.time_us, after,
                    item.record.grant_seq, record.waived if record else (),
                )
            )  # fmt: skip
    yield from sorted(found, key=lambda row: -row.seq)


def events_of(visit: Visit, name: Callable[[str], str], model: str, version: str) -> Iterator[Event]:
    """Yield the steps of a version that its course shows, oldest first. `name` gives a person's name by id."""
    for item in visit.reading.history(f"model/{model}@{version}"):
        text = _step(item, name)
        if text:
            yield Event(item.seq, item.time_us, version, text, runs_of(item.record, visit.site.config.dagster_url))


def _step(item: Recorded[Record], name: Callable[[str], str]) -> str:
    record = item.record
    if isinstance(record, VersionOpened):
        return "opened"
    if isinstance(record, TrainingRun):
        return "trained"
    if isinstance(record, TrainingFailed):
        return "training failed"
    if isinstance(record, Evaluation):
        return "evaluated"
    if isinstance(record, GateResult) and record.status == "fail":
        return f"gates failed: {words(record.family)}"
    if isinstance(record, ModelAdopted):
        return f"taken over as it was, live on {record.target}"
    if isinstance(record, Package):
        return f"package revision {record.revision} built"
    if isinstance(record, SignOff):
        return f"{words(record.decision)}: {name(record.person)}, {words(record.stage)}"
    if isinstance(record, ReleaseRefused):
        return f"release to {record.target} refused"
    if isinstance(record, DeploymentCompleted):
        return f"live on {record.target}"
    if isinstance(record, DeploymentFailed):
        return f"installation on {record.target} failed"
    if isinstance(record, RollbackOrdered):
        return f"rollback to it on {record.target} ordered"
    if isinstance(record, ReleaseSuspended):
        return f"suspended on {record.target}"
    return ""


def _chart(model: str, events: Sequence[Event]) -> Markup:
    moments = []
    for event in events:
        when = moment_of(event.time_us)
        if when is not None:
            moments.append(
                Moment(when.strftime("%Y-%m-%dT%H:%M:%SZ"), event.version, f"version {event.version}: {event.text}")
            )
    drawn = timeline(f"Course of the versions of {model}", moments, clean=screen_text)
    return Markup(drawn)  # noqa: S704 (our own writer escapes)
