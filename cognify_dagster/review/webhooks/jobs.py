"""The work in the background: tell what is new, send what is due, verify the ledger from time to time."""

from __future__ import annotations

from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.site import Site
from cognify_dagster.review.webhooks.checking import DEFAULT_HOURS, check, check_due
from cognify_dagster.review.webhooks.delivering import deliver
from cognify_dagster.review.webhooks.feeding import feed
from cognify_dagster.workspace import WorkspaceError

_FIELDS = {"check_hours"}


def run_webhooks(site: Site) -> float | None:
    """Tell and send; return the seconds to the next time where there is more to do."""
    more = False
    try:
        more = feed(site)
    finally:  # what waits is sent, also while the ledger cannot be read
        deliver(site)
    return 0.2 if more else None


def run_check(site: Site) -> float | None:
    """Verify the ledger if it is time."""
    hours = check_hours(site)
    if hours and check_due(site, hours):
        check(site, hours)
    return None


def check_hours(site: Site) -> float:
    """Return the hours between two verifications (`[review.webhooks] check_hours`), 0 for none.

    Raises:
        WorkspaceError: naming the field that is wrong.
    """
    table = site.config.webhooks
    where = f"{site.workspace.config.path}: [review.webhooks]"
    unknown = sorted(set(table) - _FIELDS)
    if unknown:
        raise WorkspaceError(f"{where} has unknown field {unknown[0]!r}; it may have {', '.join(sorted(_FIELDS))}")
    value = table.get("check_hours", DEFAULT_HOURS)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not (value == 0 or 0.1 <= value <= 744):
        raise WorkspaceError(f"{where} check_hours must be from 0.1 to 744, or 0 for never")
    return float(value)


JOBS.append(Job("webhooks", 5.0, run_webhooks))
JOBS.append(Job("verification", 60.0, run_check))
