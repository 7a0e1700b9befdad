"""A writer process for the tests: appends numbered entries and prints each sequence number once it is acknowledged."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

from cognify_dagster.ledger import Draft, Ledger, LogSigner, SqliteStore, canonical_json


def main() -> None:
    path, name, count, sign = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), sys.argv[4] == "sign"
    store = SqliteStore(path)
    signer = LogSigner(path.parent / "log.key", path.parent / "signer.json", store.origin) if sign else None
    ledger = Ledger(store, signer=signer)
    for number in range(count):
        facts = {"writer": name, "n": number}
        draft = Draft(
            kind="training_run",
            schema=1,
            subjects=(f"model/{name}", "model/shared"),
            actor="workload/w",
            idem=hashlib.sha256(f"{name} {number}".encode()).hexdigest(),
            payload=canonical_json({"facts": facts, "observed": {}}),
            facts_digest=hashlib.sha256(canonical_json(facts)).hexdigest(),
        )
        receipt = ledger.append(draft)
        sys.stdout.write(f"{receipt.seq} {receipt.leaf.hex()}\n")
        sys.stdout.flush()
        if sign:
            ledger.sign_checkpoint()


if __name__ == "__main__":
    main()
