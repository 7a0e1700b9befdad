"""The witness behind HTTP/1.1 (stdlib http.server): `POST <prefix>/add-checkpoint` and `GET <prefix>/head/<sha256 of origin>`.

Invariants: requests are bounded in size, time and number; a log line holds method, status, origin and size, never a body, and
no control character; stopping lets requests in flight end. TLS and access control belong into a reverse proxy before it.
"""

from __future__ import annotations

import contextlib
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cognify_dagster.ledger.errors import NoteError
from cognify_dagster.ledger.witness.request import MAX_BODY
from cognify_dagster.ledger.witness.witness import Response, Witness

logger = logging.getLogger("cognify.witness")
TIMEOUT_S = 10.0
MAX_CONNECTIONS = 64
MAX_AGE_S = 60.0
"""A connection is cut after this time, so that a client that drips bytes does not keep its place."""


class WitnessServer(ThreadingHTTPServer):
    """An HTTP server around one witness; `server_address` is where it listens."""

    daemon_threads = False  # stopping waits for requests in flight
    request_queue_size = 64

    def __init__(self, witness: Witness, host: str = "127.0.0.1", port: int = 7380, prefix: str = "") -> None:
        """Bind at once, so that a taken port is an error here.

        Raises:
            OSError: if host and port cannot be bound.
            NoteError: if the prefix is not a path such as `/witness`.
        """
        if prefix and (not prefix.startswith("/") or prefix.endswith("/") or not prefix.isascii() or " " in prefix):
            raise NoteError(f"prefix {prefix[:80]!r} is not a path such as /witness")
        self.witness = witness
        self.prefix = prefix
        self._slots = threading.BoundedSemaphore(MAX_CONNECTIONS)
        self._open: dict[socket.socket, float] = {}
        self._lock = threading.Lock()
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    @property
    def url(self) -> str:
        """The submission prefix as a URL, as clients of the same machine use it."""
        host, port = self.server_address[0], self.server_address[1]
        name = str(host)
        return f"http://{f'[{name}]' if ':' in name else name}:{port}{self.prefix}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Start a thread for a connection, or drop it when there are too many."""
        if not self._slots.acquire(blocking=False):
            logger.warning("dropped a connection: %d are open", MAX_CONNECTIONS)
            self.shutdown_request(request)
            return
        with self._lock:
            self._open[request] = time.monotonic()
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._done(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Serve one connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._done(request)

    def _done(self, request: socket.socket) -> None:
        with self._lock:
            self._open.pop(request, None)
        self._slots.release()

    def service_actions(self) -> None:
        """Cut connections that are too old; called between connections."""
        self._cut(time.monotonic() - MAX_AGE_S, socket.SHUT_RDWR)

    def server_close(self) -> None:
        """Stop listening, read nothing more, and wait until the requests that were read have their answers."""
        self._cut(time.monotonic(), socket.SHUT_RD)
        super().server_close()

    def _cut(self, since: float, how: int) -> None:
        with self._lock:
            for connection, started in self._open.items():
                if started <= since:
                    with contextlib.suppress(OSError):  # the other side was faster
                        connection.shutdown(how)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log a broken connection without a traceback to the client."""
        logger.warning("a connection broke", exc_info=logger.isEnabledFor(logging.DEBUG))


class _Handler(BaseHTTPRequestHandler):
    server: WitnessServer
    protocol_version = "HTTP/1.1"
    server_version = "cognify-witness"
    sys_version = ""
    timeout = TIMEOUT_S

    def do_POST(self) -> None:
        prefix = self.server.prefix
        if self.path != f"{prefix}/add-checkpoint":
            self._answer(Response(404, b"not found\n"), close=True)
            return
        length = self.headers.get("Content-Length", "")
        if self.headers.get("Transfer-Encoding") or not (length.isascii() and length.isdigit() and len(length) < 10):
            self._answer(Response(411, b"send the body with its Content-Length\n"), close=True)
        elif int(length) > MAX_BODY:
            self._answer(Response(413, f"the request is larger than {MAX_BODY} bytes\n".encode()), close=True)
        else:
            body = self.rfile.read(int(length))
            if len(body) == int(length):
                self._answer(self.server.witness.add_checkpoint(body))

    def do_GET(self) -> None:
        head = f"{self.server.prefix}/head/"
        known = self.path.startswith(head)
        answer = self.server.witness.head(self.path[len(head) :]) if known else Response(404, b"not found\n")
        self._answer(answer)

    def _answer(self, response: Response, close: bool = False) -> None:
        self.send_response(response.status)
        self.send_header("Content-Type", response.content_type)
        self.send_header("Content-Length", str(len(response.body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        if close:
            self.send_header("Connection", "close")
            self.close_connection = True
        level = logging.ERROR if response.status >= 500 or "FORK" in response.about else logging.INFO
        about = "".join(char if char.isprintable() else "?" for char in response.about)[:500]
        logger.log(level, "%s %s %s", self.command, response.status, about)
        self.end_headers()
        self.wfile.write(response.body)

    def log_message(self, format: str, *args: Any) -> None:
        """Be silent: `_answer` logs what is worth it; the default would log what a stranger sends."""


def serve(server: WitnessServer, ready: Callable[[], None] | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then let requests in flight end and return. For the main thread of a process."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="witness", daemon=True)
    thread.start()
    try:
        if ready is not None:
            ready()
        stop.wait()
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
