"""The first run: accounts for those who administer the workspace, each with a one-time link."""

from __future__ import annotations

import time
from dataclasses import dataclass

from cognify_dagster.governance import directory
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.identity.accounts import account_for, has_credential
from cognify_dagster.review.identity.company import signs_in_at_company
from cognify_dagster.review.identity.invitations import invite
from cognify_dagster.review.identity.user import ADMIN
from cognify_dagster.review.store import Store
from cognify_dagster.workspace import Reading


@dataclass(frozen=True)
class Prepared:
    """An admin's account. `path`: the one-time link's path; None if they have a credential, here or at the company's service."""

    person: str
    name: str
    login: str
    path: str | None


def set_up(store: Store, reading: Reading, config: ReviewConfig, by: str = "cognify review setup") -> list[Prepared]:
    """Make an account for each workspace admin and invite those who have no credential yet. Running it again is harmless.

    Raises:
        ReviewError: if fewer than two people administer the workspace (one in a trial).
    """
    now = int(time.time())
    admins = directory(reading).role_holders_at(ADMIN, reading.size, now * 1_000_000)
    needed = 1 if reading.trial else 2
    if len(admins) < needed:
        raise ReviewError(
            f"{len(admins)} of {needed} people hold the role {ADMIN} in the ledger; enrol them first: `cognify people enrol --help`"
        )
    found = []
    with store.begin() as connection:
        for person in sorted(admins, key=lambda item: item.person):
            account = account_for(connection, person.person, now)
            path, company = None, signs_in_at_company(reading, config, person.person)
            if account.disabled is None and not company and not has_credential(connection, account):
                path = invite(connection, account, by, now, company=False).path
            found.append(Prepared(person.person, person.name, account.login, path))
    return found
