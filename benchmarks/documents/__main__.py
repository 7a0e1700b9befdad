"""Print the table: what, the goal, what was measured. See `python -m benchmarks.documents --help`."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.documents import MODULES
from benchmarks.ledger.__main__ import show
from benchmarks.ledger.harness import Options, Row, machine

ROOT = Path(__file__).parents[2]


def rows() -> list[Row]:
    """All rows of all modules, in order."""
    return [row for name in MODULES for row in importlib.import_module(f"benchmarks.documents.{name}").ROWS]


def main() -> int:
    """Run the rows; the exit status is 1 if a goal is missed and --strict is given."""
    known = rows()
    parser = argparse.ArgumentParser(prog="python -m benchmarks.documents", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few repeats: shows that it runs")
    parser.add_argument(
        "--only", metavar="ROW", action="append", help=f"one of: {', '.join(row.name for row in known)}"
    )
    parser.add_argument("--strict", action="store_true", help="exit with 1 if a goal is missed")
    choice = parser.parse_args()
    if choice.only and (unknown := set(choice.only) - {row.name for row in known}):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    cache = Path(os.environ.get("COGNIFY_BENCH_CACHE", ROOT / ".bench-cache"))
    cache.mkdir(parents=True, exist_ok=True)
    (cache / ".gitignore").write_text("*\n")
    missed = 0
    with tempfile.TemporaryDirectory(dir=cache, prefix="run-") as scratch:
        print(machine(Path(scratch)))
        print("Cases of a row are taken in turn; the median counts. Other work on the machine is not excluded.\n")
        print("| what | to reach | measured | |\n|---|---|---|---|")
        for row in known:
            if choice.only and row.name not in choice.only:
                continue
            folder = Path(scratch) / row.name
            folder.mkdir()
            result = row.run(Options(folder, cache, choice.quick))
            missed += result.holds is False
            print(show(result), flush=True)
    return 1 if missed and choice.strict else 0


if __name__ == "__main__":
    sys.exit(main())
