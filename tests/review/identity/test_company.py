"""Who signs in at the company's service has a credential: a link for a local one takes two admins, as for a lost passkey."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.governance import directory
from cognify_dagster.review.errors import Refused
from cognify_dagster.review.identity.company import signs_in_at_company
from cognify_dagster.review.identity.invitations import Use, invite, use
from cognify_dagster.review.identity.setup import set_up
from cognify_dagster.review.store.invitations import find_invitation
from tests.cli.conftest import Cognify, _plain_environment, cognify, key_file
from tests.governance.issuer import CLIENT, ISSUER
from tests.governance.world import World, clone
from tests.review.oidc.conftest import SsoWorld, settings
from tests.review.site_world import SiteWorld, make_site_world

__all__ = ["_plain_environment", "cognify"]
PASSWORD = {"password": "seven owls in a barn", "again": "seven owls in a barn"}


@pytest.fixture
def company(founded_template: World, tmp_path: Path) -> Iterator[SsoWorld]:
    """A site whose people may sign in at the company's service, which no test here needs to reach."""
    found = make_site_world(
        clone(founded_template, tmp_path / "world"), oidc=settings(ISSUER, person_claim="employee_number")
    )
    yield SsoWorld(found, ISSUER)
    found.site.store.close()


def enrol_alias(company: SsoWorld, alias: str) -> None:
    reading = company.world.workspace.read()
    person = directory(reading).person_at("person/vera", reading.size)
    assert person is not None
    company.vouch(person.model_copy(update={"aliases": (alias,)}))


def enrolled(company: SsoWorld, how: str) -> None:
    """Vera signs in at the company's service, by one of the three ways in which the ledger may know her."""
    if how == "identity":
        company.enrol("vera")
    elif how == "alias":
        company.alias("vera")
    else:
        enrol_alias(company, "user:4711")


def links(page: str) -> list[str]:
    return re.findall(r"http://localhost:3070(/invite/[\w-]+)", page)


@pytest.mark.parametrize("how", ["identity", "alias", "claim"])
def test_one_admin_alone_gets_no_link_for_who_signs_in_at_the_company(company: SsoWorld, how: str) -> None:
    enrolled(company, how)
    ada, finn = company.site.client_for("ada"), company.site.client_for("finn")
    assert "Ask for a new credential" in ada.get("/people/vera").text
    asked = ada.submit("/people/vera/invite")
    assert links(asked.text) == []
    assert "signs in with the company account" in asked.text
    assert ada.submit("/people/vera/invite/confirm").status_code == 403, "nor by asking twice"
    (path,) = links(finn.submit("/people/vera/invite/confirm").text)
    page = company.site.client().get(path).text
    assert "Ada, confirmed by Finn" in page
    assert "Your company account goes on signing you in" in page
    assert company.site.client().submit(path, **PASSWORD).status_code == 303


def test_a_link_of_before_opens_nothing_once_an_identity_is_enrolled(company: SsoWorld) -> None:
    (path,) = links(company.site.client_for("ada").submit("/people/vera/invite").text)
    assert company.site.client().get(path).status_code == 200
    company.enrol("vera")
    assert company.site.client().get(path).status_code == 410
    assert company.site.client().submit(path, **PASSWORD).status_code == 410
    assert company.site.client().call(f"{path}/passkey/options").status_code == 410


def test_an_identity_that_was_enrolled_while_the_form_was_open_counts(company: SsoWorld) -> None:
    """The page was opened before; what is kept is judged anew."""
    account = company.site.account("vera")
    now, store = int(time.time()), company.site.site.store
    with store.begin() as connection:
        made = invite(connection, account, "person/ada", now, company=False)
    with store.begin() as connection, pytest.raises(Refused, match="was used or is over"):
        use(connection, made.invitation, True, Use(now, "a password", "", ""))
    with store.begin() as connection:
        assert find_invitation(connection, now, account=account.id) is not None, "nothing was used up"


def test_other_clients_issuers_and_aliases_are_no_way_in(company: SsoWorld) -> None:
    config = company.site.site.config
    for issuer, client, claim, alias, found in (
        (ISSUER, CLIENT, "", "user:4711", False),
        (ISSUER, CLIENT, "email", "user:4711", True),
        ("https://other.example", CLIENT, "", f"oidc:{ISSUER}|x", False),
        (ISSUER, "other", "", f"oidc:{ISSUER}|x", True),
        ("", "", "email", f"oidc:{ISSUER}|x", False),
    ):
        enrol_alias(company, alias)
        table = {"issuer": issuer, "client_id": client, "person_claim": claim} if issuer else {}
        object.__setattr__(config, "oidc", table)
        assert signs_in_at_company(company.site.site.read(), config, "person/vera") is found, (issuer, client, claim)
    assert not signs_in_at_company(company.site.site.read(), config, None)
    assert not signs_in_at_company(company.site.site.read(), config, "person/nobody")


def test_the_set_up_gives_no_link_to_an_admin_of_the_company(company: SsoWorld) -> None:
    company.enrol("ada")
    site = company.site.site
    found = {item.person: item.path for item in set_up(site.store, site.read(), site.config)}
    assert found["person/ada"] is None
    assert found["person/finn"] is not None


def test_a_password_adds_no_passkey_to_a_company_account(company: SsoWorld) -> None:
    """Else a password, which reads, would become a passkey beside the company account."""
    assert company.site.client_for("vera", "password").call("/account/passkeys/options").status_code == 200
    company.enrol("vera")
    answer = company.site.client_for("vera", "password").call("/account/passkeys/options")
    assert answer.status_code == 403
    assert "company account" in answer.json()["title"]


def test_the_last_passkey_may_go_where_the_company_account_stays(company: SsoWorld) -> None:
    key = company.site.passkey("vera", vouched=False)
    vera, path = company.site.client_for("vera"), f"/account/passkeys/{key.public.key_id}/remove"
    assert vera.submit(path).status_code == 409
    company.enrol("vera")
    assert vera.submit(path).status_code == 303


def test_the_command_wants_two_admins_too(founded_site: SiteWorld, cognify: Cognify) -> None:
    world = founded_site.world
    file = world.folder / "project" / "cognify.toml"
    table = f'\n[review.oidc]\nissuer = "{ISSUER}"\nclient_id = "{CLIENT}"\nclient_secret = "env:NOT_SET_HERE"\n'
    file.write_text(file.read_text() + table)
    SsoWorld(founded_site, ISSUER).enrol("vera")
    refused = cognify("review", "invite", "person/vera", at=world)
    assert refused.code == 1
    assert "company account" in refused.err
    both = ("--as", key_file(world, "ada"), "--as", key_file(world, "finn"))
    assert cognify("review", "invite", "person/vera", *both, at=world).code == 0
    assert cognify("review", "invite", "person/carl", at=world).code == 0
