"""A witness's key file: one line `PRIVATE+KEY+<name>+<key id>+<base64(type ‖ seed)>`, mode 0600. Type 0x04 is Ed25519, 0x06 ML-DSA-44;
both have seeds of 32 bytes.

Invariants: a key file that others can read is refused; none is overwritten; the private half never appears in an error, a
`repr` or a log.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable, NoteError
from cognify_dagster.ledger.files import write_private
from cognify_dagster.ledger.mldsa import private_key
from cognify_dagster.ledger.note import COSIGNATURE, COSIGNATURES, VerifierKey
from cognify_dagster.ledger.quorum import cosigner_key

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

_MAX_FILE = 1000
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/-]{2,199}")


@dataclass(frozen=True)
class WitnessKey:
    """A witness's name and its cosignature key."""

    name: str
    private: Ed25519PrivateKey | MLDSA44PrivateKey = field(repr=False)

    @property
    def verifier(self) -> VerifierKey:
        """The public half, as it stands in trust files."""
        return cosigner_key(self.name, self.private)

    @classmethod
    def create(cls, path: Path, name: str, algorithm: int = COSIGNATURE) -> WitnessKey:
        """Write a new key file of type 0x04 (Ed25519) or 0x06 (ML-DSA-44).

        Raises:
            NoteError: if the name is not one a witness can have (such as `risk.bank.example/witness-1`), or ML-DSA is absent.
            LedgerError: if there is a file already.
        """
        if not _NAME.fullmatch(name):
            raise NoteError(f"{name[:80]!r} is no witness name: use letters, digits and . _ - / as in bank.example/w1")
        if path.exists():
            raise LedgerError(f"{path}: there is already a file; a key is never overwritten")
        seed = os.urandom(32)
        key = cls(name, _private(algorithm, seed))
        encoded = base64.b64encode(bytes([algorithm]) + seed).decode()
        write_private(path, f"PRIVATE+KEY+{name}+{key.verifier.key_id.hex()}+{encoded}\n".encode())
        return key

    @classmethod
    def load(cls, path: Path) -> WitnessKey:
        """Read a key file.

        Raises:
            LedgerUnreadable: if it cannot be read, others can read it, or it is not a witness's key file.
        """
        try:
            with path.open("rb") as stream:
                mode = os.fstat(stream.fileno()).st_mode
                data = stream.read(_MAX_FILE)
        except OSError as error:
            raise LedgerUnreadable(f"{path}: the key cannot be read: {error.strerror}") from error
        if os.name == "posix" and mode & 0o077:
            raise LedgerUnreadable(f"{path}: others can read this key; run `chmod 600 {path}`")
        try:
            words = data.decode("ascii").strip().split("+", 4)
            raw = base64.b64decode(words[4], validate=True)
            if words[:2] != ["PRIVATE", "KEY"] or len(raw) != 33 or raw[0] not in COSIGNATURES:
                raise ValueError
        except (ValueError, IndexError):
            raise _foreign(path) from None  # the cause could quote the key
        try:
            key = cls(words[2], _private(raw[0], raw[1:]))
        except NoteError as error:
            raise LedgerUnreadable(f"{path}: {error}") from error
        if key.verifier.key_id.hex() != words[3]:
            raise _foreign(path)
        return key


def _private(algorithm: int, seed: bytes) -> Ed25519PrivateKey | MLDSA44PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(seed) if algorithm == COSIGNATURE else private_key(seed)


def _foreign(path: Path) -> LedgerUnreadable:
    return LedgerUnreadable(f"{path}: not a witness's key file; `cognify witness new-key` writes one")
