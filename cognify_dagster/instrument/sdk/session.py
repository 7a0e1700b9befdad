"""`cognify.init`: which workspace and model the runs of this process are for, and whether the ledger can be reached.

Invariants: a workspace with another origin than the one asked for is refused, before anything is written; a ledger that does not answer
never stops a script, which is told so once.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.sdk.errors import OutOfReach, SdkError, out_of_reach
from cognify_dagster.instrument.sdk.grounds import register_if_new
from cognify_dagster.instrument.sdk.spool import last_seen, places, remember_seen, spooled
from cognify_dagster.records import ModelRegistered
from cognify_dagster.records.base import build
from cognify_dagster.training.reproducing import SCRATCH_ORIGIN, SCRATCH_VARIABLE
from cognify_dagster.workspace import (
    CONFIG_NAME,
    Workspace,
    WorkspaceConfig,
    WorkspaceError,
    find_config,
    load_config,
)

logger = logging.getLogger("cognify_dagster.sdk")
WORKSPACE_VARIABLE = "COGNIFY_WORKSPACE"
PROJECT_VARIABLE = "COGNIFY_PROJECT"
_PROJECT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,79}")


@dataclass
class Session:
    """What `init` found.

    Attributes:
        project: the model's key.
        origin: the ledger's origin; empty where neither the call nor a configuration says it.
        config: the workspace's configuration; None where none is in reach.
        definition: the model's definition, where `init` got one.
        problem: why the ledger cannot be reached; empty where it can.
    """

    project: str
    origin: str = ""
    config: WorkspaceConfig | None = None
    definition: ModelRegistered | None = None
    problem: str = ""
    path: Path | None = None
    _workspace: Workspace | None = field(default=None, repr=False)

    @property
    def spools(self) -> list[Path]:
        """The spools that there may be, the one to write to first."""
        return places(self.config.home if self.config is not None else None)

    def reach(self) -> Workspace:
        """Return the opened workspace, opened now if it could not be before.

        Raises:
            OutOfReach: no workspace is in reach.
            LedgerError, WorkspaceError, OSError: it cannot be opened.
        """
        if self._workspace is None:
            if self.config is None:
                if self.path is None:
                    raise OutOfReach(self.problem or "no workspace is in reach")
                self.config = load_config(find_config(self.path))
            opened = Workspace.of(self.config)
            _same_origin(self.origin, opened.origin, self.config.path)
            self._workspace = opened
        self._workspace.ledger.size()
        self.origin = self._workspace.origin
        self.problem = ""
        return self._workspace

    def seen(self) -> int:
        """Return how many entries of the ledger this machine has really seen."""
        return max((last_seen(place, self.origin) for place in self.spools), default=0) if self.origin else 0


def begin(
    workspace_id: str | os.PathLike[str] | None,
    project: str | None,
    workspace: str | os.PathLike[str] | Workspace | None,
    definition: Mapping[str, Any],
) -> Session:
    """Find the workspace and the model; see `cognify_dagster.sdk.init`."""
    project = project or os.environ.get(PROJECT_VARIABLE) or ""
    if not _PROJECT.fullmatch(project):
        raise SdkError(
            f"project {project[:80]!r}: expected the key of a model: a letter, then letters, digits and '_' (at most 80). Say it with "
            f"init(project=…) or ${PROJECT_VARIABLE}"
        )
    session = Session(project, definition=_definition(project, definition))
    scratch = os.environ.get(SCRATCH_VARIABLE)
    if scratch:  # a re-run by `cognify reproduce`: whichever ledger the script names, it writes to the scratch one
        workspace_id, workspace = None, scratch
    if isinstance(workspace, Workspace):
        session.config, session._workspace = workspace.config, workspace
        _same_origin(_as_origin(workspace_id), workspace.origin, workspace.config.path)
    else:
        _find(session, workspace_id, workspace)
    if scratch and not session.origin.startswith(SCRATCH_ORIGIN):
        raise SdkError(f"${SCRATCH_VARIABLE} names no scratch workspace of `cognify reproduce`; unset it")
    try:
        opened = session.reach()
        register_if_new(opened, session.definition)
        remember_seen(session.spools[0], opened.origin, opened.ledger.size())
    except Exception as error:
        if not out_of_reach(error):
            raise
        session.problem = session.problem or str(error)
        logger.warning(
            "cognify: the ledger cannot be reached (%s). Training goes on; its records wait in %s until `cognify spool flush`",
            session.problem,
            session.spools[0],
        )
    else:
        _mention_waiting(session)
    return session


def of_asset(
    workspace_id: str | os.PathLike[str] | None, project: str | None, model: str, workspace: Workspace
) -> Session:
    """Return the session of code inside a training asset: the asset's model and workspace.

    Raises:
        SdkError: the code asks for another project or ledger.
    """
    if project and project != model:
        raise SdkError(f"project {project[:80]!r}: this code runs inside an asset that trains {model}")
    _same_origin(_as_origin(workspace_id), workspace.origin, workspace.config.path)
    return Session(model, workspace.origin, workspace.config, _workspace=workspace)


def _find(session: Session, workspace_id: Any, workspace: Any) -> None:
    place = workspace
    if place is None and workspace_id is not None and _as_origin(workspace_id) == "":
        place = workspace_id
    session.origin = _as_origin(workspace_id)
    start = place or os.environ.get(WORKSPACE_VARIABLE) or "."
    session.path = Path(start).expanduser().absolute()
    try:
        path = find_config(session.path)
    except (WorkspaceError, OSError) as error:
        session.problem = str(error)
        return
    session.config = load_config(path)
    _same_origin(session.origin, session.config.origin, path)
    session.origin = session.config.origin


def _as_origin(workspace_id: Any) -> str:
    """The origin that an id says; empty for a path."""
    if workspace_id is None or isinstance(workspace_id, os.PathLike):
        return ""
    text = str(workspace_id)
    if not text or text.startswith(("/", "./", "../", "~")) or text in (".", "..") or text.endswith(CONFIG_NAME):
        return ""
    return (
        ""
        if (Path(text) / CONFIG_NAME).is_file() or ((Path(text).parent / CONFIG_NAME).is_file() and Path(text).is_dir())
        else text
    )


def _same_origin(wanted: str, found: str, path: Path) -> None:
    if wanted and wanted != found:
        raise SdkError(
            f"{path}: this workspace's ledger is {found!r}, but workspace_id={wanted!r} was asked for. Say where that one is with "
            f"init(workspace=PATH) or ${WORKSPACE_VARIABLE}"
        )


def _definition(project: str, given: Mapping[str, Any]) -> ModelRegistered | None:
    stated = {key: value for key, value in given.items() if value not in (None, "", (), [], {})}
    if not stated:
        return None
    missing = [name for name in ("owner", "risk_tier", "intended_use") if name not in stated]
    if missing:
        raise SdkError(f"init: to register {project} say also {', '.join(missing)}")
    for key, value in stated.items():
        if isinstance(value, Sequence) and not isinstance(value, str):
            stated[key] = tuple(value)
    return build(ModelRegistered, {"model": project, **stated})


def _mention_waiting(session: Session) -> None:
    waiting = [item.run for place in session.spools for item in spooled(place) if item.state in ("waiting", "killed")]
    if waiting:
        logger.info("cognify: %d earlier runs wait in the spool; `cognify spool flush` records them", len(waiting))
