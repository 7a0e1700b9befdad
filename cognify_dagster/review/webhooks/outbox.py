"""What is to be sent, was sent, or could not be: the outbox.

Invariants: an event is put in once for an endpoint, by its id, in the transaction that moves the mark of how far the ledger was told;
so a crash at any moment loses nothing and adds nothing. A delivery that is not accepted is tried again, later and later, for 24
hours, and then kept as dead until somebody replays it.
"""

from __future__ import annotations

import json
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from cognify_dagster.review.store.webhooks import marks, outbox
from cognify_dagster.review.webhooks.endpoints import Endpoint
from cognify_dagster.review.webhooks.events import Event

WAITING, DELIVERED, DEAD = "waiting", "delivered", "dead"
GIVE_UP_S = 24 * 3600
FIRST_WAIT_S, LONGEST_WAIT_S = 10.0, 3 * 3600.0
_FACTOR = 3.0
_random = random.SystemRandom()


@dataclass(frozen=True)
class Message:
    """One event for one endpoint; times are seconds since 1970."""

    id: str
    endpoint: str
    event: str
    seq: int | None
    body: str
    created: int
    first: int
    due: int
    attempts: int
    state: str
    status: int | None
    problem: str
    ended: int | None

    @property
    def content(self) -> dict[str, Any]:
        """The event: `type`, `timestamp`, `data`."""
        value: dict[str, Any] = json.loads(self.body)
        return value


def put(connection: Connection, endpoint: Endpoint, event: Event, now: int, *, again: bool = False) -> bool:
    """Put an event in for an endpoint; return whether it is to be sent now.

    Args:
        connection: a transaction.
        endpoint: who gets it.
        event: what happened.
        now: seconds since 1970.
        again: whether one that was sent or given up is sent once more, under the same id.
    """
    message = event.id_for(endpoint.id)
    known = connection.execute(select(outbox.c.state).where(outbox.c.id == message)).first()
    if known is not None:
        return again and revive(connection, [message], now) > 0
    connection.execute(
        insert(outbox).values(
            id=message, endpoint=endpoint.id, event=event.name, seq=event.seq,
            body=json.dumps(event.body(people=endpoint.people), ensure_ascii=False, sort_keys=True),
            created=now, first=now, due=now, attempts=0, state=WAITING, problem="",
        )
    )  # fmt: skip
    return True


def due(connection: Connection, endpoints: Collection[str], now: int, limit: int) -> list[Message]:
    """Return what is to be sent now to these endpoints, oldest first."""
    query = (
        select(outbox)
        .where(outbox.c.state == WAITING, outbox.c.due <= now, outbox.c.endpoint.in_(list(endpoints)))
        .order_by(outbox.c.created, outbox.c.seq.nulls_first(), outbox.c.id)
        .limit(limit)
    )
    return [Message(**row) for row in connection.execute(query).mappings()]


def delivered(connection: Connection, message: Message, status: int, now: int) -> None:
    """Note that a message was accepted."""
    values = {"state": DELIVERED, "status": status, "problem": "", "attempts": message.attempts + 1, "ended": now}
    connection.execute(update(outbox).where(outbox.c.id == message.id).values(values))


def failed(
    connection: Connection, message: Message, status: int | None, problem: str, now: int, wait_s: int | None = None
) -> None:
    """Note that a message was not accepted: it is tried again, or given up after 24 hours."""
    attempts = message.attempts + 1
    again = now + max(round(backoff(attempts)), wait_s or 0)
    values: dict[str, Any] = {"attempts": attempts, "status": status, "problem": problem[:300]}
    if again - message.first >= GIVE_UP_S:
        values |= {"state": DEAD, "ended": now}
    else:
        values |= {"due": again}
    connection.execute(update(outbox).where(outbox.c.id == message.id).values(values))


def backoff(attempts: int) -> float:
    """Return seconds to the next try after so many: 10, 30, 90, … up to three hours, a fifth more or less by chance."""
    steps = min(attempts - 1, 20)
    return min(FIRST_WAIT_S * _FACTOR**steps, LONGEST_WAIT_S) * _random.uniform(0.8, 1.2)


def postpone(connection: Connection, messages: Sequence[Message], until: int) -> None:
    """Let messages wait without a try, while their endpoint does not answer."""
    if messages:
        ids = [item.id for item in messages]
        connection.execute(update(outbox).where(outbox.c.id.in_(ids), outbox.c.state == WAITING).values(due=until))


def give_up(connection: Connection, endpoints: Collection[str], now: int) -> None:
    """Give up what waited over 24 hours for an endpoint that is not among these, those that are on.

    What waits for one of these is tried at least once more, however long the site stood still.
    """
    late, off = outbox.c.first < now - GIVE_UP_S, outbox.c.endpoint.not_in(list(endpoints))
    values = {"state": DEAD, "ended": now, "problem": "its endpoint is switched off"}
    connection.execute(update(outbox).where(outbox.c.state == WAITING, late, off).values(values))


def revive(connection: Connection, ids: Collection[str], now: int) -> int:
    """Send messages once more, from now on for 24 hours; return how many."""
    fresh = {"state": WAITING, "attempts": 0, "first": now, "due": now, "ended": None, "problem": "", "status": None}
    found = connection.execute(
        update(outbox).where(outbox.c.id.in_(list(ids)), outbox.c.state != WAITING).values(fresh)
    )
    hurried = connection.execute(
        update(outbox).where(outbox.c.id.in_(list(ids)), outbox.c.state == WAITING).values(due=now)
    )
    return max(found.rowcount, hurried.rowcount)


def find_message(connection: Connection, message: str) -> Message | None:
    """Return a message."""
    row = connection.execute(select(outbox).where(outbox.c.id == message)).mappings().first()
    return None if row is None else Message(**row)


def list_messages(
    connection: Connection, state: str | None = None, endpoint: str | None = None, limit: int = 100
) -> list[Message]:
    """Return messages, newest first."""
    query = select(outbox).order_by(outbox.c.created.desc(), outbox.c.seq.desc().nulls_last(), outbox.c.id).limit(limit)
    if state is not None:
        query = query.where(outbox.c.state == state)
    if endpoint is not None:
        query = query.where(outbox.c.endpoint == endpoint)
    return [Message(**row) for row in connection.execute(query).mappings()]


def counts(connection: Connection) -> dict[tuple[str, str], int]:
    """Return how many messages there are by (endpoint, state)."""
    query = select(outbox.c.endpoint, outbox.c.state, func.count()).group_by(outbox.c.endpoint, outbox.c.state)
    return {(endpoint, state): number for endpoint, state, number in connection.execute(query)}


def purge(connection: Connection, before: int) -> None:
    """Forget what was delivered or given up before a time."""
    connection.execute(delete(outbox).where(outbox.c.state != WAITING, outbox.c.ended < before))


def read_mark(connection: Connection, name: str) -> Any:
    """Return what is remembered under a name, None for nothing."""
    row = connection.execute(select(marks.c.value).where(marks.c.name == name)).first()
    return None if row is None else json.loads(row[0])


def write_mark(connection: Connection, name: str, value: Any) -> None:
    """Remember a JSON value under a name."""
    text = json.dumps(value)
    if connection.execute(update(marks).where(marks.c.name == name).values(value=text)).rowcount == 0:
        connection.execute(insert(marks).values(name=name, value=text))
