"""Key-encryption keys: what a key service offers, and one kept in a local file.

Invariants:
    * A key file is created exclusively, with mode 0600, complete or not at all; an existing one is never
      overwritten, because evidence sealed under it would be lost.
    * A key file that group or others may read, or that belongs to another user, is refused, not repaired:
      its content has to be taken as known.
    * A wrapped key opens only with the same key and the same context (``aad``).
    * The key never appears in ``repr``, in a pickle or in an error message.
"""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path
from typing import NoReturn, Protocol, runtime_checkable

from cognify_dagster.evidence._local import LocalFolder
from cognify_dagster.evidence.envelope import IV_BYTES, KEY_BYTES, decrypt0, encrypt0, parse_encrypt0
from cognify_dagster.evidence.errors import EvidenceCorrupt, EvidenceError, EvidenceKeyUnavailable

_KEK_ID_CONTEXT = b"cognify/key-encryption-key-id/v1\x00"


@runtime_checkable
class KeyProvider(Protocol):
    """Wraps data keys under a key-encryption key that it does not hand out. Shaped like a key service (KMS)."""

    @property
    def key_id(self) -> str:
        """Identifier of the key that :meth:`wrap` uses."""
        ...

    def wrap(self, plaintext_key: bytes, aad: bytes) -> bytes:
        """Return ``plaintext_key`` encrypted and bound to ``aad``, at most 64 KiB long."""
        ...

    def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        """Return the key that :meth:`wrap` was given.

        Raises:
            EvidenceKeyUnavailable: ``blob`` was wrapped under a key that is not at hand.
            EvidenceCorrupt: ``blob`` was changed, or ``aad`` is not the one it was wrapped with.
        """
        ...


class LocalKeyProvider:
    """A key-encryption key in a local file of 32 random bytes with mode 0600.

    For trials and single hosts. Who reads the file reads all sealed evidence whose key files are reachable;
    who loses it loses that evidence. Keep a backup away from the evidence store. At most 2**32 data keys
    may be wrapped under one such key (random 96-bit IVs, NIST SP 800-38D).
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read an existing key file; :meth:`create` makes a new one.

        Raises:
            EvidenceKeyUnavailable: The file is missing, malformed, or open to other users.
        """
        self._path = Path(path)
        self._key = _read_key(self._path)
        self._key_id = "local:" + hashlib.sha256(_KEK_ID_CONTEXT + self._key).hexdigest()[:32]

    @classmethod
    def create(cls, path: str | os.PathLike[str]) -> LocalKeyProvider:
        """Write a new random key to ``path`` and open it. A missing parent folder is made with mode 0700.

        Raises:
            EvidenceError: Something already lies at ``path``, or it cannot be written.
        """
        target = Path(path)
        folder = LocalFolder(target.parent)
        if not folder.create_bytes(target.name, os.urandom(KEY_BYTES), exclusive=True):
            raise EvidenceError(f"{target} already exists; a key file is never overwritten")
        return cls(target)

    @property
    def key_id(self) -> str:
        """``local:`` and 32 hex digits derived from the key."""
        return self._key_id

    def wrap(self, plaintext_key: bytes, aad: bytes) -> bytes:
        """Return ``plaintext_key`` as COSE_Encrypt0 under this key, bound to ``aad``."""
        kid = self._key_id.encode("ascii")
        return encrypt0(plaintext_key, key=self._key, iv=os.urandom(IV_BYTES), kid=kid, external_aad=aad, headers={})

    def unwrap(self, blob: bytes, aad: bytes) -> bytes:
        """Return the key inside ``blob``.

        Raises:
            EvidenceKeyUnavailable: It was wrapped under another key.
            EvidenceCorrupt: It was changed, or belongs to another ``aad``.
        """
        message = parse_encrypt0(blob)
        if message.kid != self._key_id.encode("ascii"):
            other = message.kid.decode("ascii", "replace")[:80]
            raise EvidenceKeyUnavailable(
                f"the data key was wrapped under key {other!r}, but {self._path} holds {self._key_id!r}; "
                "open the workspace with the key file it was created with"
            )
        if len(message.headers) != 1:
            raise EvidenceCorrupt("a wrapped key has no protected header but the algorithm")
        return decrypt0(message, key=self._key, external_aad=aad)

    def __repr__(self) -> str:
        """Show path and key id, never the key."""
        return f"LocalKeyProvider({str(self._path)!r}, key_id={self._key_id!r})"

    def __reduce__(self) -> NoReturn:
        """Refuse to be pickled: the key would travel with it. Open the file again in the other process."""
        raise TypeError("LocalKeyProvider cannot be pickled; open the key file in the process that needs it")


def _read_key(path: Path) -> bytes:
    try:
        # O_NONBLOCK so that a named pipe in place of the file is refused instead of waited for.
        fd = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    except FileNotFoundError:
        raise EvidenceKeyUnavailable(f"key file {path} is missing; restore it from its backup") from None
    except OSError as error:
        raise EvidenceKeyUnavailable(f"key file {path} cannot be opened: {error.strerror}") from error
    try:
        info = os.fstat(fd)
        if not stat.S_ISREG(info.st_mode):
            raise EvidenceKeyUnavailable(f"key file {path} is not a regular file")
        if hasattr(os, "geteuid"):
            if info.st_mode & 0o077:
                raise EvidenceKeyUnavailable(
                    f"key file {path} has mode {stat.S_IMODE(info.st_mode):04o}: other users may have read it. If that "
                    "is ruled out, run chmod 600 on it; otherwise replace the key"
                )
            if info.st_uid not in (0, os.geteuid()):
                raise EvidenceKeyUnavailable(f"key file {path} belongs to user id {info.st_uid}, not to this user")
        key = os.read(fd, KEY_BYTES + 1)
    finally:
        os.close(fd)
    if len(key) != KEY_BYTES:
        raise EvidenceKeyUnavailable(f"key file {path} does not hold exactly {KEY_BYTES} bytes; restore its backup")
    return key
