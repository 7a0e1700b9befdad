"""The access log's lines, and which batch of the ledger each belongs to.

Invariants: a line is never changed once written, but for the number of its batch; lines leave the table only when the ledger says that
their batch was erased; where several processes share the database, a batch is begun by one of them, and all of them know the database
by one id.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from sqlalchemy import BigInteger, Column, Connection, Integer, String, Table, delete, func, insert, select, update

from cognify_dagster.review.store.database import metadata

access_lines = Table(
    "access_lines",
    metadata,
    Column("n", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time_us", BigInteger, nullable=False, index=True),
    Column("account", String(32), nullable=False),
    Column("who", String(80), nullable=False, index=True),
    Column("method", String(20), nullable=False),
    Column("action", String(60), nullable=False),
    Column("subject", String(300), nullable=False, index=True),
    Column("detail", String(300), nullable=False),
    Column("status", Integer, nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(300), nullable=False),
    Column("batch", Integer, index=True),
)
access_batches = Table(
    "access_batches",
    metadata,
    Column("batch", Integer, primary_key=True, autoincrement=False),
    Column("seq", Integer),
    Column("erased", Integer),
)
access_site = Table("access_site", metadata, Column("id", String(16), primary_key=True))


@dataclass(frozen=True)
class Line:
    """One use of the site.

    Args:
        time_us: microseconds since 1970 UTC.
        account: id of the site's account; empty for who is not signed in.
        who: `person/…`, `auditor/ENTRY` (of the grant), `token/…`; empty for who is not signed in.
        method: how they signed in: password, passkey, oidc, invitation, token.
        action: the route's name.
        subject: what was looked at.
        detail: a digest that was downloaded, why something was refused.
        status: the response's HTTP status.
        address, agent: where from, and with what.
    """

    time_us: int
    account: str = ""
    who: str = ""
    method: str = ""
    action: str = ""
    subject: str = ""
    detail: str = ""
    status: int = 0
    address: str = ""
    agent: str = ""


@dataclass(frozen=True)
class Kept(Line):
    """A line in the table: its number, and its batch once it has one."""

    n: int = 0
    batch: int | None = None


_LENGTHS = {item.name: item.type.length or 0 for item in access_lines.columns if isinstance(item.type, String)}


def add_lines(connection: Connection, lines: Sequence[Line]) -> None:
    """Write lines; what is too long is cut, what no database takes (NUL, half characters) is replaced."""
    rows = [
        {key: _fit(value, _LENGTHS[key]) if isinstance(value, str) else value for key, value in asdict(line).items()}
        for line in lines
    ]
    connection.execute(insert(access_lines), rows)


def _fit(text: str, length: int) -> str:
    return text[:length].encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def find_lines(
    connection: Connection,
    *,
    limit: int,
    before: int | None = None,
    who: str = "",
    action: str = "",
    subject: str = "",
    outcome: str = "",
    since_us: int | None = None,
    until_us: int | None = None,
) -> list[Kept]:
    """Return lines, newest first.

    Args:
        connection: of the site's database.
        limit: at most so many.
        before: only lines with a smaller number.
        who, action: exactly this.
        subject: exactly this, or a version or part of it.
        outcome: `done` (below 400), `refused` (400 to 499) or `failed` (from 500).
        since_us, until_us: from this time on; before this time.
    """
    table, query = access_lines.c, select(access_lines)
    if before is not None:
        query = query.where(table.n < before)
    if who:
        query = query.where(table.who == who)
    if action:
        query = query.where(table.action == action)
    if subject:
        query = query.where((table.subject == subject) | table.subject.startswith(subject + "@", autoescape=True))
    bounds = {"done": (0, 400), "refused": (400, 500), "failed": (500, 1000)}.get(outcome)
    if bounds is not None:
        query = query.where(table.status >= bounds[0], table.status < bounds[1])
    if since_us is not None:
        query = query.where(table.time_us >= since_us)
    if until_us is not None:
        query = query.where(table.time_us < until_us)
    rows = connection.execute(query.order_by(table.n.desc()).limit(limit)).mappings()
    return [Kept(**row) for row in rows]


def waiting_lines(connection: Connection) -> tuple[int, int | None]:
    """Return how many lines are in no batch yet, and the time of the oldest of them."""
    row = connection.execute(
        select(func.count(), func.min(access_lines.c.time_us)).where(access_lines.c.batch.is_(None))
    ).one()
    return int(row[0]), row[1]


def lines_of(connection: Connection, batch: int) -> list[Kept]:
    """Return the lines of a batch in order."""
    query = select(access_lines).where(access_lines.c.batch == batch).order_by(access_lines.c.n)
    return [Kept(**row) for row in connection.execute(query).mappings()]


def open_batch(connection: Connection, limit: int) -> int | None:
    """Return the batch that is not in the ledger yet, made of the oldest lines without one; None if there are none.

    A line that another process commits only now is part of a later batch, also where its number is smaller.
    """
    _alone(connection, access_batches)
    batches = access_batches.c
    begun = connection.execute(select(batches.batch).where(batches.seq.is_(None)).order_by(batches.batch)).scalar()
    if begun is not None:
        return int(begun)
    free = access_lines.c.batch.is_(None)
    oldest = select(access_lines.c.n).where(free).order_by(access_lines.c.n).limit(limit)
    numbers = [int(n) for n in connection.execute(oldest).scalars()]
    if not numbers:
        return None
    batch = int(connection.execute(select(func.max(batches.batch))).scalar() or 0) + 1
    connection.execute(insert(access_batches).values(batch=batch))
    connection.execute(update(access_lines).where(free, access_lines.c.n <= numbers[-1]).values(batch=batch))
    return batch


def close_batch(connection: Connection, batch: int, seq: int) -> None:
    """Note the ledger entry of a batch."""
    connection.execute(update(access_batches).where(access_batches.c.batch == batch).values(seq=seq))


def entry_of_batch(connection: Connection, batch: int) -> int | None:
    """Return the entry of a batch, None if it has none yet."""
    return connection.execute(select(access_batches.c.seq).where(access_batches.c.batch == batch)).scalar()


def kept_batches(connection: Connection) -> list[tuple[int, int]]:
    """Return the batches in the ledger whose lines were not erased: number and entry."""
    query = select(access_batches.c.batch, access_batches.c.seq).where(
        access_batches.c.erased.is_(None), access_batches.c.seq.is_not(None)
    )
    return [(int(batch), int(seq)) for batch, seq in connection.execute(query)]


def drop_batch(connection: Connection, batch: int, now: int) -> None:
    """Remove the lines of a batch that was erased."""
    connection.execute(delete(access_lines).where(access_lines.c.batch == batch))
    connection.execute(update(access_batches).where(access_batches.c.batch == batch).values(erased=now))


def site_id(connection: Connection) -> str:
    """Return the id of this database in the ledger, made at the first call."""
    found = connection.execute(select(access_site.c.id).order_by(access_site.c.id)).scalar()
    if found is None:
        _alone(connection, access_site)
        found = connection.execute(select(access_site.c.id).order_by(access_site.c.id)).scalar()
    if found is None:
        found = secrets.token_hex(8)
        connection.execute(insert(access_site).values(id=found))
    return str(found)


def known(connection: Connection, column: str, limit: int = 300) -> list[str]:
    """Return the different values of a column, for a filter's choices."""
    query: Any = select(access_lines.c[column]).distinct().order_by(access_lines.c[column]).limit(limit)
    return [str(value) for value in connection.execute(query).scalars() if value]


def _alone(connection: Connection, held: Table) -> None:
    """Let no other process change a table until the transaction ends (readers go on). SQLite's transactions do so anyway."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(f"LOCK TABLE {held.name} IN SHARE ROW EXCLUSIVE MODE")
