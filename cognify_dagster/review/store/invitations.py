"""Invitations: one-time links with which somebody sets their first credential, or a new one after a reset.

Invariants: only the hash of a link's token is stored; a link works once, for a day at most, and a new invitation ends the older
ones; a reset has no token until a second admin confirmed it.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Boolean, Column, Connection, Integer, String, Table, delete, insert, select, update

from cognify_dagster.review.store.database import metadata

invitations = Table(
    "invitations",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("account", String(32), nullable=False, index=True),
    Column("token_hash", String(64), unique=True),
    Column("reset", Boolean, nullable=False),
    Column("made_by", String(80), nullable=False),
    Column("made", Integer, nullable=False),
    Column("confirmed_by", String(80)),
    Column("expires", Integer, nullable=False),
    Column("used", Integer),
)


@dataclass(frozen=True)
class Invitation:
    """One invitation. `reset`: the account had a credential, which the new one replaces."""

    id: str
    account: str
    token_hash: str | None
    reset: bool
    made_by: str
    made: int
    confirmed_by: str | None
    expires: int
    used: int | None


def put_invitation(connection: Connection, new: Invitation) -> None:
    """Keep an invitation; those of the account that were not used end."""
    connection.execute(delete(invitations).where(invitations.c.account == new.account, invitations.c.used.is_(None)))
    connection.execute(insert(invitations).values(**new.__dict__))


def find_invitation(connection: Connection, now: int, **where: object) -> Invitation | None:
    """Return the unused invitation with these column values that is not over."""
    query = select(invitations).where(invitations.c.used.is_(None), invitations.c.expires > now)
    for name, value in where.items():
        query = query.where(invitations.c[name] == value)
    row = connection.execute(query).mappings().first()
    return None if row is None else Invitation(**row)


def used_invitation(connection: Connection, token_hash: str) -> Invitation | None:
    """Return the invitation of a token that was used."""
    query = select(invitations).where(invitations.c.used.is_not(None), invitations.c.token_hash == token_hash)
    row = connection.execute(query).mappings().first()
    return None if row is None else Invitation(**row)


def open_invitations(connection: Connection, now: int) -> list[Invitation]:
    """Return the invitations that are neither used nor over."""
    query = select(invitations).where(invitations.c.used.is_(None), invitations.c.expires > now)
    return [Invitation(**row) for row in connection.execute(query.order_by(invitations.c.made)).mappings()]


def set_token(connection: Connection, name: str, token_hash: str, by: str, expires: int) -> bool:
    """Give a confirmed reset its token; whether it had none before."""
    query = update(invitations).where(invitations.c.id == name, invitations.c.token_hash.is_(None))
    return connection.execute(query.values(token_hash=token_hash, confirmed_by=by, expires=expires)).rowcount == 1


def use_invitation(connection: Connection, name: str, now: int) -> bool:
    """Mark an invitation used; whether it was not before."""
    query = update(invitations).where(
        invitations.c.id == name, invitations.c.used.is_(None), invitations.c.expires > now
    )
    return connection.execute(query.values(used=now)).rowcount == 1
