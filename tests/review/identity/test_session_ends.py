"""A session is worth what it rests on: when that ends, the session ends with the next request, and does not come back."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from cognify_dagster.governance import enrol_person, revoke_key, rotated
from cognify_dagster.records import Person
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import disable_account, enable_account, set_password_hash
from cognify_dagster.review.identity.passwords import hash_password
from cognify_dagster.review.store.passkeys import remove_passkeys
from cognify_dagster.review.store.sessions import open_session, sessions
from tests.review.authenticator import Authenticator
from tests.review.identity.test_passkeys import register, sign_in
from tests.review.site_world import Client, SiteWorld, make_site_world

PASSWORD = "seven owls in a barn"


def runs(client: Client) -> bool:
    return client.get("/account").status_code == 200


def rows(world: SiteWorld) -> int:
    with world.site.store.begin() as connection:
        return len(connection.execute(sessions.select()).all())


def session(world: SiteWorld, name: str, method: str, credential: str = "") -> Client:
    """A session that remembers the roles its holder has, as signing in makes it."""
    account, roles = world.account(name).id, world.roles(name)
    with world.site.store.begin() as connection:
        token = open_session(connection, account, method, int(time.time()), 12, roles=roles, credential=credential)
    return Client(world.site, world.app, token)


def set_password(world: SiteWorld, name: str, text: str = PASSWORD) -> None:
    account = world.account(name).id
    with world.site.store.begin() as connection:
        set_password_hash(connection, account, hash_password(text))


def test_removing_a_passkey_ends_the_sessions_that_it_opened_and_no_other(founded_site: SiteWorld) -> None:
    first, second = Authenticator(), Authenticator()
    vera = founded_site.client_for("vera")
    register(vera, first)
    register(vera, second, "key on a ring")
    lost = [sign_in(founded_site, first)[0] for _ in range(2)]
    kept, _ = sign_in(founded_site, second)
    assert all(map(runs, [*lost, kept]))
    assert vera.submit(f"/account/passkeys/{first.public.key_id}/remove").status_code == 303
    assert [runs(client) for client in lost] == [False, False]
    assert runs(kept)
    assert runs(vera)


def test_who_removes_the_passkey_they_signed_in_with_is_signed_out(founded_site: SiteWorld) -> None:
    first, second = Authenticator(), Authenticator()
    vera = founded_site.client_for("vera")
    register(vera, first)
    register(vera, second, "key on a ring")
    here, _ = sign_in(founded_site, first)
    answer = here.submit(f"/account/passkeys/{first.public.key_id}/remove")
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert 'cognify-3070=""' in answer.headers["set-cookie"]
    assert not runs(here)


def test_revoking_a_passkey_in_the_ledger_ends_its_sessions_though_other_keys_stay(founded_site: SiteWorld) -> None:
    world, key = founded_site.world, founded_site.passkey("vera")
    lost, _ = sign_in(founded_site, key)
    other = founded_site.client_for("vera")
    other_key = other.session.credential if other.session else ""
    assert other_key not in ("", key.public.key_id)
    revoke_key(world.workspace, "person/vera", key.public.key_id, "lost", world.key("ada"))
    assert not runs(lost)
    assert runs(other)


def test_replacing_a_key_ends_the_sessions_of_the_old_one(founded_site: SiteWorld) -> None:
    world, old = founded_site.world, founded_site.passkey("vera")
    browser, _ = sign_in(founded_site, old)
    person = rotated(world.workspace.read(), "person/vera", Authenticator().public, True)
    enrol_person(world.workspace, person, world.key("ada"), world.key("finn"))
    assert not runs(browser)


def test_losing_a_role_ends_every_session_however_it_began(founded_site: SiteWorld) -> None:
    world, key = founded_site.world, founded_site.world.key("ben")
    begun = [session(founded_site, "ben", method, key.key_id) for method in ("password", "passkey", "invitation")]
    assert all(map(runs, begun))
    fewer = Person(person=key.person, name="Ben", roles=("data_scientist",), keys=(key.public,))
    enrol_person(world.workspace, fewer, world.key("ada"), world.key("finn"))
    assert not any(map(runs, begun))
    assert rows(founded_site) == 0, "they are gone, not only refused"


def test_a_session_does_not_come_back_with_its_holders_key(founded_site: SiteWorld) -> None:
    world, key = founded_site.world, founded_site.world.key("vera")
    browser = session(founded_site, "vera", "password")
    revoke_key(world.workspace, key.person, key.key_id, "lost", world.key("ada"))
    assert not runs(browser)
    person = Person(person=key.person, name="Vera", roles=("model_validator",), keys=(Authenticator().public,))
    enrol_person(world.workspace, person, world.key("ada"), world.key("finn"))
    assert not runs(browser), "signed in before the key was lost"
    assert runs(founded_site.client_for("vera", "password"))


def test_disabling_ends_sessions_for_good_also_one_that_begins_at_that_moment(founded_site: SiteWorld) -> None:
    set_password(founded_site, "vera")
    browser, account = session(founded_site, "vera", "password"), founded_site.account("vera")
    store = founded_site.site.store
    with store.begin() as connection:
        disable_account(connection, account.id, int(time.time()))
    assert not runs(browser)
    with store.begin() as connection:
        enable_account(connection, account.id)
    assert not runs(browser)


@pytest.mark.parametrize("ends", ["disabled", "password changed", "passkey removed"])
def test_no_session_begins_on_what_ended_since_it_was_checked(founded_site: SiteWorld, ends: str) -> None:
    """Between the check of a credential and the session that it opens, an admin or the holder may end it."""
    from cognify_dagster.review.identity import signing_in
    from cognify_dagster.review.visit import Visit

    set_password(founded_site, "vera")
    key, account, store = founded_site.passkey("vera"), founded_site.account("vera"), founded_site.site.store
    with store.begin() as connection:
        if ends == "disabled":
            disable_account(connection, account.id, 1)
        elif ends == "password changed":
            set_password_hash(connection, account.id, "other")
        else:
            remove_passkeys(connection, account.id, key.public.key_id)
    visit = Visit(founded_site.site, _request())
    method = "passkey" if ends == "passkey removed" else "password"
    with pytest.raises(Refused) as refused:
        signing_in.sign_in(visit, account, method, key.public.key_id if method == "passkey" else "")
    assert refused.value.code == "closed"
    assert rows(founded_site) == 0


def _request():  # type: ignore[no-untyped-def]
    from starlette.requests import Request

    return Request({"type": "http", "method": "POST", "path": "/login", "headers": [], "client": ("testclient", 1)})


def test_sessions_by_password_end_where_passwords_sign_in_no_more(founded_site: SiteWorld) -> None:
    begun = {method: session(founded_site, "vera", method) for method in ("password", "invitation", "passkey")}
    strict = make_site_world(founded_site.world, database=founded_site.site.config.database, password_login=False)
    found = {method: runs(Client(strict.site, strict.app, browser.token)) for method, browser in begun.items()}
    assert found == {"password": False, "invitation": False, "passkey": True}
    strict.site.store.close()


def test_a_changed_password_ends_other_sessions_and_gives_this_one_a_new_token(founded_site: SiteWorld) -> None:
    set_password(founded_site, "vera")
    others = [session(founded_site, "vera", method) for method in ("password", "passkey", "oidc")]
    here = session(founded_site, "vera", "password")
    before, csrf = here.token, here.csrf
    new = {"current": PASSWORD, "password": "eight owls in a barn", "again": "eight owls in a barn"}
    assert here.submit("/account/password", **new).status_code == 303
    assert not any(map(runs, others))
    assert here.token != before
    assert here.csrf != csrf
    assert runs(here)
    assert not runs(Client(founded_site.site, founded_site.app, before))


@pytest.mark.parametrize("method", ["passkey", "invitation"])
def test_no_session_lasts_longer_by_changing_the_password_again_and_again(
    founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """Somebody with a stolen cookie could else stay signed in, and fresh enough to change credentials, for ever."""
    here, begun = founded_site.client_for("vera", method), founded_site.site.now()
    ends = here.session.ends if here.session else 0
    statuses = []
    for minutes in (5, 9, 14):
        monkeypatch.setattr(founded_site.site, "now", lambda at=minutes: begun + timedelta(minutes=at), raising=False)
        words = f"{minutes} owls in a barn"
        statuses.append(here.submit("/account/password", password=words, again=words).status_code)
    assert statuses == [303, 303, 403]
    assert here.session is not None
    assert here.session.ends == ends
