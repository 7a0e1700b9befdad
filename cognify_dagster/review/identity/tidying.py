"""Removes what is over from the site's database, every hour: sessions, invitations and what was told of them, ceremonies, counters."""

from __future__ import annotations

from sqlalchemy import delete

from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.identity.links import KEPT_S
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.invitations import invitations
from cognify_dagster.review.store.links import forget_events
from cognify_dagster.review.store.passkeys import ceremonies
from cognify_dagster.review.store.sessions import purge_sessions
from cognify_dagster.review.store.throttles import throttles

KEEP_INVITATIONS_S = 30 * 86_400


def tidy(site: Site) -> None:
    """Remove what is over; used invitations stay for a month, and for half a year what their account's holder is told of them."""
    now = int(site.now().timestamp())
    with site.store.begin() as connection:
        purge_sessions(connection, now)
        connection.execute(delete(ceremonies).where(ceremonies.c.expires <= now))
        connection.execute(delete(throttles).where(throttles.c.expires <= now))
        connection.execute(delete(invitations).where(invitations.c.expires <= now - KEEP_INVITATIONS_S))
        forget_events(connection, now - KEPT_S)


JOBS.append(Job("tidy", 3600.0, tidy))
