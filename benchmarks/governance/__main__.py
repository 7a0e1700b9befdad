"""Print the table: what, the goal, what was measured. See `python -m benchmarks.governance --help`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from benchmarks.governance import MODULES
from benchmarks.ledger.harness import Options
from benchmarks.table import run


@dataclass(frozen=True)
class Sized(Options):
    """Options with a ledger size of one's own."""

    entries: int = 0

    @property
    def big(self) -> int:
        """Entries of the large ledger."""
        return self.entries or super().big


if __name__ == "__main__":
    sys.exit(
        run(
            "benchmarks.governance",
            MODULES,
            __doc__,
            more=lambda parser: parser.add_argument(
                "--entries", type=int, default=0, help="entries of the large ledger (1,000,000)"
            ),
            make=lambda folder, cache, choice: Sized(folder, cache, choice.quick, choice.entries),
        )
    )
