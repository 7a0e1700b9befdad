"""One row of a ledger against its verified leaf hash.

Invariants: a row is accepted only with exactly the bytes that the leaf hash was verified for, with search copies that say the same,
and with a payload that the commitment inside the entry proves; what was parsed before is used again only for the same leaf.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from cognify_dagster.ledger.canonical import canonical_json, parse_canonical
from cognify_dagster.ledger.entry import Entry, payload_commitment
from cognify_dagster.ledger.errors import CanonicalJsonError, EntryError, Tampered
from cognify_dagster.ledger.merkle import leaf_hash
from cognify_dagster.ledger.store import StoredEntry, StoredPayload

_ADVICE = "run `cognify ledger verify` for the whole picture"


@dataclass(frozen=True)
class VerifiedEntry:
    """An entry whose bytes, chain and payload commitment were checked, with its payload (None if erased)."""

    entry: Entry
    payload: Mapping[str, Any] | None
    salt: bytes | None


Row = tuple[StoredEntry, StoredPayload | None]


class SubjectStore(Protocol):
    """What a store may offer beside `Store` so that a subject's history is read in few statements."""

    def about(self, subject: str, before: int, limit: int) -> list[Row]:
        """Return the newest rows, of entries before one, that the search index says are about a subject; newest first.

        The entries' own `subjects` are left empty. A hint: nobody relies on its being whole or right.
        """

    def rows(self, seqs: Sequence[int]) -> list[Row]:
        """Return the rows of some entries, in any order, with empty `subjects`; fewer where some are not here, or they are large."""

    def row(self, seq: int) -> Row | None:
        """Return the row of an entry with its `subjects`; None if it is not here."""


@dataclass(frozen=True)
class Parsed:
    """What follows from an entry's bytes and its payload's."""

    entry: Entry
    payload: Mapping[str, Any]
    facts_digest: str | None
    cost: int


class ParsedRows:
    """What was parsed lately, by leaf hash; the payload follows from the commitment inside the leaf. At most `budget` bytes
    of rows, about ten times that in objects."""

    def __init__(self, budget: int = 16 * 1024 * 1024) -> None:
        self._budget = budget
        self._cost = 0
        self._kept: dict[bytes, Parsed] = {}

    def get(self, leaf: bytes) -> Parsed | None:
        """Return what is kept."""
        return self._kept.get(leaf)

    def put(self, leaf: bytes, parsed: Parsed) -> None:
        """Keep it; when there is too much, all of the older is dropped."""
        if self._cost + parsed.cost > self._budget:
            self._kept, self._cost = {}, 0
        before = self._kept.get(leaf)
        self._cost += parsed.cost - (before.cost if before else 0)
        self._kept[leaf] = parsed

    def drop(self, leaves: Iterable[bytes]) -> None:
        """Forget payloads that were erased."""
        for leaf in leaves:
            if (gone := self._kept.pop(leaf, None)) is not None:
                self._cost -= gone.cost


def check_row(
    row: StoredEntry, kept: StoredPayload | None, leaf: bytes, parsed: ParsedRows, *, subjects: bool = True
) -> VerifiedEntry | None:
    """Compare a row with the verified leaf hash, and its payload with the commitment inside the entry.

    Args:
        row: the entry's row.
        kept: its payload's.
        leaf: the verified leaf hash.
        parsed: what was parsed before.
        subjects: whether the row's subjects were read from the search index.

    Returns:
        The entry; None if its payload row is missing or empty, so that an erasure has to account for it.

    Raises:
        Tampered: if anything differs, search copies included.
    """
    if leaf_hash(row.data) != leaf:
        raise Tampered(f"entry {row.seq}: its bytes are not those that were verified: they were changed; {_ADVICE}")
    known = parsed.get(leaf)
    entry = known.entry if known else entry_of(row)
    wrong = (row.leaf, row.prev, row.idem, row.kind, row.time_us) != (
        leaf,
        entry.prev,
        entry.idem,
        entry.kind,
        entry.time_us,
    )
    if wrong or entry.seq != row.seq or (subjects and row.subjects != entry.subjects):
        raise Tampered(f"entry {row.seq}: a search column does not hold what the entry's bytes say; {_ADVICE}")
    if kept is None or (kept.data, kept.salt, kept.facts_digest) == (None, None, None):
        return None
    data, salt = kept.data, kept.salt
    if data is None or salt is None or len(salt) != 32 or payload_commitment(salt, data) != entry.commitment:
        raise Tampered(f"entry {row.seq}: its payload is not the one the entry commits to; {_ADVICE}")
    if known is None:
        known = _parse(entry, data, row.seq)
        parsed.put(leaf, known)
    if known.facts_digest is not None and kept.facts_digest != known.facts_digest:
        raise Tampered(f"entry {row.seq}: the search column 'facts_digest' is not that of its payload; {_ADVICE}")
    return VerifiedEntry(entry, known.payload, salt)


def entry_of(row: StoredEntry) -> Entry:
    """Parse a row's bytes."""
    try:
        return Entry.parse(row.data)
    except EntryError as error:  # only where a verified index was made by something else than this package
        raise Tampered(f"entry {row.seq}: {error}; {_ADVICE}") from error


def _parse(entry: Entry, data: bytes, seq: int) -> Parsed:
    try:
        value = parse_canonical(data)
        digest = sha256(canonical_json(value["facts"])).hexdigest() if "facts" in value else None
    except (CanonicalJsonError, TypeError) as error:
        raise Tampered(f"entry {seq}: its payload cannot be read: {error}; {_ADVICE}") from error
    return Parsed(entry, value, digest, len(entry.data) + len(data))
