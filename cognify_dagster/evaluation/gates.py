"""Gates: thresholds stated before results, and the pure judgement of results against them.

Invariants:

* A gate passes only on a finite number that meets its threshold. A metric that nobody measured is ``missing``, one that is
  NaN or infinite fails: neither passes.
* ``insufficient_data`` counts as passed only where the gate itself says ``on_insufficient: pass_with_note``, and the
  outcome keeps the status, so that no reader takes it for a measured pass.
* An unknown field, a repeated key or a repeated gate id is an error, never ignored: a misspelt ``threshold`` must not leave
  a gate without one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cognify_dagster.evaluation._errors import GateSetError
from cognify_dagster.evaluation._json import json_safe, metric_json
from cognify_dagster.records import SecurityTerms, YamlError, load_yaml, read_small_text

Family = Literal["performance", "fairness", "data_quality", "completeness", "security"]
Operator = Literal[">=", "<=", ">", "<"]
Source = Literal["policy", "convention", "law"]
GateStatus = Literal["pass", "fail", "insufficient_data", "missing"]

#: What stands in a table of results where a metric was asked for but too few records are behind it.
INSUFFICIENT_DATA = "insufficient_data"

#: Gate files are short; anything larger is not one.
MAX_GATE_FILE_BYTES = 1_000_000

_OPERATORS = {
    ">=": lambda value, threshold: value >= threshold,
    "<=": lambda value, threshold: value <= threshold,
    ">": lambda value, threshold: value > threshold,
    "<": lambda value, threshold: value < threshold,
}


class Gate(BaseModel):
    """One threshold.

    Attributes:
        id: Short name, unique within the set.
        family: What the gate is about.
        metric: Flat name of the metric, such as ``auc``, ``auc.ci_low``, ``fairness.SEX.adverse_impact_ratio``,
            ``data.overlap_records``.
        op: The comparison that has to hold: ``metric op threshold``.
        threshold: A finite number in the metric's unit.
        source: Where the threshold comes from: the firm's policy, a convention of the trade, or law.
        reason: Why this metric and this threshold, in a sentence.
        on_insufficient: What too few records mean for this gate.
        security: Only for family ``security``, whose metric is ``vulnerabilities``: from which severity on they count, how old
            the advisories may be, which ones are accepted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    family: Family
    metric: str = Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
    op: Operator
    threshold: float
    source: Source
    reason: str = Field(min_length=1, max_length=1000)
    on_insufficient: Literal["fail", "pass_with_note"] = "fail"
    security: SecurityTerms | None = None

    @model_validator(mode="after")
    def _security_apart(self) -> Gate:
        if self.family != "security" and self.security is not None:
            raise ValueError("security: only a gate of family security has these terms")
        if self.family == "security" and (self.metric != "vulnerabilities" or self.op not in ("<=", "<")):
            raise ValueError("a gate of family security judges metric: vulnerabilities with op: <= (or <)")
        return self

    @field_validator("threshold", mode="before")
    @classmethod
    def _finite_number(cls, value: Any) -> float:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) <= sys.float_info.max:
            raise ValueError("expected a finite number")
        return float(value)

    @field_validator("reason")
    @classmethod
    def _not_blank(cls, value: str) -> str:
        if not value.strip():
            raise ValueError("say why this threshold was chosen")
        return value


class GateSet(BaseModel):
    """A named set of gates, to be signed before training.

    Attributes:
        name: Name of the set; evaluations refer to it.
        gates: The gates, in the order of the file.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")
    gates: tuple[Gate, ...] = Field(min_length=1, max_length=500)

    @field_validator("gates")
    @classmethod
    def _unique_ids(cls, gates: tuple[Gate, ...]) -> tuple[Gate, ...]:
        seen: set[str] = set()
        for gate in gates:
            if gate.id in seen:
                raise ValueError(f"gate id {gate.id!r} is used twice")
            seen.add(gate.id)
        return gates

    def to_facts(self) -> dict[str, Any]:
        """The set as plain JSON values, in the order of the file."""
        facts: dict[str, Any] = json_safe(self, where="gate_set")
        return facts


class GateOutcome(BaseModel):
    """What one gate said.

    Attributes:
        id: The gate's id.
        value: The measured number; ``NaN``, ``Infinity`` or ``-Infinity`` as text; None where there is no number.
        status: ``pass``, ``fail``, ``insufficient_data`` or ``missing``.
        passed: Whether the gate lets the model through. Differs from ``status == "pass"`` only for ``insufficient_data``
            on a gate that says ``pass_with_note``.
        message: One sentence for a reader.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    family: Family
    metric: str
    value: float | str | None
    op: Operator
    threshold: float
    source: Source
    status: GateStatus
    passed: bool
    message: str


def evaluate_gates(gate_set: GateSet, results: Mapping[str, Any]) -> list[GateOutcome]:
    """Judges results against a gate set. Pure: same input, same outcomes.

    Args:
        gate_set: The gates.
        results: Flat name to number, or to ``"insufficient_data"`` (see `EvalResult.flat`). Other keys are ignored.

    Returns:
        One outcome for each gate, in the order of the set.
    """
    return [_judge(gate, results) for gate in gate_set.gates]


def all_passed(outcomes: Sequence[GateOutcome]) -> bool:
    """Whether every gate lets the model through; False for no gates at all."""
    return bool(outcomes) and all(outcome.passed for outcome in outcomes)


def _judge(gate: Gate, results: Mapping[str, Any]) -> GateOutcome:
    raw = results.get(gate.metric)
    wanted = f"{gate.metric} {gate.op} {gate.threshold:g}"
    value: float | str | None
    status: GateStatus
    if raw is None:
        value, status, message = None, "missing", f"{gate.metric} was not measured; {wanted} is not shown."
    elif isinstance(raw, str) and raw == INSUFFICIENT_DATA:
        value, status = None, "insufficient_data"
        outcome = "passes with this note" if gate.on_insufficient == "pass_with_note" else "does not pass"
        message = f"Too few records to measure {gate.metric}; by its own rule this gate {outcome}."
    else:
        number = _number(raw)
        if number is None:
            value, status = None, "fail"
            message = f"{gate.metric} is not a number; {wanted} is not shown."
        elif not math.isfinite(number):
            value, status = metric_json(number), "fail"
            message = f"{gate.metric} is {metric_json(number)}; {wanted} is not shown."
        else:
            value = number
            status = "pass" if _OPERATORS[gate.op](number, gate.threshold) else "fail"
            verb = "holds" if status == "pass" else "does not hold"
            message = f"{gate.metric} = {number:.6g}; {wanted} {verb}."
    passed = status == "pass" or (status == "insufficient_data" and gate.on_insufficient == "pass_with_note")
    return GateOutcome(
        id=gate.id,
        family=gate.family,
        metric=gate.metric,
        value=value,
        op=gate.op,
        threshold=gate.threshold,
        source=gate.source,
        status=status,
        passed=passed,
        message=f"{message} Threshold from {gate.source}.",
    )


def _number(raw: Any) -> float | None:
    if isinstance(raw, (bool, int, float)):
        try:
            return float(raw)
        except OverflowError:
            return math.inf if raw > 0 else -math.inf
    if hasattr(raw, "item") and getattr(raw, "ndim", None) == 0:  # numpy scalar
        return _number(raw.item())
    return None


def parse_gate_set(text: str, *, source: str = "gate set") -> GateSet:
    """Reads a gate set from YAML text (keys ``name`` and ``gates``).

    Raises:
        GateSetError: names ``source`` and the field, and says what is wrong with it.
    """
    try:
        data = load_yaml(text)
    except YamlError as error:
        raise GateSetError(f"{source}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise GateSetError(f"{source}: expected a mapping with 'name' and 'gates', found {type(data).__name__}")
    try:
        return GateSet.model_validate(data)
    except ValidationError as error:
        problems = "; ".join(_problem(data, item) for item in error.errors())
        raise GateSetError(f"{source}: {problems}") from None


def load_gate_set(path: str | Path) -> GateSet:
    """Reads a gate set from a YAML file.

    Raises:
        GateSetError: the file is missing, too large, not UTF-8, or has an unusable field; the message names file and field.
    """
    return parse_gate_set(
        read_small_text(path, MAX_GATE_FILE_BYTES, "a gate set", GateSetError), source=str(Path(path))
    )


def _problem(data: dict[str, Any], error: Any) -> str:
    location = [str(part) for part in error["loc"]]
    where = ".".join(location) or "gate set"
    if len(location) > 1 and location[0] == "gates" and location[1].isdigit():
        try:
            name = data["gates"][int(location[1])].get("id")
        except (AttributeError, IndexError, KeyError, TypeError):
            name = None
        where = f"gates[{location[1]}]" + (f" ({name})" if name else "") + "".join(f".{part}" for part in location[2:])
    message = {"missing": "is required", "extra_forbidden": "is not a known field"}.get(error["type"], error["msg"])
    return f"{where}: {message}"
