"""Checking in parts: the seams lose nothing, roots at any size are right, a later check reads only what is new."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import Ledger, LedgerUnreadable, LogSigner, Outcome, SqliteStore, Tampered, new_secret
from cognify_dagster.ledger.merkle import merkle_root, node_hash
from cognify_dagster.ledger.sqlite.nodes import place
from cognify_dagster.ledger.verification import scan as scan_module
from cognify_dagster.ledger.verification.scan import Depth, Position, Seam, Tree, ranges, scan
from cognify_dagster.ledger.verification.state import StateFile
from tests.ledger.drafts import ORIGIN, Clock, draft
from tests.ledger.test_verify import path_of, trust_of, unlocked

LEAVES = [hashlib.sha256(b"%d" % number).digest() for number in range(300)]


@given(st.lists(st.integers(0, 40), max_size=12))
def test_a_tree_grown_in_chunks_of_any_size_has_the_root_of_its_leaves(chunks: list[int]) -> None:
    tree, done = Tree(), 0
    for chunk in chunks:
        tree.extend(LEAVES[done : done + chunk])
        done = min(len(LEAVES), done + chunk)
        assert tree.root() == merkle_root(LEAVES[:done])
    assert tree.size == done


@given(st.integers(0, 120), st.integers(0, 120))
def test_subtrees_of_a_part_join_those_before_it(before: int, more: int) -> None:
    """A part that begins anywhere is built without its past and joined by pushing its peaks."""
    whole = Tree()
    whole.extend(LEAVES[:before])
    part = Tree(before)
    part.extend(LEAVES[before : before + more])
    for level, value in part.peaks:
        whole.push(level, value)
    assert whole.root() == merkle_root(LEAVES[: before + more])
    assert whole.size == before + more


@given(st.integers(0, 90), st.integers(0, 90))
def test_every_completed_subtree_is_given_back_once(before: int, more: int) -> None:
    finished: dict[int, tuple[int, list[bytes]]] = {}
    tree = Tree()
    tree.extend(LEAVES[:before], finished)
    second: dict[int, tuple[int, list[bytes]]] = {}
    tree.extend(LEAVES[before : before + more], second)
    found = {}
    for part in (finished, second):
        for level, (first, values) in part.items():
            for offset, value in enumerate(values):
                assert found.setdefault((level, first + offset), value) is value
    row, level = LEAVES[: before + more], 0
    expected = {}
    while row:
        expected |= {(level, index): value for index, value in enumerate(row)}
        row = [node_hash(row[i], row[i + 1]) for i in range(0, len(row) - 1, 2)]
        level += 1
    assert found == expected


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 9))
def test_ranges_cover_everything_once_and_cut_at_multiples(start: int, more: int, part: int) -> None:
    found = ranges(start, start + more, part)
    assert [seq for low, high in found for seq in range(low, high)] == list(range(start, start + more))
    assert all(low % part == 0 for low, _ in found[1:])


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    folder = tmp_path_factory.mktemp("scan")
    new_secret(folder / "log.key")
    signer = LogSigner(folder / "log.key", folder / "signer.json", ORIGIN)
    made = Ledger(SqliteStore.create(folder / "ledger.sqlite", ORIGIN), signer=signer, clock_us=Clock())
    for number in range(61):
        made.append(draft(number, subjects=(f"model/m{number % 7}", f"dataset/d{number % 3}", "policy")))
    made.sign_checkpoint()
    return made


@settings(max_examples=25, deadline=None)
@given(part=st.integers(1, 70), cuts=st.sets(st.integers(1, 61), max_size=5))
def test_the_size_of_the_parts_does_not_matter(ledger: Ledger, part: int, cuts: set[int]) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scan_module, "PART", part)
        patch.setattr(ranges, "__defaults__", (part,))
        seam = Seam()
        for found in scan(ledger.store, 0, 61, cuts=cuts):
            seam.add(found, Depth(), ledger.store)
    assert seam.findings == []
    assert seam.position.root == ledger.root(61)
    assert {cut: seam.roots[cut] for cut in cuts} == {cut: ledger.root(cut) for cut in cuts}
    assert dict(seam.heads) == dict(ledger.view().heads)


@pytest.mark.parametrize("part", [1, 4, 16, 100])
@pytest.mark.parametrize(
    "change",
    [
        "UPDATE entry SET time_us = time_us + 1 WHERE seq = 16",
        "UPDATE entry SET prev = '00' WHERE seq = 16",
        "UPDATE entry SET subjects = replace(subjects, 'policy', 'policy2') WHERE seq = 16",
        "UPDATE node SET hash = x'00' WHERE level = 2 AND idx = 4",
        "UPDATE payload SET bytes = NULL WHERE seq = 16",
        "DELETE FROM entry WHERE seq = 16",
    ],
)
def test_damage_at_a_seam_is_found(ledger: Ledger, tmp_path: Path, part: int, change: str) -> None:
    path = tmp_path / "copy.sqlite"
    path.write_bytes(path_of(ledger).read_bytes())
    db = unlocked(path)
    db.execute(change)
    db.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "__defaults__", (part,))
        report = Ledger(SqliteStore(path)).verify(trust_of(ledger))
    assert report.outcome is Outcome.TAMPERED


def test_a_head_forged_across_a_seam_is_found(tmp_path: Path) -> None:
    """An entry that hides its subject's last entry is consistent by itself; only what came before shows it."""
    clock = Clock()
    store = SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN)
    forged = Ledger(store, clock_us=clock)
    for number in range(8):
        forged.append(draft(number, subjects=("model/a",)))
    db = unlocked(tmp_path / "ledger.sqlite")
    db.execute("UPDATE entry SET subjects = 'model/b' WHERE seq = 7")
    db.close()
    forged = Ledger(SqliteStore(tmp_path / "ledger.sqlite"), clock_us=clock)
    forged.append(draft(8, subjects=("model/a",)))
    db = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None)
    db.execute("UPDATE entry SET subjects = 'model/a' WHERE seq = 7")
    db.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "__defaults__", (4,))
        report = Ledger(SqliteStore(tmp_path / "ledger.sqlite")).verify()
    assert [str(item) for item in report.findings] == ["entry 8: its head of 'model/a' is 6, not 7"]


def test_several_processes_find_the_same(ledger: Ledger, tmp_path: Path) -> None:
    path = tmp_path / "copy.sqlite"
    path.write_bytes(path_of(ledger).read_bytes())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "__defaults__", (8,))
        assert ledger.verify(trust_of(ledger), processes=2).outcome is Outcome.HOLDS
        db = unlocked(path)
        db.execute("UPDATE entry SET kind = 'nothing' WHERE seq = 33")
        db.close()
        report = Ledger(SqliteStore(path)).verify(trust_of(ledger), processes=2)
    assert [(item.seq, item.outcome) for item in report.findings] == [(33, Outcome.TAMPERED)]


def test_progress_is_told_up_to_the_end(ledger: Ledger) -> None:
    seen: list[tuple[int, int]] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ranges, "__defaults__", (20,))
        ledger.verify(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(20, 61), (40, 61), (60, 61), (61, 61)]


class Incremental:
    """A ledger whose verification is resumed from a state file."""

    def __init__(self, folder: Path) -> None:
        new_secret(folder / "log.key")
        self.signer = LogSigner(folder / "log.key", folder / "signer.json", ORIGIN)
        store = SqliteStore.create(folder / "ledger.sqlite", ORIGIN)
        self.ledger = Ledger(store, signer=self.signer, clock_us=Clock())
        self.state = StateFile(folder / "auditor.json")
        self.number = 0

    def grow(self, count: int) -> None:
        for _ in range(count):
            self.number += 1
            self.ledger.append(draft(self.number, subjects=(f"model/m{self.number % 5}", "policy")))
        self.ledger.sign_checkpoint()

    def verify(self) -> tuple[Outcome, int]:
        report = self.ledger.verify(trust_of(self.ledger), since=self.state)
        return report.outcome, report.checked_from


@pytest.fixture
def grown(tmp_path: Path) -> Incremental:
    made = Incremental(tmp_path)
    made.grow(10)
    return made


def test_a_second_verification_reads_only_what_is_new(grown: Incremental) -> None:
    assert grown.verify() == (Outcome.HOLDS, 0)
    grown.grow(5)
    assert grown.verify() == (Outcome.HOLDS, 10)
    assert grown.verify() == (Outcome.HOLDS, 15)
    grown.grow(1)
    assert grown.verify() == (Outcome.HOLDS, 15)


def test_a_rollback_since_the_last_verification_is_found(grown: Incremental) -> None:
    old = path_of(grown.ledger).read_bytes()
    grown.grow(5)
    grown.verify()
    path_of(grown.ledger).write_bytes(old)
    assert grown.verify()[0] is Outcome.ROLLED_BACK


def test_a_regrown_ledger_is_found_although_it_is_longer(grown: Incremental) -> None:
    old = path_of(grown.ledger).read_bytes()
    grown.grow(3)
    grown.verify()
    path_of(grown.ledger).write_bytes(old)
    for number in range(100, 110):
        grown.ledger.append(draft(number))
    assert grown.verify()[0] is Outcome.ROLLED_BACK


def test_damage_in_new_entries_leaves_the_state_where_it_was(grown: Incremental) -> None:
    grown.verify()
    grown.grow(4)
    before = grown.state.path.read_bytes()
    db = unlocked(path_of(grown.ledger))
    db.execute("UPDATE entry SET idem = 'ff' WHERE seq = 12")
    db.close()
    assert grown.verify() == (Outcome.TAMPERED, 10)
    assert grown.state.path.read_bytes() == before


def test_the_state_of_another_ledger_is_refused(grown: Incremental, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    grown.verify()
    text = grown.state.path.read_text(encoding="utf-8")
    grown.state.path.write_text(text.replace(ORIGIN, "bank.example/other"), encoding="utf-8")
    with pytest.raises(Exception, match=r"the state of ledger 'bank\.example/other'"):
        grown.verify()


def test_a_damaged_state_file_is_said_and_a_missing_heads_cache_only_costs_a_full_read(grown: Incremental) -> None:
    grown.verify()
    grown.state.heads_path.unlink()
    grown.grow(2)
    assert grown.verify() == (Outcome.HOLDS, 0)
    grown.state.heads_path.write_bytes(b"not a database, but long enough to be read as one" * 50)
    assert grown.verify() == (Outcome.HOLDS, 0)
    grown.state.path.write_text("{", encoding="utf-8")
    with pytest.raises(LedgerUnreadable, match="the kept state is damaged"):
        grown.verify()


def test_heads_that_somebody_else_wrote_meanwhile_are_given_up_not_mixed(grown: Incremental) -> None:
    grown.verify()
    found = grown.state.position()
    assert found is not None
    size = found.size
    heads = grown.state.heads(size)
    other = grown.state.heads(size)
    assert heads is not None
    assert other is not None
    with closing(heads), closing(other):
        other["policy"] = size
        other.write(size + 1)
        with pytest.raises(sqlite3.DatabaseError, match="somebody else"):
            heads.write(size + 2)
        assert grown.state.heads(size + 1) is not None
        grown.state.save(ORIGIN, found, heads)
    assert grown.state.heads(size) is None
    assert not grown.state.heads_path.exists()


def test_a_node_lies_behind_all_nodes_that_earlier_leaves_completed() -> None:
    completed = [
        (level, leaf >> level) for leaf in range(2_000) for level in range(1, 12) if (leaf + 1) % (1 << level) == 0
    ]
    assert [place(level, index) for level, index in completed] == list(range(len(completed)))


def test_the_signer_goes_on_without_its_heads_cache(grown: Incremental) -> None:
    grown.signer.state.heads_path.unlink()
    grown.grow(3)
    assert grown.signer.last_signed().size == 13  # type: ignore[union-attr]


def test_the_signer_reads_only_new_entries(grown: Incremental, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int, int]] = []
    columns = grown.ledger.store.columns  # type: ignore[attr-defined]
    monkeypatch.setattr(grown.ledger.store, "columns", lambda a, b: read.append((a, b)) or columns(a, b))
    grown.grow(2)
    assert read == [(10, 12)]


def test_the_signer_refuses_a_bit_flipped_leaf_before_it_signs(grown: Incremental) -> None:
    grown.ledger.append(draft(500))
    db = unlocked(path_of(grown.ledger))
    db.execute("UPDATE entry SET leaf = x'" + "00" * 32 + "' WHERE seq = 10")
    db.close()
    with pytest.raises(Tampered, match="entry 10"):
        grown.ledger.sign_checkpoint()
    assert grown.signer.last_signed().size == 10  # type: ignore[union-attr]


def test_what_the_signer_signs_extends_what_it_signed_whatever_the_database_says(grown: Incremental) -> None:
    """Its own peaks carry the past: rewritten old rows cannot get under a new signature."""
    last = grown.signer.last_signed()
    assert last is not None
    db = unlocked(path_of(grown.ledger))
    db.execute("UPDATE entry SET bytes = replace(bytes, 'training_run', 'training_fun') WHERE seq = 2")
    db.close()
    grown.ledger.append(draft(600))
    note = grown.ledger.sign_checkpoint()
    assert grown.ledger.verify(trust_of_without_view(grown)).outcome is Outcome.TAMPERED
    from cognify_dagster.ledger.merkle import verify_consistency
    from cognify_dagster.ledger.note import open_checkpoint

    head = open_checkpoint(note, grown.signer.verifiers)
    verify_consistency(last.size, head.size, last.root, head.root, grown.ledger.consistency(last.size, head.size))


def trust_of_without_view(made: Incremental) -> object:
    from cognify_dagster.ledger import TrustFile

    return TrustFile(made.signer.verifiers, None)


def test_a_position_knows_its_root() -> None:
    tree = Tree()
    tree.extend(LEAVES[:11])
    assert Position(11, tuple(tree.peaks)).root == merkle_root(LEAVES[:11])


@settings(max_examples=60, deadline=None)
@given(
    seq=st.integers(0, 60),
    column=st.sampled_from(["bytes", "leaf", "prev", "idem", "kind", "time_us"]),
    value=st.one_of(st.none(), st.integers(-5, 5), st.binary(max_size=40), st.text(max_size=5)),
)
def test_the_quick_way_accepts_nothing_that_the_strict_way_refuses(
    ledger: Ledger, tmp_path_factory: pytest.TempPathFactory, seq: int, column: str, value: object
) -> None:
    path = tmp_path_factory.mktemp("quick") / "copy.sqlite"
    path.write_bytes(path_of(ledger).read_bytes())
    db = unlocked(path)
    try:
        db.execute(f"UPDATE entry SET {column} = ? WHERE seq = ?", (value, seq))
    except (sqlite3.Error, UnicodeEncodeError):
        return
    finally:
        db.close()
    assert Ledger(SqliteStore(path)).verify(trust_of(ledger)).outcome is Outcome.TAMPERED
