"""Tells people their news: one digest a person, channel and time, each news once, again only where it was not taken.

Invariants: a failing channel stops neither the caller nor the other channels; what was handed over is never handed over again
as long as the memory is kept; what was not is tried again, later and later, until it is taken or no news any more; the first
time, what happened before is not told, only what waits or is due.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from cognify_dagster.governance.oversight.news import News, address_of, news
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.workspace import Reading
from cognify_dagster.workspace.notify import Channel, DeliveryError, Message

Page = Callable[[str, str], str]
BUDGET_S = 20.0
FAILURES_A_TIME = 3
_FIRST_WAIT_S, _LONGEST_WAIT_S = 60.0, 3600.0


@dataclass
class Memory:
    """What was told. `since` is the first entry whose happening is still to be told, None before the first time."""

    since: int | None = None
    told: set[str] = field(default_factory=set)
    failures: dict[str, tuple[int, float]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as text."""
        failures = {name: list(value) for name, value in self.failures.items()}
        return json.dumps({"since": self.since, "told": sorted(self.told), "failures": failures})


def read_memory(text: str | None) -> Memory:
    """Return the memory that a text holds, an empty one for what is none."""
    try:
        value: Any = json.loads(text or "{}")
        since, told, failures = value.get("since"), value.get("told", []), value.get("failures", {})
        return Memory(
            since if isinstance(since, int) and not isinstance(since, bool) else None,
            {str(item) for item in told},
            {str(name): (int(count), float(after)) for name, (count, after) in failures.items()},
        )
    except (ValueError, TypeError, AttributeError):
        return Memory()


@dataclass(frozen=True)
class Told:
    """What came of telling: messages handed over, why others were not, and who cannot be reached at all."""

    sent: tuple[Message, ...]
    failed: tuple[str, ...]
    unreachable: tuple[str, ...]
    waiting: int


def due_news(
    reading: Reading, models: Mapping[str, Mapping[str, Collection[str]]], memory: Memory, now: datetime
) -> list[News]:
    """Return all news of some models (model key to targets, see `news`) that the memory does not rule out as too old."""
    since = reading.size if memory.since is None else min(memory.since, reading.size)
    return [item for model, targets in models.items() for item in news(reading, model, targets, now, since)]


def digest(reading: Reading, recipient: str, items: Sequence[News], page: Page | None = None) -> Message:
    """Return the one message that tells a recipient some news; `page` gives the address to read and sign at."""
    people = directory(reading)
    links = [page(item.model, item.version or "") if page is not None else "" for item in items]
    subject = items[0].text if len(items) == 1 else f"{len(items)} news about {_models(items)}"
    return Message(
        person=recipient,
        name=people.name(recipient),
        address=address_of(people, recipient),
        subject=f"[{reading.origin}] {subject}",
        lines=(*_lines(items, links), "", f"Ledger {reading.origin}, {reading.size} entries."),
        items=tuple(
            {**item.as_json(), **({"url": link} if link else {})} for item, link in zip(items, links, strict=True)
        ),
    )


def _lines(items: Sequence[News], links: Sequence[str]) -> Iterator[str]:
    for number, item in enumerate(items):
        yield f"- {item.text}"
        if links[number] and links[number] not in links[number + 1 :]:  # below the last news about the same page
            yield links[number]


def _models(items: Sequence[News]) -> str:
    return ", ".join(dict.fromkeys(item.model for item in items))


def tell(
    reading: Reading,
    items: Sequence[News],
    channels: Sequence[Channel],
    memory: Memory,
    now: datetime,
    clock: Callable[[], float] = time.monotonic,
    page: Page | None = None,
) -> Told:
    """Hand over what was not handed over yet, and note it in the memory, which is changed.

    Args:
        reading: what the news were read from.
        items: all news there are; what the memory holds about others is dropped.
        channels: the ways to tell.
        memory: what was told before.
        now: the time, for waiting after failures.
        clock: seconds, for the time that all of it may take (`BUDGET_S`).
        page: gives the address of a model's or version's page (model, version or ""); empty where there is none.
    """
    begun, sent, failed, unreachable = clock(), [], [], set()
    open_marks: set[str] = set()
    undelivered: set[int] = set()
    for channel in channels:
        in_a_row = 0
        for recipient, own in _by_recipient(channel, items).items():
            marks = {_mark(channel.name, recipient, item.key): item for item in own}
            fresh = {mark: item for mark, item in marks.items() if mark not in memory.told}
            open_marks |= set(marks)
            if not fresh:
                continue
            message = digest(reading, recipient, list(fresh.values()), page)
            if not channel.reaches(message):
                unreachable.add(recipient)
                continue
            who = f"{channel.name}|{recipient}"
            count, after = memory.failures.get(who, (0, 0.0))
            busy = in_a_row >= FAILURES_A_TIME or clock() - begun > BUDGET_S
            if busy or after > now.timestamp():
                undelivered |= {item.seq for item in fresh.values() if item.seq is not None}
                continue
            try:
                channel.send(message)
            except DeliveryError as error:
                in_a_row += 1
                failed.append(f"{recipient}: {error}")
                wait = min(_FIRST_WAIT_S * 2**count, _LONGEST_WAIT_S)
                memory.failures[who] = (min(count + 1, 20), now.timestamp() + wait)
                undelivered |= {item.seq for item in fresh.values() if item.seq is not None}
                continue
            in_a_row = 0
            memory.failures.pop(who, None)
            memory.told |= set(fresh)
            sent.append(message)
    memory.told &= open_marks
    memory.since = min(undelivered, default=reading.size)
    return Told(tuple(sent), tuple(failed), tuple(sorted(unreachable)), len(undelivered))


def _by_recipient(channel: Channel, items: Sequence[News]) -> dict[str, list[News]]:
    found: dict[str, list[News]] = {}
    for item in items:
        if channel.events and item.event not in channel.events:
            continue
        for recipient in item.people:
            found.setdefault(recipient, []).append(item)
    return found


def _mark(channel: str, recipient: str, key: str) -> str:
    return hashlib.sha256("\n".join((channel, recipient, key)).encode()).hexdigest()[:16]
