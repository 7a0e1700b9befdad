"""`cognify evidence`: copy a piece of evidence out of the store; collect what no entry names."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, OK, finish
from cognify_dagster.cli.inputs import DIGEST, OUT_FILE, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, say


@click.group(cls=Group, name="evidence")
def command() -> None:
    """Copy evidence out of the store, verified; collect garbage.

    \b
    Example:
      cognify evidence get sha256:… -o review.pdf
    """


@command.command("get")
@click.argument("digest", type=DIGEST)
@click.option(
    "-o",
    "--out",
    type=OUT_FILE,
    required=True,
    metavar="FILE",
    help="Where to write it (mode 0600); never overwritten.",
)
@json_option
@click.pass_context
def get(ctx: click.Context, digest: str, out: Path, json_: bool) -> None:
    """Write the content of a blob to a file, after checking it against its digest.

    \b
    Example:
      cognify evidence get sha256:9f86d081…0a08 -o review.pdf
    """
    if out.exists():
        raise click.UsageError(f"{out}: there is already a file; it is not overwritten")
    workspace = open_workspace(ctx)
    path = workspace.evidence.copy_to(digest, out)
    if json_:
        as_json({"digest": digest, "file": str(path), "size": path.stat().st_size})
        return
    say(f"{clean(path)}: {path.stat().st_size} bytes, {digest} (verified)")


@command.command("collect")
@click.option("--dry-run", is_flag=True, help="Change nothing; say what would be done.")
@click.option(
    "--grace-days",
    type=click.FloatRange(1),
    default=30.0,
    show_default=True,
    help="Longer than the longest run: what nobody names waits so long, twice.",
)
@json_option
@click.pass_context
def collect_(ctx: click.Context, dry_run: bool, grace_days: float, json_: bool) -> None:
    """Collect evidence that no ledger entry names, left behind by runs that were killed or refused.

    It is moved to trash/ after the grace period and removed after another one; what an entry names or a legal hold covers stays.
    The whole ledger is verified before and after. Run it every day or week. Exit code 1 if something could not be removed.

    \b
    Example:
      cognify evidence collect --dry-run
    """
    from cognify_dagster.evidence.collection import collect
    from cognify_dagster.governance import evidence_marks

    workspace = open_workspace(ctx)
    found = collect(
        workspace.evidence, lambda: evidence_marks(workspace.read()), grace_s=grace_days * 86_400, dry_run=dry_run
    )
    if json_:
        as_json(
            {
                "dry_run": dry_run,
                "moved": list(found.moved),
                "removed": list(found.removed),
                "restored": list(found.restored),
                "kept": found.kept,
                "frozen": found.frozen,
                "failed": list(found.failed),
            }
        )
    else:
        would = "would be " if dry_run else ""
        for what, digests in (
            ("moved to trash", found.moved),
            ("removed", found.removed),
            ("brought back", found.restored),
        ):
            for digest in digests:
                say(f"{digest}: {would}{what}")
        say(
            f"{would}moved {len(found.moved)}, removed {len(found.removed)}, brought back {len(found.restored)}; "
            f"{found.kept} stay"
        )
        if found.frozen:
            say(f"Nothing is removed: {clean(found.frozen)}")
        for text in found.failed:
            say(f"Failed: {clean(text)}", err=True)
    finish(BLOCKED if found.failed else OK)
