"""How far long work over a ledger is, told to whoever asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Progress = Callable[[int, int], None]
"""(entries done, entries in all); called now and then. An entry counts once for every pass over it."""

T = TypeVar("T")
_EVERY = 1_000


class Telling:
    """Counts several passes over a ledger as one piece of work.

    Args:
        progress: whom to tell; None: nobody.
        total: entries of all passes together.
    """

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress, self.total, self.done = progress, total, 0

    def each(self, rows: Iterable[T]) -> Iterator[T]:
        """Count rows as they pass."""
        for row in rows:
            self.done += 1
            if self.done % _EVERY == 0 or self.done == self.total:
                self._tell()
            yield row

    def part(self) -> Progress:
        """Return what a pass that counts by itself calls with (done, in all); it goes on from where the work stands."""
        before = self.done

        def told(done: int, _in_all: int) -> None:
            self.done = before + done
            self._tell()

        return told

    def _tell(self) -> None:
        if self.progress is not None:
            self.progress(min(self.done, self.total), self.total)
