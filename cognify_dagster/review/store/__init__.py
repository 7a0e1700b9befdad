"""The site's own database (SQLAlchemy Core): credentials, sessions, queues. What counts for a decision is in the ledger, not here."""

import importlib

from cognify_dagster.review.store.database import Store, metadata

_TABLES = (
    "belonging",
    "oidc",
    "accounts",
    "sessions",
    "pending",
    "webhooks",
    "passkeys",
    "invitations",
    "links",
    "throttles",
    "access",
    "tokens",
    "reminders",
)
"""Modules of this package that declare tables."""


def declare_all() -> None:
    """Import every module that declares tables."""
    for name in _TABLES:
        importlib.import_module(f"cognify_dagster.review.store.{name}")


__all__ = ["Store", "declare_all", "metadata"]
