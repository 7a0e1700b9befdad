"""Hashing model files, beside `openssl dgst -sha256` on the same bytes. The page cache is warm: each case runs once before."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.datasets.files import make_files, spread_s
from benchmarks.ledger.harness import Options, Result, Row, interleave, ratio
from cognify_dagster.training import digest_files

_SHARDS = 4


def timed(work: Callable[[], object]) -> float:
    """Seconds."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


@contextmanager
def pinned(processors: int) -> Iterator[int]:
    """Use so many processors only, where the system can do that and has them; yields how many there are."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, set(sorted(before)[:processors]))
    try:
        yield len(os.sched_getaffinity(0))
    finally:
        os.sched_setaffinity(0, before)


def openssl(files: Sequence[Path]) -> float:
    """Seconds of the reference command, which uses one processor."""
    command = ["openssl", "dgst", "-sha256", *map(str, files)]
    return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


def _model(options: Options) -> Path:
    return make_files(options, _SHARDS, 64_000_000 if options.quick else 512_000_000)


def _repeats(options: Options) -> int:
    return 3 if options.quick else 9


def _row(name: str, what: str, processors: int, goal: float, choose: Callable[[Path], Path]) -> Row:
    def run(options: Options) -> Result:
        model = choose(_model(options))
        files = sorted(item for item in model.rglob("*") if item.is_file()) if model.is_dir() else [model]
        size = sum(item.stat().st_size for item in files)
        with pinned(processors) as there:
            reference, mine = interleave(
                _repeats(options), [lambda: openssl(files), lambda: timed(lambda: digest_files(model))]
            )
        found = ratio(reference, mine)
        judged = there == processors and not options.quick
        return Result(
            what,
            f"≥ {goal} × openssl on one",
            f"{found:.2f} ×",
            found >= goal if judged else None,
            [f"{size / 1e6:,.0f} MB; seconds: {spread_s(mine)} against {spread_s(reference)}, {there} processors"],
        )

    return Row(name, run)


ROWS = (
    _row(
        "hash-one",
        "a model file of 512 MB, one processor",
        1,
        0.85,
        lambda model: sorted(item for item in model.rglob("*") if item.is_file())[0],
    ),
    _row("hash-two", f"a model folder of {_SHARDS} such files, two processors", 2, 1.7, lambda model: model),
)
