"""Reads a Comet offline experiment: the zip archive that `OfflineExperiment` leaves, with its messages as lines of JSON.

Invariants: the comet library is not needed and not imported; names inside the archive are never used as paths, sizes are counted while
unpacking (a header's word is not believed), and only the files that make up the model are unpacked, into a folder of our own.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.instrument.trackers.tracked import (
    MAX_POINTS,
    Point,
    Status,
    ToldCode,
    ToldEnvironment,
    TrackedRun,
    kept,
    number,
)
from cognify_dagster.instrument.trackers.wandb import packages

FORMAT = "cognify-comet/1"
MAX_ARCHIVE_FILES = 20_000
MAX_MESSAGES_BYTES = 512 * 1024 * 1024
MAX_UNPACKED_BYTES = 64 * 1024**3
MAX_RATIO = 1_000
_MAX_LINE = 16 * 1024 * 1024
_BLOCK = 1024 * 1024
_OWN = ("experiment.json", "messages.json")
_MODEL = "model-element"
_SYSTEM = ("sys.", "process duration")


def read_comet(path: str | Path) -> TrackedRun:
    """Return the experiment of a Comet offline archive.

    Curves that the library writes about the machine (`sys.…`) are left to the archive, as are its own counters.

    Raises:
        TrackerError: if it is no such archive, is damaged, or unpacks to more than a run can have.
    """
    archive = Path(path)
    with _opened(archive) as zipped:
        meta = _meta(zipped, archive)
        told = _Told(archive)
        for message in _messages(zipped, archive):
            told.take(message)
        files = _digests(zipped, archive, told.names)
    status = _status(meta)
    run = str(meta.get("offline_id") or archive.stem.partition("-")[0])
    metrics = {name: tuple(points) for name, points in sorted(told.metrics.items())}
    config = {name: kept(name, value) for name, value in sorted(told.config.items())}
    others = {name: kept(name, value) for name, value in sorted(told.others.items())}
    started = meta.get("start_time")
    started_us = started * 1000 if isinstance(started, int) and not isinstance(started, bool) and started > 0 else None
    state = {
        "format": FORMAT,
        "run": {
            "id": run,
            "name": told.name,
            "project": str(meta.get("project_name") or ""),
            "workspace": str(meta.get("workspace") or ""),
            "status": status,
            "started_us": started_us,
        },
        "config": config,
        "metrics": {name: [[step, number(value)] for step, value in points] for name, points in metrics.items()},
        "others": others,
        "tags": sorted(str(tag) for tag in meta.get("tags") or ()),
        "code": {"commit": told.commit, "remote": kept("remote", told.remote), "program": told.program},
        "files": files,
    }
    return TrackedRun(
        system="comet",
        run=run,
        name=told.name,
        status=status,
        config=config,
        metrics=metrics,
        state=state,
        experiment="/".join(str(meta[name]) for name in ("workspace", "project_name") if meta.get(name)),
        user=told.user,
        started_us=started_us,
        code=ToldCode(told.commit, told.remote, told.program),
        environment=ToldEnvironment(told.python, told.platform, packages(told.packages), tuple(told.gpus), told.host),
        notes=tuple(told.notes()),
    )


def unpack_model(path: str | Path, folder: Path, model: str = "") -> Path:
    """Unpack the model of an archive into a new folder below `folder`; return the file or the folder that it is.

    Args:
        path: the archive.
        folder: an empty folder of the caller.
        model: the model's name in Comet; needed where several were logged.

    Raises:
        TrackerError: if no model was logged, several were, or its files cannot be unpacked as they are.
    """
    archive = Path(path)
    with _opened(archive) as zipped:
        told = _Told(archive)
        for message in _messages(zipped, archive):
            told.take(message)
        found = {name for name, _, _ in told.models}
        if not found or (model and model not in found):
            there = f"; it has {', '.join(sorted(found))}" if found else ""
            raise TrackerError(
                f"{archive}: no model {model!r} was logged{there}" if model else f"{archive}: no model was logged"
            )
        if len(found) > 1 and not model:
            raise TrackerError(f"{archive}: several models were logged ({', '.join(sorted(found))}); name one")
        chosen = model or next(iter(found))
        parts = [(member, name) for group, member, name in told.models if group == chosen]
        root = folder / "model"
        root.mkdir()
        left = MAX_UNPACKED_BYTES
        for member, name in parts:
            target = _confined(root, name, archive)
            target.parent.mkdir(parents=True, exist_ok=True)
            with _member(zipped, member, archive) as source, target.open("xb") as stream:
                for block in _blocks(source, left, archive):
                    stream.write(block)
                    left -= len(block)
        return root / _plain(parts[0][1]) if len(parts) == 1 and "/" not in _plain(parts[0][1]) else root


def _confined(root: Path, name: str, archive: Path) -> Path:
    parts = _plain(name).split("/")
    if not _plain(name) or any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise TrackerError(f"{archive}: {name!r} is no usable name for a file of the model")
    target = root.joinpath(*parts)
    if target.exists():
        raise TrackerError(f"{archive}: two files of the model are called {name!r}")
    return target


def _plain(name: str) -> str:
    return name.replace("\\", "/").lstrip("/")


def _opened(archive: Path) -> zipfile.ZipFile:
    try:
        zipped = zipfile.ZipFile(archive)
    except OSError as error:
        raise TrackerError(f"{archive}: cannot be read ({error.strerror or error})") from None
    except zipfile.BadZipFile as error:
        raise TrackerError(f"{archive}: is no zip archive ({error}); expected what OfflineExperiment wrote") from None
    if len(zipped.infolist()) > MAX_ARCHIVE_FILES:
        zipped.close()
        raise TrackerError(f"{archive}: holds more than {MAX_ARCHIVE_FILES} files")
    return zipped


def _member(zipped: zipfile.ZipFile, name: str, archive: Path) -> IO[bytes]:
    try:
        info = zipped.getinfo(name)
    except KeyError:
        raise TrackerError(f"{archive}: {name} is missing in it; expected what OfflineExperiment wrote") from None
    if info.file_size > _BLOCK and info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise TrackerError(f"{archive}: {name} unpacks to more than {MAX_RATIO} times its size; it is not read")
    try:
        return zipped.open(info)
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise TrackerError(f"{archive}: {name} cannot be unpacked ({error})") from None


def _blocks(source: IO[bytes], limit: int, archive: Path) -> Iterator[bytes]:
    while True:
        try:
            block = source.read(_BLOCK)
        except Exception as error:  # zlib.error, BadZipFile, EOFError: whatever a damaged member raises
            raise TrackerError(f"{archive}: damaged: {error}") from None
        if not block:
            return
        limit -= len(block)
        if limit < 0:
            raise TrackerError(f"{archive}: unpacks to more than a run can have; it is not read further")
        yield block


def _meta(zipped: zipfile.ZipFile, archive: Path) -> dict[str, Any]:
    with _member(zipped, "experiment.json", archive) as stream:
        data = b"".join(_blocks(stream, _MAX_LINE, archive))
    value = _json(data, f"{archive}: experiment.json")
    if not isinstance(value, dict):
        raise TrackerError(f"{archive}: experiment.json is no JSON object")
    return value


def _messages(zipped: zipfile.ZipFile, archive: Path) -> Iterator[dict[str, Any]]:
    rest, line = b"", 0
    with _member(zipped, "messages.json", archive) as stream:
        for block in _blocks(stream, MAX_MESSAGES_BYTES, archive):
            *whole, rest = (rest + block).split(b"\n")
            if len(rest) > _MAX_LINE:
                raise TrackerError(f"{archive}: messages.json has a line of more than {_MAX_LINE} bytes")
            for text in whole:
                line += 1
                yield from _message(text, archive, line)
    yield from _message(rest, archive, line + 1)


def _message(text: bytes, archive: Path, line: int) -> Iterator[dict[str, Any]]:
    if not text.strip():
        return
    value = _json(text, f"{archive}: messages.json, line {line}")
    if not isinstance(value, dict) or not isinstance(value.get("payload"), dict):
        raise TrackerError(f"{archive}: messages.json, line {line}: no message of a Comet experiment")
    yield value


def _json(data: bytes, where: str) -> Any:
    try:
        value: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise TrackerError(f"{where}: not JSON ({error})") from None
    return value


def _digests(zipped: zipfile.ZipFile, archive: Path, names: dict[str, str]) -> list[dict[str, Any]]:
    """Return every file of the experiment, hashed inside the archive, under the name that the run gave it."""
    found, left = [], MAX_UNPACKED_BYTES
    for info in zipped.infolist():
        if info.filename in _OWN or info.is_dir():
            continue
        digest, size = hashlib.sha256(), 0
        with _member(zipped, info.filename, archive) as stream:
            for block in _blocks(stream, left, archive):
                digest.update(block)
                size += len(block)
        left -= size
        path = names.get(info.filename, info.filename)
        found.append({"path": path, "size": size, "sha256": digest.hexdigest()})
    return sorted(found, key=lambda item: (str(item["path"]), str(item["sha256"])))


def _status(meta: dict[str, Any]) -> Status:
    if not meta.get("stop_time"):
        return "killed"
    return "failed" if meta.get("customer_error_reported") else "finished"


class _Told:
    """What the messages say, gathered."""

    def __init__(self, archive: Path) -> None:
        self.archive = archive
        self.name = self.user = self.host = self.commit = self.remote = self.program = self.python = self.platform = ""
        self.config: dict[str, Any] = {}
        self.others: dict[str, Any] = {}
        self.metrics: dict[str, list[Point]] = {}
        self.packages: list[str] = []
        self.gpus: list[str] = []
        self.names: dict[str, str] = {}
        self.models: list[tuple[str, str, str]] = []
        self._points = self._skipped = 0

    def take(self, message: dict[str, Any]) -> None:
        """Take a message of a kind that says something about the run."""
        kind, payload = message.get("type"), message["payload"]
        if kind == "parameter_msg":
            self._parameters(payload)
        elif kind == "metric_msg":
            self._metric(payload)
        elif kind == "log_other":
            key = str(payload.get("key", ""))
            if key == "Name":
                self.name = str(payload.get("value") or "")
            elif key not in ("offline_experiment", "hasNestedParams"):
                self.others[key] = payload.get("value")
        elif kind == "system_details":
            self.python, self.platform = str(payload.get("python_version") or ""), str(payload.get("os") or "")
            self.user, self.host = str(payload.get("user") or ""), str(payload.get("hostname") or "")
        elif kind == "installed_packages":
            self.packages = [str(line) for line in payload.get("installed_packages") or ()]
        elif kind == "gpu_static_info":
            gpus = payload.get("gpu_static_info") or ()
            self.gpus = [str(gpu.get("name", "unnamed")) for gpu in gpus if isinstance(gpu, dict)]
        elif kind == "git_metadata":
            git = payload.get("git_metadata") or {}
            self.commit, self.remote = str(git.get("parent") or ""), str(git.get("origin") or "")
        elif kind == "file_name":
            self.program = str(payload.get("file_name") or "")
        elif kind == "file_upload":
            self._file(payload)

    def notes(self) -> Iterator[str]:
        """Say what was left out."""
        if self._skipped:
            yield f"{self._skipped} values that Comet logs about the machine, or that are no numbers, are only in the archive"

    def _parameters(self, payload: dict[str, Any]) -> None:
        found = [payload.get("param"), *(payload.get("params") or ())]
        for one in found:
            if isinstance(one, dict) and one.get("source") in (None, "", "manual", "cli", "autologger", "sdk"):
                # Comet writes nested parameters with a bar between the parts
                self.config[str(one.get("paramName", "")).replace("|", ".")] = one.get("paramValue")

    def _metric(self, payload: dict[str, Any]) -> None:
        one = payload.get("metric")
        if not isinstance(one, dict):
            return
        name, value, step = str(one.get("metricName", "")), _number(one.get("metricValue")), one.get("step")
        if not name or name.startswith(_SYSTEM) or value is None:
            self._skipped += 1
            return
        context = payload.get("context")
        name = f"{context}/{name}" if context else name
        whole = int(step) if isinstance(step, (int, float)) and math.isfinite(step) and step == int(step) else None
        self._points += 1
        if self._points > MAX_POINTS:
            raise TrackerError(f"{self.archive}: more than {MAX_POINTS} metric points")
        self.metrics.setdefault(name, []).append((whole, value))

    def _file(self, payload: dict[str, Any]) -> None:
        told = payload.get("additional_params") or {}
        member, name = str(payload.get("file_path") or ""), str(told.get("fileName") or told.get("figName") or "")
        if not member:
            return
        if payload.get("upload_type") == _MODEL or told.get("type") == _MODEL:
            self.models.append((str(told.get("groupingName") or "model"), member, name or member))
        self.names[member] = f"{told.get('type') or 'file'}/{name or member}"


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, str) and not re.fullmatch(r"[+-]?(\d+(\.\d*)?([eE][+-]?\d+)?|NaN|nan|Infinity|inf)", value):
        return None
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
