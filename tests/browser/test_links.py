"""What one is told of one-time links to one's account, above whatever page one opens: seen, read, and not on paper."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
from playwright.sync_api import expect

from cognify_dagster.review.identity.invitations import Use, invite, use
from cognify_dagster.review.store.links import forget_events
from tests.browser.prepared import MODEL
from tests.browser.served import Served
from tests.browser.test_pages import NARROW, WIDE, assert_accessible


@pytest.fixture
def linked(running: Served) -> Iterator[Served]:
    """A link to Carl's account was made by Ada and used by somebody."""
    account, now = running.account("carl"), int(time.time()) - 60
    agent = "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/150.0.0.0 Safari/537.36"
    how = Use(now + 9, "a password", "2001:db8:85a3::8a2e:370:7334", agent)
    with running.site.store.begin() as connection:
        made = invite(connection, account, "person/ada", now, company=False)
        use(connection, made.invitation, False, how)
    yield running
    with running.site.store.begin() as connection:
        forget_events(connection, now + 9 * 86_400)
    running.close_windows()


@pytest.mark.parametrize("address", ["/", f"/models/{MODEL}", "/account", "/people/carl"])
def test_the_notice_disturbs_no_page(linked: Served, address: str) -> None:
    window = linked.signed_in("carl", viewport=WIDE)
    assert_accessible(window, address)
    notice = window.page.get_by_role("note", name="One-time links to your account")
    expect(notice).to_contain_text("by Ada")
    expect(notice).to_contain_text("from 2001:db8:85a3::8a2e:370:7334")
    window.page.emulate_media(media="print")
    expect(notice).to_be_hidden()


@pytest.mark.parametrize("scripts", [True, False])
def test_it_goes_with_one_click_and_leads_back(linked: Served, scripts: bool) -> None:
    window = linked.signed_in("carl", viewport=NARROW, scripts=scripts)
    window.page.goto(f"/models/{MODEL}?x=1")
    window.page.get_by_role("button", name="I have read this").click()
    expect(window.page).to_have_url(f"{linked.url}/models/{MODEL}?x=1")
    expect(window.page.get_by_role("note", name="One-time links to your account")).to_have_count(0)
