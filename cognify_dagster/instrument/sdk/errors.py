"""The errors of the SDK, and which errors mean that the ledger is out of reach."""

from __future__ import annotations

import sqlite3

from cognify_dagster.evidence import EvidenceError
from cognify_dagster.ledger import IdempotencyConflict, LedgerError
from cognify_dagster.ledger.errors import EntryError, WriterRefused
from cognify_dagster.workspace import WorkspaceError


class SdkError(ValueError):
    """The SDK was called in a way that cannot be recorded; the message says what to do."""


class JournalDamaged(SdkError):
    """A run's journal contradicts itself; it is kept as it is."""


class OutOfReach(SdkError):
    """Neither ledger nor workspace can be reached now; records wait in the spool."""


_OUTSIDE = ("psycopg", "sqlalchemy", "botocore", "aiobotocore", "s3fs", "obstore")


def out_of_reach(error: BaseException) -> bool:
    """Whether an error means that a ledger or evidence store did not answer or take the write: trying again later makes sense.

    A record that the ledger judged and refused is no such error; a writer that is not enrolled is one, since an admin can enrol it.
    """
    if isinstance(error, WriterRefused):
        return True
    if isinstance(error, (IdempotencyConflict, EntryError)):
        return False
    if isinstance(error, (OSError, LedgerError, EvidenceError, WorkspaceError, OutOfReach, sqlite3.Error)):
        return True
    return type(error).__module__.partition(".")[0] in _OUTSIDE
