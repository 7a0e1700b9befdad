"""What changed in each data set since the version released last, why, by whom, and who agreed. Pure.

Invariants: of a difference only its digest, its entry, counts and the recorded sentence are told, never a value of a record; a
decision that does not count says why; what nobody did is None or an empty list, never left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.documents.facts.data import DataChangeFact
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.package.parts import entry_of, person_of
from cognify_dagster.governance import Change

Json = dict[str, Any]
_COUNTED = ("files", "records", "columns")


def dataset_changes(facts: VersionFacts) -> list[Json]:
    """Return one item for each data set that the version relied on, with the steps since the version released last."""
    roles: dict[int, list[str]] = {}
    for item in (*facts.datasets, *([facts.evaluation_data] if facts.evaluation_data else [])):
        roles.setdefault(item.ref.seq, []).append(item.ref.role)
    return [
        {
            "name": fact.after.record.name,
            "roles": sorted(set(roles.get(fact.after.seq, ()))),
            "before": None if fact.before is None else _side(fact.before),
            "after": _side(fact.after),
            "changes": [_change(facts, fact, change) for change in fact.changes],
            "cut": fact.cut,
        }
        for fact in facts.data_changes
    ]


def _side(item: Any) -> Json:
    return {"root": item.record.root, "entry": {"seq": item.seq, "leaf": item.leaf}}


def _change(facts: VersionFacts, fact: DataChangeFact, change: Change) -> Json:
    record = change.item.record
    counting = {judged.item.seq for judged in change.newest.values()}
    return {
        "entry": entry_of(change.item),
        "old_root": change.old_root,
        "root": change.root,
        "author": person_of(facts, record.author) if record.author.startswith("person/") else None,
        "unattributed": list(record.unattributed),
        "reason": _reason(facts, fact, change),
        "difference": _difference(change),
        "state": change.state.replace(" ", "_"),
        "decisions": [
            {
                "person": person_of(facts, judged.item.record.decided_by),
                "role": judged.item.record.role,
                "decision": judged.item.record.decision,
                "comment": judged.item.record.comment,
                "counts": judged.item.seq in counting,
                "why": judged.why or ("" if judged.item.seq in counting else "the same person decided again later"),
                "before_use": None if fact.used_at is None else judged.item.seq < fact.used_at,
                "entry": entry_of(judged.item),
            }
            for judged in change.decisions
        ],
        "unreadable": list(change.unreadable),
    }


def _reason(facts: VersionFacts, fact: DataChangeFact, change: Change) -> Json | None:
    """The reason in force; by the word of a person, or of the snapshot itself."""
    if not change.reasons:
        return None
    stated = change.reasons[-1]
    entry = fact.reasons.get(stated.seq) or next((item for item in change.entries if item.seq == stated.seq), None)
    return {
        "text": stated.text,
        "person": person_of(facts, stated.person) if stated.person else None,
        "entry": None if entry is None else entry_of(entry),
    }


def _difference(change: Change) -> Json | None:
    if change.diff is None:
        return None
    summary = change.diff.record.summary
    return {
        "digest": change.diff.record.diff_digest,
        "text": str(summary.get("text", "")),
        "counts": {
            kind: {name: number for name, number in sorted(found.items()) if isinstance(number, int)}
            for kind in _COUNTED
            if isinstance(found := summary.get(kind), Mapping)
        },
        "entry": entry_of(change.diff),
    }
