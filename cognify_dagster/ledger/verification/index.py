"""What was verified once, kept outside the ledger's database, so that only new entries have to be verified.

Invariants:
- everything in the index follows from entry bytes that passed the same scan as a full verification (form, chain, times, heads,
  search columns): all leaf hashes, the newest entry of each subject, the entries of each kind, the erasures;
- an index only ever grows with the ledger it was made from. If the newest entry it knows is no longer there byte for byte, the
  ledger was set back or rewritten: that is reported (`RolledBack`, `Tampered`) and never indexed anew;
- what is kept in a file is believed only with the MAC of this workspace and the digest of each chunk; on any doubt the ledger
  is verified anew, and must then have the root that was known before;
- an older file is no harm: it is continued.

The payloads of entries are compared with their commitments when they are read (`view.check_row`), or here, with
`payloads=True`; those of erasure entries always here.

Memory: 32 bytes an entry without a file. With one: at most `CACHE` bytes of chunks, and what was verified since it was kept
last, at most `FLUSH` entries (about 300 bytes each).
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass

from cognify_dagster.ledger.errors import RolledBack, Tampered
from cognify_dagster.ledger.merkle import leaf_hash
from cognify_dagster.ledger.store import Store
from cognify_dagster.ledger.tree import Position, Tree
from cognify_dagster.ledger.verification.indexfile import IndexFile, Kept
from cognify_dagster.ledger.verification.known import CHUNK, LEVEL, Known
from cognify_dagster.ledger.verification.scan import ERASURE_KIND, Depth, Seam, erased_by, ranges, scan_part
from cognify_dagster.ledger.view import IndexedView, ParsedRows, check_row

FLUSH = 65_536
_ADVICE = "run `cognify ledger verify` for the whole picture"


@dataclass(frozen=True)
class Progress:
    """How far a ledger was verified: the first `size` of `total` entries."""

    size: int
    total: int

    @property
    def complete(self) -> bool:
        """Whether nothing is left to verify."""
        return self.size >= self.total


class Index(Known):
    """The verified index of one ledger. Safe to share between threads; processes share the file.

    Args:
        store: the ledger's rows.
        file: where to keep it; in memory only unless given.
        payloads: also compare every payload with its commitment while verifying.
    """

    def __init__(self, store: Store, *, file: IndexFile | None = None, payloads: bool = False) -> None:
        self.store = store
        self.parsed = ParsedRows()
        self._depth = Depth(payloads=payloads, nodes=False, leaves=True)
        self._loaded = file is None
        self._expected: tuple[int, bytes] | None = None
        super().__init__(file)

    # --- what is known ----------------------------------------------------------------------------------------------------

    @property
    def origin(self) -> str:
        """The ledger's origin."""
        return self.store.origin

    def view(self, size: int | None = None) -> IndexedView:
        """Return a view of the first `size` verified entries, all unless given.

        Raises:
            Tampered: if the ledger does not have so many, or a payload is missing that no erasure accounts for.
        """
        with self._lock:
            wanted = self.size if size is None else size
            if wanted > self.size:
                raise Tampered(f"the ledger says it has {wanted} entries but {self.size} could be read")
            if lost := sorted(seq for seq in self._missing - self._erased if seq < wanted):
                self.advance()
                if lost[0] in self._missing - self._erased:
                    raise Tampered(_missing(lost[0]))
            return IndexedView(self, wanted)

    def require_erased(self, seq: int) -> None:
        """Accept a missing payload only if a verified erasure entry, however new, accounts for it.

        Raises:
            Tampered: if none does.
        """
        if seq in self._erased:
            return
        self.advance()
        if seq not in self._erased:
            raise Tampered(_missing(seq))

    # --- growing with the ledger ------------------------------------------------------------------------------------------

    def advance(
        self, limit: int | None = None, *, to: int | None = None, progress: Callable[[int, int], None] | None = None
    ) -> Progress:
        """Verify new entries.

        Args:
            limit: at most so many now; a cold start is done in as many calls as it takes.
            to: no further than the first so many entries; the ledger's size unless given.
            progress: called with (entries verified now, entries to verify now).

        Raises:
            RolledBack: if the ledger is shorter than what was verified.
            Tampered: if it is another one, or a new entry does not check.
        """
        with self._lock:
            self._load()
            total = self.store.size()
            self._require_same(total)
            end = total if to is None else max(self.size, to)
            if limit is not None:
                end = min(end, self.size + max(1, limit))
            start = self.size
            while self.size < end:
                self._step(*ranges(self.size, end)[0])
                if self._file is not None and self.size - self._base.position.size >= FLUSH:
                    self.keep()
                if progress is not None:
                    progress(self.size - start, end - start)
            self._require_expected()
            if self._file is not None and self.size - self._base.position.size >= self._file.keep_every:
                self.keep()
            return Progress(self.size, max(total, self.size))

    def _load(self) -> None:
        if self._loaded or self._file is None:
            return
        self._loaded = True
        base = self._file.load()
        if base is not None and not self._take(base):
            self._expected = (base.position.size, base.position.root)
            self._file.discard()

    def _require_same(self, total: int) -> None:
        """The newest entry's bytes chain to all before it: if they are the verified ones, so is the history they close."""
        known = max(self.size, self._expected[0] if self._expected else 0)
        if total < known:
            raise RolledBack(
                f"the ledger has {total} entries, but {known} were verified here before: entries {total}..{known - 1} were "
                f"cut off, or it was restored to an older state. {self._way_out()}"
            )
        if self.size and self._differs(self.size - 1):
            low, high = 0, self.size - 1
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if self._differs(middle) else (middle + 1, high)
            raise Tampered(
                f"entry {low} is not the one that was verified here before: history was rewritten, or the ledger was restored to an "
                f"older state and written on. {self._way_out()}"
            )

    def _require_expected(self) -> None:
        """What replaces a file that could not be believed must be the history that the file was about."""
        if self._expected is None or self.size < self._expected[0]:
            return
        size, root = self._expected
        if self.root(size) != root:
            raise Tampered(f"the first {size} entries are not those that were verified here. {self._way_out()}")
        self._expected = None

    def _differs(self, seq: int) -> bool:
        row = next(iter(self.store.entries(seq, seq + 1)), None)
        return row is None or row.seq != seq or leaf_hash(row.data) != self.leaf(seq)

    def _step(self, start: int, end: int) -> None:
        """Verify [start, end) and take it in, or nothing of it."""
        part = scan_part(self.store, start, end, depth=self._depth)
        staged = _Staged(self)
        seam = Seam(self._position, staged, self._genesis)
        seam.add(part, self._depth)
        if self.size != start:  # meanwhile what another process kept was taken: go on from there
            return
        if seam.findings:
            raise Tampered(f"{seam.findings[0]}; {_ADVICE}")
        if len(part.leaves) != end - start or len(part.kinds) != end - start:
            raise Tampered(f"the ledger says it has {end} entries but {start + len(part.leaves)} could be read")
        erased = seam.erased()
        if not self._depth.payloads:
            for seq, kind in enumerate(part.kinds, start):
                if kind == ERASURE_KIND:
                    erased |= self._erasure(seq, part.leaves[seq - start])
        self._leaves += b"".join(part.leaves)
        for number in range(len(self._full), seam.position.size >> LEVEL):
            at = number * CHUNK - self._first
            tree = Tree()
            tree.extend([bytes(self._leaves[i * 32 : i * 32 + 32]) for i in range(at, at + CHUNK)])
            self._full.append(tree.root())
        for seq, kind in enumerate(part.kinds, start):
            listed = self._kinds.get(kind)
            if listed is None:
                listed = self._kinds[kind] = array("Q")
            listed.append(seq)
        self._heads.update(staged.changed)
        self._missing |= seam.missing
        self._erased |= erased
        self._genesis = seam.first_leaf
        self._position = seam.position
        self.parsed.drop(self.leaf(seq) for seq in erased if seq < self.size)

    def _erasure(self, seq: int, leaf: bytes) -> set[int]:
        row = next(iter(self.store.entries(seq, seq + 1)), None)
        kept = next(iter(self.store.payloads(seq, seq + 1)), None)
        found = check_row(row, kept, leaf, self.parsed) if row is not None else None
        return erased_by([found.payload.get("facts")]) if found is not None and found.payload is not None else set()

    def _rebuild(self) -> None:
        """Verify the ledger anew because the file cannot be believed. It must have the root that was known before."""
        known, missing = self.size, self._missing
        self._expected = (known, self._position.root)
        if self._file is not None:
            self._file.discard()
        self._cache.clear()
        self._cached = 0
        self._nodes.clear()
        self._roots.clear()
        self._take(Kept(Position()))
        self._missing = missing
        self._require_same(self.store.size())
        while self.size < known:
            self._step(*ranges(self.size, known)[0])
        self._require_expected()


class _Staged(MutableMapping[str, int]):
    """Subject heads of a step that is not taken in yet, on top of an index."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.changed: dict[str, int] = {}

    def __getitem__(self, subject: str) -> int:
        found = self.changed.get(subject)
        found = self._index.head(subject) if found is None else found
        if found < 0:
            raise KeyError(subject)
        return found

    def __setitem__(self, subject: str, seq: int) -> None:
        self.changed[subject] = seq

    def __delitem__(self, subject: str) -> None:
        raise TypeError("heads are never forgotten")

    def __iter__(self) -> Iterator[str]:
        return iter(self.changed)

    def __len__(self) -> int:
        return len(self.changed)


def _missing(seq: int) -> str:
    return f"entry {seq}: its payload is missing and no erasure entry accounts for it; {_ADVICE}"
