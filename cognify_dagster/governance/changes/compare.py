"""Compares a version with the base version of a change plan, field by field. Pure.

Invariants:

* Deny by default: every recorded field of training run, evaluation and the model's registration is compared unless
  `NEVER_COMPARED` names it with its reason; a difference that no bound allows leaves the version uncovered. A field that later
  releases add is compared too. What of the data's shape is compared says `declared`.
* Always against the base version, never against the version before, so that small steps cannot add up.
* The order of datasets, settings, metrics or bounds changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.governance.changes.bounds import ChangeBounds, same
from cognify_dagster.governance.changes.declared import compare_registration, compare_schemas
from cognify_dagster.governance.changes.results import compare_fairness, compare_metrics, compare_outcomes
from cognify_dagster.governance.changes.values import ABSENT, Line, differ, flatten, judged, plain, shown
from cognify_dagster.records import (
    CodeRef,
    DatasetRef,
    DatasetSnapshot,
    Distributed,
    Evaluation,
    ModelRegistered,
    TrainingRun,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded

_US_A_DAY = 86_400_000_000

#: Fields that are not compared, and why. `training.observed` and `evaluation.observed` stand outside a record's facts.
NEVER_COMPARED: dict[str, str] = {
    "training.version": "it names the version",
    "training.model_file": "retraining makes other bytes; what they do is judged by the evaluation (the media type is compared)",
    "training.model_files": "as model_file; the media types are compared",
    "training.checkpoints": "evidence of the training's course",
    "training.compute": "what the training cost; its settings, data and code are compared",
    "training.distributed.root": "as model_file; world size, backend, strategy and mesh are compared",
    "training.distributed.manifest": "evidence of the training's course",
    "training.external": "the same run in other tools",
    "training.rerun": "how to run it again names the version; code and settings are compared",
    "training.captured_by": "which part of this product wrote the record",
    "training.feature_code.authors": "people: separation of duties is judged by the release decision",
    "training.environment.lock_file": "what was installed is compared, by the digest of its list",
    "training.metrics": "the training's own numbers; the plan judges the evaluation",
    "training.metric_series": "evidence of the training's course",
    "training.artefacts": "evidence of the training's course",
    "training.launched_by": "people: separation of duties is judged by the release decision",
    "training.touched_by": "people: separation of duties is judged by the release decision",
    "training.unattributed": "people: judged by the release decision",
    "training.started_after_seq": "a position in the ledger",
    "training.observed": "times, host and attempt",
    "training.code.authors": "people: separation of duties is judged by the release decision",
    "training.environment.detail": "evidence; its list of packages is compared by digest",
    "training.datasets.seq": "a position in the ledger; the snapshot's root is compared",
    "evaluation.version": "it names the version",
    "evaluation.model_digest": "checked against the training run",
    "evaluation.training_seq": "checked against the training run",
    "evaluation.evaluator": "people: separation of duties is judged by the release decision",
    "evaluation.gate_set_seq": "a position in the ledger; the gate set's digest is compared",
    "evaluation.artefacts": "evidence of the evaluation",
    "evaluation.explanations": "evidence of the evaluation",
    "evaluation.benchmarks": "their numbers stand among the metrics, which are compared",
    "evaluation.comparisons": "what the version was compared with; its own numbers are compared",
    "evaluation.observed": "times, host and attempt",
    "evaluation.code.authors": "people: separation of duties is judged by the release decision",
    "evaluation.dataset.seq": "a position in the ledger; the snapshot's root is compared",
    "evaluation.outcomes.message": "words for the value and status, which are compared",
    "registration.model": "it names the model; the plan is about one",
    "registration.title": "a name that people read",
    "registration.owner": "people: the signed classification says who answers for the model",
    "registration.risk_tier": "judged by the release decision",
    "registration.observed": "times, host and attempt",
    "dataset.provenance": "a refresh has its own: it stands in the package, with exclusions and header; the schema is compared",
}

_CODE = ("vcs", "commit", "dirty", "diff_digest", "remote")
_NO_CODE = CodeRef(vcs="none")
_ONE_PROCESS = Distributed(world_size=1)


@dataclass(frozen=True)
class VersionFacts:
    """What is compared of one version: its sealed training run and its evaluation. Times in microseconds since 1970 UTC.

    `registration` is what the model was registered for, `snapshots` are those that the version names, by their entries.
    """

    training: TrainingRun
    training_seq: int
    training_time_us: int
    evaluation: Evaluation
    evaluation_seq: int
    evaluation_time_us: int
    registration: ModelRegistered | None = None
    snapshots: Mapping[int, DatasetSnapshot] = field(default_factory=dict)


@dataclass(frozen=True)
class Coverage:
    """Whether a plan covers a version, with one line for each difference and for each bound that was judged."""

    covered: bool
    lines: tuple[Line, ...]

    @property
    def outside(self) -> tuple[Line, ...]:
        """The lines that keep the version from being covered."""
        return tuple(line for line in self.lines if not line.ok)


def facts_of(
    reading: Reading, training: Recorded[TrainingRun], evaluation: Recorded[Evaluation], *, before: int | None = None
) -> VersionFacts:
    """Take the facts of a version from its entries.

    Args:
        reading: verified entries.
        training: the version's training run.
        evaluation: its evaluation.
        before: the entry before which the model's registration counts; the newest one unless given.
    """
    refs = (*training.record.datasets, evaluation.record.dataset)
    snapshots = {ref.seq: item.record for ref in refs if (item := reading.at(ref.seq)) is not None}
    registered = reading.all(ModelRegistered, f"oversight/{training.record.model}")
    known = [item.record for item in registered if before is None or item.seq < before]
    return VersionFacts(
        training.record,
        training.seq,
        training.time_us,
        evaluation.record,
        evaluation.seq,
        evaluation.time_us,
        known[-1] if known else None,
        {seq: record for seq, record in snapshots.items() if isinstance(record, DatasetSnapshot)},
    )


def compare(
    bounds: ChangeBounds,
    base: VersionFacts,
    new: VersionFacts,
    *,
    earlier: Sequence[VersionFacts] | None = None,
    now: datetime | None = None,
) -> Coverage:
    """Say whether a new version stays within the bounds, and why.

    Args:
        bounds: What the plan allows.
        base: The approved version that the plan starts from.
        new: The version in question.
        earlier: Versions that the plan has covered before, in any order; `new` itself is left out. None means that they are
            not known: then `max_versions` and `min_days_between` leave the version uncovered.
        now: Moment of the decision, with time zone; the new evaluation's time unless given.

    Returns:
        The coverage. Its lines are sorted by item.
    """
    lines = [
        *_identity(base, new),
        *_training(bounds, base.training, new.training),
        *_evaluation(bounds, base, new),
        *compare_registration(bounds, base.registration, new.registration),
        *compare_schemas("training data", bounds, _training_data(base), _training_data(new)),
        *compare_schemas("evaluation data", bounds, _evaluation_data(base), _evaluation_data(new)),
        *_cadence(bounds, base, new, earlier, now),
    ]
    ordered = tuple(sorted(lines, key=lambda line: (line.item, line.text)))
    return Coverage(all(line.ok for line in ordered), ordered)


def _training_data(facts: VersionFacts) -> tuple[Sequence[DatasetRef], Mapping[int, DatasetSnapshot]]:
    return facts.training.datasets, facts.snapshots


def _evaluation_data(facts: VersionFacts) -> tuple[Sequence[DatasetRef], Mapping[int, DatasetSnapshot]]:
    return (facts.evaluation.dataset,), facts.snapshots


def _identity(base: VersionFacts, new: VersionFacts) -> Iterable[Line]:
    models = {base.training.model, base.evaluation.model, new.training.model, new.evaluation.model}
    if len(models) > 1:
        yield differ("model", base.training.model, new.training.model, why="the plan is about one model")
    for name, facts in (("base", base), ("new", new)):
        linked = (
            facts.evaluation.training_seq == facts.training_seq
            and facts.evaluation.model_digest == facts.training.model_file.digest
            and facts.evaluation.version == facts.training.version
        )
        if not linked:
            text = f"the {name} version's evaluation is not about its training run"
            yield Line(f"evaluation of the {name} version", "", "", None, False, text)
    if new.training.version == base.training.version:
        yield differ("version", base.training.version, new.training.version, why="this is the base version itself")
    elif new.training_seq <= base.training_seq or new.training_time_us < base.training_time_us:
        yield Line("order", "", "", None, False, "the version was trained before the base version")


def _training(bounds: ChangeBounds, base: TrainingRun, new: TrainingRun) -> Iterable[Line]:
    yield from _datasets("training data", base.datasets, new.datasets, bounds)
    yield from _config(bounds, base, new)
    yield from _code("training code", base.code, new.code, bounds)
    if base.feature_code is not None or new.feature_code is not None:
        yield from _code("feature code", base.feature_code or _NO_CODE, new.feature_code or _NO_CODE, bounds)
    unused = {"detail", "lock_file"}
    yield from _parts("environment", base.environment, new.environment, unused, bounds.environment == "allowed")
    if base.distributed is not None or new.distributed is not None:
        one, other = base.distributed or _ONE_PROCESS, new.distributed or _ONE_PROCESS
        yield from _parts("processes", one, other, {"root", "manifest"}, False)
    yield from _texts("training.selection_note", base.selection_note, new.selection_note, bounds)
    yield from _parts("model file", base.model_file, new.model_file, {"name", "digest", "size"}, False)
    kinds = [{item.media_type for item in run.model_files} for run in (base, new)]
    if kinds[0] != kinds[1]:
        yield differ("model files: media type", sorted(kinds[0]), sorted(kinds[1]))
    handled = {"model", "datasets", "config", "seed", "seeds", "code", "feature_code", "environment", "distributed"}
    handled |= {"selection_note"}
    yield from _rest("training", base, new, handled)


def _evaluation(bounds: ChangeBounds, base: VersionFacts, new: VersionFacts) -> Iterable[Line]:
    old, now = base.evaluation, new.evaluation
    yield from _datasets("evaluation data", (old.dataset,), (now.dataset,), bounds)
    yield from _code("evaluation code", old.code, now.code, bounds)
    yield from compare_metrics(bounds, old, now)
    yield from compare_fairness(bounds, old, now)
    yield from compare_outcomes(bounds, old, now)
    yield from _tables(bounds, _all_tables(old), _all_tables(now))
    yield from _texts("evaluation.notes", old.notes, now.notes, bounds)
    if not same(old.decision_threshold, now.decision_threshold):
        allowed = bounds.decision_threshold is not None and bounds.decision_threshold.allows(now.decision_threshold)
        yield judged(
            "decision threshold", old.decision_threshold, now.decision_threshold, "decision_threshold", allowed
        )
    if now.status != "passed":
        yield differ("evaluation status", old.status, now.status, why="every gate has to pass")
    handled = {
        "model", "dataset", "code", "metrics", "fairness", "outcomes", "tables", "notes", "decision_threshold", "status", "slices",
        "perturbations",
    }  # fmt: skip
    yield from _rest("evaluation", old, now, handled)


def _rest(
    part: str, base: TrainingRun | Evaluation, new: TrainingRun | Evaluation, handled: set[str]
) -> Iterable[Line]:
    """Whatever field is neither handled nor excluded with a reason must be the same, whoever added it and when."""
    before, after = base.model_dump(mode="json"), new.model_dump(mode="json")
    for name in sorted(set(before) | set(after)):
        if name in handled or f"{part}.{name}" in NEVER_COMPARED:
            continue
        if not same(before.get(name), after.get(name)):
            yield differ(f"{part}.{name}", before.get(name), after.get(name))


def _parts(item: str, base: Any, new: Any, never: set[str], allowed: bool) -> Iterable[Line]:
    before, after = base.model_dump(mode="json"), new.model_dump(mode="json")
    for name in sorted((set(before) | set(after)) - never):
        if not same(before.get(name), after.get(name)):
            yield judged(f"{item}: {name}", before.get(name), after.get(name), f"{item}: allowed", allowed)


def _texts(item: str, before: Any, after: Any, bounds: ChangeBounds) -> Iterable[Line]:
    if not same(plain(before), plain(after)):
        yield judged(item, before, after, "notes: allowed", bounds.notes == "allowed")


def _datasets(item: str, base: Sequence[Any], new: Sequence[Any], bounds: ChangeBounds) -> Iterable[Line]:
    def by_role(refs: Sequence[Any]) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for ref in refs:
            rest = {
                key: value for key, value in ref.model_dump(mode="json").items() if key not in ("root", "seq", "name")
            }
            label = ref.name + "".join(f", {key} {value}" for key, value in sorted(rest.items()))
            found.setdefault(label, []).append(ref.root)
        return {label: sorted(roots) for label, roots in found.items()}

    before, after = by_role(base), by_role(new)
    for label in sorted(set(before) | set(after)):
        if before.get(label) == after.get(label):
            continue
        name = label.partition(", ")[0]
        both = len(before.get(label, ())) == len(after.get(label, ()))
        yield judged(
            f"{item}: {label}",
            ", ".join(before.get(label, ())) or ABSENT,
            ", ".join(after.get(label, ())) or ABSENT,
            f"datasets: {name}",
            both and name in bounds.datasets,
        )


def _config(bounds: ChangeBounds, base: TrainingRun, new: TrainingRun) -> Iterable[Line]:
    before, after = flatten(base.config), flatten(new.config)
    for path in sorted(set(before) | set(after)):
        old, value = before.get(path, ABSENT), after.get(path, ABSENT)
        if path in before and path in after and same(old, value):
            continue
        rule = bounds.hyperparameters.get(path)
        allowed = path in after and rule is not None and rule.allows(value)
        yield judged(f"hyperparameter {path}", old, value, f"hyperparameters: {path}", allowed)
    if base.seed != new.seed:
        rules = [bounds.hyperparameters.get(name) for name in ("seed", "random_state")]
        allowed = new.seed is not None and any(rule is not None and rule.allows(new.seed) for rule in rules)
        yield judged("seed", base.seed, new.seed, "hyperparameters: seed", allowed)
    for name in sorted(set(base.seeds) | set(new.seeds)):
        if base.seeds.get(name) == new.seeds.get(name):
            continue
        rules = [bounds.hyperparameters.get(path) for path in (f"seeds.{name}", "seed", "random_state")]
        value = new.seeds.get(name)
        allowed = value is not None and any(rule is not None and rule.allows(value) for rule in rules)
        yield judged(f"seed {name}", base.seeds.get(name), value, f"hyperparameters: seeds.{name}", allowed)


def _code(item: str, base: Any, new: Any, bounds: ChangeBounds) -> Iterable[Line]:
    known = all(ref.vcs == "git" and ref.commit not in ("", "none") for ref in (base, new))
    before, after = base.model_dump(mode="json"), new.model_dump(mode="json")
    changed = [
        name for name in sorted((set(before) | set(after)) - {"authors"}) if not same(before.get(name), after.get(name))
    ]
    clean = bounds.code_change == "allowed" and known and new.dirty is False
    for name in changed:
        allowed = clean and name in _CODE
        yield judged(f"{item}: {name}", before.get(name), after.get(name), "code_change: allowed", allowed)
    if not known:
        text = f"{item}: no commit is recorded, so it cannot be shown to be the same"
        yield Line(f"{item}: commit", shown(base.commit), shown(new.commit), None, False, text)


def _all_tables(record: Evaluation) -> dict[str, Any]:
    """An evaluation's tables; slices and the sensitivity table, which have fields of their own, are two more of them."""
    own = {"slices": record.slices, "sensitivity": record.perturbations}
    rows = {name: [row.model_dump(mode="json") for row in part] for name, part in own.items() if part}
    return {**rows, **record.tables}


def _tables(bounds: ChangeBounds, before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterable[Line]:
    for name in sorted(set(before) | set(after)):
        if name in before and name in after and same(before[name], after[name]):
            continue
        allowed = name in bounds.tables and name in before and name in after
        old, new = (shown(part[name], 40) if name in part else ABSENT for part in (before, after))
        yield judged(f"table {name}", old, new, f"tables: {name}", allowed)


def _cadence(
    bounds: ChangeBounds,
    base: VersionFacts,
    new: VersionFacts,
    earlier: Sequence[VersionFacts] | None,
    now: datetime | None,
) -> Iterable[Line]:
    moment_us = new.evaluation_time_us if now is None else int(now.timestamp() * 1_000_000)
    if bounds.expires is not None:
        alive = moment_us < int(parse_utc(bounds.expires).timestamp() * 1_000_000)
        yield judged("plan", f"until {bounds.expires}", f"at {_when(moment_us)}", "expires", alive)
    days = (new.training_time_us - base.training_time_us) / _US_A_DAY
    if bounds.max_days_since_base is not None:
        fine = days <= bounds.max_days_since_base
        yield judged(
            "days since the base version", "", f"{days:.1f}", f"max_days_since_base: {bounds.max_days_since_base}", fine
        )
    others = None if earlier is None else [item for item in earlier if item.training.version != new.training.version]
    unknown = "which versions the plan has covered before is not known"
    if bounds.max_versions is not None:
        count = None if others is None else len({item.training.version for item in others}) + 1
        text = unknown if count is None else f"number {count}"
        fine = count is not None and count <= bounds.max_versions
        yield judged("versions under the plan", "", text, f"max_versions: {bounds.max_versions}", fine)
    if bounds.min_days_between is not None:
        times = [
            item.training_time_us for item in (base, *(others or ())) if item.training_time_us <= new.training_time_us
        ]
        gap = None if others is None or not times else (new.training_time_us - max(times)) / _US_A_DAY
        fine = gap is not None and gap >= bounds.min_days_between
        text = unknown if gap is None else f"{gap:.1f}"
        yield judged("days since the version before", "", text, f"min_days_between: {bounds.min_days_between}", fine)


def _when(moment_us: int) -> str:
    return datetime.fromtimestamp(moment_us / 1e6, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
