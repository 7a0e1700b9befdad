"""`cognify reproduce`: rebuild, run again and compare a sealed training."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.exits import BLOCKED, UNPROVEN, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import MODEL, VERSION, json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table

if TYPE_CHECKING:
    from cognify_dagster.instrument.reproduce import Outcome, Plan
    from cognify_dagster.records import TrainingRun
    from cognify_dagster.workspace import Recorded, Workspace

_WORDS = {
    "same_bytes": "Reproduced: the same model, byte for byte.",
    "within_tolerance": "Reproduced: other bytes, every metric within the recorded tolerance.",
    "differs": "Not reproduced.",
}


@click.command(cls=Command, name="reproduce")
@click.argument("model", type=MODEL)
@click.argument("version", type=VERSION)
@click.option("--plan", "only_plan", is_flag=True, help="Say what would be done, and do nothing.")
@click.option(
    "--python", metavar="EXE", help="Interpreter to build with. Default: this one, if it is the recorded version."
)
@click.option(
    "--here", is_flag=True, help="Run in this environment instead of rebuilding it; its differences are listed."
)
@click.option("--find-links", multiple=True, metavar="DIR", help="Passed to pip; repeat for several.")
@click.option("--index-url", metavar="URL", help="Passed to pip.")
@click.option(
    "--pip-option", "pip_options", multiple=True, metavar="OPTION", help="Passed to pip install; repeat for each word."
)
@click.option(
    "--allow-source",
    is_flag=True,
    help="Install from source archives too, which runs their code. Default: wheels only.",
)
@click.option(
    "--local", "folders", multiple=True, metavar="NAME=DIR", help="Install this package from a folder; repeat for each."
)
@click.option(
    "--repo",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="A clone that has the commit.",
)
@click.option(
    "--code",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A folder to copy instead, for a training outside a repository.",
)
@click.option(
    "--allow-dirty", is_flag=True, help="Run the commit alone where uncommitted changes are on record but not at hand."
)
@click.option("--data", multiple=True, metavar="NAME=PATH", help="Where a dataset's files are now; repeat for each.")
@click.option("--command", "command_line", metavar="TEXT", help="Run this instead of the recorded command.")
@click.option("--timeout", type=click.FloatRange(1), default=3600.0, show_default=True, help="Seconds for each step.")
@click.option(
    "--keep", type=click.Path(path_type=Path), metavar="DIR", help="Keep everything that is made in this new folder."
)
@json_option
@click.pass_context
def command(
    ctx: click.Context,
    model: str,
    version: str,
    only_plan: bool,
    python: str | None,
    here: bool,
    find_links: tuple[str, ...],
    index_url: str | None,
    pip_options: tuple[str, ...],
    allow_source: bool,
    folders: tuple[str, ...],
    repo: Path,
    code: Path | None,
    allow_dirty: bool,
    data: tuple[str, ...],
    command_line: str | None,
    timeout: float,
    keep: Path | None,
    json_: bool,
) -> None:
    """Rebuild what a version was trained in, train it again, and compare.

    Makes a venv with the recorded packages, clones the recorded commit, compares the datasets with their roots, runs the recorded
    command against a scratch workspace, and compares model and metrics with the record. Nothing is written to the ledger. The
    command comes from the ledger and runs as you: look at it first with --plan.

    Exit codes: 0 reproduced, 1 the re-run gave something else, 4 it could not be run again.

    \b
    Example:
      cognify reproduce credit_default v1 --plan
      cognify reproduce credit_default v1 --find-links /srv/wheels
    """
    from cognify_dagster.instrument.reproduce import Choices, NotRerun, plan_of, reproduce

    workspace = open_workspace(ctx)
    run = _sealed(workspace, model, version)
    options = [word for link in find_links for word in ("--find-links", link)]
    options += ["--index-url", index_url] if index_url else []
    choices = Choices(
        python=python,
        here=here,
        pip_options=(*options, *pip_options),
        allow_source=allow_source,
        folders={re.sub(r"[-_.]+", "-", name).lower(): Path(path) for name, path in _named(folders, "--local").items()},
        repository=repo,
        code=code,
        allow_dirty=allow_dirty,
        data=_named(data, "--data"),
        command=_words(command_line),
        timeout_s=timeout,
    )
    try:
        plan = plan_of(workspace, run, choices)
        if only_plan:
            _show_plan(plan, json_)
            return
        if keep is not None and keep.exists():
            raise click.UsageError(f"--keep {keep}: exists already; name a new folder")
        folder = Path(keep or tempfile.mkdtemp(prefix="cognify-reproduce-")).absolute()
        try:
            outcome = reproduce(
                workspace,
                run,
                choices,
                folder if keep is not None else folder / "run",
                progress=(lambda _: None) if json_ else (lambda text: say(f"{clean(text)} …")),
            )
        finally:
            if keep is None:
                shutil.rmtree(folder, ignore_errors=True)
    except NotRerun as error:
        if json_:
            as_json(
                {"model": model, "version": version, "verdict": "not_rerun", "reproduced": False, "reason": str(error)}
            )
            finish(UNPROVEN)
        raise Failure(f"could not be run again: {clean(error, keep_newlines=True)}", UNPROVEN) from error
    _show(outcome, keep is not None, json_)
    if not outcome.reproduced:
        finish(BLOCKED)


def _sealed(workspace: Workspace, model: str, version: str) -> Recorded[TrainingRun]:
    from cognify_dagster.records import TrainingRun
    from cognify_dagster.workspace import unknown_version

    reading = workspace.read()
    found = reading.latest(TrainingRun, f"model/{model}@{version}")
    if found is None:
        raise Failure(
            unknown_version(reading, model, version) or f"{model} {version} has no sealed training run", UNREADABLE
        )
    return found


def _named(texts: tuple[str, ...], option: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or not name or not path:
            raise click.UsageError(f"{option} {text[:80]!r}: NAME=PATH is expected")
        found[name] = path
    return found


def _words(line: str | None) -> tuple[str, ...]:
    if line is None:
        return ()
    try:
        words = tuple(shlex.split(line))
    except ValueError as error:
        raise click.UsageError(f"--command: {error}") from error
    if not words:
        raise click.UsageError("--command: it is empty")
    return words


def _show_plan(plan: Plan, json_: bool) -> None:
    if json_:
        as_json(plan.to_dict())
        return
    heading(f"{plan.model} {plan.version}, entry {plan.entry}")
    dirty = " with uncommitted changes" if plan.dirty else ""
    pairs(
        [
            ("Command", shlex.join(plan.command) + (" (given here, not on record)" if plan.given else "")),
            ("In", plan.folder),
            ("Code", f"{plan.commit}{dirty}"),
            ("Environment", f"Python {plan.python}, {plan.packages} packages"),
            (
                "Model has to be",
                "the same, byte for byte" if plan.same_bytes else "as good: metrics within their tolerance",
            ),
            *((f"Tolerance {name}", value) for name, value in sorted(plan.tolerances.items())),
            *((f"Dataset {name}", f"{root}, at {place}") for name, root, place in plan.datasets),
        ]
    )
    say("Nothing was run.")


def _show(outcome: Outcome, kept: bool, json_: bool) -> None:
    if json_:
        as_json(outcome.to_dict())
        return
    found = outcome.comparison
    say()
    heading(f"{outcome.plan.model} {outcome.plan.version}: {_WORDS[found.verdict]}")
    pairs([("Model on record", found.model_recorded), ("Model of the re-run", found.model_found)])
    if found.metrics:
        rows = [
            (row.name, row.recorded, row.found, row.tolerance, "ok" if row.within else "fail") for row in found.metrics
        ]
        table(("metric", "recorded", "found", "allowed difference", "result"), rows)
    listed = [*outcome.environment, *found.differences]
    if listed:
        table(
            ("difference", "name", "recorded", "found", "note"),
            [(item.kind, item.name, item.recorded, item.found, item.note) for item in listed],
        )
    else:
        say("No difference: packages, code, data, settings and result are as recorded.")
    for note in outcome.notes:
        say(clean(note))
    say("Took " + ", ".join(f"{name} {value:g} s" for name, value in outcome.seconds.items()))
    if kept:
        say(f"Kept in {outcome.scratch}")
