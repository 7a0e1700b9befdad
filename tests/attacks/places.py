"""A ledger in SQLite or Postgres as its insider holds it: every table read and written past all guards and constraints.

The insider owns the file, or is a superuser: triggers, keys and NOT NULL are gone before anything is changed, so that only
verification is left to notice it.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cognify_dagster.ledger import (
    Ledger,
    LedgerUnreadable,
    LogSigner,
    Outcome,
    Receipt,
    Report,
    SqliteStore,
    Store,
    TrustFile,
    new_secret,
)
from tests.ledger.drafts import ORIGIN, Clock, draft

Row = dict[str, Any]
Tables = dict[str, list[Row]]


class Place(Protocol):
    """Where a ledger lies."""

    name: str

    def open(self) -> Store:
        """Open the ledger as the product does."""

    def fresh(self, origin: str | None = None) -> Store:
        """Open it once more, as a new process does."""

    def strip(self) -> None:
        """Take away every trigger and constraint, as an owner or superuser can."""

    def read(self) -> Tables:
        """Return every row of every table."""

    def write(self, tables: Tables) -> None:
        """Replace the contents of some tables; `strip` comes first."""

    def close(self) -> None:
        """Remove the ledger."""


def _encoded(rows: Iterable[Row]) -> Iterator[tuple[str, str, list[Any]]]:
    for row in rows:
        yield ", ".join(row), ", ".join("?" for _ in row), list(row.values())


class SqlitePlace:
    """A ledger file."""

    name = "sqlite"

    def __init__(self, path: Path, origin: str = ORIGIN) -> None:
        self.path = path
        SqliteStore.create(path, origin)

    def open(self) -> SqliteStore:
        return SqliteStore(self.path)

    def fresh(self, origin: str | None = None) -> SqliteStore:
        return SqliteStore(self.path)

    @contextlib.contextmanager
    def _db(self) -> Iterator[sqlite3.Connection]:
        with contextlib.closing(sqlite3.connect(self.path, isolation_level=None)) as db:
            db.execute("PRAGMA synchronous=OFF")
            yield db

    def _tables(self, db: sqlite3.Connection) -> list[str]:
        names = "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER BY name"
        return [name for (name,) in db.execute(names)]

    def strip(self) -> None:
        with self._db() as db:
            db.execute("BEGIN")
            for kind, name in db.execute(
                "SELECT type, name FROM sqlite_master WHERE type = 'trigger' OR (type = 'index' AND sql IS NOT NULL)"
            ).fetchall():
                db.execute(f"DROP {kind} {name}")
            for table in self._tables(db):
                columns = ", ".join(f"{row[1]} {row[2]}" for row in db.execute(f"PRAGMA table_info({table})"))
                db.execute(f"CREATE TABLE plain ({columns})")
                db.execute(f"INSERT INTO plain SELECT * FROM {table}")
                db.execute(f"DROP TABLE {table}")
                db.execute(f"ALTER TABLE plain RENAME TO {table}")
            db.execute("COMMIT")

    def read(self) -> Tables:
        with self._db() as db:
            db.row_factory = sqlite3.Row
            return {
                table: [dict(row) for row in db.execute(f"SELECT * FROM {table} ORDER BY 1, 2")]
                for table in self._tables(db)
            }

    def write(self, tables: Tables) -> None:
        with self._db() as db:
            db.execute("BEGIN")
            for table, rows in tables.items():
                db.execute(f"DELETE FROM {table}")
                for columns, marks, values in _encoded(rows):
                    db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks})", values)
            db.execute("COMMIT")

    def close(self) -> None:
        self.path.unlink(missing_ok=True)


class PostgresPlace:
    """A ledger in its own schema of the shared test server."""

    name = "postgres"

    def __init__(self, origin: str = ORIGIN) -> None:
        from tests.conformance.postgres_server import NewLedger

        self._ledger = NewLedger(origin)
        self._stores: list[Any] = []
        self._session: Any = None

    def open(self) -> Store:
        if not self._stores:  # one connection is enough; the store keeps no rows
            self._stores.append(self._ledger.open())
        return self._stores[0]

    def fresh(self, origin: str | None = None) -> Store:
        from cognify_dagster.ledger.postgres.store import PostgresStore

        self._stores.append(PostgresStore(self._ledger.url(), origin))
        return self._stores[-1]

    @property
    def _db(self) -> Any:
        """A superuser's session, in which no trigger fires."""
        if self._session is None:
            import psycopg
            from psycopg.rows import dict_row

            self._session = psycopg.connect(self._ledger.server.url(), autocommit=True, row_factory=dict_row)
            self._session.execute(f"SET search_path = {self._ledger.schema}, pg_catalog")
            self._session.execute("SET session_replication_role = replica")
        return self._session

    def _tables(self) -> list[str]:
        found = self._db.execute(
            "SELECT tablename FROM pg_tables WHERE schemaname = %s ORDER BY 1", (self._ledger.schema,)
        )
        return [row["tablename"] for row in found]

    def strip(self) -> None:
        db = self._db
        for statement in self._ledger._switch("DISABLE"):
            db.execute(statement)
        schema = f"'{self._ledger.schema}'::regnamespace"
        for row in db.execute(
            f"SELECT conrelid::regclass::text AS rel, conname FROM pg_constraint WHERE connamespace = {schema} AND contype <> 'n'"
        ).fetchall():
            db.execute(f"ALTER TABLE {row['rel']} DROP CONSTRAINT {row['conname']} CASCADE")
        for row in db.execute(
            f"SELECT attrelid::regclass::text AS rel, attname FROM pg_attribute JOIN pg_class c ON c.oid = attrelid "
            f"WHERE relnamespace = {schema} AND relkind = 'r' AND attnum > 0 AND attnotnull"
        ).fetchall():
            db.execute(f"ALTER TABLE {row['rel']} ALTER COLUMN {row['attname']} DROP NOT NULL")

    def read(self) -> Tables:
        return {table: self._db.execute(f"SELECT * FROM {table} t ORDER BY t").fetchall() for table in self._tables()}

    def write(self, tables: Tables) -> None:
        with self._db.transaction():
            for table, rows in tables.items():
                self._db.execute(f"DELETE FROM {table}")
                for columns, marks, values in _encoded(rows):
                    self._db.execute(f"INSERT INTO {table} ({columns}) VALUES ({marks.replace('?', '%s')})", values)

    def close(self) -> None:
        for store in self._stores:
            store.close()
        if self._session is not None:
            self._session.close()
        self._ledger.drop()


@dataclass
class World:
    """A ledger of seven entries with signed checkpoints over three and seven, and what others hold of it."""

    place: Place
    folder: Path
    signer: LogSigner
    trust: TrustFile
    receipts: list[Receipt]

    def ledger(self, *, signer: bool = False, **options: Any) -> Ledger:
        """The ledger as an auditor opens it; with `signer` as its own host does."""
        return Ledger(self.place.open(), signer=self.signer if signer else None, clock_us=Clock(), **options)

    def report(self, **options: Any) -> Report:
        """Verify with the auditor's trust file and no other knowledge."""
        return self.ledger().verify(self.trust, **options)

    def outcome(self, **options: Any) -> Outcome:
        """The outcome, which is also the command's exit code."""
        try:
            return self.report(**options).outcome
        except LedgerUnreadable:
            return Outcome.UNREADABLE

    def change(self, *changes: Callable[[Tables], None]) -> None:
        """Let the insider change tables."""
        tables = self.place.read()
        for change in changes:
            change(tables)
        self.place.strip()
        self.place.write(tables)


def build(place: Place, folder: Path, entries: int = 7) -> World:
    """Fill a place: `entries` entries, checkpoints over the first three and over all."""
    folder.mkdir(parents=True, exist_ok=True)
    new_secret(folder / "log.key")
    store = place.open()
    signer = LogSigner(folder / "log.key", folder / "signer.json", store.origin)
    ledger = Ledger(store, signer=signer, clock_us=Clock())
    receipts = []
    for number in range(entries):
        subjects = ("model/a", "policy") if number % 2 else ("model/a", "model/b")
        receipts.append(ledger.append(draft(number, subjects=subjects)))
        if number == 2:
            ledger.sign_checkpoint()
    ledger.sign_checkpoint()
    return World(place, folder, signer, TrustFile((signer.verifier,), receipts[0].leaf if receipts else None), receipts)


def cut(tables: Tables, size: int, *, checkpoints: bool = False) -> None:
    """Cut a ledger off after its first `size` entries, tidily: subjects, payloads and tree too."""
    for table in ("entry", "payload", "entry_subject"):
        tables[table] = [row for row in tables[table] if row["seq"] < size]
    tables["node"] = [row for row in tables["node"] if (row["idx"] + 1) << row["level"] <= size]
    if checkpoints:
        tables["checkpoint"] = [row for row in tables["checkpoint"] if row["size"] <= size]
