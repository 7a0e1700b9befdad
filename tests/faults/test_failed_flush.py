"""A flush that the kernel answers with EIO: the caller gets an error that names the file, nothing acknowledged is lost, nothing
half-written stays, and nobody goes on with what was in memory (catalogue, case 34)."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.evidence import EvidenceError, EvidenceKeyErased, EvidenceMissing, EvidenceStore, LocalKeyProvider
from cognify_dagster.ledger import (
    Ledger,
    LedgerError,
    LedgerFull,
    LogSigner,
    Outcome,
    SqliteStore,
    TrustFile,
    new_secret,
)
from cognify_dagster.ledger.anchors import AnchorError, FolderAnchor
from cognify_dagster.ledger.archive.export import export_archive
from cognify_dagster.ledger.group import GroupCommitter
from cognify_dagster.ledger.note import Checkpoint
from cognify_dagster.ledger.recovery.backup import backup_sqlite, restore_into, restore_sqlite
from cognify_dagster.ledger.recovery.copying import copy_ledger
from cognify_dagster.ledger.recovery.dump import dump_ledger, open_dump
from cognify_dagster.ledger.recovery.rollback import mark_path
from tests.faults.kernel import descriptor_of, fail_flushes, in_child, let_no_file_grow_beyond, require_filters
from tests.ledger.archive_world import MANIFEST_KEYS, SIGNER, fill, log_key
from tests.ledger.archive_world import ORIGIN as WORLD
from tests.ledger.archive_world import checkpoint as sign_world
from tests.ledger.drafts import ORIGIN, Clock, draft

CLASSES = ("public", "internal", "confidential", "personal")
_clock = Clock()


@pytest.fixture(scope="module", autouse=True)
def _filters() -> None:
    require_filters()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger file with three entries."""
    store = SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN)
    ledger = Ledger(store, clock_us=_clock)
    for number in range(3):
        ledger.append(draft(number))
    store.close()
    return tmp_path / "ledger.sqlite"


def holds(path: Path, size: int) -> bool:
    """Whether the ledger verifies and has so many entries."""
    report = Ledger(SqliteStore(path)).verify()
    return report.size == size and report.outcome in (Outcome.HOLDS, Outcome.UNPROVEN) and report.level == "L0"


def names(folder: Path) -> list[str]:
    """What lies in a folder, but for journals that SQLite has emptied."""
    found = [item for item in folder.rglob("*") if not (item.name.endswith("-journal") and item.stat().st_size == 0)]
    return sorted(str(item.relative_to(folder)) for item in found)


def refused(act: Callable[[], object], kind: type[Exception]) -> str:
    """Return the text of the error that an act must end with."""
    try:
        act()
    except kind as error:
        return str(error)
    raise AssertionError("it was acknowledged although its flush failed")


# --- the ledger ---


@pytest.mark.parametrize("many", [False, True])
def test_an_append_is_refused_and_the_ledger_is_as_it_was(path: Path, many: bool) -> None:
    def act() -> str:
        ledger = Ledger(SqliteStore(path), clock_us=_clock)
        assert ledger.append(draft(3)).seq == 3  # acknowledged before the disk fails
        fail_flushes()
        if many:
            return refused(lambda: ledger.append_many([draft(4), draft(5)]), LedgerFull)
        return refused(lambda: ledger.append(draft(4)), LedgerFull)

    said = in_child(act)
    assert str(path) in said
    assert "disk I/O error" in said
    assert holds(path, 4)
    assert Ledger(SqliteStore(path), clock_us=_clock).append(draft(4)).seq == 4  # the retry, once the disk is mended


def test_after_a_failed_flush_nobody_goes_on_with_the_connection(path: Path) -> None:
    """Pages in SQLite's cache may say other than the disk. The next use starts from the file, and fails in its turn."""

    def act() -> str:
        store = SqliteStore(path)
        ledger = Ledger(store, clock_us=_clock)
        ledger.append(draft(3))
        before = descriptor_of(path)
        fail_flushes()
        refused(lambda: ledger.append(draft(4)), LedgerFull)
        with pytest.raises(AssertionError, match="is not open"):
            descriptor_of(path)
        assert store.size() == 4
        return refused(lambda: ledger.append(draft(4)), LedgerFull) and str(before)

    assert int(in_child(act)) > 2
    assert holds(path, 4)


def test_a_flush_of_the_database_itself_fails_once_and_the_same_process_goes_on(path: Path) -> None:
    """The journal is safe, the pages are written, their flush fails: what was written must be taken back from the journal."""

    def act() -> str:
        ledger = Ledger(SqliteStore(path), clock_us=_clock)
        ledger.append(draft(3))
        broken = descriptor_of(path)
        fail_flushes(only=broken)
        said = refused(lambda: ledger.append(draft(4)), LedgerFull)
        while (spare := os.open("/dev/null", os.O_RDONLY)) < broken:
            pass
        assert spare >= broken  # the number whose flushes fail is taken: the file gets another one
        assert ledger.size() == 4
        assert ledger.append(draft(5)).seq == 4
        assert ledger.append(draft(4)).seq == 5
        return said

    assert str(path) in in_child(act)
    assert holds(path, 6)


def test_every_caller_of_a_group_commit_gets_the_error(path: Path) -> None:
    def act() -> str:
        ledger = Ledger(SqliteStore(path), clock_us=_clock)
        fail_flushes()  # threads made from here on inherit it
        answers: list[str] = []
        with GroupCommitter(ledger) as group:
            calls = [
                threading.Thread(target=lambda n=n: answers.append(refused(lambda: group.append(draft(n)), LedgerFull)))
                for n in range(10, 18)
            ]
            for call in calls:
                call.start()
            for call in calls:
                call.join()
        assert len(answers) == 8
        assert all(str(path) in text for text in answers)
        return answers[0]

    in_child(act)
    assert holds(path, 3)


def test_a_ledger_that_cannot_be_flushed_is_not_created(tmp_path: Path) -> None:
    def act() -> str:
        fail_flushes()
        return refused(lambda: SqliteStore.create(tmp_path / "new.sqlite", ORIGIN), LedgerError)

    assert str(tmp_path / "new.sqlite") in in_child(act)
    assert names(tmp_path) == []


# --- signer, anchor ---


def test_the_signer_signs_nothing_that_it_could_not_remember(path: Path) -> None:
    key, state = path.with_name("log.key"), path.with_name("signer-state.json")
    new_secret(key)
    signer = LogSigner(key, state, ORIGIN)
    Ledger(SqliteStore(path), signer=signer).sign_checkpoint()
    Ledger(SqliteStore(path), clock_us=_clock).append(draft(3))
    kept = state.read_bytes()

    def act() -> str:
        ledger = Ledger(SqliteStore(path), signer=LogSigner(key, state, ORIGIN))
        fail_flushes()
        return refused(ledger.sign_checkpoint, OSError)

    assert str(state) in in_child(act)
    assert state.read_bytes() == kept
    assert [size for size, _ in SqliteStore(path).checkpoints()] == [3]
    again = LogSigner(key, state, ORIGIN)
    assert (
        Checkpoint.parse(Ledger(SqliteStore(path), signer=again).sign_checkpoint().partition("\n\n")[0] + "\n").size
        == 4
    )
    assert Ledger(SqliteStore(path)).verify(TrustFile((again.verifier,), None)).outcome is Outcome.HOLDS


@pytest.mark.parametrize("after_link", [False, True])
def test_a_folder_anchor_gives_no_receipt(path: Path, after_link: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = path.with_name("vault")
    folder.mkdir()
    key = path.with_name("log.key")
    new_secret(key)
    note = Ledger(SqliteStore(path), signer=LogSigner(key, path.with_name("state"), ORIGIN)).sign_checkpoint()
    head = Checkpoint.parse(note.partition("\n\n")[0] + "\n")

    def act() -> str:
        arm(monkeypatch, "link" if after_link else None)
        said = refused(lambda: FolderAnchor(folder).put(head, note), AnchorError)
        refused(
            lambda: FolderAnchor(folder).put(head, note), AnchorError
        )  # being there is not enough: its name is not flushed
        return said

    assert str(folder) in in_child(act)
    assert not [name for name in names(folder) if ".new-" in name]
    assert FolderAnchor(folder).put(head, note).size == 3


def arm(monkeypatch: pytest.MonkeyPatch, after: str | None) -> None:
    """Make flushes fail from now on, or only those that follow the first call of `os.<after>`: a folder's, behind a file's."""
    if after is None:
        fail_flushes()
        return
    real = getattr(os, after)

    def call(*arguments: Any, **options: Any) -> Any:
        result = real(*arguments, **options)
        fail_flushes()
        return result

    monkeypatch.setattr(os, after, call)


# --- evidence ---


@pytest.mark.parametrize("after", [None, "link"], ids=["file", "name"])
@pytest.mark.parametrize("sensitivity", CLASSES)
def test_evidence_is_not_acknowledged(
    tmp_path: Path, sensitivity: Any, after: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "evidence"
    keys = LocalKeyProvider.create(tmp_path / "kek")
    kept = EvidenceStore(root, keys=keys).put(b"kept", media_type="text/plain", sensitivity=sensitivity)

    def act() -> str:
        store = EvidenceStore(root, keys=LocalKeyProvider(tmp_path / "kek"))
        arm(monkeypatch, after)
        return refused(lambda: store.put(b"lost", media_type="text/plain", sensitivity=sensitivity), EvidenceError)

    assert str(root) in in_child(act)
    assert not [name for name in names(root) if ".tmp-" in name]
    store = EvidenceStore(root, keys=keys)
    assert store.get(kept) == b"kept"
    if after is None:
        with pytest.raises((EvidenceMissing, EvidenceKeyErased)):
            store.get("sha256:" + hashlib.sha256(b"lost").hexdigest())
    assert store.get(store.put(b"lost", media_type="text/plain", sensitivity=sensitivity)) == b"lost"


def test_an_erasure_that_is_not_on_the_disk_is_not_acknowledged(tmp_path: Path) -> None:
    store = EvidenceStore(tmp_path / "evidence", keys=LocalKeyProvider.create(tmp_path / "kek"))
    ref = store.put(b"personal", media_type="text/plain", sensitivity="personal")

    def act() -> str:
        fail_flushes()
        return refused(lambda: store.erase_key(ref.digest), EvidenceError)

    assert str(tmp_path / "evidence") in in_child(act)
    store.erase_key(ref.digest)
    with pytest.raises(EvidenceKeyErased):
        store.get(ref)


# --- backups: the same for a flush that fails and for a file that may not grow ---


@pytest.fixture
def world(tmp_path: Path) -> Path:
    """A signed ledger of 300 entries, a backup file and a dump of it."""
    store = SqliteStore.create(tmp_path / "world.sqlite", WORLD)
    fill(store, 300)
    sign_world(store)
    backup_sqlite(store, tmp_path / "have.sqlite")
    dump_ledger(store, tmp_path / "have", signer=SIGNER, log_keys=[log_key()], cut=256)
    store.close()
    return tmp_path


TRUST = TrustFile((log_key(),), None)


def _backup(world: Path) -> object:
    return backup_sqlite(SqliteStore(world / "world.sqlite", read_only=True), world / "made.sqlite", trust=TRUST)


def _dump(world: Path) -> object:
    store = SqliteStore(world / "world.sqlite", read_only=True)
    return dump_ledger(store, world / "made", signer=SIGNER, log_keys=[log_key()], cut=256)


def _archive(world: Path) -> object:
    store = SqliteStore(world / "world.sqlite", read_only=True)
    return export_archive(store, world / "made", 0, 256, signer=SIGNER, log_keys=[log_key()])


def _restore(world: Path) -> object:
    return restore_sqlite(world / "have.sqlite", world / "made.sqlite", trust=TRUST)


def _copy(world: Path) -> object:
    target = SqliteStore.create(world / "made.sqlite", WORLD)
    try:
        return copy_ledger(SqliteStore(world / "world.sqlite", read_only=True), target)
    finally:
        _must_be_empty(target)


def _restore_a_dump(world: Path) -> object:
    dump = open_dump(world / "have", manifest_keys=MANIFEST_KEYS, log_keys=[log_key()], origin=WORLD)
    target = SqliteStore.create(world / "made.sqlite", WORLD)
    mark = mark_path(world / "made.sqlite")
    try:
        return restore_into(dump, target, size=300, checkpoints=dump.checkpoints(), trust=TRUST, mark=mark)
    finally:
        _must_be_empty(target)


def _must_be_empty(target: SqliteStore) -> None:
    assert target.size() == 0
    target.path.unlink()  # as the command does


FILES = (
    _backup,
    _restore,
)
FOLDERS = (
    _dump,
    _archive,
)
FILLED = (
    _copy,
    _restore_a_dump,
)


@pytest.mark.parametrize("act", [*FILES, *FOLDERS, *FILLED], ids=lambda act: act.__name__)
@pytest.mark.parametrize("fault", ["flush", "name", "size"])
def test_a_backup_that_is_not_on_the_disk_is_not_there(
    world: Path, act: Callable[[Path], object], fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = names(world)
    half = (world / "have.sqlite").stat().st_size // 2

    def attempt() -> str:
        if fault == "size":
            let_no_file_grow_beyond(4_000 if act in FOLDERS else half)
        elif act in FILLED:
            monkeypatch.setattr(SqliteStore, "load", failing(SqliteStore.load))
        elif fault == "flush":
            fail_flushes()
        else:
            arm(monkeypatch, "link" if act in FILES else "replace")
        return refused(lambda: act(world), LedgerFull)

    said = in_child(attempt)
    assert str(world) in said
    assert "made" in said
    assert names(world) == before
    if act not in FILLED:
        assert act(world), "and once the disk is mended it is made"


def failing(load: Callable[..., None]) -> Callable[..., None]:
    """The empty file was made and marked when its flushes begin to fail."""

    def call(*arguments: Any) -> None:
        fail_flushes()
        load(*arguments)

    return call
