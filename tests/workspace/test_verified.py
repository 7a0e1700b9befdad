"""A workspace keeps what it verified, reads only what it is asked for, and says how far it is."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import Ledger, RolledBack, SqliteStore, Tampered
from cognify_dagster.records import VersionOpened
from cognify_dagster.workspace import Reading, Workspace
from tests.governance.world import MODEL, World, clone, make_world


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("verified") / "founded")


@pytest.fixture
def world(template: World, tmp_path: Path) -> World:
    return clone(template, tmp_path / "world")


def opened(world: World, count: int) -> None:
    for number in range(count):
        version = str(number)
        world.write(VersionOpened(model=MODEL, version=version, run=f"run-{version}", opened_by="person/ben"))


def anew(world: World, every: int = 1) -> Workspace:
    """The workspace as another process opens it, keeping its index after `every` new entries."""
    workspace = Workspace.open(world.folder / "project")
    index = workspace.ledger.index
    assert index is not None
    assert index._file is not None
    index._file.keep_every = every
    return workspace


def test_the_first_look_is_done_in_bounded_steps_that_other_processes_continue(world: World) -> None:
    opened(world, 20)
    size = world.workspace.ledger.size()
    seen: list[tuple[int, int]] = []
    first = anew(world).catch_up(5, lambda done, of: seen.append((done, of)))
    assert (first.size, first.total, first.complete) == (5, size, False)
    assert seen == [(5, 5)]
    assert anew(world).catch_up(5).size == 10
    assert anew(world).catch_up().complete
    assert anew(world).read().size == size


def test_the_index_lies_in_the_workspace_and_is_private(world: World) -> None:
    anew(world).read()
    path = world.workspace.home / "verified" / "index.sqlite"
    assert path.is_file()
    assert path.stat().st_mode & 0o077 == 0


def test_without_the_secret_nothing_is_kept(world: World) -> None:
    (world.workspace.config.keys / "record-digests.key").unlink()
    workspace = Workspace.open(world.folder / "project")
    assert workspace.read().size == world.workspace.ledger.size()
    assert not (workspace.home / "verified").exists()


def test_all_records_of_a_kind_are_found_by_kind(world: World) -> None:
    opened(world, 12)
    anew(world).read()
    reading = anew(world).read()
    assert [item.record.version for item in reading.all(VersionOpened)] == [str(number) for number in range(12)]
    assert [item.seq for item in reading.all(VersionOpened)] == [
        item.entry.seq for item in reading.view.entries if item.entry.kind == "version_opened"
    ]


def test_a_ledger_set_back_after_it_was_read_is_reported_by_every_later_read(world: World) -> None:
    older = world.workspace.config.ledger.read_bytes()
    opened(world, 3)
    anew(world).read()
    world.workspace.ledger.store.close()  # type: ignore[attr-defined]
    world.workspace.config.ledger.write_bytes(older)
    for _ in range(2):
        with pytest.raises(RolledBack, match="were cut off"):
            anew(world).read()


def test_an_edited_entry_is_found_when_a_decision_reads_it(world: World) -> None:
    opened(world, 3)
    seq = world.workspace.ledger.size() - 2
    anew(world).read()
    with sqlite3.connect(world.workspace.config.ledger) as db:
        db.execute("DROP TRIGGER entry_no_update")
        db.execute("UPDATE entry SET bytes = replace(CAST(bytes AS TEXT), 'person', 'persan') WHERE seq = ?", (seq,))
    db.close()
    reading = anew(world).read()
    assert reading.at(seq + 1) is not None
    with pytest.raises(Tampered, match=f"entry {seq}"):
        reading.history(f"model/{MODEL}@1")


def test_what_a_history_says_is_traced(world: World) -> None:
    opened(world, 2)
    reading = anew(world).read()
    with reading.view.trace() as subjects:
        reading.all(VersionOpened, f"model/{MODEL}@0")
        reading.view.heads.get("model/none")
        with reading.view.trace() as inner:
            reading.latest(VersionOpened, f"model/{MODEL}@1")
    reading.history("people")
    assert subjects == {f"model/{MODEL}@0", f"model/{MODEL}@1", "model/none"}
    assert inner == {f"model/{MODEL}@1"}


def test_only_newer_entries_of_a_subject_are_read_where_older_ones_are_known(world: World) -> None:
    opened(world, 8)
    whole = [item.entry.seq for item in anew(world).read().view.history(f"model/{MODEL}")]
    for after in (-1, whole[2], whole[-2], whole[-1]):
        found = anew(world).read().view.since(f"model/{MODEL}", after)
        assert [item.entry.seq for item in found] == [seq for seq in whole if seq > after]


@pytest.mark.parametrize("few", [0, 2, 4_096])  # of the kind are too many to be read, at first or at once, or are not
def test_what_is_in_a_long_history_is_remembered_and_nothing_new_is_missed(
    world: World, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    from cognify_dagster.records import ModelRegistered
    from cognify_dagster.workspace import reading as module

    monkeypatch.setattr(module, "_MANY", 4)
    monkeypatch.setattr(module, "_OF_KIND", few)
    subject, workspace = f"model/{MODEL}", anew(world)
    for step in range(4):
        opened(world, 3)
        if step % 2:
            world.register()
        at = workspace.read()
        plain = [item.entry.seq for item in at.view.history(subject) if item.entry.kind == "model_registered"]
        for _ in range(2):
            assert [item.seq for item in workspace.read().all(ModelRegistered, subject)] == plain
            newest = workspace.read().latest(ModelRegistered, subject)
            assert (newest.seq if newest else None) == (plain[-1] if plain else None)
        older = workspace.read(at.size - 1)
        assert [item.seq for item in older.all(ModelRegistered, subject)] == [seq for seq in plain if seq < at.size - 1]


def test_of_a_long_history_only_the_entries_of_the_kind_are_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.records import ModelRegistered
    from cognify_dagster.workspace import reading as module

    monkeypatch.setattr(module, "_MANY", 4)
    world.register()
    opened(world, 40)
    workspace, subject = anew(world), f"model/{MODEL}"
    assert [item.record.model for item in workspace.read().all(ModelRegistered, subject)] == [MODEL]
    read: list[int] = []
    honest = type(workspace.read().view)._load

    def load(self: Any, seq: int, *args: Any, **options: Any) -> Any:
        read.append(seq)
        return honest(self, seq, *args, **options)

    monkeypatch.setattr(type(workspace.read().view), "_load", load)
    found = workspace.read().all(ModelRegistered, subject)
    assert read == [item.seq for item in found]
    assert workspace.read().all(ModelRegistered, "model/nobody") == []


@pytest.mark.parametrize("few", [0, 4_096])
def test_what_is_remembered_of_a_long_history_is_traced_too(
    world: World, monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    from cognify_dagster.workspace import reading as module

    monkeypatch.setattr(module, "_MANY", 4)
    monkeypatch.setattr(module, "_OF_KIND", few)
    opened(world, 12)
    indexed, subject = anew(world).read(), f"model/{MODEL}"
    whole = Ledger(SqliteStore(world.workspace.config.ledger)).view()
    for reading in (indexed, indexed, Reading(whole, indexed._records)):
        with reading.view.trace() as subjects:
            assert len(reading.all(VersionOpened, subject)) == 12
        assert subjects == {subject}


def test_a_kind_that_was_gone_through_before_is_not_looked_for_in_short_histories(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.workspace import reading as module

    monkeypatch.setattr(module, "_MANY", 4)
    opened(world, 12)
    workspace = anew(world)
    workspace.read().all(VersionOpened, f"model/{MODEL}")
    world.write(VersionOpened(model=MODEL, version="13", run="run-13", opened_by="person/ben"))
    reading = workspace.read()
    with reading.view.trace() as subjects:
        (found,) = reading.all(VersionOpened, f"model/{MODEL}@13")
        assert not reading.view.holds(f"model/{MODEL}@13")
    assert (found.record.version, subjects) == ("13", {f"model/{MODEL}@13"})
    assert [item.record.version for item in reading.all(VersionOpened, f"model/{MODEL}@3")] == ["3"]
    assert workspace.read(found.seq).all(VersionOpened, f"model/{MODEL}@13") == []
