"""Passkeys that sign in to the site, and ceremonies that wait for a browser's answer.

Only public keys lie here. A passkey signs sign-offs only once the ledger enrols it: see `identity.passkeys`.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass

from sqlalchemy import Column, Connection, Integer, String, Table, Text, delete, insert, select, update

from cognify_dagster.records import PublicKey
from cognify_dagster.review.store.database import metadata

passkeys = Table(
    "passkeys",
    metadata,
    Column("credential_id", String(1400), primary_key=True),
    Column("account", String(32), nullable=False, index=True),
    Column("key_id", String(16), nullable=False),
    Column("key", Text, nullable=False),
    Column("name", String(80), nullable=False),
    Column("sign_count", Integer, nullable=False),
    Column("created", Integer, nullable=False),
    Column("used", Integer),
)
ceremonies = Table(
    "ceremonies",
    metadata,
    Column("id", String(64), primary_key=True),
    Column("purpose", String(20), nullable=False),
    Column("holder", String(64), nullable=False),
    Column("challenge", String(100), nullable=False),
    Column("expires", Integer, nullable=False, index=True),
)
CEREMONY_S = 300


@dataclass(frozen=True)
class StoredPasskey:
    """A registered passkey. `public` is the key as the ledger would enrol it."""

    credential_id: str
    account: str
    key_id: str
    public: PublicKey
    name: str
    sign_count: int
    created: int
    used: int | None


def add_passkey(connection: Connection, account: str, public: PublicKey, name: str, now: int, count: int = 0) -> None:
    """Keep a passkey; `public` has the member `passkey`."""
    assert public.passkey is not None
    connection.execute(
        insert(passkeys).values(
            credential_id=public.passkey.credential_id, account=account, key_id=public.key_id, name=name[:80],
            key=json.dumps(public.model_dump(mode="json")), sign_count=count, created=now, used=None,
        )
    )  # fmt: skip


def find_passkey(connection: Connection, credential_id: str) -> StoredPasskey | None:
    """Return the passkey with this credential id."""
    row = connection.execute(select(passkeys).where(passkeys.c.credential_id == credential_id)).mappings().first()
    return None if row is None else _stored(dict(row))


def passkeys_of(connection: Connection, account: str) -> list[StoredPasskey]:
    """Return an account's passkeys, oldest first."""
    query = select(passkeys).where(passkeys.c.account == account).order_by(passkeys.c.created, passkeys.c.key_id)
    return [_stored(dict(row)) for row in connection.execute(query).mappings()]


def count_use(connection: Connection, credential_id: str, count: int, now: int) -> None:
    """Note that a passkey signed in, and its counter."""
    connection.execute(
        update(passkeys).where(passkeys.c.credential_id == credential_id).values(sign_count=count, used=now)
    )


def remove_passkeys(connection: Connection, account: str, key_id: str | None = None) -> int:
    """Remove one passkey of an account, or all; return how many."""
    query = delete(passkeys).where(passkeys.c.account == account)
    return connection.execute(query if key_id is None else query.where(passkeys.c.key_id == key_id)).rowcount


def _stored(row: dict[str, object]) -> StoredPasskey:
    row["public"] = PublicKey.model_validate_json(str(row.pop("key")))
    return StoredPasskey(**row)  # type: ignore[arg-type]


def begin_ceremony(connection: Connection, purpose: str, holder: str, now: int) -> tuple[str, bytes]:
    """Keep a new challenge for a few minutes; return the ceremony's id and the challenge.

    Args:
        connection: the open transaction.
        purpose: what the answer will be for.
        holder: whose ceremony it is: an account, an invitation, a session; empty where nobody is known yet.
        now: seconds since 1970.
    """
    name, challenge = secrets.token_urlsafe(24), secrets.token_bytes(32)
    connection.execute(delete(ceremonies).where(ceremonies.c.expires <= now))
    connection.execute(
        insert(ceremonies).values(
            id=name, purpose=purpose, holder=holder, challenge=challenge.hex(), expires=now + CEREMONY_S
        )
    )
    return name, challenge


def take_ceremony(connection: Connection, name: str, purpose: str, holder: str, now: int) -> bytes | None:
    """Return a ceremony's challenge, once; None if there is none for this purpose and holder, or it is too old."""
    row = connection.execute(select(ceremonies).where(ceremonies.c.id == name)).mappings().first()
    if row is None or (row["purpose"], row["holder"]) != (purpose, holder):
        return None
    taken = connection.execute(delete(ceremonies).where(ceremonies.c.id == name)).rowcount == 1
    return bytes.fromhex(row["challenge"]) if taken and now < row["expires"] else None
