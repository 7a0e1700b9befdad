"""Witness cosignatures (C2SP tlog-cosignature, Ed25519 and ML-DSA-44) and the quorum of a trust file (C2SP tlog-policy). Pure functions.

Invariants: keys come from the trust file only; a line of an unknown key is ignored, also if its name is one that is trusted;
a line of a known key that does not verify rejects the whole note; a witness counts once however many lines it has. The
offline verifier has its own copy of these rules, and a test holds the two together.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cognify_dagster.ledger.errors import NoteError
from cognify_dagster.ledger.mldsa import SIGNATURE_SIZE, cosigned_message, verifies
from cognify_dagster.ledger.note import (
    COSIGNATURE,
    COSIGNATURES,
    MLDSA_COSIGNATURE,
    Checkpoint,
    Note,
    NoteSignature,
    TrustFile,
    VerifierKey,
    parse_note,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

MAX_TIME = 2**63 - 1
_TIME_SIZE = 8
_SIGNATURE_SIZES = {COSIGNATURE: 64, MLDSA_COSIGNATURE: SIGNATURE_SIZE}


def cosignature_message(text: str, time: int) -> bytes:
    """Return the bytes that a witness signs with Ed25519 for checkpoint text at a POSIX time in seconds."""
    return f"cosignature/v1\ntime {time}\n{text}".encode()


def cosigner_key(name: str, private: Ed25519PrivateKey | MLDSA44PrivateKey) -> VerifierKey:
    """Return the public half of a cosignature key."""
    algorithm = COSIGNATURE if isinstance(private, Ed25519PrivateKey) else MLDSA_COSIGNATURE
    return VerifierKey(name, private.public_key().public_bytes_raw(), algorithm)


def cosign(text: str, name: str, private: Ed25519PrivateKey | MLDSA44PrivateKey, time: int) -> str:
    """Return a witness's signature line, newline included, over checkpoint text.

    Args:
        text: the checkpoint's signed text, which ends in a newline.
        name: the witness's key name.
        private: its cosignature key, used for nothing else.
        time: POSIX time in seconds.

    Raises:
        NoteError: if text or time cannot be signed.
    """
    if not text.endswith("\n") or not 0 <= time <= MAX_TIME:
        raise NoteError("a cosignature is over text that ends in a newline, at a time from 1970 on")
    key = cosigner_key(name, private)
    blob = time.to_bytes(_TIME_SIZE, "big") + private.sign(_message(text, key, time))
    return signature_line(NoteSignature(name, key.key_id, blob))


def _message(text: str, key: VerifierKey, time: int) -> bytes:
    if key.algorithm == COSIGNATURE:
        return cosignature_message(text, time)
    return cosigned_message(key.name, time, Checkpoint.parse(text))


def signature_line(line: NoteSignature) -> str:
    """Return a signature line of a note as text, newline included."""
    return f"— {line.name} {base64.b64encode(line.key_id + line.signature).decode()}\n"


def verify_cosignature(text: str, line: NoteSignature, key: VerifierKey) -> int:
    """Return the time, POSIX seconds, at which a witness cosigned.

    Raises:
        NoteError: if the line is of another key, malformed, or does not verify over this text.
    """
    if (line.name, line.key_id) != (key.name, key.key_id) or key.algorithm not in COSIGNATURES:
        raise NoteError(f"the line of {line.name!r} is not a cosignature of {key.name!r}")
    time, signature = int.from_bytes(line.signature[:_TIME_SIZE], "big"), line.signature[_TIME_SIZE:]
    if len(signature) != _SIGNATURE_SIZES[key.algorithm] or time > MAX_TIME:
        raise NoteError(f"the cosignature of {line.name!r} is malformed")
    if not _verifies(key, signature, _message(text, key, time)):
        raise NoteError(f"the cosignature of {line.name!r} does not verify")
    if time == 0 and key.algorithm == MLDSA_COSIGNATURE:
        raise NoteError(
            f"the cosignature of {line.name!r} states no time, so not that it is the newest head it has seen"
        )
    return time


def _verifies(key: VerifierKey, signature: bytes, message: bytes) -> bool:
    if key.algorithm == MLDSA_COSIGNATURE:
        return verifies(key.public, signature, message)
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


@dataclass(frozen=True)
class Cosigner:
    """A witness that cosigned: its name in the trust file, its key's name, the earliest time it states (POSIX seconds)."""

    witness: str
    key_name: str
    time: int


@dataclass(frozen=True)
class QuorumResult:
    """What a trust file says about one checkpoint.

    `signers` are the trusted log keys that signed, `cosigners` the trusted witnesses, earliest first. `met` says whether the
    quorum is satisfied; it is False where the trust file asks for none, because then nobody outside remembers the head.
    """

    checkpoint: Checkpoint
    text: str
    signers: tuple[VerifierKey, ...]
    cosigners: tuple[Cosigner, ...]
    quorum: str
    met: bool
    witnessed_at: int | None

    @property
    def log_signed(self) -> bool:
        """Whether a trusted key named after the checkpoint's origin signed it."""
        return any(key.name == self.checkpoint.origin for key in self.signers)

    @property
    def level(self) -> str:
        """L0, L1 (signed by the log) or L2 (and cosigned by the quorum)."""
        if not self.log_signed:
            return "L0"
        return "L2" if self.met else "L1"

    def __str__(self) -> str:
        names = ", ".join(cosigner.witness for cosigner in self.cosigners) or "nobody"
        if self.quorum == "none":
            return "the trust file asks for no witnesses"
        return f"witness quorum {self.quorum!r} is {'met' if self.met else 'NOT met'} (cosigned by {names})"


def evaluate(trust: TrustFile, note: str | bytes | Note) -> QuorumResult:
    """Judge a checkpoint note by a trust file.

    Returns:
        Who of the trust file signed and cosigned it and whether the quorum is met.

    Raises:
        NoteError: if the note is malformed or a known key's line does not verify.
    """
    parsed = note if isinstance(note, Note) else parse_note(note)
    logs = {(key.name, key.key_id): key for key in trust.logs}
    witnesses = {(key.name, key.key_id): (name, key) for name, key in trust.witnesses}
    signers: dict[tuple[str, bytes], VerifierKey] = {}
    seen: dict[str, Cosigner] = {}
    for line in parsed.signatures:
        known = (line.name, line.key_id)
        if known in logs:
            _verify_log(parsed.text, line, logs[known])
            signers[known] = logs[known]
        elif known in witnesses:
            name, key = witnesses[known]
            time = verify_cosignature(parsed.text, line, key)
            if name not in seen or time < seen[name].time:
                seen[name] = Cosigner(name, key.name, time)
    cosigners = tuple(sorted(seen.values(), key=lambda cosigner: (cosigner.time, cosigner.witness)))
    reached = _reached(trust, {cosigner.witness: cosigner.time for cosigner in cosigners})
    checkpoint = Checkpoint.parse(parsed.text)
    return QuorumResult(
        checkpoint, parsed.text, tuple(signers.values()), cosigners, trust.quorum, reached is not None, reached
    )


def _verify_log(text: str, line: NoteSignature, key: VerifierKey) -> None:
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(line.signature, text.encode())
    except (InvalidSignature, ValueError) as error:
        raise NoteError(f"the signature of {line.name!r} does not verify") from error


def _reached(trust: TrustFile, times: dict[str, int]) -> int | None:
    """Return the earliest time by which the quorum had cosigned, None if it has not."""
    if trust.quorum == "none":
        return None
    at: dict[str, int | None] = {name: times.get(name) for name, _ in trust.witnesses}
    for name, k, members in trust.groups:  # members are defined before the group that has them
        given = sorted(time for member in members if (time := at[member]) is not None)
        at[name] = given[k - 1] if len(given) >= k else None
    return at[trust.quorum]
