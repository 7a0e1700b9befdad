"""Records about evaluations and the gates that judge them."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cognify_dagster.records.base import DatasetName, Digest, Json, Metric, ModelKey, Part, Record, VersionId, register
from cognify_dagster.records.data import CodeRef, DatasetRef, EvidenceItem


class MetricResult(Part):
    """A metric with its interval and sample size; `objective` says in plain words what it is evidence for."""

    name: str
    value: Metric
    ci_low: Metric | None = None
    ci_high: Metric | None = None
    n: int | None = None
    unit: str = ""
    objective: str = ""


class GateOutcome(Part):
    """What one gate found."""

    id: str
    family: str
    metric: str
    op: str
    threshold: float
    value: Metric | None = None
    status: Literal["pass", "fail", "insufficient_data", "missing"]
    passed: bool = Field(False, description="lets the model through; also for insufficient data where the gate says so")
    message: str = ""

    @model_validator(mode="before")
    @classmethod
    def _passed_by_status(cls, data: Any) -> Any:
        if isinstance(data, dict) and "passed" not in data:
            return {**data, "passed": data.get("status") == "pass"}
        return data


@register
class Evaluation(Record):
    """An evaluation of one model version on one snapshot against gates adopted before training."""

    kind: ClassVar[str] = "evaluation"
    model: ModelKey
    version: VersionId
    model_digest: Digest
    training_seq: int
    dataset: DatasetRef
    evaluator: str
    code: CodeRef
    metrics: tuple[MetricResult, ...]
    tables: dict[str, Json] = Field(default_factory=dict)
    fairness: tuple[dict[str, Json], ...] = ()
    protected_attributes: tuple[str, ...] = ()
    decision_threshold: Metric | None = None
    gate_set: DatasetName
    gate_set_seq: int
    gate_set_digest: Digest
    outcomes: tuple[GateOutcome, ...]
    status: Literal["passed", "failed"]
    notes: tuple[str, ...] = ()
    artefacts: tuple[EvidenceItem, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return (
            f"model/{self.model}",
            f"model/{self.model}@{self.version}",
            f"dataset/{self.dataset.name}",
            f"gates/{self.gate_set}",
        )

    def evidence(self) -> tuple[str, ...]:
        return tuple(item.digest for item in self.artefacts)


@register
class GateResult(Record):
    """The result of one family of automated gates for a version. Automated, so never a human approval."""

    kind: ClassVar[str] = "gate_result"
    model: ModelKey
    version: VersionId
    family: Literal["performance", "fairness", "data_quality", "completeness", "security"]
    status: Literal["pass", "fail"]
    outcomes: tuple[GateOutcome, ...] = ()
    based_on: tuple[int, ...] = Field(description="sequence numbers of the entries that were judged")
    detail: dict[str, Json] = Field(default_factory=dict)
    report: EvidenceItem | None = Field(default=None, description="everything judged, where the family keeps it")

    def facts(self) -> dict[str, Any]:
        """Return the facts; without a report they are what they were before there were reports."""
        data = super().facts()
        if data["report"] is None:
            del data["report"]
        return data

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"model/{self.model}@{self.version}")

    def evidence(self) -> tuple[str, ...]:
        return () if self.report is None else (self.report.digest,)
