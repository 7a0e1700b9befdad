"""Which ledger a site's database belongs to.

Invariant: accounts and sessions name people by their ids, which are the same words in many ledgers; so a database serves one ledger
alone, and is refused to the site of another.
"""

from __future__ import annotations

from sqlalchemy import Column, Integer, String, Table, insert, select
from sqlalchemy.exc import IntegrityError

from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.store.database import Store, metadata

belonging = Table(
    "site_ledger",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("origin", String(200), nullable=False),
)
"""One row: the origin of the ledger whose site made this database."""


def claim(store: Store, origin: str) -> None:
    """Take a database for a ledger, or find that it is this ledger's already.

    Raises:
        ReviewError: if it belongs to another ledger.
    """
    found = _owner(store)
    if found is None:
        try:
            with store.begin() as connection:
                connection.execute(insert(belonging).values(id=1, origin=origin))
            return
        except IntegrityError:  # another process was first
            found = _owner(store)
    if found != origin:
        raise ReviewError(
            f"the site's database belongs to the ledger {found}, not to {origin}; give each workspace a database of "
            "its own: [review] database in cognify.toml"
        )


def _owner(store: Store) -> str | None:
    with store.begin() as connection:
        row = connection.execute(select(belonging.c.origin).where(belonging.c.id == 1)).first()
    return None if row is None else str(row[0])
