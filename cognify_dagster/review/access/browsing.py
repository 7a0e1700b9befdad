"""Finding entries for the ledger's page: newest first, a page at a time, by kind, subject and time. Nothing is found past verified bytes.

A subject's entries are walked through the heads inside entries. One request looks at 2,000 entries at most; where more would have to be
looked at, the page says from which entry on it goes on.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from cognify_dagster.ledger import VerifiedEntry
from cognify_dagster.review.access.scope import sees_entry
from cognify_dagster.review.identity.user import User
from cognify_dagster.workspace import Reading

LIMIT = 50
LOOK = 2_000
_BLOCK = 64


@dataclass(frozen=True)
class Filters:
    """What entries are wanted. Times are microseconds since 1970 UTC: from `since_us` on, before `until_us`."""

    kind: str = ""
    subject: str = ""
    since_us: int | None = None
    until_us: int | None = None


@dataclass(frozen=True)
class Found:
    """A page of entries, newest first. `next`: the entry to go on from, None at the end; `stopped`: looked at enough, found few."""

    items: tuple[VerifiedEntry, ...]
    next: int | None
    stopped: bool = False


def browse(reading: Reading, user: User, wanted: Filters, start: int | None = None, limit: int = LIMIT) -> Found:
    """Return a page of entries.

    Args:
        reading: verified entries.
        user: who looks; what they may not see is passed over.
        wanted: the filters.
        start: the newest entry that may be on the page; the newest of all unless given.
        limit: how many entries a page has.
    """
    top = reading.size - 1 if start is None else min(start, reading.size - 1)
    if wanted.until_us is not None:
        top = min(top, last_before(reading, wanted.until_us))
    low = last_before(reading, wanted.since_us) + 1 if wanted.since_us is not None else 0
    found: list[VerifiedEntry] = []
    for looked, item in enumerate(_descending(reading, wanted, top)):
        seq = item.entry.seq
        if seq < low:
            break
        if looked >= LOOK or len(found) >= limit:
            return Found(tuple(found), seq, len(found) < limit)
        if (not wanted.kind or item.entry.kind == wanted.kind) and sees_entry(reading, user, item.entry):
            found.append(item)
    return Found(tuple(found), None)


def last_before(reading: Reading, time_us: int) -> int:
    """Return the last entry that is older than a time, -1 if none is. Times never decrease but for corrections of the clock."""
    low, high = 0, reading.size
    while low < high:
        middle = (low + high) // 2
        if reading.view.entry(middle).entry.time_us < time_us:
            low = middle + 1
        else:
            high = middle
    return low - 1


def _descending(reading: Reading, wanted: Filters, top: int) -> Iterator[VerifiedEntry]:
    """Yield the entries at or below `top` that may be wanted, newest first."""
    view = reading.view
    if wanted.subject:
        seq = view.heads.get(wanted.subject, -1)
        if 0 <= top < seq and wanted.subject in view.entry(top).entry.heads:
            seq = top
        while seq >= 0:
            item = view.entry(seq)
            if seq <= top:
                yield item
            seq = item.entry.heads[wanted.subject]
        return
    if wanted.kind:
        seqs = view.seqs_of_kind(wanted.kind)
        for place in range(bisect_right(seqs, top) - 1, -1, -1):
            yield view.entry(seqs[place])
        return
    for end in range(top + 1, 0, -_BLOCK):
        yield from reversed(list(view.entries[max(0, end - _BLOCK) : end]))
