"""Writes evaluations and gate results to a workspace.

Invariants: an evaluation names the snapshot it used, the exact model bytes, and thresholds adopted before the training
started; otherwise it is refused, not recorded.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation.gates import Gate, GateOutcome, GateSet, evaluate_gates
from cognify_dagster.evaluation.suite import EvalResult
from cognify_dagster.records import (
    DEFAULT_OVERLAP_CHECK,
    CodeRef,
    DatasetRef,
    DatasetSnapshot,
    Evaluation,
    GateResult,
    GateSetAdopted,
    MetricResult,
    OverlapChecked,
    TrainingRun,
    to_json,
    to_metric,
)
from cognify_dagster.records import GateOutcome as OutcomeRecord
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

FAMILIES = ("performance", "fairness", "data_quality")


def adopted_gates(reading: Reading, model: str, name: str, training: Recorded[TrainingRun]) -> Recorded[GateSetAdopted]:
    """Return the newest gate set adopted before the training started.

    Raises:
        EvaluationError: if there is none.
    """
    found = [
        item
        for item in reading.all(GateSetAdopted, f"gates/{name}")
        if item.record.model == model and item.seq < training.record.started_after_seq
    ]
    if not found:
        raise EvaluationError(
            f"no gate set {name!r} was adopted for {model} before this training started (entry "
            f"{training.record.started_after_seq}); a person adopts one with `cognify gates adopt`, then train a new version"
        )
    return found[-1]


def overlap_of(reading: Reading, train: Sequence[DatasetRef], holdout_root: str) -> list[Recorded[OverlapChecked]]:
    """Return the overlap check of each training root against the evaluation root.

    Where checks of several names compared the two, the newest of each name counts, and the one that found most speaks: a
    narrow comparison cannot hide what a wider one found.
    """
    result = []
    for ref in train:
        newest: dict[str, Recorded[OverlapChecked]] = {}
        for item in reading.all(OverlapChecked, f"dataset/{ref.name}"):
            if item.record.train.root == ref.root and item.record.holdout.root == holdout_root:
                newest[item.record.check or DEFAULT_OVERLAP_CHECK] = item
        if newest:
            result.append(max(newest.values(), key=lambda item: (item.record.overlapping_records, item.seq)))
    return result


def record_evaluation(
    workspace: Workspace,
    result: EvalResult,
    *,
    training: Recorded[TrainingRun],
    gate_set: Recorded[GateSetAdopted],
    dataset: DatasetRef,
    code: CodeRef,
    evaluator: str,
    run: str,
    observed: Mapping[str, Any] | None = None,
) -> tuple[int, list[OutcomeRecord]]:
    """Judge the result by the adopted gates and append evaluation and gate results.

    Returns:
        The evaluation's sequence number and the outcome of every gate.

    Raises:
        EvaluationError: if the data were never compared with the training data.
    """
    reading = workspace.read()
    overlaps = overlap_of(reading, training.record.datasets, dataset.root)
    if len(overlaps) < len(training.record.datasets):
        lacking = [item.name for item in training.record.datasets if not overlap_of(reading, [item], dataset.root)]
        raise EvaluationError(
            f"{dataset.name} was never compared with the training data; add an overlap check before the evaluation, for "
            f"{' and for '.join(lacking)} as the snapshot that was trained on: cg.overlap_check(train={lacking[0]!r}, "
            f"holdout={dataset.name!r}), or `cognify dataset overlap {lacking[0]} {dataset.name} --record`"
        )
    result = result.with_data_checks(overlap_records=float(sum(o.record.overlapping_records for o in overlaps)))
    outcomes = [_outcome(item) for item in evaluate_gates(_gate_set(gate_set.record), result.flat())]
    outcomes += quality_outcomes(reading, [*training.record.datasets, dataset])
    facts = result.to_facts()
    failed = [item for item in outcomes if not item.passed]
    record = Evaluation(
        model=training.record.model,
        version=training.record.version,
        model_digest=training.record.model_file.digest,
        training_seq=training.seq,
        dataset=dataset,
        evaluator=evaluator,
        code=code,
        metrics=tuple(_metric(item) for item in facts["metrics"]),
        tables={"calibration": to_json(facts["calibration"]), "settings": to_json(facts["settings"])},
        fairness=tuple(to_json(item) for item in facts["fairness"]),
        protected_attributes=result.protected_attributes,
        decision_threshold=to_metric(result.threshold.value) if result.threshold else None,
        gate_set=gate_set.record.name,
        gate_set_seq=gate_set.seq,
        gate_set_digest=gate_set.record.digest,
        outcomes=tuple(outcomes),
        status="failed" if failed else "passed",
        notes=result.notes,
        artefacts=tuple(workspace.put(item.name, item.data, item.media_type) for item in result.artifacts),
        observed={**(observed or {}), "run": run},
    )
    seq = workspace.append(record, idem=idempotency_key("evaluation", record.model, record.version, run)).seq
    _record_gates(workspace, record, seq, [o.seq for o in overlaps])
    return seq, outcomes


QUALITY_GATE = "snapshot-quality"


def quality_outcomes(reading: Reading, used: Sequence[DatasetRef]) -> list[OutcomeRecord]:
    """Judge the data-quality checks that the snapshots in use brought with them: one outcome a snapshot that has any."""
    found = []
    for ref in used:
        snapshot = reading.find(DatasetSnapshot, ref.seq)
        if snapshot is None or not snapshot.record.quality:
            continue
        failed = snapshot.record.failed_quality
        named = ", ".join(item.name for item in failed)
        text = f"{ref.name} (entry {ref.seq}): {len(failed)} of {len(snapshot.record.quality)} quality checks failed"
        found.append(
            OutcomeRecord(
                id=f"{QUALITY_GATE}.{ref.name}",
                family="data_quality",
                metric="data.failed_quality_checks",
                op="<=",
                threshold=0,
                value=len(failed),
                status="fail" if failed else "pass",
                passed=not failed,
                message=f"{text}: {named}" if failed else text,
            )
        )
    return list({item.id: item for item in found}.values())


def ensure_gates(workspace: Workspace, evaluation: Recorded[Evaluation], training: Recorded[TrainingRun]) -> None:
    """Append the gate results of an evaluation that a crash kept from being written; do nothing if they are there."""
    before = workspace.read(evaluation.seq)
    overlaps = overlap_of(before, training.record.datasets, evaluation.record.dataset.root)
    _record_gates(workspace, evaluation.record, evaluation.seq, [o.seq for o in overlaps])


def _record_gates(workspace: Workspace, record: Evaluation, seq: int, overlaps: list[int]) -> None:
    for family in FAMILIES:
        _record_family(workspace, record, seq, family, list(record.outcomes), overlaps)


def _record_family(
    workspace: Workspace, record: Evaluation, seq: int, family: str, outcomes: list[OutcomeRecord], overlaps: list[int]
) -> None:
    own = tuple(item for item in outcomes if item.family == family)
    adopted = [item for item in own if not item.id.startswith(QUALITY_GATE)]
    passed = bool(adopted) and all(item.passed for item in own)
    undeclared = family == "fairness" and not record.protected_attributes
    gate = GateResult.model_validate(
        {
            "model": record.model,
            "version": record.version,
            "family": family,
            "status": "pass" if passed and not undeclared else "fail",
            "outcomes": own,
            "based_on": (seq, *overlaps) if family == "data_quality" else (seq,),
            "detail": {} if adopted else {"reason": f"the adopted gate set has no gate of family {family}"},
        }
    )
    workspace.append(gate, idem=idempotency_key("gate_result", record.model, record.version, family, seq))


def family_status(outcomes: Sequence[OutcomeRecord], family: str) -> tuple[bool, str]:
    """Return whether a family passed and a sentence about it."""
    own = [item for item in outcomes if item.family == family]
    failed = [item for item in own if not item.passed]
    if all(item.id.startswith(QUALITY_GATE) for item in own):
        return False, f"the adopted gate set has no gate of family {family}"
    if failed:
        return False, "; ".join(item.message or item.id for item in failed)
    return True, f"{len(own)} gates passed"


def _gate_set(record: GateSetAdopted) -> GateSet:
    """The gates that an evaluation's numbers are judged by; dependencies are judged apart, see `security_recording`."""
    own = (rule for rule in record.gates if rule.family != "security")
    gates = tuple(Gate.model_validate({**g.model_dump(), "reason": g.reason or "adopted"}) for g in own)
    return GateSet.model_construct(name=record.name, gates=gates)


def _outcome(item: GateOutcome) -> OutcomeRecord:
    data = item.model_dump()
    value = data["value"]
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return OutcomeRecord.model_validate(
        {
            **{
                name: data[name]
                for name in ("id", "family", "metric", "op", "threshold", "status", "passed", "message")
            },
            "value": to_metric(value) if known else None,
        }
    )


def _metric(item: Mapping[str, Any]) -> MetricResult:
    return MetricResult(
        name=item["name"],
        value=item["value"],
        ci_low=item["ci_low"],
        ci_high=item["ci_high"],
        n=item["n"],
        unit=item["unit"],
        objective=item["objective"],
    )
