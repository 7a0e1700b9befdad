"""What waits for a signature: statements prepared for one person and session, acts of several people, and what was displayed to whom.

Invariants: a prepared statement is signed once, by the session it was prepared in, before it is over; of an act as many copies of
signatures are kept as people signed, and two people who sign at the same time both land. Nothing here counts before it is in the ledger.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    String,
    Table,
    Text,
    delete,
    func,
    insert,
    select,
    update,
)

from cognify_dagster.review.store.database import metadata

statements = Table(
    "pending_statements",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("purpose", String(10), nullable=False),
    Column("ref", String(240), nullable=False),
    Column("account", String(32), nullable=False, index=True),
    Column("session", String(64), nullable=False),
    Column("person", String(80), nullable=False),
    Column("key_id", String(16), nullable=False),
    Column("method", String(20), nullable=False),
    Column("statement", LargeBinary, nullable=False),
    Column("form", Text, nullable=False),
    Column("created", Integer, nullable=False),
    Column("expires", Integer, nullable=False),
    Column("used", Integer),
)
acts = Table(
    "acts",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("kind", String(60), nullable=False),
    Column("title", String(300), nullable=False),
    Column("draft", Text, nullable=False),
    Column("content", String(64), nullable=False, index=True),
    Column("state", String(12), nullable=False, index=True),
    Column("created", Integer, nullable=False),
    Column("created_by", String(80), nullable=False),
    Column("expires", Integer, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("seq", Integer),
    Column("note", Text, nullable=False),
)
act_signers = Table(
    "act_signers",
    metadata,
    Column("act", String(32), primary_key=True),
    Column("signatory", String(80), primary_key=True, index=True),
    Column("signed", Integer),
)
shown = Table(
    "shown_documents",
    metadata,
    Column("account", String(32), primary_key=True),
    Column("digest", String(80), primary_key=True),
    Column("media_type", String(100), nullable=False),
    Column("at_us", String(20), nullable=False),
)


@dataclass(frozen=True)
class PendingStatement:
    """A statement that a person is about to sign. `purpose` is `sign_off` (then `ref` is `model@version`) or `act` (its id)."""

    id: str
    purpose: str
    ref: str
    account: str
    session: str
    person: str
    key_id: str
    method: str
    statement: bytes
    form: str
    created: int
    expires: int
    used: int | None


@dataclass(frozen=True)
class ActRow:
    """An act as it is stored; `draft` is the JSON of an `ActDraft`, `state` is open, done, declined or lapsed."""

    id: str
    kind: str
    title: str
    draft: str
    content: str
    state: str
    created: int
    created_by: str
    expires: int
    revision: int
    seq: int | None
    note: str


def new_id() -> str:
    """Return a random id of 128 bits."""
    return secrets.token_hex(16)


# --- prepared statements -------------------------------------------------------------------------------------------------


def add_statement(connection: Connection, item: PendingStatement) -> None:
    """Keep a prepared statement; those that were over a day ago are removed."""
    connection.execute(delete(statements).where(statements.c.expires < item.created - 86_400))
    connection.execute(insert(statements).values(**item.__dict__))


def prepared_since(connection: Connection, account: str, since: int) -> int:
    """Count the statements prepared for an account since a time."""
    query = select(func.count()).where(statements.c.account == account, statements.c.created >= since)
    return int(connection.execute(query).scalar_one())


def find_statement(connection: Connection, statement_id: str) -> PendingStatement | None:
    """Return a prepared statement, used or over as it may be."""
    row = connection.execute(select(statements).where(statements.c.id == statement_id)).mappings().first()
    return None if row is None else PendingStatement(**row)


def claim_statement(connection: Connection, statement_id: str, account: str, session: str, now: int) -> bool:
    """Use a statement up: true once, for the account and session it was prepared for, before it is over."""
    mine = update(statements).where(
        statements.c.id == statement_id,
        statements.c.account == account,
        statements.c.session == session,
        statements.c.used.is_(None),
        statements.c.expires > now,
    )
    return connection.execute(mine.values(used=now)).rowcount == 1


# --- acts ----------------------------------------------------------------------------------------------------------------


def add_act(connection: Connection, item: ActRow, signatories: list[str]) -> None:
    """Keep a new act; those begun half a year ago, long over, are removed."""
    old = select(acts.c.id).where(acts.c.created < item.created - 180 * 86_400)
    connection.execute(delete(act_signers).where(act_signers.c.act.in_(old)))
    connection.execute(delete(acts).where(acts.c.created < item.created - 180 * 86_400))
    connection.execute(insert(acts).values(**item.__dict__))
    for name in signatories:
        connection.execute(insert(act_signers).values(act=item.id, signatory=name, signed=None))


def find_act(connection: Connection, act_id: str) -> ActRow | None:
    """Return an act."""
    row = connection.execute(select(acts).where(acts.c.id == act_id)).mappings().first()
    return None if row is None else ActRow(**row)


def find_open_act(connection: Connection, content: str, now: int) -> ActRow | None:
    """Return the open act with this content, if there is one."""
    query = select(acts).where(acts.c.content == content, acts.c.state == "open", acts.c.expires > now)
    row = connection.execute(query).mappings().first()
    return None if row is None else ActRow(**row)


def list_acts(
    connection: Connection,
    now: int,
    *,
    signatory: str = "",
    unsigned: bool = False,
    state: str = "open",
    limit: int = 200,
) -> list[ActRow]:
    """Return acts, newest first: of a signatory (who has not signed yet), or all."""
    query = select(acts).where(acts.c.state == state)
    if state == "open":
        query = query.where(acts.c.expires > now)
    if signatory:
        mine = select(act_signers.c.act).where(act_signers.c.signatory == signatory)
        query = query.where(acts.c.id.in_(mine.where(act_signers.c.signed.is_(None)) if unsigned else mine))
    rows = connection.execute(query.order_by(acts.c.created.desc(), acts.c.id).limit(limit)).mappings()
    return [ActRow(**row) for row in rows]


def count_unsigned(connection: Connection, now: int, signatory: str) -> int:
    """Count the open acts that a signatory has not signed yet."""
    mine = (act_signers.c.signatory == signatory, act_signers.c.signed.is_(None))
    joined = act_signers.join(acts, acts.c.id == act_signers.c.act)
    query = select(func.count()).select_from(joined).where(*mine, acts.c.state == "open", acts.c.expires > now)
    return int(connection.execute(query).scalar_one())


def keep_draft(connection: Connection, item: ActRow, draft: str, signed: list[str], now: int) -> bool:
    """Replace the draft of an open act, if nobody did since it was read."""
    mine = update(acts).where(acts.c.id == item.id, acts.c.revision == item.revision, acts.c.state == "open")
    if connection.execute(mine.values(draft=draft, revision=item.revision + 1)).rowcount != 1:
        return False
    for name in signed:
        by = update(act_signers).where(act_signers.c.act == item.id, act_signers.c.signatory == name)
        connection.execute(by.where(act_signers.c.signed.is_(None)).values(signed=now))
    return True


def close_act(connection: Connection, act_id: str, state: str, note: str, seq: int | None = None) -> bool:
    """End an open act; whether it was still open."""
    mine = update(acts).where(acts.c.id == act_id, acts.c.state == "open")
    return connection.execute(mine.values(state=state, note=note, seq=seq)).rowcount == 1


def note_on_act(connection: Connection, act_id: str, note: str) -> None:
    """Say something about an open act."""
    connection.execute(update(acts).where(acts.c.id == act_id, acts.c.state == "open").values(note=note))


# --- what was displayed --------------------------------------------------------------------------------------------------


def keep_shown(connection: Connection, account: str, digest: str, media_type: str, at_us: int) -> None:
    """Note that a document was displayed to somebody."""
    mine = update(shown).where(shown.c.account == account, shown.c.digest == digest)
    if connection.execute(mine.values(at_us=f"{at_us:020d}", media_type=media_type)).rowcount:
        return
    row = {"account": account, "digest": digest, "media_type": media_type, "at_us": f"{at_us:020d}"}
    connection.execute(insert(shown).values(**row))


def last_shown(connection: Connection, account: str, digests: list[str]) -> tuple[str, str, int] | None:
    """Return digest, media type and time (microseconds) of the one of these documents that was displayed last."""
    query = select(shown).where(shown.c.account == account, shown.c.digest.in_(digests))
    row = connection.execute(query.order_by(shown.c.at_us.desc())).mappings().first()
    return None if row is None else (row["digest"], row["media_type"], int(row["at_us"]))
