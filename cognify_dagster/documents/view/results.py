"""What an evaluation measured beside its metrics: sites and slices, comparisons, sensitivity, benchmarks, explanations. Pure.

The worst site is named before the table, so that no average hides it; a slice with too few records is listed by its size only.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from cognify_dagster.documents.charts import Bar, bars
from cognify_dagster.documents.labels import metric_label, with_name, words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    bold,
    digest_text,
    heading,
    image,
    interval,
    mono,
    number,
    number_of,
    paragraph,
    small,
    table,
)
from cognify_dagster.documents.view.fairness import Charts

Json = dict[str, Any]


def result_blocks(result: Json, charts: Charts) -> list[Block]:
    """Each part that the evaluation holds, in the order a reader asks: where, against what, how stable, how it compares, why."""
    return [
        *_slices(result, charts),
        *_comparisons(result),
        *_perturbations(result),
        *_benchmarks(result),
        *_explanations(result),
    ]


def _slices(result: Json, charts: Charts) -> list[Block]:
    found = result.get("slices", ())
    sites = [item for item in found if item["kind"] == "site"]
    rest = [item for item in found if item["kind"] != "site"]
    blocks: list[Block] = []
    if sites:
        blocks.append(heading("Results by site", 2))
        worst = result.get("worst_site")
        if worst:
            text = f"Worst site by {metric_label(worst['metric'])}: "
            blocks.append(paragraph(text, bold(f"{worst['value']}, {number(worst['result'])}"), "."))
        else:
            blocks.append(paragraph("No metric has a direction, so no site can be named as the worst."))
        blocks += _site_chart(sites, worst, charts)
        blocks += _slice_table(sites, "Site", worst)
    if rest:
        blocks += [heading("Results by part of the data", 2), *_slice_table(rest, "Part", None)]
    return blocks


def _site_chart(sites: list[Json], worst: Json | None, charts: Charts) -> list[Block]:
    """Bars with intervals for the metric by which the worst site was found, where it lies between 0 and 1."""
    if worst is None:
        return []
    items = []
    for site in sites:
        metric: Json = next((m for m in site["metrics"] if m["name"] == worst["metric"]), {})
        value = number_of(metric.get("value"))
        if value is not None and not 0 <= value <= 1:
            return []
        low, high = number_of(metric.get("ci_low")), number_of(metric.get("ci_high"))
        items.append(Bar(site["value"], value, low, high, f"n = {number(site['n'])}"))
    title = f"{metric_label(worst['metric'])} by site"
    charts["sites.svg"] = partial(bars, title, items)
    alt = f"{title} with intervals; the numbers are in the table below."
    return [image("sites.svg", f"{title}, with interval and number of records", alt)]


def _slice_table(found: list[Json], head: str, worst: Json | None) -> list[Block]:
    rows: list[list[Cell]] = []
    for item in found:
        is_worst = worst is not None and (item["attribute"], item["value"]) == (worst["attribute"], worst["value"])
        name: Cell = [bold(item["value"]) if is_worst else {"v": item["value"]}, small(item["attribute"], n=True)]
        if not item["metrics"]:
            rows.append([name, number(item["n"]), "insufficient data", "–", "–", "–"])
        for metric in item["metrics"]:
            mark = " (worst)" if is_worst and worst is not None and metric["name"] == worst["metric"] else ""
            few = metric["status"] == "insufficient_data"
            value: Cell = "insufficient data" if few else f"{number(metric['value'])}{mark}"
            span = interval(metric["ci_low"], metric["ci_high"])
            rows.append([name, number(item["n"]), metric_label(metric["name"]), value, span, number(metric["n"])])
            name = item["value"]
    head_row = [head, "Records", "Metric", "Value", "Interval", "Behind it"]
    return table(head_row, [22, 10, 22, 16, 20, 10], rows, right=(1, 5), size=8.4)


def _comparisons(result: Json) -> list[Block]:
    blocks: list[Block] = []
    for item in result.get("comparisons", ()):
        champion, data = item["champion"], item["dataset"]
        seen = f", evaluated in entry {champion['evaluation_seq']}" if champion["evaluation_seq"] is not None else ""
        rows: list[list[Cell]] = [
            [
                metric_label(m["name"]),
                number(m["champion"]),
                number(m["challenger"]),
                _signed(m["difference"]),
                interval(m["ci_low"], m["ci_high"]),
                {"better": "● better", "worse": "○ worse", "not_judged": "not judged, no interval"}.get(m["verdict"], words(m["verdict"])),
            ]
            for m in item["metrics"]
        ]  # fmt: skip
        counted = f", {number(item['n'])} records" if item["n"] is not None else ""
        blocks += [
            heading(f"Compared with {champion['name']}", 2),
            paragraph(
                f"Both on the same snapshot: {data['name']}, entry {data['seq']}{counted}{seen}. The difference is this version less the other. "
                f"{item['method']}"
            ),
            *table(
                ["Metric", champion["name"], "This version", "Difference", "Interval of the difference", "Verdict"],
                [20, 14, 14, 13, 22, 17],
                rows,
                right=(1, 2, 3),
            ),
            *(paragraph(small(f"Note: {note}")) for note in item["notes"]),
        ]
    return blocks


def _signed(value: Any) -> str:
    known = number_of(value)
    return f"{'+' if known is not None and known > 0 else ''}{number(value)}"


def _perturbations(result: Json) -> list[Block]:
    found = result.get("perturbations", ())
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            [{"v": item["feature"]}, small(change_words(item), n=True)],
            metric_label(item["metric"]),
            number(item["before"]),
            "could not score" if item["status"] == "error" else number(item["after"]),
            _signed(item["change"]) if item["change"] is not None else "–",
            number(item["flipped"]),
            number(item["n"]),
        ]
        for item in found
    ]  # fmt: skip
    notes = dict.fromkeys(f"{item['feature']}, {change_words(item)}: {item['note']}" for item in found if item["note"])
    seeds = sorted({str(item["seed"]) for item in found if item["seed"] is not None})
    said = "What became of the metric when an input was changed on purpose; the model stayed the same."
    if seeds:
        said += f" Seed {', '.join(seeds)}."
    head = ["Input and change", "Metric", "Before", "After", "Change", "Decisions flipped", "Records"]
    return [
        heading("Sensitivity", 2),
        paragraph(said),
        *table(head, [28, 16, 11, 13, 11, 11, 10], rows, right=(2, 3, 4, 5, 6), size=8.4),
        *(paragraph(small(f"Note: {note}")) for note in notes),
    ]


def change_words(item: Json) -> str:
    """Return how an input was changed, and by how much."""
    size = number_of(item["size"])
    amount = f"{size:g}" if size is not None else str(item["size"])
    return f"{words(item['transformation'])}, {amount} {item['unit']}".rstrip()


def _benchmarks(result: Json) -> list[Block]:
    found = result.get("benchmarks", ())
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            [{"v": with_name(item["task"])}, small(_made(item), n=True)],
            item["metric"] + (f" ({item['filter']})" if item["filter"] not in ("", "none") else ""),
            number(item["value"]),
            interval(item["ci_low"], item["ci_high"]),
            number(item["n"]) + (f" of {number(item['n_available'])}" if item["n_available"] not in (None, item["n"]) else ""),
            item["objective"] or "nothing stated: unmapped",
        ]
        for item in found
    ]  # fmt: skip
    harness = (
        ", ".join(dict.fromkeys(item["harness"] for item in found if item["harness"])) or "a harness that is not named"
    )
    said = (
        f"Measured by {harness}. A public benchmark describes ability in general and says nothing about the intended use. "
        "The harness's own result file is evidence; the register names it."
    )
    return [
        heading("Public benchmarks", 2),
        paragraph(said),
        *table(
            ["Benchmark", "Metric", "Value", "Interval", "Questions", "What it is evidence for"],
            [20, 14, 10, 18, 12, 26],
            rows,
            right=(2,),
            size=8.4,
        ),
    ]


def _made(item: Json) -> str:
    shots = "" if item["n_shot"] is None else f", {item['n_shot'] or 'no'} examples shown"
    return f"version {item['version'] or 'not stated'}{shots}"


def _explanations(result: Json) -> list[Block]:
    found = result.get("explanations", ())
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            f"decision {item['decision']}" if item["decision"] else "single decisions" if item["scope"] == "decision" else "the model",
            words(item["method"]),
            number(item["count"]) + (" features" if item["scope"] == "global" else " decisions"),
            "; ".join(f"{effect['name']} {number(effect['value'])}" for effect in item["top"][:8]) or "–",
            [mono(digest_text(item["item"]["digest"], 32))],
        ]
        for item in found
    ]  # fmt: skip
    notes = dict.fromkeys(item["note"] for item in found if item["note"])
    outputs = dict.fromkeys(item["output"] for item in found if item["output"])
    return [
        heading("Explanations", 2),
        paragraph(
            (f"Of: {'; '.join(outputs)}. " if outputs else "")
            + "Kept as evidence by digest; this command gives the one of a single decision and checks it: ",
            mono("cognify evaluation explain"),
        ),
        *table(
            ["About", "Method", "Holds", "Largest effects", "SHA-256, first 32 digits"],
            [16, 16, 14, 30, 24],
            rows,
            size=8.4,
        ),
        *(paragraph(small(f"Note: {note}")) for note in notes),
    ]
