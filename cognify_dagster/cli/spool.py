"""`cognify spool`: runs of the Python SDK that wait on this machine, and bringing them into the ledger."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Group
from cognify_dagster.cli.exits import BLOCKED, OK, UNREADABLE, Failure, finish
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table

if TYPE_CHECKING:
    from cognify_dagster.instrument.sdk.flushing import Flushed
    from cognify_dagster.instrument.sdk.outcomes import Outcome
    from cognify_dagster.instrument.sdk.spool import Spooled
    from cognify_dagster.workspace import Workspace

_STATES = {
    "live": "running",
    "waiting": "ended, waits",
    "killed": "killed, waits",
    "sealed": "sealed, a step waits",
    "foreign": "another machine's",
    "damaged": "damaged",
    "refused": "not readable",
}
spool_option = click.option(
    "--spool",
    "folders",
    type=click.Path(path_type=Path),
    multiple=True,
    metavar="FOLDER",
    help="Another spool than $COGNIFY_SPOOL, the workspace's and this login's; may be repeated.",
)


@click.group(cls=Group, name="spool")
def command() -> None:
    """Runs of the Python SDK that wait on this machine: list, show, bring into the ledger.

    \b
    Example:
      cognify spool list
      cognify spool flush
    """


def _spools(ctx: click.Context, folders: tuple[Path, ...]) -> list[Path]:
    """The spools to look into; a workspace that cannot be found only means that its own spool is not among them."""
    from cognify_dagster.instrument.sdk.spool import places
    from cognify_dagster.workspace import WorkspaceError, find_config, load_config
    from cognify_dagster.workspace.workspace import ENVIRONMENT_VARIABLE

    if folders:
        return [folder.expanduser().absolute() for folder in folders]
    import os

    named = (ctx.obj or {}).get("workspace") or os.environ.get(ENVIRONMENT_VARIABLE)
    try:
        home = load_config(find_config(named or ".")).home
    except WorkspaceError:
        if named:
            raise
        home = None
    return places(home)


def _found(ctx: click.Context, folders: tuple[Path, ...]) -> list[Spooled]:
    from cognify_dagster.instrument.sdk.spool import spooled

    found = [item for place in _spools(ctx, folders) for item in spooled(place)]
    return sorted(found, key=lambda item: (item.started, item.run))


@command.command("list")
@spool_option
@json_option
@click.pass_context
def list_(ctx: click.Context, folders: tuple[Path, ...], json_: bool) -> None:
    """List the runs in the spool, oldest first, with their state; exit with 1 if one is damaged.

    \b
    Example:
      cognify spool list
      cognify spool list --json
    """
    found = _found(ctx, folders)
    if json_:
        as_json([_row(item) for item in found])
    elif not found:
        say("Nothing waits in the spool.")
    else:
        table(
            ("run", "project", "state", "began", "lines", "about it"),
            [
                (
                    item.run,
                    item.start.get("project", ""),
                    _STATES[item.state],
                    _moment(item.started),
                    len(item.read.lines) if item.read else 0,
                    _about(item),
                )
                for item in found
            ],
        )
    finish(BLOCKED if any(item.state in ("damaged", "refused") for item in found) else OK)


def _about(item: Spooled) -> str:
    torn = f"a torn last line of {item.read.torn} bytes is left out. " if item.read and item.read.torn else ""
    waits = item.last("sealed")
    failed = item.last("fail")
    said = item.problem or (str(waits.get("waits", "")) if waits else "") or (str(failed["reason"]) if failed else "")
    return f"{torn}{said}".strip()


def _row(item: Spooled) -> dict[str, Any]:
    start = item.start
    return {
        "run": item.run,
        "state": item.state,
        "project": start.get("project"),
        "origin": start.get("origin"),
        "began": _moment(item.started) or None,
        "pid": start.get("pid"),
        "host": start.get("host"),
        "lines": len(item.read.lines) if item.read else None,
        "torn_bytes": item.read.torn if item.read else None,
        "about": _about(item),
        "folder": str(item.folder),
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") if seconds else ""


@command.command("show")
@click.argument("run")
@spool_option
@json_option
@click.pass_context
def show(ctx: click.Context, run: str, folders: tuple[Path, ...], json_: bool) -> None:
    """Show what a run in the spool has told so far.

    \b
    Example:
      cognify spool show sdk-20261121T081500-0123456789ab
    """
    from cognify_dagster.instrument.sdk.errors import JournalDamaged
    from cognify_dagster.instrument.sdk.replay import ended_of

    item = next((one for one in _found(ctx, folders) if one.run == run), None)
    if item is None:
        raise Failure(f"no run {run[:100]} lies in the spool; `cognify spool list` shows those that do", UNREADABLE)
    try:
        ended = ended_of(item)
    except JournalDamaged as error:
        raise Failure(str(error), BLOCKED) from error
    facts = ended.recorder.to_facts()["facts"]
    metrics = {name: value["last"] for name, value in facts["metrics"].items()}
    if json_:
        more = {"config": facts["config"], "metrics": metrics, "models": [str(m.path) for m in ended.recorder.models]}
        as_json(
            {
                **_row(item),
                **more,
                "status": ended.status,
                "reason": ended.reason,
                "evaluations": [{"benchmark_version": e.label, "results": e.plain} for e in ended.evaluations],
                "incomplete": list(ended.incomplete),
            }
        )
        return
    heading(f"{run}: {clean(ended.project)}")
    pairs(
        [
            ("state", _STATES[item.state]),
            ("status", f"{ended.status}{': ' + ended.reason if ended.reason else ''}"),
            ("began", _moment(item.started)),
            ("datasets", ", ".join(f"{p.label}={p.ref.name}@{p.ref.seq}" for p in ended.pins or ()) or "–"),
            ("config", ", ".join(f"{key}={value}" for key, value in facts["config"].items()) or "–"),
            ("metrics", ", ".join(f"{key}={value}" for key, value in metrics.items()) or "–"),
            ("models", ", ".join(str(model.path) for model in ended.recorder.models) or "–"),
            ("evaluations", ", ".join(item.label for item in ended.evaluations) or "–"),
            ("missing", "; ".join(ended.incomplete) or "nothing"),
            ("folder", item.folder),
        ]
    )


@command.command("flush")
@click.argument("runs", nargs=-1)
@click.option(
    "--dead", multiple=True, metavar="RUN", help="A run of another machine that is surely over; may be repeated."
)
@spool_option
@json_option
@click.pass_context
def flush(
    ctx: click.Context, runs: tuple[str, ...], dead: tuple[str, ...], folders: tuple[Path, ...], json_: bool
) -> None:
    """Bring what waits into the ledger, oldest run first: all runs, or those named. Doing it twice changes nothing.

    Killed runs become failed ones. A live run is not touched; a damaged journal is named and kept (exit code 1). When the ledger is out
    of reach nothing is lost (exit code 3).

    \b
    Example:
      cognify spool flush
      cognify spool flush sdk-20261121T081500-0123456789ab
    """
    from cognify_dagster.instrument.sdk.errors import SdkError
    from cognify_dagster.instrument.sdk.flushing import flush as flush_all

    workspace = open_workspace(ctx)
    try:
        done = flush_all(
            workspace,
            _spools(ctx, folders),
            only=runs,
            dead=dead,
            progress=(lambda text: None) if json_ else (lambda text: say(f"{clean(text)} …")),
        )
    except SdkError as error:
        raise Failure(str(error), UNREADABLE) from error
    if not runs and not any(item.stopped for item in done):
        done += _reported(workspace)
    if json_:
        as_json(
            [
                {
                    "run": item.run,
                    "done": item.done,
                    "outcome": type(item.outcome).__name__ if item.outcome is not None else None,
                    "version": _version(item.outcome),
                    "entry": getattr(item.outcome, "entry", None),
                    "text": item.text,
                    "problem": item.problem,
                    "folder": None if item.done else str(item.folder),
                }
                for item in done
            ]
        )
    elif not done:
        say("Nothing waits in the spool.")
    else:
        table(("run", "recorded", "what became of it"), [(i.run, "yes" if i.done else "no", i.text) for i in done])
    if any(item.stopped for item in done):
        finish(UNREADABLE)
    finish(BLOCKED if any(item.problem for item in done) else OK)


def _reported(workspace: Workspace) -> list[Flushed]:
    """Record what trainings in Dagster reported when they died between sealing and recording it."""
    from cognify_dagster.instrument.sdk.flushing import Flushed
    from cognify_dagster.instrument.sdk.reported import record_waiting

    found = []
    for folder, recorded, problem in record_waiting(workspace):
        what = f"{folder.parent.parent.name} {folder.parent.name}"
        entries = ", ".join(str(item.seq) for item in recorded)
        text = f"refused: {problem}" if problem else f"what was measured of {what} is recorded (entries {entries})"
        found.append(Flushed(folder.name, folder, not problem, None, text, bool(problem)))
    return found


def _version(outcome: Outcome | None) -> str | None:
    return getattr(outcome, "version", None)
