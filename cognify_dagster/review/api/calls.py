"""One call of the API: which token, the ledger as it is or was, and how it is answered.

Invariants: a route of this class cannot be declared without the scope it needs; the token is checked before parameters and body are
looked at; every error leaves as a problem document and every call, refused or not, is a line of the access log.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import BaseModel
from sqlalchemy.exc import OperationalError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from cognify_dagster.evidence import EvidenceError
from cognify_dagster.governance import GovernanceError
from cognify_dagster.ledger import LedgerError
from cognify_dagster.records import RecordError
from cognify_dagster.review.access.ends import written
from cognify_dagster.review.access.log import write
from cognify_dagster.review.api.paging import Place, decode_cursor, encode_cursor, entity_tag, matches
from cognify_dagster.review.api.personal import without_names
from cognify_dagster.review.api.problems import FieldError, problem
from cognify_dagster.review.api.tokens import Scope, check_token
from cognify_dagster.review.errors import Refused, ReviewError, not_found
from cognify_dagster.review.security.limits import TooLong, TooSlow
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.access import Line
from cognify_dagster.review.store.tokens import Token, mark_used
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Reading

_log = logging.getLogger("cognify.review")
_SHARED = ("people", "policy", "ledger")
_BEARER = {"WWW-Authenticate": 'Bearer realm="cognify"'}


class ApiVisit(Visit):
    """A call as the access log sees it: a token in the place of a person."""

    token: Token | None = None

    @property
    def actor(self) -> str:
        """Who calls: `token/…`, empty without a valid one."""
        return f"token/{self.token.id}" if self.token is not None else ""


class NotModified(Exception):
    """What the caller has is what there is."""

    def __init__(self, tag: str) -> None:
        super().__init__(tag)
        self.tag = tag


@dataclass
class Call:
    """What a handler works with."""

    site: Site
    request: Request
    visit: ApiVisit
    personal: bool
    tag: str = ""

    @property
    def reading(self) -> Reading:
        """The ledger as it is now."""
        return self.visit.reading

    def begin(self, cursor: str | None, about: Mapping[str, str | None]) -> tuple[Reading, Place | None]:
        """Return the ledger as a list's first page saw it, and where this page begins.

        Raises:
            Refused: 400 for a cursor that is none of this list.
        """
        if cursor is None:
            return self.reading, None
        place = decode_cursor(cursor, about)
        if not 1 <= place.size <= self.reading.size:
            raise Refused(400, "This cursor is of a ledger with other entries; begin without one.", "cursor")
        if place.size == self.reading.size:
            return self.reading, place
        return self.site.workspace.read(place.size), place

    def next(self, reading: Reading, at: object, about: Mapping[str, str | None]) -> str:
        """Return the cursor of the page after `at`."""
        return encode_cursor(Place(reading.size, str(at)), about)

    def model(self, model: str) -> None:
        """Refuse a model that the ledger does not know; note what is asked about."""
        self.visit.subject = f"model/{model}"
        if f"model/{model}" not in self.reading.view.heads:
            raise not_found(f"The model {model}")

    def version(self, model: str, version: str) -> None:
        """Refuse a version that the ledger does not know; note what is asked about."""
        self.visit.subject = f"model/{model}@{version}"
        if f"model/{model}@{version}" not in self.reading.view.heads:
            raise not_found(f"Version {version} of {model}")

    def unchanged_since(self, reading: Reading, *subjects: str) -> None:
        """Set the entity tag of an answer that follows from the histories of some subjects alone.

        Raises:
            NotModified: if the caller has it.
        """
        heads = {name: reading.view.heads.get(name, -1) for name in (*subjects, *_SHARED)}
        self.set_tag(heads)

    def set_tag(self, *parts: object) -> None:
        """Set the entity tag from what an answer follows from. Raises NotModified if the caller has it."""
        url = self.request.url
        self.tag = entity_tag(url.path, url.query, self.personal, *parts)
        self._compare()

    def answer(self, value: BaseModel, volatile: Collection[str] = ()) -> Response:
        """Return a value as JSON. Without a tag from before, the tag is that of the value but for its `volatile` members."""
        data = value.model_dump(mode="json")
        if not self.personal:
            data = without_names(self.reading, data)
        if not self.tag:
            self.set_tag({name: part for name, part in data.items() if name not in volatile})
        return self.respond(json.dumps(data, ensure_ascii=False).encode(), "application/json")

    def respond(self, data: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> Response:
        """Return bytes, with the entity tag if one was set."""
        found = {"Cache-Control": "private, no-cache", "Vary": "Authorization"} | dict(headers or {})
        if self.tag:
            found["ETag"] = self.tag
        return Response(data, media_type=media_type, headers=found)

    def _compare(self) -> None:
        header = self.request.headers.get("if-none-match")
        if header is not None and matches(header, self.tag):
            raise NotModified(self.tag)


def call_of(request: Request) -> Call:
    """Return the call of a request (a FastAPI dependency)."""
    found: Call = request.state.call
    return found


class ApiRoute(APIRoute):
    """A route that asks for a token. Declare it with `openapi_extra=needs(Scope.…)`."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        extra = settings.get("openapi_extra") or {}
        if "x-scope" not in extra:
            raise TypeError(f"{path} does not say which scope it needs")
        self.scope = Scope(extra["x-scope"])
        super().__init__(path, endpoint, **settings)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap the handler: token, then parameters and the handler itself, then the access log."""
        inner = super().get_route_handler()

        async def handle(request: Request) -> Response:
            site: Site = request.app.state.site
            visit = ApiVisit(site, request)
            try:
                await run_in_threadpool(_admit, visit, self.scope)
                personal = visit.token is not None and Scope.PERSONAL.value in visit.token.scope_set
                request.state.call = Call(site, request, visit, personal)
                await request.body()
                with site.traffic.answering():
                    response = await inner(request)
            except Exception as error:
                response = _refusal(visit, error)
            await run_in_threadpool(_log_line, visit, self.name, response.status_code)
            return response

        return handle


def _log_line(visit: ApiVisit, name: str, status: int) -> None:
    line = Line(
        time_us=int(visit.now.timestamp() * 1_000_000),
        account="",
        who=visit.actor,
        method="token" if visit.token is not None else "",
        action=f"api {name}",
        subject=visit.subject,
        detail=visit.detail,
        status=status,
        address=visit.address,
        agent=visit.agent,
    )
    write(visit.site, line)
    written(visit.request.scope)


def needs(scope: Scope) -> dict[str, Any]:
    """Return what a route says of itself in OpenAPI: the scope its token needs."""
    return {"x-scope": scope.value, "security": [{"token": []}] if scope is not Scope.PUBLIC else []}


def _admit(visit: ApiVisit, scope: Scope) -> None:
    """Check the token. Raises Refused."""
    if scope is Scope.PUBLIC:
        return
    kind, _, text = visit.request.headers.get("authorization", "").partition(" ")
    now = int(visit.now.timestamp())
    found = None
    if kind.lower() == "bearer" and len(text) <= 200:
        with visit.site.store.begin() as connection:
            found = check_token(connection, visit.reading, text.strip(), now)
            if found is not None:
                mark_used(connection, found, now)
    if found is None:
        raise Refused(401, "Send a valid token: `Authorization: Bearer cgn_…`.", "token")
    visit.token = found
    held = found.scope_set
    if scope.value not in held and not (scope is Scope.READ and Scope.PERSONAL.value in held):
        raise Refused(403, f"This token lacks the scope {scope.value}.", "scope")


def _refusal(visit: ApiVisit, error: Exception) -> Response:
    if isinstance(error, NotModified):
        return Response(status_code=304, headers={"ETag": error.tag, "Vary": "Authorization"})
    if isinstance(error, Refused):
        visit.detail = visit.detail or str(error)[:300]
        return problem(error.status, str(error), error.code, headers=_BEARER if error.status == 401 else None)
    if isinstance(error, (TooLong, TooSlow)):
        too_long = isinstance(error, TooLong)
        status, title = (413, "The request is too large.") if too_long else (408, "The request took too long.")
        return problem(status, title, "limit", headers={"Connection": "close"})
    if isinstance(error, RequestValidationError):
        errors = [
            FieldError(field=".".join(str(part) for part in item["loc"]), text=str(item["msg"])[:500])
            for item in error.errors()[:20]
        ]
        title = "; ".join(f"{item.field}: {item.text}" for item in errors[:3])
        return problem(422, title, "invalid", errors)
    if isinstance(error, HTTPException):
        return problem(error.status_code, str(error.detail), "refused", headers=dict(error.headers or {}))
    if isinstance(error, (ReviewError, GovernanceError, RecordError)):
        return problem(422, str(error), "invalid")
    _log.error("%s %s failed", visit.request.method, visit.request.url.path, exc_info=error)
    visit.detail = type(error).__name__
    if isinstance(error, (LedgerError, EvidenceError, OSError, OperationalError)):
        return problem(
            503,
            "The ledger, its evidence or the site's database cannot be read or written now; see the site's log.",
            "unavailable",
        )
    return problem(500, "The site failed; see its log. Nothing was half-done.", "failed")
