"""Appending to SQLite, one by one and in batches, beside a bare table."""

from __future__ import annotations

from itertools import count, islice

from benchmarks.ledger.harness import (
    ORIGIN,
    Bare,
    Options,
    Result,
    Row,
    facts,
    interleave,
    make_draft,
    rate,
    ratio,
    size_of_one,
    spread,
)
from cognify_dagster.ledger import Ledger, SqliteStore

SINGLE_GOAL = 0.75
BATCH_GOAL = 0.15
BATCH = 100
FILL = 5_000  # both tables start with rows, so that indexes have pages to touch


def single(options: Options) -> Result:
    """Durable appends one by one. A draft's payload is canonical before the clock starts; sealing, salt, commitment, chain,
    heads, tree and read-back are inside."""
    bare = Bare(options.folder / "bare.sqlite", b"x" * size_of_one())
    ledger = Ledger(SqliteStore.create(options.folder / "single.sqlite", ORIGIN))
    numbers = count()
    for _ in range(0, FILL, 500):
        ledger.append_many([make_draft(next(numbers)) for _ in range(500)])
        bare.commit(500)
    block = 20

    def ours() -> float:
        drafts = [make_draft(next(numbers)) for _ in range(block)]
        return rate(block, lambda: [ledger.append(draft) for draft in drafts])

    def theirs() -> float:
        return rate(block, lambda: [bare.commit(1) for _ in range(block)])

    mine, baseline = interleave(options.repeats * 2, [ours, theirs])
    value = ratio(mine, baseline)
    return Result(
        "durable single append, SQLite",
        f"≥ {SINGLE_GOAL} × bare one-row commits",
        f"{value:.2f} ×",
        value >= SINGLE_GOAL,
        [f"appends/s {spread(mine)}; bare commits/s {spread(baseline)}; {len(mine)} repeats of {block}"],
    )


def batch(options: Options) -> Result:
    """Durable batches of 100 through `append_many`, from Python values on: canonical JSON and tree are inside."""
    bare = Bare(options.folder / "bare-bulk.sqlite", b"x" * size_of_one())
    ledger = Ledger(SqliteStore.create(options.folder / "batch.sqlite", ORIGIN))
    numbers = count()
    for _ in range(0, FILL, 500):
        ledger.append_many([make_draft(next(numbers)) for _ in range(500)])
        bare.commit(500)
    batches = 3

    def ours() -> float:
        values = [[(number, facts(number)) for number in islice(numbers, BATCH)] for _ in range(batches)]

        def work() -> None:
            for part in values:
                ledger.append_many([make_draft(number, content) for number, content in part])

        return rate(batches * BATCH, work)

    def theirs() -> float:
        return rate(batches * BATCH, lambda: [bare.commit(BATCH) for _ in range(batches)])

    mine, baseline = interleave(options.repeats, [ours, theirs])
    value = ratio(mine, baseline)
    return Result(
        f"batches of {BATCH}, SQLite, canonical JSON and tree included",
        f"≥ {BATCH_GOAL} × bare bulk insert",
        f"{value:.2f} ×",
        value >= BATCH_GOAL,
        [f"entries/s {spread(mine)}; bare rows/s {spread(baseline)}; {len(mine)} repeats of {batches} batches"],
    )


ROWS = [Row("single", single), Row("batch", batch)]
