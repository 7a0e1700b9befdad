"""Metrics by name, for slices, sensitivity and comparisons: one number from labels and outputs, with its direction.

A metric of kind `score` reads what the model puts out (a probability, a predicted amount), one of kind `decision` reads 0 and 1
(or the predicted class), which a threshold makes of the output where one is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cognify_dagster.evaluation._errors import EvaluationError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]
else:
    Array = Any  # numpy is imported when first used

#: Takes labels and outputs (or decisions) of the same length, returns a number.
Function = Callable[[Any, Any], float]


@dataclass(frozen=True)
class Scorer:
    """A metric.

    Attributes:
        name: Its flat name.
        function: From labels and outputs to the number; NaN where it is undefined.
        reads: What the second argument is.
        higher_is_better: The direction; None where neither end is better.
        unit: Of the number.
        trials: For a share: which records are its denominator, as a mask. Such a metric gets a Wilson interval.
    """

    name: str
    function: Function
    reads: Literal["score", "decision"] = "score"
    higher_is_better: bool | None = None
    unit: str = ""
    trials: Callable[[Any, Any], Any] | None = None


def auc(labels: Array, scores: Array) -> float:
    """Area under the ROC curve, ties counted half; NaN where there is one label only."""
    import numpy as np

    event = labels == 1
    n_events, n_others = int(event.sum()), int((~event).sum())
    if not n_events or not n_others:
        return float("nan")
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2.0)[place]
    return float((ranks[event].sum() - n_events * (n_events + 1) / 2.0) / (n_events * n_others))


def _mean(values: Array) -> float:
    return float(values.mean()) if values.size else float("nan")


def _r2(labels: Array, scores: Array) -> float:
    spread = float(((labels - labels.mean()) ** 2).sum()) if labels.size else 0.0
    return float("nan") if spread == 0.0 else 1.0 - float(((labels - scores) ** 2).sum()) / spread


def _share(
    name: str, trials: Callable[[Any, Any], Any], success: Callable[[Any, Any], Any], better: bool | None
) -> Scorer:
    def function(labels: Array, decisions: Array) -> float:
        mask = trials(labels, decisions)
        return _mean(success(labels[mask], decisions[mask]).astype(float))

    return Scorer(name, function, "decision", better, "ratio", trials)


def _all(labels: Array, _decisions: Array) -> Array:
    import numpy as np

    return np.ones(labels.shape, dtype=bool)


SCORERS: dict[str, Scorer] = {
    item.name: item
    for item in (
        Scorer("auc", auc, "score", True, "ratio"),
        Scorer("brier", lambda y, s: _mean((s - y) ** 2), "score", False, "squared probability"),
        Scorer("mae", lambda y, s: _mean(abs(s - y)), "score", False, "unit of the label"),
        Scorer("rmse", lambda y, s: _mean((s - y) ** 2) ** 0.5, "score", False, "unit of the label"),
        Scorer("r2", _r2, "score", True, "ratio"),
        Scorer("mean_score", lambda _y, s: _mean(s), "score", None, "unit of the score"),
        _share("accuracy", _all, lambda y, d: y == d, True),
        _share("error_rate", _all, lambda y, d: y != d, False),
        _share("recall", lambda y, _d: y == 1, lambda _y, d: d == 1, True),
        _share("specificity", lambda y, _d: y == 0, lambda _y, d: d == 0, True),
        _share("precision", lambda _y, d: d == 1, lambda y, _d: y == 1, True),
        _share("npv", lambda _y, d: d == 0, lambda y, _d: y == 0, True),
        _share("positive_rate", _all, lambda _y, d: d == 1, None),
        _share("event_rate", _all, lambda y, _d: y == 1, None),
    )
}


def scorers(metrics: Iterable[str | Scorer] | Mapping[str, Function]) -> tuple[Scorer, ...]:
    """Returns metrics by name or as given; a mapping of names to functions makes metrics without a direction.

    Raises:
        EvaluationError: an unknown name, or none at all.
    """
    if isinstance(metrics, Mapping):
        found = [Scorer(name, function) for name, function in metrics.items()]
    else:
        named = [metrics] if isinstance(metrics, str) else list(metrics)
        unknown = [item for item in named if isinstance(item, str) and item not in SCORERS]
        if unknown:
            raise EvaluationError(
                f"metrics: {unknown[0]!r} is unknown; known are {', '.join(SCORERS)}, or give a Scorer of your own"
            )
        found = [SCORERS[item] if isinstance(item, str) else item for item in named]
    if not found:
        raise EvaluationError("metrics: name at least one")
    names = [item.name for item in found]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise EvaluationError(f"metrics: {repeated[0]!r} is given twice")
    return tuple(found)


def column(values: Any, field: str, rows: int | None = None) -> Array:
    """Returns values as a one-dimensional numeric array.

    Raises:
        EvaluationError: empty, another length, not numeric, or a value that is missing; the message names the row.
    """
    import numpy as np

    if hasattr(values, "to_numpy"):
        values = values.to_numpy()
    array = np.asarray(values)
    if array.ndim != 1 or array.size == 0:
        raise EvaluationError(f"{field}: expected a non-empty column, got shape {array.shape}")
    if rows is not None and array.size != rows:
        raise EvaluationError(f"{field}: {array.size} values for {rows} records")
    try:
        number = array.astype(np.float64)
    except (TypeError, ValueError):
        raise EvaluationError(f"{field}: expected numbers (code the classes as 0, 1, …)") from None
    if np.isnan(number).any():
        raise EvaluationError(f"{field}: no value at row {int(np.flatnonzero(np.isnan(number))[0])}")
    return number


def labels_for(values: Any, chosen: Iterable[Scorer], rows: int | None = None) -> Array:
    """Returns labels; 0 and 1 where a metric needs events.

    Raises:
        EvaluationError: as `column`, and for other labels than 0 and 1 under a metric about events.
    """
    import numpy as np

    array = column(values, "labels", rows)
    asked = [item.name for item in chosen if item.name in _EVENTS]
    if asked and not bool(np.isin(array, (0.0, 1.0)).all()):
        raise EvaluationError(f"labels: {asked[0]} is about an event; expected only 0 and 1")
    return array


_EVENTS = frozenset(("auc", "brier", "recall", "specificity", "precision", "npv", "event_rate"))


def read_as(scorer: Scorer, output: Array, threshold: float | None) -> Array:
    """The model's output as a metric reads it: itself, or the decision that the threshold makes of it."""
    import numpy as np

    if scorer.reads == "score" or threshold is None:
        return output
    return (output >= threshold).astype(np.float64)


def bootstrap(function: Callable[[Array], Array], strata: Array, n_boot: int, seed: int) -> NDArray[np.float64]:
    """Values of `function` over resampled row numbers, drawn with replacement within each stratum.

    Args:
        function: From row numbers to numbers.
        strata: The stratum of each row.
        n_boot: Replicates.
        seed: Of the drawing.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    groups = [np.flatnonzero(strata == value) for value in np.unique(strata)]
    drawn = []
    for _ in range(n_boot):
        rows = np.concatenate([group[rng.integers(0, group.size, group.size)] for group in groups])
        drawn.append(function(rows))
    return np.asarray(drawn, dtype=np.float64)
