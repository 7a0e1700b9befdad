"""Putting the answers of a run together into columns, and comparing them with what the index holds.

Invariant: the columns follow the numbers that the listing gave, whatever order the answers came in.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from cognify_dagster.datasets.hashing.hash_worker import HEAD_SIZE, KEY_SIZE, NO_KEY, REUSED, Answer
from cognify_dagster.datasets.hashing.index import StatIndex
from cognify_dagster.datasets.hashing.large import Result
from cognify_dagster.datasets.hashing.packed import FolderFiles, Level, Origin, PackedFiles
from cognify_dagster.datasets.sources.local import Found
from cognify_dagster.datasets.tree import FileKind, show_path


@dataclass
class HashedFiles:
    """What came out of hashing a source.

    Attributes:
        files: the columns.
        ignored: entries that the ignore rules left out.
        warnings: portability warnings, where the index already holds those of the same paths; else None.
        silent: paths whose content is another one although their stat key is the same.
        lost_workers: worker processes that could not be used.
        index_holds: nothing had to be read and no path came or went: the index needs no new version.
        listed: a remote source's objects as they were listed.
    """

    files: PackedFiles
    ignored: int
    warnings: list[str] | None = None
    silent: list[str] = field(default_factory=list)
    lost_workers: int = 0
    index_holds: bool = False
    listed: Sequence[Found] | None = None

    def found(self) -> Iterable[Found]:
        """The files as a source lists them, for reading their tables."""
        if self.listed is not None:
            return self.listed
        files = self.files
        kinds = files.heads[HEAD_SIZE - 2 :: HEAD_SIZE]
        return (
            Found(path, FileKind(kind), size) for path, kind, size in zip(files.paths, kinds, files.sizes, strict=True)
        )


@dataclass(frozen=True)
class Piece:
    """Part of a folder: its first file's number, how many, and where the index has them (a first number, or one each)."""

    first: int
    count: int
    base: int | list[int] | None

    def place(self, offset: int) -> int:
        if self.base is None:
            return -1
        return self.base + offset if isinstance(self.base, int) else self.base[offset]


def assemble(
    folders: list[FolderFiles],
    pieces: Mapping[int, Sequence[Piece]],
    answers: dict[int, Answer],
    found: Mapping[int, Result],
    index: StatIndex | None,
) -> tuple[PackedFiles, bool]:
    """Put answers together; return the columns, and whether the index has the same paths in the same places.

    Args:
        folders: what was listed.
        pieces: the pieces of each batch, by its first number.
        answers: the answers likewise; they are used up.
        found: results of large files, by number.
        index: where files that were not read are taken from.
    """
    shards, sizes, heads, keys = bytearray(), array("Q"), bytearray(), bytearray()
    levels, origins = bytearray(), array("I")
    same = index is not None
    for first in sorted(answers):
        statuses, new_shards, new_sizes, new_heads, new_keys = answers.pop(first)
        done = place = 0
        given = array("Q", new_sizes)
        for piece in pieces[first]:
            if piece.first != len(sizes):
                raise RuntimeError("the batches of a listing do not follow each other without a gap")
            part = statuses[done : done + piece.count]
            done += piece.count
            same = same and piece.base == piece.first
            fresh = piece.count - part.count(REUSED)
            if fresh == piece.count:
                past = place + fresh
                shards += new_shards[2 * place : 2 * past]
                sizes += given[place:past]
                heads += new_heads[HEAD_SIZE * place : HEAD_SIZE * past]
                keys += new_keys[KEY_SIZE * place : KEY_SIZE * past]
                levels += bytes([Level.HASHED]) * fresh
                origins.frombytes(bytes(4 * fresh))
                place = past
                continue
            if index is None:
                raise RuntimeError("a worker took a file over although there is no index")
            old = index.files
            if not fresh and isinstance(piece.base, int):
                a, b = piece.base, piece.base + piece.count
                shards += old.shards[2 * a : 2 * b]
                sizes += old.sizes[a:b]
                heads += old.heads[HEAD_SIZE * a : HEAD_SIZE * b]
                keys += old.keys[KEY_SIZE * a : KEY_SIZE * b]
                levels += bytes([Level.REUSED]) * piece.count
                origins += array("I", [number + 1 for number in old.origins[a:b]])
                continue
            for offset, status in enumerate(part):
                if status == REUSED:
                    at = piece.place(offset)
                    if at < 0:
                        raise RuntimeError("a worker took a file over that the index does not hold")
                    shards += old.shards[2 * at : 2 * at + 2]
                    sizes.append(old.sizes[at])
                    heads += old.heads[HEAD_SIZE * at : HEAD_SIZE * (at + 1)]
                    keys += old.keys[KEY_SIZE * at : KEY_SIZE * (at + 1)]
                    levels.append(Level.REUSED)
                    origins.append(old.origins[at] + 1)
                else:
                    shards += new_shards[2 * place : 2 * place + 2]
                    sizes.append(given[place])
                    heads += new_heads[HEAD_SIZE * place : HEAD_SIZE * (place + 1)]
                    keys += new_keys[KEY_SIZE * place : KEY_SIZE * (place + 1)]
                    levels.append(Level.HASHED)
                    origins.append(0)
                    place += 1
    for number, (size, head, key) in found.items():
        sizes[number] = size
        heads[HEAD_SIZE * number : HEAD_SIZE * (number + 1)] = head
        keys[KEY_SIZE * number : KEY_SIZE * (number + 1)] = key
    known: tuple[Origin, ...] = index.files.known if index else ()
    files = PackedFiles(folders, bytes(shards), sizes, bytes(heads), bytes(keys), bytes(levels), origins, known)
    return files, same and index is not None and len(files) == len(index.files)


def compare(out: HashedFiles, pieces: Mapping[int, Sequence[Piece]], index: StatIndex, same_paths: bool) -> None:
    """Take over what the index knows about the tree, and look for content that changed without its stat changing.

    Args:
        out: gets what is found.
        pieces: the pieces of each batch, by its first number.
        index: an index that the files were compared with.
        same_paths: it has the same paths in the same places.
    """
    files = out.files
    old = index.files
    fresh = [number for number, origin in enumerate(files.origins) if not origin]
    if same_paths:
        changed = [
            n
            for n in fresh
            if files.heads[HEAD_SIZE * n : HEAD_SIZE * (n + 1)] != old.heads[HEAD_SIZE * n : HEAD_SIZE * (n + 1)]
        ]
        files.take_over(index.order, index.shard_roots, changed)
        out.warnings = index.warnings
        links = sum(len(folder.names) for folder in out.files.folders if folder.links)
        out.index_holds = not changed and len(fresh) == links
    silent = []
    for piece in (piece for listed in pieces.values() for piece in listed):
        if piece.base is None:
            continue
        a, b = piece.first, piece.first + piece.count
        if (
            isinstance(piece.base, int)
            and files.heads[HEAD_SIZE * a : HEAD_SIZE * b]
            == old.heads[HEAD_SIZE * piece.base : HEAD_SIZE * (piece.base + piece.count)]
        ):
            continue
        for offset in range(piece.count):
            at, here = piece.place(offset), piece.first + offset
            if at < 0 or files.origins[here] or files.digest(here) == old.digest(at):
                continue
            key = old.key(at)
            if key != NO_KEY and key == files.key(here):
                silent.append(show_path(files.paths[here]))
    out.silent = sorted(silent)
