"""Records about evaluations and the gates that judge them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from cognify_dagster.records.base import DatasetName, Digest, Json, Metric, ModelKey, Part, Record, VersionId, register
from cognify_dagster.records.data import CodeRef, DatasetRef, EvidenceItem

Status = Literal["computed", "insufficient_data"]


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


class SliceMetric(Part):
    """One metric on one slice. `value` is None where too few records are behind it (`insufficient_data`)."""

    name: str
    value: Metric | None = None
    ci_low: Metric | None = None
    ci_high: Metric | None = None
    n: int = Field(description="records behind this number: of a share, its denominator")
    unit: str = ""
    higher_is_better: bool | None = None
    status: Status = "computed"


class SliceResult(Part):
    """The metrics on one part of the evaluation data: a site, a group, any other slice.

    A slice with fewer records than the minimum cell size is listed with its size and no metrics (`insufficient_data`).
    """

    kind: Literal["site", "group", "slice"] = "slice"
    attribute: str = Field(max_length=300, description="the column it is cut by; several are joined by ×")
    value: str = Field(max_length=300, description="this slice's value, such as the name of the hospital")
    n: int
    status: Status = "computed"
    metrics: tuple[SliceMetric, ...] = Field(default=(), max_length=50)

    def metric(self, name: str) -> SliceMetric | None:
        """Return a metric that was computed here, or None."""
        return next((item for item in self.metrics if item.name == name and _number(item.value) is not None), None)


def worst_slice(slices: Iterable[SliceResult], metric: str | None = None) -> SliceResult | None:
    """Return the slice on which a metric is worst, or None where none has it or its direction is not known.

    Args:
        slices: those to choose from; the first of equals is taken.
        metric: name of the metric; the first one with a direction unless given.
    """
    known = list(slices)
    if metric is None:
        names = (item.name for one in known for item in one.metrics if item.higher_is_better is not None)
        metric = next(names, None)
    if metric is None:
        return None
    found: list[tuple[float, SliceResult]] = []
    for one in known:
        item = one.metric(metric)
        number = _number(item.value) if item is not None else None
        if item is not None and number is not None and item.higher_is_better is not None:
            found.append((number if item.higher_is_better else -number, one))
    return min(found, key=lambda pair: pair[0])[1] if found else None


class Compared(Part):
    """One side of a comparison: a sealed model version, or an approach in use that is not under governance here.

    `evaluation_seq` is the entry whose results were compared; None where both sides were scored for the comparison.
    """

    name: str = Field(max_length=300, description="model@version, or what the approach in use is called")
    model: ModelKey | None = None
    version: VersionId | None = None
    model_digest: Digest | None = None
    evaluation_seq: int | None = None


class MetricDifference(Part):
    """A metric of both sides on the same records. `difference` is challenger minus champion, in the metric's unit.

    The interval is that of the difference over records resampled in pairs; without one nothing is judged (`not_judged`).
    """

    name: str
    champion: Metric
    challenger: Metric
    difference: Metric
    ci_low: Metric | None = None
    ci_high: Metric | None = None
    n: int | None = None
    higher_is_better: bool | None = None
    verdict: Literal["better", "worse", "no_clear_difference", "not_judged"] = "not_judged"


class Comparison(Part):
    """This version (the challenger) against another one or the approach in use (the champion), on the same snapshot."""

    champion: Compared
    challenger: Compared
    dataset: DatasetRef
    method: str = Field(max_length=300, description="how intervals were made: replicates, seed, confidence")
    n: int | None = None
    metrics: tuple[MetricDifference, ...] = Field(max_length=100)
    notes: tuple[str, ...] = ()


class Perturbation(Part):
    """What became of a metric when an input was changed on purpose: one row of the sensitivity table.

    `error` says that the model could not score the changed input, which is a finding too.
    """

    feature: str = Field(max_length=300, description="the column, or `text`")
    transformation: str = Field(max_length=100, description="such as noise, missing, shift, typos, upper_case")
    size: Metric = Field(description="how large the change is, in `unit`")
    unit: str = Field(default="", max_length=100)
    metric: str
    before: Metric
    after: Metric | None = None
    change: Metric | None = Field(default=None, description="after minus before")
    higher_is_better: bool | None = None
    mean_shift: Metric | None = Field(default=None, description="mean absolute change of the score")
    flipped: Metric | None = Field(default=None, description="share of records whose decision changed")
    n: int
    seed: int | None = None
    status: Literal["computed", "error"] = "computed"
    note: str = Field(default="", max_length=500)


class FeatureEffect(Part):
    """How much a feature moves the output, in the unit of the method."""

    name: str = Field(max_length=300)
    value: Metric


class Explanation(Part):
    """Why the model decides as it does: over all data (`global`) or for single decisions.

    `item` is evidence. For decisions it is one file for all of them, with an index by decision id at its head.
    """

    scope: Literal["global", "decision"]
    method: str = Field(max_length=200, description="such as shap, permutation_importance, linear_contributions")
    decision: str = Field(default="", max_length=300, description="the decision's id, where it is about one only")
    count: int = Field(default=1, description="decisions explained in the file; for global ones, features")
    output: str = Field(default="", max_length=300, description="what is explained, such as: log-odds of default")
    item: EvidenceItem
    top: tuple[FeatureEffect, ...] = Field(default=(), max_length=50, description="the largest effects, of global ones")
    note: str = Field(default="", max_length=1000)


class BenchmarkResult(Part):
    """One number of a public benchmark as a harness reported it. `source` is the harness's own file, kept as evidence.

    The interval is value ± z × standard error, a normal approximation.
    """

    task: str = Field(max_length=300)
    version: str = Field(default="", max_length=100, description="the task's version in the harness")
    n_shot: int | None = None
    metric: str = Field(max_length=200)
    filter: str = Field(
        default="", max_length=200, description="how answers were read, where the harness has several ways"
    )
    value: Metric
    stderr: Metric | None = None
    ci_low: Metric | None = None
    ci_high: Metric | None = None
    n: int | None = Field(default=None, description="questions answered")
    n_available: int | None = Field(
        default=None, description="questions that the task has; more than `n` after a limit"
    )
    higher_is_better: bool | None = None
    objective: str = Field(default="", description="in plain words what it is evidence for; empty: unmapped")
    objective_id: str = ""
    harness: str = Field(default="", max_length=100)
    source: EvidenceItem
    samples: EvidenceItem | None = Field(default=None, description="the answers, question by question")

    @property
    def metric_name(self) -> str:
        """The flat name that gates and objectives use: task.metric, and the filter where it is not `none`."""
        return ".".join([self.task, self.metric, *([self.filter] if self.filter not in ("", "none") else [])])


@register
class Evaluation(Record):
    """An evaluation of one model version on one snapshot against gates adopted before training.

    `code` is the code of the evaluation; `evaluator_code` that of the tool which measured, where it is another.
    `evaluator_code` and what follows came later: entries without them have the facts that they always had.
    """

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
    evaluator_code: CodeRef | None = Field(default=None, description="the measuring tool's code, where it is another")
    slices: tuple[SliceResult, ...] = Field(default=(), max_length=1_000)
    comparisons: tuple[Comparison, ...] = Field(default=(), max_length=50)
    perturbations: tuple[Perturbation, ...] = Field(default=(), max_length=1_000)
    explanations: tuple[Explanation, ...] = Field(default=(), max_length=200)
    benchmarks: tuple[BenchmarkResult, ...] = Field(default=(), max_length=1_000)

    @property
    def sites(self) -> tuple[SliceResult, ...]:
        """The slices that are sites."""
        return tuple(item for item in self.slices if item.kind == "site")

    @property
    def worst_site(self) -> SliceResult | None:
        """The site on which the first metric with a known direction is worst; None without sites."""
        return worst_slice(self.sites)

    @property
    def unmapped(self) -> tuple[str, ...]:
        """Names of metrics that no objective is stated for: what they are evidence for is open."""
        return tuple(item.name for item in self.metrics if not item.objective)

    def facts(self) -> dict[str, Any]:
        """Return the facts; what came later and is empty is left out, so that earlier entries read as they were written."""
        data = super().facts()
        for name in _SINCE_CAPTURE:
            if not data[name]:
                del data[name]
        return data

    def subjects(self) -> tuple[str, ...]:
        return (
            f"model/{self.model}",
            f"model/{self.model}@{self.version}",
            f"dataset/{self.dataset.name}",
            f"gates/{self.gate_set}",
        )

    def evidence(self) -> tuple[str, ...]:
        items = [*self.artefacts, *(item.item for item in self.explanations)]
        for benchmark in self.benchmarks:
            items += [benchmark.source, *([benchmark.samples] if benchmark.samples else [])]
        return tuple(dict.fromkeys(item.digest for item in items))


_SINCE_CAPTURE = ("evaluator_code", "slices", "comparisons", "perturbations", "explanations", "benchmarks")


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


def _number(value: object) -> float | None:
    """A finite number, or None."""
    known = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if known else None  # type: ignore[arg-type]
