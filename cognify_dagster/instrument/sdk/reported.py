"""Results that a training reported inside something that seals for it (a Dagster asset), kept on the disk until they are recorded.

Sealing a version and recording its evaluations are two steps; a process that dies between them must not lose what was measured.

Invariants: the results reach the disk before the version is sealed; they are recorded only for the run that reported them, on the very
snapshots that they were reported for; a folder that others can write is never read; it goes only after everything in it is recorded.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.instrument.sdk.ended import Reported
from cognify_dagster.instrument.sdk.errors import JournalDamaged, SdkError
from cognify_dagster.instrument.sdk.journal import Journal, read_blob, read_journal
from cognify_dagster.instrument.sdk.results import decode, encode
from cognify_dagster.instrument.sdk.spool import open_to_others
from cognify_dagster.records import Evaluation, TrainingRun
from cognify_dagster.workspace import Recorded, Workspace, os_login

FORMAT = 1
FOLDER = "reported"
MAX_SHOWN = 1000
_IN_LINE = 65_536


@dataclass(frozen=True)
class Kept:
    """Results that wait. `pins` are the datasets as they were bound when the run began."""

    model: str
    version: str
    run: str
    pins: tuple[BoundDataset, ...]
    results: tuple[Reported, ...]


def folder_of(workspace: Workspace, model: str, version: str, run: str) -> Path:
    """Return where the results of a run are kept until they are recorded."""
    return workspace.home / FOLDER / model / version / run


def keep(folder: Path, kept: Kept) -> None:
    """Bring results to the disk, in place of what an earlier attempt of the run left there; without results nothing is kept.

    Raises:
        OSError: they cannot be written; nothing may be sealed then.
        SdkError: the folder is open to others.
    """
    if folder.exists():
        shutil.rmtree(folder)
    if not kept.results:
        return
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    folder.mkdir(mode=0o700)
    problem = open_to_others(folder)
    if problem:
        raise SdkError(problem)
    journal = Journal(folder)
    try:
        pins = [item.to_json() for item in kept.pins]
        journal.write(
            {
                "o": "reported",
                "format": FORMAT,
                "model": kept.model,
                "version": kept.version,
                "run": kept.run,
                "pins": pins,
            }
        )
        for item in kept.results:
            data = json.dumps(encode(item), ensure_ascii=False, separators=(",", ":")).encode("utf-8")
            line = {"value": json.loads(data)} if len(data) <= _IN_LINE else {"blob": journal.put_blob(data)}
            journal.write({"o": "eval", "eval": line})
        journal.write({"o": "end", "results": len(kept.results)}, sync=True)
    finally:
        journal.close()
    for place in (folder, folder.parent):
        _sync(place)


def read_kept(folder: Path) -> Kept | None:
    """Read back what waits for a run.

    Returns:
        None where nothing waits, or where the process died while it wrote: nothing was sealed then.

    Raises:
        JournalDamaged: what is there is not what was written.
        SdkError: the folder is open to others.
        OSError: it cannot be read.
    """
    if not folder.exists():
        return None
    problem = open_to_others(folder)
    if problem:
        raise SdkError(problem)
    try:
        lines = read_journal(folder).lines
    except FileNotFoundError:
        return None
    if not lines or lines[-1].get("o") != "end":
        return None
    try:
        head = lines[0]
        if head["format"] != FORMAT:
            raise JournalDamaged(f"{folder}: the results have format {head['format']!r}; this release reads {FORMAT}")
        pins = tuple(BoundDataset.from_json(item) for item in head["pins"])
        results = tuple(decode(_value(folder, line["eval"])) for line in lines[1:-1])
        if len(results) != lines[-1]["results"]:
            raise JournalDamaged(f"{folder}: {len(results)} results, {lines[-1]['results']!r} were reported")
        return Kept(str(head["model"]), str(head["version"]), str(head["run"]), pins, results)
    except (KeyError, TypeError, AttributeError, ValidationError) as error:
        raise JournalDamaged(f"{folder}: does not tell of results: {error!r}") from error


def record_kept(workspace: Workspace, training: Recorded[TrainingRun]) -> list[Recorded[Evaluation]]:
    """Record what the run of a sealed version reported and nobody has recorded yet; nothing where nothing waits.

    Args:
        workspace: where to record.
        training: the sealed run.

    Raises:
        EvaluationError, SdkError: they cannot be used. They stay where they are; the message says where.
    """
    record = training.record
    run = str(record.observed.get("run", ""))
    if not run or Path(run).name != run:
        return []
    folder = folder_of(workspace, record.model, record.version, run)
    kept = read_kept(folder)
    if kept is None:
        return []
    from cognify_dagster.instrument.sdk.grounds import require_pins
    from cognify_dagster.instrument.sdk.judging import record_reported

    if (kept.model, kept.version, kept.run) != (record.model, record.version, run):
        raise JournalDamaged(f"{folder}: holds results of {kept.model} {kept.version}, run {kept.run}")
    try:
        require_pins(workspace.read(), kept.pins)
        done = record_reported(
            workspace,
            training,
            kept.results,
            run=run,
            login=os_login(),  # the folder belongs to this login
            labels={item.label: item for item in kept.pins},
            code=record.code,
        )
    except EvaluationError as error:
        raise EvaluationError(
            f"{error}. The version is sealed; its results wait in {folder}: running this run again records them, deleting that folder "
            "gives them up"
        ) from error
    forget(folder)
    return done


def waiting(workspace: Workspace, model: str = "*") -> list[Path]:
    """Return the folders of results that wait for versions which are sealed, at most `MAX_SHOWN`; of one model where it is named."""
    found = []
    reading = None
    for folder in sorted((workspace.home / FOLDER).glob(f"{model}/*/*"))[:MAX_SHOWN]:
        if folder.is_symlink() or not folder.is_dir():
            continue
        reading = reading or workspace.read()
        training = reading.latest(TrainingRun, f"model/{folder.parent.parent.name}@{folder.parent.name}")
        if training is not None and training.record.observed.get("run") == folder.name:
            found.append(folder)
    return found


def forget(folder: Path) -> None:
    """Remove what is recorded, and the folders above that are empty then."""
    if folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        for place in (folder.parent, folder.parent.parent):
            place.rmdir()


def record_waiting(workspace: Workspace) -> list[tuple[Path, Sequence[Recorded[Evaluation]], str]]:
    """Record the results that wait for versions which are sealed; see `record_kept`.

    Returns:
        For each folder, what was recorded and, where it could not be, why. Results of versions that are not sealed stay, untold: their
        run may go on.
    """
    found: list[tuple[Path, Sequence[Recorded[Evaluation]], str]] = []
    for folder in waiting(workspace):
        version, model = folder.parent.name, folder.parent.parent.name
        training = workspace.read().latest(TrainingRun, f"model/{model}@{version}")
        assert training is not None  # `waiting` read it
        try:
            done = record_kept(workspace, training)
            whole = done or not folder.exists()
            found.append((folder, done, "" if whole else f"{folder}: was not written whole; delete it"))
        except Exception as error:  # one that cannot be recorded keeps none of the others back
            found.append((folder, (), str(error)))
    return found


def _value(folder: Path, line: dict[str, Any]) -> Any:
    return json.loads(read_blob(folder, str(line["blob"]))) if "blob" in line else line["value"]


def _sync(folder: Path) -> None:
    if os.name != "posix":  # pragma: no cover - Windows
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
