"""Makes a manifest of a checkpoint after the fact, and checks a checkpoint folder against a manifest. Needs no PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from cognify_dagster.instrument.distributed.digesting import (
    default_threads,
    digest_file,
    digest_share,
    open_place,
    stored_digest,
)
from cognify_dagster.instrument.distributed.errors import CheckpointError, Fault
from cognify_dagster.instrument.distributed.manifest import FileRow, Piece, RunHeader, ShardManifest
from cognify_dagster.instrument.distributed.survey import list_files, survey


def make_manifest(folder: str | Path, header: RunHeader | None = None, *, threads: int | None = None) -> ShardManifest:
    """Digest a whole checkpoint in this process, for one that no rank recorded.

    Args:
        folder: The checkpoint.
        header: What it was written by; unless given, only as many ranks as file names show.
        threads: Files digested at a time; as many as there are cores unless given.

    Raises:
        CheckpointError: a shard is missing or surplus, or a tensor is not covered exactly once; each is named.
    """
    found = survey(folder)
    if not found.files:
        raise CheckpointError(f"{folder}: the folder holds no file")
    if found.faults:
        raise CheckpointError(f"{folder}: the checkpoint is not whole", found.faults)
    shards = [path for path in found.files if path.endswith(".distcp")]
    if shards and not any(place.file in set(shards) for place in found.places):
        fault = Fault("incomplete", "shards lie there and no .metadata; the save was cut off")
        raise CheckpointError(f"{folder}: the checkpoint is not whole", [fault])
    files, pieces = digest_share(found, found.files, threads=threads or default_threads(found.files))
    ranks = [item.rank for item in files if item.rank is not None]
    manifest = ShardManifest(header or RunHeader(world_size=max(ranks, default=0) + 1), tuple(files), tuple(pieces))
    faults = manifest.faults()
    if faults:
        raise CheckpointError(f"{folder}: the shards don't make up one checkpoint", faults)
    return manifest


def check(
    folder: str | Path, manifest: ShardManifest, *, threads: int | None = None, only: Sequence[str] | None = None
) -> list[Fault]:
    """Compare a checkpoint's folder with its manifest, every byte.

    Args:
        folder: The checkpoint.
        manifest: What it should be.
        threads: Files read at a time; as many as there are cores unless given.
        only: Digest only these files (the others are still looked for); all unless given.

    Returns:
        What is missing, altered or surplus, with file, rank and, for an altered file, the tensors in it that differ. Empty: it holds.
    """
    root = Path(folder)
    there = set(list_files(root))
    listed = {item.path: item for item in manifest.files}
    faults = list(manifest.faults())
    faults += [Fault("surplus", "the manifest does not list it", path) for path in sorted(there - set(listed))]
    for path in sorted(set(listed) - there):
        tensors = [piece.tensor for piece in manifest.pieces if piece.file == path]
        faults += [
            Fault("missing", "the file is not there", path, listed[path].rank, tensor) for tensor in tensors or [""]
        ]
    chosen = set(listed) if only is None else set(only)
    wanted = [listed[path] for path in sorted(set(listed) & there & chosen)]
    by_file: dict[str, list[Piece]] = {}
    for piece in manifest.pieces:
        by_file.setdefault(piece.file, []).append(piece)

    def one(item: FileRow) -> list[Fault]:
        return _check_file(root, item, by_file.get(item.path, []))

    with ThreadPoolExecutor(max_workers=threads or default_threads(listed)) as pool:
        for found in pool.map(one, wanted):
            faults += found
    return sorted(set(faults), key=str)


def _check_file(root: Path, item: FileRow, pieces: Sequence[Piece]) -> list[Fault]:
    try:
        found = digest_file(root, item.path)
    except CheckpointError as error:
        return [Fault("altered", str(error), item.path, item.rank)]
    if (found.size, found.sha256) == (item.size, item.sha256):
        return []
    if found.size != item.size:
        text = f"{found.size} bytes, {item.size} were recorded"
    else:
        text = f"sha256 {found.sha256}, recorded {item.sha256}"
    tensors = [piece for piece in pieces if not _holds(root, piece)]
    if not tensors:
        return [Fault("altered", f"{text}; the tensors in it are as recorded", item.path, item.rank)]
    return [Fault("altered", text, item.path, item.rank, piece.tensor) for piece in tensors]


def _holds(root: Path, piece: Piece) -> bool:
    """Whether a piece's bytes are still the recorded ones."""
    try:
        stored = open_place(root, piece)
        return (stored.digest() if stored is not None else stored_digest(root, piece)) == piece.sha256
    except CheckpointError:
        return False


def require_whole(folder: str | Path, manifest: ShardManifest, *, threads: int | None = None) -> None:
    """Refuse a checkpoint that is not exactly what its manifest says.

    Raises:
        CheckpointError: with every fault.
    """
    faults = check(folder, manifest, threads=threads)
    if faults:
        raise CheckpointError(f"{folder}: the checkpoint is not what was recorded (root {manifest.root})", faults)
