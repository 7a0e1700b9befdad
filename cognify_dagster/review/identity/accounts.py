"""Accounts of the site: made for people whom the ledger knows, or for auditors with a grant; disabled, never deleted.

Invariant: an account gives nothing by itself. What its holder may see or do is asked of the ledger at each request (`identity.user`).
"""

from __future__ import annotations

import re
import secrets

from sqlalchemy import Connection, insert, select, update
from sqlalchemy.exc import IntegrityError

from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.store.accounts import Account, accounts, find_account, lock_account
from cognify_dagster.review.store.passkeys import passkeys_of
from cognify_dagster.review.store.sessions import end_sessions_of

_LOGIN = re.compile(r"[a-z0-9][a-z0-9._@+-]{0,99}")


def login_of(person: str) -> str:
    """Return the login that a person's account has unless another is chosen: their id without `person/`."""
    return person.removeprefix("person/")


def add_account(
    connection: Connection, login: str, now: int, *, person: str | None = None, grant_seq: int | None = None
) -> Account:
    """Make an account without any credential.

    Args:
        connection: the open transaction.
        login: what is typed to sign in; lower case.
        now: seconds since 1970.
        person: whose account it is: a person of the ledger, or
        grant_seq: the entry of an auditor's grant.

    Raises:
        ReviewError: if the login is malformed or taken, or the person has an account.
    """
    login = login.strip().lower()
    if not _LOGIN.fullmatch(login):
        raise ReviewError(f"the login {login[:80]!r} must be letters, digits and . _ @ + -, at most 100")
    if (person is None) == (grant_seq is None):
        raise ReviewError("an account belongs either to a person of the ledger or to an auditor's grant")
    made = Account(secrets.token_hex(16), login, person, grant_seq, None, now, None)
    try:
        with connection.begin_nested():
            connection.execute(insert(accounts).values(**made.__dict__))
    except IntegrityError as error:
        raise ReviewError(f"there is an account {login!r}, or one for {person or login}, already") from error
    return made


def account_for(connection: Connection, person: str, now: int, login: str = "") -> Account:
    """Return a person's account, made if there is none.

    Raises:
        ReviewError: if it has to be made and its login is taken.
    """
    found = find_account(connection, person=person)
    if found is not None:
        return found
    try:
        return add_account(connection, login or login_of(person), now, person=person)
    except ReviewError:  # perhaps another request made it at this moment
        found = find_account(connection, person=person)
        if found is None:
            raise
        return found


def all_accounts(connection: Connection) -> list[Account]:
    """Return every account, by login."""
    return [Account(**row) for row in connection.execute(select(accounts).order_by(accounts.c.login)).mappings()]


def set_password_hash(connection: Connection, account: str, value: str | None) -> None:
    """Keep a password's hash; None: no password signs in."""
    connection.execute(update(accounts).where(accounts.c.id == account).values(password_hash=value))


def has_credential(connection: Connection, account: Account) -> bool:
    """Whether somebody can sign in to an account with a password or passkey of this site; see `company` for the other way."""
    return account.password_hash is not None or bool(passkeys_of(connection, account.id))


def disable_account(connection: Connection, account: str, now: int) -> None:
    """Let nobody sign in to an account any more, and end its sessions. The ledger is not changed: see `cognify people revoke`."""
    lock_account(connection, account)
    connection.execute(update(accounts).where(accounts.c.id == account).values(disabled=now))
    end_sessions_of(connection, account)


def enable_account(connection: Connection, account: str) -> None:
    """Undo `disable_account`."""
    connection.execute(update(accounts).where(accounts.c.id == account).values(disabled=None))
