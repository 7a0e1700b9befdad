"""Outcomes by group: each chart with its table, and how the groups compare. Pure."""

from __future__ import annotations

from functools import partial
from typing import Any

from cognify_dagster.documents.charts import Bar, Drawing, bars
from cognify_dagster.documents.labels import label, with_name, words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    heading,
    image,
    interval,
    number,
    number_of,
    operator,
    paragraph,
    small,
    table,
)

Json = dict[str, Any]
#: Charts by file name, each waiting for the way in which texts are cleaned.
Charts = dict[str, Drawing]


def fairness_blocks(package: Json, result: Json, charts: Charts) -> list[Block]:
    """Each attribute with its groups and comparisons."""
    blocks = [
        heading("Outcomes by group", 2),
        paragraph(
            "A screen, not a test that can be passed: differences are a reason to look closer. Groups below the minimum size are shown by their size only and enter no comparison. "
            "A limit is held against the value; the interval decides nothing, and a finding names each one that crosses its limit. "
            "A comparison without a limit is marked “compared, no limit”."
        ),
    ]
    if not result["fairness"]:
        blocks.append(paragraph("No result by group is on record."))
    limits = {o["metric"]: f"{operator(o['op'])} {number(o['threshold'])}" for o in package["gates"]["outcomes"]}
    for index, item in enumerate(result["fairness"]):
        attribute = str(item.get("attribute", "attribute"))
        blocks.append(heading(with_name(attribute), 3))
        blocks.append(
            paragraph(
                small(
                    f"Favourable decision: {item.get('favourable', 'not stated')}. Minimum group size: {number(item.get('min_cell'))}."
                )
            )
        )
        blocks += _fairness_chart(package, item, f"fairness-{index}.svg", charts)
        rows: list[list[Cell]] = []
        for group in item.get("groups", []):
            if group.get("status") == "insufficient_data" or not group.get("selection_rate"):
                rows.append([str(group.get("group")), number(group.get("n")), "insufficient data", "–", "–", "–"])
                continue
            rate = group["selection_rate"]
            rows.append(
                [
                    str(group.get("group")),
                    number(group.get("n")),
                    number(rate.get("value")),
                    interval(rate.get("ci_low"), rate.get("ci_high")),
                    _rate(group, "tpr"),
                    _rate(group, "fpr"),
                ]
            )
        blocks += table(
            [
                "Group",
                "Records",
                "Selection rate",
                "Interval",
                "True favourable rate (TPR)",
                "False favourable rate (FPR)",
            ],
            [18, 11, 13, 22, 18, 18],
            rows,
            right=(1, 2, 4, 5),
        )
        rows = [
            [
                label(str(d.get("name"))),
                number(d.get("value")),
                interval(d.get("ci_low"), d.get("ci_high")),
                str(d.get("unit", "–")),
                limits.get(f"fairness.{attribute}.{d.get('name')}", "compared, no limit"),
                words(str(d.get("status", "–"))),
            ]
            for d in item.get("disparities", [])
        ]
        head = ["Comparison", "Value", "Interval", "Unit", "Limit on the value", "Status"]
        blocks += table(head, [28, 10, 20, 12, 17, 13], rows, right=(1,))
        for note in item.get("notes", []):
            blocks.append(paragraph(small(f"Note: {note}")))
    return blocks


def _rate(group: Json, name: str) -> str:
    rate = group.get(name)
    if not isinstance(rate, dict) or rate.get("status") == "insufficient_data":
        return "–"
    return number(rate.get("value"))


def _fairness_chart(package: Json, item: Json, file: str, charts: Charts) -> list[Block]:
    items, best = [], 0.0
    for group in item.get("groups", []):
        rate = group.get("selection_rate") if group.get("status") != "insufficient_data" else None
        value = number_of(rate.get("value")) if isinstance(rate, dict) else None
        best = max(best, value or 0.0)
        low, high = (number_of(rate.get(key)) if isinstance(rate, dict) else None for key in ("ci_low", "ci_high"))
        items.append(Bar(str(group.get("group")), value, low, high, f"n = {number(group.get('n'))}"))
    if not items or not best:
        return []
    metric = f"fairness.{item.get('attribute')}.adverse_impact_ratio"
    gate = next((o for o in package["gates"]["outcomes"] if o["metric"] == metric and o["op"] in (">=", ">")), None)
    limit = best * gate["threshold"] if gate else None
    drawn_label = f"{number(gate['threshold'])} of the highest rate" if gate else ""
    title = f"Selection rate by {label(str(item.get('attribute')))}"
    charts[file] = partial(bars, title, items, limit=limit, limit_label=drawn_label)
    drawn = "; the dashed line is the adopted limit" if gate else ""
    alt = f"{title} with intervals; the numbers are in the table below."
    return [image(file, f"Selection rate by group with interval and number of records{drawn}", alt)]
