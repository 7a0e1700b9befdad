"""Bearer tokens of the REST API, and the answers that repeated writes get.

Invariants: of a token only its public id and the SHA-256 of all of it are stored; a token belongs to one ledger (its origin), ends at
its date at the latest, and cannot be made to last longer.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, Text, delete, insert, select, update

from cognify_dagster.review.store.database import metadata

tokens = Table(
    "tokens",
    metadata,
    Column("id", String(12), primary_key=True),
    Column("token_hash", String(64), nullable=False),
    Column("origin", String(200), nullable=False),
    Column("name", String(100), nullable=False),
    Column("scopes", String(200), nullable=False),
    Column("created_by", String(80), nullable=False),
    Column("created", Integer, nullable=False),
    Column("expires", Integer, nullable=False),
    Column("last_used", Integer),
    Column("revoked", Integer),
    Column("revoked_by", String(80)),
)
repeats = Table(
    "repeats",
    metadata,
    Column("token", String(12), primary_key=True),
    Column("idem", String(64), primary_key=True),
    Column("request", String(64), nullable=False),
    Column("status", Integer, nullable=False),
    Column("body", Text, nullable=False),
    Column("created", Integer, nullable=False),
)
USED_EVERY_S = 60
KEPT_S = 24 * 3600


@dataclass(frozen=True)
class Token:
    """A token as it is stored. `scopes` are words with a blank between them; times are seconds since 1970 UTC."""

    id: str
    token_hash: str
    origin: str
    name: str
    scopes: str
    created_by: str
    created: int
    expires: int
    last_used: int | None
    revoked: int | None
    revoked_by: str | None

    @property
    def scope_set(self) -> frozenset[str]:
        """Its scopes."""
        return frozenset(self.scopes.split())

    def state(self, now: int) -> str:
        """Say whether it is `active`, `expired` or `revoked`."""
        if self.revoked is not None:
            return "revoked"
        return "expired" if now >= self.expires else "active"


@dataclass(frozen=True)
class Repeat:
    """What a write with an idempotency key was answered. `request` is a digest of what was asked."""

    request: str
    status: int
    body: str


def add_token(connection: Connection, token: Token) -> None:
    """Store a new token."""
    connection.execute(insert(tokens).values(**asdict(token)))


def find_token(connection: Connection, id: str) -> Token | None:
    """Return the token with a public id."""
    row = connection.execute(select(tokens).where(tokens.c.id == id)).mappings().first()
    return None if row is None else Token(**row)


def list_tokens(connection: Connection, origin: str) -> list[Token]:
    """Return the tokens of a ledger, newest first."""
    query = select(tokens).where(tokens.c.origin == origin).order_by(tokens.c.created.desc(), tokens.c.id)
    return [Token(**row) for row in connection.execute(query).mappings()]


def mark_used(connection: Connection, token: Token, now: int) -> None:
    """Keep when a token was used last, to the minute."""
    if token.last_used is None or now - token.last_used >= USED_EVERY_S:
        connection.execute(update(tokens).where(tokens.c.id == token.id).values(last_used=now))


def revoke_token(connection: Connection, id: str, by: str, now: int) -> bool:
    """End a token; return False if it had been ended before or never was."""
    row = tokens.c.id == id
    found = connection.execute(update(tokens).where(row, tokens.c.revoked.is_(None)).values(revoked=now, revoked_by=by))
    return found.rowcount == 1


def find_repeat(connection: Connection, token: str, idem: str, now: int) -> Repeat | None:
    """Return what a token's write with an idempotency key was answered within the last day."""
    connection.execute(delete(repeats).where(repeats.c.created < now - KEPT_S))
    row: Any = connection.execute(
        select(repeats).where(repeats.c.token == token, repeats.c.idem == idem)
    ).first()  # fmt: skip
    return None if row is None else Repeat(row.request, row.status, row.body)


def keep_repeat(connection: Connection, token: str, idem: str, answer: Repeat, now: int) -> None:
    """Keep an answer for repeats."""
    connection.execute(
        insert(repeats).values(
            token=token, idem=idem, request=answer.request, status=answer.status, body=answer.body, created=now
        )
    )
