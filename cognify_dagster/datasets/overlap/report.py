"""What a comparison of a holdout with a corpus found, level by level. Holds digests and row numbers, never values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

SHOWN = 20
SHOWN_ROWS = 3


@dataclass(frozen=True)
class Match:
    """A holdout record and the corpus records that it was found in.

    Attributes:
        holdout_row: row of the holdout, from 0.
        holdout_digest: record digest (hex) over all columns of the holdout, as in its snapshot.
        train_rows: at most 20 rows of the corpus, from 0, in the order in which it was read.
        train_digests: their record digests.
        similarity: the highest exact Jaccard index; 1.0 at levels that measure none.
    """

    holdout_row: int
    holdout_digest: str
    train_rows: tuple[int, ...]
    train_digests: tuple[str, ...]
    similarity: float

    def to_dict(self, rows: int | None = None) -> dict[str, Any]:
        """JSON values, with so many corpus records (all that are named unless given)."""
        return {
            "holdout_row": self.holdout_row,
            "holdout_digest": self.holdout_digest,
            "train_rows": list(self.train_rows[:rows]),
            "train_digests": list(self.train_digests[:rows]),
            "similarity": round(self.similarity, 6),
        }


@dataclass(frozen=True)
class LevelResult:
    """What one level found.

    Attributes:
        level: such as `exact`, `normalised`, `13-gram`, `near-duplicate`.
        overlap_holdout: rows of the holdout that were found.
        overlap_train: rows of the corpus that hold one of them. Near-duplicates: at least so many, where holdout records that are
            near each other occur in more than 20 rows.
        fraction: `overlap_holdout` by all rows of the holdout.
        not_compared: rows of the holdout without any word, which the level cannot compare.
        parameters: of the level, among them what it may miss.
        matches: one for each row of the holdout that was found.
    """

    level: str
    overlap_holdout: int
    overlap_train: int
    fraction: float
    not_compared: int
    parameters: Mapping[str, Any]
    matches: tuple[Match, ...] = field(repr=False)

    @property
    def separate(self) -> bool:
        """Whether this level found nothing."""
        return self.overlap_holdout == 0

    def to_dict(self, shown: int | None = None, rows: int | None = None) -> dict[str, Any]:
        """JSON values, with so many matches and corpus records of each (all unless given)."""
        return {
            "level": self.level,
            "overlap_holdout": self.overlap_holdout,
            "overlap_train": self.overlap_train,
            "fraction": round(self.fraction, 12),
            "not_compared": self.not_compared,
            "parameters": dict(self.parameters),
            "matches": [match.to_dict(rows) for match in self.matches[:shown]],
        }


@dataclass(frozen=True)
class OverlapFindings:
    """Whether records of a holdout also stand in a corpus, for each level that was asked.

    Nothing is said about levels that were not asked: two sets are apart at a named level, never as such.

    Attributes:
        holdout_root, train_root: the roots given by the caller; otherwise record roots (hex) over the compared columns.
        roots: `snapshot` or `record`, which of the two they are.
        holdout_count, train_count: rows.
        compared_columns: columns of the levels `exact` and `normalised`.
        text_columns: columns of the other levels, in the order in which they were joined.
        excluded_columns: columns left out.
        digest: `sha256` or `hmac-sha256`.
        levels: one result for each level, in order.
    """

    holdout_root: str
    train_root: str
    roots: str
    holdout_count: int
    train_count: int
    compared_columns: tuple[str, ...]
    text_columns: tuple[str, ...]
    excluded_columns: tuple[str, ...]
    digest: str
    levels: tuple[LevelResult, ...]

    @property
    def overlap_holdout(self) -> int:
        """Rows of the holdout found at any level."""
        return len(self.holdout_rows)

    @property
    def holdout_rows(self) -> tuple[int, ...]:
        """These rows, from 0, ascending."""
        return tuple(sorted({match.holdout_row for result in self.levels for match in result.matches}))

    @property
    def failed(self) -> tuple[str, ...]:
        """Levels that found something."""
        return tuple(result.level for result in self.levels if not result.separate)

    @property
    def level(self) -> str:
        """The names of all levels that were asked."""
        return ", ".join(result.level for result in self.levels)

    def separate(self, level: str) -> bool:
        """Whether a level found nothing.

        Raises:
            KeyError: the level was not asked, so nothing is known about it.
        """
        for result in self.levels:
            if result.level == level:
                return result.separate
        raise KeyError(f"level {level!r} was not compared; compared: {self.level}")

    def summary(self) -> str:
        """One sentence for each level."""
        return " ".join(
            f"{result.level}: {result.overlap_holdout} of {self.holdout_count} holdout records found"
            + (f" ({result.fraction:.2%})." if result.overlap_holdout else ".")
            for result in self.levels
        )

    def to_dict(self, shown: int | None = None) -> dict[str, Any]:
        """JSON values, with at most so many matches a level (all unless given)."""
        return {
            "holdout_root": self.holdout_root,
            "train_root": self.train_root,
            "roots": self.roots,
            "holdout_count": self.holdout_count,
            "train_count": self.train_count,
            "compared_columns": list(self.compared_columns),
            "text_columns": list(self.text_columns),
            "excluded_columns": list(self.excluded_columns),
            "digest": self.digest,
            "overlap_holdout": self.overlap_holdout,
            "failed": list(self.failed),
            "levels": [result.to_dict(shown) for result in self.levels],
        }
