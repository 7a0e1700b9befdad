"""`cognify verify`: the offline verifier, on a bundle."""

from __future__ import annotations

import hashlib
from pathlib import Path

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import finish
from cognify_dagster.cli.inputs import json_option


def _version(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    """Print the verifier's digest as `sha256sum` does, so that it can be compared with the published one."""
    if not wanted or ctx.resilient_parsing:
        return
    from cognify_dagster.ledger import offline_verifier

    click.echo(f"{hashlib.sha256(Path(offline_verifier.__file__).read_bytes()).hexdigest()}  verify.py")
    ctx.exit()


@click.command(cls=Command, name="verify")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option(
    "--trust",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Trust file that reached you apart from the bundle.",
)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_version,
    help="Print the verifier's SHA-256, which each release publishes.",
)  # fmt: skip
@json_option
def command(bundle: Path, trust: Path | None, json_: bool) -> None:
    """Verify an exported bundle. Needs no workspace and no network; it is the same program as the bundle's verify.py.

    Without --trust only internal consistency is checked, and the result is "unproven" (exit code 4).

    \b
    Example:
      cognify verify bundle/ --trust trust.txt
      cognify verify --version
    """
    from cognify_dagster.ledger import offline_verifier

    arguments = ["--json"] if json_ else []
    if trust is not None:
        arguments.append(f"--trust={trust}")
    finish(offline_verifier.main([*arguments, "--", str(bundle)]))
