"""The body of the printed package: lineage, changes, sections written by people, evidence, events. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from cognify_dagster.documents.blocks import (
    Block,
    Cell,
    bold,
    digest_text,
    entry,
    heading,
    mono,
    number,
    paragraph,
    small,
    table,
)
from cognify_dagster.documents.labels import words

Json = dict[str, Any]


def lineage_blocks(package: Json) -> list[Block]:
    """Every edge with the entry that states it."""
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
    return [heading("Lineage"), *table(["From", "Relation", "To", "Stated in"], [32, 22, 32, 14], rows)]


def change_blocks(package: Json) -> list[Block]:
    """What is different from the version released last."""
    changes = package["changes"]
    blocks = [heading("Changes since the last release")]
    if changes["since"] is None:
        return [*blocks, paragraph("No earlier version of this model was released.")]
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
    rows: list[list[Cell]] = [
        [[bold(i["field"]), small(i["area"], n=True)], _value(i["before"]), _value(i["after"]), _delta(i["delta"])]
        for i in changes["items"]
    ]
    return blocks + table(
        ["Field", "Before", "After", "Difference"], [30, 28, 28, 14], rows, right=(3,), empty="nothing changed"
    )


def _value(value: Any) -> Cell:
    if isinstance(value, str) and len(value.removeprefix("sha256:")) >= 40:
        return [mono(value.removeprefix("sha256:")[:16] + "…")]
    return number(value) if not isinstance(value, (dict, list)) else json.dumps(value, sort_keys=True)


def _delta(value: Any) -> str:
    if value is None:
        return "–"
    return f"{'+' if value > 0 else ''}{number(value)}"


def section_blocks(package: Json) -> list[Block]:
    """What people wrote, each with who stands behind it; an unwritten section says so."""
    blocks = [
        heading("Sections written by people"),
        paragraph("The text is shown as it was recorded. Whoever signs this package signs these sections with it."),
    ]
    for section in package["sections"]:
        recorded = section["recorded"]
        if section["text"]:
            blocks.append(heading(section["title"], 2))
            blocks.append({"t": "quote", "lines": [line for line in section["text"].split("\n") if line.strip()]})
            author = f"author stated: {section['author']['name']}" if section["author"] else "author not stated"
            where = f"recorded by {writer(recorded['actor'])} in entry {recorded['seq']}, {recorded['time']}; {author}"
            blocks.append(paragraph(small(where)))
        elif section["declared_unavailable"]:
            blocks.append(heading(section["title"], 2))
            blocks.append(paragraph(f"Declared unavailable: {section['declared_unavailable']}"))
    unwritten = [s["title"] for s in package["sections"] if not s["text"] and not s["declared_unavailable"]]
    if unwritten:
        blocks += [heading("Not written", 2), paragraph("; ".join(unwritten) + ".")]
    return blocks


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
        paragraph(small("The full hashes stand in the attached package.json.")),
    ]


def bold_cell(text: str) -> Cell:
    """A cell in bold."""
    return [bold(text)]


def event_blocks(package: Json, refusals: Sequence[Mapping[str, Any]] | None = None) -> list[Block]:
    """The version's entries in order, earlier decisions, and what was refused until a final copy was made (None: not asked)."""
    rows: list[list[Cell]] = [
        [str(e["seq"]), e["time"], e["text"], e["actor"], [mono(e["leaf"][:16])]] for e in package["events"]
    ]
    blocks = [
        heading("Entries about this version"),
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
