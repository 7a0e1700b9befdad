"""What waits for a person, and what others wait for. Pure reads of the board; modules with queues of their own add sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cognify_dagster.records import utc
from cognify_dagster.review.access.scope import datasets_of
from cognify_dagster.review.identity.user import ADMIN, User
from cognify_dagster.review.reading.board import Snapshot
from cognify_dagster.review.reading.items import KINDS, NEAR, OVERDUE, Item, Name, urgency
from cognify_dagster.review.reading.waiting import waiting_of

if TYPE_CHECKING:
    from cognify_dagster.review.signing.acts import PendingAct
    from cognify_dagster.review.visit import Visit

__all__ = ["KINDS", "OVERSEERS", "SOURCES", "Inbox", "Item", "act_item", "board_items", "inbox_of", "oversees"]

OVERSEERS = frozenset({ADMIN, "compliance_officer"})
"""Roles that look after what others forget, besides each model's owners."""
SOURCES: list[Callable[[Visit], Iterable[Item]]] = []
"""Other modules add what waits in their queues: acts that want signatures, for example."""


@dataclass(frozen=True)
class Inbox:
    """The items of a visitor: theirs by kind (a key of `KINDS`), those that wait for others, and of these the overdue ones that the
    visitor looks after.
    """

    mine: tuple[tuple[str, tuple[Item, ...]], ...]
    others: tuple[Item, ...]
    elsewhere: tuple[Item, ...] = ()

    @property
    def count(self) -> int:
        """How many wait for the visitor."""
        return sum(len(items) for _, items in self.mine)

    def pressing(self, phase: str, now: datetime) -> tuple[Item, ...]:
        """Return what waits for the visitor and is overdue, or due soon, the most pressing first."""
        found = [item for _, items in self.mine for item in items if item.phase(now) == phase]
        return tuple(sorted(found, key=urgency))

    def rows(self, name: str, now: datetime) -> tuple[Item, ...]:
        """Return one list of the page: a kind, `overdue`, `soon`, `elsewhere` or `others`; nothing for another name."""
        if name in ("overdue", "soon"):
            return self.pressing(OVERDUE if name == "overdue" else NEAR, now)
        if name in ("elsewhere", "others"):
            return self.elsewhere if name == "elsewhere" else self.others
        return next((items for kind, items in self.mine if kind == name), ())


def inbox_of(visit: Visit, snapshot: Snapshot) -> Inbox:
    """Return what waits, for the visitor and for others, of what they may see."""
    user = visit.user
    me = user.person if user is not None else None
    items: Sequence[Item] = board_items(visit, snapshot)
    if user is not None and user.models is not None:
        items = [item for item in items if _sees(visit, user, item)]
    added = [item for source in SOURCES for item in source(visit)] if me is not None else []
    if added:
        items = sorted((*items, *added), key=urgency)
    mine = [item for item in items if me is not None and me in item.people]
    grouped = [(kind, tuple(item for item in mine if item.kind == kind)) for kind in KINDS]
    others = [item for item in items if me is None or me not in item.people]
    roles = user.roles if user is not None else frozenset[str]()
    elsewhere = [item for item in others if me is not None and item.overdue(visit.now) and oversees(me, roles, item)]
    return Inbox(tuple((kind, found) for kind, found in grouped if found), tuple(others), tuple(elsewhere))


def oversees(person: str, roles: Iterable[str], item: Item) -> bool:
    """Whether somebody is shown that a request of others is overdue: who administers or looks after compliance, and the model's owners."""
    return not OVERSEERS.isdisjoint(roles) or person in item.owners


def board_items(visit: Visit, snapshot: Snapshot) -> Sequence[Item]:
    """Return everything that waits by the board, the most pressing first; names are those of today's directory."""
    return waiting_of(visit.site).listing(snapshot, visit.reading, visit.now).items


def act_item(act: PendingAct, name: Name) -> Item:
    """Return what an act that wants signatures asks of who has not signed it."""
    from cognify_dagster.review.signing.acts import path_of

    return Item(
        "act", act.title, path_of(act.id), act.missing, ", ".join(map(name, act.missing)),
        asked_by=name(act.created_by) if act.created_by else "", since_us=act.created * 1_000_000,
        due=utc(datetime.fromtimestamp(act.expires, timezone.utc)), key=f"act:{act.id}", plain="Read and sign an act",
    )  # fmt: skip


def _sees(visit: Visit, user: User, item: Item) -> bool:
    if item.dataset and user.models is not None:
        return item.dataset.partition("@")[0] in datasets_of(visit.reading, user.models)
    return not item.model or user.sees(item.model)


def _acts(visit: Visit) -> Iterator[Item]:
    """Acts that want signatures."""
    from cognify_dagster.governance import directory
    from cognify_dagster.review.signing.acts import waiting_for

    name = directory(visit.reading).name
    for act in waiting_for(visit.site, visit.person):
        yield act_item(act, name)


SOURCES.append(_acts)
