"""Ed25519 signatures that were verified once in this process are not verified again.

Invariants: only a signature that did verify is remembered, under a digest of the public key, the signature and all that it covers
(an entry's leaf hash covers its bytes, signature included), so the answer cannot depend on what was asked before; a failure is
never remembered. Whether the key counted at that point is for the caller to say, each time.

Memory: at most `LIMIT` digests of 32 bytes, about 8 MB.
"""

from __future__ import annotations

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cognify_dagster.ledger import Entry

LIMIT = 65_536
_verified: dict[bytes, None] = {}


def verifies(public: bytes, signature: bytes, message: bytes) -> bool:
    """Whether a signature over a message verifies with a 32-byte public key."""
    digest = hashlib.sha256(b"".join(len(part).to_bytes(8, "big") + part for part in (public, signature, message)))
    return _remembered(digest.digest()) or _check(digest.digest(), public, signature, message)


def entry_verifies(public: bytes, entry: Entry) -> bool:
    """Whether the writer's signature of an entry verifies with a 32-byte public key."""
    digest = hashlib.sha256(b"cognify/entry\x00" + len(public).to_bytes(8, "big") + public + entry.leaf).digest()
    return _remembered(digest) or _check(digest, public, entry.signature, entry.signing_input())


def _remembered(digest: bytes) -> bool:
    return digest in _verified


def _check(digest: bytes, public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    if len(_verified) >= LIMIT:
        _verified.clear()
    _verified[digest] = None
    return True
