"""Coverage checks on data: what has to stand in the snapshots that the training run pinned. Pure.

Invariants: each answer names the snapshots it rests on; what a data owner did not state counts as not there, never as "does not
apply"; a value counts only in the type that the provenance form gives it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from cognify_dagster.documents.coverage.types import Context, EntryRef, Gap, Shown, Status, not_there, ref
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.frameworks.loading import EvidenceNode
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Recorded

Snapshot = Recorded[DatasetSnapshot]

#: Checks that one field of the provenance answers: check -> (field, what it is in words).
STATED_FIELDS: Mapping[str, tuple[str, str]] = {
    "deidentified": ("deidentification_method", "the method of de-identification"),
    "licence": ("licence", "the licence"),
    "source": ("source", "the source"),
    "jurisdiction": ("jurisdiction", "where the people or the data come from"),
    "consent": ("consent", "the legal ground or form of consent"),
    "agreement": ("agreement_ref", "the data use agreement"),
    "agreement_reviewed": ("agreement_reviewed_by", "who reviewed the data use agreement"),
    "authorised": ("source_authorisation", "who allowed the data to be taken from its source"),
    "deidentification_certificate": ("deidentification_certificate", "the certificate of the de-identification"),
}
_OWNER = "data owner: state it in the provenance and snapshot again"


def check_dataset(leaf: EvidenceNode, context: Context) -> Shown:
    """Answer a demand on data."""
    facts = context.facts
    if not facts.datasets:
        return not_there("no training run pins a snapshot", "developer: run the training through the recorder")
    entries: list[EntryRef] = []
    gaps: list[Gap] = []
    for item in facts.datasets:
        if item.snapshot is None:
            gaps.append(
                Gap(
                    "missing",
                    f"entry {item.ref.seq} does not hold the pinned root of {item.ref.name}",
                    "developer: retrain on a recorded snapshot",
                )
            )
            continue
        entries.append(ref(item.snapshot))
        for check in leaf.checks:
            gaps += _snapshot_gaps(check, item.snapshot)
    if "splits_disjoint" in leaf.checks:
        entries += [ref(item) for item in facts.overlaps if item.record.passed]
        gaps += _split_gaps(facts)
    if "group_counts" in leaf.checks:
        found = _group_counts(facts)
        entries += found.entries
        gaps += found.gaps
    names = ", ".join(item.ref.name for item in facts.datasets)
    return Shown(f"snapshots of {names}, pinned by root", tuple(entries), tuple(gaps))


def _snapshot_gaps(check: str, item: Snapshot) -> list[Gap]:
    if check in STATED_FIELDS:
        field, what = STATED_FIELDS[check]
        return [] if _text(item, field) else [_unstated(item, field, what)]
    return _CHECKS[check](item)


def _text(item: Snapshot, field: str) -> str:
    value = item.record.provenance.get(field)
    return value.strip() if isinstance(value, str) else ""


def _unstated(item: Snapshot, field: str, what: str, status: Status = "missing") -> Gap:
    return Gap(status, f"{what} of {item.record.name} is not stated ({field})", _OWNER)


def _no_gaps(_: Snapshot) -> list[Gap]:
    """The record cannot be without it (a profile), or the check is about all snapshots together."""
    return []


def _provenance_gaps(item: Snapshot) -> list[Gap]:
    record = item.record
    if not record.missing_provenance and record.provenance:
        return []
    lacking = ", ".join(record.missing_provenance) or "all of it"
    return [
        Gap("needs_human", f"provenance of {record.name} lacks {lacking}", "data owner: state it and snapshot again")
    ]


def _schema_gaps(item: Snapshot) -> list[Gap]:
    if item.record.schema_hash:
        return []
    return [Gap("missing", f"{item.record.name} has no schema on record", "developer: snapshot it as a table")]


def _purpose_gaps(item: Snapshot) -> list[Gap]:
    purposes = item.record.provenance.get("column_purposes")
    name = item.record.name
    who = "data owner: fill column_purposes and snapshot again"
    if not isinstance(purposes, Mapping) or not purposes:
        return [Gap("needs_human", f"no purpose is stated for the columns of {name}", who)]
    blank = sorted(
        {*item.record.unjustified_columns, *(str(c) for c, text in purposes.items() if not str(text or "").strip())}
    )
    if blank:
        return [Gap("needs_human", f"no purpose is stated for column {', '.join(blank)} of {name}", who)]
    return []


def _feature_gaps(item: Snapshot) -> list[Gap]:
    return [*_schema_gaps(item), *_purpose_gaps(item)]


def _quality_gaps(item: Snapshot) -> list[Gap]:
    record, who = item.record, "developer: give the snapshot data-quality checks, mend what fails, and snapshot again"
    if not record.quality:
        return [Gap("missing", f"no data-quality check of {record.name} is on record (quality)", who)]
    failed = ", ".join(check.name for check in record.failed_quality)
    return [Gap("missing", f"data-quality checks of {record.name} failed: {failed}", who)] if failed else []


def _period_gaps(item: Snapshot) -> list[Gap]:
    name = item.record.name
    if _text(item, "collected_from") and _text(item, "collected_to"):
        return []
    if why := _text(item, "collected_unknown"):
        text = f"the period that {name} was collected in is declared unavailable: {why}"
        return [Gap("declared_unavailable", text, "data owner: none, unless that changes")]
    return [_unstated(item, "collected_from, collected_to", "the period of collection")]


_CHECKS: Mapping[str, Callable[[Snapshot], list[Gap]]] = {
    "provenance": _provenance_gaps,
    "schema": _schema_gaps,
    "feature_inventory": _feature_gaps,
    "column_purposes": _purpose_gaps,
    "collection_period": _period_gaps,
    "quality_checks": _quality_gaps,
    "profile": _no_gaps,
    "splits_disjoint": _no_gaps,
    "group_counts": _no_gaps,
}


def _split_gaps(facts: VersionFacts) -> list[Gap]:
    test = facts.evaluation_data.ref.root if facts.evaluation_data is not None else None
    pairs = [{item.record.train.root, item.record.holdout.root} for item in facts.overlaps]
    if not any(test is None or test in pair for pair in pairs):  # one with a validation set says nothing about the test
        return [
            Gap(
                "missing",
                "no comparison of training and evaluation records is on record",
                "developer: run the overlap check",
            )
        ]
    return [
        Gap(
            "missing",
            f"{item.record.train.name} and {item.record.holdout.name} share {item.record.overlapping_records} records",
            "developer: split again and retrain",
        )
        for item in facts.overlaps
        if not item.record.passed
    ]


def _group_counts(facts: VersionFacts) -> Shown:
    """Counts by group of every declared protected attribute, as the current evaluation holds them.

    The counts in a snapshot's profile are evidence outside the entry, which coverage does not open.
    """
    who = "developer: evaluate by group with the protected attributes"
    if facts.evaluation is None or not facts.evaluation_current:
        return not_there("no current evaluation counts records by group (fairness)", who)
    declared = set(facts.evaluation.record.protected_attributes)
    declared |= set(facts.registered.record.protected_attributes) if facts.registered else set()
    if not declared:
        text = "no protected attribute is declared, so nothing is counted by group (protected_attributes)"
        return not_there(text, "model owner: declare them, or declare why there are none")
    counted = {str(item.get("attribute")) for item in facts.evaluation.record.fairness if _counts(item)}
    gaps = [
        Gap("missing", f"no counts by group of {name} are on record (fairness)", who) for name in declared - counted
    ]
    return Shown("", (ref(facts.evaluation),), tuple(sorted(gaps, key=lambda gap: gap.text)))


def _counts(result: Mapping[str, Any]) -> bool:
    groups = result.get("groups")
    return (
        isinstance(groups, list)
        and bool(groups)
        and all(
            isinstance(group, Mapping) and isinstance(group.get("n"), int) and not isinstance(group["n"], bool)
            for group in groups
        )
    )
