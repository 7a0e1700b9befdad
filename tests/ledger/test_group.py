"""Group commit when something goes wrong: every caller is told, nobody waits for ever."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from cognify_dagster.ledger import IdempotencyConflict, Ledger, LedgerError, LedgerFull, Receipt, SqliteStore
from cognify_dagster.ledger import group as group_module
from cognify_dagster.ledger.group import GroupCommitter
from tests.ledger.drafts import ORIGIN, draft


@pytest.fixture
def ledger(tmp_path: Path) -> Ledger:
    return Ledger(SqliteStore.create(tmp_path / "ledger.sqlite", ORIGIN))


@pytest.fixture
def group(ledger: Ledger) -> Iterator[GroupCommitter]:
    with GroupCommitter(ledger) as committer:
        yield committer


def outcome(call: Callable[[], Receipt]) -> Receipt | LedgerError:
    try:
        return call()
    except LedgerError as error:
        return error


def test_waiting_callers_share_one_commit(
    ledger: Ledger, group: GroupCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = []
    append_each = ledger.store.append_each

    def counted(sealed: list[object], now_us: int) -> object:
        sizes.append(len(sealed))
        time.sleep(0.05)
        return append_each(sealed, now_us)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger.store, "append_each", counted)
    with ThreadPoolExecutor(32) as pool:
        receipts = list(pool.map(lambda n: group.append(draft(n)), range(64)))
    assert sorted(receipt.seq for receipt in receipts) == list(range(64))
    assert sum(sizes) == 64
    assert len(sizes) <= 10


def test_a_group_is_bounded_in_number_and_bytes(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "MAX_GROUP", 5)
    sizes = []
    append_each = ledger.store.append_each

    def counted(sealed: list[object], now_us: int) -> object:
        sizes.append(len(sealed))
        time.sleep(0.02)
        return append_each(sealed, now_us)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger.store, "append_each", counted)
    with GroupCommitter(ledger) as group, ThreadPoolExecutor(20) as pool:
        list(pool.map(lambda n: group.append(draft(n)), range(20)))
        assert 1 < max(sizes) <= 5
        monkeypatch.setattr(group_module, "MAX_GROUP_BYTES", 1)
        sizes.clear()
        list(pool.map(lambda n: group.append(draft(n)), range(100, 110)))
        assert max(sizes) == 1


def test_a_failing_disk_fails_the_group_and_not_the_next_one(
    ledger: Ledger, group: GroupCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    append_each = ledger.store.append_each

    def full(sealed: object, now_us: int) -> object:
        raise LedgerFull("no space; nothing was appended")

    monkeypatch.setattr(ledger.store, "append_each", full)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: outcome(lambda: group.append(draft(n))), range(8)))
    assert [type(result) for result in results] == [LedgerFull] * 8
    assert len({id(result) for result in results}) == 8
    assert ledger.size() == 0
    monkeypatch.setattr(ledger.store, "append_each", append_each)
    assert group.append(draft(1)).seq == 0


def test_a_dead_writer_thread_fails_those_who_wait_and_those_who_come(
    ledger: Ledger, group: GroupCommitter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(sealed: object, now_us: int) -> object:
        time.sleep(0.1)
        raise MemoryError("out of memory")

    monkeypatch.setattr(ledger.store, "append_each", broken)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda n: outcome(lambda: group.append(draft(n))), range(8)))
    for result in [*results, outcome(lambda: group.append(draft(9)))]:
        assert isinstance(result, LedgerError)
        assert "Make a new one" in str(result)
        assert "out of memory" in str(result)
        assert isinstance(result.__cause__, MemoryError)


def test_a_thread_that_vanishes_does_not_leave_callers_waiting(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group_module, "_LOOK_AGAIN_S", 0.05)
    gone = threading.Event()
    monkeypatch.setattr(GroupCommitter, "_run", lambda self: gone.wait(5))
    group = GroupCommitter(ledger)
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(group.append, draft(1))
        time.sleep(0.1)
        gone.set()
        with pytest.raises(LedgerError, match="its thread ended"):
            waiting.result(timeout=5)


def test_closing_stores_what_was_handed_in_and_refuses_more(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    append_each = ledger.store.append_each
    busy, go_on = threading.Event(), threading.Event()

    def held(sealed: list[object], now_us: int) -> object:
        busy.set()
        go_on.wait(30)
        return append_each(sealed, now_us)  # type: ignore[arg-type]

    monkeypatch.setattr(ledger.store, "append_each", held)
    group = GroupCommitter(ledger)
    with ThreadPoolExecutor(16) as pool:
        waiting = [pool.submit(outcome, lambda: group.append(draft(0)))]
        assert busy.wait(30)
        waiting += [pool.submit(outcome, lambda n=n: group.append(draft(n))) for n in range(1, 16)]  # type: ignore[misc]
        while group._queue.qsize() < 8:
            time.sleep(0.001)
        threading.Timer(0.05, go_on.set).start()
        group.close()
        results = [item.result() for item in waiting]
    stored = [result.seq for result in results if isinstance(result, Receipt)]
    assert len(stored) >= 8
    assert sorted(stored) == list(range(ledger.size()))
    assert all("it was closed" in str(result) for result in results if not isinstance(result, Receipt))
    group.close()
    with pytest.raises(LedgerError, match="it was closed"):
        group.append(draft(99))


def test_a_refused_draft_never_reaches_the_queue(group: GroupCommitter, ledger: Ledger) -> None:
    with pytest.raises(LedgerError, match="kind"):
        group.append(draft(1, kind="Not A Kind"))
    group.append(draft(1))
    with pytest.raises(IdempotencyConflict):
        group.append(draft(1, facts={"other": 1}))
    assert ledger.size() == 1


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_process_is_told_to_make_its_own(group: GroupCommitter, ledger: Ledger) -> None:
    group.append(draft(0))
    pid = os.fork()
    if pid == 0:
        try:
            result = outcome(lambda: group.append(draft(1)))
            os._exit(0 if "before the fork" in str(result) else 1)
        finally:
            os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert group.append(draft(1)).seq == 1
