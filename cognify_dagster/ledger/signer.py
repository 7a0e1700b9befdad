"""The log key and the checkpoint signer.

Invariants: the signer keeps the last (size, root) it signed outside the ledger's database; it signs a head only after
recomputing every entry's leaf from stored bytes and only if the new tree contains the last one it signed. A refused head is
an error, never a signature.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable, Tampered
from cognify_dagster.ledger.note import Checkpoint, VerifierKey, sign_note

try:
    import fcntl
except ImportError:  # pragma: no cover - Windows: a single signing process is then the operator's task
    fcntl = None  # type: ignore[assignment]


class LogSigner:
    """Signs checkpoints of one ledger with an Ed25519 key kept in a private file."""

    def __init__(self, key_path: Path, state_path: Path, origin: str) -> None:
        self.origin = origin
        self.state_path = state_path
        self._private = Ed25519PrivateKey.from_private_bytes(read_secret(key_path))

    @property
    def verifier(self) -> VerifierKey:
        """The public key, named after the origin."""
        return VerifierKey(self.origin, self._private.public_key().public_bytes_raw())

    def last_signed(self) -> Checkpoint | None:
        """Return the head signed last, None if there is none yet.

        Raises:
            LedgerUnreadable: if the state file is damaged.
        """
        try:
            value = json.loads(self.state_path.read_text(encoding="utf-8"))
            return Checkpoint(value["origin"], int(value["size"]), bytes.fromhex(value["root"]))
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise LedgerUnreadable(f"{self.state_path}: the signer's state is damaged: {error}") from error

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """Hold the signer's lock: from reading the last head to keeping the new one, only one process may sign.

        Without it two honest processes would see each other's heads as a rollback.
        """
        self.state_path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with open(self.state_path.with_name(self.state_path.name + ".lock"), "w", encoding="ascii") as stream:
            if fcntl is not None:
                fcntl.flock(stream, fcntl.LOCK_EX)
            yield

    def sign(self, head: Checkpoint, root_of_last: bytes | None) -> str:
        """Sign a head.

        Args:
            head: the head as recomputed from entry bytes.
            root_of_last: the root of the first `last_signed().size` entries, recomputed in the same pass.

        Raises:
            Tampered: if the head does not contain the one signed last.
        """
        last = self.last_signed()
        if head.origin != self.origin:
            raise Tampered(f"the signer of {self.origin!r} does not sign for {head.origin!r}")
        if last is not None:
            if head.size < last.size:
                raise Tampered(f"the ledger has {head.size} entries but {last.size} were signed: it was rolled back")
            if root_of_last != last.root:
                raise Tampered(f"the first {last.size} entries are not those that were signed: history was rewritten")
        state = {"origin": head.origin, "root": head.root.hex(), "size": head.size}
        # state first: a crash between the two leaves a stricter signer, never two heads of one size
        write_private(self.state_path, json.dumps(state, sort_keys=True).encode())
        return sign_note(head.text(), self.origin, self._private)


def new_secret(path: Path, size: int = 32) -> bytes:
    """Create a private file of random bytes; refuse to overwrite one."""
    if path.exists():
        raise LedgerError(f"{path}: the key exists already; it is never overwritten")
    secret = os.urandom(size)
    write_private(path, secret)
    return secret


def read_secret(path: Path, size: int = 32) -> bytes:
    """Read a private key file; refuse one that others can read."""
    try:
        mode = path.stat().st_mode
        data = path.read_bytes()
    except OSError as error:
        raise LedgerUnreadable(f"{path}: the key cannot be read: {error.strerror}") from error
    if mode & 0o077:
        raise LedgerUnreadable(f"{path}: others can read this key; run `chmod 600 {path}`")
    if len(data) != size:
        raise LedgerUnreadable(f"{path}: a key of {size} bytes was expected, not {len(data)}")
    return data


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 durably: temporary file, fsync, rename, fsync of the folder."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(name, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
