"""The verified index: what it answers is what a full verification would, and nothing an attacker changes goes unseen."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import Ledger, RolledBack, SqliteStore, Tampered, merkle_root
from cognify_dagster.ledger.archive.detaching import ArchivedStore
from cognify_dagster.ledger.verification.index import Index
from cognify_dagster.ledger.verification.indexfile import IndexFile, index_key
from cognify_dagster.ledger.verification.known import CHUNK
from tests.conformance.postgres_server import postgres_ledger
from tests.ledger import archive_world as world

SECRET = b"s" * 32


class Place:
    """A ledger in SQLite or Postgres, and the folder where its index is kept."""

    def __init__(self, folder: Path, open_store: Callable[[], Any], sql: Callable[..., None]) -> None:
        self.folder, self.open, self.sql = folder, open_store, sql
        self.store = open_store()

    @property
    def path(self) -> Path:
        return self.folder / "verified" / "index.sqlite"

    def file(self, origin: str = world.ORIGIN, every: int = 1) -> IndexFile:
        return IndexFile(self.path, index_key(SECRET, origin), origin, keep_every=every)

    def index(self, store: Any = None, *, every: int = 1) -> Index:
        return Index(store or self.open(), file=self.file(every=every))

    def advanced(self, **options: Any) -> Index:
        index = self.index(**options)
        index.advance()
        return index

    def fill(self, size: int) -> None:
        world.fill(self.store, size)


def sqlite_place(folder: Path) -> Place:
    path = folder / "ledger.sqlite"
    SqliteStore.create(path, world.ORIGIN).close()

    def sql(*statements: str) -> None:
        db = sqlite3.connect(path)
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        for statement in statements:
            db.execute(statement)
        db.commit()
        db.close()

    return Place(folder, lambda: SqliteStore(path), sql)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if request.param == "sqlite":
        yield sqlite_place(tmp_path)
        return
    with postgres_ledger(world.ORIGIN) as ledger:
        yield Place(tmp_path, ledger.open, ledger.overpower)


@pytest.fixture
def files(tmp_path: Path) -> Place:
    return sqlite_place(tmp_path)


def told(view: Any) -> dict[str, Any]:
    """Everything a view says."""
    entries = list(view.entries)
    return {
        "leaves": [item.entry.leaf for item in entries],
        "payloads": [item.payload for item in entries],
        "heads": dict(view.heads),
        "root": view.root,
        "kinds": {kind: [i.entry.seq for i in view.of_kind(kind)] for kind in {i.entry.kind for i in entries}},
        "histories": {s: [i.entry.seq for i in view.history(s)] for s in view.heads},
    }


# --- what it answers ---


def test_a_view_over_an_index_says_what_a_full_verification_says(place: Place) -> None:
    place.fill(300)
    whole = told(Ledger(place.open()).view())
    assert whole["root"] == merkle_root(whole["leaves"])
    kept = place.advanced()
    assert told(kept.view()) == whole
    again = place.index()
    assert again.advance().complete
    assert told(again.view()) == whole  # from the file
    place.fill(340)
    assert told(place.advanced().view()) == told(Ledger(place.open()).view())
    assert told(again.view(300)) == whole


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(cuts=st.lists(st.integers(1, 1_300), min_size=1, max_size=4), data=st.data())
def test_in_whatever_steps_it_grows_it_answers_alike(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], data: st.DataObject
) -> None:
    place = sqlite_place(tmp_path_factory.mktemp("steps"))
    place.fill(1_300)
    leaves = world.leaves(place.store)
    index = place.index()
    for cut in cuts:
        if data.draw(st.booleans()):
            index = place.index()
        index.advance(cut)
        size = index.size
        sizes = data.draw(st.lists(st.integers(1, size), max_size=3))
        assert [index.root(n) for n in sizes] == [merkle_root(leaves[:n]) for n in sizes]
        assert [index.leaf(n - 1) for n in sizes] == [leaves[n - 1] for n in sizes]
        assert list(index.of_kind("training_run", size)) == list(range(size))
        assert {s: index.head(s) for s in ("model/m0", "model/m1", "model/m9")} == {
            "model/m0": max(range(0, size, 3)),
            "model/m1": max(range(1, size, 3), default=-1),
            "model/m9": -1,
        }


def test_a_view_of_a_prefix_knows_nothing_that_came_later(place: Place) -> None:
    place.fill(40)
    view = place.advanced().view(31)
    assert told(view) == told(Ledger(place.open()).view(31))
    assert view.heads["model/m1"] == 28
    assert "model/none" not in view.heads
    with pytest.raises(IndexError):
        view.entry(31)
    with pytest.raises(Tampered, match="40"):
        place.index().view(41) if False else place.advanced().view(41)


def test_heads_that_signers_saw_are_compared_with_verified_leaves(files: Place) -> None:
    files.fill(CHUNK * 2 + 7)
    view, leaves = files.advanced().view(), world.leaves(files.store)
    for size in (1, 5, CHUNK - 1, CHUNK, CHUNK + 3, CHUNK * 2, CHUNK * 2 + 7):
        assert view.consistent(size, merkle_root(leaves[:size]))
        assert not view.consistent(size, merkle_root([*leaves[: size - 1], bytes(32)]))
    assert not view.consistent(0, view.root)
    assert not view.consistent(CHUNK * 2 + 8, view.root)


def test_an_entry_is_found_by_its_key_within_a_subject(place: Place) -> None:
    place.fill(20)
    view = place.advanced().view()
    wanted = view.entry(7).entry
    assert view.find(wanted.idem, "model/m1").entry.seq == 7
    assert view.find(wanted.idem, "model/m2") is None


def test_entries_picked_by_number_are_those_in_the_order_asked_for(place: Place) -> None:
    place.fill(260)
    view, whole = place.advanced().view(250), Ledger(place.open()).view(250)
    for seqs in ([], [7], [3, 249, 3, 0], list(range(249, -1, -1))):
        assert view.pick(seqs) == [whole.entry(seq) for seq in seqs] == whole.pick(seqs)
    view.history("model/m0")
    assert view.pick([3, 4, 6]) == [whole.entry(seq) for seq in (3, 4, 6)]
    for beyond in ([250], [3, -1], [1, 255]):
        with pytest.raises(IndexError):
            view.pick(beyond)


def test_a_history_is_read_only_if_it_is_short(place: Place) -> None:
    place.fill(90)
    whole = Ledger(place.open()).view()
    for limit in (0, 29, 30, 31):
        view = place.advanced().view()
        wanted = whole.history("model/m1") if limit >= 30 else None
        assert view.short_history("model/m1", limit) == wanted == whole.short_history("model/m1", limit)
        view.history("model/m1")
        assert view.short_history("model/m1", limit) == wanted
        assert view.short_history("model/none", limit) == []


def test_a_store_that_gives_fewer_rows_or_others_than_asked_for_hides_nothing(files: Place) -> None:
    files.fill(30)
    whole = files.advanced().view()
    store = files.open()
    honest, asked = store.rows, []

    def rows(seqs: Any) -> Any:
        asked.append(list(seqs))
        return [*honest(seqs)[1:], *honest([20])]

    store.rows = rows
    view = files.advanced(store=store).view()
    assert view.pick([4, 5, 6]) == [whole.entry(seq) for seq in (4, 5, 6)]
    assert asked == [[4, 5, 6]]


def test_a_cold_start_takes_bounded_steps_and_goes_on_in_another_process(files: Place) -> None:
    files.fill(1_000)
    seen: list[tuple[int, int]] = []
    progress = files.index().advance(300, progress=lambda done, of: seen.append((done, of)))
    assert (progress.size, progress.total, progress.complete) == (300, 1_000, False)
    assert seen[-1] == (300, 300)
    later = files.index()
    assert later.advance(300).size == 600  # the file was used
    assert later.advance().complete


# --- what an attacker does to the ledger after it was indexed ---


def test_an_edited_entry_is_found_when_it_is_read(place: Place) -> None:
    place.fill(30)
    place.advanced()
    wrong = place.store.entries(7, 8).__next__().data.replace(b"model/m1", b"model/m2")
    place.sql(f"UPDATE entry SET bytes = {_blob(place, wrong)} WHERE seq = 7")
    view = place.advanced().view()
    assert view.history("model/m0")
    reads = (
        view.entry,
        lambda seq: view.pick([6, seq]),
        lambda _: view.history("model/m1"),
        lambda _: list(view.entries),
    )
    for read in reads:
        with pytest.raises(Tampered, match="entry 7"):
            read(7)


def test_a_removed_entry_is_found_when_it_is_read(place: Place) -> None:
    place.fill(30)
    place.advanced()
    place.sql(
        "DELETE FROM payload WHERE seq = 7",
        "DELETE FROM entry_subject WHERE seq = 7",
        "DELETE FROM entry WHERE seq = 7",
    )
    view = place.advanced().view()
    assert [item.entry.seq for item in view.history("model/m0")] == list(range(0, 30, 3))
    for read in (lambda: view.entry(7), lambda: view.history("model/m1"), lambda: list(view.entries)):
        with pytest.raises(Tampered, match="entry 7"):
            read()


LIES = {  # what the search index says in SQLite, where a row names its subjects and an index row stands for a block; in Postgres
    "a row's subjects are gone": (
        "UPDATE entry SET subjects = 'model/m2' WHERE seq = 28",
        "UPDATE entry_subject SET subject = 'model/m2' WHERE subject = 'model/m1' AND seq = 28",
    ),
    "the newest is not named": (
        "UPDATE entry SET subjects = 'model/m9' WHERE seq = 139",
        "DELETE FROM entry_subject WHERE subject = 'model/m1' AND seq = 139",
    ),
    "a row is said to be about it": (
        "UPDATE entry SET subjects = 'model/m1 model/m2' WHERE seq = 5",
        "INSERT INTO entry_subject (subject, seq) VALUES ('model/m1', 5)",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_search_index_that_lies_neither_hides_nor_adds_an_entry_and_is_found_out(place: Place, lie: str) -> None:
    place.fill(140)
    place.advanced()
    honest = [item.entry.seq for item in place.advanced().view().history("model/m1")]
    assert honest == list(range(1, 140, 3))
    place.sql(LIES[lie][0 if isinstance(place.store, SqliteStore) else 1])
    with pytest.raises(Tampered, match=r"entry \d+: (a search column|the search index)"):
        place.advanced().view().history("model/m1")


def test_a_search_index_that_misses_a_row_hides_nothing(place: Place) -> None:
    place.fill(140)
    place.advanced()
    place.sql("DELETE FROM entry_subject WHERE subject = 'model/m1' AND seq = 61")
    view = place.advanced().view()
    try:
        assert [item.entry.seq for item in view.history("model/m1")] == list(range(1, 140, 3))
    except Tampered as error:
        assert "entry 61: a search column" in str(error)  # noqa: PT017  (either the row is found by its heads, or the index is)


@pytest.mark.parametrize("column", ["kind = 'other'", "time_us = time_us + 1"])
def test_an_edited_search_column_is_found_when_the_row_is_read(place: Place, column: str) -> None:
    place.fill(12)
    place.advanced()
    place.sql(f"UPDATE entry SET {column} WHERE seq = 4")
    with pytest.raises(Tampered, match="entry 4: a search column"):
        place.advanced().view().history("model/m1")


def test_an_edited_payload_is_found_when_it_is_read(place: Place) -> None:
    place.fill(12)
    place.advanced()
    place.sql(f"UPDATE payload SET bytes = {_blob(place, b'{}')} WHERE seq = 4")
    with pytest.raises(Tampered, match="entry 4: its payload"):
        place.advanced().view().history("model/m1")


def test_a_payload_that_is_gone_needs_an_erasure_entry_however_new(place: Place) -> None:
    place.fill(12)
    index = place.advanced()
    view = index.view()
    assert view.entry(4).payload is not None
    place.store.erase([4])
    with pytest.raises(Tampered, match="entry 4: its payload is missing"):
        index.view().entry(4)
    world.erase(place.store, 4)
    assert index.view().entry(4).payload is None
    assert view.history("model/m1")[1].payload is None  # a view from before the erasure does not bring it back
    assert place.advanced().view(12).entry(4).payload is None  # nor does one of another process


def test_a_broken_new_entry_is_not_taken_in(place: Place) -> None:
    place.fill(12)
    index = place.advanced()
    place.fill(14)
    place.sql("UPDATE entry SET time_us = 5 WHERE seq = 13")
    for _ in range(2):
        with pytest.raises(Tampered, match="entry 13"):
            index.advance()
        assert index.size == 12


# --- a ledger that no longer continues what was verified ---


def test_a_ledger_that_was_set_back_is_never_indexed_anew(tmp_path: Path) -> None:
    place = sqlite_place(tmp_path)
    place.fill(20)
    older = (tmp_path / "ledger.sqlite").read_bytes()
    place.fill(30)
    place.advanced()
    place.store.close()
    for name in ("ledger.sqlite-wal", "ledger.sqlite-shm"):
        (tmp_path / name).unlink(missing_ok=True)
    (tmp_path / "ledger.sqlite").write_bytes(older)
    for _ in range(2):
        with pytest.raises(RolledBack, match=r"entries 20\.\.29 were cut off"):
            place.advanced()
    # written on until it is as long again, with another history
    place.store = place.open()
    place.store.append_many([world.sealed(number) for number in range(100, 115)], world.START_US)
    for _ in range(2):
        with pytest.raises(Tampered, match="entry 20 is not the one that was verified"):
            place.advanced()


def test_a_ledger_that_was_rewritten_is_found_out_by_a_running_process_too(tmp_path: Path) -> None:
    place, other = sqlite_place(tmp_path / _made(tmp_path, "a")), sqlite_place(tmp_path / _made(tmp_path, "b"))
    place.fill(20)
    world.fill(other.store, 10)
    other.store.append_many([world.sealed(number) for number in range(50, 75)], world.START_US)
    index = place.advanced(every=1_000)  # nothing is kept yet
    index.store = other.store
    with pytest.raises(Tampered, match="entry 10"):
        index.advance()


# --- what an attacker does to the index ---


def _sizes(place: Place) -> int:
    return place.index().advance(1).size


def test_an_index_that_was_edited_is_not_believed(files: Place) -> None:
    files.fill(600)
    whole = told(files.advanced().view())
    changes = [
        "UPDATE state SET value = replace(CAST(value AS TEXT), '600', '601')",
        "UPDATE state SET mac = zeroblob(32)",
        "UPDATE state SET leaves = zeroblob(64)",
        "DELETE FROM state",
        "UPDATE chunk SET data = zeroblob(10)",
        "DELETE FROM chunk",
        "UPDATE chunk SET data = CAST(replace(CAST(data AS TEXT), 'model/m1 598', 'model/m1 595') AS BLOB)",
        "DROP TABLE chunk",
    ]
    for change in changes:
        db = sqlite3.connect(files.path)
        db.execute(change)
        db.commit()
        db.close()
        assert told(files.advanced().view()) == whole, change
        assert told(files.advanced().view()) == whole, change
        assert _sizes(files) == 600, change  # and it was made anew


@pytest.mark.parametrize("keep", [0, 1, 100, 4_096, 20_000])
def test_an_index_that_was_truncated_is_made_anew(files: Place, keep: int) -> None:
    files.fill(600)
    whole = told(files.advanced().view())
    files.path.write_bytes(files.path.read_bytes()[:keep])
    assert told(files.advanced().view()) == whole
    assert _sizes(files) == 600


def test_an_older_index_is_continued(files: Place) -> None:
    files.fill(600)
    files.advanced()
    older = files.path.read_bytes()
    files.fill(1_200)
    whole = told(files.advanced().view())
    files.path.write_bytes(older)
    index = files.index()
    assert index.advance(1).size == 601
    index.advance()
    assert told(index.view()) == whole


def test_an_older_index_put_in_the_place_of_a_newer_one_does_not_confuse_a_running_process(files: Place) -> None:
    files.fill(600)
    files.advanced()
    older = files.path.read_bytes()
    files.fill(1_700)
    index = files.advanced()
    whole = told(Ledger(files.open()).view())
    files.path.write_bytes(older)
    index._cache.clear()
    assert told(index.view()) == whole


def test_the_index_of_another_ledger_or_workspace_is_not_believed(files: Place) -> None:
    files.fill(300)
    files.advanced()
    assert files.file().load() is not None
    assert files.file("bank.example/demo/other").load() is None
    assert IndexFile(files.path, index_key(b"t" * 32, world.ORIGIN), world.ORIGIN).load() is None


def test_while_an_index_is_made_anew_the_ledger_must_be_the_one_it_was_about(tmp_path: Path) -> None:
    place, other = sqlite_place(tmp_path / _made(tmp_path, "a")), sqlite_place(tmp_path / _made(tmp_path, "b"))
    place.fill(600)
    place.advanced()
    db = sqlite3.connect(place.path)
    db.execute("UPDATE chunk SET data = zeroblob(10) WHERE name LIKE 'l/%'")
    db.commit()
    db.close()
    world.fill(other.store, 400)
    other.store.append_many([world.sealed(number) for number in range(900, 1_200)], world.START_US)
    index = place.index(other.open())
    for _ in range(2):
        with pytest.raises(Tampered, match="the first 600 entries are not those"):
            index.advance()


# --- archives ---


@pytest.mark.parametrize("indexed_before", [True, False])
def test_entries_in_an_archive_are_read_there(files: Place, indexed_before: bool) -> None:
    files.fill(600)
    world.checkpoint(files.store)
    whole = told(Ledger(files.open()).view(600))
    if indexed_before:
        files.advanced()
    archive = world.export(files.store, files.folder / "archive", 0, 512)
    world.detach(files.store, archive)
    with_archive = ArchivedStore(files.open(), [world.opened(files.folder / "archive")])
    index = files.index(with_archive)
    index.advance()
    assert told(index.view(600)) == whole
    some = [599, 3, 511, 512, 40]
    assert [item.entry.leaf for item in index.view(600).pick(some)] == [whole["leaves"][seq] for seq in some]
    if indexed_before:  # what lies in the database can be read without the archive
        assert files.advanced().view().entry(550).entry.seq == 550


# --- several at once ---


def test_threads_and_other_indexes_advance_at_once(files: Place) -> None:
    files.fill(1_500)
    shared, errors, sizes = files.index(), list[BaseException](), list[int]()

    def work(index: Index) -> None:
        try:
            for _ in range(6):
                index.advance(400)
                view = index.view()
                sizes.append(len(view.history("model/m2")) and view.size)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(index,)) for index in (shared, shared, files.index(), files.index())]
    for thread in threads:
        thread.start()
    for number in (1_600, 1_700):
        files.fill(number)
    for thread in threads:
        thread.join()
    assert not errors
    assert told(files.advanced().view()) == told(Ledger(files.open()).view())


WORKER = """
import sys
from pathlib import Path
from cognify_dagster.ledger import SqliteStore
from cognify_dagster.ledger.verification.index import Index
from cognify_dagster.ledger.verification.indexfile import IndexFile, index_key
folder, step, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
store = SqliteStore(folder / "ledger.sqlite")
print("ready", flush=True)
for _ in range(rounds):
    file = IndexFile(folder / "verified" / "index.sqlite", index_key(b"s" * 32, store.origin), store.origin, keep_every=1)
    index = Index(store, file=file)
    while not index.advance(step).complete:
        print(index.size, flush=True)
    assert index.view().root == store_root if (store_root := index.root(index.size)) else False
    if rounds > 1:
        file.discard()
"""


def start(folder: Path, step: int, rounds: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WORKER, str(folder), str(step), str(rounds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])


def test_two_processes_make_one_index(files: Place) -> None:
    files.fill(1_500)
    workers = [start(files.folder, 100, 1) for _ in range(2)]
    assert [worker.wait(60) for worker in workers] == [0, 0]
    assert _sizes(files) == 1_500
    assert told(files.advanced().view()) == told(Ledger(files.open()).view())


@pytest.mark.parametrize("after", [1, 4, 9])
def test_a_killed_writer_leaves_an_index_that_is_whole(files: Place, after: int) -> None:
    files.fill(1_500)
    worker = start(files.folder, 60, 200)
    assert worker.stdout is not None
    for _ in range(after * 3):
        worker.stdout.readline()
    os.kill(worker.pid, signal.SIGKILL)
    worker.wait()
    worker.stdout.close()
    assert told(files.advanced().view()) == told(Ledger(files.open()).view())
    assert _sizes(files) == 1_500


def test_where_nothing_can_be_kept_everything_is_verified_anew(files: Place) -> None:
    files.fill(50)
    (files.folder / "verified").write_text("a file where the folder should be")
    assert told(files.advanced().view()) == told(Ledger(files.open()).view())


def test_what_is_kept_is_private(files: Place) -> None:
    files.fill(50)
    files.advanced()
    assert files.path.stat().st_mode & 0o077 == 0
    assert files.path.parent.stat().st_mode & 0o077 == 0


def _blob(place: Place, data: bytes) -> str:
    return f"x'{data.hex()}'" if isinstance(place.store, SqliteStore) else f"'\\x{data.hex()}'::bytea"


def _made(folder: Path, name: str) -> str:
    (folder / name).mkdir()
    return name
