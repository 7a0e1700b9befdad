"""What the holder of an account is told of the one-time links to it."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from cognify_dagster.review.identity.invitations import invite
from cognify_dagster.review.identity.tidying import tidy
from cognify_dagster.review.store.links import LinkEvent, add_event, events_of, mark_told, told_upto
from cognify_dagster.review.store.sessions import open_session, sessions
from tests.review.authenticator import Authenticator
from tests.review.identity.test_invitations import PASSWORD, give_password, link_in, make
from tests.review.site_world import Client, SiteWorld


def told(client: Client, path: str = "/people") -> bool:
    return "A one-time link to your account" in client.get(path).text


def by_password(world: SiteWorld, name: str = "vera") -> Client:
    browser = world.client()
    assert browser.submit("/login", login=name, password=PASSWORD["password"]).status_code == 303
    return browser


def later(world: SiteWorld, monkeypatch: pytest.MonkeyPatch, **delta: float) -> None:
    moment = world.site.now() + timedelta(**delta)
    monkeypatch.setattr(world.site, "now", lambda: moment, raising=False)


@pytest.fixture
def used(founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> SiteWorld:
    """Ada made a link for Vera, and it was used from another address ten seconds ago."""
    path = link_in(founded_site.client_for("ada").submit("/people/vera/invite").text)
    object.__setattr__(founded_site.site.config, "proxies", ("testclient",))
    browser = founded_site.client()
    browser.headers.update({"X-Forwarded-For": "203.0.113.7", "User-Agent": "Firefox <b>"})
    assert browser.submit(path, **PASSWORD).status_code == 303
    founded_site.passkeys["path"] = path  # type: ignore[assignment]
    later(founded_site, monkeypatch, seconds=10)
    return founded_site


def test_at_the_next_sign_in_one_reads_who_made_the_link_and_whence_it_was_used(used: SiteWorld) -> None:
    vera = by_password(used)
    page = vera.get("/people").text
    assert "A one-time link to your account" in page
    assert "by Ada" in page
    assert "from 203.0.113.7" in page
    assert "Firefox &lt;b&gt;" in page
    assert "to set a password" in page


def test_it_stays_until_it_was_read_and_does_not_come_back(used: SiteWorld) -> None:
    vera = by_password(used)
    assert told(vera)
    assert told(vera, "/")
    answer = vera.submit("/account/links/read", upto="999999", next="/people?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/people?x=1")
    assert not told(vera)
    assert not told(by_password(used))
    assert "One-time links to your account" in vera.get("/account").text, "there it is kept for half a year"


def test_reading_it_in_one_way_of_signing_in_hides_it_in_no_other(used: SiteWorld) -> None:
    """Who used somebody's link may press the button; the holder's passkey and company account are told all the same."""
    thief = by_password(used)
    thief.submit("/account/links/read", upto="999999")
    assert not told(by_password(used))
    assert told(used.client_for("vera", "passkey"))


def test_the_session_that_the_link_opened_is_not_told_of_itself(founded_site: SiteWorld) -> None:
    made = make(founded_site)
    browser, key = founded_site.client(), Authenticator()
    started = browser.call(f"{made.path}/passkey/options").json()
    answer = {"ceremony": started["ceremony"], "credential": key.register(started["options"]), "name": "phone"}
    assert browser.call(f"{made.path}/passkey", answer).status_code == 200
    assert not told(browser)
    assert f"the passkey {key.public.key_id}" in browser.get("/account").text


def test_a_link_that_nobody_used_is_told_as_well(founded_site: SiteWorld) -> None:
    give_password(founded_site)
    founded_site.client_for("ada").submit("/people/vera/invite")
    assert not told(by_password(founded_site)), "asked for is not made"
    founded_site.client_for("finn").submit("/people/vera/invite/confirm")
    page = by_password(founded_site).get("/people").text
    assert "by Ada, confirmed by Finn" in page
    assert "Not used so far" in page


def test_admins_and_the_holder_see_it_on_the_persons_page_and_nobody_else(used: SiteWorld) -> None:
    for name, sees in (("ada", True), ("finn", True), ("vera", True), ("ben", False), ("carl", False)):
        page = used.client_for(name).get("/people/vera").text
        assert ("203.0.113.7" in page) is sees, name


def test_a_link_that_somebody_else_used_says_so_to_who_comes_too_late(used: SiteWorld) -> None:
    path: Any = used.passkeys["path"]
    answer = used.client().get(path)
    assert answer.status_code == 410
    assert "was used on" in answer.text
    assert "from 203.0.113.7" in answer.text
    assert "203.0.113.7" not in used.client().get("/invite/" + "A" * 43).text


def test_the_access_log_names_who_made_the_link(founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, str, str, str]] = []

    def write(visit: Any, action: str, status: int) -> None:
        lines.append((action, visit.user.person if visit.user else "", visit.subject, visit.detail))

    monkeypatch.setattr("cognify_dagster.review.dispatch.write_line", write)
    path = link_in(founded_site.client_for("ada").submit("/people/vera/invite").text)
    founded_site.client().submit(path, **PASSWORD)
    assert lines == [
        ("person_invite", "person/ada", "person/vera", "invited"),
        ("invitation_password", "person/vera", "person/vera", "set a password by a link of person/ada"),
    ]


def test_what_a_form_claims_to_have_read_is_bounded_by_what_there_is(used: SiteWorld) -> None:
    vera = by_password(used)
    for wrong in ("", "x", "-1", "9" * 30, "1e9"):
        assert vera.submit("/account/links/read", upto=wrong).status_code == 303
        assert told(vera), wrong
    vera.submit("/account/links/read", upto="9" * 18, next="//evil.example")
    account = used.account("vera").id
    with used.site.store.begin() as connection:
        newest = events_of(connection, account, 0)[0].n
        assert told_upto(connection, account, "password") == newest
        mark_told(connection, account, "password", newest - 1)
        assert told_upto(connection, account, "password") == newest, "never back"


def test_after_a_month_it_is_not_told_and_after_half_a_year_not_kept(
    used: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, account = int(time.time()), used.account("vera").id
    later(used, monkeypatch, days=31)
    with used.site.store.begin() as connection:
        token = open_session(connection, account, "password", now + 31 * 86_400, 12)
    vera = Client(used.site, used.app, token)
    assert not told(vera)
    assert "One-time links to your account" in vera.get("/account").text
    tidy(used.site)
    with used.site.store.begin() as connection:
        assert events_of(connection, account, 0)
    later(used, monkeypatch, days=150)
    tidy(used.site)
    with used.site.store.begin() as connection:
        assert events_of(connection, account, 0) == []
        connection.execute(sessions.delete())


def test_a_new_event_is_told_though_all_that_were_told_are_forgotten(
    used: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_password(used).submit("/account/links/read", upto="999999")
    later(used, monkeypatch, days=200)
    tidy(used.site)
    account = used.account("vera")
    with used.site.store.begin() as connection:
        assert events_of(connection, account.id, 0) == []
        now = int(used.site.now().timestamp())
        invite(connection, account, "person/ada", now, company=False, confirmed_by="person/finn")
    assert told(by_password(used))


def test_what_does_not_fit_is_cut(founded_site: SiteWorld) -> None:
    account = founded_site.account("vera").id
    event = LinkEvent(
        account, "i" * 32, "used", 1, 1, "person/ada", what="x", address="a" * 500, agent="\0" + "b" * 900
    )
    with founded_site.site.store.begin() as connection:
        add_event(connection, event)
        (kept,) = events_of(connection, account, 0)
    assert (len(kept.address), len(kept.agent)) == (64, 299)
