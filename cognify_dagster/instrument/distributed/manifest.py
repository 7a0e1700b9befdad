"""The manifest of a sharded checkpoint: every file and every piece of a tensor, with rank, offsets and digest, under one root.

Invariants:

* The root is the RFC 6962 Merkle root over the rows, each as canonical JSON, sorted by these bytes behind the first row, which states
  the run (world size, mesh, step, the checkpoint it resumed from). It depends on nothing else: not on who gathered the rows, in which
  order, or where the folder lies.
* `parse` recomputes the root; a manifest whose rows were edited is refused.
* Whether the pieces of a tensor cover it exactly once is computed from their offsets, not believed.

The format is in ``docs/distributed.md``.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from cognify_dagster.instrument.distributed.blocks import Block, Extent, fits, tiling
from cognify_dagster.instrument.distributed.errors import CheckpointError, Fault
from cognify_dagster.instrument.distributed.survey import part_of
from cognify_dagster.ledger import canonical_json, leaf_hash, merkle_root, parse_json
from cognify_dagster.training.paths import stays_inside

FORMAT = "cognify-shard-manifest/1"
MAX_MANIFEST = 512 * 1024 * 1024
_HEX = re.compile(r"^[0-9a-f]{64}$")


@dataclass(frozen=True)
class ResumedFrom:
    """The checkpoint that a run went on from."""

    root: str
    name: str = ""
    step: int | None = None

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        return {"root": self.root, "name": self.name, "step": self.step}


@dataclass(frozen=True)
class RunHeader:
    """The first row: what the checkpoint was written by.

    Attributes:
        world_size: Number of processes.
        name: The checkpoint's name, such as ``step-200``.
        step: Optimizer step.
        backend: Such as ``gloo`` or ``nccl``.
        strategy: Such as ``fsdp2`` or ``ddp``.
        mesh: Shape and names of the device mesh.
        resumed_from: The checkpoint that this run went on from.
    """

    world_size: int
    name: str = ""
    step: int | None = None
    backend: str = ""
    strategy: str = ""
    mesh: dict[str, Any] = field(default_factory=dict)
    resumed_from: ResumedFrom | None = None

    def row(self) -> dict[str, Any]:
        """As a row of the manifest."""
        return {
            "row": "checkpoint",
            "world_size": self.world_size,
            "name": self.name,
            "step": self.step,
            "backend": self.backend,
            "strategy": self.strategy,
            "mesh": self.mesh,
            "resumed_from": None if self.resumed_from is None else self.resumed_from.to_json(),
        }


@dataclass(frozen=True)
class FileRow:
    """A file: the rank that wrote it (None: its name does not say), size in bytes, SHA-256 in hex."""

    path: str
    rank: int | None
    size: int
    sha256: str

    def row(self) -> dict[str, Any]:
        """As a row of the manifest."""
        return {"row": "file", "path": self.path, "rank": self.rank, "size": self.size, "sha256": self.sha256}


@dataclass(frozen=True)
class Piece:
    """A shard: one block of a tensor, or an object that is no tensor (then `dtype` and the extents are None).

    `of` says what `sha256` is over: ``data``, the elements in row-major order, little endian; or ``stored``, the bytes as they lie in
    the file, where the elements can't be read without the library that wrote them.
    """

    tensor: str
    file: str
    rank: int | None
    start: int
    length: int
    sha256: str
    of: str = "data"
    dtype: str | None = None
    shape: Extent | None = None
    offsets: Extent | None = None
    sizes: Extent | None = None

    def row(self) -> dict[str, Any]:
        """As a row of the manifest."""
        return {
            "row": "shard",
            "tensor": self.tensor,
            "file": self.file,
            "rank": self.rank,
            "start": self.start,
            "length": self.length,
            "sha256": self.sha256,
            "of": self.of,
            "dtype": self.dtype,
            "shape": None if self.shape is None else list(self.shape),
            "offsets": None if self.offsets is None else list(self.offsets),
            "sizes": None if self.sizes is None else list(self.sizes),
        }

    @property
    def block(self) -> Block | None:
        """The part of the tensor that it holds; None for an object."""
        return None if self.offsets is None or self.sizes is None else Block(self.offsets, self.sizes)

    @property
    def part(self) -> str:
        """The folder inside the checkpoint that the tensor belongs to."""
        return part_of(self.file)


@dataclass(frozen=True)
class ShardManifest:
    """A whole checkpoint. Files and pieces are kept sorted, so equal checkpoints are equal manifests."""

    header: RunHeader
    files: tuple[FileRow, ...]
    pieces: tuple[Piece, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(sorted(self.files, key=lambda item: canonical_json(item.row()))))
        object.__setattr__(self, "pieces", tuple(sorted(self.pieces, key=lambda item: canonical_json(item.row()))))

    @property
    def rows(self) -> list[dict[str, Any]]:
        """All rows in the order of the tree."""
        return [self.header.row(), *(item.row() for item in self.files), *(item.row() for item in self.pieces)]

    @cached_property
    def root(self) -> str:
        """The RFC 6962 root over the rows, in hex."""
        return rows_root(self.rows)

    def to_bytes(self) -> bytes:
        """The manifest's file: canonical JSON, the same bytes for the same checkpoint."""
        return canonical_json({"format": FORMAT, "root": self.root, "rows": self.rows})

    def tensors(self) -> dict[tuple[str, str], list[Piece]]:
        """The tensors' pieces by (part, name), objects left out."""
        found: dict[tuple[str, str], list[Piece]] = defaultdict(list)
        for piece in self.pieces:
            if piece.block is not None:
                found[piece.part, piece.tensor].append(piece)
        return dict(found)

    def faults(self) -> list[Fault]:
        """What contradicts itself in the manifest: doubled files or shards, ranges beyond a file, gaps and overlaps of a tensor."""
        found = list(_duplicates(self.files, self.pieces))
        sizes = {item.path: item for item in self.files}
        for item in self.files:
            if item.rank is not None and not 0 <= item.rank < self.header.world_size:
                found.append(Fault("surplus", f"there are {self.header.world_size} ranks", item.path, item.rank))
        for piece in self.pieces:
            file = sizes.get(piece.file)
            if file is None:
                found.append(Fault("missing", "no row for this file", piece.file, piece.rank, piece.tensor))
            elif piece.start < 0 or piece.length < 0 or piece.start + piece.length > file.size:
                text = f"bytes {piece.start} to {piece.start + piece.length} lie beyond the file's {file.size}"
                found.append(Fault("malformed", text, piece.file, piece.rank, piece.tensor))
        for (_, tensor), pieces in self.tensors().items():
            found += _coverage(tensor, pieces)
        return sorted(set(found), key=str)


def rows_root(rows: Iterable[Mapping[str, Any]]) -> str:
    """RFC 6962 root over rows, each as canonical JSON, in the order given; hex."""
    return merkle_root(leaf_hash(canonical_json(row)) for row in rows).hex()


def _duplicates(files: Sequence[FileRow], pieces: Sequence[Piece]) -> Iterable[Fault]:
    seen: set[str] = set()
    for item in files:
        if item.path in seen:
            yield Fault("duplicated", "the file is listed twice", item.path, item.rank)
        seen.add(item.path)
    ranges: set[tuple[str, int, int, str]] = set()
    for piece in pieces:
        key = (piece.file, piece.start, piece.length, piece.tensor)
        if key in ranges:
            yield Fault("duplicated", "the shard is listed twice", piece.file, piece.rank, piece.tensor)
        ranges.add(key)


def _coverage(tensor: str, pieces: Sequence[Piece]) -> Iterable[Fault]:
    first = pieces[0]
    shape = first.shape or ()
    blocks: list[Block] = []
    fitting: list[Piece] = []
    for piece in pieces:
        block = piece.block
        assert block is not None
        if piece.shape != first.shape or piece.dtype != first.dtype:
            text = f"{piece.dtype} {_show(piece.shape)} here, {first.dtype} {_show(first.shape)} in {first.file}"
            yield Fault("malformed", text, piece.file, piece.rank, tensor)
        elif not fits(shape, block):
            text = f"its block at {_show(block.offsets)} of size {_show(block.sizes)} leaves the shape {_show(shape)}"
            yield Fault("malformed", text, piece.file, piece.rank, tensor)
        else:
            blocks.append(block)
            fitting.append(piece)
    gaps, overlaps = tiling(shape, blocks)
    for gap in gaps:
        text = f"no shard holds {_show(gap.sizes)} elements at {_show(gap.offsets)} of {_show(shape)}"
        yield Fault("gap", text, tensor=tensor)
    for one, other, both in overlaps:
        a, b = fitting[one], fitting[other]
        text = f"{_show(both.sizes)} elements at {_show(both.offsets)} are also in {a.file} of rank {a.rank}"
        kind = "duplicated" if a.block == b.block else "overlap"
        yield Fault(kind, text, b.file, b.rank, tensor)


def _show(extent: Extent | None) -> str:
    return "none" if extent is None else "x".join(str(value) for value in extent) or "scalar"


# Reading ---------------------------------------------------------------------------------------------------------------


def parse_manifest(data: bytes, where: str = "manifest") -> ShardManifest:
    """Read a manifest's file and recompute its root.

    Raises:
        CheckpointError: not such a file, a row that is not understood, or rows that don't give the root it states.
    """
    try:
        value = parse_json(data, limit=MAX_MANIFEST)
    except ValueError as error:
        raise CheckpointError(f"{where}: not JSON ({error})") from None
    if not isinstance(value, dict) or value.get("format") != FORMAT or not isinstance(value.get("rows"), list):
        raise CheckpointError(f"{where}: not a manifest of shards (format {FORMAT})")
    rows = value["rows"]
    if not rows:
        raise CheckpointError(f"{where}: it has no rows")
    header = parse_header(rows[0], f"{where}, row 0")
    files, pieces = parse_rows(rows[1:], where)
    manifest = ShardManifest(header, tuple(files), tuple(pieces))
    if manifest.rows != rows:
        raise CheckpointError(f"{where}: its rows are not in their order, or hold what this release does not know")
    if manifest.root != value.get("root"):
        raise CheckpointError(
            f"{where}: its rows give the root {manifest.root}, it states {str(value.get('root'))[:80]}"
        )
    return manifest


def parse_header(value: Any, where: str) -> RunHeader:
    """Read the first row.

    Raises:
        CheckpointError: naming the member that is wrong.
    """
    read = _Row(value, where, "checkpoint")
    resumed = value.get("resumed_from")
    link = None
    if resumed is not None:
        inner = _Row(resumed, f"{where}, resumed_from")
        link = ResumedFrom(inner.hex("root"), inner.text("name"), inner.number_or_none("step"))
    mesh = value.get("mesh")
    if not isinstance(mesh, dict):
        raise CheckpointError(f"{where}: mesh is no object")
    world = read.number("world_size")
    if not 1 <= world <= 1_000_000:
        raise CheckpointError(f"{where}: world_size is {world}")
    return RunHeader(
        world, read.text("name"), read.number_or_none("step"), read.text("backend"), read.text("strategy"), mesh, link
    )


def parse_rows(rows: Sequence[Any], where: str) -> tuple[list[FileRow], list[Piece]]:
    """Read rows of files and shards.

    Raises:
        CheckpointError: naming the row and member that is wrong.
    """
    files: list[FileRow] = []
    pieces: list[Piece] = []
    for index, value in enumerate(rows, 1):
        at = f"{where}, row {index}"
        kind = value.get("row") if isinstance(value, dict) else None
        read = _Row(value, at, str(kind))
        if kind == "file":
            files.append(
                FileRow(read.path("path"), read.number_or_none("rank"), read.number("size"), read.hex("sha256"))
            )
        elif kind == "shard":
            of, dtype = read.text("of"), value.get("dtype")
            if of not in ("data", "stored") or not (dtype is None or isinstance(dtype, str)):
                raise CheckpointError(f"{at}: of or dtype is not understood")
            extents = [read.extent(name) for name in ("shape", "offsets", "sizes")]
            if len({item is None for item in extents} | {dtype is None}) != 1:
                raise CheckpointError(f"{at}: dtype, shape, offsets and sizes are all given or all null")
            pieces.append(
                Piece(
                    read.text("tensor"),
                    read.path("file"),
                    read.number_or_none("rank"),
                    read.number("start"),
                    read.number("length"),
                    read.hex("sha256"),
                    of,
                    dtype,
                    *extents,
                )
            )
        else:
            raise CheckpointError(f"{at}: a row of kind {str(kind)[:40]!r} is not known here")
    return files, pieces


class _Row:
    """Takes members out of a row, with their types checked."""

    def __init__(self, value: Any, where: str, kind: str | None = None) -> None:
        if not isinstance(value, dict) or (kind is not None and value.get("row") != kind):
            raise CheckpointError(f"{where}: a row of kind {kind} was expected")
        self._value, self._where = value, where

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if not isinstance(value, str):
            raise CheckpointError(f"{self._where}: {name} is no text")
        return value

    def path(self, name: str) -> str:
        value = self.text(name)
        if not stays_inside(value):
            raise CheckpointError(f"{self._where}: {name} {value[:80]!r} leaves the checkpoint's folder")
        return value

    def hex(self, name: str) -> str:
        value = self.text(name)
        if not _HEX.match(value):
            raise CheckpointError(f"{self._where}: {name} is not 64 hex digits")
        return value

    def number(self, name: str) -> int:
        value = self._value.get(name)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise CheckpointError(f"{self._where}: {name} is not a whole number")
        return value

    def number_or_none(self, name: str) -> int | None:
        return None if self._value.get(name) is None else self.number(name)

    def extent(self, name: str) -> Extent | None:
        value = self._value.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or any(isinstance(n, bool) or not isinstance(n, int) or n < 0 for n in value):
            raise CheckpointError(f"{self._where}: {name} is no list of whole numbers")
        return tuple(value)
