"""Sign-ins at the issuer that have begun, and what a session by single sign-on rests on.

Invariants: what a browser or an issuer sends back is compared with hashes; a sign-in that has begun is used once, for ten minutes.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Column, Connection, Integer, String, Table, Text, delete, func, insert, select, update

from cognify_dagster.review.errors import Refused
from cognify_dagster.review.store.database import metadata

FLOW_S = 600
MAX_FLOWS = 10_000
flows = Table(
    "oidc_flows",
    metadata,
    Column("state_hash", String(64), primary_key=True),
    Column("browser_hash", String(64), nullable=False),
    Column("purpose", String(10), nullable=False),
    Column("nonce", String(64), nullable=False),
    Column("verifier", String(128), nullable=False),
    Column("target", Text, nullable=False),
    Column("session_hash", String(64), nullable=False),
    Column("created", Integer, nullable=False),
)
identities = Table(
    "oidc_sessions",
    metadata,
    Column("token_hash", String(64), primary_key=True),
    Column("issuer", String(500), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("claims", Text, nullable=False),
    Column("created", Integer, nullable=False),
)


@dataclass(frozen=True)
class Flow:
    """A sign-in that has begun.

    Args:
        state_hash: of the `state` that comes back.
        browser_hash: of the cookie of the browser that began it.
        purpose: login or sign.
        nonce: that the token has to name.
        verifier: of PKCE.
        target: where a login leads; the id of the pending statement of a signature.
        session_hash: the session in which a signature was begun; empty for a login.
        created: seconds since 1970.
    """

    state_hash: str
    browser_hash: str
    purpose: str
    nonce: str
    verifier: str
    target: str
    session_hash: str
    created: int


@dataclass(frozen=True)
class Identity:
    """Who the issuer said a session's holder is, and the claims that count for roles."""

    token_hash: str
    issuer: str
    subject: str
    claims: Mapping[str, Any]
    created: int


def begin_flow(connection: Connection, flow: Flow) -> None:
    """Keep a sign-in that begins; those that took too long are removed.

    Raises:
        Refused: 503 if far too many have begun.
    """
    connection.execute(delete(flows).where(flows.c.created <= flow.created - FLOW_S))
    if int(connection.execute(select(func.count()).select_from(flows)).scalar_one()) >= MAX_FLOWS:
        raise Refused(503, "Too many people sign in at this moment; try again in a few minutes.", "busy")
    connection.execute(insert(flows).values(**flow.__dict__))


def take_flow(connection: Connection, state_hash: str, now: int) -> Flow | None:
    """Return the sign-in that a state belongs to and remove it; None if there is none (any more)."""
    row = connection.execute(select(flows).where(flows.c.state_hash == state_hash)).mappings().first()
    if row is None or connection.execute(delete(flows).where(flows.c.state_hash == state_hash)).rowcount != 1:
        return None
    found = Flow(**row)
    return found if found.created > now - FLOW_S else None


def keep_identity(connection: Connection, identity: Identity) -> None:
    """Keep what a session rests on; that of sessions long over is removed."""
    connection.execute(delete(identities).where(identities.c.created <= identity.created - 2 * 86_400))
    values = {**identity.__dict__, "claims": json.dumps(dict(identity.claims))}
    connection.execute(insert(identities).values(**values))


def move_identity(connection: Connection, old: str, new: str) -> None:
    """Keep what a session rests on under the hash of its new token."""
    connection.execute(update(identities).where(identities.c.token_hash == old).values(token_hash=new))


def identity_of(connection: Connection, token_hash: str) -> Identity | None:
    """Return what a session rests on."""
    row = connection.execute(select(identities).where(identities.c.token_hash == token_hash)).mappings().first()
    return None if row is None else Identity(**{**row, "claims": json.loads(row["claims"])})
