"""Accounts: who may sign in to the site. Who a person is, and what roles count, stands in the ledger.

An account belongs to a person of the ledger (`person`) or, without one, to an auditor from outside, whose time-limited grant is an
entry (`grant_seq`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, UniqueConstraint, select

from cognify_dagster.review.store.database import metadata

accounts = Table(
    "accounts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("login", String(200), nullable=False),
    Column("person", String(80)),
    Column("grant_seq", Integer),
    Column("password_hash", String(300)),
    Column("created", Integer, nullable=False),
    Column("disabled", Integer),
    UniqueConstraint("login"),
    UniqueConstraint("person"),
)


@dataclass(frozen=True)
class Account:
    """One account. `login` is what is typed to sign in, in lower case."""

    id: str
    login: str
    person: str | None
    grant_seq: int | None
    password_hash: str | None
    created: int
    disabled: int | None


def find_account(connection: Connection, **where: Any) -> Account | None:
    """Return the account with these column values (`id=…`, `login=…`, `person=…`), None if there is none."""
    query = select(accounts)
    for name, value in where.items():
        query = query.where(accounts.c[name] == value)
    row = connection.execute(query).mappings().first()
    return None if row is None else Account(**row)


def lock_account(connection: Connection, account: str) -> Account | None:
    """Return an account as it is now, and let nobody else change what belongs to it before the transaction ends.

    Whoever changes credentials, invitations or sessions of an account locks it first, so that of two at the same moment the second
    sees what the first did. (In SQLite a transaction has the whole database to itself from its start.)
    """
    row = connection.execute(select(accounts).where(accounts.c.id == account).with_for_update()).mappings().first()
    return None if row is None else Account(**row)
