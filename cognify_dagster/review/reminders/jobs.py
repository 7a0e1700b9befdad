"""The work in the background: look every minute at what is overdue, plan the digests of a day, send what is due."""

from __future__ import annotations

from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.reminders.config import Reminders, reminders_of
from cognify_dagster.review.reminders.mailing import send_due
from cognify_dagster.review.reminders.telling import asked_now, escalate, plan, planned
from cognify_dagster.review.site import Site

EVERY_S, SOON_S = 60.0, 5.0
KEY = "reminders.config"


def config_of(site: Site) -> Reminders:
    """Return how the site reminds."""
    found: Reminders = site.remember(KEY, lambda: reminders_of(site.workspace, site.config))
    return found


def run_reminders(site: Site) -> float | None:
    """Tell, plan and send; return the seconds to the next time where the board is still being read."""
    config = config_of(site)
    try:
        asked = asked_now(site)
        if asked is not None:
            escalate(site, config, asked)
            if not planned(site, config):
                plan(site, config, asked)
    finally:  # what was planned is sent, also while the board is being read
        send_due(site, config)
    return SOON_S if asked is None else None


JOBS.append(Job("reminders", EVERY_S, run_reminders))
