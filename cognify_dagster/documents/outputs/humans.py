"""What people wrote, for the documents made from a package: the text, who stands behind it, and who has to write what is missing. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.labels import section_title, words
from cognify_dagster.documents.outputs.content import Block, Heading, Paragraph, Quote
from cognify_dagster.documents.view.registers import writer

Json = Mapping[str, Any]

#: Who usually writes a section; frameworks may demand other roles, which coverage then says.
WRITERS = {
    "challenge_record": "a model validator",
    "concept_review": "a model validator",
    "validation_plan": "a model validator",
    "data_assessment": "the developer",
    "design_rationale": "the developer",
    "feature_review": "a compliance officer",
    "proxy_review": "a compliance officer",
    "scope_rationale": "a compliance officer",
}


def sections_of(package: Json) -> dict[str, Json]:
    """Return the sections of a package by id."""
    return {section["id"]: section for section in package["sections"]}


def written(section: Json | None) -> bool:
    """Whether there is a text, or a statement that there is none to give."""
    return bool(section and (section["text"].strip() or section["declared_unavailable"]))


def missing_text(section: str) -> str:
    """Return the sentence for a section that nobody wrote: who writes it, and under which name."""
    who = WRITERS.get(section, "the model owner")
    return f"Not written. It is for {who} to write, as section {section}."


def attribution(section: Json) -> str:
    """Return who wrote a section, who recorded it where, and who signed it."""
    recorded = section["recorded"]
    author = f"Author stated: {section['author']['name']}" if section["author"] else "Author not stated"
    parts = [author, f"recorded in entry {recorded['seq']}, {recorded['time']}, by {writer(recorded['actor'])}"]
    if section.get("revision"):
        parts.insert(1, f"revision {section['revision']}")
    if section.get("carried_from"):
        parts.append(f"carried over from version {section['carried_from']['version']}")
    for item in section.get("signatures", []):
        act = "signed by its author" if item["capacity"] == "author" else "approved by"
        parts.append(f"{act} {item['person']['name']} ({words(item['role'])}, entry {item['entry']['seq']})")
    if section.get("ai_drafted"):
        counts = "" if section.get("counts") else "; nobody has signed it, so it counts for nothing yet"
        parts.append(f"drafted by a program{counts}")
    elif not section.get("signatures"):
        parts.append("not signed on its own")
    return "; ".join(parts) + "."


def human_text(section: Json) -> str:
    """Return the text of a section, or the reason why there is none to give."""
    text: str = section["text"]
    return text if text.strip() else f"Declared unavailable: {section['declared_unavailable']}"


def human_blocks(package: Json, section: str, *, level: int = 3, title: str = "") -> list[Block]:
    """Return a section with its heading: the text and who stands behind it, or who has to write it."""
    found = sections_of(package).get(section)
    heading = Heading(title or (found["title"] if found else section_title(section)), level)
    if found is None or not written(found):
        return [heading, Paragraph(missing_text(section))]
    return [heading, Quote(human_text(found), attribution(found))]
