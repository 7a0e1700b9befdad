"""Print the table: what, the goal, what was measured. See `python -m benchmarks.review --help`."""

from __future__ import annotations

import sys

from benchmarks.review import MODULES
from benchmarks.table import run

if __name__ == "__main__":
    sys.exit(run("benchmarks.review", MODULES, __doc__))
