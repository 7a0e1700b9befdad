"""What is particular to the SQLite store: its file, connections, forks, full disks. What every store must do: tests/conformance."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cognify_dagster.ledger import ClockError, Ledger, LedgerError, LedgerFull, LedgerUnreadable, Receipt, SqliteStore
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.sqlite import file as file_module
from cognify_dagster.ledger.sqlite.store import close_all, journal_mode
from cognify_dagster.ledger.store import Segment, StoredEntry
from tests.ledger.drafts import MINUTE, ORIGIN, START, Clock, draft


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ledger(tmp_path: Path, clock: Clock) -> Ledger:
    return Ledger(SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN), clock_us=clock)


def test_the_view_can_end_earlier(ledger: Ledger) -> None:
    for number in range(4):
        ledger.append(draft(number))
    assert ledger.view(2).size == 2
    assert ledger.view(2).root == ledger.root(2)


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
        db.execute("PRAGMA user_version=999")


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
        SqliteStore(path).size() and list(SqliteStore(path).entries(0, 40)) and list(SqliteStore(path).nodes(1, 0, 20))


def test_a_ledger_is_never_overwritten(tmp_path: Path, ledger: Ledger) -> None:
    with pytest.raises(LedgerUnreadable, match="never overwritten"):
        SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN)


def test_network_filesystems_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_module, "filesystem_of", lambda path: "nfs4")
    with pytest.raises(LedgerUnreadable, match="network filesystem"):
        SqliteStore.create(tmp_path / "x.sqlite", ORIGIN)
    assert list(tmp_path.iterdir()) == []


def test_a_ledger_that_was_moved_to_a_network_filesystem_is_only_read(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_module, "filesystem_of", lambda path: "nfs4")
    path = ledger.store.path  # type: ignore[attr-defined]
    with pytest.raises(LedgerUnreadable, match="network filesystem"):
        SqliteStore(path)
    assert SqliteStore(path, read_only=True).size() == 0


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


def test_an_erased_payload_stays_erased(ledger: Ledger) -> None:
    ledger.append(draft(0))
    path = ledger.store.path  # type: ignore[attr-defined]
    with sqlite3.connect(path) as db:
        db.execute("UPDATE payload SET bytes = NULL, salt = NULL, facts_digest = NULL WHERE seq = 0")
        with pytest.raises(sqlite3.IntegrityError):
            db.execute("UPDATE payload SET bytes = x'00' WHERE seq = 0")


DETACHED_ATTACKS = [
    "DELETE FROM entry WHERE seq = 299",
    "DELETE FROM payload WHERE seq = 299",
    "DELETE FROM archived",
    "UPDATE archived SET leaf = x'00' WHERE seq = 3",
    "INSERT OR REPLACE INTO archived SELECT seq, idem, x'00', time_us, NULL FROM archived WHERE seq = 3",
    "DELETE FROM segment",
    "UPDATE segment SET past = 300",
    "INSERT OR REPLACE INTO segment VALUES (0, 300, 'm')",
    "INSERT INTO segment VALUES (128, 300, 'm')",
    "INSERT INTO entry SELECT seq, idem, '', x'00', 'k', 1, 's', x'00' FROM archived WHERE seq = 3",
    "DELETE FROM entry_subject WHERE seq = 255",
    "UPDATE entry_subject SET seq = 250",
    "INSERT INTO entry_subject VALUES ('model/a', 299)",
    "INSERT INTO entry_subject VALUES ('model/other', 250)",
    "INSERT INTO entry SELECT 300, a.idem, e.leaf, x'00', 'k', 1, 's', x'00' FROM archived a, entry e "
    "WHERE a.seq = 3 AND e.seq = 299",
]


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
        close_all()
        if mounted:
            os.system(f"umount {folder}")


def _limit_pages(ledger: Ledger) -> None:
    store = ledger.store
    original = store._connections._connect  # type: ignore[attr-defined]

    def limited() -> sqlite3.Connection:
        db: sqlite3.Connection = original()
        db.execute("PRAGMA max_page_count=64")
        return db

    store.close()  # type: ignore[attr-defined]
    store._connections._connect = limited  # type: ignore[attr-defined]


# --- connections ---


def test_the_connection_stays_open_and_sees_what_others_write(ledger: Ledger) -> None:
    other = Ledger(SqliteStore(ledger.store.path), clock_us=Clock(START + MINUTE))  # type: ignore[attr-defined]
    for number in range(0, 20, 2):
        assert ledger.append(draft(number)).seq == number
        assert other.append(draft(number + 1)).seq == number + 1
    assert ledger.view().root == ledger.root(20)


def test_a_file_that_was_replaced_or_removed_is_noticed(ledger: Ledger, tmp_path: Path) -> None:
    path = ledger.store.path  # type: ignore[attr-defined]
    ledger.append(draft(0))
    shutil.copy(path, tmp_path / "backup.sqlite")
    ledger.append(draft(1))
    os.replace(tmp_path / "backup.sqlite", path)
    assert ledger.size() == 1
    assert ledger.append(draft(2)).seq == 1
    path.unlink()
    with pytest.raises(LedgerUnreadable, match="no ledger here any more"):
        ledger.append(draft(3))
    assert not path.exists()


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_gets_connections_of_its_own(ledger: Ledger) -> None:
    """Also while other threads of the parent write: the child inherits neither their locks nor their connections."""
    ledger.append(draft(0))
    stop = threading.Event()

    def write() -> None:
        for number in range(1000, 100_000):
            if stop.is_set():
                return
            ledger.append(draft(number))

    threads = [threading.Thread(target=write) for _ in range(2)]
    children = []
    for thread in threads:
        thread.start()
    try:
        for child in range(1, 5):
            pid = os.fork()
            if pid == 0:
                done = 1
                try:
                    ledger.append(draft(child))
                    done = 0
                finally:
                    os._exit(done)
            children.append(pid)
        assert [os.waitpid(pid, 0)[1] for pid in children] == [0] * 4
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert all(ledger.store.find(draft(child).idem) for child in range(1, 5))
    assert ledger.view().size == ledger.size()


def test_a_connection_inherited_without_the_fork_hooks_is_not_used(ledger: Ledger) -> None:
    ledger.append(draft(0))
    (handle,) = ledger.store._connections._handles  # type: ignore[attr-defined]
    inherited = handle.db
    handle.pid = 1
    ledger.append(draft(1))
    assert handle.db is not inherited
    inherited.execute("SELECT 1")  # nor closed: that would drop the parent's locks
    inherited.close()


def test_after_an_error_the_next_operation_opens_the_file_anew(ledger: Ledger) -> None:
    (handle,) = ledger.store._connections._handles  # type: ignore[attr-defined]
    before = handle.db
    with pytest.raises(LedgerUnreadable), ledger.store._session() as broken:  # type: ignore[attr-defined]
        broken.db.execute("SELECT nonsense FROM nothing")
    assert handle._db is None
    ledger.append(draft(1))
    assert handle.db is not before


def test_threads_that_end_close_their_connections(ledger: Ledger) -> None:
    def write(number: int) -> None:
        thread = threading.Thread(target=ledger.append, args=(draft(number),))
        thread.start()
        thread.join()

    for number in range(10):
        write(number)
    open_files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert open_files.count(str(ledger.store.path)) <= 1  # type: ignore[attr-defined]
    close_all()
    open_files = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert str(ledger.store.path) not in open_files  # type: ignore[attr-defined]
    assert ledger.size() == 10


def test_every_connection_is_durable(ledger: Ledger) -> None:
    with ledger.store._session() as handle:  # type: ignore[attr-defined]
        settings = [handle.db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "secure_delete")]
        mode = handle.db.execute("PRAGMA journal_mode").fetchone()[0]
    assert (settings, mode) == ([2, 1], journal_mode())


def test_the_journal_follows_the_library_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A WAL file made by a newer library is turned back by one that could damage it, or refused while it is in use."""
    monkeypatch.setattr(file_module, "journal_mode", lambda: "wal")
    path = tmp_path / "wal.sqlite"
    store = SqliteStore.create(path, ORIGIN)
    Ledger(store).append_many([draft(n, facts={"secret": "findable"}) for n in range(3)])
    Ledger(store).append(draft(3))
    assert (tmp_path / "wal.sqlite-wal").stat().st_size > 0
    store.erase([0, 1, 2])
    assert (tmp_path / "wal.sqlite-wal").stat().st_size == 0
    monkeypatch.setattr(file_module, "journal_mode", lambda: "truncate")
    monkeypatch.setattr(file_module, "BUSY_TIMEOUT_S", 0.1)
    with pytest.raises(LedgerUnreadable, match="journal mode wal is not safe"):
        SqliteStore(path)
    assert SqliteStore(path, read_only=True).size() == 4
    store.close()
    other = SqliteStore(path)
    assert Ledger(other).append(draft(4)).seq == 4
    with other._session() as handle:
        assert handle.db.execute("PRAGMA journal_mode").fetchone()[0] == "truncate"


def test_an_erased_payload_leaves_no_trace_in_the_file(ledger: Ledger) -> None:
    """Also not in pages that were split or freed while it was still there."""
    for number in range(60):
        text = f"Jane-Doe-{number:03d}-" * (1 if number % 2 else 400)
        ledger.append(draft(number, facts={"text": text}))
    path = ledger.store.path  # type: ignore[attr-defined]
    assert b"Jane-Doe-010-" in path.read_bytes()
    salts = [payload.salt or b"" for payload in ledger.store.payloads(0, 40)]
    ledger.store.erase(range(40))
    data = path.read_bytes()
    for number in range(60):
        assert (f"Jane-Doe-{number:03d}-".encode() in data) is (number >= 40), number
    assert not any(salt in data for salt in salts)
    assert ledger.append(draft(100)).seq == 60


def test_a_group_looks_for_what_is_there_before_it_refuses(ledger: Ledger) -> None:
    """Keys are presumed to be new; whatever is refused then is looked at again, with the keys looked up."""
    clock = START + 3_600_000_000
    sealed = [seal_body(ORIGIN, draft(number)) for number in range(3)]
    stored = ledger.store.append_each(sealed[:2], clock)
    late = ledger.store.append_each(sealed, START)  # the clock went back by an hour: only the new entry is refused
    assert [item.seq for item in late[:2] if isinstance(item, Receipt)] == [0, 1]
    assert all(isinstance(item, Receipt) and item.duplicate for item in late[:2])
    assert isinstance(late[2], ClockError)
    again = ledger.store.append_each([sealed[2], sealed[0], sealed[2]], clock)
    assert [(r.seq, r.duplicate) for r in again if isinstance(r, Receipt)] == [(2, False), (0, True), (2, True)]
    assert stored == [Receipt(0, stored[0].leaf, clock), Receipt(1, stored[1].leaf, clock)]  # type: ignore[union-attr]


# --- copies ---


def test_a_copy_appears_complete_or_not_at_all(ledger: Ledger, tmp_path: Path) -> None:
    ledger.append_many([draft(n) for n in range(10)])
    store, target = ledger.store, tmp_path / "copy.sqlite"
    entries, payloads = list(store.entries(0, 10)), list(store.payloads(0, 10))

    def broken() -> Iterator[StoredEntry]:
        yield from entries[:5]
        assert not target.exists()
        raise OSError("the source went away")

    with pytest.raises(LedgerFull, match="could not be created"):
        SqliteStore.create_from(target, ORIGIN, broken(), payloads, [])
    with pytest.raises(LedgerError, match="does not follow"):
        SqliteStore.create_from(target, ORIGIN, entries[1:], payloads[1:], [])
    assert {path.name for path in tmp_path.iterdir()} <= {"ledger.sqlite", "ledger.sqlite-journal"}
    (tmp_path / "copy.sqlite.new").write_bytes(b"left behind by a killed process")
    copy = SqliteStore.create_from(target, ORIGIN, entries, payloads, [(10, "note")])
    assert (list(copy.entries(0, 10)), copy.checkpoints()) == (entries, [(10, "note")])
    assert {path.name for path in tmp_path.iterdir()} <= {"copy.sqlite", "ledger.sqlite", "ledger.sqlite-journal"}
    with pytest.raises(LedgerUnreadable, match="never overwritten"):
        SqliteStore.create_from(target, ORIGIN, entries, payloads, [])


@pytest.mark.parametrize("statement", DETACHED_ATTACKS)
def test_triggers_guard_what_a_detached_segment_leaves(ledger: Ledger, statement: str) -> None:
    ledger.append_many([draft(n) for n in range(300)])
    ledger.store.detach(Segment(0, 256, "ab" * 32))
    path = ledger.store.path  # type: ignore[attr-defined]
    db = sqlite3.connect(path)
    before = "\n".join(db.iterdump())
    with pytest.raises(sqlite3.IntegrityError, match="append-only"), db:
        db.execute(statement)
    assert "\n".join(db.iterdump()) == before
    db.close()


def test_reads_of_a_held_snapshot_see_one_state_and_their_errors_stay_themselves(tmp_path: Path) -> None:
    store = SqliteStore.create(tmp_path / "l.sqlite", ORIGIN)
    other = Ledger(SqliteStore(tmp_path / "l.sqlite"))
    with store.held() as db:
        assert store.size() == 0
        assert db.in_transaction
    other.append(draft(0))
    assert store.size() == 1
    with pytest.raises(LedgerUnreadable, match="no such column"), store.held(), store._session() as handle:
        handle.db.execute("SELECT absent FROM meta")
    assert store.size() == 1
