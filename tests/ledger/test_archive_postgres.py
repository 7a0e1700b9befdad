"""Copy, archive, backup and restore on Postgres: SQLite there and back, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.ledger import LedgerError, LedgerUnreadable, SqliteStore, TrustFile, merkle_root
from cognify_dagster.ledger.archive.detaching import ArchivedStore, due_segments
from cognify_dagster.ledger.merkle import inclusion_proof, verify_inclusion
from cognify_dagster.ledger.postgres.store import PostgresStore
from cognify_dagster.ledger.recovery.backup import replay, restore_into, same_ledger
from cognify_dagster.ledger.recovery.copying import copy_ledger
from cognify_dagster.ledger.recovery.dump import dump_ledger, open_dump
from tests.conformance.postgres_server import NewLedger
from tests.ledger.archive_world import (
    MANIFEST_KEYS,
    ORIGIN,
    SIGNER,
    attach,
    checkpoint,
    detach,
    erase,
    export,
    fill,
    leaves,
    log_key,
)

pytestmark = pytest.mark.postgres
TRUST = TrustFile((log_key(),), None)


@pytest.fixture
def new() -> Iterator[list[NewLedger]]:
    made: list[NewLedger] = []
    yield made
    for ledger in made:
        ledger.drop()


def postgres(new: list[NewLedger]) -> PostgresStore:
    new.append(NewLedger(ORIGIN))
    return new[-1].open()


def sqlite(path: Path, size: int = 600) -> SqliteStore:
    store = SqliteStore.create(path, ORIGIN)
    fill(store, size)
    erase(store, 9)
    checkpoint(store, 300)
    checkpoint(store)
    return store


def test_sqlite_to_postgres_and_back_every_byte_and_proof(tmp_path: Path, new: list[NewLedger]) -> None:
    first = sqlite(tmp_path / "a.sqlite")
    second, third = postgres(new), SqliteStore.create(tmp_path / "b.sqlite", ORIGIN)
    report = copy_ledger(first, second)
    assert (report.size, report.checkpoints, report.complete) == (601, 2, True)
    assert copy_ledger(second, third).root == report.root
    assert same_ledger(first, third) == report.root
    with pytest.raises(LedgerError, match="empty store"):
        copy_ledger(first, second)
    fill(second, 620)
    fill(first, 620)
    assert leaves(second) == leaves(first)


def test_segments_leave_postgres_and_come_back(tmp_path: Path, new: list[NewLedger]) -> None:
    store = postgres(new)
    copy_ledger(sqlite(tmp_path / "a.sqlite"), store)
    before = (list(store.entries(0, 601)), list(store.payloads(0, 601)))
    archives = []
    for start, end in due_segments(store, cut=256):
        archives.append(export(store, tmp_path / f"{start}", start, end))
        detach(store, archives[-1])
    assert store.segments() == [archive.segment for archive in archives]
    with pytest.raises(LedgerUnreadable):
        list(store.entries(0, 10))
    both = ArchivedStore(store, archives)
    known = leaves(both)
    for seq in (0, 200, 511, 512, 600):
        verify_inclusion(seq, len(known), known[seq], inclusion_proof(seq, len(known), both.node), merkle_root(known))
    fill(store, 610)
    for archive in reversed(archives):
        attach(store, archive)
    assert (list(store.entries(0, 601)), list(store.payloads(0, 601))) == before
    checkpoint(store)


def test_a_dump_of_postgres_restores_anywhere(tmp_path: Path, new: list[NewLedger]) -> None:
    store = postgres(new)
    copy_ledger(sqlite(tmp_path / "a.sqlite", 300), store)
    dump_ledger(store, tmp_path / "d", signer=SIGNER, log_keys=[log_key()], cut=256)
    folder = open_dump(tmp_path / "d", manifest_keys=MANIFEST_KEYS, log_keys=[log_key()], origin=ORIGIN)
    target = postgres(new)
    note = folder.checkpoints()[-1][1]
    report = restore_into(
        folder, target, size=folder.size, checkpoints=folder.checkpoints(), trust=TRUST, heads=[("run", note)],
        mark=tmp_path / "mark",
    )  # fmt: skip
    assert (report.sound, report.compared_with) == (True, ("run",))
    assert not (tmp_path / "mark").exists()
    same_ledger(store, target)


def test_lost_entries_are_replayed_into_postgres(tmp_path: Path, new: list[NewLedger]) -> None:
    newer = sqlite(tmp_path / "a.sqlite", 300)
    older = SqliteStore.create(tmp_path / "old.sqlite", ORIGIN)
    older.load(newer.entries(0, 250), newer.payloads(0, 250), [])
    note = newer.checkpoints()[-1][1]
    target = postgres(new)
    report = replay(older, newer, 301, target, trust=TRUST, heads=[("run", note)], checkpoints=newer.checkpoints())
    assert report.sound
    same_ledger(newer, target)
