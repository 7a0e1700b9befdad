"""`cognify mlflow`: mirror a run, write back where it stands, compare both stores."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, OK, finish
from cognify_dagster.cli.inputs import MODEL, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.instrument.trackers import Imported
    from cognify_dagster.workspace import Workspace

uri_option = click.option(
    "--tracking-uri", default="", metavar="URI", help="Address of MLflow. Default: $MLFLOW_TRACKING_URI."
)


def record_options(function: Any) -> Any:
    """Add the options that say what a run becomes: `--model`, `--experiment`, `--version`, `--dataset`, `--note`, `--code`."""
    for option in reversed(
        (
            click.option("--model", type=MODEL, help="The governed model that the run is a version of."),
            click.option("--experiment", type=MODEL, metavar="PROJECT", help="Keep it as an experiment instead."),
            click.option("--version", type=VERSION, help="The version; the next free one unless given."),
            click.option(
                "--dataset",
                "datasets",
                multiple=True,
                metavar="NAME[@ENTRY][=ROLE]",
                help="A snapshot that the run used (train, validation, holdout …). Default: the model's bindings.",
            ),
            click.option("--note", default="", help="Why this configuration was chosen."),
            click.option(
                "--code",
                type=click.Path(exists=True, file_okay=False, path_type=Path),
                help="Folder of the training code, at the run's commit: names its authors.",
            ),
        )
    ):
        function = option(function)
    return function


def show_imported(workspace: Workspace, done: Imported, json_: bool) -> None:
    """Say what became of a run."""
    if json_:
        as_json({**dataclasses.asdict(done), "origin": workspace.origin})
        return
    trial_banner(workspace.read().trial)
    what = {
        "training_run": f"Sealed as {done.model} {done.version}",
        "training_failed": f"Recorded as a failed run of {done.model} {done.version}",
        "experiment_run": f"Kept as an experiment of {done.model}",
    }[done.kind]
    heading(f"{what}{' before: nothing was written' if done.again else ''}")
    pairs([("Entry", done.entry), ("Leaf", done.leaf)])
    for note in done.notes:
        say(f"  Note: {clean(note)}")


@click.group(cls=Group, name="mlflow")
def command() -> None:
    """Mirror MLflow runs into the ledger, tag them with where they stand, compare both stores.

    \b
    Example:
      cognify mlflow mirror 4f1c… --tracking-uri http://mlflow:5000 --model credit_default
    """


@command.command("mirror")
@click.argument("run")
@uri_option
@record_options
@click.option(
    "--artifact", default="", metavar="NAME", help="The model, where the run logged several: name, id or path."
)
@json_option
@click.pass_context
def mirror_command(
    ctx: click.Context,
    run: str,
    tracking_uri: str,
    model: str | None,
    experiment: str | None,
    version: str | None,
    datasets: tuple[str, ...],
    note: str,
    code: Path | None,
    artifact: str,
    json_: bool,
) -> None:
    """Seal an MLflow run that has ended as a version of a governed model, with its parameters, curves, tags, artifacts and model.

    The data that MLflow names is kept as its word; which data counts is said by snapshots. The same run again finds its entry.

    \b
    Example:
      cognify mlflow mirror 4f1c… --model credit_default --dataset loans_train --dataset loans_holdout=holdout
      cognify mlflow mirror 4f1c… --experiment credit_default
    """
    from cognify_dagster.instrument.mlflow import mirror

    _one_of(model, experiment)
    workspace = open_workspace(ctx)
    done = mirror(
        run,
        workspace=workspace,
        tracking_uri=_address(tracking_uri),
        model=model or "",
        experiment=experiment or "",
        version=version,
        datasets=datasets,
        artifact=artifact,
        selection_note=note,
        code=code,
    )
    show_imported(workspace, done, json_)


@command.command("sync")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION, required=False)
@uri_option
@click.option("--dry-run", is_flag=True, help="Only say what would be written.")
@json_option
@click.pass_context
def sync_command(
    ctx: click.Context, model: str, version: str | None, tracking_uri: str, dry_run: bool, json_: bool
) -> None:
    """Write where a model's versions stand as tags on their MLflow runs, with entry and leaf to find them in the ledger.

    \b
    Example:
      cognify mlflow sync credit_default
      cognify mlflow sync credit_default 3 --tracking-uri http://mlflow:5000
    """
    from cognify_dagster.instrument.mlflow import sync

    done = sync(
        model, version or "", workspace=open_workspace(ctx), tracking_uri=_address(tracking_uri), dry_run=dry_run
    )
    if json_:
        as_json([dataclasses.asdict(one) for one in done])
        return
    verb = "would be written" if dry_run else "written"
    for one in done:
        heading(f"{one.model} {one.version}, run {one.run}: {len(one.written)} tags {verb}")
        pairs(sorted(one.tags.items()))


@command.command("compare")
@click.argument("run_or_model")
@click.argument("version", type=VERSION, required=False)
@uri_option
@click.option("--no-files", is_flag=True, help="Do not download artifacts and model.")
@click.option("--shared-only", is_flag=True, help="Leave out what only one of the stores holds.")
@json_option
@click.pass_context
def compare_command(
    ctx: click.Context,
    run_or_model: str,
    version: str | None,
    tracking_uri: str,
    no_files: bool,
    shared_only: bool,
    json_: bool,
) -> None:
    """List every difference between a record and its MLflow run, and what was changed in MLflow since the record was sealed.

    Name the run, or the model and version that it became. Exit code 1 on any difference, 3 if MLflow cannot be reached.

    \b
    Example:
      cognify mlflow compare 4f1c… --tracking-uri http://mlflow:5000
      cognify mlflow compare credit_default 3 --json
    """
    from cognify_dagster.instrument.mlflow import compare

    run_id, model = ("", MODEL.convert(run_or_model, None, ctx)) if version else (run_or_model, "")
    found = compare(
        workspace=open_workspace(ctx),
        run_id=run_id,
        model=model,
        version=version or "",
        tracking_uri=_address(tracking_uri),
        files=not no_files,
        shared_only=shared_only,
    )
    if json_:
        as_json({**dataclasses.asdict(found), "equal": found.equal})
        finish(OK if found.equal else BLOCKED)
    heading(f"{found.model} {found.version} (entry {found.entry}) and MLflow run {found.run}".replace("  ", " "))
    if found.differences:
        rows = [
            (one.kind, one.name, one.record or "–", one.sealed or "–", one.now, "yes" if one.edited else "")
            for one in found.differences
        ]
        table(("what", "name", "record", "MLflow at sealing", "MLflow now", "changed since"), rows)
        say(f"{len(rows)} differences" if len(rows) > 1 else "1 difference")
    else:
        say("Both say the same, and MLflow says what it said when the record was sealed.")
    for note in found.notes:
        say(f"  Note: {clean(note)}")
    finish(OK if found.equal else BLOCKED)


def _address(tracking_uri: str) -> str:
    """Return the address of MLflow; there is no default that could be meant."""
    found = tracking_uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not found:
        raise click.UsageError("which MLflow? Give --tracking-uri, or set $MLFLOW_TRACKING_URI")
    return found


def _one_of(model: str | None, experiment: str | None) -> None:
    if bool(model) == bool(experiment):
        raise click.UsageError("give either --model KEY or --experiment PROJECT")
