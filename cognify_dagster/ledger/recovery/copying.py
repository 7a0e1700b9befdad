"""Copying a whole ledger from one store into another (SQLite to Postgres and back): every byte, checkpoint and proof.

Invariants: the target is empty before and complete after, or still empty; nothing counts as copied until it was read back and
compared; the source is only read.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import zip_longest

from cognify_dagster.ledger.errors import LedgerError, Tampered
from cognify_dagster.ledger.merkle import inclusion_proof, leaf_hash, merkle_root, root_at, verify_inclusion
from cognify_dagster.ledger.recovery.progress import Progress, Telling
from cognify_dagster.ledger.store import Store, StoredPayload

SPOTS = 64


@dataclass(frozen=True)
class CopyReport:
    """What was copied. `source_size` is what the source had when it was done: if it is more than `size`, somebody appended
    to the source meanwhile and the copy must not be used in its place."""

    origin: str
    size: int
    root: bytes
    checkpoints: int
    proofs: int
    source_size: int

    @property
    def complete(self) -> bool:
        """Whether the source had nothing more at the end."""
        return self.size == self.source_size


def copy_ledger(source: Store, target: Store, progress: Progress | None = None) -> CopyReport:
    """Copy a ledger into an empty store of the same origin and verify the copy.

    Stop all writers first; if the source grew anyway, the report says so. A source with detached segments is given as
    `ArchivedStore` with their folders: the copy holds everything.

    Args:
        source: what to copy; only read.
        target: an empty store of the same origin.
        progress: called with (done, in all).

    Raises:
        LedgerError: if the target is not empty or of another origin, or the source is empty.
        Tampered: if the source contradicts itself, or what was read back differs.
        LedgerUnreadable: if parts of the source lie in archives that were not given.
    """
    require_empty(target, source.origin)
    size = source.size()
    if size == 0:
        raise LedgerError("the source has no entries; an empty ledger is not copied. Is it the right one?")
    notes = [(count, note) for count, note in source.checkpoints() if count <= size]
    told = Telling(progress, 2 * size)
    target.load(told.each(source.entries(0, size)), source.payloads(0, size), notes)
    report = compare(source, target, size, told)
    return CopyReport(source.origin, size, report[0], len(notes), report[1], source.size())


def require_empty(target: Store, origin: str) -> None:
    """Refuse a store that holds anything, or that is meant for another ledger."""
    if target.origin != origin:
        raise LedgerError(
            f"the target is for ledger {target.origin!r}, not for {origin!r}; create it with the same origin"
        )
    if target.size() or target.checkpoints() or target.segments():
        raise LedgerError(f"the target holds {target.size()} entries already; copy into an empty store")


def compare(source: Store, target: Store, size: int, told: Telling | None = None) -> tuple[bytes, int]:
    """Compare two stores row by row, checkpoint by checkpoint and, at many places, proof by proof.

    Returns:
        The root over `size` entries, and how many proofs were compared.

    Raises:
        Tampered: naming the first difference.
    """
    if target.size() != size:
        raise Tampered(f"the copy has {target.size()} entries, not {size}; discard it and copy again")
    leaves: list[bytes] = []
    rows = target.entries(0, size)
    for mine, copied in zip_longest(source.entries(0, size), told.each(rows) if told else rows):
        if mine is None or copied is None or tuple(mine) != tuple(copied):
            raise Tampered(f"entry {len(leaves)} differs in the copy; discard it and copy again")
        leaves.append(leaf_hash(copied.data))
        if leaves[-1] != copied.leaf:
            raise Tampered(f"entry {len(leaves) - 1}: its leaf hash is not that of its bytes, in source and copy alike")
    for pair in zip_longest(_held(source.payloads(0, size)), _held(target.payloads(0, size))):
        if pair[0] != pair[1]:
            seq = next(row.seq for row in pair if row is not None)
            raise Tampered(f"the payload of entry {seq} differs in the copy; discard it and copy again")
    notes = [item for item in source.checkpoints() if item[0] <= size]
    if sorted(target.checkpoints()) != sorted(notes):
        raise Tampered("the checkpoints differ in the copy; discard it and copy again")
    root = merkle_root(leaves)
    sizes = {count for count, _ in notes if 0 < count <= size} | {size}
    for count in sizes:
        if root_at(count, target.node) != root_at(count, source.node):
            raise Tampered(f"the root of the first {count} entries differs in the copy; discard it and copy again")
    if root_at(size, target.node) != root:
        raise Tampered("the tree of the copy is not that of its entries; discard it and copy again")
    spots = spread(size)
    for seq in spots:
        path = inclusion_proof(seq, size, target.node)
        if path != inclusion_proof(seq, size, source.node):
            raise Tampered(f"the proof of entry {seq} differs in the copy; discard it and copy again")
        verify_inclusion(seq, size, leaves[seq], path, root)
    return root, len(spots)


def spread(size: int) -> list[int]:
    """Return up to about 64 places all over a ledger, its ends and the edges of its subtrees among them."""
    edges = (
        {0, size - 1}
        | {1 << level for level in range(size.bit_length())}
        | {(1 << level) - 1 for level in range(size.bit_length())}
    )
    evenly = {size * part // SPOTS for part in range(SPOTS)}
    return sorted(seq for seq in edges | evenly if 0 <= seq < size)


def _held(rows: Iterable[StoredPayload]) -> Iterator[StoredPayload]:
    """Leave out erased payloads: a store may keep an empty row for them or none."""
    return (StoredPayload(*row) for row in rows if row.data is not None)
