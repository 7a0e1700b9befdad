"""Print the table: what, the goal, what was measured. See `python -m benchmarks.instrument --help`."""

from __future__ import annotations

import sys

from benchmarks.instrument import MODULES
from benchmarks.table import run

if __name__ == "__main__":
    sys.exit(run("benchmarks.instrument", MODULES, __doc__))
