"""Turns what the other rooms refuse into Dagster failures that neither op retries nor run retries repeat.

Errors of the surroundings (a full disk, an unreadable file, a busy ledger) stay ordinary exceptions: a retry may mend them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg

from cognify_dagster.datasets import DatasetError
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.evidence import EvidenceCorrupt, EvidenceKeyErased, EvidenceTooLarge
from cognify_dagster.governance import GovernanceError, ReleaseBlocked
from cognify_dagster.ledger import CanonicalJsonError, IdempotencyConflict, LedgerUnreadable, Tampered
from cognify_dagster.orchestration._compat import forbid_run_retries
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.records import RecordError
from cognify_dagster.training import TrainingError
from cognify_dagster.workspace import WorkspaceError

FINAL = (
    DatasetError,
    TrainingError,
    EvaluationError,
    GovernanceError,
    DocumentError,
    EvidenceCorrupt,
    EvidenceKeyErased,
    EvidenceTooLarge,
    RecordError,
    WorkspaceError,
    UsageError,
    IdempotencyConflict,
    CanonicalJsonError,
    LedgerUnreadable,
    Tampered,
)


@contextmanager
def refuse_on(context: Any, *_: type[Exception]) -> Iterator[None]:
    """Run a governed step; what it refuses ends the run for good, with the message people need."""
    try:
        yield
    except ReleaseBlocked as error:  # an answer and no crash: its reasons once, without the stack trace behind them
        raise refusal(context, error) from None
    except FINAL as error:
        raise refusal(context, error) from error


def refusal(context: Any, error: Exception) -> dg.Failure:
    """Return the failure for a refusal, after telling Dagster not to retry the run."""
    forbid_run_retries(context)
    metadata: dict[str, Any] = {}
    if isinstance(error, ReleaseBlocked):
        metadata = {
            "cognify/refusal_entry": error.seq,
            "cognify/reasons": dg.MetadataValue.md("\n".join(f"- {reason.text}" for reason in error.reasons)),
        }
        if error.page:
            metadata["cognify/review_page"] = dg.MetadataValue.url(error.page)
    return dg.Failure(description=str(error), metadata=metadata, allow_retries=False)
