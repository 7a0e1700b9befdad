"""Putting on record that what is live does not stand any more.

Invariants: one entry for each deployment and set of reasons, whoever notices and however often; a suspension entry decides
nothing by itself: whether a release stands is judged anew each time (`live_state`).
"""

from __future__ import annotations

from cognify_dagster.governance.release.in_use import LiveState
from cognify_dagster.ledger import IdempotencyConflict
from cognify_dagster.records import ReleaseSuspended
from cognify_dagster.workspace import Workspace, idempotency_key


def record_suspension(workspace: Workspace, state: LiveState) -> int | None:
    """Append that a release is suspended; return the entry if it is new, None if it was told before or nothing is suspended."""
    if state.standing != "suspended" or state.completed is None:
        return None
    reasons = tuple(dict.fromkeys(reason.text for reason in state.reasons))
    record = ReleaseSuspended(
        model=state.model,
        version=state.completed.record.version,
        target=state.target,
        completed_seq=state.completed.seq,
        reasons=reasons,
    )
    idem = idempotency_key("release_suspended", state.completed.seq, *sorted(reasons))
    try:
        receipt = workspace.append(record, idem=idem)
    except IdempotencyConflict:  # the same reasons in another order
        return None
    return None if receipt.duplicate else receipt.seq
