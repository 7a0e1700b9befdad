"""The Merkle tree and the dataset root, compared with the slow second implementation."""

from __future__ import annotations

import contextlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.datasets import DatasetError, FileKind, FileLeaf, FileTree, content_digest, dataset_root
from cognify_dagster.datasets.tree import (
    CHUNK_SIZE,
    check_path,
    digest_from_chunks,
    merkle_path,
    merkle_root,
    root_from_path,
    sha256,
)
from tests.datasets import naive

part = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\x00"), min_size=1, max_size=6).filter(
    lambda s: s not in (".", "..")
)
paths = st.lists(part, min_size=1, max_size=3).map(lambda parts: "/".join(parts).encode())
files = st.dictionaries(paths, st.binary(max_size=40), max_size=12)


def leaf(path: bytes, data: bytes) -> FileLeaf:
    return FileLeaf(path, FileKind.FILE, len(data), *content_digest(data))


def root_of(content: dict[bytes, bytes]) -> bytes:
    tree = FileTree(leaf(path, data) for path, data in content.items())
    return dataset_root(tree.tree_root, tree.fields())


@pytest.mark.parametrize("size", [*range(20), 64, 65, 100])
def test_merkle_root_is_the_recursive_definition_and_every_path_leads_to_it(size):
    leaves = [sha256(bytes([i])) for i in range(size)]
    root = naive.mth(leaves)
    assert merkle_root(leaves) == root
    for index in range(size):
        path = merkle_path(leaves, index)
        assert root_from_path(leaves[index], index, size, path) == root
        assert root_from_path(sha256(b"other"), index, size, path) != root
        for wrong in range(size):
            if wrong != index:  # another position either needs another number of hashes or gives another root
                with contextlib.suppress(DatasetError):
                    assert root_from_path(leaves[index], wrong, size, path) != root
        for bad in (path[:-1], (*path, root)):
            if bad != path:
                with pytest.raises(DatasetError):
                    root_from_path(leaves[index], index, size, bad)


def test_a_proof_outside_the_tree_is_refused():
    for index, size in ((0, 0), (1, 1), (-1, 3)):
        with pytest.raises(DatasetError):
            root_from_path(bytes(32), index, size, ())
    with pytest.raises(DatasetError):
        merkle_path([bytes(32)], 1)


@settings(max_examples=40, deadline=None)
@given(files, st.randoms())
def test_the_root_is_that_of_the_second_implementation_in_any_order(content, rnd):
    expected = naive.dataset_root([(path, 1, data) for path, data in content.items()])
    items = list(content.items())
    rnd.shuffle(items)
    assert root_of(dict(items)) == expected


@settings(max_examples=40, deadline=None)
@given(files.filter(lambda f: any(f.values())), st.data())
def test_one_changed_byte_changes_the_root(content, data):
    path = data.draw(st.sampled_from(sorted(p for p, c in content.items() if c)))
    at = data.draw(st.integers(0, len(content[path]) - 1))
    changed = bytearray(content[path])
    changed[at] ^= data.draw(st.integers(1, 255))
    assert root_of({**content, path: bytes(changed)}) != root_of(content)


@settings(max_examples=25, deadline=None)
@given(files.filter(bool), st.data())
def test_renaming_adding_or_removing_a_file_changes_the_root(content, data):
    path = data.draw(st.sampled_from(sorted(content)))
    without = {p: c for p, c in content.items() if p != path}
    renamed = {**without, path + b"x": content[path]}
    assert len({root_of(content), root_of(without), root_of(renamed)}) == 3


def test_a_link_and_a_file_of_the_same_bytes_differ():
    one = FileTree([leaf(b"a", b"target")])
    other = FileTree([FileLeaf(b"a", FileKind.SYMLINK, 6, *content_digest(b"target"))])
    assert one.tree_root != other.tree_root


def test_moving_a_byte_from_path_to_content_changes_the_leaf():
    assert leaf(b"ab", b"c").leaf_hash() != leaf(b"a", b"bc").leaf_hash()


def test_chunks_have_to_be_whole():
    with pytest.raises(DatasetError, match="8 MiB"):
        digest_from_chunks([(5, bytes(32)), (5, bytes(32))])
    with pytest.raises(DatasetError, match="8 MiB"):
        digest_from_chunks([(CHUNK_SIZE + 1, bytes(32))])


@pytest.mark.parametrize(
    "path", [b"", b"/a", b"a/", b"a//b", b"..", b"a/../b", b"./a", b"a/.", b"a\x00b", b"x" * 70_000]
)
def test_paths_that_are_not_canonical_are_refused(path):
    with pytest.raises(DatasetError):
        check_path(path)
    with pytest.raises(DatasetError):
        FileTree([leaf(path, b"")])


def test_one_path_twice_is_refused():
    with pytest.raises(DatasetError, match="twice"):
        FileTree([leaf(b"a", b"1"), leaf(b"a", b"2")])


def test_the_tree_counts_files_and_bytes():
    rnd = random.Random(1)
    content = {f"{i}".encode(): rnd.randbytes(i) for i in range(30)}
    tree = FileTree(leaf(p, c) for p, c in content.items())
    assert (tree.file_count, tree.total_bytes) == (30, sum(range(30)))
    assert len(tree.shard_roots) == 4096
