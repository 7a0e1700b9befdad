"""How the data changed since the version released last, as printed: charts of shares before and after, each with its table. Pure."""

from __future__ import annotations

from functools import partial
from typing import Any

from cognify_dagster.documents.charts import Pair, pairs
from cognify_dagster.documents.labels import label, words
from cognify_dagster.documents.view.blocks import Block, Cell, entry, heading, image, number, paragraph, small, table
from cognify_dagster.documents.view.fairness import Charts

Json = dict[str, Any]


def distribution_blocks(changes: Json, version: str, charts: Charts | None) -> list[Block]:
    """Return what the data changed in, role by role; packages of earlier builds do not say and get nothing."""
    found = changes.get("distributions")
    if found is None:
        return []
    before, after = f"version {changes['since']}", f"version {version}"
    blocks = [heading("Distributions of the data, before and after", 2)]
    if not found:
        same = not any(item["area"] == "data" and str(item["field"]).endswith(": root") for item in changes["items"])
        told = (
            f"Training and evaluation used the same data sets as {before}."
            if same
            else f"The data sets are others than in {before}, and no two of the same role are on record to compare."
        )
        return [*blocks, paragraph(told)]
    for at, item in enumerate(found):
        blocks += _role(item, before, after, f"distributions-{at}.svg", charts)
    return blocks


def _role(item: Json, before: str, after: str, file: str, charts: Charts | None) -> list[Block]:
    old, new = item["before"], item["after"]
    role = "training" if item["role"] == "train" else words(item["role"])
    blocks = [
        paragraph(
            f"Data for {role}: {old['name']} ({entry(old['entry'])}) in {before}, {new['name']} ({entry(new['entry'])}) in {after}."
        )
    ]
    shares = [Pair(_named(row), row["before"], row["after"]) for row in item["shares"]]
    title = f"Shares of classes and groups in the data for {role}, before and after"
    if shares and charts is not None:
        charts[file] = partial(pairs, title, before, after, shares)
        blocks.append(image(file, title, f"{title}, two bars a row; the numbers are in the table below."))
    if shares:
        rows: list[list[Cell]] = [
            [s.label, number(s.before), number(s.after), _delta(s.before, s.after)] for s in shares
        ]
        heads = ["What", f"Share in {before}", f"Share in {after}", "Difference"]
        blocks += table(heads, [40, 20, 20, 20], rows, right=(1, 2, 3))
    else:
        blocks.append(paragraph("Neither profile holds shares of classes or groups."))
    if item["columns"]:
        rows = [
            [c["name"], number(c["before"]), number(c["after"]), "–" if c["shift"] is None else f"{c['shift']:+.3f}"]
            for c in item["columns"]
        ]
        blocks += table(
            ["Column", f"Mean in {before}", f"Mean in {after}", "Shift in standard deviations"],
            [34, 22, 22, 22],
            rows,
            caption="Columns whose mean moved, the greatest shift first",
            right=(1, 2, 3),
        )
    if item["cut"]:
        blocks.append(paragraph(small(f"{item['cut']} more rows than a package lists.")))
    return blocks


def _named(row: Json) -> str:
    column = row["column"] if row["kind"] == "class" else label(row["column"])
    return f"{column} = {row['value']}"


def _delta(before: float | None, after: float | None) -> str:
    return "–" if before is None or after is None else f"{after - before:+.4f}"
