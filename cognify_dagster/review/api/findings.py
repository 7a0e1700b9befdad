"""Findings, about one model or all."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from cognify_dagster.review.api.calls import ApiRoute
from cognify_dagster.review.api.models import LIST, READ, Called
from cognify_dagster.review.api.names import names_of
from cognify_dagster.review.api.parameters import Cursor, Limit, ModelId
from cognify_dagster.review.api.schemas import FindingOut, Page
from cognify_dagster.review.api.standing import finding_out, findings_of

router = APIRouter(route_class=ApiRoute)
OnlyOpen = Annotated[bool, Query(description="only findings that are neither closed nor accepted")]


@router.get("/models/{model}/findings", response_model=Page[FindingOut], tags=["findings"], **READ)
def list_model_findings(call: Called, model: ModelId, open: OnlyOpen = False) -> Response:
    """List the findings about a model and its versions, oldest first."""
    call.model(model)
    found = [item for item in findings_of(call.reading, model, call.visit.now) if item.open or not open]
    items = [finding_out(call.reading, model, item) for item in found]
    return call.answer(Page[FindingOut](items=items, size=call.reading.size), {"size"})


@router.get("/findings", response_model=Page[FindingOut], tags=["findings"], **LIST)
def list_findings(call: Called, open: OnlyOpen = False, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the findings about all models, by model. A page ends with a model's last finding and may be a little longer than asked."""
    about = {"list": "findings", "open": str(open)}
    names = names_of(call.site, call.reading)
    reading, place = call.begin(cursor, about)
    items: list[FindingOut] = []
    more, last = None, ""
    for model in (name for name in names.models_in(reading) if place is None or name > place.at):
        if len(items) >= limit:
            more = call.next(reading, last, about)
            break
        found = [item for item in findings_of(reading, model, call.visit.now) if item.open or not open]
        items += [finding_out(reading, model, item) for item in found]
        last = model
    return call.answer(Page[FindingOut](items=items, size=reading.size, next_cursor=more), {"size", "next_cursor"})
