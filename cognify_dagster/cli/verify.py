"""`cognify verify`: the offline verifier, on a bundle."""

from __future__ import annotations

from pathlib import Path

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import finish
from cognify_dagster.cli.inputs import json_option


@click.command(cls=Command, name="verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Trust file that reached you apart from the bundle.",
)
@json_option
def command(bundle: Path, trust: Path | None, json_: bool) -> None:
    """Verify an exported bundle. Needs no workspace and no network; it is the same program as the bundle's verify.py.

    Without --trust only internal consistency is checked, and the result is "unproven" (exit code 4).

    \b
    Example:
      cognify verify bundle/ --trust trust.txt
    """
    from cognify_dagster.ledger import offline_verifier

    arguments = ["--json"] if json_ else []
    if trust is not None:
        arguments.append(f"--trust={trust}")
    finish(offline_verifier.main([*arguments, "--", str(bundle)]))
