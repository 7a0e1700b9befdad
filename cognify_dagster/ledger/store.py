"""The small interface behind which ledgers are stored. A store keeps bytes; it never judges them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

from cognify_dagster.ledger.entry import SealedBody


@dataclass(frozen=True)
class StoredEntry:
    """One row as stored. Everything but `data` is a search copy that a verifier must compare with the bytes."""

    seq: int
    data: bytes
    leaf: bytes
    prev: str
    idem: str
    kind: str
    time_us: int
    subjects: tuple[str, ...]


@dataclass(frozen=True)
class StoredPayload:
    """The payload of an entry with its salt. `data` is None once erased or detached."""

    seq: int
    salt: bytes | None
    facts_digest: str | None
    data: bytes | None


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
        """Return the number of entries."""

    def append(self, sealed: SealedBody, now_us: int, expected_size: int | None) -> Receipt:
        """Finish the body under the lock and keep entry, payload and tree nodes in one durable transaction."""

    def entries(self, start: int, end: int) -> Iterator[StoredEntry]:
        """Yield entries [start, end) in order of sequence number."""

    def payloads(self, start: int, end: int) -> Iterator[StoredPayload]:
        """Yield the payload rows of entries [start, end) in order."""

    def node(self, level: int, index: int) -> bytes:
        """Return the cached hash of a complete subtree."""

    def nodes(self, size: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield the cached subtrees of the first `size` entries as (level, index, hash), ordered by level, then index."""

    def add_checkpoint(self, size: int, note: str) -> None:
        """Keep a signed checkpoint; several of one size are kept beside each other."""

    def checkpoints(self) -> list[tuple[int, str]]:
        """Return all kept checkpoints, smallest size first."""
