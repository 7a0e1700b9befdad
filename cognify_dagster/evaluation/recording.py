"""Writes evaluations and gate results to a workspace.

Invariants: an evaluation names the snapshot it used, the exact model bytes, and thresholds adopted before the training
started; otherwise it is refused, not recorded. What is compared with a champion was compared on that very snapshot. Without
declared protected attributes, or without one that the model's definition declares, the fairness gate does not pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from cognify_dagster.evaluation._errors import EvaluationError
from cognify_dagster.evaluation.gates import Gate, GateOutcome, GateSet, evaluate_gates
from cognify_dagster.evaluation.results import as_eval_result
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
    ModelRegistered,
    OverlapChecked,
    TrainingRun,
    to_json,
    to_metric,
)
from cognify_dagster.records import GateOutcome as OutcomeRecord
from cognify_dagster.records.redaction import redact
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key, started_of

FAMILIES = ("performance", "fairness", "data_quality")


def adopted_gates(reading: Reading, model: str, name: str, training: Recorded[TrainingRun]) -> Recorded[GateSetAdopted]:
    """Return the newest gate set adopted before the training started.

    Raises:
        EvaluationError: if there is none.
    """
    started = started_of(reading, training)
    found = [
        item
        for item in reading.all(GateSetAdopted, f"gates/{name}")
        if item.record.model == model and item.seq < started
    ]
    if not found:
        raise EvaluationError(
            f"no gate set {name!r} was adopted for {model} before this training started (entry "
            f"{started}); a person adopts one with `cognify gates adopt`, then train a new version"
        )
    return found[-1]


def only_gates(reading: Reading, training: Recorded[TrainingRun]) -> Recorded[GateSetAdopted]:
    """Return the one gate set that was adopted for the model before the training started.

    Raises:
        EvaluationError: there is none, or there are several.
    """
    model, started = training.record.model, started_of(reading, training)
    names = {
        item.record.name for item in reading.all(GateSetAdopted) if item.record.model == model and item.seq < started
    }
    if len(names) > 1:
        raise EvaluationError(
            f"several gate sets were adopted for {model}: say which one judges: {', '.join(sorted(names))}"
        )
    return adopted_gates(reading, model, next(iter(names), f"{model}_gates"), training)


def require_snapshot_entry(reading: Reading, dataset: DatasetRef) -> Recorded[DatasetSnapshot]:
    """Return the snapshot that a reference names.

    Raises:
        EvaluationError: the ledger has no such snapshot: an evaluation on data that nobody snapshotted is refused.
    """
    found = reading.find(DatasetSnapshot, dataset.seq)
    if found is None or found.record.name != dataset.name or found.record.root != dataset.root:
        raise EvaluationError(
            f"{dataset.name}: entry {dataset.seq} is no snapshot of it with root {dataset.root[:16]}…; snapshot the evaluation data "
            "first (`cognify dataset snapshot`), an evaluation on other data is refused"
        )
    return found


def record_results(
    workspace: Workspace,
    *,
    training: Recorded[TrainingRun],
    dataset: DatasetRef,
    results: Any,
    evaluator: str,
    code: CodeRef,
    run: str,
    gate_set: str | None = None,
    n: int | None = None,
    protected_attributes: Sequence[str] = (),
    evaluator_code: CodeRef | None = None,
    objective_of: Callable[[str], str] | None = None,
    observed: Mapping[str, Any] | None = None,
) -> tuple[int, list[OutcomeRecord]]:
    """Record results of any accepted form: an `EvalResult`, or a mapping of names to numbers (see `as_eval_result`).

    Args:
        workspace: Where to record.
        training: The sealed run of the version that was evaluated.
        dataset: The snapshot it was evaluated on, with role `evaluation`.
        results: What was measured.
        evaluator: Who measured: a person's id or alias, such as `os:ben`.
        code: The code of the evaluation.
        run: Id of this evaluation. The same id with the same results is recorded once; with others it is refused, so two
            evaluations of one training run need two ids.
        gate_set: Name of the gate set; the only one of the model unless given.
        n: Records evaluated; the snapshot's number of records unless the results or this say it.
        protected_attributes: Those that were evaluated.
        evaluator_code: Code of the measuring tool, where it is another.
        objective_of: Says what a metric is evidence for, where the results do not.
        observed: Further facts of the moment, not compared on a retry.

    Returns:
        The evaluation's sequence number and the outcome of every gate.

    Raises:
        EvaluationError: unusable results, no snapshot, no gates adopted before training, or no overlap check.
    """
    reading = workspace.read()
    model = training.record.model
    adopted = adopted_gates(reading, model, gate_set, training) if gate_set else only_gates(reading, training)
    snapshot = require_snapshot_entry(reading, dataset)
    notes = []
    if n is None and isinstance(results, Mapping) and snapshot.record.record_count:
        n = snapshot.record.record_count
        notes = [f"Where results name no number of records, it is that of the snapshot ({n})."]
    result = as_eval_result(
        results, n=n, protected_attributes=protected_attributes, objective_of=objective_of, notes=notes
    )
    if evaluator_code is not None:
        result = result.model_copy(update={"evaluator_code": evaluator_code})
    return record_evaluation(
        workspace,
        result,
        training=training,
        gate_set=adopted,
        dataset=dataset,
        code=code,
        evaluator=evaluator,
        run=run,
        observed=observed,
    )


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
        EvaluationError: if the data are no snapshot on record, were never compared with the training data, or a comparison in
            the result is about another snapshot or version.
    """
    reading = workspace.read()
    require_snapshot_entry(reading, dataset)
    _require_same_snapshot(result, training, dataset)
    overlaps = overlap_of(reading, training.record.learned_from, dataset.root)
    if len(overlaps) < len(training.record.learned_from):
        lacking = [item.name for item in training.record.learned_from if not overlap_of(reading, [item], dataset.root)]
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
        tables={"calibration": to_json(facts["calibration"]), "settings": redact(to_json(facts["settings"]))},
        fairness=tuple(to_json(item) for item in facts["fairness"]),
        protected_attributes=result.protected_attributes,
        decision_threshold=to_metric(result.threshold.value) if result.threshold else None,
        gate_set=gate_set.record.name,
        gate_set_seq=gate_set.seq,
        gate_set_digest=gate_set.record.digest,
        outcomes=tuple(outcomes),
        status="failed" if failed else "passed",
        notes=result.notes,
        artefacts=tuple(
            workspace.put(item.name, item.data, item.media_type, item.sensitivity) for item in result.artifacts
        ),
        evaluator_code=None if result.evaluator_code == code else result.evaluator_code,
        slices=result.slices,
        comparisons=result.comparisons,
        perturbations=result.perturbations,
        explanations=result.explanations,
        benchmarks=result.benchmarks,
        observed={**(observed or {}), "run": run},
    )
    seq = workspace.append(record, idem=idempotency_key("evaluation", record.model, record.version, run)).seq
    _record_gates(workspace, record, seq, [o.seq for o in overlaps])
    return seq, outcomes


def _require_same_snapshot(result: EvalResult, training: Recorded[TrainingRun], dataset: DatasetRef) -> None:
    own = training.record
    for item in result.comparisons:
        if item.dataset.root != dataset.root:
            raise EvaluationError(
                f"the comparison with {item.champion.name} was made on {item.dataset.name}, root {item.dataset.root[:16]}…; this "
                f"evaluation is on {dataset.name}, root {dataset.root[:16]}…. Compare both on the same snapshot"
            )
        side = item.challenger
        if (side.model, side.version) != (own.model, own.version) or side.model_digest not in (
            None,
            own.model_file.digest,
        ):
            raise EvaluationError(
                f"the comparison with {item.champion.name} is about {side.name}, not about {own.model} {own.version} as sealed"
            )


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
    overlaps = overlap_of(before, training.record.learned_from, evaluation.record.dataset.root)
    _record_gates(workspace, evaluation.record, evaluation.seq, [o.seq for o in overlaps])


def _record_gates(workspace: Workspace, record: Evaluation, seq: int, overlaps: list[int]) -> None:
    for family in FAMILIES:
        _record_family(workspace, record, seq, family, list(record.outcomes), overlaps)


def _record_family(
    workspace: Workspace, record: Evaluation, seq: int, family: str, outcomes: list[OutcomeRecord], overlaps: list[int]
) -> None:
    own = tuple(item for item in outcomes if item.family == family)
    problem = _family_problem(workspace.read(seq), record, family)
    gate = GateResult.model_validate(
        {
            "model": record.model,
            "version": record.version,
            "family": family,
            "status": "fail" if problem or not all(item.passed for item in own) else "pass",
            "outcomes": own,
            "based_on": (seq, *overlaps) if family == "data_quality" else (seq,),
            "detail": {"reason": problem} if problem else {},
        }
    )
    workspace.append(gate, idem=idempotency_key("gate_result", record.model, record.version, family, seq))


def _family_problem(before: Reading, record: Evaluation, family: str) -> str:
    """Why a family cannot pass whatever its gates say; empty if it can. `before`: the ledger up to the evaluation."""
    if all(item.id.startswith(QUALITY_GATE) for item in record.outcomes if item.family == family):
        return f"the adopted gate set has no gate of family {family}"
    if family != "fairness":
        return ""
    registered = before.latest(ModelRegistered, f"model/{record.model}")
    declared = registered.record.protected_attributes if registered else ()
    left_out = [name for name in declared if name not in record.protected_attributes]
    if left_out:
        return f"the model declares protected attributes that were not evaluated: {', '.join(left_out)}"
    return "" if record.protected_attributes else NO_ATTRIBUTE


NO_ATTRIBUTE = "no protected attribute is declared as evaluated; name them in protected_attributes of the evaluation"


def family_status(reading: Reading, evaluation: Recorded[Evaluation], family: str) -> tuple[bool, str]:
    """Return whether a family passed, as its recorded result says, and a sentence about it."""
    record = evaluation.record
    found = [
        item
        for item in reading.all(GateResult, f"model/{record.model}@{record.version}")
        if item.record.family == family and evaluation.seq in item.record.based_on
    ]
    if not found:
        return False, f"the evaluation (entry {evaluation.seq}) has no result of family {family}"
    result = found[-1].record
    failed = [item.message or item.id for item in result.outcomes if not item.passed]
    reason = result.detail.get("reason")
    said = [*([str(reason)] if reason else []), *failed]
    if result.status != "pass":
        return False, "; ".join(said) or f"the result of family {family} (entry {found[-1].seq}) is a failure"
    return True, f"{len(result.outcomes)} gates passed"


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
