"""Puts requests that ended before any page ran into the access log: unknown addresses, wrong methods, bodies and addresses over a limit,
clients that were too slow, what broke outside a page.

Invariants: a request that was refused or failed leaves exactly one line, or is counted once; who is signed in (by session or token) is
named in it. What a page answered, the page's own dispatcher writes, and says so with `written`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cognify_dagster.review.access.log import line_of, note, write
from cognify_dagster.review.site import Site
from cognify_dagster.review.store.access import Line
from cognify_dagster.review.visit import Visit

_log = logging.getLogger("cognify.review")
_KEY = "cognify.end"
_ACTIONS = {
    400: "unreadable_request", 404: "nowhere", 405: "wrong_method", 408: "too_slow", 413: "too_large", 414: "address_too_long",
    500: "failed", 503: "overloaded",
}  # fmt: skip
_PART = 24


@dataclass
class _End:
    written: bool = False


def written(scope: Scope) -> None:
    """Say that the access log has its line of a request, or that it needs none."""
    end = scope.get(_KEY)
    if isinstance(end, _End):
        end.written = True


class EveryEnd:
    """ASGI middleware: a refused or failed request that nobody wrote to the access log is written before its answer leaves.

    Args:
        app: what it wraps.
        site: the running site.
    """

    def __init__(self, app: ASGIApp, *, site: Site) -> None:
        self.app, self.site = app, site

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        end = scope[_KEY] = _End()

        async def tell(status: int) -> None:
            if not end.written and status >= 400:
                end.written = True
                await run_in_threadpool(_write, self.site, scope, status)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                await tell(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, watched)
        except Exception:
            await tell(500)
            raise


def connection_refused(site: Site) -> Callable[[str, int], None]:
    """Return what the server calls, from its event loop, with address and status of a request that no application saw."""

    def refused(address: str, status: int) -> None:
        now = int(site.now().timestamp() * 1_000_000)
        note(site, Line(now, action=_ACTIONS.get(status, "refused"), status=status, address=address))

    return refused


def _write(site: Site, scope: Scope, status: int) -> None:
    path, visit = scope.get("path", ""), Visit(site, Request(scope))
    api = path.startswith("/api/")
    visit.subject, visit.detail = shown_path(path), scope.get("method", "")[:20]
    token = ""
    try:
        if api:
            token = _token(visit)
        else:
            visit.identify()
    except Exception:  # the ledger or the database fails: that somebody was refused is written all the same
        _log.exception("who made a refused request cannot be said")
    line = line_of(visit, ("api " if api else "") + _ACTIONS.get(status, "refused"), status)
    write(site, replace(line, who=token, method="token") if token else line)


def _token(visit: Visit) -> str:
    """The id of the token that a call of the API carries, empty if it carries none that counts."""
    from cognify_dagster.review.api.tokens import check_token

    kind, _, text = visit.request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or len(text) > 200:
        return ""
    with visit.site.store.begin() as connection:
        found = check_token(connection, visit.reading, text.strip(), int(visit.now.timestamp()))
    return f"token/{found.id}" if found is not None else ""


def shown_path(path: str) -> str:
    """Return a path as the access log keeps it: without long parts, which may be the secret of a one-time link that was mistyped."""
    parts = [part if len(part) <= _PART else f"{part[:4]}…" for part in path.split("/")[:8]]
    return "/".join(part if part.isprintable() else "?" for part in parts)
