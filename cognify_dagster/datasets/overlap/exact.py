"""Whether two tables share records, and whether one table holds a record twice.

The answer is for one named level. This module gives ``exact-normalised-types``: records are the same when all compared
columns hold the same values, where integer, float and decimal columns of one name are compared as numbers. Text that differs in
case, spaces or wording is different at this level.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError, TableError
from cognify_dagster.datasets.records.cells import type_name
from cognify_dagster.datasets.records.digests import record_set, select_columns

if TYPE_CHECKING:
    import pyarrow as pa

LEVEL = "exact-normalised-types"
MAX_EXAMPLES = 20


@dataclass(frozen=True)
class OverlapExample:
    """One shared record: its digest (hex) and the rows that hold it, counted from 0 (at most 20 of each)."""

    digest: str
    holdout_rows: tuple[int, ...]
    train_rows: tuple[int, ...]


@dataclass(frozen=True)
class OverlapReport:
    """Records that a holdout shares with a training set.

    Attributes:
        level: what "the same record" means here.
        compared_columns: columns that had to agree.
        excluded_columns: columns left out (keys, labels).
        holdout_count, train_count: rows.
        overlap_holdout: rows of the holdout that also occur in the training set.
        overlap_train: rows of the training set that also occur in the holdout.
        overlap_distinct: different records that occur in both.
        holdout_rows: the rows counted by ``overlap_holdout``, from 0, all of them.
        holdout_root, train_root: record roots (hex) over the compared columns.
        digest: ``sha256`` or ``hmac-sha256``.
        examples: at most 20 shared records, without values.
    """

    level: str
    compared_columns: tuple[str, ...]
    excluded_columns: tuple[str, ...]
    holdout_count: int
    train_count: int
    overlap_holdout: int
    overlap_train: int
    overlap_distinct: int
    holdout_root: str
    train_root: str
    digest: str
    examples: tuple[OverlapExample, ...]
    holdout_rows: tuple[int, ...] = field(repr=False)

    @property
    def separate(self) -> bool:
        """Whether nothing is shared, at this level."""
        return self.overlap_distinct == 0

    def to_dict(self) -> dict[str, Any]:
        """JSON values, without ``holdout_rows``."""
        return {
            "level": self.level,
            "compared_columns": list(self.compared_columns),
            "excluded_columns": list(self.excluded_columns),
            "holdout_count": self.holdout_count,
            "train_count": self.train_count,
            "overlap_holdout": self.overlap_holdout,
            "overlap_train": self.overlap_train,
            "overlap_distinct": self.overlap_distinct,
            "holdout_root": self.holdout_root,
            "train_root": self.train_root,
            "digest": self.digest,
            "examples": [
                {"digest": e.digest, "holdout_rows": list(e.holdout_rows), "train_rows": list(e.train_rows)}
                for e in self.examples
            ],
        }


def find_overlap(
    holdout: pa.Table, train: pa.Table, *, exclude: Sequence[str] = (), key: bytes | None = None
) -> OverlapReport:
    """Find the records that two tables share.

    Args:
        holdout: evaluation data.
        train: training data.
        exclude: columns to leave out: record keys and labels. A name has to exist in at least one table.
        key: 32 secret bytes, so that the digests in the report are keyed (personal data).

    Raises:
        TableError: the tables differ in their columns, an excluded column exists in neither, or a column has types that
            cannot be compared.
    """
    for name in exclude:
        if name not in holdout.column_names and name not in train.column_names:
            raise TableError(f"column {name!r} to leave out exists in neither table; check the name")
    compared = [name for name in select_columns(holdout, None) if name not in exclude]
    other = [name for name in select_columns(train, None) if name not in exclude]
    if compared != other:
        odd = sorted(set(compared) ^ set(other))
        raise TableError(f"holdout and train differ in column {odd[0]!r}; leave it out or give both the same columns")
    if not compared:
        raise TableError("every column is left out, so nothing can be compared")
    left, right = _same_types(holdout.select(compared), train.select(compared))
    held, trained = record_set(left, key=key), record_set(right, key=key)
    in_train, in_holdout = _rows_by_digest(trained.digests), _rows_by_digest(held.digests)
    shared = [digest for digest in in_holdout if digest in in_train]
    rows = sorted(row for digest in shared for row in in_holdout[digest])
    return OverlapReport(
        level=LEVEL,
        compared_columns=held.columns,
        excluded_columns=tuple(sorted(set(exclude), key=str.encode)),
        holdout_count=len(held.digests),
        train_count=len(trained.digests),
        overlap_holdout=len(rows),
        overlap_train=sum(len(in_train[digest]) for digest in shared),
        overlap_distinct=len(shared),
        holdout_root=held.root().hex(),
        train_root=trained.root().hex(),
        digest=held.algorithm.label,
        examples=tuple(
            OverlapExample(d.hex(), tuple(in_holdout[d][:MAX_EXAMPLES]), tuple(in_train[d][:MAX_EXAMPLES]))
            for d in shared[:MAX_EXAMPLES]
        ),
        holdout_rows=tuple(rows),
    )


def _rows_by_digest(digests: Sequence[bytes]) -> dict[bytes, list[int]]:
    out: dict[bytes, list[int]] = defaultdict(list)
    for row, digest in enumerate(digests):
        out[digest].append(row)
    return dict(out)


def _same_types(left: pa.Table, right: pa.Table) -> tuple[pa.Table, pa.Table]:
    """Bring columns that are integer on one side and float or decimal on the other to float64; refuse what cannot be compared."""
    import pyarrow as pa

    for position, name in enumerate(left.column_names):
        kinds = [_value_kind(table.column(position).type) for table in (left, right)]
        if kinds[0] == kinds[1] or "null" in kinds:
            continue
        if not set(kinds) <= {"int", "float", "decimal"}:
            raise TableError(
                f"column {name!r} is {kinds[0]} in holdout and {kinds[1]} in train, so no record could ever match; "
                "give both one type"
            )
        try:
            left, right = (
                table.set_column(position, name, _as_float(_plain(table.column(position)))) for table in (left, right)
            )
        except pa.ArrowInvalid as exc:
            raise TableError(
                f"column {name!r} holds integers that a float cannot hold exactly; give both one type"
            ) from exc
    return left, right


def _as_float(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    if pa.types.is_decimal(column.type):  # Python rounds a decimal to the nearest float; Arrow may miss by one unit
        values = [None if value is None else float(value) for value in column.to_pylist()]
        return pa.chunked_array([pa.array(values, pa.float64())])
    return column.cast(pa.float64())


def _plain(column: pa.ChunkedArray) -> pa.ChunkedArray:
    import pyarrow as pa

    return column.cast(column.type.value_type) if pa.types.is_dictionary(column.type) else column


def _value_kind(kind: pa.DataType) -> str:
    """The class of values that a type holds, as far as equal values have equal canonical bytes."""
    name = type_name(kind)
    for prefix, family in (
        ("int", "int"),
        ("uint", "int"),
        ("float", "float"),
        ("half", "float"),
        ("decimal", "decimal"),
    ):
        if name.startswith(prefix):
            return family
    if name.startswith("timestamp"):
        return "timestamp with zone" if "tz=" in name else "timestamp"
    return name.split("[", 1)[0]


@dataclass(frozen=True)
class DuplicateGroup:
    """Rows (from 0, ascending) that hold the same record."""

    digest: str
    rows: tuple[int, ...]


def duplicate_groups(table: pa.Table, *, ignore: Sequence[str] = (), key: bytes | None = None) -> list[DuplicateGroup]:
    """The records that occur more than once, in order of their first row.

    Args:
        table: the table.
        ignore: columns that need not agree (a record key).
        key: 32 secret bytes for keyed digests.

    Raises:
        TableError: an ignored column does not exist.
        DatasetError: every column is ignored.
    """
    names = select_columns(table, None)
    if ignore:
        select_columns(table, list(ignore))
    compared = [name for name in names if name not in ignore]
    if not compared:
        raise DatasetError("every column is ignored, so nothing can be compared")
    rows = _rows_by_digest(record_set(table, compared, key).digests)
    return [DuplicateGroup(digest.hex(), tuple(found)) for digest, found in rows.items() if len(found) > 1]
