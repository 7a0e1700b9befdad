"""The `cognify` command. `main` is the entry point; each command's module is imported when it is called."""

from cognify_dagster.cli.app import main

__all__ = ["main"]
