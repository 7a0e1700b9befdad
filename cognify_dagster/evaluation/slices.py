"""Metrics by site, by group, by any cut of the evaluation data, with the worst of them.

Invariants: a slice with fewer records than the minimum cell size is listed with its size and no metric; a share whose own
denominator is below it has no value; such a slice is never the worst, and never counts as good.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation.fairness import wilson_interval
from cognify_dagster.evaluation.metrics import check_bootstrap, percentile_interval
from cognify_dagster.evaluation.scoring import Array, Function, Scorer, bootstrap, column, labels_for, read_as, scorers
from cognify_dagster.records import SliceMetric, SliceResult, to_metric

if TYPE_CHECKING:
    By = str | Sequence[str]

#: More values than this are a column of values, not of slices.
MAX_SLICES = 500

UNKNOWN = "(not known)"
JOIN = " × "


def evaluate_slices(
    frame: Any,
    *,
    by: By | Sequence[By],
    label: str,
    score: str,
    metrics: Iterable[str | Scorer] | Mapping[str, Function] = ("auc",),
    threshold: float | None = None,
    kind: Literal["site", "group", "slice"] = "slice",
    min_cell: int = 30,
    n_boot: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
) -> tuple[SliceResult, ...]:
    """Measures a model on each slice of the evaluation data.

    Shares (accuracy, recall, …) get Wilson intervals, other metrics percentile intervals of a bootstrap within the slice,
    stratified by label.

    Args:
        frame: The evaluation data with the model's output: a pandas, polars or Arrow table, or a mapping of columns.
        by: The column to cut by. Several columns in a list give one table each; a tuple of columns their combinations.
        label: Column of what happened.
        score: Column of the model's output: a score, or with `threshold=None` and metrics of decisions, the decision.
        metrics: Names (see `scoring.SCORERS`), `Scorer`s, or a mapping of names to functions of labels and outputs.
        threshold: Records with ``score >= threshold`` are decided 1.
        kind: What the slices are. Sites are what multi-site validation compares.
        min_cell: Fewest records of a slice, and fewest behind a share, that are shown.
        n_boot: Replicates.
        confidence: Share covered by the intervals.
        seed: Of the resampling.

    Raises:
        EvaluationError: a column is missing or unusable; the message names it.
    """
    import numpy as np

    check_bootstrap(n_boot, confidence)
    if min_cell < 1:
        raise EvaluationError(f"min_cell: expected at least 1, got {min_cell}")
    chosen = scorers(metrics)
    labels = labels_for(_column(frame, label), chosen)
    outputs = column(_column(frame, score), score, labels.size)
    found: list[SliceResult] = []
    for cut in [by] if isinstance(by, (str, tuple)) else list(by):
        names = (cut,) if isinstance(cut, str) else tuple(cut)
        values = _values([_column(frame, name) for name in names], labels.size, names)
        distinct = sorted(set(values))
        if len(distinct) > MAX_SLICES:
            raise EvaluationError(
                f"{JOIN.join(names)}: {len(distinct)} different values; band them first (at most {MAX_SLICES})"
            )
        array = np.array(values, dtype=object)
        for value in distinct:
            rows = np.flatnonzero(array == value)
            own = [
                _measure(
                    item, labels[rows], read_as(item, outputs[rows], threshold), min_cell, n_boot, confidence, seed
                )
                for item in (chosen if rows.size >= min_cell else ())
            ]
            found.append(
                SliceResult(
                    kind=kind,
                    attribute=JOIN.join(names),
                    value=value,
                    n=int(rows.size),
                    status="computed" if own else "insufficient_data",
                    metrics=tuple(own),
                )
            )
    return tuple(found)


def _measure(
    scorer: Scorer, labels: Array, output: Array, min_cell: int, n_boot: int, confidence: float, seed: int
) -> SliceMetric:
    facts = {"name": scorer.name, "unit": scorer.unit, "higher_is_better": scorer.higher_is_better}
    n = int(labels.size if scorer.trials is None else scorer.trials(labels, output).sum())
    value = scorer.function(labels, output) if n >= min_cell else math.nan
    if n < min_cell or math.isnan(value):
        return SliceMetric.model_validate({**facts, "n": n, "status": "insufficient_data"})
    if scorer.trials is not None:
        low, high = wilson_interval(round(value * n), n, confidence=confidence)
    else:
        drawn = bootstrap(lambda rows: scorer.function(labels[rows], output[rows]), _strata(labels), n_boot, seed)  # type: ignore[arg-type,return-value]
        low, high = percentile_interval(drawn, confidence)
    return SliceMetric.model_validate(
        {**facts, "value": to_metric(value), "ci_low": to_metric(low), "ci_high": to_metric(high), "n": n}
    )


def _strata(labels: Array) -> Array:
    """Labels where there are few of them, so that each replicate holds as many events; one stratum for amounts."""
    import numpy as np

    return labels if np.unique(labels).size <= 10 else np.zeros(labels.shape)


def _column(frame: Any, name: str) -> Any:
    try:
        values = frame[name]
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise EvaluationError(f"the evaluation data have no column {name!r}") from error
    except Exception as error:  # each library of tables has an error of its own for it
        raise EvaluationError(f"the evaluation data have no column {name!r} ({type(error).__name__})") from error
    return values.to_pylist() if hasattr(values, "to_pylist") else values


def _values(columns: Sequence[Any], rows: int, names: Sequence[str]) -> list[str]:
    texts: list[list[str]] = []
    for name, values in zip(names, columns, strict=True):
        listed = [UNKNOWN if _missing(value) else str(value) for value in values]
        if len(listed) != rows:
            raise EvaluationError(f"{name}: {len(listed)} values for {rows} records")
        texts.append(listed)
    return [JOIN.join(parts)[:300] for parts in zip(*texts, strict=True)]


def _missing(value: Any) -> bool:
    # NaN and NaT differ from themselves; pandas.NA answers neither way, so it is told by its name.
    return value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)  # noqa: PLR0124
