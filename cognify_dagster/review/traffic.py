"""Requests come first: the work in the background waits while a page is made, and rests where people are at work.

Invariant: it waits for a bounded time, so that it goes on however many people there are.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

WAIT_S = 0.25
QUIET_S = 2.0
BRIEF_S = 0.005


class Traffic:
    """Which requests are being answered now, in this process. Safe for threads."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._open = 0
        self._last = float("-inf")

    @contextmanager
    def answering(self) -> Iterator[None]:
        """One request is answered inside: from where its body was read to where its answer is made, however slow the client is."""
        with self._condition:
            self._open += 1
        try:
            yield
        finally:
            with self._condition:
                self._open -= 1
                self._last = time.monotonic()
                if not self._open:
                    self._condition.notify_all()

    def give_way(self, longest_s: float = WAIT_S) -> bool:
        """Wait until no request is being answered, at most so many seconds; return whether none is."""
        with self._condition:
            return self._condition.wait_for(lambda: not self._open, longest_s)

    def rest(self, seconds: float) -> float:
        """Return how long background work rests: as long as asked for while people are at work, hardly at all when nobody is."""
        with self._condition:
            quiet = not self._open and time.monotonic() - self._last > QUIET_S
        return BRIEF_S if quiet else seconds
