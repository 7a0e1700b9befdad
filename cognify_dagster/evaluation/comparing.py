"""Champion and challenger on the same snapshot, with paired intervals of the differences.

Invariants: both sides were measured on one snapshot root, otherwise the comparison is refused; a difference without a paired
interval is shown and not judged; which side is better follows from the interval alone, never from the point values.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation.metrics import check_bootstrap, percentile_interval
from cognify_dagster.evaluation.recording import require_snapshot_entry
from cognify_dagster.evaluation.scoring import (
    SCORERS,
    Array,
    Function,
    Scorer,
    bootstrap,
    column,
    labels_for,
    read_as,
    scorers,
)
from cognify_dagster.evaluation.slices import _strata
from cognify_dagster.evaluation.suite import EvalArtifact
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    Compared,
    Comparison,
    DatasetRef,
    Evaluation,
    EvidenceItem,
    MetricDifference,
    TrainingRun,
    to_metric,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace

#: Attachment of an evaluation that holds each record's label and score, so that later versions can be compared in pairs.
PREDICTIONS = "predictions.json"
_FORMAT = "cognify-predictions-1"

Verdict = Literal["better", "worse", "no_clear_difference", "not_judged"]


class Scored(NamedTuple):
    """Labels and scores of one evaluation by record id."""

    ids: tuple[str, ...]
    labels: Array
    scores: Array
    threshold: float | None


def differences(
    labels: Any,
    champion: Any,
    challenger: Any,
    *,
    metrics: Iterable[str | Scorer] | Mapping[str, Function] = ("auc",),
    champion_threshold: float | None = None,
    challenger_threshold: float | None = None,
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[MetricDifference, ...]:
    """Compares two outputs for the same records: challenger minus champion, with paired bootstrap intervals.

    Each replicate draws records (within each label) once and measures both sides on them.

    Raises:
        EvaluationError: unusable input; the message names the argument.
    """
    import numpy as np

    check_bootstrap(n_boot, confidence)
    chosen = scorers(metrics)
    truth = labels_for(labels, chosen)
    old, new = column(champion, "champion", truth.size), column(challenger, "challenger", truth.size)
    pairs = [
        (item, read_as(item, old, champion_threshold), read_as(item, new, challenger_threshold)) for item in chosen
    ]

    def gaps(rows: Array) -> Array:
        return np.array([s.function(truth[rows], b[rows]) - s.function(truth[rows], a[rows]) for s, a, b in pairs])

    drawn = bootstrap(gaps, _strata(truth), n_boot, seed)
    found = []
    for place, (scorer, a, b) in enumerate(pairs):
        before, after = scorer.function(truth, a), scorer.function(truth, b)
        low, high = percentile_interval(drawn[:, place], confidence)
        found.append(_difference(scorer, before, after, low, high, int(truth.size)))
    return tuple(found)


def _difference(
    scorer: Scorer, before: float, after: float, low: float | None, high: float | None, n: int | None
) -> MetricDifference:
    return MetricDifference(
        name=scorer.name,
        champion=to_metric(before),
        challenger=to_metric(after),
        difference=to_metric(after - before),
        ci_low=None if low is None else to_metric(low),
        ci_high=None if high is None else to_metric(high),
        n=n,
        higher_is_better=scorer.higher_is_better,
        verdict=_verdict(scorer.higher_is_better, low, high),
    )


def _verdict(higher_is_better: bool | None, low: float | None, high: float | None) -> Verdict:
    if low is None or high is None or higher_is_better is None or low != low or high != high:  # noqa: PLR0124 (NaN)
        return "not_judged"
    if low > 0.0 or high < 0.0:
        return "better" if (low > 0.0) == higher_is_better else "worse"
    return "no_clear_difference"


def predictions_artifact(
    ids: Sequence[Any],
    labels: Any,
    scores: Any,
    *,
    threshold: float | None = None,
    sensitivity: Literal["public", "internal", "confidential", "personal"] = "confidential",
) -> EvalArtifact:
    """Makes the attachment with each record's label and score; with it two sealed evaluations can be compared in pairs.

    Args:
        ids: The records' ids, each once. Take what names no person.
        labels: What happened.
        scores: The model's output.
        threshold: Outputs of at least this are decided 1.
        sensitivity: How it is kept.

    Raises:
        EvaluationError: unusable input, or a repeated id.
    """
    truth = column(labels, "labels")
    output = column(scores, "scores", truth.size)
    named = [str(item) for item in ids]
    if len(named) != truth.size or len(set(named)) != len(named):
        raise EvaluationError(f"ids: expected {truth.size} different ids, one for each label")
    order = sorted(range(len(named)), key=lambda place: named[place])
    data = {
        "format": _FORMAT,
        "threshold": threshold,
        "ids": [named[place] for place in order],
        "labels": [float(truth[place]) for place in order],
        "scores": [float(output[place]) for place in order],
    }
    return EvalArtifact(
        name=PREDICTIONS, media_type="application/json", data=canonical_json(data), sensitivity=sensitivity
    )


def compare_on_snapshot(
    reading: Reading,
    *,
    challenger: tuple[str, str],
    champion: tuple[str, str] | str,
    dataset: DatasetRef,
    labels: Any,
    champion_scores: Any,
    challenger_scores: Any,
    metrics: Iterable[str | Scorer] | Mapping[str, Function] = ("auc",),
    champion_threshold: float | None = None,
    challenger_threshold: float | None = None,
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares two sides that were both scored on one snapshot.

    Args:
        reading: The ledger.
        challenger: Model key and version that this comparison is for.
        champion: Model key and version to compare with, or what an approach in use is called that is not under governance.
        dataset: The snapshot that both sides were scored on.
        labels: What happened, in the snapshot's order.
        champion_scores: The champion's output for the same records.
        challenger_scores: The challenger's.
        metrics: As for `evaluate_slices`.
        champion_threshold: Its decision threshold, where metrics of decisions are compared.
        challenger_threshold: The same of the challenger.
        n_boot: Replicates.
        confidence: Share covered by the intervals.
        seed: Of the resampling.

    Raises:
        EvaluationError: a version without a sealed run, data without a snapshot entry, another number of records than the
            snapshot has, or unusable input.
    """
    snapshot = require_snapshot_entry(reading, dataset)
    sides = (_sealed(reading, *challenger), _side(reading, champion))
    if sides[0].model_digest is not None and sides[0].model_digest == sides[1].model_digest:
        raise EvaluationError(
            f"{sides[0].name} and {sides[1].name} are the same model bytes; there is nothing to compare"
        )
    found = differences(
        labels,
        champion_scores,
        challenger_scores,
        metrics=metrics,
        champion_threshold=champion_threshold,
        challenger_threshold=challenger_threshold,
        n_boot=n_boot,
        confidence=confidence,
        seed=seed,
    )
    n, known = found[0].n, snapshot.record.record_count
    if known is not None and n != known:
        raise EvaluationError(
            f"{n} records were scored, {dataset.name} entry {dataset.seq} has {known}: score the whole snapshot with both sides"
        )
    return Comparison(
        champion=sides[1],
        challenger=sides[0],
        dataset=dataset,
        method=_method(n_boot, seed, confidence),
        n=n,
        metrics=found,
    )


def compare_evaluations(
    workspace: Workspace,
    model: str,
    champion: str,
    challenger: str,
    *,
    champion_model: str | None = None,
    metrics: Sequence[str] = (),
    n_boot: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Comparison:
    """Compares the newest evaluations of two sealed versions. Writes nothing.

    Where both carry the attachment `predictions.json`, the differences get paired intervals; otherwise the recorded numbers
    stand side by side and nothing is judged.

    Args:
        workspace: Where the records are.
        model: The challenger's model key.
        champion: The version to compare with.
        challenger: The version in question.
        champion_model: The champion's model key, where it is another model.
        metrics: Names to compare; by default those that both have.
        n_boot: Replicates.
        confidence: Share covered by the intervals.
        seed: Of the resampling.

    Raises:
        EvaluationError: no evaluation, or evaluations on different snapshot roots.
    """
    reading = workspace.read()
    old = _evaluation(reading, champion_model or model, champion)
    new = _evaluation(reading, model, challenger)
    a, b = old.record.dataset, new.record.dataset
    if a.root != b.root:
        raise EvaluationError(
            f"{champion} was evaluated on {a.name}, root {a.root[:16]}… (entry {old.seq}), {challenger} on {b.name}, root "
            f"{b.root[:16]}… (entry {new.seq}): results on different data are not compared. Evaluate both on one snapshot"
        )
    pairs = _paired(workspace, old, new)
    notes: tuple[str, ...] = ()
    found: tuple[MetricDifference, ...] = ()
    names = [*metrics] or _shared(old.record, new.record)
    if pairs is not None:
        chosen = [name for name in names if name in SCORERS] or ["auc"]
        found = differences(
            pairs[0].labels,
            pairs[0].scores,
            pairs[1].scores,
            metrics=chosen,
            champion_threshold=pairs[0].threshold,
            challenger_threshold=pairs[1].threshold,
            n_boot=n_boot,
            confidence=confidence,
            seed=seed,
        )
        rest = [name for name in names if name not in chosen]
        method = _method(n_boot, seed, confidence)
    else:
        rest, method = names, "recorded numbers side by side; without paired records nothing is judged"
        notes = (f"For paired intervals both evaluations need the attachment {PREDICTIONS}.",)
    return Comparison(
        champion=_compared(old),
        challenger=_compared(new),
        dataset=b,
        method=method,
        n=len(pairs[0].ids) if pairs is not None else None,
        metrics=(*found, *_side_by_side(old.record, new.record, rest)),
        notes=notes,
    )


def _method(n_boot: int, seed: int, confidence: float) -> str:
    return f"paired bootstrap within labels, {n_boot} replicates, seed {seed}, {confidence:.0%} percentile intervals"


def _shared(old: Evaluation, new: Evaluation) -> list[str]:
    names = {item.name for item in old.metrics}
    return [item.name for item in new.metrics if item.name in names]


def _side_by_side(old: Evaluation, new: Evaluation, names: Sequence[str]) -> tuple[MetricDifference, ...]:
    before, after = ({item.name: item for item in record.metrics} for record in (old, new))
    lacking = [name for name in names if name not in before or name not in after]
    if lacking:
        raise EvaluationError(
            f"{lacking[0]!r} is not a metric of both evaluations; both have: {', '.join(_shared(old, new))}"
        )
    return tuple(
        _difference(
            SCORERS.get(name, Scorer(name, lambda _y, _s: 0.0)),
            float(before[name].value),
            float(after[name].value),
            None,
            None,
            None,
        )
        for name in names
    )


def _paired(workspace: Workspace, old: Recorded[Evaluation], new: Recorded[Evaluation]) -> tuple[Scored, Scored] | None:
    items = [next((a for a in side.record.artefacts if a.name == PREDICTIONS), None) for side in (old, new)]
    if items[0] is None or items[1] is None:
        return None
    first, second = _predictions(workspace, items[0]), _predictions(workspace, items[1])
    if first.ids != second.ids or not bool((first.labels == second.labels).all()):
        raise EvaluationError(
            f"the {PREDICTIONS} of entries {old.seq} and {new.seq} hold other records or labels, though the snapshot is the same"
        )
    return first, second


def _predictions(workspace: Workspace, item: EvidenceItem) -> Scored:
    import numpy as np

    try:
        data = json.loads(workspace.evidence.get(item.digest))
        if data["format"] != _FORMAT:
            raise ValueError(f"format {data['format']!r} is not {_FORMAT}")
        ids = tuple(str(one) for one in data["ids"])
        labels, scores = (np.asarray(data[name], dtype=np.float64) for name in ("labels", "scores"))
        if labels.shape != (len(ids),) or scores.shape != (len(ids),) or not ids:
            raise ValueError("ids, labels and scores have different lengths")
        threshold = data["threshold"]
        return Scored(ids, labels, scores, None if threshold is None else float(threshold))
    except EvidenceError:
        raise
    except (ValueError, KeyError, TypeError) as error:
        raise EvaluationError(f"{item.name} ({item.digest}) cannot be read: {error}") from None


def _evaluation(reading: Reading, model: str, version: str) -> Recorded[Evaluation]:
    found = reading.latest(Evaluation, f"model/{model}@{version}")
    if found is None:
        raise EvaluationError(f"{model} {version} has no evaluation on record")
    return found


def _compared(item: Recorded[Evaluation]) -> Compared:
    record = item.record
    return Compared(
        name=f"{record.model}@{record.version}",
        model=record.model,
        version=record.version,
        model_digest=record.model_digest,
        evaluation_seq=item.seq,
    )


def _sealed(reading: Reading, model: str, version: str) -> Compared:
    training = reading.latest(TrainingRun, f"model/{model}@{version}")
    if training is None:
        raise EvaluationError(f"{model} {version} has no sealed training run; only sealed versions are compared")
    return Compared(
        name=f"{model}@{version}", model=model, version=version, model_digest=training.record.model_file.digest
    )


def _side(reading: Reading, champion: tuple[str, str] | str) -> Compared:
    return Compared(name=champion) if isinstance(champion, str) else _sealed(reading, *champion)
