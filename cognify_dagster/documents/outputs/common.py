"""Parts that the documents made from the record share: what a document is about, and how entries are cited. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from cognify_dagster.documents.labels import words
from cognify_dagster.documents.outputs.content import Block, Cell, Code, Notice, Paragraph
from cognify_dagster.documents.package.changes import flat
from cognify_dagster.documents.package.parts import when
from cognify_dagster.governance import Directory
from cognify_dagster.records import utc
from cognify_dagster.workspace import Reading, Recorded


def cite(item: Recorded[Any] | None) -> str:
    """Return how an entry is cited: its number and time."""
    return f"entry {item.seq}, {when(item)}" if item is not None else "no entry"


def cited(ref: Mapping[str, Any] | None) -> str:
    """Return how a package's reference to an entry is cited."""
    return f"entry {ref['seq']}, {ref['time']}" if ref else "no entry"


def pairs(value: Mapping[str, Any]) -> str:
    """Return nested values on one line."""
    return "; ".join(f"{key}: {_value(item)}" for key, item in sorted(flat(dict(value)).items()))


def _value(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return listed(_value(item) for item in value) if isinstance(value, (list, tuple)) else str(value)


def commit_of(code: Mapping[str, Any]) -> str | None:
    """Return the commit that a run named, or None where there was no version control or it said nothing."""
    commit = str(code["commit"])
    return commit if commit not in ("", "none") else None


def digest(value: str) -> Code:
    """Return a digest to be copied, without the name of its algorithm."""
    return Code(value.removeprefix("sha256:"))


def preamble(reading: Reading, now: datetime, text: str) -> list[Block]:
    """Return how a document begins: what it was made from, when it was judged, and whether the ledger is one for trial."""
    blocks: list[Block] = []
    if reading.trial:
        blocks.append(
            Notice("TRIAL.", "The ledger behind this document was opened for trial by one person. It is no evidence.")
        )
    blocks.append(
        Paragraph(
            f"{text} Made from the first {reading.size} entries of the ledger {reading.origin}; what depends on the day was judged "
            f"for {utc(now)}. Entry numbers name the ledger entries that each statement rests on."
        )
    )
    return blocks


def ledger_rows(reading: Reading) -> list[tuple[str, Cell | None]]:
    """Return the rows that say which ledger a document was made from."""
    return [
        ("Ledger", reading.origin),
        ("Entries read", str(reading.size)),
        ("Root hash of these entries", Code(reading.view.root.hex())),
    ]


def listed(values: Iterable[str], empty: str = "none") -> str:
    """Return values as a list in a sentence."""
    return ", ".join(values) or empty


def objective(package: Mapping[str, Any], metric: Mapping[str, Any]) -> str:
    """Return in plain words what a metric is evidence for."""
    if metric["objective"]:
        return str(metric["objective"])
    found = next((item for item in package["objectives"]["metrics"] if item["metric"] == metric["name"]), None)
    return str(found["objective"]) if found else "–"


def name_of(people: Directory, who: str) -> str:
    """Return a person's name for an id or a login that the ledger maps to a person; anything else as it is."""
    if who.startswith("person/"):
        return f"{people.name(who)} ({who})"
    found, _ = people.resolve([who])
    return f"{people.name(found[0])} ({who})" if found else who


def condition_kind(kind: str) -> str:
    """Return the kind of a condition in words: a plain one is met by what its text says, and no program checks it."""
    return "plain" if kind == "text" else words(kind)
