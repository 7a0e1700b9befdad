"""Compares the retention that a framework asks for with the rules that people adopted. Pure.

A framework speaks of artefacts (a technical file, logs), a rule of kinds of entry. Which kinds make up an artefact stands in
`ARTEFACT_KINDS`. Personal data has no kinds here: how long that may be kept is a limit from above, which no such rule answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from cognify_dagster.documents.frameworks.model import Framework, RetentionClass
from cognify_dagster.documents.labels import words
from cognify_dagster.records import RetentionRule

ARTEFACT_KINDS: Mapping[str, tuple[str, ...]] = {
    "technical_file": ("package", "final_copy", "training_run"),
    "logs": ("training_run", "evaluation", "release_granted", "deployment_completed"),
    "training_data": ("dataset_snapshot", "overlap_checked"),
    "evaluation": ("evaluation", "gate_result"),
    "approvals": ("sign_off", "release_granted"),
    "package": ("package", "final_copy"),
    "incidents": ("model_event", "finding_opened", "finding_resolved"),
    "personal_data": (),
}


#: What the ledger can count from, the later the further right.
STARTS = ("recorded", "first_live", "use_ended")
#: From where the ledger counts for an event that a text names. A notice, or being in force, cannot lie after the end of use.
LEDGER_START: Mapping[str, Literal["recorded", "first_live", "use_ended"]] = {
    "created": "recorded",
    "placed_on_market": "first_live",
    "notice": "use_ended",
    "last_in_force": "use_ended",
    "deployment_end": "use_ended",
}

START_WORDS = {
    "created": "from when it was made",
    "placed_on_market": "from when it was placed on the market",
    "notice": "from the notice",
    "last_in_force": "from when it was last in force",
    "deployment_end": "from the end of use",
}


def months_of(item: RetentionClass) -> int:
    """Return the term of a class in months."""
    return item.months if item.months is not None else 12 * (item.years or 0)


def kept_months(framework_id: str, kind: str, rules: Iterable[RetentionRule], start: str = "recorded") -> int:
    """Return how many months the adopted rules keep entries of a kind about models under a framework; 0 where none applies.

    Args:
        framework_id: the framework.
        kind: kind of entry.
        rules: the adopted rules.
        start: only rules that count from there or later (one of `STARTS`): months from an earlier event may be over too soon.
    """
    return max(
        (
            rule.months
            for rule in rules
            if (not rule.kinds or kind in rule.kinds)
            and (not rule.frameworks or framework_id in rule.frameworks)
            and STARTS.index(rule.starts) >= STARTS.index(start)
        ),
        default=0,
    )


def unkept(framework: Framework, rules: Iterable[RetentionRule]) -> list[str]:
    """Say for each retention class of a framework what the rules keep for less time than it asks for; [] where nothing is."""
    listed, found = tuple(rules), []
    for item in framework.retention:
        wanted, start = months_of(item), LEDGER_START[item.start]
        for artefact in item.artefacts:
            kept = {kind: kept_months(framework.id, kind, listed, start) for kind in ARTEFACT_KINDS[artefact]}
            if kept and min(kept.values()) < wanted:
                short = min(kept, key=lambda kind: (kept[kind], kind))
                counted = "" if start == "recorded" else f" counted from there (`starts: {start}`)"
                found.append(
                    f"{words(artefact)} is to be kept {wanted} months {START_WORDS[item.start]} ({item.citation}); the adopted rules "
                    f"keep {short} entries {kept[short] or 'no'} months{counted}"
                )
    return found
