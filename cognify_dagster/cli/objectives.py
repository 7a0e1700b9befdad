"""`cognify objectives`: what metrics are evidence for, in plain words."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.app import Command
from cognify_dagster.cli.frameworks_folder import folder_option, own_folder
from cognify_dagster.cli.inputs import json_option
from cognify_dagster.cli.output import as_json, clean, say, table

if TYPE_CHECKING:
    from cognify_dagster.documents.catalogues.objectives import Objective


@click.command(cls=Command, name="objectives")
@click.argument("metrics", nargs=-1)
@folder_option
@click.option("--framework", "frameworks", multiple=True, help="Only what helps to answer this framework; repeatable.")
@json_option
@click.pass_context
def command(
    ctx: click.Context, metrics: tuple[str, ...], folder: Path | None, frameworks: tuple[str, ...], json_: bool
) -> None:
    """Show what each metric is evidence for: an objective in plain words, requirements, a default threshold.

    Your own folder of frameworks may hold objectives.yaml: its entries come first and replace shipped ones of the same id.
    With METRICS: which entry fits each of them, and which are unmapped. A default threshold is a place to start and judges
    nothing; the limits that count are those of the adopted gate set.

    \b
    Example:
      cognify objectives
      cognify objectives auc fairness.SEX.adverse_impact_ratio my_score
      cognify objectives --framework fair-lending
    """
    from cognify_dagster.documents import load_framework
    from cognify_dagster.documents.catalogues.objectives import load_objectives, unresolved

    folder = own_folder(ctx, folder)
    for name in frameworks:
        load_framework(name, folder)  # a misspelt name is refused, with those that there are
    found = load_objectives(folder)
    shown = [item for item in found.objectives if not frameworks or _about(item, frameworks)]
    by_name = {name: found.find(name) for name in dict.fromkeys(metrics)}
    if metrics:
        fitting = {item.id for item in by_name.values() if item is not None}
        shown = [item for item in shown if item.id in fitting]
    unmapped = [name for name, item in by_name.items() if item is None]
    open_ends = unresolved(found, folder)
    if json_:
        as_json(
            {
                "version": found.version,
                "as_of": found.as_of,
                "digest": found.digest(),
                "disclaimer": found.disclaimer,
                "objectives": [item.model_dump(mode="json") for item in shown],
                "metrics": {name: item.id if item else None for name, item in by_name.items()},
                "unmapped": unmapped,
                "unresolved": open_ends,
            }
        )
        return
    names = {item.id: [name for name, entry in by_name.items() if entry is item] for item in shown}
    table(
        ("metric", "is evidence for", "to begin with", "helps to answer"),
        [
            (
                ", ".join(names[item.id]) or item.title,
                item.objective,
                threshold_words(item.threshold.model_dump()),
                "\n".join(name for name in item.supports if not frameworks or name.partition(":")[0] in frameworks),
            )
            for item in shown
        ],
    )
    for name in unmapped:
        say(f"Unmapped: {clean(name)}. Add it to objectives.yaml in your own folder of frameworks.")
    for text in open_ends:
        say(f"Note: no such requirement here: {clean(text)}")
    say(found.disclaimer)


def _about(item: Objective, frameworks: tuple[str, ...]) -> bool:
    return any(name.partition(":")[0] in frameworks for name in item.supports)


def threshold_words(threshold: dict[str, Any]) -> str:
    """Return a default threshold in a line: the comparison, its label, its words."""
    label, text = threshold["label"], threshold["text"]
    if threshold["op"] is None:
        return f"{label}: {text}"
    if threshold["op"] == "within":
        sign = f"{threshold['value']:g} to {threshold['upper']:g}"
    elif threshold["op"] == "abs<=":
        sign = f"within ±{threshold['value']:g}"
    else:
        sign = f"{threshold['op']} {threshold['value']:g}"
    source = f"; {threshold['citation']}" if threshold["citation"] else ""
    return f"{sign} ({label}: {text}{source})"
