"""The visitor as the ledger knows them at this moment.

Invariants: roles are read from the ledger at each request, never from the session; a person who was revoked or an auditor whose grant
is over may see nothing from that moment on.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime

from cognify_dagster.governance import directory
from cognify_dagster.review.store.accounts import Account
from cognify_dagster.workspace import Reading

ADMIN = "workspace_admin"


@dataclass(frozen=True)
class User:
    """Who is signed in.

    Args:
        account: of the site's database.
        person: id in the ledger; None for an auditor from outside.
        name: as it is shown.
        roles: roles that count now; empty for an auditor from outside.
        models: the models that may be seen; None: all.
        until: when an auditor's grant ends.
        grouped: the roles that the groups of a session by single sign-on stand for; None where no groups count.
    """

    account: Account
    person: str | None
    name: str
    roles: frozenset[str]
    models: Collection[str] | None = None
    until: datetime | None = None
    grouped: frozenset[str] | None = None

    @property
    def admin(self) -> bool:
        """Whether they administer the workspace."""
        return ADMIN in self.roles

    def may_sign_as(self, role: str, *, delegated: bool) -> bool:
        """Whether this session signs in a role: one that counts in it, or one that somebody delegated and its groups stand for.

        Whether the delegation itself holds is said by the ledger.
        """
        if not delegated:
            return role in self.roles
        return self.grouped is None or role in self.grouped

    def sees(self, model: str) -> bool:
        """Whether they may read about a model."""
        return self.models is None or model in self.models


def user_of(reading: Reading, account: Account, now: datetime) -> User | None:
    """Return who an account is now, None if it may see nothing (any more)."""
    if account.disabled is not None:
        return None
    if account.person is None:
        from cognify_dagster.review.identity.grants import auditor_of

        return auditor_of(reading, account, now)
    people = directory(reading)
    person = people.person_at(account.person, reading.size)
    if person is None or not people.valid_keys(account.person, reading.size):
        return None
    roles = people.roles_at(account.person, reading.size, int(now.timestamp() * 1_000_000))
    return User(account, account.person, person.name, frozenset(roles))
