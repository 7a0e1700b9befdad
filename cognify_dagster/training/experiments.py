"""Writes experiments: runs that are not governed, kept so that nothing is lost.

Invariants: an experiment is about no model version (its only subject is `experiment/<project>`), so no decision, coverage or
package can find it; none of its bytes are kept as a model, only their digest; a version can't be opened or sealed from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from cognify_dagster.records import DatasetRef, ExperimentRun, to_json
from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.code import CodeState
from cognify_dagster.training.composing import code_ref, store_environment, store_external
from cognify_dagster.training.environment import Environment
from cognify_dagster.training.recorder import TrainingRecorder
from cognify_dagster.workspace import Workspace, idempotency_key

if TYPE_CHECKING:
    from cognify_dagster.training.recording import Attribution


def seal_experiment(
    workspace: Workspace,
    recorder: TrainingRecorder,
    *,
    project: str,
    run: str,
    reason: str,
    status: Literal["completed", "failed", "killed"],
    code: CodeState,
    environment: Environment,
    attribution: Attribution,
    datasets: Sequence[DatasetRef] = (),
    results: Mapping[str, Any] | None = None,
) -> int:
    """Freeze the recorder and append an experiment; return its sequence number.

    Args:
        workspace: where to record.
        recorder: what the run said of itself.
        project: the project's key, in the form of a model key.
        run: the run's id; the same run is recorded once.
        reason: why it is an experiment, such as "no snapshots are bound".
        status: how it ended.
        code: the code that ran.
        environment: where it ran.
        attribution: who launched it.
        datasets: snapshots that it used, if any.
        results: evaluations as they were reported.

    Raises:
        TrainingError: without a reason.
        IdempotencyConflict: if this run was recorded before with other facts.
    """
    if not reason.strip():
        raise TrainingError("an experiment says why it is one (reason)")
    recorder.complete()
    taken = recorder.to_facts()
    facts = taken["facts"]
    stated = {
        name: facts[name]
        for name in ("architecture", "base_model", "seeds", "compute", "selection_note", "rerun")
        if facts[name]
    }
    record = ExperimentRun(
        project=project,
        run=run,
        reason=reason[:2000],
        status=status,
        datasets=tuple(datasets),
        model_digest=f"sha256:{recorder.models[-1].digest.sha256}" if recorder.models else None,
        config=facts["config"],
        metrics={name: summary["last"] for name, summary in facts["metrics"].items()},
        metric_series=workspace.put("metric-series.json", recorder.metric_series(), "application/json"),
        results=to_json(dict(results or {})),
        code=code_ref(code),
        environment=store_environment(workspace, environment),
        launched_by=attribution.launched_by,
        external=store_external(workspace, recorder.external),
        observed={**taken["observed"], "run": run},
        extra={**stated, **facts["extra"]},
    )
    return workspace.append(record, idem=idempotency_key("experiment_run", project, run)).seq
