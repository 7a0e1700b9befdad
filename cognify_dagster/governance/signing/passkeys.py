"""Signatures of passkeys (strength S4): the assertion of WebAuthn Level 3, checked with the enrolled COSE key.

Invariants: the challenge is SHA-256 of the DSSE pre-authentication encoding, so the assertion belongs to exactly one statement;
it counts only from the enrolled site and pages, with user presence and user verification, and never cross-origin. WebAuthn
proves no time and shows no document: the statement and the ledger entry do that.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.governance.signing.cbor import CborError, read_item
from cognify_dagster.ledger import CanonicalJsonError
from cognify_dagster.records import Assertion, Passkey, PublicKey, RecordError, build

_MAX_PART = 8192
_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP, _ATTESTED, _EXTENDED = 0x01, 0x04, 0x08, 0x10, 0x40, 0x80
_MIN_RSA_BITS = 2048


def passkey_public(cose_key: bytes, passkey: Passkey) -> PublicKey:
    """Return the key to enrol for a registered passkey.

    Args:
        cose_key: the credential public key of the registration (RFC 9052), ES256, EdDSA or RS256.
        passkey: the site and credential it belongs to.

    Raises:
        SignatureError: if it is none of these kinds of key.
    """
    _public_key(cose_key)
    return PublicKey(
        key_id=hashlib.sha256(cose_key).hexdigest()[:16],
        algorithm="webauthn",
        public=base64.b64encode(cose_key).decode(),
        strength="S4",
        passkey=passkey,
    )


def check_passkey(key: PublicKey) -> None:
    """Check that an enrolled passkey's bytes are a key that can sign.

    Raises:
        SignatureError: saying what is wrong.
    """
    _public_key(_decode(key.public, "the passkey"))


def challenge_of(message: bytes) -> bytes:
    """Return the 32-byte challenge with which a passkey signs a message (the PAE of an envelope)."""
    return hashlib.sha256(message).digest()


def verify_passkey(key: PublicKey, assertion: Assertion | None, signature: bytes, message: bytes) -> None:
    """Verify that a passkey signed a message.

    Raises:
        SignatureError: saying what does not match.
    """
    if key.passkey is None or assertion is None:
        raise SignatureError("the signature of a passkey comes with its assertion")
    client_data = _decode(assertion.client_data_json, "client_data_json")
    data = _decode(assertion.authenticator_data, "authenticator_data")
    _check_client(client_data, key.passkey, challenge_of(message))
    _check_authenticator(data, key.passkey.rp_id)
    _verify(_decode(key.public, "the passkey"), data + hashlib.sha256(client_data).digest(), signature)


def _decode(text: str, what: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError as error:
        raise SignatureError(f"{what} is not base64") from error
    if len(data) > _MAX_PART:
        raise SignatureError(f"{what} is longer than {_MAX_PART} bytes")
    return data


def _check_client(client_data: bytes, passkey: Passkey, challenge: bytes) -> None:
    """Browsers may add members, so the client data are read as JSON; a member named twice is refused."""
    try:
        client = json.loads(client_data.decode("utf-8"), object_pairs_hook=_once)
    except (ValueError, RecursionError, CanonicalJsonError) as error:
        raise SignatureError("the client data are not JSON") from error
    if not isinstance(client, dict) or client.get("type") != "webauthn.get":
        raise SignatureError("the client data are not those of a signature")
    expected = base64.urlsafe_b64encode(challenge).decode().rstrip("=")
    if not hmac.compare_digest(str(client.get("challenge")).encode(), expected.encode()):
        raise SignatureError("the passkey signed another challenge: not this statement")
    if client.get("origin") not in passkey.origins or client.get("crossOrigin", False) is not False:
        raise SignatureError("the passkey signed on another page than those it was enrolled for")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is named twice")
    return found


def _check_authenticator(data: bytes, rp_id: str) -> None:
    if len(data) < 37 or not hmac.compare_digest(data[:32], hashlib.sha256(rp_id.encode()).digest()):
        raise SignatureError("the passkey belongs to another site, or its data are cut off")
    flags, rest = data[32], data[37:]
    if flags & (_PRESENT | _VERIFIED) != _PRESENT | _VERIFIED:
        raise SignatureError("the passkey did not verify its user")
    if flags & _ATTESTED or flags & (_ELIGIBLE | _BACKED_UP) == _BACKED_UP:
        raise SignatureError("the authenticator data have flags that no signature has")
    if flags & _EXTENDED:
        try:
            extensions, rest = read_item(rest)
        except CborError as error:
            raise SignatureError(f"the authenticator data cannot be read: {error}") from error
        if not isinstance(extensions, dict):
            raise SignatureError("the authenticator data's extensions are not a map")
    if rest:
        raise SignatureError("the authenticator data are not as long as their flags say")


_Key = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def _public_key(cose_key: bytes) -> _Key:
    """Read a COSE key of one of the three kinds (RFC 9053 §7, RFC 8230 §4)."""
    try:
        key, rest = read_item(cose_key)
    except CborError as error:
        raise SignatureError(f"the passkey's public key cannot be read: {error}") from error
    if not isinstance(key, dict) or rest:
        raise SignatureError("the passkey's public key is not one CBOR map")
    numbers = {name: value for name, value in key.items() if type(value) is int}
    blobs = {name: value for name, value in key.items() if isinstance(value, bytes)}
    try:
        if numbers == {1: 1, 3: -8, -1: 6} and set(blobs) == {-2}:
            return Ed25519PublicKey.from_public_bytes(blobs[-2])
        if numbers == {1: 2, 3: -7, -1: 1} and set(blobs) == {-2, -3}:
            point = b"\x04" + blobs[-2] + blobs[-3]
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), point)
        if numbers == {1: 3, 3: -257} and set(blobs) == {-1, -2}:
            modulus, exponent = (int.from_bytes(blobs[name], "big") for name in (-1, -2))
            if modulus.bit_length() < _MIN_RSA_BITS:
                raise SignatureError(f"an RSA key of a passkey has at least {_MIN_RSA_BITS} bits")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"the passkey's public key is not valid: {error}") from error
    raise SignatureError("a passkey's key is of kind ES256, EdDSA or RS256; this is another one")


def _verify(cose_key: bytes, signed: bytes, signature: bytes) -> None:
    key = _public_key(cose_key)
    try:
        if isinstance(key, Ed25519PublicKey):
            key.verify(signature, signed)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(hashes.SHA256()))
        else:
            key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())
    except (InvalidSignature, ValueError) as error:
        raise SignatureError("the passkey's signature does not verify") from error


def assertion_parts(response: dict[str, Any]) -> tuple[Assertion, bytes]:
    """Return the assertion and the signature of a browser's `PublicKeyCredential.toJSON()` answer.

    Raises:
        SignatureError: if a member is missing or malformed.
    """
    try:
        inner = response["response"]
        parts = {name: _from_base64url(inner[name]) for name in ("authenticatorData", "clientDataJSON", "signature")}
        assertion = build(
            Assertion,
            {
                "authenticator_data": base64.b64encode(parts["authenticatorData"]).decode(),
                "client_data_json": base64.b64encode(parts["clientDataJSON"]).decode(),
            },
        )
    except (KeyError, TypeError, ValueError, RecordError) as error:
        raise SignatureError(f"this is no answer of a passkey: {error}") from error
    return assertion, parts["signature"]


def _from_base64url(text: str) -> bytes:
    return base64.b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
