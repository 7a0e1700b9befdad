"""The result of one evaluation, ready to be recorded: numbers, tables, how they were made, and attachments."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation._json import json_safe
from cognify_dagster.evaluation.fairness_results import FairnessResult
from cognify_dagster.evaluation.gates import INSUFFICIENT_DATA
from cognify_dagster.evaluation.metrics import CalibrationBin, MetricValue
from cognify_dagster.records import (
    BenchmarkResult,
    CodeRef,
    Comparison,
    EvidenceItem,
    Explanation,
    Perturbation,
    SliceResult,
    worst_slice,
)

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
        sensitivity: How the bytes are kept; ``personal`` where they are about people.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    media_type: str
    data: bytes = Field(repr=False)
    sensitivity: Literal["public", "internal", "confidential", "personal"] = "internal"

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

    def item(self) -> EvidenceItem:
        """The reference that the bytes will have in the evidence store."""
        return EvidenceItem(
            name=self.name,
            digest=f"sha256:{self.sha256}",
            size=len(self.data),
            media_type=self.media_type,
            sensitivity=self.sensitivity,
        )


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
        slices: Metrics by site, group or any other cut (`evaluate_slices`).
        comparisons: This version against a champion on the same snapshot (`compare_on_snapshot`).
        perturbations: The sensitivity table (`perturbation_table`).
        explanations: What `explaining` makes; their files are among the artifacts.
        benchmarks: Results of a benchmark harness; their files are among the artifacts, their numbers among the metrics.
        evaluator_code: Code of the tool that measured, where it is not the code of the evaluation.
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
    slices: tuple[SliceResult, ...] = Field(default=(), max_length=1_000)
    comparisons: tuple[Comparison, ...] = Field(default=(), max_length=50)
    perturbations: tuple[Perturbation, ...] = Field(default=(), max_length=1_000)
    explanations: tuple[Explanation, ...] = Field(default=(), max_length=200)
    benchmarks: tuple[BenchmarkResult, ...] = Field(default=(), max_length=1_000)
    evaluator_code: CodeRef | None = None

    @model_validator(mode="after")
    def _consistent(self) -> EvalResult:
        for kind, names in (
            ("metric", [metric.name for metric in self.metrics]),
            ("fairness attribute", [result.attribute for result in self.fairness]),
            ("artifact", [artifact.name for artifact in self.artifacts]),
            ("slice", [f"{item.attribute}={item.value}" for item in self.slices]),
        ):
            repeated = {name for name in names if names.count(name) > 1}
            if repeated:
                raise ValueError(f"{kind} {sorted(repeated)[0]!r} is given twice")
        undeclared = [r.attribute for r in self.fairness if r.attribute not in self.protected_attributes]
        if undeclared:
            raise ValueError(f"fairness of {undeclared[0]!r} is measured, but it is not in protected_attributes")
        there = {artifact.sha256 for artifact in self.artifacts}
        named = [("explanation", item.item) for item in self.explanations]
        named += [("benchmark", item.source) for item in self.benchmarks]
        named += [("benchmark", item.samples) for item in self.benchmarks if item.samples is not None]
        for kind, item in named:
            if item.digest.removeprefix("sha256:") not in there:
                raise ValueError(f"the {kind} file {item.name!r} is not among the artifacts")
        return self

    @property
    def unmapped(self) -> tuple[str, ...]:
        """Names of metrics without an objective: what they are evidence for is open."""
        return tuple(metric.name for metric in self.metrics if not metric.objective)

    def merged(self, other: EvalResult) -> EvalResult:
        """This result with everything of another one added. Settings, threshold and `n` stay where both have them.

        Raises:
            EvaluationError: both have a metric, attribute, artifact, slice or data check of the same name.
        """
        fields: dict[str, Any] = {}
        for name in type(self).model_fields:
            mine, theirs = getattr(self, name), getattr(other, name)
            if name == "protected_attributes":
                fields[name] = tuple(dict.fromkeys((*mine, *theirs)))
            elif isinstance(mine, tuple):
                fields[name] = (*mine, *theirs)
            elif isinstance(mine, dict):
                if name == "data_checks" and (shared := sorted(set(mine) & set(theirs))):
                    raise EvaluationError(f"data check {shared[0]!r} is in both results; rename one")
                fields[name] = {**theirs, **mine}
            else:
                fields[name] = theirs if mine is None else mine
        try:
            return type(self)(**fields)
        except ValidationError as error:
            raise EvaluationError(f"the results cannot be joined: {error.errors()[0]['msg']}") from None

    def with_explanations(self, *files: tuple[Explanation, EvalArtifact]) -> EvalResult:
        """A copy with explanations and their files, as `explaining` returns them."""
        return self.merged(
            EvalResult(
                metrics=(),
                n=self.n,
                explanations=tuple(one for one, _ in files),
                artifacts=tuple(artifact for _, artifact in files),
            )
        )

    def flat(self) -> dict[str, float | str]:
        """Every number by the flat name that gates use.

        Names: ``auc``, ``auc.ci_low``, ``auc.ci_high``; ``fairness.SEX.adverse_impact_ratio`` (and ``.ci_low``,
        ``.ci_high``); ``fairness.SEX.insufficient_groups``; ``fairness.SEX.groups.<group>.selection_rate`` (also ``n``,
        ``tpr``, ``fpr``, ``ppv``, ``auc``); ``fairness.declared_attributes``; ``slices.SITE.worst.recall`` (also
        ``slices.SITE.insufficient`` and ``slices.SITE.<value>.recall``, each with ``.ci_low`` and ``.ci_high``);
        ``sensitivity.income.noise.0.1.auc`` (the metric after the change); ``comparison.<champion>.auc.difference`` (and
        ``.ci_low``, ``.ci_high``); ``n``; and all of ``data_checks``. Spaces in names become ``_``. Where too few records are
        behind a number, the value is the string ``insufficient_data``; an interval that nobody made has no name here.

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
            for end, bound in (("ci_low", metric.ci_low), ("ci_high", metric.ci_high)):
                if bound is not None:  # an interval that nobody made is missing, not too small a sample
                    put(f"{metric.name}.{end}", bound)
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
        for name, value in _flat_parts(self):
            put(name.replace(" ", "_"), value)
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


def _flat_parts(result: EvalResult) -> Iterator[tuple[str, float | None]]:
    """The numbers of slices, sensitivity table and comparisons by flat name; None for too few records."""
    tables: dict[str, list[SliceResult]] = {}
    for one in result.slices:
        tables.setdefault(one.attribute, []).append(one)
        for metric in one.metrics:
            name = f"slices.{one.attribute}.{one.value}.{metric.name}"
            yield from _with_interval(name, metric.value, metric.ci_low, metric.ci_high)
    for attribute, rows in tables.items():
        yield f"slices.{attribute}.insufficient", float(sum(row.status == "insufficient_data" for row in rows))
        directed = [m.name for row in rows for m in row.metrics if m.higher_is_better is not None]
        for name in dict.fromkeys(directed):
            worst = worst_slice(rows, name)
            found = worst.metric(name) if worst is not None else None
            if found is None:
                yield f"slices.{attribute}.worst.{name}", None
            else:
                yield from _with_interval(f"slices.{attribute}.worst.{name}", found.value, found.ci_low, found.ci_high)
    for change in result.perturbations:
        if change.status == "computed" and change.after is not None:
            name = f"sensitivity.{change.feature}.{change.transformation}.{change.size}.{change.metric}"
            yield name, float(change.after)
    for comparison in result.comparisons:
        for row in comparison.metrics:
            name = f"comparison.{comparison.champion.name}.{row.name}.difference"
            yield from _with_interval(name, row.difference, row.ci_low, row.ci_high)


def _with_interval(
    name: str, value: float | str | None, low: float | str | None, high: float | str | None
) -> Iterator[tuple[str, float | None]]:
    yield name, None if value is None else float(value)
    for end, bound in (("ci_low", low), ("ci_high", high)):
        if bound is not None:
            yield f"{name}.{end}", float(bound)
