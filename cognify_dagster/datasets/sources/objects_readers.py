"""The three ways to read an object: through obstore, through the client of s3fs, and as a stream of any fsspec filesystem.

Invariants:
    * Where the listing named a version or ETag, the request does too, and the answer's own size, ETag and version are compared with
      the listing as well: a store may not know conditional requests.
"""

from __future__ import annotations

import asyncio
import hashlib
import queue
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError, SourceError
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.sources.objects_errors import classify, object_changed, object_failed
from cognify_dagster.datasets.sources.objects_reading import (
    ATTEMPTS,
    MOST_THREADS,
    Chunk,
    Joiner,
    Part,
    Reader,
    parts_of,
    pause,
)
from cognify_dagster.datasets.tree import CHUNK_SIZE, FileLeaf, show_path

if TYPE_CHECKING:
    from obstore import GetOptions

#: Requests at a time on an event loop, to begin with; as many more are added while it is busy for less than this share of the time.
_TASKS, _BUSY = 8, 0.6


class ObstoreReader:
    """Reads through obstore.

    Args:
        store: the obstore store.
        location: for messages.
        key_of: full key of a listed object.
        other: reads keys that obstore cannot name (with control characters or empty parts).
    """

    ranges = True

    def __init__(self, store: Any, location: str, key_of: Callable[[Found], str], other: Reader | None) -> None:
        import obstore

        self.location = location
        self._get, self._store, self._key_of, self._other = obstore.get, store, key_of, other

    def fetch(self, part: Part) -> Any:
        """The bytes of a part, as an object with the buffer protocol."""
        found = part.found
        key = self._key_of(found)
        if not nameable(key):
            if self._other is None:
                raise SourceError(
                    f"object {show_path(found.path)} in source {self.location} has a key that obstore cannot name"
                )
            return self._other.fetch(part)
        options: GetOptions = {}
        if found.version_id:
            options["version"] = found.version_id
        elif found.etag:
            options["if_match"] = f'"{found.etag}"'
        if not part.whole:
            options["range"] = (part.start, part.start + part.length)
        result = self._get(self._store, key, options=options) if options else self._get(self._store, key)
        meta = result.meta
        etag = (meta["e_tag"] or "").removeprefix("W/").strip('"')
        check_answer(self.location, found, meta["size"], etag, meta["version"] or "")
        return result.bytes()

    def chunks(self, part: Part) -> list[Chunk]:
        """The digest of a part, which is one chunk."""
        data = self.fetch(part)
        return [(len(data), hashlib.sha256(data).digest())]


def nameable(key: str) -> bool:
    """Whether obstore can name a key."""
    return (
        "//" not in key
        and not key.startswith("/")
        and key.isprintable()
        and all(piece not in ("", ".", "..") for piece in key.split("/"))
    )


def check_answer(location: str, found: Found, size: int, etag: str, version: str) -> None:
    """Compare what an answer says about itself with the listing: a store may not know conditional requests.

    Raises:
        SourceChangedError: it is another object.
    """
    if (
        found.size not in (-1, size)
        or (found.etag and etag and etag != found.etag)
        or (found.version_id and version and version != found.version_id)
    ):
        raise object_changed(location, show_path(found.path), "was replaced after it was listed")


class StreamReader:
    """Reads through any fsspec filesystem, each object as one stream. Size and, where there is one, ETag are checked at the end."""

    ranges = False

    def __init__(self, fs: Any, location: str, key_of: Callable[[Found], str]) -> None:
        self.location = location
        self._fs, self._key_of = fs, key_of

    def chunks(self, part: Part) -> list[Chunk]:
        """The digests of all chunks of an object."""
        chunks: list[Chunk] = []
        total = 0
        with self._fs.open(self._key_of(part.found), "rb") as file:
            while not chunks or chunks[-1][0] == CHUNK_SIZE:
                length, hasher = 0, hashlib.sha256()
                while length < CHUNK_SIZE and (piece := file.read(CHUNK_SIZE - length)):
                    hasher.update(piece)
                    length += len(piece)
                chunks.append((length, hasher.digest()))
                total += length
                if 0 <= part.length < total:
                    break
        self._check(part.found)
        return chunks

    def _check(self, found: Found) -> None:
        if found.etag:
            info = self._fs.info(self._key_of(found))
            check_answer(self.location, found, found.size, strong_etag(info), "")

    def fetch(self, part: Part) -> bytes:
        """The bytes of a part that starts at the beginning."""
        with self._fs.open(self._key_of(part.found), "rb") as file:
            data = bytes(file.read(part.length))
        self._check(part.found)
        return data


def strong_etag(info: Mapping[str, Any]) -> str:
    """The ETag in what fsspec knows about a file; a weak one does not stand for equal bytes and counts as none."""
    etag = str(info.get("ETag") or info.get("etag") or "")
    return "" if etag.startswith("W/") else etag.strip('"')


class S3fsReader:
    """Reads through the client that s3fs holds: one request an object, where ``cat`` and ``open`` of s3fs make two."""

    ranges = True

    def __init__(self, fs: Any, bucket: str, location: str, key_of: Callable[[Found], str]) -> None:
        self.location = location
        self._fs, self._bucket, self._key_of = fs, bucket, key_of

    async def _client(self) -> Any:
        await self._fs.set_session()
        return await self._fs.get_s3(self._bucket)

    async def _get(self, client: Any, part: Part) -> bytes:
        found = part.found
        more: dict[str, Any] = dict(self._fs.req_kw)
        if found.version_id:
            more["VersionId"] = found.version_id
        elif found.etag:
            more["IfMatch"] = f'"{found.etag}"'
        if not part.whole:
            more["Range"] = f"bytes={part.start}-{part.start + part.length - 1}"
        if self._fs.s3_additional_kwargs:
            more |= {
                name: value for name, value in self._fs.s3_additional_kwargs.items() if name.startswith("SSECustomer")
            }
        answer = await client.get_object(Bucket=self._bucket, Key=self._key_of(found), **more)
        body = answer["Body"]
        try:
            size = int(answer["ContentLength"])
            if not part.whole:
                size = int(str(answer.get("ContentRange", "")).rpartition("/")[2] or -2)
            etag = str(answer.get("ETag", "")).removeprefix("W/").strip('"')
            check_answer(self.location, found, size, etag, str(answer.get("VersionId", "")))
            data = await body.read()
        finally:
            body.close()
        if part.length not in (-1, len(data)):
            raise ConnectionResetError("the answer is shorter than it said")
        return data  # type: ignore[no-any-return]

    def fetch(self, part: Part) -> bytes:
        """The bytes of a part."""
        from fsspec.asyn import sync

        async def one() -> bytes:
            return await self._get(await self._client(), part)

        return sync(self._fs.loop, one)  # type: ignore[no-any-return]

    def chunks(self, part: Part) -> list[Chunk]:
        """The digest of a part, which is one chunk."""
        data = self.fetch(part)
        return [(len(data), hashlib.sha256(data).digest())]

    def hash(self, found: Sequence[Found]) -> Iterator[tuple[int, FileLeaf]]:
        """As :func:`hash_in_threads`, on the event loop of fsspec: threads would only wait for it."""
        joiner = Joiner(self.location)
        todo = (part for index, item in enumerate(found) for part in parts_of(index, item))
        ready: queue.SimpleQueue[tuple[Part, list[Chunk]] | BaseException | None] = queue.SimpleQueue()
        stop, settled = threading.Event(), threading.Event()

        async def work(client: Any, turn: asyncio.Semaphore) -> None:
            loop = asyncio.get_running_loop()
            for part in todo:  # the loop runs one of us at a time, so each part goes to one
                while ready.qsize() > 16 * MOST_THREADS:
                    await asyncio.sleep(0.01)
                if part.length > 1 << 20:
                    async with turn:
                        data = await self._repeat(client, part, stop)
                        digest = await loop.run_in_executor(None, lambda data=data: hashlib.sha256(data).digest())  # type: ignore[misc]
                else:
                    data = await self._repeat(client, part, stop)
                    digest = hashlib.sha256(data).digest()
                ready.put((part, [(len(data), digest)]))

        async def run() -> None:
            tasks: list[asyncio.Task[None]] = []
            try:
                client = await self._client()
                turn = asyncio.Semaphore(8)
                most = min(MOST_THREADS, len(found))
                tasks = [asyncio.ensure_future(work(client, turn)) for _ in range(min(_TASKS, most))]
                while not all(task.done() for task in tasks):
                    began = time.monotonic(), time.thread_time()
                    await asyncio.wait(tasks, timeout=0.1, return_when=asyncio.FIRST_EXCEPTION)
                    if any(task.done() for task in tasks):
                        break  # there is nothing left to begin, or an error
                    busy = (time.thread_time() - began[1]) / (time.monotonic() - began[0])
                    if (
                        busy < _BUSY
                    ):  # the loop waits for answers, as it does of a store far away: ask for more at a time
                        more = min(_TASKS, most - len(tasks))
                        tasks += [asyncio.ensure_future(work(client, turn)) for _ in range(more)]
                await asyncio.gather(*tasks)
            except Exception as exc:
                ready.put(exc)
            else:
                ready.put(None)
            finally:
                for task in tasks:
                    task.cancel()
                try:
                    await asyncio.gather(*tasks, return_exceptions=True)
                finally:
                    settled.set()

        running = asyncio.run_coroutine_threadsafe(run(), self._fs.loop)
        try:
            while (got := ready.get()) is not None:
                if isinstance(got, BaseException):
                    raise got
                leaf = joiner.add(*got)
                if leaf is not None:
                    yield got[0].index, leaf
        finally:
            stop.set()
            if not settled.wait(0.05):
                running.cancel()
                settled.wait(60)

    async def _repeat(self, client: Any, part: Part, stop: threading.Event) -> bytes:
        for attempt in range(ATTEMPTS):
            try:
                return await self._get(client, part)
            except DatasetError:
                raise
            except Exception as exc:
                failure = classify(exc)
                # what botocore understands as throttling it has repeated itself
                if not failure.retry or hasattr(exc, "response") or attempt + 1 == ATTEMPTS or stop.is_set():
                    raise object_failed(self.location, show_path(part.found.path), failure) from None
                await asyncio.sleep(pause(attempt))
        raise AssertionError("unreachable")  # pragma: no cover
