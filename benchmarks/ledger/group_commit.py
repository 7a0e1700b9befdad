"""Group commit: 64 threads that each wait for their own durable append, beside one thread doing the same."""

from __future__ import annotations

import threading
import time
from itertools import count

from benchmarks.ledger.harness import (
    ORIGIN,
    Options,
    Result,
    Row,
    interleave,
    make_draft,
    percentile,
    rate,
    ratio,
    spread,
)
from cognify_dagster.ledger import Draft, Ledger, SqliteStore
from cognify_dagster.ledger.group import GroupCommitter

CALLERS = 64
GOAL = 4.0
P99_GOAL_MS = 30.0


def group(options: Options) -> Result:
    """Drafts are made before the clock starts, for both alike."""
    alone = Ledger(SqliteStore.create(options.folder / "alone.sqlite", ORIGIN))
    together = Ledger(SqliteStore.create(options.folder / "together.sqlite", ORIGIN))
    numbers = count()
    waits: list[float] = []
    each = 10

    def single() -> float:
        drafts = [make_draft(next(numbers)) for _ in range(30)]
        return rate(len(drafts), lambda: [alone.append(draft) for draft in drafts])

    with GroupCommitter(together) as committer:

        def caller(drafts: list[Draft], start: threading.Barrier, mine: list[float]) -> None:
            start.wait()
            for draft in drafts:
                begin = time.perf_counter()
                committer.append(draft)
                mine.append(time.perf_counter() - begin)

        def many() -> float:
            start = threading.Barrier(CALLERS + 1)
            times: list[list[float]] = [[] for _ in range(CALLERS)]
            threads = [
                threading.Thread(
                    target=caller, args=([make_draft(next(numbers)) for _ in range(each)], start, times[index])
                )
                for index in range(CALLERS)
            ]
            for thread in threads:
                thread.start()

            def work() -> None:
                start.wait()
                for thread in threads:
                    thread.join()

            value = rate(CALLERS * each, work)
            waits.extend(wait for part in times for wait in part)
            return value

        many()
        waits.clear()
        grouped, singles = interleave(options.repeats, [many, single])
    value, p99 = ratio(grouped, singles), percentile(waits, 0.99) * 1e3
    return Result(
        f"group commit, {CALLERS} callers",
        f"≥ {GOAL:.0f} × the single-append rate, p99 ≤ {P99_GOAL_MS:.0f} ms",
        f"{value:.1f} ×, p99 {p99:.1f} ms",
        value >= GOAL and p99 <= P99_GOAL_MS,
        [
            f"appends/s {spread(grouped)} in groups; {spread(singles)} alone; waits p50 {percentile(waits, 0.5) * 1e3:.1f} ms, "
            f"max {max(waits) * 1e3:.1f} ms; {len(grouped)} repeats of {CALLERS} × {each}"
        ],
    )


ROWS = [Row("group", group)]
