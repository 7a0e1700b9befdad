"""A writer process of the soak: appends honest entries in batches, repeats some of them as a retried step does, and ends."""

from __future__ import annotations

import hashlib
import sys
import time

from cognify_dagster.ledger import Draft, Ledger, LedgerUnreadable, Store, canonical_json
from tests.ledger.writer import open_store


def draft(name: str, number: int) -> Draft:
    """An entry of a training run; every thirteenth is about a policy too."""
    facts = {"writer": name, "n": number, "text": "x" * (number % 97), "share": number / 7}
    subjects = (f"model/m{number % 50}", f"dataset/d{number % 11}") + (("policy",) if number % 13 == 0 else ())
    return Draft(
        kind="training_run",
        schema=1,
        subjects=subjects,
        actor="workload/w",
        idem=hashlib.sha256(f"{name} {number}".encode()).hexdigest(),
        payload=canonical_json({"facts": facts, "observed": {"person": f"someone {number % 1000}"}}),
        facts_digest=hashlib.sha256(canonical_json(facts)).hexdigest(),
    )


def opened(address: str, patience_s: float = 30.0) -> Store:
    """The ledger; while its server is starting again, wait for it."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return open_store(address)
        except LedgerUnreadable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def main() -> None:
    """Append entries first..past under a name; print how many were new."""
    address, name, first, past, batch = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    ledger = Ledger(opened(address))
    new = 0
    for start in range(first, past, batch):
        drafts = [draft(name, number) for number in range(start, min(past, start + batch))]
        new += sum(not receipt.duplicate for receipt in ledger.append_many(drafts))
        if start == first:  # a retry whose first answer was lost
            assert all(receipt.duplicate for receipt in ledger.append_many(drafts))
    print(new)


if __name__ == "__main__":
    main()
