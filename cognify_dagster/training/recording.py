"""Writes training runs to a workspace: opening a version, sealing a run, recording a failure.

Invariants: a version has at most one sealed run (its idempotency key is the version itself, so a second one is refused by the
store); nothing is sealed without snapshots; a failed run leaves a record too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.ledger import IdempotencyConflict, canonical_json
from cognify_dagster.records import (
    CodeRef,
    DatasetRef,
    EnvironmentRef,
    ModelRegistered,
    Package,
    SignOff,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
    to_json,
)
from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.code import CodeState
from cognify_dagster.training.environment import Environment
from cognify_dagster.training.recorder import TrainingRecorder
from cognify_dagster.workspace import Recorded, Workspace, idempotency_key


@dataclass(frozen=True)
class Attribution:
    """Who touched a version: the launcher (person id or "unattributed"), everyone mapped, and aliases mapped to nobody."""

    launched_by: str
    touched_by: tuple[str, ...] = ()
    unattributed: tuple[str, ...] = ()


def register_model(workspace: Workspace, definition: ModelRegistered) -> int:
    """Append a model's definition if it differs from the one on record; return the entry that holds it."""
    subject = f"model/{definition.model}"
    current = workspace.read().latest(ModelRegistered, subject)
    if current is not None and current.record.facts_digest() == definition.facts_digest():
        return current.seq
    previous = current.seq if current else -1
    key = idempotency_key("model_registered", definition.model, definition.facts_digest(), previous)
    return workspace.append(definition, idem=key).seq


def open_version(
    workspace: Workspace, model: str, version: str, *, run: str, opened_by: str, run_is_over: Callable[[str], bool]
) -> Recorded[TrainingRun] | None:
    """Open a version for a run, or return the run already sealed by this very run (a retry after a crash).

    Args:
        workspace: where to record.
        model: model key.
        version: version id.
        run: root run id.
        opened_by: person id or "unattributed".
        run_is_over: tells whether another run that opened the version has ended.

    Raises:
        TrainingError: if the version is sealed, or another run is training it now.
    """
    subject = f"model/{model}@{version}"
    reading = workspace.read()
    sealed = reading.latest(TrainingRun, subject)
    if sealed is not None:
        if sealed.record.observed.get("run") == run:
            return sealed
        signed = " and its package is signed" if reading.all(SignOff, subject) else ""
        built = " and packaged" if reading.all(Package, subject) else ""
        raise TrainingError(
            f"{model} {version} is sealed (entry {sealed.seq}){built}{signed}; a version is trained once. "
            "Train a new version instead"
        )
    for item in reading.all(VersionOpened, subject):
        other = item.record.run
        failed = any(failure.record.run == other for failure in reading.all(TrainingFailed, subject))
        if other != run and not failed and not run_is_over(other):
            raise TrainingError(
                f"run {other} is training {model} {version} now; wait for it, or train another version. If its process has died, "
                "end the run in Dagster first"
            )
    record = VersionOpened(model=model, version=version, run=run, opened_by=opened_by)
    workspace.append(record, idem=idempotency_key("version_opened", model, version, run))
    return None


def seal_training(
    workspace: Workspace,
    recorder: TrainingRecorder,
    *,
    model: str,
    version: str,
    run: str,
    datasets: Sequence[DatasetRef],
    model_path: Path,
    code: CodeState,
    environment: Environment,
    attribution: Attribution,
    started_after_seq: int,
    observed: Mapping[str, Any] | None = None,
) -> int:
    """Freeze the recorder, store model and artefacts as evidence, append the sealed run; return its sequence number.

    Raises:
        TrainingError: if there are no snapshots, the model file changed, or the version was sealed by another run meanwhile.
    """
    if not datasets:
        raise TrainingError(f"{model} {version}: a training run without dataset snapshots cannot be governed")
    if not model_path.is_file():
        raise TrainingError(f"{model_path}: no model file; return the path of the saved model")
    if not recorder.models:
        recorder.save_model(model_path)
    recorder.complete()
    taken = recorder.to_facts()
    facts = taken["facts"]
    detail = canonical_json(to_json({**environment.to_facts(), "host": environment.to_observed()}))
    record = TrainingRun(
        model=model,
        version=version,
        datasets=tuple(datasets),
        model_file=workspace.put(model_path.name, model_path, "application/octet-stream"),
        config=facts["config"],
        seed=_seed(facts["config"]),
        architecture=facts["architecture"],
        base_model=facts["base_model"],
        metrics={name: summary["last"] for name, summary in facts["metrics"].items()},
        metric_series=workspace.put("metric-series.json", recorder.metric_series(), "application/json"),
        artefacts=tuple(workspace.put(item.name, item.read(), item.media_type) for item in recorder.artifacts),
        selection_note=facts["selection_note"],
        code=code_ref(code),
        environment=EnvironmentRef(
            python=environment.python_version,
            platform=environment.os,
            packages_digest=environment.lock_sha256,
            gpu=environment.gpu if not environment.gpus else ", ".join(gpu.name for gpu in environment.gpus),
            container_image=environment.image_digest,
            detail=workspace.put("environment.json", detail, "application/json"),
        ),
        launched_by=attribution.launched_by,
        touched_by=attribution.touched_by,
        unattributed=attribution.unattributed,
        started_after_seq=started_after_seq,
        observed={**taken["observed"], **(observed or {}), "run": run},
        extra=facts["extra"],
    )
    try:
        return workspace.append(record, idem=idempotency_key("training_run", model, version), checkpoint=True).seq
    except IdempotencyConflict as error:
        raise TrainingError(f"{model} {version} was sealed by another run meanwhile; train a new version") from error


def record_failure(workspace: Workspace, model: str, version: str, *, run: str, attempt: int, reason: str) -> int:
    """Record that a training run ended without a model."""
    record = TrainingFailed(model=model, version=version, run=run, reason=reason[:2000])
    return workspace.append(record, idem=idempotency_key("training_failed", model, version, run, attempt)).seq


def code_ref(code: CodeState) -> CodeRef:
    """Return the record form of a code state."""
    return CodeRef(
        vcs=code.vcs,
        commit=code.commit,
        dirty=code.dirty,
        diff_digest=code.diff_sha256,
        remote=code.remote,
        authors=code.authors,
    )


def _seed(config: Mapping[str, Any]) -> int | None:
    for name in ("seed", "random_state"):
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    return None
