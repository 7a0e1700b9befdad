"""One POST to another system.

Invariants: the connection goes to an address that was checked, whatever the name resolves to later; no redirect is followed, no proxy
of the environment used; certificates are verified against the host's name; it ends within its time, and only the beginning of
an answer is read.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass

from cognify_dagster.review.webhooks.address import AddressRefused, Target, parse_target, resolve

TIMEOUT_S = 10.0
ANSWER_BYTES = 16_384
MAX_WAIT_S = 4 * 3600
_TRIES = 3


class SendError(RuntimeError):
    """It could not be handed over. Holds no secret. `final`: trying again cannot help until somebody changes something."""


@dataclass(frozen=True)
class Answer:
    """What the other system said. `wait_s`: how long it asks us to wait, None if it does not. `took_ms`: milliseconds."""

    status: int
    wait_s: int | None
    took_ms: int

    @property
    def accepted(self) -> bool:
        """Whether it took the delivery."""
        return 200 <= self.status < 300


def post(
    url: str,
    body: bytes,
    headers: Mapping[str, str],
    *,
    allow_private: bool = False,
    allow_http: bool = False,
    timeout_s: float = TIMEOUT_S,
) -> Answer:
    """Send a body.

    Args:
        url: where.
        body: JSON.
        headers: besides Host, Content-Length and Content-Type.
        allow_private, allow_http: what was allowed for the endpoint.
        timeout_s: seconds for all of it, without the resolution of the name.

    Raises:
        AddressRefused: if nothing may be sent there.
        SendError: if it did not come to an answer.
    """
    target = parse_target(url, allow_http=allow_http)
    try:
        addresses = resolve(target, allow_private=allow_private)
    except AddressRefused:
        raise
    except (OSError, UnicodeError) as error:
        raise SendError(f"{target.host} cannot be resolved") from error
    began = time.monotonic()
    raw = _connect(target, [str(address) for address in addresses], timeout_s)
    watch = _Deadline(raw, max(timeout_s - (time.monotonic() - began), 0.1))
    try:
        with watch:
            answer = _talk(target, watch, body, headers)
    except ssl.SSLCertVerificationError as error:
        raise SendError(f"{target.host}: its certificate does not verify: {error.verify_message}") from error
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = f"no answer within {timeout_s:g} s"
        raise SendError(f"{target.host}: {late if watch.over else type(error).__name__}") from error
    return Answer(answer.status, _wait(answer.getheader("Retry-After")), round((time.monotonic() - began) * 1000))


class _Deadline:
    """Ends a connection when its time is over, however slowly the other side sends."""

    def __init__(self, sock: socket.socket, seconds: float) -> None:
        self.sock, self.over = sock, False
        self._timer = threading.Timer(seconds, self._end)
        self._timer.daemon = True

    def _end(self) -> None:
        self.over = True
        with contextlib.suppress(OSError):
            socket.socket.shutdown(self.sock, socket.SHUT_RDWR)  # also of a TLS socket, without its own farewell

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        with contextlib.suppress(OSError):
            self.sock.close()


def _connect(target: Target, addresses: list[str], timeout_s: float) -> socket.socket:
    last: OSError | None = None
    deadline = time.monotonic() + timeout_s
    for address in addresses[:_TRIES]:
        left = deadline - time.monotonic()
        if left <= 0:
            break
        try:
            return socket.create_connection((address, target.port), timeout=left)
        except OSError as error:
            last = error
    raise SendError(f"{target.host}:{target.port} cannot be reached: {type(last).__name__ if last else 'no time left'}")


def _talk(target: Target, watch: _Deadline, body: bytes, headers: Mapping[str, str]) -> http.client.HTTPResponse:
    connection: http.client.HTTPConnection
    if target.tls:
        secured = ssl.create_default_context().wrap_socket(
            watch.sock, server_hostname=target.host, do_handshake_on_connect=False
        )
        watch.sock = secured
        secured.do_handshake()
        connection = http.client.HTTPSConnection(target.host, target.port)
    else:
        connection = http.client.HTTPConnection(target.host, target.port)
    connection.sock = watch.sock
    sent = {"Content-Type": "application/json", "User-Agent": "cognify-dagster", "Connection": "close", **headers}
    connection.request("POST", target.path, body, sent)
    answer = connection.getresponse()
    answer.read(ANSWER_BYTES)
    return answer


def _wait(text: str | None) -> int | None:
    """Retry-After in seconds; a date is left out."""
    if text is None or not text.strip().isascii() or not text.strip().isdigit():
        return None
    return min(int(text.strip()[:9]), MAX_WAIT_S)
