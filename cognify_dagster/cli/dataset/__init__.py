"""`cognify dataset`: one module for each kind of work."""

from cognify_dagster.cli.dataset.group import command

__all__ = ["command"]
