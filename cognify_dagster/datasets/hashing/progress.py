"""How far a snapshot is: files, bytes, rate and time left."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``; stages are ``hash`` (files) and ``read`` (table files). The total grows while a
source is still being listed. One that also has a method ``report`` is given a :class:`ProgressState` before each call."""


@dataclass(frozen=True)
class ProgressState:
    """One moment of a stage.

    Attributes:
        stage: ``hash`` or ``read``.
        files, total_files: files done, and files found so far.
        bytes: bytes looked at.
        total_bytes: bytes of all files, where that is known.
        seconds: since the stage began.
    """

    stage: str
    files: int
    total_files: int
    bytes: int
    total_bytes: int | None
    seconds: float

    @property
    def rate(self) -> float:
        """Bytes a second so far."""
        return self.bytes / self.seconds if self.seconds > 0 else 0.0

    @property
    def share(self) -> float:
        """The part that is done, by bytes where their number is known, else by files."""
        if self.total_bytes:
            return min(1.0, self.bytes / self.total_bytes)
        return self.files / self.total_files if self.total_files else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Estimate of the seconds left; None at the very start."""
        return self.seconds / self.share - self.seconds if self.share > 0 else None


@runtime_checkable
class Reporting(Protocol):
    """A progress callable that also wants bytes and times."""

    def report(self, state: ProgressState) -> None:
        """Take notice of a moment."""


class Meter:
    """Counts, and passes what it counted to the caller's callable (which may be None)."""

    def __init__(self, progress: Progress | None, stage: str = "hash") -> None:
        self._progress, self._stage = progress, stage
        self._started = time.monotonic()
        self.files = self.total_files = self.bytes = 0
        self.total_bytes: int | None = None

    def add(self, files: int, size: int) -> None:
        """So many files and bytes more are done."""
        self.files += files
        self.bytes += size
        progress = self._progress
        if progress is None:
            return
        if isinstance(progress, Reporting):
            seconds = time.monotonic() - self._started
            progress.report(
                ProgressState(self._stage, self.files, self.total_files, self.bytes, self.total_bytes, seconds)
            )
        if files:
            progress(self._stage, self.files, self.total_files)
