"""Passkey assertions: what holds, and that each check of WebAuthn is one that can fail."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import pae
from cognify_dagster.ledger.offline_verifier import UNPROVEN, Bad, verify_assertion

RP, ORIGIN = "review.bank.example", "https://review.bank.example"
CHALLENGE = hashlib.sha256(pae("application/vnd.in-toto+json", b"{}")).digest()
UP, UV, BE, BS, AT, ED = 1, 4, 8, 16, 64, 128
KEYS: dict[str, Any] = {
    "ES256": ec.derive_private_key(77, ec.SECP256R1()),
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "EdDSA": Ed25519PrivateKey.from_private_bytes(bytes(range(32))),
}


def encode(value: Any) -> bytes:
    """Deterministic CBOR, written for these tests alone."""

    def head(major: int, number: int) -> bytes:
        if number < 24:
            return bytes([major << 5 | number])
        for info, size in ((24, 1), (25, 2), (26, 4), (27, 8)):
            if number < 1 << 8 * size:
                return bytes([major << 5 | info]) + number.to_bytes(size, "big")
        raise AssertionError

    if isinstance(value, bool):
        return b"\xf5" if value else b"\xf4"
    if isinstance(value, int):
        return head(0, value) if value >= 0 else head(1, -1 - value)
    if isinstance(value, bytes):
        return head(2, len(value)) + value
    if isinstance(value, str):
        return head(3, len(value)) + value.encode()
    items = sorted((encode(k), encode(v)) for k, v in value.items())
    return head(5, len(items)) + b"".join(k + v for k, v in items)


def cose(algorithm: str, **changed: Any) -> bytes:
    key = KEYS[algorithm].public_key()
    if algorithm == "ES256":
        numbers = key.public_numbers()
        members = {1: 2, 3: -7, -1: 1, -2: numbers.x.to_bytes(32, "big"), -3: numbers.y.to_bytes(32, "big")}
    elif algorithm == "RS256":
        members = {1: 3, 3: -257, -1: key.public_numbers().n.to_bytes(256, "big"), -2: b"\1\0\1"}
    else:
        members = {1: 1, 3: -8, -1: 6, -2: key.public_bytes_raw()}
    members |= {int(name.replace("m", "-").replace("p", "")): value for name, value in changed.items()}
    return encode({name: value for name, value in members.items() if value is not None})


def sign(algorithm: str, message: bytes) -> bytes:
    key = KEYS[algorithm]
    if algorithm == "ES256":
        return bytes(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return bytes(key.sign(message, padding.PKCS1v15(), hashes.SHA256()) if algorithm == "RS256" else key.sign(message))


def client_data(**changed: Any) -> bytes:
    challenge = base64.urlsafe_b64encode(CHALLENGE).decode().rstrip("=")
    members = {"type": "webauthn.get", "challenge": challenge, "origin": ORIGIN, "crossOrigin": False, **changed}
    return json.dumps({name: value for name, value in members.items() if value is not None}).encode()


def data(flags: int = UP | UV, rp: str = RP, tail: bytes = b"") -> bytes:
    return hashlib.sha256(rp.encode()).digest() + bytes([flags]) + (7).to_bytes(4, "big") + tail


def verify(
    algorithm: str = "ES256", authenticator: bytes | None = None, client: bytes | None = None, **changed: Any
) -> None:
    authenticator = data() if authenticator is None else authenticator
    client = client_data() if client is None else client
    signature = sign(algorithm, authenticator + hashlib.sha256(client).digest())
    arguments: dict[str, Any] = {
        "cose_key": cose(algorithm), "data": authenticator, "client_json": client,
        "signature": signature, "challenge": CHALLENGE, "rp_id": RP, "origin": ORIGIN, **changed,
    }  # fmt: skip
    verify_assertion(**arguments)


@pytest.mark.parametrize("algorithm", KEYS)
def test_an_assertion_with_user_verification_holds(algorithm: str) -> None:
    verify(algorithm)
    verify(algorithm, data(UP | UV | BE | BS))
    verify(algorithm, client=client_data(other_keys_can_be_added_here="do not compare", crossOrigin=None))


@pytest.mark.parametrize("algorithm", KEYS)
def test_every_part_is_signed(algorithm: str) -> None:
    client, authenticator = client_data(), data()
    signature = sign(algorithm, authenticator + hashlib.sha256(client).digest())
    for changed in (
        {"client_json": client_data(extra=1)},
        {"data": data()[:-1] + b"\x08"},
        {"data": data(UP | UV | BE)},
        {"signature": signature[:-1] + bytes([signature[-1] ^ 1])},
        {"signature": b""},
        {"signature": signature + b"\0"},
    ):
        with pytest.raises(Bad, match="does not verify"):
            verify(algorithm, **{"signature": signature, **changed})
    for other in set(KEYS) - {algorithm}:
        with pytest.raises(Bad, match="does not verify"):
            verify(algorithm, cose_key=cose(other))


@pytest.mark.parametrize(
    ("flags", "reason"),
    [
        (0, "verify its user"), (UP, "verify its user"), (UV, "verify its user"), (UP | UV | AT, "flags that no assertion"),
        (UP | UV | BS, "flags that no assertion"),
    ],
)  # fmt: skip
def test_flags(flags: int, reason: str) -> None:
    with pytest.raises(Bad, match=reason):
        verify(authenticator=data(flags))


@pytest.mark.parametrize(
    ("authenticator", "reason"),
    [
        (b"", "cut off"), (data()[:36], "cut off"), (data() + b"\0", "or more data"), (data(rp="evil.example"), "another site"),
    ],
)  # fmt: skip
def test_authenticator_data_of_another_form(authenticator: bytes, reason: str) -> None:
    with pytest.raises(Bad, match=reason):
        verify(authenticator=authenticator)


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (client_data(type="webauthn.create"), "not an assertion's"), (client_data(type=None), "not an assertion's"),
        (client_data(challenge="AAAA"), "another challenge"), (client_data(challenge=None), "another challenge"),
        (client_data(challenge=base64.urlsafe_b64encode(CHALLENGE).decode()), "another challenge"),
        (client_data(origin="https://evil.example"), "elsewhere"), (client_data(origin=[ORIGIN]), "elsewhere"),
        (client_data(crossOrigin=True), "elsewhere"), (client_data(crossOrigin="false"), "elsewhere"),
        (client_data(crossOrigin=0), "elsewhere"),
        (b"[]", "not an assertion's"), (b"{", "not canonical JSON"), (b"\xff", "not canonical JSON"),
    ],
)  # fmt: skip
def test_client_data_of_another_act(client: bytes, reason: str) -> None:
    with pytest.raises(Bad, match=reason):
        verify(client=client)


@pytest.mark.parametrize("tail", [b"", encode({}), encode({"credProtect": 2}), encode(1)])
def test_extension_data_are_not_read_and_so_prove_nothing(tail: bytes) -> None:
    with pytest.raises(Bad, match="extension data") as caught:
        verify(authenticator=data(UP | UV | ED, tail=tail))
    assert caught.value.outcome == UNPROVEN


def test_the_challenge_binds_the_statement() -> None:
    with pytest.raises(Bad, match="another challenge"):
        verify(challenge=hashlib.sha256(pae("application/vnd.in-toto+json", b"[]")).digest())


@pytest.mark.parametrize(
    "key",
    [
        cose("ES256", p3=-257), cose("ES256", m1=2), cose("ES256", m2=bytes(31)), cose("ES256", m3=True), cose("ES256", m4=b""),
        cose("ES256", p1=1), cose("RS256", p3=-37), cose("RS256", m3=b""), cose("EdDSA", m1=7), cose("EdDSA", p3=None),
        encode({}),
    ],
)  # fmt: skip
def test_a_key_of_an_unknown_kind_is_unproven(key: bytes) -> None:
    with pytest.raises(Bad) as caught:
        verify(cose_key=key)
    assert caught.value.outcome == UNPROVEN


@pytest.mark.parametrize("key", [b"", encode(1), cose("ES256") + b"\0", cose("ES256")[:-1], b"\xa1\x01"])
def test_a_key_that_is_no_cose_map_is_refused(key: bytes) -> None:
    with pytest.raises(Bad):
        verify(cose_key=key)
