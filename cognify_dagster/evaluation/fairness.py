"""Group fairness of a decision, as a screen: numbers that say where to look, never a verdict of law.

Everything is stated from the side of the person decided about. The *favourable* decision ("credit granted") and the *good*
outcome ("repaid") are explicit inputs, because libraries and readers otherwise differ on what "positive" means:

* selection rate: share of the group with the favourable decision
* TPR: share of the people with the good outcome who got the favourable decision (equal opportunity compares these)
* FPR: share of the people with the bad outcome who got the favourable decision
* PPV: share of the favourable decisions that turned out good (predictive parity compares these)

Invariants:

* A group with fewer than ``min_cell`` records is shown with its size only, with status ``insufficient_data``; it enters no
  disparity and a note names it. A rate whose own denominator is below ``min_cell`` (for example FPR where a group has few
  bad outcomes) stays out of the disparities built on it, with a note.
* Fewer than two usable groups give a disparity with status ``insufficient_data``, never the value 0.
* Point values come from fairlearn's ``MetricFrame``; resampling is used for intervals only.

With different base rates, predictive parity and equal error rates cannot all hold; which of them counts is a policy choice
to be taken before results are seen.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation.fairness_results import Disparity, FairnessResult, GroupResult, Rate, Status
from cognify_dagster.evaluation.metrics import (
    auc_with_interval,
    check_binary,
    check_bootstrap,
    check_probability,
    percentile_interval,
)

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    FloatArray = NDArray[np.float64]

#: More groups than this is a column of values, not of groups (an age that was not banded, an identifier).
MAX_GROUPS = 100


def wilson_interval(successes: int, n: int, *, confidence: float = 0.95) -> tuple[float, float]:
    """The Wilson score interval of a share (Wilson 1927); NaN ends where ``n`` is 0.

    Raises:
        EvaluationError: more successes than trials, or a negative count.
    """
    from statistics import NormalDist

    if n < 0 or not 0 <= successes <= n:
        raise EvaluationError(f"wilson_interval: {successes} of {n} is not a share")
    if n == 0:
        return math.nan, math.nan
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    share = successes / n
    scale = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    # At 0 and n successes the exact ends are 0 and 1; rounding would leave 1e-17 there.
    return (0.0 if successes == 0 else centre - half), (1.0 if successes == n else centre + half)


def _rate(successes: int, n: int, min_cell: int, confidence: float) -> Rate:
    low, high = wilson_interval(successes, n, confidence=confidence)
    status: Status = "computed" if n >= min_cell else "insufficient_data"
    return Rate(successes / n if n else math.nan, low, high, n, status)


def _labels(groups: Sequence[Any]) -> list[str | None]:
    """Group labels as text; None, NaN and NA are "not known"."""
    named: list[str | None] = []
    for value in groups:
        # NaN and NaT differ from themselves; pandas.NA answers neither way, so it is told by its name.
        unknown = value is None or type(value).__name__ in ("NAType", "NaTType") or bool(value != value)  # noqa: PLR0124
        named.append(None if unknown else str(value))
    return named


_RATES = ("selection_rate", "tpr", "fpr", "ppv")

#: name -> (rates compared, ratio or difference, higher is better)
_DISPARITIES: dict[str, tuple[tuple[str, ...], str, bool]] = {
    "demographic_parity_difference": (("selection_rate",), "difference", False),
    "demographic_parity_ratio": (("selection_rate",), "ratio", True),
    "adverse_impact_ratio": (("selection_rate",), "ratio", True),
    "equal_opportunity_difference": (("tpr",), "difference", False),
    "equalized_odds_difference": (("tpr", "fpr"), "difference", False),
    "predictive_parity_difference": (("ppv",), "difference", False),
}


def _bootstrap_rates(cells: Sequence[int], n_boot: int, rng: np.random.Generator) -> dict[str, FloatArray]:
    """Rates of one group under resampling. Rows enter the rates only through the four (outcome, decision) counts, so
    drawing rows with replacement is drawing those counts from a multinomial."""
    import numpy as np

    total = sum(cells)
    drawn = rng.multinomial(total, [cell / total for cell in cells], size=n_boot).astype(np.float64)
    bad_refused, bad_granted, good_refused, good_granted = drawn.T
    with np.errstate(invalid="ignore", divide="ignore"):
        return {
            "selection_rate": (bad_granted + good_granted) / total,
            "tpr": good_granted / (good_granted + good_refused),
            "fpr": bad_granted / (bad_granted + bad_refused),
            "ppv": good_granted / (good_granted + bad_granted),
        }


def _compare(by_rate: Sequence[FloatArray], unit: str) -> FloatArray:
    """Compares groups (last axis) for each replicate; for several rates the worst counts."""
    import numpy as np

    with np.errstate(invalid="ignore", divide="ignore"):
        if unit == "ratio":
            ratios: FloatArray = np.min([rate.min(axis=-1) / rate.max(axis=-1) for rate in by_rate], axis=0)
            return ratios
        gaps: FloatArray = np.max([rate.max(axis=-1) - rate.min(axis=-1) for rate in by_rate], axis=0)
        return gaps


def evaluate_fairness(
    attribute: str,
    groups: Sequence[Any],
    *,
    good_outcome: ArrayLike,
    favourable_decision: ArrayLike,
    favourable: str,
    score: ArrayLike | None = None,
    group_order: Sequence[str] = (),
    min_cell: int = 30,
    n_boot: int = 1000,
    auc_n_boot: int = 200,
    confidence: float = 0.95,
    seed: int = 0,
    source: str = "",
) -> FairnessResult:
    """Compares the groups of one sensitive attribute.

    Args:
        attribute: Name of the attribute, such as ``SEX``.
        groups: Each record's group; None or NaN where it is not known.
        good_outcome: 1 where the outcome was good (repaid), 0 elsewhere.
        favourable_decision: 1 where the decision was favourable (granted), 0 elsewhere.
        favourable: The favourable decision in words; it appears in every document.
        score: Probability of the good outcome, for the AUC by group.
        group_order: Labels in the order in which tables show them; others follow by name.
        min_cell: Smallest group, and smallest denominator, that is compared.
        n_boot: Replicates of the disparities, resampled within groups.
        auc_n_boot: Replicates of the AUC by group.
        confidence: Share covered by the intervals.
        seed: Seed of the resampling.
        source: Where the attribute comes from, in words. One that was inferred (from name or address) measures the inference
            as well as the model: say so here.

    Raises:
        EvaluationError: unusable input; the message names the argument. Also where fairlearn is not installed.
    """
    import numpy as np

    frame_class, rate_functions = _fairlearn()
    if not favourable.strip():
        raise EvaluationError("favourable: say in words which decision is the favourable one, such as 'credit granted'")
    if min_cell < 1:
        raise EvaluationError(f"min_cell: expected at least 1, got {min_cell}")
    check_bootstrap(n_boot, confidence)
    good = check_binary(good_outcome, "good_outcome")
    granted = check_binary(favourable_decision, "favourable_decision")
    names = _labels(groups)
    if not good.size == granted.size == len(names):
        raise EvaluationError(
            f"groups ({attribute}): {len(names)} records, but {good.size} outcomes and {granted.size} decisions"
        )
    probability = None if score is None else check_probability(score, "score", good.size)

    known = np.array([name is not None for name in names])
    shown_first = {label: position for position, label in enumerate(group_order)}
    present = sorted({n for n in names if n is not None}, key=lambda n: (shown_first.get(n, len(shown_first)), n))
    if not present:
        raise EvaluationError(f"groups ({attribute}): no record has a known group")
    if len(present) > MAX_GROUPS:
        raise EvaluationError(
            f"groups ({attribute}): {len(present)} different groups; band the values first (at most {MAX_GROUPS})"
        )
    column = np.array([name or "" for name in names], dtype=object)
    frame = frame_class(
        metrics=rate_functions,
        y_true=good[known],
        y_pred=granted[known],
        sensitive_features=column[known].astype(str),
    )

    rng = np.random.default_rng(seed)
    notes: list[str] = []
    results: list[GroupResult] = []
    usable: dict[str, list[str]] = {rate: [] for rate in _RATES}
    replicates: dict[str, dict[str, FloatArray]] = {}
    for group in present:
        rows = known & (column == group)
        n, positives = int(rows.sum()), int(good[rows].sum())
        if n < min_cell:
            results.append(GroupResult(group, n, None, "insufficient_data"))
            notes.append(f"{attribute} {group}: {n} records, fewer than {min_cell}; left out of every comparison.")
            continue
        cells = [int(((good == g) & (granted == d) & rows).sum()) for g in (0, 1) for d in (0, 1)]
        selected = cells[1] + cells[3]
        rates = {
            "selection_rate": _rate(selected, n, min_cell, confidence),
            "tpr": _rate(cells[3], positives, min_cell, confidence),
            "fpr": _rate(cells[1], n - positives, min_cell, confidence),
            "ppv": _rate(cells[3], selected, min_cell, confidence),
        }
        for name, rate in rates.items():
            if rate.status == "computed":
                usable[name].append(group)
            else:
                notes.append(
                    f"{attribute} {group}: {name} rests on {rate.n} records, fewer than {min_cell}; "
                    "left out of the comparisons of this rate."
                )
        replicates[group] = _bootstrap_rates(cells, n_boot, rng)
        auc: tuple[float | None, float | None, float | None] = (None, None, None)
        if probability is not None and min(positives, n - positives) >= min_cell:
            metric = auc_with_interval(
                good[rows], probability[rows], n_boot=auc_n_boot, confidence=confidence, seed=seed
            )
            auc = (metric.value, metric.ci_low, metric.ci_high)
        results.append(
            GroupResult(
                group,
                n,
                positives,
                "computed",
                selection_rate=rates["selection_rate"],
                tpr=rates["tpr"],
                fpr=rates["fpr"],
                ppv=rates["ppv"],
                auc=auc[0],
                auc_ci_low=auc[1],
                auc_ci_high=auc[2],
            )
        )
    missing = int((~known).sum())
    if missing:
        notes.append(f"{attribute}: {missing} records have no known group and are in no comparison.")

    sizes = {result.group: result.n for result in results}
    disparities = tuple(
        _disparity(name, frame.by_group, usable, replicates, sizes, confidence) for name in _DISPARITIES
    )
    excluded = tuple(result.group for result in results if result.status == "insufficient_data")
    return FairnessResult(
        attribute=attribute,
        favourable=favourable,
        purpose="screen",
        min_cell=min_cell,
        n_boot=n_boot,
        confidence=confidence,
        seed=seed,
        missing=missing,
        groups=tuple(results),
        disparities=disparities,
        excluded_groups=excluded,
        notes=tuple(notes),
        source=source,
    )


def _disparity(
    name: str,
    by_group: Any,
    usable: dict[str, list[str]],
    replicates: dict[str, dict[str, FloatArray]],
    sizes: dict[str, int],
    confidence: float,
) -> Disparity:
    import numpy as np

    rates, unit, higher = _DISPARITIES[name]
    compared = sorted({group for rate in rates for group in usable[rate]})
    n = sum(sizes[group] for group in compared)
    if any(len(usable[rate]) < 2 for rate in rates):
        return Disparity(name, None, None, None, unit, higher, tuple(compared), None, None, n, "insufficient_data")
    columns = [by_group.loc[usable[rate], rate].astype(float) for rate in rates]
    value = float(_compare([column.to_numpy()[None, :] for column in columns], unit)[0])
    if not math.isfinite(value):  # a ratio over groups of which none was ever selected
        return Disparity(name, None, None, None, unit, higher, tuple(compared), None, None, n, "insufficient_data")
    drawn = [np.stack([replicates[group][rate] for group in usable[rate]], axis=-1) for rate in rates]
    resampled = _compare(drawn, unit)
    resampled = resampled[np.isfinite(resampled)]
    low, high = percentile_interval(resampled, confidence) if resampled.size else (math.nan, math.nan)
    single = columns[0] if len(columns) == 1 else None
    return Disparity(
        name=name,
        value=value,
        ci_low=low,
        ci_high=high,
        unit=unit,
        higher_is_better=higher,
        groups=tuple(compared),
        lowest_group=None if single is None else str(single.idxmin()),
        highest_group=None if single is None else str(single.idxmax()),
        n=n,
        status="computed",
    )


def _fairlearn() -> tuple[Any, dict[str, Any]]:
    try:
        from fairlearn.metrics import MetricFrame, false_positive_rate, selection_rate, true_positive_rate
    except ImportError as error:
        raise EvaluationError(
            f"group fairness needs fairlearn ({error}); install it with: pip install 'cognify-dagster[fairness]'"
        ) from None

    def positive_predictive_value(y_true: Any, y_pred: Any) -> float:
        """Share of favourable decisions that turned out good; NaN where there was none."""
        chosen = y_pred == 1
        return float((y_true[chosen] == 1).mean()) if chosen.any() else math.nan

    return MetricFrame, {
        "selection_rate": selection_rate,
        "tpr": true_positive_rate,
        "fpr": false_positive_rate,
        "ppv": positive_predictive_value,
    }
