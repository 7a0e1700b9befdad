"""What an archive folder's files hold: the signed manifest, payload bundles, and files written whole or not at all.

Invariants: a manifest is verified with a key from outside before it is parsed; payload bundles have one meaning only; nothing is
overwritten in place.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from cognify_dagster.ledger.archive.tiles import (
    WIDTH,
)
from cognify_dagster.ledger.canonical import canonical_json, parse_canonical
from cognify_dagster.ledger.entry import MAX_PAYLOAD, Entry, pae, payload_commitment
from cognify_dagster.ledger.errors import (
    CanonicalJsonError,
    EntryError,
    LedgerError,
    LedgerUnreadable,
    Tampered,
)
from cognify_dagster.ledger.store import StoredEntry, StoredPayload

CUT = 65_536
MANIFEST = "manifest.json"
PREDICATE = "urn:cognify:predicate:ledger-archive:v1"
STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
MAX_MANIFEST = 32 * 1024 * 1024
MAX_PAYLOADS = WIDTH * (MAX_PAYLOAD + 69)
_HEX64 = re.compile(r"[0-9a-f]{64}")
ABSENT, PRESENT = b"\x00", b"\x01"


@dataclass(frozen=True)
class ManifestSigner:
    """Who signs manifests: a key id (first 16 hex digits of SHA-256 over the public key) and an Ed25519 signing function.

    This is the workload's key. The log key signs checkpoints and nothing else.
    """

    key_id: str
    sign: Callable[[bytes], bytes]


def read_entry(data: bytes, seq: int, origin: str, prev: str | None, problem: type[LedgerError]) -> Entry:
    try:
        entry = Entry.parse(data)
    except EntryError as error:
        raise problem(f"entry {seq}: {error}") from error
    if entry.ledger != origin:
        raise problem(f"entry {seq} belongs to ledger {entry.ledger!r}, not {origin!r}")
    if entry.seq != seq:
        raise problem(f"entry {seq}: its bytes say sequence number {entry.seq}")
    if prev is not None and entry.prev != prev:
        raise problem(f"entry {seq}: the chain is broken here")
    return entry


def check_row_payload(entry: Entry, row: StoredPayload, problem: type[LedgerError]) -> None:
    if row.salt is None or row.data is None or len(row.salt) != 32:
        raise problem(f"entry {entry.seq}: its payload has no salt")
    if payload_commitment(row.salt, row.data) != entry.commitment:
        raise problem(f"entry {entry.seq}: its payload is not the one the entry commits to")
    if row.facts_digest is None or not _HEX64.fullmatch(row.facts_digest):
        raise problem(f"entry {entry.seq}: its payload has no facts digest")
    try:
        value = parse_canonical(row.data)
        known = isinstance(value, dict) and "facts" in value
        if known and hashlib.sha256(canonical_json(value["facts"])).hexdigest() != row.facts_digest:
            raise problem(f"entry {entry.seq}: the facts digest is not that of its payload")
    except CanonicalJsonError as error:
        raise problem(f"entry {entry.seq}: its payload is not canonical JSON: {error}") from error


def pack_payload(row: StoredPayload) -> bytes:
    """0x01, salt (32), facts digest (32), length (4, big-endian), payload; a single 0x00 where there is none."""
    if row.data is None or row.salt is None or row.facts_digest is None:
        return ABSENT
    return PRESENT + row.salt + bytes.fromhex(row.facts_digest) + len(row.data).to_bytes(4, "big") + row.data


def unpack_payloads(data: bytes, first: int, count: int, name: str) -> list[StoredPayload]:
    rows: list[StoredPayload] = []
    at = 0
    for seq in range(first, first + count):
        flag = data[at : at + 1]
        if flag == ABSENT:
            rows.append(StoredPayload(seq, None, None, None))
            at += 1
            continue
        length = int.from_bytes(data[at + 65 : at + 69], "big")
        end = at + 69 + length
        if flag != PRESENT or end > len(data):
            raise LedgerUnreadable(f"{name}: the payload of entry {seq} is cut off or damaged")
        rows.append(StoredPayload(seq, data[at + 1 : at + 33], data[at + 33 : at + 65].hex(), data[at + 69 : end]))
        at = end
    if at != len(data):
        raise LedgerUnreadable(f"{name}: it holds more than {count} payloads")
    return rows


def seal_manifest(predicate: Mapping[str, Any], files: Mapping[str, str], signer: ManifestSigner) -> bytes:
    """Return the signed manifest of an archive folder; `files` maps names to SHA-256 hex."""
    return seal_statement(PREDICATE, predicate, files, signer)


def seal_statement(
    predicate_type: str, predicate: Mapping[str, Any], files: Mapping[str, str], signer: ManifestSigner
) -> bytes:
    """Return a DSSE envelope over an in-toto Statement about files, as canonical JSON."""
    subject = [{"digest": {"sha256": digest}, "name": name} for name, digest in sorted(files.items())]
    statement = canonical_json(
        {"_type": STATEMENT_TYPE, "predicate": dict(predicate), "predicateType": predicate_type, "subject": subject}
    )
    signature = signer.sign(pae(PAYLOAD_TYPE, statement))
    return canonical_json(
        {
            "payload": base64.b64encode(statement).decode(),
            "payloadType": PAYLOAD_TYPE,
            "signatures": [{"keyid": signer.key_id, "sig": base64.b64encode(signature).decode()}],
        }
    )


class Source(Protocol):
    """Whatever entries can be read from: a store, an archive folder, a backup."""

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end)."""

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield the payload rows of entries [start, end)."""


# --- erasures, which archives and stores must account for alike ---


def erased_by(payload: bytes) -> frozenset[int]:
    """Return the sequence numbers that the payload of a `payload_erased` entry names in `seq` and `seqs`."""
    try:
        facts = parse_canonical(payload)["facts"]
        named = [facts.get("seq"), *(facts.get("seqs") or ())]
    except (CanonicalJsonError, KeyError, TypeError, AttributeError):
        return frozenset()
    return frozenset(value for value in named if type(value) is int)


def erasures(store: Source, start: int, end: int) -> frozenset[int]:
    """Return the sequence numbers that erasure entries among [start, end) of a store account for."""
    found: set[int] = set()
    for row in store.entries(start, end):
        if row.kind == "payload_erased":
            for payload in store.payloads(row.seq, row.seq + 1):
                found |= erased_by(payload.data or b"")
    return frozenset(found)


def open_manifest(path: Path, raw: bytes, keys: Mapping[str, bytes]) -> Mapping[str, Any]:
    """Verify an archive's manifest and return its statement."""
    statement = open_statement(path, raw, keys, PREDICATE)
    try:
        predicate = statement["predicate"]
        if set(predicate) != {"checkpoint", "end", "ledger", "root", "start"}:
            raise ValueError("its predicate has other members than it should")
        start, end, head = predicate["start"], predicate["end"], predicate["checkpoint"]
        if type(start) is not int or type(end) is not int or start % WIDTH or not 0 <= start < end < 2**53:
            raise ValueError(f"{start}..{end} is no range of entries")
        if type(predicate["ledger"]) is not str or not _HEX64.fullmatch(predicate["root"]):
            raise ValueError("ledger or root is malformed")
        if head is not None and (
            set(head) != {"proof", "size"} or type(head["size"]) is not int or len(head["proof"]) > 63
        ):
            raise ValueError("the checkpoint is malformed")
        if end - start > len(statement["subject"]) * WIDTH:
            raise ValueError("it lists too few files for its entries")
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise LedgerUnreadable(f"{path}: not an archive manifest: {error}") from error
    return statement


def open_statement(path: Path, raw: bytes, keys: Mapping[str, bytes], predicate_type: str) -> Mapping[str, Any]:
    """Verify a DSSE envelope with keys from outside, then parse its statement once, strictly.

    Raises:
        LedgerUnreadable: if it has not the form it should have.
        Tampered: if no given key signed it.
    """
    try:
        envelope = parse_canonical(raw)
        signatures = envelope["signatures"]
        if set(envelope) != {"payload", "payloadType", "signatures"} or envelope["payloadType"] != PAYLOAD_TYPE:
            raise ValueError("not a DSSE envelope of an in-toto statement")
        if len(signatures) != 1:
            raise ValueError("it has exactly one signature")
        public = keys.get(signatures[0]["keyid"])
        payload = base64.b64decode(envelope["payload"], validate=True)
        signature = base64.b64decode(signatures[0]["sig"], validate=True)
    except (CanonicalJsonError, KeyError, TypeError, ValueError, AttributeError, binascii.Error) as error:
        raise LedgerUnreadable(f"{path}: not a signed manifest: {error}") from error
    if public is None:
        raise Tampered(f"{path}: signed with key {signatures[0]['keyid']!r}, which is none of those given")
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, pae(PAYLOAD_TYPE, payload))
    except (InvalidSignature, ValueError) as error:
        raise Tampered(f"{path}: its signature does not verify; fetch the folder again") from error
    try:
        statement = parse_canonical(payload)
        if not isinstance(statement, dict) or set(statement) != {"_type", "predicate", "predicateType", "subject"}:
            raise ValueError("not an in-toto statement")
        if statement["_type"] != STATEMENT_TYPE or statement["predicateType"] != predicate_type:
            raise ValueError(f"its type is not {predicate_type}")
        for item in statement["subject"]:
            if not _HEX64.fullmatch(item["digest"]["sha256"]) or type(item["name"]) is not str:
                raise ValueError("a file's name or digest is malformed")
    except (CanonicalJsonError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise LedgerUnreadable(f"{path}: not a signed manifest: {error}") from error
    return statement


# --- files ---


def write_file(path: Path, data: bytes) -> None:
    """Write a new private file and flush it."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def read_file(path: Path, limit: int) -> bytes:
    """Read a regular file of bounded size, following no link.

    Raises:
        LedgerUnreadable: if it is missing, too large or no regular file.
    """
    try:
        if path.is_symlink() or not path.is_file():
            raise LedgerUnreadable(
                f"{path} is missing, or no regular file; fetch it again from where the archive is kept"
            )
        if path.stat().st_size > limit:
            raise LedgerUnreadable(f"{path} is larger than the {limit} bytes it may have")
        return path.read_bytes()
    except OSError as error:
        raise LedgerUnreadable(f"{path} cannot be read: {error.strerror}") from error


def sync_folder(path: Path) -> None:
    """Flush the names in a folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
