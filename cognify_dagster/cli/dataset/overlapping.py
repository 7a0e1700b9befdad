"""`cognify dataset overlap` and `profile`: whether two datasets share records, and what a dataset's columns hold."""

from __future__ import annotations

import json
import re
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.dataset.finding import DATASET, ROOT, secret_of, snapshot_at
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.exits import BLOCKED, finish
from cognify_dagster.cli.inputs import json_option, open_workspace
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.datasets import OverlapFindings
    from cognify_dagster.records import DatasetSnapshot
    from cognify_dagster.workspace import Recorded, Workspace

LEVELS = ("exact", "normalised", "ngram", "near-duplicate")
CHECK = "cognify dataset overlap"
_SHOWN = 20
_JSON_MATCHES = 1000


def _names(_: click.Context, parameter: click.Parameter, value: str | None) -> tuple[str, ...] | None:
    if value is None:
        return None
    names = tuple(name.strip() for name in value.split(",") if name.strip())
    if not names:
        raise click.BadParameter("give names separated by commas", param=parameter)
    if parameter.name == "levels" and (unknown := [name for name in names if name not in LEVELS]):
        raise click.BadParameter(f"there is no level {unknown[0]!r}; there are {', '.join(LEVELS)}", param=parameter)
    return names


@command.command("overlap")
@click.argument("train")
@click.argument("holdout")
@click.option(
    "--columns",
    callback=_names,
    metavar="A,B",
    help="Compare these columns only; name the text columns for text levels.",
)
@click.option("--ignore", callback=_names, metavar="A,B", help="Leave these columns out: record keys, labels.")
@click.option(
    "--levels", callback=_names, metavar="A,B", help=f"Any of {', '.join(LEVELS)}. Without it the columns decide."
)
@click.option(
    "--threshold",
    type=click.FloatRange(0.5, 1),
    default=0.6,
    show_default=True,
    help="Least Jaccard index of near-duplicates.",
)
@click.option(
    "--ngram", type=click.IntRange(8, 13), default=13, show_default=True, help="Words in a row that mark a record."
)
@click.option(
    "--record", "record", is_flag=True, help="Append the result to the ledger; both have to be recorded datasets."
)
@click.option(
    "--check", default=CHECK, show_default=True, metavar="NAME", help="With --record: the newest of each name counts."
)
@json_option
@click.pass_context
def overlap(
    ctx: click.Context,
    train: str,
    holdout: str,
    columns: tuple[str, ...] | None,
    ignore: tuple[str, ...] | None,
    levels: tuple[str, ...] | None,
    threshold: float,
    ngram: int,
    record: bool,
    check: str,
    json_: bool,
) -> None:
    """Say whether records of HOLDOUT also stand in TRAIN, level by level; exit with 1 if any do.

    TRAIN and HOLDOUT are names of recorded datasets (their newest snapshots; the data must still be those), or paths and
    addresses of tables. HOLDOUT is held in memory, TRAIN is read in batches.

    \b
    Example:
      cognify dataset overlap loans_train loans_holdout --ignore ID,late --record
      cognify dataset overlap corpus/ holdout.jsonl --columns text --levels ngram,near-duplicate
    """
    from cognify_dagster.datasets import OverlapOptions, check_overlap
    from cognify_dagster.datasets.overlap.snapshots import compare_snapshots

    options = OverlapOptions(levels=levels, columns=columns, ignore=ignore or (), threshold=threshold, ngram=ngram)
    workspace, first, second = _snapshots(ctx, train, holdout, record)
    if workspace is not None and first is not None and second is not None:
        findings = compare_snapshots(workspace, first, second, options)
    else:
        held, rest = _sources(workspace, (holdout, second), (train, first))
        findings = check_overlap(held, rest, options, key=_key(workspace, first, second))
    entry = None
    if record and workspace is not None and first is not None and second is not None:
        from cognify_dagster.datasets.overlap.recording import record_findings

        entry = record_findings(workspace, first, second, findings, check=check, run=f"cli-{uuid.uuid4()}")
    if json_:
        as_json({**findings.to_dict(_JSON_MATCHES), "entry": entry})
    else:
        _show(findings, entry, workspace)
    if findings.failed:
        finish(BLOCKED)


def _snapshots(
    ctx: click.Context, train: str, holdout: str, record: bool
) -> tuple[Workspace | None, Recorded[DatasetSnapshot] | None, Recorded[DatasetSnapshot] | None]:
    """The workspace and the snapshots that the two names mean; None for what is a path."""
    if all(_is_place(text) for text in (train, holdout)):
        if record:
            raise click.UsageError("--record compares recorded datasets; name two of them instead of paths")
        return None, None, None
    workspace = open_workspace(ctx)
    reading = workspace.read()
    found = [None if _is_place(text) else snapshot_at(reading, text) for text in (train, holdout)]
    if record and None in found:
        raise click.UsageError("--record compares recorded datasets; name two of them instead of paths")
    return workspace, found[0], found[1]


def _is_place(text: str) -> bool:
    """Whether an argument is a path or address; a bare word is the name of a dataset, even where a file is called like it."""
    from cognify_dagster.records.base import SNAPSHOT_NAME

    return not re.fullmatch(SNAPSHOT_NAME, text) or (text.lower().endswith(_ENDINGS) and Path(text).exists())


_ENDINGS = (".csv", ".parquet", ".pq", ".jsonl", ".ndjson", ".gz")


def _sources(workspace: Workspace | None, *sides: tuple[str, Recorded[DatasetSnapshot] | None]) -> list[Any]:
    from cognify_dagster.datasets.overlap.snapshots import snapshot_batches

    return [text if item is None or workspace is None else snapshot_batches(workspace, item) for text, item in sides]


def _key(workspace: Workspace | None, *found: Recorded[DatasetSnapshot] | None) -> bytes | None:
    """The record key, where one side is a recorded dataset whose digests are keyed."""
    if workspace is None:
        return None
    return next((key for item in found if item is not None and (key := secret_of(workspace, item)) is not None), None)


def _show(findings: OverlapFindings, entry: int | None, workspace: Workspace | None) -> None:
    if workspace is not None:
        trial_banner(workspace.read().trial)
    heading(f"{findings.holdout_count} holdout records, {findings.train_count} training records")
    table(
        ("level", "holdout records found", "part", "training records", "parameters"),
        [
            (
                item.level,
                item.overlap_holdout,
                f"{item.fraction:.2%}",
                item.overlap_train,
                ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in item.parameters.items())
                + (f"; {item.not_compared} without words, not compared" if item.not_compared else ""),
            )
            for item in findings.levels
        ],
    )
    shown = findings.levels[-1].matches if findings.levels else ()
    shown = next((item.matches for item in reversed(findings.levels) if item.matches), shown)
    if shown:
        level = next(item.level for item in reversed(findings.levels) if item.matches)
        heading(f"Found at level {level}, the first {min(len(shown), _SHOWN)} of {len(shown)} (rows count from 0)")
        table(
            ("holdout row", "training rows", "similarity", "holdout record"),
            [
                (
                    m.holdout_row,
                    ", ".join(map(str, m.train_rows[:5])),
                    f"{m.similarity:.3f}",
                    f"{m.holdout_digest[:16]}…",
                )
                for m in shown[:_SHOWN]
            ],
        )
    pairs(
        [
            ("columns", ", ".join(findings.compared_columns)),
            ("text columns", ", ".join(findings.text_columns) or "–"),
            ("left out", ", ".join(findings.excluded_columns) or "–"),
            (f"holdout {findings.roots} root", findings.holdout_root),
            (f"training {findings.roots} root", findings.train_root),
            ("recorded in", f"ledger entry {entry}" if entry is not None else "nothing (add --record)"),
        ]
    )
    say()
    if findings.failed:
        say(f"Holdout and training data share records at: {', '.join(findings.failed)}.")
    else:
        say(f"No shared record at: {findings.level}. Nothing is said about other levels.")


@command.command("profile")
@click.argument("name", type=DATASET)
@click.option("--root", type=ROOT, help="The snapshot with this root; the newest unless given.")
@json_option
@click.pass_context
def profile(ctx: click.Context, name: str, root: str | None, json_: bool) -> None:
    """Print the recorded profile of a dataset: counts, ranges, quantiles, classes, groups, hints of personal data.

    \b
    Example:
      cognify dataset profile loans_train
      cognify dataset profile loans_train --root sha256:… --json
    """
    workspace = open_workspace(ctx)
    item = snapshot_at(workspace.read(), name, root)
    value: dict[str, Any] = json.loads(workspace.evidence.get(item.record.profile.digest))
    if json_:
        as_json(
            {
                "name": name,
                "root": item.record.root,
                "entry": item.seq,
                "schema_hash": item.record.schema_hash,
                "evidence": item.record.profile.digest,
                "profile": value,
            }
        )
        return
    trial_banner(workspace.read().trial)
    heading(f"{clean(name)}, snapshot entry {item.seq}")
    pairs([("root", item.record.root), ("schema", item.record.schema_hash or "–"), ("rows", value.get("rows", "–"))])
    if not value:
        say("This snapshot was taken of files, not of a table, so it has no statistics.")
        return
    _columns(value["columns"])
    _classes(value)


def _columns(columns: dict[str, dict[str, Any]]) -> None:
    table(
        ("column", "type", "empty", "different", "from", "to", "5 % / 50 % / 95 %", "most frequent"),
        [
            (
                name,
                item["type"],
                item["nulls"] + item.get("nans", 0),
                ("about " if "distinct" in item.get("estimated", {}) else "") + str(item.get("distinct", "–")),
                item.get("min", _length(item, "min_length")),
                item.get("max", _length(item, "max_length")),
                " / ".join(str(item["quantiles"][q]) for q in ("0.05", "0.5", "0.95")) if "quantiles" in item else "",
                ", ".join(f"{top['value']} ({top['count']})" for top in item.get("top", [])[:4]),
            )
            for name, item in columns.items()
        ],
    )
    hints = [
        (
            name,
            hint["kind"],
            "its name" if hint["by"] == "name" else f"values in {hint['rows']} of {hint['scanned']} rows",
        )
        for name, item in columns.items()
        for hint in item.get("hints", [])
    ]
    if hints:
        heading("Hints of personal data (a reason to look; no hint proves nothing)")
        table(("column", "looks like", "by"), hints)


def _length(item: dict[str, Any], which: str) -> str:
    return f"{item[which]} long" if which in item else ""


def _classes(value: dict[str, Any]) -> None:
    if "label" in value:
        heading(f"Classes of {clean(value['label']['column'])}")
        table(
            ("class", "rows", "part"),
            [(_word(c["value"]), c["count"], f"{c['fraction']:.2%}") for c in value["label"]["classes"]],
        )
    for name, groups in value.get("groups", {}).items():
        heading(f"Groups by {clean(name)}")
        table(
            ("group", "rows", "classes within it"),
            [
                (
                    _word(group["value"]),
                    group["count"],
                    ", ".join(f"{_word(c['value'])}: {c['fraction']:.2%}" for c in group.get("classes", [])),
                )
                for group in groups
            ],
        )


def _word(value: Any) -> str:
    return "(empty)" if value is None else str(value)
