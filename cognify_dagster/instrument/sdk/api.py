"""The four calls of the SDK, and what belongs to the process: the session, the open run, what happens at exit and after a fork.

Invariant: a process has one open run; beginning another ends it as failed, and says so.
"""

from __future__ import annotations

import atexit
import logging
import os
import sys
import threading
from collections.abc import Mapping, Sequence
from typing import Any

from cognify_dagster.instrument.sdk.attaching import attached, attached_run
from cognify_dagster.instrument.sdk.bindings import BoundDataset
from cognify_dagster.instrument.sdk.errors import SdkError, out_of_reach
from cognify_dagster.instrument.sdk.journal import Journal, read_journal
from cognify_dagster.instrument.sdk.outcomes import NotPackaged, Outcome, Packaged, Pending
from cognify_dagster.instrument.sdk.run import Desk, Run
from cognify_dagster.instrument.sdk.session import Session, begin, of_asset
from cognify_dagster.instrument.sdk.spool import FolderLock, Spooled, remember_seen
from cognify_dagster.instrument.sdk.starting import script_folder, start_run
from cognify_dagster.training import capture_environment, prefetch_environment
from cognify_dagster.workspace import Workspace

logger = logging.getLogger("cognify_dagster.sdk")
_guard = threading.RLock()
_session: Session | None = None
_run: Run | None = None
_locks: dict[str, FolderLock] = {}
_sessions: dict[str, Session] = {}


def init(
    workspace_id: str | os.PathLike[str] | None = None,
    project: str | None = None,
    *,
    workspace: str | os.PathLike[str] | Workspace | None = None,
    owner: str = "",
    risk_tier: str = "",
    intended_use: str = "",
    title: str = "",
    frameworks: Sequence[str] = (),
    framework_facts: Mapping[str, Any] | None = None,
    out_of_scope: str = "",
    limitations: str = "",
    failure_modes: str = "",
    protected_attributes: Sequence[str] = (),
) -> Session:
    """Say which workspace and model the runs of this process are for. Inside a Dagster training asset they are the asset's.

    Args:
        workspace_id: the ledger's origin, such as `bank.example/credit`, or the workspace's path. Unless it is a path the workspace is
            found by `workspace`, `$COGNIFY_WORKSPACE`, or from the current folder upward; one with another origin is refused.
        project: the model's key; `$COGNIFY_PROJECT` unless given.
        workspace: the workspace's path, or an opened one.
        owner, risk_tier, intended_use: register the model if the ledger does not know it; all three are needed then. A model that it
            knows stays as it is, whatever stands here.
        title, frameworks, framework_facts, out_of_scope, limitations, failure_modes, protected_attributes: the same, optional.

    Returns:
        What was found. Where the ledger cannot be reached, `problem` says why and records wait in the spool.

    Raises:
        SdkError: an unusable project, or a workspace with another origin.
        WorkspaceError: `cognify.toml` is wrong.
    """
    global _session
    inside = attached()
    if inside is not None:
        return of_asset(workspace_id, project, inside.model, inside.workspace)
    with _guard:
        _end_earlier("cognify.init() was called again before it was complete")
        prefetch_environment()
        definition = {
            "owner": owner,
            "risk_tier": risk_tier,
            "intended_use": intended_use,
            "title": title,
            "frameworks": frameworks,
            "framework_facts": dict(framework_facts or {}),
            "out_of_scope": out_of_scope,
            "limitations": limitations,
            "failure_modes": failure_modes,
            "protected_attributes": protected_attributes,
        }
        _session = begin(workspace_id, project, workspace, definition)
        return _session


def run(
    config: Mapping[str, Any] | None = None,
    *,
    version: str | None = None,
    datasets: Mapping[str, str] | Sequence[str] | None = None,
    experiment: str = "",
    name: str = "",
    verify: bool = True,
) -> Run:
    """Begin a run. Inside a Dagster training asset it is a handle on that asset's run.

    Args:
        config: hyperparameters and settings; values of settings that are named like secrets are replaced.
        version: the model version to train; the next free one unless given.
        datasets: label -> snapshot (or names of training snapshots) instead of the project's bindings.
        experiment: why this is an experiment and no governed run.
        name: a name for people.
        verify: hash training data that are in reach and refuse what is not what was snapshotted.

    Raises:
        SdkError: `init` was not called, the version is taken, or data were never snapshotted.
        DatasetError, GovernanceError: the data changed, or the policy asks for something about them that is not there.
    """
    global _run
    inside = attached()
    if inside is not None:
        handle = attached_run(inside)
        if config is not None:
            handle.log_config(config)
        return handle
    with _guard:
        _end_earlier("cognify.run() was called again before it was complete")
        if _session is None:
            raise SdkError("call cognify.init(workspace_id=…, project=…) before cognify.run()")
        begun, lock = start_run(
            _session,
            Desk(_seal, _over),
            config,
            version=version,
            datasets=datasets,
            experiment=experiment,
            name=name,
            verify=verify,
        )
        if lock is not None:
            _locks[begun.id] = lock
        _sessions[begun.id] = _session
        _run = begun
        return begun


def eval(
    results: Any,
    benchmark_version: str = "",
    *,
    gates: str | None = None,
    n: int | None = None,
    protected_attributes: Sequence[str] = (),
) -> BoundDataset | None:
    """Report the results of an evaluation of the open run; see `Run.eval`.

    Raises:
        SdkError: no run is open.
    """
    found = current_run()
    if found is None:
        raise SdkError("no run is open; call cognify.run() before cognify.eval()")
    return found.eval(results, benchmark_version, gates=gates, n=n, protected_attributes=protected_attributes)


def current_run() -> Run | None:
    """Return the open run of this process, or of the Dagster asset that the calling code belongs to; None if there is none."""
    inside = attached()
    if inside is not None:
        return inside.handle
    return _run


def _end_earlier(reason: str) -> None:
    global _run
    earlier, _run = _run, None
    if earlier is None or earlier.outcome is not None or not earlier.writes:
        return
    logger.warning("cognify: run %s ends as failed: %s", earlier.id, reason)
    earlier.fail(reason)


def _over(done: Run) -> None:
    global _run
    lock = _locks.pop(done.id, None)
    if lock is not None:
        lock.release()
    _sessions.pop(done.id, None)
    if _run is done:
        _run = None


def _seal(done: Run, journal: Journal | None) -> Outcome:
    """Seal an ended run now, or say that it waits in the spool."""
    from cognify_dagster.instrument.sdk.flushing import keep_sealed
    from cognify_dagster.instrument.sdk.sealing import seal  # documents and their libraries: not before they are needed

    session, ended = _session_of(done), done._told.ended
    try:
        workspace = session.reach()
        ended.environment = capture_environment(script_folder())
        found = seal(workspace, ended)
    except Exception as error:
        if not out_of_reach(error):
            raise
        outcome = _waits(done, journal, error)
        logger.warning("cognify: %s", outcome)
        return outcome
    remember_seen(session.spools[0], workspace.origin, workspace.ledger.size())
    if journal is not None:
        journal.close()
        spooled = Spooled(journal.folder, "sealed", read=read_journal(journal.folder)) if found.waits else None
        keep_sealed(journal.folder, found, spooled)
    if isinstance(found.outcome, Packaged):
        logger.info("cognify: %s", found.outcome)
    else:
        logger.warning("cognify: %s", found.outcome)
    return found.outcome


def _waits(done: Run, journal: Journal | None, error: Exception) -> Outcome:
    if journal is None or journal.problem or done._lost:
        where = "there is no spool" if journal is None else f"the spool {journal.folder} could not take all of it"
        return NotPackaged(f"this run is recorded nowhere in full: the ledger cannot be reached ({error}), and {where}")
    gaps = f" ({done._gaps} calls could not be written there, which the record will say)" if done._gaps else ""
    return Pending(f"{error}{gaps}; bring it into the ledger with `cognify spool flush {done.id}`", journal.folder)


def _session_of(done: Run) -> Session:
    found = _sessions.get(done.id, _session)
    assert found is not None
    return found


@atexit.register
def _at_exit() -> None:
    """A run that is still open when the script ends is recorded as failed."""
    left = _run
    if left is None or left.outcome is not None or not left.writes:
        return
    error = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    reason = f"{type(error).__name__}: {error}" if error is not None else "the script ended without run.complete()"
    try:
        left.fail(reason)
    except Exception as problem:
        logger.error("cognify: run %s could not be ended: %s; `cognify spool flush` records it", left.id, problem)


def _after_fork() -> None:
    """A forked child lets go of the parent's locks and has no run of its own."""
    global _run, _session, _guard
    _guard = threading.RLock()
    for lock in _locks.values():
        lock.forget()
    _locks.clear()
    _run = None
    _session = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
