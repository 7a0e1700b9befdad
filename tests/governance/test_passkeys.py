"""Passkeys: assertions of a real browser verify; whatever is changed in them does not.

The fixtures in passkeys.json come from Chromium (see their `about`); the server library `webauthn` is the second opinion.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import webauthn
from webauthn.helpers import base64url_to_bytes

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.signing.passkeys import assertion_parts, challenge_of, passkey_public, verify_passkey
from cognify_dagster.governance.signing.statements import PAYLOAD_TYPE
from cognify_dagster.ledger import pae
from cognify_dagster.ledger.offline_verifier import Bad, verify_assertion
from cognify_dagster.records import Assertion, Passkey, PublicKey

CASES = json.loads((Path(__file__).parent / "passkeys.json").read_text())["cases"]


@dataclass(frozen=True)
class Signed:
    """A fixture, read."""

    case: dict[str, Any]
    cose: bytes
    key: PublicKey
    assertion: Assertion
    signature: bytes
    message: bytes


@pytest.fixture(params=CASES, ids=[case["algorithm"] for case in CASES])
def signed(request: pytest.FixtureRequest) -> Signed:
    case = request.param
    registered = webauthn.verify_registration_response(
        credential=case["registration"],
        expected_challenge=base64url_to_bytes(case["registration_challenge"]),
        expected_rp_id=case["rp_id"],
        expected_origin=case["origin"],
        require_user_verification=True,
    )
    passkey = Passkey(credential_id=case["registration"]["id"], rp_id=case["rp_id"], origins=(case["origin"],))
    assertion, signature = assertion_parts(case["assertion"])
    message = pae(PAYLOAD_TYPE, base64.b64decode(case["statement"]))
    cose = registered.credential_public_key
    return Signed(case, cose, passkey_public(cose, passkey), assertion, signature, message)


def _verify(signed: Signed, **changed: Any) -> None:
    found = {"key": signed.key, "assertion": signed.assertion, "signature": signed.signature, "message": signed.message}
    verify_passkey(**{**found, **changed})


def test_a_browsers_assertion_verifies_here_in_the_server_library_and_offline(signed: Signed) -> None:
    _verify(signed)
    webauthn.verify_authentication_response(
        credential=signed.case["assertion"],
        expected_challenge=challenge_of(signed.message),
        expected_rp_id=signed.case["rp_id"],
        expected_origin=signed.case["origin"],
        credential_public_key=signed.cose,
        credential_current_sign_count=0,
        require_user_verification=True,
    )
    data, client = _bytes(signed.assertion)
    origin = signed.case["origin"]
    verify_assertion(signed.cose, data, client, signed.signature, challenge_of(signed.message), "localhost", origin)


def test_another_statement_does_not_verify(signed: Signed) -> None:
    with pytest.raises(SignatureError, match="another challenge"):
        _verify(signed, message=signed.message + b" ")


def test_another_site_or_page_does_not_verify(signed: Signed) -> None:
    assert signed.key.passkey is not None
    for change, text in (({"rp_id": "other.example"}, "another site"), ({"origins": ("http://localhost:1",)}, "page")):
        key = signed.key.model_copy(update={"passkey": signed.key.passkey.model_copy(update=change)})
        with pytest.raises(SignatureError, match=text):
            _verify(signed, key=key)


def test_every_changed_byte_of_the_authenticator_data_is_refused_here_and_offline(signed: Signed) -> None:
    data, client = _bytes(signed.assertion)
    for index in range(len(data)):
        changed = data[:index] + bytes([data[index] ^ 1]) + data[index + 1 :]
        with pytest.raises(SignatureError):
            _verify(signed, assertion=_assertion(changed, client))
        if index in (0, 32, 36):
            with pytest.raises(Bad):
                verify_assertion(
                    signed.cose,
                    changed,
                    client,
                    signed.signature,
                    challenge_of(signed.message),
                    "localhost",
                    signed.case["origin"],
                )


def test_without_user_verification_it_does_not_count(signed: Signed) -> None:
    data, client = _bytes(signed.assertion)
    unverified = data[:32] + bytes([data[32] & ~0x04]) + data[33:]
    with pytest.raises(SignatureError, match="did not verify its user"):
        _verify(signed, assertion=_assertion(unverified, client))


@pytest.mark.parametrize(
    "change",
    [{"type": "webauthn.create"}, {"crossOrigin": True}, {"challenge": "AAAA"}, {"origin": "https://evil.example"}],
    ids=lambda change: next(iter(change)),
)
def test_changed_client_data_are_refused(signed: Signed, change: dict[str, Any]) -> None:
    data, client = _bytes(signed.assertion)
    with pytest.raises(SignatureError):
        _verify(signed, assertion=_assertion(data, json.dumps({**json.loads(client), **change}).encode()))


def test_a_member_named_twice_is_refused(signed: Signed) -> None:
    data, client = _bytes(signed.assertion)
    twice = b'{"challenge":"AAAA",' + client[1:]
    with pytest.raises(SignatureError, match="not JSON"):
        _verify(signed, assertion=_assertion(data, twice))


def test_a_signature_without_assertion_or_a_plain_key_is_refused(signed: Signed) -> None:
    with pytest.raises(SignatureError, match="comes with its assertion"):
        _verify(signed, assertion=None)


def test_a_key_of_another_kind_cannot_be_enrolled(signed: Signed) -> None:
    assert signed.key.passkey is not None
    for broken in (b"", b"\xa0", signed.cose[:-1], signed.cose + b"\x00"):
        with pytest.raises(SignatureError):
            passkey_public(broken, signed.key.passkey)


def test_a_plain_key_cannot_claim_the_strength_of_a_passkey() -> None:
    with pytest.raises(ValueError, match="passkey"):
        PublicKey(key_id="0" * 16, public="AAAA", strength="S4")


def _bytes(assertion: Assertion) -> tuple[bytes, bytes]:
    return base64.b64decode(assertion.authenticator_data), base64.b64decode(assertion.client_data_json)


def _assertion(data: bytes, client: bytes) -> Assertion:
    return Assertion(
        authenticator_data=base64.b64encode(data).decode(), client_data_json=base64.b64encode(client).decode()
    )
