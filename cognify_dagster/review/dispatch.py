"""From a request to a page: who is it, may they, is the form theirs, then the page's own code, then the access log."""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from urllib.parse import urlencode

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response

from cognify_dagster.governance import GovernanceError
from cognify_dagster.ledger import LedgerError
from cognify_dagster.review.access.ends import written
from cognify_dagster.review.access.log import write_line
from cognify_dagster.review.errors import Refused, ReviewError, SignedOut
from cognify_dagster.review.identity.signing_in import require_strong
from cognify_dagster.review.routing import Need, PageRoute, require
from cognify_dagster.review.security.origin import FIELD, HEADER, SAFE, require_same_origin, require_token
from cognify_dagster.review.site import Site
from cognify_dagster.review.visit import Visit, cookie_name

_log = logging.getLogger("cognify.review")
_MAX_FIELDS = 400
_WATCHED = frozenset({"/healthz", "/readyz"})
"""Asked by load balancers every second; of every other route the access log keeps at least what was refused or failed."""


def endpoint_of(route: PageRoute, site: Site) -> Callable[[Request], Awaitable[Response]]:
    """Return the ASGI endpoint of a route."""

    async def endpoint(request: Request) -> Response:
        visit = Visit(site, request)
        try:
            await _read_body(visit)
        except ClientDisconnect:
            gone = Refused(400, "The connection ended before the form was complete. Send it again.", "incomplete")
            return await run_in_threadpool(_refuse_body, route, visit, gone)
        except Refused as refused:
            return await run_in_threadpool(_refuse_body, route, visit, refused)
        return await run_in_threadpool(handle, route, visit)

    return endpoint


def handle(route: PageRoute, visit: Visit) -> Response:
    """Answer a request whose body was read; runs in a worker thread."""
    with visit.site.traffic.answering():
        return _ended(route, visit, lambda: _page(route, visit))


def _refuse_body(route: PageRoute, visit: Visit, refused: Refused) -> Response:
    """Refuse a body that cannot be read; it is in the access log as any other refusal, with who sent it."""

    def answer() -> Response:
        visit.identify()
        return _refuse(visit, refused)

    return _ended(route, visit, answer)


def _ended(route: PageRoute, visit: Visit, answer: Callable[[], Response]) -> Response:
    """Return an answer, whatever fails while it is made or while a refusal is rendered, and write the line of the access log."""
    try:
        response = answer()
    except LedgerError as error:
        _log.error("%s %s: the ledger cannot be relied on: %s", visit.request.method, route.path, error)
        visit.detail = type(error).__name__
        response = _unreliable(visit, error)
    except Exception as error:
        _log.exception("%s %s failed", visit.request.method, route.path)
        visit.detail = type(error).__name__
        response = _failed(visit)
    if visit.new_cookie is not None:
        _set_cookie(visit, response)
    if route.logged or (response.status_code >= 400 and route.path not in _WATCHED):
        write_line(visit, route.name, response.status_code)
    written(visit.request.scope)
    return response


def _page(route: PageRoute, visit: Visit) -> Response:
    """Ask who it is, whether they may and whether the form is theirs; then the page's own code, or the refusal."""
    try:
        visit.identify()
        require(route.need, visit.user)
        if visit.request.method not in SAFE:
            require_same_origin(visit.request.headers, visit.site.config.url)
            if visit.session is not None and route.need is not Need.PUBLIC:
                require_token(visit.form.get(FIELD) or visit.request.headers.get(HEADER, ""), visit.session.csrf)
            if route.need is Need.ADMIN and visit.session is not None:
                require_strong(visit)
        return route.handler(visit)
    except Refused as refused:
        return _refuse(visit, refused)
    except ReviewError as error:
        return _refuse(visit, Refused(400, str(error)))
    except GovernanceError as error:
        return _refuse(visit, Refused(409, str(error), "governance"))


async def _read_body(visit: Visit) -> None:
    request = visit.request
    if request.method in SAFE:
        return
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    if kind == "application/json":
        try:
            visit.json = json.loads(await request.body())
        except (ValueError, RecursionError) as error:
            raise Refused(400, "The body is not JSON.") from error
    elif kind in ("application/x-www-form-urlencoded", "multipart/form-data"):
        fields: dict[str, str] = {}
        files: dict[str, bytes] = {}
        try:
            async with request.form(max_files=8, max_fields=_MAX_FIELDS) as form:
                for name, value in form.multi_items():
                    if isinstance(value, UploadFile):
                        files[name] = await value.read()
                    else:
                        text = value.replace("\r\n", "\n").strip()
                        before = fields.get(name)  # several boxes of one name
                        fields[name] = text if before is None else f"{before}\n{text}"
        except HTTPException as error:
            raise Refused(400, f"The form cannot be read: {error.detail}", "form") from error
        visit.form, visit.files = fields, files


def _refuse(visit: Visit, refused: Refused) -> Response:
    visit.detail = visit.detail or str(refused)[:300]
    request = visit.request
    if isinstance(refused, SignedOut) and request.method in SAFE and not visit.fragment and _wants_page(visit):
        target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
        return RedirectResponse("/login" + ("" if target == "/" else "?" + urlencode({"next": target})), 303)
    if not _wants_page(visit):
        problem = {"type": f"urn:cognify:problem:{refused.code}", "title": str(refused), "status": refused.status}
        return JSONResponse(problem, refused.status, media_type="application/problem+json")
    return visit.render("refused.html.j2", status=refused.status, refused=refused)


def _unreliable(visit: Visit, error: LedgerError) -> Response:
    """The ledger does not verify, or is out of reach: no page shows anything of it, and nobody signs."""
    if not _wants_page(visit):
        problem = {
            "type": "urn:cognify:problem:ledger",
            "title": f"The ledger cannot be relied on: {error}",
            "status": 503,
        }
        return JSONResponse(problem, 503, media_type="application/problem+json")
    try:
        text = visit.site.templates.render("unreliable.html.j2", site=visit.site, problem=str(error))
        return HTMLResponse(text, 503)
    except Exception:
        _log.exception("the page about a ledger that cannot be relied on failed, too")
        return PlainTextResponse(f"The ledger cannot be relied on: {error}", 503)


def _failed(visit: Visit) -> Response:
    """Something broke. What, stands in the log of the process; a visitor learns that nothing was half-done."""
    if not _wants_page(visit):
        problem = {"type": "urn:cognify:problem:failed", "title": "The site failed; see its log.", "status": 500}
        return JSONResponse(problem, 500, media_type="application/problem+json")
    try:
        text = "Something on our side failed. Nothing was changed. Whoever runs the site finds the cause in its log."
        return visit.render("refused.html.j2", status=500, refused=Refused(500, text))
    except LedgerError as error:
        return _unreliable(visit, error)
    except Exception:
        _log.exception("the error page failed too")
        return PlainTextResponse("The site failed; see its log.", 500)


def _wants_page(visit: Visit) -> bool:
    accept = visit.request.headers.get("accept", "*/*")
    return "application/json" not in accept and visit.json is None


def _set_cookie(visit: Visit, response: Response) -> None:
    """An empty text removes the cookie."""
    name = cookie_name(visit.site)
    if visit.new_cookie:
        response.set_cookie(name, visit.new_cookie, path="/", httponly=True, secure=visit.https, samesite="lax")
    else:
        response.delete_cookie(name, path="/", httponly=True, secure=visit.https, samesite="lax")
