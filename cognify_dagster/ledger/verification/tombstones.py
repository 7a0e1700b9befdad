"""What the database keeps of entries whose rows are in an archive, compared with the archive: tombstones, and rows of the
search index.

Invariant: nothing here decides what an entry says, which comes from the archive's verified bytes; but a false tombstone gives a
retried call a false receipt, or takes a key from an honest one, and a false row of the index gives the next entry about a subject
a false head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from cognify_dagster.ledger.store import IndexedStore, Store, StoredEntry, Tombstone, TombstoneStore
from cognify_dagster.ledger.verification.reading import read, rows, strange
from cognify_dagster.ledger.verification.report import Finding, Outcome


def check_tombstones(store: Store, start: int, end: int, *, payloads: bool) -> list[Finding]:
    """Compare the tombstones of [start, end) with the archived entries there, and with none where nothing is archived; and the
    index of subjects with what those entries are about.

    Args:
        store: a store whose archives are at hand; other stores have nothing to compare.
        start: first sequence number.
        end: one more than the last.
        payloads: whether to compare facts digests too, as far as the payloads were not erased.

    Raises:
        LedgerUnreadable: if an archive is not at hand.
    """
    if not isinstance(store, TombstoneStore):
        return []
    kept: dict[int, Tombstone] = {}
    findings: list[Finding] = []
    for stone in read(store.tombstones, start, end):
        if stone.seq in kept:
            findings.append(_finding(stone.seq, "the database keeps two tombstones of it"))
        kept[stone.seq] = stone
    for segment in read(store.segments):
        low, high = max(start, segment.start), min(end, segment.end)
        if low >= high:
            continue
        digests: Mapping[int, str | None] = {}
        if payloads:
            digests = {row.seq: row.facts_digest for row in rows(store.payloads, low, high)}
        pairs: list[tuple[int, str]] = []
        for row in rows(store.entries, low, high):
            pairs += [(row.seq, subject) for subject in row.subjects]
            found = kept.pop(row.seq, None)
            if found is None:
                findings.append(_finding(row.seq, "its rows were archived, but the database keeps no tombstone of it"))
            else:
                findings += _compare(found, row, digests.get(row.seq))
        if isinstance(store, IndexedStore):
            findings += _index(store, low, high, pairs)
    text = "the database keeps a tombstone of it, though its rows were not archived"
    return findings + [_finding(seq, text) for seq in kept]


def _index(store: IndexedStore, start: int, end: int, pairs: Sequence[tuple[int, str]]) -> list[Finding]:
    true = set(pairs)
    return [
        _finding(
            seq if type(seq) is int else None,
            f"the search index does not lead from {subject!r} to it"
            if (seq, subject) in true
            else f"the search index leads from {subject!r} to it, but its archived bytes are not about that",
        )
        for seq, subject in read(store.index_deviations, start, end, pairs)
    ]


def _compare(stone: Tombstone, row: StoredEntry, facts_digest: str | None) -> list[Finding]:
    if problem := strange(stone):
        return [_finding(row.seq, f"its tombstone: {problem}")]
    compared = [
        ("idem", stone.idem, row.idem),
        ("leaf", stone.leaf.hex(), row.leaf.hex()),
        ("time_us", stone.time_us, row.time_us),
    ]
    if facts_digest is not None:
        compared.append(("facts_digest", stone.facts_digest, facts_digest))
    return [
        _finding(row.seq, f"its tombstone holds {kept!r} as {name!r}, the archive says {true!r}")
        for name, kept, true in compared
        if kept != true
    ]


def _finding(seq: int | None, text: str) -> Finding:
    return Finding(Outcome.TAMPERED, seq, text)
