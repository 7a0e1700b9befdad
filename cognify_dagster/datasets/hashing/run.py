"""Hashing all files of a local source: listing, worker processes, threads for large files, the stat index.

Invariants:
    * The columns that come out do not depend on how the work was cut, who did it, or in which order it was done.
    * A file is taken from the index only if its whole stat key is the one that the index holds for its path.
    * Every file that cannot be read, changed while it was read, or turned into something else stops the run by name.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing

from cognify_dagster.datasets.errors import SilentChangeError, SourceChangedError, SourceError
from cognify_dagster.datasets.hashing.assembling import HashedFiles, Piece, assemble, compare
from cognify_dagster.datasets.hashing.hash_worker import (
    BUFFER,
    CHANGED,
    HASHED,
    KEY_SIZE,
    LARGE,
    NO_KEY,
    NOT_A_FILE,
    REUSED,
    Answer,
    Group,
    Seen,
    hash_groups,
)
from cognify_dagster.datasets.hashing.index import StatIndex
from cognify_dagster.datasets.hashing.large import LargeFile, Result, hash_large
from cognify_dagster.datasets.hashing.packed import FolderFiles, PackedFiles
from cognify_dagster.datasets.hashing.pool import Batch, Pool, can_start, processors
from cognify_dagster.datasets.hashing.progress import Meter, Progress
from cognify_dagster.datasets.hashing.verifying import Verify
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Listed, LocalSource, Walk
from cognify_dagster.datasets.tree import check_path, show_path, symlink_leaf

POOL_FROM = 3_000
"""Files from which on worker processes are worth their start."""
BATCH = 512
_BATCH_BYTES = 24 * 1024  # of paths and names: well below what a pipe holds
_ALONE_BYTES = 8 * 1024  # paths of folders above this stay out of pipes
LARGE_IN_POOL = 256 * 1024
LARGE_HERE = 32 * 1024
"""Larger files (bytes) are read by threads: hashing then gives the interpreter lock away for long enough."""


def hash_local(
    source: LocalSource,
    rules: IgnoreRules,
    *,
    index: StatIndex | None = None,
    verify: Verify | None = None,
    progress: Progress | None = None,
    workers: int | None = None,
    pool_from: int = POOL_FROM,
    batch: int = BATCH,
) -> HashedFiles:
    """List and hash a local source.

    Args:
        source: where.
        rules: what to leave out.
        index: the stat index of an earlier snapshot.
        verify: how much to read although the index holds it.
        progress: see :data:`~cognify_dagster.datasets.hashing.progress.Progress`.
        workers: processes and threads; the processors unless given.
        pool_from: files from which on worker processes are started.
        batch: files that are handed over together.

    Raises:
        SourceError: something cannot be listed or read.
        SourceChangedError: a file changed while it was read.
        SilentChangeError: a file that a sample read again has other content although its stat key is the same.
    """
    with source.open_root() as root:
        return _Run(
            source, root, rules, index, verify or Verify.full(), Meter(progress), workers, pool_from, batch
        ).go()


def hash_names(source: LocalSource, folders: Sequence[tuple[bytes, Sequence[bytes]]]) -> PackedFiles:
    """Hash named files of a source in this process and its threads, without listing it.

    Args:
        source: where.
        folders: paths of folders, and names of files in them.

    Raises:
        SourceError: as for :func:`hash_local`.
    """
    with source.open_root() as root:
        run = _Run(source, root, IgnoreRules(), None, Verify.full(), Meter(None), None, POOL_FROM, BATCH)
        run.walk = (Listed(path, list(names), []) for path, names in folders)
        for batch in run.batches():
            run.take(batch, run.here(batch))
        return run.assemble(hash_large(root, source, run.large, run.workers, run.meter)).files


class _Run:
    def __init__(
        self,
        source: LocalSource,
        root: int,
        rules: IgnoreRules,
        index: StatIndex | None,
        verify: Verify,
        meter: Meter,
        workers: int | None,
        pool_from: int,
        batch: int,
    ) -> None:
        self.source, self.root, self.index, self.verify, self.meter = source, root, index, verify, meter
        self.workers = max(1, workers if workers is not None else processors())
        self.pool_from, self.batch = pool_from, batch
        self.walk: Walk | Iterator[Listed] = source.walk(root, rules)
        self.limit = LARGE_HERE
        self.view = memoryview(bytearray(BUFFER))
        self.seen: Seen = {}
        self.folders: list[FolderFiles] = []
        self.count = 0
        self.pieces: dict[int, list[Piece]] = {}
        self.answers: dict[int, Answer] = {}
        self.large: list[LargeFile] = []
        self.lost = 0

    def go(self) -> HashedFiles:
        with closing(self._answers()) as answers:  # also after an error no worker is left running
            for batch, answer in answers:
                self.take(batch, answer)
        found = hash_large(self.root, self.source, self.large, self.workers, self.meter)
        return self.assemble(found)

    # --- listing

    def batches(self) -> Iterator[Batch]:
        """The files in batches. The numbers of a batch have no gap, so links and files left alone end the one before."""
        groups: list[Group] = []
        pieces: list[Piece] = []
        count = size = 0

        def close() -> Iterator[Batch]:
            nonlocal count, size, groups, pieces
            if pieces:
                first = pieces[0].first
                self.pieces[first] = pieces
                yield Batch(first, count, groups)
                groups, pieces, count, size = [], [], 0, 0

        for listed in self.walk:
            folder_first = self._add_folder(listed)
            base, wanted = self._known(listed.path, listed.files) if listed.files else (None, b"")
            alone = len(listed.path) > _ALONE_BYTES
            if alone:
                yield from close()
            start = 0
            while start < len(listed.files):
                past = min(len(listed.files), start + self.batch - (0 if alone else count))
                part = base[start:past] if isinstance(base, list) else None if base is None else base + start
                piece = Piece(folder_first + start, past - start, part)
                group = (listed.path, listed.files[start:past], wanted[start * KEY_SIZE : past * KEY_SIZE])
                start = past
                if alone:
                    self.pieces[piece.first] = [piece]
                    yield Batch(piece.first, piece.count, [group], alone=True)
                    continue
                groups.append(group)
                pieces.append(piece)
                count += piece.count
                size += len(listed.path) + 32 * piece.count
                if count >= self.batch or size >= _BATCH_BYTES:
                    yield from close()
            if listed.links:
                yield from close()
        yield from close()

    def _add_folder(self, listed: Listed) -> int:
        """Number what a folder holds; links are leaves at once. Return the number of its first file."""
        first = self.count
        if listed.files:
            self.folders.append(FolderFiles(listed.path, listed.files))
            self.count += len(listed.files)
        if listed.links:
            folder = FolderFiles(listed.path, [name for name, _ in listed.links], links=True)
            self.folders.append(folder)
            leaves = [symlink_leaf(path, to) for path, (_, to) in zip(folder.paths(), listed.links, strict=True)]
            packed = PackedFiles.of(leaves)
            base, _ = self._known(listed.path, folder.names, links=True)
            self.pieces[self.count] = [Piece(self.count, len(leaves), base)]
            self.answers[self.count] = (
                bytes([HASHED]) * len(leaves),
                bytes(packed.shards),
                packed.sizes.tobytes(),
                bytes(packed.heads),
                bytes(packed.keys),
            )
            self.count += len(leaves)
            self.meter.files += len(leaves)
        self.meter.total_files = self.count
        return first

    def _known(self, path: bytes, names: Sequence[bytes], links: bool = False) -> tuple[int | list[int] | None, bytes]:
        """Where the index has the files of a folder, and the stat keys to expect (none where all are to be read)."""
        index = self.index
        if index is None or (hit := index.blobs.get((path, links))) is None:
            return None, b""
        joined, base, count = hit
        if joined == b"\x00".join(names):
            places: int | list[int] = base
            keys = bytes(index.files.keys[base * KEY_SIZE : (base + count) * KEY_SIZE])
        else:
            known = {name: base + offset for offset, name in enumerate(joined.split(b"\x00"))}
            places = [known.get(name, -1) for name in names]
            keys = b"".join(index.files.key(place) if place >= 0 else NO_KEY for place in places)
        if self.verify.mode == "full" or links:
            return places, b""
        if self.verify.mode == "sample":
            prefix = path + b"/" if path else b""
            wanted = bytearray(keys)
            for offset, name in enumerate(names):
                if self.verify.chooses(prefix + name):
                    wanted[offset * KEY_SIZE : (offset + 1) * KEY_SIZE] = NO_KEY
            keys = bytes(wanted)
        return places, keys

    # --- hashing

    def here(self, batch: Batch) -> Answer:
        return hash_groups(self.root, batch.groups, self.limit, self.view, self.source.alias, self.seen)

    def _answers(self) -> Generator[tuple[Batch, Answer], None, None]:
        batches = self.batches()
        small: list[Batch] = []
        for batch in batches:
            small.append(batch)
            if self.count >= self.pool_from and self.workers > 1 and can_start():
                break
        else:
            yield from ((batch, self.here(batch)) for batch in small)
            return
        self.limit = LARGE_IN_POOL

        def all_batches() -> Iterator[Batch]:
            yield from small
            yield from batches

        with Pool(self.root, self.workers, self.limit, self.here) as pool:
            yield from pool.run(all_batches())
            self.lost = pool.lost

    def take(self, batch: Batch, answer: Answer) -> None:
        statuses, _, raw_sizes, _, _ = answer
        worst = max(statuses)
        if worst >= LARGE:
            self._look_closer(batch, answer)
        self.answers[batch.first] = answer
        sizes = array("Q", raw_sizes)
        done = sum(sizes)
        files = batch.count
        if worst == LARGE:
            skipped = [
                size for size, status in zip(sizes, statuses.replace(b"\x00", b""), strict=True) if status == LARGE
            ]
            files -= len(skipped)
            done -= sum(skipped)
        self.meter.add(files, done)

    def _look_closer(self, batch: Batch, answer: Answer) -> None:
        """Refuse by name what cannot be read; set large files aside."""
        sizes = array("Q", answer[2])
        statuses = iter(answer[0])
        given = iter(enumerate(sizes))
        for piece, (folder, names, _) in zip(self.pieces[batch.first], batch.groups, strict=True):
            for offset, name in enumerate(names):
                status = next(statuses)
                if status == REUSED:
                    continue
                at, size = next(given)
                if status == HASHED:
                    continue
                if status == LARGE:
                    key = bytes(answer[4][KEY_SIZE * at : KEY_SIZE * (at + 1)])
                    self.large.append(LargeFile(piece.first + offset, folder, name, size, key))
                    continue
                path = folder + b"/" + name if folder else name
                raise refusal(path, self.source.location, status, size)

    def assemble(self, found: dict[int, Result]) -> HashedFiles:
        """Put the answers together, and look for content that changed although its stat did not."""
        files, same_paths = assemble(self.folders, self.pieces, self.answers, found, self.index)
        out = HashedFiles(files, getattr(self.walk, "ignored", 0), lost_workers=self.lost)
        if self.index is not None:
            compare(out, self.pieces, self.index, same_paths)
        if out.silent and self.verify.mode == "sample":
            raise SilentChangeError(
                f"{len(out.silent)} of the files read again in source {self.source.location} have other content although "
                f"size, times and inode are those of the last snapshot: {', '.join(out.silent[:10])}. Somebody altered them "
                "behind the file system, the storage is failing, or the index is not honest: find out which, then take a "
                "snapshot with verify=full, which reads every file"
            )
        return out


def refusal(path: bytes, location: str, status: int, number: int) -> SourceError:
    """The error for a file that could not be hashed.

    Args:
        path: which.
        location: of the source.
        status: as the worker says.
        number: the errno, where there is one.
    """
    check_path(path)
    shown = show_path(path)
    if status == CHANGED:
        return SourceChangedError(
            f"file {shown} in source {location} changed while it was read; take the snapshot when nothing writes to it"
        )
    if status == NOT_A_FILE:
        return SourceChangedError(f"{shown} in source {location} is no longer a file")
    return SourceError(
        f"file {shown} in source {location} cannot be read: {os.strerror(number)}; make it readable, or take the snapshot "
        "when nothing else changes the source"
    )
