"""The collector of garbage between requests: it collects, sets aside what stays, and looks at that again."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from cognify_dagster.review import collecting
from cognify_dagster.review.collecting import ALL_EVERY_S, Collector, take_over
from cognify_dagster.review.traffic import Traffic


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)


def ring() -> weakref.ref[Ring]:
    return weakref.ref(Ring())


def test_garbage_is_collected_by_the_job_in_a_process_that_serves_the_site(monkeypatch: pytest.MonkeyPatch) -> None:
    site: Any = SimpleNamespace(state={}, traffic=Traffic())
    take_over(site)
    assert gc.get_threshold()[2] == collecting._NEVER
    gone = ring()
    collecting._collect(site)
    assert gone() is None


def test_a_process_that_does_something_else_too_keeps_its_own_collector() -> None:
    site: Any = SimpleNamespace(state={}, traffic=Traffic())
    before = gc.get_threshold()
    gc.disable()
    try:
        left = ring()
        collecting._collect(site)
        assert left() is not None
    finally:
        gc.enable()
    assert gc.get_threshold() == before


def test_what_takes_long_to_walk_is_set_aside_and_walked_again_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collecting, "LONG_S", -1.0)
    collector = Collector()
    start = collector._all_at
    kept = Ring()
    collector.collect(start + 1, idle=False)
    assert gc.get_freeze_count() == 0  # somebody was being answered
    collector.collect(start + 1, idle=True)
    assert gc.get_freeze_count() > 0
    gone = weakref.ref(kept)
    del kept
    collector.collect(start + 2, idle=True)
    assert gone() is not None  # it was set aside
    collector.collect(start + ALL_EVERY_S + 1, idle=True)
    assert gone() is None
    assert gc.get_freeze_count() > 0
