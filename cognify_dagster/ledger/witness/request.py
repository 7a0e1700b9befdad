"""The body of a C2SP tlog-witness `add-checkpoint` request: `old <size>`, proof lines, an empty line, the checkpoint."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass

from cognify_dagster.ledger.errors import NoteError
from cognify_dagster.ledger.merkle import HASH_SIZE

MAX_PROOF = 63
MAX_BODY = 64 * 1024
"""Bytes. A proof has at most 63 lines of 45 bytes; the rest is room for a checkpoint with many signatures."""
SIZE_TYPE = "text/x.tlog.size"
MAX_SIZE = 2**63 - 1


@dataclass(frozen=True)
class AddCheckpoint:
    """A request: the size the witness is thought to have, the consistency proof from there, the signed checkpoint."""

    old: int
    proof: tuple[bytes, ...]
    note: str

    def body(self) -> bytes:
        """Return the request's body."""
        lines = "".join(base64.b64encode(value).decode() + "\n" for value in self.proof)
        return f"old {self.old}\n{lines}\n{self.note}".encode()

    @classmethod
    def parse(cls, body: bytes) -> AddCheckpoint:
        """Parse a request's body.

        Raises:
            NoteError: if it is too large or malformed. The checkpoint in it is not looked at yet.
        """
        if len(body) > MAX_BODY:
            raise NoteError(f"the request is larger than {MAX_BODY} bytes")
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as error:
            raise NoteError("the request is not UTF-8") from error
        head, blank, note = text.partition("\n\n")
        lines = head.split("\n")
        match = re.fullmatch(r"old (0|[1-9][0-9]{0,18})", lines[0])
        if not blank or match is None or int(match[1]) > MAX_SIZE:
            raise NoteError("the request does not begin with `old <size>` and an empty line after the proof")
        if len(lines) - 1 > MAX_PROOF:
            raise NoteError(f"the request has more than {MAX_PROOF} proof lines")
        return cls(int(match[1]), tuple(_hash(line) for line in lines[1:]), note)


def _hash(line: str) -> bytes:
    if not re.fullmatch(r"[A-Za-z0-9+/]{43}=", line):
        raise NoteError("a proof line is not the base64 of a hash of 32 bytes")
    raw = base64.b64decode(line)
    if len(raw) != HASH_SIZE or base64.b64encode(raw).decode() != line:
        raise NoteError("a proof line is not the canonical base64 of a hash of 32 bytes")
    return raw
