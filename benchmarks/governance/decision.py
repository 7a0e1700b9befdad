"""One decision about a version with 200 entries in a ledger of a million, and what opening and reading such a ledger costs."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

from benchmarks.governance.world import OF_VERSION, governed, in_postgres, reopened
from benchmarks.ledger.harness import Options, Result, Row, interleave, percentile, ratio
from cognify_dagster.governance import decide
from cognify_dagster.governance.signing import signatures
from cognify_dagster.ledger import Entry, leaf_hash, parse_canonical
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL

SUBJECT = f"model/{MODEL}@1"
LIMIT_MS = 20.0


def _ms(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def _decided(workspace: Workspace) -> None:
    decision = decide(workspace.read(), MODEL, "1", "production", datetime.now(timezone.utc))
    if not decision.released:
        raise SystemExit(f"the benchmark's version is not released: {decision.reasons[0].text}")


def _bare(rows: list[tuple[bytes, bytes]]) -> None:
    for data, payload in rows:
        leaf_hash(data)
        Entry.parse(data)
        parse_canonical(payload)


def _measure(workspace: Workspace, options: Options, name: str, cold: float) -> Result:
    store = workspace.ledger.store
    seqs = [item.entry.seq for item in workspace.read().view.history(SUBJECT)]
    rows = [
        (next(iter(store.entries(seq, seq + 1))).data, next(iter(store.payloads(seq, seq + 1))).data or b"")
        for seq in seqs
    ]

    def first() -> float:
        fresh = reopened(workspace)
        fresh.read()
        signatures._verified.clear()
        return _ms(lambda: _decided(fresh))

    def processor() -> float:
        start = time.process_time()
        _decided(workspace)
        return (time.process_time() - start) * 1e3

    def opened() -> float:
        fresh = reopened(workspace)
        return _ms(fresh.read)

    bare, again, used, anew, warm, opening = interleave(
        options.repeats,
        [
            lambda: _ms(lambda: _bare(rows)),
            lambda: _ms(lambda: _decided(workspace)),
            processor,
            first,
            lambda: _ms(workspace.read),
            opened,
        ],
    )
    middle = percentile(again, 0.5)
    return Result(
        f"{name}: decision for a version with {len(seqs)} entries in a ledger of {store.size():,}, verified up to now",
        f"< {LIMIT_MS:.0f} ms",
        f"{middle:.1f} ms",
        middle < LIMIT_MS if not options.quick else None,
        [
            f"{ratio(again, bare):.1f} × hashing and parsing exactly these entries and payloads from memory "
            f"({percentile(bare, 0.5):.1f} ms)",
            f"processor time of one decision: {percentile(used, 0.5):.1f} ms",
            f"the first decision of a process, every signature verified: {percentile(anew, 0.5):.1f} ms",
            f"workspace.read(): {percentile(warm, 0.5):.2f} ms warm, {percentile(opening, 0.5):.1f} ms in a new process with the kept "
            f"index, {cold:.1f} s without any index (in steps of 50,000: see `sensor-cold`)",
        ],
    )


def _cold(workspace: Workspace) -> float:
    """Verify the whole ledger with no index at hand; leaves the index behind."""
    index = workspace.ledger.index
    assert index is not None
    assert index._file is not None
    shutil.rmtree(Path(index._file.path).parent, ignore_errors=True)
    fresh = reopened(workspace)
    return _ms(fresh.catch_up) / 1e3


def sqlite(options: Options) -> Result:
    """In SQLite."""
    workspace = governed(options.cache, options.big)
    cold = _cold(workspace)
    return _measure(reopened(workspace), options, "SQLite", cold)


def postgres(options: Options) -> Result:
    """In Postgres, the server on this machine."""
    workspace, place = in_postgres(governed(options.cache, options.big), options.folder)
    try:
        cold = _cold(workspace)
        return _measure(reopened(workspace), options, "Postgres", cold)
    finally:
        place.drop()


ROWS = [Row("decision-sqlite", sqlite), Row("decision-postgres", postgres)]
assert OF_VERSION == 200
