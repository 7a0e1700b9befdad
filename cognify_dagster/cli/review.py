"""`cognify review`: the review site."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import open_workspace
from cognify_dagster.cli.output import say

if TYPE_CHECKING:
    from cognify_dagster.workspace import Workspace

_PROGRESS_S = 2.0
_MANY = 100_000
"""Entries from which on it takes seconds to judge what all decisions rest on."""


@click.group("review", cls=Group, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> None:
    """The review site: where people read packages and sign, and the REST API.

    Without a command it serves the site, as `cognify review serve` does.

    \b
    Example:
      cognify review
    """
    if ctx.invoked_subcommand is None:
        ctx.invoke(serve)


@command.command("serve")
@click.option(
    "--host", metavar="ADDRESS", help="Where to listen. Default: [review] host in cognify.toml, else 127.0.0.1."
)
@click.option("--port", type=click.IntRange(0, 65535), metavar="PORT", help="Default: [review] port, else 3070.")
@click.option("--url", metavar="URL", help="The address people use. Default: [review] url, else http://localhost:PORT.")
@click.option(
    "--dagster-url", metavar="URL", help="Where Dagster's UI is, for links to runs. Default: [review] dagster_url."
)
@click.pass_context
def serve(
    ctx: click.Context,
    host: str | None = None,
    port: int | None = None,
    url: str | None = None,
    dagster_url: str | None = None,
) -> None:
    """Serve the site until Ctrl-C.

    \b
    Example:
      cognify review serve --port 3070
    """
    try:
        from cognify_dagster.review.config import review_config
        from cognify_dagster.review.errors import ReviewError
        from cognify_dagster.review.server import serve as serve_site
    except ImportError as error:
        raise Failure(
            f"{error.name} is missing; install the extra: pip install 'cognify-dagster[review]'", UNREADABLE
        ) from error
    workspace = open_workspace(ctx)
    config = review_config(workspace.config, host=host, port=port, url=url, dagster_url=dagster_url)
    _verify_first(workspace)
    say(f"Review site of {workspace.origin}: {config.url} (Ctrl-C stops it)")
    try:
        serve_site(workspace, config)
    except ReviewError as error:
        raise Failure(str(error), UNREADABLE) from error
    say("Stopped.")


def _verify_first(workspace: Workspace) -> None:
    """Verify what is new in the ledger and judge what all decisions rest on before the port opens, so that no visitor waits for it; a
    damaged ledger is not served."""
    from cognify_dagster.governance.release.provable import judge_shared

    told = 0.0

    def progress(done: int, total: int) -> None:
        nonlocal told
        if done < total and time.monotonic() - told >= _PROGRESS_S:
            told = time.monotonic()
            say(f"Verifying the ledger: {done} of {total} new entries …")

    workspace.catch_up(progress=progress)
    reading = workspace.read()
    if reading.size > _MANY:
        say("Reading the histories that all decisions rest on …")
    judge_shared(reading)


from cognify_dagster.cli import review_people as _review_people  # noqa: E402  (its commands belong to this group)

_review_people.add_to(command)

from cognify_dagster.cli import review_tokens as _review_tokens  # noqa: E402

_review_tokens.add_to(command)

from cognify_dagster.cli import review_sso as _review_sso  # noqa: E402

_review_sso.add_to(command)
