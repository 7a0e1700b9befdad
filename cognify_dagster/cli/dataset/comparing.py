"""`cognify dataset diff`: what changed between two versions, from evidence alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cognify_dagster.cli.dataset.finding import (
    DATASET,
    PERSONAL,
    ROOT,
    before,
    require_values_allowed,
    snapshot_at,
    table_of,
)
from cognify_dagster.cli.dataset.group import command
from cognify_dagster.cli.exits import UNREADABLE, Failure
from cognify_dagster.cli.inputs import OUT_FILE, json_option, open_workspace, write_new
from cognify_dagster.cli.output import as_json, clean, heading, pairs, say, table, trial_banner

if TYPE_CHECKING:
    from cognify_dagster.datasets import SnapshotDiff
    from cognify_dagster.records import DatasetSnapshot
    from cognify_dagster.workspace import Recorded, Workspace

MAX_VALUES = 100
_LINES = 30


@command.command("diff")
@click.argument("name", metavar="NAME", type=DATASET)
@click.argument("other", metavar="[OTHER]", type=DATASET, required=False)
@click.option("--from", "old_root", type=ROOT, metavar="ROOT", help="Root of the earlier version (first digits).")
@click.option("--to", "new_root", type=ROOT, metavar="ROOT", help="Root of the later version; the newest by default.")
@click.option("--html", "html", type=OUT_FILE, metavar="FILE", help="Write the whole comparison as a page, with plots.")
@click.option("--values", is_flag=True, help="Show changed values: reads both tables, if they are still at hand.")
@click.option(PERSONAL, "personal", is_flag=True, help="With --values: show values of personal data.")
@click.option("--old-data", metavar="SOURCE", help="With --values: where the earlier data are now.")
@click.option("--new-data", metavar="SOURCE", help="With --values: where the later data are now.")
@json_option
@click.pass_context
def diff(
    ctx: click.Context,
    name: str,
    other: str | None,
    old_root: str | None,
    new_root: str | None,
    html: Path | None,
    values: bool,
    personal: bool,
    old_data: str | None,
    new_data: str | None,
    json_: bool,
) -> None:
    """Compare two versions of a dataset, or two datasets: files, records by key and column, schema, distributions, groups.

    Without roots the newest version is compared with the one before it. Nothing but the ledger and its evidence is read, unless
    --values asks for values. It is a report: it ends with 0 whether or not there are differences.

    \b
    Example:
      cognify dataset diff loans_train
      cognify dataset diff loans_train --from 3fa21c08 --html changes.html
      cognify dataset diff loans_train loans_holdout --json
    """
    from cognify_dagster.datasets import DatasetError, diff_digest, diff_snapshots
    from cognify_dagster.evidence import EvidenceError

    workspace = open_workspace(ctx)
    reading = workspace.read()
    old: Recorded[DatasetSnapshot] | None
    if other is not None:
        old, new = snapshot_at(reading, name, old_root), snapshot_at(reading, other, new_root)
    else:
        new = snapshot_at(reading, name, new_root)
        old = snapshot_at(reading, name, old_root) if old_root else before(reading, new)
    try:
        found = diff_snapshots(workspace, old, new)
    except (DatasetError, EvidenceError) as error:
        raise Failure(f"dataset {name}: the two versions cannot be compared: {error}", UNREADABLE) from error
    shown = _values(workspace, old, new, personal, old_data, new_data) if values else []
    digest = diff_digest(found)
    if html is not None:
        from cognify_dagster.documents.outputs.dataset_diff import render_dataset_diff

        write_new(html, render_dataset_diff(found.to_dict(), digest, summary=found.summary, values=shown).encode())
    if json_:
        entries = {"from": old.seq if old else None, "to": new.seq}
        as_json({"diff": found.to_dict(), "diff_digest": digest, "entries": entries, "values": shown})
        return
    trial_banner(reading.trial)
    _print(found, digest, old.seq if old else None, new.seq, shown)
    if html is not None:
        say(f"Page written to {clean(html)}.")


def _values(
    workspace: Workspace,
    old: Recorded[DatasetSnapshot] | None,
    new: Recorded[DatasetSnapshot],
    personal: bool,
    old_data: str | None,
    new_data: str | None,
) -> list[dict[str, Any]]:
    """Changed values of at most 100 records: key, column, old and new value."""
    from cognify_dagster.datasets import diff_tables, json_value

    if old is None:
        return []
    for item in (old, new):
        require_values_allowed(item, personal, "--values")
    keys = new.record.header["records"].get("key_columns") or []
    if not keys or keys != old.record.header["records"].get("key_columns"):
        raise Failure("--values needs one record key in both versions, so that records can be told apart", UNREADABLE)
    before_table = table_of(workspace, old, old_data, option="--old-data")
    after_table = table_of(workspace, new, new_data, option="--new-data")
    found = diff_tables(before_table, after_table, keys, limit=MAX_VALUES)
    out = []
    for example in found.examples:
        named = ", ".join(f"{k}={v}" for k, v in zip(found.key, example.key, strict=True))
        for column in example.columns:
            left, right = before_table.column(column)[example.old_row], after_table.column(column)[example.new_row]
            row = {"key": named, "column": column, "old": json_value(left.as_py()), "new": json_value(right.as_py())}
            out.append(row)
    return out


def _print(
    found: SnapshotDiff, digest: str, old_seq: int | None, new_seq: int, values: Sequence[Mapping[str, Any]]
) -> None:
    old, new = found.old, found.new
    heading(f"Changes of dataset {new.name}" + (f" against {old.name}" if old and old.name != new.name else ""))
    pairs(
        [
            ("Before", f"{old.root} (entry {old_seq})" if old else "nothing: this is the first snapshot"),
            ("After", f"{new.root} (entry {new_seq})"),
            ("Summary", found.summary),
            ("Diff digest", digest),
        ]
    )
    files, records, keyed = found.files, found.records, found.keyed
    table(
        ("", "added", "removed", "changed", "renamed", "unchanged"),
        [
            ("files", files.added, files.removed, files.changed, files.renamed, files.unchanged),
            *([("records", records.added, records.removed, "", "", records.unchanged)] if records.compared else []),
            *(
                [("records by key", keyed.added, keyed.removed, keyed.changed, "", keyed.unchanged)]
                if keyed.compared
                else []
            ),
        ],
    )
    if not records.compared:
        say(f"Records are not compared by content: {records.reason}.")
    if not keyed.compared and old is not None:
        say(f"Records are not compared by key: {keyed.reason}.")
    _names("Files added", files.added_paths, files.added)
    _names("Files removed", files.removed_paths, files.removed)
    _names("Files changed", files.changed_paths, files.changed)
    _names("Files renamed", [f"{a} -> {b}" for a, b in files.renamed_paths], files.renamed)
    _schema(found)
    if keyed.columns:
        heading("Records changed, by column")
        listed = sorted(keyed.columns.items(), key=lambda item: (-item[1], item[0]))
        table(("column", "records"), listed[:_LINES])
        _more(len(listed))
    if values:
        heading("Changed values")
        table(
            ("record", "column", "before", "after"),
            [(v["key"], v["column"], v["old"], v["new"]) for v in values[:_LINES]],
        )
        _more(len(values))
    _shifts(found)


def _names(title: str, paths: Sequence[str], count: int) -> None:
    if paths:
        heading(title)
        for path in paths[:_LINES]:
            say(f"  {clean(path)}")
        _more(count)


def _more(count: int) -> None:
    if count > _LINES:
        say(f"  … and {count - _LINES} more; --json or --html shows more of them")


def _schema(found: SnapshotDiff) -> None:
    schema = found.schema
    if schema.empty or found.old is None:
        return
    words = {True: "may be missing", False: "never missing"}
    rows: list[tuple[str, str, str, str]] = [("added", name, "", kind) for name, kind in schema.added]
    rows += [("removed", name, kind, "") for name, kind in schema.removed]
    rows += [("type changed", name, a, b) for name, a, b in schema.retyped]
    rows += [("missing values", name, words[a], words[b]) for name, a, b in schema.nullable]
    rows += [(f"renamed (equal {item.found_by})", item.new, item.old, item.new) for item in schema.renamed]
    heading("Columns")
    table(("what", "column", "before", "after"), rows)


def _shifts(found: SnapshotDiff) -> None:
    if found.label is not None:
        heading(f"Label {found.label.column}")
        table(("class", "before", "after"), [(_word(v.value), v.before, v.after) for v in found.label.values])
    if found.columns:
        heading("Distributions (strongest first; PSI: population stability index, KS: distance of the stored profiles)")
        ordered = sorted(found.columns, key=lambda item: (-(item.distance or 0.0), item.column))
        rows = []
        for item in ordered[:_LINES]:
            measure = {"psi": "PSI", "ks_profile": "KS"}.get(item.measure, "")
            moved = "" if item.distance is None else f"{measure} {item.distance:.4g}"
            rows.append((item.column, moved, *(f"{_word(side.get('mean'))}" for side in (item.before, item.after))))
            rows[-1] += tuple(_word(side.get("null_share")) for side in (item.before, item.after))
        table(("column", "moved by", "mean before", "after", "missing before", "after"), rows)
        _more(len(ordered))
    if found.groups:
        heading("Groups")
        grouped = [
            (f"{item.column} = {_word(item.value)}", item.before, item.after, _classes(item.classes))
            for item in found.groups[:_LINES]
        ]
        table(("group", "before", "after", "label before -> after"), grouped)
        _more(len(found.groups))


def _classes(classes: Sequence[Any]) -> str:
    return "\n".join(f"{_word(item.value)}: {item.before} -> {item.after}" for item in classes)


def _word(value: Any) -> str:
    if value is None:
        return ""
    return format(value, ".5g") if isinstance(value, float) else str(value)
