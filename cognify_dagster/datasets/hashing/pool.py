"""Worker processes for small files, and one loop that feeds them.

Invariants:
    * Workers are started from the interpreter itself with a module that imports nothing of the caller's program, so
      there is no fork of a threaded process and no second run of the caller's main module.
    * What a worker that died, hung at its start or answered nonsense had to do is done again in this process: a lost
      worker costs time, never a file.
    * Neither side can block the other: this side reads and writes without waiting.
"""

from __future__ import annotations

import os
import selectors
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from cognify_dagster.datasets.hashing import hash_worker
from cognify_dagster.datasets.hashing.hash_worker import Answer, Group

_DEPTH = 2  # a batch in work and one waiting, so that no worker waits for this process
_START_SECONDS = 20.0
_START = "import sys; sys.path.append({folder!r}); import hash_worker; hash_worker.main()"


@dataclass(frozen=True)
class Batch:
    """Files that are looked at together; ``first`` is the number of the first of them."""

    first: int
    count: int
    groups: Sequence[Group]
    alone: bool = False  # too long a path for a pipe, or another name to open


@dataclass
class _Worker:
    process: subprocess.Popen[bytes]
    pending: deque[Batch] = field(default_factory=deque)
    out: bytearray = field(default_factory=bytearray)
    got: bytearray = field(default_factory=bytearray)
    greeted: bool = False

    @property
    def input(self) -> int:
        assert self.process.stdin is not None
        return self.process.stdin.fileno()

    @property
    def output(self) -> int:
        assert self.process.stdout is not None
        return self.process.stdout.fileno()


def processors() -> int:
    """Processors that this process may use."""
    try:
        return max(1, len(os.sched_getaffinity(0)))
    except AttributeError:  # not on every system
        return max(1, os.cpu_count() or 1)


def can_start() -> bool:
    """Whether this interpreter can start another one like itself."""
    return (
        os.name == "posix"
        and not getattr(sys, "frozen", False)
        and "python" in os.path.basename(sys.executable or "").lower()
        and os.path.isfile(sys.executable)
    )


class Pool:
    """Worker processes over one root descriptor; use it inside ``with``.

    Args:
        root: descriptor of the source's folder.
        count: how many workers.
        limit: files above so many bytes are reported back as large.
        here: hashes a batch in this process.
    """

    def __init__(self, root: int, count: int, limit: int, here: Callable[[Batch], Answer]) -> None:
        self._here = here
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self.lost = 0
        code = _START.format(folder=os.path.dirname(os.path.abspath(hash_worker.__file__)))
        words = [sys.executable, "-I", "-S", "-c", code, str(root), str(limit)]
        for _ in range(count):
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    pass_fds=(root,),
                    bufsize=0,
                )
            except OSError:
                self.lost += 1
                continue
            worker = _Worker(process)
            for fd in (worker.input, worker.output):
                os.set_blocking(fd, False)
            self._workers.append(worker)
            self._selector.register(worker.output, selectors.EVENT_READ, worker)

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in list(self._workers):
            self._stop(worker)
        self._selector.close()

    def _stop(self, worker: _Worker) -> None:
        self._workers.remove(worker)
        for fd in (worker.input, worker.output):
            with suppress(KeyError, ValueError):
                self._selector.unregister(fd)
        worker.process.kill()
        for stream in (worker.process.stdin, worker.process.stdout):
            if stream:
                with suppress(OSError):
                    stream.close()
        worker.process.wait()

    def _lose(self, worker: _Worker) -> Iterator[tuple[Batch, Answer]]:
        self.lost += 1
        self._stop(worker)
        for batch in worker.pending:
            yield batch, self._here(batch)

    def run(self, batches: Iterator[Batch]) -> Iterator[tuple[Batch, Answer]]:
        """Answers to all batches, in any order. Listing goes on while the workers are busy."""
        waiting: deque[Batch] = deque()
        more = True
        while True:
            if more:
                batch = next(batches, None)
                if batch is None:
                    more = False
                elif batch.alone:
                    yield batch, self._here(batch)
                else:
                    waiting.append(batch)
            if waiting and not self._workers:
                batch = waiting.popleft()
                yield batch, self._here(batch)
                continue
            for worker in self._workers:
                while waiting and len(worker.pending) < _DEPTH:
                    self._send(worker, waiting.popleft())
            if not more and not waiting and not any(worker.pending for worker in self._workers):
                return
            events = self._selector.select(0 if more else _START_SECONDS)
            for key, mask in events:
                worker = key.data
                if worker in self._workers:
                    yield from self._serve(worker, mask)
            if not events and not more:
                for worker in [item for item in self._workers if item.pending and not item.greeted]:
                    yield from self._lose(worker)

    def _send(self, worker: _Worker, batch: Batch) -> None:
        worker.pending.append(batch)
        worker.out += hash_worker.pack_request(batch.first & 0xFFFFFFFF, batch.groups)
        self._push(worker)

    def _push(self, worker: _Worker) -> None:
        try:
            while worker.out:
                del worker.out[: os.write(worker.input, worker.out)]
        except BlockingIOError:
            pass
        except OSError:
            worker.out.clear()  # it is gone; reading from it will show that
        registered = worker.input in self._selector.get_map()
        if worker.out and not registered:
            self._selector.register(worker.input, selectors.EVENT_WRITE, worker)
        elif not worker.out and registered:
            self._selector.unregister(worker.input)

    def _serve(self, worker: _Worker, mask: int) -> Iterator[tuple[Batch, Answer]]:
        if mask & selectors.EVENT_WRITE:
            self._push(worker)
            return
        try:
            data = os.read(worker.output, 1 << 20)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            yield from self._lose(worker)
            return
        worker.got += data
        try:
            answers = list(self._frames(worker))
        except ValueError:
            yield from self._lose(worker)
            return
        for batch in list(worker.pending)[: len(answers)]:
            worker.pending.popleft()
            yield batch, answers.pop(0)

    def _frames(self, worker: _Worker) -> Iterator[Answer]:
        if not worker.greeted:
            if len(worker.got) < len(hash_worker.MAGIC):
                return
            if not worker.got.startswith(hash_worker.MAGIC):
                raise ValueError("this is not one of our workers")
            del worker.got[: len(hash_worker.MAGIC)]
            worker.greeted = True
        for batch in list(worker.pending):
            if len(worker.got) < hash_worker.FRAME_SIZE:
                return
            number, length = hash_worker.unpack_frame(worker.got)
            if number != batch.first & 0xFFFFFFFF or length > batch.count * 256:
                raise ValueError("the answer of a worker is out of order")
            end = hash_worker.FRAME_SIZE + length
            if len(worker.got) < end:
                return
            yield hash_worker.unpack_answer(bytes(worker.got[hash_worker.FRAME_SIZE : end]), batch.count)
            del worker.got[:end]
