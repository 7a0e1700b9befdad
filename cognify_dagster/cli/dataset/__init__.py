"""`cognify dataset`: one module for each kind of work."""

from cognify_dagster.cli.dataset import (
    approving,
    attesting,
    binding,
    comparing,
    overlapping,
    proving,
    showing,
    snapshotting,
)
from cognify_dagster.cli.dataset.group import command

__all__ = [
    "command",
    "approving",
    "attesting",
    "binding",
    "comparing",
    "overlapping",
    "proving",
    "showing",
    "snapshotting",
]
