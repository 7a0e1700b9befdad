"""The conformance suite on Postgres."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cognify_dagster.ledger import LedgerError, Store
from cognify_dagster.ledger.postgres.store import PostgresStore
from tests.conformance.postgres_server import NewLedger
from tests.conformance.store_suite import StoreSuite
from tests.ledger.drafts import ORIGIN

pytestmark = pytest.mark.postgres
TABLES = ("meta", "entry", "entry_subject", "payload", "node", "checkpoint", "segment", "detached", "writer", "act")


class PostgresBackend:
    def __init__(self) -> None:
        self.ledgers: dict[str, NewLedger] = {}

    def create(self, origin: str = ORIGIN) -> PostgresStore:
        ledger = NewLedger(origin)
        self.ledgers[ledger.schema] = ledger
        return ledger.open()

    def _of(self, store: Store) -> NewLedger:
        assert isinstance(store, PostgresStore)
        return self.ledgers[store.schema]

    def reopen(self, store: Store) -> PostgresStore:
        return self._of(store).open()

    def address(self, store: Store) -> str:
        return self._of(store).url()

    def attack(self, store: Store, statement: str) -> None:
        import psycopg

        try:
            self._of(store).sql(statement, user="all")
        except psycopg.Error as error:
            raise LedgerError(str(error)) from error

    def raw(self, store: Store) -> object:
        return {table: self._of(store).sql(f"SELECT * FROM {table} ORDER BY 1, 2") for table in TABLES}


@pytest.fixture
def backend() -> Iterator[PostgresBackend]:
    made = PostgresBackend()
    yield made
    for ledger in made.ledgers.values():
        ledger.drop()


class TestPostgresStore(StoreSuite):
    refusal = LedgerError
    attacks = (
        "UPDATE entry SET bytes = '\\x00' WHERE seq = 1",
        "UPDATE entry SET seq = 99 WHERE seq = 1",
        "DELETE FROM entry WHERE seq = 1",
        "DELETE FROM entry",
        "TRUNCATE entry CASCADE",
        "INSERT INTO entry SELECT 999, time_us, '\\x01', '\\x02', leaf, kind, bytes FROM entry WHERE seq = 1",
        "INSERT INTO entry SELECT * FROM entry WHERE seq = 1 ON CONFLICT (seq) DO UPDATE SET bytes = '\\x00'",
        "UPDATE entry_subject SET subject = 'model/hidden'",
        "DELETE FROM entry_subject WHERE seq = 1",
        "INSERT INTO entry_subject VALUES ('model/a', 999)",
        "UPDATE payload SET bytes = '\\x00' WHERE seq = 1",
        "DELETE FROM payload WHERE seq = 1",
        "INSERT INTO payload VALUES (999, '\\x00', '\\x00', '\\x00')",
        "UPDATE node SET hash = '\\x00'",
        "DELETE FROM node",
        "UPDATE meta SET value = 'other/ledger'",
        "DELETE FROM meta",
        "UPDATE checkpoint SET note = '\\x00'",
        "DELETE FROM checkpoint",
        "INSERT INTO segment VALUES (0, 256, 'm')",
        "INSERT INTO detached SELECT seq, time_us, idem, leaf, NULL FROM entry WHERE seq = 0",
        "INSERT INTO writer VALUES ('0123456789abcdef', 'workload/x', '{}')",
        "SELECT ledger_writers()",
        "SELECT ledger_put(0, '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', false)",
        "ALTER TABLE entry DISABLE TRIGGER ALL",
        "DROP TABLE entry",
        "SET session_replication_role = replica",
    )
