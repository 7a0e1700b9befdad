"""`cognify ledger`: one module for each kind of work."""

from cognify_dagster.cli.ledger import (  # noqa: F401
    archives,
    backups,
    entries,
    log_keys,
    losing,
    setup,
    signing,
    verifying,
)
from cognify_dagster.cli.ledger.group import command

__all__ = ["command"]
