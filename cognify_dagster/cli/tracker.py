"""`cognify tracker`: runs of other tracking tools, imported without a network."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.mlflow import record_options, show_imported


@click.group(cls=Group, name="tracker")
def command() -> None:
    """Import offline runs of W&B and Comet. MLflow has `cognify mlflow`.

    \b
    Example:
      cognify tracker import wandb wandb/offline-run-20261121_101500-ab12 --experiment credit_default
    """


@command.command("import")
@click.argument("system", type=click.Choice(["wandb", "comet"]))
@click.argument("path", type=click.Path(path_type=Path))
@record_options
@click.option(
    "--model-file",
    type=click.Path(exists=True, path_type=Path),
    help="The model's file or folder. Needed for W&B; for Comet the logged model unless given.",
)
@click.option("--model-name", default="", help="The model, where a Comet experiment logged several.")
@json_option
@click.pass_context
def import_command(
    ctx: click.Context,
    system: str,
    path: Path,
    model: str | None,
    experiment: str | None,
    version: str | None,
    datasets: tuple[str, ...],
    note: str,
    code: Path | None,
    model_file: Path | None,
    model_name: str,
    json_: bool,
) -> None:
    """Import the folder of a W&B offline run, or the archive of a Comet offline experiment.

    \b
    Example:
      cognify tracker import wandb wandb/offline-run-20261121_101500-ab12 --model credit_default --model-file model.pkl
      cognify tracker import comet 5f3b006e.zip --experiment credit_default
    """
    from cognify_dagster.instrument.trackers import import_comet, import_wandb

    if bool(model) == bool(experiment):
        raise click.UsageError("give either --model KEY or --experiment PROJECT")
    if model_name and system != "comet":
        raise click.UsageError("--model-name is for Comet; name a W&B run's model by --model-file")
    workspace = open_workspace(ctx)
    shared: dict[str, Any] = {
        "model": model or "",
        "experiment": experiment or "",
        "version": version,
        "datasets": datasets,
        "model_path": model_file,
        "selection_note": note,
        "code": code,
    }
    if system == "wandb":
        done = import_wandb(workspace, path, **shared)
    else:
        done = import_comet(workspace, path, model_name=model_name, **shared)
    show_imported(workspace, done, json_)
