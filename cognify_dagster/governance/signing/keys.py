"""Personal signing keys of strength S3: Ed25519, in a file wrapped with Argon2id and AES-256-GCM.

Invariants: the private key leaves the file only under its pass phrase; a pass phrase is never stored, logged or put on a
command line; the file names the person and the public key, and both are authenticated by the wrapping.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id

from cognify_dagster.governance.errors import KeyFileError
from cognify_dagster.ledger import canonical_json, write_private
from cognify_dagster.records import PublicKey

FORMAT = "cognify-personal-key/v1"
_PERSON = re.compile(r"person/[a-z0-9][a-z0-9-]{1,60}")
MIN_PASSPHRASE = 12
_MEMORY_KIB = 64 * 1024
_ITERATIONS = 3
_LANES = 4
_LIMITS = {"memory_kib": 1024 * 1024, "iterations": 20, "lanes": 16}


def key_id_of(public: bytes) -> str:
    """Return the key id: first 16 hex digits of SHA-256 over the 32-byte public key."""
    return hashlib.sha256(public).hexdigest()[:16]


def public_key(public: bytes) -> PublicKey:
    """Return the record form of an Ed25519 public key."""
    return PublicKey(key_id=key_id_of(public), public=base64.b64encode(public).decode())


@dataclass(frozen=True)
class PersonalKey:
    """An unlocked personal key."""

    person: str
    private: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """The public half."""
        return public_key(self.private.public_key().public_bytes_raw())

    @property
    def key_id(self) -> str:
        """The key id."""
        return self.public.key_id

    def sign(self, data: bytes) -> bytes:
        """Return the 64-byte signature."""
        return self.private.sign(data)


def create_key(path: Path, person: str, passphrase: str) -> PersonalKey:
    """Create a new key file of mode 0600.

    Raises:
        KeyFileError: if the file exists, the person's id is malformed or the pass phrase shorter than 12 characters.
    """
    if path.exists():
        raise KeyFileError(f"{path}: there is already a file; a key is never overwritten")
    if not _PERSON.fullmatch(person):
        raise KeyFileError(f"{person!r}: a person is named person/ and 2 to 61 of a-z 0-9 -, for example person/ada")
    if len(passphrase) < MIN_PASSPHRASE:
        raise KeyFileError(f"a pass phrase needs at least {MIN_PASSPHRASE} characters")
    private = Ed25519PrivateKey.generate()
    public = public_key(private.public_key().public_bytes_raw())
    salt, nonce = os.urandom(16), os.urandom(12)
    header = {
        "format": FORMAT,
        "person": person,
        "key_id": public.key_id,
        "public": public.public,
        "kdf": {
            "name": "argon2id",
            "salt": base64.b64encode(salt).decode(),
            "memory_kib": _MEMORY_KIB,
            "iterations": _ITERATIONS,
            "lanes": _LANES,
        },
        "cipher": {"name": "aes-256-gcm", "nonce": base64.b64encode(nonce).decode()},
    }
    wrapping = _derive(passphrase, salt, _MEMORY_KIB, _ITERATIONS, _LANES)
    sealed = AESGCM(wrapping).encrypt(nonce, private.private_bytes_raw(), canonical_json(header))
    content = {**header, "sealed": base64.b64encode(sealed).decode()}
    write_private(path, json.dumps(content, indent=2, sort_keys=True).encode() + b"\n")
    return PersonalKey(person, private)


def read_public(path: Path) -> tuple[str, PublicKey]:
    """Return person and public key of a key file, or of a public half exported as JSON, without unlocking it."""
    data = _read(path)
    try:
        public = base64.b64decode(data["public"], validate=True)
        person = str(data["person"])
    except (KeyError, ValueError, TypeError) as error:
        raise KeyFileError(f"{path}: not a personal key: {error}") from error
    if len(public) != 32 or data.get("key_id") != key_id_of(public):
        raise KeyFileError(f"{path}: the key id does not match the public key")
    return person, public_key(public)


def unlock_key(path: Path, passphrase: str) -> PersonalKey:
    """Unlock a key file.

    Raises:
        KeyFileError: if the pass phrase is wrong or the file damaged.
    """
    data = _read(path)
    try:
        kdf = data["kdf"]
        for name, limit in _LIMITS.items():
            if not isinstance(kdf[name], int) or not 1 <= kdf[name] <= limit:
                raise KeyFileError(f"{path}: kdf.{name} is out of range")
        salt = base64.b64decode(kdf["salt"], validate=True)
        nonce = base64.b64decode(data["cipher"]["nonce"], validate=True)
        sealed = base64.b64decode(data["sealed"], validate=True)
        header = {key: value for key, value in data.items() if key != "sealed"}
        wrapping = _derive(passphrase, salt, kdf["memory_kib"], kdf["iterations"], kdf["lanes"])
        secret = AESGCM(wrapping).decrypt(nonce, sealed, canonical_json(header))
        return PersonalKey(str(data["person"]), Ed25519PrivateKey.from_private_bytes(secret))
    except InvalidTag as error:
        raise KeyFileError(f"{path}: the pass phrase is wrong, or the file was changed") from error
    except (KeyError, ValueError, TypeError) as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError(f"{path}: not a personal key file: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > 64 * 1024:
            raise KeyFileError(f"{path}: too large for a personal key")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise KeyFileError(f"{path}: the key cannot be read: {error.strerror}") from error
    except ValueError as error:
        if isinstance(error, KeyFileError):
            raise
        raise KeyFileError(f"{path}: not a personal key file: {error}") from error
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise KeyFileError(f"{path}: not a personal key file ({FORMAT} expected)")
    return data


def _derive(passphrase: str, salt: bytes, memory_kib: int, iterations: int, lanes: int) -> bytes:
    return Argon2id(salt=salt, length=32, iterations=iterations, lanes=lanes, memory_cost=memory_kib).derive(
        passphrase.encode()
    )
