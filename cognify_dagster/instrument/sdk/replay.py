"""Reads a run back from its journal.

Invariants: nothing is executed that a journal says: its lines name methods of a fixed list, with plain values. Files of models and
checkpoints are taken by the digest that was computed when they were handed over; sealing hashes every byte that it stores and refuses
what differs.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.instrument.sdk.ended import Ended
from cognify_dagster.instrument.sdk.errors import JournalDamaged
from cognify_dagster.instrument.sdk.journal import read_blob
from cognify_dagster.instrument.sdk.results import decode
from cognify_dagster.instrument.sdk.spool import LATEST, Spooled
from cognify_dagster.records import ModelRegistered, RecordError
from cognify_dagster.training import (
    CheckpointFiles,
    CodeState,
    Environment,
    FileDigest,
    FilesDigest,
    ModelFiles,
    TrainingArtifact,
    TrainingError,
    TrainingRecorder,
)
from cognify_dagster.workspace import os_login

FORMAT = 1
_PROJECT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")
KEPT = "files"
CALLS = frozenset(
    {
        "log_seeds", "log_extra", "set_architecture", "set_base_model", "set_compute", "set_distributed", "set_rerun",
        "note_selection",
    }
)  # fmt: skip
KILLED = "the process was killed, or ended without a word"


def ended_of(found: Spooled) -> Ended:
    """Return the run that a journal tells of.

    Raises:
        JournalDamaged: its lines cannot be read as a run.
    """
    if found.read is None:
        raise JournalDamaged(found.problem or f"{found.folder}: there is no journal")
    start = found.start
    if not start:
        raise JournalDamaged(f"{found.folder}: the journal has no first line; the run ended before it wrote anything")
    if start.get("format") != FORMAT:
        raise JournalDamaged(
            f"{found.folder}: the journal has format {start.get('format')!r}; this release reads {FORMAT}"
        )
    try:
        return _read(found, start)
    except (JournalDamaged, OSError):
        raise
    except (KeyError, IndexError, TypeError, ValueError, ArithmeticError, AttributeError, RecursionError) as error:
        raise JournalDamaged(f"{found.folder}: the journal does not tell of a run: {error!r}") from error


def _read(found: Spooled, start: Mapping[str, Any]) -> Ended:
    assert found.read is not None
    folder = found.folder
    if str(start["run"]) != folder.name or not _PROJECT.fullmatch(str(start["project"])):
        raise ValueError(f"run {str(start['run'])[:100]!r} of project {str(start['project'])[:100]!r}")
    recorder = TrainingRecorder()
    started = _moment(start["started"])
    recorder._started = started
    problems: list[str] = []
    if found.read.torn:
        problems.append(f"the last line of the journal was torn ({found.read.torn} bytes) and is left out")
    state = Ended(
        run=str(start["run"]),
        project=str(start["project"]),
        status="killed",
        recorder=recorder,
        started=started,
        seen=_size(start["seen"]),
        login=os_login(),  # the folder belongs to this login; what the line claims counts for nothing
        code=_no_code(),
        environment=_no_environment(start),
        reason=KILLED,
        wanted=start.get("version"),
        name=str(start.get("name", "")),
        experiment=str(start.get("experiment", "")),
        asked=start.get("datasets"),
        definition=_definition(start.get("definition")),
        command=tuple(str(word) for word in start.get("command", ())),
        captured_by="spool",
        folder=folder,
    )
    evaluations = []
    for line in found.read.lines[1:]:
        op = line.get("o")
        if op == "code":
            state.code = CodeState.model_validate(line["code"])
            state.environment = Environment.model_validate(_unpacked(folder, line["environment"]))
        elif op == "pins":
            state.pins = tuple(BoundDataset.from_json(item) for item in line["pins"])
            state.ungoverned = str(line.get("ungoverned", ""))
        elif op == "version":
            state.started_after = _size(line["started_after"])
        elif op == "gap":
            problems.append(f"{line['lost']} calls could not be written to the spool and are not in this record")
        elif op == "eval":
            evaluations.append(decode(_unpacked(folder, line["eval"])))
        elif op in ("complete", "fail"):
            state.status = "completed" if op == "complete" else "failed"
            state.reason = "" if op == "complete" else str(line.get("reason", "failed"))
            state.ended = _moment(line["ended"])
        else:
            try:
                _apply(recorder, folder, line)
            except TrainingError as error:
                problems.append(f"{op}: {error}")
    state.evaluations = tuple(evaluations)
    state.incomplete = tuple(problems)
    if state.ended is not None:
        recorder._ended = state.ended
    return state


def _apply(recorder: TrainingRecorder, folder: Path, line: Mapping[str, Any]) -> None:
    op = line.get("o")
    if op == "m":
        recorder.log_metric(line["k"], float(line["v"]), line.get("s"))
    elif op == "config":
        recorder.log_config(_unpacked(folder, line["v"]))
    elif op == "call":
        name = line["f"]
        if name not in CALLS:
            raise JournalDamaged(f"{folder}: the journal calls {name!r}, which is no way to log")
        getattr(recorder, name)(*_unpacked(folder, line["a"]), **_unpacked(folder, line["k"]))
    elif op == "feature_code":
        recorder.set_feature_code(CodeState.model_validate(line["code"]))
    elif op == "external":
        blob = line.get("snapshot")
        recorder.link_external(
            line["system"], line["run"], experiment=line["experiment"], uri=line["uri"],
            snapshot=None if blob is None else read_blob(folder, blob),
        )  # fmt: skip
    elif op == "artifact":
        _artifact(recorder, folder, line)
    elif op == "model":
        digest = _files(_unpacked(folder, line["digest"]))
        path = Path(line["path"])
        recorder._models = [item for item in recorder._models if item.path != path]
        recorder._models.append(ModelFiles(_at_hand(folder, path, digest, line["n"]), digest))
    elif op == "checkpoint":
        digest = _files(_unpacked(folder, line["digest"]))
        path = _at_hand(folder, Path(line["path"]), digest, line["n"])
        keep = bool(line["keep"]) and path.exists()
        note = str(line["note"])
        recorder._checkpoints[line["name"]] = CheckpointFiles(line["name"], path, digest, line["step"], note, keep)
        if line["keep"] and not keep:
            raise TrainingError(f"checkpoint {line['name']}: {line['path']} is gone, so its bytes cannot be kept")
    elif op not in ("sealed", "end", "note"):
        raise JournalDamaged(f"{folder}: the journal has a line of unknown kind {op!r}; upgrade to read it")


def _artifact(recorder: TrainingRecorder, folder: Path, line: Mapping[str, Any]) -> None:
    name, media_type = line["name"], line["media_type"]
    if "blob" in line:
        recorder.log_artifact(name, read_blob(folder, line["blob"]), media_type)
        return
    digest = _files(_unpacked(folder, line["digest"]))
    path = _at_hand(folder, Path(line["path"]), digest, line["n"])
    if not path.is_file():
        raise TrainingError(f"artifact {name}: {line['path']} is gone; its SHA-256 was {digest.sha256}")
    recorder._artifacts[name] = TrainingArtifact(name, media_type, digest.size, digest.sha256, None, path, digest)


def _at_hand(folder: Path, path: Path, digest: FilesDigest, number: int) -> Path:
    """Where the bytes are: their own path, else the links that the spool kept of them."""
    kept = folder / KEPT / str(number) / digest.name
    return kept if not path.exists() and kept.exists() else path


def _files(value: Mapping[str, Any]) -> FilesDigest:
    files = tuple(FileDigest(str(item["path"]), int(item["size"]), str(item["sha256"])) for item in value["files"])
    return FilesDigest(str(value["kind"]), str(value["name"]), files, int(value["size"]), str(value["sha256"]))


def packed(value: Any, put: Callable[[bytes], str]) -> dict[str, Any]:
    """Return a value for a line, or the name of a blob that holds it where it is large."""
    data = json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8")
    return {"value": value} if len(data) <= 65_536 else {"blob": put(data)}


def _unpacked(folder: Path, value: Mapping[str, Any]) -> Any:
    if "blob" in value:
        return json.loads(read_blob(folder, str(value["blob"])))
    return value["value"]


def _moment(value: Any) -> datetime:
    seconds = float(value)
    if not math.isfinite(seconds) or not 0 <= seconds < LATEST:
        raise ValueError(f"{value!r} is no time")
    return datetime.fromtimestamp(seconds, timezone.utc)


def _size(value: Any) -> int:
    """A size of the ledger. Sealing bounds it by what the ledger itself shows."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**53:
        raise ValueError(f"{value!r} is no number of entries")
    return value


def _definition(value: Any) -> ModelRegistered | None:
    if value is None:
        return None
    try:
        return ModelRegistered.model_validate(value)
    except (ValidationError, RecordError) as error:
        raise JournalDamaged(f"the model's definition in the journal cannot be read: {error}") from error


def _no_code() -> CodeState:
    """For a run that was killed before it had looked at its code."""
    return CodeState(vcs="unreadable", reason="the run ended before it had looked at its code")


def _no_environment(start: Mapping[str, Any]) -> Environment:
    """For a run that was killed before it had looked at its environment: what the first line says, and nothing else."""
    import hashlib

    unknown: Literal["unreadable"] = "unreadable"
    return Environment(
        python_version=str(start.get("python", "unknown")), python_implementation="unknown", os="unknown", kernel="unknown",
        machine="unknown", cpu="unknown", cpu_count=-1, memory_bytes=-1, gpu=unknown, gpus=(), driver="unknown", cuda="unknown",
        image_digest="none", packages=(), lock_sha256=hashlib.sha256(b"").hexdigest(), hostname=str(start.get("host", "")),
    )  # fmt: skip
