"""Payloads that are still there, or there again, although an erasure entry covers them.

Invariants: an erasure that is just being carried out raises no alarm. Its entry is written first and the payload removed right
after, so a payload found in between is looked at again before it counts. What is left then is no tampering with the record (the
payload is the one that was committed to), but the erasure is not proven. The digest of erased facts counts as such a rest too,
where a database keeps it of an entry that lies in an archive.
"""

from __future__ import annotations

import time

from cognify_dagster.ledger.errors import LedgerUnreadable
from cognify_dagster.ledger.store import Store, TombstoneStore
from cognify_dagster.ledger.verification.reading import read, rows
from cognify_dagster.ledger.verification.report import Finding, Outcome
from cognify_dagster.ledger.verification.scan import ERASURE_KIND, Seam, erased_by

PATIENCE_S = 2.0
_PAUSE_S = 0.1
_PAYLOAD = "its payload is here although entry {} erased it: it was put back"
_DIGEST = "the database still keeps the digest of its facts although entry {} erased them: it was put back"


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
    archived = read(store.segments) if by and isinstance(store, TombstoneStore) else []

    def rest(seq: int) -> str | None:
        if seq < seam.count and seq not in seam.missing and _there(store, seq):
            return _PAYLOAD
        inside = any(segment.start <= seq < segment.end for segment in archived)
        return _DIGEST if inside and keeps_digest(store, seq) else None

    left = {seq: "" for seq in sorted(by) if seq >= 0}
    deadline = time.monotonic() + PATIENCE_S
    while (left := {seq: text for seq in left if (text := rest(seq))}) and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
    return [
        Finding(
            Outcome.UNPROVEN,
            seq,
            f"{text.format(by[seq])}, or the erasure was cut off; finish it with `cognify erase --resume`",
        )
        for seq, text in left.items()
    ]


def _there(store: Store, seq: int) -> bool:
    try:
        return any(
            row.data is not None or row.salt is not None or row.facts_digest is not None
            for row in rows(store.payloads, seq, seq + 1)
        )
    except LedgerUnreadable:  # in an archive that is not at hand
        return False


def keeps_digest(store: Store, seq: int) -> bool:
    """Whether a database keeps the digest of the facts of an entry whose rows lie in an archive."""
    if not isinstance(store, TombstoneStore):
        return False
    return any(stone.facts_digest is not None for stone in read(store.tombstones, seq, seq + 1))
