"""Passkeys: registered, used to sign in, vouched for; and every way in which an answer may be wrong."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from cognify_dagster.governance import directory, revoke_key
from cognify_dagster.review.identity.passkeys import enrolment_of, in_ledger
from cognify_dagster.review.store.passkeys import passkeys_of, remove_passkeys
from tests.review.authenticator import AAGUID, Authenticator
from tests.review.site_world import Client, SiteWorld


def begin(browser: Client, path: str = "/login/passkey/options") -> dict[str, Any]:
    answer = browser.call(path)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def sign_in(world: SiteWorld, key: Authenticator, browser: Client | None = None, **client: Any) -> tuple[Client, Any]:
    browser = browser or world.client()
    started = begin(browser)
    credential = key.answer(started["options"], **client)
    return browser, browser.call(
        "/login/passkey", {"ceremony": started["ceremony"], "credential": credential, "next": "/people"}
    )


def register(browser: Client, key: Authenticator, name: str = "laptop") -> Any:
    started = begin(browser, "/account/passkeys/options")
    credential = key.register(started["options"])
    return browser.call("/account/passkeys", {"ceremony": started["ceremony"], "credential": credential, "name": name})


def test_a_registered_passkey_signs_in_but_signs_nothing_off_until_it_is_vouched_for(founded_site: SiteWorld) -> None:
    vera, key = founded_site.client_for("vera"), Authenticator()
    started = begin(vera, "/account/passkeys/options")["options"]
    assert started["authenticatorSelection"] == {
        "residentKey": "required", "requireResidentKey": True, "userVerification": "required",
    }  # fmt: skip
    assert [item["alg"] for item in started["pubKeyCredParams"]] == [-7, -8, -257]
    assert register(vera, key).json() == {"target": "/account?done=passkey"}
    browser, answer = sign_in(founded_site, key)
    assert answer.json() == {"target": "/people"}
    assert browser.session is not None
    assert browser.session.method == "passkey"
    page = browser.get("/account").text
    assert "not yet: nobody vouched" in page
    assert key.public.key_id in page
    reading = founded_site.site.read()
    assert key.public.key_id not in directory(reading).valid_keys("person/vera", reading.size)

    founded_site.vouch("vera", key)
    reading = founded_site.site.read()
    assert in_ledger(reading, "person/vera", key.public.key_id).signs
    assert "yes, S4" in browser.get("/account").text
    assert browser.get("/account").status_code == 200, "a new key is no reason to sign in again"


def test_what_is_vouched_for_is_exactly_what_was_registered(founded_site: SiteWorld) -> None:
    vera, key = founded_site.client_for("vera"), Authenticator(backed_up=True)
    register(vera, key)
    account_id = founded_site.account("vera").id
    with founded_site.site.store.begin() as connection:
        (kept,) = passkeys_of(connection, account_id)
    assert kept.public.public == key.public.public
    passkey = kept.public.passkey
    assert passkey is not None
    assert (passkey.rp_id, passkey.origins, passkey.backed_up) == ("localhost", ("http://localhost:3070",), True)
    assert passkey.aaguid.replace("-", "") == AAGUID.hex()
    record = enrolment_of(founded_site.site.read(), "person/vera", kept.public, ["person/ada", "person/finn"])
    old = founded_site.world.key("vera").public
    assert record.person.keys == (old, kept.public)


def test_a_person_asks_on_the_site_that_others_vouch(founded_site: SiteWorld) -> None:
    vera, key = founded_site.client_for("vera"), Authenticator()
    register(vera, key)
    path = f"/account/passkeys/{key.public.key_id}/vouch"
    answer = vera.submit(path, first="person/ada", second="person/finn")
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/acts/")
    page = founded_site.client_for("ada").get(answer.headers["location"])
    assert page.status_code == 200
    assert key.public.key_id in page.text
    for wrong in (
        {"first": "person/ada", "second": ""},
        {"first": "person/ben", "second": "person/olga"},
        {"first": "person/nobody"},
    ):
        assert vera.submit(path, **wrong).status_code in (400, 409)
    ben = founded_site.client_for("ben")
    assert ben.submit(path, first="person/ada", second="person/finn").status_code == 404


@pytest.mark.parametrize("stage", ["registration", "signing in"])
def test_without_user_verification_nothing_is_accepted(founded_site: SiteWorld, stage: str) -> None:
    vera, key = founded_site.client_for("vera"), Authenticator()
    if stage == "registration":
        key.verified = False
        answer = register(vera, key)
        assert answer.status_code == 400
        assert "cannot be registered" in answer.json()["title"]
    else:
        register(vera, key)
        key.verified = False
        browser, answer = sign_in(founded_site, key)
        assert answer.status_code == 403
        assert browser.token == ""


@pytest.mark.parametrize(
    "change",
    [{"origin": "https://evil.example"}, {"type": "webauthn.create"}, {"challenge": "AAAA"}],
    ids=["another page", "another ceremony's kind", "another challenge"],
)
def test_answers_for_something_else_do_not_sign_in(founded_site: SiteWorld, change: dict[str, Any]) -> None:
    browser, answer = sign_in(founded_site, founded_site.passkey("vera"), **change)
    assert answer.status_code == 403
    assert browser.token == ""


def test_a_passkey_of_another_site_or_with_another_key_does_not_sign_in(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("vera")
    elsewhere = Authenticator(rp_id="evil.example", key=key.key, credential=key.credential, user_handle=key.user_handle)
    forged = Authenticator(credential=key.credential, user_handle=key.user_handle)
    unknown = Authenticator()
    for other in (elsewhere, forged, unknown):
        browser, answer = sign_in(founded_site, other)
        assert answer.status_code == 403
        assert browser.token == ""


def test_a_passkey_says_whose_it_is_and_must_be_right(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("vera")
    key.user_handle = founded_site.account("ada").id.encode()
    assert sign_in(founded_site, key)[1].status_code == 403


def test_an_answer_is_used_once_even_if_it_was_wrong(founded_site: SiteWorld) -> None:
    key, browser = founded_site.passkey("vera"), founded_site.client()
    started = begin(browser)
    good = {"ceremony": started["ceremony"], "credential": key.answer(started["options"])}
    assert browser.call("/login/passkey", good).status_code == 200
    replayed = founded_site.client().call("/login/passkey", good)
    assert replayed.status_code == 400
    assert "too old or was used" in replayed.json()["title"]
    started = begin(browser)
    wrong = {
        "ceremony": started["ceremony"],
        "credential": key.answer(started["options"], origin="https://evil.example"),
    }
    assert browser.call("/login/passkey", wrong).status_code == 403
    right = {"ceremony": started["ceremony"], "credential": key.answer(started["options"])}
    assert browser.call("/login/passkey", right).status_code == 400


def test_a_ceremony_is_over_after_five_minutes(founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    key, browser = founded_site.passkey("vera"), founded_site.client()
    started, begun = begin(browser), founded_site.site.now()
    monkeypatch.setattr(founded_site.site, "now", lambda: begun + timedelta(minutes=5), raising=False)
    late = {"ceremony": started["ceremony"], "credential": key.answer(started["options"])}
    assert browser.call("/login/passkey", late).status_code == 400


def test_a_ceremony_belongs_to_the_session_and_the_purpose_it_was_begun_for(founded_site: SiteWorld) -> None:
    vera, ben, key = founded_site.client_for("vera"), founded_site.client_for("ben"), Authenticator()
    started = begin(vera, "/account/passkeys/options")
    answer = {"ceremony": started["ceremony"], "credential": key.register(started["options"])}
    assert ben.call("/account/passkeys", answer).status_code == 400
    login = begin(vera)
    answer = {"ceremony": login["ceremony"], "credential": key.register({"user": {"id": ""}} | login["options"])}
    assert vera.call("/account/passkeys", answer).status_code == 400


def test_a_copied_authenticator_is_noticed_by_its_counter(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("vera")
    key.count = 10
    assert sign_in(founded_site, key)[1].status_code == 200
    key.count = 3
    assert sign_in(founded_site, key)[1].status_code == 403


def test_a_passkey_that_the_ledger_ended_signs_in_no_more(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("vera")
    browser, _ = sign_in(founded_site, key)
    revoke_key(founded_site.world.workspace, "person/vera", key.public.key_id, "lost", founded_site.world.key("ada"))
    again, answer = sign_in(founded_site, key)
    assert answer.status_code == 403
    assert "ended by entry" in answer.json()["title"]
    assert again.token == ""
    assert browser.get("/account").status_code == 303, "and what it opened has ended"
    assert "no: ended" in founded_site.client_for("vera").get("/account").text


def test_a_passkey_is_registered_once_and_for_one_account(founded_site: SiteWorld) -> None:
    vera, ben, key = founded_site.client_for("vera"), founded_site.client_for("ben"), Authenticator()
    assert register(vera, key).status_code == 200
    assert register(vera, key).status_code == 409
    assert register(ben, key).status_code == 409
    started = begin(vera, "/account/passkeys/options")["options"]
    assert [item["id"] for item in started["excludeCredentials"]] == [key.credential_id]


def test_the_last_way_to_sign_in_is_not_removed(founded_site: SiteWorld) -> None:
    vera, first, second = founded_site.client_for("vera"), Authenticator(), Authenticator()
    register(vera, first)
    path = f"/account/passkeys/{first.public.key_id}/remove"
    assert vera.submit(path).status_code == 409
    register(vera, second, "key on a ring")
    assert founded_site.client_for("ben").submit(path).status_code in (404, 409)
    assert vera.submit(path).status_code == 303
    assert sign_in(founded_site, first)[1].status_code == 403
    assert sign_in(founded_site, second)[1].status_code == 200


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"ceremony": 1, "credential": "x"}, {"ceremony": "x", "credential": {}}, {"credential": {"id": {}}}]
)  # fmt: skip
def test_nonsense_is_refused_as_such(founded_site: SiteWorld, answer: Any) -> None:
    assert founded_site.client().call("/login/passkey", answer).status_code == 400


def test_nonsense_in_an_answer_to_a_real_ceremony_is_refused_as_such(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("vera")
    for spoil in (
        lambda c: c.pop("response"),
        lambda c: c.update(response="text"),
        lambda c: c["response"].update(authenticatorData="AAAA"),
        lambda c: c["response"].update(clientDataJSON="####"),
        lambda c: c["response"].update(signature=None),
        lambda c: c["response"].update(userHandle=7),
        lambda c: c.update(rawId="AAAA"),
    ):
        browser = founded_site.client()
        started = begin(browser)
        credential = key.answer(started["options"])
        spoil(credential)
        answer = browser.call("/login/passkey", {"ceremony": started["ceremony"], "credential": credential})
        assert answer.status_code == 403, answer.text


def test_the_fixture_of_all_other_tests_makes_keys_that_sign(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("olga")
    assert in_ledger(founded_site.site.read(), "person/olga", key.public.key_id).signs
    account_id = founded_site.account("olga").id
    with founded_site.site.store.begin() as connection:
        assert remove_passkeys(connection, account_id) == 1


def test_who_knows_only_the_password_gets_no_passkey_where_there_is_one(founded_site: SiteWorld) -> None:
    held = founded_site.passkey("vera", vouched=False)
    thief = founded_site.client_for("vera", "password")
    assert thief.call("/account/passkeys/options").status_code == 403
    assert thief.submit(f"/account/passkeys/{held.public.key_id}/remove").status_code == 403
    assert founded_site.client_for("vera").call("/account/passkeys/options").status_code == 200
    assert founded_site.client_for("ben", "password").call("/account/passkeys/options").status_code == 200, "the first"
