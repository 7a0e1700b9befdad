"""What an answer of the issuer may take: time, length and form. A service that is broken, or was taken over, must not hold up the site.

Invariants: after so many seconds the connection is cut, whether the answer is silent, slow or endless; what is too long is not read to its end; an
answer that leads elsewhere, or is packed, is none.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Any

from cognify_dagster.review.errors import ReviewError

try:  # Authlib moves from httpx to its successor; both have what is used here
    import httpx2 as httpx
except ImportError:
    import httpx  # type: ignore[no-redef]

SECONDS = 10.0
MAX_ANSWER = 256 * 1024


class IssuerError(ReviewError):
    """The sign-in service cannot be reached, or answers what it should not."""


class Bounds:
    """Bounds one request, as a context around it; `hooks` are given to the client that makes it.

    A client's own timeout counts anew with each byte. So a timer cuts the socket, of which the client tells when it has connected.

    Args:
        url: what is asked, for errors.

    Attributes:
        status: the answer's status, 0 until there is one.
    """

    def __init__(self, url: str) -> None:
        self.url = url
        self.status = 0
        self.hooks: Mapping[str, list[Callable[[Any], None]]] = {"request": [self._begin], "response": [self._check]}
        self._over = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()
        self._timer = threading.Timer(SECONDS, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> Bounds:
        """Let the time run."""
        self._timer.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        self._timer.cancel()

    def require_in_time(self) -> None:
        """Refuse what came after the time was over, or was cut off then: its end may be missing.

        Raises:
            IssuerError: if it was.
        """
        if self._over:
            raise IssuerError(f"the sign-in service took too long to answer at {self.url}")

    def _begin(self, request: Any) -> None:
        request.headers["Accept-Encoding"] = "identity"
        request.extensions = {**request.extensions, "trace": self._watch}

    def _watch(self, event: str, info: Mapping[str, Any]) -> None:
        """Take note of the socket, also of the one that TLS makes of it."""
        if not event.endswith(("connect_tcp.complete", "start_tls.complete")):
            return
        with self._lock:
            self._socket = info["return_value"].get_extra_info("socket")
            if self._over:
                self._end()

    def _cut(self) -> None:
        with self._lock:
            self._over = True
            self._end()

    def _end(self) -> None:
        """End reading and writing; unlike closing that wakes who waits for the next byte."""
        if self._socket is not None:
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _check(self, response: Any) -> None:
        self.status = response.status_code
        if 300 <= response.status_code < 400:
            raise IssuerError(f"the sign-in service answers {response.status_code}, leading elsewhere, at {self.url}")
        if response.headers.get("Content-Encoding", "identity").strip().lower() not in ("", "identity"):
            raise IssuerError(f"the answer of the sign-in service at {self.url} is packed, which was not asked for")
        length = response.headers.get("Content-Length", "")
        if length.isdecimal() and int(length[:20]) > MAX_ANSWER:
            raise self._too_long()
        response.stream = _Bounded(response.stream, self._too_long)

    def _too_long(self) -> IssuerError:
        return IssuerError(f"the answer of the sign-in service at {self.url} is too long")


class _Bounded(httpx.SyncByteStream):
    """A body of which no more is read than is allowed."""

    def __init__(self, stream: Any, too_long: Callable[[], IssuerError]) -> None:
        self._stream = stream
        self._too_long = too_long

    def __iter__(self) -> Iterator[bytes]:
        size = 0
        for part in self._stream:
            size += len(part)
            if size > MAX_ANSWER:
                raise self._too_long()
            yield part

    def close(self) -> None:
        self._stream.close()
