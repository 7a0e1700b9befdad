"""What a token without `read:personal` is not told: names of people, what they wrote, entries that may hold either.

Invariants: the facts of an entry are given for the kinds listed here and for no other, a new kind is closed until somebody lists it;
the names and aliases of everybody who is or was enrolled are replaced by their ids wherever a text holds them.
"""

from __future__ import annotations

import re
from typing import Any

from cognify_dagster.governance import directory
from cognify_dagster.workspace import Reading

PLAIN_KINDS = frozenset(
    {
        "model_registered", "version_opened", "datasets_bound", "gate_set_adopted", "gate_result", "package", "final_copy",
        "release_granted", "release_refused", "release_suspended", "deployment_completed", "bundle_exported",
        "segment_archived", "log_key_rotated", "log_key_revoked", "ledger_continued", "clock_floor_corrected", "restored",
        "payload_erased", "retention_adopted", "model_signature",
    }
)  # fmt: skip
"""Kinds whose facts name people by id only."""
_CLOSED = frozenset({"envelope", "envelopes", "observed"})
_IDS = frozenset(
    {
        "model", "version", "target", "dataset", "digest", "kind", "subjects", "subject", "role", "stage", "stages", "person",
        "actor", "leaf", "framework", "state", "standing", "tier", "next_cursor", "code", "severity", "decision", "id", "status",
    }
)  # fmt: skip
"""Members that hold identifiers, never a person's name."""


def without_names(reading: Reading, value: Any) -> Any:
    """Return JSON values with names of people replaced by their ids."""
    table, pattern = _names(reading)
    if pattern is None:
        return value

    def clean(item: Any, key: str = "") -> Any:
        if isinstance(item, str):
            return item if key in _IDS else pattern.sub(lambda found: table[found.group().lower()], item)
        if isinstance(item, dict):
            return {name: clean(part, name) for name, part in item.items()}
        return [clean(part, key) for part in item] if isinstance(item, list) else item

    return clean(value)


def plain_facts(kind: str, facts: dict[str, Any]) -> dict[str, Any] | None:
    """Return what of an entry's facts is given without `read:personal`, None for a closed kind."""
    if kind not in PLAIN_KINDS:
        return None
    return {name: value for name, value in facts.items() if name not in _CLOSED}


def _names(reading: Reading) -> tuple[dict[str, str], re.Pattern[str] | None]:
    key = ("api-names", reading.origin, reading.view.heads.get("people", -1))
    found: tuple[dict[str, str], re.Pattern[str] | None] | None = reading.memo.get(key)
    if found is None:
        table: dict[str, str] = {}
        for person, standings in directory(reading).standings.items():
            for standing in standings:
                known = standing.person
                for text in (known.name, *known.aliases, *(alias.partition(":")[2] for alias in known.aliases)):
                    if len(text) > 1:
                        table.setdefault(text.lower(), person)
        ordered = sorted(table, key=len, reverse=True)
        # an id such as person/ada holds the name; what stands in an id is left alone
        text = "|".join(re.escape(name) for name in ordered)
        pattern = re.compile(rf"(?<![\w/@.-])(?:{text})(?![\w@])", re.IGNORECASE) if ordered else None
        found = reading.memo[key] = (table, pattern)
    return found
