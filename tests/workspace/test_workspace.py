"""Opening a workspace, its configuration, appending and reading back."""

from __future__ import annotations

import shutil
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.evidence import EvidenceCorrupt, EvidenceMissing
from cognify_dagster.ledger import IdempotencyConflict, LedgerUnreadable, Outcome, SizeChanged, Tampered
from cognify_dagster.records import DatasetSnapshot, Genesis, ModelRegistered, PayloadErased, RecordError, VersionOpened
from cognify_dagster.workspace import Workspace, WorkspaceError, find_config, idempotency_key, load_config
from tests.workspace.conftest import ORIGIN, register


def rewrite(folder: Path, old: str, new: str) -> None:
    path = folder / "cognify.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


# --- opening ---------------------------------------------------------------------------------------------------------


def test_it_opens_from_the_folder_a_subfolder_the_home_and_the_file(folder: Path) -> None:
    (folder / "src" / "deep").mkdir(parents=True)
    for start in (folder, folder / "src" / "deep", folder / ".cognify", folder / "cognify.toml"):
        assert Workspace.open(start).origin == ORIGIN


def test_it_opens_from_the_environment_and_the_current_folder(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.delenv("COGNIFY_WORKSPACE", raising=False)
    assert Workspace.open().origin == ORIGIN
    monkeypatch.chdir("/")
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(folder))
    assert Workspace.open().origin == ORIGIN


def test_where_there_is_none_the_error_says_how_to_make_one(tmp_path: Path) -> None:
    with pytest.raises(WorkspaceError, match="cognify init"):
        Workspace.open(tmp_path)


def test_a_workspace_may_be_moved_as_a_whole(folder: Path, tmp_path: Path) -> None:
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    workspace = Workspace.open(moved)
    workspace.append(register(), idem=idempotency_key("x"), checkpoint=True)
    assert workspace.ledger.verify(workspace.trust()).outcome is Outcome.HOLDS


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        (f'origin = "{ORIGIN}"', "origin = 7", "origin must be text"),
        (f'origin = "{ORIGIN}"', 'origin = ""', "origin must be text"),
        (f'origin = "{ORIGIN}"', "", "origin must be text"),
        ('home = ".cognify"', "home = [1]", "home must be text"),
        ('home = ".cognify"', 'home = ".cognify"\nhom = "x"', "unknown field 'hom'"),
        ("[workspace]", 'frameworks = "f"\n[workspace]', "'frameworks'; it belongs under"),
        ("[workspace]", "[seals]\n[workspace]", "unknown table or field 'seals'"),
        ("[workspace]", "[work]", r"\[workspace\] is missing"),
        ("[workspace]", "[workspace", "cannot be read"),
    ],
)
def test_a_configuration_error_names_file_and_field(folder: Path, old: str, new: str, named: str) -> None:
    rewrite(folder, old, new)
    with pytest.raises(WorkspaceError, match=rf"cognify\.toml: .*{named}"):
        Workspace.open(folder)


def test_a_configuration_that_is_no_text_is_named(folder: Path) -> None:
    (folder / "cognify.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(WorkspaceError, match=r"cognify\.toml: cannot be read"):
        Workspace.open(folder)


def test_paths_are_relative_to_the_file_and_evidence_may_be_a_url(tmp_path: Path) -> None:
    path = tmp_path / "cognify.toml"
    path.write_text(
        '[workspace]\norigin = "a.example/b"\nhome = "h"\nledger = "/abs/l.sqlite"\nevidence = "s3://bucket/p"\n'
    )
    config = load_config(path)
    assert (config.home, config.ledger, config.evidence) == (tmp_path / "h", Path("/abs/l.sqlite"), "s3://bucket/p")
    assert config.keys == tmp_path / "h" / "keys"
    assert find_config(tmp_path / "h") == path


def test_another_ledger_under_the_same_configuration_is_refused(folder: Path) -> None:
    rewrite(folder, ORIGIN, "test.example/other")
    with pytest.raises(WorkspaceError, match=r"'test\.example/other' is not that of the ledger"):
        Workspace.open(folder)


@pytest.mark.parametrize("content", [None, b"", b"not a database at all" * 100])
def test_a_missing_or_foreign_ledger_is_refused(folder: Path, content: bytes | None) -> None:
    path = folder / ".cognify" / "ledger.sqlite"
    path.unlink()
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(LedgerUnreadable, match=r"ledger\.sqlite"):
        Workspace.open(folder)


@pytest.mark.parametrize("name", ["log.key", "workload.key"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(folder: Path, name: str, mode: int) -> None:
    (folder / ".cognify" / "keys" / name).chmod(mode)
    with pytest.raises(LedgerUnreadable, match="chmod 600"):
        Workspace.open(folder)


def test_every_private_file_is_private(folder: Path) -> None:
    for path in (folder / ".cognify" / "keys").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


def test_without_keys_it_reads_and_writes_unsigned_but_signs_nothing(folder: Path) -> None:
    shutil.rmtree(folder / ".cognify" / "keys")
    workspace = Workspace.open(folder)
    receipt = workspace.append(register(), idem=idempotency_key("x"), checkpoint=True)
    entry = workspace.read().view.entries[receipt.seq].entry
    assert (entry.key_id, entry.actor) == ("", "system")


def test_a_missing_trust_file_is_named(folder: Path) -> None:
    (folder / "trust.txt").unlink()
    with pytest.raises(WorkspaceError, match=r"trust\.txt"):
        Workspace.open(folder).trust()


# --- appending -------------------------------------------------------------------------------------------------------


def test_an_entry_carries_writer_actor_subjects_and_evidence(workspace: Workspace) -> None:
    item = workspace.put("profile.json", b"{}", "application/json")
    record = DatasetSnapshot(
        name="loans", root="ab" * 32, data_version="x", file_count=1, total_bytes=2, profile=item, manifest=item
    )
    receipt = workspace.append(record, actor="person/ada", idem=idempotency_key("x"))
    entry = workspace.read().view.entries[receipt.seq].entry
    assert workspace.writer is not None
    assert (entry.kind, entry.actor, entry.key_id) == ("dataset_snapshot", "person/ada", workspace.writer.key_id)
    assert entry.subjects == ("dataset/loans",)
    assert entry.evidence == (item.digest,)


def test_a_retry_with_the_same_facts_returns_the_old_receipt(workspace: Workspace) -> None:
    idem = idempotency_key("register", "credit")
    first = workspace.append(register(), idem=idem)
    again = workspace.append(register().model_copy(update={"observed": {"attempt": 2}}), idem=idem)
    assert again.duplicate
    assert not first.duplicate
    assert (again.seq, again.leaf) == (first.seq, first.leaf)
    assert workspace.ledger.size() == 2


def test_a_retry_with_other_facts_is_a_conflict_and_leaves_nothing(workspace: Workspace) -> None:
    idem = idempotency_key("register", "credit")
    workspace.append(register(), idem=idem)
    with pytest.raises(IdempotencyConflict):
        workspace.append(register(owner="team:y"), idem=idem)
    assert workspace.ledger.size() == 2


def test_an_expected_size_that_no_longer_holds_appends_nothing(workspace: Workspace) -> None:
    with pytest.raises(SizeChanged):
        workspace.append(register(), idem=idempotency_key("x"), expected_size=0)
    assert workspace.ledger.size() == 1
    workspace.append(register(), idem=idempotency_key("x"), expected_size=1)


def test_a_checkpoint_right_after_covers_the_entry(workspace: Workspace) -> None:
    workspace.append(register("a"), idem=idempotency_key("a"))
    assert workspace.ledger.verify(workspace.trust()).uncovered == 1
    workspace.append(register("b"), idem=idempotency_key("b"), checkpoint=True)
    assert workspace.ledger.verify(workspace.trust()).uncovered == 0


def test_idempotency_keys_keep_their_parts_apart() -> None:
    assert idempotency_key("ab", "c") != idempotency_key("a", "bc")
    assert idempotency_key("a", 1) == idempotency_key("a", "1")
    assert idempotency_key("a") != idempotency_key("a", "")


def test_many_threads_append_to_one_workspace(workspace: Workspace) -> None:
    def one(number: int) -> int:
        record = register(f"model_{number}")
        return workspace.append(record, idem=idempotency_key(number), checkpoint=number % 5 == 0).seq

    with ThreadPoolExecutor(8) as pool:
        seqs = list(pool.map(one, range(40)))
    assert sorted(seqs) == list(range(1, 41))
    workspace.ledger.sign_checkpoint()
    assert workspace.ledger.verify(workspace.trust()).outcome is Outcome.HOLDS


# --- evidence --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sensitivity", ["public", "internal", "confidential", "personal"])
def test_evidence_comes_back_as_it_was_put(workspace: Workspace, tmp_path: Path, sensitivity: str) -> None:
    item = workspace.put("note.txt", b"hello", "text/plain", sensitivity)
    assert (item.name, item.size, item.sensitivity) == ("note.txt", 5, sensitivity)
    assert workspace.evidence.get(item.digest) == b"hello"
    (tmp_path / "file").write_bytes(b"hello")
    assert workspace.put("note.txt", tmp_path / "file", "text/plain", sensitivity) == item


def test_an_unknown_sensitivity_is_refused_before_anything_is_stored(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match="sensitivity"):
        workspace.put("x", b"hello", "text/plain", "secret")
    assert not list((workspace.home / "evidence").rglob("blobs/*/*"))


def test_missing_and_altered_evidence_are_told_apart(workspace: Workspace) -> None:
    with pytest.raises(EvidenceMissing):
        workspace.evidence.get("sha256:" + "0" * 64)
    item = workspace.put("note.txt", b"hello", "text/plain")
    blob = next(path for path in (workspace.home / "evidence").rglob("*") if path.is_file())
    blob.chmod(0o600)
    blob.write_bytes(b"hallo")
    with pytest.raises(EvidenceCorrupt):
        workspace.evidence.get(item.digest)


def test_the_key_for_personal_records_is_stable(folder: Path) -> None:
    assert Workspace.open(folder).record_key() == Workspace.open(folder).record_key()
    assert len(Workspace.open(folder).record_key()) == 32


# --- reading ---------------------------------------------------------------------------------------------------------


def test_reading_gives_typed_records_by_subject_and_kind(workspace: Workspace) -> None:
    workspace.append(register("a"), idem=idempotency_key("a"))
    workspace.append(register("b"), idem=idempotency_key("b"))
    workspace.append(VersionOpened(model="a", version="1", run="r", opened_by="person/ada"), idem=idempotency_key("v"))
    workspace.append(register("a", owner="team:z"), idem=idempotency_key("a2"))
    reading = workspace.read()
    assert [item.seq for item in reading.all(ModelRegistered)] == [1, 2, 4]
    assert [item.seq for item in reading.all(ModelRegistered, "model/a")] == [1, 4]
    assert [item.seq for item in reading.history("model/a")] == [1, 3, 4]
    newest = reading.latest(ModelRegistered, "model/a")
    assert newest is not None
    assert newest.record.owner == "team:z"
    assert newest.leaf == reading.view.entries[4].entry.leaf.hex()
    assert reading.latest(ModelRegistered, "model/none") is None
    assert reading.history("model/none") == []
    assert isinstance(reading.genesis.record, Genesis)
    assert reading.trial


def test_a_reading_of_a_size_knows_nothing_later(workspace: Workspace) -> None:
    workspace.append(register("a"), idem=idempotency_key("a"))
    workspace.append(register("a", owner="team:z"), idem=idempotency_key("a2"))
    reading = workspace.read(size=2)
    newest = reading.latest(ModelRegistered, "model/a")
    assert reading.size == 2
    assert newest is not None
    assert newest.record.owner == "team:x"


@pytest.mark.parametrize("seq", [-1, -2, 2, 10_000])
def test_there_is_no_entry_outside_the_reading(workspace: Workspace, seq: int) -> None:
    workspace.append(register(), idem=idempotency_key("a"))
    assert workspace.read().at(seq) is None
    assert workspace.read().at(1) is not None


def test_a_ledger_without_genesis_is_named(workspace: Workspace) -> None:
    with pytest.raises(RecordError, match="genesis"):
        _ = workspace.read(size=0).genesis


class Lying(ModelRegistered):
    """A record whose entry names other subjects than its payload."""

    about: str = ""

    def subjects(self) -> tuple[str, ...]:
        return (self.about,)


def test_an_entry_filed_under_other_subjects_than_its_payloads_is_unreadable(workspace: Workspace) -> None:
    facts: dict[str, Any] = register("a").facts()
    workspace.append(Lying(**facts, about="model/b"), idem=idempotency_key("x"))
    reading = workspace.read()
    assert reading.all(ModelRegistered) == []
    assert "subjects are not those" in reading.unreadable("model/b")[1]


def test_an_erased_payload_is_reported_not_passed_over(workspace: Workspace) -> None:
    workspace.append(register("a"), idem=idempotency_key("a"))
    with sqlite3.connect(workspace.config.ledger) as db:
        db.execute("UPDATE payload SET bytes = NULL, salt = NULL, facts_digest = NULL WHERE seq = 1")
    db.close()
    with pytest.raises(Tampered):
        workspace.read().at(1)
    workspace.append(PayloadErased(seq=1, basis="law", approved_by="person/ada"), idem=idempotency_key("e"))
    reading = workspace.read()
    assert reading.at(1) is None
    assert [item.entry.seq for item in reading.erased("model/a")] == [1]


def test_an_altered_byte_stops_reading_and_names_the_entry(workspace: Workspace) -> None:
    workspace.append(register("a"), idem=idempotency_key("a"))
    with sqlite3.connect(workspace.config.ledger) as db:
        db.execute("DROP TRIGGER entry_no_update")
        db.execute("UPDATE entry SET bytes = replace(CAST(bytes AS TEXT), 'model/a', 'model/b') WHERE seq = 1")
    db.close()
    with pytest.raises(Tampered, match="entry 1"):
        workspace.read()
