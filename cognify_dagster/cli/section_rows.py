"""Sections as rows for a table, as JSON and as text for a terminal. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cognify_dagster.cli.output import clean, moment

if TYPE_CHECKING:
    from cognify_dagster.governance import Approval, Directory, Section, SectionChange


def change_json(change: SectionChange) -> dict[str, Any]:
    """Return what recording a section did, for a program."""
    carried = change.carried_from
    return {
        "section": change.section,
        "entry": change.seq,
        "revision": change.revision,
        "unchanged": change.unchanged,
        "carried_from": carried.model_dump(mode="json") if carried else None,
    }


def change_row(change: SectionChange) -> tuple[object, ...]:
    """Return what recording a section did, as a row."""
    if change.unchanged:
        what = "unchanged, nothing written"
    elif change.carried_from is not None:
        what = f"taken over from version {change.carried_from.version}, entry {change.carried_from.seq}"
    else:
        what = "written"
    return change.section, change.revision, change.seq, what


def section_row(item: Section, people: Directory) -> tuple[object, ...]:
    """Return a section as a row: who wrote it, its state, its entry."""
    record = item.item.record
    words = "–" if record.declared_unavailable else len(record.text.split())
    return record.section, record.revision, words, _author(item, people), _state(item, people), item.item.seq


def _author(item: Section, people: Directory) -> str:
    if item.author is None:
        return "not stated"
    return f"{people.name(item.author)} ({'signed' if item.author_signed else 'stated, not signed'})"


def _state(item: Section, people: Directory) -> str:
    record = item.item.record
    parts = ["declared unavailable"] if record.declared_unavailable else []
    if item.ai_drafted:
        parts.append("drafted by a program" if item.approvals else "drafted by a program: does not count until signed")
    parts += [f"signed by {people.name(signed.person)} as {signed.role.replace('_', ' ')}" for signed in item.approvals]
    if record.carried_from is not None:
        since = "" if item.reviewed else ", not reviewed since"
        parts.append(f"taken over from version {record.carried_from.version}{since}")
    return "; ".join(parts) or "written"


def section_json(item: Section, people: Directory) -> dict[str, Any]:
    """Return a section with everything about it but its text."""
    record = item.item.record
    return {
        "section": record.section,
        "revision": record.revision,
        "words": len(record.text.split()),
        "text_digest": record.text_digest,
        "declared_unavailable": record.declared_unavailable,
        "author": item.author,
        "author_name": people.name(item.author) if item.author else None,
        "author_signed": item.author_signed is not None,
        "ai_drafted": item.ai_drafted,
        "counts": item.counts,
        "reviewed": item.reviewed,
        "approvals": [_approval_json(signed, people) for signed in item.approvals],
        "carried_from": record.carried_from.model_dump(mode="json") if record.carried_from else None,
        "source": record.source,
        "model_digest": record.model_digest,
        "entry": item.item.seq,
        "leaf": item.item.leaf,
        "time": moment(item.item.time_us),
    }


def _approval_json(signed: Approval, people: Directory) -> dict[str, Any]:
    return {
        "entry": signed.seq,
        "person": signed.person,
        "name": people.name(signed.person),
        "role": signed.role,
        "comment": signed.comment,
        "time": moment(signed.time_us),
    }


def literal(item: Section) -> str:
    """Return the text as it is recorded, safe for a terminal."""
    record = item.item.record
    if record.declared_unavailable:
        return f"Declared unavailable: {clean(record.declared_unavailable, keep_newlines=True)}"
    return clean(record.text, keep_newlines=True)


def shown(item: Section, people: Directory) -> list[tuple[str, object]]:
    """Return what is known about a section, for people."""
    record = item.item.record
    rows: list[tuple[str, object]] = [
        ("Section", f"{record.section}, revision {record.revision}"),
        ("About", f"{record.model}, version {record.version}"),
        ("Model file", record.model_digest or "not trained when this was written"),
        ("Author", _author(item, people)),
        ("State", _state(item, people)),
        ("Text", record.text_digest),
        ("File", record.source or "none"),
        ("Entry", f"{item.item.seq}, {moment(item.item.time_us)}, written by {item.item.actor}"),
    ]
    return rows + [("Comment", signed.comment) for signed in item.approvals if signed.comment]


def text_lines(item: Section) -> list[tuple[str, object]]:
    """Return the text line by line, for a person who is about to sign under it."""
    record = item.item.record
    return [("  |", line) for line in (record.text or record.declared_unavailable).split("\n")]
