"""Typed reading of verified bytes.

Invariants: a `Reading` holds only entries whose bytes, chain, subject heads and payload commitments were recomputed; a
subject's history is walked through the heads inside entries, never through search columns.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, TypeVar

from cognify_dagster.ledger import VerifiedEntry, VerifiedView
from cognify_dagster.records import Genesis, Record, RecordError, read_record

R = TypeVar("R", bound=Record)
R_co = TypeVar("R_co", bound=Record, covariant=True)


@dataclass(frozen=True)
class Recorded(Generic[R_co]):
    """A record as it stands in the ledger. `leaf` is the entry's leaf hash in hex, `time_us` microseconds since 1970 UTC."""

    seq: int
    time_us: int
    leaf: str
    actor: str
    key_id: str
    record: R_co
    entry: VerifiedEntry = field(repr=False)


class Reading:
    """The first `size` entries of a ledger, verified, as typed records."""

    def __init__(self, view: VerifiedView) -> None:
        self.view = view
        self._cache: dict[int, Recorded[Record] | None] = {}
        self._unreadable: dict[int, str] = {}

    @property
    def size(self) -> int:
        """How many entries this reading covers."""
        return self.view.size

    @property
    def origin(self) -> str:
        """The ledger's origin."""
        return self.view.origin

    @property
    def genesis(self) -> Recorded[Genesis]:
        """The first entry.

        Raises:
            RecordError: if the ledger does not begin with a genesis record.
        """
        first = self.at(0) if self.size else None
        if first is None or not isinstance(first.record, Genesis):
            raise RecordError(
                "the ledger does not begin with a genesis entry; run `cognify init` to create a workspace"
            )
        return Recorded(first.seq, first.time_us, first.leaf, first.actor, first.key_id, first.record, first.entry)

    @property
    def trial(self) -> bool:
        """Whether the ledger was opened with `--trial`."""
        return self.genesis.record.trial

    def at(self, seq: int) -> Recorded[Record] | None:
        """Return the record of an entry; None if there is no such entry, its payload was erased or its kind is unknown."""
        if not 0 <= seq < self.size:
            return None
        if seq not in self._cache:
            self._cache[seq] = self._read(self.view.entries[seq])
        return self._cache[seq]

    def _read(self, item: VerifiedEntry) -> Recorded[Record] | None:
        entry = item.entry
        if item.payload is None:
            return None
        try:
            record = read_record(entry.kind, entry.schema, item.payload)
        except RecordError as error:  # also UnknownKind
            self._unreadable[entry.seq] = str(error)
            return None
        if tuple(sorted(set(record.subjects()))) != entry.subjects:
            self._unreadable[entry.seq] = f"{entry.kind}: the entry's subjects are not those of its payload"
            return None
        return Recorded(entry.seq, entry.time_us, entry.leaf.hex(), entry.actor, entry.key_id, record, item)

    def history(self, subject: str) -> list[Recorded[Record]]:
        """Return all records about a subject, oldest first."""
        found = (self.at(item.entry.seq) for item in self.view.history(subject))
        return [item for item in found if item is not None]

    def unreadable(self, subject: str) -> dict[int, str]:
        """Return the entries about a subject that this release cannot read, with the reason. A decision must refuse them."""
        self.history(subject)
        seqs = {item.entry.seq for item in self.view.history(subject)}
        return {seq: text for seq, text in self._unreadable.items() if seq in seqs}

    def erased(self, subject: str) -> list[VerifiedEntry]:
        """Return the entries about a subject whose payload was erased. What they said is gone, so a decision must not
        take their silence for consent."""
        return [item for item in self.view.history(subject) if item.payload is None]

    def all(self, kind: type[R], subject: str | None = None) -> list[Recorded[R]]:
        """Return the records of one kind in order, about a subject or all."""
        source = self.view.entries if subject is None else self.view.history(subject)
        result: list[Recorded[R]] = []
        for item in source:
            if item.entry.kind != kind.kind:
                continue
            found = self.at(item.entry.seq)
            if found is not None and isinstance(found.record, kind):
                result.append(
                    Recorded(found.seq, found.time_us, found.leaf, found.actor, found.key_id, found.record, item)
                )
        return result

    def latest(self, kind: type[R], subject: str) -> Recorded[R] | None:
        """Return the newest record of a kind about a subject."""
        found = self.all(kind, subject)
        return found[-1] if found else None
