"""Detaching archived segments from a store, reading them where they lie, and putting them back.

Invariants: rows leave the store only after their archive was verified on disk, was compared with the rows leaf by leaf, is covered
by a signed checkpoint, and a `segment_archived` entry says so; segments leave from the front and come back from the back, so
that what the store holds is always one stretch; what was erased never comes back with a segment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial

from cognify_dagster.ledger.archive.format import CUT, erasures
from cognify_dagster.ledger.archive.reader import Archive
from cognify_dagster.ledger.archive.tiles import HEIGHT, WIDTH
from cognify_dagster.ledger.entry import SealedBody
from cognify_dagster.ledger.errors import LedgerError, LedgerUnreadable, Tampered
from cognify_dagster.ledger.merkle import root_at
from cognify_dagster.ledger.store import (
    DerivedStore,
    ForgetfulStore,
    HoldingStore,
    IndexedStore,
    Receipt,
    ReopenableStore,
    Segment,
    Store,
    StoredEntry,
    StoredPayload,
    Tombstone,
    TombstoneStore,
)
from cognify_dagster.ledger.verified_rows import Row


def minimum_index(store: Store) -> int:
    """Return the first entry that the store still holds itself (the minimum index of C2SP pruning)."""
    return max((segment.end for segment in store.segments()), default=0)


def due_segments(store: Store, *, cut: int = CUT, keep: int = 0) -> list[tuple[int, int]]:
    """Return the ranges that can be archived now: whole stretches of `cut` entries, leaving at least `keep` (and one) behind.

    Args:
        store: the ledger.
        cut: entries a segment, a multiple of 256.
        keep: the newest entries that stay in the database.

    Raises:
        LedgerError: if `cut` is no multiple of 256.
    """
    if cut < WIDTH or cut % WIDTH:
        raise LedgerError(f"segments are cut at multiples of {WIDTH} entries, not at {cut}")
    limit = store.size() - max(keep, 1)
    return [(start, start + cut) for start in range(minimum_index(store), limit - cut + 1, cut)]


def detach_segment(store: Store, archive: Archive, append: Callable[[Archive], Receipt]) -> Segment:
    """Take the rows of a verified archive out of the store.

    Args:
        store: the ledger.
        archive: what `open_archive` returned for the folder as it now lies on disk.
        append: appends the `segment_archived` entry {start, end, manifest, root}; with the idempotency key made from these
            a call that was killed half-way can be repeated.

    Raises:
        Tampered: if archive and store differ.
        LedgerError: if the segment is not next in line, not covered by a checkpoint, or would take the newest entry.
    """
    segment = archive.segment
    known = store.segments()
    if segment in known:
        return segment
    if archive.origin != store.origin:
        raise Tampered(f"{archive.folder} is an archive of {archive.origin!r}, not of {store.origin!r}")
    if segment.start != minimum_index(store):
        raise LedgerError(f"the next segment to detach begins at entry {minimum_index(store)}, not at {segment.start}")
    if segment.end % WIDTH or segment.end >= store.size():
        raise LedgerError(
            f"entries {segment.start}..{segment.end - 1} cannot be detached: a segment ends at a multiple of {WIDTH} and "
            "before the newest entry"
        )
    if archive.checkpoint is None:
        raise LedgerError(
            f"{archive.folder}: no signed checkpoint covers it; run `cognify ledger checkpoint`, then archive"
        )
    _compare(store, archive)
    append(archive)
    store.detach(segment)
    return segment


def _compare(store: Store, archive: Archive) -> None:
    if root_at(archive.end, store.node) != archive.root:
        raise Tampered(f"{archive.folder}: its root is not that of the ledger's first {archive.end} entries")
    count = 0
    for row in store.entries(archive.start, archive.end):
        if row.leaf != archive.node(0, row.seq):
            raise Tampered(f"{archive.folder}: its entry {row.seq} is not the ledger's")
        count += 1
    if count != archive.end - archive.start:
        raise Tampered(f"the ledger misses entries of {archive.start}..{archive.end - 1}; run `cognify ledger verify`")
    held = {row.seq for row in store.payloads(archive.start, archive.end) if row.data is not None}
    kept = set(range(archive.start, archive.end)) - archive.absent
    if lost := sorted(held - kept):
        raise Tampered(f"{archive.folder}: the payload of entry {lost[0]} is in the ledger, but not in the archive")
    if more := sorted(kept - held):
        raise Tampered(
            f"{archive.folder}: the payload of entry {more[0]} is not in the ledger any more. If it was erased lawfully since "
            "the archive was written, archive the segment anew"
        )


def attach_segment(store: Store, archive: Archive) -> Segment:
    """Put the rows of a detached segment back into the store, without the payloads that were erased meanwhile.

    Raises:
        LedgerError: if the store has no such detached segment, or a later one must come back first.
        Tampered: if the archive is not the one the store detached, or misses a payload that nobody erased.
    """
    known = store.segments()
    if not known or known[-1].end != archive.end or known[-1].start != archive.start:
        last = f"entries {known[-1].start}..{known[-1].end - 1}" if known else "none"
        raise LedgerError(f"the segment to restore next is {last}, not {archive.start}..{archive.end - 1}")
    if archive.origin != store.origin or archive.manifest != known[-1].manifest:
        raise Tampered(f"{archive.folder} is not the archive that was detached; its manifest differs")
    if root_at(archive.end, store.node) != archive.root:
        raise Tampered(f"{archive.folder}: its root is not that of the ledger's first {archive.end} entries")
    erased = erasures(store, archive.end, store.size()) | archive.erased
    if missing := sorted(archive.absent - erased):
        raise Tampered(
            f"{archive.folder}: the payload of entry {missing[0]} is missing and no erasure entry accounts for it"
        )
    store.attach(
        archive.segment,
        archive.entries(archive.start, archive.end),
        archive.payloads(archive.start, archive.end, erased=erased),
    )
    return archive.segment


class ArchivedStore:
    """A store together with the archive folders of its detached segments, read as one ledger."""

    def __init__(self, store: Store, archives: Sequence[Archive]) -> None:
        """Use verified archives; they may be given in any order, and some may be missing.

        Raises:
            Tampered: if an archive is of another ledger, or not the one that was detached.
        """
        self.store = store
        try:
            known = {segment.start: segment for segment in store.segments()}
        except (TypeError, ValueError) as error:  # only where somebody took the tables' constraints away
            raise LedgerUnreadable(f"a detached segment's row holds a value that no ledger writes ({error})") from error
        self._archives: dict[int, Archive] = {}
        for archive in archives:
            if archive.origin != store.origin:
                raise Tampered(f"{archive.folder} is an archive of {archive.origin!r}, not of {store.origin!r}")
            segment = known.get(archive.start)
            if segment is None:
                continue  # its rows are in the store
            if segment != archive.segment:
                raise Tampered(f"{archive.folder} is not the archive that was detached; its manifest differs")
            if root_at(archive.end, store.node) != archive.root:
                raise Tampered(f"{archive.folder}: its root is not that of the ledger's first {archive.end} entries")
            self._archives[archive.start] = archive

    def _parts(self, start: int, end: int) -> Iterator[tuple[Archive | None, int, int]]:
        """Split a range into stretches that one archive, or the store (None), holds."""
        for segment in self.store.segments():
            low, high = max(start, segment.start), min(end, segment.end)
            if low >= high:
                continue
            archive = self._archives.get(segment.start)
            if archive is None:
                raise detached(segment)
            yield archive, low, high
        low = max(start, minimum_index(self.store))
        if low < end:
            yield None, low, end

    def held(self) -> AbstractContextManager[object]:
        """See `HoldingStore.held`."""
        return self.store.held() if isinstance(self.store, HoldingStore) else nullcontext()

    @property
    def origin(self) -> str:
        """The origin of the ledger."""
        return self.store.origin

    def size(self) -> int:
        """Return the number of entries."""
        return self.store.size()

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end) from archives and store.

        Raises:
            LedgerUnreadable: naming the segment whose archive was not given.
        """
        for archive, low, high in self._parts(start, end):
            yield from self.store.entries(low, high) if archive is None else archive.entries(low, high)

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield the payload rows of entries [start, end)."""
        for archive, low, high in self._parts(start, end):
            yield from self.store.payloads(low, high) if archive is None else archive.payloads(low, high)

    def about(self, subject: str, before: int, limit: int) -> list[tuple[StoredEntry, StoredPayload]]:
        """Return rows that the store's search index says are about a subject; those in archives are read one by one."""
        found = getattr(self.store, "about", None)
        return list(found(subject, before, limit)) if found is not None else []

    def rows(self, seqs: Sequence[int]) -> list[Row]:
        """Return the rows of some entries that the store holds; those in archives are read one by one."""
        found = getattr(self.store, "rows", None)
        return list(found(seqs)) if found is not None else []

    def row(self, seq: int) -> Row | None:
        """Return the row of an entry that the store holds."""
        found = getattr(self.store, "row", None)
        row: Row | None = found(seq) if found is not None else None
        return row

    def node(self, level: int, index: int) -> bytes:
        """Return the hash of a complete subtree, from the leaves in an archive if the store dropped it."""
        first = index << level
        if level < HEIGHT and first < minimum_index(self.store):
            for archive, _, _ in self._parts(first, first + 1):
                if archive is not None:
                    return archive.node(level, index)
        return self.store.node(level, index)

    def nodes(self, level: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the subtrees of one level with index in [start, end), those inside archives recomputed."""
        middle = start
        if level < HEIGHT:
            middle = min(end, max(start, minimum_index(self.store) >> level))
            for archive, low, high in self._parts(start << level, middle << level):
                if archive is not None:
                    yield from ((index, archive.node(level, index)) for index in range(low >> level, high >> level))
        yield from self.store.nodes(level, middle, end)

    def append(self, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        """See `Store.append`."""
        return self.store.append(sealed, now_us, expected_size)

    def append_many(self, sealed: Sequence[SealedBody], now_us: int, expected_size: int | None = None) -> list[Receipt]:
        """See `Store.append_many`."""
        return self.store.append_many(sealed, now_us, expected_size)

    def append_each(self, sealed: Sequence[SealedBody], now_us: int) -> list[Receipt | LedgerError]:
        """See `Store.append_each`."""
        return self.store.append_each(sealed, now_us)

    def add_checkpoint(self, size: int, note: str) -> None:
        """See `Store.add_checkpoint`."""
        self.store.add_checkpoint(size, note)

    def checkpoints(self, since: int = 0) -> list[tuple[int, str]]:
        """See `Store.checkpoints`."""
        return self.store.checkpoints(since)

    def tombstones(self, start: int, end: int) -> list[Tombstone]:
        """See `TombstoneStore.tombstones`."""
        return self.store.tombstones(start, end) if isinstance(self.store, TombstoneStore) else []

    def index_deviations(self, start: int, end: int, pairs: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """See `IndexedStore.index_deviations`."""
        return self.store.index_deviations(start, end, pairs) if isinstance(self.store, IndexedStore) else []

    def check_derived(self) -> list[tuple[int | None, str]]:
        """See `DerivedStore.check_derived`."""
        return self.store.check_derived() if isinstance(self.store, DerivedStore) else []

    def opener(self) -> Callable[[], ArchivedStore]:
        """See `ReopenableStore.opener`.

        Raises:
            LedgerError: if the store cannot be opened by another process.
        """
        if not isinstance(self.store, ReopenableStore):
            raise LedgerError("this store cannot be read by several processes")
        return partial(_reopened, self.store.opener(), tuple(self._archives.values()))

    def find(self, idem: str) -> Receipt | None:
        """See `Store.find`."""
        return self.store.find(idem)

    def erase(self, seqs: Sequence[int]) -> None:
        """Erase payloads in the store and in the archive folders.

        Raises:
            LedgerUnreadable: if an entry lies in a segment whose archive was not given; nothing is erased then.
        """
        low = minimum_index(self.store)
        inside: list[tuple[Archive, int]] = []
        for seq in seqs:
            inside += [(archive, seq) for archive, _, _ in self._parts(seq, seq + 1) if archive is not None]
        for archive, seq in inside:
            archive.erase([seq])
        if inside and isinstance(self.store, ForgetfulStore):
            self.store.forget([seq for _, seq in inside])
        self.store.erase([seq for seq in seqs if seq >= low])

    def load(
        self, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], checkpoints: Iterable[tuple[int, str]]
    ) -> None:
        """See `Store.load`."""
        self.store.load(entries, payloads, checkpoints)

    def detach(self, segment: Segment) -> None:
        """See `Store.detach`."""
        self.store.detach(segment)

    def attach(self, segment: Segment, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload]) -> None:
        """See `Store.attach`."""
        self.store.attach(segment, entries, payloads)
        self._archives.pop(segment.start, None)

    def segments(self) -> list[Segment]:
        """See `Store.segments`."""
        return self.store.segments()


def _reopened(opener: Callable[[], Store], archives: Sequence[Archive]) -> ArchivedStore:
    return ArchivedStore(opener(), archives)


def detached(segment: Segment) -> LedgerUnreadable:
    """Return the error for reading entries of a detached segment without its archive."""
    return LedgerUnreadable(
        f"entries {segment.start}..{segment.end - 1} were moved into an archive (manifest {segment.manifest[:16]}…); give its "
        "folder, or put the segment back with `cognify ledger attach`"
    )
