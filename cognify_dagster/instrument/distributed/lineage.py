"""From the shards of a checkpoint to the consolidated model: makes one, and proves of any that its tensors are the shards'.

A piece's digest is over its elements alone, so the released model can be compared with the manifest block by block: for each block that
a rank wrote, the same block of the model's tensor has to have the same digest. The shards need not exist any more.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.distributed.blocks import Block, runs, volume
from cognify_dagster.instrument.distributed.digesting import digest_file, open_place
from cognify_dagster.instrument.distributed.errors import CheckpointError, Fault
from cognify_dagster.instrument.distributed.manifest import Piece, ShardManifest
from cognify_dagster.instrument.distributed.tensors import (
    ITEM_BYTES,
    SAFE_NAMES,
    StoredTensor,
    safetensors_in,
    torch_tensors_in,
)
from cognify_dagster.ledger import canonical_json

FORMAT = "cognify-shard-lineage/1"
_TORCH_SUFFIXES = (".pt", ".pth", ".bin", ".ckpt")


@dataclass(frozen=True)
class TensorLineage:
    """One tensor of the model and the shards that it consists of. `same_as`: it is not in the file, an equal tensor is (tied weights)."""

    name: str
    source: str
    dtype: str
    shape: tuple[int, ...]
    sha256: str
    pieces: tuple[Piece, ...]
    same_as: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values."""
        shards = [{key: value for key, value in piece.row().items() if key != "row"} for piece in self.pieces]
        return {
            "name": self.name,
            "source": self.source,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "sha256": self.sha256,
            "same_as": self.same_as,
            "shards": shards,
        }


@dataclass(frozen=True)
class Lineage:
    """From a checkpoint's root to a model's files, tensor by tensor."""

    root: str
    files: tuple[dict[str, Any], ...]
    tensors: tuple[TensorLineage, ...]
    unused: int

    def to_bytes(self) -> bytes:
        """The lineage document: canonical JSON."""
        return canonical_json(
            {
                "format": FORMAT,
                "checkpoint_root": self.root,
                "model_files": list(self.files),
                "tensors": [item.to_json() for item in self.tensors],
                "shards_not_in_the_model": self.unused,
            }
        )


def select(
    manifest: ShardManifest, *, prefix: str | None = None, part: str | None = None
) -> dict[str, tuple[str, list[Piece]]]:
    """The tensors that make up the model: name in the model -> (name in the checkpoint, pieces).

    Args:
        manifest: The checkpoint.
        prefix: What the model's tensors begin with in the checkpoint, cut off in the model. Unless given it is ``model.`` where the
            checkpoint also holds an optimizer's state (``optim…``), else nothing.
        part: The folder inside the checkpoint that holds the model, where there are several.

    Raises:
        CheckpointError: no such tensors, or several parts hold some and none is named.
    """
    tensors = manifest.tensors()
    parts = sorted({key[0] for key in tensors})
    if part is None:
        if len(parts) > 1:
            with_model = [name for name in parts if not name.rpartition("/")[2].startswith("optim")]
            if len(with_model) != 1:
                raise CheckpointError(
                    f"tensors lie in several folders ({', '.join(map(repr, parts))}); name the model's one"
                )
            parts = with_model
        part = parts[0] if parts else ""
    names = sorted(name for where, name in tensors if where == part)
    if prefix is None:
        has_optimizer = any(name.startswith("optim") for name in names)
        only_model = all(name.startswith("model.") for name in names) and part.rpartition("/")[2].startswith(
            "pytorch_model"
        )
        prefix = "model." if (has_optimizer or only_model) and any(name.startswith("model.") for name in names) else ""
    chosen = {name[len(prefix) :]: (name, tensors[part, name]) for name in names if name.startswith(prefix)}
    if not chosen:
        raise CheckpointError(f"no tensor in {part or 'the checkpoint'!r} begins with {prefix!r}")
    return chosen


# Making a model ---------------------------------------------------------------------------------------------------------


def consolidate(
    folder: str | Path,
    manifest: ShardManifest,
    target: str | Path,
    *,
    prefix: str | None = None,
    part: str | None = None,
) -> Lineage:
    """Write the model of a sharded checkpoint as one safetensors file. Every piece is compared with the manifest as it is read.

    No code of the checkpoint is run and no tensor is held in memory whole. Element types stay what they are.

    Raises:
        CheckpointError: a piece differs from the manifest or cannot be read as elements, or the target exists.
    """
    root, out = Path(folder), Path(target)
    if out.exists():
        raise CheckpointError(f"{out}: there is already a file; it is not overwritten")
    chosen = select(manifest, prefix=prefix, part=part)
    header: dict[str, Any] = {"__metadata__": {"format": "pt", "cognify_checkpoint_root": manifest.root}}
    at = 0
    begins: dict[str, int] = {}
    for name, (source, pieces) in chosen.items():
        first = pieces[0]
        if first.dtype not in SAFE_NAMES or any(piece.of != "data" for piece in pieces):
            raise CheckpointError(
                f"tensor {source}: its elements ({first.dtype}) can't be read here; use the library that wrote it"
            )
        size = volume(first.shape or ()) * ITEM_BYTES[first.dtype]
        header[name] = {
            "dtype": SAFE_NAMES[first.dtype],
            "shape": list(first.shape or ()),
            "data_offsets": [at, at + size],
        }
        begins[name], at = at, at + size
    head = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    head += b" " * (-len(head) % 8)
    handle, temporary = tempfile.mkstemp(dir=out.parent, prefix=f".{out.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(struct.pack("<Q", len(head)) + head)
            data_start = 8 + len(head)
            stream.truncate(data_start + at)
            for name, (_, pieces) in chosen.items():
                for piece in pieces:
                    _copy(root, piece, stream, data_start + begins[name])
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)
        os.link(temporary, out)
        os.unlink(temporary)
    except BaseException as error:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        if isinstance(error, FileExistsError):
            raise CheckpointError(f"{out}: there is already a file; it is not overwritten") from None
        if isinstance(error, OSError):
            raise CheckpointError(f"{out}: can't be written ({error.strerror})") from None
        raise
    return verify_consolidated(manifest, out, prefix=prefix, part=part)


def _copy(root: Path, piece: Piece, stream: Any, start: int) -> None:
    """Copy a piece's elements to where they belong, run by run."""
    stored = open_place(root, piece)
    block = piece.block
    assert stored is not None
    assert block is not None
    digest = hashlib.sha256()
    chunks = stored.chunks()
    data = memoryview(b"")
    for first, count in runs(piece.shape or (), block):
        stream.seek(start + first * stored.item)
        left = count * stored.item
        while left:
            if not data:
                chunk = next(chunks)
                digest.update(chunk)
                data = memoryview(chunk)
            stream.write(data[:left])
            taken = min(left, len(data))
            data, left = data[taken:], left - taken
    if digest.hexdigest() != piece.sha256 and volume(block.sizes):
        fault = Fault("altered", "its elements are not the recorded ones", piece.file, piece.rank, piece.tensor)
        raise CheckpointError("the checkpoint is not what was recorded", [fault])


# Proving where a model comes from ----------------------------------------------------------------------------------------


def verify_consolidated(
    manifest: ShardManifest,
    model: str | Path,
    *,
    prefix: str | None = None,
    part: str | None = None,
    renamed: Mapping[str, str] | None = None,
) -> Lineage:
    """Compare every tensor of a model with the shards of a checkpoint, block by block. The shards themselves are not needed.

    Args:
        manifest: The checkpoint; check its root against the ledger first.
        model: A safetensors or ``torch.save`` file, or a folder with such files.
        prefix: See `select`.
        part: See `select`.
        renamed: Names in the checkpoint (behind the prefix) to names in the model, where they differ.

    Returns:
        The lineage: for each tensor, the shards that it consists of.

    Raises:
        CheckpointError: a tensor is missing, surplus, of another type or shape, or holds other values; each is named with the rank.
    """
    path = Path(model)
    held = {tensor.name: tensor for tensor in model_tensors(path)}
    chosen = select(manifest, prefix=prefix, part=part)
    names = {name: (renamed or {}).get(name, name) for name in chosen}
    faults: list[Fault] = []
    proved: list[TensorLineage] = []
    alike: dict[tuple[Any, ...], str] = {}
    missing: list[str] = []
    for name, (source, pieces) in chosen.items():
        tensor = held.get(names[name])
        if tensor is None:
            missing.append(name)
            continue
        found = list(_differences(tensor, source, pieces))
        faults += found
        if not found:
            alike.setdefault(_values(pieces), names[name])
            proved.append(
                TensorLineage(names[name], source, tensor.dtype, tensor.shape, tensor.digest(), tuple(pieces))
            )
    by_name = {item.name: item for item in proved}
    for name in missing:
        source, pieces = chosen[name]
        twin = by_name.get(alike.get(_values(pieces), ""))
        if twin is None:
            faults.append(Fault("missing", f"the model {path.name} does not hold it", tensor=source))
        else:
            proved.append(
                TensorLineage(
                    names[name], source, twin.dtype, twin.shape, twin.sha256, tuple(pieces), same_as=twin.name
                )
            )
    for name in sorted(set(held) - set(names.values())):
        faults.append(Fault("surplus", f"the model {path.name} holds it and the checkpoint does not", tensor=name))
    if faults:
        raise CheckpointError(f"{path}: the model does not come from the checkpoint {manifest.root} alone", faults)
    used = sum(len(item.pieces) for item in proved)
    files = tuple(
        {"path": row.path, "size": row.size, "sha256": row.sha256}
        for row in (digest_file(file.parent, file.name) for file in _model_files(path))
    )
    return Lineage(manifest.root, files, tuple(sorted(proved, key=lambda item: item.name)), len(manifest.pieces) - used)


def _differences(tensor: StoredTensor, source: str, pieces: Sequence[Piece]) -> Iterator[Fault]:
    first = pieces[0]
    if tensor.shape != first.shape or tensor.dtype != first.dtype:
        text = f"{tensor.dtype} {list(tensor.shape)} in the model, {first.dtype} {list(first.shape or ())} in the checkpoint"
        yield Fault("altered", text, tensor=source)
        return
    for piece in pieces:
        block = piece.block
        assert block is not None
        if not volume(block.sizes):
            continue
        if piece.of != "data":
            text = "its elements were not digested when it was saved, so it cannot be compared"
            yield Fault("incomplete", text, piece.file, piece.rank, source)
        elif tensor.digest(Block(block.offsets, block.sizes)) != piece.sha256:
            text = f"the model's block at {list(block.offsets)} of size {list(block.sizes)} holds other values"
            yield Fault("altered", text, piece.file, piece.rank, source)


def _values(pieces: Sequence[Piece]) -> tuple[Any, ...]:
    """Equal for tensors of equal type, shape and, block by block, values."""
    return tuple(sorted((piece.dtype, piece.shape, piece.offsets, piece.sizes, piece.sha256) for piece in pieces))


def model_tensors(path: Path) -> list[StoredTensor]:
    """The tensors of a model: one file, or all weight files of a folder.

    Raises:
        CheckpointError: no weights there, or a tensor in two files.
    """
    found: dict[str, StoredTensor] = {}
    for file in _model_files(path):
        tensors = safetensors_in(file) if file.suffix == ".safetensors" else torch_tensors_in(file)
        for tensor in tensors:
            if tensor.name in found:
                raise CheckpointError(f"{file}: tensor {tensor.name} is also in {found[tensor.name].path.name}")
            found[tensor.name] = tensor
    return list(found.values())


def _model_files(path: Path) -> list[Path]:
    if not path.is_dir():
        if not path.exists():
            raise CheckpointError(f"{path}: no such file")
        return [path]
    safe = sorted(item for item in path.iterdir() if item.suffix == ".safetensors")
    found = safe or sorted(
        item for item in path.iterdir() if item.name.startswith("pytorch_model") and item.suffix in _TORCH_SUFFIXES
    )
    if not found:
        raise CheckpointError(f"{path}: holds neither *.safetensors nor pytorch_model*.bin")
    return found
