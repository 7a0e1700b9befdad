"""`cognify evaluation`: what was measured of a version, against which champion, why a decision came out so; results from files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.evaluation_show import comparison_table, show_explanation, show_record
from cognify_dagster.cli.exits import BLOCKED
from cognify_dagster.cli.frameworks_folder import folder_option, own_folder
from cognify_dagster.cli.inputs import IN_FILE, MODEL, NAME, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, say, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.records import Evaluation
    from cognify_dagster.workspace import Reading, Recorded


@click.group(cls=Group, name="evaluation")
def command() -> None:
    """Record, show, compare and import evaluations; explain a decision.

    \b
    Example:
      cognify evaluation show credit_default 3
    """


def _newest(reading: Reading, model: str, version: str) -> Recorded[Evaluation]:
    from cognify_dagster.records import Evaluation
    from cognify_dagster.workspace import unknown_version

    found = reading.latest(Evaluation, f"model/{model}@{version}")
    if found is None:
        raise click.ClickException(
            unknown_version(reading, model, version) or f"{model} {version} has no evaluation yet"
        )
    return found


@command.command("show")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@json_option
@click.pass_context
def show(ctx: click.Context, model: str, version: str, json_: bool) -> None:
    """Show the newest evaluation of a version.

    \b
    Example:
      cognify evaluation show credit_default 3
      cognify evaluation show credit_default 3 --json
    """
    reading = open_workspace(ctx).read()
    found = _newest(reading, model, version)
    record = found.record
    if json_:
        worst = record.worst_site
        as_json(
            {
                "entry": found.seq,
                "leaf": found.leaf,
                "trial": reading.trial,
                "worst_site": worst.model_dump(mode="json") if worst else None,
                "unmapped": list(record.unmapped),
                "evaluation": record.facts(),
            }
        )
        return
    trial_banner(reading.trial)
    show_record(reading, found)


@command.command("compare")
@click.argument("model", type=MODEL)
@click.argument("champion", type=VERSION)
@click.argument("challenger", type=VERSION)
@click.option("--champion-model", type=MODEL, help="Key of the champion's model, where it is another one.")
@click.option("--metric", "metrics", multiple=True, metavar="NAME", help="Only this metric; repeatable.")
@click.option("--replicates", type=click.IntRange(20, 100_000), default=1000, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@json_option
@click.pass_context
def compare(
    ctx: click.Context,
    model: str,
    champion: str,
    challenger: str,
    champion_model: str | None,
    metrics: tuple[str, ...],
    replicates: int,
    seed: int,
    json_: bool,
) -> None:
    """Compare the newest evaluations of two versions on the same snapshot. Writes nothing.

    \b
    Example:
      cognify evaluation compare credit_default 2 3
      cognify evaluation compare credit_default 2 3 --metric auc --json
    """
    from cognify_dagster.evaluation import compare_evaluations

    workspace = open_workspace(ctx)
    found = compare_evaluations(
        workspace,
        model,
        champion,
        challenger,
        champion_model=champion_model,
        metrics=metrics,
        n_boot=replicates,
        seed=seed,
    )
    if json_:
        as_json(found.model_dump(mode="json"))
        return
    trial_banner(workspace.read().trial)
    comparison_table(found)


@command.command("explain")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--decision", required=True, metavar="ID", help="The decision's id, such as that of the prediction.")
@click.option("--method", metavar="NAME", help="Only explanations made by this method.")
@click.option("--top", type=click.IntRange(1), default=20, show_default=True, help="How many contributions to print.")
@json_option
@click.pass_context
def explain(
    ctx: click.Context, model: str, version: str, decision: str, method: str | None, top: int, json_: bool
) -> None:
    """Show what moved one decision, from evidence whose digest is checked first.

    \b
    Example:
      cognify evaluation explain credit_default 3 --decision 10342
    """
    from dataclasses import asdict

    from cognify_dagster.evaluation import find_explanation

    workspace = open_workspace(ctx)
    reading = workspace.read()
    found = find_explanation(workspace, _newest(reading, model, version), decision, method=method)
    if json_:
        as_json({**asdict(found), "item": found.item.model_dump(mode="json")})
        return
    trial_banner(reading.trial)
    show_explanation(found, top)


@command.command("record")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--dataset", required=True, metavar="NAME[@ENTRY]", help="Snapshot that the version was evaluated on.")
@click.option("--results", required=True, type=IN_FILE, help="JSON file: names to numbers.")
@click.option("--gates", type=NAME, help="Gate set that judges; the model's only one by default.")
@click.option("--protected", multiple=True, metavar="NAME", help="Protected attribute that was evaluated; repeatable.")
@click.option("--n", type=click.IntRange(1), help="Records evaluated; the snapshot's number by default.")
@click.option(
    "--model-path",
    type=click.Path(exists=True, path_type=Path),
    help="Model file or folder that was evaluated; it has to be the sealed one.",
)
@click.option(
    "--code",
    type=click.Path(exists=True, path_type=Path),
    help="Folder of the evaluation's code; the workspace's by default.",
)
@json_option
@click.pass_context
def record_(
    ctx: click.Context,
    model: str,
    version: str,
    dataset: str,
    results: Path,
    gates: str | None,
    protected: tuple[str, ...],
    n: int | None,
    model_path: Path | None,
    code: Path | None,
    json_: bool,
) -> None:
    """Record results from a JSON file as an evaluation of a sealed version, whichever tool trained it.

    The file holds names and numbers, or objects with value, ci_low, ci_high, stderr, n, unit, higher_is_better, objective. It is kept as
    evidence. Training and evaluation data that were never compared are compared first. The newest evaluation of a version counts.
    Ends with 1 where a gate does not pass (the evaluation is recorded all the same).

    \b
    Example:
      echo '{"auc": {"value": 0.81, "ci_low": 0.79, "ci_high": 0.83}}' > results.json
      cognify evaluation record credit_default 3 --dataset loans_holdout --results results.json
    """
    from cognify_dagster.instrument.results_file import record_results_file

    workspace = open_workspace(ctx)
    done = record_results_file(
        results,
        workspace=workspace,
        model=model,
        version=version,
        dataset=dataset,
        gate_set=gates,
        n=n,
        protected_attributes=protected,
        model_path=model_path,
        code=code,
    )
    if json_:
        as_json(
            {
                "entry": done.seq,
                "run": done.run,
                "passed": done.passed,
                "model_compared": done.model_compared,
                "overlap_checks": list(done.overlaps),
                "outcomes": [item.model_dump(mode="json") for item in done.outcomes],
            }
        )
    else:
        reading = workspace.read()
        trial_banner(reading.trial)
        show_record(reading, _newest(reading, model, version))
        heading(f"Recorded as entry {done.seq}")
        for seq in done.overlaps:
            say(f"Training and evaluation data were compared for it: entry {seq}.")
        if not done.model_compared:
            say("That the results are of the sealed model is your word; --model-path compares the files.")
    if not done.passed:
        ctx.exit(BLOCKED)


@command.command("import-lm-eval")
@click.argument("results", nargs=-1, required=True, type=IN_FILE)
@click.option("--model", type=MODEL, required=True)
@click.option("--version", type=VERSION, required=True)
@click.option("--dataset", required=True, metavar="SNAPSHOT", help="Snapshot that holds the benchmark's questions.")
@click.option("--gates", type=NAME, help="Gate set that judges; the model's only one by default.")
@click.option("--task", "tasks", multiple=True, metavar="NAME", help="Only this task or group; repeatable.")
@click.option("--samples", multiple=True, type=IN_FILE, help="File of samples; those beside the results by default.")
@click.option("--no-samples", is_flag=True, help="Keep no samples.")
@click.option(
    "--model-path",
    type=click.Path(exists=True, path_type=Path),
    help="Model file or folder that the harness ran; it has to be the sealed one.",
)
@click.option("--protected", multiple=True, metavar="NAME", help="Protected attribute that was evaluated; repeatable.")
@folder_option
@json_option
@click.pass_context
def import_lm_eval(
    ctx: click.Context,
    results: tuple[Path, ...],
    model: str,
    version: str,
    dataset: str,
    gates: str | None,
    tasks: tuple[str, ...],
    samples: tuple[Path, ...],
    no_samples: bool,
    model_path: Path | None,
    protected: tuple[str, ...],
    folder: Path | None,
    json_: bool,
) -> None:
    """Record results of the lm-evaluation-harness as an evaluation of a sealed version.

    The newest evaluation of a version counts: give all results files at once. Gates name a metric as task.metric.

    \b
    Example:
      cognify evaluation import-lm-eval results_2026-11-21.json --model assistant --version 3 --dataset benchmarks
    """
    from cognify_dagster.instrument.lm_eval import import_lm_eval as run_import

    if samples and no_samples:
        raise click.UsageError("--samples and --no-samples contradict each other")
    workspace = open_workspace(ctx)
    done = run_import(
        results,
        workspace=workspace,
        model=model,
        version=version,
        dataset=dataset,
        samples=() if no_samples else samples or None,
        tasks=tasks,
        gate_set=gates,
        model_path=model_path,
        protected_attributes=protected,
        objectives_folder=own_folder(ctx, folder),
    )
    if json_:
        value: dict[str, Any] = {
            "entry": done.seq,
            "run": done.run,
            "passed": done.passed,
            "model_compared": done.model_compared,
            "benchmarks": [item.model_dump(mode="json") for item in done.benchmarks],
            "unmapped": list(done.unmapped),
            "outcomes": [item.model_dump(mode="json") for item in done.outcomes],
        }
        as_json(value)
    else:
        reading = workspace.read()
        trial_banner(reading.trial)
        show_record(reading, _newest(reading, model, version))
        heading(f"Recorded as entry {done.seq}")
        for name in done.unmapped:
            say(f"Unmapped: {clean(name)}. Say what it is evidence for in objectives.yaml (`cognify objectives`).")
        if not done.model_compared:
            say("That the harness ran the sealed model is your word; --model-path compares the files.")
    if not done.passed:
        ctx.exit(BLOCKED)
