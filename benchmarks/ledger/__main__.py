"""Print the table: what, the goal, what was measured. See `python -m benchmarks.ledger --help`."""

from __future__ import annotations

import sys

from benchmarks.ledger import MODULES
from benchmarks.table import run

if __name__ == "__main__":
    sys.exit(run("benchmarks.ledger", MODULES, __doc__))
