"""Files that are worth a thread, or several: 8 MiB chunks are hashed side by side.

Invariant: a digest counts only if the file's stat was the same before and after, and the chunks together are as long as its
size says.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cognify_dagster.datasets.errors import SourceChangedError, SourceError
from cognify_dagster.datasets.hashing import hash_worker
from cognify_dagster.datasets.hashing.hash_worker import (
    BUFFER,
    FILE_FLAGS,
    HEAD_SIZE,
    NO_KEY,
    leaf_hash,
    open_folder,
    stat_key,
)
from cognify_dagster.datasets.hashing.progress import Meter
from cognify_dagster.datasets.tree import CHUNK_SIZE, FileKind, digest_from_chunks, show_path

if TYPE_CHECKING:
    from cognify_dagster.datasets.sources.local import LocalSource

_ATTEMPTS = 2
_TASK_BYTES = 4 * 1024 * 1024
_own = threading.local()

Result = tuple[int, bytes, bytes]
"""Size, head and stat key of a file."""


@dataclass(frozen=True)
class LargeFile:
    """A file to hash: its number in the listing, where it is, its size as seen first, and its stat key if it has several links."""

    number: int
    folder: bytes
    name: bytes
    size: int
    key: bytes = NO_KEY

    @property
    def path(self) -> bytes:
        """Its path below the root."""
        return self.folder + b"/" + self.name if self.folder else self.name


def hash_large(
    root: int, source: LocalSource, files: Sequence[LargeFile], threads: int, meter: Meter
) -> dict[int, Result]:
    """Hash large files, hard links to one file once; return the results by number.

    Raises:
        SourceError: one cannot be read.
        SourceChangedError: one changed while it was read, twice in a row.
    """
    if not files:
        return {}
    meter.total_bytes = meter.bytes + sum(file.size for file in files)
    out: dict[int, Result] = {}
    files, links = _once(files)
    whole = [file for file in files if file.size <= CHUNK_SIZE]
    with ThreadPoolExecutor(threads, thread_name_prefix="hash") as pool:
        try:
            pending = [pool.submit(_hash_some, root, source, part) for part in _parts(whole)]
            for future in as_completed(pending):
                for file, result in future.result():
                    out[file.number] = result
                    meter.add(1, result[0])
            for file in files:
                if file.size > CHUNK_SIZE:
                    out[file.number] = _hash_one(root, source, file, pool, meter)
                    meter.add(1, 0)
            for link, first in links:
                known = out[first.number]
                # a key that is another one by now: somebody wrote in between, so this path is read for itself
                same = known[2] == link.key
                out[link.number] = _under(link.path, known) if same else _hash_one(root, source, link, None, None)
                meter.add(1, out[link.number][0])
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return out


def _once(files: Sequence[LargeFile]) -> tuple[list[LargeFile], list[tuple[LargeFile, LargeFile]]]:
    """The files to read, and the further links to some of them, each with the one that is read."""
    first: dict[bytes, LargeFile] = {}
    wanted: list[LargeFile] = []
    links: list[tuple[LargeFile, LargeFile]] = []
    for file in files:
        known = first.setdefault(file.key, file) if file.key != NO_KEY else file
        if known is file:
            wanted.append(file)
        else:
            links.append((file, known))
    return wanted, links


def _under(path: bytes, known: Result) -> Result:
    """The result of a file under another path."""
    size, head, key = known
    digest, algorithm = head[32:64], head[HEAD_SIZE - 1]
    return size, leaf_hash(path, size, algorithm, digest) + head[32:], key


def _parts(files: Sequence[LargeFile]) -> Iterator[list[LargeFile]]:
    part: list[LargeFile] = []
    size = 0
    for file in files:
        part.append(file)
        size += file.size
        if size >= _TASK_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def _hash_some(root: int, source: LocalSource, files: Sequence[LargeFile]) -> list[tuple[LargeFile, Result]]:
    return [(file, _hash_one(root, source, file, None, None)) for file in files]


def _buffer() -> memoryview:
    view: memoryview | None = getattr(_own, "view", None)
    if view is None:
        view = _own.view = memoryview(bytearray(BUFFER))
    return view


def _range(fd: int, start: int) -> tuple[int, bytes]:
    return hash_worker.hash_range(fd, start, CHUNK_SIZE, _buffer())


@contextmanager
def _open(root: int, source: LocalSource, file: LargeFile) -> Iterator[int]:
    folder = open_folder(root, file.folder)
    try:
        fd = os.open(source.alias or file.name, FILE_FLAGS, dir_fd=folder)
    finally:
        os.close(folder)
    try:
        yield fd
    finally:
        os.close(fd)


def _hash_one(root: int, source: LocalSource, file: LargeFile, pool: Executor | None, meter: Meter | None) -> Result:
    shown = show_path(file.path)
    try:
        for _ in range(_ATTEMPTS):
            with _open(root, source, file) as fd:
                before = os.fstat(fd)
                if not stat.S_ISREG(before.st_mode):
                    raise SourceChangedError(f"{shown} in source {source.location} is no longer a file")
                starts = range(0, max(before.st_size, 1), CHUNK_SIZE)
                chunks = _in_turn(fd, starts) if pool is None else _side_by_side(fd, starts, pool, meter)
                after = os.fstat(fd)
            chunks = [chunk for chunk in chunks if chunk[0]]
            size = sum(length for length, _ in chunks)
            if size == before.st_size and stat_key(before) == stat_key(after):
                algorithm, digest = digest_from_chunks(chunks)
                head = leaf_hash(file.path, size, algorithm, digest) + digest + bytes((FileKind.FILE, algorithm))
                return size, head, stat_key(before)
    except OSError as error:
        raise SourceError(
            f"file {shown} in source {source.location} cannot be read: {error.strerror}; make it readable, or take the "
            "snapshot when nothing else changes the source"
        ) from error
    raise SourceChangedError(
        f"file {shown} in source {source.location} changed while it was read; take the snapshot when nothing writes to it"
    )


def _in_turn(fd: int, starts: range) -> list[tuple[int, bytes]]:
    return [_range(fd, start) for start in starts]


def _side_by_side(fd: int, starts: range, pool: Executor, meter: Meter | None) -> list[tuple[int, bytes]]:
    pending: list[Future[tuple[int, bytes]]] = [pool.submit(_range, fd, start) for start in starts]
    chunks = []
    try:
        for future in pending:
            chunks.append(future.result())
            if meter:
                meter.add(0, chunks[-1][0])
    except BaseException:
        for future in pending:
            future.cancel()
        for future in pending:  # the descriptor may be closed only when nobody reads from it any more
            if not future.cancelled():
                future.exception()
        raise
    return chunks
