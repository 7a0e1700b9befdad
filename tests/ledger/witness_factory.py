"""A small log for witness and anchor tests: leaves in a list, checkpoints signed with a fixed key, proofs from the list."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import Checkpoint, VerifierKey, leaf_hash, merkle_root, sign_note
from cognify_dagster.ledger.merkle import consistency_proof
from cognify_dagster.ledger.note import COSIGNATURE
from cognify_dagster.ledger.witness import AddCheckpoint, Witness, WitnessKey, WitnessStore

ORIGIN = "bank.example/demo/credit"
NOW = 1_790_000_000


def private(name: str) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())


def cosigner(name: str) -> VerifierKey:
    return VerifierKey(name, private(name).public_key().public_bytes_raw(), COSIGNATURE)


class Log:
    """A ledger as a witness sees it. `history` makes two logs of one key differ from entry `fork` on."""

    def __init__(self, origin: str = ORIGIN, size: int = 40, history: str = "a", fork: int = 0, key: str = "") -> None:
        self.origin = origin
        self.private = private(key or origin)
        self.key = VerifierKey(origin, self.private.public_key().public_bytes_raw())
        self.leaves = [leaf_hash(f"{history if at >= fork else 'a'}{at}".encode()) for at in range(size)]

    def head(self, size: int) -> Checkpoint:
        return Checkpoint(self.origin, size, merkle_root(self.leaves[:size]))

    def note(self, size: int) -> str:
        return sign_note(self.head(size).text(), self.origin, self.private)

    def proof(self, old: int, new: int) -> list[bytes]:
        def read(level: int, index: int) -> bytes:
            return merkle_root(self.leaves[index << level : (index + 1) << level])

        return consistency_proof(old, new, read) if 0 < old < new else []

    def request(self, old: int, new: int) -> bytes:
        return AddCheckpoint(old, tuple(self.proof(old, new)), self.note(new)).body()


def new_witness(folder: Path, *logs: Log, name: str = "risk.bank.example/w1", now: float = NOW) -> Witness:
    key = WitnessKey.create(folder / f"{name.replace('/', '_')}.key", name)
    store = WitnessStore.create(folder / f"{name.replace('/', '_')}.db", key.verifier)
    return Witness(store, key, [log.key for log in logs], clock=lambda: now)
