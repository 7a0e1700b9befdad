"""Reads a W&B offline run: its folder `wandb/offline-run-…`, or the log `run-<id>.wandb` in it.

Invariant: only the files of the run's own folder are read, links are not followed, and nothing is sent anywhere.
"""

from __future__ import annotations

import json
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Any

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
from cognify_dagster.instrument.trackers.wandb_log import LogEnd, records
from cognify_dagster.training import digest_files

FORMAT = "cognify-wandb/1"
MAX_FILES = 10_000
_MAX_TEXT_FILE = 4 * 1024 * 1024
_REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)\s*(?:;.*)?$")


def read_wandb(path: str | Path) -> TrackedRun:
    """Return the run of a W&B offline folder.

    A run whose log ends without its end (the process was killed) is `killed`.

    Raises:
        TrackerError: if there is no such log, it holds no run, or it is damaged.
        TrackerUnreachable: if the wandb library, which holds the format, is not installed.
    """
    log = _log_of(Path(path))
    end, told = LogEnd(), _Told()
    for record in records(log, end):
        told.take(record)
    if not told.run:
        raise TrackerError(f"{log}: holds no run; was it written by wandb?")
    files, packages = _files(log.parent / "files")
    notes = []
    if end.torn_at is not None:
        notes.append(f"the log ends in the middle of a message, at byte {end.torn_at}; what stands before it was read")
    if told.objects:
        notes.append(
            f"logged objects (tables, images, histograms) are not curves and were left out: {', '.join(sorted(told.objects))}"
        )
    config = {name: kept(name, value) for name, value in sorted(told.config.items())}
    summary = {name: kept(name, value) for name, value in sorted(told.summary.items())}
    status = told.status()
    metrics = {name: tuple(points) for name, points in sorted(told.metrics.items())}
    state = {
        "format": FORMAT,
        "run": {
            "id": told.run,
            "name": told.name,
            "project": told.project,
            "entity": told.entity,
            "group": told.group,
            "job_type": told.job_type,
            "notes": kept("notes", told.note),
            "status": status,
            "exit_code": told.exit_code,
            "started_us": told.started_us,
            "writer": told.version,
        },
        "config": config,
        "summary": summary,
        "metrics": {name: [[step, number(value)] for step, value in points] for name, points in metrics.items()},
        "tags": sorted(told.tags),
        "code": {"commit": told.commit, "remote": kept("remote", told.remote), "program": told.program},
        "files": files,
    }
    return TrackedRun(
        system="wandb",
        run=told.run,
        name=told.name,
        status=status,
        config=config,
        metrics=metrics,
        state=state,
        experiment="/".join(part for part in (told.entity, told.project) if part),
        user=told.user,
        started_us=told.started_us,
        parent=told.group,
        code=ToldCode(told.commit, told.remote, told.program),
        environment=ToldEnvironment(told.python, told.platform, packages, tuple(told.gpus), told.host),
        notes=tuple(notes),
    )


def _log_of(path: Path) -> Path:
    if path.is_dir():
        found = sorted(item for item in path.glob("run-*.wandb") if item.is_file() and not item.is_symlink())
        if len(found) != 1:
            what = f"holds {len(found)} of them" if found else "holds none"
            raise TrackerError(
                f"{path}: {what}; name one run's folder, wandb/offline-run-…, with one run-<id>.wandb in it"
            )
        return found[0]
    if not path.is_file() or path.is_symlink():
        raise TrackerError(f"{path}: there is no such file or folder; name a run's folder, wandb/offline-run-…")
    return path


class _Told:
    """What the messages of a log say, gathered."""

    def __init__(self) -> None:
        self.run = self.name = self.project = self.entity = self.group = self.job_type = self.note = ""
        self.user = self.host = self.version = self.commit = self.remote = self.program = self.python = (
            self.platform
        ) = ""
        self.started_us: int | None = None
        self.exit_code: int | None = None
        self.tags: set[str] = set()
        self.gpus: list[str] = []
        self.config: dict[str, Any] = {}
        self.summary: dict[str, Any] = {}
        self.metrics: dict[str, list[Point]] = {}
        self.objects: set[str] = set()
        self._points = 0

    def take(self, record: Any) -> None:
        """Take a message of a kind that says something about the run."""
        kind = record.WhichOneof("record_type")
        if kind == "run":
            self._run(record.run)
        elif kind == "config":
            _change(self.config, record.config.update, record.config.remove)
            self.config.pop("_wandb", None)
        elif kind == "summary":
            _change(self.summary, record.summary.update, record.summary.remove)
            self.summary.pop("_wandb", None)
        elif kind == "history":
            self._history(record.history)
        elif kind == "environment":
            self._environment(record.environment)
        elif kind == "exit":
            self.exit_code = record.exit.exit_code
        elif kind == "header":
            self.version = f"wandb {record.header.version_info.producer}"

    def status(self) -> Status:
        """How the run ended."""
        if self.exit_code is None:
            return "killed"
        return "finished" if self.exit_code == 0 else "failed"

    def _run(self, run: Any) -> None:
        self.run, self.project, self.entity = run.run_id, run.project, run.entity
        self.name, self.group, self.job_type = run.display_name, run.run_group, run.job_type
        self.note, self.host = run.notes, run.host
        self.tags |= set(run.tags)
        self.remote, self.commit = run.git.remote_url, run.git.commit
        if run.start_time.seconds:
            self.started_us = run.start_time.seconds * 1_000_000 + run.start_time.nanos // 1000
        if run.HasField("config"):
            _change(self.config, run.config.update, run.config.remove)
            self.config.pop("_wandb", None)

    def _history(self, history: Any) -> None:
        row = {".".join(item.nested_key) or item.key: item.value_json for item in history.item}
        step = history.step.num if history.HasField("step") else None
        for name, text in row.items():
            if name.startswith("_"):
                continue
            value = _json(text, name)
            if isinstance(value, str) and value in ("NaN", "Infinity", "-Infinity"):
                value = float(value.replace("Infinity", "inf"))
            if isinstance(value, bool) or not isinstance(value, (int, float)):
                self.objects.add(name)
                continue
            self._points += 1
            if self._points > MAX_POINTS:
                raise TrackerError(f"wandb:{self.run}: more than {MAX_POINTS} metric points")
            self.metrics.setdefault(name, []).append((step, float(value)))

    def _environment(self, environment: Any) -> None:
        for name in ("python", "program"):
            setattr(self, name, getattr(environment, name) or getattr(self, name))
        self.platform = environment.os or self.platform
        self.host = environment.host or self.host
        self.user = environment.username or self.user
        if environment.HasField("git"):
            self.remote = environment.git.remote_url or self.remote
            self.commit = environment.git.commit or self.commit
        self.gpus = [gpu.name for gpu in environment.gpu_nvidia] or self.gpus


def _change(target: dict[str, Any], updates: Iterable[Any], removed: Iterable[Any]) -> None:
    for item in updates:
        path = tuple(item.nested_key) or (item.key,)
        place = target
        for part in path[:-1]:
            inner = place.get(part)
            if not isinstance(inner, dict):
                inner = place[part] = {}
            place = inner
        place[path[-1]] = _json(item.value_json, ".".join(path))
    for item in removed:
        place = target
        path = tuple(item.nested_key) or (item.key,)
        for part in path[:-1]:
            inner = place.get(part)
            place = inner if isinstance(inner, dict) else {}
        place.pop(path[-1], None)


def _json(text: str, name: str) -> Any:
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise TrackerError(f"{name}: its value in the log is not JSON") from error
    return value


def _files(folder: Path) -> tuple[list[dict[str, Any]], tuple[tuple[str, str], ...]]:
    """Return the run's files by digest, and the packages of its requirements.txt."""
    if not folder.is_dir() or folder.is_symlink():
        return [], ()
    plain = [item for item in sorted(folder.rglob("*")) if stat.S_ISREG(item.lstat().st_mode)]
    if len(plain) > MAX_FILES:
        raise TrackerError(f"{folder}: more than {MAX_FILES} files")
    listed: list[dict[str, Any]] = []
    for item in plain:
        digest = digest_files(item)
        listed.append({"path": item.relative_to(folder).as_posix(), "size": digest.size, "sha256": digest.sha256})
    return listed, requirements(folder / "requirements.txt")


def requirements(path: Path) -> tuple[tuple[str, str], ...]:
    """Return the pinned packages of a requirements file, as (name, version); none where there is no such file."""
    if not path.is_file() or path.is_symlink() or path.stat().st_size > _MAX_TEXT_FILE:
        return ()
    text = path.read_text(encoding="utf-8", errors="replace")
    return packages(text.splitlines())


def packages(lines: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Return the pinned packages of lines `name==version`; other lines say nothing."""
    found = [_REQUIREMENT.match(line.strip()) for line in lines]
    return tuple(sorted({(re.sub(r"[-_.]+", "-", one[1]).lower(), one[2]) for one in found if one is not None}))
