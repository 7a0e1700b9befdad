"""Where a workspace keeps what it verified of its ledger: `verified/index.sqlite` beside its keys.

Invariant: the index is believed only with a MAC under a key derived from a secret of the workspace that never enters the ledger;
without that secret nothing is kept and every process verifies all.
"""

from __future__ import annotations

from pathlib import Path

from cognify_dagster.ledger import LedgerUnreadable, Store, read_secret
from cognify_dagster.ledger.verification.index import Index
from cognify_dagster.ledger.verification.indexfile import IndexFile, index_key
from cognify_dagster.workspace.config import WorkspaceConfig

FOLDER = "verified"
FILE = "index.sqlite"


def open_index(config: WorkspaceConfig, store: Store, secret: Path) -> Index:
    """Return the verified index of a workspace's ledger; nothing is read yet.

    Args:
        config: whose `home` holds it.
        store: the ledger's rows.
        secret: the file of 32 random bytes that its key is derived from.
    """
    try:
        key = index_key(read_secret(secret), config.origin)
    except LedgerUnreadable:
        return Index(store)
    return Index(store, file=IndexFile(config.home / FOLDER / FILE, key, config.origin))
