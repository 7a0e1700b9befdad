"""Tokens of the REST API: a workspace admin makes them, sees when they were used, and ends them.

Invariants: a token is shown in the answer to the form that made it and never again; only admins of the ledger come here.
"""

from __future__ import annotations

import time

from sqlalchemy import Connection
from starlette.responses import Response

from cognify_dagster.governance import directory
from cognify_dagster.review.api.tokens import MAX_DAYS, SCOPES, create_token
from cognify_dagster.review.errors import Refused, ReviewError, not_found
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.store.tokens import list_tokens, revoke_token
from cognify_dagster.review.visit import Visit


@page("/tokens", Need.ADMIN)
def tokens(visit: Visit) -> Response:
    """List the tokens of this workspace."""
    return _show(visit)


@page("/tokens/new", Need.ADMIN, methods=("POST",))
def new_token(visit: Visit) -> Response:
    """Make a token and show it, once."""
    days = visit.field("days", "90")
    scopes = tuple(visit.field("scope").split("\n")) if visit.field("scope") else ()
    try:
        if not days.isascii() or not days.isdigit() or len(days) > 4:
            raise ReviewError(f"a token lasts from 1 to {MAX_DAYS} days")
        with visit.site.store.begin() as connection:
            text, made = create_token(
                connection, visit.reading, name=visit.field("name"), scopes=scopes, days=int(days), by=visit.person, now=_now()
            )  # fmt: skip
    except ReviewError as error:
        visit.detail = str(error)[:300]
        return _show(visit, error=str(error), status=400)
    visit.subject, visit.detail = f"token/{made.id}", made.scopes
    return _show(visit, text=text, made=made)


@page("/tokens/{token}/revoke", Need.ADMIN, methods=("POST",))
def revoke(visit: Visit) -> Response:
    """End a token."""
    id = visit.param("token")
    visit.subject = f"token/{id[:12]}"
    with visit.site.store.begin() as connection:
        known = {item.id for item in list_tokens(connection, visit.reading.origin)}
        if id not in known:
            raise not_found("This token")
        if not revoke_token(connection, id, visit.person, _now()):
            raise Refused(409, "This token was ended before.", "revoked")
    return visit.redirect("/tokens")


def _show(visit: Visit, *, status: int = 200, **values: object) -> Response:
    with visit.site.store.begin() as connection:
        rows = _rows(visit, connection)
    shown = {"error": None, "text": None, "made": None} | values
    return visit.render(
        "tokens.html.j2", status=status, rows=rows, scopes=SCOPES, most=MAX_DAYS, form=visit.form, **shown
    )


def _rows(visit: Visit, connection: Connection) -> list[dict[str, object]]:
    people, now = directory(visit.reading), _now()
    return [
        {"token": item, "state": item.state(now), "by": people.name(item.created_by)}
        for item in list_tokens(connection, visit.reading.origin)
    ]


def _now() -> int:
    return int(time.time())
