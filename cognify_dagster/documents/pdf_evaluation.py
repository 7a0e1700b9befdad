"""The evaluation as printed: verdicts, metrics, calibration and outcomes by group, each chart with its table. Pure."""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.blocks import (
    Block,
    Cell,
    bold,
    entry,
    heading,
    interval,
    key_values,
    number,
    number_of,
    operator,
    paragraph,
    small,
    table,
)
from cognify_dagster.documents.changes import flat
from cognify_dagster.documents.charts import Bar, bars, calibration
from cognify_dagster.documents.labels import label, metric_label, status_words, with_name, words
from cognify_dagster.documents.pdf_signatures import SignOffs

Json = dict[str, Any]
Charts = dict[str, str]


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
    blocks += _fairness(package, result, charts)
    beside = {note for item in result["fairness"] for note in item.get("notes", [])}
    for note in dict.fromkeys(result["notes"]):
        if note in beside:
            continue  # it stands with its attribute already
        blocks.append(paragraph(small(f"Note: {note}")))
    return blocks


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
    points = []
    for b in bins:
        values = [number_of(b.get(key)) for key in ("mean_predicted", "observed_rate", "ci_low", "ci_high")]
        if all(value is not None for value in values):
            points.append(tuple(values))
    if points:
        charts["calibration.svg"] = calibration("Calibration", points)  # type: ignore[arg-type]
        blocks.append(
            {
                "t": "image",
                "file": "calibration.svg",
                "width": 70,
                "alt": "Predicted probability against observed rate by score band; the numbers are in the table below.",
                "caption": "Predicted and observed by score band",
            }
        )
    return blocks + table(
        ["Band", "Scores", "Records", "Mean predicted", "Observed rate", "Interval of the observed rate"],
        [8, 24, 12, 16, 16, 24],
        rows,
        right=(0, 2, 3, 4),
    )


def _fairness(package: Json, result: Json, charts: Charts) -> list[Block]:
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
    charts[file] = bars(
        f"Selection rate by {label(str(item.get('attribute')))}", items[:40], limit=limit, limit_label=drawn_label
    )
    drawn = "; the dashed line is the adopted limit" if gate else ""
    return [
        {
            "t": "image",
            "file": file,
            "width": 84,
            "alt": f"Selection rate by {label(str(item.get('attribute')))} with intervals; the numbers are in the table below.",
            "caption": f"Selection rate by group with interval and number of records{drawn}",
        }
    ]
