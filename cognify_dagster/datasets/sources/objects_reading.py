"""Reading and hashing many objects at a time.

Large objects are read in ranges of 8 MiB, which are the chunks of their digest. Every range is asked for with the version id or
ETag of the listing, so all parts of an object belong to one version or the snapshot fails.

Invariants:
    * A digest counts only if as many bytes came as the listing said, from the version that was listed.
    * At most ``MAX_IN_FLIGHT`` bytes, or one object of unknown size, wait in memory beside what consumers hold.
    * After an error, or when the consumer stops, no request is started, and all threads have ended before the error is raised.
"""

from __future__ import annotations

import queue
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.sources.objects_errors import classify, object_changed, object_failed
from cognify_dagster.datasets.tree import CHUNK_SIZE, FileKind, FileLeaf, digest_from_chunks, show_path

THREADS = 16
MOST_THREADS = 64
MAX_IN_FLIGHT = 128 * 1024 * 1024
ATTEMPTS = 7
BACKOFF_S = 0.2
MAX_BACKOFF_S = 8.0
_SLOW_S = 0.025
_BATCH = 32
_BATCH_S = 0.1

Chunk = tuple[int, bytes]
"""Length and SHA-256 of a chunk."""


@dataclass(frozen=True)
class Part:
    """One request: a whole object, or one range of it.

    Attributes:
        index: place of the object in the caller's list.
        found: the object.
        number: chunk number.
        start, length: the range in bytes; a negative length stands for a whole object of unknown size.
        whole: the range is the whole object.
    """

    index: int
    found: Found
    number: int
    start: int
    length: int
    whole: bool


class Reader(Protocol):
    """Fetches parts.

    Attributes:
        location: for messages.
        ranges: whether large objects can be fetched in ranges, many at a time.
    """

    location: str
    ranges: bool

    def chunks(self, part: Part) -> list[Chunk]:
        """The digests of a part's chunks.

        Raises:
            Exception: any of the client's; :class:`SourceChangedError` where the object is not the listed one.
        """

    def fetch(self, part: Part) -> bytes:
        """The bytes of a part."""


def parts_of(index: int, found: Found, ranges: bool = True) -> Iterator[Part]:
    """The requests for one object."""
    if found.size <= CHUNK_SIZE or not ranges:
        yield Part(index, found, 0, 0, found.size, True)
        return
    for number, start in enumerate(range(0, found.size, CHUNK_SIZE)):
        yield Part(index, found, number, start, min(CHUNK_SIZE, found.size - start), False)


class Joiner:
    """Puts the chunks of an object together; holds only objects that have begun."""

    def __init__(self, location: str) -> None:
        self._location = location
        self._open: dict[int, dict[int, list[Chunk]]] = {}

    def add(self, part: Part, chunks: list[Chunk]) -> FileLeaf | None:
        found = part.found
        if not part.whole:
            held = self._open.setdefault(part.index, {})
            held[part.number] = chunks
            if len(held) * CHUNK_SIZE < found.size:
                return None
            del self._open[part.index]
            chunks = [chunk for number in sorted(held) for chunk in held[number]]
        size = sum(length for length, _ in chunks)
        if found.size not in (-1, size):
            raise object_changed(
                self._location, show_path(found.path), f"has {size} bytes, the listing said {found.size}"
            )
        algorithm, digest = digest_from_chunks([chunk for chunk in chunks if chunk[0]])
        return FileLeaf(found.path, FileKind.FILE, size, algorithm, digest)


class Attempts:
    """Repeats requests that a store could not answer, with growing random pauses, until ``stop`` is set."""

    def __init__(self, location: str, stop: threading.Event | None = None) -> None:
        self._location, self._stop = location, stop or threading.Event()

    def run(self, found: Found, work: Callable[[], Any]) -> Any:
        """Run ``work``; what cannot be repeated, or was often enough, becomes an error of this room."""
        try:
            return self.ask(work)
        except DatasetError:
            raise
        except Exception as exc:
            # No exception chain: messages of clients can hold signed addresses.
            raise object_failed(self._location, show_path(found.path), classify(exc)) from None

    def ask(self, work: Callable[[], Any]) -> Any:
        """Run ``work``, and again where that can help; the last exception is the client's own."""
        for attempt in range(ATTEMPTS):
            try:
                return work()
            except DatasetError:
                raise
            except Exception as exc:
                if not classify(exc).retry or attempt + 1 == ATTEMPTS or self._stop.is_set():
                    raise
                self._stop.wait(pause(attempt))
        raise AssertionError("unreachable")  # pragma: no cover


def pause(attempt: int) -> float:
    """Seconds to wait after a failed attempt: exponential with full jitter, so that clients do not return all at once."""
    return random.uniform(0.25, 1.0) * min(MAX_BACKOFF_S, BACKOFF_S * 2**attempt)  # noqa: S311 - no secret


class _Budget:
    """Bytes that may be in flight; a part larger than all of it goes alone."""

    def __init__(self, limit: int) -> None:
        self._limit, self._used, self._turn = limit, 0, threading.Condition()

    def take(self, size: int, stop: threading.Event) -> None:
        with self._turn:
            while self._used and self._used + size > self._limit and not stop.is_set():
                self._turn.wait(0.2)
            self._used += size

    def give(self, size: int) -> None:
        with self._turn:
            self._used -= size
            self._turn.notify()


def hash_in_threads(reader: Reader, found: Sequence[Found]) -> Iterator[tuple[int, FileLeaf]]:
    """Index and leaf of each object, in the order in which they become ready.

    Starts with 16 threads, and takes up to 64 where answers take long, as they do from a store far away.

    Raises:
        SourceError: an object cannot be read or is not the listed one.
    """
    stop = threading.Event()
    attempts, joiner, budget = Attempts(reader.location, stop), Joiner(reader.location), _Budget(MAX_IN_FLIGHT)
    todo = (part for index, item in enumerate(found) for part in parts_of(index, item, reader.ranges))
    lock = threading.Lock()
    done: queue.Queue[list[tuple[Part, list[Chunk]]] | BaseException | None] = queue.Queue(4 * MOST_THREADS)

    def put(value: list[tuple[Part, list[Chunk]]] | BaseException | None) -> None:
        while not stop.is_set():
            with suppress(queue.Full):
                done.put(value, timeout=0.2)
                return

    def work() -> None:
        batch: list[tuple[Part, list[Chunk]]] = []
        flushed = time.monotonic()
        try:
            while not stop.is_set():
                with lock:
                    part = next(todo, None)
                if part is None:
                    break
                size = CHUNK_SIZE if part.length < 0 else min(part.length, CHUNK_SIZE)
                budget.take(size, stop)
                try:
                    if stop.is_set():
                        break
                    batch.append((part, attempts.run(part.found, lambda part=part: reader.chunks(part))))  # type: ignore[misc]
                finally:
                    budget.give(size)
                now = time.monotonic()
                if len(batch) >= _BATCH or now - flushed > _BATCH_S:
                    put(batch)
                    batch, flushed = [], now
            if batch:
                put(batch)
        except BaseException as exc:
            put(exc)
        else:
            put(None)

    threads: list[threading.Thread] = []

    def start(count: int) -> None:
        for _ in range(count):
            thread = threading.Thread(target=work, name="cognify-objects", daemon=True)
            threads.append(thread)
            thread.start()

    began, requests, volume, ended = time.monotonic(), 0, 0, 0
    wanted = sum(max(1, -(-item.size // CHUNK_SIZE)) if reader.ranges else 1 for item in found)
    try:
        start(max(1, min(THREADS, wanted)))
        while ended < len(threads):
            got = done.get()
            if got is None:
                ended += 1
                continue
            if isinstance(got, BaseException):
                raise got
            requests += len(got)
            volume += sum(length for _, chunks in got for length, _ in chunks)
            if THREADS <= len(threads) < MOST_THREADS and ended == 0 and requests > 4 * len(threads):
                # mean time of an answer = threads × time ÷ requests; where bytes are many, more threads bring nothing
                if volume < requests << 20 and len(threads) * (time.monotonic() - began) > _SLOW_S * requests:
                    start(min(THREADS, MOST_THREADS - len(threads)))
                began, requests, volume = time.monotonic(), 0, 0
            for part, chunks in got:
                leaf = joiner.add(part, chunks)
                if leaf is not None:
                    yield part.index, leaf
    finally:
        stop.set()
        for thread in threads:
            thread.join()
