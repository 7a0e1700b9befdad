"""The body of the printed package: coverage, data, lineage, changes, human sections, evidence, events. Pure."""

from __future__ import annotations

import json
from typing import Any

from cognify_dagster.documents.blocks import (
    STATUS_WORDS,
    Block,
    Cell,
    bold,
    entries,
    entry,
    groups,
    heading,
    key_values,
    mono,
    number,
    paragraph,
    small,
    table,
)

Json = dict[str, Any]
Charts = dict[str, str]


def coverage_blocks(package: Json) -> list[Block]:
    """Each framework: scope, counts, and every requirement with what supports it."""
    blocks = [heading("Coverage by requirement")]
    if not package["coverage"]:
        return [*blocks, paragraph("No framework is in scope for this model.")]
    for report in package["coverage"]:
        blocks += _framework(report)
    return blocks


def _framework(report: Json) -> list[Block]:
    scope = {"in_scope": "in scope", "out_of_scope": "out of scope", "undetermined": "scope not determined"}
    blocks = [
        heading(report["title"], 2),
        key_values(
            [
                (
                    "Framework",
                    f"{report['framework']}, template version {report['version']}, facts as of {report['as_of']}",
                ),
                (
                    "Scope",
                    f"{scope[report['scope']]}, judged on {report['judged_on']} ({_derivation(report['scope_derivation'])})",
                ),
                ("Law", _score(report, "law")),
                ("Guidance", _score(report, "guidance")),
            ]
        ),
        paragraph(small(report["disclaimer"])),
    ]
    for section in report["sections"]:
        rows = [_requirement(line) for line in report["lines"] if line["section"] == section["id"]]
        blocks += table(
            ["Requirement", "What is asked, in our words", "Status", "Evidence and gaps"],
            [19, 30, 15, 36],
            rows,
            caption=section["title"],
            size=8.4,
        )
    for note in report["notes"]:
        blocks.append(paragraph(small(f"Note: {note}")))
    return blocks


def _score(report: Json, force: str) -> str:
    if not report["scored"]:
        return f"not scored (the text is {report['status'].replace('_', ' ')})"
    counts = report[force]
    if not counts:
        return "no requirement of this kind"
    score = report["mandatory"][force]
    parts = ", ".join(f"{count} {status.replace('_', ' ')}" for status, count in counts.items())
    return f"{score['satisfied']} of {score['applicable']} applicable mandatory requirements supported ({parts})"


def _derivation(steps: list[Json]) -> str:
    words = {True: "holds", False: "does not hold", None: "not stated"}
    found = [f"{s['fact']} = {number(s['actual'])}: {words[s['holds']]}" for s in steps]
    return "; ".join(found) or "no condition"


def _requirement(line: Json) -> list[Cell]:
    force = line["force"] + ("" if line["mandatory"] else ", optional")
    name: Cell = [bold(line["id"]), small(line["citation"], n=True), small(f"{force}; {line['basis_text']}", n=True)]
    shown: list[Json] = []
    for text in line["supports"]:
        shown.append({"v": text, "n": bool(shown)})
    if line["entries"]:
        shown.append(small(entries(line["entries"]), n=bool(shown)))
    for gap in line["gaps"]:
        who = f" ({gap['who']}{', after release' if gap['after_release'] else ''})"
        shown.append({"v": "Open: ", "i": True, "n": bool(shown)})
        shown.append({"v": gap["text"]})
        shown.append(small(who))
    if line["status"] == "not_applicable":
        shown.append(small(_derivation(line["derivation"]), n=bool(shown)))
    return [name, line["paraphrase"], STATUS_WORDS[line["status"]], shown or "–"]


def data_blocks(package: Json) -> list[Block]:
    """Training run and data: where they come from, what was left out, what the columns hold."""
    blocks = [heading("Training and data")]
    blocks += _training(package["training"])
    rows: list[list[Cell]] = [
        [
            f"{o['train']['name']} and {o['holdout']['name']}",
            o["level"],
            number(o["overlapping_records"]),
            "● none shared" if o["passed"] else "○ records shared",
            f"compared {len(o['compared_columns'])} columns; left out: {', '.join(o['ignored_columns']) or 'none'}; {entry(o['entry'])}",
        ]
        for o in package["overlap"]
    ]
    blocks += table(
        ["Data sets", "Level", "Shared", "Result", "How"],
        [26, 12, 10, 16, 36],
        rows,
        caption="Do training and evaluation share records?",
        right=(2,),
    )
    for item in package["data"]:
        blocks += _snapshot(item)
    return blocks


def _training(run: Json | None) -> list[Block]:
    if run is None:
        return [heading("Training run", 2), paragraph("No sealed training run is on record.")]
    code, environment = run["code"], run["environment"]
    dirty = {True: "with local changes", False: "clean", None: "cleanliness not known"}[code["dirty"]]
    people = ", ".join(person["name"] for person in run["touched_by"]) or "nobody on record"
    blocks = [
        heading("Training run", 2),
        key_values(
            [
                ("Recorded", f"{entry(run['entry'])}, {run['entry']['time']}"),
                ("Launched by", run["launched_by"]["name"]),
                (
                    "Worked on by",
                    people + (f"; not identified: {', '.join(run['unattributed'])}" if run["unattributed"] else ""),
                ),
                ("Code", [mono(code["commit"] or "commit not known"), {"v": f" ({code['vcs']}, {dirty})"}]),
                (
                    "Environment",
                    f"Python {environment['python']}, {environment['platform']}, GPU {environment['gpu'] or 'none'}",
                ),
                ("Packages", [mono(groups(environment["packages_digest"], 32) + " …")]),
                ("Seed", "–" if run["seed"] is None else str(run["seed"])),
                (
                    "Model file",
                    [
                        mono(groups(run["model_file"]["digest"])),
                        small(f"{number(run['model_file']['size'])} bytes", n=True),
                    ],
                ),
                ("Why this model", run["selection_note"] or "not stated"),
            ]
        ),
    ]
    rows: list[list[Cell]] = [
        [key, value] for area in ("architecture", "base_model", "config") for key, value in _flat(run[area], f"{area}.")
    ]
    blocks += table(["Setting", "Value"], [40, 60], rows, caption="Configuration")
    blocks += extra_blocks(run)
    if run["metrics"]:
        blocks += table(
            ["Metric in training", "Value"], [40, 60], [[key, number(value)] for key, value in run["metrics"].items()]
        )
    return blocks


def extra_blocks(part: Json) -> list[Block]:
    """Fields that the record's schema does not know; they are shown, never dropped."""
    if not part.get("extra"):
        return []
    rows: list[list[Cell]] = [[key, value] for key, value in _flat(part["extra"], "")]
    return table(["Further recorded field", "Value"], [40, 60], rows)


def _flat(value: Any, prefix: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    for key, item in value.items():
        if isinstance(item, dict) and item:
            found += _flat(item, f"{prefix}{key}.")
        else:
            shown = (
                item
                if isinstance(item, str)
                else number(item)
                if isinstance(item, (int, float))
                else json.dumps(item, sort_keys=True)
            )
            found.append(
                (f"{prefix}{key}", shown if isinstance(item, (str, bool, list, dict)) or item is None else str(item))
            )
    return found


def _snapshot(item: Json) -> list[Block]:
    blocks = [heading(f"Data set {item['name']}", 2)]
    if not item["recorded"]:
        return [*blocks, paragraph("The snapshot that was referred to is not on record.")]
    source = item["provenance"]
    period = (
        " to ".join(str(source[key]) for key in ("collected_from", "collected_to") if source.get(key))
        or source.get("collected_unknown")
        or "not stated"
    )
    blocks.append(
        key_values(
            [
                ("Used as", ", ".join(item["roles"])),
                ("Root", [mono(groups(item["root"]))]),
                ("Recorded", f"{entry(item['entry'])}, {item['entry']['time']}"),
                (
                    "Size",
                    f"{number(item['rows'])} records, {number(item['files'])} files, {number(item['bytes'])} bytes",
                ),
                ("Source", f"{source.get('source') or 'not stated'}; owner: {source.get('owner') or 'not stated'}"),
                ("Licence", str(source.get("licence") or "not stated")),
                ("Period, place", f"{period}; {source.get('jurisdiction') or 'place not stated'}"),
                ("Not stated", ", ".join(item["missing_provenance"]) or "nothing mandatory is missing"),
            ]
        )
    )
    if item["exclusions"]:
        rows: list[list[Cell]] = [
            [
                e["rule"],
                e["description"] or "–",
                number(e["rows_before"]),
                number(e["rows_after"]),
                number(e["rows_before"] - e["rows_after"]),
            ]
            for e in item["exclusions"]
        ]
        blocks += table(
            ["Left out by", "Description", "Before", "After", "Left out"], [22, 42, 12, 12, 12], rows, right=(2, 3, 4)
        )
    blocks += extra_blocks(item)
    profile = item["profile"]
    rows = [
        [
            c["name"],
            str(c.get("type", "–")),
            number(c.get("nulls", 0) + c.get("nans", 0)),
            number(c.get("distinct")),
            f"{number(c.get('min'))} to {number(c.get('max'))}" if "min" in c else "–",
            number(c.get("mean")),
        ]
        for c in profile["columns"]
    ]
    blocks += table(
        ["Column", "Type", "Missing", "Distinct", "Range", "Mean"],
        [24, 16, 12, 12, 22, 14],
        rows,
        caption="Columns",
        right=(2, 3, 5),
        empty="no columns on record",
    )
    shares: list[list[Cell]] = []
    label = profile["label"]
    if label:
        shares += [
            [f"label {label['column']}", str(c["value"]), number(c["count"]), number(c.get("fraction"))]
            for c in label["classes"]
        ]
    for name, found in profile["groups"].items():
        shares += [[f"group {name}", str(g["value"]), number(g["count"]), "–"] for g in found]
    if shares:
        blocks += table(
            ["What", "Value", "Records", "Share"], [30, 34, 18, 18], shares, caption="Classes and groups", right=(2, 3)
        )
    return blocks


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
    blocks.append(
        paragraph(f"Compared with version {changes['since']}, released in entry {changes['released_entry']['seq']}.")
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
        author = f"stated author: {section['author']['name']}; " if section["author"] else ""
        if section["text"]:
            blocks.append(heading(section["title"], 2))
            blocks.append({"t": "quote", "lines": [line for line in section["text"].split("\n") if line.strip()]})
            where = f"{author}recorded by {recorded['actor']} in entry {recorded['seq']}, {recorded['time']}"
            blocks.append(paragraph(small(where)))
        elif section["declared_unavailable"]:
            blocks.append(heading(section["title"], 2))
            blocks.append(paragraph(f"Declared unavailable: {section['declared_unavailable']}"))
    unwritten = [s["title"] for s in package["sections"] if not s["text"] and not s["declared_unavailable"]]
    if unwritten:
        blocks += [heading("Not written", 2), paragraph("; ".join(unwritten) + ".")]
    return blocks


def evidence_blocks(package: Json) -> list[Block]:
    """The register: what each file shows, who made it and when, and its hash."""
    rows: list[list[Cell]] = [
        [
            bold_cell(e["id"]),
            [{"v": e["shows"]}, small(f"{e['produced_by']}, entry {e['seq']}", n=True)],
            e["when"],
            [mono(groups(e["sha256"], 32))],
            f"{number(e['size'])}",
        ]
        for e in package["evidence"]
    ]
    return [
        heading("Evidence register"),
        *table(
            ["No.", "What it shows", "When (UTC)", "SHA-256, first 32 digits", "Bytes"],
            [8, 34, 20, 28, 10],
            rows,
            right=(4,),
        ),
        paragraph(small("The full hashes stand in the attached package.json.")),
    ]


def bold_cell(text: str) -> Cell:
    """A cell in bold."""
    return [bold(text)]


def event_blocks(package: Json) -> list[Block]:
    """The version's entries in order, and earlier decisions."""
    rows: list[list[Cell]] = [
        [str(e["seq"]), e["time"], e["text"], e["actor"], [mono(e["leaf"][:16])]] for e in package["events"]
    ]
    blocks = [
        heading("Entries about this version"),
        *table(["Entry", "Time (UTC)", "What", "Recorded by", "Leaf"], [9, 22, 32, 20, 17], rows, right=(0,)),
    ]
    if package["earlier_decisions"]:
        rows = [
            [entry(d["entry"]), number(d["revision"]), d["person"]["name"], d["role"], d["decision"].replace("_", " ")]
            for d in package["earlier_decisions"]
        ]
        blocks += table(
            ["Entry", "Revision", "Person", "Role", "Decision"],
            [14, 12, 28, 24, 22],
            rows,
            caption="Statements on earlier revisions; they do not count for this one",
        )
    return blocks
