"""What is kept while a corpus streams by: units of the holdout, and which corpus rows each was found in."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field

MAX_ROWS = 20
"""So many corpus rows are named for a holdout record; more are only counted on the corpus side."""


@dataclass
class Units:
    """Holdout records that are the same at a level count as one unit; memory follows the holdout only.

    Attributes:
        rows: rows of each unit, from 0.
        found: for each unit that was found, corpus row -> similarity (1.0 unless the level measures one).
        corpus_rows: corpus rows with at least one unit.
        skipped: holdout rows that the level cannot compare (no words).
        fresh: corpus rows that were named since somebody emptied this set.
    """

    rows: list[list[int]] = field(default_factory=list)
    found: dict[int, dict[int, float]] = field(default_factory=dict)
    corpus_rows: int = 0
    skipped: int = 0
    fresh: set[int] = field(default_factory=set)
    _ids: dict[Hashable, int] = field(default_factory=dict, repr=False)

    def add(self, key: Hashable, row: int) -> bool:
        """Put a holdout row into the unit of its key; return whether the unit is new."""
        unit = self._ids.setdefault(key, len(self.rows))
        new = unit == len(self.rows)
        if new:
            self.rows.append([])
        self.rows[unit].append(row)
        return new

    def unit_of(self, key: Hashable) -> int | None:
        """The unit of a key."""
        return self._ids.get(key)

    def full(self, unit: int) -> bool:
        """Whether enough corpus rows are named for a unit."""
        return len(self.found.get(unit, ())) >= MAX_ROWS

    def hit(self, unit: int, corpus_row: int, similarity: float = 1.0) -> None:
        """Note that a unit was found in a corpus row."""
        seen = self.found.setdefault(unit, {})
        if len(seen) < MAX_ROWS:
            seen[corpus_row] = similarity
            self.fresh.add(corpus_row)

    def pairs(self) -> Iterable[tuple[int, dict[int, float]]]:
        """Holdout row and its corpus rows, by holdout row."""
        return sorted((row, seen) for unit, seen in self.found.items() for row in self.rows[unit])
