"""Hashes checkpoints beside the training, and is done with one before the Trainer may delete it.

`save_total_limit` makes the Trainer delete older checkpoints while it writes the next one. So a checkpoint is hashed on a thread of its
own (SHA-256 releases the interpreter's lock), and `join` is called before another checkpoint is written, before training ends and
before the record is completed. Nothing that was handed over is lost: what could not be hashed is named in `problems`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from cognify_dagster.training import SealedError


class Background:
    """One worker thread for hashing. A job's error never reaches the training; it is kept by the job's name."""

    def __init__(self) -> None:
        self._pool: ThreadPoolExecutor | None = None
        self._open: list[Future[None]] = []
        self._lock = threading.Lock()
        self.problems: dict[str, str] = {}

    def submit(self, name: str, job: Callable[[], object]) -> None:
        """Do a job later, in order."""

        def run() -> None:
            try:
                job()
            except SealedError:
                raise
            except Exception as error:
                self.problems[name] = f"{type(error).__name__}: {error}"[:1000]

        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="cognify-hash")
            self._open.append(self._pool.submit(run))

    def join(self) -> None:
        """Wait until everything handed over so far is done."""
        with self._lock:
            waiting, self._open = self._open, []
        for future in waiting:
            future.result()

    def close(self) -> None:
        """Wait and end the thread."""
        self.join()
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)
