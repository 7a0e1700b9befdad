"""Making, checking and ending bearer tokens.

Invariants: a token is 256 bits from the operating system, shown once; its hash is compared in constant time; it counts only while
who made it is a workspace admin of the ledger (asked anew at each request), for one year at most, and for one ledger.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from enum import Enum

from sqlalchemy import Connection

from cognify_dagster.governance import directory
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.identity.user import ADMIN
from cognify_dagster.review.store.accounts import find_account
from cognify_dagster.review.store.tokens import Token, add_token, find_token
from cognify_dagster.workspace import Reading

MAX_DAYS = 365
_FORM = re.compile(r"cgn_([0-9a-f]{12})_[A-Za-z0-9_-]{43}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,100}")
_DAY_S = 86_400
_NO_HASH = "0" * 64


class Scope(Enum):
    """What a token may do. `PUBLIC` is for routes that need no token."""

    PUBLIC = ""
    READ = "read"
    PERSONAL = "read:personal"
    EXTERNAL = "external:write"
    WEBHOOKS = "webhooks"


SCOPES = {
    Scope.READ.value: "models, versions, decisions, datasets, findings, entries and proofs; people appear by id only",
    Scope.PERSONAL.value: "the same with names and texts of people, whole packages and the facts of every entry",
    Scope.EXTERNAL.value: "report decisions made in another system",
    Scope.WEBHOOKS.value: "see webhook endpoints and deliveries, and ask for a delivery again",
}


def create_token(
    connection: Connection, reading: Reading, *, name: str, scopes: tuple[str, ...], days: int, by: str, now: int
) -> tuple[str, Token]:
    """Make a token.

    Args:
        connection: of the site's database.
        reading: the ledger that it is for.
        name: what it is for, for people.
        scopes: of `SCOPES`.
        days: how long it lasts, from 1 to 365.
        by: person id of the workspace admin who makes it.
        now: seconds since 1970 UTC.

    Returns:
        The token, which is stored nowhere, and what is stored of it.

    Raises:
        ReviewError: if a value is wrong, or `by` is no workspace admin.
    """
    if not _NAME.fullmatch(name.strip()):
        raise ReviewError("a token needs a name of 1 to 100 characters that says what it is for")
    wrong = sorted(set(scopes) - SCOPES.keys())
    if wrong or not scopes:
        raise ReviewError(
            f"scopes are {', '.join(SCOPES)}; " + (f"not {wrong[0][:40]!r}" if wrong else "name at least one")
        )
    if not 1 <= days <= MAX_DAYS:
        raise ReviewError(f"a token lasts from 1 to {MAX_DAYS} days")
    if not is_admin(reading, by, now):
        raise ReviewError(f"{by} is no workspace admin now; only an admin makes and ends tokens")
    id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    text = f"cgn_{id}_{secret}"
    ordered = " ".join(scope for scope in SCOPES if scope in scopes)
    stored = Token(
        id, _hash(text), reading.origin, name.strip(), ordered, by, now, now + days * _DAY_S, None, None, None
    )
    add_token(connection, stored)
    return text, stored


def check_token(connection: Connection, reading: Reading, text: str, now: int) -> Token | None:
    """Return the token that a text is, None if it is none that counts now: it ends with its time, when it is revoked, and when the admin
    who made it is none any more or may not sign in any more."""
    form = _FORM.fullmatch(text)
    found = find_token(connection, form.group(1)) if form else None
    same = hmac.compare_digest(_hash(text), found.token_hash if found else _NO_HASH)
    if found is None or not same or found.state(now) != "active" or found.origin != reading.origin:
        return None
    account = find_account(connection, person=found.created_by)
    if account is not None and account.disabled is not None:
        return None
    return found if is_admin(reading, found.created_by, now) else None


def is_admin(reading: Reading, person: str, now: int) -> bool:
    """Whether a person is a workspace admin with a valid key at a time."""
    people = directory(reading)
    if not people.valid_keys(person, reading.size) or people.person_at(person, reading.size) is None:
        return False
    return ADMIN in people.roles_at(person, reading.size, now * 1_000_000)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
