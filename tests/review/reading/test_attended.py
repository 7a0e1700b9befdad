"""Where work in the background keeps the board up, no page waits for it."""

from __future__ import annotations

import threading
import time

from cognify_dagster.review.reading.board import _keep_up, board_of
from tests.review.site_world import SiteWorld


def test_without_background_work_a_page_looks_itself(site_world: SiteWorld) -> None:
    site = site_world.site
    snapshot = board_of(site).current(site.read(), site.now())
    assert snapshot.versions


def test_no_page_waits_while_the_background_looks(site_world: SiteWorld) -> None:
    """However long the background takes for what it looks at, a page shows what is known."""
    site = site_world.site
    _keep_up(site)
    board = board_of(site)
    assert board.attended
    with board._lock:
        started, found = time.monotonic(), []
        page = threading.Thread(target=lambda: found.append(board.current(site.read(), site.now())), daemon=True)
        page.start()
        page.join(10)
    assert found, f"it waited for {time.monotonic() - started:.0f} s"
    assert found[0] is board.snapshot
