"""`cognify spool flush`: brings what waits in a spool into the ledger, oldest run first.

Invariants: a live run is not touched; whatever is wrong with one run is said and keeps none of the others; a run is worked on under its lock, so two flushes at once do not both seal it; its folder goes only
after everything it told of is in the ledger; a damaged journal stays where it is; once the ledger is out of reach nothing further is tried.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.instrument.sdk.errors import JournalDamaged, SdkError, out_of_reach
from cognify_dagster.instrument.sdk.journal import continue_journal
from cognify_dagster.instrument.sdk.outcomes import Outcome
from cognify_dagster.instrument.sdk.replay import ended_of
from cognify_dagster.instrument.sdk.sealing import REFUSALS, Sealed, seal
from cognify_dagster.instrument.sdk.spool import FolderLock, Spooled, remember_seen, remove, spooled, sweep
from cognify_dagster.workspace import Workspace

logger = logging.getLogger("cognify_dagster.sdk")


@dataclass(frozen=True)
class Flushed:
    """What became of one run.

    Attributes:
        run: its id.
        folder: where it lay, or still lies.
        done: whether all of it is in the ledger and its folder is gone.
        outcome: what `complete()` would have returned; None where nothing was sealed.
        text: a sentence about it.
        problem: whether a person has to do something (damaged, refused, or a step that waits).
        stopped: the ledger was out of reach.
    """

    run: str
    folder: Path
    done: bool
    outcome: Outcome | None
    text: str
    problem: bool = False
    stopped: bool = False


def flush(
    workspace: Workspace,
    spools: Sequence[Path],
    *,
    only: Sequence[str] = (),
    dead: Sequence[str] = (),
    progress: Callable[[str], None] = lambda text: None,
) -> list[Flushed]:
    """Seal the runs that wait for this workspace, in the order in which they began.

    Args:
        workspace: where to record.
        spools: folders of runs.
        only: ids of runs; all unless given. A run that named no workspace is sealed only if it is named here.
        dead: ids of runs on other machines that are surely over.
        progress: called with a sentence before each longer step.
    """
    for place in spools:
        sweep(place)
    found = [item for place in spools for item in spooled(place)]
    found.sort(key=lambda item: (item.started, item.run))
    missing = sorted({*only, *dead} - {item.run for item in found})
    if missing:
        raise SdkError(f"no run {missing[0]} lies in {', '.join(map(str, spools))}")
    states = {item.run: item.state for item in found}
    results: list[Flushed] = []
    for item in found:
        if only and item.run not in only and item.run not in dead:
            continue
        done = _apart(
            workspace,
            item,
            lambda run: states.get(run, "live") in ("killed", "waiting", "sealed"),
            progress,
            named=item.run in only,
            dead=item.run in dead,
        )
        results.append(done)
        if done.stopped:
            break
    return results


def _apart(
    workspace: Workspace,
    item: Spooled,
    is_over: Callable[[str], bool],
    progress: Callable[[str], None],
    *,
    named: bool,
    dead: bool,
) -> Flushed:
    """Work on one run; whatever it raises becomes a sentence about it, so that the runs behind it get their turn."""
    try:
        return _not_now(workspace, item, named=named, dead=dead) or _one(workspace, item, is_over, progress)
    except Exception as error:
        if _is_away(workspace, error):
            return Flushed(item.run, item.folder, False, None, f"it waits: {error}", True, stopped=True)
        logger.debug("cognify: run %s could not be recorded", item.run, exc_info=True)
        text = f"it could not be recorded and is kept: {type(error).__name__}: {error}"[:2000]
        return Flushed(item.run, item.folder, False, None, text, True)


def _is_away(workspace: Workspace, error: Exception) -> bool:
    """Whether an error means that the ledger or evidence store is out of reach, and not only a file of the run itself."""
    if not out_of_reach(error):
        return False
    name = error.filename if isinstance(error, OSError) else None
    if isinstance(name, (str, bytes)):
        return Path(os.fsdecode(name)).is_relative_to(workspace.home)
    return True


def _not_now(workspace: Workspace, item: Spooled, *, named: bool, dead: bool) -> Flushed | None:
    def kept(text: str, problem: bool) -> Flushed:
        return Flushed(item.run, item.folder, False, None, text, problem)

    if item.state == "live":
        return kept("it is running, and is not touched", False)
    if item.state in ("damaged", "refused"):
        return kept(item.problem, True)
    if item.state == "foreign" and not dead:
        return kept(item.problem, True)
    if not item.start:  # killed before its first line: it told nothing
        lock = FolderLock(item.folder)
        if lock.take():
            lock.release()
            remove(item.folder)
        return Flushed(
            item.run, item.folder, True, None, "it ended before it told anything; there is nothing to record"
        )
    wanted, path = str(item.start.get("origin", "")), str(item.start.get("workspace", ""))
    if wanted and wanted != workspace.origin:
        return kept(f"it is for the ledger {wanted}; this one is {workspace.origin}", False)
    if not wanted and path and Path(path) != workspace.config.path:
        return kept(f"it is for the workspace {path}", False)
    if not wanted and not path and not named:
        return kept("it names no workspace; name the run to record it in this one", True)
    return None


def _one(
    workspace: Workspace, item: Spooled, is_over: Callable[[str], bool], progress: Callable[[str], None]
) -> Flushed:
    lock = FolderLock(item.folder)
    if not lock.take():
        return Flushed(item.run, item.folder, False, None, "another process is sealing it now", False)
    try:
        again = next((one for one in spooled(item.folder.parent, frozenset({item.run}))), None)
        if again is None:
            return Flushed(item.run, item.folder, True, None, "another process has just sealed it")
        progress(f"{item.run}: reading its journal")
        ended = ended_of(item)
        done = seal(workspace, ended, is_over=is_over, progress=progress)
        keep_sealed(item.folder, done, item)
    except JournalDamaged as error:
        return Flushed(item.run, item.folder, False, None, str(error), True)
    except Exception as error:
        if isinstance(error, REFUSALS):
            return Flushed(item.run, item.folder, False, None, f"refused: {error}", True)
        raise
    finally:
        lock.release()
    remember_seen(item.folder.parent, workspace.origin, workspace.ledger.size())
    if done.waits:
        return Flushed(item.run, item.folder, False, done.outcome, f"{done.outcome}", True)
    return Flushed(item.run, item.folder, True, done.outcome, str(done.outcome))


def keep_sealed(folder: Path, done: Sealed, item: Spooled | None = None) -> None:
    """After sealing: remove the folder, or say in its journal what still waits."""
    if not done.waits:
        remove(folder)
        return
    if item is not None and item.read is not None:
        before = item.last("sealed")
        if before is not None and before.get("waits") == done.waits:
            return
        journal = continue_journal(folder, item.read)
        try:
            journal.write({"o": "sealed", "waits": done.waits}, sync=True)
        finally:
            journal.close()
