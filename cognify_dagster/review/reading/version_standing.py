"""Works out where a version stands. Pure, but for reading the text of its package.

Invariants: a brief follows from verified entries, the policy in force and the time alone; what time alone may change has a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone

from cognify_dagster.documents.coverage.blocking import held_back
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.package.building import read_package
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.governance import (
    Decision,
    Directory,
    LiveState,
    Policy,
    decide,
    directory,
    live_state,
    policy_in_force,
    sections_of,
)
from cognify_dagster.governance.oversight.conditions import ENFORCED, OpenCondition
from cognify_dagster.governance.release.involvement import excluded_from
from cognify_dagster.records import (
    DeploymentCompleted,
    Package,
    RollbackOrdered,
    SignOff,
    VersionOpened,
    parse_utc,
    utc,
)
from cognify_dagster.review.reading.briefs import (
    BLOCKED,
    LIVE,
    OVERTAKEN,
    PREPARING,
    READY,
    SUPERSEDED,
    SUSPENDED,
    WAITING,
    OpenDue,
    VersionBrief,
)
from cognify_dagster.review.reading.files import made_files
from cognify_dagster.review.reading.preparation import preparation_of
from cognify_dagster.workspace import Reading, Recorded, Workspace

_APPROVING = ("approve", "approve_with_conditions")
_AFTER_RELEASE = "already_released"


@dataclass(frozen=True)
class Brief:
    """A brief with the moment from which time alone may change it, and whether only an entry about it can."""

    value: VersionBrief
    until: datetime | None = None
    lasting: bool = False
    relied_on: tuple[str, ...] = ()


def version_brief(
    workspace: Workspace,
    reading: Reading,
    model: str,
    version: str,
    target: str,
    now: datetime,
    history: Sequence[Recorded[DeploymentCompleted]],
) -> Brief:
    """Work out where a version stands.

    Args:
        workspace: for the text of its package.
        reading: verified entries.
        model: model key.
        version: version id.
        target: the target asked about.
        now: the present, with time zone.
        history: what made something live on the target, oldest first (`completions`).
    """
    subject = f"model/{model}@{version}"
    package, signed = reading.latest(Package, subject), reading.all(SignOff, subject)
    own = next((item for item in reversed(history) if item.record.version == version), None)
    current = history[-1] if history else None
    approved = tuple(
        (item.record.person, item.seq, item.record.package_seq) for item in signed if item.record.decision in _APPROVING
    )
    opened = reading.latest(VersionOpened, subject)
    known = VersionBrief(
        model,
        version,
        target,
        PREPARING,
        "it has no package yet",
        package_seq=package.seq if package else None,
        package_us=package.time_us if package else 0,
        revision=package.record.revision if package else 0,
        asked_by=package.record.built_by if package else "",
        approved=approved,
        opened_us=opened.time_us if opened else 0,
        files=made_files(reading, package) if package is not None else (),
    )
    newest = max([item.seq for item in (opened, package, *signed[-1:]) if item is not None], default=-1)
    if current is not None and newest < current.seq and not reading.all(RollbackOrdered, subject):
        if own is not None and own is not current:
            after = next(item for item in history if item.seq > own.seq)
            text = f"superseded by {after.record.version} on {target}"
            return Brief(replace(known, state=SUPERSEDED, text=text), lasting=True)
        if own is None:
            text = f"{current.record.version} went live on {target} instead"
            state = OVERTAKEN if package is not None else PREPARING
            return Brief(replace(known, state=state, text=text), lasting=True)
    if current is not None and own is current and newest < current.seq:
        return _live_brief(reading, live_state(reading, model, target, now), known, now)
    if package is None:
        found = preparation_of(reading, directory(reading), model, version)
        return Brief(replace(known, text=found.state, stuck=found.stuck))
    return _open_brief(workspace, reading, decide(reading, model, version, target, now, enforces=ENFORCED), known)


def _live_brief(reading: Reading, state: LiveState, known: VersionBrief, now: datetime) -> Brief:
    reasons = [reason.text for reason in state.reasons]
    text = reasons[0] if reasons else f"live on {state.target}"
    given = replace(
        known,
        state=LIVE if state.standing == "live" else SUSPENDED,
        text=text,
        reasons=len(reasons),
        conditions=_open_due(state.conditions),
    )
    moments = [item.condition.due for item in state.conditions] + [state.review.due]
    return Brief(given, _next(moments, now))


def _open_brief(workspace: Workspace, reading: Reading, decision: Decision, known: VersionBrief) -> Brief:
    people, policy = directory(reading), policy_in_force(reading).policy
    reasons = tuple(item for item in decision.reasons if item.code != _AFTER_RELEASE)
    if decision.released:
        reasons += held_back(reading, decision, workspace.config.frameworks)
    stages = [item for item in decision.stages if item.stage.kind == "sign_off"]
    next_stage = decision.next_stage
    only_signatures = all(item.code.startswith("stage_") for item in reasons)
    state = WAITING if only_signatures and next_stage is not None else BLOCKED if reasons else READY
    # who signs beside others is asked since the stage is open, not since the first of them signed
    signed = [item for stage in decision.stages if stage.done for item in stage.signed]
    times = [entry.time_us for item in signed if (entry := reading.at(item.seq)) is not None]
    since_us = max([decision.package.time_us if decision.package else 0, *times])
    wanted = next_stage.stage.wanted if next_stage and state == WAITING else {}
    lapses = list(_lapses(reading, policy, decision))
    dates = [*lapses, *_deadline(policy, decision.tier, since_us)] if wanted else lapses
    given = replace(
        known,
        state=state,
        text=reasons[0].text + (f" → {reasons[0].resolved_by}" if reasons[0].resolved_by else "")
        if reasons
        else f"everything is there for {decision.target}",
        tier=decision.tier,
        stage=next_stage.name if next_stage else "",
        stage_title=(next_stage.stage.title or next_stage.name) if next_stage else "",
        waits_for=next_stage.waiting_for if next_stage and state == WAITING else (),
        people=who_signs(reading, people, policy, decision) if state == WAITING else (),
        since_us=since_us,
        due=min(dates, default=None),
        signed=sum(item.done for item in stages),
        wanted=len(stages),
        reasons=len(reasons),
        conditions=_open_due(decision.conditions),
        unwritten=unwritten_sections(workspace, reading, people, decision),
        roles=tuple(wanted),
    )
    moments = [*lapses, *(item.condition.due for item in decision.conditions)]
    moments += [item.accepted_until for item in decision.findings]
    # whatever changes a person's authority has the subject `people` too, on which every answer relies
    relied_on = tuple(item for item in decision.relied_on if not item.startswith("person/"))
    return Brief(given, _next(moments, decision.at), relied_on=relied_on)


def who_signs(reading: Reading, people: Directory, policy: Policy, decision: Decision) -> tuple[str, ...]:
    """Return the ids of the people who may sign the next stage, delegates included."""
    state = decision.next_stage
    if state is None or state.stage.kind != "sign_off":
        return ()
    excluded = excluded_from(reading, policy, decision.model, decision.version)
    delegates = {item.delegate for item in people.delegations}
    found: dict[str, None] = {}
    for role in state.stage.wanted:
        for person in people.people():
            if person.person in excluded or (role not in person.roles and person.person not in delegates):
                continue
            may = people.may_sign_as(person.person, role, decision.model, state.name, reading.size, decision.at)
            if may is not None and people.name(may.on_behalf_of or person.person) in state.waiting_for:
                found[person.person] = None
    return tuple(found)


def unwritten_sections(
    workspace: Workspace, reading: Reading, people: Directory, decision: Decision
) -> tuple[str, ...]:
    """Return the sections that the newest package asks people for and that nobody wrote, before it or since."""
    package = decision.package
    if package is None:
        return ()
    try:
        content = read_package(workspace.evidence.get(package.record.package.digest))
        asked = [
            str(item["id"]) for item in content["sections"] if not item["text"] and not item["declared_unavailable"]
        ]
    except (DocumentError, EvidenceError, OSError, KeyError, TypeError):
        return ()
    written = sections_of(reading, people, decision.model, decision.version).items if asked else {}
    return tuple(name for name in asked if name not in written)


def _deadline(policy: Policy, tier: str, since_us: int) -> list[str]:
    """Until when a stage that could be signed since then should be signed, by the policy. It says when people are reminded, no more."""
    rule = policy.tiers.get(tier)
    if rule is None or rule.sign_off_days is None or not since_us:
        return []
    return [utc(datetime.fromtimestamp(since_us / 1e6, timezone.utc) + timedelta(days=rule.sign_off_days))]


def _lapses(reading: Reading, policy: Policy, decision: Decision) -> Iterator[str]:
    """When the approvals given so far end: those of a version that is not complete have to be joined by then."""
    tier = policy.tiers.get(decision.tier)
    for item in (signed for stage in decision.stages for signed in stage.signed):
        entry = reading.at(item.seq)
        if tier is not None and entry is not None:
            yield utc(entry.when + timedelta(days=tier.approval_days))
        if item.predicate.expires is not None:
            yield item.predicate.expires


def _open_due(found: Iterable[OpenCondition]) -> tuple[OpenDue, ...]:
    return tuple(
        OpenDue(
            item.sign_off_seq, item.index, item.condition.text, item.condition.kind, item.person, item.condition.due
        )
        for item in found
        if item.open
    )


def _next(moments: Sequence[str | None], now: datetime) -> datetime | None:
    return min((when for text in moments if text and (when := parse_utc(text)) > now), default=None)
