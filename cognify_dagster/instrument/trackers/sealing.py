"""Seals a run of another tool as a training run of a governed model, or keeps it as an experiment.

Invariants:

* A run becomes a training run only with dataset snapshots; what the tool itself says about its data is kept and never trusted.
* A run is sealed once: the same run again finds its entry, another version for it is refused.
* When training started is the tool's word, the earliest moment that it gives for anything: thresholds adopted later do not count.
* The environment is what the tool told, never that of the process that imports.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.sdk.bindings import (
    TRAINED_ON,
    bindings_at,
    current_bindings,
    datasets_of,
    find_snapshot,
)
from cognify_dagster.instrument.sdk.versions import claim_version
from cognify_dagster.instrument.touching import attribution_of, require_refs
from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.instrument.trackers.tracked import TrackedRun, fitted, number, recorded_names
from cognify_dagster.records import (
    DatasetRef,
    ExperimentRun,
    TrainingFailed,
    TrainingRun,
)
from cognify_dagster.training import CodeState, Environment, TrainingRecorder, capture_code, clean_remote
from cognify_dagster.training.environment import Gpu, Package, requirement_lines
from cognify_dagster.training.recording import Attribution
from cognify_dagster.workspace import Reading, Recorded, Workspace, os_login, size_at, unknown_model

ROLES = ("train", "validation", "holdout", "evaluation", "other")
EXTRA = "import"
_SEED_NAMES = ("seed", "random_state", "random_seed")


@dataclass(frozen=True)
class Imported:
    """What became of a run. `version` is empty for an experiment; `again` says that the entry was there before."""

    model: str
    version: str
    entry: int
    leaf: str
    kind: str
    again: bool
    notes: tuple[str, ...] = ()


def choose_datasets(
    reading: Reading, model: str, wanted: Sequence[str], started: int, started_us: int | None
) -> tuple[tuple[DatasetRef, ...], list[str]]:
    """Return the snapshots that are named, or those that the project's names were bound to when the run began; and notes on them.

    Args:
        reading: verified entries.
        model: the project, of which the bindings count where none is named.
        wanted: `NAME`, `NAME@ENTRY` or `NAME@ROOT`, each with `=role` (train unless given).
        started: how many entries there were when the run began.
        started_us: when it began, None where nobody knows.

    Raises:
        TrackerError: if there is none, or a role is unknown.
        SdkError: if a snapshot is not on record.
    """
    notes: list[str] = []
    if wanted:
        refs = [_wanted(reading, text) for text in wanted]
    else:
        then = bindings_at(reading, model, seen=started, started_us=started_us or 0)
        now = then or current_bindings(reading, model)
        refs = [item.ref for item in datasets_of(reading, now)]
        if not refs:
            raise TrackerError(
                f"{model}: a run without dataset snapshots cannot be governed. Name them (--dataset NAME=train), bind them once "
                f"(cognify dataset bind {model} train=NAME), or keep the run as an experiment (--experiment)"
            )
        if then is None:
            notes.append("the names of the data were bound only after the run began; taken as they are bound now")
    if not any(ref.role in TRAINED_ON for ref in refs):
        raise TrackerError(
            f"{model}: none of the snapshots is one that it trained on; name that too: --dataset NAME=train"
        )
    late = sorted({ref.name for ref in refs if ref.seq >= started})
    if late:
        notes.append(
            f"snapshotted only after the run began, so that the ledger does not show what it read: {', '.join(late)}"
        )
    return tuple(dict.fromkeys(refs)), notes


def _wanted(reading: Reading, text: str) -> DatasetRef:
    from cognify_dagster.datasets.recording import dataset_ref

    name, _, role = text.partition("=")
    role = role or "train"
    if role not in ROLES:
        raise TrackerError(f"dataset {text[:200]!r}: {role!r} is no role; one of {', '.join(ROLES)} is meant")
    return dataset_ref(find_snapshot(reading, name), role)


def sealed_as(reading: Reading, model: str, tracked_key: str) -> Recorded[TrainingRun] | None:
    """Return the sealed run of a model that names a run of another tool (`mlflow:0a1b`)."""
    system, _, run = tracked_key.partition(":")
    for item in reversed(reading.all(TrainingRun, f"model/{model}")):
        if any((one.system, one.run) == (system, run) for one in item.record.external):
            return item
    return None


def seal_tracked(
    workspace: Workspace,
    tracked: TrackedRun,
    *,
    model: str,
    version: str | None = None,
    datasets: Sequence[str] = (),
    model_path: Path | None = None,
    artefacts: Sequence[tuple[str, Path, str]] = (),
    selection_note: str = "",
    code: Path | None = None,
    architecture: Mapping[str, str] | None = None,
) -> Imported:
    """Seal a run as the training run of a model version; a run that failed is recorded as a failed one.

    Args:
        workspace: where to record.
        tracked: the run.
        model: key of a registered model.
        version: the version; the one that holds this run already, else the next free one.
        datasets: see `choose_datasets`.
        model_path: the model's file or folder; needed unless the run failed.
        artefacts: name, file and media type of what is kept beside the model.
        selection_note: why this configuration was chosen.
        code: folder of the training code; its commit has to be the one that the tool tells, if it tells one.
        architecture: name, framework and framework_version, where the tool tells them.

    Raises:
        TrackerError: if the run has not ended, the model is unknown, a snapshot is missing, or the run is sealed as another version.
        TrainingError: if another run holds the version.
        DatasetNotReady: if the policy demands something of the data that is not there.
    """
    from cognify_dagster.training.recording import record_failure, seal_training

    reading = workspace.read()
    if tracked.status == "running":
        raise TrackerError(f"{tracked.key} has not ended; a record is sealed once. End the run, then mirror it")
    missing = unknown_model(reading, model)
    if missing:
        raise TrackerError(
            f"{missing}; register it first, by its Dagster definition or with `sdk.init(project={model!r}, owner=…)`"
        )
    known = sealed_as(reading, model, tracked.key)
    if known is not None:
        return _known(known, version, tracked)
    started = size_at(reading, tracked.started_us)
    refs: tuple[DatasetRef, ...] = ()
    notes = list(tracked.notes)
    state = code_state(tracked, code)
    attribution = _attribution(reading, tracked, state)
    if tracked.status == "finished":
        if model_path is None:
            raise TrackerError(
                f"{tracked.key} has no model; name its file, or keep the run as an experiment (--experiment)"
            )
        refs, about_data = choose_datasets(reading, model, datasets, started, tracked.started_us)
        notes += about_data
        require_refs(reading, model, refs, f"sealing {tracked.key} as a version of {model}")
    recorder = TrainingRecorder()
    notes += fill(recorder, tracked, selection_note, architecture)
    for name, path, media_type in artefacts:
        recorder.log_artifact(name, path, media_type)
    chosen_version, _ = claim_version(workspace, model, tracked.key, opened_by=attribution.launched_by, wanted=version)
    if tracked.status != "finished" or model_path is None:
        seq = record_failure(
            workspace, model, chosen_version, run=tracked.key, attempt=0,
            reason=f"{tracked.system} run {tracked.run} ended as {tracked.status}",
        )  # fmt: skip
        return _imported(workspace, model, chosen_version, seq, TrainingFailed.kind, notes)
    recorder.log_extra(
        EXTRA, {"system": tracked.system, "name": tracked.name, "parent": tracked.parent, "notes": notes}
    )
    seq = seal_training(
        workspace,
        recorder,
        model=model,
        version=chosen_version,
        run=tracked.key,
        datasets=refs,
        model_path=model_path,
        code=state,
        environment=told(tracked),
        attribution=attribution,
        started_after_seq=started,
        observed={"imported_by": f"os:{os_login()}", "started_us": tracked.started_us},
        captured_by="import",
        began_us=tracked.started_us or 0,
    )
    return _imported(workspace, model, chosen_version, seq, TrainingRun.kind, notes)


def keep_experiment(
    workspace: Workspace, tracked: TrackedRun, *, project: str, reason: str = "", datasets: Sequence[str] = ()
) -> Imported:
    """Keep a run as an experiment: recorded, and never the ground of a package. The same run again finds its entry."""
    from cognify_dagster.training.recording import seal_experiment

    reading = workspace.read()
    if tracked.status == "running":
        raise TrackerError(f"{tracked.key} has not ended; a record is sealed once. End the run first")
    for item in reading.all(ExperimentRun, f"experiment/{project}"):
        if item.record.run == tracked.key:
            return Imported(project, "", item.seq, item.leaf, ExperimentRun.kind, True)
    chosen = [_wanted(reading, text) for text in datasets]
    recorder = TrainingRecorder()
    notes = [*tracked.notes, *fill(recorder, tracked, "", None)]
    state = code_state(tracked, None)
    seq = seal_experiment(
        workspace,
        recorder,
        project=project,
        run=tracked.key,
        reason=reason or f"imported from {tracked.system} as an experiment",
        status="completed" if tracked.status == "finished" else tracked.status,
        code=state,
        environment=told(tracked),
        attribution=_attribution(reading, tracked, state),
        datasets=chosen,
    )
    return _imported(workspace, project, "", seq, ExperimentRun.kind, notes)


def fill(recorder: Any, tracked: TrackedRun, selection_note: str, architecture: Mapping[str, str] | None) -> list[str]:
    """Write what a run says into a recorder; return notes on what stands there in another form."""
    config, notes = fitted(tracked.config)
    recorder.log_config(config)
    names = recorded_names(tracked.metrics)
    for name, points in tracked.metrics.items():
        for step, value in points:
            recorder.log_metric(names[name], float(number(value)), step=step)
    renamed = {plain: name for name, plain in names.items() if plain != name}
    if renamed:
        recorder.log_extra("metric_names", renamed)
    seeds = {name: int(str(config[name])) for name in _SEED_NAMES if str(config.get(name, "")).lstrip("-").isdigit()}
    if seeds:
        recorder.log_seeds(**seeds)
    if selection_note:
        recorder.note_selection(selection_note)
    if architecture:
        recorder.set_architecture(**architecture)
    recorder.link_external(
        tracked.system,
        tracked.run,
        experiment=tracked.experiment[:300],
        uri=tracked.uri[:1000],
        snapshot=tracked.snapshot(),
    )
    return notes


def code_state(tracked: TrackedRun, folder: Path | None) -> CodeState:
    """Return the code of a run: what the tool told, completed from a folder that holds the same commit.

    Raises:
        TrackerError: if the folder holds another commit than the run's.
    """
    commit = tracked.code.commit
    if folder is not None:
        state = capture_code(folder)
        if commit and state.commit != commit:
            raise TrackerError(
                f"{folder}: is at commit {state.commit[:12]}, {tracked.key} ran {commit[:12]}; check that out first"
            )
        return state
    if not commit:
        return CodeState(vcs="none")
    return CodeState(vcs="git", commit=commit, dirty=None, remote=clean_remote(tracked.code.remote))


def told(tracked: TrackedRun) -> Environment:
    """Return the environment as the tool told it; what it does not tell is `unreadable`."""
    said = tracked.environment
    packages = tuple(Package(name=name, version=version) for name, version in sorted(set(said.packages)))
    unknown = "unreadable"
    return Environment.model_validate(
        {
            "python_version": said.python or unknown,
            "python_implementation": unknown,
            "os": said.platform or unknown,
            "kernel": unknown,
            "machine": unknown,
            "cpu": unknown,
            "cpu_count": -1,
            "memory_bytes": -1,
            "gpu": "present" if said.gpus else "unreadable",
            "gpus": [Gpu(name=name, memory_mib=-1) for name in said.gpus],
            "driver": unknown,
            "cuda": unknown,
            "image_digest": "none",
            "packages": packages,
            "lock_sha256": hashlib.sha256(requirement_lines(packages).encode("utf-8")).hexdigest(),
            "hostname": said.host or unknown,
        }
    )


def _attribution(reading: Reading, tracked: TrackedRun, state: CodeState) -> Attribution:
    launcher = [f"{tracked.system}:{tracked.user}"] if tracked.user else []
    return attribution_of(reading, launcher, (f"os:{os_login()}", *(f"git:{author}" for author in state.authors)))


def _known(item: Recorded[TrainingRun], version: str | None, tracked: TrackedRun) -> Imported:
    record = item.record
    if version not in (None, record.version):
        raise TrackerError(
            f"{tracked.key} is sealed as {record.model} {record.version} (entry {item.seq}); one run is one version. "
            "Train again for another one"
        )
    return Imported(record.model, record.version, item.seq, item.leaf, TrainingRun.kind, True)


def _imported(workspace: Workspace, model: str, version: str, seq: int, kind: str, notes: Sequence[str]) -> Imported:
    item = workspace.read().at(seq)
    return Imported(model, version, seq, item.leaf if item is not None else "", kind, False, tuple(notes))
