"""What is told to whom, as functions of values alone: nothing here sends, reads a clock or remembers.

Invariants: a request is told of once at each step; a digest holds no words that people wrote (no title of a finding, no text of a
condition, no comment), only what is asked, since when, and links.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from cognify_dagster.documents.labels import words
from cognify_dagster.records import parse_utc
from cognify_dagster.review.reading.inbox import oversees
from cognify_dagster.review.reading.items import NEAR, OPEN, OVERDUE, Item
from cognify_dagster.review.webhooks.events import Event, request_overdue

AGAIN = timedelta(days=7)
"""What waits unchanged is mailed about again after so long."""
SHOWN = 20
"""So many items of each part stand in a mail; of the others the number."""
ELSEWHERE = "elsewhere"
NAMES = 200
"""So many characters of names stand in a line."""
_HEADINGS = {OVERDUE: "OVERDUE", NEAR: "DUE WITHIN A WEEK", OPEN: "WAITING", ELSEWHERE: "OVERDUE ELSEWHERE"}
Link = Callable[[str], str]


# --- steps of a request that is overdue ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Escalation:
    """A request that reached a step. `request` tells it from all others, `step` counts from 1, `days` is the step's length."""

    item: Item
    request: str
    step: int
    days: int


def request_of(item: Item) -> str:
    """Return what tells a request from all others; it is another one once it is due at another time."""
    return hashlib.sha256(f"{item.key}\0{item.due}".encode()).hexdigest()


def escalations(
    items: Iterable[Item], told: Mapping[str, int], steps: Sequence[int], now: datetime
) -> list[Escalation]:
    """Return the requests that reached a step which was not told yet; of several at once only the last.

    Args:
        items: everything that waits.
        told: the last step told of each request.
        steps: days after the due date, rising.
        now: the present.
    """
    found = []
    for item in items:
        if not item.key or not item.overdue(now):
            continue
        late, request = now - parse_utc(item.due or ""), request_of(item)
        reached = sum(late >= timedelta(days=days) for days in steps)
        if reached > told.get(request, 0):
            found.append(Escalation(item, request, reached, steps[reached - 1]))
    return found


def event_of(found: Escalation, origin: str, link: Link) -> Event:
    """Return the webhook event of an escalation: ids, numbers, dates and links."""
    item = found.item
    data = {
        "kind": item.kind,
        "model": item.model,
        "version": item.version,
        "dataset": item.dataset,
        "stage": item.stage,
        "roles": list(item.roles),
        "due": item.due,
        "overdue_days": found.days,
        "url": link(item.link),
    }
    when = parse_utc(item.due or "") + timedelta(days=found.days)
    kept = {key: value for key, value in data.items() if value not in ("", [])}
    return request_overdue(origin, found.request, found.step, when, kept, item.people)


# --- the digest of a person and day --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Last:
    """The last digest that a person got: when, and what it told (key of an item to how pressing it was)."""

    when: datetime
    told: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Digest:
    """One mail to one person. `items` are for programs; `told` is what the next digest is compared with."""

    person: str
    subject: str
    lines: tuple[str, ...]
    items: tuple[Mapping[str, Any], ...]
    told: Mapping[str, str]


def digest_day(now: datetime, hour: int) -> date:
    """Return the day whose digest is due: a day begins at this hour, UTC."""
    return (now - timedelta(hours=hour)).date()


def digests(
    origin: str,
    items: Iterable[Item],
    people: Mapping[str, Collection[str]],
    last: Mapping[str, Last],
    now: datetime,
    link: Link,
) -> list[Digest]:
    """Return the digests of a day.

    Args:
        origin: the ledger.
        items: everything that waits.
        people: who may get one, with the roles that count now.
        last: the last digest that each got.
        now: the present.
        link: makes a full address of a path of the site.
    """
    everything = list(items)
    late = [item for item in everything if item.overdue(now)]
    mine: dict[str, list[Item]] = {}
    for item in everything:
        for person in dict.fromkeys(item.people):
            mine.setdefault(person, []).append(item)
    found = []
    for person, roles in people.items():
        elsewhere = [item for item in late if person not in item.people and oversees(person, roles, item)]
        made = _digest(origin, person, mine.get(person, []), elsewhere, now, link)
        if made is not None and worth_sending(made.told, last.get(person), now):
            found.append(made)
    return found


def worth_sending(told: Mapping[str, str], last: Last | None, now: datetime) -> bool:
    """Whether a digest says anything that the last one did not: something new or more pressing; what is overdue is said daily."""
    if last is None or OVERDUE in told.values() or now - last.when >= AGAIN:
        return True
    return any(last.told.get(key) != phase for key, phase in told.items())


def _digest(
    origin: str, person: str, mine: Sequence[Item], elsewhere: Sequence[Item], now: datetime, link: Link
) -> Digest | None:
    parts: dict[str, list[Item]] = {phase: [] for phase in _HEADINGS}
    for item in mine:
        parts[item.phase(now)].append(item)
    parts[ELSEWHERE] += elsewhere
    parts = {phase: sorted(found, key=_urgency) for phase, found in parts.items() if found}
    if not parts:
        return None
    subject = _subject(len(mine), len(parts.get(OVERDUE, ())), len(elsewhere))
    lines = [f"{subject} on the review site of {origin}."]
    for phase, found in parts.items():
        lines += ["", _HEADINGS[phase], *_rows(phase, found, now, link)]
    lines += [
        "",
        f"All of it: {link('/')}",
        "That time passed approves, rejects and releases nothing: whoever is asked decides.",
        "This mail comes at most once a day, and only where there is something new or overdue, or after a week.",
    ]
    return Digest(
        person,
        f"[{origin}] {subject}",
        tuple(lines),
        tuple(_row(phase, item, link) for phase, found in parts.items() for item in found[:SHOWN]),
        {item.key: phase for phase, found in parts.items() for item in found},
    )


def _subject(waiting: int, overdue: int, elsewhere: int) -> str:
    late = f"{elsewhere} overdue {'request waits' if elsewhere == 1 else 'requests wait'} for others"
    if not waiting:
        return late
    text = f"{waiting} {'thing waits' if waiting == 1 else 'things wait'} for you"
    if overdue:
        text += f", {overdue} overdue"
    return f"{text}; {late}" if elsewhere else text


def _rows(phase: str, found: Sequence[Item], now: datetime, link: Link) -> Iterator[str]:
    for item in found[:SHOWN]:
        facts = []
        if phase == ELSEWHERE:
            facts.append(f"waits for {_short(item.who) or 'nobody named'}")
        if item.roles:
            facts.append(f"as {' or '.join(map(words, item.roles))}")
        if item.due is not None:
            facts.append(f"due {item.due[:10]}")
        if item.overdue(now):
            facts.append(f"overdue for {item.late(now)}")
        yield f"- {item.outside}{' (' + ', '.join(facts) + ')' if facts else ''}"
        yield f"  {link(item.link)}"
    if len(found) > SHOWN:
        yield f"… and {len(found) - SHOWN} more"


def _short(names: str) -> str:
    return names if len(names) <= NAMES else names[:NAMES].rpartition(", ")[0] + " and others"


def _row(phase: str, item: Item, link: Link) -> dict[str, Any]:
    return {
        "event": "digest",
        "state": phase,
        "kind": item.kind,
        "model": item.model,
        "version": item.version or None,
        "text": item.outside,
        "due": item.due,
        "url": link(item.link),
    }


def _urgency(item: Item) -> tuple[str, int, str]:
    return item.due or "9999", item.since_us, item.key
