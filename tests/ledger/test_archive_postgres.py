"""Copy, archive, backup and restore on Postgres: SQLite there and back, byte for byte."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.ledger import (
    Ledger,
    LedgerError,
    LedgerUnreadable,
    LogSigner,
    Outcome,
    RolledBack,
    SqliteStore,
    Tampered,
    TrustFile,
    merkle_root,
    new_secret,
    open_checkpoint,
)
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
    opened,
)
from tests.ledger.drafts import draft

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


def test_what_is_erased_in_an_archive_is_forgotten_by_the_database(tmp_path: Path, new: list[NewLedger]) -> None:
    store = postgres(new)
    copy_ledger(sqlite(tmp_path / "a.sqlite", 300), store)
    archive = export(store, tmp_path / "0", 0, 256)
    detach(store, archive)
    both = ArchivedStore(store, [archive])
    erase(both, 20)
    checkpoint(both)
    gone = [stone.seq for stone in store.tombstones(0, 256) if stone.facts_digest is None]
    assert gone == [9, 20]
    report = Ledger(both).verify(TRUST)
    assert (report.outcome, report.findings, report.erased) == (Outcome.HOLDS, (), 2)
    attach(store, opened(tmp_path / "0"))
    assert [
        row.seq for row in store.payloads(0, 256) if (row.salt, row.facts_digest, row.data) == (None, None, None)
    ] == gone


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


def test_a_rollback_of_a_shared_database_is_seen_by_every_writer(tmp_path: Path, new: list[NewLedger]) -> None:
    """The mark lies in one workspace. The checkpoint that shows the rollback lies in the database, where append looks."""
    newer = SqliteStore.create(tmp_path / "a.sqlite", ORIGIN)
    fill(newer, 300)
    checkpoint(newer)
    older = SqliteStore.create(tmp_path / "old.sqlite", ORIGIN)
    older.load(newer.entries(0, 250), newer.payloads(0, 250), [])
    note = newer.checkpoints()[-1][1]
    restored = postgres(new)
    known = {"trust": TRUST, "heads": [("run", note)]}
    report = restore_into(older, restored, size=250, checkpoints=(), mark=tmp_path / "mark", **known)
    assert report.rolled_back
    elsewhere = new[-1].open()  # another machine, which knows nothing of the mark
    for store in (restored, elsewhere):
        for many in (1, 2):
            with pytest.raises(RolledBack, match="a checkpoint of 300 entries is kept here, the ledger has 250"):
                Ledger(store).append_many([draft(1_000 + number) for number in range(many)])
    with pytest.raises(RolledBack):
        Ledger(elsewhere).append(draft(1_000))
    assert elsewhere.size() == 250
    found = Ledger(elsewhere).verify(TRUST)
    assert found.outcome is Outcome.ROLLED_BACK, "and whoever verifies it sees it"
    whole = postgres(new)
    assert replay(restored, newer, 300, whole, checkpoints=newer.checkpoints(), **known).sound
    fill(new[-1].open(), 301)
    short = postgres(new)
    replay(restored, newer, 260, short, trust=TRUST)
    with pytest.raises(RolledBack):
        fill(short, 261)


def test_the_signer_closes_a_database_that_was_put_back(tmp_path: Path, new: list[NewLedger]) -> None:
    """Nobody called `restore`: an old copy of the database was put in place, and the signer is the first to notice."""
    newer = sqlite(tmp_path / "a.sqlite", 300)
    new_secret(tmp_path / "log.key")
    signer = LogSigner(tmp_path / "log.key", tmp_path / "state.json", ORIGIN)
    signer.sign(newer)
    old = postgres(new)
    old.load(newer.entries(0, 250), newer.payloads(0, 250), [])
    fill(old, 251)
    with pytest.raises(Tampered, match="rolled back"):
        signer.sign(old)
    with pytest.raises(RolledBack):
        fill(new[-1].open(), 252)
    (note,) = [text for size, text in old.checkpoints() if size == 301]
    assert open_checkpoint(note, [signer.verifier]).size == 301
