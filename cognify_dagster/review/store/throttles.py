"""Counters of attempts, kept in the database so that several processes of one site count together."""

from __future__ import annotations

from sqlalchemy import Column, Connection, Integer, String, Table, delete, insert, select, update

from cognify_dagster.review.store.database import metadata

throttles = Table(
    "throttles",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("count", Integer, nullable=False),
    Column("expires", Integer, nullable=False, index=True),
)


def add_to(connection: Connection, key: str, amount: int, now: int, expires: int) -> int:
    """Add to a counter, made if there is none or it is over; return its value."""
    connection.execute(delete(throttles).where(throttles.c.expires <= now))
    here = throttles.c.key == key
    if connection.execute(update(throttles).where(here).values(count=throttles.c.count + amount)).rowcount == 0:
        connection.execute(insert(throttles).values(key=key, count=amount, expires=expires))
    return int(connection.execute(select(throttles.c.count).where(here)).scalar_one())


def read_counter(connection: Connection, key: str, now: int) -> tuple[int, int]:
    """Return a counter's value and when it ends; (0, now) if there is none."""
    row = (
        connection.execute(select(throttles).where(throttles.c.key == key, throttles.c.expires > now))
        .mappings()
        .first()
    )
    return (0, now) if row is None else (row["count"], row["expires"])


def clear(connection: Connection, key: str | None = None) -> int:
    """Remove a counter, or all."""
    query = delete(throttles)
    return connection.execute(query if key is None else query.where(throttles.c.key == key)).rowcount
