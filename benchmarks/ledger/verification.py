"""Verification: everything from the stored rows, by one process and two, and only what is new; and how much memory it takes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.ledger.harness import (
    Options,
    Result,
    Row,
    big_ledger,
    full_ledger,
    interleave,
    percentile,
    rate,
    ratio,
    spread,
)
from cognify_dagster.ledger import SqliteStore, leaf_hash, merkle_root
from cognify_dagster.ledger.verification.scan import Depth, Seam, scan
from cognify_dagster.ledger.verification.state import StateFile
from cognify_dagster.ledger.verification.verify import verify_store

LEAVES = Depth(columns=False, payloads=False, nodes=False)
COLUMNS = Depth(payloads=False, nodes=False)
SAMPLE = 65_536
NEW = 1_000


def _scan(store: SqliteStore, size: int, depth: Depth, processes: int = 1) -> bytes:
    seam = Seam()
    for part in scan(store, 0, size, depth=depth, processes=processes):
        seam.add(part, depth, store)
    if seam.findings:
        raise SystemExit(f"the benchmark's ledger is damaged: {seam.findings[0]}")
    return seam.position.root


def full(options: Options) -> Result:
    """Baseline: the RFC 6962 root over the same bytes, already in memory, by the library's plain `merkle_root`."""
    size = min(SAMPLE, options.big)
    store = full_ledger(options, size)
    data = [row for _, row in store.data(0, size)]
    root = merkle_root(map(leaf_hash, data))
    if not _scan(store, size, LEAVES) == _scan(store, size, COLUMNS) == root:
        raise SystemExit("the scans do not agree with the root of the bytes")
    bare, leaves, columns = interleave(
        options.repeats,
        [
            lambda: rate(size, lambda: merkle_root(map(leaf_hash, data))),
            lambda: rate(size, lambda: _scan(store, size, LEAVES)),
            lambda: rate(size, lambda: _scan(store, size, COLUMNS)),
        ],
    )
    first, second = ratio(leaves, bare), ratio(columns, bare)
    return Result(
        "full verification from SQLite: leaves and root; every column too",
        "≥ 0.6 ×; ≥ 0.2 × hashing the same bytes from RAM",
        f"{first:.2f} ×; {second:.2f} ×",
        (first >= 0.6 and second >= 0.2) if not options.quick else None,
        [
            f"entries/s, median (quartiles): from RAM {spread(bare)}, leaves {spread(leaves)}, columns {spread(columns)}",
            f"{size:,} entries of {sum(map(len, data)) // size} bytes",
        ],
    )


def processes(options: Options) -> Result:
    """Two processes against one, starting them included."""
    size = min(4 * SAMPLE, options.big)
    store = full_ledger(options, size)
    repeats = 3 if options.quick else 5
    one, two = interleave(repeats, [partial(_rate_with, store, size, count) for count in (1, 2)])
    gain = ratio(two, one)
    return Result(
        f"two processes against one, every column of {size:,} entries",
        "≥ 1.6 ×",
        f"{gain:.2f} ×",
        gain >= 1.6 if not options.quick else None,
        [f"entries/s: one {spread(one)}, two {spread(two)}; needs two idle cores"],
    )


def _rate_with(store: SqliteStore, size: int, count: int) -> float:
    return rate(size, lambda: _scan(store, size, COLUMNS, count))


def incremental(options: Options) -> Result:
    """1,000 entries that are new since the state file, everything about them checked but signatures (there are none)."""
    store = big_ledger(options)
    size = options.big
    kept = options.cache / f"state-{size}.json"
    state = StateFile(kept)
    head = state.checkpoint()
    if head is None or head.size != size - NEW or state.position() is None or state.heads(size - NEW) is None:
        seam = Seam()
        for part in scan(store, 0, size - NEW, depth=COLUMNS):
            seam.add(part, COLUMNS, store)
        state.save(store.origin, seam.position, seam.heads)
    times, spent = [], []
    for number in range(options.repeats):
        copy = options.folder / f"state-{number}.json"
        shutil.copy(kept, copy)
        shutil.copy(state.heads_path, copy.with_name(copy.name + ".heads"))
        fresh = SqliteStore(store.path, read_only=True)
        begun = time.process_time()
        times.append(_timed(partial(_verify_new, fresh, StateFile(copy), size)))
        spent.append(time.process_time() - begun)
    middle = percentile(times, 0.5) * 1e3
    return Result(
        f"verification of {NEW:,} new entries in a ledger of {size:,}",
        "< 10 ms",
        f"{middle:.1f} ms",
        middle < 10 if not options.quick else None,
        [
            f"min {min(times) * 1e3:.1f}, max {max(times) * 1e3:.1f} ms; processor time {percentile(spent, 0.5) * 1e3:.1f}, min "
            f"{min(spent) * 1e3:.1f} ms; the rest waits for the state file's flushes and for other work; columns, links, heads and cached tree"
        ],
    )


def _verify_new(store: SqliteStore, state: StateFile, size: int) -> None:
    report = verify_store(store, since=state, depth=Depth(payloads=False))
    if report.findings or report.checked_from != size - NEW:
        raise SystemExit(f"not incremental: {report}")


def _timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


MEASURE = """
import re, sys
from cognify_dagster.ledger import SqliteStore
from cognify_dagster.ledger.verification.verify import verify_store
def peak():  # of this program: ru_maxrss would count the process that started it
    return re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read()).group(1)
store = SqliteStore(sys.argv[1], read_only=True)
before = peak()
assert not verify_store(store).findings
print(before, peak())
"""


def memory(options: Options) -> Result:
    """Peak memory of a full verification, payloads included, in a process of its own: two sizes tell whether it grows."""
    sizes, peaks = (20_000, options.big), []
    for size in sizes:
        path = big_ledger(Options(options.folder, options.cache, entries=size)).path
        done = subprocess.run(
            [sys.executable, "-c", MEASURE, str(path)], capture_output=True, text=True, check=True, cwd=Path.cwd()
        )
        before, after = map(int, done.stdout.split())
        peaks.append((before / 1024, after / 1024))
    small, large = peaks[0][1], peaks[1][1]
    return Result(
        "peak memory of a full verification",
        "flat",
        f"{large:.0f} MiB at {sizes[1]:,} entries, {small:.0f} MiB at {sizes[0]:,}",
        large - small < 64 if not options.quick else None,
        [f"of these {peaks[1][0]:.0f} MiB are Python and the imports; the rest does not follow the ledger's size"],
    )


ROWS = [
    Row("verify", full),
    Row("verify-processes", processes),
    Row("verify-new", incremental),
    Row("verify-memory", memory),
]
