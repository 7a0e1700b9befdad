"""What people wrote and attested, each with whose it is, and how long records are kept. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.labels import words
from cognify_dagster.documents.view.blocks import Block, Cell, bold, entry, heading, mono, paragraph, small, table
from cognify_dagster.documents.view.registers import writer

Json = dict[str, Any]


def section_blocks(package: Json) -> list[Block]:
    """What people wrote, each with who stands behind it; what is said of all of them is said once; an unwritten one says so."""
    sections = package["sections"]
    plain = [
        s for s in sections if (s["text"] or s["declared_unavailable"]) and "revision" not in s and s["author"] is None
    ]
    written = any(s["text"] or s["declared_unavailable"] for s in sections)
    intro = "The text is shown as it was recorded. Whoever signs this package signs these sections with it."
    blocks = [heading("Sections written by people"), paragraph(intro if written else "No section is written so far.")]
    where = {(s["recorded"]["seq"], s["recorded"]["time"], s["recorded"]["actor"]) for s in plain}
    if plain:
        seq, time, actor = min(where)
        told = f"recorded with the model's registration by {writer(actor)} in entry {seq}, {time}"
        names = "All of them were" if len(plain) == len(sections) else "Those without a line of their own were"
        blocks.append(paragraph(small(f"{names} {told}; that entry states no author for them.")))
    for section in sections:
        if section["text"]:
            blocks.append(heading(section["title"], 2))
            blocks.append({"t": "quote", "lines": [line for line in section["text"].split("\n") if line.strip()]})
        elif section["declared_unavailable"]:
            blocks.append(heading(section["title"], 2))
            blocks.append(paragraph(f"Declared unavailable: {section['declared_unavailable']}"))
        else:
            continue
        if section not in plain:
            blocks.append(paragraph(small(whose(section))))
    unwritten = [s["title"] for s in sections if not s["text"] and not s["declared_unavailable"]]
    if unwritten:
        blocks += [heading(f"Not written: {len(unwritten)}", 2), paragraph("; ".join(unwritten) + ".")]
    return blocks


def whose(section: Mapping[str, Any]) -> str:
    """Return whose text a section is: drafted, written, signed, approved and recorded by whom, and whether it counts."""
    recorded = section["recorded"]
    author = section["author"]["name"] if section["author"] else ""
    if "revision" not in section:
        said = f"Author stated: {author}" if author else "No author stated"
        return f"{said}; recorded by {writer(recorded['actor'])} in entry {recorded['seq']}, {recorded['time']}."
    signed = {item["capacity"]: item for item in section["signatures"]}
    first = "Drafted by a program" if section["ai_drafted"] else ""
    if author:
        own = signed.get("author")
        proof = f"signed by the author in {entry(own['entry'])}" if own else "as stated, not signed by the author"
        first += f"{', in the name of' if first else 'Written by'} {author} ({proof})"
    elif not first:
        first = "Author not stated"
    parts = [
        f"{first}. Revision {section['revision']}, recorded by {writer(recorded['actor'])} in {entry(recorded)}, {recorded['time']}"
    ]
    carried = section["carried_from"]
    if carried:
        parts.append(f"carried over unchanged from version {carried['version']} (entry {carried['seq']})")
    if section["source"]:
        parts.append(f"from the file {section['source']}")
    approved = [item for item in section["signatures"] if item["capacity"] == "approver"]
    for item in approved:
        comment = f": “{item['comment']}”" if item["comment"] else ""
        parts.append(f"approved by {item['person']['name']} ({words(item['role'])}, {entry(item['entry'])}){comment}")
    if not approved:
        parts.append("nobody has approved it for this version")
    if not section["counts"]:
        parts.append("it does not count as evidence: a program drafted it and nobody signed under it")
    return "; ".join(parts) + "."


def attestation_blocks(package: Json) -> list[Block]:
    """What people attested under their signature; what does not count says why."""
    rows: list[list[Cell]] = [
        [
            [bold(words(item["text_id"])), small(f"version {item['text_version']}", n=True)],
            [
                {"v": item["about"]},
                *([small(f"with {item['party']}", n=True)] if item["party"] else []),
                *([mono(item["digest"].removeprefix("sha256:")[:16], n=True)] if item["digest"] else []),
            ],
            [{"v": item["person"]["name"]}, small(f"{words(item['role'])}, {entry(item['entry'])}", n=True)],
            item["expires"] or "no end",
            "● counts" if item["counts"] else f"○ does not count: {item['why']}",
            "; ".join(document["name"] for document in item["documents"]) or "none attached",
        ]
        for item in package.get("attestations", ())
    ]
    texts = {item["text_id"]: item["text"] for item in package.get("attestations", ())}
    blocks = [
        heading("Attestations"),
        *table(
            ["What", "About", "By", "Holds until", "State", "Documents"],
            [20, 20, 17, 14, 15, 14],
            rows,
            empty="nobody has attested anything about this version, its model or its data",
            size=8.4,
        ),
    ]
    for name, text in texts.items():
        blocks.append(heading(f"Text of {words(name)}", 2))
        blocks.append({"t": "quote", "lines": [line for line in text.split("\n") if line.strip()]})
    return blocks


def retention_blocks(package: Json) -> list[Block]:
    """How long records of each class are to be kept, with the reason; nothing for a package that says nothing about it."""
    part = package.get("retention")
    if not part:
        return []
    rows: list[list[Cell]] = [
        [
            words(item["artefact"]).capitalize(),
            f"{item['months']} months" if item["months"] else "no term known",
            item["reason"],
        ]
        for item in part["artefacts"]
    ]
    blocks = [
        heading("How long records are kept"),
        paragraph(
            small(
                "The longest term that a framework of this model, or another rule on file, asks for. Adopted rules may keep longer; "
                "nothing is deleted on its own."
            )
        ),
        *table(["Records", "At least", "Why"], [18, 14, 68], rows, size=8.4),
    ]
    facts = list(dict.fromkeys(fact for names in part["undecided"].values() for fact in names))
    if facts:
        told = f"Further terms may apply; these facts are not stated: {', '.join(facts)}."
        blocks.append(paragraph(small(told)))
    if part["silent"]:
        blocks.append(paragraph(small(f"No term of their own: {', '.join(part['silent'])}.")))
    return blocks
