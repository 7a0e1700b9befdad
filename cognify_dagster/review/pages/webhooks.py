"""Webhooks: which systems are told, what waits, what could not be delivered. Endpoints are added on the machine, not here."""

from __future__ import annotations

from starlette.responses import Response

from cognify_dagster.review.errors import Refused, ReviewError
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit
from cognify_dagster.review.webhooks import service
from cognify_dagster.review.webhooks.checking import last_check
from cognify_dagster.review.webhooks.events import EVENTS
from cognify_dagster.review.webhooks.jobs import check_hours
from cognify_dagster.review.webhooks.outbox import DEAD
from cognify_dagster.review.webhooks.sending import SendError
from cognify_dagster.workspace import WorkspaceError

_SHOWN = 50


@page("/webhooks", Need.ADMIN)
def webhooks(visit: Visit) -> Response:
    """Show endpoints, dead messages, the last deliveries and the last verification."""
    return _show(visit)


@page("/webhooks/test", Need.ADMIN, methods=("POST",))
def webhooks_test(visit: Visit) -> Response:
    """Send a test to an endpoint and say what came of it."""
    name = visit.field("endpoint")
    visit.subject = f"webhook/{name[:40]}"
    try:
        answer = service.send_test(visit.site, name)
    except (ReviewError, SendError) as error:
        visit.detail = "not delivered"
        return _show(visit, problem=f"{name[:40]}: {error}")
    visit.detail = f"answered {answer.status}"
    said = f"{name} answered {answer.status} after {answer.took_ms} ms."
    return _show(visit, said=said) if answer.accepted else _show(visit, problem=said)


@page("/webhooks/replay", Need.ADMIN, methods=("POST",))
def webhooks_replay(visit: Visit) -> Response:
    """Send a message, or all dead ones of an endpoint, once more."""
    message, name = visit.field("message"), visit.field("endpoint")
    if message:
        visit.subject = f"webhook/{message[:80]}"
        number = service.replay(visit.site, [message])
    elif name:
        visit.subject = f"webhook/{name[:40]}"
        number = service.replay_dead(visit.site, service.get(visit.site, name))
    else:
        raise Refused(400, "Choose a message or an endpoint.")
    visit.detail = f"{number} to send again"
    return _show(visit, said=f"{number} {'message is' if number == 1 else 'messages are'} sent again within seconds.")


def _show(visit: Visit, *, said: str = "", problem: str = "") -> Response:
    site = visit.site
    endpoints = service.overview(site)
    try:
        hours = check_hours(site)
    except WorkspaceError as error:
        hours, problem = 0.0, problem or str(error)
    return visit.render(
        "webhooks.html.j2",
        status=400 if problem and visit.request.method == "POST" else 200,
        endpoints=endpoints,
        names={item.endpoint.id: item.endpoint.name for item in endpoints},
        dead=service.messages(site, DEAD, limit=_SHOWN),
        latest=service.messages(site, limit=_SHOWN),
        events=EVENTS,
        check=last_check(site),
        check_hours=hours,
        said=said,
        problem=problem,
    )
