"""The result of one evaluation, ready to be recorded: numbers, tables, how they were made, and attachments."""

from __future__ import annotations

import hashlib
import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation._json import json_safe
from cognify_dagster.evaluation.fairness_results import FairnessResult
from cognify_dagster.evaluation.gates import INSUFFICIENT_DATA
from cognify_dagster.evaluation.metrics import CalibrationBin, MetricValue

#: Attachments above this belong in a file that is referred to, not in the result.
MAX_ARTIFACT_BYTES = 64 * 1024 * 1024

_MEDIA_TYPE = re.compile(
    r"^[a-z0-9][a-z0-9!#$&^_.+-]*/[a-zA-Z0-9][a-zA-Z0-9!#$&^_.+-]*(?:; ?[a-z0-9-]+=[a-zA-Z0-9._-]+)?$"
)
_FILE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")


class EvalArtifact(BaseModel):
    """An attachment of an evaluation, such as a ROC table.

    Attributes:
        name: Plain file name (letters, digits, ``.``, ``_``, ``-``), unique within the result.
        media_type: Such as ``application/json``.
        data: The bytes, at most 64 MiB.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    media_type: str
    data: bytes = Field(repr=False)

    @field_validator("name")
    @classmethod
    def _plain_name(cls, value: str) -> str:
        if not _FILE_NAME.match(value):
            raise ValueError("expected a plain file name: letters, digits, '.', '_' and '-'")
        return value

    @field_validator("media_type")
    @classmethod
    def _media_type(cls, value: str) -> str:
        if not _MEDIA_TYPE.match(value):
            raise ValueError("expected a media type such as application/json")
        return value

    @field_validator("data")
    @classmethod
    def _bounded(cls, value: bytes) -> bytes:
        if len(value) > MAX_ARTIFACT_BYTES:
            raise ValueError(f"larger than {MAX_ARTIFACT_BYTES} bytes")
        return value

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes, in lower-case hex."""
        return hashlib.sha256(self.data).hexdigest()


class DecisionThreshold(BaseModel):
    """The cut on the score that turns it into a decision, and where it was chosen.

    Attributes:
        value: Records with ``score >= value`` are predicted to have the event.
        rule: How it was chosen, in words.
        chosen_on: Which data it was chosen on; never the data of this evaluation.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    value: float
    rule: str = Field(min_length=1)
    chosen_on: str = Field(min_length=1)


class EvalResult(BaseModel):
    """Everything one evaluation measured.

    Attributes:
        metrics: Performance metrics with intervals.
        calibration: The calibration table, by score quantile.
        fairness: One result for each sensitive attribute.
        threshold: The decision threshold, where decisions were judged.
        protected_attributes: The protected attributes that were declared as evaluated; empty means none was declared.
        data_checks: Further numbers by flat name, such as ``data.overlap_records``; None means insufficient data.
        n: Records evaluated.
        settings: How the numbers were made (replicates, seeds, libraries).
        notes: Sentences that a reader needs.
        artifacts: Attachments.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    metrics: tuple[MetricValue, ...]
    calibration: tuple[CalibrationBin, ...] = ()
    fairness: tuple[FairnessResult, ...] = ()
    threshold: DecisionThreshold | None = None
    protected_attributes: tuple[str, ...] = ()
    data_checks: dict[str, float | None] = Field(default_factory=dict)
    n: int = Field(ge=1)
    settings: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()
    artifacts: tuple[EvalArtifact, ...] = ()

    @model_validator(mode="after")
    def _consistent(self) -> EvalResult:
        for kind, names in (
            ("metric", [metric.name for metric in self.metrics]),
            ("fairness attribute", [result.attribute for result in self.fairness]),
            ("artifact", [artifact.name for artifact in self.artifacts]),
        ):
            repeated = {name for name in names if names.count(name) > 1}
            if repeated:
                raise ValueError(f"{kind} {sorted(repeated)[0]!r} is given twice")
        undeclared = [r.attribute for r in self.fairness if r.attribute not in self.protected_attributes]
        if undeclared:
            raise ValueError(f"fairness of {undeclared[0]!r} is measured, but it is not in protected_attributes")
        return self

    def flat(self) -> dict[str, float | str]:
        """Every number by the flat name that gates use.

        Names: ``auc``, ``auc.ci_low``, ``auc.ci_high``; ``fairness.SEX.adverse_impact_ratio`` (and ``.ci_low``,
        ``.ci_high``); ``fairness.SEX.insufficient_groups``; ``fairness.SEX.groups.<group>.selection_rate`` (also ``n``,
        ``tpr``, ``fpr``, ``ppv``, ``auc``); ``fairness.declared_attributes``; ``n``; and all of ``data_checks``. Where too
        few records are behind a number, the value is the string ``insufficient_data``.

        Raises:
            EvaluationError: two numbers would have the same flat name.
        """
        flat: dict[str, float | str] = {}

        def put(name: str, value: float | None) -> None:
            if name in flat:
                raise EvaluationError(f"{name}: two results have this name; rename one metric or data check")
            flat[name] = INSUFFICIENT_DATA if value is None else value

        put("n", self.n)
        put("fairness.declared_attributes", len(self.protected_attributes))
        for metric in self.metrics:
            put(metric.name, metric.value)
            put(f"{metric.name}.ci_low", metric.ci_low)
            put(f"{metric.name}.ci_high", metric.ci_high)
        for result in self.fairness:
            prefix = f"fairness.{result.attribute}"
            for disparity in result.disparities:
                put(f"{prefix}.{disparity.name}", disparity.value)
                put(f"{prefix}.{disparity.name}.ci_low", disparity.ci_low)
                put(f"{prefix}.{disparity.name}.ci_high", disparity.ci_high)
            put(f"{prefix}.insufficient_groups", len(result.excluded_groups))
            for group in result.groups:
                base = f"{prefix}.groups.{group.group}"
                put(f"{base}.n", group.n)
                put(f"{base}.auc", group.auc)
                for name in ("selection_rate", "tpr", "fpr", "ppv"):
                    rate = getattr(group, name)
                    put(f"{base}.{name}", rate.value if rate is not None and rate.status == "computed" else None)
        for name, value in self.data_checks.items():
            put(name, value)
        return flat

    def with_data_checks(self, **checks: float | None) -> EvalResult:
        """A copy with further numbers; ``overlap_records=0`` becomes ``data.overlap_records``."""
        merged = {**self.data_checks, **{f"data.{name}": value for name, value in checks.items()}}
        return self.model_copy(update={"data_checks": merged})

    def to_facts(self) -> dict[str, Any]:
        """The result as plain JSON values; attachments by name, media type, size and SHA-256."""
        facts: dict[str, Any] = {}
        for name in type(self).model_fields:
            if name != "artifacts":
                facts[name] = json_safe(getattr(self, name), where=name)
        facts["artifacts"] = [
            {"name": item.name, "media_type": item.media_type, "size": len(item.data), "sha256": item.sha256}
            for item in self.artifacts
        ]
        return facts
