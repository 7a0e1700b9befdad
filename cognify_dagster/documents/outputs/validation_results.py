"""What a validation report says about sites, comparisons, sensitivity, benchmarks and explanations, and that it says so where there are none.

Pure: the package in, blocks out. Every number is one of the sealed evaluation.
"""

from __future__ import annotations

import shlex
from typing import Any

from cognify_dagster.documents.labels import metric_label, words
from cognify_dagster.documents.outputs.common import commit_of, digest, listed
from cognify_dagster.documents.outputs.content import Block, Cell, Code, Heading, Paragraph, table
from cognify_dagster.documents.view.blocks import interval, number
from cognify_dagster.documents.view.results import change_words
from cognify_dagster.documents.view.training import figure

Json = dict[str, Any]
#: What the guidance on model risk looks for in outcomes analysis, by member of the package's evaluation.
_LOOKED_FOR = {
    "slices": "results by site or part of the data",
    "comparisons": "a comparison with the model in use or another approach",
    "perturbations": "sensitivity and stress tests",
    "benchmarks": "public benchmarks",
    "explanations": "explanations",
}


def capture_rows(run: Json) -> list[tuple[str, Cell]]:
    """Return what the training run recorded for someone who wants to check or repeat it; nothing an older run could not hold."""
    rows: list[tuple[str, Cell]] = []
    if run.get("seeds"):
        rows.append(("Seeds by library", listed(f"{name} {value}" for name, value in sorted(run["seeds"].items()))))
    if run["environment"].get("lock_file"):
        rows.append(("Lock file", run["environment"]["lock_file"]))
    if code := run.get("feature_code"):
        rows.append(("Code of the feature pipeline", commit_of(code) or "no commit on record"))
    if saved := run.get("checkpoints"):
        rows.append(("Checkpoints", f"{number(len(saved))}, the last one {saved[-1]['name']}"))
    if compute := run.get("compute"):
        flops = f"{figure(compute['flops'])} FLOP" if compute["flops"] is not None else "operations not measured"
        energy = f"{number(compute['energy_kwh'])} kWh" if compute["energy_kwh"] is not None else "energy not measured"
        rows.append(("Compute and energy", f"{flops}; {energy}"))
    if again := run.get("rerun"):
        rows.append(("To run it again", Code(shlex.join(again["command"]))))
    return rows


def capture_blocks(result: Json) -> list[Block]:
    """Return the parts that the evaluation holds beside metrics and groups."""
    return [
        *_slices(result),
        *_comparisons(result),
        *_perturbations(result),
        *_benchmarks(result),
        *_explanations(result),
    ]


def absent_blocks(result: Json) -> list[Block]:
    """Return what the record does not hold of what a reader of such a report looks for."""
    absent = [text for name, text in _LOOKED_FOR.items() if not result.get(name)]
    said = "A reproduction of the results by the validators is in this report only where somebody wrote about it."
    if absent:
        said = (
            f"Not in the evaluation: {listed(absent)}. They are in this report only where somebody wrote about them, or where they are "
            f"metrics above. {said}"
        )
    return [Heading("Not in the record", 3), Paragraph(said)]


def _slices(result: Json) -> list[Block]:
    found = result.get("slices")
    if not found:
        return []
    rows: list[list[Cell]] = []
    for item in found:
        name = f"{item['attribute']}: {item['value']}"
        if not item["metrics"]:
            rows.append([name, number(item["n"]), "–", "insufficient data", "–"])
        for m in item["metrics"]:
            value = "insufficient data" if m["status"] == "insufficient_data" else number(m["value"])
            rows.append([name, number(item["n"]), metric_label(m["name"]), value, interval(m["ci_low"], m["ci_high"])])
    worst = result.get("worst_site")
    said = (
        f"Worst site by {metric_label(worst['metric'])}: {worst['value']}, {number(worst['result'])}."
        if worst
        else "No site is named as the worst: the slices are no sites, or no metric has a direction."
    )
    head = ["Site or part", "Records", "Metric", "Value", "Interval"]
    return [Heading("By site and part of the data", 3), Paragraph(said), table(head, rows, right=[1, 3])]


def _comparisons(result: Json) -> list[Block]:
    blocks: list[Block] = []
    for item in result.get("comparisons", ()):
        rows: list[list[Cell]] = [
            [
                metric_label(m["name"]),
                number(m["champion"]),
                number(m["challenger"]),
                number(m["difference"]),
                interval(m["ci_low"], m["ci_high"]),
                words(m["verdict"]),
            ]
            for m in item["metrics"]
        ]
        blocks += [
            Heading(f"Compared with {item['champion']['name']}", 3),
            Paragraph(f"Both on {item['dataset']['name']} (entry {item['dataset']['seq']}). {item['method']}"),
            table(
                ["Metric", "The other", "This version", "Difference", "Interval", "Verdict"], rows, right=[1, 2, 3]
            ),
        ]  # fmt: skip
    return blocks


def _perturbations(result: Json) -> list[Block]:
    found = result.get("perturbations")
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            item["feature"],
            change_words(item),
            metric_label(item["metric"]),
            number(item["before"]),
            "could not score" if item["status"] == "error" else number(item["after"]),
            number(item["flipped"]),
        ]
        for item in found
    ]
    head = ["Input", "Change", "Metric", "Before", "After", "Share of decisions flipped"]
    return [Heading("Sensitivity", 3), table(head, rows, right=[3, 4, 5])]


def _benchmarks(result: Json) -> list[Block]:
    found = result.get("benchmarks")
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            f"{item['task']}, version {item['version'] or 'not stated'}",
            item["metric"],
            number(item["value"]),
            interval(item["ci_low"], item["ci_high"]),
            number(item["n"]),
            item["objective"] or "unmapped",
        ]
        for item in found
    ]
    head = ["Benchmark", "Metric", "Value", "Interval", "Questions", "Evidence for"]
    return [Heading("Public benchmarks", 3), table(head, rows, right=[2, 4])]


def _explanations(result: Json) -> list[Block]:
    found = result.get("explanations")
    if not found:
        return []
    rows: list[list[Cell]] = [
        [
            item["decision"] or words(item["scope"]),
            words(item["method"]),
            listed((effect["name"] for effect in item["top"][:5]), "–"),
            digest(item["item"]["digest"]),
        ]
        for item in found
    ]
    return [Heading("Explanations", 3), table(["About", "Method", "Largest effects", "SHA-256"], rows)]
