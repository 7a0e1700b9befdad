"""Print the table: what, the goal, what was measured. See `python -m benchmarks.governance --help`."""

from __future__ import annotations

import sys

from benchmarks.governance import MODULES
from benchmarks.table import run

if __name__ == "__main__":
    sys.exit(run("benchmarks.governance", MODULES, __doc__))
