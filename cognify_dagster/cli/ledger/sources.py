"""Backups as they are named on the command line: a copy of the SQLite file, a folder of a dump, an archive folder; and the
workspace of a ledger that does not open any more."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.ledger.group import Progress

if TYPE_CHECKING:
    from cognify_dagster.ledger import Checkpoint, SqliteStore, TrustFile
    from cognify_dagster.ledger.archive.format import Source
    from cognify_dagster.ledger.archive.reader import Archive
    from cognify_dagster.ledger.recovery.dump import Dump
    from cognify_dagster.workspace import WorkspaceConfig


@dataclass
class Lost:
    """What a workspace still knows when its ledger is gone: configuration, trust file, keys of archives."""

    config: WorkspaceConfig
    trust: TrustFile
    keys: dict[str, bytes]

    @property
    def signer_head(self) -> Checkpoint | None:
        """The head that the signer here signed last, None if there is no signer here."""
        from cognify_dagster.ledger.verification.state import StateFile
        from cognify_dagster.workspace.workspace import SIGNER_STATE

        return StateFile(self.config.home / SIGNER_STATE).checkpoint()

    @property
    def mark(self) -> Path:
        """Where a rollback of the workspace's ledger is marked."""
        from cognify_dagster.ledger.recovery.rollback import mark_path

        return mark_path(self.config.ledger)


def lost_workspace(ctx: click.Context) -> Lost:
    """Read what the workspace says without opening its ledger."""
    from cognify_dagster.cli.inputs import load_trust
    from cognify_dagster.ledger import read_secret
    from cognify_dagster.workspace import Writer, find_config, load_config
    from cognify_dagster.workspace.stores import known_manifest_keys
    from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE, WORKLOAD_KEY

    given = (ctx.obj or {}).get("workspace")
    config = load_config(find_config(given or os.environ.get(ENVIRONMENT_VARIABLE) or "."))
    if not config.trust.is_file():
        raise Failure(
            f"{config.trust}: the trust file is needed; bring it back from where it was kept apart", UNREADABLE
        )
    keys = known_manifest_keys(config)
    if (config.keys / WORKLOAD_KEY).exists():
        writer = Writer(config.workload, read_secret(config.keys / WORKLOAD_KEY))
        keys[writer.key_id] = writer.public
    return Lost(config, load_trust(config.trust), keys)


@dataclass
class Backup:
    """An opened backup: entries [start, size)."""

    path: Path
    source: Source
    start: int
    size: int
    digest: str
    notes: tuple[tuple[int, str], ...]
    sqlite: SqliteStore | None = None


def open_backup(path: Path, lost: Lost, archives: Sequence[Archive] = ()) -> Backup:
    """Open and verify what PATH is.

    Raises:
        Failure: if it is none of them.
    """
    from cognify_dagster.ledger.archive.reader import open_archive
    from cognify_dagster.ledger.recovery.dump import LIST, open_dump

    known: dict[str, Any] = {"manifest_keys": lost.keys, "log_keys": lost.trust.logs, "origin": lost.config.origin}
    if (path / LIST).is_file():
        with Progress("Entries of the backup verified") as progress:
            dump: Dump = open_dump(path, progress=progress, **known)
        return Backup(path, dump, 0, dump.size, dump.digest, dump.notes)
    if (path / "manifest.json").is_file():
        archive = open_archive(path, **known)
        note = archive.checkpoint_note
        notes = ((archive.checkpoint.size, note),) if archive.checkpoint is not None and note is not None else ()
        return Backup(path, archive, archive.start, archive.end, archive.manifest, notes)
    if path.is_file():
        return _file(path, lost, archives)
    raise Failure(f"{path}: neither a backup file nor a folder of `cognify ledger dump` or `archive`", UNREADABLE)


def _file(path: Path, lost: Lost, archives: Sequence[Archive]) -> Backup:
    from cognify_dagster.ledger import LedgerUnreadable, SqliteStore
    from cognify_dagster.ledger.archive.detaching import ArchivedStore
    from cognify_dagster.ledger.recovery.backup import _digest

    store = SqliteStore(path, read_only=True)
    if store.origin != lost.config.origin:
        raise LedgerUnreadable(f"{path}: this is the ledger {store.origin!r}, not {lost.config.origin!r}")
    source = ArchivedStore(store, archives) if archives else store
    return Backup(path, source, 0, store.size(), _digest(path), tuple(store.checkpoints()), store)
