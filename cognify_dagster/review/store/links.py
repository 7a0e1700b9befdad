"""What became of the one-time links of an account: that one was made, that one was used; and who was told so.

Invariants: a line is never changed; a link itself, or its hash, is not here; who was told is kept for each way of signing in, so that
whoever used a link cannot keep the account's other ways from being told.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from cognify_dagster.review.store.database import metadata

MADE, USED = "made", "used"
link_events = Table(
    "link_events",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("account", String(32), nullable=False, index=True),
    Column("invitation", String(32), nullable=False, index=True),
    Column("kind", String(10), nullable=False),
    Column("time", Integer, nullable=False, index=True),
    Column("made", Integer, nullable=False),
    Column("made_by", String(80), nullable=False),
    Column("confirmed_by", String(80), nullable=False),
    Column("what", String(80), nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(300), nullable=False),
    sqlite_autoincrement=True,  # else the number of an event that was forgotten, and told of, is given to a new one
)
links_told = Table(
    "links_told",
    metadata,
    Column("account", String(32), primary_key=True),
    Column("way", String(64), primary_key=True),
    Column("upto", BigInteger, nullable=False),
)


@dataclass(frozen=True)
class LinkEvent:
    """A link was made or used.

    Args:
        account: whose.
        invitation: which; both events of a link name it.
        kind: `MADE` or `USED`.
        time: when, seconds since 1970.
        made: when the link was made.
        made_by: the person who made it, or the command's words.
        confirmed_by: the second admin of a reset, else empty.
        what: the credential that was set, once it was used.
        address, agent: where from, and with what, it was used or made.
    """

    account: str
    invitation: str
    kind: str
    time: int
    made: int
    made_by: str
    confirmed_by: str = ""
    what: str = ""
    address: str = ""
    agent: str = ""


@dataclass(frozen=True)
class KeptEvent(LinkEvent):
    """An event with its number."""

    n: int = 0


def add_event(connection: Connection, event: LinkEvent) -> None:
    """Write an event; the account is locked."""
    row = asdict(event) | {"address": event.address[:64], "agent": event.agent[:300].replace("\0", "")}
    connection.execute(insert(link_events).values(**row))


def events_of(connection: Connection, account: str, since: int) -> list[KeptEvent]:
    """Return the events of an account from a time on, newest first."""
    query = select(link_events).where(link_events.c.account == account, link_events.c.time >= since)
    return [KeptEvent(**row) for row in connection.execute(query.order_by(link_events.c.n.desc())).mappings()]


def event_of_use(connection: Connection, invitation: str) -> KeptEvent | None:
    """Return where and when a link was used."""
    query = select(link_events).where(link_events.c.invitation == invitation, link_events.c.kind == USED)
    row = connection.execute(query).mappings().first()
    return None if row is None else KeptEvent(**row)


def told_upto(connection: Connection, account: str, way: str) -> int:
    """Return the number of the last event that was told to whoever signs in this way."""
    query = select(links_told.c.upto).where(links_told.c.account == account, links_told.c.way == way)
    return int(connection.execute(query).scalar() or 0)


def mark_told(connection: Connection, account: str, way: str, upto: int) -> None:
    """Note that events up to a number were told to whoever signs in this way."""
    here = (links_told.c.account == account) & (links_told.c.way == way)
    if connection.execute(update(links_told).where(here, links_told.c.upto < upto).values(upto=upto)).rowcount:
        return
    try:
        with connection.begin_nested():
            connection.execute(insert(links_told).values(account=account, way=way, upto=upto))
    except IntegrityError:  # it is there, with this number or a later one
        return


def forget_events(connection: Connection, before: int) -> None:
    """Remove events from before a time."""
    connection.execute(delete(link_events).where(link_events.c.time < before))
