"""Bounds what a client may send, and how slowly.

Invariant: no request body is longer than its limit, whatever its headers say, and a body that does not arrive in time ends the request.
"""

from __future__ import annotations

import asyncio

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_BODY = 1_000_000
BODY_SECONDS = 20.0
MAX_TARGET = 4096


class TooLong(Exception):
    """The body is longer than allowed."""


class TooSlow(Exception):
    """The body did not arrive in time."""


class BodyLimits:
    """ASGI middleware: 413 for a body over `max_body` bytes, 408 for one that takes over `seconds`, 414 for a long address."""

    def __init__(self, app: ASGIApp, *, max_body: int = MAX_BODY, seconds: float = BODY_SECONDS) -> None:
        self.app, self.max_body, self.seconds = app, max_body, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, its body counted and timed."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        if len(scope.get("raw_path", b"")) + len(scope.get("query_string", b"")) > MAX_TARGET:
            await _refusal(scope, 414, "The address is too long.")(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if not declared.isdigit() or int(declared) > self.max_body:
            await _refusal(scope, 413, "The request is too large.")(scope, receive, send)
            return
        received, started = 0, False
        deadline = asyncio.get_running_loop().time() + self.seconds
        done = False

        async def limited() -> Message:
            nonlocal received, done
            if done:  # after the body only a disconnect follows; it may come late
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), max(deadline - asyncio.get_running_loop().time(), 0.001))
            except asyncio.TimeoutError as error:
                raise TooSlow from error
            received += len(message.get("body", b""))
            if received > self.max_body:
                raise TooLong
            done = message["type"] != "http.request" or not message.get("more_body", False)
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self.app(scope, limited, watched)
        except (TooLong, TooSlow) as error:
            if started:
                raise
            status, text = (
                (413, "The request is too large.")
                if isinstance(error, TooLong)
                else (408, "The request took too long.")
            )
            response = _refusal(scope, status, text)
            response.headers["Connection"] = "close"
            await response(scope, receive, send)


def _refusal(scope: Scope, status: int, text: str) -> Response:
    """What programs get under /api/ is a problem document (RFC 9457), what people get is text."""
    if scope["path"].startswith("/api/"):
        body = {"type": "urn:cognify:problem:limit", "title": text, "status": status}
        return JSONResponse(body, status, media_type="application/problem+json")
    return PlainTextResponse(text, status)
