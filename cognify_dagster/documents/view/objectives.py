"""What the metrics are evidence for, as the package's objectives say it. Pure."""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.labels import metric_label, status_words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    heading,
    interval,
    number,
    operator,
    paragraph,
    small,
    table,
)

Json = dict[str, Any]
_LABELS = {"convention": "a convention", "law": "law", "policy": "your own policy"}
_BASES = {
    "primary": "checked against the source",
    "secondary": "from secondary sources",
    "memory": "not checked against the source",
}


def objective_blocks(package: Json) -> list[Block]:
    """Each metric with its objective in plain words, its limit and the requirements; then those that the table does not know."""
    part = package.get("objectives")
    if not part or not (part["metrics"] or part["unmapped"]):
        return []
    rows: list[list[Cell]] = [
        [
            [{"v": metric_label(item["metric"]), "b": True}, small(item["metric"], n=True)],
            [{"v": item["objective"]}, *([small(f"Caution: {item['caution']}", n=True)] if item["caution"] else [])],
            _value(item),
            _limit(item),
            [{"v": found["requirement"], "n": bool(at)} for at, found in enumerate(item["requirements"])]
            or "none of the frameworks above",
        ]
        for item in part["metrics"]
    ]
    blocks = [
        heading("What the metrics are evidence for", 2),
        paragraph(small(f"{part['disclaimer']} Table of objectives {part['version']}, as of {part['as_of']}.")),
    ]
    if rows:
        blocks += table(
            ["Metric", "Evidence for", "Value", "Limit", "Requirements"],
            [22, 30, 13, 19, 16],
            rows,
            caption="Metrics, their objectives and limits",
            size=8.4,
        )
    if part["unmapped"]:
        names = "; ".join(_unmapped(item) for item in part["unmapped"])
        blocks.append(
            paragraph(f"No objective is stated for: {names}. They are shown above and support no requirement.")
        )
    return blocks


def _value(item: Json) -> Cell:
    if item["status"] != "computed":
        return {"insufficient_data": "insufficient data", "missing": "not measured"}[item["status"]]
    shown: list[Json] = [{"v": number(item["value"])}]
    if item["ci_low"] is not None:
        shown.append(small(interval(item["ci_low"], item["ci_high"]), n=True))
    return shown


def _limit(item: Json) -> Cell:
    """The limits that people adopted; without any, the default with whose it is."""
    if item["adopted"]:
        return [
            {
                "v": f"{operator(a['op'])} {number(a['threshold'])}, {status_words(a['status'])} (gate {a['gate']})",
                "n": at > 0,
            }
            for at, a in enumerate(item["adopted"])
        ]
    found = item["default_threshold"]
    source = _LABELS.get(found["label"], found["label"])
    basis = f"; {_BASES[found['basis']]}" if found["basis"] in _BASES else ""
    said = f"{found['citation']}{basis}" if found["citation"] else ""
    none = [{"v": "none adopted"}]
    if found["value"] is None:
        return [*none, small(found["text"], n=True)] if found["text"] else none
    return [*none, small(f"default {_range(found)}, {source}{f': {said}' if said else ''}", n=True)]


def _range(found: Json) -> str:
    if found["op"] == "within":
        return f"{number(found['value'])} to {number(found['upper'])}"
    if found["op"] == "abs<=":
        return f"at most {number(found['value'])} either way"
    return f"{operator(str(found['op']))} {number(found['value'])}"


def _unmapped(item: Json) -> str:
    said = f" ({item['stated_objective']})" if item["stated_objective"] else ""
    return f"{metric_label(item['metric'])}{said}"
