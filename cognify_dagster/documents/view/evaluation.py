"""The evaluation as printed: verdicts, metrics, calibration and outcomes by group, each chart with its table. Pure."""

from __future__ import annotations

from functools import partial
from typing import Any

from cognify_dagster.documents.charts import Measured, calibration, limits
from cognify_dagster.documents.labels import label, metric_label, status_words, words
from cognify_dagster.documents.package.changes import flat
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    bold,
    entry,
    heading,
    image,
    interval,
    key_values,
    number,
    number_of,
    operator,
    paragraph,
    small,
    table,
)
from cognify_dagster.documents.view.fairness import Charts, fairness_blocks
from cognify_dagster.documents.view.objectives import objective_blocks
from cognify_dagster.documents.view.results import result_blocks
from cognify_dagster.documents.view.signatures import SignOffs
from cognify_dagster.documents.view.training import code_cell

Json = dict[str, Any]


def evaluation_blocks(package: Json, charts: Charts, signed: SignOffs) -> list[Block]:
    """Verdicts first, then metrics, calibration and fairness."""
    blocks = [heading("Evaluation")]
    result = package["evaluation"]
    if result is None:
        return [*blocks, paragraph("No evaluation is on record for this version.")]
    gates = package["gates"]
    adopted = "no signed gate set is on record"
    if gates["set"]:
        before = "before" if gates["set"]["before_training"] else "not before"
        adopted = f"{gates['set']['name']}, adopted and signed by {gates['set']['adopted_by']['name']} in entry {gates['set']['entry']['seq']}, {before} training began"
    current = "the sealed training run of this version" if result["current"] else "ANOTHER training run or model file"
    blocks.append(
        key_values(
            [
                (
                    "Recorded",
                    f"{entry(result['entry'])}, {result['entry']['time']}, written by {result['entry']['actor']}",
                ),
                ("Launched by", result["evaluator"]),
                *_codes(result),
                ("Evaluates", current),
                ("Data", f"{result['dataset']['name']}, entry {result['dataset']['seq']}"),
                ("Limits", adopted),
                *_adopter(gates["set"], package, signed),
                ("Decision threshold", number(result["decision_threshold"])),
            ]
        )
    )
    rows: list[list[Cell]] = [
        [
            [bold(o["id"]), small(words(o["family"]), n=True)],
            [{"v": metric_label(o["metric"])}, small(o["metric"], n=True)],
            number(o["value"]),
            f"{operator(o['op'])} {number(o['threshold'])}",
            status_words(o["status"]),
            f"{str(o['source'] or 'not known').capitalize()}. {o['reason']}",
        ]
        for o in gates["outcomes"]
    ]
    blocks += _limits(gates["outcomes"], result, charts)
    blocks += table(
        ["Gate", "Metric", "Value", "Limit", "Result", "Where the limit comes from"],
        [17, 25, 9, 10, 9, 30],
        rows,
        caption="Verdicts against limits that were adopted before training",
        right=(2, 3),
    )
    rows = [
        [
            label(m["name"]),
            number(m["value"]),
            interval(m["ci_low"], m["ci_high"]),
            number(m["n"]),
            m["unit"] or "–",
            m["objective"] or "–",
        ]
        for m in result["metrics"]
    ]
    blocks += table(
        ["Metric", "Value", "Interval", "Records", "Unit", "What it is evidence for"],
        [16, 10, 20, 10, 16, 28],
        rows,
        caption="Metrics on the evaluation data",
        right=(1, 3),
    )
    settings = result["tables"].get("settings")
    if isinstance(settings, dict) and settings:
        made: list[list[Cell]] = [[label(key), number(value)] for key, value in flat(settings).items()]
        blocks += table(["How the numbers were made", "Value"], [40, 60], made)
    blocks += _calibration(result, charts)
    blocks += fairness_blocks(package, result, charts)
    blocks += result_blocks(result, charts)
    blocks += objective_blocks(package)
    beside = {note for item in result["fairness"] for note in item.get("notes", [])}
    for note in dict.fromkeys(result["notes"]):
        if note in beside:
            continue  # it stands with its attribute already
        blocks.append(paragraph(small(f"Note: {note}")))
    return blocks


def _codes(result: Json) -> list[tuple[str, Cell]]:
    """The code that evaluated; where the measuring tool has code of its own, both."""
    rows: list[tuple[str, Cell]] = [("Code", code_cell(result["code"]))]
    if result.get("evaluator_code"):
        rows.append(("Code that measured", code_cell(result["evaluator_code"])))
    return rows


def _limits(outcomes: list[Json], result: Json, charts: Charts) -> list[Block]:
    """The chart of metrics against their limits; nothing where no limit was adopted."""
    found = {m["name"]: m for m in result["metrics"]}
    items = []
    for o in outcomes:
        value, limit = number_of(o["value"]), number_of(o["threshold"])
        if limit is None:
            continue
        metric = found.get(o["metric"]) or _disparity(result, o["metric"]) or {}
        low, high = number_of(metric.get("ci_low")), number_of(metric.get("ci_high"))
        word = status_words(o["status"])
        items.append(Measured(metric_label(o["metric"]), value, low, high, str(o["op"]), limit, word))
    if not items:
        return []
    title = "Metrics against their limits"
    charts["limits.svg"] = partial(limits, title, items)
    alt = "Each metric with its interval against its limit; the numbers are in the table below."
    return [image("limits.svg", title, alt)]


def _disparity(result: Json, name: str) -> Json | None:
    for item in result["fairness"]:
        for gap in item.get("disparities") or ():
            if f"fairness.{item.get('attribute')}.{gap.get('name')}" == name:
                return dict(gap)
    return None


def _adopter(gate_set: Json | None, package: Json, signed: SignOffs) -> list[tuple[str, Cell]]:
    """Say whether the person who adopted the limits also signed the version: then nobody else has signed the limits."""
    if gate_set is None:
        return []
    person = gate_set["adopted_by"]
    if signed.copy == "review":
        return [("Who judges by them", f"the final copy says whether {person['name']} also signs a stage")]
    titles = {stage["id"]: stage["title"] for stage in package["required_stages"]["stages"]}
    mine = [s for s in signed.standing if s["person"] == person["id"]]
    if not mine:
        return [("Who judges by them", f"{person['name']} signed no stage of this version")]
    stages = ", ".join(
        f"“{titles.get(s['stage'], s['stage'])}” ({words(str(s['decision']))}, entry {s['entry_seq']})" for s in mine
    )
    text = f"{person['name']} also signed {stages}; the limits carry no signature of another person"
    return [("Who judges by them", text)]


def _calibration(result: Json, charts: Charts) -> list[Block]:
    bins = result["tables"].get("calibration")
    if not isinstance(bins, list) or not all(isinstance(b, dict) for b in bins):
        return [heading("Calibration", 2), paragraph("No calibration table is on record.")]
    blocks = [heading("Calibration", 2)]
    rows: list[list[Cell]] = [
        [
            number(b.get("bin")),
            interval(b.get("low"), b.get("high")),
            number(b.get("n")),
            number(b.get("mean_predicted")),
            number(b.get("observed_rate")),
            interval(b.get("ci_low"), b.get("ci_high")),
        ]
        for b in bins
    ]
    points: list[tuple[float, float, float, float]] = []
    for b in bins:
        predicted, observed = number_of(b.get("mean_predicted")), number_of(b.get("observed_rate"))
        low, high = number_of(b.get("ci_low")), number_of(b.get("ci_high"))
        if predicted is not None and observed is not None and low is not None and high is not None:
            points.append((predicted, observed, low, high))
    if points:
        charts["calibration.svg"] = partial(calibration, "Calibration", points)
        alt = "Predicted probability against observed rate by score band; the numbers are in the table below."
        blocks.append(image("calibration.svg", "Predicted and observed by score band", alt, width=70))
    return blocks + table(
        ["Band", "Scores", "Records", "Mean predicted", "Observed rate", "Interval of the observed rate"],
        [8, 24, 12, 16, 16, 24],
        rows,
        right=(0, 2, 3, 4),
    )
