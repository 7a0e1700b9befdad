"""Opens the ledger's storage that `cognify.toml` names: an SQLite file, or Postgres, with archives of detached segments.

Invariants: a connection string's password never gets into a message; it comes from the environment (`env:NAME`), libpq's own
password file, or the URL itself, in this order of preference.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cognify_dagster.ledger import SqliteStore, Store, TrustFile, write_private
from cognify_dagster.workspace.config import WorkspaceConfig, WorkspaceError

if TYPE_CHECKING:
    from cognify_dagster.ledger.archive.reader import Archive

MANIFEST_KEYS = "archive-keys.json"


def ledger_url(config: WorkspaceConfig) -> str | None:
    """Return the connection string of a ledger in Postgres, None for one in SQLite.

    Raises:
        WorkspaceError: if it is to come from an environment variable that is not set.
    """
    return None if config.ledger_url is None else resolve_url(config.ledger_url, f"{config.path}: ledger")


def resolve_url(text: str, where: str) -> str:
    """Return a connection string, read from the environment where it is given as `env:NAME`.

    Raises:
        WorkspaceError: if the variable is not set.
    """
    if not text.startswith("env:"):
        return text
    name = text.removeprefix("env:")
    value = os.environ.get(name)
    if not value:
        raise WorkspaceError(f"{where} = {text!r}, but the environment variable {name} is not set")
    return value


def open_store(
    config: WorkspaceConfig, trust: TrustFile | None, manifest_keys: Mapping[str, bytes], *, read_only: bool = False
) -> Store:
    """Open the ledger's storage, with the archives of its detached segments.

    Args:
        config: the workspace's configuration.
        trust: its trust file, needed where segments lie in archives.
        manifest_keys: key id -> public key of the workloads whose archives are read.
        read_only: never write.

    Raises:
        WorkspaceError: if the ledger is another one than the configuration says.
        LedgerUnreadable: if it is missing, foreign, damaged or not durable.
    """
    store = open_rows(config, read_only=read_only)
    if not store.segments():
        return store
    from cognify_dagster.ledger.archive.detaching import ArchivedStore

    return ArchivedStore(store, open_archives(config, store, trust, manifest_keys))


def open_rows(config: WorkspaceConfig, *, read_only: bool = False) -> Store:
    """Open the database alone, without archives of detached segments; raises as `open_store`."""
    url = ledger_url(config)
    store: Store
    if url is None:
        store = SqliteStore(config.ledger, read_only=read_only)
    else:
        from cognify_dagster.ledger.postgres.store import PostgresStore

        store = PostgresStore(url, read_only=read_only)
    if store.origin != config.origin:
        where = config.ledger if url is None else "in Postgres"
        raise WorkspaceError(
            f"{config.path}: origin {config.origin!r} is not that of the ledger {where} ({store.origin!r})"
        )
    return store


def open_archives(
    config: WorkspaceConfig, store: Store, trust: TrustFile | None, manifest_keys: Mapping[str, bytes]
) -> list[Archive]:
    """Open, verified, the configured archive folders that hold detached segments of a store."""
    wanted = {segment.start for segment in store.segments()}
    if not config.archives or trust is None or not wanted:
        return []
    from cognify_dagster.ledger.archive.reader import open_archive

    keys = {**known_manifest_keys(config), **manifest_keys}
    opened = [
        open_archive(folder, manifest_keys=keys, log_keys=trust.logs, origin=config.origin)
        for folder in archive_folders(config.archives)
    ]
    manifests = {segment.manifest for segment in store.segments()}
    return [archive for archive in opened if archive.segment.manifest in manifests]


def known_manifest_keys(config: WorkspaceConfig) -> dict[str, bytes]:
    """Return the workload keys that were written down when segments were archived; as trustworthy as the trust file.

    Raises:
        WorkspaceError: if the file is damaged.
    """
    path = config.home / MANIFEST_KEYS
    if not path.exists():
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): base64.b64decode(value, validate=True) for name, value in found.items()}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise WorkspaceError(f"{path}: cannot be read: {error}") from error


def keep_manifest_keys(config: WorkspaceConfig, keys: Mapping[str, bytes]) -> None:
    """Write down the workload keys that sign archives, beside those known: a ledger whose entries lie in an archive cannot
    say with which key to open it."""
    both = {**known_manifest_keys(config), **keys}
    value = {name: base64.b64encode(public).decode() for name, public in sorted(both.items())}
    write_private(config.home / MANIFEST_KEYS, json.dumps(value, indent=1).encode() + b"\n")


def archive_folders(paths: tuple[Path, ...]) -> list[Path]:
    """Return the archives among paths: each itself, or the folders in it that hold a manifest."""
    found: list[Path] = []
    for path in paths:
        if (path / "manifest.json").is_file():
            found.append(path)
        elif path.is_dir():
            found += sorted(inner for inner in path.iterdir() if (inner / "manifest.json").is_file())
    return found
