"""Records what a run reported about its version, judged by the thresholds that were adopted before it began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.evaluation.recording import ensure_gates, record_results
from cognify_dagster.evaluation.security_recording import has_snapshot, record_security
from cognify_dagster.governance import PolicyError, classification_of, directory, policy_in_force
from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.instrument.sdk.ended import Ended, Reported
from cognify_dagster.instrument.sdk.grounds import ground_of
from cognify_dagster.instrument.sdk.overlaps import ensure_overlaps
from cognify_dagster.records import CodeRef, Evaluation, GateSetAdopted, TrainingRun
from cognify_dagster.training.composing import code_ref
from cognify_dagster.workspace import Reading, Recorded, Workspace


def gates_before(reading: Reading, project: str, size: int) -> list[str]:
    """Return the names of the gate sets that were adopted for a model before the ledger had `size` entries."""
    return sorted({i.record.name for i in reading.all(GateSetAdopted) if i.record.model == project and i.seq < size})


def require_gates(names: Sequence[str], project: str, wanted: str | None) -> None:
    """Refuse results at once whose thresholds could not be told later. That there are none is no reason: results are then kept as told.

    Raises:
        EvaluationError: the wanted gate set did not count when the run began, or several did and none is named.
    """
    if wanted is not None and wanted not in names:
        raise EvaluationError(
            f"no gate set {wanted!r} was adopted for {project} before this run began; those that were: {', '.join(names) or 'none'}"
        )
    if wanted is None and len(names) > 1:
        raise EvaluationError(f"several gate sets were adopted for {project}: say gates=… of {', '.join(names)}")


def record_evaluations(
    workspace: Workspace,
    training: Recorded[TrainingRun],
    reported: Sequence[Reported],
    ended: Ended,
    code: CodeRef | None = None,
) -> list[Recorded[Evaluation]]:
    """Record reported results of a sealed version, with the overlap checks they need; those recorded before are returned.

    `code` is that of the evaluation; the run's own unless given.

    Raises:
        EvaluationError, SdkError: results, thresholds or data that cannot be used; the message says what to do.
    """
    labels = {item.label: item for item in ground_of(workspace.read(), ended).datasets}
    return record_reported(
        workspace,
        training,
        reported,
        run=ended.run,
        login=ended.login,
        labels=labels,
        code=code or code_ref(ended.code),
    )


def record_reported(
    workspace: Workspace,
    training: Recorded[TrainingRun],
    reported: Sequence[Reported],
    *,
    run: str,
    login: str,
    labels: Mapping[str, BoundDataset],
    code: CodeRef,
) -> list[Recorded[Evaluation]]:
    """As `record_evaluations`, for a run of which only these facts are at hand.

    Args:
        workspace: where to record.
        training: the sealed run.
        reported: what it reported.
        run: its id.
        login: who measured.
        labels: its datasets by label.
        code: the code of the evaluation.
    """
    subject = f"model/{training.record.model}@{training.record.version}"
    done = []
    for number, item in enumerate(reported, 1):
        own = f"{run}/eval-{number}"
        before = [e for e in workspace.read().all(Evaluation, subject) if e.record.observed.get("run") == own]
        if before:
            ensure_gates(workspace, before[-1], training)
            done.append(before[-1])
            continue
        benchmark = benchmark_of(labels, item.label)
        ref = benchmark.ref.model_copy(update={"role": "evaluation"})
        ensure_overlaps(workspace, training.record.learned_from, ref, own)
        seq, _ = record_results(
            workspace,
            training=training,
            dataset=ref,
            results=item.results,
            evaluator=f"os:{login}",
            code=code,
            run=own,
            gate_set=item.gates,
            n=item.n,
            protected_attributes=item.protected_attributes,
            observed={"benchmark_version": item.label, "login": login},
        )
        found = workspace.read().find(Evaluation, seq)
        if found is None:
            raise EvaluationError(f"evaluation entry {seq} cannot be read back; run `cognify ledger verify`")
        done.append(found)
    if done:
        judge_dependencies(workspace, done[-1], training)
    return done


def benchmark_of(labels: Mapping[str, BoundDataset], label: str) -> BoundDataset:
    """Return the dataset that a benchmark version means.

    Raises:
        EvaluationError: it is bound to no snapshot, or to data that the model was trained on.
    """
    found = labels.get(label)
    if found is None:
        known = ", ".join(name for name, item in labels.items() if not item.trained_on) or "none"
        raise EvaluationError(
            f"benchmark_version {label!r} is bound to no snapshot, and results on data that nobody snapshotted are refused (bound for "
            f"evaluation when this run began: {known}); bind it with `cognify dataset bind PROJECT {label or 'holdout-v1'}=SNAPSHOT`"
        )
    if found.trained_on:
        raise EvaluationError(f"benchmark_version {label!r} is what the model was trained on (role {found.ref.role})")
    return found


def judge_dependencies(workspace: Workspace, evaluation: Recorded[Evaluation], training: Recorded[TrainingRun]) -> None:
    """Record the security gate where the policy asks for it or advisories were imported, as the Dagster asset does."""
    reading = workspace.read()
    policy = policy_in_force(reading).policy
    try:
        tier = classification_of(reading, directory(reading), policy, training.record.model).tier
        asked = any("security" in stage.gates for _, stage in policy.stages_of(tier))
    except PolicyError:  # no such tier: the decision blocks on it, and says so
        asked = False
    if asked or has_snapshot(workspace):
        record_security(workspace, evaluation, training)
