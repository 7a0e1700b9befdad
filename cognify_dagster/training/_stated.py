"""What a training states about itself in single sentences: architecture, base model, seeds, compute, processes, links, re-run.

`Stated` is the half of the recorder that holds no curves and no files. All of it is coerced to plain JSON and bounded when it is
stated, so that nothing fails at sealing that could have been said at once. Secrets in it are replaced before it is kept.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from cognify_dagster.records.redaction import redact, redact_command, redact_text
from cognify_dagster.training._errors import SealedError, TrainingError
from cognify_dagster.training._json import MAX_SAFE_INTEGER, coerce
from cognify_dagster.training.code import CodeState, capture_code, clean_remote
from cognify_dagster.training.compute import checked_compute
from cognify_dagster.training.pieces import ExternalLink

#: Bound of a snapshot of another tracker's run, in bytes.
MAX_SNAPSHOT_BYTES = 64 * 1024 * 1024

#: Lines of a manifest of what the processes of a training wrote.
MAX_MANIFEST_ROWS = 1_000_000

#: Bytes of config, extra and the like together; the payload of an entry holds 4 MiB.
MAX_FACT_BYTES = 1024 * 1024

EXTERNAL_SYSTEMS = ("mlflow", "wandb", "comet")
_MODEL = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,49}")
_LIBRARY = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{0,49}")


class Guard:
    """Holds the recorder's lock for one change, and refuses it after completion."""

    def __init__(self, stated: Stated, call: str) -> None:
        self._stated = stated
        self._call = call

    def __enter__(self) -> None:
        self._stated._lock.acquire()
        try:
            self._stated._refuse_if_sealed(self._call)
        except SealedError:
            self._stated._lock.release()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stated._lock.release()


def text(value: Any, key: str, *, limit: int, required: bool = False) -> str:
    """A bounded text, as it is recorded.

    Raises:
        TrainingError: no text, too long, or empty where it is required; the message names the key.
    """
    found = coerce(value, key=key)
    if not isinstance(found, str):
        raise TrainingError(f"{key}: expected text, got {type(value).__name__}")
    if len(found) > limit:
        raise TrainingError(f"{key}: longer than {limit} characters")
    if required and not found.strip():
        raise TrainingError(f"{key}: is required")
    return found


def bounded(value: Any, key: str, name: str = "") -> Any:
    """Plain JSON of at most `MAX_FACT_BYTES`, secrets replaced. `name` is the setting's own, where that may say that it is one."""
    found = redact(coerce(value, key=key), name)
    if len(json.dumps(found, ensure_ascii=False).encode("utf-8")) > MAX_FACT_BYTES:
        raise TrainingError(f"{key}: larger than {MAX_FACT_BYTES} bytes; attach it as an artifact")
    return found


class Stated:
    """The stated half of a training record. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sealed = False
        self._architecture: dict[str, Any] = {}
        self._base_model: dict[str, Any] = {}
        self._seeds: dict[str, int] = {}
        self._compute: dict[str, Any] = {}
        self._distributed: dict[str, Any] = {}
        self._rerun: dict[str, Any] = {}
        self._feature_code: CodeState | None = None
        self._external: dict[tuple[str, str], ExternalLink] = {}
        self._selection = ""

    def _refuse_if_sealed(self, call: str) -> None:
        if self._sealed:
            raise SealedError(f"{call}: the training record is complete; record a new run instead of changing it")

    def _open(self, call: str) -> Guard:
        return Guard(self, call)

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
        with self._open("set_architecture"):
            for field, value in (("name", name), ("framework", framework), ("framework_version", framework_version)):
                if not isinstance(value, str) or not value.strip():
                    raise TrainingError(f"architecture.{field}: is required")
            self._architecture = {
                "name": text(name, "architecture.name", limit=500),
                "framework": text(framework, "architecture.framework", limit=500),
                "framework_version": text(framework_version, "architecture.framework_version", limit=500),
                "parameters": coerce(parameters, key="architecture.parameters"),
                "details": bounded(details, "architecture.details"),
            }

    def set_base_model(
        self,
        name: str,
        *,
        sha256: str,
        licence: str,
        source: str = "",
        parent: tuple[str, str] | None = None,
        **details: Any,
    ) -> None:
        """States which model this one was made from (fine-tuning).

        Args:
            name: The base model's name and version.
            sha256: Digest of its files (see `digest_files`), 64 hex digits.
            licence: Its licence.
            source: Where it came from.
            parent: Model key and version, where the base model is a governed version of this workspace. Sealing checks that it
                has a sealed run and that its model has this digest.
            details: Further facts; kept under ``details``.
        """
        with self._open("set_base_model"):
            if not isinstance(sha256, str) or not re.fullmatch(r"[0-9a-f]{64}", sha256):
                raise TrainingError("base_model.sha256: expected 64 lower-case hex digits (digest_files gives them)")
            for field, value in (("name", name), ("licence", licence)):
                if not isinstance(value, str) or not value.strip():
                    raise TrainingError(f"base_model.{field}: is required")
            found: dict[str, Any] = {
                "name": text(name, "base_model.name", limit=500),
                "sha256": sha256,
                "licence": text(licence, "base_model.licence", limit=500),
                "source": redact_text(text(source, "base_model.source", limit=2000)),
                "details": bounded(details, "base_model.details"),
            }
            if parent is not None:
                found["parent"] = _parent(parent)
            self._base_model = found

    def note_selection(self, text: str) -> None:
        """Records, in a person's words, why this configuration was chosen. A later note replaces an earlier one."""
        with self._open("note_selection"):
            if not isinstance(text, str) or not text.strip():
                raise TrainingError("selection note: say in a sentence why this configuration was chosen")
            if len(text) > 20_000:
                raise TrainingError("selection note: longer than 20000 characters; attach it as an artifact")
            self._selection = redact_text(str(coerce(text.strip(), key="selection note")))

    def log_seeds(self, **seeds: int) -> None:
        """Records the seeds of random numbers, by library: ``python``, ``numpy``, ``torch``, ``data``, ….

        Raises:
            TrainingError: no whole number, or another seed was recorded for that library.
            SealedError: after completion.
        """
        with self._open("log_seeds"):
            found: dict[str, int] = {}
            for name, value in seeds.items():
                plain = coerce(value, key=f"seed {name}")
                if not _LIBRARY.fullmatch(name) or isinstance(plain, bool) or not isinstance(plain, int):
                    raise TrainingError(
                        f"seed {name}: expected a whole number of at most {MAX_SAFE_INTEGER}, got {value!r}"
                    )
                if self._seeds.get(name, plain) != plain:
                    raise TrainingError(f"seed {name}: already recorded as {self._seeds[name]}, now {plain}")
                found[name] = plain
            if len(self._seeds) + len(found) > 100:
                raise TrainingError("log_seeds: more than 100 seeds; name one for each library")
            self._seeds.update(found)

    def set_feature_code(self, code: str | Path | CodeState) -> None:
        """States which code made the features, where it is not the training's own repository or folder.

        Args:
            code: The folder of the feature pipeline, or what `capture_code` returned for it.
        """
        with self._open("set_feature_code"):
            self._feature_code = code if isinstance(code, CodeState) else capture_code(code)

    def set_compute(
        self,
        *,
        flops: float | None = None,
        flops_method: str = "",
        parameters: int | None = None,
        tokens: int | None = None,
        hardware: str = "",
        device_seconds: float | None = None,
        energy_kwh: float | None = None,
        energy_method: str = "",
    ) -> None:
        """States what the training cost. What is not known is left out; later calls add to earlier ones.

        With ``parameters`` and ``tokens`` and no ``flops``, the operations are estimated as 6·P·D and the method is named.

        Args:
            flops: Floating point operations in all.
            flops_method: How they were counted.
            parameters: Parameters of the model.
            tokens: Training tokens, each pass over the data counted.
            hardware: Such as ``8 x H100 80GB``.
            device_seconds: Seconds of accelerator time, over all devices.
            energy_kwh: Energy in kilowatt hours, if it was measured or estimated.
            energy_method: How: the meter, or the estimate.
        """
        stated = {
            "flops": flops,
            "flops_method": flops_method,
            "parameters": parameters,
            "tokens": tokens,
            "hardware": hardware,
            "device_seconds": device_seconds,
            "energy_kwh": energy_kwh,
            "energy_method": energy_method,
        }
        with self._open("set_compute"):
            self._compute = checked_compute(self._compute, stated)

    def set_distributed(
        self,
        *,
        world_size: int,
        backend: str = "",
        strategy: str = "",
        mesh: Mapping[str, Any] | None = None,
        rows: Sequence[Any] | None = None,
    ) -> None:
        """States that several processes trained. A later call replaces an earlier one.

        Args:
            world_size: How many processes.
            backend: Such as ``nccl`` or ``gloo``.
            strategy: Such as ``ddp`` or ``fsdp2``.
            mesh: The device mesh: names and sizes of its dimensions.
            rows: Lines of the manifest of what each rank wrote, JSON values in their order; they are kept as evidence under one
                root (see `rows_root`).
        """
        with self._open("set_distributed"):
            if isinstance(world_size, bool) or not isinstance(world_size, int) or not 1 <= world_size <= 10_000_000:
                raise TrainingError(f"distributed.world_size: expected the number of processes, got {world_size!r}")
            lines = None
            if rows is not None:
                if len(rows) > MAX_MANIFEST_ROWS:
                    raise TrainingError(f"distributed.rows: more than {MAX_MANIFEST_ROWS} lines")
                lines = coerce(list(rows), key="distributed.rows")
            self._distributed = {
                "world_size": world_size,
                "backend": text(backend, "distributed.backend", limit=100),
                "strategy": text(strategy, "distributed.strategy", limit=100),
                "mesh": bounded(dict(mesh or {}), "distributed.mesh"),
                "rows": lines,
            }

    def link_external(
        self, system: str, run: str, *, experiment: str = "", uri: str = "", snapshot: bytes | None = None
    ) -> None:
        """Links the same run in another tracking tool. A later call for the same run replaces an earlier one.

        Args:
            system: ``mlflow``, ``wandb`` or ``comet``.
            run: The run's id there.
            experiment: The experiment's or project's name or id there.
            uri: Where; user, password, query and fragment are taken out.
            snapshot: What the tool says of the run now, as canonical JSON; kept as evidence.
        """
        with self._open("link_external"):
            if system not in EXTERNAL_SYSTEMS:
                raise TrainingError(f"external system {system!r}: expected one of {', '.join(EXTERNAL_SYSTEMS)}")
            if snapshot is not None and (not isinstance(snapshot, bytes) or len(snapshot) > MAX_SNAPSHOT_BYTES):
                raise TrainingError(f"external snapshot: expected at most {MAX_SNAPSHOT_BYTES} bytes")
            link = ExternalLink(
                system,
                text(run, "external run", limit=300, required=True),
                text(experiment, "external experiment", limit=300),
                redact_text(clean_remote(text(uri, "external uri", limit=1000))) if uri else "",
                snapshot,
            )
            if len(self._external) >= 100 and (system, link.run) not in self._external:
                raise TrainingError("link_external: more than 100 external runs")
            self._external[system, link.run] = link

    def set_rerun(
        self,
        command: Sequence[str],
        *,
        folder: str = ".",
        tolerances: Mapping[str, float] | None = None,
        same_bytes: bool = False,
    ) -> None:
        """States how to run this training again. A command that holds a secret is refused: it would not run without it.

        Args:
            command: Argument vector, without a shell.
            folder: Folder to run it in, relative to the repository.
            tolerances: Largest absolute difference of each metric; one that is not named has to be equal.
            same_bytes: The model has to come out byte for byte.
        """
        with self._open("set_rerun"):
            if isinstance(command, (str, bytes)) or not command or len(command) > 200:
                raise TrainingError("rerun.command: expected a list of 1 to 200 words, such as ['python', 'train.py']")
            words = [text(word, "rerun.command", limit=10_000) for word in command]
            if tuple(words) != redact_command(words):
                raise TrainingError(
                    "rerun.command: it holds a secret; pass that by a file or an environment variable instead"
                )
            place = text(str(folder), "rerun.folder", limit=1000)
            if place.startswith(("/", "\\")) or ".." in place.replace("\\", "/").split("/"):
                raise TrainingError(f"rerun.folder: {place!r} is not a folder inside the repository")
            limits = coerce(dict(tolerances or {}), key="rerun.tolerances")
            for name, value in limits.items():
                if isinstance(value, (bool, str)) or not isinstance(value, (int, float)) or value < 0:
                    raise TrainingError(f"rerun.tolerances.{name}: expected a number that is not negative")
            self._rerun = {
                "command": words,
                "folder": place,
                "tolerances": limits,
                "same_bytes": bool(same_bytes),
            }


def _parent(parent: Any) -> dict[str, str]:
    try:
        model, version = parent
    except (TypeError, ValueError):
        raise TrainingError("base_model.parent: expected (model key, version)") from None
    usable = isinstance(model, str) and isinstance(version, str)
    if not usable or not _MODEL.fullmatch(model) or not _VERSION.fullmatch(version):
        raise TrainingError(f"base_model.parent: {parent!r} is not (model key, version)")
    return {"model": model, "version": version}
