"""A naive store in lists: the `Store` interface as simply as it can be written, for tests to compare with and run on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cognify_dagster.ledger import LedgerError, Receipt
from cognify_dagster.ledger.archive.detaching import detached
from cognify_dagster.ledger.entry import NO_PREVIOUS, SealedBody, assemble
from cognify_dagster.ledger.errors import IdempotencyConflict, LedgerUnreadable, SizeChanged
from cognify_dagster.ledger.merkle import leaf_hash, merkle_root
from cognify_dagster.ledger.store import Segment, StoredEntry, StoredPayload

EMPTY = (None, None, None)


class MemoryStore:
    """Everything in lists; subtrees are recomputed from all leaves whenever asked for."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self.rows: list[StoredEntry | None] = []
        self.paid: list[StoredPayload | None] = []
        self.leaves: list[bytes] = []
        self.heads: dict[str, int] = {}
        self.idems: dict[str, tuple[Receipt, str]] = {}
        self.notes: list[tuple[int, str]] = []
        self.gone: list[Segment] = []
        self.newest_us = 0

    @property
    def origin(self) -> str:
        return self._origin

    def size(self) -> int:
        return len(self.leaves)

    def append(self, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        draft = sealed.draft
        if draft.idem in self.idems:
            receipt, facts = self.idems[draft.idem]
            if facts != draft.facts_digest:
                raise IdempotencyConflict("other facts")
            return Receipt(receipt.seq, receipt.leaf, receipt.time_us, duplicate=True)
        if expected_size is not None and expected_size != self.size():
            raise SizeChanged("size")
        seq = self.size()
        now_us = max(now_us, self.newest_us)
        prev = self.leaves[-1].hex() if self.leaves else NO_PREVIOUS
        subjects = tuple(sorted(set(draft.subjects)))
        heads = {subject: self.heads.get(subject, -1) for subject in subjects}
        data = assemble(self._origin, sealed.body, heads, prev, seq, now_us)
        row = StoredEntry(seq, data, leaf_hash(data), prev, draft.idem, draft.kind, now_us, subjects)
        self._keep(row, StoredPayload(seq, sealed.salt, draft.facts_digest, draft.payload))
        return Receipt(seq, row.leaf, now_us)

    def _keep(self, row: StoredEntry, payload: StoredPayload) -> None:
        self.newest_us = row.time_us
        self.rows.append(row)
        self.paid.append(payload)
        self.leaves.append(row.leaf)
        self.idems[row.idem] = (Receipt(row.seq, row.leaf, row.time_us), payload.facts_digest or "")
        for subject in row.subjects:
            self.heads[subject] = row.seq

    def append_many(self, sealed: Sequence[SealedBody], now_us: int, expected_size: int | None = None) -> list[Receipt]:
        return [self.append(item, now_us, None) for item in sealed]

    def append_each(self, sealed: Sequence[SealedBody], now_us: int) -> list[Receipt | LedgerError]:
        return [self.append(item, now_us, None) for item in sealed]

    def _held(self, start: int, end: int) -> None:
        for segment in self.gone:
            if start < segment.end and segment.start < end:
                raise detached(segment)

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        self._held(start, min(end, self.size()))
        for row in self.rows[start:end]:
            assert row is not None
            yield row

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        self._held(start, min(end, self.size()))
        for row in self.paid[start:end]:
            assert row is not None
            yield row

    def node(self, level: int, index: int) -> bytes:
        low, high = index << level, (index + 1) << level
        if high > self.size() or (level < 8 and any(segment.end > low for segment in self.gone)):
            raise LedgerUnreadable(f"no node {level}/{index}")
        return merkle_root(self.leaves[low:high])

    def nodes(self, level: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        for index in range(start, min(end, self.size() >> level)):
            yield index, self.node(level, index)

    def add_checkpoint(self, size: int, note: str) -> None:
        if (size, note) not in self.notes:
            self.notes.append((size, note))

    def checkpoints(self, since: int = 0) -> list[tuple[int, str]]:
        low = max((size for size, _ in self.notes if size <= since), default=0)
        return sorted((item for item in self.notes if item[0] >= low), key=lambda item: item[0])

    def find(self, idem: str) -> Receipt | None:
        return self.idems[idem][0] if idem in self.idems else None

    def erase(self, seqs: Sequence[int]) -> None:
        for seq in seqs:
            self.paid[seq] = StoredPayload(seq, *EMPTY)

    def load(
        self, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], checkpoints: Iterable[tuple[int, str]]
    ) -> None:
        if self.size() or self.notes:
            raise LedgerError("not empty")
        rows, paid = list(entries), list(payloads)
        prev = NO_PREVIOUS
        for number, row in enumerate(rows):
            if row.seq != number or row.prev != prev or leaf_hash(row.data) != row.leaf:
                raise LedgerError(f"entry {row.seq} does not follow")
            prev = row.leaf.hex()
        found = {row.seq: row for row in paid}
        for row in rows:
            self._keep(row, found.get(row.seq, StoredPayload(row.seq, *EMPTY)))
        self.notes = list(checkpoints)

    def detach(self, segment: Segment) -> None:
        if segment in self.gone:
            return
        self.gone.append(segment)
        for seq in range(segment.start, segment.end):
            self.rows[seq] = self.paid[seq] = None

    def attach(self, segment: Segment, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload]) -> None:
        for row in list(entries):
            assert row.leaf == self.leaves[row.seq]
            self.rows[row.seq] = row
        for paid in list(payloads):
            self.paid[paid.seq] = paid
        self.gone.remove(segment)

    def segments(self) -> list[Segment]:
        return list(self.gone)
