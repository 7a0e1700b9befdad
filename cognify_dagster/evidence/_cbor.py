"""The part of CBOR (RFC 8949) that the envelope needs, in its deterministic form.

Invariants:
    * One value has one encoding (RFC 8949 section 4.2.1): shortest lengths, definite lengths, map keys sorted
      by their encoded bytes, no key twice.
    * The decoder accepts that encoding only, so no byte of an envelope can change without notice. It never
      reads past its input and never nests deeper than four levels.

Supported: unsigned integers, byte strings, text, arrays, maps with integer or text keys, and tags.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_UINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG = 0, 2, 3, 4, 5, 6
_MAX_DEPTH = 4
_MAX_ITEMS = 16


class CborError(ValueError):
    """The bytes are not the deterministic encoding of a supported value."""


@dataclass(frozen=True)
class Tag:
    """A tagged value."""

    number: int
    value: object


def _head(major: int, argument: int) -> bytes:
    if argument < 24:
        return bytes([major << 5 | argument])
    for extra, length in ((24, 1), (25, 2), (26, 4), (27, 8)):
        if argument < 1 << (8 * length):
            return bytes([major << 5 | extra]) + argument.to_bytes(length, "big")
    raise CborError("a number of more than 64 bits cannot be encoded")


def encode(value: object) -> bytes:
    """Return the deterministic encoding of ``value``; raises :class:`CborError` for an unsupported type."""
    if type(value) is int and value >= 0:
        return _head(_UINT, value)
    if isinstance(value, bytes):
        return _head(_BYTES, len(value)) + value
    if isinstance(value, str):
        text = value.encode("utf-8")
        return _head(_TEXT, len(text)) + text
    if isinstance(value, list):
        return b"".join([_head(_ARRAY, len(value)), *map(encode, value)])
    if isinstance(value, Mapping):
        pairs = sorted((encode(key), encode(item)) for key, item in value.items())
        return b"".join([_head(_MAP, len(pairs)), *(part for pair in pairs for part in pair)])
    if isinstance(value, Tag):
        return _head(_TAG, value.number) + encode(value.value)
    raise CborError(f"a {type(value).__name__} cannot be encoded")


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.view = memoryview(data)
        self.at = 0

    def take(self, count: int) -> bytes:
        if count > len(self.view) - self.at:
            raise CborError("the bytes end too early")
        self.at += count
        return bytes(self.view[self.at - count : self.at])

    def head(self) -> tuple[int, int]:
        first = self.take(1)[0]
        major, argument = first >> 5, first & 31
        if argument >= 28:
            raise CborError("indefinite or reserved length")
        if argument >= 24:
            length = 1 << (argument - 24)
            argument = int.from_bytes(self.take(length), "big")
            if argument < (24 if length == 1 else 1 << (4 * length)):
                raise CborError("a length or number is not in its shortest form")
        return major, argument

    def value(self, depth: int) -> object:
        if depth > _MAX_DEPTH:
            raise CborError("nested too deep")
        major, argument = self.head()
        if major == _UINT:
            return argument
        if major == _BYTES:
            return self.take(argument)
        if major == _TEXT:
            try:
                return self.take(argument).decode("utf-8")
            except UnicodeDecodeError as error:
                raise CborError("text is not UTF-8") from error
        if major in (_ARRAY, _MAP) and argument > _MAX_ITEMS:
            raise CborError("too many items")
        if major == _ARRAY:
            return [self.value(depth + 1) for _ in range(argument)]
        if major == _MAP:
            return self.map(argument, depth)
        if major == _TAG:
            return Tag(argument, self.value(depth + 1))
        raise CborError("negative numbers, floats and simple values are not used here")

    def map(self, count: int, depth: int) -> dict[int | str, object]:
        result: dict[int | str, object] = {}
        previous = b""
        for _ in range(count):
            start = self.at
            key = self.value(depth + 1)
            if not isinstance(key, (int, str)):
                raise CborError("a map key is neither a number nor text")
            encoded = bytes(self.view[start : self.at])
            if encoded <= previous:
                raise CborError("map keys are not sorted or not unique")
            previous = encoded
            result[key] = self.value(depth + 1)
        return result


def decode(data: bytes) -> object:
    """Return the value that ``data`` encodes.

    Raises:
        CborError: ``data`` is not exactly one deterministically encoded, supported value.
    """
    reader = _Reader(data)
    value = reader.value(0)
    if reader.at != len(data):
        raise CborError("bytes follow the value")
    return value
