"""What the site refuses in a real browser: the wrong role, one's own model, a key that did not verify its user, statements that were
replayed, altered or are somebody else's, and a grant that is over."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest
from playwright.sync_api import expect

from cognify_dagster.governance import grant_record, perform_act
from cognify_dagster.records import SignOff, utc
from cognify_dagster.review.identity.accounts import add_account
from tests.browser.chromium import Someone
from tests.browser.prepared import MODEL, SECOND
from tests.browser.served import Served
from tests.browser.walking import decide_on, prepare, sign_button
from tests.review.authenticator import Authenticator

SIGN = f"/models/{MODEL}/{SECOND}/sign"
POST = """async ([address, fields]) => {
  const answer = await fetch(address, {method: 'POST', body: new URLSearchParams(fields)});
  return [answer.status, new URL(answer.url).pathname, await answer.text()];
}"""


@pytest.fixture(scope="module")
def carl(running: Served) -> Iterator[tuple[Someone, Authenticator]]:
    """The compliance officer whose turn it is, and his passkey."""
    window = running.signed_in("carl")
    yield window, running.give_passkey(window, "carl")
    running.close_windows()


def sign_offs(site: Served) -> int:
    """How many sign-offs the ledger holds."""
    return len(site.site.read().all(SignOff))


def fields(window: Someone, assertion: Any) -> dict[str, str]:
    """The fields of the confirmation page's form, with another answer of the passkey."""
    token = window.page.locator("main form input[name=csrf]").first.input_value()
    return {"csrf": token, "assertion": json.dumps(assertion)}


def options(window: Someone) -> dict[str, Any]:
    """What the confirmation page asks the passkey."""
    return dict(json.loads(window.page.locator("form[data-passkey]").get_attribute("data-passkey") or ""))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("finn", "is signed by a compliance_officer"), ("ben", "person/ben|Ben")],
    ids=["the wrong role", "one's own model"],
)
def test_who_may_not_sign_learns_it_before_they_try_and_when_they_do(running: Served, name: str, reason: str) -> None:
    before = sign_offs(running)
    window = running.signed_in(name)
    running.give_passkey(window, name)
    window.page.goto(SIGN)
    told = window.page.locator("table", has_text="Sign-off stages in order")
    expect(told).to_contain_text("you cannot approve it")
    expect(told).to_contain_text(re.compile(reason))
    expect(told).not_to_contain_text("you can sign it")
    window.page.locator("input[name=decision][value=approve]").check()
    window.page.get_by_role("button", name="Go on: read the statement").click()
    if sign_button(window).is_visible():  # the policy could have changed meanwhile: the ledger has the last word
        sign_button(window).click()
    expect(window.page.get_by_role("alert").first).to_be_visible()
    assert sign_offs(running) == before
    window.context.close()
    running.windows.remove(window)


def test_a_passkey_that_did_not_verify_its_user_signs_nothing(
    running: Served, carl: tuple[Someone, Authenticator]
) -> None:
    window, key = carl
    before = sign_offs(running)
    prepare(window, SECOND, "acknowledge")
    window.verifies_user(False)
    sign_button(window).click()
    expect(window.page.get_by_role("alert")).to_contain_text("Nothing was signed")
    window.verifies_user(True)
    # A browser that lies: the same question, answered without verification, sent past the script.
    careless = Authenticator(
        origin=key.origin, rp_id=key.rp_id, verified=False, key=key.key, credential=key.credential, count=100,
        user_handle=key.user_handle,
    )  # fmt: skip
    answer = careless.answer(options(window))
    _, address, text = window.page.evaluate(POST, [window.page.url, fields(window, answer)])
    assert "/receipt/" not in address
    assert "verif" in text.lower()
    assert sign_offs(running) == before


def test_a_statement_that_was_signed_cannot_be_sent_again(running: Served, carl: tuple[Someone, Authenticator]) -> None:
    window, _ = carl
    sent: list[tuple[str, str]] = []

    def remember(request: Any) -> None:
        if request.method == "POST" and "/sign/" in request.url:
            sent.append((request.url, request.post_data or ""))

    window.page.on("request", remember)
    decide_on(window, SECOND, "acknowledge", comments="Read.")
    window.page.remove_listener("request", remember)
    after = sign_offs(running)
    ((url, body),) = sent
    assert "assertion=" in body
    status, address, text = window.page.evaluate(
        "async ([url, body]) => { const answer = await fetch(url, {method: 'POST', body,"
        " headers: {'Content-Type': 'application/x-www-form-urlencoded'}});"
        " return [answer.status, new URL(answer.url).pathname, await answer.text()]; }",
        [url, body],
    )
    assert status >= 400 or "/receipt/" in address, text[:500]
    assert sign_offs(running) == after, "one signature, one entry"


def test_an_altered_answer_or_one_to_another_question_is_refused(
    running: Served, carl: tuple[Someone, Authenticator]
) -> None:
    window, key = carl
    before = sign_offs(running)
    prepare(window, SECOND, "acknowledge", comments="The first statement.")
    first = options(window)
    key.count = 1000
    answer = key.answer(first)
    prepare(window, SECOND, "acknowledge", comments="Another statement.")
    assert options(window)["challenge"] != first["challenge"]
    for wrong in (answer, key.answer(options(window), origin="http://localhost.evil.example"), flipped(key, window)):
        _, address, text = window.page.evaluate(POST, [window.page.url, fields(window, wrong)])
        assert "/receipt/" not in address, text[:500]
        prepare(window, SECOND, "acknowledge", comments="Another statement.")
    assert sign_offs(running) == before


def flipped(key: Authenticator, window: Someone) -> dict[str, Any]:
    """An answer with one character of its signature changed."""
    answer = key.answer(options(window))
    signature = answer["response"]["signature"]
    answer["response"]["signature"] = signature[:-8] + ("A" if signature[-8] != "A" else "B") + signature[-7:]
    return answer


def test_nobody_sees_or_signs_somebody_elses_statement(running: Served, carl: tuple[Someone, Authenticator]) -> None:
    window, key = carl
    prepare(window, SECOND, "acknowledge")
    address = window.page.url
    answer = key.answer(options(window))
    other = running.signed_in("olga")
    running.give_passkey(other, "olga")
    seen = other.page.goto(address)
    assert seen is not None
    assert seen.status == 404
    other.page.goto(SIGN)
    before = sign_offs(running)
    status, _, _ = other.page.evaluate(POST, [address, fields(other, answer)])
    assert status == 404
    assert sign_offs(running) == before


def test_an_auditor_reads_and_sees_nothing_once_the_grant_is_over(running: Served) -> None:
    until = datetime.now(timezone.utc) + timedelta(seconds=12)
    facts = {"until": utc(until), "reason": "annual audit", "signers": ["person/ada", "person/finn"]}
    signers = [running.keys["ada"], running.keys["finn"]]
    seq = perform_act(running.site.workspace, lambda _: grant_record("Iva", "Audit AG", **facts), signers).seq
    with running.site.store.begin() as connection:
        account = add_account(connection, "iva@audit.example", int(time.time()), grant_seq=seq)
    window = running.visitor()
    running.sign_in(window, account)
    window.page.goto(f"/models/{MODEL}/{SECOND}")
    expect(window.page.locator("h1")).to_be_visible()
    expect(window.page.get_by_role("link", name="Decide and sign")).to_have_count(0)
    seen = window.page.goto(SIGN)
    assert seen is not None
    assert seen.status == 403
    time.sleep(max(0.0, (until - datetime.now(timezone.utc)).total_seconds()) + 1.1)
    window.page.goto(f"/models/{MODEL}/{SECOND}")
    expect(window.page.get_by_role("heading", level=1)).to_have_text("Sign in")
