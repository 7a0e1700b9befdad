"""Exit codes, and what every error of the rooms below means for a user.

Invariant: a user never sees a traceback unless `COGNIFY_DEBUG=1` asks for one, and a failure never ends with exit code 0.
"""

from __future__ import annotations

import errno
import sys
from typing import NoReturn

import click

OK = 0
TAMPERED = 1
BLOCKED = 1
ROLLED_BACK = 2
UNREADABLE = 3
UNPROVEN = 4
USAGE = 5
INTERRUPTED = 130

DEBUG_VARIABLE = "COGNIFY_DEBUG"

KEPT: list[str] = []
"""Files that the command has written for good, so that a failure after them never claims that nothing was written."""


class Failure(click.ClickException):
    """An error with a code of its own, where the way of calling was not the mistake."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


# Most special class first. Classes are looked up only in modules that are loaded already: an error of a room cannot
# occur before the room was imported, and nothing heavy is imported to report it.
_ROOMS: tuple[tuple[str, str, int], ...] = (
    ("cognify_dagster.ledger.errors", "Tampered", TAMPERED),
    ("cognify_dagster.ledger.errors", "RolledBack", ROLLED_BACK),
    ("cognify_dagster.ledger.errors", "NotWitnessed", UNPROVEN),
    ("cognify_dagster.ledger.errors", "ProofError", UNPROVEN),
    ("cognify_dagster.ledger.errors", "IdempotencyConflict", BLOCKED),
    ("cognify_dagster.ledger.errors", "SizeChanged", BLOCKED),
    ("cognify_dagster.ledger.errors", "LedgerError", UNREADABLE),
    ("cognify_dagster.workspace.config", "WorkspaceError", UNREADABLE),
    ("cognify_dagster.governance.errors", "GovernanceError", BLOCKED),
    ("cognify_dagster.records.base", "RecordError", UNREADABLE),
    ("cognify_dagster.evidence.errors", "EvidenceCorrupt", TAMPERED),
    ("cognify_dagster.evidence.errors", "EvidenceError", UNREADABLE),
    ("cognify_dagster.documents.errors", "DocumentError", BLOCKED),
    ("cognify_dagster.evaluation._errors", "EvaluationError", BLOCKED),
    ("cognify_dagster.datasets.errors", "DatasetError", BLOCKED),
    ("cognify_dagster.training._errors", "TrainingError", BLOCKED),
    ("cognify_dagster.instrument.distributed.errors", "CheckpointError", BLOCKED),
    ("cognify_dagster.instrument.model_signing", "ModelSignatureError", BLOCKED),
    ("cognify_dagster.instrument.sdk.errors", "SdkError", BLOCKED),
    ("cognify_dagster.instrument.trackers.errors", "TrackerUnreachable", UNREADABLE),
    ("cognify_dagster.instrument.trackers.errors", "TrackerError", BLOCKED),
)


def explain(error: Exception) -> tuple[str, int]:
    """Return the text after `Error:` and the exit code for an exception that reached the top."""
    for module, name, code in _ROOMS:
        kind = getattr(sys.modules.get(module), name, None)
        if kind is not None and isinstance(error, kind):
            return _room_text(error), code
    validation = getattr(sys.modules.get("pydantic"), "ValidationError", None)
    if validation is not None and isinstance(error, validation):
        first = error.errors()[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}", USAGE
    if isinstance(error, OSError):
        return _os_text(error), UNREADABLE
    if isinstance(error, ImportError):
        missing = error.name or str(error)
        return f"{missing} cannot be imported; install the extra that this command needs ({error})", UNREADABLE
    if isinstance(error, MemoryError):
        return "not enough memory", UNREADABLE
    text = " ".join(str(error).split()) or "no further text"
    return f"unexpected {type(error).__name__}: {text}. Set {DEBUG_VARIABLE}=1 to see where it happened", UNREADABLE


def _room_text(error: Exception) -> str:
    """One line; a refusal with several reasons gets one line a reason."""
    reasons = getattr(error, "reasons", None)
    if isinstance(reasons, list) and type(error).__name__ == "ErasureRefused":
        lines = "\n".join(f"  - {' '.join(str(reason).split())}" for reason in reasons)
        return f"refused; nothing was destroyed and nothing recorded. Reasons:\n{lines}"
    if isinstance(reasons, list):  # SignOffDenied
        lines = "\n".join(f"  - {' '.join(str(reason).split())}" for reason in reasons)
        return f"refused; the attempt is recorded in the ledger. Reasons:\n{lines}"
    if isinstance(reasons, tuple):  # ReleaseBlocked lays its reasons out itself
        return str(error)
    return " ".join(str(error).split())


def _os_text(error: OSError) -> str:
    where = f"{error.filename}: " if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"{where}the disk is full; nothing half-written was kept. Free space and run the command again"
    return f"{where}{error.strerror or error}"


def finish(code: int) -> NoReturn:
    """End the command with an exit code."""
    raise click.exceptions.Exit(code)
