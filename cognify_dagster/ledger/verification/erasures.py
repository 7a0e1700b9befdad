"""Payloads that are still there, or there again, although an erasure entry covers them.

Invariants: an erasure that is just being carried out raises no alarm. Its entry is written first and the payload removed right
after, so a payload found in between is looked at again before it counts. What is left then is no tampering with the record (the
payload is the one that was committed to), but the erasure is not proven.
"""

from __future__ import annotations

import time

from cognify_dagster.ledger.errors import LedgerUnreadable
from cognify_dagster.ledger.store import Store
from cognify_dagster.ledger.verification.reading import rows
from cognify_dagster.ledger.verification.report import Finding, Outcome
from cognify_dagster.ledger.verification.scan import ERASURE_KIND, Seam, erased_by

PATIENCE_S = 2.0
_PAUSE_S = 0.1


def put_back(store: Store, seam: Seam) -> list[Finding]:
    """Look for payloads of entries that an erasure entry names.

    Args:
        store: where the payloads are.
        seam: what was read; `missing` are entries whose payload was found to be gone.
    """
    by: dict[int, int] = {}
    for number, kind, facts in seam.noted:
        if kind == ERASURE_KIND:
            for seq in erased_by([facts]):
                by.setdefault(seq, number)
    left = sorted(seq for seq in by if 0 <= seq < seam.count and seq not in seam.missing)
    deadline = time.monotonic() + PATIENCE_S
    while (left := [seq for seq in left if _there(store, seq)]) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    return [
        Finding(
            Outcome.UNPROVEN,
            seq,
            f"its payload is here although entry {by[seq]} erased it: it was put back, or the erasure was cut off; finish it with "
            "`cognify erase --resume`",
        )
        for seq in left
    ]


def _there(store: Store, seq: int) -> bool:
    try:
        return any(
            row.data is not None or row.salt is not None or row.facts_digest is not None
            for row in rows(store.payloads, seq, seq + 1)
        )
    except LedgerUnreadable:  # in an archive that is not at hand
        return False
