"""Signing in, staying signed in, and what ends a session."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import insert
from sqlalchemy.exc import IntegrityError

from cognify_dagster.governance import enrol_person, revoke_key
from cognify_dagster.records import Person
from cognify_dagster.review.identity import passwords, throttle
from cognify_dagster.review.identity.accounts import disable_account, set_password_hash
from cognify_dagster.review.identity.passwords import hash_password, password_problem
from cognify_dagster.review.identity.signing_in import safe_next
from cognify_dagster.review.store.sessions import hash_token, open_session, sessions
from tests.review.site_world import URL, Client, SiteWorld, make_site_world

PASSWORD = "seven owls in a barn"


@pytest.fixture
def vera(founded_site: SiteWorld) -> SiteWorld:
    """Vera's account has a password."""
    account_id = founded_site.account("vera").id
    with founded_site.site.store.begin() as connection:
        set_password_hash(connection, account_id, hash_password(PASSWORD))
    return founded_site


def sign_in(
    world: SiteWorld, browser: Client | None = None, password: str = PASSWORD, **fields: str
) -> tuple[Client, Any]:
    browser = browser or world.client()
    return browser, browser.submit("/login", **({"login": "vera", "password": password} | fields))


# --- passwords -----------------------------------------------------------------------------------------------------------


def test_a_password_signs_in_and_leads_to_the_page_that_was_asked_for(vera: SiteWorld) -> None:
    browser = vera.client()
    asked = browser.get("/people/ada")
    assert asked.status_code == 303
    assert asked.headers["location"] == "/login?next=%2Fpeople%2Fada"
    assert 'value="/people/ada"' in browser.get(asked.headers["location"]).text
    _, answer = sign_in(vera, browser, next="/people/ada")
    assert (answer.status_code, answer.headers["location"]) == (303, "/people/ada")
    assert "Ada" in browser.get("/people/ada").text
    assert browser.session is not None
    assert browser.session.method == "password"


def test_a_wrong_password_and_an_unknown_login_get_the_same_answer_after_the_same_work(
    vera: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    hasher, work = passwords.hasher(), []

    class Counting:
        def hash(self, text: str) -> str:
            return hasher.hash(text)

        def verify(self, stored: str, text: str) -> bool:
            work.append(stored.split("$")[3])  # the parameters: what a check costs
            return hasher.verify(stored, text)

    monkeypatch.setattr(passwords, "hasher", Counting)
    vera.account("carl")  # an account without a password
    answers = [sign_in(vera, password="wrong" * 3, login=login)[1] for login in ("vera", "nobody", "carl")]
    assert {answer.status_code for answer in answers} == {403}
    pages = {
        answer.text.replace(f'value="{login}"', "")
        for answer, login in zip(answers, ("vera", "nobody", "carl"), strict=True)
    }
    assert len({page.partition("<main")[2].partition("</main>")[0] for page in pages}) == 1
    assert len(work) == 3
    assert len(set(work)) == 1


def test_a_password_reads_and_changes_nothing_of_the_sites_settings(founded_site: SiteWorld) -> None:
    ada = founded_site.client_for("ada", "password")
    assert ada.get("/people/vera").status_code == 200
    refused = ada.submit("/people/vera/invite")
    assert refused.status_code == 403
    assert "sign in with a passkey" in refused.text
    assert founded_site.client_for("ada", "passkey").submit("/people/vera/invite").status_code == 200


def test_passwords_can_be_switched_off(founded_template: Any, tmp_path: Any) -> None:
    from tests.governance.world import clone

    world = make_site_world(clone(founded_template, tmp_path / "world"), password_login=False)
    browser = world.client()
    assert (
        "password"
        not in browser.get("/login")
        .text.partition("<main")[2]
        .partition("no-account")[0]
        .replace("passkey", "")
        .lower()
    )
    assert browser.submit("/login", login="vera", password=PASSWORD).status_code == 403
    world.site.store.close()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("short", "at least 12"),
        ("a" * 300, "at most"),
        ("abababababababab", "too few characters"),
        ("vera-vera-vera-1", "little more than"),
        ("seven owls in a barn", None),
        ("пароль из трёх слов", None),
    ],
)
def test_what_passwords_are_accepted(text: str, says: str | None) -> None:
    problem = password_problem(text, "vera", "Vera")
    assert (problem is None) if says is None else (problem is not None and says in problem)


def test_a_stored_password_is_an_argon2id_hash_and_salted() -> None:
    first, second = hash_password(PASSWORD), hash_password(PASSWORD)
    assert first.startswith("$argon2id$")
    assert first != second
    assert passwords.check_password(first, "seven owls in a barn")
    assert not passwords.check_password("nonsense", PASSWORD)
    assert not passwords.check_password(None, "the password of nobody")


def test_the_same_word_typed_on_another_keyboard_is_the_same_password() -> None:
    assert passwords.check_password(hash_password("caf\u00e9 caf\u00e9 caf\u00e9"), "cafe\u0301 cafe\u0301 cafe\u0301")


# --- brute force ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks cost nothing: what is tested is the counting."""
    monkeypatch.setattr("cognify_dagster.review.pages.login.check_password", lambda stored, text: text == PASSWORD)


@pytest.mark.usefixtures("cheap")
def test_an_account_is_locked_after_ten_wrong_passwords_even_for_the_right_one(vera: SiteWorld) -> None:
    for _ in range(10):
        assert sign_in(vera, password="x" * 12)[1].status_code == 403
    browser, answer = sign_in(vera)
    assert answer.status_code == 429
    assert "Too many attempts" in answer.text
    assert browser.token == ""
    _, other = sign_in(vera, login="nobody-else")
    assert other.status_code == 403, "another account is not locked"


@pytest.mark.usefixtures("cheap")
def test_an_unknown_login_is_locked_like_one_that_exists(vera: SiteWorld) -> None:
    answers = [sign_in(vera, login="NoBody", password="x" * 12)[1].status_code for _ in range(11)]
    assert answers == [403] * 10 + [429]


@pytest.mark.usefixtures("cheap")
def test_signing_in_forgets_the_failures_before(vera: SiteWorld) -> None:
    for _ in range(3):
        for _ in range(9):
            sign_in(vera, password="x" * 12)
        assert sign_in(vera)[1].status_code == 303


@pytest.mark.usefixtures("cheap")
def test_failures_and_locks_are_written_to_the_access_log(vera: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[tuple[str, int, str, str]] = []
    monkeypatch.setattr(
        "cognify_dagster.review.dispatch.write_line",
        lambda visit, action, status: lines.append((action, status, visit.subject, visit.detail)),
    )
    for _ in range(11):
        sign_in(vera, password="x" * 12)
    sign_in(vera, login="my secret password typed into the wrong field")
    assert lines[0] == ("login_password", 403, "person/vera", "wrong: Login or password is wrong.")
    assert lines[10][:2] == ("login_password", 429)
    assert lines[10][3].startswith("locked-account:")
    assert "secret" not in str(lines[11])


@pytest.mark.usefixtures("cheap")
def test_one_address_is_stopped_whatever_names_it_tries(vera: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throttle, "PER_ADDRESS", throttle.RateLimitItemPerMinute(5, 15))
    answers = [sign_in(vera, login=f"name{number}")[1].status_code for number in range(6)]
    assert answers == [403] * 5 + [429]
    assert vera.client().call("/login/passkey/options").status_code == 429


def test_the_counters_are_shared_by_the_processes_of_a_site_and_name_nobody(vera: SiteWorld) -> None:
    storage = throttle.DatabaseStorage(vera.site.store)
    assert [storage.incr("LIMITER/vera", 60) for _ in range(3)] == [1, 2, 3]
    again = type(vera.site.store)(vera.site.config.database)
    other = throttle.DatabaseStorage(again)
    assert other.incr("LIMITER/vera", 60) == 4
    assert other.get("LIMITER/vera") == 4
    assert other.get_expiry("LIMITER/vera") <= time.time() + 60
    with vera.site.store.begin() as connection:
        keys = connection.exec_driver_sql("SELECT key FROM throttles").scalars().all()
    assert "vera" not in "".join(keys)
    other.clear("LIMITER/vera")
    assert storage.get("LIMITER/vera") == 0
    assert storage.incr("LIMITER/late", -1) == 1
    assert storage.incr("LIMITER/late", 60) == 1, "a counter that is over begins anew"
    again.close()


def test_addresses_of_one_ipv6_network_count_together() -> None:
    assert throttle._network("2001:db8:1:2::1") == throttle._network("2001:db8:1:2:ffff::9")
    assert throttle._network("192.0.2.1") != throttle._network("192.0.2.2")


# --- sessions ------------------------------------------------------------------------------------------------------------


def test_a_planted_session_is_worth_nothing_after_signing_in(vera: SiteWorld) -> None:
    """Session fixation: the token changes, and the one that the browser came with is gone."""
    attacker = vera.client_for("ben")
    planted = attacker.token
    victim = Client(vera.site, vera.app, planted)
    _, answer = sign_in(vera, victim)
    assert answer.status_code == 303
    assert victim.token not in ("", planted)
    assert attacker.get("/account").status_code == 303, "the planted session has ended"
    made_up = Client(vera.site, vera.app, "chosen-by-the-attacker")
    sign_in(vera, made_up)
    assert made_up.token != "chosen-by-the-attacker"


def test_cookies_carry_their_flags(vera: SiteWorld, tmp_path: Any) -> None:
    _, answer = sign_in(vera)
    header = answer.headers["set-cookie"]
    assert header.startswith("cognify-3070=")
    assert {"HttpOnly", "Path=/", "SameSite=lax"} <= {part.strip() for part in header.split(";")}
    assert "Domain" not in header
    assert "expires" not in header.lower(), "it ends with the browser at the latest"
    secure = make_site_world(vera.world, url="https://review.bank.example", database=vera.site.config.database)
    _, answer = sign_in(secure)
    header = answer.headers["set-cookie"]
    assert header.startswith("__Host-cognify=")
    assert "Secure" in header
    assert secure.client().get("/login").headers["strict-transport-security"].startswith("max-age=")
    secure.site.store.close()


def test_only_the_hash_of_a_token_is_stored(vera: SiteWorld) -> None:
    browser, _ = sign_in(vera)
    with vera.site.store.begin() as connection:
        dump = str(connection.execute(sessions.select()).all())
    assert browser.token not in dump
    assert hash_token(browser.token) in dump


def test_a_session_ends_without_visits_and_after_its_hours(vera: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = vera.site.now()

    def later(**delta: float) -> None:
        monkeypatch.setattr(vera.site, "now", lambda: begun + timedelta(**delta), raising=False)

    browser, _ = sign_in(vera)
    for minutes in (29, 58, 87):
        later(minutes=minutes)
        assert browser.get("/account").status_code == 200, "each visit extends it"
    later(minutes=118)
    assert browser.get("/account").status_code == 303
    browser, _ = sign_in(vera, browser)
    for minutes in range(118, 118 + 12 * 60, 25):
        later(minutes=minutes)
        assert browser.get("/account").status_code == 200
    later(minutes=118 + 12 * 60)
    assert browser.get("/account").status_code == 303, "twelve hours are over, visits or not"


def test_a_session_is_extended_on_request_as_the_warning_offers(
    vera: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = vera.site.now()
    browser, _ = sign_in(vera)
    page = browser.get("/account").text
    assert 'data-idle="1800"' in page
    assert 'data-extend="/account/extend"' in page
    monkeypatch.setattr(vera.site, "now", lambda: begun + timedelta(minutes=29), raising=False)
    answer = browser.call("/account/extend")
    assert answer.json()["idle_s"] == 1800
    monkeypatch.setattr(vera.site, "now", lambda: begun + timedelta(minutes=58), raising=False)
    assert browser.get("/account").status_code == 200


def test_signing_out_ends_the_session_on_the_server(vera: SiteWorld) -> None:
    browser, _ = sign_in(vera)
    token = browser.token
    answer = browser.submit("/logout")
    assert answer.headers["location"] == "/login"
    assert 'cognify-3070=""' in answer.headers["set-cookie"]
    assert Client(vera.site, vera.app, token).get("/account").status_code == 303


def test_a_session_ends_when_its_holders_roles_change(vera: SiteWorld) -> None:
    browser, _ = sign_in(vera)
    assert browser.get("/account").status_code == 200
    key = vera.world.key("vera")
    changed = Person(
        person=key.person, name="Vera", roles=("model_validator", "compliance_officer"), keys=(key.public,)
    )
    enrol_person(vera.world.workspace, changed, vera.world.key("ada"), vera.world.key("finn"))
    assert browser.get("/account").status_code == 303
    browser, _ = sign_in(vera)
    assert "compliance_officer" in browser.get("/account").text


def test_who_is_revoked_sees_nothing_from_the_next_request_on(vera: SiteWorld) -> None:
    browser, _ = sign_in(vera)
    key = vera.world.key("vera")
    revoke_key(vera.world.workspace, key.person, key.key_id, "left", vera.world.key("ada"))
    assert browser.get("/account").status_code == 303
    again, answer = sign_in(vera)
    assert answer.status_code == 403
    assert "closed" in answer.text
    assert again.token == ""


def test_a_disabled_account_signs_in_no_more_and_its_sessions_end(vera: SiteWorld) -> None:
    browser, _ = sign_in(vera)
    account_id = vera.account("vera").id
    with vera.site.store.begin() as connection:
        disable_account(connection, account_id, int(time.time()))
    assert browser.get("/account").status_code == 303
    assert sign_in(vera)[1].status_code == 403


def test_other_sessions_are_listed_and_ended_by_their_holder_alone(vera: SiteWorld) -> None:
    here, _ = sign_in(vera)
    there, third = vera.client_for("vera"), vera.client_for("vera")
    ben = vera.client_for("ben")
    assert there.session is not None
    handle = there.session.token_hash[:16]
    assert handle in here.get("/account").text
    ben.submit(f"/account/sessions/{handle}/end")
    assert there.get("/account").status_code == 200, "ben ends no session of vera's"
    here.submit(f"/account/sessions/{handle}/end")
    assert there.get("/account").status_code == 303
    here.submit("/account/sessions/others/end")
    assert third.get("/account").status_code == 303
    assert here.get("/account").status_code == 200
    assert ben.get("/account").status_code == 200


def test_a_password_is_changed_with_the_old_one_shortly_after_signing_in(vera: SiteWorld) -> None:
    browser, _ = sign_in(vera)
    other = vera.client_for("vera")
    new = {"password": "eight owls in a barn", "again": "eight owls in a barn"}
    assert browser.submit("/account/password", **new).status_code == 422
    assert browser.submit("/account/password", current=PASSWORD, **(new | {"again": "other"})).status_code == 422
    token = browser.token
    assert browser.submit("/account/password", current=PASSWORD, **new).status_code == 303
    assert browser.token != token
    assert other.get("/account").status_code == 303, "other sessions end"
    assert sign_in(vera)[1].status_code == 403
    assert sign_in(vera, password="eight owls in a barn")[1].status_code == 303


def test_an_old_session_changes_no_credential(vera: SiteWorld) -> None:
    account_id = vera.account("vera").id
    with vera.site.store.begin() as connection:
        token = open_session(connection, account_id, "password", int(time.time()) - 601, 12)
        connection.execute(sessions.update().values(seen=int(time.time())))
    browser = Client(vera.site, vera.app, token)
    assert "Sign in again" in browser.get("/account").text
    new = {"current": PASSWORD, "password": "eight owls in a barn", "again": "eight owls in a barn"}
    assert browser.submit("/account/password", **new).status_code == 403
    assert browser.call("/account/passkeys/options").status_code == 403


# --- where one is sent ---------------------------------------------------------------------------------------------------

HOSTILE = (
    "//evil.example", "/\\evil.example", "\\\\evil.example", "https://evil.example/", "javascript:alert(1)", "/\t/evil.example",
    "/\n/evil.example", "///evil.example", "evil.example", "", "/login?next=/", "/logout", "/invite/x", "/%0d%0aSet-Cookie:x\r\n", "/ü",
)  # fmt: skip


@pytest.mark.parametrize("target", HOSTILE)
def test_no_next_leads_away_from_the_site(target: str) -> None:
    assert safe_next(target) == "/"


@given(st.one_of(st.text(max_size=40), st.text("/\\:@.?#%e\t\n", max_size=12)))
def test_whatever_next_says_a_browser_stays_on_the_site(target: str) -> None:
    found = safe_next(target)
    assert urlsplit(urljoin(URL, found)).netloc == urlsplit(URL).netloc
    assert found.startswith("/")
    assert found[1:2] not in ("/", "\\")


def test_a_hostile_next_in_the_form_leads_home(vera: SiteWorld) -> None:
    _, answer = sign_in(vera, next="//evil.example/")
    assert answer.headers["location"] == "/"


# --- tidying -------------------------------------------------------------------------------------------------------------


def test_what_is_over_is_removed_and_what_runs_stays(vera: SiteWorld) -> None:
    from cognify_dagster.review.identity.tidying import tidy

    running, over = vera.client_for("vera"), vera.client_for("vera")
    ended, stays = hash_token(over.token), hash_token(running.token)
    with vera.site.store.begin() as connection:
        connection.execute(sessions.update().where(sessions.c.token_hash == ended).values(ends=1))
    tidy(vera.site)
    with vera.site.store.begin() as connection:
        assert [row.token_hash for row in connection.execute(sessions.select())] == [stays]


def test_a_statement_that_failed_tells_no_log_its_values(founded_site: SiteWorld) -> None:
    vera = founded_site.client_for("vera")
    digest = hash_token(vera.token)
    with pytest.raises(IntegrityError) as failed, founded_site.site.store.begin() as connection:
        connection.execute(
            insert(sessions).values(token_hash=digest, account="x", csrf="x", method="x", created=0, seen=0, ends=0)
        )
    assert digest not in str(failed.value)
