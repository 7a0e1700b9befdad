"""The SQLite store: idempotency, optimistic size, clock, refusals, append-only triggers, foreign and damaged files."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import (
    ClockError,
    Draft,
    IdempotencyConflict,
    Ledger,
    LedgerFull,
    LedgerUnreadable,
    SizeChanged,
    SqliteStore,
    canonical_json,
)
from cognify_dagster.ledger import sqlite as sqlite_module

ORIGIN = "bank.example/demo/store"
MINUTE = 60_000_000


def draft(number: int, *, subjects: tuple[str, ...] = ("model/a",), facts: Any = None, **changed: Any) -> Draft:
    payload = canonical_json({"facts": {"n": number} if facts is None else facts, "observed": {}})
    fields: dict[str, Any] = {
        "kind": "training_run",
        "schema": 1,
        "subjects": subjects,
        "actor": "workload/w",
        "idem": hashlib.sha256(str(number).encode()).hexdigest(),
        "payload": payload,
        "facts_digest": hashlib.sha256(canonical_json({"n": number} if facts is None else facts)).hexdigest(),
        **changed,
    }
    return Draft(**fields)


class Clock:
    def __init__(self, now: int = 1_760_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        self.now += 1000
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN), clock_us=clock)


def test_appended_entries_are_chained_and_heads_lead_to_the_same_subject(ledger: Ledger) -> None:
    subjects = [("model/a",), ("model/b",), ("model/a", "model/b"), ("policy",), ("model/b",)]
    for number, names in enumerate(subjects):
        receipt = ledger.append(draft(number, subjects=names))
        assert (receipt.seq, receipt.size, receipt.duplicate) == (number, number + 1, False)
    view = ledger.view()
    heads = [dict(item.entry.heads) for item in view.entries]
    assert heads == [{"model/a": -1}, {"model/b": -1}, {"model/a": 0, "model/b": 1}, {"policy": -1}, {"model/b": 2}]
    assert [item.entry.seq for item in view.history("model/b")] == [1, 2, 4]
    assert view.history("model/unknown") == []
    for before, after in zip(view.entries, view.entries[1:], strict=False):
        assert after.entry.prev == before.entry.leaf.hex()
    assert ledger.root(5) == view.root


def test_a_repeated_key_returns_the_old_receipt_or_is_a_conflict(ledger: Ledger) -> None:
    first = ledger.append(draft(1))
    again = ledger.append(draft(1, payload=canonical_json({"facts": {"n": 1}, "observed": {"attempt": 2}})))
    assert (again.seq, again.leaf, again.duplicate) == (first.seq, first.leaf, True)
    with pytest.raises(IdempotencyConflict, match="entry 0"):
        ledger.append(draft(1, facts={"n": 2}))
    assert ledger.size() == 1


def test_expected_size(ledger: Ledger) -> None:
    ledger.append(draft(1), expected_size=0)
    with pytest.raises(SizeChanged, match="has 1 entries, not 0"):
        ledger.append(draft(2), expected_size=0)
    assert ledger.size() == 1
    assert ledger.append(draft(1), expected_size=0).duplicate  # a retry after success is not a conflict


def test_time_never_decreases_and_a_large_step_back_is_refused(ledger: Ledger, clock: Clock) -> None:
    first = ledger.append(draft(1))
    clock.now -= 2 * MINUTE
    second = ledger.append(draft(2))
    assert second.time_us == first.time_us
    clock.now -= 10 * MINUTE
    with pytest.raises(ClockError, match="correct the clock"):
        ledger.append(draft(3))
    assert ledger.size() == 2
    clock.now += 365 * 24 * 60 * MINUTE
    assert ledger.append(draft(3)).time_us == clock.now


def test_the_view_can_end_earlier(ledger: Ledger) -> None:
    for number in range(4):
        ledger.append(draft(number))
    assert ledger.view(2).size == 2
    assert ledger.view(2).root == ledger.root(2)


def test_numbers_that_canonical_json_writes_as_large_integers_can_be_read_back(ledger: Ledger) -> None:
    """1e20 is written as 100000000000000000000: it must not make the ledger unreadable."""
    ledger.append(draft(1, facts={"loss": 1e20, "steps": 9007199254740994.0}))
    payload = ledger.view().entries[0].payload
    assert payload is not None
    assert payload["facts"]["loss"] == 1e20
    assert ledger.verify().level == "L0"


# --- refusals ---


def test_a_missing_ledger_is_unreadable(tmp_path: Path) -> None:
    with pytest.raises(LedgerUnreadable, match="no ledger here"):
        SqliteStore(tmp_path / "none.sqlite")


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _text(path: Path) -> None:
    path.write_bytes(b"this is not a database, but long enough to be looked at " * 50)


def _foreign(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE t (x)")


def _newer(path: Path) -> None:
    SqliteStore.create(path, ORIGIN)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=2")


def _headless(path: Path) -> None:
    SqliteStore.create(path, ORIGIN)
    with sqlite3.connect(path) as db:
        db.execute("DROP TRIGGER meta_no_delete")
        db.execute("DELETE FROM meta")


@pytest.mark.parametrize("make", [_empty, _text, _foreign, _newer, _headless], ids=lambda f: f.__name__.strip("_"))
def test_empty_foreign_and_newer_files_are_unreadable_not_empty_ledgers(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "x.sqlite")
    with pytest.raises(LedgerUnreadable):
        SqliteStore(tmp_path / "x.sqlite")


def test_a_damaged_file_is_unreadable(ledger: Ledger) -> None:
    for number in range(40):
        ledger.append(draft(number))
    path = ledger.store.path  # type: ignore[attr-defined]
    data = bytearray(path.read_bytes())
    data[4096 * 2 : 4096 * 12] = b"\xff" * 4096 * 10
    path.write_bytes(data)
    with pytest.raises(LedgerUnreadable):
        SqliteStore(path).size() and list(SqliteStore(path).entries(0, 40)) and list(SqliteStore(path).nodes(40))


def test_a_ledger_is_never_overwritten(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(LedgerUnreadable, match="never overwritten"):
        SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN)


def test_network_filesystems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite_module, "filesystem_of", lambda path: "nfs4")
    with pytest.raises(LedgerUnreadable, match="network filesystem"):
        SqliteStore.create(tmp_path / "x.sqlite", ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_the_file_is_private(ledger: Ledger) -> None:
    assert ledger.store.path.stat().st_mode & 0o077 == 0  # type: ignore[attr-defined]


def test_a_read_only_store_reads_and_refuses_to_write(ledger: Ledger) -> None:
    ledger.append(draft(1))
    store = SqliteStore(ledger.store.path, read_only=True)  # type: ignore[attr-defined]
    assert Ledger(store).view().size == 1
    with pytest.raises(LedgerFull, match="nothing was appended"):
        Ledger(store).append(draft(2))


def test_a_missing_tree_node_stops_appends_and_is_reported(ledger: Ledger) -> None:
    for number in range(2):
        ledger.append(draft(number))
    path = ledger.store.path  # type: ignore[attr-defined]
    with sqlite3.connect(path) as db:
        db.execute("DELETE FROM node WHERE level = 1")
    with pytest.raises(LedgerUnreadable, match="tree cache"):
        ledger.append(draft(2))
    assert ledger.size() == 2
    assert "tree cache" in str(ledger.verify().findings[0])


# --- append-only ---

ATTACKS = [
    "UPDATE entry SET bytes = x'00' WHERE seq = 1",
    "UPDATE entry SET seq = 99 WHERE seq = 1",
    "DELETE FROM entry WHERE seq = 1",
    "DELETE FROM entry",
    "INSERT OR REPLACE INTO entry SELECT * FROM entry WHERE seq = 1",
    "REPLACE INTO entry SELECT seq, idem, prev, leaf, kind, time_us, x'00' FROM entry WHERE seq = 1",
    "INSERT OR REPLACE INTO entry SELECT 3, idem, 'p', leaf, kind, time_us, x'00' FROM entry WHERE seq = 1",
    "INSERT OR REPLACE INTO entry SELECT 3, 'i', prev, leaf, kind, time_us, x'00' FROM entry WHERE seq = 1",
    "INSERT INTO entry SELECT seq, idem, prev, leaf, kind, time_us, bytes FROM entry WHERE seq = 1 "
    "ON CONFLICT (seq) DO UPDATE SET bytes = x'00'",
    "INSERT INTO entry SELECT 999, 'i', 'p', leaf, kind, time_us, bytes FROM entry WHERE seq = 1",
    "INSERT INTO entry SELECT -1, 'i', 'p', leaf, kind, time_us, bytes FROM entry WHERE seq = 1",
    "UPDATE OR REPLACE entry SET idem = 'x'",
    "UPDATE entry_subject SET subject = 'model/hidden'",
    "DELETE FROM entry_subject WHERE seq = 1",
    "INSERT INTO entry_subject VALUES ('model/a', 999)",
    "INSERT INTO entry_subject VALUES ('model/other', 0)",
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
]


@pytest.mark.parametrize("statement", ATTACKS)
def test_triggers_refuse_changes(ledger: Ledger, statement: str) -> None:
    for number in range(3):
        ledger.append(draft(number))
    ledger.store.add_checkpoint(3, "note")
    path = ledger.store.path  # type: ignore[attr-defined]
    db = sqlite3.connect(path)
    before = "\n".join(db.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), db:
        db.execute(statement)
    assert "\n".join(db.iterdump()) == before
    db.close()
    ledger.append(draft(3))


def test_an_erased_payload_stays_erased(ledger: Ledger) -> None:
    ledger.append(draft(0))
    path = ledger.store.path  # type: ignore[attr-defined]
    with sqlite3.connect(path) as db:
        db.execute("UPDATE payload SET bytes = NULL, salt = NULL, facts_digest = NULL WHERE seq = 0")
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("UPDATE payload SET bytes = x'00' WHERE seq = 0")


# --- the disk ---


def _mount_tmpfs(folder: Path, size: str) -> bool:
    folder.mkdir()
    return os.geteuid() == 0 and os.system(f"mount -t tmpfs -o size={size} tmpfs {folder} 2>/dev/null") == 0


def test_a_full_disk_is_an_error_and_loses_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "small"
    mounted = _mount_tmpfs(folder, "256k")
    try:
        ledger = Ledger(SqliteStore.create(folder / "ledger.sqlite", ORIGIN), clock_us=Clock())
        if not mounted:  # without the right to mount: the page limit makes SQLite report the same error
            _limit_pages(ledger)
        acked = 0
        error: LedgerFull | None = None
        while error is None and acked < 10_000:
            try:
                ledger.append(draft(acked, facts={"n": acked, "text": "x" * 3000}))
                acked += 1
            except LedgerFull as full:
                error = full
        assert "nothing was appended" in str(error)
        assert acked > 3
        assert ledger.size() == acked
        report = ledger.verify()
        assert (report.level, report.findings) == ("L0", ())
        if mounted:
            shutil.copy(folder / "ledger.sqlite", tmp_path / "larger.sqlite")
            moved = Ledger(SqliteStore(tmp_path / "larger.sqlite"), clock_us=Clock())
            assert moved.append(draft(acked)).seq == acked
            assert moved.verify().level == "L0"
            with pytest.raises(LedgerFull):
                SqliteStore.create(folder / "second.sqlite", ORIGIN)
            assert not (folder / "second.sqlite").exists()
            assert not (folder / "second.sqlite.new").exists()
    finally:
        if mounted:
            os.system(f"umount {folder}")


def _limit_pages(ledger: Ledger) -> None:
    store = ledger.store
    original = store._connect  # type: ignore[attr-defined]

    @contextmanager
    def limited() -> Any:
        with original() as db:
            db.execute("PRAGMA max_page_count=64")
            yield db

    store._connect = limited  # type: ignore[attr-defined]
