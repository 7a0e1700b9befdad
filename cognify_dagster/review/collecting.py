"""Python's collector of cyclic garbage runs between requests: a walk through all that a large site keeps takes longer than a page.

Invariants: garbage goes on being collected, at least every `EVERY_S`; what was set aside is walked again every `ALL_EVERY_S`, so that
nothing is kept for good. What requests that run hold is not set aside.
"""

from __future__ import annotations

import gc
import time
from typing import TYPE_CHECKING

from cognify_dagster.review.background import JOBS, Job

if TYPE_CHECKING:
    from cognify_dagster.review.site import Site

EVERY_S = 10.0
ALL_EVERY_S = 3600.0
LONG_S = 0.03
_NEVER = 1_000_000


class Collector:
    """Collects, and sets aside what stays. One thread uses it."""

    def __init__(self) -> None:
        self._all_at = time.monotonic()

    def collect(self, now: float, *, idle: bool) -> None:
        """Collect. If that took long, and nobody is being answered, what is left is not walked again before `ALL_EVERY_S` are over."""
        if now - self._all_at > ALL_EVERY_S:
            gc.unfreeze()
            self._all_at = now
        started = time.perf_counter()
        gc.collect()
        if idle and time.perf_counter() - started > LONG_S:
            gc.freeze()


def take_over(site: Site) -> None:
    """Let the site's work in the background collect the oldest generation; in a process that serves the site and nothing else."""
    site.state["collector"] = Collector()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, _NEVER)


def _collect(site: Site) -> float | None:
    collector: Collector | None = site.state.get("collector")
    if collector is not None:
        collector.collect(time.monotonic(), idle=site.traffic.give_way())
    return None


JOBS.append(Job("collector", EVERY_S, _collect, alone=False))
