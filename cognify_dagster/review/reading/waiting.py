"""Everything that waits by the board, and how much of it for whom: kept from one look of the board to the next.

Invariant: only the models of which the board said something new are gone through again; so the number beside *Inbox* costs a page
next to nothing, however many versions there are. Names and days are those of today: all of it is made anew when people or the day
change.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from cognify_dagster.governance import directory
from cognify_dagster.review.reading.board import Snapshot, board_of
from cognify_dagster.review.reading.briefs import VersionBrief
from cognify_dagster.review.reading.items import Item, Name, of_dataset, of_model, of_preparation, of_version, urgency
from cognify_dagster.review.site import Site
from cognify_dagster.workspace import Reading

if TYPE_CHECKING:
    from cognify_dagster.review.visit import Visit

KEY = "reading.waiting"
_DATA = "\0datasets"
_Mark = tuple[str, int]


@dataclass(frozen=True)
class _Part:
    """What waits about one model (or about all datasets), and the very briefs from which that was made."""

    versions: object
    brief: object
    items: tuple[Item, ...]


@dataclass(frozen=True)
class Listing:
    """What waits by one snapshot of the board. `counts`: how many items wait for a person, by id."""

    snapshot: Snapshot
    mark: _Mark
    parts: Mapping[str, _Part]
    counts: Mapping[str, int]

    @cached_property
    def items(self) -> tuple[Item, ...]:
        """Everything that waits, for whomever, the most pressing first."""
        return tuple(sorted((item for part in self.parts.values() for item in part.items), key=urgency))


class Waiting:
    """The newest listing of a site. Any thread may ask."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: Listing | None = None

    def listing(self, snapshot: Snapshot, reading: Reading, now: datetime) -> Listing:
        """Return what waits by a snapshot of the board."""
        mark = (now.date().isoformat(), reading.view.heads.get("people", -1))
        last = self._last
        if last is not None and last.snapshot is snapshot and last.mark == mark:
            return last
        with self._lock:
            last = self._last
            if last is None or last.snapshot is not snapshot or last.mark != mark:
                last = self._last = _listed(last, snapshot, mark, directory(reading).name, now)
            return last


def waiting_of(site: Site) -> Waiting:
    """Return what a site keeps of what waits."""
    found: Waiting = site.remember(KEY, Waiting)
    return found


def count_for(visit: Visit) -> int | None:
    """Return how many things wait for the visitor, for the navigation; None where nobody knows (yet), or for auditors from outside.

    It is as new as the board in the background: a second old or so. The inbox itself looks again.
    """
    user = visit.user
    if user is None or user.person is None:
        return None
    snapshot = board_of(visit.site).snapshot
    if not snapshot.size:
        return None
    listing = waiting_of(visit.site).listing(snapshot, visit.reading, visit.now)
    if user.models is None:
        found = listing.counts.get(user.person, 0)
    else:
        found = sum(user.person in item.people for item in listing.items if not item.model or user.sees(item.model))
    return found + visit.acts_waiting


def _listed(last: Listing | None, snapshot: Snapshot, mark: _Mark, name: Name, now: datetime) -> Listing:
    """Return a listing, with what the last one holds of models about which the board said nothing new."""
    kept = last if last is not None and last.mark == mark else None
    parts = dict(kept.parts) if kept is not None else {}
    counts = dict(kept.counts) if kept is not None else {}

    def take(key: str, versions: object, brief: object, items: Iterable[Item]) -> None:
        old, new = parts.get(key), tuple(items)
        for item in old.items if old is not None else ():
            for person in set(item.people):
                counts[person] -= 1
        for item in new:
            for person in set(item.people):
                counts[person] = counts.get(person, 0) + 1
        parts[key] = _Part(versions, brief, new)

    models = snapshot.models
    bare: dict[str, tuple[VersionBrief, ...]] = dict.fromkeys(models.keys() - snapshot.versions.keys(), ())
    for some in (snapshot.versions, bare):
        for model, versions in some.items():
            part, brief = parts.get(model), models.get(model)
            if part is not None and part.versions is versions and part.brief is brief:
                continue
            found = [item for version in versions for item in of_version(version, brief, name, now)]
            found += of_preparation(versions, brief, name)
            take(model, versions, brief, [*found, *(of_model(brief, name, now) if brief is not None else ())])
    part, data = parts.get(_DATA), snapshot.datasets
    if part is None or part.versions is not data:
        take(_DATA, data, None, [of_dataset(item, name) for item in data.values()])
    return Listing(snapshot, mark, parts, counts)
