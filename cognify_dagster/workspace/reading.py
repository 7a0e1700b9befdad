"""Typed reading of verified bytes.

Invariants: a `Reading` gives only entries whose bytes, chain, subject heads and payload commitments were recomputed; a
subject's history is walked through the heads inside entries, or, where it is long, picked out of all entries of a kind, whose list
follows from verified bytes; never through search columns. Of a long history only the entries that are asked for are read. Each reading compares every row
it reads with what was verified; only the parsed record of the very same leaf is used again.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import Any, Generic, TypeVar, cast

from cognify_dagster.ledger import VerifiedEntry, VerifiedView
from cognify_dagster.records import Genesis, Record, RecordError, read_record

_MANY = 256
_OF_KIND = 4_096
_MEMOS = 100_000
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

    @property
    def when(self) -> datetime:
        """When the entry was appended, by the writer's clock."""
        return datetime.fromtimestamp(self.time_us / 1e6, timezone.utc)


class RecordCache:
    """Records parsed lately, by leaf hash: what a leaf says never changes. Holds at most `limit` of them."""

    def __init__(self, limit: int = 8_192) -> None:
        self._limit = limit
        self._kept: dict[bytes, Recorded[Record] | str] = {}
        self.memo: dict[Hashable, Any] = {}
        """What others found out about this workspace's entries; they say themselves when it holds. At most 100,000 of these."""
        self.finding_out = threading.RLock()
        """Held by whoever reads much to find something out, so that of many who ask at once one reads and the others take it from
        `memo`. Nobody holds it who waits for another lock."""

    def get(self, leaf: bytes) -> Recorded[Record] | str | None:
        """Return the record, the reason why it cannot be read, or None if neither is kept."""
        return self._kept.get(leaf)

    def put(self, leaf: bytes, found: Recorded[Record] | str) -> None:
        """Keep it; when there are too many, all of the older are dropped."""
        if len(self._kept) >= self._limit:
            self._kept = {}
        if len(self.memo) > _MEMOS:
            self.memo.clear()
        self._kept[leaf] = found


class Reading:
    """The first `size` entries of a ledger, verified, as typed records. `records` may be shared between readings."""

    def __init__(self, view: VerifiedView, records: RecordCache | None = None) -> None:
        self.view = view
        self._records = records or RecordCache()
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
        known: Recorded[Genesis] | None = self.memo.get("genesis") if self.size else None
        first = known or self.find(Genesis, 0)
        if first is None:
            raise RecordError(
                "the ledger does not begin with a genesis entry; run `cognify init` to create a workspace"
            )
        if known is None:  # later readings of the workspace are of the same log, which begins with the same entry
            self.memo["genesis"] = first
        return first

    @property
    def trial(self) -> bool:
        """Whether the ledger was opened with `--trial`."""
        return self.genesis.record.trial

    def at(self, seq: int) -> Recorded[Record] | None:
        """Return the record of an entry; None if there is no such entry, its payload was erased or its kind is unknown."""
        if not 0 <= seq < self.size:
            return None
        return self._of(self.view.entry(seq))

    def find(self, kind: type[R], seq: int, before: int | None = None) -> Recorded[R] | None:
        """Return the record of an entry if it is of a kind, and if the entry lies before entry `before`; else None."""
        found = self.at(seq) if before is None or seq < before else None
        return cast("Recorded[R]", found) if found is not None and isinstance(found.record, kind) else None

    def _of(self, item: VerifiedEntry) -> Recorded[Record] | None:
        if item.payload is None:
            return None
        entry = item.entry
        found = self._records.get(entry.leaf)
        if found is None:
            found = _recorded(item)
            self._records.put(entry.leaf, found)
        if isinstance(found, str):
            self._unreadable[entry.seq] = found
            return None
        return found

    @property
    def memo(self) -> dict[Hashable, Any]:
        """What was found out before by other readings of this workspace; see `RecordCache.memo`."""
        return self._records.memo

    @property
    def finding_out(self) -> threading.RLock:
        """The lock of what takes long to find out; see `RecordCache.finding_out`."""
        return self._records.finding_out

    def problem(self, item: VerifiedEntry) -> str | None:
        """Say why this release cannot read an entry, None if it can or if its payload was erased."""
        return None if self._of(item) is not None else self._unreadable.get(item.entry.seq)

    def history(self, subject: str) -> list[Recorded[Record]]:
        """Return all records about a subject, oldest first."""
        found = map(self._of, self.view.history(subject))
        return [item for item in found if item is not None]

    def unreadable(self, subject: str) -> dict[int, str]:
        """Return the entries about a subject that this release cannot read, with the reason. A decision must refuse them."""
        items = self.view.history(subject)
        for item in items:
            self._of(item)
        return {seq: self._unreadable[seq] for item in items if (seq := item.entry.seq) in self._unreadable}

    def erased(self, subject: str) -> list[VerifiedEntry]:
        """Return the entries about a subject whose payload was erased. What they said is gone, so a decision must not
        take their silence for consent."""
        return [item for item in self.view.history(subject) if item.payload is None]

    def all(self, kind: type[R], subject: str | None = None) -> list[Recorded[R]]:
        """Return the records of one kind in order, about a subject or all.

        Without a subject every entry of the kind is read, and no other: which ones they are follows from verified bytes.
        """
        source = self.view.of_kind(kind.kind) if subject is None else self._about(kind.kind, subject)
        found = (self._of(item) for item in source)
        return [cast("Recorded[R]", item) for item in found if item is not None and isinstance(item.record, kind)]

    def _about(self, kind: str, subject: str) -> list[VerifiedEntry]:
        """Return the entries of one kind about a subject.

        A subject may have very many entries of other kinds (a dataset that every experiment was trained on). Once it is known to,
        it is asked from the other side, where the kind has few entries; else all are read once. What was found is remembered for
        all readings of the workspace, and used for shorter histories too that were not read yet: it follows from verified bytes,
        and a history only grows.
        """
        upto, count, kinds = self.memo.get(("kinds", subject), (-1, 0, {}))
        if count >= _MANY:
            if self.view.head(subject) > upto:
                kinds = self._remember(subject, kinds, self.view.since(subject, upto))
            return self.view.pick([seq for seq in kinds.get(kind, ()) if seq < self.size])
        if ("long", subject) not in self.memo and (("subjects", kind) not in self.memo or self.view.holds(subject)):
            few = self.view.short_history(subject, _MANY)
            if few is not None:
                return [item for item in few if item.entry.kind == kind]
            self.memo["long", subject] = True
        seqs = self._of_subject(kind, subject)
        if seqs is not None:
            return self.view.pick([seq for seq in seqs if seq < self.size])
        items = self.view.history(subject)
        if len(items) >= _MANY:
            self._remember(subject, {}, items)
        return [item for item in items if item.entry.kind == kind]

    def _of_subject(self, kind: str, subject: str) -> Sequence[int] | None:
        """Return the entries of a kind about a subject, by number, from those of the kind; None if that has too many to be read."""
        if self.view.head(subject) < 0:
            return ()
        with self.finding_out:  # one reads them, whoever else asks finds them in the memo
            upto, found = self.memo.get(("subjects", kind), (-1, {}))
            seqs = self.view.seqs_of_kind(kind)
            new = seqs[bisect_right(seqs, upto) :]
            if len(new) > _OF_KIND:
                return None
            if new:
                added: dict[str, list[int]] = {}
                for item in self.view.pick(new):
                    for name in item.entry.subjects:
                        added.setdefault(name, []).append(item.entry.seq)
                found = {**found, **{name: (*found.get(name, ()), *more) for name, more in added.items()}}
                self.memo["subjects", kind] = (new[-1], found)
        numbers: Sequence[int] = found.get(subject, ())
        return numbers

    def _remember(
        self, subject: str, kinds: Mapping[str, tuple[int, ...]], items: Sequence[VerifiedEntry]
    ) -> dict[str, tuple[int, ...]]:
        added: dict[str, list[int]] = {}
        for item in items:
            added.setdefault(item.entry.kind, []).append(item.entry.seq)
        found = {**kinds, **{kind: (*kinds.get(kind, ()), *seqs) for kind, seqs in added.items()}}
        self.memo["kinds", subject] = (items[-1].entry.seq, sum(map(len, found.values())), found)
        return found

    def since(self, kind: type[R], subject: str, after: int) -> list[Recorded[R]]:
        """Return the records of one kind about a subject that come after entry `after`, in order; older ones are not read."""
        return self.of(kind, self.view.since(subject, after))

    def recent(self, subject: str, limit: int, kinds: Collection[str] = ()) -> list[Recorded[Record]]:
        """Return the newest records about a subject, at most `limit`, oldest first; older entries are not read.

        Args:
            subject: whose history is walked, from its head on.
            limit: how many records.
            kinds: only records of these kinds count; all unless given.
        """
        window = 4 * max(limit, 64)
        while True:
            after = max(self.size - window, 0) - 1
            items = [
                item
                for item in self.view.since(subject, after)
                if item.payload is not None and (not kinds or item.entry.kind in kinds)
            ]
            if len(items) >= limit or after < 0:
                found = map(self._of, items[-limit:] if limit else [])
                return [item for item in found if item is not None]
            window *= 4

    def of(self, kind: type[R], items: Iterable[VerifiedEntry]) -> list[Recorded[R]]:
        """Return the records of one kind among some entries, in their order."""
        found = (self._of(item) for item in items if item.entry.kind == kind.kind)
        return [cast("Recorded[R]", item) for item in found if item is not None and isinstance(item.record, kind)]

    def latest(self, kind: type[R], subject: str) -> Recorded[R] | None:
        """Return the newest record of a kind about a subject."""
        for item in reversed(self._about(kind.kind, subject)):
            found = self._of(item)
            if found is not None and isinstance(found.record, kind):
                return cast("Recorded[R]", found)
        return None


def _recorded(item: VerifiedEntry) -> Recorded[Record] | str:
    """Parse an entry's payload; return the reason where this release cannot."""
    entry, payload = item.entry, item.payload
    assert payload is not None
    try:
        record = read_record(entry.kind, entry.schema, payload)
    except RecordError as error:  # also UnknownKind
        return str(error)
    if tuple(sorted(set(record.subjects()))) != entry.subjects:
        return f"{entry.kind}: the entry's subjects are not those of its payload"
    return Recorded(entry.seq, entry.time_us, entry.leaf.hex(), entry.actor, entry.key_id, record, item)
