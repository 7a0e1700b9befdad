"""`cognify dataset bind`: the names that a project's training code has for its datasets."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import MODEL, json_option, open_workspace
from cognify_dagster.cli.output import as_json, heading, moment, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.records import DatasetsBound
    from cognify_dagster.workspace import Reading, Recorded


def _pairs(_: click.Context, __: click.Parameter, words: tuple[str, ...]) -> dict[str, str]:
    found: dict[str, str] = {}
    for word in words:
        label, mark, name = word.partition("=")
        if not mark or not label or not name:
            raise click.BadParameter(f"{word[:100]!r} is not LABEL=SNAPSHOT, such as train=loans_train")
        if label in found:
            raise click.BadParameter(f"{label!r} is named twice")
        found[label] = name
    return found


@command.command("bind")
@click.argument("project", type=MODEL)
@click.argument("bindings", nargs=-1, callback=_pairs, metavar="[LABEL=SNAPSHOT]...")
@click.option("--remove", multiple=True, metavar="LABEL", help="Bind this label no longer; may be repeated.")
@click.option("--show", is_flag=True, help="Show what is bound, and append nothing.")
@json_option
@click.pass_context
def bind(
    ctx: click.Context, project: str, bindings: dict[str, str], remove: tuple[str, ...], show: bool, json_: bool
) -> None:
    """Name the snapshots that runs of PROJECT use; labels that are not named stay as they are.

    SNAPSHOT is a dataset's name (its newest snapshot), with @ENTRY or @ROOT (the first digits) for an older one. The beginning of a
    label says the role: train… and validation… are what a version is trained on, holdout… is what it is evaluated on, any other label
    may be evaluated on too. A run uses what is bound when it begins.

    \b
    Example:
      cognify dataset bind credit_default train=loans_train holdout-v3=loans_holdout
      cognify dataset bind credit_default --show
    """
    from cognify_dagster.instrument.sdk.bindings import bind as append
    from cognify_dagster.instrument.sdk.bindings import current_bindings
    from cognify_dagster.instrument.sdk.errors import SdkError

    workspace = open_workspace(ctx)
    if show and (bindings or remove):
        raise click.UsageError("--show appends nothing; leave the bindings out")
    if not show and not bindings and not remove:
        raise click.UsageError("name what to bind, such as train=loans_train, or see what is bound with --show")
    added = False
    if show:
        found = current_bindings(workspace.read(), project)
    else:
        try:
            found, added = append(workspace, project, bindings, remove=remove)
        except SdkError as error:
            raise Failure(str(error), UNREADABLE) from error
    reading = workspace.read()
    if json_:
        as_json(
            {"project": project, "entry": found.seq if found else None, "appended": added, "bindings": _rows(found)}
        )
        return
    trial_banner(reading.trial)
    if found is None:
        say(f"Nothing is bound to {project} yet.")
        return
    heading(
        f"Datasets of {project}: entry {found.seq}, {moment(found.time_us)}, by {found.record.bound_by or 'nobody named'}"
    )
    table(
        ("label", "snapshot", "entry", "root", "role", "newer snapshot"),
        [
            (row["label"], row["name"], row["entry"], row["root"][:16] + "…", row["role"], _newer(reading, row))
            for row in _rows(found)
        ],
    )
    if not show:
        say(f"Bound in entry {found.seq}." if added else "Nothing changed: these were bound already.")
        if not any(row["role"] == "train" for row in _rows(found)):
            say("No label begins with train, so runs of this project are experiments.")


def _rows(found: Recorded[DatasetsBound] | None) -> list[dict[str, Any]]:
    return [
        {
            "label": item.label,
            "name": item.dataset.name,
            "root": item.dataset.root,
            "entry": item.dataset.seq,
            "role": item.dataset.role,
        }
        for item in (found.record.bindings if found else ())
    ]


def _newer(reading: Reading, row: dict[str, Any]) -> str:
    from cognify_dagster.instrument.sdk.bindings import find_snapshot

    newest = find_snapshot(reading, str(row["name"]))
    return f"entry {newest.seq}" if newest.record.root != row["root"] else ""
