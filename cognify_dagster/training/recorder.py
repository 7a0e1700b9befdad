"""Collects what a training run says about itself.

Invariants:

* After `TrainingRecorder.complete` every further call that would add or change something raises `SealedError`.
* Model files and artifacts are hashed when they are handed over and again at completion: one that changed in between is an
  error, so that the sealed digest is that of the bytes the training meant.
* Times and the host are ``observed``; everything else is ``facts``, which has to be equal when a step is retried.
"""

from __future__ import annotations

import hashlib
import json
import math
import platform
import re
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.training._errors import SealedError, TrainingError
from cognify_dagster.training._json import coerce
from cognify_dagster.training.files import FilesDigest, digest_files

#: Artifacts given as bytes are held in memory; larger ones are given as a path.
MAX_ARTIFACT_BYTES = 64 * 1024 * 1024

#: Points of all metrics together; a longer curve should be thinned before logging.
MAX_METRIC_POINTS = 1_000_000

_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._/@-]{0,199}$")
_FILE_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
_MEDIA_TYPE = re.compile(r"^[a-z0-9][a-z0-9.+-]*/[A-Za-z0-9][A-Za-z0-9.+-]*(?:; ?[a-z0-9-]+=[A-Za-z0-9._-]+)?$")


@dataclass(frozen=True)
class TrainingArtifact:
    """Something that a training left beside the model. Exactly one of ``data`` and ``path`` is set."""

    name: str
    media_type: str
    size: int
    sha256: str
    data: bytes | None
    path: Path | None

    def read(self) -> bytes:
        """The bytes, checked against the digest.

        Raises:
            TrainingError: the file is gone or changed since it was logged.
        """
        if self.data is not None:
            return self.data
        assert self.path is not None
        try:
            data = self.path.read_bytes()
        except OSError as error:
            raise TrainingError(f"artifact {self.name}: {self.path} can't be read ({error.strerror})") from None
        if hashlib.sha256(data).hexdigest() != self.sha256:
            raise TrainingError(f"artifact {self.name}: {self.path} changed after it was logged; log it again")
        return data


@dataclass(frozen=True)
class ModelFiles:
    """A saved model: where it lies on this machine, and what it consists of."""

    path: Path
    digest: FilesDigest


class TrainingRecorder:
    """What a training function writes to. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sealed = False
        self._config: dict[str, Any] = {}
        self._metrics: dict[str, list[tuple[int | None, float]]] = {}
        self._metric_points = 0
        self._artifacts: dict[str, TrainingArtifact] = {}
        self._architecture: dict[str, Any] = {}
        self._base_model: dict[str, Any] = {}
        self._extra: dict[str, Any] = {}
        self._selection = ""
        self._models: list[ModelFiles] = []
        self._started = datetime.now(timezone.utc)
        self._clock = time.monotonic()
        self._ended: datetime | None = None
        self._duration_s: float | None = None

    # Writing -------------------------------------------------------------------------------------------------------

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Records hyperparameters and settings. Later calls add keys; a key can't get another value.

        Raises:
            TrainingError: a value without JSON form, or a key that already has another value; the message names the key.
            SealedError: after completion.
        """
        if not isinstance(config, Mapping):
            raise TrainingError(f"log_config: expected a mapping, got {type(config).__name__}")
        with self._open("log_config"):
            values = coerce(config, key="config")
            for key, value in values.items():
                if key in self._config and self._config[key] != value:
                    raise TrainingError(
                        f"config.{key}: already recorded as {self._config[key]!r}, now {value!r}; "
                        "record each setting once, as the trainer got it"
                    )
            self._config.update(values)

    def log_metric(self, name: str, value: float, step: int | None = None) -> None:
        """Adds one point to a metric's curve. NaN and infinities are kept, as the strings JSON needs.

        Args:
            name: Letters, digits and ``. _ / @ -``, such as ``train/loss``.
            value: A number.
            step: Position on the curve, such as the iteration or epoch.

        Raises:
            TrainingError: an unusable name, value or step, or too many points.
            SealedError: after completion.
        """
        if not _NAME.match(name):
            raise TrainingError(f"metric {name!r}: expected letters, digits and . _ / @ - (at most 200)")
        plain = coerce(value, key=f"metric {name}")
        number = float(plain) if isinstance(plain, (int, float, str)) and not isinstance(value, str) else None
        if number is None or isinstance(plain, bool):
            raise TrainingError(f"metric {name}: expected a number, got {value!r}")
        position = None if step is None else coerce(step, key=f"metric {name} step")
        if position is not None and (isinstance(position, bool) or not isinstance(position, int)):
            raise TrainingError(f"metric {name}: step has to be a whole number, got {step!r}")
        with self._open("log_metric"):
            if self._metric_points >= MAX_METRIC_POINTS:
                raise TrainingError(f"metric {name}: more than {MAX_METRIC_POINTS} points; log every n-th step")
            self._metric_points += 1
            self._metrics.setdefault(name, []).append((position, number))

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
        if not _FILE_NAME.match(name):
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
            artifact = TrainingArtifact(name, media_type, digest.size, digest.sha256, None, path)
        with self._open("log_artifact"):
            existing = self._artifacts.get(name)
            if existing is not None and existing.sha256 != artifact.sha256:
                raise TrainingError(f"artifact {name}: already attached with other content; use another name")
            self._artifacts[name] = artifact

    def set_architecture(
        self,
        name: str,
        *,
        framework: str,
        framework_version: str,
        parameters: int | None = None,
        **details: Any,
    ) -> None:
        """States what kind of model this is.

        Args:
            name: Such as ``HistGradientBoostingClassifier``.
            framework: Such as ``scikit-learn``.
            framework_version: The version that trained it.
            parameters: Number of trained parameters, where that is meaningful.
            details: Further facts; kept under ``details``.
        """
        for field, text in (("name", name), ("framework", framework), ("framework_version", framework_version)):
            if not isinstance(text, str) or not text.strip():
                raise TrainingError(f"architecture.{field}: is required")
        with self._open("set_architecture"):
            self._architecture = {
                "name": name,
                "framework": framework,
                "framework_version": framework_version,
                "parameters": coerce(parameters, key="architecture.parameters"),
                "details": coerce(details, key="architecture.details"),
            }

    def set_base_model(self, name: str, *, sha256: str, licence: str, source: str = "", **details: Any) -> None:
        """States which model this one was made from (fine-tuning).

        Args:
            name: The base model's name and version.
            sha256: Digest of its files (see `digest_files`), 64 hex digits.
            licence: Its licence.
            source: Where it came from.
            details: Further facts; kept under ``details``.
        """
        if not re.fullmatch(r"[0-9a-f]{64}", sha256):
            raise TrainingError("base_model.sha256: expected 64 lower-case hex digits (digest_files gives them)")
        for field, text in (("name", name), ("licence", licence)):
            if not isinstance(text, str) or not text.strip():
                raise TrainingError(f"base_model.{field}: is required")
        with self._open("set_base_model"):
            self._base_model = {
                "name": name,
                "sha256": sha256,
                "licence": licence,
                "source": source,
                "details": coerce(details, key="base_model.details"),
            }

    def note_selection(self, text: str) -> None:
        """Records, in a person's words, why this configuration was chosen. A later note replaces an earlier one."""
        if not isinstance(text, str) or not text.strip():
            raise TrainingError("selection note: say in a sentence why this configuration was chosen")
        if len(text) > 20_000:
            raise TrainingError("selection note: longer than 20000 characters; attach it as an artifact")
        with self._open("note_selection"):
            self._selection = text.strip()

    def log_extra(self, key: str, value: Any) -> None:
        """Records a fact that has no place of its own; it stays visible under ``extra``."""
        if not _NAME.match(key):
            raise TrainingError(f"extra {key!r}: expected letters, digits and . _ / @ - (at most 200)")
        with self._open("log_extra"):
            self._extra[key] = coerce(value, key=f"extra.{key}")

    def log(self, **fields: Any) -> None:
        """Records several fields at once: ``config``, ``metrics``, ``selection_note``; all others go to ``extra``."""
        for key, value in fields.items():
            if key == "config":
                self.log_config(value)
            elif key == "metrics":
                for name, number in dict(value).items():
                    self.log_metric(name, number)
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
        absolute = Path(path).absolute()
        digest = digest_files(absolute)
        if digest.size == 0:
            raise TrainingError(f"{absolute}: the model file is empty; save the model before registering it")
        with self._open("save_model"):
            self._models = [item for item in self._models if item.path != absolute]
            self._models.append(ModelFiles(absolute, digest))
        return absolute

    def complete(self) -> None:
        """Freezes the record. A second call does nothing.

        Raises:
            TrainingError: a model file or artifact changed after it was handed over.
        """
        with self._lock:
            if self._sealed:
                return
            for model in self._models:
                if digest_files(model.path) != model.digest:
                    raise TrainingError(
                        f"{model.path}: the model changed after save_model; call save_model again once it is complete"
                    )
            for artifact in self._artifacts.values():
                if artifact.path is not None and digest_files(artifact.path).sha256 != artifact.sha256:
                    raise TrainingError(f"artifact {artifact.name}: {artifact.path} changed after it was logged")
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

    def metric_series(self) -> bytes:
        """Every curve as one JSON document (UTF-8): ``{"<metric>": [[step, value], …], …}``, sorted by name.

        Steps are numbers or null, non-finite values are strings. Meant for the evidence store: `to_facts` names its digest.
        """
        with self._lock:
            series = {
                name: [[step, coerce(value, key=name)] for step, value in points]
                for name, points in self._metrics.items()
            }
        return json.dumps(series, sort_keys=True, separators=(",", ":"), allow_nan=False).encode("utf-8")

    def to_facts(self) -> dict[str, Any]:
        """The record as plain JSON: ``{"facts": …, "observed": …}``.

        ``facts`` has: config, metrics (last, min, max, points), metric_series (sha256, size), artifacts, architecture,
        base_model, selection_note, models, extra. What was not stated is an empty mapping, list or string.
        ``observed`` has: started_at, ended_at (UTC, ISO 8601), duration_s, host, model_paths.
        """
        series = self.metric_series()
        with self._lock:
            facts = {
                "config": self._config,
                "metrics": {name: _summary(points) for name, points in sorted(self._metrics.items())},
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

    def _open(self, call: str) -> _OpenGuard:
        return _OpenGuard(self, call)


class _OpenGuard:
    """Holds the recorder's lock for one change, and refuses it after completion."""

    def __init__(self, recorder: TrainingRecorder, call: str) -> None:
        self._recorder = recorder
        self._call = call

    def __enter__(self) -> None:
        self._recorder._lock.acquire()
        if self._recorder._sealed:
            self._recorder._lock.release()
            raise SealedError(f"{self._call}: the training record is complete; record a new run instead of changing it")

    def __exit__(self, *_: object) -> None:
        self._recorder._lock.release()


def _summary(points: list[tuple[int | None, float]]) -> dict[str, Any]:
    finite = [value for _, value in points if math.isfinite(value)]
    return {
        "last": coerce(points[-1][1], key="last"),
        "last_step": points[-1][0],
        "min": min(finite) if finite else None,
        "max": max(finite) if finite else None,
        "points": len(points),
        "non_finite": len(points) - len(finite),
    }
