"""Verified views of a ledger's first entries: all in memory, or read row by row against a verified index.

Invariants of an `IndexedView`: every entry it gives has exactly the bytes whose leaf hash was verified along chain and subject
heads, and a payload that its commitment proves; a row that was edited, moved or removed since is `Tampered` at the latest when it
or one of its subjects is read; a payload may be missing only where a verified erasure entry says so. A subject's history is
walked from the head that verified bytes gave, through the heads inside entries. The database's search index only says which
rows to fetch together: it can neither hide an entry nor add one, and a lie in it is reported. Rows are read, hashed and compared
anew by every view; only what was parsed from the very same bytes is used again.

Memory: a view keeps the histories it was asked for, up to `KEPT` entries in all; a scan of `entries` holds one page at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice, takewhile
from typing import TYPE_CHECKING, overload

from cognify_dagster.ledger.errors import Tampered
from cognify_dagster.ledger.merkle import merkle_root
from cognify_dagster.ledger.note import Checkpoint
from cognify_dagster.ledger.store import Store
from cognify_dagster.ledger.verified_rows import ParsedRows, Row, SubjectStore, VerifiedEntry, check_row, entry_of

if TYPE_CHECKING:
    from cognify_dagster.ledger.verification.index import Index

__all__ = [
    "IndexedView",
    "ParsedRows",
    "Row",
    "SubjectStore",
    "VerifiedEntry",
    "VerifiedView",
    "check_row",
    "entry_of",
]

KEPT = 20_000
PAGE = 256
_FIRST = 32
_AHEAD = 256
_TOGETHER = 100
_AHEAD_BYTES = 8 * 1024 * 1024
_ADVICE = "run `cognify ledger verify` for the whole picture"


class VerifiedView:
    """The first `size` entries, all checked, with the index of subjects that follows from their bytes.

    `root` is recomputed; `heads` gives each subject's newest entry. `entries` may be anything that gives the entries that are
    asked for by sequence number.
    """

    def __init__(
        self, origin: str, size: int, root: bytes, entries: Sequence[VerifiedEntry], heads: Mapping[str, int]
    ) -> None:
        self.origin = origin
        self.size = size
        self.entries = entries
        self.heads = heads
        self._root = root
        self._traces: list[set[str]] = []

    @contextmanager
    def trace(self) -> Iterator[set[str]]:
        """Collect the subjects that are asked about meanwhile: what follows from their histories stays as it is until one of
        their heads moves. A look at entries past the subjects (by number, by kind) is not collected."""
        found: set[str] = set()
        self._traces.append(found)
        try:
            yield found
        finally:
            self._traces = [trace for trace in self._traces if trace is not found]

    def _traced(self, subject: str) -> None:
        for trace in self._traces:
            trace.add(subject)

    @property
    def root(self) -> bytes:
        """The RFC 6962 root of the entries."""
        return self._root

    def head(self, subject: str) -> int:
        """Return the newest entry about a subject, -1 if there is none."""
        self._traced(subject)
        return self.heads.get(subject, -1)

    def entry(self, seq: int) -> VerifiedEntry:
        """Return one entry.

        Raises:
            IndexError: if there is none.
            Tampered: if its row is no longer the one that was verified.
        """
        return self.entries[seq]

    def pick(self, seqs: Sequence[int]) -> list[VerifiedEntry]:
        """Return entries by number, in the order given; errors as of `entry`."""
        return [self.entry(seq) for seq in seqs]

    def history(self, subject: str) -> list[VerifiedEntry]:
        """Walk a subject's heads backwards through verified bytes; return its entries oldest first."""
        self._traced(subject)
        found = []
        seq = self.heads.get(subject, -1)
        while seq >= 0:
            item = self.entries[seq]
            found.append(item)
            seq = item.entry.heads[subject]
        found.reverse()
        return found

    def holds(self, subject: str) -> bool:
        """Whether a subject's history is at hand, so that asking for it reads nothing."""
        return True

    def short_history(self, subject: str, limit: int) -> list[VerifiedEntry] | None:
        """Return the entries about a subject, oldest first; None if there are more than `limit`: no more are read then."""
        found = self.history(subject)
        return found if len(found) <= limit else None

    def since(self, subject: str, after: int) -> list[VerifiedEntry]:
        """Return the entries about a subject that come after entry `after`, oldest first."""
        return [item for item in self.history(subject) if item.entry.seq > after]

    def walk(self, subject: str) -> Iterator[VerifiedEntry]:
        """Yield the entries about a subject, newest first, for whoever does not need all of them at once."""
        return reversed(self.history(subject))

    def of_kind(self, kind: str) -> Iterator[VerifiedEntry]:
        """Yield all entries of one kind in order."""
        return (item for item in self.entries if item.entry.kind == kind)

    def seqs_of_kind(self, kind: str) -> Sequence[int]:
        """Return the numbers of all entries of one kind in order, reading none of them where an index knows."""
        return [item.entry.seq for item in self.of_kind(kind)]

    def find(self, idem: str, subject: str) -> VerifiedEntry | None:
        """Return the entry with an idempotency key among those about a subject, None if there is none."""
        return next((item for item in self.history(subject) if item.entry.idem == idem), None)

    def consistent(self, size: int, root: bytes) -> bool:
        """Whether the first `size` entries, at least one and no more than this view has, have a root."""
        if not 0 < size <= self.size:
            return False
        return merkle_root(item.entry.leaf for item in self.entries[:size]) == root

    def checkpoint(self) -> Checkpoint:
        """Return this view's head, unsigned."""
        return Checkpoint(self.origin, self.size, self.root)


class IndexedView(VerifiedView):
    """A view whose entries are read when they are asked for; see the module's invariants. Make one with `Index.view`."""

    def __init__(self, index: Index, size: int) -> None:
        self._index = index
        self._store: Store = index.store
        self._histories: dict[str, tuple[VerifiedEntry, ...]] = {}
        self._known: dict[int, VerifiedEntry] = {}
        super().__init__(index.origin, size, b"", _Entries(self, 0, size), _Heads(self, index))

    @property
    def root(self) -> bytes:
        """The RFC 6962 root of the entries, from verified leaves."""
        if not self._root:
            self._root = self._index.root(self.size)
        return self._root

    def entry(self, seq: int) -> VerifiedEntry:
        """Return one entry; see `VerifiedView.entry`."""
        if not 0 <= seq < self.size:
            raise IndexError(f"there is no entry {seq} among the first {self.size}")
        return self._known.get(seq) or self.load(seq)

    def pick(self, seqs: Sequence[int]) -> list[VerifiedEntry]:
        """Return entries by number, fetched together where the store can; see `VerifiedView.pick`."""
        fetch = getattr(self._store, "rows", None)
        unread = [seq for seq in dict.fromkeys(seqs) if seq not in self._known and 0 <= seq < self.size]
        read: dict[int, VerifiedEntry] = {}
        if fetch is not None and len(unread) > 1:
            for at in range(0, len(unread), _TOGETHER):
                asked = set(unread[at : at + _TOGETHER])
                rows = [row for row in fetch(sorted(asked)) if row[0].seq in asked]
                read |= {row[0].seq: self._load(row[0].seq, row) for row in rows}
        return [read.get(seq) or self.entry(seq) for seq in seqs]

    def history(self, subject: str) -> list[VerifiedEntry]:
        """Return the entries about a subject, oldest first; see `VerifiedView.history`."""
        self._traced(subject)
        found = self._histories.get(subject)
        return list(self._keep(subject, self._walk(subject)) if found is None else found)

    def holds(self, subject: str) -> bool:
        """Whether it was read before and is kept; see `VerifiedView.holds`."""
        return subject in self._histories

    def short_history(self, subject: str, limit: int) -> list[VerifiedEntry] | None:
        """Return the entries about a subject, oldest first; see `VerifiedView.short_history`."""
        if subject in self._histories:
            return super().short_history(subject, limit)
        self._traced(subject)
        newest = list(islice(self._walk(subject), limit + 1))
        return list(self._keep(subject, newest)) if len(newest) <= limit else None

    def _keep(self, subject: str, newest_first: Iterable[VerifiedEntry]) -> tuple[VerifiedEntry, ...]:
        found = tuple(reversed(list(newest_first)))
        if len(self._known) + len(found) <= KEPT:
            self._histories[subject] = found
            self._known |= {item.entry.seq: item for item in found}
        return found

    def since(self, subject: str, after: int) -> list[VerifiedEntry]:
        """Return the newest entries about a subject, reading no older ones; see `VerifiedView.since`."""
        if subject in self._histories or after < 0:
            return super().since(subject, after)
        if self.head(subject) <= after:
            return []
        return list(reversed(list(takewhile(lambda item: item.entry.seq > after, self._walk(subject)))))

    def walk(self, subject: str) -> Iterator[VerifiedEntry]:
        """Yield the entries about a subject, newest first; what is not kept already is read in pages and not kept."""
        self._traced(subject)
        kept = self._histories.get(subject)
        return reversed(kept) if kept is not None else self._walk(subject)

    def head(self, subject: str) -> int:
        """Return the newest entry about a subject; see `VerifiedView.head`."""
        self._traced(subject)
        seq = self._index.head(subject)
        while seq >= self.size:
            seq = self._load(seq).entry.heads[subject]
        return seq

    def of_kind(self, kind: str) -> Iterator[VerifiedEntry]:
        """Yield all entries of one kind in order; the list of them follows from verified bytes."""
        return (self.load(seq) for seq in self._index.of_kind(kind, self.size))

    def seqs_of_kind(self, kind: str) -> Sequence[int]:
        """Return the numbers of all entries of one kind in order, from verified bytes."""
        return self._index.of_kind(kind, self.size)

    def consistent(self, size: int, root: bytes) -> bool:
        """Whether the first `size` entries have a root; O(log n), from verified leaves."""
        return 0 < size <= self.size and self._index.root(size) == root

    def load(self, seq: int) -> VerifiedEntry:
        """Read one row and check it."""
        return self._load(seq)

    def page(self, start: int, end: int) -> list[VerifiedEntry]:
        """Read and check the rows [start, end)."""
        entries = list(self._store.entries(start, end))
        payloads = {row.seq: row for row in self._store.payloads(start, end)}
        if [row.seq for row in entries] != list(range(start, end)):
            missing = min(set(range(start, end)) - {row.seq for row in entries}, default=start)
            raise Tampered(f"entry {missing} is missing; {_ADVICE}")
        return [self._load(row.seq, (row, payloads.get(row.seq)), subjects=True) for row in entries]

    def _load(self, seq: int, ahead: Row | None = None, *, subjects: bool = False) -> VerifiedEntry:
        """Check a row that was read already, with its `subjects` or without, or read it with them."""
        if ahead is None:
            subjects = True
            ahead = self._row(seq)
        row, kept = ahead
        if row.seq != seq:
            raise Tampered(f"entry {seq} is missing: entry {row.seq} stands in its place; {_ADVICE}")
        leaf = self._index.leaf(seq)
        found = check_row(row, kept, leaf, self._index.parsed, subjects=subjects)
        if found is None:
            self._index.require_erased(seq)
            return VerifiedEntry(entry_of(row), None, None)
        return found

    def _row(self, seq: int) -> Row:
        """Read a row with its subjects, in one statement where the store can."""
        one = getattr(self._store, "row", None)
        found: Row | None = one(seq) if one is not None else None
        if found is not None:
            return found
        entry = next(iter(self._store.entries(seq, seq + 1)), None)
        if entry is None:
            raise Tampered(f"entry {seq} is missing; {_ADVICE}")
        return entry, next(iter(self._store.payloads(seq, seq + 1)), None)

    def _walk(self, subject: str) -> Iterator[VerifiedEntry]:
        """Yield the entries about a subject, newest first, from the verified head on."""
        seq = self._index.head(subject)
        ahead = _Ahead(self, self._store, subject, seq)
        while seq >= 0:
            item = self._load(seq, ahead.take(seq))
            if seq < self.size:
                yield item
            seq = item.entry.heads[subject]
        ahead.take(-1)


class _Ahead:
    """Rows of one subject that the search index names, fetched in pages while the verified heads are walked."""

    def __init__(self, view: IndexedView, store: Store, subject: str, head: int) -> None:
        self._view, self._subject = view, subject
        self._about = getattr(store, "about", None) if head >= 0 else None
        self._before, self._limit = head + 1, _FIRST
        self._rows: deque[Row] = deque()

    def take(self, seq: int) -> Row | None:
        """Return the row of the next entry of the walk, None if the search index does not name it (it is then read by itself,
        with its subjects, so that a lie shows). Entries that it names and the walk does not come to are looked at too."""
        while self._about is not None:
            if not self._rows:
                self._rows.extend(self._about(self._subject, self._before, self._limit if seq >= 0 else 1))
                if not self._rows:
                    self._about = None
                    return None
                self._before = self._rows[-1][0].seq
                size = sum(len(row.data) + len(kept.data or b"") for row, kept in self._rows if kept is not None)
                self._limit = max(16, min(_AHEAD * 4, _AHEAD_BYTES * len(self._rows) // (size or 1)))
            if self._rows[0][0].seq <= seq:
                return self._rows.popleft() if self._rows[0][0].seq == seq else None
            self._odd(self._rows.popleft()[0].seq)
        return None

    def _odd(self, seq: int) -> None:
        if self._subject in self._view.load(seq).entry.subjects:  # which compares the row's subjects with its bytes
            raise Tampered(
                f"entry {seq} is about {self._subject!r}, but the verified index does not know it: the index was changed. Delete "
                "the folder `verified` of the workspace: it is made anew from the ledger"
            )
        raise Tampered(f"entry {seq}: the search index says that it is about {self._subject!r}; {_ADVICE}")


class _Entries(Sequence[VerifiedEntry]):
    """A stretch of a view's entries, read when asked for, page by page when iterated."""

    def __init__(self, view: IndexedView, start: int, end: int) -> None:
        self._view, self._start, self._end = view, start, end

    def __len__(self) -> int:
        return self._end - self._start

    @overload
    def __getitem__(self, at: int) -> VerifiedEntry: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[VerifiedEntry]: ...
    def __getitem__(self, at: int | slice) -> VerifiedEntry | Sequence[VerifiedEntry]:
        if isinstance(at, slice):
            start, stop, step = at.indices(len(self))
            if step != 1:
                return [self[number] for number in range(start, stop, step)]
            return _Entries(self._view, self._start + start, max(self._start + start, self._start + stop))
        seq = at + (self._end if at < 0 else self._start)
        if not self._start <= seq < self._end:
            raise IndexError(f"there is no entry {at}")
        return self._view.load(seq)

    def __iter__(self) -> Iterator[VerifiedEntry]:
        for start in range(self._start, self._end, PAGE):
            yield from self._view.page(start, min(self._end, start + PAGE))

    def __reversed__(self) -> Iterator[VerifiedEntry]:
        for end in range(self._end, self._start, -PAGE):
            yield from reversed(self._view.page(max(self._start, end - PAGE), end))


class _Heads(Mapping[str, int]):
    """Each subject's newest entry within a view."""

    def __init__(self, view: IndexedView, index: Index) -> None:
        self._view, self._index = view, index

    def __getitem__(self, subject: str) -> int:
        seq = self._view.head(subject)
        if seq < 0:
            raise KeyError(subject)
        return seq

    def __iter__(self) -> Iterator[str]:
        return (subject for subject, _ in self._index.subjects() if self._view.head(subject) >= 0)

    def __len__(self) -> int:
        return sum(1 for _ in self)
