"""Hashing any source: local files by processes and threads, remote ones as their provider allows, a table not at all."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cognify_dagster.datasets.errors import DatasetError, SilentChangeError
from cognify_dagster.datasets.hashing.assembling import HashedFiles
from cognify_dagster.datasets.hashing.hash_worker import HEAD_SIZE, NO_KEY
from cognify_dagster.datasets.hashing.index import (
    IndexScope,
    NotAnIndexError,
    StatIndex,
    UnusableIndexError,
    index_bytes,
    read_index,
    write_index,
)
from cognify_dagster.datasets.hashing.packed import FolderFiles, Level, PackedFiles
from cognify_dagster.datasets.hashing.progress import Meter, Progress
from cognify_dagster.datasets.hashing.run import hash_local
from cognify_dagster.datasets.hashing.verifying import Verify
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found, LocalSource
from cognify_dagster.datasets.sources.remote import RemoteSource
from cognify_dagster.datasets.tree import FileLeaf, show_path

_REMOTE_THREADS = 16


@dataclass
class IndexUse:
    """An index that a run may use and will renew.

    Attributes:
        path: where it lies, or None.
        scope: what it has to be about.
        digest: SHA-256 in hex that it has to have, if the caller holds one.
        found: the index, if there is one that can be used.
        notes: why not, in plain sentences.
        written: SHA-256 in hex of the index as it lies there after the run, or None.
    """

    path: Path | None
    scope: IndexScope
    digest: str | None = None
    found: StatIndex | None = None
    notes: list[str] = field(default_factory=list)
    written: str | None = None

    def load(self) -> None:
        """Read the index; one that cannot be used leaves a note."""
        if self.path is None:
            return
        try:
            self.found = read_index(self.path, self.scope, self.digest)
        except UnusableIndexError as error:
            self.notes.append(f"the stat index {self.path} was not used, so every file was read: {error}")
            if isinstance(error, NotAnIndexError):
                self.path = None
        if self.found is not None:
            self.written = self.digest

    def renew(self, root: str, hashed: HashedFiles, warnings: Sequence[str], started_ns: int) -> None:
        """Write the index of a snapshot that succeeded; a failure leaves a note, since the snapshot holds without it."""
        import hashlib

        if self.path is None:
            return
        if hashed.index_holds and self.found is not None and self.found.root == root:
            if self.written is None:
                self.written = hashlib.sha256(self.path.read_bytes()).hexdigest()
            return
        data = index_bytes(self.scope, root, hashed.files, warnings, started_ns, started_ns // 1000)
        try:
            write_index(self.path, data)
        except OSError as error:
            self.written = None
            self.notes.append(
                f"the stat index {self.path} could not be written ({error.strerror or error}), so the next snapshot reads "
                "every file again"
            )
        else:
            self.written = hashlib.sha256(data).hexdigest()


def index_use(
    source: LocalSource | RemoteSource,
    rules: IgnoreRules,
    name: str,
    path: str | os.PathLike[str] | None,
    digest: str | None,
) -> IndexUse:
    """What a run may do with the index at ``path``.

    Raises:
        DatasetError: the index would lie among the data.
    """
    local = isinstance(source, LocalSource)
    location = f"file:{source.real}" if isinstance(source, LocalSource) else source.location
    scope = IndexScope(name, location, rules.digest.hex())
    if path is None:
        return IndexUse(None, scope)
    place = Path(os.path.realpath(os.fspath(path)))
    if local and place.is_relative_to(location.removeprefix("file:")):
        raise DatasetError(
            f"the stat index {place} lies inside the data; keep it outside of source {source.describe()}"
        )
    return IndexUse(place, scope, digest)


def hash_source(
    source: LocalSource | RemoteSource,
    rules: IgnoreRules,
    *,
    index: StatIndex | None = None,
    verify: Verify | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
) -> HashedFiles:
    """List and hash a source of files; see :func:`~cognify_dagster.datasets.hashing.run.hash_local`."""
    verify = verify or Verify.full()
    if isinstance(source, LocalSource):
        return hash_local(source, rules, index=index, verify=verify, progress=progress, workers=workers)
    found, ignored = source.entries(rules)
    return _hash_remote(source, found, ignored, index, verify, Meter(progress))


def _hash_remote(
    source: RemoteSource,
    found: Sequence[Found],
    ignored: int,
    index: StatIndex | None,
    verify: Verify,
    meter: Meter,
) -> HashedFiles:
    meter.total_files = len(found)
    meter.total_bytes = sum(max(item.size, 0) for item in found)
    old = _by_path(index)
    todo: list[int] = []
    taken: dict[int, int] = {}
    for number, item in enumerate(found):
        at = old.get(item.path)
        if at is None or verify.mode == "full" or (verify.mode == "sample" and verify.chooses(item.path)):
            todo.append(number)
        elif _same(index, at, item):
            taken[number] = at
        else:
            todo.append(number)
    meter.add(len(taken), sum(found[number].size for number in taken))
    leaves: dict[int, FileLeaf] = {}
    for place, leaf in _remote_leaves(source, [found[number] for number in todo]):
        leaves[todo[place]] = leaf
        meter.add(1, leaf.size)
    claimed: set[bytes] = getattr(source, "provider", set())
    fresh = PackedFiles.of(leaves[number] for number in todo)
    places = {number: place for place, number in enumerate(todo)}
    heads, sizes, shards = [], array("Q"), []
    levels, origins = bytearray(), array("I")
    silent = []
    for number, item in enumerate(found):
        at = taken.get(number, -1)
        columns, place = (fresh, places[number]) if at < 0 else (index.files if index else fresh, at)
        heads.append(columns.heads[HEAD_SIZE * place : HEAD_SIZE * (place + 1)])
        shards.append(columns.shards[2 * place : 2 * place + 2])
        sizes.append(columns.sizes[place])
        provided = at >= 0 or item.path in claimed
        levels.append(Level.PROVIDER if provided else Level.HASHED)
        origins.append(columns.origins[place] + 1 if at >= 0 else 0)
        if index is not None and at < 0 and (before := old.get(item.path)) is not None:
            same = _same(index, before, item)
            if same and index.files.digest(before) != fresh.digest(place):
                silent.append(show_path(item.path))
    files = PackedFiles(
        [FolderFiles(b"", [item.path for item in found])],
        b"".join(shards),
        sizes,
        b"".join(heads),
        NO_KEY * len(found),
        bytes(levels),
        origins,
        index.files.known if index else (),
        [item.token for item in found],
        [item.grade for item in found],
    )
    if silent and verify.mode == "sample":
        raise SilentChangeError(
            f"{len(silent)} objects of source {source.location} have other content although their provider calls them the "
            f"same: {', '.join(silent[:10])}; find out why, then take a snapshot with verify=full, which reads every object"
        )
    holds = not todo and index is not None and len(found) == len(index.files)
    return HashedFiles(files, ignored, index.warnings if holds and index else None, silent, 0, holds, found)


def _by_path(index: StatIndex | None) -> Mapping[bytes, int]:
    return {path: number for number, path in enumerate(index.files.paths)} if index else {}


def _same(index: StatIndex | None, at: int, item: Found) -> bool:
    """Whether the provider identifies an object by the same token as then."""
    if index is None or index.files.tokens is None or not item.token:
        return False
    size = index.files.sizes[at]
    return (
        index.files.tokens[at] == item.token
        and item.size in (-1, size)
        and bool(index.files.grades)
        and (index.files.grades is not None and index.files.grades[at] == item.grade)
    )


def _remote_leaves(source: RemoteSource, found: Sequence[Found]) -> Iterator[tuple[int, FileLeaf]]:
    many: Any = getattr(source, "hash_many", None)
    if many is not None:
        yield from many(found)
        return
    with ThreadPoolExecutor(_REMOTE_THREADS) as pool:
        pending = {pool.submit(source.hash, item, None): number for number, item in enumerate(found)}
        try:
            for future in as_completed(pending):
                yield pending[future], future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
