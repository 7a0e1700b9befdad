"""`cognify ledger backup`, `dump` and `copy`: whole ledgers, verified before they count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.exits import BLOCKED, KEPT, finish
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.ledger.group import Progress, command
from cognify_dagster.cli.output import as_json, clean, pairs, say

if TYPE_CHECKING:
    from cognify_dagster.ledger import SqliteStore, Store
    from cognify_dagster.ledger.archive.reader import Archive
    from cognify_dagster.ledger.recovery.backup import BackupReport
    from cognify_dagster.ledger.recovery.copying import CopyReport
    from cognify_dagster.workspace import Workspace

TARGET = click.Path(path_type=Path)


@command.command("backup")
@click.argument("target", metavar="PATH", type=TARGET)
@json_option
@click.pass_context
def backup(ctx: click.Context, target: Path, json_: bool) -> None:
    """Back the ledger up into a new file (SQLite) or a new folder (Postgres), and verify the copy.

    Writers may go on. Nothing is overwritten. Keys, trust.txt, cognify.toml, the signer's state and the evidence are backed up
    apart from it; so are archive folders of detached segments.

    \b
    Example:
      cognify ledger backup /backup/credit-2026-11-21.sqlite
    """
    _print(back_up(open_workspace(ctx), target.expanduser()), json_)


def back_up(workspace: Workspace, target: Path) -> BackupReport:
    """Back a workspace's ledger up in the form that its store has."""
    from cognify_dagster.governance import judge_acts
    from cognify_dagster.ledger.recovery.backup import backup_sqlite

    rows, archives = plain(workspace)
    if rows is None:
        return _dump(workspace, target)
    with Progress("Entries of the copy verified") as progress:
        report = backup_sqlite(
            rows, target, trust=workspace.trust(), archives=archives, acts=judge_acts, progress=progress
        )
    KEPT.append(str(target))
    return report


def plain(workspace: Workspace) -> tuple[SqliteStore | None, list[Archive]]:
    """Return the SQLite store without its archives (None: the ledger is in Postgres), and the archives."""
    from cognify_dagster.ledger import SqliteStore
    from cognify_dagster.workspace.stores import open_archives

    writer = workspace.writer
    keys = {writer.key_id: writer.public} if writer else {}
    archives = open_archives(workspace.config, workspace.ledger.store, workspace.trust(), keys)
    if workspace.config.ledger_url is not None:
        return None, archives
    return SqliteStore(workspace.config.ledger, read_only=True), archives


@command.command("dump")
@click.argument("target", metavar="DIR", type=TARGET)
@json_option
@click.pass_context
def dump(ctx: click.Context, target: Path, json_: bool) -> None:
    """Write the whole ledger into a new folder of static files that any store can be filled from.

    The list and the manifests in it are signed by the workload key. Nothing is taken out of the database.

    \b
    Example:
      cognify ledger dump /backup/credit-2026-11-21
    """
    _print(_dump(open_workspace(ctx), target.expanduser()), json_)


def _dump(workspace: Workspace, target: Path) -> BackupReport:
    from cognify_dagster.governance import manifest_keys, manifest_signer
    from cognify_dagster.ledger.recovery.dump import dump_ledger
    from cognify_dagster.workspace.stores import keep_manifest_keys

    keep_manifest_keys(workspace.config, manifest_keys(workspace.read()))
    signer = manifest_signer(workspace)
    with Progress("Entries written") as progress:
        report = dump_ledger(
            workspace.ledger.store, target, signer=signer, log_keys=workspace.trust().logs, progress=progress
        )
    KEPT.append(str(target))
    return report


def _print(report: BackupReport, json_: bool) -> None:
    if json_:
        as_json(
            {
                "path": str(report.path),
                "origin": report.origin,
                "size": report.size,
                "root": report.root.hex(),
                "sha256": report.digest,
            }
        )
        return
    say(f"{clean(report.path)}: {report.size} entries, verified")
    pairs([("Ledger", report.origin), ("Root", report.root.hex()), ("SHA-256", report.digest)])
    say("Prove it from time to time: `cognify ledger restore` it to another place (--to).")


@command.command("copy")
@click.option(
    "--to", "target", required=True, metavar="URL|FILE", help="An empty Postgres ledger, or a new SQLite file."
)
@json_option
@click.pass_context
def copy(ctx: click.Context, target: str, json_: bool) -> None:
    """Copy the ledger into an empty store, every byte and proof intact, and compare the two.

    Stop all writers first. A Postgres target (URL or env:NAME) was made by `cognify ledger init` with the same origin; the
    login needs the role archivist. Exit code 1 if the source grew meanwhile: the copy must not be used then.

    \b
    Example:
      cognify ledger copy --to env:COGNIFY_LEDGER_URL
      cognify ledger copy --to /srv/new/ledger.sqlite
    """
    from cognify_dagster.ledger.recovery.copying import copy_ledger

    workspace = open_workspace(ctx)
    store, file = open_target(target, workspace.origin)
    try:
        with Progress("Entries copied and compared") as progress:
            report = copy_ledger(workspace.ledger.store, store, progress)
    except BaseException:
        discard(file)
        raise
    if not report.complete:
        discard(file)
    _print_copy(report, target, file, json_)
    finish(0 if report.complete else BLOCKED)


def open_target(target: str, origin: str) -> tuple[Store, Path | None]:
    """Open an empty store: Postgres of a URL, or a new SQLite file, whose path is returned too."""
    from cognify_dagster.ledger import SqliteStore
    from cognify_dagster.workspace.stores import resolve_url

    if target.startswith(("env:", "postgresql://", "postgres://")):
        from cognify_dagster.ledger.postgres.store import PostgresStore

        return PostgresStore(resolve_url(target, "--to"), origin), None
    file = Path(target).expanduser()
    return SqliteStore.create(file, origin), file


def discard(file: Path | None) -> None:
    """Remove a SQLite file that this command made and that must not be used."""
    if file is not None:
        for suffix in ("", "-journal", "-wal", "-shm"):
            file.with_name(file.name + suffix).unlink(missing_ok=True)


def _print_copy(report: CopyReport, target: str, file: Path | None, json_: bool) -> None:
    if json_:
        as_json(
            {
                "origin": report.origin,
                "size": report.size,
                "root": report.root.hex(),
                "checkpoints": report.checkpoints,
                "proofs_compared": report.proofs,
                "complete": report.complete,
            }
        )
        return
    say(
        f"{report.size} entries and {report.checkpoints} checkpoints copied and compared, {report.proofs} proofs, same root"
    )
    if not report.complete:
        say(
            f"NOT complete: the source has {report.source_size} entries by now. Stop all writers, empty the target, copy again."
        )
        return
    value = (
        str(file.absolute()) if file is not None else target if target.startswith("env:") else "env:COGNIFY_LEDGER_URL"
    )
    say("To use it, set in cognify.toml under [workspace]:")
    say(f'  ledger = "{clean(value)}"')
    say("then run `cognify ledger verify`, and keep the old ledger closed: two that are written to are a fork.")
