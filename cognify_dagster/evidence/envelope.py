"""The encryption envelope: COSE_Encrypt0 (RFC 9052) with A256GCM (RFC 9053), as pure functions.

Invariants:
    * An envelope decrypts only under its own digest, sensitivity class and media type: all three are in the
      additional authenticated data, so a blob moved to another name or relabelled does not open.
    * Nothing in an envelope is free to change: the protected header and the ciphertext are authenticated by
      GCM, the IV is an input of it, the key id is recomputed from the key, and everything else has one
      permitted encoding.
    * After decryption the SHA-256 of the plaintext is compared with the digest, so a key holder cannot pass
      off other content either.

The byte-exact description is docs/evidence-format.md.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from cognify_dagster.evidence import _cbor
from cognify_dagster.evidence.errors import EvidenceCorrupt, EvidenceError
from cognify_dagster.evidence.reference import (
    SEALED_SENSITIVITIES,
    Sensitivity,
    check_digest,
    check_media_type,
    digest_bytes,
)

KEY_BYTES = 32
IV_BYTES = 12
TAG_BYTES = 16
MAX_ENVELOPE_OVERHEAD = 1024
"""Upper bound, in bytes, of what an envelope adds to its plaintext."""

_COSE_ENCRYPT0 = 16
_ALG, _CONTENT_TYPE, _KID, _IV = 1, 3, 4, 5
_A256GCM = 3
_SENSITIVITY = "cognify.sensitivity"
_BLOB_CONTEXT = b"cognify/evidence/v1\x00"
_KEY_CONTEXT = b"cognify/evidence-key/v1\x00"
_KEY_ID_CONTEXT = b"cognify/evidence-key-id/v1\x00"


class EnvelopeError(EvidenceCorrupt):
    """The bytes are not a well-formed envelope, or do not open under the given key and context."""


@dataclass(frozen=True)
class Encrypt0:
    """A parsed COSE_Encrypt0 message whose ciphertext has not been authenticated yet."""

    protected: bytes
    headers: Mapping[int | str, object]
    kid: bytes
    iv: bytes
    ciphertext: bytes


@dataclass(frozen=True)
class Opened:
    """Content of a sealed blob, authenticated."""

    plaintext: bytes
    media_type: str
    sensitivity: Sensitivity


def encrypt0(
    plaintext: bytes, *, key: bytes, iv: bytes, kid: bytes, external_aad: bytes, headers: Mapping[int | str, object]
) -> bytes:
    """Return the tagged COSE_Encrypt0 encoding of ``plaintext``. Pure: the same input gives the same bytes.

    Args:
        plaintext: What to encrypt.
        key: 32 bytes.
        iv: 12 bytes, never used twice with the same key.
        kid: Key identifier for the unprotected header.
        external_aad: Context that both sides know (RFC 9052 section 5.3).
        headers: Further protected header parameters besides the algorithm.
    """
    _check_lengths(key, iv)
    protected = _cbor.encode({_ALG: _A256GCM, **headers})
    ciphertext = AESGCM(key).encrypt(iv, plaintext, _enc_structure(protected, external_aad))
    return _cbor.encode(_cbor.Tag(_COSE_ENCRYPT0, [protected, {_KID: kid, _IV: iv}, ciphertext]))


def parse_encrypt0(message: bytes) -> Encrypt0:
    """Take a COSE_Encrypt0 message apart without decrypting it.

    Raises:
        EnvelopeError: It is not the deterministic encoding of the one form used here.
    """
    try:
        outer = _cbor.decode(message)
        if not (isinstance(outer, _cbor.Tag) and outer.number == _COSE_ENCRYPT0):
            raise EnvelopeError("not a COSE_Encrypt0 message (tag 16)")
        if not (isinstance(outer.value, list) and len(outer.value) == 3):
            raise EnvelopeError("a COSE_Encrypt0 message has three parts")
        protected, unprotected, ciphertext = outer.value
        if not isinstance(protected, bytes) or not isinstance(ciphertext, bytes) or len(ciphertext) < TAG_BYTES:
            raise EnvelopeError("protected header or ciphertext is malformed")
        if not (isinstance(unprotected, dict) and set(unprotected) == {_KID, _IV}):
            raise EnvelopeError("the unprotected header holds the key id and the IV, and nothing else")
        kid, iv = unprotected[_KID], unprotected[_IV]
        if not isinstance(kid, bytes) or not isinstance(iv, bytes) or len(iv) != IV_BYTES:
            raise EnvelopeError("key id or IV is malformed")
        headers = _cbor.decode(protected)
    except _cbor.CborError as error:
        raise EnvelopeError(f"not deterministic CBOR: {error}") from error
    if not (isinstance(headers, dict) and headers.get(_ALG) == _A256GCM):
        raise EnvelopeError("the protected header does not name the algorithm A256GCM")
    return Encrypt0(protected, headers, kid, iv, ciphertext)


def decrypt0(message: Encrypt0, *, key: bytes, external_aad: bytes) -> bytes:
    """Decrypt a parsed message.

    Raises:
        EnvelopeError: Key, context, header, IV or ciphertext is not the one it was encrypted with.
    """
    _check_lengths(key, message.iv)
    try:
        return AESGCM(key).decrypt(message.iv, message.ciphertext, _enc_structure(message.protected, external_aad))
    except InvalidTag:
        raise EnvelopeError("authentication failed: key, context or bytes are not the original ones") from None


def data_key_id(key: bytes) -> bytes:
    """Return the 16-byte identifier of a data key, derived from the key itself."""
    return hashlib.sha256(_KEY_ID_CONTEXT + key).digest()[:16]


def key_aad(digest: str) -> bytes:
    """Return the context under which the data key of the blob ``digest`` is wrapped."""
    return _KEY_CONTEXT + check_digest(digest).encode("ascii")


def blob_aad(digest: str, sensitivity: str, media_type: str) -> bytes:
    """Return the external additional authenticated data of a sealed blob."""
    return _BLOB_CONTEXT + b"\x00".join(part.encode("ascii") for part in (digest, sensitivity, media_type))


def seal(plaintext: bytes, *, key: bytes, iv: bytes, sensitivity: Sensitivity, media_type: str) -> bytes:
    """Return the sealed form of a blob. Pure: the same input gives the same bytes.

    Args:
        plaintext: The evidence.
        key: The data key, 32 bytes.
        iv: 12 random bytes.
        sensitivity: ``confidential`` or ``personal``.
        media_type: Media type of the plaintext.

    Raises:
        EvidenceError: The class is not an encrypted one, or the media type or a length is malformed.
    """
    if sensitivity not in SEALED_SENSITIVITIES:
        raise EvidenceError(f"evidence of class {sensitivity!r} is not stored encrypted")
    check_media_type(media_type)
    aad = blob_aad(digest_bytes(plaintext), sensitivity, media_type)
    headers: dict[int | str, object] = {_CONTENT_TYPE: media_type, _SENSITIVITY: sensitivity}
    return encrypt0(plaintext, key=key, iv=iv, kid=data_key_id(key), external_aad=aad, headers=headers)


def unseal(blob: bytes, *, key: bytes, digest: str) -> Opened:
    """Open a sealed blob and check its content against ``digest``.

    Raises:
        EnvelopeError: The blob is damaged, was sealed with another key, or belongs to another digest.
    """
    message = parse_encrypt0(blob)
    if set(message.headers) != {_ALG, _CONTENT_TYPE, _SENSITIVITY}:
        raise EnvelopeError("the protected header does not hold algorithm, media type and sensitivity alone")
    media_type, sensitivity = message.headers[_CONTENT_TYPE], message.headers[_SENSITIVITY]
    if not isinstance(sensitivity, str) or sensitivity not in SEALED_SENSITIVITIES:
        raise EnvelopeError("the protected header names no encrypted class")
    try:
        media_type = check_media_type(media_type)
    except EvidenceError as error:
        raise EnvelopeError(str(error)) from error
    if not hmac.compare_digest(message.kid, data_key_id(key)):
        raise EnvelopeError("the blob was sealed with another data key than the one kept for it")
    plaintext = decrypt0(message, key=key, external_aad=blob_aad(check_digest(digest), sensitivity, media_type))
    if not hmac.compare_digest(digest_bytes(plaintext), digest):
        raise EnvelopeError("the decrypted content does not have the digest that names it")
    return Opened(plaintext, media_type, cast(Sensitivity, sensitivity))


def _enc_structure(protected: bytes, external_aad: bytes) -> bytes:
    """The Enc_structure of RFC 9052 section 5.3, which AES-GCM takes as additional data."""
    return _cbor.encode(["Encrypt0", protected, external_aad])


def _check_lengths(key: bytes, iv: bytes) -> None:
    if len(key) != KEY_BYTES or len(iv) != IV_BYTES:
        raise EvidenceError(f"A256GCM takes a key of {KEY_BYTES} bytes and an IV of {IV_BYTES} bytes")
