"""Opens ledger and evidence from `cognify.toml`, appends records, reads them back verified. Knows nothing of policy."""

from cognify_dagster.workspace.beginning import opened_at, openings_of, size_at, started_by, started_of
from cognify_dagster.workspace.config import (
    CONFIG_NAME,
    WorkspaceConfig,
    WorkspaceError,
    find_config,
    load_config,
    review_page,
)
from cognify_dagster.workspace.founding import open_prepared, prepare, publish
from cognify_dagster.workspace.known import unknown_model, unknown_version
from cognify_dagster.workspace.login import os_login
from cognify_dagster.workspace.reading import Reading, Recorded
from cognify_dagster.workspace.resident import Resident, resident
from cognify_dagster.workspace.workspace import (
    Workspace,
    Writer,
    idempotency_key,
    open_signer,
)

__all__ = [
    "CONFIG_NAME",
    "Reading",
    "Recorded",
    "Resident",
    "Workspace",
    "WorkspaceConfig",
    "WorkspaceError",
    "Writer",
    "find_config",
    "idempotency_key",
    "load_config",
    "open_prepared",
    "open_signer",
    "opened_at",
    "openings_of",
    "os_login",
    "prepare",
    "publish",
    "resident",
    "review_page",
    "size_at",
    "started_by",
    "started_of",
    "unknown_model",
    "unknown_version",
]
