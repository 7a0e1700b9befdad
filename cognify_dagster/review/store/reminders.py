"""What was told of requests that are overdue, and the digest mails: planned once a day for each person, sent, or not taken yet.

Invariants: a person has one mail a day, by its key; a mail that is being sent is nobody else's to send, and one of which nobody knows
whether it was taken is not sent again: the next day's says what still waits.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, Text, delete, func, insert, select, update

from cognify_dagster.review.store.database import metadata

WAITING, SENDING, SENT = "waiting", "sending", "sent"
UNCLEAR, UNREACHABLE, REPLACED = "unclear", "unreachable", "replaced"
SENDING_S = 900
"""A mail that is being sent for so long is not: whoever sent it is gone."""
FIRST_WAIT_S, LONGEST_WAIT_S = 60, 3600
_CHUNK = 500

steps = Table(
    "request_steps",
    metadata,
    Column("request", String(64), primary_key=True),
    Column("step", Integer, nullable=False),
    Column("at", Integer, nullable=False),
    Column("seen", Integer, nullable=False),
)
"""The last step told of a request; `seen`: when it was overdue last, within a day."""
mails = Table(
    "digest_mails",
    metadata,
    Column("person", String(80), primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("subject", String(300), nullable=False),
    Column("content", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("due", Integer, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("state", String(12), nullable=False, index=True),
    Column("problem", String(300), nullable=False),
    Column("ended", Integer),
)
"""`content`: JSON of lines, items and what was told."""


@dataclass(frozen=True)
class Mail:
    """A digest for a person and day. `due`: when it is tried next, or until when whoever sends it has time."""

    person: str
    day: str
    subject: str
    content: str
    created: int
    due: int
    attempts: int
    state: str
    problem: str
    ended: int | None

    @property
    def value(self) -> dict[str, Any]:
        """What the mail says: `lines`, `items`, `told`."""
        found: dict[str, Any] = json.loads(self.content)
        return found


# --- steps ---------------------------------------------------------------------------------------------------------------


def told_steps(connection: Connection) -> dict[str, tuple[int, int, int]]:
    """Return of each request the last step told, when that was, and when it was last seen overdue."""
    return {row.request: (row.step, row.at, row.seen) for row in connection.execute(select(steps))}


def keep_step(connection: Connection, request: str, step: int, now: int) -> None:
    """Note that a step was told."""
    values = {"step": step, "at": now, "seen": now}
    if not connection.execute(update(steps).where(steps.c.request == request).values(**values)).rowcount:
        connection.execute(insert(steps).values(request=request, **values))


def see_requests(connection: Connection, requests: Sequence[str], now: int) -> None:
    """Note that requests are still overdue."""
    for start in range(0, len(requests), _CHUNK):
        some = steps.c.request.in_(requests[start : start + _CHUNK])
        connection.execute(update(steps).where(some).values(seen=now))


def forget_steps(connection: Connection, before: int) -> None:
    """Forget requests that were last overdue before a time."""
    connection.execute(delete(steps).where(steps.c.seen < before))


# --- mails ---------------------------------------------------------------------------------------------------------------


def add_mail(connection: Connection, person: str, day: str, subject: str, content: Mapping[str, Any], now: int) -> bool:
    """Keep a mail to be sent; whether the person has none of that day yet."""
    key = (mails.c.person == person, mails.c.day == day)
    if connection.execute(select(mails.c.state).where(*key)).first() is not None:
        return False
    connection.execute(
        insert(mails).values(
            person=person, day=day, subject=subject[:300], content=json.dumps(content, ensure_ascii=False), created=now, due=now,
            attempts=0, state=WAITING, problem="",
        )
    )  # fmt: skip
    return True


def last_sent(connection: Connection) -> dict[str, Mail]:
    """Return the last mail that each person got."""
    newest = select(mails.c.person, func.max(mails.c.day).label("day")).where(mails.c.state == SENT)
    found = newest.group_by(mails.c.person).subquery()
    query = select(mails).join(found, (mails.c.person == found.c.person) & (mails.c.day == found.c.day))
    return {row["person"]: Mail(**row) for row in connection.execute(query).mappings()}


def due_mails(connection: Connection, now: int, limit: int) -> list[Mail]:
    """Return what is to be sent now, in the order in which it is due."""
    query = select(mails).where(mails.c.state == WAITING, mails.c.due <= now)
    rows = connection.execute(query.order_by(mails.c.due, mails.c.person).limit(limit)).mappings()
    return [Mail(**row) for row in rows]


def claim_mail(connection: Connection, mail: Mail, now: int) -> bool:
    """Take a mail to send it; true for one who asks."""
    mine = update(mails).where(mails.c.person == mail.person, mails.c.day == mail.day, mails.c.state == WAITING)
    return connection.execute(mine.values(state=SENDING, due=now + SENDING_S, attempts=mail.attempts + 1)).rowcount == 1


def end_mail(connection: Connection, mail: Mail, state: str, now: int, problem: str = "") -> None:
    """Note what came of a mail."""
    this = update(mails).where(mails.c.person == mail.person, mails.c.day == mail.day)
    connection.execute(this.values(state=state, ended=now, problem=problem[:300]))


def retry_mail(connection: Connection, mail: Mail, problem: str, now: int) -> None:
    """Let a mail that was not taken wait: a minute at first, an hour at most."""
    wait = min(FIRST_WAIT_S * 2 ** min(mail.attempts, 10), LONGEST_WAIT_S)
    this = update(mails).where(mails.c.person == mail.person, mails.c.day == mail.day, mails.c.state == SENDING)
    connection.execute(this.values(state=WAITING, due=now + wait, problem=problem[:300]))


def end_lost(connection: Connection, now: int) -> None:
    """Give up mails whose sender is gone: nobody knows whether they were taken."""
    lost = update(mails).where(mails.c.state == SENDING, mails.c.due < now)
    connection.execute(
        lost.values(state=UNCLEAR, ended=now, problem="the site ended while it was sent; it may have arrived")
    )


def replace_mails(connection: Connection, day: str, now: int) -> None:
    """End what waits of earlier days: the newer mail says what still waits."""
    old = update(mails).where(mails.c.state == WAITING, mails.c.day < day)
    connection.execute(old.values(state=REPLACED, ended=now))


def list_mails(connection: Connection, limit: int, states: Collection[str] = ()) -> list[Mail]:
    """Return mails, newest first; of some states alone."""
    query = select(mails).order_by(mails.c.day.desc(), mails.c.person).limit(limit)
    if states:
        query = query.where(mails.c.state.in_(list(states)))
    return [Mail(**row) for row in connection.execute(query).mappings()]


def purge_mails(connection: Connection, before: int) -> None:
    """Forget mails that ended before a time."""
    connection.execute(delete(mails).where(mails.c.ended < before))
