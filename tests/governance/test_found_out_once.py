"""What takes long to find out is found out once, however many ask at the same moment."""

from __future__ import annotations

import threading
import time
from datetime import datetime, timezone
from typing import Any

import pytest

from cognify_dagster.governance import decide
from cognify_dagster.governance.people import directory as people_module
from cognify_dagster.governance.people.directory import directory
from cognify_dagster.governance.release import provable
from tests.governance.world import MODEL, World


def at_once(count: int, ask: Any) -> list[Any]:
    """Return what so many threads got that asked at the same moment."""
    barrier, found = threading.Barrier(count), []

    def one() -> None:
        barrier.wait(10)
        found.append(ask())

    threads = [threading.Thread(target=one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(found) == count
    return found


def slow(monkeypatch: pytest.MonkeyPatch, module: Any, name: str) -> list[int]:
    """Make a function take its time, and count its calls."""
    calls, real = [], getattr(module, name)

    def counted(*args: Any) -> Any:
        calls.append(1)
        time.sleep(0.1)
        return real(*args)

    monkeypatch.setattr(module, name, counted)
    return calls


def test_who_wrote_a_subjects_entries_is_judged_once(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A site that just started, and fifty people who open a page: the history of `people` is read once, not fifty times."""
    workspace = ready.workspace
    people = directory(workspace.read())
    calls = slow(monkeypatch, provable, "_judge")

    def ask() -> list[provable.Unproven]:
        reading = workspace.read()
        return provable.unproven(reading, directory(reading), "people")

    assert people is directory(workspace.read())
    assert at_once(8, ask) == [[]] * 8
    assert len(calls) == 1


def test_a_directory_is_built_once(ready: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Readings of one workspace that begin at the same moment share one directory."""
    workspace = ready.workspace
    workspace.read().memo.pop("directory", None)
    calls = slow(monkeypatch, people_module, "_build")
    found = at_once(8, lambda: directory(workspace.read()))
    assert len(calls) == 1
    assert all(item is found[0] for item in found)


def test_what_all_decisions_rest_on_can_be_judged_before_the_first(
    ready: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A site does so before its port opens; the decision afterwards judges only the histories of its own model."""
    workspace = ready.workspace
    provable.judge_shared(workspace.read())
    judged: list[str] = []
    real = provable._judge
    monkeypatch.setattr(provable, "_judge", lambda *args: judged.append(args[2]) or real(*args))
    decide(workspace.read(), MODEL, "1", "production", datetime.now(timezone.utc))
    assert judged
    assert not {"people", "policy", "ledger"} & set(judged)
