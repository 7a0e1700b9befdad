"""Sessions on the server: a browser holds a random token, the database its hash.

Invariants: a token is 256 bits from the operating system; only its SHA-256 is stored; a session ends after a while without a visit,
after a fixed time in any case (a new token for it changes neither), when its account is disabled, when the credential that opened it
ends and when its holder's roles change; signing in always makes a new session.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, String, Table, delete, insert, select, update

from cognify_dagster.review.store.database import metadata

sessions = Table(
    "sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("account", String(32), nullable=False, index=True),
    Column("csrf", String(64), nullable=False),
    Column("method", String(20), nullable=False),
    Column("created", Integer, nullable=False),
    Column("seen", Integer, nullable=False),
    Column("ends", Integer, nullable=False),
    Column("address", String(64), nullable=False, default=""),
    Column("agent", String(300), nullable=False, default=""),
    Column("roles", String(2000)),
    Column("credential", String(64), nullable=False, default=""),
)
SEEN_EVERY_S = 60


@dataclass(frozen=True)
class Session:
    """A session.

    `method` says how its holder signed in: password, passkey, oidc or invitation (a password set by a one-time link). `roles` are those its holder had then, as
    `role_text` writes them; the session ends when they have others. None: that is not watched. `credential` is the id of the passkey
    that signed in, empty for other methods.
    """

    token_hash: str
    account: str
    csrf: str
    method: str
    created: int
    seen: int
    ends: int
    address: str
    agent: str
    roles: str | None = None
    credential: str = ""


def role_text(roles: Iterable[str]) -> str:
    """Return roles as a session keeps them."""
    return " ".join(sorted(roles))


def hash_token(token: str) -> str:
    """Return what is stored of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def open_session(
    connection: Connection,
    account: str,
    method: str,
    now: int,
    hours: int,
    address: str = "",
    agent: str = "",
    roles: Iterable[str] | None = None,
    credential: str = "",
) -> str:
    """Begin a session and return its token, which is stored nowhere."""
    token = secrets.token_urlsafe(32)
    connection.execute(
        insert(sessions).values(
            token_hash=hash_token(token), account=account, csrf=secrets.token_urlsafe(24), method=method,
            created=now, seen=now, ends=now + hours * 3600, address=address[:64], agent=agent[:300],
            roles=None if roles is None else role_text(roles), credential=credential,
        )
    )  # fmt: skip
    return token


def find_session(connection: Connection, token: str, now: int, idle_s: int) -> Session | None:
    """Return the session of a token; None if there is none or it is over (it is removed then)."""
    digest = hash_token(token)
    row = connection.execute(select(sessions).where(sessions.c.token_hash == digest)).mappings().first()
    if row is None:
        return None
    found = Session(**row)
    if now >= found.ends or now - found.seen >= idle_s:
        connection.execute(delete(sessions).where(sessions.c.token_hash == digest))
        return None
    if now - found.seen >= SEEN_EVERY_S:
        connection.execute(update(sessions).where(sessions.c.token_hash == digest).values(seen=now))
    return found


def sessions_of(connection: Connection, account: str, now: int, idle_s: int) -> list[Session]:
    """Return the running sessions of an account, newest first."""
    query = select(sessions).where(sessions.c.account == account, sessions.c.ends > now, sessions.c.seen > now - idle_s)
    return [Session(**row) for row in connection.execute(query.order_by(sessions.c.created.desc())).mappings()]


def extend_session(connection: Connection, token_hash: str, now: int) -> None:
    """Count a visit now, however short ago the last one was."""
    connection.execute(update(sessions).where(sessions.c.token_hash == token_hash).values(seen=now))


def renew_token(connection: Connection, token_hash: str, now: int) -> str:
    """Give a session a new token and return it; the older one is worth nothing any more. When it began, and ends, stays."""
    token = secrets.token_urlsafe(32)
    values = {"token_hash": hash_token(token), "csrf": secrets.token_urlsafe(24), "seen": now}
    connection.execute(update(sessions).where(sessions.c.token_hash == token_hash).values(**values))
    return token


def end_session(connection: Connection, token_hash: str) -> None:
    """End one session."""
    connection.execute(delete(sessions).where(sessions.c.token_hash == token_hash))


def end_sessions_by(connection: Connection, account: str, credential: str) -> None:
    """End the sessions of an account that a passkey opened."""
    connection.execute(delete(sessions).where(sessions.c.account == account, sessions.c.credential == credential))


def end_sessions_of(connection: Connection, account: str, *, but: str = "") -> None:
    """End all sessions of an account, but one if it is named by its hash."""
    connection.execute(delete(sessions).where(sessions.c.account == account, sessions.c.token_hash != but))


def purge_sessions(connection: Connection, now: int) -> None:
    """Remove sessions that are over."""
    connection.execute(delete(sessions).where(sessions.c.ends <= now))
