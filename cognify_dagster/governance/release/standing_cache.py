"""What was decided about many versions, kept until something that it relied on changes. Pure: it reads verified heads only.

Invariants: an answer is given again only while the head of every subject that the decision asked about is the one it was decided
on, and only until the moment it names, at most `max_age_s`. A head follows from verified bytes, so an entry that would change the
decision cannot be missed; what the passing of time alone changes (an approval lapses, a condition falls due) is seen at the
moment that the caller names, or after `max_age_s`. So this is for telling people and requesting runs: whoever releases
decides anew.

Memory: one answer and about ten heads a version.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from cognify_dagster.records import Package
from cognify_dagster.workspace import Reading

ALWAYS = frozenset({"people", "policy", "ledger", "erasures"})
"""Every decision relies on these; what a reading keeps of them may have been looked up before the decision."""
T = TypeVar("T")


@dataclass(frozen=True)
class _Known(Generic[T]):
    heads: dict[str, int]
    until: datetime
    value: T


class StandingCache(Generic[T]):
    """Answers by version, each with the heads it relied on.

    Args:
        max_age_s: seconds after which an answer is looked at again in any case.
    """

    def __init__(self, max_age_s: float = 900.0) -> None:
        self._max_age = timedelta(seconds=max_age_s)
        self._known: dict[str, _Known[T]] = {}

    def get(self, version: str) -> T | None:
        """Return the answer kept for a version, stale or not."""
        found = self._known.get(version)
        return None if found is None else found.value

    def stale(self, reading: Reading, versions: Iterable[str], now: datetime, limit: int | None = None) -> list[str]:
        """Return the versions that have to be decided (anew), at most `limit`: those first whose heads moved, then those never
        decided, then those whose time has come, each in the order given."""
        heads: dict[str, int] = {}

        def moved(known: _Known[T]) -> bool:
            for subject, seq in known.heads.items():
                head = heads.get(subject)
                if head is None:
                    head = heads[subject] = reading.view.heads.get(subject, -1)
                if head != seq:
                    return True
            return False

        changed: list[str] = []
        new: list[str] = []
        due: list[tuple[datetime, str]] = []
        for version in versions:
            known = self._known.get(version)
            if known is None:
                new.append(version)
            elif moved(known):
                changed.append(version)
            elif known.until <= now:
                due.append((known.until, version))
        found = [*changed, *new, *(version for _, version in sorted(due))]
        return found if limit is None else found[:limit]

    @contextmanager
    def deciding(self, reading: Reading, version: str, now: datetime) -> Iterator[Answer[T]]:
        """Watch what a decision asks about, and keep its answer: `with cache.deciding(...) as answer: answer.value = …`.

        Nothing is kept if the block raises or sets no value.
        """
        answer: Answer[T] = Answer()
        with reading.view.trace() as subjects:
            yield answer
        if answer.value is None:
            return
        until = now + self._max_age
        if answer.until is not None:
            until = min(until, answer.until)
        heads = {subject: reading.view.heads.get(subject, -1) for subject in subjects | ALWAYS | set(answer.relied_on)}
        self._known[version] = _Known(heads, until, answer.value)

    def keep_only(self, versions: Collection[str]) -> None:
        """Forget versions that are gone."""
        wanted = set(versions)
        self._known = {version: known for version, known in self._known.items() if version in wanted}


@dataclass
class Answer(Generic[T]):
    """What was decided: `until` is the moment from which time alone may change it, `relied_on` subjects beyond those asked
    about."""

    value: T | None = None
    until: datetime | None = None
    relied_on: Collection[str] = ()


class PackagedVersions:
    """The versions of a model that have a package, newest package first, looked up among new entries only."""

    def __init__(self, model: str) -> None:
        self.model = model
        self._size = 0
        self._newest: dict[str, int] = {}

    def update(self, reading: Reading) -> list[str]:
        """Take in what is new in a reading and return the versions. A reading of an older state is answered as of the newest."""
        if self._size == 0:
            found = (item for item in reading.all(Package))
        else:
            items = (reading.at(item.entry.seq) for item in reading.view.entries[self._size : reading.size])
            found = (item for item in items if item is not None and isinstance(item.record, Package))  # type: ignore[misc]
        for item in found:
            if item.record.model == self.model:
                self._newest.pop(item.record.version, None)
                self._newest[item.record.version] = item.seq
        self._size = max(self._size, reading.size)
        return list(reversed(self._newest))
