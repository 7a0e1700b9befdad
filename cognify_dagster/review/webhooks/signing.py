"""Signs deliveries as Standard Webhooks 1.0 says: HMAC-SHA256 over `id.timestamp.body`.

Invariants: a secret has 192 to 512 bits; it lies in a variable or in a file that only its owner reads, never in the site's
database; no message or log holds one.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
from collections.abc import Sequence
from pathlib import Path

from cognify_dagster.review.errors import ReviewError

PREFIX = "whsec_"
FOLDER = "webhooks"


def sign(keys: Sequence[bytes], message: str, timestamp: int, body: bytes) -> dict[str, str]:
    """Return the headers of a delivery; with two keys (while one takes over from the other) it bears two signatures.

    Args:
        keys: secrets, as bytes.
        message: the id.
        timestamp: whole seconds since 1970 UTC, when it is sent.
        body: the exact bytes that are sent.
    """
    signed = f"{message}.{timestamp}.".encode() + body
    values = (base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode() for key in keys)
    return {
        "webhook-id": message,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": " ".join(f"v1,{value}" for value in values),
    }


def make_secret() -> str:
    """Return a new secret of 256 bits, as receivers are given it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(32)).decode()


def parse_secrets(text: str, where: str) -> list[bytes]:
    """Return the secrets of a text, apart by spaces.

    Raises:
        ReviewError: naming `where` it came from, never what stood there.
    """
    found = []
    for word in text.split():
        try:
            key = base64.b64decode(word.removeprefix(PREFIX), validate=True)
        except (binascii.Error, ValueError):
            key = b""
        if not word.startswith(PREFIX) or not 24 <= len(key) <= 64:
            raise ReviewError(f"{where}: a secret is {PREFIX} and 24 to 64 bytes in base64")
        found.append(key)
    if not 1 <= len(found) <= 2:
        raise ReviewError(f"{where}: there must be one secret, or two while one takes over from the other")
    return found


def store_secret(home: Path, name: str, text: str) -> None:
    """Keep a secret in a file that only its owner reads.

    Raises:
        OSError: if it cannot be written.
    """
    path = secret_file(home, name)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as stream:
        stream.write(text + "\n")
        stream.flush()
        os.fsync(stream.fileno())
    temporary.replace(path)


def secret_file(home: Path, name: str) -> Path:
    """Where the secret of an endpoint lies."""
    return home / FOLDER / f"{name}.secret"


def read_text(home: Path, reference: str, what: str) -> str:
    """Return what `env:NAME` or `file:NAME` refers to.

    Raises:
        ReviewError: if it is not there, or a file that others can read.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        found = os.environ.get(name, "")
        if not found:
            raise ReviewError(f"{what}: the variable {name} is not set for the site's process")
        return found
    path = secret_file(home, name)
    try:
        with path.open(encoding="utf-8") as stream:
            if stat.S_IMODE(os.fstat(stream.fileno()).st_mode) & 0o077:
                raise ReviewError(f"{what}: {path} can be read by others; chmod 600 it")
            return stream.read(4096)
    except (OSError, UnicodeDecodeError) as error:
        raise ReviewError(f"{what}: {path} cannot be read; remove the endpoint and add it again") from error
