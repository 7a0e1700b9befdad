"""A sign-in service that is broken or hostile: no answer of it takes longer, or more, than it may. Over real sockets."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.review.identity.oidc import bounds
from cognify_dagster.review.identity.oidc.bounds import MAX_ANSWER
from cognify_dagster.review.identity.oidc.config import OidcConfig
from cognify_dagster.review.identity.oidc.http import IssuerError, exchange, get_json
from cognify_dagster.review.identity.oidc.provider import Provider
from tests.governance.issuer import CLIENT

SECONDS = 0.7
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
GOOD = b'{"id_token": "a.b.c", "access_token": "x", "token_type": "Bearer", "issuer": "x"}'
Way = Callable[[socket.socket], None]


def _whole(head: bytes, body: bytes) -> Way:
    data = head + b"Content-Length: %d\r\n\r\n" % len(body) + body
    return lambda peer: peer.sendall(data)


def _for_ever(first: bytes, more: bytes, pause: float = 0.0) -> Way:
    def send(peer: socket.socket) -> None:
        peer.sendall(first)
        for _ in range(2_000_000):
            peer.sendall(more)
            time.sleep(pause)

    return send


WAYS: dict[str, Way] = {
    "/good": _whole(OK, GOOD),
    "/endless": _for_ever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"4000\r\n" + b" " * 0x4000 + b"\r\n"),
    "/endless-without-length": _for_ever(OK + b"Connection: close\r\n\r\n", b" " * 4096),
    "/announced": lambda peer: peer.sendall(OK + b"Content-Length: 99999999999\r\n\r\n{"),
    "/absurd": lambda peer: peer.sendall(OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\n{"),
    "/drip": _for_ever(OK + b"Transfer-Encoding: chunked\r\n\r\n", b"1\r\n \r\n", 0.05),
    "/complete-then-drip": _for_ever(OK + b"Connection: close\r\n\r\n" + GOOD, b" ", 0.05),
    "/drip-headers": _for_ever(b"HTTP/1.1 200 OK\r\nX-A: ", b"a", 0.05),
    "/headers": _for_ever(OK, b"X-A: " + b"a" * 1000 + b"\r\n"),
    "/silent": lambda peer: time.sleep(5 * SECONDS),
    "/always-soon": _for_ever(b"", b"HTTP/1.1 100 Continue\r\n\r\n", 0.001),
    "/bomb": _whole(OK + b"Content-Encoding: gzip\r\n", gzip.compress(b" " * 5_000_000)),
    "/packed": _whole(OK + b"Content-Encoding: gzip\r\n", gzip.compress(GOOD)),
    "/deep": _whole(OK, b"[" * 200_000),
    "/deep-token": _whole(OK, b'{"id_token": ' + b"[" * 200_000),
    "/number": _whole(OK, b"7"),
    "/created": _whole(OK.replace(b"200 OK", b"201 Created"), GOOD),
    "/refused": _whole(OK.replace(b"200 OK", b"400 Bad"), GOOD),
    "/nonsense": lambda peer: peer.sendall(b"\0\1\2\3 hello\r\n\r\n"),
    "/cut": lambda peer: peer.sendall(OK + b"Content-Length: 500\r\n\r\n{"),
}


def _request(peer: socket.socket) -> bytes:
    """Read a whole request: who closes before tears the connection."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += peer.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
    while len(body) < length:
        body += peer.recv(65536)
    return head


class Server:
    """Answers each connection in a thread of its own, by the path; counts who came."""

    def __init__(self, context: ssl.SSLContext | None = None) -> None:
        self.asked: list[str] = []
        self.elsewhere = ""
        self._context = context
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(peer,), daemon=True).start()

    def _answer(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError):
            if self._context is not None:
                peer = self._context.wrap_socket(peer, server_side=True)
            with peer:
                path = _request(peer).split(b" ")[1].decode()
                self.asked.append(path)
                if path.startswith("/moved"):
                    status = path.removeprefix("/moved").encode()
                    head = OK.replace(b"200 OK", status + b" Moved") + b"Location: " + self.elsewhere.encode() + b"\r\n"
                    _whole(head, GOOD)(peer)
                else:
                    WAYS.get(path, WAYS["/silent"])(peer)

    def close(self) -> None:
        self._listening.close()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(bounds, "SECONDS", SECONDS)
    found = Server()
    yield found
    found.close()


@pytest.fixture
def patient(server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """For what is not about time: a busy machine may take a second for any answer."""
    monkeypatch.setattr(bounds, "SECONDS", 30.0)
    return server


def fetch(url: str, **table: Any) -> Any:
    return get_json(OidcConfig(url, CLIENT, **table), url)


def token(url: str, **table: Any) -> Any:
    return exchange(OidcConfig(url, CLIENT, **table), url, "none", "http://localhost/cb", "code", "v" * 43)


BOTH = pytest.mark.parametrize("ask", [fetch, token], ids=["description", "token"])


@BOTH
def test_an_answer_as_it_should_be_is_taken(patient: Server, ask: Callable[[str], Any]) -> None:
    assert ask(f"http://127.0.0.1:{patient.port}/good") in ("a.b.c", json.loads(GOOD))


@BOTH
@pytest.mark.parametrize("path", [path for path in WAYS if path not in ("/good",)])
def test_any_other_answer_is_refused_within_the_time(server: Server, ask: Callable[[str], Any], path: str) -> None:
    begun = time.monotonic()
    with pytest.raises(IssuerError):
        ask(f"http://127.0.0.1:{server.port}{path}")
    assert time.monotonic() - begun < 3 * SECONDS
    assert server.asked == [path], "asked once"


@pytest.mark.parametrize("path", ["/drip", "/complete-then-drip", "/drip-headers", "/silent", "/always-soon"])
@BOTH
def test_what_takes_too_long_is_called_so(server: Server, ask: Callable[[str], Any], path: str) -> None:
    with pytest.raises(IssuerError, match=r"took too long|Timeout"):
        ask(f"http://127.0.0.1:{server.port}{path}")


@pytest.mark.parametrize("path", ["/endless", "/endless-without-length", "/announced"])
@BOTH
def test_what_is_too_long_is_not_read_to_its_end(patient: Server, ask: Callable[[str], Any], path: str) -> None:
    with pytest.raises(IssuerError, match="too long"):
        ask(f"http://127.0.0.1:{patient.port}{path}")


def test_the_largest_answer_that_is_allowed_is_taken(patient: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for size, taken in ((MAX_ANSWER, True), (MAX_ANSWER + 1, False)):
        body = b'{"a": "' + b"x" * (size - 9) + b'"}'
        assert len(body) == size
        monkeypatch.setitem(WAYS, "/size", _whole(OK, body))
        if taken:
            assert fetch(f"http://127.0.0.1:{patient.port}/size")
        else:
            with pytest.raises(IssuerError, match="too long"):
                fetch(f"http://127.0.0.1:{patient.port}/size")


@BOTH
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_nothing_goes_where_a_redirect_leads(patient: Server, ask: Callable[[str], Any], status: int) -> None:
    """The token request carries the code and the site's secret: neither must reach another address."""
    other = Server()
    for target in (f"http://127.0.0.1:{other.port}/good", f"http://127.0.0.1:{patient.port}/good", "/good"):
        patient.elsewhere = target
        with pytest.raises(IssuerError, match="leading elsewhere"):
            ask(f"http://127.0.0.1:{patient.port}/moved{status}")
    assert other.asked == []
    assert patient.asked == [f"/moved{status}"] * 3
    other.close()


@BOTH
def test_over_tls_the_same_holds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Any]) -> None:
    found = Server(_certificate(tmp_path))
    table = {"ca_file": str(tmp_path / "ca.pem")}
    url = f"https://localhost:{found.port}"
    assert ask(f"{url}/good", **table) in ("a.b.c", json.loads(GOOD))
    monkeypatch.setattr(bounds, "SECONDS", SECONDS)
    for path in ("/drip", "/complete-then-drip", "/drip-headers", "/endless", "/silent"):
        begun = time.monotonic()
        with pytest.raises(IssuerError):
            ask(url + path, **table)
        assert time.monotonic() - begun < 3 * SECONDS
    with pytest.raises(IssuerError):
        ask(f"{url}/good")  # nobody vouches for this certificate
    found.close()


def _certificate(folder: Path) -> ssl.SSLContext:
    """A server's certificate for localhost, signed by itself; `ca.pem` is what a client trusts."""
    import datetime

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.timezone.utc)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "ca.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "ca.pem", folder / "key.pem")
    return context


def test_while_a_service_hangs_one_visitor_waits_and_the_others_are_told_at_once(server: Server) -> None:
    """Each waits for the same description; if each asked anew, forty would stand in all threads of the site for minutes."""
    provider = Provider(OidcConfig(f"http://127.0.0.1:{server.port}", CLIENT), "http://localhost:3070")

    def one(_: int) -> str:
        try:
            provider.describe()
        except IssuerError as error:
            return str(error)
        return ""

    begun = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(one, range(8)))
    assert time.monotonic() - begun < 3 * SECONDS
    assert len(set(found)) == 1
    assert found[0]
    assert len(server.asked) == 1


def test_after_a_few_seconds_it_is_asked_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.review.identity.oidc import provider as module

    issuer = f"http://127.0.0.1:{server.port}"
    provider = Provider(OidcConfig(issuer, CLIENT), "http://localhost:3070")
    with pytest.raises(IssuerError):
        provider.describe()
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    body = json.dumps({"issuer": issuer} | dict.fromkeys(names, f"{issuer}/x")).encode()
    monkeypatch.setitem(WAYS, "/.well-known/openid-configuration", _whole(OK, body))
    with pytest.raises(IssuerError):
        provider.describe()
    monkeypatch.setattr(module, "AGAIN_S", 0.0)
    monkeypatch.setattr(bounds, "SECONDS", 30.0)
    assert provider.describe()["issuer"] == issuer
