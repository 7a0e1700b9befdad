"""Print the table: what, the goal, what was measured. See `python -m benchmarks.documents --help`."""

from __future__ import annotations

import sys

from benchmarks.documents import MODULES
from benchmarks.table import run

if __name__ == "__main__":
    sys.exit(run("benchmarks.documents", MODULES, __doc__))
