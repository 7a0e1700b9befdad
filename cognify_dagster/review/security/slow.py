"""A protocol for uvicorn that does not wait for ever for a request's headers, and takes no more connections than it may; uvicorn itself
has no limit for the one, and answers requests of all connections with 503 for the other.

Invariants: a connection that began (or goes on) and has not sent the headers of its next request within the limit is closed, however
slowly bytes keep coming; connections beyond the bound are closed at once, those that are open go on. What is refused before an
application sees it is told to `GuardedConfig.refused`. Bodies are bounded by `security.limits`, idle connections by uvicorn's
keep-alive time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import h11
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

HEADER_SECONDS = 10.0
MAX_CONNECTIONS = 512
_SLOW = b"HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
_FULL = b"HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nRetry-After: 10\r\nContent-Length: 0\r\n\r\n"


class GuardedConfig(Config):
    """uvicorn's settings, and who is told of refused requests.

    Attributes:
        refused: called in the event loop, with the address of the peer and the status; it must not wait.
        max_connections: how many may be open at a time.
    """

    refused: Callable[[str, int], None] | None = None
    max_connections = MAX_CONNECTIONS


class GuardedProtocol(H11Protocol):
    """H11Protocol that closes connections whose headers take longer than `header_seconds`, and those that are too many."""

    header_seconds = HEADER_SECONDS
    _deadline: asyncio.TimerHandle | None = None
    _begun = False  # browsers open connections that they may never use: closing those is no refusal

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first request."""
        super().connection_made(transport)
        if len(self.connections) > getattr(self.config, "max_connections", MAX_CONNECTIONS):
            self._tell(503)
            transport.write(_FULL)
            transport.close()
            return
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Read; the time runs on while headers are not complete."""
        if self.transport.is_closing():  # refused
            return
        self._begun = True
        super().data_received(data)
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is no HTTP, or has longer headers than allowed."""
        self._tell(400)
        super().send_400_response(msg)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the time."""
        self._forget()
        super().connection_lost(exc)

    def _watch(self) -> None:
        if self.conn.their_state is not h11.IDLE or self.transport.is_closing():
            self._begun = False
            self._forget()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self.header_seconds, self._too_slow)

    def _forget(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _too_slow(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            if self.conn.our_state is h11.IDLE:
                self.transport.write(_SLOW)
            if self._begun:
                self._tell(408)
            self.transport.close()

    def _tell(self, status: int) -> None:
        refused = getattr(self.config, "refused", None)
        if refused is not None:
            refused(self.client[0] if self.client else "", status)
