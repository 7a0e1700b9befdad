"""How far a snapshot is: a bar at a terminal, now and then a line elsewhere, nothing for work that is soon done."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from cognify_dagster.datasets import ProgressState

_EVERY_SECONDS = 10.0
_BAR_AFTER_SECONDS = 0.5
_WORDS = {"hash": "hashing files", "read": "reading tables"}


def size(count: float) -> str:
    """Bytes for people, in powers of ten."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def line(state: ProgressState) -> str:
    """One moment as a line: files, bytes, rate, time left."""
    parts = [f"{_WORDS.get(state.stage, state.stage)}: {state.files:,} of {state.total_files:,} files"]
    of = f" of {size(state.total_bytes)}" if state.total_bytes else ""
    parts += [size(state.bytes) + of, f"{size(state.rate)}/s"]
    if (left := state.seconds_left) is not None:
        parts.append(f"{left:.0f} s left" if left < 120 else f"{left / 60:.0f} min left")
    return ", ".join(parts)


class SnapshotProgress:
    """Progress on standard error; use it inside ``with`` and pass it as ``progress``."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._started = self._said = time.monotonic()
        self._bar: Any = None
        self._task: Any = None
        self._last: ProgressState | None = None

    def __enter__(self) -> SnapshotProgress:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._bar is not None:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Count of a stage that has no bytes; see :data:`cognify_dagster.datasets.Progress`."""
        if stage != "hash":
            from cognify_dagster.datasets import ProgressState

            seconds = time.monotonic() - self._started
            self.report(ProgressState(stage, done, total, 0, None, seconds))

    def report(self, state: ProgressState) -> None:
        """Show a moment, if it is time to."""
        now = time.monotonic()
        self._last = state
        if self._terminal:
            if now - self._started >= _BAR_AFTER_SECONDS:
                self._show(state)
        elif now - self._said >= _EVERY_SECONDS:
            self._said = now
            click.echo(line(state), err=True)

    def _show(self, state: ProgressState) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        if self._bar is None:
            self._bar = Progress(
                BarColumn(bar_width=30),
                TextColumn("{task.percentage:>3.0f} %  {task.description}"),
                console=Console(stderr=True),
                transient=True,
            )
            self._task = self._bar.add_task("", total=1000)
            self._bar.start()
        self._bar.update(self._task, completed=1000 * state.share, description=line(state))
