"""Did training this version take so much compute that its maker counts, indicatively, as provider of a modified general-purpose model?

The Commission's guidelines on general-purpose AI models (C(2025) 5045 of 18 July 2025, formally C(2025) 7719; not binding) give a downstream
modifier an indicative criterion: training compute of the modification greater than a third of that of the original model. Where the
original figure can be neither known nor estimated, a third of 10^23 FLOP takes its place, or a third of 10^25 FLOP for a model with
systemic risk. Compute may be estimated from the hardware (N·L·H·U) or from the architecture (6·P·D); an error margin of 30 % of the
reported estimate is tolerated.

What is read from the sealed training run (everything optional; numbers may be decimal text, since JSON has no large integers):

* ``compute`` (`set_compute`): ``flops`` with ``flops_method``, and ``tokens`` (D) with ``parameters`` (P), as below;
* ``extra.compute.flop`` (and ``flop_method``): the total counted by other means;
* ``extra.compute.hardware``: one mapping, or a list of one for each period, of ``units`` (N), ``seconds`` (L), ``peak_flop_per_second``
  (H, of one unit) and ``utilisation`` (U, a share between 0 and 1);
* ``extra.compute.tokens`` (D: training tokens, each pass over the data counted) and ``extra.compute.parameters`` (P: all parameters
  of the model that was run, not only those that were trained);
* ``extra.compute.synthetic_data_flop``: spent on generating training data that is not public, discarded samples included;
* ``extra.compute.earlier_modifications_flop``: of earlier modifications by the same organisation that this version builds on;
* ``base_model.details``: ``training_compute_flop`` (and ``training_compute_source``), ``parameters``, ``training_tokens``,
  ``systemic_risk`` (true or false).

Invariants: pure; a verdict `below` is given only if the estimate plus its margin stays at or under the line, `above` only if the
estimate itself exceeds it, and everything between is `open`; of several estimates the largest counts; an unknown utilisation counts
as full use, which can support `below` and never `above`; a figure that is stated and cannot be read is named, and rules out `below`.
The result is evidence for a person's determination of role and no determination itself.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cognify_dagster.documents.coverage.gpai_compute import (
    ADDED,
    Estimate,
    Reader,
    estimates_of,
    original_of,
    show,
    that_counts,
)
from cognify_dagster.records import TrainingRun

#: Training compute above which a model that generates language, images or video from text is indicatively general-purpose, in FLOP.
GPAI_FLOP = 1e23
#: Cumulative training compute above which high-impact capabilities are presumed (Art. 51(2) of the AI Act), in FLOP.
SYSTEMIC_FLOP = 1e25
#: The share of the original model's compute that a modification has to exceed.
SHARE = 1 / 3
#: Tolerated error of an estimate, as a share of the estimate.
MARGIN = 0.3
FACT = "gpai_compute_ratio_above_third"

Verdict = Literal["above", "below", "open", "no_base_model"]

VERDICT_WORDS: dict[str, str] = {
    "above": "above the line: indicatively the provider of the modified model, with duties limited to the modification",
    "below": "below the line: by this criterion not the provider of the modified model; its duties stay with the upstream provider",
    "open": "open: the recorded figures do not settle it",
    "no_base_model": "not asked: the training run records no base model",
}


@dataclass(frozen=True)
class Determination:
    """What the recorded figures say about the compute criterion.

    Attributes:
        verdict: see `VERDICT_WORDS`.
        modification_flop: the figure that counts: the largest estimate plus what was added to it; None if there is none.
        highest_flop: the same with the tolerated margin on top.
        upper_bound: whether that figure is a bound rather than an estimate.
        estimates: all estimates that could be made.
        original_flop: compute of the original model; None if unknown.
        original_basis: `stated`, `estimated` (6·P·D of the base model) or `unknown`.
        line_flop: the figure that has to be exceeded; None where it depends on facts that are not recorded.
        ratio: modification over original; None if the original is unknown.
        near_line: whether the margin reaches across the line.
        systemic_base: whether the base model is recorded as one with systemic risk; None if that is not recorded.
        basis: how the figures lead to the verdict, in sentences.
        missing: what is not recorded or not readable, and would be needed or would make the figure better.
        assumptions: what was assumed.
    """

    verdict: Verdict
    modification_flop: float | None
    highest_flop: float | None
    upper_bound: bool
    estimates: tuple[Estimate, ...]
    original_flop: float | None
    original_basis: Literal["stated", "estimated", "unknown"]
    line_flop: float | None
    ratio: float | None
    near_line: bool
    systemic_base: bool | None
    basis: tuple[str, ...]
    missing: tuple[str, ...]
    assumptions: tuple[str, ...]

    @property
    def above_third(self) -> bool | None:
        """The derived fact for conditions of frameworks: true, false, or None where it is open."""
        return {"above": True, "below": False}.get(self.verdict)

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON, with the verdict in words."""
        return {**asdict(self), "words": VERDICT_WORDS[self.verdict], "margin": MARGIN}


def gpai_facts(run: TrainingRun | None) -> dict[str, bool]:
    """Return the derived fact for framework conditions; empty where it cannot be derived."""
    above = None if run is None else determine(run).above_third
    return {} if above is None else {FACT: above}


def determine(run: TrainingRun) -> Determination:
    """Compare the compute of a training run with the line for its base model. Pure; never raises on what a run holds.

    Args:
        run: the sealed training run.
    """
    reader = Reader()
    compute = reader.mapping(run.extra.get("compute"), "extra.compute")
    details = reader.mapping(run.base_model.get("details"), "base_model.details")
    estimates = estimates_of(run, compute, details, reader)
    added = sum(
        reader.number(compute, name, "extra.compute", zero=True, otherwise=words) or 0.0
        for name, words in ADDED.items()
    )
    counted = that_counts(estimates)
    flop = None if counted is None else counted.flop + added
    systemic = reader.flag(details, "systemic_risk", "base_model.details")
    original, original_basis = original_of(details, reader)
    lines = _lines(original, original_basis, systemic)
    verdict, near = _verdict(flop, counted is not None and counted.upper_bound, *lines)
    if verdict == "below" and reader.unreadable:
        verdict = "open"
    if not run.base_model:
        verdict, near = "no_base_model", False
    elif original is None and systemic is None:
        reader.missing.append("base_model.details.systemic_risk: whether the base model is one with systemic risk")
    result = Determination(
        verdict=verdict,
        modification_flop=flop,
        highest_flop=None if flop is None else flop * (1 + MARGIN),
        upper_bound=counted is not None and counted.upper_bound,
        estimates=estimates,
        original_flop=original,
        original_basis=original_basis,
        line_flop=None if original is None and systemic is None else _line(original, systemic),
        ratio=None if flop is None or original is None else flop / original,
        near_line=near,
        systemic_base=systemic,
        basis=(),
        missing=tuple(dict.fromkeys(reader.missing)),
        assumptions=tuple(dict.fromkeys(reader.assumptions)),
    )
    return replace(result, basis=_basis(result, counted, added))


def _line(original: float | None, systemic: bool | None) -> float:
    return SHARE * (original if original is not None else SYSTEMIC_FLOP if systemic else GPAI_FLOP)


def _lines(original: float | None, basis: str, systemic: bool | None) -> tuple[float, float]:
    """Return the lowest and the highest line that what is recorded allows for."""
    if original is not None:
        line = _line(original, systemic)
        return (line * (1 - MARGIN), line) if basis == "estimated" else (line, line)
    if systemic is None:
        return _line(None, False), _line(None, True)
    return _line(None, systemic), _line(None, systemic)


def _verdict(flop: float | None, bound: bool, low: float, high: float) -> tuple[Verdict, bool]:
    """Return the verdict, and whether the margin reaches across a line."""
    if flop is None:
        return "open", False
    if flop * (1 + MARGIN) <= low:
        return "below", False
    near = flop * (1 - MARGIN) <= high
    return ("above" if flop > high and not bound else "open"), near


def _basis(result: Determination, counted: Estimate | None, added: float) -> tuple[str, ...]:
    if result.verdict == "no_base_model":
        return ("No base model is recorded, so nothing was modified as far as the record shows.",)
    steps = ["The compute of the modification cannot be estimated from what is recorded."]
    flop, original, line = result.modification_flop, result.original_flop, result.line_flop
    if counted is not None and flop is not None:
        more = f", plus {show(added)} for synthetic data or earlier modifications" if added else ""
        steps = [
            f"Modification: {counted.working}{more}; with the tolerated margin of 30 % at most {show(flop * 1.3)}."
        ]
    proper = [item.flop for item in result.estimates if not item.upper_bound]
    if proper and min(proper) < max(proper) * (1 - MARGIN):
        steps.append(
            "The estimates differ by more than the margin; the largest counts, and the figures need a second look."
        )
    if original is not None:
        steps.append(
            f"Original model: {show(original)} ({result.original_basis}); a third of it is {show(original * SHARE)}."
        )
        if result.ratio is not None:
            steps.append(f"Ratio of modification to original: {result.ratio:.3g}.")
        if original <= GPAI_FLOP:
            steps.append(
                f"The original is not above {show(GPAI_FLOP)}, which indicates that it is no general-purpose model at all."
            )
    elif line is not None:
        steps.append(f"The original model's compute is not known; the line that takes its place is {show(line)}.")
    else:
        steps.append(
            f"The original model's compute is not known; the line is {show(GPAI_FLOP * SHARE)}, or {show(SYSTEMIC_FLOP * SHARE)} "
            "if the base model is one with systemic risk."
        )
    if result.near_line:
        steps.append("With the margin, the figures do not lie clearly on one side of the line.")
    steps.append(
        "The criterion is indicative; what decides is a significant change in generality, capabilities or systemic risk."
    )
    return tuple(steps)
