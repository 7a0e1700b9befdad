"""Hashing rows in a second process while this one decodes and encodes the next batch.

Invariants:
    * The helper only ever saves time: whatever goes wrong with it, the rows are hashed here, and digests are the same.
    * A record key reaches the helper through its input, never through its arguments or environment.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from cognify_dagster.datasets.records import row_worker
from cognify_dagster.datasets.records.row_worker import hash_rows

HELPED_ROWS = 200_000
"""Below so many rows starting a process costs more than it saves."""


class RowHasher:
    """Hashes batches of rows, one after the other, in a helper process where that is possible.

    Args:
        secret: the record key, for HMAC-SHA256.
        helped: start the helper; without it everything is done at once, here.
    """

    def __init__(self, secret: bytes | None, *, helped: bool) -> None:
        self._secret = secret
        self._process: subprocess.Popen[bytes] | None = None
        self._pool: ThreadPoolExecutor | None = None
        if helped and (os.cpu_count() or 1) > 1:
            self._process = _start(secret)
        if self._process is not None:
            self._pool = ThreadPoolExecutor(1, thread_name_prefix="cognify-row-hasher")

    @property
    def helped(self) -> bool:
        """Whether a helper is at work."""
        return self._process is not None

    def submit(self, bounds: memoryview, data: memoryview) -> Callable[[], bytes]:
        """Begin to hash a batch; what is returned gives its digests, 32 bytes a row, waiting for them if need be."""
        if self._pool is None:
            digests = hash_rows(bounds, data, self._secret)
            return lambda: digests
        future: Future[bytes] = self._pool.submit(self._ask, bounds, data)
        return future.result

    def _ask(self, bounds: memoryview, data: memoryview) -> bytes:
        process = self._process
        if process is not None and process.stdin is not None and process.stdout is not None:
            rows = len(bounds) - 1
            first, past = bounds[0], bounds[rows]
            moved = bounds if first == 0 else memoryview(_shifted(bounds, first))
            try:
                process.stdin.write(rows.to_bytes(8, sys.byteorder) + (past - first).to_bytes(8, sys.byteorder))
                process.stdin.write(moved.cast("B"))
                process.stdin.write(data[first:past])
                process.stdin.flush()
                found = process.stdout.read(32 * rows)
                if len(found) == 32 * rows:
                    return found
            except OSError:
                pass
            self._stop()
        return hash_rows(bounds, data, self._secret)

    def _stop(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def close(self) -> None:
        """Finish what was begun and end the helper."""
        if self._pool is not None:
            self._pool.shutdown(wait=True)
            self._pool = None
        self._stop()


def _shifted(bounds: memoryview, first: int) -> bytes:
    from array import array

    return array("q", [bound - first for bound in bounds]).tobytes()


def _start(secret: bytes | None) -> subprocess.Popen[bytes] | None:
    if not sys.executable:
        return None
    try:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(row_worker.__file__))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        if process.stdin is not None:
            process.stdin.write(b"\x00" if secret is None else b"\x01" + secret)
            process.stdin.flush()
    except OSError:
        return None
    return process
