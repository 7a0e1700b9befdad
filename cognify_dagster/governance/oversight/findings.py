"""Open findings about a model or a version: raised by people, or recorded where Dagster showed something unattested.

Invariants: a finding stays open until somebody with the right role signed that it is closed or its risk accepted, never
by the word of who had a hand in the version; a finding whose signature cannot be judged stays open all the same (raising one is the safe
side); an acceptance ends by itself.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from cognify_dagster.governance.people.directory import Directory
from cognify_dagster.governance.policy.document import Policy
from cognify_dagster.governance.release.involvement import excluded_from, excluded_from_any, hand_problem
from cognify_dagster.governance.signing.acts import act_problem, first_use
from cognify_dagster.records import FindingOpened, FindingResolved, Reconciliation, parse_utc
from cognify_dagster.workspace import Reading, Recorded

UNATTESTED_SEVERITY = "high"


@dataclass(frozen=True)
class Finding:
    """A finding and where it stands. `accepted_until` is set while its risk is accepted, `closed_seq` once it is closed.

    `lapsed` says that its risk was accepted until a date which has passed.
    """

    seq: int
    version: str | None
    severity: str
    title: str
    text: str
    raised_by: str
    due: str | None = None
    accepted_until: str | None = None
    closed_seq: int | None = None
    lapsed: bool = False

    @property
    def open(self) -> bool:
        """Whether it is neither closed nor, at the moment asked for, accepted."""
        return self.closed_seq is None and self.accepted_until is None


@dataclass(frozen=True)
class Findings:
    """All findings about a version, oldest first, and resolutions that have no effect."""

    items: tuple[Finding, ...]
    problems: tuple[tuple[int, str], ...] = ()

    def blocking(self, policy: Policy) -> list[Finding]:
        """Return the open findings that hold back a release."""
        return [item for item in self.items if item.open and item.severity in policy.findings.blocking]


def findings_about(
    reading: Reading,
    people: Directory,
    policy: Policy,
    model: str,
    version: str | None,
    now: datetime,
) -> Findings:
    """Return the findings about one version, those about all versions of the model included.

    What somebody with a hand in the version resolved is not resolved for it, though it may be for other versions.

    Args:
        reading: verified entries.
        people: the directory of that reading.
        policy: the policy in force.
        model: model key.
        version: model version; None for those about all versions only: resolved are then those that are for each version.
        now: acceptances that ended before count no more.
    """
    subjects = [f"oversight/{model}", *([f"model/{model}@{version}"] if version else [])]
    problems: list[tuple[int, str]] = []
    resolved: dict[int, Recorded[FindingResolved]] = {}
    used: set[str] = set()
    resolutions = [item for subject in subjects for item in reading.all(FindingResolved, subject)]
    excluded = who_may_not(reading, policy, model, version) if resolutions else frozenset()
    for item in resolutions:
        problem = resolution_problem(reading, item, people, policy, excluded) or first_use(
            (item.record.envelope,), used
        )
        if problem:
            text = f"the resolution of finding {item.record.finding_seq} does not count: {problem}"
            problems.append((item.seq, text))
        else:
            seq = item.record.finding_seq
            resolved[seq] = _later(resolved.get(seq), item)
    found = [
        _standing(item, resolved.get(item.seq), now)
        for subject in subjects
        for item in _raised(reading, subject, people)
        if item.version in (None, version)
    ]
    return Findings(tuple(sorted(found, key=lambda item: item.seq)), tuple(problems))


def freed_by(item: Finding, policy: Policy) -> str:
    """Say who resolves a finding, and the command for it."""
    roles = ", ".join(sorted({*policy.findings.close_roles, *policy.findings.accept_roles}))
    return f"one of the roles {roles}: `cognify finding resolve {item.seq} --close --reason … --as KEYFILE`, or `--accept-until`"


def who_may_not(reading: Reading, policy: Policy, model: str, version: str | None) -> frozenset[str]:
    """Return who resolves no finding about a version; with None, about all versions of the model."""
    if version is None:
        return excluded_from_any(reading, policy, model)
    return excluded_from(reading, policy, model, version)


def _later(before: Recorded[FindingResolved] | None, after: Recorded[FindingResolved]) -> Recorded[FindingResolved]:
    """A closed finding stays closed; otherwise the newest resolution counts."""
    return before if before is not None and before.record.outcome == "closed" else after


def _raised(reading: Reading, subject: str, people: Directory) -> Iterator[Finding]:
    for opened in reading.all(FindingOpened, subject):
        record = opened.record
        yield Finding(
            opened.seq,
            record.version,
            record.severity,
            record.title,
            record.text,
            people.name(record.raised_by),
            record.due,
        )
    for noticed in reading.all(Reconciliation, subject):
        text = noticed.record.text
        title = f"{noticed.record.asset} shows something that the ledger does not account for"
        yield Finding(noticed.seq, noticed.record.version, UNATTESTED_SEVERITY, title, text, "reconciliation")


def _standing(item: Finding, resolution: Recorded[FindingResolved] | None, now: datetime) -> Finding:
    if resolution is None or resolution.seq <= item.seq:
        return item
    record = resolution.record
    if record.outcome == "closed":
        return replace(item, closed_seq=resolution.seq)
    until = record.accepted_until
    if until is None or parse_utc(until) <= now:
        return replace(item, lapsed=True)
    return replace(item, accepted_until=until)


def opening_problem(reading: Reading, item: Recorded[FindingOpened], people: Directory, policy: Policy) -> str | None:
    """Say why nobody should append this finding, or None. One in the ledger stays open whatever its signature is worth."""
    record, roles = item.record, policy.findings.open_roles
    return act_problem(reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.raised_by,))


def resolution_problem(
    reading: Reading, item: Recorded[FindingResolved], people: Directory, policy: Policy, excluded: Collection[str]
) -> str | None:
    """Say why a resolution does not count, or None. `excluded` are those with a hand in the version that is asked about."""
    record = item.record
    raised = reading.at(record.finding_seq) if record.finding_seq < item.seq else None
    if raised is None or not isinstance(raised.record, (FindingOpened, Reconciliation)):
        return f"entry {record.finding_seq} is no finding before it"
    if (raised.record.model, raised.record.version) != (record.model, record.version):
        return f"the finding of entry {record.finding_seq} is about another model or version"
    hand = hand_problem(people, (record.resolved_by,), excluded)
    if hand:
        return f"{hand}, and cannot resolve findings about it"
    roles = policy.findings.close_roles if record.outcome == "closed" else policy.findings.accept_roles
    if record.outcome == "accepted":
        limit = item.when + timedelta(days=policy.findings.max_acceptance_days)
        if record.accepted_until is None or parse_utc(record.accepted_until) > limit:
            return f"a risk is accepted for at most {policy.findings.max_acceptance_days} days"
    return act_problem(
        reading, item, (record.envelope,), people, roles, needed=1, claimed=(record.resolved_by,), allows=True
    )
