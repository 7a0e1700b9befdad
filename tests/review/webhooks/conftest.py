"""An endpoint on this machine, added to the site of each test, and a clock that tests may set."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone

import pytest

from cognify_dagster.review.site import Site
from cognify_dagster.review.webhooks import service
from cognify_dagster.review.webhooks.delivering import deliver
from cognify_dagster.review.webhooks.endpoints import Endpoint
from cognify_dagster.review.webhooks.feeding import feed
from tests.review.site_world import SiteWorld
from tests.review.webhooks.receiver import Receiver, receiving


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


class Clock:
    """The site's clock, ahead of the real one by as much as a test likes."""

    ahead = timedelta(0)

    def now(self) -> datetime:
        return datetime.now(timezone.utc) + self.ahead

    def advance(self, **amount: float) -> None:
        self.ahead += timedelta(**amount)

    def reset(self) -> None:
        self.ahead = timedelta(0)


@pytest.fixture
def clock(site_world: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> Clock:
    found = Clock()
    monkeypatch.setattr(site_world.site, "now", found.now, raising=False)
    return found


def add(site: Site, receiver: Receiver, name: str = "grc", **options: object) -> tuple[Endpoint, str]:
    """Add the receiver as an endpoint."""
    return service.add(site, name, receiver.url, allow_private=True, allow_http=True, **options)


def run(site: Site) -> None:
    """What the job in the background does, until there is nothing more to tell."""
    while feed(site):
        pass
    deliver(site)


def tamper(world: SiteWorld) -> int:
    """Change the payload of the last entry in the database, as its owner can; return the entry."""
    with sqlite3.connect(world.world.workspace.config.ledger) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f'DROP TRIGGER "{name}"')
        last: int = db.execute("SELECT max(seq) FROM entry").fetchone()[0]
        stored = db.execute("SELECT bytes FROM payload WHERE seq = ?", (last,)).fetchone()[0]
        db.execute("UPDATE payload SET bytes = ? WHERE seq = ?", (stored.replace(b'":', b'" :', 1), last))
    db.close()
    return last
