"""The conformance suite on SQLite."""

from __future__ import annotations

import itertools
import sqlite3
from pathlib import Path

import pytest

from cognify_dagster.ledger import SqliteStore, Store
from tests.conformance.store_suite import StoreSuite
from tests.ledger.drafts import ORIGIN


class SqliteBackend:
    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count()

    def create(self, origin: str = ORIGIN) -> SqliteStore:
        return SqliteStore.create(self._folder / f"ledger-{next(self._numbers)}.sqlite", origin)

    def reopen(self, store: Store) -> SqliteStore:
        return SqliteStore(self.address(store))

    def address(self, store: Store) -> str:
        assert isinstance(store, SqliteStore)
        return str(store.path)

    def attack(self, store: Store, statement: str) -> None:
        db = sqlite3.connect(self.address(store))
        try:
            with db:
                db.execute(statement)
        finally:
            db.close()

    def raw(self, store: Store) -> object:
        db = sqlite3.connect(self.address(store))
        try:
            return list(db.iterdump())
        finally:
            db.close()


@pytest.fixture
def backend(tmp_path: Path) -> SqliteBackend:
    return SqliteBackend(tmp_path)


class TestSqliteStore(StoreSuite):
    refusal = sqlite3.IntegrityError
    attacks = (
        "UPDATE entry SET bytes = x'00' WHERE seq = 1",
        "UPDATE entry SET seq = 99 WHERE seq = 1",
        "DELETE FROM entry WHERE seq = 1",
        "DELETE FROM entry",
        "INSERT OR REPLACE INTO entry SELECT * FROM entry WHERE seq = 1",
        "REPLACE INTO entry SELECT seq, idem, prev, leaf, kind, time_us, subjects, x'00' FROM entry WHERE seq = 1",
        "INSERT OR REPLACE INTO entry SELECT 3, idem, 'p', leaf, kind, time_us, subjects, x'00' FROM entry WHERE seq = 1",
        "INSERT OR REPLACE INTO entry SELECT 3, idem, leaf, leaf, kind, time_us, subjects, x'00' FROM entry WHERE seq = 2",
        "INSERT OR REPLACE INTO entry SELECT 3, 'i', prev, leaf, kind, time_us, subjects, x'00' FROM entry WHERE seq = 1",
        "INSERT OR IGNORE INTO entry SELECT 7, 'i', prev, leaf, kind, time_us, subjects, x'00' FROM entry WHERE seq = 1",
        "INSERT INTO entry SELECT * FROM entry WHERE seq = 1 ON CONFLICT (seq) DO UPDATE SET bytes = x'00'",
        "INSERT INTO entry SELECT 999, 'i', 'p', leaf, kind, time_us, subjects, bytes FROM entry WHERE seq = 1",
        "INSERT INTO entry SELECT -1, 'i', 'p', leaf, kind, time_us, subjects, bytes FROM entry WHERE seq = 1",
        "INSERT INTO entry SELECT NULL, 'i', leaf, leaf, kind, time_us, subjects, bytes FROM entry WHERE seq = 2",
        "UPDATE OR REPLACE entry SET idem = 'x'",
        "UPDATE entry SET subjects = 'model/hidden'",
        "INSERT INTO entry_subject VALUES ('model/a', 999)",
        "INSERT INTO entry_subject VALUES ('model/a', 2)",  # its block is not complete
        "INSERT OR IGNORE INTO entry_subject VALUES ('model/other', 2)",
        "UPDATE payload SET bytes = x'00' WHERE seq = 1",
        "UPDATE payload SET facts_digest = 'x' WHERE seq = 1",
        "DELETE FROM payload WHERE seq = 1",
        "INSERT OR REPLACE INTO payload VALUES (1, x'00', 'x', x'00')",
        "INSERT INTO payload VALUES (999, x'00', 'x', x'00')",
        "UPDATE meta SET value = 'other/ledger'",
        "DELETE FROM meta",
        "INSERT OR REPLACE INTO meta VALUES ('origin', 'other/ledger')",
        "UPDATE checkpoint SET note = 'x'",
        "DELETE FROM checkpoint",
        "INSERT INTO segment VALUES (0, 999, 'm')",
        "INSERT INTO archived SELECT seq, idem, leaf, time_us, NULL FROM entry WHERE seq = 0",
    )
