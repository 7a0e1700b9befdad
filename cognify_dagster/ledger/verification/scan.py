"""Reading a ledger in checked parts, by one process or several, and joining them in order.

Invariants: what a part claims about the past is compared with what the parts before it showed; roots are built from leaves
recomputed from entry bytes. Leaves are independent, so parts may be scanned by several processes.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from typing import Any

from cognify_dagster.ledger.entry import CLOCK_KIND, NO_PREVIOUS
from cognify_dagster.ledger.errors import LedgerError
from cognify_dagster.ledger.merkle import EMPTY_ROOT
from cognify_dagster.ledger.store import ReopenableStore, Store
from cognify_dagster.ledger.tree import Position, Tree
from cognify_dagster.ledger.verification.parts import (
    ARCHIVE_KIND,
    ERASURE_KIND,
    REVOCATION_KIND,
    Depth,
    Part,
    check_nodes,
    facts_digest_of,
    scan_part,
)
from cognify_dagster.ledger.verification.report import Finding, Outcome

__all__ = [
    "ARCHIVE_KIND",
    "ERASURE_KIND",
    "REVOCATION_KIND",
    "Depth",
    "Part",
    "Position",
    "Seam",
    "Tree",
    "erased_by",
    "facts_digest_of",
    "ranges",
    "scan",
    "scan_part",
]

PART = 16_384


class Seam:
    """Joins parts in order: compares what each claims about the past with what the parts before it showed."""

    def __init__(
        self, position: Position = Position(), heads: MutableMapping[str, int] | None = None, genesis: bytes = b""
    ) -> None:
        self.heads: MutableMapping[str, int] = {} if heads is None else heads
        self.findings: list[Finding] = []
        self.roots: dict[int, bytes] = {0: EMPTY_ROOT}
        self.missing: set[int] = set()
        self.noted: list[tuple[int, str, Any]] = []
        self.back: dict[int, int] = {}
        self.first_leaf = genesis
        self.count = position.size
        self._tree = Tree(position.size, position.peaks)
        self._prev, self._time = position.prev, position.time_us
        self._damaged = False

    @property
    def position(self) -> Position:
        """Where the check stands."""
        return Position(self._tree.size, tuple(self._tree.peaks), self._prev, self._time)

    def add(self, part: Part, depth: Depth, store: Store | None = None) -> None:
        """Join the next part."""
        self.findings += part.findings
        if part.count != part.end - part.start and not part.findings:
            text = f"{part.end - part.start} entries announced, {part.count} found"
            self.findings.append(Finding(Outcome.TAMPERED, part.start + part.count, text))
        if depth.columns and part.count:
            self._links(part)
        if part.start == 0:
            self.first_leaf = part.first_leaf
        finished: dict[int, tuple[int, list[bytes]]] = {}
        before = (self._tree.size, list(self._tree.peaks))
        for cut, peaks in part.cuts.items():
            tree = Tree(*before)
            for level, value in peaks:
                tree.push(level, value)
            self.roots[cut] = tree.root()
        for level, value in part.peaks:
            self._tree.push(level, value, finished)
        if depth.nodes and store is not None and finished and not self.findings:
            read = all(
                part.joined.get((level, index)) == value
                for level, (first, values) in finished.items()
                for index, value in enumerate(values, first)
            )
            self.findings += [] if read else check_nodes(store, finished)
        self.count += part.count
        self.missing |= part.missing
        self.noted += part.noted

    def _links(self, part: Part) -> None:
        if part.first_prev != self._prev and not (part.damaged and part.first_prev == NO_PREVIOUS):
            text = "its previous-leaf hash does not match the entry before it: the chain is broken here"
            self.findings.append(Finding(Outcome.TAMPERED, part.start, text))
        if part.first_time < self._time and part.first_kind == CLOCK_KIND:
            self.back[part.start] = self._time
        elif part.first_time and part.first_time < self._time:
            text = "its time lies before that of an earlier entry"
            self.findings.append(Finding(Outcome.TAMPERED, part.start, text))
        if not self._damaged and not part.damaged:
            if (fetch := getattr(self.heads, "fetch", None)) is not None:
                fetch(part.claims)
            for subject, (seq, head) in part.claims.items():
                if self.heads.get(subject, -1) != head:
                    text = f"its head of {subject!r} is {head}, not {self.heads.get(subject, -1)}"
                    self.findings.append(Finding(Outcome.TAMPERED, seq, text))
        self._damaged = self._damaged or part.damaged
        self.heads.update(part.heads)
        corrected = bool(part.back) or part.start in self.back
        self.back |= part.back
        self._prev, self._time = part.last_leaf.hex(), part.last_time if corrected else max(self._time, part.last_time)

    def erased(self) -> set[int]:
        """Return the sequence numbers that erasure entries account for."""
        return erased_by(facts for _, kind, facts in self.noted if kind == ERASURE_KIND)


def erased_by(erasures: Iterable[Any]) -> set[int]:
    """Return the sequence numbers named by the facts of erasure entries: `seq`, or the list `seqs`."""
    erased: set[int] = set()
    for facts in erasures:
        if isinstance(facts, Mapping):
            named = facts.get("seqs")
            every = [facts.get("seq"), *(named if isinstance(named, list) else [])]
            erased.update(value for value in every if type(value) is int)
    return erased


def ranges(start: int, end: int, part: int = PART) -> list[tuple[int, int]]:
    """Cut [start, end) at multiples of `part`."""
    cuts = [start, *range((start // part + 1) * part, end, part), end]
    return [(low, high) for low, high in pairwise(cuts) if low < high]


def scan(
    store: Store,
    start: int,
    end: int,
    *,
    cuts: Iterable[int] = (),
    depth: Depth = Depth(),
    processes: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[Part]:
    """Yield the checked parts of [start, end) in order.

    Args:
        store: where the rows are; with several processes a `ReopenableStore`, or one that can be pickled.
        start: where to begin.
        end: where to end; entries appended meanwhile are not looked at.
        cuts: sizes whose roots are wanted.
        depth: what to check.
        processes: how many processes share the work.
        progress: called with (entries done, entries in all).
    """
    wanted = sorted(set(cuts))
    parts = ranges(start, end)
    alone = processes <= 1 or len(parts) < 2
    if not alone:  # smaller ones last, so that no process waits long for what another has begun or has in hand
        late = parts[-2 * processes :]
        smaller = max(1, max(high - low for low, high in late) // 4)
        parts = parts[: -len(late)] + ranges(late[0][0], end, smaller)
    jobs = [(low, high, list(_between(wanted, low, high))) for low, high in parts]
    if alone:
        for low, high, inside in jobs:
            yield scan_part(store, low, high, inside, depth)
            if progress:
                progress(high - start, end - start)
        return
    # not forked: the caller may hold threads and locks
    opener = store.opener() if isinstance(store, ReopenableStore) else partial(_same, store)
    context = get_context("spawn")
    others = processes - 1  # this process works too, also while the others start
    with ProcessPoolExecutor(others, mp_context=context, initializer=_open, initargs=(opener,)) as pool:
        todo, ahead = deque(jobs), deque[Future[Part]]()
        window = processes * 4  # parts ahead: results are small, but never without bound
        while todo or ahead:
            busy = sum(not future.done() for future in ahead)
            while todo and busy < 2 * others and len(ahead) < window:
                ahead.append(pool.submit(_scan_opened, *todo.popleft(), depth))
                busy += 1
            if todo and len(ahead) < window and not ahead[0].done():
                ahead.append(_scanned(store, *todo.popleft(), depth))
            else:
                yield _joined(ahead.popleft().result(), start, end, progress)


_opened: list[Store] = []  # in a process of the pool: the store that it opened for itself


def _same(store: Store) -> Store:
    return store


def _open(opener: Callable[[], Store]) -> None:
    _opened.append(opener())


def _scan_opened(start: int, end: int, cuts: Sequence[int], depth: Depth) -> Part:
    return scan_part(_opened[0], start, end, cuts, depth)


def _scanned(store: Store, start: int, end: int, cuts: Sequence[int], depth: Depth) -> Future[Part]:
    """Scan a part in this process. What goes wrong with it is told when its turn comes."""
    done: Future[Part] = Future()
    try:
        done.set_result(scan_part(store, start, end, cuts, depth))
    except LedgerError as error:
        done.set_exception(error)
    return done


def _joined(part: Part, start: int, end: int, progress: Callable[[int, int], None] | None) -> Part:
    if progress:
        progress(part.end - start, end - start)
    return part


def _between(values: Sequence[int], low: int, high: int) -> Sequence[int]:
    return values[bisect_right(values, low) : bisect_right(values, high)]
