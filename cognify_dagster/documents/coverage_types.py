"""The words of coverage: statuses, cited entries, gaps, and what checks may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from cognify_dagster.documents.facts import Statement, VersionFacts
from cognify_dagster.workspace import Recorded

Status = Literal[
    "satisfied", "missing", "needs_human", "stale", "insufficient_data", "declared_unavailable", "not_applicable"
]


@dataclass(frozen=True)
class EntryRef:
    """A ledger entry that a result rests on: sequence number and leaf hash (hex)."""

    seq: int
    leaf: str


@dataclass(frozen=True)
class Gap:
    """What is not there, and who has to do what. `after_release`: such evidence cannot exist before the release."""

    status: Status
    text: str
    who: str
    after_release: bool = False


@dataclass(frozen=True)
class Shown:
    """What a single demand found: the entries it rests on and, if it is not met, the gaps."""

    text: str
    entries: tuple[EntryRef, ...] = ()
    gaps: tuple[Gap, ...] = ()


@dataclass(frozen=True)
class Context:
    """What checks may look at."""

    facts: VersionFacts
    stated: Mapping[str, Any]
    now: datetime


def ref(item: Recorded[Any] | Statement) -> EntryRef:
    """Return the reference to an entry."""
    return EntryRef(item.seq, item.leaf)


def not_there(text: str, who: str, status: Status = "missing", *, after_release: bool = False) -> Shown:
    return Shown("", (), (Gap(status, text, who, after_release),))
