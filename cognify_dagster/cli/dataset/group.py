"""The group `cognify dataset`."""

from __future__ import annotations

import click

from cognify_dagster.cli.app import Group


@click.group(cls=Group, name="dataset")
def command() -> None:
    """Dataset snapshots: take, show, compare, prove, check, approve.

    \b
    Example:
      cognify dataset snapshot data/loans --name loans_train
      cognify dataset diff loans_train
    """
