"""The tree against a naive recursive reading of RFC 9162 §2.1, for all sizes up to 70, and proofs that must fail."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.ledger import ProofError, leaf_hash, merkle_root, node_hash, verify_consistency, verify_inclusion
from cognify_dagster.ledger import offline_verifier as ov
from cognify_dagster.ledger.merkle import EMPTY_ROOT, Frontier, consistency_proof, inclusion_proof, peaks, root_at

N = 70
LEAVES = [hashlib.sha256(b"\x00" + bytes([i])).digest() for i in range(N)]


def h(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


@cache
def mth(start: int, end: int) -> bytes:
    """Merkle Tree Hash, written as the RFC writes it."""
    n = end - start
    if n == 0:
        return h(b"")
    if n == 1:
        return LEAVES[start]
    k = 1
    while k * 2 < n:
        k *= 2
    return h(b"\x01" + mth(start, start + k) + mth(start + k, end))


def path(m: int, start: int, end: int) -> list[bytes]:
    """PATH(m, D[start:end])."""
    n = end - start
    if n == 1:
        return []
    k = 1
    while k * 2 < n:
        k *= 2
    if m < k:
        return [*path(m, start, start + k), mth(start + k, end)]
    return [*path(m - k, start + k, end), mth(start, start + k)]


def subproof(m: int, start: int, end: int, whole: bool) -> list[bytes]:
    """SUBPROOF(m, D[start:end], whole)."""
    n = end - start
    if m == n:
        return [] if whole else [mth(start, end)]
    k = 1
    while k * 2 < n:
        k *= 2
    if m <= k:
        return [*subproof(m, start, start + k, whole), mth(start + k, end)]
    return [*subproof(m - k, start + k, end, False), mth(start, start + k)]


def node(level: int, index: int) -> bytes:
    return mth(index << level, (index + 1) << level)


def test_roots_frontier_and_proofs_equal_the_naive_model() -> None:
    frontier = Frontier()
    for size in range(N + 1):
        root = mth(0, size)
        assert (
            frontier.root() == merkle_root(LEAVES[:size]) == root_at(size, node) == ov.tree_root(LEAVES[:size]) == root
        )
        assert Frontier.load(size, node).root() == root
        assert sum(1 << level for level, _ in peaks(size)) == size
        for index in range(size):
            proof = inclusion_proof(index, size, node)
            assert proof == path(index, 0, size)
            verify_inclusion(index, size, LEAVES[index], proof, root)
            ov.check_inclusion(index, size, LEAVES[index], proof, root)
        for old in range(1, size + 1):
            proof = consistency_proof(old, size, node)
            assert proof == subproof(old, 0, size, True)
            verify_consistency(old, size, mth(0, old), root, proof)
        if size < N:
            for level, index, value in frontier.append(LEAVES[size]):
                assert value == node(level, index)


def test_a_proof_for_one_index_is_no_proof_for_another() -> None:
    accepted = []
    for size in range(1, N + 1):
        for index in range(size):
            proof = path(index, 0, size)
            for wrong in range(-1, size + 2):
                if wrong == index:
                    continue
                try:
                    verify_inclusion(wrong, size, LEAVES[index], proof, mth(0, size))
                    accepted.append((size, index, wrong))
                except ProofError:
                    pass
    assert not accepted


def _bad_inclusions(
    index: int, size: int, proof: list[bytes], root: bytes
) -> list[tuple[int, int, Sequence[bytes], bytes]]:
    return [
        (index, size, [*proof, root], root),
        (index, size, [root, *proof], root),
        (index, size, [bytes(32), *proof], root),
        (index, size, proof[:-1], root) if proof else (index, size + 1, proof, root),
        (index, size, proof[1:], root) if proof else (index, size + 1, proof, root),
        (index, size, proof[::-1], root) if proof != proof[::-1] else (index, size, [*proof, b""], root),
        (index, size, [*proof[:-1], proof[-1][:31]], root) if proof else (index, 0, proof, root),
        (index, 0, proof, root),
        (size, size, proof, root),
        (-1, size, proof, root),
        (index, size, proof, EMPTY_ROOT),
        (index, size, proof, root[:31]),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 8, 9, 16, 31, 32, 33, 64, 70])
def test_damaged_inclusion_proofs_are_refused(size: int) -> None:
    for index in {0, size // 2, size - 1}:
        for case in _bad_inclusions(index, size, path(index, 0, size), mth(0, size)):
            with pytest.raises(ProofError):
                verify_inclusion(case[0], case[1], LEAVES[index], case[2], case[3])
            with pytest.raises(ov.Bad):
                ov.check_inclusion(case[0], case[1], LEAVES[index], list(case[2]), case[3])


def test_damaged_consistency_proofs_are_refused() -> None:
    for new in range(1, N + 1):
        for old in range(1, new + 1):
            proof, first, second = subproof(old, 0, new, True), mth(0, old), mth(0, new)
            bad = [
                (old, new, second if old != new else EMPTY_ROOT, second, proof),
                (old, new, first, first if old != new else EMPTY_ROOT, proof),
                (old, new, first, second, [*proof, second]),
                (0, new, first, second, proof),
                (new + 1, new, first, second, proof),
            ]
            if proof:
                bad += [(old, new, first, second, proof[:-1]), (old, new, first, second, [])]
            for size1, size2, root1, root2, hashes in bad:
                with pytest.raises(ProofError):
                    verify_consistency(size1, size2, root1, root2, hashes)


def test_equal_sizes_need_equal_roots_and_no_proof() -> None:
    verify_consistency(5, 5, mth(0, 5), mth(0, 5), [])
    for root, proof in ((mth(0, 4), []), (mth(0, 5), [mth(0, 1)])):
        with pytest.raises(ProofError):
            verify_consistency(5, 5, mth(0, 5), root, proof)


def test_proofs_that_cannot_exist_are_not_made() -> None:
    for index, size in ((0, 0), (3, 3), (-1, 3)):
        with pytest.raises(ProofError):
            inclusion_proof(index, size, node)
    for old, new in ((0, 5), (6, 5), (0, 0)):
        with pytest.raises(ProofError):
            consistency_proof(old, new, node)


def test_a_leaf_can_never_be_taken_for_a_node() -> None:
    left, right = LEAVES[0], LEAVES[1]
    assert leaf_hash(left + right) != node_hash(left, right)


@given(
    st.binary(max_size=100),
    st.integers(0, 40),
    st.integers(0, 40),
    st.lists(st.binary(min_size=32, max_size=32), max_size=8),
)
def test_random_proofs_prove_nothing(entry: bytes, index: int, size: int, proof: list[bytes]) -> None:
    with pytest.raises(ProofError):
        verify_inclusion(index, size, leaf_hash(entry), proof, h(b"another root"))


def test_published_vectors_of_rfc6962_implementations() -> None:
    """The eight-leaf example that Certificate Transparency implementations share."""
    inputs = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        4: "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    leaves = [leaf_hash(bytes.fromhex(text)) for text in inputs]
    assert {size: merkle_root(leaves[:size]).hex() for size in roots} == roots
