"""One-time links: how somebody gets a first credential, and a new one after a reset by two admins."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from typing import Any

import pytest

from cognify_dagster.governance import revoke_key
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.accounts import set_password_hash
from cognify_dagster.review.identity.invitations import Made, invite
from cognify_dagster.review.identity.passwords import hash_password
from cognify_dagster.review.store.invitations import invitations
from tests.review.authenticator import Authenticator
from tests.review.site_world import SiteWorld

PASSWORD = {"password": "seven owls in a barn", "again": "seven owls in a barn"}


def make(world: SiteWorld, name: str = "vera", by: str = "person/ada", **more: Any) -> Made:
    account = world.account(name)
    with world.site.store.begin() as connection:
        return invite(connection, account, by, int(time.time()), **({"company": False} | more))


def path_of(world: SiteWorld, name: str = "vera") -> str:
    path = make(world, name).path
    assert path is not None
    return path


def give_password(world: SiteWorld, name: str = "vera") -> None:
    account_id = world.account(name).id
    with world.site.store.begin() as connection:
        set_password_hash(connection, account_id, hash_password(PASSWORD["password"]))


def link_in(page: str) -> str:
    found = re.search(r"http://localhost:3070(/invite/[\w-]+)", page)
    assert found is not None
    return found.group(1)


def test_an_admin_invites_and_the_link_sets_a_password_once(founded_site: SiteWorld) -> None:
    page = founded_site.client_for("ada").submit("/people/vera/invite")
    path, browser = link_in(page.text), founded_site.client()
    for _ in range(2):
        assert "Vera" in browser.get(path).text, "looking uses nothing up"
    answer = browser.submit(path, **PASSWORD)
    assert (answer.status_code, answer.headers["location"]) == (303, "/account?done=password")
    assert "Your password is set" in browser.get("/account?done=password").text
    assert founded_site.client().get(path).status_code == 410
    assert founded_site.client().submit(path, **PASSWORD).status_code == 410
    assert founded_site.client().submit("/login", login="vera", password=PASSWORD["password"]).status_code == 303


def test_the_link_registers_a_passkey_instead(founded_site: SiteWorld) -> None:
    path, browser, key = path_of(founded_site), founded_site.client(), Authenticator()
    started = browser.call(f"{path}/passkey/options").json()
    answer = {"ceremony": started["ceremony"], "credential": key.register(started["options"]), "name": "phone"}
    assert browser.call(f"{path}/passkey", answer).json() == {"target": "/account?done=passkey"}
    assert browser.session is not None
    assert browser.session.method == "passkey"
    assert "phone" in browser.get("/account").text
    assert founded_site.client().get(path).status_code == 410
    assert founded_site.client().call(f"{path}/passkey/options").status_code == 410


def test_a_passkey_that_does_not_verify_leaves_the_link_as_it_was(founded_site: SiteWorld) -> None:
    path, browser, key = path_of(founded_site), founded_site.client(), Authenticator(verified=False)
    started = browser.call(f"{path}/passkey/options").json()
    answer = {"ceremony": started["ceremony"], "credential": key.register(started["options"])}
    assert browser.call(f"{path}/passkey", answer).status_code == 400
    assert browser.get(path).status_code == 200


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"password": "short", "again": "short"}, "at least 12"),
        ({"password": "seven owls in a barn", "again": "eight owls in a barn"}, "differ"),
        ({"password": "vera vera vera", "again": "vera vera vera"}, "little more than"),
        ({}, "at least 12"),
    ],
    ids=["short", "differs", "own name", "empty"],
)
def test_a_password_that_is_refused_leaves_the_link_as_it_was(
    founded_site: SiteWorld, fields: dict[str, str], says: str
) -> None:
    path, browser = path_of(founded_site), founded_site.client()
    answer = browser.submit(path, **fields)
    assert answer.status_code == 422
    assert says in answer.text
    assert browser.token == ""
    assert browser.submit(path, **PASSWORD).status_code == 303


def test_a_link_is_over_after_a_day(founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    path, begun = path_of(founded_site), founded_site.site.now()
    monkeypatch.setattr(founded_site.site, "now", lambda: begun + timedelta(hours=23, minutes=59), raising=False)
    assert founded_site.client().get(path).status_code == 200
    monkeypatch.setattr(founded_site.site, "now", lambda: begun + timedelta(hours=24, seconds=1), raising=False)
    assert founded_site.client().get(path).status_code == 410
    assert founded_site.client().submit(path, **PASSWORD).status_code == 410


def test_a_newer_invitation_ends_the_older_one(founded_site: SiteWorld) -> None:
    older, newer = path_of(founded_site), path_of(founded_site)
    assert founded_site.client().get(older).status_code == 410
    assert founded_site.client().get(newer).status_code == 200


def test_only_hashes_of_links_are_stored_and_made_up_ones_open_nothing(founded_site: SiteWorld) -> None:
    path = path_of(founded_site)
    with founded_site.site.store.begin() as connection:
        stored = str(connection.execute(invitations.select()).all())
    assert path.removeprefix("/invite/") not in stored
    for guess in ("/invite/x", "/invite/" + "A" * 43, "/invite/" + "A" * 5000):
        assert founded_site.client().get(guess).status_code in (410, 414)


def test_who_is_revoked_meanwhile_gets_in_by_no_link(founded_site: SiteWorld) -> None:
    path, key = path_of(founded_site), founded_site.world.key("vera")
    revoke_key(founded_site.world.workspace, key.person, key.key_id, "left", founded_site.world.key("ada"))
    assert founded_site.client().get(path).status_code == 403
    assert founded_site.client().submit(path, **PASSWORD).status_code == 403


# --- resets --------------------------------------------------------------------------------------------------------------


def test_who_has_a_credential_gets_another_only_by_two_admins(founded_site: SiteWorld) -> None:
    give_password(founded_site)
    vera_before = founded_site.client_for("vera")
    ada, finn = founded_site.client_for("ada"), founded_site.client_for("finn")
    asked = ada.submit("/people/vera/invite")
    assert "/invite/" not in asked.text.partition("<main")[2]
    assert "Another workspace admin has to confirm" in asked.text
    assert ada.submit("/people/vera/invite/confirm").status_code == 403, "not the one who asked"
    assert "reset to confirm" in finn.get("/people").text
    path = link_in(finn.submit("/people/vera/invite/confirm").text)
    assert finn.submit("/people/vera/invite/confirm").status_code == 409, "confirmed once"
    assert vera_before.get("/account").status_code == 200, "nothing ends before the link is used"
    browser = founded_site.client()
    new = {"password": "eight owls in a barn", "again": "eight owls in a barn"}
    assert browser.submit(path, **new).status_code == 303
    assert vera_before.get("/account").status_code == 303
    assert founded_site.client().submit("/login", login="vera", password=PASSWORD["password"]).status_code == 403
    assert founded_site.client().submit("/login", login="vera", password=new["password"]).status_code == 303


def test_no_admin_confirms_their_own_reset(founded_site: SiteWorld) -> None:
    give_password(founded_site, "finn")
    founded_site.client_for("ada").submit("/people/finn/invite")
    assert founded_site.client_for("finn").submit("/people/finn/invite/confirm").status_code == 403
    with pytest.raises(Refused, match="second admin"):
        make(founded_site, "finn", "person/ada", confirmed_by="person/ada")


def test_a_reset_ends_lost_passkeys(founded_site: SiteWorld) -> None:
    key = founded_site.passkey("vera", vouched=False)
    made = make(founded_site, confirmed_by="person/finn")
    assert made.path is not None
    assert founded_site.client().submit(made.path, **PASSWORD).status_code == 303
    browser = founded_site.client()
    started = browser.call("/login/passkey/options").json()
    answer = {"ceremony": started["ceremony"], "credential": key.answer(started["options"])}
    assert browser.call("/login/passkey", answer).status_code == 403


def test_only_admins_invite_confirm_disable_and_enable(founded_site: SiteWorld) -> None:
    give_password(founded_site)
    ben = founded_site.client_for("ben")
    for act in ("invite", "invite/confirm", "disable", "enable"):
        assert ben.submit(f"/people/vera/{act}").status_code == 403
    assert "Account on this site" not in ben.get("/people/vera").text


def test_a_disabled_account_is_invited_only_after_it_was_enabled(founded_site: SiteWorld) -> None:
    give_password(founded_site)
    vera, ada = founded_site.client_for("vera"), founded_site.client_for("ada")
    assert ada.submit("/people/vera/disable").status_code == 303
    assert vera.get("/account").status_code == 303
    assert ada.submit("/people/vera/invite").status_code == 409
    assert "disabled since" in ada.get("/people/vera").text
    assert ada.submit("/people/vera/enable").status_code == 303
    assert founded_site.client().submit("/login", login="vera", password=PASSWORD["password"]).status_code == 303


def test_a_link_of_before_opens_nothing_once_there_is_a_credential(founded_site: SiteWorld) -> None:
    """Else the admin who kept it could replace the credential alone, although a reset takes two."""
    path = path_of(founded_site)
    give_password(founded_site)
    assert founded_site.client().get(path).status_code == 410
    new = {"password": "eight owls in a barn", "again": "eight owls in a barn"}
    assert founded_site.client().submit(path, **new).status_code == 410
    assert founded_site.client().submit("/login", login="vera", password=new["password"]).status_code == 403
