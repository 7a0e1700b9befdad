"""People and keys as the site shows them."""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pytest

from cognify_dagster.governance import delegate, enrol_person, recertify, revoke_key
from cognify_dagster.records import Person
from tests.review.site_world import SiteWorld


def main_of(page: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.partition("<main")[2].partition("</main>")[0]).split())


def test_everyone_is_listed_with_roles_and_kinds_of_keys(founded_site: SiteWorld) -> None:
    founded_site.passkey("vera")
    text = main_of(founded_site.client_for("vera").get("/people").text)
    assert "6 people" in text
    assert "Vera model_validator 1 passkey (S4), 1 key file (S3)" in text
    assert "Ben data_scientist, model_validator 1 key file (S3)" in text
    assert "workload/pipeline" in text
    assert "Account" not in text, "who has an account is for admins"
    assert "Nobody signs for somebody else" in text


def test_a_persons_page_tells_how_they_were_enrolled_and_what_ended(founded_site: SiteWorld) -> None:
    key, world = founded_site.passkey("vera"), founded_site.world
    old = world.key("vera").key_id
    revoke_key(world.workspace, "person/vera", old, "laptop lost", world.key("ada"))
    for address in ("/people/vera", "/people/person/vera", "/people/person%2Fvera"):
        text = main_of(founded_site.client_for("ben").get(address).text)
        assert re.search(
            rf"{key.public.key_id} passkey \(S4\), on one device, for http://localhost:3070 entry \d+ ✓ valid", text
        )
        assert re.search(rf"{old} ed25519 \(S3\) entry \d+ ✕ ended by entry \d+", text)
        assert len(re.findall(r"Ada, Finn entry \d+", text)) == 2, "enrolled, and vouched for anew"
    assert founded_site.client_for("ben").get("/people/nobody").status_code == 404


def test_delegations_and_recertifications_are_told(founded_site: SiteWorld) -> None:
    world = founded_site.world
    until = datetime.now(timezone.utc) + timedelta(days=5)
    by = world.key("olga")
    delegate(world.workspace, "person/carl", "business_owner", by, expires=until, reason="holiday")
    recertify(world.workspace, "person/olga", world.key("ada"))
    ben = founded_site.client_for("ben")
    assert re.search(r"Carl Olga business_owner nothing \d{4}", main_of(ben.get("/people").text))
    text = main_of(ben.get("/people/olga").text)
    assert re.search(r"Carl for Olga as business_owner, from .* until .*: ✓ runs", text)
    assert "Recertified" in text


def test_an_admin_sees_accounts_and_in_which_state_they_are(founded_site: SiteWorld) -> None:
    ada = founded_site.client_for("ada")
    assert "Make an invitation" in ada.get("/people/carl").text
    assert founded_site.site.store.alive()
    text = main_of(ada.get("/people").text)
    assert re.search(r"Carl compliance_officer .* – none", text)
    ada.submit("/people/carl/invite")
    assert re.search(r"Carl compliance_officer .* ○ invited", main_of(ada.get("/people").text))
    founded_site.passkey("carl", vouched=False)
    assert "Ask for a new credential" in ada.get("/people/carl").text


def test_names_and_titles_are_text_never_markup(founded_site: SiteWorld) -> None:
    world = founded_site.world
    hostile = '<script>alert(1)</script>{{ 7*7 }}" onmouseover="x'
    key = world.key("eve")
    person = Person(
        person=key.person,
        name=hostile,
        title=hostile,
        roles=("data_scientist",),
        aliases=(f"user:{hostile}",),
        keys=(key.public,),
    )
    enrol_person(world.workspace, person, world.key("ada"), world.key("finn"))
    eve, ada = founded_site.client_for("eve"), founded_site.client_for("ada")
    for browser, path in ((eve, "/"), (eve, "/account"), (ada, "/people"), (ada, "/people/eve"), (eve, "/people/eve")):
        page = browser.get(path)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
        assert ' onmouseover="x' not in page.text
        assert "{{ 7*7 }}" in page.text or path == "/", "it is shown as it is"
    invited = ada.submit("/people/eve/invite")
    assert "<script>alert" not in invited.text


@pytest.mark.parametrize("path", ["/people", "/people/vera", "/account"])
def test_no_page_shows_anything_secret(founded_site: SiteWorld, path: str) -> None:
    founded_site.passkey("ada")
    ada = founded_site.client_for("ada")
    text = ada.get(path).text
    assert ada.token not in text
    for secret in ("$argon2", "-----BEGIN", "ciphertext", "token_hash"):
        assert secret not in text
