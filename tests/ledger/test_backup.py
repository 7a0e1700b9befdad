"""Backups: verified when made, verified when restored, compared with what others remember; a rollback closes the ledger."""

from __future__ import annotations

import base64
import json
import os
import shutil
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import (
    Checkpoint,
    Ledger,
    LedgerError,
    LedgerFull,
    LedgerUnreadable,
    SqliteStore,
    Tampered,
    TrustFile,
    merkle_root,
    open_checkpoint,
    sign_note,
)
from cognify_dagster.ledger.archive.detaching import ArchivedStore
from cognify_dagster.ledger.errors import RolledBack
from cognify_dagster.ledger.recovery import backup as backup_module
from cognify_dagster.ledger.recovery.backup import backup_sqlite, replay, restore_into, restore_sqlite, same_ledger
from cognify_dagster.ledger.recovery.dump import LIST, Dump, dump_ledger, open_dump
from cognify_dagster.ledger.recovery.rollback import (
    check_restored,
    mark_path,
    require_appendable,
    resolve,
    rollback_check,
)
from tests.ledger.archive_world import (
    LOG,
    MANIFEST_KEYS,
    ORIGIN,
    SIGNER,
    checkpoint,
    detach,
    erase,
    export,
    fill,
    log_key,
    opened,
    record,
)
from tests.ledger.memory_store import MemoryStore

TRUST = TrustFile((log_key(),), None)


@pytest.fixture
def store(tmp_path: Path) -> SqliteStore:
    store = SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN)
    fill(store, 300)
    erase(store, 9)
    checkpoint(store, 200)
    checkpoint(store)
    return store


def dump(store: Any, folder: Path, cut: int = 256) -> Dump:
    dump_ledger(store, folder, signer=SIGNER, log_keys=[log_key()], cut=cut)
    return reopened(folder)


def reopened(folder: Path) -> Dump:
    return open_dump(folder, manifest_keys=MANIFEST_KEYS, log_keys=[log_key()], origin=ORIGIN)


# --- the SQLite file ---


def test_a_backup_is_the_same_ledger_in_one_private_file(store: SqliteStore, tmp_path: Path) -> None:
    report = backup_sqlite(store, tmp_path / "b.sqlite", trust=TRUST)
    assert (report.origin, report.size, report.root) == (ORIGIN, 301, same_ledger(store, SqliteStore(report.path)))
    assert report.path.stat().st_mode & 0o077 == 0
    assert sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("b")) == ["b.sqlite"]
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]
    with pytest.raises(LedgerError, match="never overwritten"):
        backup_sqlite(store, tmp_path / "b.sqlite")


def test_a_backup_taken_while_others_write_is_a_prefix(store: SqliteStore, tmp_path: Path) -> None:
    stop = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        number = 1000
        try:
            while not stop.is_set():
                record(store, "evaluation", {"n": number})
                number += 1
        except BaseException as error:
            errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        reports = [backup_sqlite(store, tmp_path / f"{number}.sqlite", trust=TRUST) for number in range(2)]
    finally:
        stop.set()
        writer.join()
    assert errors == []
    for report in reports:
        assert Ledger(store).root(report.size) == report.root


def test_an_empty_or_damaged_ledger_is_not_backed_up(store: SqliteStore, tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="empty backup is never made"):
        backup_sqlite(SqliteStore.create(tmp_path / "empty.sqlite", ORIGIN), tmp_path / "b.sqlite")
    _tamper(store.path, "UPDATE entry SET kind = 'evaluation' WHERE seq = 3")
    with pytest.raises(Tampered, match="was not made: entry 3"):
        backup_sqlite(SqliteStore(store.path), tmp_path / "b.sqlite")
    assert not (tmp_path / "b.sqlite").exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


def _tamper(path: Path, statement: str) -> None:
    db = sqlite3.connect(path)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute(statement)
    db.commit()
    db.close()


@pytest.mark.parametrize("point", ["_flush", "_digest", "verify_store"])
def test_a_killed_or_failing_backup_leaves_no_file(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(backup_module, point, fail)
    with pytest.raises(LedgerFull, match="make room"):
        backup_sqlite(store, tmp_path / "b.sqlite")
    assert not (tmp_path / "b.sqlite").exists()
    monkeypatch.undo()
    (tmp_path / ".b.sqlite.partial").write_bytes(b"what a killed process left")
    backup_sqlite(store, tmp_path / "b.sqlite")
    assert not (tmp_path / ".b.sqlite.partial").exists()


def test_detached_segments_stay_detached_in_a_file_and_come_back_in_a_dump(store: SqliteStore, tmp_path: Path) -> None:
    archive = export(store, tmp_path / "0", 0, 256)
    detach(store, archive)
    with pytest.raises(LedgerUnreadable, match="moved into an archive"):
        dump(store, tmp_path / "d")
    with pytest.raises((LedgerUnreadable, Tampered), match="archive"):
        backup_sqlite(store, tmp_path / "b.sqlite")
    note = checkpoint(ArchivedStore(store, [archive]))
    backup_sqlite(store, tmp_path / "b.sqlite", trust=TRUST, archives=[archive])
    report = restore_sqlite(
        tmp_path / "b.sqlite", tmp_path / "r.sqlite", trust=TRUST, heads=[("run", note)], archives=[archive]
    )
    assert report.sound
    assert SqliteStore(tmp_path / "r.sqlite").segments() == [archive.segment]
    whole = dump(ArchivedStore(store, [archive]), tmp_path / "d")
    target = SqliteStore.create(tmp_path / "t.sqlite", ORIGIN)
    restore_into(whole, target, size=whole.size, checkpoints=whole.checkpoints(), trust=TRUST)
    assert target.segments() == []
    same_ledger(ArchivedStore(store, [opened(tmp_path / "0")]), target)


# --- the portable folder ---


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(1, 800), st.sampled_from([256, 512, 65_536]), st.integers(0, 800))
def test_any_ledger_comes_back_from_a_dump(
    tmp_path_factory: pytest.TempPathFactory, size: int, cut: int, signed: int
) -> None:
    store = MemoryStore(ORIGIN)
    fill(store, size)
    checkpoint(store, min(size, signed))
    copy = dump(store, tmp_path_factory.mktemp("d") / "x", cut)
    target = MemoryStore(ORIGIN)
    restore_into(copy, target, size=copy.size, checkpoints=copy.checkpoints(), trust=TRUST)
    assert (target.rows, target.paid, target.notes) == (store.rows, store.paid, store.notes)


@pytest.fixture(scope="module")
def dumped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = MemoryStore(ORIGIN)
    fill(store, 700)
    erase(store, 600)
    checkpoint(store, 650)
    folder = tmp_path_factory.mktemp("d") / "x"
    dump(store, folder)
    return folder


def _swap(folder: Path) -> None:
    (folder / "000000000000").rename(folder / "x")
    (folder / "000000000256").rename(folder / "000000000000")
    (folder / "x").rename(folder / "000000000256")


def _missing(folder: Path) -> None:
    shutil.rmtree(folder / "000000000256")


def _foreign(folder: Path) -> None:
    other = MemoryStore("bank.example/other")
    fill(other, 300)
    shutil.rmtree(folder / "000000000000")
    export(other, folder / "000000000000", 0, 256, need_checkpoint=False)


def _other_history(folder: Path) -> None:
    other = MemoryStore(ORIGIN)
    record(other, "evaluation", {"n": 1})
    fill(other, 701)
    shutil.rmtree(folder / "000000000256")
    export(other, folder / "000000000256", 256, 512, need_checkpoint=False)


def _list(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    """The list edited and signed again by a thief of the workload key."""

    def edit(folder: Path) -> None:
        from cognify_dagster.ledger.archive.format import seal_statement

        statement = json.loads(base64.b64decode(json.loads((folder / LIST).read_bytes())["payload"]))
        change(statement["predicate"])
        (folder / LIST).write_bytes(seal_statement(statement["predicateType"], statement["predicate"], {}, SIGNER))

    return edit


def _forged_note(predicate: dict[str, Any]) -> None:
    note = sign_note(Checkpoint(ORIGIN, 100, b"r" * 32).text(), ORIGIN, LOG)
    predicate["checkpoints"].append([100, note])


@pytest.mark.parametrize(
    "change",
    [
        _swap,
        _missing,
        _foreign,
        _other_history,
        _list(lambda p: p["segments"].pop()),
        _list(lambda p: p["segments"].reverse()),
        _list(lambda p: p.update(size=512)),
        _list(lambda p: p.update(root="0" * 64)),
        _list(lambda p: p.update(ledger="other/ledger")),
        _list(lambda p: p.update(segments=[])),
        _list(lambda p: p["checkpoints"].append([5, "note"])),
        _list(_forged_note),
        _list(lambda p: p.update(size="x")),
        lambda folder: (folder / LIST).unlink(),
        lambda folder: (folder / LIST).write_bytes((folder / LIST).read_bytes().replace(b'"sig":"', b'"sig":"A')),
    ],
)
def test_every_change_of_a_dump_is_found(dumped: Path, tmp_path: Path, change: Callable[[Path], Any]) -> None:
    folder = Path(shutil.copytree(dumped, tmp_path / "x"))
    assert reopened(folder).size == 701
    change(folder)
    with pytest.raises((Tampered, LedgerUnreadable)):
        reopened(folder)


def test_a_payload_that_nobody_erased_may_not_be_missing(dumped: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(dumped, tmp_path / "x"))
    reopened(folder).archives[0].erase([17])
    with pytest.raises(Tampered, match="entry 17 is missing"):
        reopened(folder)


def test_a_dump_is_made_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.ledger.recovery import dump as dump_module

    store = MemoryStore(ORIGIN)
    fill(store, 600)

    def fail(*_: Any, **__: Any) -> Any:
        raise OSError(28, "No space left on device")

    for point in ("write_file", "sync_folder"):
        monkeypatch.setattr(dump_module, point, fail)
        with pytest.raises(LedgerFull):
            dump(store, tmp_path / "x")
        monkeypatch.undo()
        assert list(tmp_path.iterdir()) == []
    with pytest.raises(LedgerError, match="empty backup"):
        dump(MemoryStore(ORIGIN), tmp_path / "x")
    with pytest.raises(LedgerError, match="multiples of 256"):
        dump(store, tmp_path / "x", 100)


# --- rollback ---


def test_rollback_is_decided_by_sizes_and_roots() -> None:
    store = MemoryStore(ORIGIN)
    fill(store, 100)

    def root_of(size: int) -> bytes:
        return merkle_root(store.leaves[:size])

    good = [("witness", Checkpoint(ORIGIN, size, root_of(size))) for size in (0, 1, 50, 100)]
    assert rollback_check(100, root_of, good) == ()
    assert "entries 60..99 were cut off" in str(rollback_check(60, root_of, good)[0])
    wrong = [("run 7", Checkpoint(ORIGIN, 50, root_of(49)))]
    assert "history was rewritten" in str(rollback_check(100, root_of, wrong)[0])
    assert rollback_check(100, root_of, []) == ()


def _older(store: SqliteStore, tmp_path: Path) -> tuple[Path, str]:
    """A backup of 301 entries; then the ledger went on to 340, which the witness saw."""
    backup_sqlite(store, tmp_path / "old.sqlite", trust=TRUST)
    fill(store, 339)
    record(store, "payload_erased", {"seq": 20, "basis": "Art. 17"})
    store.erase([20])
    return tmp_path / "old.sqlite", checkpoint(store)


def test_an_older_backup_is_restored_closed_and_opened_again_by_replaying(store: SqliteStore, tmp_path: Path) -> None:
    old, note = _older(store, tmp_path)
    newer = dump(store, tmp_path / "newer")
    head = open_checkpoint(note, [log_key()])
    target = tmp_path / "restored.sqlite"
    report = restore_sqlite(old, target, trust=TRUST, heads=[("the witness", note)], signer_head=head)
    assert (report.rolled_back, report.sound, report.lost) == (True, False, (301, 340))
    assert report.witness == ("the witness", note)
    mark = mark_path(target)
    with pytest.raises(RolledBack, match=r"entries 301\.\.339 were cut off.*Replay the lost entries"):
        require_appendable(mark)
    with pytest.raises(RolledBack, match="stays closed"):
        resolve(mark, report)
    whole = SqliteStore.create(tmp_path / "whole.sqlite", ORIGIN)
    again = replay(
        SqliteStore(target), newer, 340, whole, trust=TRUST, heads=[("the witness", note)], signer_head=head,
        checkpoints=newer.checkpoints(),
    )  # fmt: skip
    assert (again.sound, again.lost, again.size) == (True, None, 340)
    resolve(mark, again)
    require_appendable(mark)
    same_ledger(store, whole)
    assert [row.data for row in whole.payloads(20, 21)] == [
        None
    ]  # the restored backup still held what was erased later
    assert whole.append(_next(), 1_800_000_000_000_000, None).seq == 340


def _next() -> Any:
    from tests.ledger.archive_world import sealed

    return sealed(5000)


def test_a_mark_does_not_go_by_comparing_with_less(store: SqliteStore, tmp_path: Path) -> None:
    old, note = _older(store, tmp_path)
    target = tmp_path / "r.sqlite"
    restore_sqlite(old, target, trust=TRUST, heads=[("the witness", note)])
    earlier = store.checkpoints()[0][1]
    for heads in ([], [("an older head", earlier)], [("the witness", earlier)]):
        report = check_restored(SqliteStore(target), trust=TRUST, heads=heads)
        assert report.sound
        with pytest.raises(RolledBack, match="stays closed"):
            resolve(mark_path(target), report)
    whole = check_restored(store, trust=TRUST, heads=[("another", note)])
    with pytest.raises(RolledBack, match="not compared with 'the witness' again"):
        resolve(mark_path(target), whole)
    (mark_path(target)).write_bytes(b"{")
    with pytest.raises(RolledBack, match="cannot be read"):
        resolve(mark_path(target), whole)


def test_replaying_part_of_what_was_lost_is_not_enough(store: SqliteStore, tmp_path: Path) -> None:
    old, note = _older(store, tmp_path)
    whole = MemoryStore(ORIGIN)
    report = replay(SqliteStore(old), store, 320, whole, trust=TRUST, heads=[("the witness", note)])
    assert (report.rolled_back, report.lost) == (True, (320, 340))
    with pytest.raises(LedgerError, match="nothing to replay"):
        replay(SqliteStore(old), store, 301, MemoryStore(ORIGIN), trust=TRUST)


def test_entries_that_do_not_continue_the_ledger_are_not_replayed(store: SqliteStore, tmp_path: Path) -> None:
    old, note = _older(store, tmp_path)
    other = MemoryStore(ORIGIN)
    record(other, "evaluation", {"another": "history"})
    fill(other, 340)
    with pytest.raises(LedgerError, match="does not follow"):
        replay(SqliteStore(old), other, 340, MemoryStore(ORIGIN), trust=TRUST, heads=[("the witness", note)])


def test_a_current_backup_is_restored_open(store: SqliteStore, tmp_path: Path) -> None:
    note = checkpoint(store)
    backup_sqlite(store, tmp_path / "b.sqlite", trust=TRUST)
    report = restore_sqlite(tmp_path / "b.sqlite", tmp_path / "r.sqlite", trust=TRUST, heads=[("run 1", note)])
    assert (report.sound, report.compared_with) == (True, ("run 1",))
    require_appendable(mark_path(tmp_path / "r.sqlite"))
    same_ledger(store, SqliteStore(tmp_path / "r.sqlite"))


def test_the_signers_state_alone_shows_a_rollback(store: SqliteStore, tmp_path: Path) -> None:
    old, note = _older(store, tmp_path)
    head = open_checkpoint(note, [log_key()])
    report = restore_sqlite(old, tmp_path / "r.sqlite", trust=TRUST, signer_head=head)
    assert (report.rolled_back, report.lost, report.witness) == (True, (301, 340), None)


def test_a_head_that_nobody_trusted_signed_is_not_believed_but_reported(store: SqliteStore, tmp_path: Path) -> None:
    forged = sign_note(Checkpoint(ORIGIN, 9999, b"r" * 32).text(), ORIGIN, Ed25519PrivateKey.generate())
    report = check_restored(store, trust=TRUST, heads=[("a stranger", forged)])
    assert not report.rolled_back
    assert report.lost is None
    assert "a stranger" in report.unusable[0]
    assert report.compared_with == ()


def test_an_empty_or_foreign_backup_is_never_a_good_restore(store: SqliteStore, tmp_path: Path) -> None:
    SqliteStore.create(tmp_path / "empty.sqlite", ORIGIN)
    with pytest.raises(LedgerUnreadable, match="no entries"):
        restore_sqlite(tmp_path / "empty.sqlite", tmp_path / "r.sqlite", trust=TRUST)
    (tmp_path / "text").write_bytes(b"not a database" * 100)
    with pytest.raises(LedgerUnreadable):
        restore_sqlite(tmp_path / "text", tmp_path / "r.sqlite", trust=TRUST)
    assert not (tmp_path / "r.sqlite").exists()
    assert not check_restored(SqliteStore(tmp_path / "empty.sqlite"), trust=TRUST).compared_with


def test_a_tampered_backup_is_not_restored(store: SqliteStore, tmp_path: Path) -> None:
    backup_sqlite(store, tmp_path / "b.sqlite", trust=TRUST)
    _tamper(tmp_path / "b.sqlite", "UPDATE payload SET bytes = x'7b7d' WHERE seq = 4")
    with pytest.raises(Tampered, match="take an older backup"):
        restore_sqlite(tmp_path / "b.sqlite", tmp_path / "r.sqlite", trust=TRUST)
    assert not (tmp_path / "r.sqlite").exists()


def test_a_restore_into_any_store_is_closed_until_judged(store: SqliteStore, tmp_path: Path) -> None:
    folder = dump(store, tmp_path / "d")
    mark = tmp_path / "mark"

    class Killed(BaseException):
        pass

    class Dying(MemoryStore):
        def load(self, *rows: Any) -> None:
            super().load(*rows)
            raise Killed

    for target in (Dying(ORIGIN), MemoryStore(ORIGIN)):
        try:
            restore_into(folder, target, size=301, checkpoints=folder.checkpoints(), trust=TRUST, mark=mark)
        except Killed:
            with pytest.raises(RolledBack, match="was not finished"):
                require_appendable(mark)
    require_appendable(mark)
    with pytest.raises(LedgerError, match="empty store"):
        restore_into(folder, target, size=301, checkpoints=(), trust=TRUST)


def test_a_mark_that_cannot_be_read_still_closes(tmp_path: Path) -> None:
    (tmp_path / "mark").write_bytes(b"{")
    with pytest.raises(RolledBack, match="does not say why"):
        require_appendable(tmp_path / "mark")
    (tmp_path / "folder").mkdir()
    with pytest.raises(RolledBack, match="cannot be read"):
        require_appendable(tmp_path / "folder")
    assert os.listdir(tmp_path / "folder") == []
