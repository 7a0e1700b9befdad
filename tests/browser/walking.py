"""What people do on the site, as the journeys of the tests repeat it."""

from __future__ import annotations

import re

from playwright.sync_api import Locator, expect

from tests.browser.chromium import Someone, too_wide, violations
from tests.browser.prepared import MODEL

seen: set[str] = set()
"""Routes of pages that were looked at on the way, because only a journey leads there."""


def look(window: Someone, route: str) -> None:
    """The page that is open is accessible, wide and light as it is, and 320 pixels narrow; once for each route."""
    if route in seen:
        return
    assert not violations(window.page), route
    window.page.set_viewport_size({"width": 320, "height": 640})
    assert not too_wide(window.page), f"{route} scrolls sideways at 320 pixels"
    window.page.set_viewport_size({"width": 1280, "height": 900})
    seen.add(route)


def accept_invitation(window: Someone, link: str) -> None:
    """Open a one-time link and register a passkey; the person is signed in afterwards."""
    window.page.goto(link)
    look(window, "/invite/{token}")
    window.page.get_by_role("button", name="Register a passkey").click()
    expect(window.page.get_by_role("button", name="Sign out")).to_be_visible()


def sign_in(window: Someone, target: str = "/") -> None:
    """Sign in with the passkey in the window's security key."""
    window.page.goto(target)
    window.page.get_by_role("button", name="Sign in with a passkey").click()
    expect(window.page.get_by_role("button", name="Sign out")).to_be_visible()


def key_id(window: Someone) -> str:
    """The id of the passkey that waits for somebody to vouch, as the account page tells it."""
    window.page.goto("/account")
    return window.page.locator("section[aria-labelledby^=vouch-] code").first.inner_text().strip()


def fill_decision(
    window: Someone, version: str, decision: str, *, comments: str = "", condition: str = "", due: str = ""
) -> None:
    """Fill the form of a sign-off."""
    page = window.page
    page.goto(f"/models/{MODEL}/{version}/sign")
    page.locator(f"input[name=decision][value={decision}]").check()
    if comments:
        page.locator("textarea[name=comments]").fill(comments)
    if condition:
        page.get_by_text("Conditions (only for").click()
        page.locator("select[name=c0_kind]").select_option("remediation")
        page.locator("[name=c0_text]").fill(condition)
        page.locator("[name=c0_due]").fill(due)


def prepare(window: Someone, version: str, decision: str, **more: str) -> None:
    """Go as far as the page that shows the statement to be signed."""
    fill_decision(window, version, decision, **more)
    window.page.get_by_role("button", name="Go on: read the statement").click()
    expect(sign_button(window)).to_be_visible()
    look(window, "/models/{model}/{version}/sign/{statement}")


def sign_button(window: Someone) -> Locator:
    """The button that asks for the passkey."""
    return window.page.get_by_role("button", name="Sign with passkey")


def decide_on(window: Someone, version: str, decision: str, **more: str) -> int:
    """Read the package page, decide, check the statement, sign with the passkey; return the entry of the receipt."""
    window.page.goto(f"/models/{MODEL}/{version}")
    prepare(window, version, decision, **more)
    sign_button(window).click()
    window.page.wait_for_url(re.compile(r"/receipt/\d+"))
    return int(window.page.url.rpartition("/")[2].partition("?")[0])


def sign_act(window: Someone, address: str) -> None:
    """Read an act that waits for this person, and sign it with the passkey."""
    window.page.goto(address)
    look(window, "/acts/{act}")
    window.page.get_by_role("button", name="Go on: read the statement").click()
    expect(sign_button(window)).to_be_visible()
    look(window, "/acts/{act}/sign/{statement}")
    sign_button(window).click()
    window.page.wait_for_url(re.compile(r"/acts/\w+(\?.*)?$"))
