"""What every ledger store must do. A test module of a store subclasses `StoreSuite` and defines the fixture `backend`.

class TestSqliteStore(StoreSuite): ...

@pytest.fixture
def backend(tmp_path) -> Iterator[Backend]: ...
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, Protocol

import pytest

from cognify_dagster.ledger import (
    ClockError,
    EntryError,
    IdempotencyConflict,
    Ledger,
    LedgerError,
    LedgerUnreadable,
    Receipt,
    SizeChanged,
    Store,
    canonical_json,
    leaf_hash,
    merkle_root,
    verify_consistency,
    verify_inclusion,
)
from cognify_dagster.ledger.entry import MAX_ENTRY, MAX_PAYLOAD, SealedBody, seal_body
from cognify_dagster.ledger.group import GroupCommitter
from cognify_dagster.ledger.store import ForgetfulStore, Segment, StoredEntry, StoredPayload, TombstoneStore
from tests.ledger.drafts import MINUTE, ORIGIN, START, Clock, draft

ROOT = Path(__file__).parents[2]
MANIFEST = "ab" * 32
WRITERS = int(os.environ.get("COGNIFY_WRITERS", "16"))
APPENDS = int(os.environ.get("COGNIFY_APPENDS", "6"))
KILLS = int(os.environ.get("COGNIFY_KILLS", "3"))


class Backend(Protocol):
    """How the suite makes and reaches stores of one kind."""

    def create(self, origin: str = ORIGIN) -> Store:
        """A new empty ledger, which nobody else uses."""

    def reopen(self, store: Store) -> Store:
        """The same ledger through another store object, as another process has it."""

    def address(self, store: Store) -> str:
        """What `tests.ledger.writer` is given to open the ledger: a path or a URL."""

    def attack(self, store: Store, statement: str) -> None:
        """Run a statement of `attacks` past the store, with the rights of a writer; raise whatever refuses it."""

    def raw(self, store: Store) -> object:
        """All that is stored, in a form that can be compared."""


def sealed(numbers: Sequence[int], origin: str = ORIGIN, **changed: Any) -> list[SealedBody]:
    return [seal_body(origin, draft(number, **changed)) for number in numbers]


def rows(store: Store) -> tuple[list[StoredEntry], list[StoredPayload]]:
    size = store.size()
    return list(store.entries(0, size)), list(store.payloads(0, size))


def check_tree(store: Store, size: int | None = None) -> bytes:
    """Recompute the tree from the entries' bytes; the store's nodes must lead to the same root."""
    size = store.size() if size is None else size
    leaves = [leaf_hash(row.data) for row in store.entries(0, size)]
    assert len(leaves) == size
    root = merkle_root(leaves)
    assert Ledger(store).root(size) == root
    level, nodes = 0, leaves
    while nodes:
        assert list(store.nodes(level, 0, len(nodes))) == list(enumerate(nodes))
        assert store.node(level, len(nodes) - 1) == nodes[-1]
        level, nodes = level + 1, [merkle_root(nodes[i : i + 2]) for i in range(0, len(nodes) - 1, 2)]
    return root


def start_writer(address: str, name: str, count: int, mode: str = "plain") -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.ledger.writer", address, name, str(count), mode]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )


def acknowledged(process: subprocess.Popen[str]) -> list[tuple[int, str]]:
    output, errors = process.communicate(timeout=240)
    assert process.returncode in (0, -signal.SIGKILL), errors
    lines = output.split("\n")[:-1]  # a killed process may leave half a line behind: that one was not acknowledged
    return [(int(line.split()[0]), line.split()[1]) for line in lines]


class StoreSuite:
    """The tests; `attacks` are statements past the store that it must refuse, `refusal` the errors that refuse them."""

    attacks: tuple[str, ...] = ()
    refusal: type[Exception] | tuple[type[Exception], ...] = ()

    @pytest.fixture
    def clock(self) -> Clock:
        return Clock()

    @pytest.fixture
    def store(self, backend: Backend) -> Store:
        return backend.create()

    @pytest.fixture
    def ledger(self, store: Store, clock: Clock) -> Ledger:
        return Ledger(store, clock_us=clock)

    # --- appending ---

    def test_an_empty_store(self, store: Store) -> None:
        assert (store.origin, store.size(), store.checkpoints(), store.segments()) == (ORIGIN, 0, [], [])
        assert rows(store) == ([], [])
        assert store.find("0" * 64) is None

    def test_appended_entries_are_chained_and_heads_lead_to_the_same_subject(self, ledger: Ledger) -> None:
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
        assert ledger.root(5) == view.root == check_tree(ledger.store)

    def test_receipts_say_what_is_stored_and_find_returns_them(self, ledger: Ledger, clock: Clock) -> None:
        receipt = ledger.append(draft(1))
        (row,), (payload,) = rows(ledger.store)
        assert (row.seq, row.leaf, row.time_us) == (receipt.seq, receipt.leaf, receipt.time_us)
        assert receipt.time_us == clock.now
        assert (row.kind, row.subjects, row.idem) == ("training_run", ("model/a",), draft(1).idem)
        assert (payload.data, payload.facts_digest) == (draft(1).payload, draft(1).facts_digest)
        found = ledger.store.find(draft(1).idem)
        assert found is not None
        assert (found.seq, found.leaf, found.time_us) == (receipt.seq, receipt.leaf, receipt.time_us)
        assert ledger.store.find(draft(2).idem) is None

    def test_a_repeated_key_returns_the_old_receipt_or_is_a_conflict(self, ledger: Ledger) -> None:
        first = ledger.append(draft(1))
        again = ledger.append(draft(1, payload=canonical_json({"facts": {"n": 1}, "observed": {"attempt": 2}})))
        assert (again.seq, again.leaf, again.duplicate) == (first.seq, first.leaf, True)
        with pytest.raises(IdempotencyConflict, match="entry 0"):
            ledger.append(draft(1, facts={"n": 2}))
        assert ledger.size() == 1

    def test_expected_size(self, ledger: Ledger) -> None:
        ledger.append(draft(1), expected_size=0)
        with pytest.raises(SizeChanged, match="has 1 entries, not 0"):
            ledger.append(draft(2), expected_size=0)
        assert ledger.size() == 1
        assert ledger.append(draft(1), expected_size=0).duplicate  # a retry after success is not a conflict

    def test_time_never_decreases_and_a_large_step_back_is_refused(self, ledger: Ledger, clock: Clock) -> None:
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

    def test_a_correction_of_the_clock_takes_the_time_back_to_its_floor_and_no_other_entry_does(
        self, ledger: Ledger, clock: Clock
    ) -> None:
        """Who signed it is for verification to judge; here nobody does, so it is taken at its word."""
        first = ledger.append(draft(1))
        clock.now += 2 * 24 * 60 * MINUTE
        ahead = ledger.append(draft(2))
        clock.now = first.time_us - MINUTE
        floor = {"wrong_us": ahead.time_us, "floor_us": first.time_us}
        with pytest.raises(ClockError, match="correct-clock"):
            ledger.append(draft(3, facts=floor))  # of another kind
        late = ledger.append(draft(4, kind="clock_floor_corrected", facts=floor))
        assert late.time_us == first.time_us, "not before its floor"
        clock.now = first.time_us + MINUTE
        third = ledger.append_many([draft(5), draft(6)])
        assert [receipt.time_us for receipt in third] == [clock.now] * 2
        report = ledger.verify()
        assert [finding.seq for finding in report.findings if finding.seq is not None] == []
        assert any("entry 2 corrects the clock" in note for note in report.notes)
        higher = ledger.append(draft(7, kind="clock_floor_corrected", facts={"floor_us": clock.now + MINUTE}))
        assert higher.time_us < clock.now + MINUTE, "a floor never pushes the time ahead"
        check_tree(ledger.store)

    def test_limits_are_checked_before_anything_is_hashed_or_stored(self, ledger: Ledger) -> None:
        room = MAX_PAYLOAD - len(canonical_json({"facts": {"t": ""}, "observed": {}}))
        largest = ledger.append(draft(1, facts={"t": "x" * room}))
        with pytest.raises(EntryError, match="put it into evidence"):
            ledger.append(draft(2, facts={"t": "x" * (room + 1)}))
        digests = tuple(f"sha256:{number:064x}" for number in range(900))
        with pytest.raises(EntryError, match=f"the limit is {MAX_ENTRY}"):
            ledger.append(draft(2, evidence=digests))
        fitting = ledger.append(draft(2, evidence=digests[:860]))
        assert (largest.seq, fitting.seq, ledger.size()) == (0, 1, 2)
        entries, payloads = rows(ledger.store)
        assert 60_000 < len(entries[1].data) <= MAX_ENTRY
        assert len(payloads[0].data or b"") == MAX_PAYLOAD
        assert leaf_hash(entries[1].data) == fitting.leaf

    def test_numbers_and_text_of_all_kinds_are_kept_byte_for_byte(self, ledger: Ledger) -> None:
        """1e20 is written as 100000000000000000000; NUL and right-to-left marks are text like any other."""
        facts = {"loss": 1e20, "steps": 9007199254740994.0, "tiny": 5e-324, "text": "a\0b\u202eé😀\u2028", "": []}
        ledger.append(draft(1, facts=facts))
        payload = ledger.view().entries[0].payload
        assert payload is not None
        assert payload["facts"] == facts

    # --- batches ---

    def test_a_batch_is_one_chain_in_the_order_given(self, ledger: Ledger) -> None:
        ledger.append(draft(0))
        receipts = ledger.append_many([draft(n, subjects=("model/a", f"model/m{n % 3}")) for n in range(1, 40)])
        assert [receipt.seq for receipt in receipts] == list(range(1, 40))
        assert len({receipt.time_us for receipt in receipts}) == 1
        view = ledger.view()
        assert view.root == check_tree(ledger.store)
        assert [item.entry.seq for item in view.history("model/m1")] == list(range(1, 40, 3))
        assert ledger.append_many([]) == []

    def test_a_batch_is_kept_whole_or_not_at_all(self, backend: Backend, ledger: Ledger) -> None:
        ledger.append(draft(0))
        before = backend.raw(ledger.store)
        bad = draft(0, facts={"other": True})
        for batch in ([draft(1), draft(2), bad], [bad, draft(1)], [draft(1), draft(1, facts={"other": 1})]):
            with pytest.raises(IdempotencyConflict):
                ledger.append_many(batch)
        with pytest.raises(EntryError):
            ledger.append_many([draft(1), draft(2, evidence=tuple(f"sha256:{n:064x}" for n in range(900)))])
        with pytest.raises(SizeChanged):
            ledger.append_many([draft(1), draft(2)], expected_size=0)
        assert backend.raw(ledger.store) == before
        assert [r.seq for r in ledger.append_many([draft(1), draft(2)], expected_size=1)] == [1, 2]

    def test_a_repeated_batch_returns_the_old_receipts(self, ledger: Ledger) -> None:
        batch = [draft(n) for n in range(4)]
        first = ledger.append_many(batch, expected_size=0)
        again = ledger.append_many(batch, expected_size=0)
        assert [(r.seq, r.leaf, r.duplicate) for r in again] == [(r.seq, r.leaf, True) for r in first]
        mixed = ledger.append_many([draft(2), draft(9), draft(2), draft(9)])
        assert [(r.seq, r.duplicate) for r in mixed] == [(2, True), (4, False), (2, True), (4, True)]
        assert ledger.size() == 5

    def test_append_each_refuses_one_without_holding_up_the_others(self, store: Store) -> None:
        big = tuple(f"sha256:{n:064x}" for n in range(900))
        items = [
            *sealed([0, 1]),
            *sealed([0], facts={"other": 1}),
            *sealed([2], evidence=big),
            *sealed([1]),
            *sealed([3]),
        ]
        results = store.append_each(items, START)
        assert [type(result) for result in results] == [
            Receipt, Receipt, IdempotencyConflict, EntryError, Receipt, Receipt,
        ]  # fmt: skip
        good = [result for result in results if isinstance(result, Receipt)]
        assert [(r.seq, r.duplicate) for r in good] == [(0, False), (1, False), (1, True), (2, False)]
        assert store.size() == 3
        check_tree(store)
        late = store.append_each(sealed([1, 7]), START - 10 * MINUTE)
        assert (type(late[0]), type(late[1]), store.size()) == (Receipt, ClockError, 3)

    # --- erasing ---

    def test_erasing_takes_payload_salt_and_digest_and_nothing_else(self, backend: Backend, ledger: Ledger) -> None:
        ledger.append_many([draft(n, facts={"secret": f"Jane Doe {n}"}) for n in range(5)])
        entries, payloads = rows(ledger.store)
        ledger.store.erase([1, 3])
        ledger.store.erase([3])
        assert rows(ledger.store)[0] == entries
        assert rows(backend.reopen(ledger.store))[1] == [
            StoredPayload(p.seq, None, None, None) if p.seq in (1, 3) else p for p in payloads
        ]
        with pytest.raises(LedgerError, match="entry 5"):
            ledger.store.erase([0, 5])
        assert list(ledger.store.payloads(0, 1)) == payloads[:1]
        check_tree(ledger.store)

    def test_rows_are_given_by_number_with_their_payloads_as_far_as_they_are_here(self, ledger: Ledger) -> None:
        ledger.append_many([draft(n) for n in range(5)])
        ledger.store.erase([1])
        entries, payloads = rows(ledger.store)
        found = {row.seq: (row, kept) for row, kept in ledger.store.rows([4, 1, 1, 9, 0])}  # type: ignore[attr-defined]
        assert found == {seq: (entries[seq]._replace(subjects=()), payloads[seq]) for seq in (0, 1, 4)}
        assert ledger.store.rows([]) == []  # type: ignore[attr-defined]
        one = getattr(ledger.store, "row", None)
        if one is not None:
            assert [one(seq) for seq in range(6)] == [*zip(entries, payloads, strict=True), None]

    def test_a_retry_after_erasure_is_refused_not_stored_twice(self, ledger: Ledger) -> None:
        ledger.append(draft(1))
        ledger.store.erase([0])
        with pytest.raises(IdempotencyConflict, match="entry 0"):
            ledger.append(draft(1))
        assert ledger.size() == 1

    # --- copying, archiving ---

    def test_a_copy_has_every_byte_and_node_and_goes_on_from_there(self, backend: Backend, ledger: Ledger) -> None:
        for start in range(0, 700, 100):
            ledger.append_many([draft(n, subjects=(f"model/m{n % 7}", "policy")) for n in range(start, start + 100)])
        ledger.store.erase([5])
        ledger.store.add_checkpoint(3, "three\n")
        copy = backend.create()
        copy.load(*rows(ledger.store), ledger.store.checkpoints())
        assert rows(copy) == rows(ledger.store)
        assert copy.checkpoints() == [(3, "three\n")]
        assert check_tree(copy) == check_tree(ledger.store)
        assert Ledger(copy, clock_us=Clock(START + MINUTE)).append(draft(900, subjects=("model/m1",))).seq == 700
        assert ledger.append(draft(1, subjects=("model/m1", "policy"))).duplicate

    def test_what_does_not_follow_is_not_loaded_and_nothing_is_kept(self, backend: Backend, ledger: Ledger) -> None:
        ledger.append_many([draft(n) for n in range(6)])
        entries, payloads = rows(ledger.store)
        flipped = entries[3]._replace(data=entries[3].data.replace(b"training", b"trainina"))
        relinked = flipped._replace(leaf=leaf_hash(flipped.data))
        cases: list[tuple[list[StoredEntry], list[StoredPayload]]] = [
            ([*entries[:3], *entries[4:]], [*payloads[:3], *payloads[4:]]),
            ([*entries[:3], flipped, *entries[4:]], payloads),
            ([*entries[:3], relinked, *entries[4:]], payloads),
            ([entries[1], entries[0]], [payloads[1], payloads[0]]),
            (entries, payloads[:4]),
            (entries, [*payloads[:2], *payloads[3:]]),
        ]
        for some_entries, some_payloads in cases:
            copy = backend.create()
            with pytest.raises(LedgerError):
                copy.load(some_entries, some_payloads, [(1, "x")])
            assert (copy.size(), rows(copy), copy.checkpoints()) == (0, ([], []), [])
        with pytest.raises(LedgerError):
            ledger.store.load(entries, payloads, [])
        assert rows(ledger.store) == (entries, payloads)

    def test_a_detached_segment_leaves_proofs_keys_and_heads_and_comes_back(
        self, backend: Backend, ledger: Ledger
    ) -> None:
        store = ledger.store
        for start in range(0, 600, 100):
            ledger.append_many([draft(n, subjects=(f"model/m{n}", "policy")) for n in range(start, start + 100)])
        root, kept = check_tree(store), rows(store)
        leaves = [row.leaf for row in kept[0]]
        before = backend.raw(store)
        segment = Segment(0, 512, MANIFEST)
        store.detach(segment)
        store.detach(segment)  # a retry
        assert backend.reopen(store).segments() == [segment]
        assert store.size() == 600
        for start, end in ((0, 600), (0, 1), (511, 513)):
            with pytest.raises(LedgerUnreadable, match="archive"):
                list(store.entries(start, end))
            with pytest.raises(LedgerUnreadable, match="archive"):
                list(store.payloads(start, end))
        assert list(store.entries(512, 600)) == kept[0][512:]
        assert ledger.root(600) == root
        for seq in (512, 599):
            verify_inclusion(seq, 600, leaves[seq], ledger.inclusion(seq, 600), root)
        verify_consistency(512, 600, ledger.root(512), root, ledger.consistency(512, 600))
        assert ledger.append(draft(3, subjects=("model/m3", "policy"))).seq == 3  # the key is still known
        with pytest.raises(IdempotencyConflict):
            ledger.append(draft(3, facts={"other": 1}))
        ledger.append(draft(600, subjects=("model/m3", "model/m599", "policy")))
        (row,) = store.entries(600, 601)
        assert b'"heads":{"model/m3":3,"model/m599":599,"policy":599}' in row.data
        with pytest.raises(LedgerError):
            store.attach(segment, kept[0][:511], kept[1][:511])
        damaged = kept[0][9]._replace(data=kept[0][9].data.replace(b"training", b"trainina"))
        with pytest.raises(LedgerError):
            store.attach(segment, [*kept[0][:9], damaged, *kept[0][10:512]], kept[1][:512])
        assert store.segments() == [segment]
        store.attach(segment, kept[0][:512], kept[1][:512])
        assert store.segments() == []
        assert rows(store)[0][:600] == kept[0]
        assert rows(store)[1][:600] == kept[1]
        check_tree(store)
        assert backend.raw(store) != before  # entry 600 came in between
        assert ledger.view().size == 601

    def test_what_is_kept_of_a_detached_entry_can_forget_its_facts_and_nothing_else(
        self, backend: Backend, ledger: Ledger
    ) -> None:
        """The digest of erased facts would still tell whether somebody guessed them."""
        store = ledger.store
        ledger.append_many([draft(n) for n in range(300)])
        entries, payloads = rows(store)
        store.detach(Segment(0, 256, MANIFEST))
        assert isinstance(store, ForgetfulStore)
        assert isinstance(store, TombstoneStore)
        before = store.tombstones(0, 300)
        store.forget([3, 200, 299, 1_000])  # the last two are not detached: nothing is kept of them to forget
        store.forget([3])
        again = backend.reopen(store)
        assert isinstance(again, TombstoneStore)
        assert again.tombstones(0, 300) == [
            stone._replace(facts_digest=None) if stone.seq in (3, 200) else stone for stone in before
        ]
        assert list(store.payloads(256, 300)) == payloads[256:]
        assert ledger.append(draft(4)).duplicate
        with pytest.raises(IdempotencyConflict, match=r"entry 3 .*was erased"):
            ledger.append(draft(3))
        erased = [p._replace(salt=None, facts_digest=None, data=None) if p.seq in (3, 200) else p for p in payloads]
        store.attach(Segment(0, 256, MANIFEST), entries[:256], erased[:256])
        assert rows(store) == (entries, erased)

    def test_a_ledger_whose_every_entry_is_archived_goes_on(self, ledger: Ledger) -> None:
        ledger.append_many([draft(n) for n in range(256)])
        (last,) = ledger.store.entries(255, 256)
        ledger.store.detach(Segment(0, 256, MANIFEST))
        assert ledger.size() == 256
        assert ledger.append(draft(256)).seq == 256
        (row,) = ledger.store.entries(256, 257)
        assert (row.prev, b'"heads":{"model/a":255}' in row.data) == (last.leaf.hex(), True)

    @pytest.mark.parametrize(("start", "end"), [(0, 255), (1, 256), (256, 256), (0, 768), (256, 0), (-256, 0)])
    def test_only_whole_subtrees_within_the_ledger_are_detached(self, ledger: Ledger, start: int, end: int) -> None:
        ledger.append_many([draft(n) for n in range(530)])
        with pytest.raises(LedgerError):
            ledger.store.detach(Segment(start, end, MANIFEST))
        ledger.store.detach(Segment(256, 512, MANIFEST))
        with pytest.raises(LedgerError):
            ledger.store.detach(Segment(0, 512, MANIFEST))
        with pytest.raises(LedgerError):
            ledger.store.attach(Segment(256, 512, "cd" * 32), [], [])
        assert ledger.store.segments() == [Segment(256, 512, MANIFEST)]

    # --- checkpoints ---

    def test_checkpoints_are_kept_beside_each_other_smallest_first(self, backend: Backend, store: Store) -> None:
        for size, note in ((5, "five\n"), (3, "three — ä\n"), (5, "also five\n"), (5, "five\n")):
            store.add_checkpoint(size, note)
        kept = backend.reopen(store).checkpoints()
        assert [size for size, _ in kept] == [3, 5, 5]
        assert sorted(note for _, note in kept) == ["also five\n", "five\n", "three — ä\n"]

    # --- many at once ---

    def test_readers_see_a_whole_ledger_while_others_write(self, backend: Backend, ledger: Ledger) -> None:
        ledger.append_many([draft(n) for n in range(50)])
        stop = threading.Event()
        reader = Ledger(backend.reopen(ledger.store))

        def write() -> None:
            for number in range(50, 100_000):  # at least one, however late this thread comes
                ledger.append(draft(number))
                if stop.is_set():
                    return

        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(write)
            try:
                seen = [check_tree(reader.store, reader.size()) and reader.view().size for _ in range(6)]
            finally:
                stop.set()
            writing.result()
        assert seen == sorted(seen)
        assert reader.view().size == ledger.size() > 50

    def test_threads_that_share_a_store_leave_one_chain(self, store: Store) -> None:
        ledger = Ledger(store)

        def write(thread: int) -> list[int]:
            return [ledger.append(draft(100 * thread + n)).seq for n in range(5)]

        with ThreadPoolExecutor(8) as pool:
            seqs = [seq for part in pool.map(write, range(8)) for seq in part]
        assert sorted(seqs) == list(range(40))
        assert ledger.view().root == check_tree(store)

    def test_group_commit_gives_every_caller_its_own_receipt_or_error(self, store: Store) -> None:
        ledger = Ledger(store)
        with GroupCommitter(ledger) as group:
            first = group.append(draft(0))

            def write(thread: int) -> list[Receipt]:
                with pytest.raises(IdempotencyConflict):
                    group.append(draft(0, facts={"thread": thread}))
                return [group.append(draft(100 * thread + n)) for n in range(1, 6)] + [group.append(draft(0))]

            with ThreadPoolExecutor(16) as pool:
                parts = list(pool.map(write, range(16)))
        assert all((part[-1].seq, part[-1].leaf, part[-1].duplicate) == (0, first.leaf, True) for part in parts)
        entries = {row.seq: row for row in store.entries(0, 200)}
        assert sorted(entries) == list(range(81))
        for thread, part in enumerate(parts):
            assert [entries[r.seq].idem for r in part[:-1]] == [draft(100 * thread + n).idem for n in range(1, 6)]
            assert [entries[r.seq].leaf for r in part[:-1]] == [r.leaf for r in part[:-1]]
        check_tree(store)

    def test_writer_processes_leave_one_contiguous_chain(self, backend: Backend, store: Store) -> None:
        processes = [start_writer(backend.address(store), f"w{n}", APPENDS) for n in range(WRITERS)]
        acks = [acknowledged(process) for process in processes]
        total = WRITERS * APPENDS
        assert [process.returncode for process in processes] == [0] * WRITERS
        assert sorted(seq for ack in acks for seq, _ in ack) == list(range(total))
        ledger = Ledger(backend.reopen(store))
        view = ledger.view()
        leaves = {item.entry.seq: item.entry.leaf.hex() for item in view.entries}
        assert all(leaves[seq] == leaf for ack in acks for seq, leaf in ack)
        assert len(view.history("model/shared")) == view.size == total
        assert all(len(view.history(f"model/w{n}")) == APPENDS for n in range(WRITERS))
        check_tree(store)

    def test_killed_writers_lose_nothing_they_acknowledged(self, backend: Backend, store: Store) -> None:
        acked: dict[int, str] = {}
        stored: dict[int, str] = {}
        dice = random.Random(7)
        for round_number in range(KILLS):
            before = store.size()
            modes = ("plain", "batch")
            processes = [start_writer(backend.address(store), f"r{round_number}{m}", 10_000, m) for m in modes]
            deadline = time.monotonic() + 60
            while store.size() < before + 10 and time.monotonic() < deadline:
                time.sleep(0.02)
            time.sleep(dice.random() * 0.1)
            for process in processes:
                os.kill(process.pid, signal.SIGKILL)
            for process in processes:
                acked.update(acknowledged(process))
            ledger = Ledger(backend.reopen(store))
            view = ledger.view()  # raises if the chain, a head or a payload is broken
            stored = {item.entry.seq: item.entry.leaf.hex() for item in view.entries}
            assert acked.items() <= stored.items()
            check_tree(ledger.store, view.size)
        print(f"{len(acked)} acknowledged before {2 * KILLS} kills, none lost, {len(stored)} stored")
        assert len(acked) >= KILLS

    def test_an_append_killed_before_its_answer_is_found_by_its_key(self, backend: Backend, store: Store) -> None:
        first = acknowledged(start_writer(backend.address(store), "again", 5))
        assert acknowledged(start_writer(backend.address(store), "again", 5)) == first
        assert store.size() == 5

    # --- refusals ---

    def test_changes_past_the_store_are_refused(self, backend: Backend, ledger: Ledger) -> None:
        ledger.append_many([draft(n) for n in range(3)])
        ledger.store.add_checkpoint(3, "note")
        before = backend.raw(ledger.store)
        assert self.attacks, "name the statements that this store must refuse"
        for statement in self.attacks:
            with pytest.raises(self.refusal):
                backend.attack(ledger.store, statement)
            assert backend.raw(ledger.store) == before, statement
        ledger.append(draft(3))

    def test_iterables_are_read_once_and_lazily(self, backend: Backend, ledger: Ledger) -> None:
        """Restoring must not need the memory of a whole ledger."""
        ledger.append_many([draft(n) for n in range(20)])
        copy = backend.create()
        source: Callable[[], Any] = lambda: iter(ledger.store.entries(0, 20))  # noqa: E731
        copy.load(source(), iter(ledger.store.payloads(0, 20)), iter(()))
        assert list(islice(copy.entries(5, 20), 3)) == list(ledger.store.entries(5, 8))
