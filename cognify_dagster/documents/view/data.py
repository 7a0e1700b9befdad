"""Training run and data as printed: where they come from, what was left out, what the columns hold. Pure."""

from __future__ import annotations

from functools import partial
from typing import Any

from cognify_dagster.documents.charts import Pair, pairs
from cognify_dagster.documents.labels import label, with_name, words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    digest_text,
    entry,
    heading,
    image,
    key_values,
    mono,
    number,
    paragraph,
    small,
    table,
)
from cognify_dagster.documents.view.fairness import Charts
from cognify_dagster.documents.view.training import code_cell, experiment_blocks, extra_blocks, training_run_blocks

Json = dict[str, Any]


def data_blocks(package: Json, charts: Charts | None = None) -> list[Block]:
    """Training run and data: where they come from, what was left out, what the columns hold."""
    blocks = [heading("Training and data")]
    blocks += [*training_run_blocks(package["training"]), *experiment_blocks(package)]
    rows: list[list[Cell]] = [
        [
            f"{o['train']['name']} and {o['holdout']['name']}",
            o["level"],
            number(o["overlapping_records"]),
            "● none shared" if o["passed"] else "○ shared",
            f"compared {len(o['compared_columns'])} columns; left out: {', '.join(o['ignored_columns']) or 'none'}; {entry(o['entry'])}",
        ]
        for o in package["overlap"]
    ]
    rows += [_level(o, level) for o in package["overlap"] for level in o.get("levels") or ()]
    blocks += table(
        ["Data sets", "Level", "Shared", "Result", "How"],
        [26, 12, 10, 16, 36],
        rows,
        caption="Do training and evaluation share records?",
        right=(2,),
    )
    blocks += _distributions(package["data"], {} if charts is None else charts)
    declared = package["model"]["framework_facts"].get("value_labels")
    for item in package["data"]:
        blocks += _snapshot(item, declared if isinstance(declared, dict) else {})
    return blocks


def _level(overlap: Json, level: Json) -> list[Cell]:
    """One level of a comparison that had several: what it found, which the comparison as a whole judged."""
    settings = ", ".join(f"{words(key)} {value}" for key, value in sorted(level["parameters"].items()))
    told = [
        f"{number(level['overlap_train'])} records of {overlap['train']['name']} on the other side",
        settings,
        f"{number(level['not_compared'])} not compared" if level["not_compared"] else "",
    ]
    return [
        f"{overlap['train']['name']} and {overlap['holdout']['name']}",
        words(level["level"]),
        number(level["overlap_holdout"]),
        "as above",
        "; ".join(part for part in told if part),
    ]


def _distributions(data: list[Json], charts: Charts) -> list[Block]:
    """Shares of classes and groups in the training data beside those in the evaluation data."""
    recorded = [item for item in data if item["recorded"]]
    train = next((item for item in recorded if "train" in item["roles"]), None)
    rest = [item for item in recorded if "train" not in item["roles"]]
    other = next((item for item in rest if set(item["roles"]) != {"validation"}), None)  # that is no evaluation data
    if train is None or other is None:
        return []
    before, after = shares_of(train["profile"]), shares_of(other["profile"])
    items = [Pair(name, before.get(name), after.get(name)) for name in dict.fromkeys((*before, *after))]
    if not items:
        return []
    title = "Shares of classes and groups in training and evaluation data"
    charts["shares.svg"] = partial(pairs, title, train["name"], other["name"], items)
    rows: list[list[Cell]] = [
        [
            item.label,
            number(item.before),
            number(item.after),
            number(item.after - item.before) if item.before is not None and item.after is not None else "–",
        ]
        for item in items
    ]
    return [
        image("shares.svg", title, f"{title}, two bars a row; the numbers are in the table below."),
        *table(
            ["What", f"Share in {train['name']}", f"Share in {other['name']}", "Difference"],
            [40, 20, 20, 20],
            rows,
            right=(1, 2, 3),
        ),
    ]


def shares_of(profile: Json) -> dict[str, float]:
    """Return the share of each class and group of a profile, by a name for print."""
    found: dict[str, float] = {}
    target = profile.get("label")
    if isinstance(target, dict):
        for item in target.get("classes") or ():
            share = item.get("fraction")
            if isinstance(share, (int, float)) and not isinstance(share, bool):
                found[f"{target.get('column')} = {item.get('value')}"] = float(share)
    groups = profile.get("groups")
    for name, members in groups.items() if isinstance(groups, dict) else ():
        counts = [m.get("count") for m in members]
        total = sum(c for c in counts if isinstance(c, int))
        for member, count in zip(members, counts, strict=True):
            if isinstance(count, int) and total:
                found[f"{label(str(name))} = {member.get('value')}"] = count / total
    return found


def _coded(value: Any, declared: Json) -> str:
    """A value with the label that the model's registration declares for it; without any, as it is."""
    if not declared:
        return str(value)
    return f"{value}: {declared.get(str(value)) or 'no label declared'}"


def _made(made: Json) -> list[Block]:
    """Who and what made a snapshot, from what, and how its quality was checked."""
    rows: list[tuple[str, Cell]] = []
    if "author" in made:
        rows.append(("Taken by", made["author"]["name"]))
    if "touched_by" in made or "unattributed" in made:
        people = ", ".join(person["name"] for person in made.get("touched_by", ())) or "nobody on record"
        unknown = ", ".join(made.get("unattributed", ()))
        rows.append(("Worked on by", people + (f"; not identified: {unknown}" if unknown else "")))
    if "code" in made:
        rows.append(("Code", code_cell(made["code"])))
    if "unjustified_columns" in made:
        rows.append(("Without a purpose", ", ".join(made["unjustified_columns"])))
    blocks: list[Block] = [key_values(rows)] if rows else []
    if "sources" in made:
        found: list[list[Cell]] = [
            [s["name"], words(s["kind"]), s["version"] or "–", s["time"] or "–"] for s in made["sources"]
        ]
        blocks += table(["Made from", "Kind", "Version", "As of"], [40, 12, 28, 20], found)
    if "quality" in made:
        found = [[c["name"], _QUALITY[c["status"]], c["detail"] or "–", c["tool"] or "–"] for c in made["quality"]]
        blocks += table(["Quality check", "Result", "What it found", "By"], [26, 16, 40, 18], found)
    return blocks


_QUALITY = {"pass": "● pass", "fail": "○ fail", "warn": "△ warning", "error": "○ not carried out"}


def _left_out_why(rule: Json) -> Cell:
    """What a rule left out, and whether its counts were checked; packages of earlier builds do not say."""
    if "verified" not in rule:
        return rule["description"] or "–"
    told = f"counts checked against {rule['verified']}" if rule["verified"] else "counts by the owner's word"
    return [{"v": rule["description"] or "–"}, small(told, n=True)]


def _share(group: Json, groups: list[Json]) -> str:
    """The share of a group among the records that are in some group."""
    counts = [item["count"] for item in groups if isinstance(item.get("count"), int)]
    return number(group["count"] / sum(counts)) if isinstance(group.get("count"), int) and sum(counts) else "–"


def _snapshot(item: Json, labels: Json) -> list[Block]:
    blocks = [heading(f"Data set {item['name']}", 2)]
    if not item["recorded"]:
        return [*blocks, paragraph("The snapshot that was referred to is not on record.")]
    source = item["provenance"]
    period = (
        " to ".join(str(source[key]) for key in ("collected_from", "collected_to") if source.get(key))
        or source.get("collected_unknown")
        or "not stated"
    )
    blocks.append(
        key_values(
            [
                ("Used as", ", ".join(words(role) for role in item["roles"])),
                ("Root", [mono(digest_text(item["root"]))]),
                ("Recorded", f"{entry(item['entry'])}, {item['entry']['time']}"),
                (
                    "Size",
                    f"{number(item['rows'])} records, {number(item['files'])} files, {number(item['bytes'])} bytes",
                ),
                ("Source", f"{source.get('source') or 'not stated'}; owner: {source.get('owner') or 'not stated'}"),
                ("Licence", str(source.get("licence") or "not stated")),
                ("Period, place", f"{period}; {source.get('jurisdiction') or 'place not stated'}"),
                (
                    "Not stated",
                    ", ".join(words(name) for name in item["missing_provenance"]) or "nothing mandatory is missing",
                ),
            ]
        )
    )
    if item["exclusions"]:
        rows: list[list[Cell]] = [
            [
                e["rule"],
                _left_out_why(e),
                number(e["rows_before"]),
                number(e["rows_after"]),
                number(e["rows_before"] - e["rows_after"]),
            ]
            for e in item["exclusions"]
        ]
        blocks += table(
            ["Left out by", "Description", "Before", "After", "Left out"], [22, 42, 12, 12, 12], rows, right=(2, 3, 4)
        )
    blocks += _made(item.get("made") or {})
    blocks += extra_blocks(item)
    profile = item["profile"]
    rows = [
        [
            c["name"],
            str(c.get("type", "–")),
            number(c.get("nulls", 0) + c.get("nans", 0)),
            number(c.get("distinct")),
            f"{number(c.get('min'))} to {number(c.get('max'))}" if "min" in c else "–",
            number(c.get("mean")),
        ]
        for c in profile["columns"]
    ]
    blocks += table(
        ["Column", "Type", "Missing", "Distinct", "Range", "Mean"],
        [24, 16, 12, 12, 22, 14],
        rows,
        caption="Columns",
        right=(2, 3, 5),
        empty="no columns on record",
    )
    shares: list[list[Cell]] = []
    target = profile["label"]
    if target:
        shares += [
            [f"label {target['column']}", str(c["value"]), number(c["count"]), number(c.get("fraction"))]
            for c in target["classes"]
        ]
    for name, found in profile["groups"].items():
        stated = labels.get(str(name))
        declared = stated if isinstance(stated, dict) else {}
        shares += [
            [f"group {with_name(str(name))}", _coded(g["value"], declared), number(g["count"]), _share(g, found)]
            for g in found
        ]
    if shares:
        blocks += table(
            ["What", "Value", "Records", "Share"], [30, 34, 18, 18], shares, caption="Classes and groups", right=(2, 3)
        )
    return blocks
