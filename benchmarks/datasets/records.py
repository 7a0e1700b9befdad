"""Record digests of Parquet and JSON Lines, and the difference of two large record manifests, beside the plain ways."""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row, interleave, ratio
from cognify_dagster.datasets import record_set
from cognify_dagster.datasets.records.collecting import RecordCollector
from cognify_dagster.datasets.records.reading import TablePart

ROOT = Path(__file__).parents[2]
GOAL_PARQUET = 3.0
GOAL_DIFF, GOAL_DIFF_MEMORY = 2.0, 0.5


def _rows(count: int) -> list[dict[str, object]]:
    """Rows of six columns, about 200 bytes each as JSON: number, text, float, time, list, label."""
    draw = random.Random(7)
    return [
        {
            "id": i,
            "text": " ".join(f"word{draw.randrange(100_000)}" for _ in range(12)),
            "amount": draw.random() * 1e5,
            "time": draw.randrange(10**15),
            "tags": [f"t{draw.randrange(9)}" for _ in range(draw.randrange(4))],
            "label": draw.randrange(2),
        }
        for i in range(count)
    ]


def _repeats(options: Options) -> int:
    return 3 if options.quick else 7


def _collected(path: Path) -> tuple[float, float, bytes]:
    """Our way: stream the file and keep 32 bytes of a record. Seconds until then, and until sorted with the root; the root."""
    start = time.perf_counter()
    with contextlib.closing(RecordCollector()) as collector:
        for batch in TablePart(lambda: path.open("rb"), path.name.encode()).batches():
            collector.add(batch)
        collector.settle()
        digested = time.perf_counter() - start
        root = collector.finish()[0].root()
    return digested, time.perf_counter() - start, root


def parquet_records(options: Options) -> Result:
    """From file to record digests, against reading the file as Python objects, JSON text and SHA-256."""
    import orjson
    import pyarrow as pa
    import pyarrow.parquet as pq

    count = 50_000 if options.quick else 500_000
    path = options.folder / "rows.parquet"
    table = pa.Table.from_pylist(_rows(count))
    table = table.set_column(3, "time", table.column("time").cast(pa.timestamp("us")))
    pq.write_table(table, path, compression="zstd", row_group_size=100_000)
    whole = record_set(table).root()
    del table

    ends: list[float] = []

    def ours() -> float:
        digested, end, root = _collected(path)
        if root != whole:
            raise SystemExit("streamed records have another root")
        ends.append(end)
        return digested

    def plain() -> float:
        start = time.perf_counter()
        for row in pq.read_table(path).to_pylist():
            hashlib.sha256(orjson.dumps(row, option=orjson.OPT_SORT_KEYS)).digest()
        return time.perf_counter() - start

    mine, base = interleave(_repeats(options), [ours, plain])
    faster = 1 / ratio(mine, base)
    return Result(
        f"record digests of Parquet, {count:,} rows, against to_pylist + orjson + SHA-256",
        f"≥ {GOAL_PARQUET:g}× faster",
        f"{faster:.1f}×",
        faster >= GOAL_PARQUET if not options.quick else None,
        [
            f"{count / statistics.median(mine):,.0f} records a second; sorted and with their root "
            f"{count / statistics.median(ends):,.0f}"
        ],
    )


def jsonl_records(options: Options) -> Result:
    """JSON Lines with the types of all rows (two passes) against parsing and hashing each line once."""
    import orjson

    count = 20_000 if options.quick else 200_000
    path = options.folder / "rows.jsonl"
    path.write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in _rows(count)))

    def ours() -> float:
        return _collected(path)[0]

    def plain() -> float:
        start = time.perf_counter()
        with path.open("rb") as lines:
            for line in lines:
                hashlib.sha256(orjson.dumps(json.loads(line), option=orjson.OPT_SORT_KEYS)).digest()
        return time.perf_counter() - start

    mine, base = interleave(_repeats(options), [ours, plain])
    return Result(
        f"record digests of JSON Lines, {count:,} rows, against json + orjson + SHA-256 a line",
        "no goal",
        f"{ratio(mine, base):.1f}× its time",
        None,
        [f"{count / statistics.median(mine):,.0f} records a second, types decided from all rows"],
    )


_MAKE = """
import hashlib, sys
count, changed = int(sys.argv[1]), int(sys.argv[1]) // 100
sha = hashlib.sha256
from cognify_dagster.datasets.records.packed import sort_packed
for name, shift in (("old", 0), ("new", 1)):
    data = bytearray()
    for i in range(count):
        data += sha(b"%d" % (i + count if shift and i < changed else i)).digest()
    open(sys.argv[2] + "/" + name, "wb").write(sort_packed(data).view)
    del data
"""

_MEASURED = """
import json, resource, sys, time
from cognify_dagster.datasets.records.packed import PackedDigests, difference
import numpy
old, new = sys.argv[1] + "/old", sys.argv[1] + "/new"
def run():
{body}
start = time.perf_counter()
found = run()
spent = time.perf_counter() - start
print(json.dumps([spent, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *found]))
"""

_OURS = """
    added, removed = difference(*(PackedDigests(open(path, "rb").read()) for path in (old, new)))
    return len(added), len(removed)
"""

_SETS = """
    def load(path):
        found = set()
        with open(path, "rb") as file:
            while part := file.read(32 << 16):
                found.update(part[at : at + 32] for at in range(0, len(part), 32))
        return found
    before, after = load(old), load(new)
    return len(after - before), len(before - after)
"""


def record_diff(options: Options) -> Result:
    """Two manifests of which one record in a hundred differs; each way in a process of its own, with reading its files."""
    count = 500_000 if options.quick else 10_000_000
    _child(_MAKE, str(count), str(options.folder))
    peaks: dict[str, list[float]] = {"ours": [], "sets": []}

    def case(name: str, body: str) -> float:
        spent, peak, added, removed = json.loads(_child(_MEASURED.format(body=body), str(options.folder)))
        if (added, removed) != (count // 100, count // 100):
            raise SystemExit(f"{name}: {added} added and {removed} removed")
        peaks[name].append(peak / 1024)
        return float(spent)

    repeats = 3 if options.quick else 5
    mine, base = interleave(repeats, [lambda: case("ours", _OURS), lambda: case("sets", _SETS)])
    faster = 1 / ratio(mine, base)
    memory = statistics.median(peaks["ours"]) / statistics.median(peaks["sets"])
    holds = faster >= GOAL_DIFF and memory <= GOAL_DIFF_MEMORY
    return Result(
        f"difference of two record manifests, {count:,} against {count:,}, against Python sets",
        f"≥ {GOAL_DIFF:g}× faster, ≤ {GOAL_DIFF_MEMORY:g}× its memory",
        f"{faster:.1f}×, {memory:.2f}×",
        holds if not options.quick else None,
        [
            f"{statistics.median(mine):.2f} s and {statistics.median(peaks['ours']):,.0f} MiB peak (the two files are "
            f"{2 * count * 32 / 2**20:,.0f} MiB); sets {statistics.median(base):.2f} s and {statistics.median(peaks['sets']):,.0f} MiB"
        ],
    )


def _child(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False, cwd=ROOT
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    return done.stdout


ROWS = [
    Row("parquet-records", parquet_records),
    Row("record-diff", record_diff),
    Row("jsonl-records", jsonl_records),
]
