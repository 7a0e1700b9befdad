"""RFC 6962 / RFC 9162 Merkle tree: hashes, roots, proofs, verification. Pure functions on bytes.

Invariants: a leaf and a node can never hash alike (prefixes 0x00 and 0x01); a proof verifies only with exactly the hashes
that the tree's shape demands: missing, extra or misplaced ones are errors.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

from cognify_dagster.ledger.errors import ProofError

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

NodeReader = Callable[[int, int], bytes]
"""(level, index) -> hash of the complete subtree over leaves [index·2^level, (index+1)·2^level)."""


def leaf_hash(entry: bytes) -> bytes:
    """SHA-256(0x00 ‖ entry), RFC 9162 §2.1.1."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """SHA-256(0x01 ‖ left ‖ right), RFC 9162 §2.1.1."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Frontier:
    """The hashes of the complete subtrees that make up a growing tree, largest first.

    `size` is the number of leaves. Appending returns the complete subtrees that the leaf finished, so that a store can
    keep them as a cache.
    """

    __slots__ = ("_peaks", "size")

    def __init__(self) -> None:
        self.size = 0
        self._peaks: list[bytes] = []

    @classmethod
    def load(cls, size: int, read: NodeReader) -> Frontier:
        """Rebuild the frontier of a tree of `size` leaves from stored subtree hashes."""
        frontier = cls()
        frontier.size = size
        frontier._peaks = [read(level, index) for level, index in peaks(size)]
        return frontier

    def copy(self) -> Frontier:
        """Return an independent copy, so that a transaction that fails leaves the original as it was."""
        other = Frontier()
        other.size = self.size
        other._peaks = self._peaks.copy()
        return other

    def append(self, leaf: bytes) -> list[tuple[int, int, bytes]]:
        """Add a leaf hash; return the finished subtrees as (level, index, hash), the leaf itself included."""
        finished = [(0, self.size, leaf)]
        level, index, current = 0, self.size, leaf
        while index & 1:
            current = node_hash(self._peaks.pop(), current)
            level, index = level + 1, index >> 1
            finished.append((level, index, current))
        self._peaks.append(current)
        self.size += 1
        return finished

    def root(self) -> bytes:
        """Return the tree's root hash; SHA-256 of the empty string for the empty tree."""
        if not self._peaks:
            return EMPTY_ROOT
        root = self._peaks[-1]
        for peak in reversed(self._peaks[:-1]):
            root = node_hash(peak, root)
        return root


def peaks(size: int) -> list[tuple[int, int]]:
    """Return (level, index) of the complete subtrees of a tree of `size` leaves, largest first."""
    result = []
    start = 0
    for level in range(size.bit_length() - 1, -1, -1):
        if size >> level & 1:
            result.append((level, start >> level))
            start += 1 << level
    return result


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes in order."""
    frontier = Frontier()
    for leaf in leaves:
        frontier.append(leaf)
    return frontier.root()


def _range_hash(start: int, end: int, read: NodeReader) -> bytes:
    """Hash of leaves [start, end) where start is a multiple of the next power of two ≥ end-start."""
    width = end - start
    if width & (width - 1) == 0:
        level = width.bit_length() - 1
        return read(level, start >> level)
    split = 1 << ((width - 1).bit_length() - 1)
    return node_hash(_range_hash(start, start + split, read), _range_hash(start + split, end, read))


def root_at(size: int, read: NodeReader) -> bytes:
    """Return the root of the first `size` leaves from stored subtree hashes."""
    return _range_hash(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: NodeReader) -> list[bytes]:
    """Return the audit path of leaf `index` in the tree of `size` leaves, leaf's sibling first (RFC 9162 §2.1.3.1).

    Raises:
        ProofError: if the index is not below the size.
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    proof: list[bytes] = []
    start, end = 0, size
    while end - start > 1:
        split = start + (1 << ((end - start - 1).bit_length() - 1))
        if index < split:
            proof.append(_range_hash(split, end, read))
            end = split
        else:
            proof.append(_range_hash(start, split, read))
            start = split
    proof.reverse()
    return proof


def consistency_proof(size1: int, size2: int, read: NodeReader) -> list[bytes]:
    """Return the proof that the tree of `size1` leaves is a prefix of the one of `size2` (RFC 9162 §2.1.4.1).

    Raises:
        ProofError: unless 0 < size1 <= size2.
    """
    if not 0 < size1 <= size2:
        raise ProofError(f"no consistency proof exists between sizes {size1} and {size2}")
    proof: list[bytes] = []
    start, end, whole = 0, size2, True
    while size1 != end:
        split = start + (1 << ((end - start - 1).bit_length() - 1))
        if size1 <= split:
            proof.append(_range_hash(split, end, read))
            end = split
        else:
            proof.append(_range_hash(start, split, read))
            start, whole = split, False
    if not whole:
        proof.append(_range_hash(start, end, read))
    proof.reverse()
    return proof


def verify_inclusion(index: int, size: int, leaf_hash: bytes, proof: Sequence[bytes], root: bytes) -> None:
    """Check that a leaf is in the tree with this root (RFC 9162 §2.1.3.2).

    Args:
        index: zero-based position of the leaf.
        size: number of leaves of the tree.
        leaf_hash: 32-byte hash of the leaf.
        proof: 32-byte hashes, leaf's sibling first.
        root: 32-byte root hash of the tree.

    Raises:
        ProofError: if anything but this leaf at this index in this tree was proven.
    """
    _check_hashes([leaf_hash, root, *proof])
    if size < 1 or not 0 <= index < size:
        raise ProofError(f"leaf {index} is not in a tree of {size} leaves")
    fn, sn, current = index, size - 1, leaf_hash
    for sibling in proof:
        if sn == 0:
            raise ProofError("the inclusion proof has trailing hashes")
        if fn & 1 or fn == sn:
            current = node_hash(sibling, current)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            current = node_hash(current, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError("the inclusion proof is too short")
    if current != root:
        raise ProofError("the inclusion proof leads to another root")


def verify_consistency(size1: int, size2: int, root1: bytes, root2: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree (size1, root1) is a prefix of the tree (size2, root2) (RFC 9162 §2.1.4.2).

    Raises:
        ProofError: if the proof does not show it, also when a size is 0 or the sizes are in the wrong order.
    """
    _check_hashes([root1, root2, *proof])
    if size1 < 1 or size2 < size1:
        raise ProofError(f"no consistency proof exists between sizes {size1} and {size2}")
    if size1 == size2:
        if proof:
            raise ProofError("the consistency proof has trailing hashes")
        if root1 != root2:
            raise ProofError("two different roots for one size")
        return
    hashes = list(proof)
    if size1 & (size1 - 1) == 0:
        hashes.insert(0, root1)
    if not hashes:
        raise ProofError("the consistency proof is too short")
    fn, sn = size1 - 1, size2 - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    first = second = hashes[0]
    for sibling in hashes[1:]:
        if sn == 0:
            raise ProofError("the consistency proof has trailing hashes")
        if fn & 1 or fn == sn:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            second = node_hash(second, sibling)
        fn, sn = fn >> 1, sn >> 1
    if sn != 0:
        raise ProofError("the consistency proof is too short")
    if first != root1 or second != root2:
        raise ProofError("the trees are not consistent")


def _check_hashes(hashes: Sequence[bytes]) -> None:
    if any(len(value) != HASH_SIZE for value in hashes):
        raise ProofError("a hash is not 32 bytes long")
