"""An authenticator in software: it registers ES256 passkeys and answers challenges as a browser's `toJSON()` does.

Everything is real but the user: whether they were verified is a flag, so that tests can switch it off. Each part can be altered.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
from dataclasses import dataclass, field
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from cognify_dagster.governance.signing.passkeys import passkey_public
from cognify_dagster.records import Passkey, PublicKey

_PRESENT, _VERIFIED, _ELIGIBLE, _BACKED_UP, _ATTESTED = 0x01, 0x04, 0x08, 0x10, 0x40
AAGUID = bytes(range(16))


def b64url(data: bytes) -> str:
    """Encode as WebAuthn does."""
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


def from_b64url(text: str) -> bytes:
    """Decode what `b64url` encodes."""
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@dataclass
class Authenticator:
    """One authenticator with one passkey.

    Args:
        origin: the page that asks, e.g. `http://localhost:3070`.
        rp_id: whose passkey it is.
        verified: whether the user is verified (PIN, fingerprint) when it answers.
        backed_up: whether the passkey is synced to other devices.
    """

    origin: str = "http://localhost:3070"
    rp_id: str = "localhost"
    verified: bool = True
    backed_up: bool = False
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    credential: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    user_handle: bytes = b""
    count: int = 0

    @property
    def credential_id(self) -> str:
        """The credential's id, base64url."""
        return b64url(self.credential)

    @property
    def cose_key(self) -> bytes:
        """The public key as COSE, in CTAP2's canonical CBOR."""
        numbers = self.key.public_key().public_numbers()
        x, y = numbers.x.to_bytes(32, "big"), numbers.y.to_bytes(32, "big")
        return b"\xa5\x01\x02\x03\x26\x20\x01\x21\x58\x20" + x + b"\x22\x58\x20" + y

    @property
    def public(self) -> PublicKey:
        """The key as a ledger enrols it."""
        passkey = Passkey(
            credential_id=self.credential_id, rp_id=self.rp_id, origins=(self.origin,), backed_up=self.backed_up
        )
        return passkey_public(self.cose_key, passkey)

    def register(self, options: dict[str, Any]) -> dict[str, Any]:
        """Answer `navigator.credentials.create` (PublicKeyCredentialCreationOptionsJSON) with a RegistrationResponseJSON."""
        self.user_handle = from_b64url(options["user"]["id"])
        attested = AAGUID + len(self.credential).to_bytes(2, "big") + self.credential + self.cose_key
        data = self._data(_ATTESTED) + attested
        attestation = b"\xa3\x63fmt\x64none\x67attStmt\xa0\x68authData\x58" + bytes([len(data)]) + data
        client = self._client("webauthn.create", options["challenge"])
        return {
            "id": self.credential_id,
            "rawId": self.credential_id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {"credProps": {"rk": True}},
            "response": {
                "clientDataJSON": b64url(client),
                "attestationObject": b64url(attestation),
                "transports": ["internal"],
            },
        }

    def answer(self, options: dict[str, Any], /, **client: Any) -> dict[str, Any]:
        """Answer `navigator.credentials.get` (…RequestOptionsJSON) with an AuthenticationResponseJSON.

        `client` changes members of the client data, as `origin="https://evil.example"`.
        """
        return self.sign(options["challenge"], **client)

    def sign(self, challenge: str | bytes, /, **client: Any) -> dict[str, Any]:
        """Answer a challenge (bytes, or base64url as options carry it)."""
        text = challenge if isinstance(challenge, str) else b64url(challenge)
        self.count += 1
        client_data, data = self._client("webauthn.get", text, **client), self._data(0)
        signature = self.key.sign(data + hashlib.sha256(client_data).digest(), ec.ECDSA(hashes.SHA256()))
        return {
            "id": self.credential_id,
            "rawId": self.credential_id,
            "type": "public-key",
            "authenticatorAttachment": "platform",
            "clientExtensionResults": {},
            "response": {
                "clientDataJSON": b64url(client_data),
                "authenticatorData": b64url(data),
                "signature": b64url(signature),
                "userHandle": b64url(self.user_handle),
            },
        }

    def _client(self, kind: str, challenge: str, /, **changes: Any) -> bytes:
        members = {"type": kind, "challenge": challenge, "origin": self.origin, "crossOrigin": False} | changes
        return json.dumps(members, separators=(",", ":")).encode()

    def _data(self, flags: int) -> bytes:
        flags |= _PRESENT | (_VERIFIED if self.verified else 0) | (_ELIGIBLE | _BACKED_UP if self.backed_up else 0)
        return hashlib.sha256(self.rp_id.encode()).digest() + bytes([flags]) + self.count.to_bytes(4, "big")
