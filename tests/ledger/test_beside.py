"""Verification of what lies beside the entries: tombstones of archived rows, erased payloads, kept heads, values of wrong types."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.ledger import Ledger, Outcome, Report, SqliteStore, TrustFile
from cognify_dagster.ledger.archive.detaching import ArchivedStore
from cognify_dagster.ledger.archive.reader import Archive
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.ledger.store import DerivedStore, StoredPayload
from cognify_dagster.ledger.verification import erasures, parts
from cognify_dagster.ledger.verification.scan import Depth, ranges
from cognify_dagster.ledger.verification.state import StateFile
from tests.ledger import archive_world as world
from tests.ledger.drafts import draft
from tests.ledger.test_scan import Incremental
from tests.ledger.test_verify import build, path_of, trust_of, unlocked

TRUST = TrustFile((world.log_key(),), None)


def messages(report: Report) -> list[str]:
    return [str(item) for item in report.findings]


# --- tombstones ---


@pytest.fixture(scope="module")
def archived(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Archive]:
    """A ledger of 260 entries, the first 256 of them in an archive; the payload of entry 7 was erased before."""
    folder = tmp_path_factory.mktemp("archived")
    store = SqliteStore.create(folder / "ledger.sqlite", world.ORIGIN)
    world.fill(store, 258)
    world.erase(store, 7)
    world.checkpoint(store)
    archive = world.export(store, folder / "segment", 0, 256)
    world.detach(store, archive)
    store.close()
    return folder / "ledger.sqlite", archive


def damaged(archived: tuple[Path, Archive], tmp_path: Path, *changes: str) -> ArchivedStore:
    path = tmp_path / "copy.sqlite"
    path.write_bytes(archived[0].read_bytes())
    db = unlocked(path)
    for change in changes:
        db.execute(change)
    db.close()
    return ArchivedStore(SqliteStore(path, read_only=True), [archived[1]])


def test_tombstones_that_say_what_the_archive_says_are_no_finding(
    archived: tuple[Path, Archive], tmp_path: Path
) -> None:
    store = damaged(archived, tmp_path)
    report = Ledger(store).verify(TRUST)
    assert report.outcome is Outcome.HOLDS
    assert not any("tombstone" in note for note in report.notes)
    assert len(store.tombstones(0, 300)) == 256


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        ("UPDATE archived SET idem = x'00' WHERE seq = 3", "entry 3: its tombstone holds '00' as 'idem'"),
        ("UPDATE archived SET idem = lower(hex(idem)) WHERE seq = 3", "entry 3: its tombstone holds 'text "),
        ("UPDATE archived SET leaf = zeroblob(32) WHERE seq = 255", "entry 255: its tombstone holds '0000"),
        ("UPDATE archived SET time_us = time_us + 1 WHERE seq = 0", "entry 0: its tombstone holds 176"),
        ("UPDATE archived SET time_us = 'x' WHERE seq = 0", "entry 0: its tombstone: the column 'time_us' holds"),
        ("UPDATE archived SET facts_digest = zeroblob(32) WHERE seq = 9", "entry 9: its tombstone holds '0000"),
        ("UPDATE archived SET facts_digest = NULL WHERE seq = 9", "entry 9: its tombstone holds None as 'facts_digest'"),
        ("DELETE FROM archived WHERE seq = 100", "entry 100: its rows were archived, but the database keeps no tombstone"),
        (
            "INSERT INTO archived VALUES (258, x'01', zeroblob(32), 1, NULL)",
            "entry 258: the database keeps a tombstone of it, though its rows were not archived",
        ),
    ],
)  # fmt: skip
def test_each_column_of_a_tombstone_is_compared_with_the_archive(
    archived: tuple[Path, Archive], tmp_path: Path, change: str, finding: str
) -> None:
    report = Ledger(damaged(archived, tmp_path, change)).verify(TRUST)
    assert report.outcome is Outcome.TAMPERED
    assert any(text.startswith(finding) for text in messages(report)), messages(report)


# --- the search index of archived entries ---


@pytest.mark.parametrize(
    ("change", "finding"),
    [
        (
            "INSERT INTO entry_subject VALUES ('model/m1', 3)",
            "entry 3: the search index leads from 'model/m1' to it, but",
        ),
        (
            "INSERT INTO entry_subject VALUES ('model/hidden', 100)",
            "entry 100: the search index leads from 'model/hidden'",
        ),
        ("INSERT INTO entry_subject VALUES (x'ff', 100)", "entry 100: the search index leads from b'\\xff' to it, but"),
        (
            "UPDATE entry_subject SET seq = 250 WHERE subject = 'model/m0' AND seq = 255",
            "entry 255: the search index does not lead from 'model/m0' to it",
        ),
        (
            "DELETE FROM entry_subject WHERE seq = 253",
            "entry 253: the search index does not lead from 'model/m1' to it",
        ),
    ],
)
def test_the_index_of_subjects_is_compared_with_the_archive(
    archived: tuple[Path, Archive], tmp_path: Path, change: str, finding: str
) -> None:
    """The next entry about a subject takes its head from there."""
    for depth in (Depth(), Depth(payloads=False)):
        report = Ledger(damaged(archived, tmp_path, change)).verify(TRUST, depth=depth)
        assert report.outcome is Outcome.TAMPERED
        assert any(text.startswith(finding) for text in messages(report)), messages(report)


def test_the_index_may_leave_out_what_a_later_entry_stands_for(tmp_path: Path) -> None:
    """Detached one after the other, with entries in between that are in no complete block yet."""
    store = SqliteStore.create(tmp_path / "ledger.sqlite", world.ORIGIN)
    archives = []
    for number, size in enumerate((300, 530, 600)):
        world.fill(store, size)
        for offset, rare in enumerate(("model/once", f"model/in-{number}")):
            body = seal_body(world.ORIGIN, world.draft(9_000 + size + offset, subjects=(rare, "policy")))
            store.append(body, world.START_US, None)
        world.checkpoint(ArchivedStore(store, archives))
        if number:
            archives.append(world.export(store, tmp_path / str(number), 256 * (number - 1), 256 * number))
            world.detach(store, archives[-1])
            world.checkpoint(ArchivedStore(store, archives))
        report = Ledger(ArchivedStore(store, archives)).verify(TRUST)
        assert (report.outcome, report.findings) == (Outcome.HOLDS, ())
    db = sqlite3.connect(tmp_path / "ledger.sqlite")
    kept = db.execute("SELECT seq, subject FROM entry_subject WHERE seq < 512 ORDER BY 1").fetchall()
    db.close()
    assert kept, "some rows stay"
    assert len(kept) < 512, "most were left out"
    world.attach(store, archives[1])
    assert Ledger(ArchivedStore(store, archives)).verify(TRUST).outcome is Outcome.HOLDS


@pytest.mark.postgres
@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("DELETE FROM entry_subject WHERE seq = 7", "entry 7: the search index does not lead from 'model/m1' to it"),
        ("INSERT INTO entry_subject VALUES ('policy', 7)", "entry 7: the search index leads from 'policy' to it, but"),
        ("SELECT 1", None),
    ],
)
def test_the_index_in_postgres_is_compared_with_the_archive(tmp_path: Path, change: str, text: str | None) -> None:
    from tests.conformance.postgres_server import postgres_ledger

    with postgres_ledger(world.ORIGIN) as place:
        store = place.open()
        world.fill(store, 300)
        world.checkpoint(store)
        archive = world.export(store, tmp_path / "0", 0, 256)
        world.detach(store, archive)
        world.checkpoint(ArchivedStore(store, [archive]))
        place.overpower(change)
        report = Ledger(ArchivedStore(store, [archive])).verify(TRUST)
        if text is None:
            assert (report.outcome, report.findings) == (Outcome.HOLDS, ())
        else:
            assert report.outcome is Outcome.TAMPERED
            assert any(item.startswith(text) for item in messages(report)), messages(report)


def test_without_the_archive_it_is_said_that_tombstones_were_not_compared(archived: tuple[Path, Archive]) -> None:
    report = Ledger(SqliteStore(archived[0], read_only=True)).verify(TRUST)
    assert report.outcome is Outcome.UNREADABLE
    text = "the tombstones and index rows of the archived entries 0..255 were not compared with the archive: not all of their archives"
    assert any(note.startswith(text) for note in report.notes)


def test_a_verification_of_new_entries_says_that_tombstones_were_not_compared(
    archived: tuple[Path, Archive], tmp_path: Path
) -> None:
    store, state = damaged(archived, tmp_path), StateFile(tmp_path / "state.json")
    assert Ledger(store).verify(TRUST, since=state).checked_from == 0
    report = Ledger(store.store).verify(TRUST, since=state)
    assert (report.outcome, report.checked_from) == (Outcome.HOLDS, store.size())
    assert any("only what is new was read" in note for note in report.notes)


def test_a_ledger_with_archives_is_shared_by_several_processes(archived: tuple[Path, Archive], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "__defaults__", (64,))
        assert Ledger(damaged(archived, tmp_path)).verify(TRUST, processes=2).outcome is Outcome.HOLDS
        change = "UPDATE archived SET time_us = 1 WHERE seq = 70"
        report = Ledger(damaged(archived, tmp_path, change)).verify(TRUST, processes=2)
    assert [item.seq for item in report.findings] == [70]


@pytest.mark.postgres
def test_a_ledger_in_postgres_is_shared_by_several_processes() -> None:
    from tests.conformance.postgres_server import NewLedger

    made = NewLedger(world.ORIGIN)
    try:
        store = made.open()
        world.fill(store, 60)
        world.checkpoint(store)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(ranges, "__defaults__", (8,))
            report = Ledger(store).verify(TRUST, processes=2)
        assert (report.outcome, report.size) == (Outcome.HOLDS, 60)
        assert report.root == Ledger(store).root(60)
    finally:
        made.drop()


# --- erased payloads ---


@pytest.fixture
def erased(tmp_path: Path) -> tuple[Ledger, StoredPayload]:
    """A ledger in which entry 7 erased the payload of entry 3, and that payload."""
    ledger = build(tmp_path)
    (payload,) = ledger.store.payloads(3, 4)
    ledger.append(draft(70, facts={"seq": 3, "basis": "Art. 17"}, kind="payload_erased", subjects=("erasures",)))
    ledger.store.erase([3])
    ledger.sign_checkpoint()
    return ledger, payload


def put(path: Path, payload: StoredPayload) -> None:
    db = unlocked(path)
    digest = bytes.fromhex(payload.facts_digest or "")
    db.execute(
        "UPDATE payload SET salt = ?, facts_digest = ?, bytes = ? WHERE seq = ?",
        (payload.salt, digest, payload.data, payload.seq),
    )
    db.close()


@pytest.fixture
def _hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(erasures, "PATIENCE_S", 0.0)


@pytest.mark.usefixtures("_hurried")
def test_an_erased_payload_that_was_put_back_is_found_with_both_entries(erased: tuple[Ledger, StoredPayload]) -> None:
    ledger, payload = erased
    assert ledger.verify(trust_of(ledger)).outcome is Outcome.HOLDS
    trust = trust_of(ledger)
    put(path_of(ledger), payload)
    report = Ledger(SqliteStore(path_of(ledger))).verify(trust)
    assert (report.outcome, [item.seq for item in report.findings]) == (Outcome.UNPROVEN, [3])
    assert "although entry 7 erased it" in messages(report)[0]


@pytest.mark.usefixtures("_hurried")
def test_a_new_erasure_of_an_old_payload_is_looked_at_too(tmp_path: Path) -> None:
    """Only new entries are read, but what they erased must be gone."""
    ledger, state = build(tmp_path), StateFile(tmp_path / "state.json")
    trust = trust_of(ledger)
    ledger.verify(trust, since=state)
    ledger.append(draft(70, facts={"seqs": [2, 3]}, kind="payload_erased", subjects=("erasures",)))
    ledger.store.erase([2])
    report = ledger.verify(trust, since=state)
    assert (report.checked_from, [item.seq for item in report.findings]) == (7, [3])


def test_an_erasure_that_is_being_carried_out_raises_no_alarm(erased: tuple[Ledger, StoredPayload]) -> None:
    """Its entry is there already, the payload goes a moment later."""
    ledger, payload = erased
    trust = trust_of(ledger)
    put(path_of(ledger), payload)
    store = SqliteStore(path_of(ledger))
    honest, seen = store.payloads, list[int]()

    def payloads(start: int, end: int) -> Iterator[StoredPayload]:
        if (start, end) == (3, 4):
            seen.append(start)
            if len(seen) == 2:
                store.erase([3])
        return honest(start, end)

    store.payloads = payloads  # type: ignore[method-assign]
    assert Ledger(store).verify(trust).outcome is Outcome.HOLDS
    assert len(seen) == 2


@pytest.mark.usefixtures("_hurried")
def test_a_digest_that_the_database_kept_of_erased_facts_is_found(
    archived: tuple[Path, Archive], tmp_path: Path
) -> None:
    """The payload went from the archive, but the process was killed before the database forgot what it kept of it."""
    shutil.copy(archived[0], tmp_path / "ledger.sqlite")
    shutil.copytree(archived[1].folder, tmp_path / "segment")
    store = SqliteStore(tmp_path / "ledger.sqlite")
    both = ArchivedStore(store, [world.opened(tmp_path / "segment")])
    world.record(both, "payload_erased", {"seqs": [30, 31], "basis": "Art. 17"})
    (archive,) = both._archives.values()
    archive.erase([30])
    both.erase([31])
    world.checkpoint(both)
    report = Ledger(both).verify(TRUST)
    assert (report.outcome, [item.seq for item in report.findings]) == (Outcome.UNPROVEN, [30])
    assert "keeps the digest of its facts although entry 260 erased them" in messages(report)[0]
    both.erase([30])
    assert Ledger(both).verify(TRUST).outcome is Outcome.HOLDS


# --- values of wrong types ---

COLUMNS = [
    ("entry", "idem"), ("entry", "prev"), ("entry", "leaf"), ("entry", "kind"), ("entry", "time_us"), ("entry", "subjects"),
    ("entry", "bytes"), ("payload", "salt"), ("payload", "facts_digest"), ("payload", "bytes"), ("node", "hash"),
    ("node", "level"), ("node", "idx"), ("node", "pos"), ("checkpoint", "size"), ("checkpoint", "note"),
]  # fmt: skip
VALUES = {
    "text": "'x'",
    "its hex as text": "lower(hex({0}))",
    "blob": "x'ff00'",
    "itself as blob": "CAST({0} AS BLOB)",
    "number": "17",
    "fraction": "CAST({0} AS REAL) + 0.5",
    "nothing": "NULL",
}


def without_types(path: Path, table: str) -> sqlite3.Connection:
    """Take constraints and column types away, as the file's owner can."""
    db = unlocked(path)
    db.execute(f"CREATE TABLE other AS SELECT * FROM {table}")
    names = ", ".join(row[1] for row in db.execute(f"PRAGMA table_info({table})"))
    db.execute(f"DROP TABLE {table}")
    db.execute(f"CREATE TABLE {table} ({names})")
    db.execute(f"INSERT INTO {table} SELECT * FROM other")
    db.execute("DROP TABLE other")
    return db


@pytest.mark.parametrize(("table", "column"), COLUMNS)
def test_a_value_of_another_type_is_a_finding_in_every_column(tmp_path: Path, table: str, column: str) -> None:
    ledger = build(tmp_path)
    trust, honest = trust_of(ledger), path_of(ledger).read_bytes()
    for name, value in VALUES.items():
        path = tmp_path / "copy.sqlite"
        path.write_bytes(honest)
        db = without_types(path, table)
        key = {"node": "pos", "checkpoint": "size"}.get(table, "seq")
        where = f"{key} = (SELECT max({key}) FROM {table})"
        before = db.execute(f"SELECT {column}, typeof({column}) FROM {table} WHERE {where}").fetchone()
        db.execute(f"UPDATE {table} SET {column} = {value.format(column)} WHERE {where}")
        changed = (before,) != tuple(db.execute(f"SELECT {column}, typeof({column}) FROM {table} WHERE {where}"))
        db.close()
        if not changed:  # a blob as blob
            continue
        store = SqliteStore(path, read_only=True)
        report = Ledger(store).verify(trust)
        store.close()
        assert report.outcome in (Outcome.TAMPERED, Outcome.UNREADABLE), (name, messages(report))
        if table in ("entry", "payload"):
            assert 6 in {item.seq for item in report.findings}, (name, messages(report))


def test_the_right_hex_as_text_where_bytes_belong_is_no_key_that_an_append_would_find(tmp_path: Path) -> None:
    ledger = build(tmp_path)
    trust = trust_of(ledger)
    db = unlocked(path_of(ledger))
    db.execute("UPDATE entry SET idem = lower(hex(idem)) WHERE seq = 4")
    db.close()
    report = Ledger(SqliteStore(path_of(ledger))).verify(trust)
    assert (report.outcome, report.findings[0].seq) == (Outcome.TAMPERED, 4)
    assert "the search column 'idem' holds 'text " in messages(report)[0]


@pytest.mark.parametrize("where", ["payload_problem", "leaf_hash"])
@pytest.mark.parametrize("error", [TypeError, AttributeError, ValueError])
def test_an_error_of_ours_is_not_blamed_on_the_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, error: type[Exception]
) -> None:
    ledger = build(tmp_path)

    def wrong(*_: Any) -> None:
        raise error("a mistake in this program")

    monkeypatch.setattr(parts, where, wrong)
    db = unlocked(path_of(ledger))
    db.execute("UPDATE entry SET bytes = x'00' WHERE seq = 4")  # so that the strict way is taken
    db.close()
    with pytest.raises(error, match="a mistake in this program"):
        Ledger(SqliteStore(path_of(ledger))).verify()


@pytest.mark.parametrize("method", ["columns", "entries", "payloads", "completed", "checkpoints", "segments"])
def test_what_a_store_cannot_read_is_the_ledgers_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    ledger = build(tmp_path)
    trust = trust_of(ledger)

    def unreadable(*_: Any) -> Any:
        raise ValueError("no such number")

    monkeypatch.setattr(ledger.store, method, unreadable)
    if method == "entries":
        monkeypatch.setattr(parts, "_runs", lambda *_: None)
    report = ledger.verify(trust)
    assert report.outcome is Outcome.UNREADABLE
    assert "a row holds a value that no ledger writes (no such number)" in messages(report)


# --- kept heads ---


def asked_since(made: Incremental) -> list[int]:
    """Ask for verification; return from which sizes on kept heads were read."""
    asked: list[int] = []
    store = SqliteStore(path_of(made.ledger))
    honest = store.checkpoints

    def checkpoints(since: int = 0) -> list[tuple[int, str]]:
        asked.append(since)
        return honest(since)

    store.checkpoints = checkpoints  # type: ignore[method-assign]
    report = Ledger(store, signer=made.signer).verify(trust_of(made.ledger), since=made.state)
    assert (report.outcome, report.level) == (Outcome.HOLDS, "L1")
    return asked


@pytest.fixture
def grown(tmp_path: Path) -> Incremental:
    made = Incremental(tmp_path)
    for _ in range(4):
        made.grow(3)
    return made


def test_only_the_newest_of_the_heads_that_were_compared_before_is_read_again(grown: Incremental) -> None:
    assert asked_since(grown) == [0]
    grown.grow(2)
    assert asked_since(grown) == [12]
    assert asked_since(grown) == [14]


def test_a_store_gives_the_heads_from_the_newest_that_is_not_above_a_size(grown: Incremental) -> None:
    store = grown.ledger.store
    sizes = {since: [size for size, _ in store.checkpoints(since)] for since in (0, 2, 3, 5, 6, 12, 99)}
    assert sizes == {
        0: [3, 6, 9, 12], 2: [3, 6, 9, 12], 3: [3, 6, 9, 12], 5: [3, 6, 9, 12], 6: [6, 9, 12], 12: [12], 99: [12]
    }  # fmt: skip


def test_older_heads_are_read_if_the_newer_ones_count_for_nothing(grown: Incremental) -> None:
    """The log key is revoked with a last good size below the newest heads."""
    trust = trust_of(grown.ledger)
    grown.verify()
    facts = {"vkey": str(trust.logs[0]), "last_good_size": 6, "reason": "lost"}
    grown.ledger.append(draft(900, kind="log_key_revoked", facts=facts, subjects=("log_key",)))
    whole = grown.ledger.verify(trust)
    new = grown.ledger.verify(trust, since=grown.state)
    assert (new.checked_from, whole.checked_from) == (12, 0)
    assert (new.outcome, new.level, new.signed_size) == (whole.outcome, whole.level, whole.signed_size)


def test_a_forged_head_among_the_newer_ones_is_found_although_older_ones_are_not_read(grown: Incremental) -> None:
    grown.verify()
    grown.grow(1)
    db = unlocked(path_of(grown.ledger))
    (note,) = db.execute("SELECT note FROM checkpoint WHERE size = 13").fetchone()
    lines = note.split("\n")
    lines[2] = ("B" if lines[2][0] == "A" else "A") + lines[2][1:]  # the root
    db.execute("UPDATE checkpoint SET note = ? WHERE size = 13", ("\n".join(lines),))
    db.close()
    assert grown.verify()[0] is Outcome.TAMPERED


# --- what a store derives ---


class Deriving(SqliteStore):
    said: tuple[tuple[int | None, str], ...] = ()

    def check_derived(self) -> list[tuple[int | None, str]]:
        return list(self.said)


@pytest.mark.parametrize(
    ("said", "outcome", "notes"),
    [
        ([], Outcome.HOLDS, 0),
        ([(3, "the writer's row says other kinds")], Outcome.TAMPERED, 0),
        ([(None, "not checked: this server is a standby")], Outcome.HOLDS, 1),
    ],
)
def test_what_a_store_finds_in_what_it_derives_is_reported(
    tmp_path: Path, said: list[tuple[int | None, str]], outcome: Outcome, notes: int
) -> None:
    ledger = build(tmp_path)
    store: Any = Deriving(path_of(ledger))
    assert isinstance(store, DerivedStore)
    store.said = tuple(said)
    report = Ledger(store).verify(trust_of(ledger))
    assert report.outcome is outcome
    assert [(item.seq, item.message) for item in report.findings] == (said if outcome is Outcome.TAMPERED else [])
    assert len(report.notes) == notes
