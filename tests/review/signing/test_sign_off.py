"""The sign-off journey: what is shown, what is signed, what is recorded, and what is refused."""

from __future__ import annotations

import base64
import hashlib
import html
import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from cognify_dagster.governance import SignOffPredicate, delegate, read_sign_off, revoke_key
from cognify_dagster.ledger import ProofFile
from cognify_dagster.records import Package, SignOff, SignOffRefused
from cognify_dagster.review.signing.flow import MAX_PREPARED, SECONDS
from cognify_dagster.review.signing.shown import note_shown
from cognify_dagster.review.signing.statements import word_code
from cognify_dagster.review.visit import Visit
from tests.governance.world import MODEL
from tests.review.authenticator import Authenticator
from tests.review.signing.journeys import SIGN, options_of, prepared, signed
from tests.review.site_world import Client, SiteWorld

SUBJECT = f"model/{MODEL}@1"


@pytest.fixture
def vera(site_world: SiteWorld) -> Client:
    site_world.passkey("vera")
    return site_world.client_for("vera")


def entries(site_world: SiteWorld, kind: type[Any]) -> list[Any]:
    """Return the entries of a kind about the version."""
    return site_world.world.workspace.read().all(kind, SUBJECT)


def predicate_of(site_world: SiteWorld) -> SignOffPredicate:
    """Return what the newest sign-off says."""
    return read_sign_off(base64.b64decode(entries(site_world, SignOff)[-1].record.envelope.payload))


def test_an_approval_from_the_form_to_the_receipt(site_world: SiteWorld, vera: Client) -> None:
    page = vera.get(SIGN).text
    assert "you can sign it" in page
    assert "I validated this model version independently" in page
    address = prepared(vera, decision="approve", stage="validation", comments="Read it all.")
    confirm = vera.get(address)
    assert "“I validated this model version independently" in html.unescape(confirm.text)
    answer = signed(vera, site_world.passkey("vera"), address)
    assert answer.status_code == 303, answer.text
    item = entries(site_world, SignOff)[-1]
    assert answer.headers["location"] == f"/models/{MODEL}/1/receipt/{item.seq}"
    assert (item.record.person, item.record.strength, item.record.stage) == ("person/vera", "S4", "validation")
    assert item.record.envelope.signatures[0].webauthn is not None
    assert predicate_of(site_world).comments == "Read it all."
    assert site_world.world.decide().stages[1].done
    receipt = vera.get(answer.headers["location"]).text
    assert f"entry {item.seq}" in receipt
    assert word_code(item.record.statement_digest) in receipt
    assert f"/ledger/entries/{item.seq}/proof" in receipt
    proof = ProofFile.parse(vera.get(f"/ledger/entries/{item.seq}/proof").text)
    assert proof.index == item.seq
    assert word_code(item.record.statement_digest) in confirm.text


def test_the_confirmation_page_shows_the_bytes_whose_challenge_is_signed(site_world: SiteWorld, vera: Client) -> None:
    address = prepared(vera, decision="approve")
    page = vera.get(address).text
    signed(vera, site_world.passkey("vera"), address)
    statement = base64.b64decode(entries(site_world, SignOff)[-1].record.envelope.payload)
    shown = json.loads(html.unescape(page.split('<pre class="raw" tabindex="0"><code>')[1].split("</code>")[0]))
    assert shown == json.loads(statement)
    digest = hashlib.sha256(statement).hexdigest()
    assert digest in page.replace(" ", "")
    options = options_of(page)
    assert options["userVerification"] == "required"
    assert [item["id"] for item in options["allowCredentials"]] == [site_world.passkey("vera").credential_id]


def test_conditions_of_every_kind_are_signed_as_they_were_entered(site_world: SiteWorld, vera: Client) -> None:
    fields = {
        "c0_text": "Watch drift", "c0_kind": "monitoring", "c0_due": "2027-01-31",
        "c1_kind": "use_cap", "c1_limit": "per_day=100",
        "c2_kind": "population", "c2_text": "Only Taiwan",
        "c3_kind": "expiry", "c3_due": "2027-06-30",
        "c4_text": "Say so in the manual",
    }  # fmt: skip
    signed(vera, site_world.passkey("vera"), prepared(vera, decision="approve_with_conditions", **fields))
    found = predicate_of(site_world).conditions
    assert [(item.kind, item.due, item.limit) for item in found] == [
        ("monitoring", "2027-01-31T23:59:59Z", {}),
        ("use_cap", None, {"per_day": 100}),
        ("population", None, {"only": "Only Taiwan"}),
        ("expiry", None, {"until": "2027-06-30T23:59:59Z"}),
        ("text", None, {}),
    ]


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({}, "Choose what you decide"),
        ({"decision": "reject"}, "a reject without a reason helps nobody"),
        ({"decision": "approve_with_conditions"}, "at least one condition"),
        ({"decision": "approve", "c0_text": "but"}, "Conditions belong to"),
        ({"decision": "approve_with_conditions", "c0_text": "x", "c0_kind": "remediation"}, "say when it is due"),
        ({"decision": "approve_with_conditions", "c0_text": "x", "c0_due": "soon"}, "the due date is a date"),
        ({"decision": "approve_with_conditions", "c0_kind": "use_cap", "c0_limit": "a lot"}, "NAME=VALUE"),
        ({"decision": "approve", "targets": "Production!"}, "Name targets"),
        ({"decision": "approve", "links": "javascript:alert(1)"}, "beginning with https"),
        ({"decision": "approve", "expires": "2020-01-01"}, "would have expired already"),
        ({"decision": "withdraw"}, "Choose which of your sign-offs"),
        ({"decision": "acknowledge", "finding": "1"}, "Choose a finding"),
    ],
)
def test_a_form_that_cannot_be_signed_says_why_and_keeps_what_was_entered(
    site_world: SiteWorld, vera: Client, fields: dict[str, str], text: str
) -> None:
    answer = vera.submit(SIGN, **{"comments": ""} | fields)
    assert answer.status_code == 422
    assert text in html.unescape(answer.text)
    for name, value in fields.items():
        assert name == "finding" or html.escape(value, quote=False) in answer.text or value in answer.text
    assert not entries(site_world, SignOff)
    assert not entries(site_world, SignOffRefused)


@pytest.mark.parametrize("decision", ["reject", "block", "acknowledge"])
def test_other_decisions_have_their_own_meaning(site_world: SiteWorld, decision: str) -> None:
    site_world.passkey("carl")
    carl = site_world.client_for("carl")
    address = prepared(carl, decision=decision, comments="the fairness table is missing", stage="compliance")
    signed(carl, site_world.passkey("carl"), address)
    found = predicate_of(site_world)
    assert (found.decision, found.comments) == (decision, "the fairness table is missing")
    assert found.meaning.startswith(
        {"reject": "I reject", "block": "I block", "acknowledge": "I have taken note"}[decision]
    )


def test_ones_own_sign_off_can_be_withdrawn(site_world: SiteWorld, vera: Client) -> None:
    signed(vera, site_world.passkey("vera"), prepared(vera, decision="approve"))
    seq = entries(site_world, SignOff)[-1].seq
    assert f"entry {seq}: Approve" in vera.get(SIGN).text
    signed(vera, site_world.passkey("vera"), prepared(vera, decision="withdraw", entry=str(seq)))
    found = predicate_of(site_world)
    assert found.decision == "withdraw"
    assert found.reference is not None
    assert found.reference.entry_seq == seq
    assert not site_world.world.decide().stages[1].done
    assert "Sign-off to withdraw" not in vera.get(SIGN).text


# --- what was displayed ---------------------------------------------------------------------------------------------------


def test_the_statement_says_displayed_only_of_what_the_site_displayed(
    site_world: SiteWorld, vera: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "You have not opened this package here" in vera.get(SIGN).text
    signed(vera, site_world.passkey("vera"), prepared(vera, decision="acknowledge"))
    assert predicate_of(site_world).viewed is None
    package = entries(site_world, Package)[-1].record.package
    _displayed(site_world, "olga", package.digest)
    assert "You have not opened this package here" in vera.get(SIGN).text
    _displayed(site_world, "vera", package.digest)
    signed(vera, site_world.passkey("vera"), prepared(vera, decision="acknowledge", comments="read"))
    found = predicate_of(site_world).viewed
    assert found is not None
    assert (found.digest, found.media_type) == (package.digest, "application/json")


def _displayed(site_world: SiteWorld, name: str, digest: str) -> None:
    """Note a document as the package page does."""
    from starlette.requests import Request

    client = site_world.client_for(name)
    cookie = f"{next(iter(client.cookies.jar)).name}={client.token}".encode()
    scope = {"type": "http", "method": "GET", "path": "/", "query_string": b"", "headers": [(b"cookie", cookie)]}
    visit = Visit(site_world.site, Request(scope))
    visit.identify()
    note_shown(visit, digest)


# --- who may, said before they try ----------------------------------------------------------------------------------------


def test_who_had_a_hand_in_the_version_reads_that_before_signing(site_world: SiteWorld) -> None:
    site_world.passkey("ben")
    ben = site_world.client_for("ben")
    assert "had a hand in this version" in ben.get(SIGN).text
    answer = ben.submit(SIGN, decision="approve", stage="validation")
    assert answer.status_code == 422
    assert "had a hand in this version" in answer.text
    assert not entries(site_world, SignOffRefused)


def test_another_role_and_the_order_of_stages_are_said_before_signing(site_world: SiteWorld, vera: Client) -> None:
    answer = vera.submit(SIGN, decision="approve", stage="business")
    assert answer.status_code == 422
    text = html.unescape(answer.text)
    assert "is signed by a business_owner" in text
    assert "comes first and is not done" in text


def test_who_has_no_passkey_sees_how_to_get_one_and_the_command(site_world: SiteWorld) -> None:
    page = site_world.client_for("vera").get(SIGN).text
    assert "Register one on your account page" in page
    assert f"cognify sign {MODEL} 1 --key YOUR.key.json --open --stage validation" in page
    assert "What do you decide?" not in page
    answer = site_world.client_for("vera").submit(SIGN, decision="approve")
    assert answer.status_code == 422
    assert "no key with which you could sign here" in answer.text


def test_a_registered_passkey_that_nobody_vouched_for_signs_nothing(site_world: SiteWorld) -> None:
    site_world.passkey("vera", vouched=False)
    assert "You have no key to sign with here" in site_world.client_for("vera").get(SIGN).text


def test_a_passkey_of_another_site_is_not_asked(site_world: SiteWorld) -> None:
    site_world.passkey("vera", origin="https://other.example", rp_id="other.example")
    assert "You have no key to sign with here" in site_world.client_for("vera").get(SIGN).text


def test_a_session_that_was_narrowed_to_fewer_roles_signs_only_with_those(
    site_world: SiteWorld, vera: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.review import visit as module

    real = module.holder_of
    monkeypatch.setattr(module, "holder_of", lambda *given: replace(real(*given), roles=frozenset()))
    answer = vera.submit(SIGN, decision="approve")
    assert answer.status_code == 422
    assert "does not have the role model validator now" in answer.text


# --- what is refused ------------------------------------------------------------------------------------------------------


def test_a_statement_is_answered_once(site_world: SiteWorld, vera: Client) -> None:
    address = prepared(vera, decision="approve")
    options = options_of(vera.get(address).text)
    answer = json.dumps(site_world.passkey("vera").answer(options))
    assert vera.submit(address, assertion=answer).status_code == 303
    again = vera.submit(address, assertion=answer)
    assert again.status_code == 409
    assert "answered already" in again.text
    assert "answered already" in vera.get(address).text
    assert len(entries(site_world, SignOff)) == 1


def test_a_failed_answer_uses_the_statement_up_too(site_world: SiteWorld, vera: Client) -> None:
    address = prepared(vera, decision="approve")
    options = options_of(vera.get(address).text)
    assert vera.submit(address, assertion="{}").status_code == 400
    assert vera.submit(address, assertion=json.dumps(site_world.passkey("vera").answer(options))).status_code == 409
    assert not entries(site_world, SignOff)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"challenge": "AAAA"}, "another challenge"),
        ({"origin": "https://evil.example"}, "another page"),
        ({"type": "webauthn.create"}, "not those of a signature"),
        ({"crossOrigin": True}, "another page"),
    ],
)
def test_altered_answers_are_refused_and_kept(
    site_world: SiteWorld, vera: Client, change: dict[str, Any], reason: str
) -> None:
    answer = signed(vera, site_world.passkey("vera"), prepared(vera, decision="approve"), **change)
    assert answer.status_code == 409
    kept = entries(site_world, SignOffRefused)[-1]
    assert reason in kept.record.reasons[0]
    assert f"entry {kept.seq}" in answer.text
    assert not entries(site_world, SignOff)


def test_without_user_verification_nothing_is_signed(site_world: SiteWorld, vera: Client) -> None:
    passkey = site_world.passkey("vera")
    passkey.verified = False
    answer = signed(vera, passkey, prepared(vera, decision="approve"))
    assert answer.status_code == 409
    assert "did not verify its user" in answer.text


def test_another_passkey_does_not_sign_for_it(site_world: SiteWorld, vera: Client) -> None:
    other = Authenticator()
    answer = signed(vera, other, prepared(vera, decision="approve"))
    assert answer.status_code == 409
    assert "does not verify" in answer.text


def test_a_statement_of_another_person_is_not_there(site_world: SiteWorld, vera: Client) -> None:
    address = prepared(vera, decision="approve")
    options = options_of(vera.get(address).text)
    carl = site_world.client_for("carl")
    assert carl.get(address).status_code == 404
    assertion = json.dumps(site_world.passkey("vera").answer(options))
    assert carl.submit(address, assertion=assertion).status_code == 404
    assert site_world.client().get(address).status_code in (303, 401)
    assert not entries(site_world, SignOff)


def test_a_statement_of_another_session_or_one_that_is_over_is_refused(site_world: SiteWorld, vera: Client) -> None:
    passkey, address = site_world.passkey("vera"), prepared(vera, decision="approve", comments="kept words")
    other = site_world.client_for("vera")
    answer = signed(other, passkey, address)
    assert answer.status_code == 409
    assert "signed in anew" in answer.text
    options = options_of(vera.get(address).text)
    now = site_world.site.now()
    site_world.site.now = lambda: now + timedelta(seconds=SECONDS + 1)  # type: ignore[method-assign]
    late = vera.submit(address, assertion=json.dumps(passkey.answer(options)))
    assert late.status_code == 409
    assert "minutes of this statement are over" in late.text
    over = vera.get(address).text
    assert "data-passkey" not in over
    assert "kept words" in vera.get(f"{SIGN}?again={address.rsplit('/', 1)[1]}").text
    assert not entries(site_world, SignOff)


def test_a_key_that_is_revoked_meanwhile_signs_nothing(site_world: SiteWorld, vera: Client) -> None:
    passkey, address = site_world.passkey("vera"), prepared(vera, decision="approve")
    options = options_of(vera.get(address).text)
    world = site_world.world
    revoke_key(world.workspace, "person/vera", passkey.public.key_id, "lost", world.key("ada"))
    answer = vera.submit(address, assertion=json.dumps(passkey.answer(options)))
    assert answer.status_code == 409
    assert "had no valid key" in answer.text
    assert "data-passkey" not in vera.get(address).text
    assert not entries(site_world, SignOff)


def test_a_package_that_is_replaced_meanwhile_is_not_signed(site_world: SiteWorld, vera: Client) -> None:
    address = prepared(vera, decision="approve")
    site_world.world.package("1", text="rebuilt")
    answer = signed(vera, site_world.passkey("vera"), address)
    assert answer.status_code == 409
    assert "another package than the current one" in answer.text
    assert not entries(site_world, SignOff)


def test_a_form_from_elsewhere_is_refused(site_world: SiteWorld, vera: Client) -> None:
    for data, headers in (
        ({"decision": "approve", "csrf": vera.csrf}, {"Origin": "https://evil.example"}),
        ({"decision": "approve"}, {"Origin": site_world.site.config.url}),
    ):
        assert vera.post(SIGN, data=data, headers=headers).status_code == 403


def test_many_prepared_statements_are_stopped(
    site_world: SiteWorld, vera: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cognify_dagster.review.signing.flow.MAX_PREPARED", 2)
    assert MAX_PREPARED > 2
    prepared(vera, decision="acknowledge")
    prepared(vera, decision="acknowledge")
    assert vera.submit(SIGN, decision="acknowledge").status_code == 429


# --- around ---------------------------------------------------------------------------------------------------------------


def test_the_receipt_hands_out_the_envelope_and_knows_only_this_versions_entries(
    site_world: SiteWorld, vera: Client
) -> None:
    signed(vera, site_world.passkey("vera"), prepared(vera, decision="approve"))
    item = entries(site_world, SignOff)[-1]
    address = f"/models/{MODEL}/1/receipt/{item.seq}"
    envelope = vera.get(f"{address}/envelope.json").json()
    assert envelope == item.record.envelope.model_dump(mode="json")
    for other in (
        f"/models/{MODEL}/1/receipt/0",
        f"/models/{MODEL}/1/receipt/x",
        f"/models/{MODEL}/9/receipt/{item.seq}",
    ):
        assert vera.get(other).status_code == 404


def test_other_acts_about_the_version_are_offered(site_world: SiteWorld, vera: Client) -> None:
    assert f"/models/{MODEL}/1/sections" in vera.get(SIGN).text
    given = {"c0_text": "Say so", "decision": "approve_with_conditions"}
    signed(vera, site_world.passkey("vera"), prepared(vera, **given))
    seq = entries(site_world, SignOff)[-1].seq
    page = html.unescape(vera.get(SIGN).text)
    address = f"/acts/new/condition?model={MODEL}&version=1&entry={seq}&condition=0"
    assert address in page
    assert vera.get(address).status_code == 200


def test_unknown_versions_and_versions_without_package(site_world: SiteWorld, vera: Client) -> None:
    assert vera.get(f"/models/{MODEL}/99/sign").status_code == 404
    site_world.world.train("2")
    page = vera.get(f"/models/{MODEL}/2/sign")
    assert page.status_code == 200
    assert "no package yet" in page.text


def test_a_word_code_is_a_proquint() -> None:
    assert word_code("7f000001" + "3f54dcc1" + "0" * 48) == "lusab-babad-gutih-tugad"


def test_a_delegate_is_told_and_signs_on_behalf_of_the_delegator(site_world: SiteWorld) -> None:
    world = site_world.world
    world.enrol("dana", "auditor")
    until = datetime.now(timezone.utc) + timedelta(days=5)
    delegate(world.workspace, "person/dana", "model_validator", world.key("vera"), expires=until, reason="holiday")
    key, dana = site_world.passkey("dana"), site_world.client_for("dana")
    assert "on behalf of Vera, who delegated the role to you" in dana.get(SIGN).text
    address = prepared(dana, decision="approve", stage="validation")
    assert "<dt>On behalf of</dt><dd>Vera (person/vera)" in dana.get(address).text
    assert signed(dana, key, address).status_code == 303
    for path in (SIGN, f"/models/{MODEL}/1"):
        assert "Dana, on behalf of Vera" in site_world.client_for("carl").get(path).text
