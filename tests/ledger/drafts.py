"""Drafts and a clock for the tests of stores and ledgers."""

from __future__ import annotations

import hashlib
from typing import Any

from cognify_dagster.ledger import Draft, canonical_json

ORIGIN = "bank.example/demo/store"
MINUTE = 60_000_000
START = 1_760_000_000_000_000


def draft(number: int, *, subjects: tuple[str, ...] = ("model/a",), facts: Any = None, **changed: Any) -> Draft:
    """A draft whose idempotency key and facts follow from a number."""
    payload = canonical_json({"facts": {"n": number} if facts is None else facts, "observed": {}})
    fields: dict[str, Any] = {
        "kind": "training_run",
        "schema": 1,
        "subjects": subjects,
        "actor": "workload/w",
        "idem": hashlib.sha256(str(number).encode()).hexdigest(),
        "payload": payload,
        "facts_digest": hashlib.sha256(canonical_json({"n": number} if facts is None else facts)).hexdigest(),
        **changed,
    }
    return Draft(**fields)


class Clock:
    """A clock in microseconds that goes on by a millisecond each time it is read."""

    def __init__(self, now: int = START) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1000
        return self.now
