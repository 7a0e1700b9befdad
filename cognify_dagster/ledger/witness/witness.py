"""The witness without a network: bytes of a request in, status and bytes of a response out.

Invariants: nothing is remembered or cosigned before a configured log key's signature verified; the cosignature is returned
only after the head it is for was kept durably; texts of answers hold nothing secret.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from cognify_dagster.ledger.errors import LedgerError, NoteError
from cognify_dagster.ledger.note import Checkpoint, Note, VerifierKey, parse_note, verify_note
from cognify_dagster.ledger.quorum import cosign, signature_line
from cognify_dagster.ledger.witness.decide import Head, Refusal, decide
from cognify_dagster.ledger.witness.keyfile import WitnessKey
from cognify_dagster.ledger.witness.request import MAX_SIZE, SIZE_TYPE, AddCheckpoint
from cognify_dagster.ledger.witness.state import WitnessStore

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True)
class Response:
    """HTTP status, body and content type; `about` is what a log line may say of it."""

    status: int
    body: bytes
    content_type: str = _TEXT
    about: str = ""


class Witness:
    """Cosigns checkpoints of the logs it was configured with. Safe for many threads."""

    def __init__(
        self,
        store: WitnessStore,
        key: WitnessKey,
        logs: Iterable[VerifierKey],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Take the logs' verifier keys; a log's origin is its key's name, and it may have several keys during a rotation.

        Raises:
            NoteError: if no log is given.
        """
        self.store = store
        self.key = key
        self._clock = clock
        self._logs: dict[str, list[VerifierKey]] = {}
        for log in logs:
            self._logs.setdefault(log.name, []).append(log)
        if not self._logs:
            raise NoteError("a witness needs the verifier key of at least one log")

    @property
    def origins(self) -> tuple[str, ...]:
        """The logs this witness cosigns for."""
        return tuple(self._logs)

    def add_checkpoint(self, body: bytes) -> Response:
        """Answer an `add-checkpoint` request.

        Returns:
            200 with the cosignature line; 400 malformed; 403 no signature of a known log key; 404 unknown origin; 409 with the
            remembered size as text/x.tlog.size; 422 proof or root does not fit; 500 if the state could not be kept.
        """
        try:
            request = AddCheckpoint.parse(body)
            note = parse_note(request.note)
            checkpoint = Checkpoint.parse(note.text)
            if checkpoint.size > MAX_SIZE:
                raise NoteError("the checkpoint's size is out of range")
        except NoteError as error:
            return _text(400, str(error))
        keys = self._logs.get(checkpoint.origin)
        if keys is None:
            return _text(404, "this witness does not know that log")
        about = f"origin={checkpoint.origin} size={checkpoint.size}"
        try:
            verify_note(note, keys)
        except NoteError:
            return _text(403, "no signature of a known key of that log verifies", about)
        asked = Head(checkpoint.size, checkpoint.root)
        signed = _signed_by(note, keys)
        try:
            answer = self.store.check_and_store(
                checkpoint.origin,
                signed,
                asked,
                lambda remembered: decide(remembered, request.old, request.proof, asked),
                lambda stated: self._cosigned(note.text, signed, stated),
                int(self._clock()),
            )
        except LedgerError as error:
            return _text(500, "the witness could not keep the checkpoint; nothing was cosigned", f"{about} {error}")
        if isinstance(answer, Refusal):
            if answer.fork:
                about += " FORK: the log signed two roots for one size; kept as evidence"
            if answer.status == 409:
                return Response(409, f"{answer.message}\n".encode(), SIZE_TYPE, about)
            return _text(answer.status, answer.message, about)
        return Response(200, answer.encode(), _TEXT, about)

    def _cosigned(self, text: str, signed: str, stated: int) -> tuple[str, str]:
        line = cosign(text, self.key.name, self.key.private, stated)
        return signed + line, line

    def head(self, name: str) -> Response:
        """Answer a request for the newest checkpoint cosigned for a log, named by the SHA-256 hex of its origin.

        This is an addition to tlog-witness: the size in a 409 is unsigned, whereas this note proves what was cosigned.
        """
        for origin in self._logs:
            if hashlib.sha256(origin.encode()).hexdigest() == name:
                try:
                    _, note = self.store.remembered(origin)
                except LedgerError as error:
                    return _text(500, "the witness's state cannot be read", str(error))
                return (
                    _text(404, "nothing was cosigned for that log yet")
                    if note is None
                    else Response(200, note.encode())
                )
        return _text(404, "this witness does not know that log")


def _signed_by(note: Note, keys: Iterable[VerifierKey]) -> str:
    """Return the note with the lines of these keys only: whatever else a client added is not kept."""
    known = {(key.name, key.key_id) for key in keys}
    lines = dict.fromkeys(line for line in note.signatures if (line.name, line.key_id) in known)
    return note.text + "\n" + "".join(map(signature_line, lines))


def _text(status: int, message: str, about: str = "") -> Response:
    return Response(status, f"{message}\n".encode(), _TEXT, about or message)
