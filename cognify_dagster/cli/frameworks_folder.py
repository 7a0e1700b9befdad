"""Where the organisation's own framework files lie: `--folder`, or the setting `frameworks` of cognify.toml."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click


def own_folder(ctx: click.Context, folder: Path | None) -> Path | None:
    """Return the folder of the user's own frameworks: the one that was given, else that of the workspace; None if there is none.

    Only the workspace's settings are read, never its ledger. Outside of any workspace there is simply no folder, unless the
    command or the environment names a workspace.

    Raises:
        WorkspaceError: if the workspace that is named is not there, or its settings cannot be read.
        FrameworkError: if the folder is not there.
    """
    from cognify_dagster.documents.frameworks.loading import framework_folders
    from cognify_dagster.workspace import WorkspaceError, find_config
    from cognify_dagster.workspace.config import load_config
    from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE

    if folder is None:
        named = (ctx.obj or {}).get("workspace") or os.environ.get(ENVIRONMENT_VARIABLE)
        try:
            path = find_config(named or ".")
        except WorkspaceError:
            if named:
                raise
            return None
        folder = load_config(path).frameworks
    framework_folders(folder)
    return folder


def folder_option(function: Any) -> Any:
    """Add the option `--folder`."""
    return click.option(
        "--folder",
        type=click.Path(exists=True, file_okay=False, path_type=Path),
        help="Folder of your own frameworks.  [default: the workspace's setting `frameworks`]",
    )(function)
