"""What an earlier version had and this one lacks: texts, frameworks, kinds of evidence.

A version is compared with the one released last before it, else with the one that was trained last before it. Less than before may be
right; it is reported so that nobody overlooks it. Invariants: both sides are read from entries of the ledger in the same way, and
each line cites the entry that held what is missing now.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from cognify_dagster.documents.coverage.surroundings import Cited
from cognify_dagster.documents.labels import HUMAN_FIELDS, metric_label, section_title, words
from cognify_dagster.governance import directory, sections_of
from cognify_dagster.records import (
    DatasetSnapshot,
    Evaluation,
    GateResult,
    ModelRegistered,
    OverlapChecked,
    Package,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Reading, Recorded

if TYPE_CHECKING:
    from cognify_dagster.documents.facts.version import VersionFacts

Kind = Literal["section", "framework", "evidence"]
MIN_WORDS = 3
"""Shorter texts among a registration's facts are answers to questions (`state: CA`), and no sections."""


@dataclass(frozen=True)
class Inventory:
    """What a version has, by name, with the entry that holds it; `about` names the data sets that it was trained on."""

    version: str
    sections: Mapping[str, Cited] = field(default_factory=dict)
    frameworks: Mapping[str, Cited] = field(default_factory=dict)
    evidence: Mapping[str, Cited] = field(default_factory=dict)
    datasets: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Lost:
    """Something that the earlier version had and this one lacks. `text` says it in words, `entry` held it then."""

    kind: Kind
    name: str
    text: str
    version: str
    entry: Cited


def collect_before(reading: Reading, model: str, version: str, released: str | None) -> Inventory | None:
    """Return what the version to compare with has; None if there is no earlier one.

    Args:
        reading: verified entries.
        model: model key.
        version: version id.
        released: the version released last before this one, if any.
    """
    before = released or _trained_before(reading, model, version)
    if before is None:
        return None
    subject = f"model/{model}@{before}"
    training = next(iter(reading.all(TrainingRun, subject)), None)
    packages = reading.all(Package, subject)
    evaluations = [
        item for item in reading.all(Evaluation, subject) if training and item.record.training_seq == training.seq
    ]
    last = [*packages[-1:], *evaluations[-1:], *([training] if training else [])]
    registered = [  # as the model was registered then, and not what was registered for this version
        item
        for item in reading.all(ModelRegistered, f"model/{model}")
        if not last or item.seq < max(mark.seq for mark in last)
    ]
    newest = registered[-1] if registered else None
    snapshots = _snapshots(reading, training)
    roots = {item.record.root for item in snapshots}
    roots |= {evaluations[-1].record.dataset.root} if evaluations else set()
    overlaps = [
        check
        for item in snapshots
        for check in reading.all(OverlapChecked, f"dataset/{item.record.name}")
        if {check.record.train.root, check.record.holdout.root} <= roots
    ]
    texts = {
        name: Cited(item.item.seq, item.item.time_us, item.item.leaf)
        for name, item in sections_of(reading, directory(reading), model, before).items.items()
        if item.counts and item.item.record.text.strip()
    }
    if packages:
        covered = {part.framework.partition("@")[0]: _cited(packages[-1]) for part in packages[-1].record.coverage}
    else:
        covered = {name: _cited(newest) for name in newest.record.frameworks} if newest else {}
    return Inventory(
        before,
        {**_registered_texts(newest), **texts},
        covered,
        _evidence(
            training,
            evaluations[-1] if evaluations else None,
            snapshots,
            overlaps,
            reading.all(GateResult, subject),
        ),
        frozenset(item.record.name for item in snapshots),
    )


def _trained_before(reading: Reading, model: str, version: str) -> str | None:
    opened = list(dict.fromkeys(item.record.version for item in reading.all(VersionOpened, f"model/{model}")))
    earlier = opened[: opened.index(version)] if version in opened else opened
    return next((name for name in reversed(earlier) if reading.all(TrainingRun, f"model/{model}@{name}")), None)


def _snapshots(reading: Reading, training: Recorded[TrainingRun] | None) -> list[Recorded[DatasetSnapshot]]:
    found = []
    for ref in training.record.datasets if training else ():
        for item in reading.all(DatasetSnapshot, f"dataset/{ref.name}"):
            if item.seq == ref.seq and item.record.root == ref.root:
                found.append(item)
    return found


def inventory(facts: VersionFacts) -> Inventory:
    """Return what the version itself has. Pure."""
    texts = {
        name: Cited(item.seq, item.time_us, item.leaf)
        for name, item in facts.sections.items()
        if item.counts and item.text.strip()
    }
    registered = facts.registered
    snapshots = [item.snapshot for item in facts.datasets if item.snapshot is not None]
    return Inventory(
        facts.version,
        {**_registered_texts(registered), **texts},
        {name: _cited(registered) for name in registered.record.frameworks} if registered else {},
        _evidence(
            facts.training,
            facts.evaluation if facts.evaluation_current else None,
            snapshots,
            facts.overlaps,
            facts.gate_results,
        ),
        frozenset(item.record.name for item in snapshots),
    )


def consistency(facts: VersionFacts) -> tuple[Lost, ...]:
    """Return what the earlier version had and this one lacks: sections, frameworks, then evidence, each by name. Pure."""
    before = facts.before
    if before is None:
        return ()
    now = inventory(facts)
    found = [
        Lost("section", name, f"section “{section_title(name)}” ({name})", before.version, entry)
        for name, entry in sorted(before.sections.items())
        if name not in now.sections
    ]
    found += [
        Lost("framework", name, f"framework {name}", before.version, entry)
        for name, entry in sorted(before.frameworks.items())
        if name not in now.frameworks
    ]
    gone = {f"data {name}: " for name in before.datasets - now.datasets}  # another data set is a change, and no loss
    found += [
        Lost("evidence", name, name, before.version, entry)
        for name, entry in sorted(before.evidence.items())
        if name not in now.evidence and not any(name.startswith(prefix) for prefix in gone)
    ]
    return tuple(found)


def _cited(item: Recorded[Any]) -> Cited:
    return Cited(item.seq, item.time_us, item.leaf)


def _registered_texts(item: Recorded[ModelRegistered] | None) -> dict[str, Cited]:
    """Sections that stand in the registration: its own fields, and texts among its framework facts."""
    if item is None:
        return {}
    record = item.record
    found = {name for name in HUMAN_FIELDS if str(getattr(record, name)).strip()}
    for key, value in record.framework_facts.items():
        inner = value if isinstance(value, Mapping) and key in record.frameworks else {key: value}
        found |= {str(name) for name, text in inner.items() if _is_section(text)}
    return dict.fromkeys(found, _cited(item))


def _is_section(value: Any) -> bool:
    if isinstance(value, Mapping):
        value = value.get("text")
    return isinstance(value, str) and len(value.split()) >= MIN_WORDS


def _evidence(
    training: Recorded[TrainingRun] | None,
    evaluation: Recorded[Evaluation] | None,
    snapshots: Iterable[Recorded[DatasetSnapshot]],
    overlaps: Iterable[Recorded[OverlapChecked]],
    gates: Iterable[Recorded[GateResult]],
) -> dict[str, Cited]:
    found: dict[str, Cited] = {}
    for item in snapshots:
        for name, value in item.record.provenance.items():
            if value not in (None, "", False, [], {}):
                found[f"data {item.record.name}: {words(name)}"] = _cited(item)
    for check in overlaps:
        found["comparison of training and evaluation records"] = _cited(check)
    found |= {f"gate results: {words(result.record.family)}": _cited(result) for result in gates}
    if training is not None:
        run = training.record
        recorded = {
            "configuration of the training run": run.config,
            "seed of the training run": run.seed is not None,
            "kind of model": run.architecture,
            "reason for the configuration": run.selection_note.strip(),
            "container image by digest": "sha256:" in run.environment.container_image,
            "commit of the code": run.code.commit and run.code.vcs != "none",
        }
        found |= {name: _cited(training) for name, value in recorded.items() if value}
    if evaluation is not None:
        record, entry = evaluation.record, _cited(evaluation)
        found["evaluation"] = entry
        found |= {f"metric {metric_label(metric.name)}": entry for metric in record.metrics}
        found |= {f"outcomes by {words(str(result.get('attribute'))).lower()}": entry for result in record.fairness}
        tables = {name for name, value in record.tables.items() if value}
        tables |= {part.name.partition(".")[0].replace("-", "_") for part in record.artefacts}
        found |= {f"table or attachment {name}": entry for name in tables}
    return found
