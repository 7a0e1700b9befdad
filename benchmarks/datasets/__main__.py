"""Print the table: what, the goal, what was measured. See `python -m benchmarks.datasets --help`."""

from __future__ import annotations

import sys

from benchmarks.datasets import MODULES
from benchmarks.table import run

if __name__ == "__main__":
    sys.exit(run("benchmarks.datasets", MODULES, __doc__))
