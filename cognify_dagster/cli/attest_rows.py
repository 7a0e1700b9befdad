"""Attestations as rows of the register and as JSON, and what a person is told before attesting. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cognify_dagster.cli.output import moment

if TYPE_CHECKING:
    from cognify_dagster.governance import Attestation, Directory
    from cognify_dagster.workspace import Reading


def standing(reading: Reading, item: Attestation) -> str:
    """Say where it stands; one about an older snapshot still holds for the versions that rest on that."""
    if item.why is not None:
        return f"counts no more: {item.why}" if item.ended else f"does not count: {item.why}"
    return "counts" if _newest(reading, item) else "counts for an earlier snapshot only"


def _newest(reading: Reading, item: Attestation) -> bool:
    from cognify_dagster.governance import snapshot_digest
    from cognify_dagster.records import DatasetSnapshot

    record = item.item.record
    if not record.about.startswith("dataset/"):
        return True
    last = reading.latest(DatasetSnapshot, record.about)
    return last is not None and snapshot_digest(last.record.root) == record.about_digest


def register_row(reading: Reading, item: Attestation, people: Directory) -> tuple[object, ...]:
    """Return an attestation as a row of the register."""
    record = item.item.record
    by = f"{people.name(record.attested_by)} ({record.role.replace('_', ' ')})"
    until = record.expires[:10] if record.expires else "no end"
    return item.item.seq, record.text_id, record.about, record.party or "–", by, until, standing(reading, item)


def register_json(reading: Reading, item: Attestation, people: Directory) -> dict[str, Any]:
    """Return an attestation with everything about it but its text."""
    record = item.item.record
    return {
        "entry": item.item.seq,
        "leaf": item.item.leaf,
        "time": moment(item.item.time_us),
        "text_id": record.text_id,
        "text_version": record.text_version,
        "text_digest": record.text_digest,
        "about": record.about,
        "about_digest": record.about_digest,
        "about_entry": record.about_seq,
        "newest_state": _newest(reading, item),
        "party": record.party,
        "person": record.attested_by,
        "name": people.name(record.attested_by),
        "role": record.role,
        "expires": record.expires,
        "documents": [document.model_dump(mode="json") for document in record.documents],
        "counts": item.counts,
        "ended": item.ended,
        "why": item.why,
    }


def bound(about: str, entry: int | None) -> str:
    """Return which state the attestation is about, in words."""
    if about.startswith("dataset/"):
        return f"the snapshot of entry {entry}" if entry else "its newest snapshot, by root"
    return "the sealed model file, by digest" if "@" in about else "the model as a whole"


def consequence(reading: Reading, about: str) -> str:
    """Return what attesting data means for the person's later sign-offs, by the policy in force; empty where it means nothing."""
    from cognify_dagster.governance import policy_in_force

    excluded = policy_in_force(reading).policy.separation_of_duties.exclude
    if not about.startswith("dataset/") or "dataset_approver" not in excluded:
        return ""
    return "you have a hand in every version that rests on this snapshot, and cannot sign such a version off"
