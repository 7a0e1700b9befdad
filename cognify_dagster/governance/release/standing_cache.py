"""What was decided about many versions, kept until something that it relied on changes. Pure: it reads verified heads only.

Invariants: an answer is given again only while the head of every subject that the decision asked about is the one it was decided
on, and only until the moment it names. A head follows from verified bytes, so an entry that would change the decision cannot be
missed; what the passing of time alone changes (an approval lapses, a condition falls due) is seen at the moment that the caller
names, or after `max_age_s`, of very many versions in turns. Only an answer that says it is `lasting` (a version that was
superseded) is kept as long as nothing is written about it. So this is for telling people and requesting runs: whoever releases
decides anew.

Memory: one answer and about ten heads a version.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Generic, TypeVar

from cognify_dagster.ledger import VerifiedEntry
from cognify_dagster.records import Package
from cognify_dagster.workspace import Reading

ALWAYS = frozenset({"people", "policy", "ledger", "erasures"})
"""Every decision relies on these; what a reading keeps of them may have been looked up before the decision."""
LOOKUP_S = 2.0
"""Seconds that one look at the packages of a large ledger takes at most, where it is to be short: rows are read one by one."""
T = TypeVar("T")


@dataclass(frozen=True)
class _Known(Generic[T]):
    heads: dict[str, int]
    until: datetime | None
    looked: datetime | None  # None: age does not matter
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

    def stale(
        self,
        reading: Reading,
        versions: Iterable[str],
        now: datetime,
        limit: int | None = None,
        *,
        refresh: int | None = None,
    ) -> list[str]:
        """Return the versions that have to be decided (anew).

        Those come first whose heads moved, the latest move in front; then those never decided, in the order given; then those
        whose moment has come; last those that are only old.

        Args:
            reading: verified entries.
            versions: the versions there are.
            now: the present, with time zone.
            limit: at most so many.
            refresh: of those that are only old at most so many, the oldest. So a look at many versions stays short; each is then
                looked at again after more than `max_age_s`.
        """
        heads: dict[str, int] = {}

        def moved(known: _Known[T]) -> int:
            """The newest entry that moved a head, -1 if none did."""
            newest = -1
            for subject, seq in known.heads.items():
                head = heads.get(subject)
                if head is None:
                    head = heads[subject] = reading.view.heads.get(subject, -1)
                if head != seq:
                    newest = max(newest, head, 0)
            return newest

        changed: list[tuple[int, str]] = []
        new: list[str] = []
        due: list[tuple[datetime, str]] = []
        old: list[tuple[datetime, str]] = []
        for version in versions:
            known = self._known.get(version)
            if known is None:
                new.append(version)
            elif (seq := moved(known)) >= 0:
                changed.append((seq, version))
            elif known.until is not None and known.until <= now:
                due.append((known.until, version))
            elif known.looked is not None and known.looked + self._max_age <= now:
                old.append((known.looked, version))
        changed.sort(key=lambda item: -item[0])
        found = [version for _, version in changed] + new
        found += [version for _, version in sorted(due)]
        found += [version for _, version in sorted(old)[:refresh]]
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
        relied_on = subjects | set(answer.relied_on) | (frozenset({"erasures"}) if answer.lasting else ALWAYS)
        heads = {subject: reading.view.heads.get(subject, -1) for subject in relied_on}
        self._known[version] = _Known(heads, answer.until, None if answer.lasting else now, answer.value)

    def keep_only(self, versions: Collection[str]) -> None:
        """Forget versions that are gone."""
        wanted = set(versions)
        self._known = {version: known for version, known in self._known.items() if version in wanted}


@dataclass
class Answer(Generic[T]):
    """What was decided.

    `until` is the moment from which time alone may change it, `relied_on` subjects beyond those asked about. `lasting` says that
    neither time nor who is who changes it, only an entry about what was asked.
    """

    value: T | None = None
    until: datetime | None = None
    relied_on: Collection[str] = ()
    lasting: bool = False


class PackagedVersions:
    """The versions of a model that have a package, newest package first, looked up among new entries only.

    A package is listed by the subjects of its entry, which follow from verified bytes; whether it can be read is for the decision
    about the version to say. One whose payload was erased is none.
    """

    def __init__(self, model: str) -> None:
        self.model = model
        self._about = f"model/{model}@"
        self._size = 0
        self._newest: dict[str, int] = {}
        self._first: tuple[int, Iterator[VerifiedEntry]] | None = None

    def update(self, reading: Reading, limit: int | None = None) -> list[str]:
        """Take in what is new in a reading and return the versions. A reading of an older state is answered as of the newest.

        Args:
            reading: verified entries.
            limit: read at most so many entries, and the first time no longer than `LOOKUP_S`; `complete` says whether there was more.
        """
        if self._size == 0 and self._first is None:
            self._first = reading.size, reading.view.of_kind(Package.kind)
        left, begun = limit, time.monotonic()
        if self._first is not None:
            size, found = self._first
            for item in found:
                self._take(item)
                if left is not None and ((left := left - 1) <= 0 or time.monotonic() - begun > LOOKUP_S):
                    return list(reversed(self._newest))
            self._first, self._size = None, size
        end = reading.size if left is None else min(reading.size, self._size + left)
        if end > self._size:
            for item in reading.view.entries[self._size : end]:
                self._take(item)
            self._size = end
        return list(reversed(self._newest))

    def complete(self, reading: Reading) -> bool:
        """Whether all packages of a reading are taken in."""
        return self._first is None and self._size >= reading.size

    def _take(self, item: VerifiedEntry) -> None:
        entry = item.entry
        if entry.kind != Package.kind or item.payload is None:
            return
        version = next((name[len(self._about) :] for name in entry.subjects if name.startswith(self._about)), None)
        if version is not None:
            self._newest.pop(version, None)
            self._newest[version] = entry.seq
