"""Finds tensors in files without PyTorch: safetensors, and the zip files of ``torch.save``, also inside a larger file.

Nothing is unpickled (see `inert_pickle`); sizes are bounded; a tensor's data are the bytes of its elements in row-major order, little
endian, whatever the file around them looks like. So the same tensor has the same digest as a shard and in the released model.
"""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cognify_dagster.instrument.distributed.blocks import Block, Extent, row_major, runs, volume
from cognify_dagster.instrument.distributed.errors import CheckpointError
from cognify_dagster.instrument.distributed.inert_pickle import Node, Pairs, Persistent, Symbol, read_inert

MAX_HEADER = 100_000_000
"""Bytes of a safetensors header, as the format's own reader allows."""
MAX_PICKLE = 512 * 1024 * 1024
_BLOCK = 1024 * 1024
_MAX_DEPTH = 32

_SAFE = {
    "F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2",
    "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U64": "uint64", "U32": "uint32", "U16": "uint16", "U8": "uint8",
    "BOOL": "bool", "C64": "complex64",
}  # fmt: skip
SAFE_NAMES = {name: code for code, name in _SAFE.items()}
"""PyTorch's name of an element type to that of safetensors."""
ITEM_BYTES = {
    "float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "int64": 8, "int32": 4,
    "int16": 2, "int8": 1, "uint64": 8, "uint32": 4, "uint16": 2, "uint8": 1, "bool": 1, "complex64": 8, "complex128": 16,
}  # fmt: skip
_STORAGES = {
    "DoubleStorage": "float64", "FloatStorage": "float32", "HalfStorage": "float16", "BFloat16Storage": "bfloat16",
    "LongStorage": "int64", "IntStorage": "int32", "ShortStorage": "int16", "CharStorage": "int8", "ByteStorage": "uint8",
    "BoolStorage": "bool", "ComplexFloatStorage": "complex64", "ComplexDoubleStorage": "complex128",
}  # fmt: skip


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file.

    Attributes:
        name: Its name there; empty where the file holds one tensor.
        dtype: PyTorch's name of the element type, such as ``float32``.
        shape: Its shape.
        path: The file.
        start: Where the storage's first byte is.
        stride: Elements to step for each axis; None when the bytes from `start` on are row-major.
        offsets: Where it begins in the whole tensor, if the file says so.
    """

    name: str
    dtype: str
    shape: Extent
    path: Path
    start: int
    stride: Extent | None = None
    offsets: Extent | None = None

    @property
    def item(self) -> int:
        """Bytes of an element."""
        return ITEM_BYTES[self.dtype]

    @property
    def size(self) -> int:
        """Bytes of all elements."""
        return volume(self.shape) * self.item

    def chunks(self, block: Block | None = None) -> Iterator[bytes]:
        """The row-major bytes of the tensor, or of a block of it, piece by piece.

        Raises:
            CheckpointError: the file is shorter than it should be, or cannot be read.
        """
        if self.stride is not None:
            yield from self._gather(block)
            return
        spans = [(0, volume(self.shape))] if block is None else runs(self.shape, block)
        try:
            with self.path.open("rb") as stream:
                for first, count in spans:
                    stream.seek(self.start + first * self.item)
                    left = count * self.item
                    while left:
                        data = stream.read(min(left, _BLOCK))
                        if not data:
                            raise CheckpointError(f"{self.path}: ends inside tensor {self.name or '(unnamed)'}")
                        left -= len(data)
                        yield data
        except OSError as error:
            raise CheckpointError(f"{self.path}: can't be read ({error.strerror})") from None

    def digest(self, block: Block | None = None) -> str:
        """SHA-256 of these bytes in lower-case hex."""
        found = hashlib.sha256()
        for data in self.chunks(block):
            found.update(data)
        return found.hexdigest()

    def _gather(self, block: Block | None) -> Iterator[bytes]:
        """As `chunks` for a transposed or strided tensor: element by element, which is slow and rare."""
        assert self.stride is not None
        reach = 1 + sum((size - 1) * step for size, step in zip(self.shape, self.stride, strict=True))
        flat = StoredTensor(self.name, self.dtype, (reach,), self.path, self.start)
        data = b"".join(flat.chunks())
        target = block or Block((0,) * len(self.shape), self.shape)
        out = bytearray()
        for index in range(volume(target.sizes)):
            rest, at = index, 0
            for axis in range(len(self.shape) - 1, -1, -1):
                rest, here = divmod(rest, target.sizes[axis])
                at += (here + target.offsets[axis]) * self.stride[axis]
            out += data[at * self.item : (at + 1) * self.item]
            if len(out) >= _BLOCK:
                yield bytes(out)
                out.clear()
        yield bytes(out)


def safetensors_in(path: Path) -> list[StoredTensor]:
    """The tensors of a safetensors file, from its header; where a distributed save left offsets there, with these.

    Raises:
        CheckpointError: not such a file, or a header that contradicts itself.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            head = stream.read(8)
            length = struct.unpack("<Q", head)[0] if len(head) == 8 else -1
            if not 0 < length <= min(MAX_HEADER, size - 8):
                raise CheckpointError(f"{path}: not a safetensors file (its header would have {length} bytes)")
            header = json.loads(stream.read(length), object_pairs_hook=_once)
    except OSError as error:
        raise CheckpointError(f"{path}: can't be read ({error.strerror})") from None
    except CheckpointError as error:
        raise error if str(path) in str(error) else CheckpointError(f"{path}: {error}") from None
    except (ValueError, RecursionError):
        raise CheckpointError(f"{path}: its safetensors header is not JSON") from None
    try:
        offsets = _saved_offsets(header.pop("__metadata__", None) or {})
        found = []
        for name, item in header.items():
            start, end = (_whole(value) for value in item["data_offsets"])
            shape = tuple(_whole(value) for value in item["shape"])
            tensor = StoredTensor(name, _SAFE[item["dtype"]], shape, path, 8 + length + start, None, offsets.get(name))
            if end - start != tensor.size or 8 + length + end > size:
                raise CheckpointError(
                    f"{path}: tensor {name}: its bytes {start} to {end} don't fit its shape or the file"
                )
            found.append(tensor)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{path}: its safetensors header can't be understood ({error!r})") from None
    return sorted(found, key=lambda tensor: tensor.start)


def _saved_offsets(metadata: dict[str, Any]) -> dict[str, Extent]:
    """What PyTorch's distributed writer adds to the header: where each tensor lies in the whole."""
    text = metadata.get("DCP_SHARDING_INFO")
    if not isinstance(text, str):
        return {}
    return {name: tuple(_whole(value) for value in item["saved_offsets"]) for name, item in json.loads(text).items()}


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object whose names are all different: readers differ in which of two they take."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise CheckpointError("its safetensors header holds a name twice")
    return found


def _whole(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is not a whole number")
    return value


def torch_tensors_in(path: Path, start: int = 0, length: int | None = None) -> list[StoredTensor]:
    """The tensors of a ``torch.save`` file (a tensor, or mappings and lists of them), which may lie inside a larger file.

    Args:
        path: The file.
        start: Where the saved zip begins in it.
        length: How long it is; to the end of the file unless given.

    Returns:
        Tensors named by their keys, joined with dots; other values are left out.

    Raises:
        CheckpointError: not such a file, damaged, big endian, or of a form that is not known here.
    """
    where = f"{path} at {start}" if start else str(path)
    try:
        whole = path.stat().st_size
        span = whole - start if length is None else length
        if start < 0 or span < 0 or start + span > whole:
            raise CheckpointError(f"{where}: bytes {start} to {start + span} are beyond the file's {whole}")
        with path.open("rb") as stream:
            return _zip_tensors(path, stream, start, span, where)
    except OSError as error:
        raise CheckpointError(f"{where}: can't be read ({error.strerror})") from None
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{where}: not a file of torch.save ({error})") from None


def _zip_tensors(path: Path, stream: io.BufferedReader, start: int, span: int, where: str) -> list[StoredTensor]:
    with zipfile.ZipFile(_Window(stream, start, span)) as archive:
        listed = archive.infolist()
    members = {info.filename.partition("/")[2]: info for info in listed}
    if len(members) != len(listed):  # readers differ in which of two they take
        raise CheckpointError(f"{where}: holds two parts of one name")

    def place(name: str) -> tuple[int, int]:
        info = members.get(name)
        if info is None or info.compress_type != zipfile.ZIP_STORED:
            raise CheckpointError(f"{where}: its part {name} is missing or compressed")
        stream.seek(start + info.header_offset)
        head = stream.read(30)
        if len(head) != 30 or head[:4] != b"PK\x03\x04":
            raise CheckpointError(f"{where}: its part {name} is damaged")
        name_size, extra_size = struct.unpack("<HH", head[26:30])
        begin = info.header_offset + 30 + name_size + extra_size
        if begin + info.file_size > span:
            raise CheckpointError(f"{where}: its part {name} is longer than the file")
        return start + begin, info.file_size

    def content(name: str, limit: int) -> bytes:
        at, size = place(name)
        if size > limit:
            raise CheckpointError(f"{where}: its part {name} has {size} bytes, more than {limit}")
        stream.seek(at)
        return stream.read(size)

    if "byteorder" in members and content("byteorder", 16).strip() != b"little":
        raise CheckpointError(f"{where}: written on a big-endian machine, which is not read here")
    tree = read_inert(content("data.pkl", MAX_PICKLE), where)
    found: list[StoredTensor] = []
    for name, node in _tensor_nodes(tree, "", 0):
        tensor = _tensor(name, node, path, place, where)
        if tensor is not None:
            found.append(tensor)
    return found


def _tensor_nodes(value: Any, name: str, depth: int) -> Iterator[tuple[str, Node]]:
    if depth > _MAX_DEPTH:
        return
    if isinstance(value, Node):
        what = value.what
        if isinstance(what, Symbol) and what.module == "torch._utils":
            if what.name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3"):
                yield name, value
            elif what.name in ("_rebuild_parameter", "_rebuild_parameter_with_state") and value.args:
                yield from _tensor_nodes(value.args[0], name, depth + 1)
            return
        value = value.pairs  # an OrderedDict
    if isinstance(value, Pairs):
        for key, item in value.items:
            if isinstance(key, (str, int)):
                yield from _tensor_nodes(item, f"{name}.{key}" if name else str(key), depth + 1)
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _tensor_nodes(item, f"{name}.{index}" if name else str(index), depth + 1)


def _tensor(name: str, node: Node, path: Path, place: Any, where: str) -> StoredTensor | None:
    try:
        storage, offset, size, stride = node.args[:4]
        if not isinstance(storage, Persistent):
            return None
        _, kind, key = storage.id[:3]
        dtype = _STORAGES.get(kind.name)
        if len(node.args) > 6 and isinstance(node.args[6], Symbol):  # _rebuild_tensor_v3 names the type itself
            dtype = node.args[6].name
        if dtype not in ITEM_BYTES:
            return None
        shape = tuple(_whole(value) for value in _plain(size))
        steps = tuple(_whole(value) for value in _plain(stride))
        begin, held = place(f"data/{key}")
        item = ITEM_BYTES[dtype]
        reach = 1 + sum((n - 1) * step for n, step in zip(shape, steps, strict=True)) if volume(shape) else 0
        if (_whole(offset) + reach) * item > held:
            raise CheckpointError(f"{where}: tensor {name or '(unnamed)'} is larger than its storage")
    except (TypeError, ValueError, AttributeError, IndexError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{where}: tensor {name or '(unnamed)'} can't be understood") from None
    return StoredTensor(name, dtype, shape, path, begin + offset * item, None if row_major(steps, shape) else steps)


def _plain(value: Any) -> tuple[Any, ...]:
    """The tuple inside a `torch.Size`, or the tuple itself."""
    if isinstance(value, Node):
        value = value.args[0]
    return tuple(value)


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, stream: io.BufferedReader, start: int, size: int) -> None:
        self._stream, self._start, self._size, self._at = stream, start, size, 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1) -> bytes:
        left = max(0, self._size - self._at)
        count = left if size is None or size < 0 else min(size, left)
        self._stream.seek(self._start + self._at)
        data = self._stream.read(count)
        self._at += len(data)
        return data
