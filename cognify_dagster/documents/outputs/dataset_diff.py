"""The difference of two dataset snapshots as one HTML page: it loads nothing, runs nothing, and each plot has its table below.

Invariants: the page shows only what is in the difference, whose digest stands on top; every text is escaped and cleaned; the same
difference gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.documents.charts import Pair, pairs
from cognify_dagster.documents.charts.drawing import BAR, GRID, INK, PAPER, SOFT, WIDTH, Canvas, finite, tick_text
from cognify_dagster.documents.charts.drawing import round_ticks as ticks_of
from cognify_dagster.documents.html.rendering import render_template
from cognify_dagster.documents.view.cleaning import Cleaner, screen_text

TEMPLATE = "documents/dataset_diff.html.j2"
MAX_CHARTS = 60
_STEPS = ("min", "0.05", "0.25", "0.5", "0.75", "0.95", "max")
_WORDS = {
    "min": "minimum",
    "0.05": "5 %",
    "0.25": "25 %",
    "0.5": "median",
    "0.75": "75 %",
    "0.95": "95 %",
    "max": "maximum",
}
MEASURES = {
    "psi": "PSI (population stability index): the sum over values of (q - p) ln(q / p), with the shares p before and q after; a share of 0 counts as half a record",
    "ks_profile": "KS distance from the profiles: the largest distance between the distribution functions drawn through minimum, quantiles and maximum",
}

Part = dict[str, Any]


def render_dataset_diff(
    diff: Mapping[str, Any],
    digest: str,
    *,
    summary: str = "",
    values: Sequence[Mapping[str, Any]] = (),
    template_folder: str | Path | None = None,
) -> str:
    """Render a difference.

    Args:
        diff: what `SnapshotDiff.to_dict` returned.
        digest: what `diff_digest` returned for it.
        summary: what changed in one sentence; stands at the top.
        values: changed records with their values, where these may be shown: `key`, `column`, `old`, `new`.
        template_folder: a folder whose `documents/dataset_diff.html.j2` replaces the shipped one.

    Returns:
        The text of the file, to be written as UTF-8.

    Raises:
        DocumentError: if the template fails.
    """
    page, charts = dataset_diff_view(diff, digest, summary=summary, values=values)
    return render_template(TEMPLATE, template_folder, page=page, charts=charts)


def dataset_diff_view(
    diff: Mapping[str, Any], digest: str, *, summary: str = "", values: Sequence[Mapping[str, Any]] = ()
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what the page of a difference shows: title, lead and sections with their tables, and the charts (SVG) by name.

    Args:
        diff, digest, summary, values: see `render_dataset_diff`.
    """
    charts: dict[str, str] = {}
    sections = [
        _section("What was compared", [_versions(diff)]),
        _section("Files", _files(diff["files"])),
        _section("Records", _records(diff, values)),
        _section("Columns", _schema(diff["schema"])),
        _section("Label", [_column(diff["label"], charts)] if diff["label"] else []),
        _section("Distributions", _distributions(diff["columns"], charts)),
        _section("Groups", _groups(diff["groups"], charts)),
        _section("Changed records, by digest", _examples(diff["keyed"])),
    ]
    page = {
        "title": f"Changes of dataset {diff['new']['name']}",
        "lead": [
            *([summary[:1].upper() + summary[1:].removesuffix(".") + "."] if summary else []),
            f"Difference digest: {digest}. This is what a person signs who approves the change; the page shows its content.",
            "Made from the ledger and its evidence alone, without reading the data."
            + (" Records are personal data: they appear as keyed digests." if diff["personal"] else ""),
        ],
        "sections": [item for item in sections if item["parts"]],
    }
    return _clean(page), charts


def _clean(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    return value if value is None or isinstance(value, bool) else screen_text(str(value))


def _section(title: str, parts: Sequence[Part]) -> Part:
    return {"title": title, "parts": list(parts)}


def _part(
    heading: str = "", text: str = "", head: Sequence[str] = (), rows: Sequence[Sequence[Any]] = (), **more: Any
) -> Part:
    shown = [[_text(cell) for cell in row] for row in rows]
    return {"heading": heading, "text": text, "head": list(head), "rows": shown, "caption": "", "chart": "", **more}


def _text(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return format(value, ".6g") if isinstance(value, float) else str(value)


def _versions(diff: Mapping[str, Any]) -> Part:
    old, new = diff["old"] or {}, diff["new"]
    names = ("name", "root", "files", "bytes", "records", "record_root", "schema_hash")
    rows = [(name.replace("_", " "), old.get(name), new.get(name)) for name in names]
    word = "The two versions have the same root." if diff["equal"] else ""
    return _part(text=word, head=("", "before", "after"), rows=rows)


def _files(files: Mapping[str, Any]) -> list[Part]:
    kinds = ("added", "removed", "changed", "renamed", "unchanged")
    parts = [_part(head=("files", "count"), rows=[(kind, files[kind]) for kind in kinds])]
    for kind in kinds[:3]:
        if files[f"{kind}_paths"]:
            parts.append(_part(f"Files {kind}", _shown(files[kind]), ("path",), [(p,) for p in files[f"{kind}_paths"]]))
    if files["renamed_paths"]:
        parts.append(_part("Files renamed", _shown(files["renamed"]), ("before", "after"), files["renamed_paths"]))
    return parts


def _shown(count: int) -> str:
    return "The first 100 are shown; the digest covers all." if count > 100 else ""


def _records(diff: Mapping[str, Any], values: Sequence[Mapping[str, Any]]) -> list[Part]:
    records, keyed = diff["records"], diff["keyed"]
    if records["compared"]:
        kinds = ("added", "removed", "unchanged")
        text = "As a multiset of record digests; a changed record counts as one removed and one added."
        parts = [_part("By content", text, ("records", "count"), [(kind, records[kind]) for kind in kinds])]
    else:
        parts = [_part("By content", f"Not compared: {records['reason']}.")]
    if not keyed["compared"]:
        return [*parts, _part("By record key", f"Not compared: {keyed['reason']}.")]
    counts = [(kind, keyed[kind]) for kind in ("added", "removed", "changed", "unchanged")]
    text = f"Record key: {', '.join(keyed['key'])}."
    parts.append(_part("By record key", text, ("records", "count"), counts))
    if keyed["columns"]:
        rows = sorted(keyed["columns"].items(), key=lambda item: (-item[1], item[0]))
        parts.append(_part("Records changed in each column", "", ("column", "records"), rows))
    if values:
        listed = [(item["key"], item["column"], item["old"], item["new"]) for item in values]
        parts.append(_part("Changed values", "", ("record", "column", "before", "after"), listed))
    return parts


def _examples(keyed: Mapping[str, Any]) -> list[Part]:
    told = [
        (item["key"][:16] + "…", name, old, new)
        for item in keyed["examples"]
        for name, (old, new) in (item["columns"] or {"not attributed": ("", "")}).items()
    ]
    text = "Digests of keys and values; whoever has a value can compare it. " + _shown(keyed["changed"])
    return [_part("", text, ("key digest", "column", "before", "after"), told)] if told else []


def _schema(schema: Mapping[str, Any]) -> list[Part]:
    rows: list[tuple[Any, ...]] = [("added", name, "", kind) for name, kind in schema["added"]]
    rows += [("removed", name, kind, "") for name, kind in schema["removed"]]
    rows += [("type changed", name, old, new) for name, old, new in schema["retyped"]]
    words = {True: "may be missing", False: "never missing"}
    rows += [("missing values", name, words[old], words[new]) for name, old, new in schema["nullable"]]
    rows += [(f"renamed (equal {i['found_by']})", i["new"], i["old"], i["new"]) for i in schema["renamed"]]
    return [_part(head=("what", "column", "before", "after"), rows=rows)] if rows else []


def _distributions(columns: Sequence[Mapping[str, Any]], charts: dict[str, str]) -> list[Part]:
    if not columns:
        return []
    known = sorted({item["measure"] for item in columns if item["measure"]})
    return [_part(text=f"{MEASURES[name]}.") for name in known] + [_column(item, charts) for item in columns]


def _column(item: Mapping[str, Any], charts: dict[str, str]) -> Part:
    name = f"c{len(charts)}"
    before, after = item["before"], item["after"]
    drawn = ""
    if len(charts) < MAX_CHARTS:
        if item["values"]:
            drawn = pairs(f"Shares of {item['column']}", "before", "after", _shares(item["values"]), clean=screen_text)
        elif before.get("quantiles") and after.get("quantiles"):
            drawn = _boxes(item["column"], before, after)
    if drawn:
        charts[name] = drawn
    rows: list[tuple[Any, ...]]
    if item["values"]:
        head = ("value", "before", "after")
        rows = [("all others" if v["value"] is None else v["value"], v["before"], v["after"]) for v in item["values"]]
        rows += [(f"({key})", before.get(key), after.get(key)) for key in ("rows", "null_share") if key in after]
    else:
        head = ("statistic", "before", "after")
        keys = [key for key in (*before, *(k for k in after if k not in before)) if key != "quantiles"]
        rows = [(key.replace("_", " "), before.get(key), after.get(key)) for key in keys]
        quantiles = before.get("quantiles") or {}, after.get("quantiles") or {}
        rows += [(_WORDS.get(q, q), quantiles[0].get(q), quantiles[1].get(q)) for q in {**quantiles[0], **quantiles[1]}]
    text = ""
    if item["measure"] and item["distance"] is not None:
        text = f"{'PSI' if item['measure'] == 'psi' else 'KS distance from the profiles'}: {item['distance']:.4g}."
    return _part(f"{item['column']} ({item['type']})", text, head, rows, chart=name if drawn else "")


def _shares(values: Sequence[Mapping[str, Any]]) -> list[Pair]:
    totals = [sum(item[side] or 0 for item in values) or None for side in ("before", "after")]

    def share(count: int | None, total: int | None) -> float | None:
        return None if count is None or total is None else count / total

    return [
        Pair(
            "all others" if v["value"] is None else _text(v["value"]),
            share(v["before"], totals[0]),
            share(v["after"], totals[1]),
        )
        for v in values
    ]


def _groups(groups: Sequence[Mapping[str, Any]], charts: dict[str, str]) -> list[Part]:
    parts = []
    for column in sorted({item["column"] for item in groups}):
        mine = [item for item in groups if item["column"] == column]
        name = f"g{len(charts)}"
        items = [Pair(_text(item["value"]), item["share_before"], item["share_after"]) for item in mine]
        charts[name] = pairs(f"Shares of the groups of {column}", "before", "after", items, clean=screen_text)
        rows = []
        for item in mine:
            rows.append((_text(item["value"]), "all", item["before"], item["after"]))
            rows += [(_text(item["value"]), _text(c["value"]), c["before"], c["after"]) for c in item["classes"]]
        parts.append(_part(column, "", ("group", "label", "before", "after"), rows, chart=name))
    return parts


def _boxes(column: str, before: Mapping[str, Any], after: Mapping[str, Any], clean: Cleaner = screen_text) -> str:
    """Two boxes over one scale: minimum and maximum as ends, 5 to 95 % as a line, 25 to 75 % as a box, the median as a mark."""
    sides = [[_number(side.get(key, side["quantiles"].get(key))) for key in _STEPS] for side in (before, after)]
    known = [value for side in sides for value in side if value is not None]
    if not known or min(known) == max(known):
        return ""
    ticks = ticks_of(min(known), max(known))
    first, last = ticks[0], ticks[-1]
    left, right = 80, WIDTH - 30

    def x(value: float) -> float:
        return left + (right - left) * (value - first) / (last - first)

    canvas = Canvas(clean)
    for tick in ticks:
        canvas.line(x(tick), 8, x(tick), 72, GRID, 0.7)
        canvas.text(x(tick), 88, tick_text(tick, ticks), anchor="middle", size=10.5, fill=SOFT)
    for row, (word, fill, side) in enumerate((("before", PAPER, sides[0]), ("after", BAR, sides[1]))):
        y = 24 + 30 * row
        canvas.text(left - 10, y + 4, word, anchor="end", size=11)
        low, five, quarter, middle, three, most, high = side
        for value in (low, high):
            if value is not None:
                canvas.dot(x(value), y, 2.2)
        if five is not None and most is not None:
            canvas.line(x(five), y, x(most), y, INK, 1.2)
        if quarter is not None and three is not None:
            canvas.rect(x(quarter), y - 8, x(three) - x(quarter), 16, fill, INK)
        if middle is not None:
            canvas.line(x(middle), y - 8, x(middle), y + 8, INK, 2.2)
    words = "; ".join(
        f"{word}: " + ", ".join(f"{_WORDS[key]} {_text(value)}" for key, value in zip(_STEPS, side, strict=True))
        for word, side in (("before", sides[0]), ("after", sides[1]))
    )
    return canvas.svg(96, f"Distribution of {column}", words)


def _number(value: Any) -> float | None:
    try:
        return finite(float(value))
    except (TypeError, ValueError):
        return None
