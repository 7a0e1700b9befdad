"""Signing off by signing in again (S2), over HTTP: from the form to the receipt, and what does not sign."""

from __future__ import annotations

import html
import json
import re
import time
from datetime import datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from cognify_dagster.governance import delegate
from cognify_dagster.governance.signing.sso import nonce_of
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE
from cognify_dagster.ledger import pae
from cognify_dagster.records import GroupsMapped, IssuerKeysArchived, PersonEnrolled, SignOff, SignOffRefused
from cognify_dagster.review.store.pending import find_statement
from tests.governance.world import MODEL
from tests.review.oidc.conftest import Hostile, SsoWorld
from tests.review.signing.journeys import options_of
from tests.review.site_world import Client, SiteWorld

SIGN = f"/models/{MODEL}/1/sign"


def prepare(client: Client, **fields: str) -> str:
    """Fill the sign-off form; return the confirmation page's address."""
    answer = client.submit(SIGN, **({"decision": "approve", "comments": "read it"} | fields))
    assert answer.status_code == 303, re.sub(r"\s+", " ", answer.text)[:3000]
    return str(answer.headers["location"])


def leave(client: Client, confirm: str) -> str:
    """Click "Sign"; return the issuer's address that the page links to."""
    page = client.submit(confirm)
    assert page.status_code == 200, page.text
    return html.unescape(re.findall(r'href="(http[^"]+)"', page.text)[0])


def sign_offs(world: SsoWorld) -> list[SignOff]:
    return [item.record for item in world.world.workspace.read().all(SignOff)]


def test_a_person_signs_by_signing_in_again(sso: SsoWorld) -> None:
    key = sso.enrol("vera")
    client = sso.site.client()
    sso.sign_in(client, "vera-at-idp")
    confirm = prepare(client)
    assert key.key_id in client.get(confirm).text
    url = leave(client, confirm)
    answer = client.get(sso.answer(url, "vera-at-idp"))
    assert answer.status_code == 303, answer.text
    assert f"/models/{MODEL}/1/receipt/" in answer.headers["location"]
    assert client.get(answer.headers["location"]).status_code == 200
    (record,) = sign_offs(sso)
    assert (record.strength, record.person, record.key_id) == ("S2", "person/vera", key.key_id)
    assert len(sso.world.workspace.read().all(IssuerKeysArchived)) == 1


def test_the_issuer_is_asked_to_sign_the_person_in_again_for_this_statement(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client_for("vera")
    confirm = prepare(client)
    asked = {key: value[0] for key, value in parse_qs(urlsplit(leave(client, confirm)).query).items()}
    with sso.site.site.store.begin() as connection:
        pending = find_statement(connection, confirm.rsplit("/", 1)[1])
    assert pending is not None
    assert asked["nonce"] == nonce_of(pae(PAYLOAD_TYPE, pending.statement))
    assert (asked["prompt"], asked["max_age"], asked["scope"]) == ("login", "0", "openid")


def test_somebody_elses_sign_in_signs_nothing_and_is_kept_as_an_attempt(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client_for("vera")
    answer = client.get(sso.answer(leave(client, prepare(client)), "carl-at-idp"))
    assert answer.status_code == 409
    assert "another person" in answer.text
    assert sign_offs(sso) == []
    assert sso.world.workspace.read().all(SignOffRefused)[-1].record.person == "person/vera"


def test_the_answer_signs_once(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client_for("vera")
    confirm = prepare(client)
    first, second = (sso.answer(leave(client, confirm), "vera-at-idp") for _ in range(2))
    assert client.get(first).status_code == 303
    assert client.get(first).status_code == 400
    assert client.get(second).status_code == 409, "another sign-in for the statement that was used up"
    assert len(sign_offs(sso)) == 1


def test_a_signature_ends_in_the_session_in_which_it_began(sso: SsoWorld) -> None:
    sso.enrol("vera")
    client = sso.site.client_for("vera")
    back = sso.answer(leave(client, prepare(client)), "vera-at-idp")
    other = sso.site.client_for("vera")
    other.cookies.update({name: value for name, value in client.cookies.items() if "oidc" in name})
    assert other.get(back).status_code == 403
    assert sign_offs(sso) == []


def test_a_sign_in_is_not_taken_for_a_signature(sso: SsoWorld) -> None:
    """The nonce of a sign-in is none of a statement, so its answer only signs in."""
    sso.enrol("vera")
    client = sso.site.client_for("vera")
    leave(client, prepare(client))
    sso.sign_in(client, "vera-at-idp")
    assert sign_offs(sso) == []


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"auth_time": None}, "must say when"),
        ({"auth_time": int(time.time()) - 3600}, "signed in before"),
    ],
    ids=["unsaid", "old"],
)
def test_an_issuer_that_did_not_ask_again_signs_nothing(hostile: Hostile, change: dict[str, Any], text: str) -> None:
    hostile.enrol("vera")
    client = hostile.site.client_for("vera")
    hostile.token = lambda nonce: hostile.fake.token("vera-at-idp", nonce, **change)
    answer = client.get(hostile.answer(leave(client, prepare(client)), "vera-at-idp"))
    assert answer.status_code == 409
    assert text in answer.text
    assert sign_offs(hostile) == []


def test_with_a_mapping_the_groups_of_that_sign_in_decide(sso: SsoWorld) -> None:
    sso.enrol("vera")
    sso.map({"Validation": ("model_validator",)})
    client = sso.site.client_for("vera")
    answer = client.get(sso.answer(leave(client, prepare(client)), "vera-at-idp"))
    assert "do not stand for the role" in answer.text
    sso.claims["vera-at-idp"] = {"groups": ["Validation"]}
    answer = client.get(sso.answer(leave(client, prepare(client)), "vera-at-idp"))
    assert answer.status_code == 303, answer.text
    assert len(sign_offs(sso)) == 1


def test_in_a_session_by_single_sign_on_a_delegation_adds_no_role_that_no_group_stands_for(sso: SsoWorld) -> None:
    sso.alias("olga")
    passkey = sso.site.passkey("olga")
    until = datetime.now(timezone.utc) + timedelta(days=5)
    by = sso.world.key("vera")
    delegate(sso.world.workspace, "person/olga", "model_validator", by, expires=until, reason="holiday")
    sso.map({"Owners": ("business_owner",), "Validation": ("model_validator",)})
    choice = {"decision": "approve", "stage": "validation", "key": passkey.public.key_id}
    for groups, status in ((["Owners"], 400), (["Owners", "Validation"], 303)):
        sso.claims["olga-at-idp"] = {"groups": groups}
        client = sso.site.client()
        sso.sign_in(client, "olga-at-idp")
        answer = client.submit(SIGN, **choice)
        assert answer.status_code in (status, 422 if status == 400 else status), answer.text
        assert ("does not have the role model validator" in answer.text) is (status == 400)
    assert sso.site.client_for("olga").submit(SIGN, **choice).status_code == 303, "with a passkey groups do not count"


def test_what_was_prepared_is_not_signed_once_no_group_stands_for_its_role(sso: SsoWorld) -> None:
    passkey = sso.site.passkey("vera")
    sso.map({"Validation": ("model_validator",)})
    sso.claims["vera-at-idp"] = {"groups": ["Validation"]}
    client = sso.site.client()
    sso.sign_in(client, "vera-at-idp")
    confirm = prepare(client, key=passkey.public.key_id)
    answer = json.dumps(passkey.answer(options_of(client.get(confirm).text)))
    sso.map({"Validation": ("auditor",)})
    refused = client.submit(confirm, assertion=answer)
    assert refused.status_code == 400
    assert "does not have the role model validator" in refused.text
    assert sign_offs(sso) == []
    sso.map({"Validation": ("model_validator",)})
    assert client.submit(confirm, assertion=answer).status_code == 303, "it was not used up"


def test_an_identity_is_not_offered_where_the_policy_wants_more(site_world: SiteWorld, provider: str) -> None:
    object.__setattr__(site_world.site.config, "oidc", {"issuer": provider, "client_id": "cognify-review"})
    SsoWorld(site_world, provider).enrol("vera")
    client = site_world.client_for("vera")
    answer = client.submit(SIGN, decision="approve")
    assert answer.status_code == 422
    assert "strength S3" in answer.text


# --- admins --------------------------------------------------------------------------------------------------------------


def test_an_admin_prepares_a_mapping_which_two_sign(sso: SsoWorld) -> None:
    ada = sso.site.client_for("ada")
    mapping = "claim: roles\ngroups:\n  Validation: [model_validator]\n"
    answer = ada.submit("/oidc/groups", mapping=mapping, reason="as agreed", second="person/finn")
    assert answer.status_code == 303, answer.text
    assert answer.headers["location"].startswith("/acts/")
    assert "Validation" in ada.get(answer.headers["location"]).text
    assert sso.world.workspace.read().all(GroupsMapped) == [], "nothing counts before both signed"


def test_an_admin_prepares_the_enrolment_of_an_identity(sso: SsoWorld) -> None:
    ada = sso.site.client_for("ada")
    before = len(sso.world.workspace.read().all(PersonEnrolled))
    line = f"oidc:{sso.issuer}|00u1"
    answer = ada.submit("/oidc/identities", person="person/vera", subject=line, second="person/finn")
    assert answer.status_code == 303, answer.text
    assert "00u1" in ada.get(answer.headers["location"]).text
    assert len(sso.world.workspace.read().all(PersonEnrolled)) == before


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"mapping": "groups: {X: [emperor]}", "second": "person/finn"}, "not in the policy"),
        ({"mapping": "groups: [", "second": "person/finn"}, "the mapping"),
        ({"mapping": "groups: {X: [auditor]}", "second": ""}, "second person"),
        ({"mapping": "groups: {X: [auditor]}", "second": "person/ada"}, "second person"),
        ({"mapping": "groups: {X: [auditor]}", "second": "person/vera"}, "workspace_admin"),
        ({"mapping": "issuer: https://other.example\ngroups: {X: [auditor]}", "second": "person/finn"}, "issuer"),
    ],
)
def test_what_is_wrong_with_a_mapping_is_said_and_what_was_typed_stays(
    sso: SsoWorld, fields: dict[str, str], text: str
) -> None:
    answer = sso.site.client_for("ada").submit("/oidc/groups", reason="x", **fields)
    assert answer.status_code == 400
    assert text in answer.text


def test_the_page_shows_what_is_in_force(sso: SsoWorld) -> None:
    sso.enrol("vera")
    assert "No group mapping" in sso.site.client_for("vera").get("/oidc").text
    seq = sso.map({"<b>Risk</b>": ("model_validator",)})
    text = sso.site.client_for("vera").get("/oidc").text
    assert f"entry {seq}" in text
    assert "&lt;b&gt;Risk&lt;/b&gt;" in text
    assert "vera-at-idp" in text
    assert "Change the mapping" not in text
    assert "Change the mapping" in sso.site.client_for("ada").get("/oidc").text


def test_people_pages_say_what_kind_of_key_it_is(sso: SsoWorld) -> None:
    client = sso.site.client_for("carl")
    assert "single sign-on (S2)" in client.get("/people").text
    assert "vera-at-idp" in client.get("/people/person%2Fvera").text
