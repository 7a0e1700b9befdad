"""The validation report of a model version: what independent validation had before it, what it decided, and what stays open.

It follows the shape that guidance on model risk gives such reports: conclusion, scope, conceptual soundness, outcomes analysis, limits,
findings, effective challenge, conditions, monitoring. Invariants: every number comes from the sealed evaluation in the package that
people sign, none is entered by hand; a conclusion is only what somebody signed; what is missing is said, with who has to give it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from cognify_dagster.documents.labels import STATUS_LABELS, label_status, metric_label, with_name, words
from cognify_dagster.documents.outputs.challenge import (
    challenge_blocks,
    conclusion_blocks,
    condition_blocks,
    finding_blocks,
    sign_offs_on,
)
from cognify_dagster.documents.outputs.common import (
    cited,
    commit_of,
    digest,
    ledger_rows,
    listed,
    name_of,
    objective,
    pairs,
    preamble,
)
from cognify_dagster.documents.outputs.content import Block, Cell, Document, Heading, Notice, Paragraph, facts, table
from cognify_dagster.documents.outputs.humans import human_blocks
from cognify_dagster.documents.outputs.validation_results import absent_blocks, capture_blocks, capture_rows
from cognify_dagster.documents.package.building import package_digest
from cognify_dagster.documents.package.changes import flat
from cognify_dagster.documents.view.blocks import interval, number, operator
from cognify_dagster.governance import Directory
from cognify_dagster.governance.release.case import Case
from cognify_dagster.workspace import Reading

Json = dict[str, Any]
#: Frameworks whose section on validation the report lists line by line, where the model names them.
VALIDATION_SECTIONS = ("validation", "evaluation")


def validation_report(reading: Reading, package: Json, *, now: datetime) -> Document:
    """Return the validation report of the version that a package is about.

    Args:
        reading: verified entries, at least those that the package describes.
        package: the package that people sign, as `read_package` gives it.
        now: the moment for which findings and conditions are judged, with time zone.
    """
    model, version = package["model"]["key"], package["version"]
    case = Case(reading, model, version, now, "")
    signed = sign_offs_on(case, package_digest(package))
    newer = reading.size - package["ledger"]["size"]
    blocks: list[Block] = preamble(
        reading,
        now,
        f"What independent validation of {model}, version {version}, had before it, what was decided, and what is open.",
    )
    blocks += [
        facts(
            ("Model", package["model"]["title"] or model),
            ("Model key", model),
            ("Version", version),
            ("Owner", package["model"]["owner"]),
            ("Risk tier", package["required_stages"]["tier"] or package["model"]["risk_tier"]),
            ("Package", digest(package_digest(package))),
            ("Package revision", f"{package['revision']}, describes the first {package['ledger']['size']} entries"),
            *ledger_rows(reading),
        ),
        Heading("1. Conclusion of the validators"),
        *conclusion_blocks(case, package, signed),
        Heading("2. Purpose and scope"),
        *human_blocks(package, "intended_use"),
        *human_blocks(package, "out_of_scope"),
        *human_blocks(package, "scope_rationale", title="Why this model is in scope"),
        *human_blocks(package, "validation_plan", title="Plan and frequency of validation"),
        Heading("3. Conceptual soundness"),
        *_design(package),
        *human_blocks(package, "design_rationale", title="Why the model is built this way (its developer)"),
        *human_blocks(package, "concept_review", title="Review of conceptual soundness (validation)"),
        Heading("4. Data"),
        *_data(package),
        *human_blocks(package, "data_assessment", title="Assessment of the data (its developer)"),
        Heading("5. Outcomes analysis"),
        *_outcomes(package, case.people),
        Heading("6. Limitations"),
        *human_blocks(package, "limitations"),
        *human_blocks(package, "failure_modes"),
        Heading("7. Findings"),
        *finding_blocks(case, package),
        Heading("8. Effective challenge"),
        *challenge_blocks(case, package, signed, newer),
        *human_blocks(package, "challenge_record"),
        Heading("9. Conditions"),
        *condition_blocks(case, signed),
        Heading("10. Ongoing monitoring"),
        *human_blocks(package, "monitoring_plan", title="Plan of monitoring"),
        Heading("11. Requirements on validation"),
        *_requirements(package),
        Heading("12. Evidence"),
        *_evidence(package),
    ]
    return Document(
        "validation_report",
        f"Validation report: {package['model']['title'] or model}, version {version}",
        tuple(blocks),
    )


def _design(package: Json) -> list[Block]:
    run = package["training"]
    if run is None:
        return [Paragraph("No sealed training run is on record.")]
    code, commit = run["code"], commit_of(run["code"])
    state = "clean" if code["dirty"] is False else "not known to be clean"
    return [
        facts(
            ("Kind of model", pairs(run["architecture"]) or "not recorded"),
            ("Base model", pairs(run["base_model"]) or "none on record"),
            ("Settings", _settings(run["config"])),
            ("Seed", "none" if run["seed"] is None else str(run["seed"])),
            *capture_rows(run),
            (
                "Why this candidate was chosen",
                run["selection_note"] or "not recorded; the developer states it where training is sealed",
            ),
            ("Code", f"{commit or 'no commit on record'} ({state})"),
            ("List of model files" if run.get("model_files") else "Model file", digest(run["model_file"]["digest"])),
            ("Sealed in", cited(run["entry"])),
        )
    ]


def _settings(config: Json) -> str:
    """The settings on one line; where a trainer recorded all of its own, how many there are and where they stand."""
    count = len(flat(config))
    return (
        pairs(config) or "none recorded"
        if count <= 24
        else f"{count} settings, listed in the package and the model card"
    )


def _data(package: Json) -> list[Block]:
    rows: list[list[Cell]] = []
    for item in package["data"]:
        if not item["recorded"]:
            rows.append(
                [
                    item["name"],
                    listed(item["roles"]),
                    "–",
                    "the snapshot is not on record",
                    digest(item["root"]),
                    "none",
                ]
            )
            continue
        origin = item["provenance"].get("source") or "source not stated"
        left_out = sum(rule["rows_before"] - rule["rows_after"] for rule in item["exclusions"])
        text = f"{origin}; {number(left_out)} left out" + (
            f"; not stated: {', '.join(item['missing_provenance'])}" if item["missing_provenance"] else ""
        )
        rows.append(
            [
                item["name"],
                listed(item["roles"]),
                number(item["rows"]),
                text,
                digest(item["root"]),
                str(item["entry"]["seq"]),
            ]
        )
    blocks: list[Block] = [table(["Data set", "Used as", "Records", "Origin", "Root", "Entry"], rows, right=[2])]
    for check in package["overlap"]:
        shared = check["overlapping_records"]
        blocks.append(
            Paragraph(
                f"Independence of the test data: {number(shared)} records shared by {check['train']['name']} and "
                f"{check['holdout']['name']}, compared by {check['level']} (entry {check['entry']['seq']})."
            )
        )
    if not package["overlap"]:
        blocks.append(Paragraph("Independence of the test data: no comparison with the training data is on record."))
    return blocks


def _outcomes(package: Json, people: Directory) -> list[Block]:
    result = package["evaluation"]
    if result is None:
        return [
            Paragraph(
                "No evaluation is on record; the evaluation of this version has to run before it can be validated."
            )
        ]
    blocks: list[Block] = []
    if not result["current"]:
        blocks.append(Notice("Stale.", "The evaluation is not of the sealed training run of this version."))
    gates = package["gates"]
    blocks += [
        Paragraph(
            f"Every number is read from the sealed evaluation ({cited(result['entry'])}), made by {name_of(people, result['evaluator'])} on "
            f"{result['dataset']['name']}, root {result['dataset']['root'][:16]}…; none was entered by hand."
        ),
        Heading("Performance", 3),
        table(
            ["Metric", "Value", "Interval", "Records", "Evidence for"],
            [
                [metric_label(m["name"]), number(m["value"]), interval(m["ci_low"], m["ci_high"]), number(m["n"]), objective(package, m)]
                for m in result["metrics"]
            ],
            right=[1, 3],
        ),
        Heading("Against limits", 3),
        Paragraph(_limits(gates)),
        table(
            ["Gate", "Metric", "Value", "Limit", "Source", "Result"],
            [
                [
                    o["id"], metric_label(o["metric"]), number(o["value"]), f"{operator(o['op'])} {number(o['threshold'])}",
                    o["source"] or "not known", words(o["status"]),
                ]
                for o in gates["outcomes"]
            ],
            right=[2],
            empty="No gate outcome is on record.",
        ),
        Heading("By group", 3),
        *_groups(result),
        Heading("Since the version released last", 3),
        *_changes(package["changes"]),
        *capture_blocks(result),
        *absent_blocks(result),
    ]  # fmt: skip
    return blocks


def _limits(gates: Json) -> str:
    adopted = gates["set"]
    if adopted is None:
        return "The entry that adopted the limits is not on record."
    order = "before training began" if adopted["before_training"] else "NOT before training began"
    return (
        f"Gate set {adopted['name']}, adopted by {adopted['adopted_by']['name']} {order} ({cited(adopted['entry'])})."
    )


def _groups(result: Json) -> list[Block]:
    rows: list[list[Cell]] = []
    for item in result["fairness"]:
        small = listed(item.get("excluded_groups") or [])
        for found in item.get("disparities", []):
            value = number(found.get("value"))
            span = interval(found.get("ci_low"), found.get("ci_high"))
            rows.append(
                [
                    with_name(str(item["attribute"])),
                    metric_label(found["name"]),
                    value,
                    span,
                    words(found["status"]),
                    small,
                ]
            )
    head = ["Attribute", "Comparison", "Value", "Interval", "Status", "Too small to measure"]
    text = "A screen: differences are a reason to look closer, never a pass mark. The package holds the numbers of each group."
    return [Paragraph(text), table(head, rows, right=[2], empty="No result by group is on record.")]


def _changes(changes: Json) -> list[Block]:
    if changes["since"] is None:
        return [Paragraph("No earlier version of this model was released.")]
    rows: list[list[Cell]] = [
        [item["area"], item["field"], _short(item["before"]), _short(item["after"])] for item in changes["items"]
    ]
    entry = changes["released_entry"]["seq"]
    text = f"Compared with version {changes['since']}, released in entry {entry}."
    return [Paragraph(text), table(["Area", "What", "Before", "After"], rows, empty="Nothing changed.")]


def _short(value: Any) -> Cell:
    if isinstance(value, str) and len(value.removeprefix("sha256:")) >= 40:
        return digest(value)
    return (
        pairs(value)
        if isinstance(value, dict)
        else number(value)
        if not isinstance(value, list)
        else listed(map(str, value))
    )


def _requirements(package: Json) -> list[Block]:
    rows: list[Sequence[Cell]] = []
    for report in package["coverage"]:
        for line in report["lines"]:
            if line["section"] in VALIDATION_SECTIONS:
                gaps = "; ".join(gap["text"] for gap in line["gaps"]) or "–"
                status = STATUS_LABELS[label_status(line)]
                entries = listed((str(ref["seq"]) for ref in line["entries"]), "–")
                rows.append([line["id"], line["citation"], status, gaps, entries])
    head = ["Requirement", "Citation", "Status when the package was built", "Open", "Entries"]
    return [table(head, rows, empty="The frameworks of this model have no section on validation.")]


def _evidence(package: Json) -> list[Block]:
    rows: list[Sequence[Cell]] = [
        [item["id"], item["shows"], item["when"], digest(item["sha256"]), number(item["size"]), str(item["seq"])]
        for item in package["evidence"]
    ]
    return [table(["No.", "What it shows", "When (UTC)", "SHA-256", "Bytes", "Entry"], rows, right=[4])]
