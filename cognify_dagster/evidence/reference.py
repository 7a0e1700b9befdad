"""Names of evidence: digests, sensitivity classes and the reference that the ledger keeps.

Invariants:
    * A digest is ``sha256:`` and 64 lower-case hexadecimal digits, nothing else. It is checked before it
      becomes part of a path, so no digest can name a file outside the store.
    * An :class:`EvidenceRef` that exists is valid: its fields were checked when it was made.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from cognify_dagster.evidence.errors import EvidenceError

Sensitivity = Literal["public", "internal", "confidential", "personal"]

SENSITIVITIES: frozenset[str] = frozenset(get_args(Sensitivity))
SEALED_SENSITIVITIES: frozenset[str] = frozenset({"confidential", "personal"})

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_NAME_PART = r"[A-Za-z0-9][A-Za-z0-9!#$&^_.+-]{0,126}"
_MEDIA_TYPE = re.compile(rf"{_NAME_PART}/{_NAME_PART}(?:; ?[\x20-\x7e]+)?")
MAX_MEDIA_TYPE_CHARS = 255


def check_digest(digest: object) -> str:
    """Return ``digest`` if it is a well-formed evidence digest.

    Raises:
        EvidenceError: It is not ``sha256:`` followed by 64 lower-case hexadecimal digits.
    """
    if not isinstance(digest, str) or _DIGEST.fullmatch(digest) is None:
        shown = repr(digest)[:100]
        raise EvidenceError(f"{shown} is not an evidence digest; expected sha256: and 64 lower-case hex digits")
    return digest


def check_sensitivity(sensitivity: object) -> str:
    """Return ``sensitivity`` if it is one of the four classes, else raise :class:`EvidenceError`."""
    if not isinstance(sensitivity, str) or sensitivity not in SENSITIVITIES:
        raise EvidenceError(
            f"sensitivity {sensitivity!r} is unknown; use one of public, internal, confidential, personal"
        )
    return sensitivity


def check_media_type(media_type: object) -> str:
    """Return ``media_type`` if it is an ASCII ``type/subtype`` of at most 255 characters (RFC 6838).

    Raises:
        EvidenceError: It is not.
    """
    if (
        not isinstance(media_type, str)
        or len(media_type) > MAX_MEDIA_TYPE_CHARS
        or _MEDIA_TYPE.fullmatch(media_type) is None
    ):
        raise EvidenceError(f"media type {media_type!r:.300} is malformed; write it as type/subtype, e.g. text/csv")
    return media_type


def digest_bytes(data: bytes) -> str:
    """Return the evidence digest of ``data``."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


@dataclass(frozen=True)
class EvidenceRef:
    """What the ledger keeps about a blob.

    Attributes:
        digest: ``sha256:`` and the lower-case hex SHA-256 of the plaintext.
        size: Length of the plaintext in bytes.
        media_type: Media type of the plaintext (RFC 6838).
        sensitivity: ``public`` and ``internal`` are stored as they are; ``confidential`` and ``personal``
            are encrypted with a data key of their own that can be erased.
    """

    digest: str
    size: int
    media_type: str
    sensitivity: Sensitivity = "internal"

    def __post_init__(self) -> None:
        """Check every field; raises :class:`EvidenceError`."""
        check_digest(self.digest)
        if type(self.size) is not int or self.size < 0:
            raise EvidenceError(f"evidence size {self.size!r} is not a whole number of bytes")
        check_media_type(self.media_type)
        check_sensitivity(self.sensitivity)

    @property
    def sealed(self) -> bool:
        """Whether blobs of this class are encrypted."""
        return self.sensitivity in SEALED_SENSITIVITIES

    def to_dict(self) -> dict[str, str | int]:
        """Return the four fields as a JSON object for a ledger payload."""
        return {
            "digest": self.digest,
            "size": self.size,
            "media_type": self.media_type,
            "sensitivity": self.sensitivity,
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, object]) -> EvidenceRef:
        """Read what :meth:`to_dict` wrote.

        Raises:
            EvidenceError: A field is missing, unknown or malformed.
        """
        expected = {"digest", "size", "media_type", "sensitivity"}
        if set(value) != expected:
            raise EvidenceError(
                f"an evidence reference has the fields {', '.join(sorted(expected))}; got {', '.join(sorted(value))}"
            )
        return cls(**value)  # type: ignore[arg-type]  # __post_init__ checks each field
