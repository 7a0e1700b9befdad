"""What each rank writes beside the checkpoint, and joining it into the manifest.

Every rank leaves one JSON file: first that it has started (when it saves through us), then its rows. They travel over the checkpoint's
own storage, so joining needs neither PyTorch nor the processes, and works after a crash.

Invariants:

* A manifest is only made from one save: all ranks' files bear the same token, world size and header.
* A rank whose rows are missing is named, and then there is no manifest.
* Files are written whole: temporary file, fsync, rename. The manifest is the last one.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cognify_dagster.instrument.distributed.errors import CheckpointError, Fault
from cognify_dagster.instrument.distributed.manifest import (
    MAX_MANIFEST,
    FileRow,
    Piece,
    RunHeader,
    ShardManifest,
    parse_header,
    parse_manifest,
    parse_rows,
)
from cognify_dagster.instrument.distributed.survey import SHARDS_FOLDER, list_files, survey
from cognify_dagster.ledger import canonical_json, parse_json

FORMAT = "cognify-rank-shards/1"
MANIFEST = "manifest.json"
_NAME = re.compile(r"^rank-(\d{5,7})\.json$")
_TOKEN = re.compile(r"^[0-9a-f]{32}$")


@dataclass(frozen=True)
class RankFile:
    """One rank's word: `state` is ``started``, ``done`` or ``failed``; rows are there when it is done."""

    rank: int
    token: str
    state: str
    header: RunHeader
    files: tuple[FileRow, ...] = ()
    pieces: tuple[Piece, ...] = ()
    reason: str = ""


def new_token() -> str:
    """A fresh name for one save, which all its ranks use."""
    return secrets.token_hex(16)


def manifest_path(folder: str | Path) -> Path:
    """Where a checkpoint's manifest lies."""
    return Path(folder) / SHARDS_FOLDER / MANIFEST


def write_rank(
    folder: Path,
    rank: int,
    token: str,
    header: RunHeader,
    *,
    files: Sequence[FileRow] = (),
    pieces: Sequence[Piece] = (),
    state: str = "done",
    reason: str = "",
) -> Path:
    """Write a rank's file, replacing what the rank wrote before."""
    rows = [item.row() for item in files] + [item.row() for item in pieces]
    data = {
        "format": FORMAT,
        "rank": rank,
        "token": token,
        "state": state,
        "reason": reason[:2000],
        "header": header.row(),
        "rows": rows,
    }
    return write_whole(folder / SHARDS_FOLDER / f"rank-{rank:05d}.json", canonical_json(data))


def read_ranks(folder: Path) -> list[RankFile]:
    """Read every rank's file of a checkpoint, in the order of the ranks.

    Raises:
        CheckpointError: one is damaged; it is named.
    """
    try:
        names = sorted(item.name for item in (folder / SHARDS_FOLDER).iterdir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(f"{folder / SHARDS_FOLDER}: can't be listed ({error.strerror})") from None
    return [_read(folder / SHARDS_FOLDER / name, int(found[1])) for name in names if (found := _NAME.match(name))]


def _read(path: Path, rank: int) -> RankFile:
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise CheckpointError(f"{path}: larger than {MAX_MANIFEST} bytes")
        value = parse_json(path.read_bytes(), limit=MAX_MANIFEST)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    except ValueError as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: not JSON ({error})") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise CheckpointError(f"{path}: not what a rank writes (format {FORMAT})")
    if value.get("rank") != rank:
        raise CheckpointError(f"{path}: it says that it is of rank {value.get('rank')!r}; it was copied or renamed")
    state, token, rows, reason = (value.get(name) for name in ("state", "token", "rows", "reason"))
    if state not in ("started", "done", "failed") or not isinstance(rows, list) or not isinstance(reason, str):
        raise CheckpointError(f"{path}: its state or rows are not understood")
    if not isinstance(token, str) or not _TOKEN.match(token):
        raise CheckpointError(f"{path}: its token is not understood")
    files, pieces = parse_rows(rows, str(path))
    return RankFile(
        rank, token, state, parse_header(value.get("header"), str(path)), tuple(files), tuple(pieces), reason
    )


def join(folder: str | Path) -> ShardManifest:
    """Join what the ranks wrote into one manifest, and check that it is whole.

    Raises:
        CheckpointError: a rank did not finish, files of several saves lie beside each other, a shard is missing, doubled or surplus,
            or a tensor is not covered exactly once. `faults` names each.
    """
    root = Path(folder)
    ranks = read_ranks(root)
    if not ranks:
        raise CheckpointError(f"{root}: no rank recorded its shards there", [*_abandoned(root)])
    first = ranks[0]
    faults = [
        Fault(
            "incomplete",
            "its file is of another save or of another run's settings; remove the old ones",
            rank=item.rank,
        )
        for item in ranks
        if item.token != first.token or item.header != first.header
    ]
    if not faults:
        faults = unfinished(ranks)
    if faults:
        raise CheckpointError(f"{root}: the checkpoint is incomplete and is not to be used", faults)
    manifest = ShardManifest(
        first.header,
        tuple(row for item in ranks for row in item.files),
        tuple(piece for item in ranks for piece in item.pieces),
    )
    faults = manifest.faults() + _against_folder(root, manifest)
    if faults:
        raise CheckpointError(f"{root}: the shards don't make up one checkpoint", faults)
    return manifest


def unfinished(ranks: Sequence[RankFile]) -> list[Fault]:
    """Name the ranks of a world that did not record their shards."""
    if not ranks:
        return []
    world = ranks[0].header.world_size
    by_rank = {item.rank: item for item in ranks}
    faults = []
    for rank in range(world):
        item = by_rank.get(rank)
        if item is None:
            faults.append(Fault("incomplete", "it recorded nothing; was its process ended?", rank=rank))
        elif item.state == "started":
            faults.append(
                Fault("incomplete", "it started to save and never finished; was its process ended?", rank=rank)
            )
        elif item.state == "failed":
            faults.append(Fault("incomplete", f"it failed: {item.reason or 'no reason given'}", rank=rank))
    for rank in sorted(set(by_rank) - set(range(world))):
        faults.append(Fault("surplus", f"there are only {world} ranks", rank=rank))
    return faults


def _abandoned(root: Path) -> list[Fault]:
    """What can be said of a checkpoint that nobody recorded and that lacks its map: PyTorch writes that last."""
    files = list_files(root)
    shards = [path for path in files if path.endswith(".distcp")]
    if shards and not any(path.rpartition("/")[2].endswith(".metadata") for path in files):
        return [Fault("incomplete", "shards lie there and no .metadata; the save was cut off")]
    return []


def _against_folder(root: Path, manifest: ShardManifest) -> list[Fault]:
    """Compare with the files that lie there and with what the checkpoint says about itself; sizes only, digests were just made."""
    found = survey(root)
    faults = list(found.faults)
    listed = {item.path: item for item in manifest.files}
    faults += [Fault("surplus", "no rank recorded it", path) for path in found.files if path not in listed]
    there = set(found.files)
    for item in manifest.files:
        if item.path not in there:
            faults.append(Fault("missing", "a rank recorded it and it is not there", item.path, item.rank))
        elif (size := (root / item.path).stat().st_size) != item.size:
            faults.append(Fault("altered", f"{item.size} bytes were recorded, {size} lie there", item.path, item.rank))
    recorded = {(piece.tensor, piece.file, piece.start, piece.length) for piece in manifest.pieces}
    for place in found.places:
        if (place.tensor, place.file, place.start, place.length) not in recorded:
            rank = listed[place.file].rank if place.file in listed else None
            faults.append(Fault("missing", "no rank recorded this shard", place.file, rank, place.tensor))
    return sorted(set(faults), key=str)


def load_manifest(folder: str | Path) -> ShardManifest:
    """Read the manifest of a recorded checkpoint.

    Raises:
        CheckpointError: there is none (then the ranks that did not finish are named), or it is damaged.
    """
    path = manifest_path(folder)
    try:
        if path.stat().st_size > MAX_MANIFEST:
            raise CheckpointError(f"{path}: larger than {MAX_MANIFEST} bytes")
        data = path.read_bytes()
    except FileNotFoundError:
        ranks = read_ranks(Path(folder)) if Path(folder).is_dir() else []
        faults = unfinished(ranks) if ranks else []
        raise CheckpointError(
            f"{folder}: the checkpoint has no manifest, so it was never recorded as whole; `cognify checkpoint manifest` makes one "
            "if nothing is missing",
            faults,
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    return parse_manifest(data, str(path))


def save_manifest(folder: str | Path, manifest: ShardManifest) -> Path:
    """Write a checkpoint's manifest; one that says the same stays.

    Raises:
        CheckpointError: another one lies there already.
    """
    path = manifest_path(folder)
    data = manifest.to_bytes()
    if path.exists() and path.read_bytes() != data:
        raise CheckpointError(f"{path}: another manifest lies there; a recorded checkpoint is not recorded anew")
    return write_whole(path, data)


def write_whole(path: Path, data: bytes) -> Path:
    """Write a file whole or not at all.

    Raises:
        CheckpointError: naming what stands against it.
    """
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        raise CheckpointError(f"{path}: can't be written ({error.strerror})") from None
    return path
