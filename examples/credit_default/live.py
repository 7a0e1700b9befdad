"""What is live, read from the ledger: the scoring service asks this before it loads a model file."""

from __future__ import annotations

from cognify_dagster.governance import live
from cognify_dagster.workspace import Workspace


def live_digest() -> str:
    """Return the digest of the model that is live in production.

    Raises:
        LookupError: if nothing was released yet.
    """
    found = live(Workspace.open().read(), "credit_default", "production")
    if found is None:
        raise LookupError("no version of credit_default is live in production")
    return found.record.model_digest
