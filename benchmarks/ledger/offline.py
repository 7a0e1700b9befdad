"""The offline verifier on a bundle of a thousand entries: what it takes besides the signatures, and with them."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row, percentile
from cognify_dagster.ledger import offline_verifier as verifier
from tests.ledger import bundle_factory as bf

ENTRIES = 1000
GOAL_S = 1.0


def bundle_of(folder: Path, entries: int) -> tuple[Path, str]:
    """A governed story with so many entries about its version, all signed by their writer, payloads disclosed."""

    def more(world: bf.World, package: int) -> None:
        while world.ledger.size() < entries - 1:
            number = world.ledger.size()
            record = bf.GateResult(
                model=bf.MODEL, version=bf.VERSION, family="performance", status="pass", based_on=(number - 1,)
            )
            world.append(record, "workload/pipeline")

    world = bf.tell(folder / "story", before_anchor=more)
    return bf.export(world, folder / "bundle"), world.trust()


def offline(options: Options) -> Result:
    """Processor time, since the verifier is one thread and the machine may be busy; signature checks are taken off.

    Everything else counts, reading the files too.
    """
    entries = 200 if options.quick else ENTRIES
    bundle, trust = bundle_of(options.folder, entries)
    check, spent, calls = verifier.ed25519_verify, 0.0, 0

    def timed(public: bytes, message: bytes, signature: bytes) -> bool:
        nonlocal spent, calls
        start = time.process_time()
        try:
            return check(public, message, signature)
        finally:
            spent += time.process_time() - start
            calls += 1

    besides, each, walls = [], [], []
    verifier.ed25519_verify = timed
    try:
        for _ in range(3 if options.quick else 7):
            spent, calls = 0.0, 0
            began, start = time.perf_counter(), time.process_time()
            report = verifier.verify_bundle(bundle, trust)
            whole = time.process_time() - start
            walls.append(time.perf_counter() - began)
            if report["exit_code"] != 0 or report["entries"] != entries:
                raise SystemExit(f"the bundle does not hold: {report['findings'][:3]}")
            besides.append(whole - spent)
            each.append(spent / calls)
    finally:
        verifier.ed25519_verify = check
    middle = percentile(besides, 0.5)
    return Result(
        f"offline verifier on a bundle of {entries:,} entries, besides signatures",
        f"< {GOAL_S:.0f} s",
        f"{middle:.2f} s processor time",
        middle < GOAL_S if not options.quick else None,
        [
            f"and {calls:,} Ed25519 signatures in pure Python, {percentile(each, 0.5) * 1e3:.1f} ms each; all of it took "
            f"{percentile(walls, 0.5):.1f} s on the clock"
        ],
    )


ROWS = [Row("offline", offline)]
