"""What people are to be told about a model: what waits for whom, what happened to it, what falls due. Pure.

Invariants: news about an entry come once, by the entry's number; news about a state (a stage waits, a review is due) have a key
that stays the same while the state lasts, so that whoever remembers the keys tells each once and tells it again when it recurs.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cognify_dagster.governance.oversight.classification import classification_of
from cognify_dagster.governance.oversight.conditions import OpenCondition
from cognify_dagster.governance.people.directory import Directory, directory
from cognify_dagster.governance.people.enrol import policy_in_force
from cognify_dagster.governance.release.decision import Decision, decide
from cognify_dagster.governance.release.history import grant_of
from cognify_dagster.governance.release.in_use import LiveState, live_state
from cognify_dagster.governance.release.involvement import excluded_people
from cognify_dagster.records import (
    DeploymentCompleted,
    FindingOpened,
    Package,
    Reconciliation,
    Record,
    ReleaseRefused,
    SignOff,
    parse_utc,
)
from cognify_dagster.workspace import Reading, Recorded

DIGEST = "digest"
EVENTS = frozenset({"waiting", "released", "refused", "suspended", "blocked", "finding", "review", "condition", DIGEST})
"""Kinds of news, as `events` of a `[[notify]]` table names them; `digest` is the review site's daily mail, which is made there."""
REVIEW_NOTICE = timedelta(days=30)
CONDITION_NOTICE = timedelta(days=14)
VERSIONS = 50


@dataclass(frozen=True)
class News:
    """One thing to tell. `people` are person ids, or an owner as the model names it (`team:…`, an e-mail address).

    `seq` is the entry it is about; None for a state.
    """

    key: str
    event: str
    model: str
    version: str | None
    target: str | None
    text: str
    people: tuple[str, ...]
    seq: int | None = None

    def as_json(self) -> dict[str, object]:
        """Return it for programs."""
        return {
            "event": self.event,
            "model": self.model,
            "version": self.version,
            "target": self.target,
            "text": self.text,
            "entry": self.seq,
        }


def news(reading: Reading, model: str, targets: Mapping[str, Collection[str]], now: datetime, since: int) -> list[News]:
    """Return what there is to tell about a model.

    Args:
        reading: verified entries.
        model: model key.
        targets: deployment targets, each with the kinds of condition that its deployment enforces.
        now: the moment it is asked for, with time zone.
        since: the first entry whose happening is news.
    """
    people = directory(reading)
    owners = owners_of(reading, model)
    found: dict[str, News] = {}
    for item in (
        *_states(reading, people, model, targets, now, owners),
        *_entries(reading, people, model, since, owners),
    ):
        found.setdefault(item.key, item)
    return list(found.values())


def owners_of(reading: Reading, model: str) -> tuple[str, ...]:
    """Return who owns a model: the person of its signed classification, else what its registration names."""
    people = directory(reading)
    known = classification_of(reading, people, policy_in_force(reading).policy, model)
    if known.signed is not None:
        return (known.signed.record.owner,)
    if known.registered is None:
        return ()
    owner = known.registered.record.owner
    mapped, unknown = people.resolve([owner])
    if mapped or "@" not in owner:
        return tuple(mapped or unknown)
    mapped, _ = people.resolve([f"mail:{owner}"])
    return tuple(mapped or (owner,))


def address_of(people: Directory, recipient: str) -> str | None:
    """Return the e-mail address of a recipient: a person's first alias `mail:…`, or an owner that is an address."""
    person = next((item for item in people.people() if item.person == recipient), None)
    if person is None:
        return recipient if "@" in recipient else None
    return next((alias.partition(":")[2] for alias in person.aliases if alias.lower().startswith("mail:")), None)


def _states(
    reading: Reading,
    people: Directory,
    model: str,
    targets: Mapping[str, Collection[str]],
    now: datetime,
    owners: tuple[str, ...],
) -> Iterator[News]:
    for target, enforces in targets.items():
        state = live_state(reading, model, target, now)
        yield from _live(reading, people, state, now, owners)
        for version in _open_versions(reading, model, state):
            decision = decide(reading, model, version, target, now, enforces=enforces)
            yield from _waiting(people, reading, decision)
            yield from _due(decision.conditions, decision.version, decision, now, owners)


def _open_versions(reading: Reading, model: str, state: LiveState) -> list[str]:
    """Return the newest versions whose package or sign-offs are newer than what is live."""
    found: dict[str, None] = {}
    since = state.completed.seq if state.completed is not None else -1
    for item in reversed(reading.all(Package, f"model/{model}")):
        version = item.record.version
        if version in found or len(found) >= VERSIONS:
            continue
        signed = reading.latest(SignOff, f"model/{model}@{version}")
        if max(item.seq, signed.seq if signed else -1) > since:
            found[version] = None
    return list(found)


def _waiting(people: Directory, reading: Reading, decision: Decision) -> Iterator[News]:
    state, package = decision.next_stage, decision.package
    if state is None or package is None or not state.waiting_for or decision.completed is not None:
        return
    policy = policy_in_force(reading).policy
    excluded = excluded_people(policy, decision.lineage)
    who: dict[str, None] = {}
    for person in people.people():
        for role in state.stage.wanted:
            may = people.may_sign_as(person.person, role, decision.model, state.name, reading.size, decision.at)
            if may is None or person.person in excluded:
                continue
            if people.name(may.on_behalf_of or person.person) in state.waiting_for:
                who[person.person] = None
    title = state.stage.title or state.name
    yield News(
        key=f"waiting:{decision.model}:{decision.version}:{decision.target}:{package.seq}:{state.name}",
        event="waiting",
        model=decision.model,
        version=decision.version,
        target=decision.target,
        text=f"{decision.model} {decision.version} waits for your sign-off for {decision.target}: {title} "
        f"(cognify sign {decision.model} {decision.version})",
        people=tuple(who),
    )


def _live(
    reading: Reading, people: Directory, state: LiveState, now: datetime, owners: tuple[str, ...]
) -> Iterator[News]:
    if state.completed is None or state.version is None:
        return
    if state.standing == "suspended":
        reasons = sorted(reason.text for reason in state.reasons)
        mark = hashlib.sha256("\n".join(reasons).encode()).hexdigest()[:16]
        yield News(
            key=f"suspended:{state.completed.seq}:{mark}",
            event="suspended",
            model=state.model,
            version=state.version,
            target=state.target,
            text=f"{state.model} {state.version} is suspended on {state.target}: {'; '.join(reasons)}",
            people=owners,
        )
    due = state.review.due
    if due is not None and parse_utc(due) - REVIEW_NOTICE <= now:
        roles = policy_in_force(reading).policy.review_roles
        reviewers = [person.person for role in roles for person in people.with_role(role)]
        phase = "was due" if state.review.overdue else "is due"
        yield News(
            key=f"review:{state.completed.seq}:{due}:{phase}",
            event="review",
            model=state.model,
            version=state.version,
            target=state.target,
            text=f"the periodic review of {state.model} {state.version} on {state.target} {phase} {due[:10]} "
            f"(cognify model review {state.model})",
            people=tuple(dict.fromkeys((*owners, *reviewers))),
        )
    yield from _due(state.conditions, state.version, state, now, owners)


def _due(
    conditions: Collection[OpenCondition],
    version: str,
    about: Decision | LiveState,
    now: datetime,
    owners: tuple[str, ...],
) -> Iterator[News]:
    for item in conditions:
        due = item.condition.due
        if not item.open or due is None or parse_utc(due) - CONDITION_NOTICE > now:
            continue
        phase = "was due" if item.overdue(now) else "is due"
        yield News(
            key=f"condition:{item.sign_off_seq}:{item.index}:{phase}",
            event="condition",
            model=about.model,
            version=version,
            target=about.target,
            text=f"the condition of {item.name} on {about.model} {version} {phase} {due[:10]}: {item.condition.text}",
            people=tuple(dict.fromkeys((*owners, item.person))),
        )


def _entries(reading: Reading, people: Directory, model: str, since: int, owners: tuple[str, ...]) -> Iterator[News]:
    subject = f"model/{model}"
    for entry in reading.view.entries[max(since, 0) : reading.size]:
        if entry.entry.kind not in _KINDS or subject not in entry.entry.subjects:
            continue
        item = reading.at(entry.entry.seq)
        told = _happened(reading, people, item) if item is not None else None
        if told is None or item is None:
            continue
        event, text, also = told
        record = item.record
        yield News(
            key=f"entry:{item.seq}",
            event=event,
            model=model,
            version=getattr(record, "version", None),
            target=getattr(record, "target", None),
            text=f"{text} (entry {item.seq})",
            people=tuple(dict.fromkeys((*owners, *also))),
            seq=item.seq,
        )


_KINDS = frozenset(kind.kind for kind in (DeploymentCompleted, ReleaseRefused, SignOff, FindingOpened, Reconciliation))


def _happened(reading: Reading, people: Directory, item: Recorded[Record]) -> tuple[str, str, tuple[str, ...]] | None:
    """Return the kind of news, the sentence and who besides the owners is told; None for what is no news."""
    record = item.record
    if isinstance(record, DeploymentCompleted):
        done = reading.find(DeploymentCompleted, item.seq)
        if done is None or grant_of(reading, done) is None:
            return None
        return "released", f"{record.model} {record.version} went live on {record.target}", ()
    if isinstance(record, ReleaseRefused):
        first = record.reasons[0].text if record.reasons else "no reason given"
        more = f" and {len(record.reasons) - 1} more reasons" if len(record.reasons) > 1 else ""
        text = f"the release of {record.model} {record.version} to {record.target} was refused: {first}{more}"
        return "refused", text, (record.requested_by,) if record.requested_by.startswith("person/") else ()
    if isinstance(record, SignOff) and record.decision in ("block", "reject"):
        did = "blocked" if record.decision == "block" else "rejected the package of"
        return "blocked", f"{people.name(record.person)} {did} {record.model} {record.version}", ()
    if isinstance(record, FindingOpened):
        about = f"{record.model} {record.version}" if record.version else record.model
        also = (record.owner,) if record.owner else ()
        return (
            "finding",
            f"{people.name(record.raised_by)} found about {about} ({record.severity}): {record.title}",
            also,
        )
    if isinstance(record, Reconciliation):
        return "finding", record.text, ()
    return None
