"""Performance metrics of a binary score, each with a bootstrap percentile interval.

The score is the predicted probability of the event (label 1). All metrics are computed from one table of resampling
weights, so that the cost grows with rows x replicates and not with the number of metrics.

The bootstrap is stratified by label: each replicate holds as many events as the sample. Intervals therefore say how the
metric varies for this event rate; they do not cover a changing event rate.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cognify_dagster.evaluation._errors import EvaluationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]
    IntArray = NDArray[np.int64]

#: Predicted probabilities are clipped to [LOG_LOSS_CLIP, 1 - LOG_LOSS_CLIP] for the log loss, which is infinite at 0 and 1.
LOG_LOSS_CLIP = 1e-15

#: Upper bound on resampling weights held at once (replicates x rows): about 64 MB as 8-byte numbers.
_CHUNK_CELLS = 8_000_000


@dataclass(frozen=True)
class MetricValue:
    """One measured number.

    Attributes:
        name: Flat name, such as ``auc``.
        value: The point estimate (NaN where it is undefined).
        ci_low: Lower end of the interval, in the metric's unit; NaN where it is undefined, None where none was made.
        ci_high: Upper end of the interval.
        n: Number of records behind the value; None where nobody said.
        unit: ``ratio``, ``difference``, ``probability``, ``squared probability``, ``nats``, ``count``, …
        higher_is_better: The direction; None where neither end is better.
        objective: In plain words, what the number is evidence for.
    """

    name: str
    value: float
    ci_low: float | None
    ci_high: float | None
    n: int | None
    unit: str
    higher_is_better: bool | None
    objective: str = ""


@dataclass(frozen=True)
class CalibrationBin:
    """One row of the calibration table: what was predicted and what was observed.

    Attributes:
        bin: 1 for the lowest scores.
        low: Smallest score in the bin (probability).
        high: Largest score in the bin (probability).
        n: Number of records.
        mean_predicted: Mean predicted probability.
        observed_rate: Share of records with the event.
        ci_low: Lower end of the bootstrap interval of the observed rate.
        ci_high: Upper end.
    """

    bin: int
    low: float
    high: float
    n: int
    mean_predicted: float
    observed_rate: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class PerformanceResult:
    """All metrics of one score, and how their intervals were made."""

    metrics: tuple[MetricValue, ...]
    calibration: tuple[CalibrationBin, ...]
    n: int
    n_events: int
    n_boot: int
    confidence: float
    seed: int

    def __getitem__(self, name: str) -> MetricValue:
        for metric in self.metrics:
            if metric.name == name:
                return metric
        raise KeyError(name)


def check_binary(values: ArrayLike, field: str) -> IntArray:
    """Returns labels or decisions as 0 and 1.

    Raises:
        EvaluationError: empty, not one-dimensional, or anything other than 0 and 1.
    """
    import numpy as np

    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise EvaluationError(f"{field}: expected a non-empty column, got shape {array.shape}")
    try:
        number = array.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise EvaluationError(f"{field}: expected only 0 and 1, got other values ({error})") from None
    if not bool(np.isin(number, (0.0, 1.0)).all()):
        position = int(np.flatnonzero(~np.isin(number, (0.0, 1.0)))[0])
        raise EvaluationError(f"{field}: expected only 0 and 1, found {array[position]!r} at row {position}")
    return number.astype(np.int64)


def check_probability(values: ArrayLike, field: str, rows: int) -> FloatArray:
    """Returns scores as probabilities.

    Raises:
        EvaluationError: another number of rows than the labels, or a value outside [0, 1].
    """
    import numpy as np

    array = np.asarray(values, dtype=np.float64)
    if array.shape != (rows,):
        raise EvaluationError(f"{field}: expected {rows} values, one for each label, got shape {array.shape}")
    inside = (array >= 0.0) & (array <= 1.0)  # False for NaN too
    if not bool(inside.all()):
        position = int(np.flatnonzero(~inside)[0])
        raise EvaluationError(f"{field}: expected probabilities in [0, 1], found {array[position]!r} at row {position}")
    return array


def check_bootstrap(n_boot: int, confidence: float) -> None:
    """Raises EvaluationError for settings that give no interval."""
    if not 20 <= n_boot <= 100_000:
        raise EvaluationError(f"n_boot: expected 20 to 100000 replicates, got {n_boot}")
    if not 0.5 <= confidence < 1.0:
        raise EvaluationError(f"confidence: expected a share in [0.5, 1), got {confidence}")


def percentile_interval(values: FloatArray, confidence: float) -> tuple[float, float]:
    """The percentile interval of bootstrap replicates; NaN ends where any replicate is undefined."""
    import numpy as np

    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(values, (tail, 1.0 - tail))
    return float(low), float(high)


def _generators(seed: int) -> tuple[np.random.Generator, np.random.Generator]:
    """One generator for each label, so that what is drawn does not depend on how replicates are grouped into chunks."""
    import numpy as np

    first, second = np.random.SeedSequence(seed).spawn(2)
    return np.random.default_rng(first), np.random.default_rng(second)


def _resample_weights(
    labels: IntArray, replicates: int, rngs: tuple[np.random.Generator, np.random.Generator]
) -> FloatArray:
    """How often each row occurs in each replicate, drawn within each label (shape replicates x rows)."""
    import numpy as np

    offsets = (np.arange(replicates, dtype=np.int64) * labels.size)[:, None]
    flat = np.zeros(replicates * labels.size, dtype=np.int64)
    for label in (0, 1):
        rows = np.flatnonzero(labels == label)
        drawn = rows[rngs[label].integers(0, rows.size, size=(replicates, rows.size))]
        flat += np.bincount((drawn + offsets).ravel(), minlength=flat.size)
    return flat.reshape(replicates, labels.size).astype(np.float64)


def _statistics(
    labels: IntArray, scores: FloatArray, bins: IntArray, n_bins: int
) -> Callable[[FloatArray], dict[str, Any]]:
    """Prepares what does not depend on the weights; the returned function computes every metric for many weightings.

    AUC is the Mann-Whitney statistic with half weight for ties (identical to the trapezoidal ROC area); KS is the largest
    distance between the two cumulative score distributions.
    """
    import numpy as np

    order = np.argsort(scores, kind="stable")
    sorted_scores, sorted_labels = scores[order], labels[order]
    starts = np.flatnonzero(np.concatenate(([True], sorted_scores[1:] != sorted_scores[:-1])))
    is_event = sorted_labels.astype(np.float64)
    squared = (scores - labels) ** 2
    clipped = np.clip(scores, LOG_LOSS_CLIP, 1.0 - LOG_LOSS_CLIP)
    log_loss = -np.where(labels == 1, np.log(clipped), np.log1p(-clipped))
    membership = np.zeros((labels.size, n_bins))
    membership[np.arange(labels.size), bins] = 1.0

    def compute(weights: FloatArray) -> dict[str, Any]:
        by_score = weights[:, order]
        events = np.add.reduceat(by_score * is_event, starts, axis=1)
        others = np.add.reduceat(by_score * (1.0 - is_event), starts, axis=1)
        n_events, n_others = events.sum(axis=1), others.sum(axis=1)
        others_below = np.cumsum(others, axis=1)
        area = (events * (others_below - 0.5 * others)).sum(axis=1) / (n_events * n_others)
        distance = np.abs(np.cumsum(events, axis=1) / n_events[:, None] - others_below / n_others[:, None]).max(axis=1)
        total = weights.sum(axis=1)
        in_bin = weights @ membership
        with np.errstate(invalid="ignore", divide="ignore"):
            predicted = (weights * scores) @ membership / in_bin
            observed = (weights * labels) @ membership / in_bin
        gap = np.where(in_bin > 0, np.abs(predicted - observed), 0.0)
        return {
            "auc": area,
            "gini": 2.0 * area - 1.0,
            "ks": distance,
            "brier": weights @ squared / total,
            "log_loss": weights @ log_loss / total,
            "ece": (gap * in_bin).sum(axis=1) / total,
            "bin_predicted": predicted,
            "bin_observed": observed,
        }

    return compute


def _quantile_bins(scores: FloatArray, n_bins: int) -> tuple[IntArray, int]:
    """Numbers the rows 0..k-1 by score quantile; equal scores share a bin, so heavy ties give fewer bins."""
    import numpy as np

    edges = np.unique(np.quantile(scores, np.linspace(0.0, 1.0, n_bins + 1)[1:-1]))
    raw = np.searchsorted(edges, scores, side="left")
    _, numbered = np.unique(raw, return_inverse=True)
    return numbered.astype(np.int64), int(numbered.max()) + 1


#: name -> (unit, higher is better, what it is evidence for)
_METRICS: dict[str, tuple[str, bool, str]] = {
    "auc": ("ratio", True, "Ranks risky above safe"),
    "gini": ("ratio", True, "Ranks risky above safe (2 x AUC - 1)"),
    "ks": ("ratio", True, "Separates good from bad"),
    "brier": ("squared probability", False, "Predicted probabilities are close to what happened"),
    "log_loss": ("nats", False, "Predicted probabilities are close to what happened, confident errors counted more"),
    "ece": ("probability", False, "Predicted and observed rates agree over the range of scores"),
}


def evaluate_performance(
    labels: ArrayLike,
    scores: ArrayLike,
    *,
    n_boot: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    n_bins: int = 10,
) -> PerformanceResult:
    """Measures a score against labels: AUC, Gini, KS, Brier, log loss, calibration by score quantile.

    ``ece`` (expected calibration error) is the record-weighted mean distance between predicted and observed rate over the
    calibration table; its bootstrap interval lies somewhat high, because resampling noise only ever adds distance.

    Args:
        labels: 1 where the event happened, 0 elsewhere.
        scores: Predicted probability of the event.
        n_boot: Bootstrap replicates, stratified by label.
        confidence: Share covered by the percentile intervals.
        seed: Seed of the resampling; the same seed gives the same intervals.
        n_bins: Bins of the calibration table (10: deciles); equal scores share a bin.

    Raises:
        EvaluationError: labels of one kind only, values out of range, or unusable settings.
    """
    import numpy as np

    truth = check_binary(labels, "labels")
    score = check_probability(scores, "scores", truth.size)
    check_bootstrap(n_boot, confidence)
    if n_bins < 2:
        raise EvaluationError(f"n_bins: expected at least 2, got {n_bins}")
    n_events = int(truth.sum())
    if n_events in (0, truth.size):
        raise EvaluationError("labels: all records have the same label; AUC and KS need both kinds")

    bins, count = _quantile_bins(score, n_bins)
    compute = _statistics(truth, score, bins, count)
    point = compute(np.ones((1, truth.size)))

    rngs = _generators(seed)
    chunk = max(1, _CHUNK_CELLS // truth.size)
    parts: list[dict[str, Any]] = []
    for start in range(0, n_boot, chunk):
        parts.append(compute(_resample_weights(truth, min(chunk, n_boot - start), rngs)))
    replicates = {name: np.concatenate([part[name] for part in parts]) for name in point}

    metrics = []
    for name, (unit, higher, objective) in _METRICS.items():
        low, high = percentile_interval(replicates[name], confidence)
        metrics.append(MetricValue(name, float(point[name][0]), low, high, truth.size, unit, higher, objective))
    table = []
    for number in range(count):
        rows = bins == number
        observed = replicates["bin_observed"][:, number]
        low, high = percentile_interval(observed[~np.isnan(observed)], confidence)
        table.append(
            CalibrationBin(
                bin=number + 1,
                low=float(score[rows].min()),
                high=float(score[rows].max()),
                n=int(rows.sum()),
                mean_predicted=float(point["bin_predicted"][0, number]),
                observed_rate=float(point["bin_observed"][0, number]),
                ci_low=low,
                ci_high=high,
            )
        )
    return PerformanceResult(tuple(metrics), tuple(table), truth.size, n_events, n_boot, confidence, seed)


def auc_with_interval(
    labels: ArrayLike, scores: ArrayLike, *, n_boot: int = 200, confidence: float = 0.95, seed: int = 0
) -> MetricValue:
    """AUC alone, for one group; NaN where the group has one label only."""
    import numpy as np

    truth = np.asarray(labels)
    if truth.size == 0 or truth.min() == truth.max():
        return MetricValue("auc", float("nan"), float("nan"), float("nan"), int(truth.size), "ratio", True)
    return evaluate_performance(truth, scores, n_boot=n_boot, confidence=confidence, seed=seed)["auc"]


def best_ks_threshold(labels: ArrayLike, scores: ArrayLike) -> tuple[float, float]:
    """The score at or above which the two label distributions are furthest apart, and that distance (KS).

    Choose it on training data (best on out-of-fold scores), never on the data that judges the model.

    Returns:
        ``(threshold, ks)``: records with ``score >= threshold`` are predicted to have the event.

    Raises:
        EvaluationError: labels of one kind only, or values out of range.
    """
    import numpy as np

    truth = check_binary(labels, "labels")
    score = check_probability(scores, "scores", truth.size)
    n_events = int(truth.sum())
    if n_events in (0, truth.size):
        raise EvaluationError("labels: all records have the same label; a threshold needs both kinds")
    order = np.argsort(score, kind="stable")
    ordered = score[order]
    events_below = np.cumsum(truth[order]) / n_events
    others_below = np.cumsum(1 - truth[order]) / (truth.size - n_events)
    last_of_level = np.flatnonzero(np.concatenate((ordered[1:] != ordered[:-1], [True])))
    distance = np.abs(others_below - events_below)[last_of_level]
    best = int(np.argmax(distance))
    if best + 1 >= last_of_level.size:
        return float(ordered[-1]), float(distance[best])
    # Half way between two score levels: rounding in a later run can't move a record across the threshold.
    low, high = ordered[last_of_level[best]], ordered[last_of_level[best + 1]]
    middle = float((low + high) / 2.0)
    return (middle if middle > low else float(high)), float(distance[best])
