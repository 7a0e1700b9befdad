"""An OpenID Connect issuer in memory: real keys, real tokens, every part of which a test can change."""

from __future__ import annotations

import base64
import json
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from cognify_dagster.governance.signing.sso import read_key_set
from cognify_dagster.records import IssuerKey

ISSUER, CLIENT = "https://login.bank.example", "cognify-review"


def b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@lru_cache(maxsize=4)
def rsa_key(name: str, bits: int = 2048) -> rsa.RSAPrivateKey:
    """Generating is slow: a key is made once for each name."""
    return rsa.generate_private_key(65537, bits)


@dataclass
class FakeIssuer:
    """An issuer that signs what it is asked to. `algorithm` is RS256, PS256, ES256 or EdDSA."""

    algorithm: str = "RS256"
    issuer: str = ISSUER
    client: str = CLIENT
    kid: str = "k1"
    name: str = "issuer"
    private: Any = field(init=False)

    def __post_init__(self) -> None:
        makers = {"ES256": lambda: ec.generate_private_key(ec.SECP256R1()), "EdDSA": Ed25519PrivateKey.generate}
        self.private = makers.get(self.algorithm, lambda: rsa_key(self.name))()

    def jwk(self) -> dict[str, Any]:
        """The public key as the issuer publishes it."""
        public = self.private.public_key()
        common = {"kid": self.kid, "alg": self.algorithm, "use": "sig"}
        if isinstance(public, rsa.RSAPublicKey):
            numbers = public.public_numbers()
            return {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e), **common}
        if isinstance(public, ec.EllipticCurvePublicKey):
            point = public.public_numbers()
            x, y = (b64(value.to_bytes(32, "big")) for value in (point.x, point.y))
            return {"kty": "EC", "crv": "P-256", "x": x, "y": y, **common}
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(public.public_bytes_raw()), **common}

    def keys(self) -> tuple[IssuerKey, ...]:
        """The published key set as it is archived."""
        return read_key_set({"keys": [self.jwk()]})

    def claims(self, subject: str, nonce: str, /, **changes: Any) -> dict[str, Any]:
        """The claims of somebody who signs in now; a change to None leaves a claim out."""
        now = int(time.time())
        found = {
            "iss": self.issuer, "sub": subject, "aud": self.client, "nonce": nonce,
            "iat": now, "exp": now + 300, "auth_time": now, **changes,
        }  # fmt: skip
        return {name: value for name, value in found.items() if value is not None}

    def token(self, subject: str, nonce: str, /, *, header: dict[str, Any] | None = None, **changes: Any) -> str:
        """An ID token."""
        return self.sign(self.claims(subject, nonce, **changes), header=header)

    def sign(self, claims: Any, *, header: dict[str, Any] | None = None) -> str:
        """A signed token of any claims (text is taken as it is)."""
        head = {"alg": self.algorithm, "kid": self.kid, "typ": "JWT", **(header or {})}
        head = {name: value for name, value in head.items() if value is not None}
        body = claims if isinstance(claims, str) else json.dumps(claims)
        signed = f"{b64(json.dumps(head).encode())}.{b64(body.encode())}"
        return f"{signed}.{b64(self._signature(signed.encode()))}"

    def _signature(self, data: bytes) -> bytes:
        if isinstance(self.private, Ed25519PrivateKey):
            return self.private.sign(data)
        if isinstance(self.private, ec.EllipticCurvePrivateKey):
            r, s = decode_dss_signature(self.private.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        way = padding.PSS(padding.MGF1(hashes.SHA256()), 32) if self.algorithm == "PS256" else padding.PKCS1v15()
        return bytes(self.private.sign(data, way, hashes.SHA256()))
