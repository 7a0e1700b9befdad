"""`cognify upgrade`: back up, migrate what needs it, verify."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import finish
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.workspace import Workspace


@click.command(cls=Command, name="upgrade")
@click.option(
    "--backup", "target", type=click.Path(path_type=Path), metavar="PATH",
    help="Where the backup goes.  [default: .cognify/backups/<time>-<entries>]",
)  # fmt: skip
@json_option
@click.pass_context
def command(ctx: click.Context, target: Path | None, json_: bool) -> None:
    """Back the ledger up, bring its storage to this release's form if it needs that, and verify it.

    Entries are never rewritten: their form is fixed. Run it after every upgrade of the package, before the writers start again.
    A ledger that does not verify is neither backed up nor changed.

    \b
    Example:
      cognify upgrade --backup /backup/before-upgrade.sqlite
    """
    from cognify_dagster.cli.ledger.backups import back_up
    from cognify_dagster.cli.ledger.group import Progress
    from cognify_dagster.governance import judge_acts

    workspace = open_workspace(ctx)
    with Progress("Entries verified") as progress:
        before = workspace.ledger.verify(workspace.trust(), acts=judge_acts, progress=progress)
    if before.findings:
        say(f"Error: {clean(before.findings[0])}; nothing was done. Run `cognify ledger verify`", err=True)
        finish(int(before.outcome))
    path = target.expanduser() if target is not None else _default(workspace)
    report = back_up(workspace, path)
    done = _migrate()
    with Progress("Entries verified again") as progress:
        after = workspace.ledger.verify(workspace.trust(), acts=judge_acts, progress=progress)
    if json_:
        as_json(
            {
                "backup": str(report.path),
                "backup_sha256": report.digest,
                "migrated": done,
                "outcome": after.outcome.name.lower(),
                "level": after.level,
                "size": after.size,
            }
        )
    else:
        trial_banner(workspace.read(1).trial)
        say(f"Backed up to {clean(report.path)} ({report.size} entries, verified, SHA-256 {report.digest})")
        say(
            f"Migrated: {', '.join(done)}"
            if done
            else "There is nothing to migrate: the ledger's storage has this release's form"
        )
        say(f"Verified: {after.size} entries, level {after.level}")
    finish(int(after.outcome))


def _default(workspace: Workspace) -> Path:
    folder = workspace.home / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    name = f"{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{workspace.ledger.size()}"
    return folder / (name if workspace.config.ledger_url is not None else f"{name}.sqlite")


def _migrate() -> list[str]:
    """Bring the storage to this release's form. There is one form so far, and a store of another one does not open; what
    can be behind in Postgres are functions and guards, which `cognify ledger init` brings up to date."""
    return []
