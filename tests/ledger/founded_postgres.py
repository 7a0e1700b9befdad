"""A founded ledger in Postgres whose genesis entry enrols one writer, and drafts that this writer signs."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.ledger import Draft
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.postgres.store import PostgresStore
from tests.ledger.drafts import ORIGIN, START, draft

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = KEY.public_key().public_bytes_raw()
KEY_ID = hashlib.sha256(PUBLIC).hexdigest()[:16]
KINDS = ["training_run", "clock_floor_corrected"]


def signed(number: int, **changed: Any) -> Draft:
    """A draft of the suite, signed by the writer."""
    return replace(draft(number, **changed), key_id=KEY_ID, sign=KEY.sign)


def genesis() -> Draft:
    """The entry that founds the ledger."""
    workload = {
        "workload": "workload/w",
        "key": {"key_id": KEY_ID, "public": base64.b64encode(PUBLIC).decode()},
        "kinds": KINDS,
    }
    names = ("origin", "log_key", "trial", "policy", "policy_digest", "recovery_threshold", "recovery_keys", "created")
    facts: dict[str, Any] = {**dict.fromkeys(names, ""), "founders": [], "workloads": [workload]}
    return draft(0, kind="genesis", facts=facts, subjects=("ledger", "policy", "workload/w"), idem="00" * 32)


def found(store: PostgresStore) -> None:
    """Append the founding entry."""
    store.append(seal_body(ORIGIN, genesis()), START, None)
