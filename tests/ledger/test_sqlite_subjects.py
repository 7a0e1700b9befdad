"""The index of subjects in a SQLite ledger: written block by block, watched like every other search copy."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from cognify_dagster.ledger import Ledger, LedgerUnreadable, Outcome, SqliteStore
from cognify_dagster.ledger.sqlite.schema import BLOCK, SEGMENT_UNIT
from cognify_dagster.ledger.store import Segment
from tests.ledger.drafts import ORIGIN, Clock, draft

SUBJECTS = ("model/a", "model/b", "model/c", "policy", "dataset/d")
SIZES = (1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7)


def names(number: int) -> tuple[str, ...]:
    """One to three subjects that follow from a number, one that comes back after 60; `rare` only now and then."""
    chosen = [*random.Random(number).sample(SUBJECTS, 1 + number % 3), f"run/r{number % 60}"]
    return (*chosen, "rare") if number % 50 == 3 else tuple(chosen)


def grow(ledger: Ledger, count: int, start: int = 0, batch: int = 1) -> None:
    numbers = range(start, start + count)
    for low in range(0, count, batch):
        ledger.append_many([draft(number, subjects=names(number)) for number in numbers[low : low + batch]])


def heads(ledger: Ledger) -> list[dict[str, int]]:
    return [dict(item.entry.heads) for item in ledger.view().entries]


def expected(size: int) -> list[dict[str, int]]:
    newest: dict[str, int] = {}
    found = []
    for seq in range(size):
        found.append({subject: newest.get(subject, -1) for subject in names(seq)})
        newest.update(dict.fromkeys(names(seq), seq))
    return found


def index(path: Path) -> list[tuple[str, int]]:
    db = sqlite3.connect(path)
    try:
        return db.execute("SELECT subject, seq FROM entry_subject ORDER BY seq, subject").fetchall()
    finally:
        db.close()


def change(path: Path, *statements: str) -> None:
    """As the file's owner: no trigger, no key."""
    db = sqlite3.connect(path, isolation_level=None)
    db.execute("PRAGMA synchronous=OFF")
    db.execute("BEGIN")
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute("CREATE TABLE plain (subject TEXT, seq INTEGER)")
    db.execute("INSERT INTO plain SELECT subject, seq FROM entry_subject")
    db.execute("DROP TABLE entry_subject")
    db.execute("ALTER TABLE plain RENAME TO entry_subject")
    for statement in statements:
        db.execute(statement)
    db.execute("COMMIT")
    db.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Ledger:
    return Ledger(SqliteStore.create(path, ORIGIN), clock_us=Clock())


def test_a_complete_block_has_one_row_for_each_of_its_subjects(ledger: Ledger, path: Path) -> None:
    grow(ledger, BLOCK - 1)
    assert index(path) == []
    grow(ledger, BLOCK + 5, BLOCK - 1)
    last = {subject: seq for seq in range(2 * BLOCK) for subject in names(seq) if seq < BLOCK}
    last2 = {subject: seq for seq in range(BLOCK, 2 * BLOCK) for subject in names(seq)}
    assert sorted(index(path)) == sorted([*last.items(), *last2.items()])
    assert len(index(path)) <= 2 * (len(SUBJECTS) + 1 + 60)


@pytest.mark.parametrize("batch", [1, 7, BLOCK, 150])
def test_heads_are_right_however_entries_come_in_and_whoever_wrote_before(path: Path, batch: int) -> None:
    """Two stores take turns, so that neither knows the newest entries of the other from memory."""
    clock = Clock()
    first = Ledger(SqliteStore.create(path, ORIGIN), clock_us=clock)
    second = Ledger(SqliteStore(path), clock_us=clock)
    for turn, start in enumerate(range(0, 300, 150)):
        grow((first, second)[turn % 2], 150, start, batch)
    grow(first, 30, 300)
    grow(second, 1, 330)
    assert heads(Ledger(SqliteStore(path))) == expected(331)
    assert first.verify().outcome is Outcome.UNPROVEN  # nothing is signed; nothing is wrong


def test_a_batch_over_the_end_of_a_block_knows_what_it_began_with(ledger: Ledger, path: Path) -> None:
    """The block's rows are written with the batch: until then only memory leads to a subject that was last seen in it."""
    ledger.append_many([draft(number, subjects=("model/a",)) for number in range(BLOCK - 1)])
    other = Ledger(SqliteStore(path), clock_us=Clock())  # knows the open block from its rows only
    other.append_many(
        [draft(1000, subjects=("policy",)), *(draft(number, subjects=("model/a",)) for number in (1001, 1002))]
    )
    assert [dict(item.entry.heads) for item in other.view().entries[-3:]] == [
        {"policy": -1},
        {"model/a": BLOCK - 2},
        {"model/a": BLOCK},
    ]


def test_a_store_that_remembers_too_many_subjects_starts_again(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cognify_dagster.ledger.sqlite.appending._SUBJECTS", 3)
    grow(ledger, 2 * BLOCK + 20)
    assert heads(ledger) == expected(2 * BLOCK + 20)


def test_a_refused_entry_leaves_no_head_behind(ledger: Ledger) -> None:
    """Neither in a batch that is refused as a whole nor in a group in which one is."""
    grow(ledger, BLOCK - 2)
    again = draft(0, facts={"n": "other"}, subjects=("model/new",))
    with pytest.raises(Exception, match="idempotency key"):
        ledger.append_many([draft(1000, subjects=("model/new",)), again])
    assert ledger.append(draft(1001, subjects=("model/new",))).seq == BLOCK - 2
    assert dict(ledger.view().entries[-1].entry.heads) == {"model/new": -1}
    ledger.append(draft(1002, subjects=("model/new",)))
    assert dict(ledger.view().entries[-1].entry.heads) == {"model/new": BLOCK - 2}


@pytest.mark.parametrize("size", SIZES)
def test_an_honest_ledger_of_any_size_has_no_deviation(ledger: Ledger, path: Path, size: int) -> None:
    grow(ledger, size, batch=10)
    store = SqliteStore(path)
    truth = [(seq, subject) for seq in range(size) for subject in sorted(names(seq))]
    cuts = sorted({0, 1, 5, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK - 3, size - 1, size})
    for start in cuts:
        for end in cuts:
            if 0 <= start < end <= size:
                within = [pair for pair in truth if start <= pair[0] < end]
                rows, _, deviating = store.columns(start, end)
                assert [(row[0], name) for row in rows for name in row[7].split(" ")] == within
                assert deviating == []
                assert [(row.seq, name) for row in store.entries(start, end) for name in row.subjects] == within


def damages(rows: Sequence[tuple[str, int]]) -> Iterator[str]:
    """Each index row deleted, moved by one, given to another subject, exchanged for an older one; rows that are not true."""
    for subject, seq in rows:
        at = f"WHERE subject = '{subject}' AND seq = {seq}"
        yield f"DELETE FROM entry_subject {at}"
        yield f"UPDATE entry_subject SET seq = {seq - 1} {at}"
        yield f"UPDATE entry_subject SET seq = {seq + 1} {at}"
        yield f"UPDATE entry_subject SET seq = NULL {at}"
        yield f"UPDATE entry_subject SET subject = 'model/hidden' {at}"
        yield f"UPDATE entry_subject SET subject = NULL {at}"
        yield f"UPDATE entry_subject SET subject = x'00' {at}"
        yield f"UPDATE entry_subject SET seq = 0, subject = 'model/b' {at}"
    yield "INSERT INTO entry_subject VALUES ('model/hidden', 70)"
    yield "INSERT INTO entry_subject VALUES ('rare', 70)"


def test_every_row_of_the_index_is_watched(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    """In whatever parts the rows are read."""
    size = 2 * BLOCK + 9
    grow(ledger, size, batch=size)
    ledger.store.close()  # type: ignore[attr-defined]
    honest = path.read_bytes()
    copy = tmp_path / "copy.sqlite"
    total = 0
    for number, damage in enumerate(damages(index(path))):
        copy.unlink(missing_ok=True)
        copy.write_bytes(honest)
        change(copy, damage)
        store = SqliteStore(copy)
        assert store.columns(0, size)[2], damage
        assert any(store.columns(low, min(size, low + 50))[2] for low in range(0, size, 50)), damage
        assert any(store.columns(low, min(size, low + BLOCK))[2] for low in range(0, size, BLOCK)), damage
        if number % 8 == 0:
            assert Ledger(store).verify().outcome is Outcome.TAMPERED, damage
        store.close()
        total += 1
    print(f"damages of the index of subjects found: {total}/{total}")
    assert total > 60


def test_a_true_row_that_is_not_the_newest_of_its_block_is_no_alarm(ledger: Ledger, path: Path) -> None:
    """It is left over where a ledger was cut off in the middle of a block, and misleads nobody."""
    grow(ledger, 2 * BLOCK)
    first = next(seq for seq in range(BLOCK) if "policy" in names(seq))
    ledger.store.close()  # type: ignore[attr-defined]
    change(path, f"INSERT INTO entry_subject VALUES ('policy', {first})")
    again = Ledger(SqliteStore(path), clock_us=Clock())
    assert again.verify().outcome is Outcome.UNPROVEN  # nothing is signed; nothing is wrong
    grow(again, 3, 2 * BLOCK)
    assert heads(again) == expected(2 * BLOCK + 3)


def test_a_subject_column_of_another_type_is_a_finding_not_a_crash(ledger: Ledger, path: Path) -> None:
    grow(ledger, 5)
    ledger.store.close()  # type: ignore[attr-defined]
    for value in ("7", "x'00ff'", "''", "'model/a  policy'"):
        change(path, f"UPDATE entry SET subjects = {value} WHERE seq = 2")
        assert Ledger(SqliteStore(path)).verify().outcome is Outcome.TAMPERED


def test_rows_about_a_subject_are_found_through_the_blocks_newest_first(ledger: Ledger, path: Path) -> None:
    size = 3 * BLOCK + 7
    grow(ledger, size, batch=9)
    store = SqliteStore(path)
    for subject in (*SUBJECTS, "rare", "nobody"):
        whole = [seq for seq in reversed(range(size)) if subject in names(seq)]
        for before in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, size - 1, size, size + 5):
            for limit in (1, 3, 1000):
                found = store.about(subject, before, limit)
                assert [row.seq for row, _ in found] == [seq for seq in whole if seq < before][:limit]
    entry, payload = store.about("rare", size, 1)[0]
    assert (entry._replace(subjects=()), payload) == (
        next(store.entries(entry.seq, entry.seq + 1))._replace(subjects=()),
        next(store.payloads(entry.seq, entry.seq + 1)),
    )


def test_heads_survive_a_detached_segment_and_its_return(ledger: Ledger, path: Path) -> None:
    grow(ledger, SEGMENT_UNIT + 3, batch=50)
    store = ledger.store
    rows = list(store.entries(0, SEGMENT_UNIT)), list(store.payloads(0, SEGMENT_UNIT))
    before = index(path)
    segment = Segment(0, SEGMENT_UNIT, "ab" * 32)
    store.detach(segment)
    assert {subject for subject, _ in index(path)} == {subject for subject, _ in before}
    assert len(index(path)) < len(before)
    grow(Ledger(SqliteStore(path), clock_us=Clock()), BLOCK, SEGMENT_UNIT + 3)
    store.attach(segment, *rows)
    assert heads(ledger) == expected(SEGMENT_UNIT + 3 + BLOCK)
    assert ledger.verify().outcome is Outcome.UNPROVEN  # nothing is signed; nothing is wrong
    assert set(before) <= set(index(path))


def test_a_ledger_of_another_schema_says_what_to_do(path: Path) -> None:
    SqliteStore.create(path, ORIGIN).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version=4")
    with pytest.raises(
        LedgerUnreadable, match=r"schema 4; this release reads 5.*cognify ledger dump.*cognify ledger restore"
    ):
        SqliteStore(path)
