"""How much compute a training run took, from the figures it recorded. Used by the criterion for modified models (`gpai`) and by coverage.

Figures are read from the record's own `compute` (flops with their method, tokens, parameters), from `extra.compute` as earlier runs
stated it (which also takes hardware by period), and from `base_model.details`; the module `gpai` lists them.

Invariants: pure; never raises on what a run holds; of several estimates the largest counts; an unknown utilisation counts as full use and
makes the estimate an upper bound; a figure that is stated and cannot be read is named.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from cognify_dagster.records import TrainingRun

#: Larger numbers are taken for mistakes: no training is within many orders of magnitude.
MAX_FIGURE = 1e40
MAX_PERIODS = 1000
#: What is added to the compute of the training itself, and what is assumed where it is not stated.
ADDED = {
    "synthetic_data_flop": "no compute was spent on generating training data that is not public (none is recorded)",
    "earlier_modifications_flop": "the version builds on no earlier modification by the same organisation (none is recorded)",
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


class Reader:
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


def estimates_of(
    run: TrainingRun, compute: Mapping[str, Any], details: Mapping[str, Any], reader: Reader
) -> tuple[Estimate, ...]:
    """Return every estimate that the recorded figures allow.

    Args:
        run: the sealed training run; its own `compute` comes first.
        compute: what stands in `extra.compute`.
        details: what stands in `base_model.details`.
        reader: remembers what is missing.
    """
    own = _own(run)
    found = [
        _counted(own, "compute", reader),
        _architecture(run, own, "compute", details, reader),
        _counted(compute, "extra.compute", reader),
        _hardware(run, compute, reader),
        _architecture(run, compute, "extra.compute", details, reader),
    ]
    made = tuple(dict.fromkeys(item for item in found if item is not None))
    if not made and run.base_model:
        reader.missing.append(
            "the compute of this training: record flops with their method, or tokens and parameters (set_compute), or hardware (extra.compute)"
        )
    return made


def _own(run: TrainingRun) -> dict[str, Any]:
    """The figures of the record's own `compute`, by the names that `extra.compute` has for them."""
    stated = run.compute
    if stated is None:
        return {}
    figures = {"flop": stated.flops, "tokens": stated.tokens, "parameters": stated.parameters}
    return {**{name: value for name, value in figures.items() if value is not None}, "flop_method": stated.flops_method}


def _counted(compute: Mapping[str, Any], path: str, reader: Reader) -> Estimate | None:
    flop = reader.number(compute, "flop", path)
    if flop is None:
        return None
    method = str(compute.get("flop_method") or "")[:200]
    if not method:
        reader.missing.append(f"{path}.flop_method: how the total was arrived at")
    return Estimate("counted", flop, f"{show(flop)} stated as a total ({method or 'method not stated'})")


def _hardware(run: TrainingRun, compute: Mapping[str, Any], reader: Reader) -> Estimate | None:
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
    text = f"{show(total)} by N·L·H·U ({'; '.join(working[:5])}{'; …' if len(working) > 5 else ''})"
    return Estimate("hardware", total, text + (", upper bound" if bound else ""), bound)


def _architecture(
    run: TrainingRun, compute: Mapping[str, Any], path: str, details: Mapping[str, Any], reader: Reader
) -> Estimate | None:
    tokens = reader.number(compute, "tokens", path)
    whole = [
        reader.number(compute, "parameters", path),
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
        f"{show(flop)} by 6·P·D (P={parameters:g} parameters, D={tokens:g} training tokens)",
    )


def that_counts(estimates: tuple[Estimate, ...]) -> Estimate | None:
    """Return the largest estimate; a mere bound counts only where there is no estimate."""
    proper = [item for item in estimates if not item.upper_bound]
    return max(proper or estimates, key=lambda item: item.flop, default=None)


def original_of(
    details: Mapping[str, Any], reader: Reader
) -> tuple[float | None, Literal["stated", "estimated", "unknown"]]:
    """Return the compute of the original model and how it is known."""
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


def show(flop: float) -> str:
    """Return a figure for print."""
    return f"{flop:.3g} FLOP"
