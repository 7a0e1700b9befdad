"""What the board keeps of a version, a model and a dataset. A brief is for finding what waits, never for deciding: whoever signs or
releases decides anew.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timezone

PREPARING, WAITING, BLOCKED, READY = "in preparation", "waiting", "blocked", "ready"
LIVE, SUSPENDED, SUPERSEDED, OVERTAKEN = "live", "suspended", "superseded", "not released"
UNATTESTED, RETIRED = "unattested", "retired"
STATES = (WAITING, BLOCKED, READY, LIVE, SUSPENDED, UNATTESTED, RETIRED, PREPARING, SUPERSEDED, OVERTAKEN)
TONES = {
    LIVE: "good", READY: "good", WAITING: "open", PREPARING: "open", BLOCKED: "bad", SUSPENDED: "bad", UNATTESTED: "bad",
}  # fmt: skip
"""How a state is shown (`p.state`); plain unless named."""
DEFAULT_TARGET = "production"


@dataclass(frozen=True)
class OpenDue:
    """A condition of an approval or review that nobody closed yet. `seq` and `index` name it, `due` is UTC or None."""

    seq: int
    index: int
    text: str
    kind: str
    person: str
    due: str | None


@dataclass(frozen=True)
class VersionBrief:
    """Where a version stands on the target that its model is mainly released to.

    `people` are the ids of those who may sign the next stage, `waits_for` their names; `since_us` says since when it waits, `due`
    until when it should be signed: by the policy, or because an approval given already lapses then. `roles` are those that the next
    stage wants. `approved` are the approvals on record:
    (person, entry, entry of the package). `unwritten` are sections that its package asks for and nobody wrote. `stuck` is a version
    without a package that goes on only once somebody does something: its training failed, or its gates. `files` are those of the newest
    package, each with its class of evidence.
    """

    model: str
    version: str
    target: str
    state: str
    text: str = ""
    tier: str = ""
    package_seq: int | None = None
    package_us: int = 0
    revision: int = 0
    asked_by: str = ""
    stage: str = ""
    stage_title: str = ""
    waits_for: tuple[str, ...] = ()
    people: tuple[str, ...] = ()
    since_us: int = 0
    due: str | None = None
    signed: int = 0
    wanted: int = 0
    reasons: int = 0
    conditions: tuple[OpenDue, ...] = ()
    approved: tuple[tuple[str, int, int], ...] = ()
    unwritten: tuple[str, ...] = ()
    opened_us: int = 0
    roles: tuple[str, ...] = ()
    stuck: bool = False
    files: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class FindingBrief:
    """An open finding, or one whose risk is accepted for now. `people` may close it or accept its risk; `owner` and `due` as stated."""

    seq: int
    version: str | None
    severity: str
    title: str
    raised_by: str
    since_us: int
    due: str | None
    owner: str | None
    accepted_until: str | None
    people: tuple[str, ...]


@dataclass(frozen=True)
class InUse:
    """What is live on a target. `standing` is live, suspended or unattested."""

    target: str
    version: str
    standing: str
    since_us: int
    review_due: str | None
    overdue: bool
    reason: str


@dataclass(frozen=True)
class ModelBrief:
    """A model as the inventory shows it. `owners` are person ids (or what the registration names), `reviewers` those asked to review it."""

    model: str
    title: str
    owner: str
    owners: tuple[str, ...]
    tier: str
    classified: bool
    frameworks: tuple[str, ...]
    in_use: tuple[InUse, ...]
    retired: bool
    findings: tuple[FindingBrief, ...]
    reviewers: tuple[str, ...]
    registered_us: int

    @property
    def next_review(self) -> str | None:
        """The earliest periodic review that is due, UTC."""
        return min((item.review_due for item in self.in_use if item.review_due), default=None)

    @property
    def open_findings(self) -> tuple[FindingBrief, ...]:
        """Findings that are neither closed nor accepted."""
        return tuple(item for item in self.findings if item.accepted_until is None)


@dataclass(frozen=True)
class DatasetBrief:
    """What the policy asks for of a dataset's newest root and is not there. `people` may give the approval."""

    name: str
    seq: int
    texts: tuple[str, ...]
    people: tuple[str, ...]
    since_us: int
    author: str


def main_target(targets: Iterable[str]) -> str:
    """Return the target that a model's versions are shown for: production, or the only other one it was released to."""
    found = sorted(targets)
    return found[0] if found and DEFAULT_TARGET not in found else DEFAULT_TARGET


def aged(since_us: int, now: datetime) -> str:
    """Say how long ago something was: `3 days`, `5 hours`, `2 minutes`."""
    seconds = max(0.0, now.timestamp() - since_us / 1e6)
    for size, word in ((86_400, "day"), (3_600, "hour"), (60, "minute")):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {word}{'s' if count > 1 else ''}"
    return "just now"


def moment_of(time_us: int) -> datetime | None:
    """Return a time, None for none."""
    return datetime.fromtimestamp(time_us / 1e6, timezone.utc) if time_us else None
