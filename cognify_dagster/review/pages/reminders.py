"""Reminders: what is overdue and was told to other systems, and the digest mails of the last days. For admins."""

from __future__ import annotations

from starlette.responses import Response

from cognify_dagster.governance import directory
from cognify_dagster.review.reading.board import board_of
from cognify_dagster.review.reading.waiting import waiting_of
from cognify_dagster.review.reminders.deciding import request_of
from cognify_dagster.review.reminders.jobs import config_of
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store.reminders import list_mails, told_steps
from cognify_dagster.review.visit import Visit

_SHOWN = 100
_TONES = {
    "sent": "good",
    "waiting": "open",
    "sending": "open",
    "unclear": "bad",
    "unreachable": "bad",
    "replaced": "plain",
}


@page("/reminders", Need.ADMIN)
def reminders(visit: Visit) -> Response:
    """Show overdue requests with the steps that were told, the last digests, and who has no address."""
    site, people = visit.site, directory(visit.reading)
    snapshot = board_of(site).current(visit.reading, visit.now)
    items = waiting_of(site).listing(snapshot, visit.reading, visit.now).items
    late = sorted((item for item in items if item.overdue(visit.now)), key=lambda item: item.due or "")
    with site.store.begin() as connection:
        told, mails = told_steps(connection), list_mails(connection, _SHOWN)
    enrolled = [item for item in people.people() if people.valid_keys(item.person, visit.reading.size)]
    settings = config_of(site)
    return visit.render(
        "reminders.html.j2",
        snapshot=snapshot,
        settings=settings,
        late=[(item, *told.get(request_of(item), (0, 0, 0))[:2]) for item in late[:_SHOWN]],
        all_late=len(late),
        mails=mails,
        tones=_TONES,
        name=people.name,
        unreached=[item.name for item in enrolled if not settings.reaches(people, item.person)],
    )
