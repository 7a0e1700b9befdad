"""A writer process for the tests: appends numbered entries and prints each sequence number once it is acknowledged."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from cognify_dagster.ledger import Draft, Ledger, LogSigner, Receipt, SqliteStore, Store, canonical_json


def open_store(address: str) -> Store:
    """Open a ledger by its path or its URL."""
    if address.startswith("postgresql://"):
        from cognify_dagster.ledger.postgres.store import PostgresStore

        return PostgresStore(address)
    return SqliteStore(address)


def draft(name: str, number: int) -> Draft:
    facts = {"writer": name, "n": number}
    return Draft(
        kind="training_run",
        schema=1,
        subjects=(f"model/{name}", "model/shared"),
        actor="workload/w",
        idem=hashlib.sha256(f"{name} {number}".encode()).hexdigest(),
        payload=canonical_json({"facts": facts, "observed": {}}),
        facts_digest=hashlib.sha256(canonical_json(facts)).hexdigest(),
    )


def acknowledge(receipts: list[Receipt]) -> None:
    sys.stdout.write("".join(f"{receipt.seq} {receipt.leaf.hex()}\n" for receipt in receipts))
    sys.stdout.flush()


def main() -> None:
    address, name, count, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    store = open_store(address)
    signer = None
    if mode == "sign":
        folder = Path(address).parent
        signer = LogSigner(folder / "log.key", folder / "signer.json", store.origin)
    ledger = Ledger(store, signer=signer)
    step = 5 if mode == "batch" else 1
    for number in range(0, count, step):
        if mode == "batch":
            acknowledge(ledger.append_many([draft(name, n) for n in range(number, number + step)]))
        else:
            acknowledge([ledger.append(draft(name, number))])
        if mode == "sign":
            ledger.sign_checkpoint()


if __name__ == "__main__":
    main()
