"""Tensors in files: found without the libraries that wrote them, and files that contradict themselves are refused by name."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path

import pytest

from cognify_dagster.instrument.distributed import CheckpointError
from cognify_dagster.instrument.distributed.blocks import Block
from cognify_dagster.instrument.distributed.tensors import StoredTensor, safetensors_in, torch_tensors_in
from tests.instrument.distributed.shards import DCP, block_of, write_safetensors


def raw(path: Path, header: bytes, data: bytes = b"") -> Path:
    path.write_bytes(struct.pack("<Q", len(header)) + header + data)
    return path


def test_a_safetensors_file_is_read_from_its_header(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", {"a": ("I32", (2, 3), bytes(24)), "b": ("BF16", (), b"xy")})
    found = safetensors_in(tmp_path / "m.safetensors")
    assert [(t.name, t.dtype, t.shape, t.size) for t in found] == [("a", "int32", (2, 3), 24), ("b", "bfloat16", (), 2)]
    assert b"".join(found[1].chunks()) == b"xy"


@pytest.mark.parametrize(
    ("header", "data", "part"),
    [
        (b"{}x", b"", "not JSON"),
        (b"[]", b"", "can't be understood"),
        (b'{"a":{"dtype":"I32","shape":[2],"data_offsets":[0,8]}}', b"1234", "don't fit its shape or the file"),
        (b'{"a":{"dtype":"I32","shape":[3],"data_offsets":[0,8]}}', bytes(8), "don't fit its shape or the file"),
        (b'{"a":{"dtype":"I99","shape":[1],"data_offsets":[0,4]}}', bytes(4), "can't be understood"),
        (b'{"a":{"dtype":"I32","shape":[-1],"data_offsets":[0,4]}}', bytes(4), "can't be understood"),
        (b'{"a":{"dtype":"I32","shape":[1],"data_offsets":[0,4]},"a":{"dtype":"I32","shape":[1],"data_offsets":[4,8]}}', bytes(8), "a name twice"),
    ],
    ids=["text", "list", "short", "shape", "type", "negative", "doubled"],
)  # fmt: skip
def test_a_header_that_contradicts_itself_is_refused(header: bytes, data: bytes, part: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=part) as caught:
        safetensors_in(raw(tmp_path / "m.safetensors", header, data))
    assert "m.safetensors" in str(caught.value)


def test_a_header_longer_than_the_file_is_refused_before_it_is_read(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(struct.pack("<Q", 1 << 60) + b"{}")
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        safetensors_in(tmp_path / "m.safetensors")


def test_a_shard_inside_a_larger_file_is_found(tmp_path: Path) -> None:
    (tensor,) = torch_tensors_in(DCP / "__0_0.distcp", *_range("model.b.weight"))
    assert (tensor.dtype, tensor.shape) == ("int64", (3, 2))
    assert struct.unpack("<6q", b"".join(tensor.chunks())) == (0, 1, 4, 5, 8, 9), "columns, row by row"


def _range(name: str) -> tuple[int, int]:
    from cognify_dagster.instrument.distributed.survey import dcp_places

    (place,) = [p for p in dcp_places(DCP / ".metadata") if p.tensor == name and p.file == "__0_0.distcp"]
    return place.start, place.length


def test_a_range_beyond_the_file_is_refused() -> None:
    start, _ = _range("model.b.weight")
    with pytest.raises(CheckpointError, match="are beyond the file's"):
        torch_tensors_in(DCP / "__0_0.distcp", start, 1 << 40)


def test_an_archive_with_two_parts_of_one_name_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        archive.writestr("m/data.pkl", b"N.")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("m/data.pkl", b"N.")
    with pytest.raises(CheckpointError, match="two parts of one name"):
        torch_tensors_in(tmp_path / "m.pt")


@pytest.mark.parametrize(
    ("parts", "part"),
    [
        ({"m/data.pkl": b"N.", "m/byteorder": b"big"}, "big-endian"),
        ({"m/other": b""}, "data.pkl is missing"),
        ({"m/data.pkl": b"garbage"}, "damaged"),
    ],
    ids=["order", "missing", "garbage"],
)
def test_other_archives_are_refused(parts: dict[str, bytes], part: str, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "m.pt", "w") as archive:
        for name, data in parts.items():
            archive.writestr(name, data)
    with pytest.raises(CheckpointError, match=part):
        torch_tensors_in(tmp_path / "m.pt")


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"not a zip")
    with pytest.raises(CheckpointError, match=r"m\.pt: not a file of torch\.save"):
        torch_tensors_in(tmp_path / "m.pt")


@pytest.mark.parametrize("stride", [None, (1, 4)], ids=["row-major", "transposed"])
def test_a_block_is_read_in_its_own_order_however_it_is_stored(stride: tuple[int, int] | None, tmp_path: Path) -> None:
    values = list(range(12))
    shape = (4, 3)
    stored = values if stride is None else [values[row * 3 + column] for column in range(3) for row in range(4)]
    (tmp_path / "data").write_bytes(struct.pack("<12i", *stored))
    tensor = StoredTensor("w", "int32", shape, tmp_path / "data", 0, stride)
    for offsets, sizes in (((0, 0), (4, 3)), ((1, 1), (2, 2)), ((3, 0), (1, 3)), ((0, 2), (4, 1))):
        assert b"".join(tensor.chunks(Block(offsets, sizes))) == block_of(values, shape, offsets, sizes)


def test_a_file_that_was_cut_off_is_said(tmp_path: Path) -> None:
    (tmp_path / "data").write_bytes(bytes(10))
    with pytest.raises(CheckpointError, match="ends inside tensor w"):
        StoredTensor("w", "int32", (3,), tmp_path / "data", 0).digest()
