"""Lineage, changes, evidence and entries of a package, with their charts. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from cognify_dagster.documents.charts import Moment, Node, Pair, lineage, pairs, timeline
from cognify_dagster.documents.labels import metric_label, words
from cognify_dagster.documents.view.blocks import (
    Block,
    Cell,
    bold,
    digest_text,
    entry,
    heading,
    image,
    mono,
    number,
    number_of,
    paragraph,
    small,
    table,
)
from cognify_dagster.documents.view.dataset_changes import dataset_change_blocks
from cognify_dagster.documents.view.distributions import distribution_blocks
from cognify_dagster.documents.view.fairness import Charts
from cognify_dagster.documents.view.training import figure

Json = dict[str, Any]


def lineage_blocks(package: Json, charts: Charts | None = None) -> list[Block]:
    """The graph, and every edge with the entry that states it."""
    blocks = [heading("Lineage")]
    listed = package["lineage"]["nodes"]
    if listed and charts is not None:
        items = [Node(n["id"], words(n["kind"]), n["label"], n["digest"].removeprefix("sha256:")) for n in listed]
        arrows = [(e["from"], e["to"]) for e in package["lineage"]["edges"]]
        charts["lineage.svg"] = partial(lineage, "Lineage of this version", items, arrows)
        alt = "What this version was made from, from left to right; every arrow is a row of the table below."
        blocks.append(image("lineage.svg", "What this version was made from", alt, width=100))
    nodes = {node["id"]: node for node in package["lineage"]["nodes"]}

    def name(key: str) -> Cell:
        node = nodes.get(key)
        if node is None:
            return key
        digest = node["digest"].removeprefix("sha256:")[:16]
        return [{"v": node["label"]}, *([mono(digest, n=True)] if digest else [])]

    rows: list[list[Cell]] = [
        [name(e["from"]), e["relation"], name(e["to"]), f"entry {e['seq']}"] for e in package["lineage"]["edges"]
    ]
    return [*blocks, *table(["From", "Relation", "To", "Stated in"], [32, 22, 32, 14], rows)]


def change_blocks(package: Json, charts: Charts | None = None) -> list[Block]:
    """What is different from the version released last."""
    changes = package["changes"]
    blocks = [heading("Changes since the last release")]
    if changes["since"] is None:
        return [*blocks, paragraph("No earlier version of this model was released."), *dataset_change_blocks(changes)]
    run = package["training"]
    reason = run["extra"].get("change_reason") if run else None
    told = (
        f"The developer's reason: “{reason}”" if isinstance(reason, str) and reason.strip() else "No reason recorded."
    )
    blocks.append(
        paragraph(
            f"Compared with version {changes['since']}, released in entry {changes['released_entry']['seq']}. {told}"
        )
    )
    blocks += _before_after(changes, package["version"], charts)
    rows: list[list[Cell]] = [
        [
            [bold(i["field"]), small(i["area"], n=True)],
            _value(i["before"], i["area"]),
            _value(i["after"], i["area"]),
            _delta(i["delta"]),
        ]
        for i in changes["items"]
    ]
    blocks += table(
        ["Field", "Before", "After", "Difference"], [30, 28, 28, 14], rows, right=(3,), empty="nothing changed"
    )
    if changes["cut"]:
        blocks.append(paragraph(small(f"{changes['cut']} more fields changed than a package lists.")))
    blocks += dataset_change_blocks(changes)
    return blocks + distribution_blocks(changes, package["version"], charts)


def _before_after(changes: Json, version: str, charts: Charts | None) -> list[Block]:
    """Metrics between 0 and 1 before and after, as a chart; the table below has them too."""
    items = []
    for change in changes["items"]:
        before, after = number_of(change["before"]), number_of(change["after"])
        if change["area"] != "metric" or before is None or after is None or not (0 <= before <= 1 and 0 <= after <= 1):
            continue
        items.append(Pair(metric_label(change["field"]), before, after))
    if not items or charts is None:
        return []
    title = "Metrics that changed, before and after"
    charts["changes.svg"] = partial(pairs, title, f"version {changes['since']}", f"version {version}", items)
    return [image("changes.svg", title, f"{title}, two bars a row; the numbers are in the table below.")]


def _value(value: Any, area: str) -> Cell:
    if area == "training" and isinstance(value, (int, float)) and abs(value) >= 1e12:
        return figure(value)
    if area in ("training", "configuration") and isinstance(value, int) and not isinstance(value, bool):
        return str(value)  # a seed or a setting is copied, not read as an amount
    if isinstance(value, str) and len(value.removeprefix("sha256:")) >= 40:
        return [mono(value.removeprefix("sha256:")[:16] + "…")]
    return number(value) if not isinstance(value, (dict, list)) else json.dumps(value, sort_keys=True)


def _delta(value: Any) -> str:
    if value is None:
        return "–"
    return f"{'+' if value > 0 else ''}{number(value)}"


def writer(actor: str) -> str:
    """Return in words who wrote an entry: a workload is the pipeline, whoever launched it."""
    return f"the pipeline ({actor})" if actor.startswith("workload/") else actor


def evidence_blocks(package: Json) -> list[Block]:
    """The register: what each file shows, who made it and when, and its hash."""
    rows: list[list[Cell]] = [
        [
            bold_cell(e["id"]),
            [{"v": e["shows"]}, small(f"{e['produced_by']}, entry {e['seq']}", n=True)],
            e["when"],
            [mono(digest_text(e["sha256"], 32))],
            f"{number(e['size'])}",
        ]
        for e in package["evidence"]
    ]
    return [
        heading("Evidence register"),
        *table(
            ["No.", "What it shows", "When (UTC)", "SHA-256, first 32 digits", "Bytes"],
            [7, 28, 20, 35, 10],
            rows,
            right=(4,),
        ),
        *([paragraph(small("The full hashes stand in package.json."))] if rows else []),
    ]


def bold_cell(text: str) -> Cell:
    """A cell in bold."""
    return [bold(text)]


_LANES = {
    "version_opened": "training",
    "training_run": "training",
    "training_failed": "training",
    "evaluation": "evaluation",
    "gate_result": "gates",
    "package": "package",
    "final_copy": "package",
    "section_written": "sections",
    "section_approved": "sections",
    "attestation_made": "attestations",
    "attestation_withdrawn": "attestations",
    "dataset_reason_given": "data",
    "dataset_change_decided": "data",
    "sign_off": "sign-offs",
    "sign_off_refused": "sign-offs",
    "release_granted": "release",
    "release_refused": "release",
    "deployment_completed": "deployment",
    "deployment_failed": "deployment",
}


def event_blocks(
    package: Json, refusals: Sequence[Mapping[str, Any]] | None = None, charts: Charts | None = None
) -> list[Block]:
    """The version's entries in order, earlier decisions, and what was refused until a final copy was made (None: not asked)."""
    rows: list[list[Cell]] = [
        [str(e["seq"]), e["time"], e["text"], e["actor"], [mono(e["leaf"][:16])]] for e in package["events"]
    ]
    blocks = [heading("Entries about this version")]
    if package["events"] and charts is not None:
        moments = [Moment(e["time"], _LANES.get(e["kind"], "other"), e["text"]) for e in package["events"]]
        charts["events.svg"] = partial(timeline, "Entries about this version in order", moments)
        alt = "Entries about this version in order, with breaks of a day or more; each is a row of the table below."
        blocks.append(image("events.svg", "Entries in order, with the breaks between them", alt, width=90))
    blocks += [
        *table(["Entry", "Time (UTC)", "What", "Recorded by", "Leaf"], [8, 22, 30, 20, 20], rows, right=(0,)),
    ]
    if package["earlier_decisions"]:
        rows = [
            [entry(d["entry"]), number(d["revision"]), d["person"]["name"], words(d["role"]), words(d["decision"])]
            for d in package["earlier_decisions"]
        ]
        blocks += table(
            ["Entry", "Revision", "Person", "Role", "Decision"],
            [14, 12, 28, 24, 22],
            rows,
            caption="Statements on earlier revisions; they do not count for this one",
        )
    if refusals is not None:
        blocks.append(heading("Refused before this copy", 2))
        rows = [[str(r["entry_seq"]), str(r["time"]), str(r["what"]), _reasons(r["reasons"])] for r in refusals]
        blocks += table(
            ["Entry", "Time (UTC)", "What was refused", "Reasons"],
            [8, 21, 27, 44],
            rows,
            right=(0,),
            empty="no refused sign-off or deployment of this version is on record",
        )
    return blocks


def _reasons(reasons: Sequence[str]) -> Cell:
    return [{"v": str(reason), "n": number > 0} for number, reason in enumerate(reasons)] or "none stated"
