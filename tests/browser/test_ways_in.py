"""The site without JavaScript, by keyboard alone, and with a session that is about to end."""

from __future__ import annotations

import re
from typing import Any

import pytest
from playwright.sync_api import expect

from cognify_dagster.review.identity.accounts import set_password_hash
from cognify_dagster.review.identity.passwords import hash_password
from tests.browser.chromium import Someone
from tests.browser.prepared import FIRST, MODEL, SECOND
from tests.browser.served import Served
from tests.browser.walking import fill_decision

PASSWORD = "a long sentence, pasted"


@pytest.fixture
def olga(site: Served) -> Served:
    """Olga has a password and an enrolled passkey."""
    account = site.account("olga")
    with site.site.store.begin() as connection:
        set_password_hash(connection, account.id, hash_password(PASSWORD))
    return site


def test_without_javascript_all_but_the_passkey_works(olga: Served) -> None:
    window = olga.visitor(scripts=False)
    page = window.page
    page.goto("/models/tiny")
    expect(page.get_by_role("heading", level=1)).to_have_text("Sign in")
    assert "Passkeys need JavaScript" in page.content(), (
        "in noscript, which this way of switching scripts off does not show"
    )
    expect(page.get_by_role("button", name="Sign in with a passkey")).to_be_hidden()
    page.get_by_role("textbox", name="Login").fill("olga")
    page.get_by_role("textbox", name="Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in with the password").click()
    expect(page).to_have_url(re.compile("/models/tiny$"))

    page.get_by_role("link", name="Ledger").click()
    page.get_by_label("Kind").select_option("sign_off")
    page.get_by_role("button", name="Show").click()
    rows = page.locator("main tbody tr")
    assert rows.count() >= 4
    assert {row.locator("td").nth(1).inner_text() for row in rows.all()} == {"sign off"}

    page.goto(f"/models/{MODEL}")
    page.get_by_role("button", name="Compare").click()
    expect(page).to_have_url(re.compile(r"/compare\?"))
    page.goto(f"/models/{MODEL}/{SECOND}")
    with page.expect_download() as download:
        page.get_by_role("link", name=re.compile(r"JSON\b")).first.click()
    assert download.value.path().read_bytes().startswith(b"{")

    # Deciding works up to the passkey itself, and says why it ends there.
    olga.give_passkey(olga.visitor(), "olga")
    fill_decision(window, SECOND, "acknowledge")
    page.get_by_role("button", name="Go on: read the statement").click()
    assert "needs JavaScript, because a passkey answers to scripts only" in page.content()
    expect(page.get_by_text("Word code", exact=True)).to_be_visible()
    page.get_by_role("button", name="Sign out").click()
    expect(page).to_have_url(re.compile("/login$"))


def test_a_sign_off_by_keyboard_alone(site: Served) -> None:
    window = site.signed_in("vera", viewport={"width": 1280, "height": 720})
    site.give_passkey(window, "vera")
    page = window.page
    page.goto("/models")
    assert step(window) == "Skip to the content"
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.id") == "main"
    tab_to(window, "Tiny model|tiny")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/models/{MODEL}")
    tab_to(window, SECOND)
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/models/{MODEL}/{SECOND}")
    tab_to(window, "Decide and sign")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sign")
    tab_to(window, "", name="decision")
    for _ in range(8):
        if page.evaluate("document.activeElement.value") == "acknowledge" and page.evaluate(
            "document.activeElement.checked"
        ):
            break
        page.keyboard.press("ArrowDown")
    assert page.locator("input[name=decision]:checked").get_attribute("value") == "acknowledge"
    tab_to(window, "", name="comments")
    page.keyboard.type("Read by keyboard.")
    tab_to(window, "Go on: read the statement")
    page.keyboard.press("Enter")
    page.wait_for_url("**/sign/*")
    tab_to(window, "Sign with passkey")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/receipt/\d+"))
    expect(page.locator("main")).to_contain_text("Read by keyboard.")


FOCUS = """() => {
  const found = document.activeElement;
  const box = found.getBoundingClientRect();
  const style = getComputedStyle(found);
  const seen = box.bottom > 0 && box.right > 0 && box.top < innerHeight && box.left < innerWidth && box.width > 0 && box.height > 0;
  const middle = document.elementFromPoint(Math.min(Math.max(box.left + box.width / 2, 1), innerWidth - 1), Math.min(Math.max(box.top + Math.min(box.height, innerHeight) / 2, 1), innerHeight - 1));
  return {tag: found.tagName, text: (found.innerText || '').trim(), name: found.getAttribute('name') || '',
    outline: style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2, seen,
    covered: middle !== null && !found.contains(middle) && !middle.contains(found) && middle.closest('label') === null};
}"""


def step(window: Someone) -> str:
    """Press Tab once; what has the focus is seen, marked and not covered. Return its text."""
    return str(focus_after_tab(window)["text"])


def focus_after_tab(window: Someone) -> dict[str, Any]:
    """Press Tab once and return what has the focus."""
    window.page.keyboard.press("Tab")
    found = dict(window.page.evaluate(FOCUS))
    if found["tag"] != "BODY":
        assert found["outline"], found
        assert found["seen"], found
        assert not found["covered"], found
    return found


def tab_to(window: Someone, text: str, *, name: str = "", limit: int = 80) -> None:
    """Press Tab until something with this text, or a field of this name, has the focus."""
    passed = []
    for _ in range(limit):
        found = focus_after_tab(window)
        if (name and found["name"] == name) or (text and re.fullmatch(text, found["text"])):
            return
        passed.append(found["text"][:30] or found["name"] or found["tag"])
    pytest.fail(f"{text or name} is not reached with Tab: {passed}")


def test_a_session_that_is_about_to_end_can_be_extended(site: Served) -> None:
    window = site.signed_in("ada")
    page = window.page
    page.clock.install()
    page.goto(f"/models/{MODEL}/{FIRST}")
    warning = page.get_by_role("alertdialog")
    expect(warning).to_be_hidden()
    page.clock.fast_forward("26:00")
    expect(warning).to_be_hidden()
    page.clock.fast_forward("01:30")
    expect(warning).to_contain_text("You will be signed out in 3 minutes")
    with page.expect_response("**/account/extend") as answer:
        warning.get_by_role("button", name="Stay signed in").click()
    assert answer.value.status == 200
    expect(warning).to_be_hidden()
    page.clock.fast_forward("26:00")
    expect(warning).to_be_hidden()
    page.clock.fast_forward("04:10")
    expect(warning).to_contain_text("You were signed out. What you typed on this page is still here")
