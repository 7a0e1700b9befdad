"""What all anchors have in common: the receipt, the errors, the protocol.

Invariants: what is anchored is the checkpoint's text (origin, size, root), so that cosignatures may join the note later; a
receipt is a pointer or a token and never trusted before `check` or `anchored_time` looked at it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple, Protocol

from cognify_dagster.ledger.canonical import canonical_json
from cognify_dagster.ledger.errors import LedgerError
from cognify_dagster.ledger.note import Checkpoint, parse_note

FOLDER = "folder"
S3 = "s3"
S3_LOCKED = "s3-object-lock"
RFC3161 = "rfc3161"
MAX_NOTE_BYTES = 64 * 1024
MAX_TOKEN = 256 * 1024


class AnchorError(LedgerError):
    """An anchor cannot be reached, refused, or its receipt does not prove what it claims. Other anchors are unaffected."""


class AnchorConflict(AnchorError):
    """The anchor holds another head of the same ledger and size, or a head was taken away: evidence of a rewrite."""


class AnchorTime(NamedTuple):
    """The first `size` entries existed at this UTC time, says an anchor of this kind."""

    size: int
    time: datetime
    kind: str


@dataclass(frozen=True)
class AnchoredHead:
    """A head that an anchor holds: the note as kept, when the anchor says it came, and whether it was hidden since."""

    checkpoint: Checkpoint
    note: str
    time: datetime
    location: str
    hidden: bool = False


@dataclass(frozen=True)
class AnchorReceipt:
    """What `put` returns and the ledger's owner keeps: where the head is, or the token itself.

    `imprint` is the SHA-256 hex of the checkpoint text, `location` a path or URL without credentials, `version` the object's
    version where the store has versions, `token` the DER bytes of an RFC 3161 response.
    """

    kind: str
    origin: str
    size: int
    imprint: str
    location: str
    version: str = ""
    token: bytes = b""

    def to_json(self) -> str:
        """Return the receipt as canonical JSON text."""
        value = {
            "imprint": self.imprint,
            "kind": self.kind,
            "location": self.location,
            "origin": self.origin,
            "size": self.size,
            "token": base64.b64encode(self.token).decode(),
            "v": 1,
            "version": self.version,
        }
        return canonical_json(value).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> AnchorReceipt:
        """Read a receipt.

        Raises:
            AnchorError: if it is malformed or of a newer format.
        """
        try:
            if len(text) > 2 * MAX_TOKEN:
                raise ValueError("it is too large")
            value: Any = json.loads(text)
            if value.pop("v") != 1:
                raise ValueError("it is of another format version")
            value["token"] = base64.b64decode(value["token"], validate=True)
            receipt = cls(**value)
            strings = (receipt.kind, receipt.origin, receipt.imprint, receipt.location, receipt.version)
            if not all(isinstance(item, str) for item in strings) or not re.fullmatch("[0-9a-f]{64}", receipt.imprint):
                raise ValueError("a member has the wrong type")
            if type(receipt.size) is not int or receipt.size < 0:
                raise ValueError("the size is not a number")
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError, binascii.Error) as error:
            raise AnchorError(f"not an anchor receipt: {error}") from error
        return receipt


class Anchor(Protocol):
    """A place outside the reach of those who can write the ledger."""

    @property
    def kind(self) -> str:
        """What sort of anchor this is; part of receipts and reports."""

    def put(self, checkpoint: Checkpoint, note: str) -> AnchorReceipt:
        """Anchor a signed head. Doing it again for the same head is no error.

        Raises:
            AnchorConflict: if another head of this ledger and size is there.
            AnchorError: if it failed; nothing is known then, and it may be tried again.
        """

    def heads(self, origin: str) -> Iterator[AnchoredHead]:
        """Yield what the anchor holds for a ledger, in order of size; nothing for anchors that only issue tokens.

        Signatures are not verified here: compare only after `open_checkpoint`.

        Raises:
            AnchorError: if it cannot be read or holds something that is no checkpoint.
        """

    def check(self, receipt: AnchorReceipt, note: str) -> AnchorTime:
        """Return since when the anchor has had the head that the receipt is for.

        Raises:
            AnchorConflict: if the anchor holds something else now.
            AnchorError: if the receipt is not for this note, or the anchor cannot be read.
        """


def imprint(note: str) -> str:
    """Return the SHA-256 hex of a note's signed text, which is what anchors remember."""
    return hashlib.sha256(parse_note(note).text.encode()).hexdigest()


def matched(checkpoint: Checkpoint, note: str) -> str:
    """Return the note's signed text.

    Raises:
        AnchorError: if the note is not of this checkpoint, or too large.
    """
    text = parse_note(note).text
    if Checkpoint.parse(text) != checkpoint:
        raise AnchorError(f"the note is not the one of the checkpoint of size {checkpoint.size}")
    if len(note.encode()) > MAX_NOTE_BYTES:
        raise AnchorError(f"the note is larger than {MAX_NOTE_BYTES} bytes")
    return text


def check_receipt(receipt: AnchorReceipt, note: str, kinds: tuple[str, ...]) -> str:
    """Return the note's signed text after comparing receipt and note.

    Raises:
        AnchorError: if the receipt is for another note or kind of anchor.
    """
    text = parse_note(note).text
    head = Checkpoint.parse(text)
    if receipt.kind not in kinds:
        raise AnchorError(f"a receipt of kind {receipt.kind!r} is not one of this anchor")
    if (receipt.origin, receipt.size, receipt.imprint) != (head.origin, head.size, imprint(note)):
        raise AnchorError(f"the receipt is for another head than this one of size {head.size}")
    return text


def read_head(data: bytes, where: str, origin: str, size: int) -> tuple[Checkpoint, str]:
    """Parse what an anchor holds under a ledger's name and size.

    Raises:
        AnchorError: if it is not a signed checkpoint of that ledger and size.
    """
    try:
        if len(data) > MAX_NOTE_BYTES:
            raise ValueError("it is too large")
        note = data.decode("utf-8")
        head = Checkpoint.parse(parse_note(note).text)
    except ValueError as error:  # NoteError is one
        raise AnchorError(f"{where}: not a signed checkpoint: {error}") from error
    if (head.origin, head.size) != (origin, size):
        raise AnchorError(f"{where}: holds a checkpoint of another ledger or size")
    return head, note


def escape(origin: str) -> str:
    """Return an origin as one path segment: everything but letters, digits, `_` and `-` as %XX, so that `..` cannot occur."""
    return "".join(
        chr(byte) if chr(byte).isascii() and (chr(byte).isalnum() or chr(byte) in "_-") else f"%{byte:02X}"
        for byte in origin.encode()
    )
