"""Turns a completed recorder into the parts of a record, with its bytes in the evidence store.

Invariant: what is stored has the digest that was recorded, or nothing is sealed. Each blob's bytes are hashed while they are
stored, so a file that changed after it was handed over cannot get into a record unseen.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TypeVar

from cognify_dagster.evidence.store import MAX_BLOB_BYTES
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    Checkpoint,
    CodeRef,
    Compute,
    Distributed,
    EnvironmentRef,
    EvidenceItem,
    ExternalRun,
    Rerun,
    to_json,
    utc,
)
from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.code import CodeState
from cognify_dagster.training.environment import Environment
from cognify_dagster.training.files import FILES_MEDIA_TYPE, FileDigest, parse_listing, processors
from cognify_dagster.training.pieces import CHECKPOINTS_MEDIA_TYPE, CheckpointFiles, ExternalLink, ModelFiles
from cognify_dagster.training.recorder import TrainingRecorder
from cognify_dagster.workspace import Workspace

#: Blobs that one record may name: an entry of 65,535 bytes has room for their digests.
MAX_EVIDENCE = 750

#: File systems keep times of change as coarsely as this, in seconds.
_COARSE_S = 2.0
#: Names of older model files that a record holds.
_NAMED = 5
_BYTES = "application/octet-stream"
_JSON = "application/json"
T = TypeVar("T")
A = TypeVar("A")


@dataclass(frozen=True)
class Stored:
    """What the evidence store holds of a run."""

    model_file: EvidenceItem
    model_files: tuple[EvidenceItem, ...]
    metric_series: EvidenceItem
    artefacts: tuple[EvidenceItem, ...]
    environment: EnvironmentRef
    checkpoints: tuple[Checkpoint, ...]
    distributed: Distributed | None
    external: tuple[ExternalRun, ...]


def store_all(
    workspace: Workspace,
    recorder: TrainingRecorder,
    model: ModelFiles,
    environment: Environment,
    distributed: Mapping[str, Any],
) -> Stored:
    """Stores the bytes of a completed run, several blobs at a time: each waits for the disk, and the disk takes them together.

    Raises:
        TrainingError: if a file changed since it was handed over.
        EvidenceError: if something could not be stored.
    """
    check_model(model)
    with ThreadPoolExecutor(8, thread_name_prefix="cognify-seal") as pool:
        files = pool.submit(store_model, workspace, model)
        series = pool.submit(workspace.put, "metric-series.json", recorder.metric_series(), _JSON)
        artefacts = pool.submit(store_artefacts, workspace, recorder)
        described = pool.submit(store_environment, workspace, environment)
        points = pool.submit(store_checkpoints, workspace, recorder.checkpoints, recorder.checkpoints_listing())
        shards = pool.submit(store_distributed, workspace, distributed)
        links = pool.submit(store_external, workspace, recorder.external)
        # in this order, so that of several errors always the same one is told
        model_file, model_files = files.result()
        return Stored(
            model_file,
            model_files,
            series.result(),
            artefacts.result(),
            described.result(),
            points.result(),
            shards.result(),
            links.result(),
        )


def check_model(model: ModelFiles) -> None:
    """Refuses a model that could not be recorded, before anything of the run is stored.

    Raises:
        TrainingError: if a file is larger than the evidence store takes, there are more files than a record can name, or a name
            could not be written back to a folder.
    """
    large = next((item for item in model.digest.files if item.size > MAX_BLOB_BYTES), None)
    if large is not None:
        raise TrainingError(
            f"{model.path}: {large.path} has {large.size} bytes; a file of a model has at most {MAX_BLOB_BYTES}. Save the model in "
            "several files (for transformers: save_pretrained(…, max_shard_size='50GB'))"
        )
    if model.digest.kind == "file":
        return
    count = len(model.digest.files)
    if count > MAX_EVIDENCE:
        raise TrainingError(
            f"{model.path}: {count} files; a record can name {MAX_EVIDENCE}. Save the model in fewer, larger files"
        )
    parse_listing(model.digest.listing())


def older_than_run(model: ModelFiles, began: datetime | int) -> dict[str, Any]:
    """Return what a record says of model files that were last changed before the run began; nothing where none was.

    A time of change is what the file system says: it can be set, and a download or copy makes a new one. So this is a hint, no proof.

    Args:
        model: the model that is sealed.
        began: when the run began; as a number, microseconds since 1970.
    """
    start = began.timestamp() if isinstance(began, datetime) else began / 1_000_000
    root = model.path if model.digest.kind == "folder" else model.path.parent
    older = []
    for item in model.digest.files:
        place = root / item.path if model.digest.kind == "folder" else model.path
        with contextlib.suppress(OSError):
            changed = place.stat().st_mtime
            if changed < start - _COARSE_S:
                older.append((changed, item.path))
    if not older:
        return {}
    newest = max(older)[0]
    return {
        "model_file_older_than_run": {
            "began": utc(datetime.fromtimestamp(start, timezone.utc)),
            "changed": utc(datetime.fromtimestamp(max(newest, 0.0), timezone.utc)),
            "count": len(older),
            "of": len(model.digest.files),
            "files": sorted(name for _, name in older)[:_NAMED],
        }
    }


def store_model(workspace: Workspace, model: ModelFiles) -> tuple[EvidenceItem, tuple[EvidenceItem, ...]]:
    """Stores a model; returns what stands for it, and its files where it is a folder.

    Raises:
        TrainingError: if a file changed since it was registered.
    """
    digest = model.digest
    if digest.kind == "file":
        item = _store_file(workspace, model.path.name, model.path, digest.files[0])
        return item, ()
    files = _store_files(workspace, model.path, digest.files)
    whole = workspace.put(digest.name, digest.listing(), FILES_MEDIA_TYPE)
    return whole, files


def _store_files(workspace: Workspace, folder: Path, files: Sequence[FileDigest]) -> tuple[EvidenceItem, ...]:
    def one(item: FileDigest) -> EvidenceItem:
        return _store_file(workspace, item.path, folder / item.path, item)

    return tuple(_each(one, files))


def _each(work: Callable[[A], T], items: Sequence[A]) -> list[T]:
    """Store several blobs at a time: each waits for the disk."""
    if len(items) < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(min(len(items), max(processors(), 4), 8), thread_name_prefix="cognify-store") as pool:
        return list(pool.map(work, items))


def _store_file(workspace: Workspace, name: str, path: Path, known: FileDigest) -> EvidenceItem:
    item = workspace.put(name, path, _BYTES)
    if item.digest != f"sha256:{known.sha256}":
        raise TrainingError(
            f"{path}: changed after it was handed over (recorded sha256 {known.sha256}, now {item.digest[7:]}); nothing was sealed"
        )
    return item


def store_artefacts(workspace: Workspace, recorder: TrainingRecorder) -> tuple[EvidenceItem, ...]:
    """Stores the artifacts, by their names."""
    return tuple(_each(lambda item: workspace.put(item.name, item.read(), item.media_type), recorder.artifacts))


def store_checkpoints(
    workspace: Workspace, checkpoints: Sequence[CheckpointFiles], listing: bytes
) -> tuple[Checkpoint, ...]:
    """Stores the lists of files of all checkpoints, and the bytes of those that are to be kept."""
    if not checkpoints:
        return ()
    files = workspace.put("checkpoints.json", listing, CHECKPOINTS_MEDIA_TYPE)
    found = []
    for item in checkpoints:
        folder = item.path if item.digest.kind == "folder" else item.path.parent
        found.append(
            Checkpoint(
                name=item.name,
                step=item.step,
                root=item.digest.root(),
                file_count=len(item.digest.files),
                size=item.digest.size,
                files=files,
                kept=_store_files(workspace, folder, item.digest.files) if item.keep else (),
                note=item.note,
            )
        )
    return tuple(found)


def store_environment(workspace: Workspace, environment: Environment) -> EnvironmentRef:
    """Stores the whole description of the environment; returns it in short."""
    detail = canonical_json(to_json({**environment.to_facts(), "host": environment.to_observed()}))
    return EnvironmentRef(
        python=environment.python_version,
        platform=environment.os,
        packages_digest=environment.lock_sha256,
        gpu=environment.gpu if not environment.gpus else ", ".join(gpu.name for gpu in environment.gpus),
        container_image=environment.image_digest,
        detail=workspace.put("environment.json", detail, _JSON),
        lock_file=", ".join(f"{item.name} sha256:{item.sha256}" for item in environment.lock_files),
    )


def store_external(workspace: Workspace, links: Iterable[ExternalLink]) -> tuple[ExternalRun, ...]:
    """Stores the snapshots of other trackers' runs."""
    return tuple(
        ExternalRun.model_validate(
            {
                "system": link.system,
                "run": link.run,
                "experiment": link.experiment,
                "uri": link.uri,
                "snapshot": None
                if link.snapshot is None
                else workspace.put(f"{link.system}-run.json", link.snapshot, _JSON),
            }
        )
        for link in links
    )


def store_distributed(workspace: Workspace, facts: Mapping[str, Any]) -> Distributed | None:
    """Stores the manifest of what each process wrote."""
    if not facts:
        return None
    rows = facts["rows"]
    manifest = None if rows is None else workspace.put("shards.json", canonical_json(rows), _JSON)
    return Distributed.model_validate(
        {
            **{name: facts[name] for name in ("world_size", "backend", "strategy", "mesh", "root")},
            "manifest": manifest,
        }
    )


def compute_of(facts: Mapping[str, Any]) -> Compute | None:
    """What the training cost, if anything was stated."""
    return Compute.model_validate(dict(facts)) if facts else None


def rerun_of(facts: Mapping[str, Any]) -> Rerun | None:
    """How to run it again, if that was stated."""
    return Rerun.model_validate(dict(facts)) if facts else None


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


def seed_of(config: Mapping[str, Any], seeds: Mapping[str, int]) -> int | None:
    """The seed: that of the configuration, else the one that all libraries share."""
    for name in ("seed", "random_state"):
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
    distinct = set(seeds.values())
    return distinct.pop() if len(distinct) == 1 else None
