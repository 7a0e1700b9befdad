"""What a change plan allows: the bounds within which a new version needs no new full approval. Pure data.

Invariants: whatever is not named is not allowed; a field that is not known is an error, so that a misspelt bound never leaves
something unbounded.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from cognify_dagster.governance.errors import GovernanceError
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import parse_utc, to_json


class ChangePlanError(GovernanceError, ValueError):
    """A change plan is unusable; the message names file and field."""


def _number(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError("expected a finite number")
    return value


Number = Annotated[float, BeforeValidator(_number)]
NumberOrNone = Annotated[float | None, BeforeValidator(lambda value: value if value is None else _number(value))]


def _moment(value: str) -> str:
    parse_utc(value)
    return value


Moment = Annotated[str, AfterValidator(_moment)]


def exact(value: Any) -> Decimal | None:
    """Return a finite number as the decimal that is printed for it, so that 0.80 - 0.78 is 0.02; None for all else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        return None
    return Decimal(str(value))


class _Bounds(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Bounds):
    """Numbers from `min` to `max`, both included; one of them may be left out."""

    min: NumberOrNone = None
    max: NumberOrNone = None

    @model_validator(mode="after")
    def _some_bound(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("give min, max or both")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self

    def allows(self, value: Any) -> bool:
        """Whether a value is a finite number within the range."""
        return within(value, self.min, self.max)


class HyperparameterRule(_Bounds):
    """What a hyperparameter may become: a number in a range (`min`, `max`), or one of a list (`one_of`)."""

    min: NumberOrNone = None
    max: NumberOrNone = None
    one_of: tuple[Any, ...] | None = Field(default=None, max_length=1000)

    @model_validator(mode="after")
    def _one_form(self) -> HyperparameterRule:
        ranged = self.min is not None or self.max is not None
        if ranged == (self.one_of is not None):
            raise ValueError("give min and max, or one_of")
        if self.one_of is not None and not self.one_of:
            raise ValueError("one_of is empty")
        if self.min is not None and self.max is not None and self.min > self.max:
            raise ValueError("min is above max")
        return self

    def allows(self, value: Any) -> bool:
        """Whether the plan allows this value."""
        if self.one_of is not None:
            return any(same(value, item) for item in self.one_of)
        return within(value, self.min, self.max)


class MetricRule(_Bounds):
    """What a metric of the new evaluation must keep to. `report_only` alone lets it have any value, knowingly.

    Attributes:
        min: Smallest value.
        max: Largest value.
        max_drop_from_base: How far it may lie below the base version's value, in the metric's unit.
        max_rise_from_base: How far it may lie above it.
        report_only: It may have any value; it must still be measured.
    """

    min: NumberOrNone = None
    max: NumberOrNone = None
    max_drop_from_base: Annotated[NumberOrNone, Field(ge=0)] = None
    max_rise_from_base: Annotated[NumberOrNone, Field(ge=0)] = None
    report_only: bool = False

    @model_validator(mode="after")
    def _some_bound(self) -> MetricRule:
        bounds = (self.min, self.max, self.max_drop_from_base, self.max_rise_from_base)
        if self.report_only == any(bound is not None for bound in bounds):
            raise ValueError(
                "give min, max, max_drop_from_base or max_rise_from_base; or report_only: true if it may have any value"
            )
        return self

    def problem(self, before: Any, after: Any) -> str | None:
        """Say why a value does not keep to the rule, or None."""
        new, old = exact(after), exact(before)
        if new is None:
            return "it was not measured as a finite number"
        if self.min is not None and new < Decimal(str(self.min)):
            return f"it must be at least {self.min:g}"
        if self.max is not None and new > Decimal(str(self.max)):
            return f"it must be at most {self.max:g}"
        for limit, moved, word in (
            (self.max_drop_from_base, None if old is None else old - new, "below"),
            (self.max_rise_from_base, None if old is None else new - old, "above"),
        ):
            if limit is not None and moved is None:
                return "the base version has no finite value to compare with"
            if limit is not None and moved is not None and moved > Decimal(str(limit)):
                return f"it may lie at most {limit:g} {word} the base version's"
        return None


class ChangeBounds(_Bounds):
    """Which differences from the base version need no new full approval. What is not named here must be the same.

    Attributes:
        datasets: Names of datasets whose content may be refreshed; the role stays the same.
        hyperparameters: By dotted path into the training configuration (``optimizer.lr``); a dot inside a name is ``\\.``.
        code_change: `same`: the same commit and the same uncommitted changes. `allowed`: another commit without any.
        environment: `same`, or `allowed`: other packages, Python, platform, GPU or image.
        base_model: Always the same.
        architecture: Always the same.
        unknown_schema: `allowed`: a refreshed dataset of which no schema is recorded (images, texts) is taken for one of the same
            shape. Otherwise it needs a new approval, as one with another schema always does.
        notes: `allowed`: free texts (selection note, notes of the evaluation, registered limitations and failure modes) may differ.
        metrics: By flat name (``auc``, ``auc.ci_low``); judged on the new evaluation. A metric that differs and is not
            named is not covered.
        groups: The same for fairness (``fairness.SEX.adverse_impact_ratio``). One rule for an attribute allows that
            attribute's other numbers to differ.
        tables: Names of the evaluation's tables whose content may differ.
        decision_threshold: Where the decision threshold may move.
        min_days_between: Days between the trainings of this version and the one before it under the plan (or the base).
        max_days_since_base: Days between the trainings of the base version and this one.
        max_versions: How many versions one plan covers.
        expires: Nothing is covered from then on (UTC, ``2027-01-31T00:00:00Z``).
    """

    datasets: tuple[str, ...] = ()
    hyperparameters: dict[str, HyperparameterRule] = Field(default_factory=dict)
    code_change: Literal["same", "allowed"] = "same"
    environment: Literal["same", "allowed"] = "same"
    base_model: Literal["same"] = "same"
    architecture: Literal["same"] = "same"
    unknown_schema: Literal["refused", "allowed"] = "refused"
    notes: Literal["same", "allowed"] = "same"
    metrics: dict[str, MetricRule] = Field(default_factory=dict)
    groups: dict[str, MetricRule] = Field(default_factory=dict)
    tables: tuple[str, ...] = ()
    decision_threshold: Range | None = None
    min_days_between: int | None = Field(default=None, ge=0, le=36500)
    max_days_since_base: int | None = Field(default=None, ge=0, le=36500)
    max_versions: int | None = Field(default=None, ge=1, le=100_000)
    expires: Moment | None = None

    @model_validator(mode="after")
    def _places(self) -> ChangeBounds:
        for name in self.groups:
            if not name.startswith("fairness.") or name.count(".") < 2:
                raise ValueError(f"groups.{name}: expected a name such as fairness.SEX.adverse_impact_ratio")
        for name in self.metrics:
            if name.startswith("fairness."):
                raise ValueError(f"metrics.{name}: bounds on fairness stand under groups")
        return self

    def as_json(self) -> dict[str, Any]:
        """As JSON values for a record, without what is left at its default."""
        data: dict[str, Any] = to_json(self.model_dump(mode="json", exclude_defaults=True))
        return data


def within(value: Any, low: float | None, high: float | None) -> bool:
    """Whether a value is a finite number from `low` to `high` (None: without that end)."""
    number = exact(value)
    if number is None:
        return False
    return (low is None or number >= Decimal(str(low))) and (high is None or number <= Decimal(str(high)))


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same: 1 and 1.0 are, 1 and true are not."""
    return canonical_json(to_json(one)) == canonical_json(to_json(other))


def read_bounds(data: Mapping[str, Any], source: str = "change plan") -> ChangeBounds:
    """Validate bounds.

    Args:
        data: JSON values, such as the `bounds` of a `change_plan_adopted` record.
        source: Named in errors.

    Raises:
        ChangePlanError: naming source and field.
    """
    try:
        return ChangeBounds.model_validate(dict(data))
    except ValidationError as error:
        raise ChangePlanError(f"{source}: {problems(error)}") from error


def problems(error: ValidationError) -> str:
    """The fields of a validation error in words."""
    found = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"])
        text = {"missing": "is required", "extra_forbidden": "is not a known field"}.get(
            item["type"], item["msg"].removeprefix("Value error, ")
        )
        found.append(f"{where}: {text}" if where else text)
    return "; ".join(found)
