"""A ledger with a log key and a workload key, for the tests of archives, backups and copies."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import Checkpoint, Draft, Receipt, VerifierKey, canonical_json, merkle_root, sign_note
from cognify_dagster.ledger.archive.detaching import attach_segment, detach_segment
from cognify_dagster.ledger.archive.export import export_archive
from cognify_dagster.ledger.archive.format import ManifestSigner
from cognify_dagster.ledger.archive.reader import Archive, open_archive
from cognify_dagster.ledger.entry import SealedBody, seal_body
from cognify_dagster.ledger.store import Segment, Store
from tests.ledger.memory_store import MemoryStore

ORIGIN = "bank.example/demo/archive"
LOG = Ed25519PrivateKey.from_private_bytes(b"L" * 32)
WORKLOAD = Ed25519PrivateKey.from_private_bytes(b"W" * 32)
WORKLOAD_PUBLIC = WORKLOAD.public_key().public_bytes_raw()
KEY_ID = hashlib.sha256(WORKLOAD_PUBLIC).hexdigest()[:16]
SIGNER = ManifestSigner(KEY_ID, WORKLOAD.sign)
MANIFEST_KEYS = {KEY_ID: WORKLOAD_PUBLIC}
START_US = 1_760_000_000_000_000


def log_key(origin: str = ORIGIN) -> VerifierKey:
    return VerifierKey(origin, LOG.public_key().public_bytes_raw())


def draft(number: int, kind: str = "training_run", facts: Any = None, subjects: tuple[str, ...] | None = None) -> Draft:
    facts = {"n": number, "text": "x" * (number % 7)} if facts is None else facts
    return Draft(
        kind=kind,
        schema=1,
        subjects=subjects or (f"model/m{number % 3}",),
        actor="workload/w",
        idem=hashlib.sha256(f"{kind} {number}".encode()).hexdigest(),
        payload=canonical_json({"facts": facts, "observed": {"at": number}}),
        facts_digest=hashlib.sha256(canonical_json(facts)).hexdigest(),
    )


@lru_cache(maxsize=4096)
def sealed(number: int, origin: str = ORIGIN) -> SealedBody:
    return seal_body(origin, draft(number), salt=hashlib.sha256(b"salt%d" % number).digest())


def fill(store: Any, size: int) -> None:
    """Append entries until the store has `size` of them."""
    store.append_many([sealed(number, store.origin) for number in range(store.size(), size)], START_US)


def record(store: Store, kind: str, facts: dict[str, Any]) -> Receipt:
    """Append an entry about the ledger itself; the same facts give the same entry."""
    number = int(hashlib.sha256(canonical_json(facts)).hexdigest()[:8], 16)
    body = seal_body(store.origin, draft(number, kind, facts, ("ledger",)), salt=b"s" * 32)
    return store.append(body, START_US + store.size(), None)


def erase(store: Store, seq: int) -> None:
    """Erase as the governance room does: entry first, then the payload."""
    record(store, "payload_erased", {"seq": seq, "basis": "Art. 17"})
    store.erase([seq])


def leaves(store: Any) -> list[bytes]:
    return [row.leaf for row in store.entries(0, store.size())]


def checkpoint(store: Any, size: int | None = None) -> str:
    """Sign and keep a checkpoint over the first entries, from their leaves."""
    known = store.leaves if isinstance(store, MemoryStore) else leaves(store)
    size = len(known) if size is None else size
    note = sign_note(Checkpoint(store.origin, size, merkle_root(known[:size])).text(), store.origin, LOG)
    store.add_checkpoint(size, note)
    return note


def export(store: Store, folder: Path, start: int, end: int, **options: Any) -> Archive:
    export_archive(store, folder, start, end, signer=SIGNER, log_keys=[log_key(store.origin)], **options)
    return opened(folder, store.origin)


def opened(folder: Path, origin: str = ORIGIN) -> Archive:
    return open_archive(folder, manifest_keys=MANIFEST_KEYS, log_keys=[log_key(origin)], origin=origin)


def note_archived(store: Store) -> Callable[[Archive], Receipt]:
    def append(archive: Archive) -> Receipt:
        facts = {"end": archive.end, "manifest": archive.manifest, "root": archive.root.hex(), "start": archive.start}
        return record(store, "segment_archived", facts)

    return append


def detach(store: Store, archive: Archive) -> Segment:
    return detach_segment(store, archive, note_archived(store))


def attach(store: Store, archive: Archive) -> Segment:
    return attach_segment(store, archive)
