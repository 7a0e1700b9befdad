"""Collects what a training run says about itself.

Invariants:

* After `TrainingRecorder.complete` every further call that would add or change something raises `SealedError`.
* Model files and artifacts are hashed when they are handed over, and looked at again at completion: what changed in between is an
  error, so that the sealed digest is that of the bytes the training meant. They are read again unless the file system's times
  show that nobody wrote (see `files.unchanged`); whoever stores the bytes compares their digest with the recorded one.
* A checkpoint is hashed once, when it is handed over: trainers delete old ones. Only one whose bytes are to be kept is looked at again.
* Times and the host are ``observed``; everything else is ``facts``, which has to be equal when a step is retried.
"""

from __future__ import annotations

import hashlib
import json
import platform
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training._json import coerce
from cognify_dagster.training._measured import Measured
from cognify_dagster.training._stated import text
from cognify_dagster.training.code import CodeState
from cognify_dagster.training.compute import completed_compute
from cognify_dagster.training.files import FilesDigest, digest_files, rows_root, unchanged
from cognify_dagster.training.pieces import (
    CheckpointFiles,
    ExternalLink,
    ModelFiles,
    TrainingArtifact,
    checkpoints_listing,
)

#: Artifacts given as bytes are held in memory; larger ones are given as a path.
MAX_ARTIFACT_BYTES = 64 * 1024 * 1024

#: Checkpoints of one run; each has its line in the sealed entry.
MAX_CHECKPOINTS = 4_000

#: Files of all checkpoints together.
MAX_CHECKPOINT_FILES = 200_000

_FILE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_MEDIA_TYPE = re.compile(r"^[a-z0-9][a-z0-9.+-]*/[A-Za-z0-9][A-Za-z0-9.+-]*(?:; ?[a-z0-9-]+=[A-Za-z0-9._-]+)?$")


class TrainingRecorder(Measured):
    """What a training function writes to. Safe to use from several threads."""

    def __init__(self) -> None:
        super().__init__()
        self._artifacts: dict[str, TrainingArtifact] = {}
        self._models: list[ModelFiles] = []
        self._checkpoints: dict[str, CheckpointFiles] = {}
        self._checkpoint_files = 0
        self._started = datetime.now(timezone.utc)
        self._clock = time.monotonic()
        self._ended: datetime | None = None
        self._duration_s: float | None = None

    # Writing -------------------------------------------------------------------------------------------------------

    def log_artifact(self, name: str, content: bytes | str | Path, media_type: str) -> None:
        """Attaches a file or bytes (plots, importances, confusion matrix).

        Args:
            name: Plain file name, unique within the run.
            content: The bytes, or the path of a file that stays where it is until the run is recorded.
            media_type: Such as ``application/json``.

        Raises:
            TrainingError: an unusable name, media type or file, or the name is already taken by other content.
            SealedError: after completion.
        """
        self._refuse_if_sealed("log_artifact")
        if not isinstance(name, str) or not _FILE_NAME.match(name):
            raise TrainingError(f"artifact {name!r}: expected a plain file name: letters, digits, '.', '_' and '-'")
        if not _MEDIA_TYPE.match(media_type):
            raise TrainingError(f"artifact {name}: media type {media_type!r} is not of the form application/json")
        if isinstance(content, (bytes, bytearray, memoryview)):
            data = bytes(content)
            if len(data) > MAX_ARTIFACT_BYTES:
                raise TrainingError(f"artifact {name}: larger than {MAX_ARTIFACT_BYTES} bytes; give its path instead")
            artifact = TrainingArtifact(name, media_type, len(data), hashlib.sha256(data).hexdigest(), data, None)
        else:
            path = Path(content).absolute()
            digest = digest_files(path)
            if digest.kind != "file":
                raise TrainingError(f"artifact {name}: {path} is a folder; attach single files")
            artifact = TrainingArtifact(name, media_type, digest.size, digest.sha256, None, path, digest)
        with self._open("log_artifact"):
            existing = self._artifacts.get(name)
            if existing is not None and existing.sha256 != artifact.sha256:
                raise TrainingError(f"artifact {name}: already attached with other content; use another name")
            self._artifacts[name] = artifact

    def log(self, **fields: Any) -> None:
        """Records several fields at once: ``config``, ``metrics``, ``seeds``, ``selection_note``; all others go to ``extra``."""
        self._refuse_if_sealed("log")
        for key, value in fields.items():
            if key == "config":
                self.log_config(value)
            elif key == "metrics":
                self.log_metrics(value)
            elif key == "seeds":
                self.log_seeds(**value)
            elif key == "selection_note":
                self.note_selection(value)
            else:
                self.log_extra(key, value)

    def save_model(self, path: str | Path) -> Path:
        """Registers the saved model: a file, or a folder of files. Call it once the bytes are complete.

        Returns:
            The absolute path, so that a training function can end with ``return run.save_model(path)``.

        Raises:
            TrainingError: nothing there, an empty file, links inside.
            SealedError: after completion.
        """
        self._refuse_if_sealed("save_model")
        absolute = Path(path).absolute()
        digest = digest_files(absolute)
        if digest.size == 0:
            raise TrainingError(f"{absolute}: the model file is empty; save the model before registering it")
        with self._open("save_model"):
            self._models = [item for item in self._models if item.path != absolute]
            self._models.append(ModelFiles(absolute, digest))
        return absolute

    def log_checkpoint(
        self, path: str | Path, *, step: int | None = None, name: str = "", note: str = "", keep: bool = False
    ) -> str:
        """Records a checkpoint: the digest of each of its files, and one root over them. Call it once its bytes are complete.

        Args:
            path: The file or folder; it may be deleted afterwards, unless its bytes are to be kept.
            step: The step it was written at.
            name: A name that is unique within the run. Unless given it is the file's own name, with the step behind it where an
                earlier checkpoint of other content has that name already (``last@200``).
            note: What it is for: ``last``, ``best``, ``adapter``.
            keep: Keep the bytes as evidence too. They are read when the run is sealed, and have to be there until then.

        Returns:
            The name it is recorded under.

        Raises:
            TrainingError: nothing there, links inside, the name is taken by other content, or too many checkpoints.
            SealedError: after completion.
        """
        self._refuse_if_sealed("log_checkpoint")
        absolute = Path(path).absolute()
        where = None if step is None else coerce(step, key="checkpoint step")
        if where is not None and (isinstance(where, bool) or not isinstance(where, int)):
            raise TrainingError(f"checkpoint step: expected a whole number, got {step!r}")
        text(note, "checkpoint note", limit=300)
        text(name, "checkpoint name", limit=300)
        digest = digest_files(absolute)
        with self._open("log_checkpoint"):
            chosen = self._checkpoint_name(name, absolute.name, where, digest)
            known = self._checkpoints.get(chosen)
            if len(self._checkpoints) >= MAX_CHECKPOINTS and known is None:
                raise TrainingError(f"checkpoint {chosen}: more than {MAX_CHECKPOINTS} in one run; record every n-th")
            if self._checkpoint_files + len(digest.files) > MAX_CHECKPOINT_FILES:
                raise TrainingError(
                    f"checkpoint {chosen}: more than {MAX_CHECKPOINT_FILES} checkpoint files in one run"
                )
            self._checkpoint_files += 0 if known else len(digest.files)
            kept = keep or (known is not None and known.keep)
            self._checkpoints[chosen] = CheckpointFiles(chosen, absolute, digest, where, note, kept)
        return chosen

    def _checkpoint_name(self, wished: str, own: str, step: int | None, digest: FilesDigest) -> str:
        def free(name: str) -> bool:
            known = self._checkpoints.get(name)
            return known is None or (known.digest.files == digest.files and known.step == step)

        if wished:
            if not free(wished):
                raise TrainingError(f"checkpoint {wished}: already recorded with other content; use another name")
            return wished
        choices = [own[:280], *([f"{own[:250]}@{step}"] if step is not None else [])]
        found = next((name for name in choices if free(name)), "")
        number = 2
        while not found:
            candidate = f"{choices[-1]}#{number}"
            found, number = (candidate if free(candidate) else ""), number + 1
        return found

    def complete(self) -> None:
        """Freezes the record. A second call does nothing.

        Raises:
            TrainingError: a model file, artifact or kept checkpoint changed after it was handed over.
        """
        self._freeze(reread=True)

    def _freeze(self, *, reread: bool) -> None:
        """Completes. Without `reread` the caller compares the digest of the bytes it stores itself."""
        with self._lock:
            if self._sealed:
                return
            for model in self._models:
                if _changed(model.path, model.digest, reread):
                    raise TrainingError(
                        f"{model.path}: the model changed after save_model; call save_model again once it is complete"
                    )
            for artifact in self._artifacts.values():
                if artifact.path is None or artifact.digest is None:
                    continue
                if _changed(artifact.path, artifact.digest, reread):
                    raise TrainingError(f"artifact {artifact.name}: {artifact.path} changed after it was logged")
            for checkpoint in self._checkpoints.values():
                if checkpoint.keep and _changed(checkpoint.path, checkpoint.digest, reread):
                    raise TrainingError(
                        f"checkpoint {checkpoint.name}: {checkpoint.path} changed after it was logged, or is gone; its bytes were "
                        "to be kept (keep=True)"
                    )
            self._ended = datetime.now(timezone.utc)
            self._duration_s = time.monotonic() - self._clock
            self._sealed = True

    # Reading -------------------------------------------------------------------------------------------------------

    @property
    def sealed(self) -> bool:
        """Whether `complete` was called."""
        return self._sealed

    @property
    def models(self) -> tuple[ModelFiles, ...]:
        """The registered models, in the order of registration."""
        with self._lock:
            return tuple(self._models)

    @property
    def artifacts(self) -> tuple[TrainingArtifact, ...]:
        """The artifacts, sorted by name."""
        with self._lock:
            return tuple(self._artifacts[name] for name in sorted(self._artifacts))

    @property
    def checkpoints(self) -> tuple[CheckpointFiles, ...]:
        """The checkpoints, in the order of their steps and names."""
        with self._lock:
            found = list(self._checkpoints.values())
        return tuple(sorted(found, key=lambda item: (item.step is not None, item.step or 0, item.name)))

    @property
    def external(self) -> tuple[ExternalLink, ...]:
        """The links to other trackers, sorted by system and run."""
        with self._lock:
            return tuple(self._external[key] for key in sorted(self._external))

    @property
    def feature_code(self) -> CodeState | None:
        """The state of the feature pipeline's code, where it was stated."""
        return self._feature_code

    @property
    def rerun(self) -> dict[str, Any]:
        """How to run the training again; empty where nobody said so."""
        with self._lock:
            return dict(self._rerun)

    def checkpoints_listing(self) -> bytes:
        """The files of all checkpoints as one JSON document, for the evidence store."""
        return checkpoints_listing(self.checkpoints)

    def to_facts(self) -> dict[str, Any]:
        """The record as plain JSON: ``{"facts": …, "observed": …}``.

        ``facts`` has: config, metrics (last, min, max, points), metric_series (sha256, size), artifacts, architecture,
        base_model, selection_note, models, extra, seeds, compute, distributed, external, rerun, feature_code, checkpoints.
        What was not stated is an empty mapping, list or string, or None.
        ``observed`` has: started_at, ended_at (UTC, ISO 8601), duration_s, host, model_paths.
        """
        series = self.metric_series()
        with self._lock:
            facts = {
                "config": self._config,
                "metrics": self._metric_facts(),
                "metric_series": {"sha256": hashlib.sha256(series).hexdigest(), "size": len(series)},
                "artifacts": [
                    {"name": item.name, "media_type": item.media_type, "size": item.size, "sha256": item.sha256}
                    for item in self.artifacts
                ],
                "architecture": self._architecture,
                "base_model": self._base_model,
                "selection_note": self._selection,
                "models": [item.digest.to_facts() for item in self._models],
                "extra": self._extra,
                "seeds": dict(sorted(self._seeds.items())),
                "compute": completed_compute(self._compute),
                "distributed": self._distributed_facts(),
                "external": [_link_facts(item) for item in self.external],
                "rerun": self._rerun,
                "feature_code": self._feature_code.to_facts() if self._feature_code else None,
                "checkpoints": [item.to_facts() for item in self.checkpoints],
            }
            observed = {
                "started_at": self._started.isoformat(),
                "ended_at": self._ended.isoformat() if self._ended else None,
                "duration_s": self._duration_s,
                "host": platform.node() or "absent",
                "model_paths": [str(item.path) for item in self._models],
            }
            # A deep copy: a reader must not be able to change the sealed record through it.
            copied: dict[str, Any] = json.loads(json.dumps({"facts": facts, "observed": observed}, allow_nan=False))
        return copied

    def _distributed_facts(self) -> dict[str, Any]:
        if not self._distributed:
            return {}
        rows = self._distributed["rows"]
        return {**self._distributed, "root": None if rows is None else rows_root(rows)}


def _changed(path: Path, digest: FilesDigest, reread: bool) -> bool:
    """Whether a file or folder is certainly, or after reading it again, not what it was."""
    same = unchanged(path, digest)
    if same is None and reread:
        try:
            same = digest_files(path) == digest
        except TrainingError:
            same = False
    return same is False


def _link_facts(item: ExternalLink) -> dict[str, Any]:
    digest = None if item.snapshot is None else hashlib.sha256(item.snapshot).hexdigest()
    return {
        "system": item.system,
        "run": item.run,
        "experiment": item.experiment,
        "uri": item.uri,
        "snapshot_sha256": digest,
    }
