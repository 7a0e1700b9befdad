"""What people are told of the one-time links to their account: that one was made, by whom, and that one was used, when and from where.

Invariants: the holder of an account is told once in each way of signing in that they have, on whatever page they open first, so
that somebody who used a link cannot hide it from them; the session that a link opened is not told of its own beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from sqlalchemy import Connection

from cognify_dagster.governance import directory
from cognify_dagster.review.store.links import USED, KeptEvent, events_of, mark_told, told_upto
from cognify_dagster.review.store.sessions import Session
from cognify_dagster.workspace import Reading

if TYPE_CHECKING:
    from cognify_dagster.review.visit import Visit

KEPT_S = 180 * 86_400
"""How long events are kept, and shown with the account."""
TOLD_S = 30 * 86_400
"""How old an event may be to be told of at a sign-in."""


@dataclass(frozen=True)
class Link:
    """A one-time link as it is shown. `used` is None as long as nobody used it; `what` is the credential that it set."""

    made: int
    made_by: str
    confirmed_by: str
    used: int | None = None
    what: str = ""
    address: str = ""
    agent: str = ""


@dataclass(frozen=True)
class News:
    """Links that the visitor was not told of yet; `upto` is the number of the newest event among them."""

    links: tuple[Link, ...]
    upto: int


@dataclass(frozen=True)
class Heard:
    """The events of an account that are new enough to be told of, newest first, and the number up to which they were told."""

    events: Sequence[KeptEvent]
    told: int


def links_of(connection: Connection, reading: Reading, account: str, now: int) -> list[Link]:
    """Return the links to an account of the last half year, newest first."""
    return _links(events_of(connection, account, now - KEPT_S), reading)


def heard(connection: Connection, session: Session, account: str, now: int) -> Heard:
    """Return what happened to the links of an account lately, newest first, and up to which event it was told in this way of signing in."""
    found = events_of(connection, account, now - TOLD_S)
    return Heard(found, told_upto(connection, account, way_of(session)) if found else 0)


def news(visit: Visit) -> News | None:
    """Return what the visitor has to be told of, None if there is nothing."""
    session, found = visit.session, visit.heard
    if session is None or found is None or visit.user is None:
        return None
    own = max((event.n for event in found.events if _began(event, session)), default=0)
    fresh = [event for event in found.events if event.n > max(found.told, own)]
    return News(tuple(_links(fresh, visit.reading)), fresh[0].n) if fresh else None


def acknowledge(visit: Visit, upto: int) -> None:
    """Note that the visitor read of the events up to a number; in their other ways of signing in they are told all the same."""
    session, user = visit.session, visit.user
    assert session is not None
    assert user is not None
    with visit.site.store.begin() as connection:
        found = events_of(connection, user.account.id, 0)
        if found:
            mark_told(connection, user.account.id, way_of(session), min(upto, found[0].n))


def way_of(session: Session) -> str:
    """Return how somebody signed in: by which passkey, or by what else."""
    return session.credential if session.method == "passkey" and session.credential else session.method


def _began(event: KeptEvent, session: Session) -> bool:
    """Whether a session began with this use of a link."""
    if event.kind != USED or event.time != session.created:
        return False
    return session.method == "invitation" or (session.method == "passkey" and event.what.endswith(session.credential))


def _links(events: Sequence[KeptEvent], reading: Reading) -> list[Link]:
    """One link for each invitation: what was used says also when and by whom it was made."""
    used = {event.invitation for event in events if event.kind == USED}
    name = directory(reading).name
    return [_link(event, name) for event in events if event.kind == USED or event.invitation not in used]


def _link(event: KeptEvent, name: Callable[[str], str]) -> Link:
    made = Link(event.made, name(event.made_by), name(event.confirmed_by))
    if event.kind != USED:
        return made
    return replace(made, used=event.time, what=event.what, address=event.address, agent=event.agent)
