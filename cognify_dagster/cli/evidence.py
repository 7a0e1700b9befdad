"""`cognify evidence`: copy a piece of evidence out of the store."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import DIGEST, OUT_FILE, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, say


@click.group(cls=Group, name="evidence")
def command() -> None:
    """Copy evidence out of the store, verified.

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
