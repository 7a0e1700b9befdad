"""Finds what a checkpoint folder consists of: files, the pieces of tensors in them, and which rank wrote which.

Knows PyTorch distributed checkpoints (``.metadata`` with ``__RANK_N.distcp``), also several in subfolders as the Hugging Face Trainer
writes them under FSDP; safetensors, one file or sharded with an index, also as PyTorch's distributed writer leaves them; and any other
file as a whole. Nothing is unpickled (see `inert_pickle`), and no link is followed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.distributed.blocks import Extent
from cognify_dagster.instrument.distributed.errors import CheckpointError, Fault
from cognify_dagster.instrument.distributed.inert_pickle import Node, Pairs, Symbol, read_inert
from cognify_dagster.instrument.distributed.tensors import ITEM_BYTES, MAX_PICKLE, safetensors_in

SHARDS_FOLDER = "cognify-shards"
"""Subfolder of a checkpoint that holds our own files: what each rank wrote, and the manifest. Not part of the checkpoint."""
MAX_FILES = 200_000
MAX_INDEX = 64 * 1024 * 1024

_DCP_FILE = re.compile(r"^__(\d{1,7})_\d{1,9}\.distcp$")
_HF_SHARD = re.compile(r"^shard-(\d{1,7})-model-\d{1,7}-of-\d{1,7}\.safetensors$")
_PER_RANK = (
    re.compile(r"^__(\d{1,7})\.metadata$"),
    re.compile(r"^rng_state_(\d{1,7})\.pth$"),
)
_METADATA = re.compile(r"^(__\d{1,7})?\.metadata$")


@dataclass(frozen=True)
class Place:
    """Where a piece lies, before its bytes were read. `dtype` and the extents are None for something that is no tensor."""

    tensor: str
    file: str
    start: int
    length: int
    dtype: str | None = None
    shape: Extent | None = None
    offsets: Extent | None = None
    sizes: Extent | None = None
    transformed: bool = False


@dataclass(frozen=True)
class Survey:
    """A checkpoint folder: its files sorted by path, its pieces, and what is missing already by what it says about itself."""

    folder: Path
    files: tuple[str, ...]
    places: tuple[Place, ...]
    faults: tuple[Fault, ...] = ()


def writer_of(path: str) -> int | None:
    """The rank that wrote a file, as its name says; None where it does not."""
    name = path.rpartition("/")[2]
    found = _DCP_FILE.match(name)
    if found:
        return int(found[1])
    found = _HF_SHARD.match(name)
    if found:
        return int(found[1]) - 1
    for pattern in _PER_RANK:
        found = pattern.match(name)
        if found:
            return int(found[1])
    return None


def list_files(folder: Path) -> list[str]:
    """Every file below a folder but our own, relative, sorted.

    Raises:
        CheckpointError: no folder, links or special files inside, too many files.
    """
    if folder.is_symlink() or not folder.is_dir():
        raise CheckpointError(f"{folder}: no such folder; give the folder of one checkpoint")
    found: list[str] = []
    pending = [""]
    while pending:
        below = pending.pop()
        try:
            with os.scandir(folder / below) as entries:
                for entry in entries:
                    name = f"{below}/{entry.name}" if below else entry.name
                    if name == SHARDS_FOLDER:
                        continue
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(name)
                    elif entry.is_file(follow_symlinks=False):
                        found.append(_utf8(name))
                    else:
                        raise CheckpointError(
                            f"{folder / name}: a link or special file; a checkpoint holds plain files"
                        )
                    if len(found) > MAX_FILES:
                        raise CheckpointError(f"{folder}: more than {MAX_FILES} files; is this one checkpoint?")
        except OSError as error:
            raise CheckpointError(f"{folder / below}: can't be listed ({error.strerror})") from None
    return sorted(found)


def _utf8(name: str) -> str:
    try:
        name.encode("utf-8")
    except UnicodeEncodeError:
        raise CheckpointError(f"{name!r}: a file name that is not UTF-8; rename it") from None
    return name


def survey(folder: str | Path) -> Survey:
    """Look through a checkpoint folder.

    Raises:
        CheckpointError: it cannot be read, or what it says about itself can't be understood.
    """
    root = Path(folder)
    files = list_files(root)
    present = set(files)
    places: list[Place] = []
    faults: list[Fault] = []
    for path in files:
        base, _, name = path.rpartition("/")
        if _METADATA.match(name):
            places += [_below(base, place) for place in dcp_places(root / path)]
        elif name.endswith(".safetensors"):
            places += _safetensors_places(root, path)
        elif name.endswith(".safetensors.index.json"):
            faults += _index_faults(root, path, base, present)
    for place in places:
        if place.file not in present:
            faults.append(
                Fault(
                    "missing",
                    "the checkpoint names this file and it is not there",
                    place.file,
                    writer_of(place.file),
                    place.tensor,
                )
            )
    mapped = {place.file for place in places}
    for path in files:
        if path.endswith(".distcp") and path not in mapped:
            base = path.rpartition("/")[0]
            if any(_METADATA.match(other.rpartition("/")[2]) for other in files if other.rpartition("/")[0] == base):
                text = "the checkpoint's .metadata names no piece in this file"
                faults.append(Fault("surplus", text, path, writer_of(path)))
    return Survey(root, tuple(files), _with_shapes(places), tuple(sorted(set(faults), key=str)))


def _below(base: str, place: Place) -> Place:
    if not base:
        return place
    return Place(
        place.tensor, f"{base}/{place.file}", place.start, place.length, place.dtype, place.shape, place.offsets, place.sizes, place.transformed
    )  # fmt: skip


def _safetensors_places(root: Path, path: str) -> list[Place]:
    return [
        Place(
            tensor.name,
            path,
            tensor.start,
            tensor.size,
            tensor.dtype,
            tensor.shape if tensor.offsets is None else None,
            tensor.offsets or (0,) * len(tensor.shape),
            tensor.shape,
        )
        for tensor in safetensors_in(root / path)
    ]


def _with_shapes(places: Sequence[Place]) -> tuple[Place, ...]:
    """Fill in the whole shape where only the parts are known: as far as the parts reach."""
    reach: dict[tuple[str, str], list[int]] = {}
    for place in places:
        if place.shape is None and place.offsets is not None and place.sizes is not None:
            key = (place.file.rpartition("/")[0], place.tensor)
            ends = [offset + size for offset, size in zip(place.offsets, place.sizes, strict=False)]
            known = reach.setdefault(key, ends)
            if len(known) != len(ends):
                raise CheckpointError(f"{place.file}: tensor {place.tensor}: its parts differ in the number of axes")
            reach[key] = [max(a, b) for a, b in zip(known, ends, strict=True)]
    whole = []
    for place in places:
        shape = place.shape
        if shape is None and place.sizes is not None:
            shape = tuple(reach[place.file.rpartition("/")[0], place.tensor])
        whole.append(
            Place(
                place.tensor,
                place.file,
                place.start,
                place.length,
                place.dtype,
                shape,
                place.offsets,
                place.sizes,
                place.transformed,
            )
        )
    return tuple(whole)


def _index_faults(root: Path, path: str, base: str, present: set[str]) -> list[Fault]:
    """Compare an index of sharded safetensors with the shards that are there."""
    try:
        if (root / path).stat().st_size > MAX_INDEX:
            raise CheckpointError(f"{root / path}: larger than {MAX_INDEX} bytes")
        weights = json.loads((root / path).read_bytes())["weight_map"]
        wanted: dict[str, set[str]] = {}
        for tensor, name in weights.items():
            wanted.setdefault(f"{base}/{name}" if base else str(name), set()).add(tensor)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{root / path}: no index of safetensors shards ({error!r})") from None
    faults = []
    for name, tensors in wanted.items():
        held = {tensor.name for tensor in safetensors_in(root / name)} if name in present else set()
        why = (
            "the index names it and the file does not hold it"
            if name in present
            else "the index names it and the file is not there"
        )
        faults += [Fault("missing", why, name, writer_of(name), tensor) for tensor in tensors - held]
        faults += [
            Fault("surplus", "the index does not name it", name, writer_of(name), tensor) for tensor in held - tensors
        ]
    return faults


# PyTorch's .metadata --------------------------------------------------------------------------------------------------


def dcp_places(path: Path) -> list[Place]:
    """The pieces that a ``.metadata`` file of PyTorch's distributed checkpoint names, files relative to its folder.

    Raises:
        CheckpointError: it is damaged or of a form that is not known here.
    """
    try:
        if path.stat().st_size > MAX_PICKLE:
            raise CheckpointError(f"{path}: larger than {MAX_PICKLE} bytes")
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    tree = read_inert(data, str(path))
    try:
        kinds = {name: _what(node, path) for name, node in _pairs(tree.get("state_dict_metadata"))}
        return [_dcp_place(kinds, key, value) for key, value in _pairs(tree.get("storage_data"))]
    except (AttributeError, TypeError, ValueError, IndexError, KeyError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(
            f"{path}: not the metadata of a distributed checkpoint as this release knows it ({error!r})"
        ) from None


def _pairs(value: Any) -> list[tuple[Any, Any]]:
    if isinstance(value, Node):
        value = value.pairs
    if not isinstance(value, Pairs):
        raise ValueError("a mapping was expected")
    return value.items


def _extent(value: Any) -> Extent:
    if isinstance(value, Node):
        if value.what != Symbol("torch", "Size"):
            raise ValueError(f"a size was expected, not {value.what}")
        value = value.args[0]
    numbers = tuple(value)
    if any(isinstance(number, bool) or not isinstance(number, int) or number < 0 for number in numbers):
        raise ValueError(f"{numbers} is no size")
    return numbers


_Kind = tuple[str, Extent, dict[Extent, Extent]]


def _what(node: Any, path: Path) -> _Kind | None:
    """Element type, whole shape and the chunks by offset; None for something that is no tensor."""
    name = node.what.name if isinstance(node.what, Symbol) else ""
    if name == "BytesStorageMetadata":
        return None
    if name != "TensorStorageMetadata":
        raise CheckpointError(f"{path}: an entry of kind {name or node.what!r} is not known here")
    dtype = node.get("properties").state[0]
    if not isinstance(dtype, Symbol) or dtype.module != "torch":
        raise ValueError(f"{dtype!r} is no element type")
    chunks = {_extent(chunk.get("offsets")): _extent(chunk.get("sizes")) for chunk in node.get("chunks")}
    return dtype.name, _extent(node.get("size")), chunks


def _dcp_place(kinds: Mapping[str, _Kind | None], key: Any, value: Any) -> Place:
    tensor, offset = key.get("fqn"), key.get("offset")
    file, start, length = value.get("relative_path"), value.get("offset"), value.get("length")
    if (
        not isinstance(tensor, str)
        or not isinstance(file, str)
        or not isinstance(start, int)
        or not isinstance(length, int)
    ):
        raise ValueError("a piece without name, file or range")
    if "/" in file or "\\" in file or file in ("", ".", ".."):
        raise ValueError(f"the file name {file!r} leaves the checkpoint's folder")
    transformed = bool(value.get("transform_descriptors"))
    kind = kinds[tensor]
    if kind is None:
        return Place(tensor, file, start, length, transformed=transformed)
    dtype, shape, chunks = kind
    at = (0,) * len(shape) if offset is None else _extent(offset)
    return Place(tensor, file, start, length, dtype, shape, at, chunks[at], transformed or dtype not in ITEM_BYTES)


def part_of(file: str) -> str:
    """The folder inside the checkpoint that a file's tensors belong to; empty for the checkpoint's own folder."""
    return file.rpartition("/")[0]
