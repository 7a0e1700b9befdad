"""A proxy in front of a real S3 server that spoils single answers: what servers do on bad days, at the moment a test needs it."""

from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


@dataclass
class Request:
    """What was asked: path and query, percent-decoded."""

    method: str
    path: str
    query: str
    headers: dict[str, str]


@dataclass
class Answer:
    """What the client gets; `cut` closes the connection after so many bytes."""

    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None


def refusal(status: int, code: str) -> Answer:
    """An error as S3 words it, with what real servers put into it: parts of credentials."""
    text = (
        f"<Error><Code>{code}</Code><Message>said the server</Message><AWSAccessKeyId>testkey</AWSAccessKeyId>"
        "<StringToSign>testsecret</StringToSign></Error>"
    )
    return Answer(status, text.encode(), {"Content-Type": "application/xml"})


@dataclass
class Proxy:
    """`before` may answer in place of the server; `after` may change the server's answer. All requests are kept."""

    endpoint: str = ""
    seen: list[Request] = field(default_factory=list)
    before: Callable[[Request], Answer | None] = lambda _: None
    after: Callable[[Request, Answer], Answer] = lambda _, answer: answer

    def count(self, method: str, text: str = "") -> int:
        """Requests with the method whose path or query holds the text."""
        return sum(r.method == method and text in f"{r.path}?{r.query}" for r in self.seen)


@contextmanager
def proxied(upstream: str) -> Iterator[Proxy]:
    """A proxy for an endpoint. The Host header, which signatures cover, goes through unchanged."""
    target = urlsplit(upstream).netloc
    proxy = Proxy()
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            request = Request(self.command, unquote(parts.path), unquote(parts.query), dict(self.headers))
            with lock:
                proxy.seen.append(request)
                answer = proxy.before(request)
            if answer is None:
                connection = http.client.HTTPConnection(target, timeout=30)
                connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    connection.putheader(name, value)
                connection.endheaders(body or None)
                got = connection.getresponse()
                hop = {"transfer-encoding", "connection", "content-length"}
                headers = {name: value for name, value in got.getheaders() if name.lower() not in hop}
                length = got.getheader("Content-Length")
                answer = Answer(got.status, got.read(), headers)
                if self.command == "HEAD" and length:
                    answer.headers["Content-Length"] = length
                connection.close()
                with lock:
                    answer = proxy.after(request, answer)
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if "Content-Length" not in answer.headers:
                self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(answer.body if answer.cut is None else answer.body[: answer.cut])
            if answer.cut is not None:
                self.close_connection = True

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _serve

        def log_message(self, *_: object) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None: ...

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
