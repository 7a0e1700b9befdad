"""Requests that end before a page runs are in the access log, once each: unknown, wrong method, too long, too slow, malformed."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn
from sqlalchemy import delete

from cognify_dagster.ledger.errors import Tampered
from cognify_dagster.review.access import log
from cognify_dagster.review.access.ends import EveryEnd, connection_refused, shown_path
from cognify_dagster.review.security import slow
from cognify_dagster.review.security.limits import MAX_BODY, BodyLimits
from cognify_dagster.review.store import access as table
from tests.review.api.conftest import make_token
from tests.review.on_a_socket import listening
from tests.review.records.test_grants import grant, visitor
from tests.review.site_world import SiteWorld


@pytest.fixture
def site(founded_site: SiteWorld) -> SiteWorld:
    return founded_site


def lines(world: SiteWorld) -> list[table.Kept]:
    """The lines since it was asked last, oldest first."""
    assert log.flush(world.site)
    with world.site.store.begin() as connection:
        found = list(reversed(table.find_lines(connection, limit=1_000)))
        connection.execute(delete(table.access_lines))
    return found


def line(world: SiteWorld) -> tuple[str, str, int]:
    """Who, what and status of the one line there is."""
    (found,) = lines(world)
    return found.who, found.action, found.status


def origin(world: SiteWorld) -> dict[str, str]:
    return {"Origin": world.site.config.url}


# --- one line each -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["", "vera"])
def test_every_end_before_a_page_is_a_line_with_who_it_was(site: SiteWorld, who: str) -> None:
    browser = site.client_for(who) if who else site.client()
    person, long = f"person/{who}" if who else "", "x" * 5_000
    cases: list[tuple[Any, str, int]] = [
        (lambda: browser.get("/nothing"), "nowhere", 404),
        (lambda: browser.get("/nothing", headers={"Accept": "application/json"}), "nowhere", 404),
        (lambda: browser.get("/static/nothing.js"), "nowhere", 404),
        (lambda: browser.delete("/ledger"), "wrong_method", 405),
        (lambda: browser.post("/policy", headers=origin(site)), "wrong_method", 405),
        (lambda: browser.post("/static/site.css"), "wrong_method", 405),
        (lambda: browser.get(f"/ledger?{long}"), "address_too_long", 414),
        (lambda: browser.post("/login", content=b"x" * (MAX_BODY + 1)), "too_large", 413),
        (lambda: browser.post("/login", content=iter([b"x" * MAX_BODY, b"y"]), headers=_form()), "too_large", 413),
        (lambda: browser.post("/login", headers={"Content-Length": "-1"}), "too_large", 413),
        (lambda: browser.post("/login", content=b"x", headers=_form("multipart/form-data")), "login_password", 400),
        (lambda: browser.post("/login", data={f"f{n}": "" for n in range(500)}), "login_password", 400),
        (lambda: browser.post("/login/passkey", content=b"{", headers=_json()), "login_passkey", 400),
    ]
    for ask, action, status in cases:
        assert ask().status_code == status, action
        assert line(site) == (person, action, status)


def _form(kind: str = "application/x-www-form-urlencoded") -> dict[str, str]:
    return {"Content-Type": kind}


def _json() -> dict[str, str]:
    return {"Content-Type": "application/json"}


def test_an_auditor_is_named_by_the_grant(site: SiteWorld) -> None:
    seq = grant(site.world)
    visitor(site, seq).get("/nothing")
    assert line(site) == (f"auditor/{seq}", "nowhere", 404)


def test_the_api_names_the_token_that_counts_and_nobody_for_another(site: SiteWorld) -> None:
    token, browser = make_token(site, "read"), site.client()
    name = "token/" + token.split("_")[1]
    for text, who in ((token, name), (token[:-1] + "~", ""), ("", "")):
        headers = {"Authorization": f"Bearer {text}"} if text else {}
        assert browser.get("/api/v1/nothing", headers=headers).status_code == 404
        assert line(site) == (who, "api nowhere", 404)
        assert browser.put("/api/v1/models", headers=headers).status_code == 405
        assert line(site) == (who, "api wrong_method", 405)
        assert browser.post("/api/v1/models", content=b"x" * (MAX_BODY + 1), headers=headers).status_code == 413
        assert line(site) == (who, "api too_large", 413)
    assert browser.get("/api/v1/models", headers={"Authorization": f"Bearer {token}"}).status_code == 200
    assert line(site)[0] == name, "a call that has its line has no second"


@pytest.mark.parametrize("path", ["/", "/ledger", "/models/none", "/people", "/access", "/grants"])
def test_a_page_has_one_line_and_no_second(site: SiteWorld, path: str) -> None:
    site.client_for("vera").get(path)
    assert len(lines(site)) == 1


def test_what_is_no_use_of_the_site_has_none(site: SiteWorld) -> None:
    browser = site.client()
    for path in ("/healthz", "/readyz", "/static/site.css", "/api/v1/openapi.json"):
        assert browser.get(path).status_code == 200
    assert lines(site) == []


def test_a_failing_readiness_check_is_none_either(site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(site.site, "read", _broken)
    assert site.client().get("/readyz").status_code == 503
    assert lines(site) == []


def test_refused_ceremonies_are_in_the_log_begun_ones_are_not(site: SiteWorld) -> None:
    vera = site.client_for("vera")
    assert vera.post("/account/extend", headers=origin(site)).status_code == 403
    assert line(site) == ("person/vera", "extend", 403)
    assert site.client().call("/account/passkeys/options").status_code == 401
    assert lines(site)[0].status == 401
    assert site.client().call("/login/passkey/options").status_code == 200
    assert lines(site) == []


# --- what stands in a line ----------------------------------------------------------------------------------------------------


def test_a_mistyped_one_time_link_is_not_kept(site: SiteWorld) -> None:
    secret = "Zk3" * 14
    for path in (f"/invitation/{secret}", f"/invite/{secret}/passkeys", f"/{secret}?token={secret}"):
        site.client().get(path)
    found = lines(site)
    assert [item.subject for item in found] == ["/invitation/Zk3Z…", "/invite/Zk3Z…/passkeys", "/Zk3Z…"]
    assert secret not in str(found)


def test_a_path_is_kept_short_and_printable() -> None:
    assert shown_path("/wp-admin/setup.php") == "/wp-admin/setup.php"
    assert shown_path("/a\x1b[31m/b") == "/?/b"
    assert len(shown_path("/" + "/".join("x" * 24 for _ in range(50)))) < 210


# --- failures ------------------------------------------------------------------------------------------------------------------


def _broken(*_: object) -> Any:
    raise Tampered("entry 3 was altered")


def test_a_refusal_is_in_the_log_though_the_ledger_fails(site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    vera = site.client_for("vera")
    monkeypatch.setattr(site.site, "read", _broken)
    assert vera.delete("/ledger").status_code == 405
    assert line(site) == ("", "wrong_method", 405)


def run(app: Any, site: SiteWorld, messages: list[dict[str, Any]], **scope: Any) -> list[dict[str, Any]]:
    """Ask an application as a server does; after the messages the client says nothing more."""
    sent: list[dict[str, Any]] = []
    told = {
        "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "scheme": "http", "path": "/login",
        "raw_path": b"/login", "query_string": b"", "root_path": "", "client": ("198.51.100.7", 1), "server": ("localhost", 3070),
        "headers": [(b"content-type", b"application/x-www-form-urlencoded")], **scope,
    }  # fmt: skip

    async def receive() -> dict[str, Any]:
        if messages:
            return messages.pop(0)
        await asyncio.sleep(30)
        raise AssertionError

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    asyncio.run(app(told, receive, send))
    return sent


def test_a_body_that_comes_too_slowly_is_a_line(site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BodyLimits.__init__.__kwdefaults__, "seconds", 0.2)
    sent = run(site.app, site, [{"type": "http.request", "body": b"login=", "more_body": True}])
    assert sent[0]["status"] == 408
    (found,) = lines(site)
    assert (found.action, found.status, found.address, found.detail) == ("too_slow", 408, "198.51.100.7", "POST")


def test_a_client_that_goes_away_is_a_line(site: SiteWorld) -> None:
    run(site.app, site, [{"type": "http.request", "body": b"login=", "more_body": True}, {"type": "http.disconnect"}])
    assert line(site) == ("", "login_password", 400)


def test_what_breaks_outside_a_page_is_a_line(site: SiteWorld) -> None:
    async def breaks(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        run(EveryEnd(breaks, site=site.site), site, [])
    assert line(site) == ("", "failed", 500)


# --- what no application sees ---------------------------------------------------------------------------------------------------


class Quick(slow.GuardedProtocol):
    """Half a second, so that the test is short."""

    header_seconds = 0.5


@pytest.fixture
def port(site: SiteWorld) -> Iterator[int]:
    """A real server on a real socket, that takes four connections."""
    settings = slow.GuardedConfig(
        site.app, http=Quick, ws="none", log_level="error", lifespan="off", h11_max_incomplete_event_size=32_768
    )
    settings.refused, settings.max_connections = connection_refused(site.site), 4
    with listening(settings) as port:
        yield port


def said(port: int, data: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        if data:
            connection.sendall(data)
        answer = b""
        while part := connection.recv(4096):
            answer += part
        return answer


def test_what_is_no_http_or_has_endless_headers_is_a_line(site: SiteWorld, port: int) -> None:
    for data in (b"\x16\x03\x01 hello\r\n\r\n", b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000):
        assert said(port, data).startswith(b"HTTP/1.1 400")
        (found,) = lines(site)
        assert (found.action, found.status, found.address) == ("unreadable_request", 400, "127.0.0.1")


def test_headers_that_come_too_slowly_are_a_line_and_silence_is_none(site: SiteWorld, port: int) -> None:
    assert said(port, b"GET / HTTP/1.1\r\n").startswith(b"HTTP/1.1 408")
    assert line(site) == ("", "too_slow", 408)
    assert said(port, b"").startswith(b"HTTP/1.1 408"), "a browser opens connections ahead and never uses them"
    assert lines(site) == []


def test_connections_beyond_the_bound_are_closed_and_those_that_are_open_go_on(site: SiteWorld, port: int) -> None:
    ask = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"
    held = [socket.create_connection(("127.0.0.1", port), timeout=5) for _ in range(4)]
    for connection in held:  # all ask at once: who has said nothing after half a second is cut off
        connection.sendall(ask)
    for connection in held:
        assert connection.recv(4096).startswith(b"HTTP/1.1 200")
    assert said(port, b"").startswith(b"HTTP/1.1 503")
    assert line(site) == ("", "overloaded", 503)
    held[0].sendall(ask)
    assert held[0].recv(4096).startswith(b"HTTP/1.1 200")
    for connection in held:
        connection.close()
    end = time.monotonic() + 20
    while said(port, b"").startswith(b"HTTP/1.1 503"):
        assert time.monotonic() < end, "the server never noticed that they left"
        time.sleep(0.05)
    assert said(port, ask.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")).startswith(b"HTTP/1.1 200")


def test_the_site_is_told_by_its_server(site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.review import server

    seen: list[Any] = []
    monkeypatch.setattr(uvicorn.Server, "run", lambda self, sockets: seen.append(self.config))
    config = site.site.config
    server.serve(site.world.workspace, type(config)(url="http://localhost:3071", port=0, database=config.database))
    assert seen[0].refused is not None
    assert seen[0].max_connections == 512
