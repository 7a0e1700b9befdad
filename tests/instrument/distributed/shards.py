"""Makes small sharded checkpoints without PyTorch, in the form that its distributed safetensors writer leaves."""

from __future__ import annotations

import itertools
import json
import shutil
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

DCP = Path(__file__).parent / "data" / "dcp_2ranks"
Extent = tuple[int, ...]


@dataclass(frozen=True)
class Part:
    """A block of an int32 tensor."""

    offsets: Extent
    sizes: Extent
    data: bytes


def dcp_copy(folder: Path) -> Path:
    """A copy of the checkpoint that PyTorch wrote."""
    shutil.copytree(DCP, folder)
    return folder


def write_safetensors(
    path: Path, tensors: Mapping[str, tuple[str, Extent, bytes]], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file by the format's description."""
    header: dict[str, object] = {"__metadata__": metadata} if metadata else {}
    at = 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, at + len(data)]}
        at += len(data)
    head = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(head)) + head + b"".join(data for _, _, data in tensors.values()))


def write_rank_shard(folder: Path, rank: int, parts: Mapping[str, Part]) -> Path:
    """Write a rank's file, with the offsets of its blocks in the header."""
    offsets = {name: {"saved_offsets": list(part.offsets)} for name, part in parts.items()}
    path = folder / f"shard-{rank + 1:05d}-model-00001-of-00001.safetensors"
    tensors = {name: ("I32", part.sizes, part.data) for name, part in parts.items()}
    write_safetensors(path, tensors, {"DCP_SHARDING_INFO": json.dumps(offsets)})
    return path


def block_of(values: list[int], shape: Extent, offsets: Extent, sizes: Extent) -> bytes:
    """A block's elements in row-major order, by walking every index: slow and plain."""
    out = []
    for index in itertools.product(*(range(size) for size in sizes)):
        at = 0
        for axis, size in enumerate(shape):
            at = at * size + index[axis] + offsets[axis]
        out.append(values[at])
    return struct.pack(f"<{len(out)}i", *out)


def cut(shape: Extent, cuts: list[list[int]]) -> list[tuple[Extent, Extent]]:
    """The grid of blocks that cuts along each axis make."""
    axes = []
    for size, at in zip(shape, cuts, strict=True):
        edges = sorted({0, size, *[value for value in at if 0 < value < size]})
        axes.append([(a, b - a) for a, b in itertools.pairwise(edges)])
    return [
        (tuple(start for start, _ in block), tuple(size for _, size in block)) for block in itertools.product(*axes)
    ]


@st.composite
def tilings(draw: st.DrawFn) -> tuple[Extent, list[tuple[Extent, Extent]]]:
    """A shape and a grid of blocks that covers it exactly."""
    shape = tuple(draw(st.lists(st.integers(1, 5), max_size=3)))
    cuts = [draw(st.lists(st.integers(0, size), max_size=3)) for size in shape]
    return shape, cut(shape, cuts)


@st.composite
def sharded(draw: st.DrawFn) -> tuple[dict[str, tuple[Extent, list[int]]], list[dict[str, Part]]]:
    """Tensors by name as (shape, values), and what each rank holds of them."""
    world = draw(st.integers(1, 4))
    ranks: list[dict[str, Part]] = [{} for _ in range(world)]
    whole = {}
    for index in range(draw(st.integers(1, 3))):
        name = f"layer{index}.weight"
        rows, width = draw(st.integers(world, 6)), draw(st.integers(1, 3))
        shape = (rows, width)
        values = draw(st.lists(st.integers(-(2**31), 2**31 - 1), min_size=rows * width, max_size=rows * width))
        edges = [rows * rank // world for rank in range(world + 1)]
        for rank, (start, end) in enumerate(itertools.pairwise(edges)):
            offsets, sizes = (start, 0), (end - start, width)
            ranks[rank][name] = Part(offsets, sizes, block_of(values, shape, offsets, sizes))
        whole[name] = (shape, values)
    return whole, ranks
