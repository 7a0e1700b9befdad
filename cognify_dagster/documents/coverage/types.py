"""The words of coverage: statuses, cited entries, gaps, and what checks may look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any, Literal

from cognify_dagster.documents.facts.version import Statement, VersionFacts
from cognify_dagster.documents.frameworks.model import Framework
from cognify_dagster.workspace import Recorded

Status = Literal[
    "satisfied",
    "missing",
    "needs_human",
    "after_release",
    "stale",
    "insufficient_data",
    "declared_unavailable",
    "not_applicable",
]


@dataclass(frozen=True)
class EntryRef:
    """A ledger entry that a result rests on: sequence number and leaf hash (hex)."""

    seq: int
    leaf: str


@dataclass(frozen=True)
class Gap:
    """What is not there, and who has to do what.

    Attributes:
        status: `after_release` where such evidence cannot exist before the release.
        answered_by: where a signature on the package is all that is open: the signer's role, `*` for any approver. Else empty.
    """

    status: Status
    text: str
    who: str
    answered_by: str = ""

    @property
    def after_release(self) -> bool:
        """Whether such evidence cannot exist before the release."""
        return self.status == "after_release"


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
    framework: Framework

    @cached_property
    def times(self) -> Mapping[int, int]:
        """When each entry that the facts hold was appended: sequence number -> microseconds since 1970 UTC."""
        facts = self.facts
        found = dict(facts.oversight.times)
        single = [facts.registered, facts.gate_set, *(d.snapshot for d in facts.all_datasets()), *facts.overlaps]
        found.update({item.seq: item.time_us for item in single if item is not None})
        found.update({item.seq: item.time_us for item in facts.oversight.cited()})
        found.update({item.seq: item.time_us for item in facts.sections.values()})
        found.update({item.seq: item.time_us for item in facts.attestations})
        found.update({item.seq: item.time_us for item in facts.sign_offs})
        found.update({item.seq: item.time_us for item in facts.events})
        return found


def ref(item: Recorded[Any] | Statement) -> EntryRef:
    """Return the reference to an entry."""
    return EntryRef(item.seq, item.leaf)


def not_there(text: str, who: str, status: Status = "missing", *, answered_by: str = "") -> Shown:
    """Return an answer that shows nothing but one gap."""
    return Shown("", (), (Gap(status, text, who, answered_by),))
