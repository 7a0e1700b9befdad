"""Begins a run: its journal first, then what it stands on, then its version.

Invariants: the first line is on the disk before anything else is done; data that changed since their snapshot are refused before training;
a version is opened by the entry that says so, never by a file here.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from cognify_dagster.datasets import DatasetError, verify_snapshot
from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.instrument.sdk.ended import Ended
from cognify_dagster.instrument.sdk.errors import SdkError, out_of_reach
from cognify_dagster.instrument.sdk.grounds import ground_of, require_data
from cognify_dagster.instrument.sdk.journal import Journal
from cognify_dagster.instrument.sdk.ranks import imports_main_again, rank_and_size
from cognify_dagster.instrument.sdk.redaction import redact_command, redact_text
from cognify_dagster.instrument.sdk.replay import FORMAT, packed
from cognify_dagster.instrument.sdk.run import Desk, Run, Told
from cognify_dagster.instrument.sdk.session import Session
from cognify_dagster.instrument.sdk.spool import (
    FolderLock,
    make_folder,
    new_run_id,
    process_facts,
    remember_seen,
    spooled,
)
from cognify_dagster.instrument.sdk.versions import check_version, claim_version
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.training import (
    CodeState,
    TrainingError,
    TrainingRecorder,
    capture_code,
    capture_environment,
)
from cognify_dagster.workspace import Workspace, os_login

logger = logging.getLogger("cognify_dagster.sdk")
_LOCK_TRIES = 50


def script_folder() -> Path:
    """Return the folder of the main script; the current folder in a notebook."""
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return Path(file).resolve().parent if file and Path(file).is_file() else Path.cwd()


def start_run(
    session: Session,
    desk: Desk,
    config: Mapping[str, Any] | None,
    *,
    version: str | None,
    datasets: Mapping[str, str] | Sequence[str] | None,
    experiment: str,
    name: str,
    verify: bool,
) -> tuple[Run, FolderLock | None]:
    """Begin a run of a session; see `cognify_dagster.sdk.run`."""
    rank, size = rank_and_size()
    recorder = TrainingRecorder()
    now = datetime.now(timezone.utc)
    if version is not None:
        check_version(version)
    code = _code()
    ended = Ended(
        run=new_run_id(),
        project=session.project,
        status="completed",
        recorder=recorder,
        started=now,
        seen=session.seen(),
        login=os_login(),
        code=code,
        environment=capture_environment(script_folder()),
        wanted=version,
        name=redact_text(name)[:300],
        experiment=experiment,
        asked=datasets,
        definition=session.definition,
        command=redact_command(sys.orig_argv[1:]),
    )
    told = Told(ended)
    if rank != 0 or imports_main_again():
        return Run(told, desk, journal=None, rank=rank, world_size=size, writes=False), None
    journal, lock = _open_journal(session, ended)
    ended.folder = journal.folder if journal else None
    try:
        _stand(session, told, journal, verify)
    except BaseException:
        if journal is not None:
            journal.close()
        _drop(journal, lock)
        raise
    run = Run(told, desk, journal=journal, rank=rank, world_size=size)
    if config is not None:
        run.log_config(config)
    _rerun(run, code, size)
    return run, lock


def _open_journal(session: Session, ended: Ended) -> tuple[Journal | None, FolderLock | None]:
    problems = []
    for place in session.spools:
        try:
            folder = make_folder(place, ended.run)
            lock = FolderLock(folder)
            for _ in range(_LOCK_TRIES):  # somebody who lists the spool holds it for a moment
                if lock.take():
                    break
                time.sleep(0.01)
            journal = Journal(folder)
            journal.write(_first_line(session, ended), sync=True)
            facts = packed(ended.environment.model_dump(mode="json"), journal.put_blob)
            journal.write({"o": "code", "code": ended.code.to_facts(), "environment": facts})
            return journal, lock
        except (OSError, SdkError) as error:
            problems.append(str(error))
    logger.warning(
        "cognify: no spool can be written (%s). Training goes on; the record is only in memory until complete()",
        "; ".join(problems),
    )
    return None, None


def _first_line(session: Session, ended: Ended) -> dict[str, Any]:
    path = session.config.path if session.config is not None else session.path
    return {
        "o": "start",
        "format": FORMAT,
        "run": ended.run,
        "project": ended.project,
        "origin": session.origin,
        "workspace": str(path) if session.config is not None else "",
        "version": ended.wanted,
        "name": ended.name,
        "experiment": ended.experiment,
        "datasets": dict(ended.asked) if isinstance(ended.asked, Mapping) else _listed(ended.asked),
        "definition": ended.definition.model_dump(mode="json") if ended.definition else None,
        "started": ended.started.timestamp(),
        "seen": ended.seen,
        "command": list(ended.command),
        "cwd": str(Path.cwd()),
        **process_facts(),
    }


def _listed(asked: Sequence[str] | None) -> list[str] | None:
    return None if asked is None else [str(item) for item in asked]


def _stand(session: Session, told: Told, journal: Journal | None, verify: bool) -> None:
    """Find out what the run stands on and open its version, as far as the ledger can be reached."""
    try:
        _stand_on_ledger(session, told, journal, verify)
    except Exception as error:
        if not out_of_reach(error):
            raise
        _say_out_of_reach(session, error)
        experiment = told.ended.experiment
        told.governed, told.reason = (False, experiment) if experiment else (None, "")


def _stand_on_ledger(session: Session, told: Told, journal: Journal | None, verify: bool) -> None:
    ended = told.ended
    workspace = session.reach()
    reading = workspace.read()
    remember_seen(session.spools[0], workspace.origin, reading.size)
    ended.seen = reading.size
    ground = ground_of(reading, ended)
    if not ground.ungoverned:
        require_data(reading, ended.project, ground.trained_on, f"training {ended.project}")
        left_out = {item.label: "not asked for" for item in ground.trained_on}
        checked = _verify(workspace, ground.trained_on) if verify else left_out
        ended.recorder.log_extra("data_checked_at_start", checked)
        facts = {"a": {"value": ["data_checked_at_start", checked]}, "k": {"value": {}}}
        _write(journal, {"o": "call", "f": "log_extra", **facts})
    ended.pins, ended.ungoverned = ground.datasets, "" if ended.experiment else ground.ungoverned
    told.labels = {item.label: item for item in ground.datasets}
    told.governed, told.reason = not ground.ungoverned, ground.ungoverned
    _write(journal, {"o": "pins", "pins": [i.to_json() for i in ground.datasets], "ungoverned": ended.ungoverned})
    if not told.governed:
        logger.info("cognify: this run is an experiment: %s", told.reason)
        return
    states = {item.run: item.state for place in session.spools for item in spooled(place)} if ended.wanted else {}
    told.version, ended.started_after = claim_version(
        workspace,
        ended.project,
        ended.run,
        opened_by=ended.attribution(reading).launched_by,
        wanted=ended.wanted,
        is_over=lambda run: states.get(run, "live") in ("killed", "waiting", "sealed"),
    )
    _write(journal, {"o": "version", "version": told.version, "started_after": ended.started_after}, sync=True)
    from cognify_dagster.instrument.sdk.judging import gates_before

    told.gate_sets = tuple(gates_before(workspace.read(), ended.project, ended.started_after))


def _say_out_of_reach(session: Session, error: Exception) -> None:
    if not session.problem:
        session.problem = str(error)
        logger.warning(
            "cognify: the ledger cannot be reached (%s). Training goes on; its records wait in the spool until `cognify spool flush`",
            error,
        )


def _write(journal: Journal | None, line: Mapping[str, Any], *, sync: bool = False) -> None:
    if journal is None:
        return
    try:
        journal.write(line, sync=sync)
    except (OSError, SdkError) as error:
        logger.warning("cognify: the spool cannot be written (%s); training goes on", error)


def _verify(workspace: Workspace, datasets: Sequence[BoundDataset]) -> dict[str, str]:
    """Hash the training data as far as they are in reach, and refuse what is not what was recorded."""
    reading = workspace.read()
    said = {}
    for item in datasets:
        found = reading.find(DatasetSnapshot, item.ref.seq)
        assert found is not None
        record = found.record
        if record.data is not None:
            workspace.evidence.verify(record.data.digest)
            said[item.label] = "hashed in the evidence store"
            continue
        if not item.location or not os.path.exists(item.location):
            said[item.label] = "not in reach from this machine"
            continue
        report = verify_snapshot(
            item.location,
            record.header,
            workspace.evidence.get(record.manifest.digest),
            record_hmac_key=workspace.record_key() if record.record_digest_key else None,
        )
        if not report.ok:
            raise DatasetError(
                f"dataset {record.name} (label {item.label!r}): {'; '.join(report.reasons[:3])}. It is not the data of snapshot entry "
                f"{item.ref.seq}; restore it, or take a new snapshot and bind that"
            )
        said[item.label] = "hashed"
    return said


def _code() -> CodeState:
    try:
        return capture_code(script_folder())
    except (TrainingError, OSError) as error:
        return CodeState(vcs="unreadable", reason=str(error)[:500])


def _rerun(run: Run, code: CodeState, size: int) -> None:
    """State how to run the script again, where its command line says it: one process, a file or module of a repository, no secret."""
    words = list(sys.orig_argv[1:])
    plain = [word for word in words if not word.startswith("-")]
    if code.vcs != "git" or size != 1 or not words or len(words) > 200 or tuple(words) != redact_command(words):
        return
    script = next((word for word in plain if word.endswith(".py")), "")
    if not script and words[0] != "-m":
        return
    here = Path.cwd().resolve()
    root = script_folder()
    for _ in Path(code.scope).parts if code.scope != "." else ():
        root = root.parent
    if not here.is_relative_to(root):
        return
    shown = ["python", *(_relative(word, here) for word in words)]
    if any(Path(word).is_absolute() for word in shown):
        return
    try:
        run.set_rerun(shown, folder=here.relative_to(root).as_posix())
    except (SdkError, TrainingError):
        return


def _relative(word: str, here: Path) -> str:
    path = Path(word)
    if path.is_absolute() and path.exists() and path.resolve().is_relative_to(here):
        return path.resolve().relative_to(here).as_posix()
    return word


def _drop(journal: Journal | None, lock: FolderLock | None) -> None:
    """Remove the folder of a run that was refused before it began."""
    from cognify_dagster.instrument.sdk.spool import remove

    if journal is not None:
        remove(journal.folder)
    if lock is not None:
        lock.release()
