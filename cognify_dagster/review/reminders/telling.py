"""Plans what is told: steps of overdue requests into the outbox of the webhooks, one digest a person and day into that of the mails.

Invariants: a step and its messages, and a day and its mails, are kept in one transaction each, so that a crash loses nothing and
repeats nothing; nothing is planned from a board that is still being read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone

from sqlalchemy import Connection, select

from cognify_dagster.governance import directory
from cognify_dagster.review.reading.board import board_of
from cognify_dagster.review.reading.inbox import act_item
from cognify_dagster.review.reading.items import Item
from cognify_dagster.review.reading.waiting import waiting_of
from cognify_dagster.review.reminders.config import Reminders
from cognify_dagster.review.reminders.deciding import Last, digest_day, digests, escalations, event_of, request_of
from cognify_dagster.review.signing.acts import all_acts
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import reminders as store
from cognify_dagster.review.store.accounts import accounts
from cognify_dagster.review.webhooks.endpoints import list_endpoints
from cognify_dagster.review.webhooks.outbox import put, read_mark, write_mark
from cognify_dagster.workspace import Reading

CATCH_UP = 20_000
MARK = "digest"
DAY_S = 86_400
KEEP_STEPS_S, KEEP_MAILS_S = 90 * DAY_S, 30 * DAY_S


@dataclass(frozen=True)
class Asked:
    """Everything that waits at a moment, acts included."""

    reading: Reading
    items: tuple[Item, ...]
    now: datetime


def asked_now(site: Site) -> Asked | None:
    """Return what waits now; None while the ledger or the board is still being read."""
    if not site.workspace.catch_up(CATCH_UP).complete:
        return None
    reading, now = site.read(), site.now()
    snapshot = board_of(site).current(reading, now)
    if snapshot.left or snapshot.size < reading.size:
        return None
    name = directory(reading).name
    items = waiting_of(site).listing(snapshot, reading, now).items
    return Asked(reading, (*items, *(act_item(act, name) for act in all_acts(site))), now)


def escalate(site: Site, config: Reminders, asked: Asked) -> int:
    """Tell every endpoint that wants to know which requests reached a step; return how many did."""
    now = int(asked.now.timestamp())
    late = [request_of(item) for item in asked.items if item.key and item.overdue(asked.now)]
    with site.store.begin() as connection:
        known = store.told_steps(connection)
        told = {request: step for request, (step, _, _) in known.items()}
        found = escalations(asked.items, told, config.steps, asked.now)
        endpoints = [item for item in list_endpoints(connection) if item.off is None]
        for step in found:
            event = event_of(step, site.workspace.origin, site.url)
            for endpoint in endpoints:
                if endpoint.wants(event):
                    put(connection, endpoint, event, now)
            store.keep_step(connection, step.request, step.step, now)
        still = [request for request in late if request in known and known[request][2] <= now - DAY_S]
        store.see_requests(connection, still, now)
        store.forget_steps(connection, now - KEEP_STEPS_S)
    return len(found)


def planned(site: Site, config: Reminders) -> bool:
    """Whether the mails of today are planned, or there are none to plan."""
    if not config.channels:
        return True
    with site.store.begin() as connection:
        return read_mark(connection, MARK) == _day(site.now(), config)


def plan(site: Site, config: Reminders, asked: Asked) -> int:
    """Keep the mails of today, once; return how many."""
    day, now = _day(asked.now, config), int(asked.now.timestamp())
    with site.store.begin() as connection:
        if read_mark(connection, MARK) == day:
            return 0
        people = _people(connection, config, asked)
        last = {person: _last(mail) for person, mail in store.last_sent(connection).items()}
        found = digests(site.workspace.origin, asked.items, people, last, asked.now, site.url)
        for item in found:
            content = {"lines": item.lines, "items": item.items, "told": item.told}
            store.add_mail(connection, item.person, day, item.subject, content, now)
        store.replace_mails(connection, day, now)
        store.purge_mails(connection, now - KEEP_MAILS_S)
        write_mark(connection, MARK, day)
    return len(found)


def _day(now: datetime, config: Reminders) -> str:
    return digest_day(now, config.hour).isoformat()


def _people(connection: Connection, config: Reminders, asked: Asked) -> Mapping[str, frozenset[str]]:
    """Return the people who may read the site and can be reached, with the roles that count now."""
    reading, now_us = asked.reading, int(asked.now.timestamp() * 1_000_000)
    people = directory(reading)
    off = set(connection.execute(select(accounts.c.person).where(accounts.c.disabled.is_not(None))).scalars())
    return {
        item.person: people.roles_at(item.person, reading.size, now_us)
        for item in people.people()
        if item.person not in off
        and people.valid_keys(item.person, reading.size)
        and config.reaches(people, item.person)
    }


def _last(mail: store.Mail) -> Last:
    when = datetime.fromtimestamp(mail.created, timezone.utc)
    return Last(when, {str(key): str(phase) for key, phase in mail.value.get("told", {}).items()})
