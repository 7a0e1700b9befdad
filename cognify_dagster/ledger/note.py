"""C2SP signed notes, verifier keys (vkey) and checkpoints; C2SP tlog-proof files; C2SP tlog-policy trust files.

Invariants: text is signed as exact bytes; an unknown key is ignored, a known key whose signature fails rejects the whole
note; trust comes only from the keys that the caller passes in.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from cognify_dagster.ledger.errors import NoteError
from cognify_dagster.ledger.merkle import HASH_SIZE, verify_inclusion

ED25519 = 0x01
COSIGNATURE = 0x04
MLDSA_COSIGNATURE = 0x06
COSIGNATURES = (COSIGNATURE, MLDSA_COSIGNATURE)
_PUBLIC_SIZES = {ED25519: 32, COSIGNATURE: 32, MLDSA_COSIGNATURE: 1312}
MAX_NOTE = 1_000_000
MAX_SIGNATURES = 100
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
_GENESIS_COMMENT = "# cognify-genesis "


@dataclass(frozen=True)
class VerifierKey:
    """A named public key in C2SP vkey form: `name+<8 hex key id>+base64(type ‖ key)`.

    `algorithm` is 0x01 for the Ed25519 keys that sign notes, 0x04 for witnesses' Ed25519 cosignature keys and 0x06 for their
    ML-DSA-44 ones. Keys of 0x01 and 0x04 have 32 bytes, those of 0x06 have 1312.
    """

    name: str
    public: bytes
    algorithm: int = ED25519

    @property
    def key_id(self) -> bytes:
        """First four bytes of SHA-256(name ‖ 0x0A ‖ type ‖ key)."""
        return hashlib.sha256(self.name.encode() + b"\n" + bytes([self.algorithm]) + self.public).digest()[:4]

    def __str__(self) -> str:
        return f"{self.name}+{self.key_id.hex()}+{_b64(bytes([self.algorithm]) + self.public)}"

    @classmethod
    def parse(cls, text: str, *algorithms: int) -> VerifierKey:
        """Parse a vkey of one of the given types, by default 0x01.

        Raises:
            NoteError: if it is malformed, of another type, or its key id is wrong.
        """
        parts = text.split("+", 2)
        if len(parts) != 3:
            raise NoteError(f"{text[:80]!r} is not a verifier key (name+id+base64)")
        name, key_id, encoded = parts
        _check_name(name)
        raw = _unb64(encoded, "verifier key")
        wanted = algorithms or (ED25519,)
        if not raw or raw[0] not in wanted or len(raw) != 1 + _PUBLIC_SIZES[raw[0]]:
            raise NoteError(
                f"verifier key {name!r} is not a key of type {' or '.join(f'{one:#04x}' for one in wanted)}"
            )
        key = cls(name, raw[1:], raw[0])
        if key.key_id.hex() != key_id:
            raise NoteError(f"verifier key {name!r}: the key id does not match name and key")
        return key


@dataclass(frozen=True)
class NoteSignature:
    """One signature line: key name, 4-byte key id, signature bytes."""

    name: str
    key_id: bytes
    signature: bytes


@dataclass(frozen=True)
class Note:
    """A parsed, not yet verified note: the signed text (ends in a newline) and its signature lines."""

    text: str
    signatures: tuple[NoteSignature, ...]


def parse_note(data: str | bytes) -> Note:
    """Parse a C2SP signed note without verifying it.

    Raises:
        NoteError: if the note is malformed.
    """
    try:
        text = data.decode("utf-8") if isinstance(data, bytes) else data
    except UnicodeDecodeError as error:
        raise NoteError("the note is not UTF-8") from error
    if len(text) > MAX_NOTE:
        raise NoteError(f"the note is longer than {MAX_NOTE} characters")
    if any(ord(char) < 0x20 and char != "\n" for char in text):
        raise NoteError("the note holds a control character")
    split = text.rfind("\n\n")
    if split < 0 or not text.endswith("\n"):
        raise NoteError("not a signed note: no blank line before signatures, or no newline at the end")
    body, lines = text[: split + 1], text[split + 2 : -1].split("\n")
    if body == "\n" or not body:
        raise NoteError("the note's text is empty")
    if len(lines) > MAX_SIGNATURES:
        raise NoteError(f"the note has more than {MAX_SIGNATURES} signatures")
    return Note(body, tuple(_parse_signature(line) for line in lines))


def _parse_signature(line: str) -> NoteSignature:
    if not line.startswith("— "):
        raise NoteError("a signature line does not start with an em dash and a space")
    name, _, encoded = line[2:].partition(" ")
    _check_name(name)
    raw = _unb64(encoded, "note signature")
    if len(raw) < 5:
        raise NoteError("a signature is too short")
    return NoteSignature(name, raw[:4], raw[4:])


def verify_note(data: str | bytes | Note, keys: Iterable[VerifierKey]) -> tuple[str, tuple[VerifierKey, ...]]:
    """Verify a note against trusted keys.

    Returns:
        The signed text and the distinct trusted keys whose signatures verified, at least one.

    Raises:
        NoteError: if no trusted key signed the note, or a trusted key's signature is wrong.
    """
    note = data if isinstance(data, Note) else parse_note(data)
    known = {(key.name, key.key_id): key for key in keys}
    verified: dict[tuple[str, bytes], VerifierKey] = {}
    for line in note.signatures:
        key = known.get((line.name, line.key_id))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(line.signature, note.text.encode())
        except InvalidSignature as error:
            raise NoteError(f"the signature of {line.name!r} does not verify") from error
        verified[(line.name, line.key_id)] = key
    if not verified:
        raise NoteError("no trusted key signed this note")
    return note.text, tuple(verified.values())


def sign_note(text: str, name: str, private: Ed25519PrivateKey) -> str:
    """Return the signed note over `text` (which must end in a newline) with one Ed25519 signature."""
    if not text.endswith("\n"):
        raise NoteError("a note's text must end in a newline")
    _check_name(name)
    key = VerifierKey(name, private.public_key().public_bytes_raw())
    return f"{text}\n— {name} {_b64(key.key_id + private.sign(text.encode()))}\n"


@dataclass(frozen=True)
class Checkpoint:
    """C2SP tlog-checkpoint: the ledger's origin, its number of entries and its root hash."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the note text: origin, size and base64 root, one a line."""
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"

    @classmethod
    def parse(cls, text: str) -> Checkpoint:
        """Parse checkpoint text.

        Raises:
            NoteError: if a line is missing or malformed.
        """
        lines = text.split("\n")
        if len(lines) < 4 or not lines[0]:
            raise NoteError("a checkpoint needs three lines: origin, size, root")
        if not re.fullmatch(r"0|[1-9][0-9]{0,18}", lines[1]):
            raise NoteError(f"checkpoint size {lines[1][:40]!r} is not a decimal number")
        root = _unb64(lines[2], "checkpoint root")
        if len(root) != HASH_SIZE:
            raise NoteError("the checkpoint's root is not 32 bytes long")
        return cls(lines[0], int(lines[1]), root)


def open_checkpoint(note: str | bytes, keys: Sequence[VerifierKey]) -> Checkpoint:
    """Verify a signed checkpoint and return it.

    Raises:
        NoteError: if the signature fails, or the origin is not the name of a key that signed.
    """
    text, signers = verify_note(note, keys)
    checkpoint = Checkpoint.parse(text)
    if all(key.name != checkpoint.origin for key in signers):
        raise NoteError(f"no key named {checkpoint.origin!r} signed this checkpoint")
    return checkpoint


@dataclass(frozen=True)
class ProofFile:
    """A C2SP tlog-proof: index, inclusion path and the signed checkpoint that it leads to."""

    index: int
    path: tuple[bytes, ...]
    checkpoint_note: str

    def text(self) -> str:
        """Return the file's text."""
        hashes = "".join(_b64(value) + "\n" for value in self.path)
        return f"{PROOF_HEADER}\nindex {self.index}\n{hashes}\n{self.checkpoint_note}"

    @classmethod
    def parse(cls, text: str) -> ProofFile:
        """Parse a proof file.

        Raises:
            NoteError: if it is malformed.
        """
        head, blank, note = text.partition("\n\n")
        lines = head.split("\n")
        if not blank or lines[0] != PROOF_HEADER:
            raise NoteError("not a tlog-proof file")
        rest = lines[1:]
        if rest and rest[0].startswith("extra "):
            rest = rest[1:]
        if not rest or not re.fullmatch(r"index (0|[1-9][0-9]{0,18})", rest[0]):
            raise NoteError("the proof file has no index line")
        if len(rest) > 64:
            raise NoteError("the proof file has more than 63 hashes")
        path = tuple(_unb64(line, "proof hash") for line in rest[1:])
        return cls(int(rest[0][6:]), path, note)

    def verify(self, leaf: bytes, keys: Sequence[VerifierKey]) -> Checkpoint:
        """Check that the leaf is in the ledger that a trusted key signed; return the checkpoint.

        Raises:
            NoteError: if the checkpoint's signature fails.
            ProofError: if the path does not lead to its root.
        """
        checkpoint = open_checkpoint(self.checkpoint_note, keys)
        verify_inclusion(self.index, checkpoint.size, leaf, self.path, checkpoint.root)
        return checkpoint


@dataclass(frozen=True)
class TrustFile:
    """The auditor's root of trust: C2SP tlog-policy, with the genesis leaf in a comment line that other tools ignore.

    `quorum` is the name after `quorum`; witnesses and groups are kept as parsed and enforced where cosignatures are read
    (`quorum.evaluate`). `urls` holds the submission prefixes of the witnesses that have one, by name.
    """

    logs: tuple[VerifierKey, ...]
    genesis: bytes | None
    witnesses: tuple[tuple[str, VerifierKey], ...] = ()
    groups: tuple[tuple[str, int, tuple[str, ...]], ...] = ()
    quorum: str = "none"
    urls: tuple[tuple[str, str], ...] = ()

    @property
    def origin(self) -> str:
        """The origin of the first log, which is its key name."""
        return self.logs[0].name

    def text(self) -> str:
        """Return the file's text."""
        lines = [
            "# Trust file: keep it apart from the ledger and the bundles that it judges.",
            "# Format: C2SP tlog-policy. The genesis line pins the ledger's first entry.",
        ]
        if self.genesis is not None:
            lines.append(_GENESIS_COMMENT + self.genesis.hex())
        lines += [f"log {key}" for key in self.logs]
        urls = dict(self.urls)
        lines += [" ".join(filter(None, ("witness", name, str(key), urls.get(name)))) for name, key in self.witnesses]
        lines += [f"group {name} {k} {' '.join(members)}" for name, k, members in self.groups]
        lines.append(f"quorum {self.quorum}")
        return "\n".join(lines) + "\n"

    @classmethod
    def parse(cls, text: str) -> TrustFile:
        """Parse a trust file.

        Raises:
            NoteError: naming the line that is wrong.
        """
        logs: list[VerifierKey] = []
        witnesses: list[tuple[str, VerifierKey]] = []
        groups: list[tuple[str, int, tuple[str, ...]]] = []
        urls: list[tuple[str, str]] = []
        names: set[str] = set()
        used: set[str] = set()
        genesis: bytes | None = None
        quorum: str | None = None
        for number, line in enumerate(text.split("\n"), 1):
            words = line.split()
            try:
                if line.startswith(_GENESIS_COMMENT):
                    if genesis is not None or not re.fullmatch(r"[0-9a-f]{64}", words[2] if len(words) == 3 else ""):
                        raise NoteError("the genesis line does not hold one leaf of 64 hex digits, or there are two")
                    genesis = bytes.fromhex(words[2])
                elif not words or words[0].startswith("#"):
                    continue
                elif words[0] == "log" and len(words) in (2, 3):
                    logs.append(_new_key(VerifierKey.parse(words[1]), logs))
                elif words[0] == "witness" and len(words) in (3, 4):
                    key = VerifierKey.parse(words[2], *COSIGNATURES)
                    witnesses.append((_new_name(words[1], names), _new_key(key, [known for _, known in witnesses])))
                    urls += [(words[1], url) for url in words[3:]]
                elif words[0] == "group" and len(words) >= 4:
                    members = tuple(words[3:])
                    if missing := [name for name in members if name not in names]:
                        raise NoteError(f"unknown member {missing[0]!r}")
                    if len(set(members)) != len(members) or used & set(members):
                        raise NoteError("a name may be a member only once")
                    used |= set(members)
                    groups.append((_new_name(words[1], names), _threshold(words[2], len(members)), members))
                elif words[0] == "quorum" and len(words) == 2 and quorum is None:
                    quorum = words[1]
                    if quorum != "none" and quorum not in names:
                        raise NoteError(f"unknown quorum {quorum!r}")
                else:
                    raise NoteError(f"{words[0]!r} is not a valid line here")
            except ValueError as error:
                raise NoteError(f"trust file line {number}: {error}") from error
        if not logs or quorum is None:
            raise NoteError("the trust file needs at least one log line and exactly one quorum line")
        return cls(tuple(logs), genesis, tuple(witnesses), tuple(groups), quorum, tuple(urls))


def _new_key(key: VerifierKey, known: Sequence[VerifierKey]) -> VerifierKey:
    if any(key.public == other.public for other in known):
        raise NoteError(f"the key of {key.name!r} is listed twice")
    return key


def _new_name(name: str, names: set[str]) -> str:
    if name in names or name == "none":
        raise NoteError(f"name {name!r} is taken")
    names.add(name)
    return name


def _threshold(word: str, members: int) -> int:
    k = {"all": members, "any": 1}.get(word) or (int(word) if re.fullmatch("[0-9]{1,4}", word) else 0)
    if not 1 <= k <= members:
        raise NoteError(f"threshold {word!r} is not between 1 and {members}")
    return k


def _check_name(name: str) -> None:
    if not name or "+" in name or any(char.isspace() or ord(char) < 0x20 for char in name):
        raise NoteError(f"{name[:80]!r} is not a key name: it must be non-empty, without spaces and '+'")


def _b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _unb64(text: str, what: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise NoteError(f"{what}: not base64") from error
    if _b64(raw) != text:
        raise NoteError(f"{what}: not the canonical base64 of its bytes")
    return raw
