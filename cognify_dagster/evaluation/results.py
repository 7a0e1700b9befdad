"""Plain results made ready to be recorded: a mapping of numbers, or pieces of results, becomes an `EvalResult`.

Invariant: nothing is filled in. A number without an interval has none, and a gate on that interval finds it missing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import NormalDist
from typing import Any

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation.fairness_results import FairnessResult
from cognify_dagster.evaluation.metrics import MetricValue, PerformanceResult
from cognify_dagster.evaluation.suite import EvalResult
from cognify_dagster.records import Comparison, Perturbation, SliceResult

#: Two-sided normal quantile of a 95 % interval.
Z95 = NormalDist().inv_cdf(0.975)

_NAME = re.compile(r"^[\x21-\x7e]{1,200}$")
_MEMBERS = frozenset(("value", "ci_low", "ci_high", "stderr", "n", "unit", "higher_is_better", "objective"))
_PIECES: tuple[tuple[type, str], ...] = (
    (FairnessResult, "fairness"),
    (SliceResult, "slices"),
    (Comparison, "comparisons"),
    (Perturbation, "perturbations"),
)


def as_eval_result(
    results: Any,
    *,
    n: int | None = None,
    protected_attributes: Sequence[str] = (),
    objective_of: Callable[[str], str] | None = None,
    notes: Iterable[str] = (),
) -> EvalResult:
    """Returns results of any accepted form as an `EvalResult`.

    Args:
        results: An `EvalResult`; a `PerformanceResult`; or a mapping of names to numbers, to mappings with `value` and
            optionally `ci_low`, `ci_high` or `stderr` (the interval is then value ± 1.96 standard errors), `n`, `unit`,
            `higher_is_better`, `objective`, to `MetricValue`s, or to pieces: an `EvalResult`, a `PerformanceResult`, or one or
            several `FairnessResult`, `SliceResult`, `Comparison` or `Perturbation`. The name `protected_attributes` stands for the
            list of those that were evaluated.
        n: Records evaluated; needed where no piece says it.
        protected_attributes: Those that were evaluated; attributes of fairness results are added.
        objective_of: Says what a metric of that name is evidence for, where the results do not.
        notes: Sentences that a reader needs.

    Raises:
        EvaluationError: naming the entry that has no accepted form.
    """
    if isinstance(results, EvalResult):
        made = results
    elif isinstance(results, PerformanceResult):
        made = EvalResult(metrics=results.metrics, calibration=results.calibration, n=results.n)
    elif isinstance(results, Mapping):
        made = _of_mapping(results, n)
    else:
        raise EvaluationError(
            f"results: expected an EvalResult or a mapping of names to numbers, not a {type(results).__name__}. Give each of several results "
            "a name, such as {'groups': [...], 'auc': 0.8}; as_eval_result of cognify_dagster.evaluation says what else may stand there"
        )
    declared = tuple(dict.fromkeys((*made.protected_attributes, *protected_attributes)))
    metrics = made.metrics
    if objective_of is not None:
        metrics = tuple(m if m.objective else _with_objective(m, objective_of(m.name)) for m in metrics)
    return made.model_copy(
        update={"protected_attributes": declared, "metrics": metrics, "notes": (*made.notes, *notes)}
    )


def _of_mapping(results: Mapping[Any, Any], n: int | None) -> EvalResult:
    metrics: list[MetricValue] = []
    pieces: dict[str, list[Any]] = {}
    wholes: list[EvalResult] = []
    declared = results.get("protected_attributes", ())
    if isinstance(declared, str) or not all(isinstance(item, str) for item in declared):
        raise EvaluationError("results.protected_attributes: expected a list of names")
    for name, value in results.items():
        if name == "protected_attributes":
            continue
        if not isinstance(name, str) or not _NAME.match(name):
            raise EvaluationError(
                f"results: {str(name)[:80]!r} is no metric name; use 1 to 200 printable ASCII characters without spaces"
            )
        if isinstance(value, EvalResult):
            wholes.append(value)
        elif isinstance(value, PerformanceResult):
            wholes.append(as_eval_result(value))
        elif found := _pieces(value):
            for kind, items in found.items():
                pieces.setdefault(kind, []).extend(items)
        else:
            metrics.append(_metric(name, value, n))
    known = [item.n for item in wholes] + [item.n for item in metrics if item.n is not None]
    known += [f.missing + sum(group.n for group in f.groups) for f in pieces.get("fairness", ())]
    total = n if n is not None else max(known, default=0)
    if total < 1:
        raise EvaluationError("results: how many records were evaluated is not said; give n")
    attributes = tuple(dict.fromkeys((*declared, *(item.attribute for item in pieces.get("fairness", ())))))
    fields: dict[str, Any] = {kind: tuple(items) for kind, items in pieces.items()}
    made = EvalResult(metrics=tuple(metrics), n=total, protected_attributes=attributes, **fields)
    for whole in wholes:
        made = made.merged(whole)
    return made


def _pieces(value: Any) -> dict[str, list[Any]]:
    """The pieces in a value, by field; empty where it is none, or a mix."""
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    found: dict[str, list[Any]] = {}
    for item in items:
        field = next((name for kind, name in _PIECES if isinstance(item, kind)), None)
        if field is None:
            return {}
        found.setdefault(field, []).append(item)
    return found


def _metric(name: str, value: Any, n: int | None) -> MetricValue:
    if isinstance(value, MetricValue):
        return value if value.name == name else _renamed(value, name)
    members: Mapping[str, Any] = value if isinstance(value, Mapping) else {"value": value}
    unknown = sorted(str(key) for key in members if key not in _MEMBERS)
    if unknown:
        raise EvaluationError(
            f"results.{name}: {unknown[0]!r} is not a known member; known: {', '.join(sorted(_MEMBERS))}"
        )
    if "value" not in members:
        raise EvaluationError(f"results.{name}: value is missing")
    number = _number(members["value"], f"{name}.value")
    low, high = _optional(members, name, "ci_low"), _optional(members, name, "ci_high")
    stderr = _optional(members, name, "stderr")
    if stderr is not None and low is None and high is None:
        if not stderr >= 0:
            raise EvaluationError(f"results.{name}.stderr: a standard error is not negative")
        low, high = number - Z95 * stderr, number + Z95 * stderr
    if (low is None) != (high is None):
        raise EvaluationError(f"results.{name}: ci_low and ci_high go together")
    if low is not None and high is not None and low > high:
        raise EvaluationError(f"results.{name}: ci_low {low:g} is above ci_high {high:g}")
    own = members.get("n", n)
    if own is not None and (isinstance(own, bool) or int(own) != own or own < 0):
        raise EvaluationError(f"results.{name}.n: expected a number of records, got {own!r}")
    better = members.get("higher_is_better")
    if better is not None and not isinstance(better, bool):
        raise EvaluationError(f"results.{name}.higher_is_better: expected true or false")
    return MetricValue(
        name,
        number,
        low,
        high,
        None if own is None else int(own),
        str(members.get("unit", "")),
        better,
        str(members.get("objective", "")),
    )


def _optional(members: Mapping[str, Any], name: str, key: str) -> float | None:
    return None if members.get(key) is None else _number(members[key], f"{name}.{key}")


def _number(value: Any, where: str) -> float:
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:  # numpy and torch scalars, without importing them
        value = value.item()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        hint = " (log tables and texts as artifacts)" if isinstance(value, (str, list, tuple)) else ""
        raise EvaluationError(f"results.{where}: expected a number, got a {type(value).__name__}{hint}")
    try:
        return float(value)
    except OverflowError:
        return math.copysign(math.inf, value)


def _renamed(value: MetricValue, name: str) -> MetricValue:
    from dataclasses import replace

    return replace(value, name=name)


def _with_objective(value: MetricValue, objective: str) -> MetricValue:
    from dataclasses import replace

    return replace(value, objective=objective)
