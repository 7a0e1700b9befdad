"""Writes training runs to a workspace: opening a version, sealing a run, recording a failure.

Invariants: a version has at most one sealed run (its idempotency key is the version itself, so a second one is refused by the
store); a run began no later than it opened its version, whatever its caller says; nothing is sealed without snapshots (what has none is an experiment, see `experiments`); a failed run leaves a record too,
also one whose process was killed: whoever opens the version next, or looks after it, writes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.ledger import IdempotencyConflict
from cognify_dagster.records import (
    DatasetRef,
    ModelRegistered,
    Package,
    SignOff,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
    to_json,
)
from cognify_dagster.records.redaction import redact_text
from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.code import CodeState
from cognify_dagster.training.composing import (
    MAX_EVIDENCE,
    code_ref,
    compute_of,
    older_than_run,
    rerun_of,
    seed_of,
    store_all,
)
from cognify_dagster.training.environment import Environment
from cognify_dagster.training.experiments import seal_experiment
from cognify_dagster.training.pieces import ModelFiles
from cognify_dagster.training.recorder import TrainingRecorder
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key, opened_at, openings_of

__all__ = [
    "Attribution",
    "code_ref",
    "open_version",
    "record_failure",
    "register_model",
    "seal_experiment",
    "seal_training",
]

#: What a killed run's record says: nobody saw how it died, only that it is over.
KILLED = "the run ended without a model and without saying why: its process was killed or its machine was lost"


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
    workspace: Workspace,
    model: str,
    version: str,
    *,
    run: str,
    opened_by: str,
    run_is_over: Callable[[str], bool],
    run_ended: Callable[[str], bool] = lambda _: False,
) -> Recorded[TrainingRun] | None:
    """Open a version for a run, or return the run already sealed by this very run (a retry after a crash).

    Args:
        workspace: where to record.
        model: model key.
        version: version id.
        run: root run id.
        opened_by: person id or "unattributed".
        run_is_over: tells whether another run that opened the version has ended, or nobody knows of it any more.
        run_ended: tells whether another run is known to have ended.

    A run that opened the version before and ended without a word (its process was killed) gets its `TrainingFailed` here.

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
    failed = {item.record.run for item in reading.all(TrainingFailed, subject)}
    for item in reading.all(VersionOpened, subject):
        other = item.record.run
        if other == run or other in failed:
            continue
        if not run_is_over(other):
            raise TrainingError(
                f"run {other} is training {model} {version} now; wait for it, or train another version. If its process has died, "
                "end the run in Dagster first"
            )
        if run_ended(other):
            observed = {"dagster_run": other, "found_by": run}
            record_failure(workspace, model, version, run=other, attempt=other, reason=KILLED, observed=observed)
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
    captured_by: str = "dagster",
    began_us: int | None = None,
) -> int:
    """Freeze the recorder, store model and artefacts as evidence, append the sealed run; return its sequence number.

    Args:
        workspace: where to record.
        recorder: what the run said of itself.
        model: model key.
        version: version id, which `open_version` opened.
        run: id of the run, as it opened the version.
        datasets: the snapshots it used, each with its role; at least one that it trained on.
        model_path: the saved model, a file or a folder.
        code: the code that ran.
        environment: where it ran.
        attribution: who touched the version.
        started_after_seq: the ledger's size when training started; at most the size when the run opened the version is recorded.
        observed: further facts of the moment, not compared on a retry.
        captured_by: what writes the record: dagster, sdk, spool, import.
        began_us: when training began, in microseconds since 1970, if not when the recorder was made; 0 where nobody knows. A model
            file that was last changed before is noted in the record.

    Raises:
        TrainingError: if there are no snapshots, `started_after_seq` is no size that the ledger can have had, a file changed, the base model is not the version it is said to be, or the
            version was sealed by another run meanwhile.
    """
    if not any(item.role != "holdout" for item in datasets):
        raise TrainingError(
            f"{model} {version}: a training run without dataset snapshots cannot be governed; name the snapshots it trained on, or "
            "record it as an experiment, which can never become a package"
        )
    started = _started(workspace.read(), model, version, run, started_after_seq)
    chosen = _chosen(recorder, model_path)
    recorder._freeze(reread=False)  # every byte is hashed again while it is stored
    taken = recorder.to_facts()
    facts = taken["facts"]
    base_model = _checked_parent(workspace.read(), facts["base_model"])
    kept = store_all(workspace, recorder, chosen, environment, facts["distributed"])
    older = older_than_run(chosen, recorder._started if began_us is None else began_us)
    others = [item for item in facts["models"] if item["sha256"] != chosen.digest.sha256]
    record = TrainingRun(
        model=model,
        version=version,
        datasets=tuple(datasets),
        model_file=kept.model_file,
        config=facts["config"],
        seed=seed_of(facts["config"], facts["seeds"]),
        architecture=facts["architecture"],
        base_model=base_model,
        metrics={name: summary["last"] for name, summary in facts["metrics"].items()},
        metric_series=kept.metric_series,
        artefacts=kept.artefacts,
        selection_note=facts["selection_note"],
        code=code_ref(code),
        environment=kept.environment,
        launched_by=attribution.launched_by,
        touched_by=attribution.touched_by,
        unattributed=attribution.unattributed,
        started_after_seq=started,
        model_files=kept.model_files,
        checkpoints=kept.checkpoints,
        seeds=facts["seeds"],
        feature_code=code_ref(recorder.feature_code) if recorder.feature_code else None,
        compute=compute_of(facts["compute"]),
        distributed=kept.distributed,
        external=kept.external,
        rerun=rerun_of(facts["rerun"]),
        captured_by=captured_by,
        observed={**taken["observed"], **(observed or {}), "run": run},
        extra={**facts["extra"], **({"other_models": to_json(others)} if others else {}), **older},
    )
    if len(record.evidence()) > MAX_EVIDENCE:
        raise TrainingError(
            f"{model} {version}: the record names {len(record.evidence())} blobs; an entry has room for {MAX_EVIDENCE}. Pack artefacts "
            "together, or keep the bytes of fewer checkpoints"
        )
    try:
        return workspace.append(record, idem=idempotency_key("training_run", model, version), checkpoint=True).seq
    except IdempotencyConflict as error:
        raise TrainingError(f"{model} {version} was sealed by another run meanwhile; train a new version") from error


def _started(reading: Reading, model: str, version: str, run: str, claimed: int) -> int:
    """The ledger's size when training started: as claimed, and no larger than right after the run opened the version."""
    if isinstance(claimed, bool) or not isinstance(claimed, int) or not 0 <= claimed <= reading.size:
        raise TrainingError(
            f"{model} {version}: started_after_seq is {claimed!r}; the ledger has {reading.size} entries, so it is a number from 0 to that"
        )
    opened = opened_at(openings_of(reading, model, version), run)
    return claimed if opened is None else min(claimed, opened)


def _chosen(recorder: TrainingRecorder, path: Path) -> ModelFiles:
    """The registered model that a path means; it is registered now if it was not before."""
    absolute = Path(path).absolute()
    found = [item for item in recorder.models if item.path == absolute]
    if not found:
        if not absolute.is_dir() and not absolute.is_file():
            raise TrainingError(f"{path}: no model file; return the path of the saved model")
        recorder.save_model(absolute)
        found = [item for item in recorder.models if item.path == absolute]
    return found[-1]


def _checked_parent(reading: Reading, base: Mapping[str, Any]) -> dict[str, Any]:
    """The base model's facts; where it is said to be a governed version, with the entry of that version's run."""
    parent = base.get("parent")
    if not parent:
        return dict(base)
    name = f"{parent['model']} {parent['version']}"
    found = reading.latest(TrainingRun, f"model/{parent['model']}@{parent['version']}")
    if found is None:
        raise TrainingError(f"base_model.parent: {name} has no sealed training run in this ledger")
    known = found.record.model_file.digest.removeprefix("sha256:")
    if known != base.get("sha256"):
        raise TrainingError(
            f"base_model.sha256 is {base.get('sha256')}; the model of {name} (entry {found.seq}) is {known}. Start from that version's "
            "files, or leave the parent out"
        )
    return {**base, "parent": {**parent, "entry": found.seq}}


def record_failure(
    workspace: Workspace,
    model: str,
    version: str,
    *,
    run: str,
    attempt: int | str,
    reason: str,
    observed: Mapping[str, Any] | None = None,
) -> int:
    """Record that a training run ended without a model.

    Args:
        workspace: where to record.
        model: model key.
        version: version id.
        run: id of the run that opened the version.
        attempt: which attempt of it, so that each leaves one entry.
        reason: what happened, secrets replaced; cut at 2000 characters.
        observed: further facts of the moment.
    """
    record = TrainingFailed(
        model=model, version=version, run=run, reason=redact_text(reason)[:2000], observed=to_json(dict(observed or {}))
    )
    return workspace.append(record, idem=idempotency_key("training_failed", model, version, run, attempt)).seq
