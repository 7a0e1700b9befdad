"""The small interface behind which ledgers are stored. A store keeps bytes; it never judges them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from cognify_dagster.ledger.entry import SealedBody
from cognify_dagster.ledger.errors import LedgerError


class StoredEntry(NamedTuple):
    """One row as stored. Everything but `data` is a search copy that a verifier must compare with the bytes."""

    seq: int
    data: bytes
    leaf: bytes
    prev: str
    idem: str
    kind: str
    time_us: int
    subjects: tuple[str, ...]


class StoredPayload(NamedTuple):
    """The payload of an entry with its salt. `data` is None once erased or detached."""

    seq: int
    salt: bytes | None
    facts_digest: str | None
    data: bytes | None


@dataclass(frozen=True)
class Segment:
    """Entries [start, end) whose rows were moved out of the database into an archive folder.

    `manifest` is the SHA-256 hex of the archive's manifest. A segment counts only if a `segment_archived` entry says the same.
    """

    start: int
    end: int
    manifest: str


@dataclass(frozen=True)
class Receipt:
    """What `append` returns: where the entry is and its leaf hash. `duplicate` means it was already there."""

    seq: int
    leaf: bytes
    time_us: int
    duplicate: bool = False

    @property
    def size(self) -> int:
        """The ledger's size right after this entry."""
        return self.seq + 1


class Store(Protocol):
    """A ledger's storage: appends under one lock, reads in short ranges."""

    @property
    def origin(self) -> str:
        """The origin of the ledger kept here."""

    def size(self) -> int:
        """Return the number of entries, archived ones included."""

    def append(self, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        """Finish the body under the lock and keep entry, payload and tree nodes in one durable transaction."""

    def append_many(self, sealed: Sequence[SealedBody], now_us: int, expected_size: int | None = None) -> list[Receipt]:
        """Append entries in order in one durable transaction: all or, if one is refused, none."""

    def append_each(self, sealed: Sequence[SealedBody], now_us: int) -> list[Receipt | LedgerError]:
        """Append entries in order in one durable transaction; a refused one leaves its error in its place and does
        not hold up the others (for group commit)."""

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end) in order of sequence number.

        Raises:
            LedgerUnreadable: if some of them were detached into an archive that is not given to this store.
        """

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield the payload rows of entries [start, end) in order."""

    def node(self, level: int, index: int) -> bytes:
        """Return the cached hash of a complete subtree."""

    def nodes(self, level: int, start: int, end: int) -> Iterator[tuple[int, bytes]]:
        """Yield the cached complete subtrees of one level with index in [start, end) as (index, hash), in order."""

    def add_checkpoint(self, size: int, note: str) -> None:
        """Keep a signed checkpoint; several of one size are kept beside each other."""

    def checkpoints(self, since: int = 0) -> list[tuple[int, str]]:
        """Return kept checkpoints, smallest size first: those of the largest size that is not above `since`, and all above."""

    def find(self, idem: str) -> Receipt | None:
        """Return the receipt of the entry with this idempotency key, None if there is none."""

    def erase(self, seqs: Sequence[int]) -> None:
        """Remove payload, salt and facts digest of entries for good, as far as the medium allows. Erasing twice is no error."""

    def load(
        self, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload], checkpoints: Iterable[tuple[int, str]]
    ) -> None:
        """Fill an empty store with the rows of another one, byte for byte (restore, copy). Nodes are recomputed.

        Raises:
            LedgerError: if this store is not empty or a row does not follow the one before it; nothing is kept then.
        """

    def detach(self, segment: Segment) -> None:
        """Remove the rows of an archived segment; nodes of level 8 and above stay, so that roots can still be proven."""

    def attach(self, segment: Segment, entries: Iterable[StoredEntry], payloads: Iterable[StoredPayload]) -> None:
        """Put the rows of a detached segment back."""

    def segments(self) -> list[Segment]:
        """Return the detached segments in order."""


class Tombstone(NamedTuple):
    """What the database keeps of an entry whose rows were moved into an archive, so that retries and receipts go on working."""

    seq: int
    idem: str
    leaf: bytes
    time_us: int
    facts_digest: str | None


@runtime_checkable
class TombstoneStore(Protocol):
    """A store that can show what it keeps of detached entries, for verification to compare."""

    def tombstones(self, start: int, end: int) -> list[Tombstone]:
        """Return what is kept of the entries [start, end), in order."""


@runtime_checkable
class IndexedStore(Protocol):
    """A store whose search index of subjects goes on leading to entries that were moved into an archive."""

    def index_deviations(self, start: int, end: int, pairs: Sequence[tuple[int, str]]) -> list[tuple[int, str]]:
        """Compare the index with the detached entries [start, end).

        Args:
            start: first sequence number.
            end: one more than the last.
            pairs: (seq, subject) of each subject of these entries, as their archived bytes say, in order.

        Returns:
            (seq, subject) of what the index should not have or lacks, in order. It lacks nothing where it may lead to a later
            entry about the subject instead.
        """


@runtime_checkable
class ForgetfulStore(Protocol):
    """A store that can forget the facts digests it keeps of detached entries: they say something about an erased payload."""

    def forget(self, seqs: Sequence[int]) -> None:
        """Remove the facts digests kept of detached entries for good."""


@runtime_checkable
class HoldingStore(Protocol):
    """A store whose reads can share one snapshot: less work where little is read. It may hold up writers meanwhile."""

    def held(self) -> AbstractContextManager[object]:
        """Let this thread's reads inside the block see one state of the ledger."""


@runtime_checkable
class ReopenableStore(Protocol):
    """A store that several processes of one verification can open by themselves."""

    def opener(self) -> Callable[[], Store]:
        """Return what opens this store for reading in another process. It can be pickled and may hold a password: it goes
        through a pipe to a child process and nowhere else."""


Columns = tuple[int, bytes, bytes, bytes, bytes, str, int, str]
"""The raw columns of an entry's row: seq, bytes, leaf, prev and idem as 32 bytes each, kind, time_us, and the subjects with a
space between them."""


@runtime_checkable
class BulkStore(Protocol):
    """What a store may offer beside `Store` so that verification reads faster."""

    @property
    def origin(self) -> str:
        """The origin of the ledger kept here."""

    def data(self, start: int, end: int) -> list[tuple[int, bytes]]:
        """Return (seq, bytes) of the entries [start, end) in order."""

    def columns(self, start: int, end: int) -> tuple[list[Columns], list[list[str]], list[tuple[int, str]]]:
        """Return the raw columns of the entries [start, end) in order, the subjects that each names in its last column, and
        (seq, subject) wherever the search index of subjects deviates from them; of one moment."""

    def completed(self, start: int, end: int) -> dict[tuple[int, int], bytes]:
        """Return the cached subtrees above the leaves whose last leaf is one of the entries [start, end):
        (level, index) -> hash. Such a store has no leaves in its cache beside the entries' leaf column."""


@runtime_checkable
class DerivedStore(Protocol):
    """What a store offers that keeps more than entries and what verification compares by itself."""

    def check_derived(self) -> list[tuple[int | None, str]]:
        """Recompute what is kept beside the entries (who may write, settings, guards) and return every difference.

        Returns:
            (sequence number or None, what differs) each; empty if all is as it should be. Nothing is repaired. What could
            not be looked at is a text that begins with `not checked: `; what an earlier release set up, exactly so, one that
            begins with `outdated: `.
        """
