"""Decisions of other systems: reported once, shown, never counted as a sign-off.

Invariants: this module holds the API's only append to the ledger, and it appends `external_decision` alone; a reference of a system is
recorded once, and the same reference with other content is refused; whoever reports is a token, never a person.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from typing import Annotated, Any

from fastapi import APIRouter, Header
from sqlalchemy.exc import IntegrityError
from starlette.responses import Response

from cognify_dagster.ledger import IdempotencyConflict
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.records import ExternalDecision, build, utc
from cognify_dagster.review.api.calls import ApiRoute, Call, needs
from cognify_dagster.review.api.exchange import ExternalIn, ExternalOut
from cognify_dagster.review.api.models import LIST, Called
from cognify_dagster.review.api.paging import number_in
from cognify_dagster.review.api.parameters import Cursor, Limit
from cognify_dagster.review.api.problems import problems
from cognify_dagster.review.api.schemas import Page
from cognify_dagster.review.api.standing import clock
from cognify_dagster.review.api.tokens import Scope
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.store.tokens import Repeat, find_repeat, keep_repeat
from cognify_dagster.workspace import Recorded, idempotency_key

router = APIRouter(route_class=ApiRoute)
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$",
        description="chosen by the caller; a repeat within a day is answered as the first time was",
    ),
]  # fmt: skip


_BEFORE: dict[int | str, dict[str, Any]] = {
    200: {"model": ExternalOut, "description": "It was recorded before, with the same content."}
}


@router.post(
    "/external-decisions",
    status_code=201,
    response_model=ExternalOut,
    tags=["external decisions"],
    openapi_extra=needs(Scope.EXTERNAL),
    responses=_BEFORE | problems(400, 401, 403, 404, 409, 413, 422, 500, 503),
)
def report_external_decision(call: Called, body: ExternalIn, key: Key = None) -> Response:
    """Record a decision that was made in another system, once for each of its references.

    It is shown beside the version and never counts as a sign-off: no stage is done by it. A repeat with the same content is answered
    with the entry that there is; the same reference with other content is refused with 409.
    """
    asked = hashlib.sha256(json.dumps(body.model_dump(), sort_keys=True).encode()).hexdigest()
    repeated = _repeat(call, key, asked)
    if repeated is not None:
        return Response(repeated.body, repeated.status, {"Idempotent-Replayed": "true"}, "application/json")
    status, found = _record(call, body)
    text = found.model_dump_json()
    if key is not None and call.visit.token is not None:
        with suppress(IntegrityError), call.site.store.begin() as connection:  # another request was first
            if find_repeat(connection, call.visit.token.id, _hashed(key), _now(call)) is None:
                keep_repeat(connection, call.visit.token.id, _hashed(key), Repeat(asked, status, text), _now(call))
    return Response(text, status, media_type="application/json")


@router.get("/external-decisions", response_model=Page[ExternalOut], tags=["external decisions"], **LIST)
def list_external_decisions(call: Called, cursor: Cursor = None, limit: Limit = 50) -> Response:
    """List the reported decisions, newest first."""
    about = {"list": "external"}
    reading, place = call.begin(cursor, about)
    before = reading.size if place is None else number_in(place, reading.size)
    found = [item for item in reversed(reading.all(ExternalDecision, "external")) if item.seq < before]
    items = [_out(item, personal=call.personal) for item in found[:limit]]
    more = call.next(reading, found[limit - 1].seq, about) if len(found) > limit else None
    return call.answer(Page[ExternalOut](items=items, size=reading.size, next_cursor=more), {"size", "next_cursor"})


def _record(call: Call, body: ExternalIn) -> tuple[int, ExternalOut]:
    if body.version is None:
        call.model(body.model)
    else:
        call.version(body.model, body.version)
    if body.link and not body.link.startswith("https://"):
        raise Refused(422, "link must begin with https://", "invalid")
    record = build(ExternalDecision, {**body.model_dump(), "observed": {"token": call.visit.actor, "received": utc()}})
    if problem := record.problem():
        raise Refused(422, problem, "invalid")
    try:
        receipt = call.site.workspace.append(record, idem=idempotency_key("external", body.system, body.reference))
    except IdempotencyConflict as error:
        text = f"{body.system} {body.reference} was recorded before with other content; report a correction under its own reference"
        raise Refused(409, text, "conflict") from error
    except WriterRefused as error:
        raise Refused(409, f"this workspace's machine may not write such entries yet: {error}", "writer") from error
    call.visit.detail = f"entry {receipt.seq}"
    item = call.visit.refresh().find(ExternalDecision, receipt.seq)
    if item is None:
        raise Refused(409, f"entry {receipt.seq} cannot be read any more", "conflict")
    found = _out(item, personal=True)  # the caller sent it
    return (200 if receipt.duplicate else 201), found.model_copy(update={"recorded_before": receipt.duplicate})


def _out(item: Recorded[ExternalDecision], *, personal: bool) -> ExternalOut:
    record = item.record
    return ExternalOut(
        entry=item.seq,
        time=clock(item.time_us),
        leaf=item.leaf,
        system=record.system,
        reference=record.reference,
        model=record.model,
        version=record.version,
        decision=record.decision,
        text=record.text if personal else None,
        decided_by=record.decided_by if personal else None,
        decided_at=record.decided_at,
        link=record.link,
    )


def _repeat(call: Call, key: str | None, asked: str) -> Repeat | None:
    if key is None or call.visit.token is None:
        return None
    with call.site.store.begin() as connection:
        found = find_repeat(connection, call.visit.token.id, _hashed(key), _now(call))
    if found is not None and found.request != asked:
        raise Refused(422, "This Idempotency-Key was used for another request; choose a new one.", "idempotency-key")
    return found


def _hashed(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def _now(call: Call) -> int:
    return int(call.visit.now.timestamp())
