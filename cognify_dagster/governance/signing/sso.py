"""Signatures by single sign-on (strength S2): an ID token of OpenID Connect Core 1.0 that was issued for one statement.

The person signs in again at their company's issuer, and the nonce of that sign-in is SHA-256 of the DSSE pre-authentication encoding,
so the token belongs to exactly one statement. Invariants: the enrolled identity says which issuer, subject and client count, never the
token; only asymmetric signatures of a fixed list verify, with a key of a set that this ledger archived before, never with one that
a token brings or points to; a token without a fresh `auth_time`, with an unknown critical header or a member named twice is refused.

What it rests on: the issuer, and the word of the site's workload for what the issuer's keys were. That is why it is the weakest of
the strengths, and why it signs sign-offs alone, never an act about people, keys or policy.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from cognify_dagster.governance.errors import SignatureError
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    EnvelopeSignature,
    IssuerKey,
    OidcIdentity,
    OidcProof,
    PublicKey,
    RecordError,
    build,
)

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA", "Ed25519")
MAX_TOKEN = 16_384
MAX_KEYS = 50
AGAIN_S = 120
"""How long before the token, and before the statement, a person may have signed in (clocks differ by so much at most)."""
STATEMENT_S = 600
"""How long after the statement was made the person may sign in for it, and how old a token may be when it is recorded."""
_MIN_RSA_BITS, _MAX_RSA_BITS = 2048, 8192
_PART = re.compile(r"[A-Za-z0-9_-]+")
_SIZES = {"RSA": {"n", "e"}, "EC": {"crv", "x", "y"}, "OKP": {"crv", "x"}}
IssuerKeys = Callable[[str, str], "Sequence[IssuerKey] | None"]
"""(issuer, digest of a key set) -> the keys that this ledger archived under it, None if it did not."""


@dataclass(frozen=True)
class IdToken:
    """A token taken apart; nothing of it is verified."""

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    signed: bytes
    signature: bytes


# --- the enrolled identity -----------------------------------------------------------------------------------------------


def sso_public(issuer: str, subject: str, client_id: str) -> PublicKey:
    """Return the "key" to enrol for a person who signs by single sign-on: who they are at which issuer, for which client.

    Raises:
        SignatureError: if one of them is malformed.
    """
    try:
        identity = build(OidcIdentity, {"issuer": issuer, "subject": subject, "client_id": client_id})
    except RecordError as error:
        raise SignatureError(f"this is no identity at an issuer: {error}") from error
    public = canonical_json(identity.model_dump(mode="json"))
    return PublicKey(
        key_id=hashlib.sha256(public).hexdigest()[:16],
        algorithm="oidc",
        public=base64.b64encode(public).decode(),
        strength="S2",
        oidc=identity,
    )


def identity_problem(key: PublicKey) -> str | None:
    """Say why an enrolled identity is not what its bytes say, or None."""
    if key.oidc is None:
        return f"key {key.key_id}: an identity for single sign-on names issuer, subject and client"
    same = sso_public(key.oidc.issuer, key.oidc.subject, key.oidc.client_id) == key
    return None if same else f"key {key.key_id}: its bytes are not those of the identity that it names"


# --- an issuer's keys ----------------------------------------------------------------------------------------------------


def read_key_set(value: object) -> tuple[IssuerKey, ...]:
    """Return the keys of a JSON Web Key Set (RFC 7517) that can verify ID tokens, sorted; other keys are left out.

    Raises:
        SignatureError: if it is no key set, or no key of it can be used.
    """
    listed = value.get("keys") if isinstance(value, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise SignatureError(f"this is no key set of an issuer (at most {MAX_KEYS} keys)")
    found = []
    for item in listed:
        if not isinstance(item, dict) or str(item.get("kty")) not in _SIZES or item.get("use", "sig") != "sig":
            continue
        if item.get("alg", ALGORITHMS[0]) not in ALGORITHMS:
            continue
        wanted = {"kty", "kid", "alg", *_SIZES[item["kty"]]}
        try:
            key = build(IssuerKey, {name: item[name] for name in wanted if name in item})
            _public_key(key)
        except (RecordError, SignatureError):
            continue
        found.append(key)
    if not found:
        raise SignatureError("the issuer's key set has no key of kind RS256, PS256, ES256 or EdDSA")
    return tuple(sorted(set(found), key=lambda key: canonical_json(key.model_dump(mode="json"))))


def key_set_digest(keys: Sequence[IssuerKey]) -> str:
    """Return `sha256:` and the digest of a key set's canonical JSON."""
    return "sha256:" + hashlib.sha256(canonical_json([key.model_dump(mode="json") for key in keys])).hexdigest()


_Key = Ed25519PublicKey | ec.EllipticCurvePublicKey | rsa.RSAPublicKey


def _public_key(key: IssuerKey) -> _Key:
    try:
        if key.kty == "RSA":
            exponent, modulus = (int.from_bytes(_decode(text), "big") for text in (key.e, key.n))
            if not _MIN_RSA_BITS <= modulus.bit_length() <= _MAX_RSA_BITS:
                raise SignatureError(f"an issuer's RSA key has {_MIN_RSA_BITS} to {_MAX_RSA_BITS} bits")
            if not (modulus & exponent & 1 and 3 <= exponent < 2**32):
                raise SignatureError("an issuer's RSA key has an odd modulus and an odd exponent of 3 to 2^32")
            return rsa.RSAPublicNumbers(exponent, modulus).public_key()
        if (key.kty, key.crv) == ("EC", "P-256"):
            x, y = _decode(key.x), _decode(key.y)
            return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + x + y)
        if (key.kty, key.crv) == ("OKP", "Ed25519"):
            return Ed25519PublicKey.from_public_bytes(_decode(key.x))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise SignatureError(f"the issuer's key {key.kid[:40]!r} is not valid") from error
    raise SignatureError("an issuer's key is of kind RSA, P-256 or Ed25519; this is another one")


# --- tokens --------------------------------------------------------------------------------------------------------------


def read_token(text: str) -> IdToken:
    """Take a token in compact form (RFC 7515) apart, strictly. Nothing of it is verified.

    Raises:
        SignatureError: if it is none.
    """
    parts = text.split(".") if len(text) <= MAX_TOKEN else []
    if len(parts) != 3:
        raise SignatureError("the ID token is not a signed one in compact form")
    header, claims = (_members(part) for part in parts[:2])
    return IdToken(header, claims, f"{parts[0]}.{parts[1]}".encode(), _decode(parts[2]))


def verify_token(text: str, keys: Sequence[IssuerKey], *, issuer: str, client_id: str, nonce: str) -> Mapping[str, Any]:
    """Verify an ID token (OpenID Connect Core 1.0 §3.1.3.7) but for its times; return its claims.

    Args:
        text: the token as it came.
        keys: of the issuer.
        issuer: whose it has to be.
        client_id: for whom.
        nonce: what was asked with.

    Raises:
        SignatureError: saying what does not match.
    """
    token = read_token(text)
    _check_signature(token, keys)
    claims = token.claims
    if claims.get("iss") != issuer:
        raise SignatureError("the ID token is of another issuer")
    audience = claims.get("aud")
    audiences = [audience] if isinstance(audience, str) else audience
    if not isinstance(audiences, list) or client_id not in audiences:
        raise SignatureError("the ID token is for another client")
    if claims.get("azp", client_id) != client_id or (len(audiences) > 1 and "azp" not in claims):
        raise SignatureError("the ID token was issued to another client")
    given = claims.get("nonce")
    if not isinstance(given, str) or not hmac.compare_digest(given.encode(), nonce.encode()):
        raise SignatureError("the ID token has another nonce: it is not for this")
    if not isinstance(claims.get("sub"), str) or not claims["sub"]:
        raise SignatureError("the ID token names nobody")
    _second(claims, "iat")
    _second(claims, "exp")
    return claims


def lifetime_problem(claims: Mapping[str, Any], now: datetime, *, leeway_s: int = 60) -> str | None:
    """Say why a token is not to be taken now (it has expired, or comes from another time), or None."""
    at, issued, expires = now.timestamp(), _second(claims, "iat"), _second(claims, "exp")
    not_before = claims.get("nbf")
    if at > expires + leeway_s:
        return "the ID token has expired; sign in again"
    if not -leeway_s <= at - issued <= STATEMENT_S + leeway_s:
        return "the ID token was issued at another time; check the clocks of this site and of the issuer"
    if isinstance(not_before, (int, float)) and at < not_before - leeway_s:
        return "the ID token is not valid yet; check the clocks of this site and of the issuer"
    return None


def again_problem(claims: Mapping[str, Any], signed_at: datetime, recorded: datetime) -> str | None:
    """Say why a token does not show that a person signed in again for a statement, or None.

    Args:
        claims: of a verified token.
        signed_at: when the statement was made.
        recorded: when it is, or was, appended; the time of an entry before it may stand for it.
    """
    try:
        signed_in, issued, expires = (_second(claims, name) for name in ("auth_time", "iat", "exp"))
    except SignatureError as error:
        return f"{error}: the issuer must say when the person signed in (max_age=0)"
    if not -AGAIN_S <= issued - signed_in <= AGAIN_S:
        return "the person had signed in before; a signature needs that they sign in again"
    if not -AGAIN_S <= signed_in - signed_at.timestamp() <= STATEMENT_S:
        return "the person did not sign in within ten minutes after the statement was made"
    if recorded.timestamp() > issued + STATEMENT_S + AGAIN_S:
        return "the ID token was more than ten minutes old when it was recorded; sign again"
    if recorded.timestamp() > expires + AGAIN_S:
        return "the ID token had expired when it was recorded; sign again"
    return None


def _check_signature(token: IdToken, keys: Sequence[IssuerKey]) -> None:
    header = token.header
    algorithm, kid = header.get("alg"), header.get("kid")
    if algorithm not in ALGORITHMS:
        raise SignatureError(
            f"an ID token is signed with {', '.join(ALGORITHMS)}; this one says {str(algorithm)[:20]!r}"
        )
    if "crit" in header or "b64" in header or str(header.get("typ", "JWT")).lower() not in ("jwt", "id_token+jwt"):
        raise SignatureError("the ID token has a header that no ID token has")
    if kid is not None and not isinstance(kid, str):
        raise SignatureError("the ID token's key id is not text")
    kind = {"R": "RSA", "P": "RSA", "E": "OKP"}[algorithm[0]] if algorithm != "ES256" else "EC"
    fitting = [key for key in keys if key.kty == kind and key.alg in ("", algorithm)]
    fitting = [key for key in fitting if kid is None or key.kid == kid]
    if len(fitting) != 1:
        raise SignatureError("the issuer's key set does not say with which key the ID token is signed")
    try:
        _verify(_public_key(fitting[0]), algorithm, token.signature, token.signed)
    except (InvalidSignature, ValueError) as error:
        if isinstance(error, SignatureError):
            raise
        raise SignatureError("the ID token's signature does not verify") from error


def _verify(key: _Key, algorithm: str, signature: bytes, signed: bytes) -> None:
    if isinstance(key, Ed25519PublicKey):
        key.verify(signature, signed)
    elif isinstance(key, ec.EllipticCurvePublicKey):
        if len(signature) != 64:
            raise SignatureError("a signature of ES256 has 64 bytes")
        r, s = (int.from_bytes(signature[start : start + 32], "big") for start in (0, 32))
        key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashes.SHA256()))
    elif algorithm == "PS256":
        key.verify(signature, signed, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    else:
        key.verify(signature, signed, padding.PKCS1v15(), hashes.SHA256())


def _members(part: str) -> dict[str, Any]:
    try:
        value = json.loads(_decode(part).decode("utf-8"), object_pairs_hook=_once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        if isinstance(error, SignatureError):
            raise
        raise SignatureError("a part of the ID token is not JSON") from error
    if not isinstance(value, dict):
        raise SignatureError("a part of the ID token is not a JSON object")
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise SignatureError("the ID token names a member twice")
    return found


def _no_constant(name: str) -> Any:
    raise ValueError(name)


def _second(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < 2**40:
        raise SignatureError(f"the ID token has no {name}")
    return float(value)


def _decode(text: str) -> bytes:
    """Base64url without padding, as JOSE has it; each text has one value and each value one text."""
    try:
        data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) if _PART.fullmatch(text) else b""
    except ValueError:
        data = b""
    if not data or base64.urlsafe_b64encode(data).rstrip(b"=") != text.encode():
        raise SignatureError("a part of the ID token or key is not base64url")
    return data


# --- signatures ----------------------------------------------------------------------------------------------------------


def nonce_of(message: bytes) -> str:
    """Return the nonce with which a person signs in to sign a message (the PAE of an envelope): base64url of its SHA-256."""
    return base64.urlsafe_b64encode(hashlib.sha256(message).digest()).decode().rstrip("=")


def sso_signature(key: PublicKey, id_token: str, keys: Sequence[IssuerKey]) -> EnvelopeSignature:
    """Return the signature member of an envelope for a token. Whether it verifies is said by `verify_sso`.

    Raises:
        SignatureError: if the token is none.
    """
    proof = {"id_token": id_token, "keys": key_set_digest(keys)}
    sig = base64.b64encode(read_token(id_token).signature).decode()
    try:
        return EnvelopeSignature(keyid=key.key_id, sig=sig, oidc=build(OidcProof, proof))
    except RecordError as error:
        raise SignatureError(f"this is no ID token: {error}") from error


def verify_sso(
    key: PublicKey, member: EnvelopeSignature, signature: bytes, message: bytes, find: IssuerKeys | None
) -> Mapping[str, Any]:
    """Verify that the person of an enrolled identity signed in for a message; return the token's claims.

    Whether they signed in *again*, and in time, says `again_problem`.

    Raises:
        SignatureError: saying what does not match.
    """
    if key.oidc is None or member.oidc is None or member.webauthn is not None:
        raise SignatureError("a signature by single sign-on comes with its ID token")
    problem = identity_problem(key)
    if problem:
        raise SignatureError(problem)
    keys = find(key.oidc.issuer, member.oidc.keys) if find is not None else None
    if keys is None:
        raise SignatureError("the issuer's keys for it are not archived before it in this ledger")
    token = member.oidc.id_token
    if read_token(token).signature != signature:
        raise SignatureError("the signature is not that of the ID token")
    claims = verify_token(token, keys, issuer=key.oidc.issuer, client_id=key.oidc.client_id, nonce=nonce_of(message))
    if claims["sub"] != key.oidc.subject:
        raise SignatureError("the ID token names another person")
    return claims
