"""What sensors keep between ticks: what they told, the opened workspace, what went live. Nothing is believed that was not stored."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.governance import live, sign_off
from cognify_dagster.governance.signing.signoff import Choice
from cognify_dagster.orchestration import standing
from cognify_dagster.orchestration.memory import SHARDS, Memory, new_memory, recall
from cognify_dagster.orchestration.releases import Releases
from cognify_dagster.workspace import resident
from cognify_dagster.workspace.resident import LIMIT, _kept
from tests.orchestration import project
from tests.orchestration.desk import Desk
from tests.orchestration.test_standing import Daemon, release


class Table:
    """Dagster's key-value table."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def get_cursor_values(self, keys: set[str]) -> Mapping[str, str]:
        return {key: self.values[key] for key in keys if key in self.values}

    def set_cursor_values(self, pairs: Mapping[str, str]) -> None:
        self.values.update(pairs)


VERSIONS = st.sampled_from([f"v{number}" for number in range(6)])
TICKS = st.lists(
    st.tuples(st.lists(st.tuples(VERSIONS, st.sampled_from("abc")), max_size=4), st.booleans(), st.booleans()),
    max_size=12,
)


@given(TICKS)
@settings(max_examples=100, deadline=None)
def test_what_a_tick_told_counts_only_if_its_cursor_was_stored(ticks: list[tuple[list[tuple[str, str]], bool, bool]]):
    """Each tick tells something; its cursor is stored or the daemon dies before; the next process is the same one or another."""
    table, cursor, kept = Table(), None, None
    stored: dict[str, str] = {}
    doubtful: set[str] = set()  # told by a tick that was cut off: told again, whatever was known before
    for told, cut_off, new_process in ticks:
        memory = recall(table, cursor, None if new_process else kept)
        for version in {*stored, *doubtful}:
            found = memory.get("production", version).told
            assert found == stored.get(version, "") or (found == "" and version in doubtful)
        for version, mark in told:
            memory.told("production", version, mark)
        value = memory.save(table)
        if cut_off:
            kept = None
            doubtful |= {version for version, _ in told}
        else:
            kept, cursor = memory, value
            stored |= dict(told)
            doubtful -= {version for version, _ in told}


def test_a_cursor_does_not_grow_with_the_versions_and_a_tick_writes_only_what_changed():
    table = Table()
    memory = new_memory()
    for number in range(2_000):
        memory.told("production", f"v{number}", "mark")
    first = memory.save(table)
    assert set(first) == {"token", "tick"}
    assert len(table.values) == SHARDS
    before = dict(table.values)
    memory.told("production", "v7", "other")
    memory.told("production", "v8", "mark")  # as it was
    memory.save(table)
    assert sum(before[key] != table.values[key] for key in before) == 1


@pytest.mark.parametrize(
    "cursor", [None, "x", {}, {"token": "0" * 16}, {"token": 3, "tick": 1}, {"token": "0" * 16, "tick": True}]
)
def test_a_cursor_that_names_no_memory_begins_a_new_one(cursor: object):
    assert recall(Table(), cursor).marks == {}


def test_a_memory_that_was_lost_or_damaged_is_told_again():
    table = Table()
    memory = new_memory()
    memory.told("production", "v1", "mark")
    cursor = memory.save(table)
    for broken in ("[1]", "{", '{"production": {"v1": ["mark"]}}', '{"production": 3}'):
        damaged = Table()
        damaged.values = dict.fromkeys(table.values, broken)
        assert recall(damaged, cursor).get("production", "v1").told == ""
    part = Table()
    part.values = dict(list(table.values.items())[1:])
    assert recall(part, cursor).marks == {}
    assert recall(Table(), cursor, kept=Memory("other", 1)).marks == {}


def test_a_workspace_is_kept_until_one_of_its_files_is_another(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    def lent() -> Any:
        with resident(desk.folder) as found:
            return found

    first = lent()
    first.remember("key", lambda: 1)
    assert lent() is first
    assert first.remember("key", lambda: 2) == 1
    sign_off(desk.workspace, "tiny", "v1", desk.keys["vera"], Choice("approve"))
    assert lent() is first  # the ledger grows in place
    config = desk.workspace.config.path
    os.utime(config, ns=(time.time_ns(), time.time_ns()))
    second = lent()
    assert second is not first
    assert second.state == {}
    with pytest.raises(RuntimeError, match="anything"), resident(desk.folder):
        raise RuntimeError("anything")
    third = lent()
    assert third is not second
    monkeypatch.setattr(os, "getpid", lambda: 1)  # after a fork
    assert lent() is not third
    replaced = desk.workspace.config.ledger
    os.rename(replaced, replaced.with_suffix(".old"))
    Path(replaced).write_bytes(replaced.with_suffix(".old").read_bytes())
    assert lent().workspace is not third.workspace
    assert len(_kept) <= LIMIT


def test_what_went_live_is_found_among_new_entries_only(new_desk: Desk, own_instance: dg.DagsterInstance):
    daemon = Daemon(new_desk, own_instance)
    new_desk.build()
    gone = Releases("tiny", "production")
    assert gone.update(new_desk.workspace.read()).last("v1") is None
    release(daemon, "v1")
    one = gone.update(new_desk.workspace.read()).last("v1")
    assert one is not None
    assert gone.successor(one) is None
    assert new_desk.run(project.BUILD, "v2").success
    release(daemon, "v2")
    reading = new_desk.workspace.read()
    gone.update(reading)
    two = gone.successor(one)
    current = live(reading, "tiny", "production")
    assert two is not None
    assert current is not None
    assert (two.seq, two.record.version) == (current.seq, "v2")
    assert [item.seq for item in gone.update(reading).done] == [one.seq, two.seq]


def test_a_tick_with_nothing_new_decides_nothing_and_reads_no_old_entry(
    desk: Desk, own_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    daemon = Daemon(desk, own_instance)
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    daemon.tick()
    daemon.tick()
    with resident(desk.folder) as place:
        store = place.workspace.ledger.store
    read: list[int] = []
    entries, decide, decided = store.entries, standing.decide, list[str]()

    def counted(start: int, end: int) -> Any:
        for row in entries(start, end):
            read.append(row.seq)
            yield row

    def deciding(reading: Any, model: str, version: str, *rest: Any, **more: Any) -> Any:
        decided.append(version)
        return decide(reading, model, version, *rest, **more)

    monkeypatch.setattr(store, "entries", counted)
    monkeypatch.setattr(standing, "decide", deciding)
    size = desk.workspace.ledger.size()
    daemon.tick()
    assert decided == []
    assert [seq for seq in read if 0 < seq < size - 1] == []
    desk.approve("vera")
    daemon.tick()
    assert "v1" in decided
    assert len({seq for seq in read if seq < size}) < size / 2  # who signed, by what policy; not the whole ledger
