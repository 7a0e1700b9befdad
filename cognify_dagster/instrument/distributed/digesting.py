"""Digests of a checkpoint's files and pieces: a rank's own share, or all of them."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cognify_dagster.instrument.distributed.errors import CheckpointError
from cognify_dagster.instrument.distributed.manifest import FileRow, Piece
from cognify_dagster.instrument.distributed.survey import Place, Survey, writer_of
from cognify_dagster.instrument.distributed.tensors import ITEM_BYTES, StoredTensor, torch_tensors_in
from cognify_dagster.training import TrainingError, digest_files

_BLOCK = 1024 * 1024


def share_of(survey: Survey, rank: int, world_size: int) -> list[str]:
    """The files that a rank digests: those it wrote, and its share of those whose names don't say who did.

    Every file belongs to exactly one rank. A file of a rank beyond the world goes to rank 0, so that it is listed (and then refused).
    """
    mine = []
    for index, path in enumerate(survey.files):
        writer = writer_of(path)
        if writer is None:
            writer = index % world_size
        elif writer >= world_size:
            writer = 0
        if writer == rank:
            mine.append(path)
    return mine


def digest_share(survey: Survey, paths: Sequence[str], *, threads: int = 1) -> tuple[list[FileRow], list[Piece]]:
    """Digest files and the pieces in them. Every file is read twice: whole, and tensor by tensor.

    Raises:
        CheckpointError: a file that is gone, shorter than the checkpoint says, or changes meanwhile.
    """
    by_file: dict[str, list[Place]] = {}
    for place in survey.places:
        by_file.setdefault(place.file, []).append(place)

    def one(path: str) -> tuple[FileRow, list[Piece]]:
        row = digest_file(survey.folder, path)
        return row, [digest_place(survey.folder, place) for place in by_file.get(path, ())]

    if threads <= 1 or len(paths) < 2:
        done = [one(path) for path in paths]
    else:
        with ThreadPoolExecutor(max_workers=threads) as pool:
            done = list(pool.map(one, paths))
    return [row for row, _ in done], [piece for _, pieces in done for piece in pieces]


def digest_file(folder: Path, path: str) -> FileRow:
    """Digest one file of a checkpoint."""
    try:
        found = digest_files(folder / path)
    except TrainingError as error:
        raise CheckpointError(str(error)) from None
    return FileRow(path, writer_of(path), found.size, found.sha256)


def digest_place(folder: Path, place: Place) -> Piece:
    """Digest one piece: its elements where they can be read, else its bytes as they are stored."""
    stored = open_place(folder, place)
    sha256 = stored.digest() if stored is not None else _stored_digest(folder / place.file, place)
    return Piece(
        place.tensor,
        place.file,
        writer_of(place.file),
        place.start,
        place.length,
        sha256,
        "data" if stored is not None else "stored",
        place.dtype,
        place.shape,
        place.offsets,
        place.sizes,
    )


def open_place(folder: Path, place: Place | Piece) -> StoredTensor | None:
    """Return where a piece's elements lie; None for an object, or where they can't be read here.

    Raises:
        CheckpointError: the file holds another tensor there than the checkpoint says.
    """
    if place.dtype is None or place.sizes is None or place.dtype not in ITEM_BYTES:
        return None
    if isinstance(place, Place) and place.transformed:
        return None
    if isinstance(place, Piece) and place.of != "data":
        return None
    path = folder / place.file
    if place.file.endswith(".safetensors"):
        return StoredTensor(place.tensor, place.dtype, place.sizes, path, place.start)
    found = torch_tensors_in(path, place.start, place.length)
    if len(found) != 1 or found[0].dtype != place.dtype or found[0].shape != place.sizes:
        held = ", ".join(f"{item.dtype} {'x'.join(map(str, item.shape))}" for item in found) or "no tensor"
        raise CheckpointError(
            f"{path}: at byte {place.start} lies {held}, not the {place.dtype} {'x'.join(map(str, place.sizes))} of {place.tensor}"
        )
    return found[0]


def _stored_digest(path: Path, place: Place) -> str:
    digest = hashlib.sha256()
    try:
        with path.open("rb") as stream:
            stream.seek(place.start)
            left = place.length
            while left:
                data = stream.read(min(left, _BLOCK))
                if not data:
                    raise CheckpointError(f"{path}: ends inside {place.tensor}")
                digest.update(data)
                left -= len(data)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    return digest.hexdigest()


def stored_digest(folder: Path, piece: Piece) -> str:
    """Digest a piece's bytes as they are stored."""
    return _stored_digest(folder / piece.file, Place(piece.tensor, piece.file, piece.start, piece.length))


def default_threads(paths: Iterable[str]) -> int:
    """As many threads as there are cores, and never more than files."""
    count = sum(1 for _ in paths)
    return max(1, min(count, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
