"""Webhook endpoints and deliveries, for whoever runs the receiving system. Endpoints are added and removed by people, not here."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response

from cognify_dagster.review.api.calls import ApiRoute, Call, needs
from cognify_dagster.review.api.exchange import DeliveryOut, HookOut, ReplayOut
from cognify_dagster.review.api.models import LIST, Called
from cognify_dagster.review.api.parameters import Limit
from cognify_dagster.review.api.problems import problems
from cognify_dagster.review.api.schemas import Page
from cognify_dagster.review.api.standing import clock
from cognify_dagster.review.api.tokens import Scope
from cognify_dagster.review.errors import not_found
from cognify_dagster.review.webhooks import outbox, service

router = APIRouter(route_class=ApiRoute)
_LIST: dict[str, Any] = LIST | {"openapi_extra": needs(Scope.WEBHOOKS), "tags": ["webhooks"]}
State = Annotated[Literal["waiting", "delivered", "dead"] | None, Query()]
MessageId = Annotated[str, Path(pattern=r"^[A-Za-z0-9_.-]{1,80}$", description="the message's webhook-id")]


@router.get("/webhooks", response_model=Page[HookOut], **_LIST)
def list_webhooks(call: Called) -> Response:
    """List the webhook endpoints with their counts."""
    items = [
        HookOut(
            name=item.endpoint.name,
            url=item.endpoint.shown_url,
            events=list(item.endpoint.events),
            models=list(item.endpoint.models),
            off_because=item.endpoint.off_because if item.endpoint.off is not None else None,
            waiting=item.waiting,
            delivered=item.delivered,
            dead=item.dead,
        )
        for item in service.overview(call.site)
    ]
    return call.answer(Page[HookOut](items=items, size=call.reading.size), {"size"})


@router.get("/webhooks/deliveries", response_model=Page[DeliveryOut], **_LIST)
def list_deliveries(call: Called, state: State = None, limit: Limit = 100) -> Response:
    """List the newest messages."""
    names = {item.endpoint.id: item.endpoint.name for item in service.overview(call.site)}
    items = [
        DeliveryOut(
            id=item.id,
            endpoint=names.get(item.endpoint, item.endpoint),
            event=item.event,
            entry=item.seq,
            state=item.state,
            attempts=item.attempts,
            status=item.status,
            problem=item.problem,
            created=clock(item.created * 1_000_000),
            due=clock(item.due * 1_000_000),
        )
        for item in service.messages(call.site, state, limit=limit)
    ]
    return call.answer(Page[DeliveryOut](items=items, size=call.reading.size), {"size"})


@router.post(
    "/webhooks/deliveries/{message}/replay",
    response_model=ReplayOut,
    status_code=202,
    tags=["webhooks"],
    openapi_extra=needs(Scope.WEBHOOKS),
    responses=problems(401, 403, 404, 413, 422, 500, 503),
)
def replay_delivery(call: Called, message: MessageId) -> Response:
    """Send a message once more, under its id: a receiver that keeps ids takes it once."""
    call.visit.subject = f"webhook/{message}"
    _known(call, message)
    sent = service.replay(call.site, [message])
    return Response(ReplayOut(sent_again=sent).model_dump_json(), 202, media_type="application/json")


def _known(call: Call, message: str) -> None:
    with call.site.store.begin() as connection:
        if outbox.find_message(connection, message) is None:
            raise not_found(f"The message {message}")
