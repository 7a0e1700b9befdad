"""What guards every request: where forms come from, framing, sizes, slow clients. Every route that is declared is tried."""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from cognify_dagster.review.routing import ROUTES, Need
from cognify_dagster.review.security import slow
from tests.review.on_a_socket import listening
from tests.review.site_world import SiteWorld


def _path(path: str) -> str:
    return re.sub(r"\{[^}]+\}", "1", path)


def _posts() -> list[tuple[str, Need]]:
    from cognify_dagster.review.app import load_routes

    load_routes()
    return sorted({(_path(route.path), route.need) for route in ROUTES if "POST" in route.methods}, key=str)


def test_no_form_is_taken_from_another_site_or_from_nowhere(founded_site: SiteWorld) -> None:
    ada = founded_site.client_for("ada")
    origins: list[dict[str, str]] = [
        {},
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "cross-site", "Origin": "null"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost:3070"},
        {"Sec-Fetch-Site": "none"},
    ]
    tried = 0
    for path, _ in _posts():
        for headers in origins if path in ("/login", "/account/password") else origins[:2]:
            answer = ada.post(path, data={"csrf": ada.csrf}, headers={"Accept": "application/json"} | headers)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:cognify:problem:cross-origin"), (
                path,
                headers,
            )
            tried += 1
    assert tried > 40
    assert ada.get("/account").status_code == 200, "not even the session was ended"


def test_a_browsers_own_form_is_taken(founded_site: SiteWorld) -> None:
    url = founded_site.site.config.url
    for headers in (
        {"Origin": url},
        {"Origin": url, "Sec-Fetch-Site": "same-origin"},
        {"Origin": "null", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "same-origin"},
    ):
        ada = founded_site.client_for("ada")
        assert ada.post("/account/extend", data={"csrf": ada.csrf}, headers=headers).status_code == 200, headers


def test_no_form_is_taken_without_its_sessions_token(founded_site: SiteWorld) -> None:
    ada, finn = founded_site.client_for("ada"), founded_site.client_for("finn")
    own = {"Origin": founded_site.site.config.url, "Accept": "application/json"}
    for path, need in _posts():
        if need is Need.PUBLIC:
            continue
        for token in ("", finn.csrf, ada.csrf + "x")[: 3 if path == "/account/password" else 2]:
            answer = ada.post(path, data={"csrf": token}, headers=own)
            assert (answer.status_code, answer.json()["type"]) == (403, "urn:cognify:problem:csrf"), path


def test_who_is_signed_out_gets_into_no_form_but_the_public_ones(founded_site: SiteWorld) -> None:
    own = {"Origin": founded_site.site.config.url, "Accept": "application/json"}
    public = {path for path, need in _posts() if need is Need.PUBLIC}
    assert {"/login", "/logout", "/invite/1"} <= public
    for path, need in _posts():
        if need is not Need.PUBLIC:
            assert founded_site.client().post(path, data={}, headers=own).status_code == 401, path


def test_every_answer_forbids_framing_sniffing_and_foreign_scripts(founded_site: SiteWorld) -> None:
    ada, nobody = founded_site.client_for("ada"), founded_site.client()
    answers = [
        nobody.get(path)
        for path in ("/login", "/", "/healthz", "/nowhere", "/static/site.css", "/static/passkeys.js", "/invite/x")
    ]
    answers += [ada.get(path) for path in ("/", "/account", "/people")]
    answers += [
        nobody.post("/login", data={}),
        nobody.get("/" + "x" * 5000),
        nobody.post("/login", content=b"x" * 1_100_000),
    ]
    assert {answer.status_code for answer in answers} >= {200, 303, 403, 404, 410, 413, 414}
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin", "a link's token does not leave with a click"
    assert answers[0].headers["cache-control"] == "no-store"


@pytest.mark.parametrize("path", ["/login", "/account", "/people/vera"])
def test_every_form_of_these_pages_carries_the_token_and_nothing_is_inline(founded_site: SiteWorld, path: str) -> None:
    founded_site.passkey("ada", vouched=False)
    ada = founded_site.client_for("ada")
    page = ada.get(path).text
    forms = re.findall(r"<form[^>]*method=\"post\"[^>]*>.*?</form>", page, re.S)
    assert forms
    for form in forms:
        if 'action="/login' not in form:
            assert f'name="csrf" value="{ada.csrf}"' in form, form
    assert not re.search(r"<script(?![^>]*\bsrc=)|\son\w+=|\sstyle=|javascript:", page)


def test_who_is_signed_out_learns_nothing_about_the_workspace(approved_site: SiteWorld) -> None:
    reading = approved_site.site.read()
    for path in ("/login", "/healthz", "/readyz", "/nowhere", "/invite/x", "/models/credit_default", "/people/vera"):
        answer = approved_site.client().get(path)
        for word in (reading.view.root.hex()[:16], f"of {reading.size} entries", "credit_default/", "Vera"):
            assert word not in answer.text, (path, word)


def test_static_files_are_those_of_the_folder_alone(founded_site: SiteWorld) -> None:
    browser = founded_site.client()
    for path in (
        "/static/../app.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static//etc/passwd",
        "/static/%00",
    ):
        assert browser.get(path).status_code in (400, 404), path


# --- slow clients --------------------------------------------------------------------------------------------------------


class Quick(slow.GuardedProtocol):
    """Half a second, so that the test is short."""

    header_seconds = 0.5


@pytest.fixture
def port(founded_site: SiteWorld) -> Iterator[int]:
    """A real server on a real socket."""
    app = founded_site.app
    with listening(
        uvicorn.Config(app, http=Quick, ws="none", log_level="error", lifespan="off", timeout_keep_alive=15)
    ) as port:
        yield port


def _until_closed(connection: socket.socket, begun: float, drip: bytes = b"") -> tuple[bytes, float]:
    """Send a byte every 50 ms until the server closes; return what it said and after how many seconds it did."""
    said = b""
    connection.settimeout(0.05)
    while time.monotonic() - begun < 5:
        try:
            if drip:
                connection.sendall(drip)
            data = connection.recv(4096)
        except TimeoutError:
            continue
        except OSError:
            break
        if not data:
            break
        said += data
    return said, time.monotonic() - begun


@pytest.mark.parametrize(
    ("first", "drip"), [(b"", b""), (b"GET /healthz HTTP/1.1\r\nX-Slow: ", b"a")], ids=["says nothing", "drips headers"]
)
def test_a_client_that_does_not_send_its_headers_is_cut_off(port: int, first: bytes, drip: bytes) -> None:
    begun = time.monotonic()  # before the server's own clock starts, so that it cannot seem to be too quick
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(first)
        said, seconds = _until_closed(connection, begun, drip)
    assert 0.3 < seconds < 2.5
    assert said.startswith(b"HTTP/1.1 408")


def test_a_second_request_on_the_same_connection_must_not_drip_either(port: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for pause in (0, 0.8, 0):
            time.sleep(pause)  # an idle connection is kept, as long as uvicorn's own limit says
            connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n")
            answer = b""
            while not answer.endswith(b"ok\n"):
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
        connection.sendall(b"GET /heal")
        _, seconds = _until_closed(connection, time.monotonic(), b"t")
    assert seconds < 2.5


def test_the_server_uses_the_guard(monkeypatch: pytest.MonkeyPatch, founded_site: SiteWorld) -> None:
    from cognify_dagster.review import server

    seen: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: seen.append(self.config.http))
    config = founded_site.site.config
    server.serve(
        founded_site.world.workspace, type(config)(url="http://localhost:3071", port=0, database=config.database)
    )
    assert seen == [slow.GuardedProtocol]
    assert slow.GuardedProtocol.header_seconds == 10.0
