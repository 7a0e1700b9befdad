"""Did training this version take so much compute that its maker counts, indicatively, as provider of a modified general-purpose model?

The Commission's guidelines on general-purpose AI models (C(2025) 5045 of 18 July 2025, formally C(2025) 7719; not binding) give a downstream
modifier an indicative criterion: training compute of the modification greater than a third of that of the original model. Where the
original figure can be neither known nor estimated, a third of 10^23 FLOP takes its place, or a third of 10^25 FLOP for a model with
systemic risk. Compute may be estimated from the hardware (N·L·H·U) or from the architecture (6·P·D); an error margin of 30 % of the
reported estimate is tolerated.

What is read from the sealed training run (everything optional; numbers may be decimal text, since JSON has no large integers):

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

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from cognify_dagster.records import TrainingRun

#: Training compute above which a model that generates language, images or video from text is indicatively general-purpose, in FLOP.
GPAI_FLOP = 1e23
#: Cumulative training compute above which high-impact capabilities are presumed (Art. 51(2) of the AI Act), in FLOP.
SYSTEMIC_FLOP = 1e25
#: The share of the original model's compute that a modification has to exceed.
SHARE = 1 / 3
#: Tolerated error of an estimate, as a share of the estimate.
MARGIN = 0.3
#: Larger numbers are taken for mistakes: no training is within many orders of magnitude.
MAX_FIGURE = 1e40
MAX_PERIODS = 1000
FACT = "gpai_compute_ratio_above_third"

Verdict = Literal["above", "below", "open", "no_base_model"]

VERDICT_WORDS: dict[str, str] = {
    "above": "above the line: indicatively the provider of the modified model, with duties limited to the modification",
    "below": "below the line: by this criterion not the provider of the modified model; its duties stay with the upstream provider",
    "open": "open: the recorded figures do not settle it",
    "no_base_model": "not asked: the training run records no base model",
}


@dataclass(frozen=True)
class Estimate:
    """One estimate of training compute.

    Attributes:
        method: `hardware` (N·L·H·U), `architecture` (6·P·D) or `counted` (stated as a total).
        flop: the result, in floating point operations.
        upper_bound: whether an unknown was set to its largest value, so that the true figure can only be smaller.
        working: the formula with its figures and where each was read.
    """

    method: Literal["hardware", "architecture", "counted"]
    flop: float
    working: str
    upper_bound: bool = False


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
    reader = _Reader()
    compute = reader.mapping(run.extra.get("compute"), "extra.compute")
    details = reader.mapping(run.base_model.get("details"), "base_model.details")
    estimates = _estimates(run, compute, details, reader)
    added = sum(
        reader.number(compute, name, "extra.compute", zero=True, otherwise=words) or 0.0
        for name, words in _NOT_STATED.items()
    )
    counted = _that_counts(estimates)
    flop = None if counted is None else counted.flop + added
    systemic = reader.flag(details, "systemic_risk", "base_model.details")
    original, original_basis = _original(details, reader)
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


_NOT_STATED = {
    "synthetic_data_flop": "no compute was spent on generating training data that is not public (none is recorded)",
    "earlier_modifications_flop": "the version builds on no earlier modification by the same organisation (none is recorded)",
}


class _Reader:
    """Reads figures; remembers what was not there, what was there and could not be read, and what was assumed."""

    def __init__(self) -> None:
        self.missing: list[str] = []
        self.assumptions: list[str] = []
        self.unreadable = False

    def mapping(self, value: Any, path: str) -> Mapping[str, Any]:
        if isinstance(value, Mapping):
            return value
        if value is not None and value != "":
            self.missing.append(f"{path}: not readable: expected named figures")
            self.unreadable = True
        return {}

    def number(
        self, source: Mapping[str, Any], name: str, path: str, *, zero: bool = False, otherwise: str = ""
    ) -> float | None:
        """Return a positive number (zero too if allowed), else None; `otherwise` is assumed where it is not stated."""
        if source.get(name) is None:
            if otherwise:
                self.assumptions.append(otherwise)
            return None
        value = plain_number(source[name])
        if value is None or value > MAX_FIGURE or value < 0 or (value == 0 and not zero):
            wanted = "number" if zero else "positive number"
            self.missing.append(f"{path}.{name}: {str(source[name])[:40]!r} is not a {wanted} that can be used")
            self.unreadable = True
            return None
        return value

    def flag(self, source: Mapping[str, Any], name: str, path: str) -> bool | None:
        value = source.get(name)
        if value is None or isinstance(value, bool):
            return value
        self.missing.append(f"{path}.{name}: {str(value)[:40]!r} is neither true nor false")
        return None


def plain_number(value: Any) -> float | None:
    """Return a finite number from what a record holds: a number, or decimal text (integers too large for JSON); else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    if isinstance(value, str) and (len(value) > 60 or "_" in value):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _estimates(
    run: TrainingRun, compute: Mapping[str, Any], details: Mapping[str, Any], reader: _Reader
) -> tuple[Estimate, ...]:
    found = [
        _counted(compute, reader),
        _hardware(run, compute, reader),
        _architecture(run, compute, details, reader),
    ]
    made = tuple(item for item in found if item is not None)
    if not made and run.base_model:
        reader.missing.append(
            "the compute of this training: state extra.compute with tokens and parameters, or with hardware, or with flop"
        )
    return made


def _counted(compute: Mapping[str, Any], reader: _Reader) -> Estimate | None:
    flop = reader.number(compute, "flop", "extra.compute")
    if flop is None:
        return None
    method = str(compute.get("flop_method") or "")[:200]
    if not method:
        reader.missing.append("extra.compute.flop_method: how the total was arrived at")
    return Estimate("counted", flop, f"{_show(flop)} stated as a total ({method or 'method not stated'})")


def _hardware(run: TrainingRun, compute: Mapping[str, Any], reader: _Reader) -> Estimate | None:
    stated = compute.get("hardware")
    if stated is None:
        return None
    periods = stated if isinstance(stated, (list, tuple)) else [stated]
    if not periods or len(periods) > MAX_PERIODS:
        reader.missing.append(f"extra.compute.hardware: not readable: expected 1 to {MAX_PERIODS} periods")
        return None
    total, working, bound = 0.0, [], False
    for index, item in enumerate(periods):
        path = f"extra.compute.hardware[{index}]" if len(periods) > 1 else "extra.compute.hardware"
        period = reader.mapping(item, path)
        missing_before = len(reader.missing)
        units, peak = (reader.number(period, name, path) for name in ("units", "peak_flop_per_second"))
        seconds = reader.number(period, "seconds", path)
        if seconds is None and "seconds" not in period and len(periods) == 1:
            seconds = reader.number(run.observed, "duration_s", "observed")
            if seconds is not None:
                reader.assumptions.append(
                    "the hardware was in use for as long as the recorder ran (no seconds are stated)"
                )
        use = reader.number(period, "utilisation", path)
        if use is not None and use > 1:  # a percentage, presumably; full use bounds it all the same
            reader.missing.append(f"{path}.utilisation: {use:g} is not a share between 0 and 1")
            use = None
        if units is None or peak is None or seconds is None:
            named = (("units", units), ("seconds", seconds), ("peak_flop_per_second", peak))
            if len(reader.missing) == missing_before:
                reader.missing.append(f"{path}: {', '.join(name for name, value in named if value is None)} not stated")
            return None
        if use is None:
            bound = True
            reader.missing.append(f"{path}.utilisation: the average share of peak performance that was used")
            reader.assumptions.append("full use of the hardware, as an upper bound, where utilisation is not recorded")
        total += units * seconds * peak * (use or 1.0)
        working.append(f"N={units:g} · L={seconds:g} s · H={peak:g} FLOP/s · U={1 if use is None else use:g}")
    text = f"{_show(total)} by N·L·H·U ({'; '.join(working[:5])}{'; …' if len(working) > 5 else ''})"
    return Estimate("hardware", total, text + (", upper bound" if bound else ""), bound)


def _architecture(
    run: TrainingRun, compute: Mapping[str, Any], details: Mapping[str, Any], reader: _Reader
) -> Estimate | None:
    tokens = reader.number(compute, "tokens", "extra.compute")
    whole = [
        reader.number(compute, "parameters", "extra.compute"),
        reader.number(details, "parameters", "base_model.details"),
    ]
    if tokens is None:
        return None
    known = [value for value in whole if value is not None]
    if not known:
        # what the architecture states may be the trained part only, such as an adapter
        reader.missing.append(
            "base_model.details.parameters: all parameters of the base model (P counts them whether trained or not)"
        )
        return None
    trained = reader.number(run.architecture, "parameters", "architecture")
    parameters = max([*known, *([trained] if trained is not None else [])])
    reader.assumptions.append(
        "6·P·D holds for dense transformers with a context that is short beside the number of parameters; frozen parameters are "
        "counted as if trained, which errs on the high side"
    )
    flop = 6 * parameters * tokens
    return Estimate(
        "architecture",
        flop,
        f"{_show(flop)} by 6·P·D (P={parameters:g} parameters, D={tokens:g} training tokens)",
    )


def _that_counts(estimates: tuple[Estimate, ...]) -> Estimate | None:
    """Return the largest estimate; a mere bound counts only where there is no estimate."""
    proper = [item for item in estimates if not item.upper_bound]
    return max(proper or estimates, key=lambda item: item.flop, default=None)


def _original(
    details: Mapping[str, Any], reader: _Reader
) -> tuple[float | None, Literal["stated", "estimated", "unknown"]]:
    stated = reader.number(details, "training_compute_flop", "base_model.details")
    if stated is not None:
        if not details.get("training_compute_source"):
            reader.missing.append("base_model.details.training_compute_source: where the original's compute is stated")
        return stated, "stated"
    parameters = reader.number(details, "parameters", "base_model.details")
    tokens = reader.number(details, "training_tokens", "base_model.details")
    if parameters is not None and tokens is not None:
        reader.assumptions.append(
            "the original's compute is estimated by 6·P·D of the base model, within the same margin"
        )
        return 6 * parameters * tokens, "estimated"
    return None, "unknown"


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
        more = f", plus {_show(added)} for synthetic data or earlier modifications" if added else ""
        steps = [
            f"Modification: {counted.working}{more}; with the tolerated margin of 30 % at most {_show(flop * 1.3)}."
        ]
    proper = [item.flop for item in result.estimates if not item.upper_bound]
    if proper and min(proper) < max(proper) * (1 - MARGIN):
        steps.append(
            "The estimates differ by more than the margin; the largest counts, and the figures need a second look."
        )
    if original is not None:
        steps.append(
            f"Original model: {_show(original)} ({result.original_basis}); a third of it is {_show(original * SHARE)}."
        )
        if result.ratio is not None:
            steps.append(f"Ratio of modification to original: {result.ratio:.3g}.")
        if original <= GPAI_FLOP:
            steps.append(
                f"The original is not above {_show(GPAI_FLOP)}, which indicates that it is no general-purpose model at all."
            )
    elif line is not None:
        steps.append(f"The original model's compute is not known; the line that takes its place is {_show(line)}.")
    else:
        steps.append(
            f"The original model's compute is not known; the line is {_show(GPAI_FLOP * SHARE)}, or {_show(SYSTEMIC_FLOP * SHARE)} "
            "if the base model is one with systemic risk."
        )
    if result.near_line:
        steps.append("With the margin, the figures do not lie clearly on one side of the line.")
    steps.append(
        "The criterion is indicative; what decides is a significant change in generality, capabilities or systemic risk."
    )
    return tuple(steps)


def _show(flop: float) -> str:
    return f"{flop:.3g} FLOP"
