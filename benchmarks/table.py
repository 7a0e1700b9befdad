"""Runs the rows of a benchmark package and prints the table: what, the goal, what was measured."""

from __future__ import annotations

import argparse
import importlib
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.ledger.harness import Options, Result, Row, machine

ROOT = Path(__file__).parents[1]
Make = Callable[[Path, Path, argparse.Namespace], Options]


def show(result: Result) -> str:
    """One line of the table and its details."""
    mark = {True: "reached", False: "MISSED", None: "–"}[result.holds]
    lines = [f"| {result.what} | {result.goal} | {result.measured} | {mark} |"]
    return "\n".join([*lines, *(f"|   {detail} | | | |" for detail in result.detail)])


def run(
    package: str,
    modules: Sequence[str],
    description: str | None,
    *,
    more: Callable[[argparse.ArgumentParser], object] = lambda _: None,
    make: Make = lambda folder, cache, choice: Options(folder, cache, choice.quick, choice.entries),
) -> int:
    """Run the rows that are asked for; return 1 if a goal is missed and --strict is given.

    Args:
        package: such as `benchmarks.ledger`.
        modules: its modules with rows, in order.
        description: for `--help`.
        more: adds the package's own arguments.
        make: makes a row's options from its empty folder, the cache and the arguments.
    """
    known: list[Row] = [row for name in modules for row in importlib.import_module(f"{package}.{name}").ROWS]
    parser = argparse.ArgumentParser(prog=f"python -m {package}", description=description)
    parser.add_argument(
        "--quick", action="store_true", help="few repeats, small ledgers: shows that it runs, judges little"
    )
    parser.add_argument(
        "--only", metavar="ROW", action="append", help=f"one of: {', '.join(row.name for row in known)}"
    )
    parser.add_argument("--folder", type=Path, help="measure on the disk of this folder (default: the project's)")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a goal is missed")
    parser.add_argument("--entries", type=int, default=0, help="entries of the large ledger (1,000,000)")
    more(parser)
    choice = parser.parse_args()
    if choice.only and (unknown := set(choice.only) - {row.name for row in known}):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    cache = Path(os.environ.get("COGNIFY_BENCH_CACHE", ROOT / ".bench-cache"))
    base = choice.folder or cache
    base.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n") if cache.exists() else None
    missed = 0
    with tempfile.TemporaryDirectory(dir=base, prefix="run-") as scratch:
        print(machine(Path(scratch)))
        print("Cases of a row are taken in turn; the median counts. Other work on the machine is not excluded.\n")
        print("| what | to reach | measured | |\n|---|---|---|---|")
        for row in known:
            if choice.only and row.name not in choice.only:
                continue
            folder = Path(scratch) / row.name
            folder.mkdir()
            result = row.run(make(folder, cache, choice))
            missed += result.holds is False
            print(show(result), flush=True)
    return 1 if missed and choice.strict else 0
