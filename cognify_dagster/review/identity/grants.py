"""Auditors from outside: a read-only view for a limited time, granted by an entry of the ledger.

Invariant: what an auditor may see is asked of the ledger at each request; a grant that is over, or was ended, gives nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING

from cognify_dagster.governance import AuditorGrant, auditor_grant
from cognify_dagster.review.store.accounts import Account
from cognify_dagster.workspace import Reading

if TYPE_CHECKING:
    from cognify_dagster.review.identity.user import User


def grant_of(reading: Reading, account: Account) -> AuditorGrant | None:
    """Return the grant that an account belongs to, whether it still holds or not."""
    return auditor_grant(reading, account.grant_seq) if account.grant_seq is not None else None


def auditor_of(reading: Reading, account: Account, now: datetime) -> User | None:
    """Return the auditor that an account belongs to, None once the grant is over or was ended."""
    from cognify_dagster.review.identity.user import User

    grant = grant_of(reading, account)
    if grant is None or not grant.holds(now):
        return None
    record = grant.item.record
    models = frozenset(record.models) if record.models else None
    return User(account, None, f"{record.name} ({record.organisation})", frozenset(), models, grant.until)
