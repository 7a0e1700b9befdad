"""Garbage collection of evidence that no ledger entry names: left behind by runs that were killed or refused.

Invariants:
    * A blob that the ledger names, or that a legal hold covers, is never removed; while a hold on everything stands nothing is.
    * Nothing is removed at once: a blob nobody names lies untouched for the grace period, is then moved aside (``trash/``), and is
      removed only after the grace period again, if nobody names it even then. A blob in the trash that is named comes back.
    * The caller's reading of the ledger is taken anew right before anything is removed and after anything was moved.

The grace period has to be longer than the longest time between storing evidence and appending the entry that names it, which
is the longest run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from cognify_dagster.evidence._names import PLAIN_NAME, SEALED_NAME
from cognify_dagster.evidence.errors import EvidenceError
from cognify_dagster.evidence.store import EvidenceStore

DAY_S = 86_400.0
GRACE_S = 30 * DAY_S
MIN_GRACE_S = DAY_S
TRASH = "trash"


@dataclass(frozen=True)
class Marks:
    """What must stay: `live` digests are named by ledger entries, `held` ones lie under a legal hold; `frozen` says why nothing
    may be removed at all, if so."""

    live: frozenset[str]
    held: frozenset[str] = frozenset()
    frozen: str | None = None


@dataclass(frozen=True)
class Collected:
    """What a collection did (or, on a trial run, would do): digests moved aside, removed for good and brought back."""

    moved: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    restored: tuple[str, ...] = ()
    kept: int = 0
    frozen: str | None = None
    failed: tuple[str, ...] = field(default=())


def collect(
    store: EvidenceStore,
    read_marks: Callable[[], Marks],
    *,
    grace_s: float = GRACE_S,
    now: float | None = None,
    dry_run: bool = False,
) -> Collected:
    """Collect garbage once. Safe to repeat and to interrupt; run it every day or week.

    Args:
        store: the evidence store, open for writing.
        read_marks: reads the whole, verified ledger and returns what must stay. It must raise rather than return too little:
            an empty mark is refused.
        grace_s: seconds a blob stays before it is moved aside, and again before it is removed; at least a day.
        now: POSIX time; the clock's unless given.
        dry_run: change nothing, only say what would be done.

    Raises:
        EvidenceError: if the grace period is too short, the marks are empty, or the storage cannot be listed.
    """
    if grace_s < MIN_GRACE_S:
        raise EvidenceError(
            f"a grace period of {grace_s:.0f} s is shorter than a day; runs that still go on could lose evidence"
        )
    moment = time.time() if now is None else now
    sweep = _Sweep(store, grace_s, moment, dry_run)
    marks = _usable(read_marks())
    sweep.restore(marks)
    if marks.frozen is None:
        sweep.remove(_usable(read_marks()))
        sweep.move(marks)
        sweep.restore(_usable(read_marks()))
    return sweep.report(marks)


def _usable(marks: Marks) -> Marks:
    if not marks.live:
        raise EvidenceError(
            "the ledger names no evidence at all; nothing is collected. Is it the ledger that belongs to this evidence?"
        )
    return marks


class _Sweep:
    def __init__(self, store: EvidenceStore, grace_s: float, now: float, dry_run: bool) -> None:
        self.folder = store._blobs
        self.grace_s, self.now, self.dry_run = grace_s, now, dry_run
        self.moved: list[str] = []
        self.removed: list[str] = []
        self.restored: list[str] = []
        self.failed: list[str] = []
        self.kept = 0

    def _old(self, name: str) -> bool:
        modified = self.folder.modified(name)
        return modified is not None and modified + self.grace_s <= self.now

    def _trash(self) -> list[tuple[str, str, str]]:
        found = []
        for name in sorted(self.folder.names(TRASH)):
            original = name[len(TRASH) + 1 :]
            digest = _digest(original)
            if digest is not None:
                found.append((name, original, digest))
        return found

    def restore(self, marks: Marks) -> None:
        """Bring back what is named after all."""
        for name, original, digest in self._trash():
            if digest in marks.live or digest in marks.held:
                if digest not in self.restored:
                    self.restored.append(digest)
                self._do(digest, partial(self.folder.move, name, original))
                if digest in self.moved:
                    self.moved.remove(digest)

    def remove(self, marks: Marks) -> None:
        """Remove what has lain in the trash for the grace period."""
        if marks.frozen is not None:
            return
        for name, _, digest in self._trash():
            if digest in marks.live or digest in marks.held or not self._old(name):
                continue
            if self._do(digest, partial(self.folder.remove, name)):
                self.removed.append(digest)

    def move(self, marks: Marks) -> None:
        """Move aside what nobody names and nobody touched for the grace period."""
        for prefix in ("blobs", "sealed"):
            for name in sorted(self.folder.names(prefix)):
                digest = _digest(name)
                if digest is None:
                    continue
                if digest in marks.live or digest in marks.held or not self._old(name):
                    self.kept += 1
                elif self._do(digest, partial(self.folder.move, name, f"{TRASH}/{name}")):
                    self.moved.append(digest)

    def _do(self, digest: str, action: Callable[[], object]) -> bool:
        if self.dry_run:
            return True
        try:
            action()
        except EvidenceError as error:  # one blob under a retention lock must not stop the others
            self.failed.append(f"{digest}: {error}")
            return False
        return True

    def report(self, marks: Marks) -> Collected:
        return Collected(
            tuple(self.moved), tuple(self.removed), tuple(self.restored), self.kept, marks.frozen, tuple(self.failed)
        )


def _digest(name: str) -> str | None:
    match = PLAIN_NAME.fullmatch(name) or SEALED_NAME.fullmatch(name)
    return f"sha256:{match[1]}{match[2]}" if match else None
