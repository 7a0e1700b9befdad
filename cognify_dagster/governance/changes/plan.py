"""Predetermined change control: may a new version go live under an approved plan, without a new full approval?

`compare` is a pure function of the plan's bounds and the recorded facts of two versions. A plan is written as YAML
(`change-plan.yaml`), its bounds are what the signed `change_plan_adopted` record holds. The plan says what may change; everything
else must be the same as in the base version. Predetermined change control plans are described by the FDA's guidance on them for
device software functions that use AI (section 515C of the FD&C Act).
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from cognify_dagster.governance.changes.bounds import (
    ChangeBounds,
    ChangePlanError,
    HyperparameterRule,
    MetricRule,
    Range,
    problems,
    read_bounds,
)
from cognify_dagster.governance.changes.compare import NEVER_COMPARED, Coverage, VersionFacts, compare, facts_of
from cognify_dagster.governance.changes.values import Line
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import YamlError, load_yaml, read_small_text

MAX_PLAN_BYTES = 1_000_000


class ChangePlan(BaseModel):
    """A plan as people write it.

    Attributes:
        plan: Its name.
        model: The governed model.
        base_version: The approved version that the plan starts from.
        reason: Why these changes need no new full approval, in words.
        bounds: What may change.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    version: Literal[1] = 1
    plan: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,59}$")
    model: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,79}$")
    base_version: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.+-]{0,49}$")
    reason: str = Field(min_length=1, max_length=4000)
    bounds: ChangeBounds

    @field_validator("base_version", mode="before")
    @classmethod
    def _as_text(cls, value: Any) -> Any:
        """YAML reads `base_version: 3` as a number."""
        return str(value) if isinstance(value, int) and not isinstance(value, bool) else value

    @property
    def digest(self) -> str:
        """`sha256:` and the hex digest of the bounds' canonical JSON."""
        return "sha256:" + hashlib.sha256(canonical_json(self.bounds.as_json())).hexdigest()


def parse_change_plan(text: str, *, source: str = "change plan") -> ChangePlan:
    """Read a plan from YAML text.

    Raises:
        ChangePlanError: naming source and field.
    """
    try:
        data = load_yaml(text)
    except YamlError as error:
        raise ChangePlanError(f"{source}: not readable as YAML: {error}") from None
    if not isinstance(data, dict):
        raise ChangePlanError(f"{source}: expected a mapping with plan, model, base_version, reason and bounds")
    try:
        return ChangePlan.model_validate(_times_as_text(data))
    except ValidationError as error:
        raise ChangePlanError(f"{source}: {problems(error)}") from None


def load_change_plan(path: str | Path) -> ChangePlan:
    """Read `change-plan.yaml`.

    Raises:
        ChangePlanError: naming file and field.
    """
    return parse_change_plan(
        read_small_text(path, MAX_PLAN_BYTES, "a change plan", ChangePlanError), source=str(Path(path))
    )


def _times_as_text(data: dict[Any, Any]) -> dict[Any, Any]:
    """YAML reads an unquoted time as one; the bounds hold its text."""
    bounds = data.get("bounds")
    if not isinstance(bounds, dict) or not hasattr(bounds.get("expires"), "strftime"):
        return data
    moment = bounds["expires"]
    if getattr(moment, "tzinfo", None) is not None:
        from datetime import timezone

        moment = moment.astimezone(timezone.utc)
    elif hasattr(moment, "hour"):
        raise ChangePlanError("bounds.expires: give a time zone, such as 2027-01-31T00:00:00Z")
    return {**data, "bounds": {**bounds, "expires": moment.strftime("%Y-%m-%dT%H:%M:%SZ")}}


def explain(coverage: Coverage) -> str:
    """The coverage as plain text: the verdict, what lies outside, what is allowed by what."""
    inside = [line for line in coverage.lines if line.ok]
    parts = [_verdict(coverage)]
    if coverage.outside:
        parts += ["", "Outside the plan:", *(f"  - {line.text}" for line in coverage.outside)]
    if inside:
        parts += ["", "Within the plan:", *(f"  - {line.text}" for line in inside)]
    parts += ["", "Never compared:", *(f"  - {name}: {why}" for name, why in sorted(NEVER_COMPARED.items()))]
    return "\n".join(parts) + "\n"


def explain_markdown(coverage: Coverage) -> str:
    """The coverage as Markdown: the verdict and a table of every line."""
    rows = [
        f"| {_cell(line.item)} | {_cell(line.before)} | {_cell(line.after)} | {_cell(line.allowed_by or '**not allowed**')} |"
        for line in (*coverage.outside, *(line for line in coverage.lines if line.ok))
    ]
    table = ["| what | base version | this version | allowed by |", "|---|---|---|---|", *rows] if rows else []
    never = [f"- `{name}`: {why}" for name, why in sorted(NEVER_COMPARED.items())]
    return "\n".join([f"**{_verdict(coverage)}**", "", *table, "", "Never compared:", "", *never]) + "\n"


def _verdict(coverage: Coverage) -> str:
    if not coverage.covered:
        count = len(coverage.outside)
        return f"Not covered: {count} {'point lies' if count == 1 else 'points lie'} outside the plan; a full approval is needed."
    if not coverage.lines:
        return "Covered: nothing that is compared differs from the base version."
    return f"Covered: all {len(coverage.lines)} differences and bounds are within the plan."


def _cell(text: str) -> str:
    shown = text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;").replace("`", "\\`")
    return " ".join(shown.split())


__all__ = [
    "NEVER_COMPARED",
    "ChangeBounds",
    "ChangePlan",
    "ChangePlanError",
    "Coverage",
    "HyperparameterRule",
    "Line",
    "MetricRule",
    "Range",
    "VersionFacts",
    "compare",
    "explain",
    "explain_markdown",
    "facts_of",
    "load_change_plan",
    "parse_change_plan",
    "read_bounds",
]
