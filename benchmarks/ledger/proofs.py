"""An inclusion proof out of a ledger of a million entries, by a process that has just opened it."""

from __future__ import annotations

import random
import time

from benchmarks.ledger.harness import Options, Result, Row, big_ledger, percentile
from cognify_dagster.ledger import Ledger, SqliteStore, leaf_hash, verify_inclusion

GOAL_MS = 2.0
GOAL_BYTES = 672


def inclusion(options: Options) -> Result:
    """Opening the file, its checks and the proof are inside; the operating system's page cache is warm."""
    path = big_ledger(options).path
    dice = random.Random(1)
    reader = Ledger(SqliteStore(path, read_only=True))
    size = reader.size()
    root = reader.root(size)
    places = [0, size - 1, *(dice.randrange(size) for _ in range(10 * options.repeats))]
    for seq in places:  # warms the pages that are then read
        reader.inclusion(seq, size)
    times, largest = [], 0
    for seq in places:
        start = time.perf_counter()
        fresh = Ledger(SqliteStore(path, read_only=True))
        proof = fresh.inclusion(seq, size)
        times.append(time.perf_counter() - start)
        (row,) = fresh.store.entries(seq, seq + 1)
        verify_inclusion(seq, size, leaf_hash(row.data), proof, root)
        largest = max(largest, sum(map(len, proof)))
    middle = percentile(times, 0.5) * 1e3
    return Result(
        f"inclusion proof from a ledger of {size:,}, fresh connection",
        f"< {GOAL_MS:.0f} ms, ≤ {GOAL_BYTES} bytes",
        f"{middle:.2f} ms, {largest} bytes",
        (middle < GOAL_MS and largest <= GOAL_BYTES) if not options.quick else None,
        [
            f"p95 {percentile(times, 0.95) * 1e3:.2f} ms, max {max(times) * 1e3:.2f} ms; {len(times)} proofs, each verified"
        ],
    )


ROWS = [Row("inclusion", inclusion)]
