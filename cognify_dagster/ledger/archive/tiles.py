"""C2SP tlog-tiles: where tiles and entry bundles lie and what their bytes are. Pure functions.

A tile at level L holds up to 256 hashes of complete subtrees over 256^L leaves; an entry bundle up to 256 entries. Only the
rightmost one of a level may hold fewer and then says how many in its path (`.p/<W>`). Entries have at most 65,535 bytes, which
is what the bundle's 16-bit lengths can say.

Invariants: parsing is strict: lengths must add up exactly, so that a file has one meaning only.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from cognify_dagster.ledger.errors import LedgerUnreadable
from cognify_dagster.ledger.merkle import HASH_SIZE, node_hash

WIDTH = 256
HEIGHT = 8
_MAX_ENTRY = 65_535
MAX_BUNDLE = WIDTH * (_MAX_ENTRY + 2)


@dataclass(frozen=True)
class Tile:
    """One tile: its level, its number in the level and how many hashes (or entries) it holds, 1 to 256."""

    level: int
    index: int
    width: int

    def path(self) -> str:
        """Return `tile/<L>/<N>[.p/<W>]`."""
        return f"tile/{self.level}/{_number(self.index)}{_partial(self.width)}"

    def entries_path(self) -> str:
        """Return `tile/entries/<N>[.p/<W>]`; level 0 only."""
        return f"tile/entries/{_number(self.index)}{_partial(self.width)}"

    def payloads_path(self) -> str:
        """Return `payloads/<N>[.p/<W>]`, the same grouping for payloads (ours, not part of tlog-tiles)."""
        return f"payloads/{_number(self.index)}{_partial(self.width)}"

    @property
    def first(self) -> int:
        """Index, at the tile's level, of its first hash."""
        return self.index * WIDTH


def _number(index: int) -> str:
    """Write an index as groups of three digits, all but the last with an `x` before it: 1234067 is x001/x234/067."""
    groups = [f"{index % 1000:03d}"]
    while index >= 1000:
        index //= 1000
        groups.append(f"x{index % 1000:03d}")
    return "/".join(reversed(groups))


def _partial(width: int) -> str:
    return "" if width == WIDTH else f".p/{width}"


def tiles_of(level: int, size: int, start: int = 0) -> Iterator[Tile]:
    """Yield the tiles of a level in a tree of `size` leaves, from the one that holds leaf `start` on."""
    count = size >> (HEIGHT * level)
    for index in range(start >> (HEIGHT * (level + 1)), -(-count // WIDTH)):
        yield Tile(level, index, min(WIDTH, count - index * WIDTH))


def levels_of(size: int) -> int:
    """Return how many levels of tiles a tree of `size` leaves has."""
    return 0 if size == 0 else (size.bit_length() + HEIGHT - 1) // HEIGHT


def pack_entries(entries: Sequence[bytes]) -> bytes:
    """Return an entry bundle: each entry after its length as 16 bits, big-endian."""
    return b"".join(struct.pack(">H", len(entry)) + entry for entry in entries)


def unpack_entries(data: bytes, count: int, name: str) -> list[bytes]:
    """Split an entry bundle of exactly `count` entries.

    Raises:
        LedgerUnreadable: naming the file, if it holds more, fewer or cut-off entries.
    """
    entries: list[bytes] = []
    at = 0
    for _ in range(count):
        if at + 2 > len(data):
            raise LedgerUnreadable(f"{name}: the bundle ends after {len(entries)} of {count} entries")
        length = int.from_bytes(data[at : at + 2], "big")
        at += 2
        if at + length > len(data):
            raise LedgerUnreadable(f"{name}: entry {len(entries)} of the bundle is cut off")
        entries.append(data[at : at + length])
        at += length
    if at != len(data):
        raise LedgerUnreadable(f"{name}: the bundle holds more than {count} entries")
    return entries


def pack_hashes(hashes: Sequence[bytes]) -> bytes:
    """Return a tile's bytes: its hashes one after the other."""
    return b"".join(hashes)


def unpack_hashes(data: bytes, width: int, name: str) -> list[bytes]:
    """Split a tile.

    Raises:
        LedgerUnreadable: naming the file, if it does not hold exactly `width` hashes.
    """
    if len(data) != width * HASH_SIZE:
        raise LedgerUnreadable(f"{name}: {len(data)} bytes, but {width} hashes have {width * HASH_SIZE}")
    return [data[at : at + HASH_SIZE] for at in range(0, len(data), HASH_SIZE)]


def fold(hashes: Sequence[bytes]) -> bytes:
    """Return the hash of the complete subtree over a power-of-two number of hashes."""
    row = list(hashes)
    while len(row) > 1:
        row = [node_hash(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def node_in_tiles(level: int, index: int, read: Callable[[int, int, int], Sequence[bytes]]) -> bytes:
    """Return the hash of the complete subtree (level, index) from tiles.

    Args:
        level: height of the subtree; 0 is a leaf.
        index: its number in that level.
        read: (tile level, first index, count) -> that many hashes of one tile.
    """
    tile_level, rest = divmod(level, HEIGHT)
    return fold(read(tile_level, index << rest, 1 << rest))
