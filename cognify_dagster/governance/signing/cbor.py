"""The little CBOR that passkeys need: one definite item in the deterministic form of RFC 8949 §4.2.1, of bounded depth."""

from __future__ import annotations

from typing import Any

_MAX_DEPTH = 4
_WIDTHS = {24: 1, 25: 2, 26: 4, 27: 8}
_LEAST = {1: 24, 2: 1 << 8, 4: 1 << 16, 8: 1 << 32}


class CborError(ValueError):
    """The bytes are no CBOR item of the kinds that passkeys need."""


def read_item(data: bytes, depth: int = _MAX_DEPTH) -> tuple[Any, bytes]:
    """Read one item (integer, bytes, ASCII text, map, false or true) from the front; return it and the bytes after it.

    Raises:
        CborError: if it is cut off, not in its shortest form, nested too deep, or of another kind.
    """
    if not data or depth == 0:
        raise CborError("it ends too early or is nested too deep")
    major, number, rest = _head(data)
    if major == 0:
        return number, rest
    if major == 1:
        return -1 - number, rest
    if major in (2, 3):
        return _string(major, number, rest)
    if major == 5:
        return _map(number, rest, depth)
    if major == 7 and number in (20, 21) and data[0] & 31 < 24:
        return number == 21, rest
    raise CborError("it is of a kind that passkeys do not need")


def _head(data: bytes) -> tuple[int, int, bytes]:
    major, info = data[0] >> 5, data[0] & 31
    if info < 24:
        return major, info, data[1:]
    width = _WIDTHS.get(info)
    if width is None or len(data) <= width:
        raise CborError("it is cut off or of indefinite length")
    number = int.from_bytes(data[1 : 1 + width], "big")
    if number < _LEAST[width]:
        raise CborError("a number is not in its shortest form")
    return major, number, data[1 + width :]


def _string(major: int, length: int, rest: bytes) -> tuple[bytes | str, bytes]:
    if length > len(rest):
        raise CborError("a string is cut off")
    value = rest[:length]
    if major == 2:
        return value, rest[length:]
    if not value.isascii():
        raise CborError("a text is not ASCII")
    return value.decode("ascii"), rest[length:]


def _map(count: int, rest: bytes, depth: int) -> tuple[dict[Any, Any], bytes]:
    found: dict[Any, Any] = {}
    last = b""
    for _ in range(count):
        name, after = read_item(rest, depth - 1)
        encoded = rest[: len(rest) - len(after)]
        if type(name) not in (int, str) or encoded <= last:
            raise CborError("the keys of a map are not in order")
        last = encoded
        found[name], rest = read_item(after, depth - 1)
    return found, rest
