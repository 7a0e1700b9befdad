"""Signing in at the company's sign-in service: who gets in, who does not, and with which roles."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from sqlalchemy import select

from cognify_dagster.governance import revoke_key
from cognify_dagster.records import GroupsClaimed
from cognify_dagster.review.identity.accounts import account_for, disable_account
from cognify_dagster.review.store.accounts import accounts
from cognify_dagster.review.store.oidc import FLOW_S, MAX_FLOWS, flows
from tests.governance.issuer import CLIENT, ISSUER, FakeIssuer
from tests.review.oidc.conftest import Hostile, SsoWorld
from tests.review.site_world import Client


def signed_in(client: Client) -> bool:
    return client.session is not None and client.get("/account").status_code == 200


# --- the way there and back ----------------------------------------------------------------------------------------------


def test_a_person_signs_in_over_http(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client()
    answer = sso.sign_in(client, "vera-at-idp", "/people?x=1")
    assert (answer.status_code, answer.headers["location"]) == (303, "/people?x=1")
    assert client.session is not None
    assert client.session.method == "oidc"
    assert "Vera" in client.get("/account").text


def test_the_request_binds_state_nonce_and_pkce(sso: SsoWorld) -> None:
    first, second = (parse_qs(urlsplit(sso.begin(sso.site.client())).query) for _ in range(2))
    assert first["response_type"] == ["code"]
    assert first["code_challenge_method"] == ["S256"]
    assert first["redirect_uri"] == ["http://localhost:3070/oidc/callback"]
    assert first["client_id"] == [CLIENT]
    assert "openid" in first["scope"][0].split()
    for name in ("state", "nonce", "code_challenge"):
        assert len(first[name][0]) >= 43
        assert first[name] != second[name]
    assert "prompt" not in first


def test_the_cookie_of_a_sign_in_is_not_for_scripts(sso: SsoWorld) -> None:
    cookie = sso.site.client().get("/oidc/login").headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "max-age=600" in cookie


def test_an_alias_signs_in_as_well(sso: SsoWorld) -> None:
    sso.alias("carl")
    client = sso.site.client()
    assert sso.sign_in(client, "carl-at-idp").status_code == 303
    assert signed_in(client)


def test_a_subject_that_differs_by_case_is_somebody_else(sso: SsoWorld) -> None:
    sso.alias("carl", "Carl")
    client = sso.site.client()
    assert sso.sign_in(client, "carl").status_code == 403
    assert sso.sign_in(client, "Carl").status_code == 303


def test_whom_nobody_enrolled_is_told_what_to_do_and_nothing_is_made(sso: SsoWorld) -> None:
    client, size = sso.site.client(), sso.world.workspace.ledger.size()
    answer = sso.sign_in(client, "mallory")
    assert answer.status_code == 403
    assert f"oidc:{sso.issuer}|mallory" in answer.text
    assert "admin" in answer.text
    assert client.token == ""
    assert sso.world.workspace.ledger.size() == size
    with sso.site.site.store.begin() as connection:
        assert connection.execute(select(accounts)).first() is None


@pytest.mark.parametrize(
    "change", [{"email_verified": True}, {"email_verified": False}, {}], ids=["verified", "not", "unsaid"]
)
def test_an_email_address_counts_only_if_the_issuer_verified_it(hostile: Hostile, change: dict[str, Any]) -> None:
    object.__setattr__(hostile.site.site.config, "oidc", {**hostile.site.site.config.oidc, "person_claim": "email"})
    reading_alias = {"aliases": ("user:vera@bank.example",)}
    hostile.enrol("vera", "unrelated", **reading_alias)
    hostile.token = lambda nonce: hostile.fake.token("new-subject", nonce, email="Vera@bank.example", **change)
    client = hostile.site.client()
    assert (hostile.sign_in(client, "x").status_code == 303) is change.get("email_verified", False)


def test_after_signing_in_a_browser_stays_on_this_site(sso: SsoWorld) -> None:
    sso.enrol("vera")
    for target in ("https://evil.example/", "//evil.example", "/\\evil.example", "javascript:alert(1)"):
        assert sso.sign_in(sso.site.client(), "vera-at-idp", target).headers["location"] == "/"


def test_signing_in_makes_a_new_session_and_ends_the_old_one(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client_for("vera", "password")
    before = client.token
    sso.sign_in(client, "vera-at-idp")
    assert client.token != before
    assert not signed_in(Client(sso.site.site, sso.site.app, before))


def test_a_closed_account_stays_closed(sso: SsoWorld) -> None:
    sso.enrol("vera")
    now = int(time.time())
    with sso.site.site.store.begin() as connection:
        disable_account(connection, account_for(connection, "person/vera", now).id, now)
    client = sso.site.client()
    assert sso.sign_in(client, "vera-at-idp").status_code == 403
    assert client.token == ""


@pytest.mark.parametrize("why", ["disabled", "revoked"])
def test_of_a_closed_account_no_groups_are_written_to_the_ledger(sso: SsoWorld, why: str) -> None:
    sso.alias("carl")
    sso.map({"Compliance": ("compliance_officer",)})
    sso.claims["carl-at-idp"] = {"groups": ["Compliance"]}
    now, key = int(time.time()), sso.world.key("carl")
    if why == "disabled":
        with sso.site.site.store.begin() as connection:
            disable_account(connection, account_for(connection, "person/carl", now).id, now)
    else:
        revoke_key(sso.world.workspace, "person/carl", key.key_id, "left", sso.world.key("ada"))
    size = sso.world.workspace.ledger.size()
    client = sso.site.client()
    assert sso.sign_in(client, "carl-at-idp").status_code == 403
    assert client.token == ""
    assert sso.world.workspace.ledger.size() == size


def test_where_it_is_not_set_up_there_is_nothing(site_world: Any) -> None:
    assert site_world.client().get("/oidc/login").status_code == 404
    assert site_world.client().get("/oidc/callback?state=x&code=y").status_code == 404


# --- answers that are none -----------------------------------------------------------------------------------------------


def test_an_answer_is_taken_once(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client()
    back = sso.answer(sso.begin(client), "vera-at-idp")
    assert client.get(back).status_code == 303
    assert client.get(back).status_code == 400


@pytest.mark.parametrize("state", ["", "x", "A" * 43, "A" * 5000, "é" * 43, "../" * 14 + "A"])
def test_a_forged_state_is_refused(sso: SsoWorld, state: str) -> None:
    client = sso.site.client()
    sso.begin(client)
    assert client.get("/oidc/callback", params={"state": state, "code": "x"}).status_code in (400, 414)
    assert client.token == ""


def test_an_answer_to_another_browser_is_refused(sso: SsoWorld) -> None:
    """Else somebody could make a victim's browser use the attacker's account."""
    sso.enrol("vera")
    mine, other, third = sso.site.client(), sso.site.client(), sso.site.client()
    sso.begin(other)
    assert other.get(sso.answer(sso.begin(mine), "vera-at-idp")).status_code == 400
    assert third.get(sso.answer(sso.begin(mine), "vera-at-idp")).status_code == 400


def test_two_sign_ins_of_one_browser_do_not_disturb_each_other(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client()
    first, second = sso.begin(client), sso.begin(client)
    assert client.get(sso.answer(first, "vera-at-idp")).status_code == 303
    assert client.get(sso.answer(second, "vera-at-idp")).status_code == 303


def test_an_answer_that_comes_late_is_refused(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client()
    back = sso.answer(sso.begin(client), "vera-at-idp")
    with sso.site.site.store.begin() as connection:
        connection.execute(flows.update().values(created=int(time.time()) - FLOW_S))
    assert client.get(back).status_code == 400


def test_a_refusal_of_the_issuer_signs_nobody_in(sso: SsoWorld) -> None:
    client = sso.site.client()
    state = parse_qs(urlsplit(sso.begin(client)).query)["state"][0]
    answer = client.get("/oidc/callback", params={"state": state, "error": "access_denied<script>", "code": "x"})
    assert answer.status_code == 403
    assert "access_denied" in answer.text
    assert "<script>" not in answer.text.split("</head>")[1]


def test_a_code_that_the_issuer_does_not_know_signs_nobody_in(sso: SsoWorld) -> None:
    client = sso.site.client()
    state = parse_qs(urlsplit(sso.begin(client)).query)["state"][0]
    answer = client.get("/oidc/callback", params={"state": state, "code": "made-up"})
    assert (answer.status_code, client.token) == (403, "")


def test_a_flood_of_begun_sign_ins_is_bounded(sso: SsoWorld) -> None:
    now = int(time.time())
    row = {
        "browser_hash": "0" * 64,
        "purpose": "login",
        "nonce": "n",
        "verifier": "v",
        "target": "/",
        "session_hash": "",
    }
    with sso.site.site.store.begin() as connection:
        connection.execute(
            flows.insert(), [{**row, "state_hash": f"{i:064d}", "created": now} for i in range(MAX_FLOWS)]
        )
    assert sso.site.client().get("/oidc/login").status_code == 503
    with sso.site.site.store.begin() as connection:
        connection.execute(flows.update().values(created=now - FLOW_S))
    assert sso.site.client().get("/oidc/login").status_code == 303


# --- hostile issuers -----------------------------------------------------------------------------------------------------

OTHER = FakeIssuer("ES256")
NOW = int(time.time())
BAD_TOKENS = {
    "another nonce": lambda fake, nonce: fake.token("vera-at-idp", "other"),
    "another issuer": lambda fake, nonce: fake.token("vera-at-idp", nonce, iss="https://other.example"),
    "another client": lambda fake, nonce: fake.token("vera-at-idp", nonce, aud="other"),
    "expired": lambda fake, nonce: fake.token("vera-at-idp", nonce, iat=NOW - 700, exp=NOW - 400),
    "from the future": lambda fake, nonce: fake.token("vera-at-idp", nonce, iat=NOW + 7000, exp=NOW + 8000),
    "another key": lambda fake, nonce: OTHER.token("vera-at-idp", nonce),
    "unsigned": lambda fake, nonce: fake.token("vera-at-idp", nonce, header={"alg": "none"}),
    "shared secret": lambda fake, nonce: fake.token("vera-at-idp", nonce, header={"alg": "HS256"}),
    "no token": lambda fake, nonce: "x",
    "nobody": lambda fake, nonce: fake.token("vera-at-idp", nonce, sub=""),
}


@pytest.mark.parametrize("name", BAD_TOKENS)
def test_a_token_that_does_not_hold_signs_nobody_in(hostile: Hostile, name: str) -> None:
    hostile.enrol("vera")
    hostile.token = lambda nonce: BAD_TOKENS[name](hostile.fake, nonce)
    client = hostile.site.client()
    answer = hostile.sign_in(client, "vera-at-idp")
    assert (answer.status_code, client.token) == (403, "")
    assert "does not hold" in answer.text


def test_keys_are_fetched_anew_for_a_token_with_a_new_key_and_else_kept(hostile: Hostile) -> None:
    hostile.enrol("vera")
    for _ in range(2):
        assert hostile.sign_in(hostile.site.client(), "vera-at-idp").status_code == 303
    assert [url.rsplit("/", 1)[1] for url in hostile.fetched] == ["openid-configuration", "jwks"]
    hostile.fake = FakeIssuer("EdDSA", kid="k2")
    assert hostile.sign_in(hostile.site.client(), "vera-at-idp").status_code == 303
    assert len(hostile.fetched) == 3


@pytest.mark.parametrize(
    "described",
    [
        {"issuer": "https://other.example"},
        {"issuer": ISSUER + "/"},
        {"token_endpoint": "http://login.bank.example/token"},
        {"jwks_uri": "file:///etc/passwd"},
        {"authorization_endpoint": None},
    ],
)
def test_an_issuer_that_describes_itself_otherwise_is_not_used(hostile: Hostile, described: dict[str, Any]) -> None:
    hostile.described = described
    assert hostile.site.client().get("/oidc/login").status_code == 503


def test_an_answer_in_another_issuers_name_is_refused(hostile: Hostile) -> None:
    hostile.enrol("vera")
    client = hostile.site.client()
    assert (
        client.get(hostile.answer(hostile.begin(client), "vera-at-idp") + "&iss=https://other.example").status_code
        == 400
    )
    assert client.get(hostile.answer(hostile.begin(client), "vera-at-idp") + f"&iss={ISSUER}").status_code == 303


def test_an_issuer_that_names_itself_has_to(hostile: Hostile) -> None:
    hostile.described = {"authorization_response_iss_parameter_supported": True}
    hostile.enrol("vera")
    client = hostile.site.client()
    assert hostile.sign_in(client, "vera-at-idp").status_code == 400


# --- groups --------------------------------------------------------------------------------------------------------------


def roles_on_the_page(client: Client) -> Any:
    """Whether an admin's page opens."""
    return client.submit("/oidc/groups", mapping="x").status_code


def test_with_a_mapping_a_session_has_only_roles_that_groups_stand_for(sso: SsoWorld) -> None:
    sso.enrol("ada")
    client = sso.site.client()
    sso.sign_in(client, "ada-at-idp")
    assert roles_on_the_page(client) == 400, "no mapping: an admin"
    sso.map({"Admins": ("workspace_admin",), "Everybody": ("auditor",)})
    assert roles_on_the_page(client) in (401, 403, 303), "this session's token named no group"
    sso.claims["ada-at-idp"] = {"groups": ["Everybody"]}
    client = sso.site.client()
    sso.sign_in(client, "ada-at-idp")
    assert roles_on_the_page(client) == 403, "a group for a role that she is not enrolled with gives nothing"
    sso.claims["ada-at-idp"] = {"groups": ["Admins"]}
    again = sso.site.client()
    sso.sign_in(again, "ada-at-idp")
    assert roles_on_the_page(again) == 400
    sso.map({"Other": ("workspace_admin",)})
    assert roles_on_the_page(again) in (401, 403, 303), "asked of the ledger at each request"
    found = [item.record.roles for item in sso.world.workspace.read().all(GroupsClaimed, "person/ada")]
    assert found == [("auditor",), ("workspace_admin",)]


def test_a_group_never_gives_a_role_to_who_is_not_enrolled_with_it(sso: SsoWorld) -> None:
    sso.enrol("vera")
    sso.map({"Admins": ("workspace_admin",)})
    sso.claims["vera-at-idp"] = {"groups": ["Admins"]}
    client = sso.site.client()
    sso.sign_in(client, "vera-at-idp")
    assert client.get("/account").status_code == 200
    assert roles_on_the_page(client) == 403


def test_groups_say_nothing_about_other_ways_to_sign_in(sso: SsoWorld) -> None:
    sso.map({})
    assert roles_on_the_page(sso.site.client_for("ada")) == 400


def test_a_session_ends_when_the_identity_is_nobodys_any_more(sso: SsoWorld) -> None:
    key = sso.enrol("vera")
    client = sso.site.client()
    sso.sign_in(client, "vera-at-idp")
    assert signed_in(client)
    revoke_key(sso.world.workspace, "person/vera", key.key_id, "left the company", sso.world.key("ada"))
    assert client.get("/account").status_code == 303


def test_a_session_ends_when_another_issuer_is_configured(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client()
    sso.sign_in(client, "vera-at-idp")
    sso.site.site.state.clear()
    object.__setattr__(sso.site.site.config, "oidc", {"issuer": "https://other.example", "client_id": CLIENT})
    assert client.get("/account").status_code == 303


def test_what_an_issuer_says_is_text_not_markup(hostile: Hostile) -> None:
    hostile.token = lambda nonce: hostile.fake.token('"><script>alert(1)</script>', nonce)
    answer = hostile.sign_in(hostile.site.client(), "x")
    assert answer.status_code == 403
    assert "<script>alert" not in answer.text
    assert "&lt;script&gt;alert" in answer.text


def test_with_tls_the_cookie_of_a_sign_in_is_bound_to_the_host(hostile: Hostile) -> None:
    object.__setattr__(hostile.site.site.config, "url", "https://review.bank.example")
    cookie = hostile.site.client().get("/oidc/login").headers["set-cookie"]
    assert cookie.startswith("__Host-cognify-oidc=")
    assert "secure" in cookie.lower()
    assert "domain" not in cookie.lower()


def test_one_address_cannot_use_up_the_sign_ins_that_may_be_open(sso: SsoWorld) -> None:
    client = sso.site.client()
    answers = [client.get("/oidc/login").status_code for _ in range(101)]
    assert answers == [303] * 100 + [429]


def test_setting_a_password_leaves_the_session_that_the_issuer_vouched_for(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client, other = sso.site.client(), sso.site.client_for("vera")
    sso.sign_in(client, "vera-at-idp")
    words = "seven owls in a barn"
    before = client.token
    assert client.submit("/account/password", password=words, again=words).status_code == 303
    assert signed_in(client)
    assert client.token != before
    assert not signed_in(other)
    assert not signed_in(Client(sso.site.site, sso.site.app, before))
