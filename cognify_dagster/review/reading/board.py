"""The board: where every version, model and dataset stands, kept up by work in the background.

Invariants: what was said about a version is said again only while no head that it relied on moved (`standing_cache`); a snapshot of
the board names the ledger size that it is about and how much waits to be looked at; nothing here decides: a page that shows one
version decides it anew, and so does whoever signs or releases.

Memory: one brief and about ten subjects a version, of 20,000 versions about 60 MB.
"""

from __future__ import annotations

import heapq
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from cognify_dagster.governance import policy_in_force
from cognify_dagster.governance.release.history import completions
from cognify_dagster.governance.release.standing_cache import ALWAYS, StandingCache
from cognify_dagster.records import DatasetSnapshot, DeploymentCompleted, FindingOpened, Reconciliation
from cognify_dagster.review.background import JOBS, Job
from cognify_dagster.review.reading.briefs import (
    DatasetBrief,
    ModelBrief,
    VersionBrief,
    main_target,
)
from cognify_dagster.review.reading.model_standing import dataset_brief, model_brief
from cognify_dagster.review.reading.version_standing import version_brief
from cognify_dagster.workspace import Reading, Recorded, Workspace

if TYPE_CHECKING:
    from cognify_dagster.review.site import Site

KEY: Hashable = "reading.board"
MAX_AGE_S = 3_600.0
LOOK_S = 0.4
"""Seconds that the background works before it lets requests have the processor."""
REST_S = 0.4
IDLE_S = 1.0
ALL_EVERY_S = 300.0
ENTRIES_A_LOOK = 20_000
FIRST_VERSIONS = 3
"""Of each model so many versions, the newest, are looked at before all others."""
_LISTED = (FindingOpened.kind, Reconciliation.kind, DatasetSnapshot.kind)
_ALONE_LOOK_S = 2.0
_INLINE_S = 0.05


@dataclass(frozen=True)
class Snapshot:
    """The board at a moment: what is known of the first `size` entries; `left` are versions and models not looked at since a change."""

    size: int = 0
    at: datetime | None = None
    left: int = 0
    models: Mapping[str, ModelBrief] = field(default_factory=dict)
    versions: Mapping[str, tuple[VersionBrief, ...]] = field(default_factory=dict)
    datasets: Mapping[str, DatasetBrief] = field(default_factory=dict)

    def version(self, model: str, version: str) -> VersionBrief | None:
        """Return what is known of a version."""
        return next((item for item in self.versions.get(model, ()) if item.version == version), None)


class Board:
    """What is kept between looks, in one process. One thread looks at a time; anybody reads `snapshot`."""

    def __init__(self, workspace: Workspace) -> None:
        self.workspace = workspace
        self.snapshot = Snapshot()
        self._lock = threading.Lock()
        self._versions: StandingCache[VersionBrief] = StandingCache(MAX_AGE_S)
        self._models: StandingCache[ModelBrief] = StandingCache(MAX_AGE_S)
        self._datasets: StandingCache[tuple[DatasetBrief | None]] = StandingCache(MAX_AGE_S)
        self._known: dict[str, dict[str, None]] = {}
        self._early: dict[str, dict[str, None]] = {}  # versions whose model was not met yet: subjects come in any order
        self._targets: dict[str, set[str]] = {}
        self._releases: dict[tuple[str, str], tuple[int, tuple[Recorded[DeploymentCompleted], ...]]] = {}
        self._found_in: dict[str, dict[str | None, None]] = {}
        self._data: dict[str, None] = {}
        self._used: dict[str, set[str]] = {}
        self._hot: dict[str, None] = {}
        self._cold: dict[str, None] = {}
        self._anew: set[str] = (
            set()
        )  # to be looked at though no head that they relied on moved: there is more to rely on
        self._moments: list[tuple[datetime, str]] = []
        self._size = 0
        self._all_at = 0.0
        self.attended = False
        """Whether work in the background keeps it up; then no request does, and none waits for it."""
        self._changed: set[str] = set()

    def current(self, reading: Reading, now: datetime) -> Snapshot:
        """Return the board for a page. What changed lately is looked at first where that takes no time; without the background's
        work (a process that runs none) all of it, for two seconds at most."""
        alone = not self.attended
        if alone or self.snapshot.size < reading.size:
            self.look(reading, now, _ALONE_LOOK_S if alone else _INLINE_S, wait=alone)
        return self.snapshot

    def work(self, reading: Reading, now: datetime, give_way: Callable[[], object] | None = None) -> int:
        """Look, as the background does; return how much is left."""
        return self.look(reading, now, LOOK_S, give_way=give_way)

    def look(
        self,
        reading: Reading,
        now: datetime,
        seconds: float,
        *,
        wait: bool = True,
        give_way: Callable[[], object] | None = None,
    ) -> int:
        """Take in new entries and look at what changed, for so many seconds; return how much is left to look at.

        Args:
            reading: the ledger.
            now: the time.
            seconds: how long.
            wait: for another thread that looks; else nothing is done then.
            give_way: called before each version, model or dataset.
        """
        if not self._lock.acquire(blocking=wait):
            return self.snapshot.left
        try:
            if reading.size < self._size:
                return self.snapshot.left
            self._take_in(reading, now)
            self._work_off(reading, now, time.monotonic() + seconds, give_way)
            left = len(self._hot) + len(self._cold) + (reading.size - self._size)
            self._publish(now, left)
            return left
        finally:
            self._lock.release()

    def targets(self, model: str) -> list[str]:
        """Return the targets that a model was released to, as far as the board knows."""
        return sorted(self._targets.get(model, ()))

    def finding_versions(self, model: str) -> list[str | None]:
        """Return the versions that findings are about; None for the model as a whole."""
        return list(self._found_in.get(model, ()))

    # --- what there is ---------------------------------------------------------------------------------------------------

    def _take_in(self, reading: Reading, now: datetime) -> None:
        if not self._size:
            for subject in reading.view.heads:
                self._meet(subject)
            for kind in _LISTED:
                for item in reading.view.of_kind(kind):
                    self._found(kind, item.entry.subjects)
            self._hot = {}
            self._queue_all(reading)
            self._size = reading.size
        end = min(reading.size, self._size + ENTRIES_A_LOOK)
        shared = False
        for item in reading.view.entries[self._size : end]:
            entry = item.entry
            for subject in entry.subjects:
                self._meet(subject)
            if entry.kind in _LISTED:
                self._found(entry.kind, entry.subjects)
            for subject in entry.subjects:
                shared = shared or subject in ALWAYS
                self._hot.update(dict.fromkeys(self._used.get(subject, ())))
        self._size = end
        while self._moments and self._moments[0][0] <= now:
            self._hot[heapq.heappop(self._moments)[1]] = None
        if shared or time.monotonic() - self._all_at > ALL_EVERY_S:
            self._queue_all(reading)

    def _meet(self, subject: str) -> None:
        """Take note of a model, a version or a target. A model is what has something in `oversight/`."""
        area, _, name = subject.partition("/")
        if area == "oversight" and name not in self._known:
            self._known[name] = {}
            self._hot[f"m:{name}"] = None
            for version in self._early.pop(name, ()):
                self._meet(f"model/{name}@{version}")
        elif area == "model" and "@" in name:
            model, _, version = name.partition("@")
            versions = self._known.get(model)
            if versions is not None and version not in versions:
                versions[version] = None
                self._hot[f"v:{name}"] = None
            elif versions is None:
                self._early.setdefault(model, {})[version] = None
        elif area == "release":
            model, _, target = name.partition(".")
            if target not in self._targets.setdefault(model, set()):
                self._targets[model].add(target)
                self._more(model)

    def _more(self, model: str) -> None:
        self._anew.add(f"m:{model}")
        self._hot[f"m:{model}"] = None

    def _found(self, kind: str, subjects: Iterable[str]) -> None:
        """Take note of what a finding is about, or of a dataset that has a snapshot."""
        for subject in subjects:
            area, _, name = subject.partition("/")
            if kind == DatasetSnapshot.kind:
                if area == "dataset" and name not in self._data:
                    self._data[name] = None
                    self._hot[f"d:{name}"] = None
                continue
            model, _, version = name.partition("@")
            if area == "oversight" or (area == "model" and version):
                self._found_in.setdefault(model, {})[version or None] = None
                self._more(model)

    def _queue_all(self, reading: Reading) -> None:
        """Everything is compared with its heads again: what was written about last comes first, of each model the newest versions."""
        self._all_at = time.monotonic()
        heads = reading.view.heads
        groups: list[tuple[int, list[str]]] = []
        for model, versions in self._known.items():
            ranked = sorted(
                ((heads.get(f"model/{model}@{version}", -1), version) for version in versions), reverse=True
            )
            keys = [f"m:{model}", *(f"v:{model}@{version}" for _, version in ranked)]
            groups.append((ranked[0][0] if ranked else -1, keys))
        groups.sort(key=lambda item: -item[0])
        keys = [key for _, group in groups for key in group[: FIRST_VERSIONS + 1]]
        keys += [f"d:{name}" for name in self._data]
        keys += [key for _, group in groups for key in group[FIRST_VERSIONS + 1 :]]
        self._cold = dict.fromkeys(keys)

    # --- looking ---------------------------------------------------------------------------------------------------------

    def _work_off(self, reading: Reading, now: datetime, until: float, give_way: Callable[[], object] | None) -> None:
        with_data = bool(policy_in_force(reading).policy.datasets)
        for queue in (self._hot, self._cold):
            while queue:
                key = next(iter(queue))
                del queue[key]
                self._cold.pop(key, None)
                if give_way is not None:
                    give_way()
                self._look_at(reading, key, now, with_data=with_data)
                if time.monotonic() > until:
                    return

    def _look_at(self, reading: Reading, key: str, now: datetime, *, with_data: bool) -> None:
        area, name = key[0], key[2:]
        model = name.partition("@")[0]
        if area == "d":
            if not with_data:
                return
            if self._datasets.stale(reading, [name], now):
                with reading.view.trace() as subjects, self._datasets.deciding(reading, name, now) as found:
                    found.value = (dataset_brief(reading, name),)
                    found.relied_on = {f"dataset/{name}"}
                self._keep(key, {*subjects, f"dataset/{name}"}, None)
            return
        if model not in self._known:
            return
        targets = self._targets.get(model, set())
        cache: StandingCache[VersionBrief] | StandingCache[ModelBrief]
        cache = self._versions if area == "v" else self._models
        if key not in self._anew and not cache.stale(reading, [name], now):
            return
        self._anew.discard(key)
        until: datetime | None
        if area == "v":
            target = main_target(targets)
            done = self._done(reading, model, target)
            with reading.view.trace() as subjects, self._versions.deciding(reading, name, now) as answer:
                brief = version_brief(self.workspace, reading, model, name.partition("@")[2], target, now, done)
                answer.value, answer.until, answer.lasting = brief.value, brief.until, brief.lasting
                answer.relied_on = relied_on = {*brief.relied_on, f"model/{name}", f"release/{model}.{target}"}
                until = brief.until
        else:
            with reading.view.trace() as subjects, self._models.deciding(reading, name, now) as known:
                known.value, until = model_brief(reading, model, targets, self._found_in.get(model, ()), now)
                known.until = until
                known.relied_on = relied_on = {f"oversight/{model}", *(f"release/{model}.{item}" for item in targets)}
        self._keep(key, {*subjects, *relied_on}, until)

    def _done(self, reading: Reading, model: str, target: str) -> Sequence[Recorded[DeploymentCompleted]]:
        """Return what made something live on a target, looked up anew only when an entry about that was added."""
        head = reading.view.heads.get(f"release/{model}.{target}", -1)
        kept = self._releases.get((model, target))
        if kept is None or kept[0] != head:
            kept = self._releases[model, target] = (
                head,
                tuple(completions(reading, model, target)) if head >= 0 else (),
            )
        return kept[1]

    def _keep(self, key: str, subjects: set[str], until: datetime | None) -> None:
        for subject in subjects - ALWAYS:
            self._used.setdefault(subject, set()).add(key)
        if until is not None:
            heapq.heappush(self._moments, (until, key))
        self._changed.add(key)

    def _publish(self, now: datetime, left: int) -> None:
        old = self.snapshot
        models, versions, datasets = old.models, old.versions, old.datasets
        if self._changed:
            models, versions, datasets = dict(models), dict(versions), dict(datasets)
            touched = {key[2:].partition("@")[0] for key in self._changed if key[0] == "v"}
            for model in touched:
                found = (self._versions.get(f"{model}@{version}") for version in reversed(self._known[model]))
                versions[model] = tuple(sorted((item for item in found if item is not None), key=_newest_first))
            for key in self._changed:
                if key[0] == "m" and (known := self._models.get(key[2:])) is not None:
                    models[key[2:]] = known
                if key[0] == "d":
                    kept = self._datasets.get(key[2:])
                    if kept is not None and kept[0] is not None:
                        datasets[key[2:]] = kept[0]
                    else:
                        datasets.pop(key[2:], None)
            self._changed = set()
        elif (old.size, old.left) == (self._size, left):
            return
        self.snapshot = Snapshot(self._size, now, left, models, versions, datasets)


def _newest_first(item: VersionBrief) -> tuple[int, int]:
    return (0, 0) if item.package_seq is None else (1, -item.package_seq)


def board_of(site: Site) -> Board:
    """Return the board of a site."""
    board: Board = site.remember(KEY, lambda: Board(site.workspace))
    return board


def _keep_up(site: Site) -> float | None:
    board = board_of(site)
    board.attended = True
    done = site.workspace.catch_up(ENTRIES_A_LOOK)
    if not done.complete:
        return 0.05
    left = board.work(site.read(), datetime.now(timezone.utc), site.traffic.give_way)
    return site.traffic.rest(REST_S) if left else IDLE_S


JOBS.append(Job("board", IDLE_S, _keep_up, alone=False))
