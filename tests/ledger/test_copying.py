"""Copying a ledger: every byte, checkpoint and proof, or nothing; between all stores and back."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import Ledger, LedgerError, LedgerUnreadable, SqliteStore, Tampered, TrustFile
from cognify_dagster.ledger.archive.detaching import ArchivedStore
from cognify_dagster.ledger.recovery.copying import copy_ledger, spread
from cognify_dagster.ledger.store import StoredPayload
from tests.ledger.archive_world import ORIGIN, checkpoint, detach, erase, export, fill, log_key, record
from tests.ledger.memory_store import MemoryStore


def source(size: int = 400) -> MemoryStore:
    store = MemoryStore(ORIGIN)
    fill(store, size)
    erase(store, 11)
    checkpoint(store, size // 2)
    checkpoint(store)
    return store


def test_there_and_back_again_nothing_changed(tmp_path: Path) -> None:
    first = source()
    told: list[tuple[int, int]] = []
    second = SqliteStore.create(tmp_path / "l.sqlite", ORIGIN)
    report = copy_ledger(first, second, lambda done, total: told.append((done, total)))
    assert (report.size, report.checkpoints, report.complete) == (401, 2, True)
    assert report.proofs >= 64
    assert told[-1] == (802, 802)
    third = MemoryStore(ORIGIN)
    assert copy_ledger(second, third).root == report.root
    assert third.rows == first.rows
    assert [row for row in third.paid if row and row.data] == [row for row in first.paid if row and row.data]
    assert sorted(third.notes) == sorted(first.notes)
    outcome = Ledger(second).verify(TrustFile((log_key(),), None))
    assert (outcome.level, outcome.findings) == ("L1", ())


def test_every_proof_of_a_copy_is_the_same(tmp_path: Path) -> None:
    first = source(70)
    second = SqliteStore.create(tmp_path / "l.sqlite", ORIGIN)
    copy_ledger(first, second)
    for size in (1, 2, 64, 70, 71):
        for seq in range(size):
            assert Ledger(first).inclusion(seq, size) == Ledger(second).inclusion(seq, size)
        assert Ledger(first).consistency(size, 71) == Ledger(second).consistency(size, 71)


def test_the_target_must_be_empty_and_of_the_same_ledger(tmp_path: Path) -> None:
    first = source()
    with pytest.raises(LedgerError, match="the target is for ledger 'other/ledger'"):
        copy_ledger(first, MemoryStore("other/ledger"))
    with pytest.raises(LedgerError, match="empty store"):
        copy_ledger(first, source())
    noted = MemoryStore(ORIGIN)
    noted.notes = [(1, "note")]
    with pytest.raises(LedgerError, match="empty store"):
        copy_ledger(first, noted)
    with pytest.raises(LedgerError, match="Is it the right one"):
        copy_ledger(MemoryStore(ORIGIN), MemoryStore(ORIGIN))


def test_a_source_that_grows_meanwhile_is_reported() -> None:
    first = source()

    class Growing(MemoryStore):
        def load(self, *rows: Any) -> None:
            super().load(*rows)
            record(first, "evaluation", {"late": True})

    report = copy_ledger(first, Growing(ORIGIN))
    assert (report.size, report.source_size, report.complete) == (401, 402, False)


class Losing(MemoryStore):
    """A store that does not keep what it was given."""

    def __init__(self, what: str) -> None:
        super().__init__(ORIGIN)
        self.what = what

    def load(self, *rows: Any) -> None:
        super().load(*rows)
        if self.what == "payload":
            self.paid[7] = StoredPayload(7, None, None, None)
        elif self.what == "checkpoint":
            self.notes.pop()
        elif self.what == "column":
            self.rows[7] = self.rows[7]._replace(kind="evaluation")  # type: ignore[union-attr]
        elif self.what == "last":
            self.rows.pop()
            self.leaves.pop()
        elif self.what == "node":
            self.leaves[3] = b"x" * 32

    def entries(self, start: int, end: int) -> Iterator[Any]:
        return super().entries(start, end)


@pytest.mark.parametrize("what", ["payload", "checkpoint", "column", "last", "node"])
def test_what_a_target_loses_is_found(what: str) -> None:
    with pytest.raises(Tampered, match="discard it and copy again"):
        copy_ledger(source(), Losing(what))


def test_a_damaged_source_fills_nothing(tmp_path: Path) -> None:
    first = source()
    first.rows[5] = first.rows[5]._replace(data=first.rows[6].data)  # type: ignore[union-attr]
    target = SqliteStore.create(tmp_path / "l.sqlite", ORIGIN)
    with pytest.raises(LedgerError, match="entry 5 does not follow"):
        copy_ledger(first, target)
    assert (target.size(), target.checkpoints()) == (0, [])


def test_detached_segments_are_copied_with_their_archives(tmp_path: Path) -> None:
    first, whole = source(), source()
    archive = export(first, tmp_path / "0", 0, 256)
    detach(first, archive)
    record(
        whole, "segment_archived", {"end": 256, "manifest": archive.manifest, "root": archive.root.hex(), "start": 0}
    )
    with pytest.raises(LedgerUnreadable, match=r"entries 0\.\.255"):
        copy_ledger(first, MemoryStore(ORIGIN))
    target = SqliteStore.create(tmp_path / "l.sqlite", ORIGIN)
    assert copy_ledger(ArchivedStore(first, [archive]), target).root == copy_ledger(whole, MemoryStore(ORIGIN)).root


def test_spots_cover_both_ends_and_the_edges_of_subtrees() -> None:
    assert spread(1) == [0]
    assert spread(3) == [0, 1, 2]
    spots = spread(1_000_000)
    assert {0, 1, 65_535, 65_536, 999_999} <= set(spots)
    assert len(spots) < 120
