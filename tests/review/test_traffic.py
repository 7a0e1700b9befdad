"""Requests come first, and the work in the background goes on all the same."""

from __future__ import annotations

import threading
import time

from cognify_dagster.review import traffic
from cognify_dagster.review.traffic import BRIEF_S, Traffic


def test_background_work_waits_until_the_page_is_made() -> None:
    """A unit of work starts after the request that was being answered, not beside it."""
    one, order = Traffic(), []

    def work() -> None:
        one.give_way(10)
        order.append("work")

    with one.answering():
        thread = threading.Thread(target=work)
        thread.start()
        time.sleep(0.05)
        order.append("page")
    thread.join(10)
    assert order == ["page", "work"]


def test_background_work_is_never_kept_from_going_on() -> None:
    """However long requests take, and however many there are, work waits for a bounded time."""
    one = Traffic()
    with one.answering(), one.answering():
        started = time.monotonic()
        one.give_way(0.02)
        assert 0.02 <= time.monotonic() - started < 5


def test_it_waits_for_all_requests_and_for_failed_ones_no_longer() -> None:
    """A page that fails is answered, too."""
    one = Traffic()
    try:
        with one.answering():
            raise RuntimeError("a page failed")
    except RuntimeError:
        pass
    started = time.monotonic()
    one.give_way(30)
    assert time.monotonic() - started < 5


def test_it_rests_only_where_people_are_at_work(monkeypatch) -> None:
    """At the start, and at night, nothing is gained by resting."""
    one = Traffic()
    assert one.rest(0.4) == BRIEF_S
    with one.answering():
        assert one.rest(0.4) == 0.4
    assert one.rest(0.4) == 0.4, "somebody was here a moment ago"
    monkeypatch.setattr(traffic, "QUIET_S", 0.0)
    time.sleep(0.001)
    assert one.rest(0.4) == BRIEF_S
