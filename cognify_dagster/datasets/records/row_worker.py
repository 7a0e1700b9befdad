"""A helper process that hashes rows, run as a file: standard library only, so that it starts at once.

It reads frames from its standard input and answers each with its digests, 32 bytes a row, until the input ends. First comes one byte,
1 if a key of 32 bytes follows and digests are HMAC-SHA256. A frame is two native 64-bit numbers (rows, bytes of data), then
rows + 1 native 64-bit bounds, then the data.
"""

from __future__ import annotations

import hashlib
import hmac
import sys
from array import array
from collections.abc import Sequence
from itertools import pairwise
from typing import BinaryIO


def hash_rows(bounds: Sequence[int], data: memoryview, secret: bytes | None) -> bytes:
    """The digests of rows that lie one after another in ``data``."""
    if secret is None:
        plain = hashlib.sha256
        return b"".join([plain(data[a:b]).digest() for a, b in pairwise(bounds)])
    keyed = hmac.digest
    return b"".join([keyed(secret, data[a:b], "sha256") for a, b in pairwise(bounds)])


def _exactly(stream: BinaryIO, size: int) -> bytearray | None:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        got = stream.readinto(view[done:])  # type: ignore[attr-defined]
        if not got:
            return None
        done += got
    return data


def main() -> None:
    """Answer frames until the input ends."""
    source, target = sys.stdin.buffer, sys.stdout.buffer
    mode = source.read(1)
    secret = source.read(32) if mode == b"\x01" else None
    while (head := _exactly(source, 16)) is not None:
        rows, size = memoryview(head).cast("Q")
        edges, data = _exactly(source, 8 * (rows + 1)), _exactly(source, size)
        if edges is None or data is None:
            return
        target.write(hash_rows(array("q", bytes(edges)), memoryview(data), secret))
        target.flush()


if __name__ == "__main__":
    main()
