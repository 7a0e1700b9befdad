"""C2SP tlog-tiles: paths, bundles, and roots and proofs from tiles alone, for all small sizes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.ledger import LedgerUnreadable, leaf_hash, merkle_root, verify_inclusion
from cognify_dagster.ledger.archive.tiles import (
    Tile,
    fold,
    levels_of,
    node_in_tiles,
    pack_entries,
    pack_hashes,
    tiles_of,
    unpack_entries,
    unpack_hashes,
)
from cognify_dagster.ledger.merkle import inclusion_proof, root_at

LEAVES = [leaf_hash(b"%d" % number) for number in range(70_000)]


class Tiles:
    """All tiles of a tree, as a static file server would hold them."""

    def __init__(self, leaves: Sequence[bytes]) -> None:
        self.size = len(leaves)
        self.files: dict[str, bytes] = {}
        row = list(leaves)
        for level in range(levels_of(self.size)):
            for tile in tiles_of(level, self.size):
                self.files[tile.path()] = pack_hashes(row[tile.first : tile.first + tile.width])
            row = [fold(row[at : at + 256]) for at in range(0, len(row) - 255, 256)]

    def read(self, level: int, first: int, count: int) -> list[bytes]:
        total = self.size >> (8 * level)
        tile = Tile(level, first // 256, min(256, total - first // 256 * 256))
        hashes = unpack_hashes(self.files[tile.path()], tile.width, tile.path())
        return hashes[first - tile.first : first - tile.first + count]

    def node(self, level: int, index: int) -> bytes:
        return node_in_tiles(level, index, self.read)


@pytest.mark.parametrize(
    ("tile", "path"),
    [
        (Tile(0, 0, 256), "tile/0/000"),
        (Tile(0, 999, 256), "tile/0/999"),
        (Tile(1, 1000, 256), "tile/1/x001/000"),
        (Tile(0, 1234067, 256), "tile/0/x001/x234/067"),
        (Tile(0, 1234067, 8), "tile/0/x001/x234/067.p/8"),
        (Tile(63, 0, 1), "tile/63/000.p/1"),
    ],
)
def test_paths_are_those_of_the_specification(tile: Tile, path: str) -> None:
    assert tile.path() == path
    assert tile.entries_path() == "tile/entries/" + path.split("/", 2)[2]


def test_every_size_up_to_600_has_its_root_in_its_tiles() -> None:
    for size in range(1, 601):
        tiles = Tiles(LEAVES[:size])
        assert root_at(size, tiles.node) == merkle_root(LEAVES[:size]), size
        partial = [path for path in tiles.files if ".p/" in path]
        assert len(partial) == sum(1 for level in range(levels_of(size)) if (size >> 8 * level) % 256)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 600), st.data())
def test_proofs_come_from_tiles_alone(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    tiles = Tiles(LEAVES[:size])
    proof = inclusion_proof(index, size, tiles.node)
    verify_inclusion(index, size, LEAVES[index], proof, merkle_root(LEAVES[:size]))


@pytest.mark.parametrize("size", [65_535, 65_536, 65_537, 70_000])
def test_large_trees_have_a_second_level(size: int) -> None:
    tiles = Tiles(LEAVES[:size])
    assert levels_of(size) == (3 if size >= 65_536 else 2)
    assert root_at(size, tiles.node) == merkle_root(LEAVES[:size])
    assert [tile.index for tile in tiles_of(0, size, 65_280)] == list(range(255, -(-size // 256)))


@given(st.lists(st.binary(max_size=300), max_size=40))
def test_bundles_read_back_and_nothing_else_does(entries: list[bytes]) -> None:
    data = pack_entries(entries)
    assert unpack_entries(data, len(entries), "b") == entries
    wrong = [(data + b"\x00", len(entries)), (data, len(entries) + 1)]
    if data:
        wrong += [(data[:-1], len(entries)), (data, len(entries) - 1)]
    for changed, count in wrong:
        with pytest.raises(LedgerUnreadable, match="b: "):
            unpack_entries(changed, count, "b")


def test_the_largest_entry_fits_a_bundle() -> None:
    entry = hashlib.sha256(b"x").digest() * 2048
    assert unpack_entries(pack_entries([entry[:65_535]]), 1, "b") == [entry[:65_535]]


def test_a_tile_of_another_length_is_refused() -> None:
    for width, data in ((1, b""), (1, b"x" * 33), (2, b"x" * 32)):
        with pytest.raises(LedgerUnreadable, match="bytes, but"):
            unpack_hashes(data, width, "t")
