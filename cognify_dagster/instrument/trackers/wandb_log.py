"""Reads the log of a W&B offline run (`run-<id>.wandb`): a LevelDB log of protocol buffer messages.

The file begins with `:W&B`, a magic number and a version; blocks of 32 KiB follow, in which each piece carries a CRC-32, its length
and whether it is a whole message or the first, middle or last piece of one. A run that was killed leaves a torn end, which is no error.

Invariants: every piece is checked against its CRC before it is parsed; sizes and counts are bounded; messages are parsed by the wandb
library's own classes, nothing is executed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from cognify_dagster.instrument.trackers.errors import TrackerError, TrackerUnreachable

MAGIC = b":W&B" + struct.pack("<HB", 0xBEE1, 0)
BLOCK = 32_768
_HEAD = struct.Struct("<IHB")
_FULL, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
MAX_LOG_BYTES = 2 * 1024**3
MAX_MESSAGE_BYTES = 64 * 1024 * 1024


@dataclass
class LogEnd:
    """How reading ended: whether the end is torn, and where."""

    torn_at: int | None = None
    messages: int = field(default=0)


def messages(path: Path, end: LogEnd) -> Iterator[bytes]:
    """Yield the messages of a log, joined from their pieces; a torn end is noted in `end`.

    Raises:
        TrackerError: if the file is no such log, too large, or damaged before its end.
    """
    size = path.stat().st_size
    if size > MAX_LOG_BYTES:
        raise TrackerError(f"{path}: has {size} bytes, more than {MAX_LOG_BYTES}")
    with path.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise TrackerError(
                f"{path}: is no W&B log of a known version; expected a file run-<id>.wandb of an offline run"
            )
        yield from _joined(stream, path, size, end)


def _joined(stream: BinaryIO, path: Path, size: int, end: LogEnd) -> Iterator[bytes]:
    parts: list[bytes] = []
    for kind, body, at in _pieces(stream, path, size, end):
        fits = kind in (_FULL, _FIRST) if not parts else kind in (_MIDDLE, _LAST)
        if not fits:
            raise TrackerError(f"{path}: damaged at byte {at}: a piece of a message is missing before it")
        parts.append(body)
        if sum(len(part) for part in parts) > MAX_MESSAGE_BYTES:
            raise TrackerError(f"{path}: a message at byte {at} is larger than {MAX_MESSAGE_BYTES} bytes")
        if kind in (_FULL, _LAST):
            yield b"".join(parts)
            end.messages += 1
            parts = []
    if parts and end.torn_at is None:
        end.torn_at = size


def _pieces(stream: BinaryIO, path: Path, size: int, end: LogEnd) -> Iterator[tuple[int, bytes, int]]:
    at = len(MAGIC)
    while at < size:
        left = BLOCK - at % BLOCK
        if left < _HEAD.size:
            at += left
            stream.seek(at)
            continue
        head = stream.read(_HEAD.size)
        if len(head) < _HEAD.size:
            end.torn_at = at
            return
        crc, length, kind = _HEAD.unpack(head)
        if kind == 0 and crc == 0 and length == 0:  # space that was reserved and never written
            end.torn_at = at
            return
        body = stream.read(length)
        if len(body) < length:
            end.torn_at = at
            return
        if kind not in (_FULL, _FIRST, _MIDDLE, _LAST) or length > left - _HEAD.size:
            raise TrackerError(f"{path}: damaged at byte {at}: not the head of a piece")
        if zlib.crc32(body, zlib.crc32(bytes((kind,)))) != crc:
            raise TrackerError(f"{path}: damaged at byte {at}: its checksum does not fit")
        yield kind, body, at
        at += _HEAD.size + length


def records(path: Path, end: LogEnd) -> Iterator[Any]:
    """Yield the messages as the wandb library's `Record` objects.

    Raises:
        TrackerUnreachable: if the wandb library is not installed.
        TrackerError: as `messages`, or for bytes that are no such message.
    """
    try:
        from google.protobuf.message import DecodeError  # type: ignore[import-untyped]
        from wandb.proto.wandb_internal_pb2 import Record
    except ImportError as error:
        raise TrackerUnreachable(
            "reading W&B runs needs the wandb library, which holds their format: pip install 'cognify-dagster[wandb]'"
        ) from error
    for position, data in enumerate(messages(path, end)):
        record = Record()
        try:
            record.ParseFromString(data)
        except DecodeError as error:
            raise TrackerError(f"{path}: message {position} cannot be read: {error}") from error
        yield record
