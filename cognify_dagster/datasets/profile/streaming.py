"""The profile of a table that is larger than memory, from its batches.

Up to a million rows (256 MiB) the batches are put together and profiled exactly. Beyond, counts, ranges, lengths, means,
deviations, classes and groups stay exact; different values are counted exactly up to a million and estimated beyond; quantiles come
from an even sample. What is an estimate says so in the column's ``estimated``. Memory depends on the number of columns, not of rows.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import TableError
from cognify_dagster.datasets.profile.hints import HintScan
from cognify_dagster.datasets.profile.sketches import DistinctCounter, Moments, Sample
from cognify_dagster.datasets.profile.statistics import (
    LOW_CARDINALITY,
    MAX_GROUPS,
    QUANTILES,
    balance_of,
    finish_groups,
    has_hints,
    has_statistics,
    json_value,
    profile_table,
    rounded,
    text_lengths,
    top_of,
    value_column,
    value_range,
)
from cognify_dagster.datasets.records.cells import require_pyarrow, type_name
from cognify_dagster.datasets.records.digests import select_columns

if TYPE_CHECKING:
    import pyarrow as pa

EXACT_ROWS = 1_000_000
EXACT_BYTES = 256 * 1024 * 1024
_NAN = math.nan  # one object, so that it is one key of a dict


def profile_batches(
    batches: Iterable[pa.Table | pa.RecordBatch],
    *,
    label: str | None = None,
    group_columns: Sequence[str] = (),
    personal: bool = False,
    hidden: Sequence[str] = (),
    exact_rows: int = EXACT_ROWS,
) -> dict[str, Any]:
    """Profile a stream of batches; the result is as that of :func:`profile_table`.

    Args:
        batches: Arrow tables or record batches of one schema.
        label, group_columns, personal, hidden: as for :func:`profile_table`.
        exact_rows: up to so many rows everything is exact.

    Raises:
        TableError: no batch, batches of different columns or types, or a named column does not exist.
        DatasetError: a group column has more than 1,000 values.
    """
    require_pyarrow()
    import pyarrow as pa

    kept: list[pa.Table] = []
    rows = size = 0
    stream: _Stream | None = None
    for part in batches:
        table = pa.Table.from_batches([part]) if isinstance(part, pa.RecordBatch) else part
        if stream is None:
            kept.append(_checked(table, kept[0] if kept else table))
            rows, size = rows + table.num_rows, size + table.nbytes
            if rows > exact_rows or size > EXACT_BYTES:
                stream = _Stream(kept[0], label, tuple(group_columns), personal, tuple(hidden))
                for earlier in kept:
                    stream.add(earlier)
                kept = kept[:1]
        else:
            stream.add(_checked(table, kept[0]))
    if stream is not None:
        return stream.result()
    if not kept:
        raise TableError("there are no batches, so there is nothing to profile")
    table = pa.concat_tables(kept)
    return profile_table(table, label=label, group_columns=group_columns, personal=personal, hidden=hidden)


def _checked(table: pa.Table, first: pa.Table) -> pa.Table:
    if set(table.column_names) != set(first.column_names):
        odd = sorted(set(table.column_names) ^ set(first.column_names))
        raise TableError(f"the batches differ in column {odd[0]!r}; give all the same columns")
    table = table.select(first.column_names)
    for name, one, other in zip(table.column_names, table.schema.types, first.schema.types, strict=True):
        if not one.equals(other):
            raise TableError(f"column {name!r} is {one} in one batch and {other} in another; give it one type")
    return table


@dataclass
class _Column:
    """What is kept of one column."""

    name: str
    kind: str
    personal: bool
    hidden: bool
    nulls: int = 0
    nans: int | None = None
    present: int = 0
    described: bool = True
    lengths: tuple[int, int, int] | None = None
    least: Any = None
    most: Any = None
    distinct: DistinctCounter = field(default_factory=DistinctCounter)
    moments: Moments | None = None
    sample: Sample = field(default_factory=Sample)
    counts: dict[Any, int] | None = field(default_factory=dict)
    hints: HintScan = field(default_factory=HintScan)

    def add(self, column: pa.ChunkedArray) -> None:
        """Take in the next values."""
        import pyarrow as pa
        import pyarrow.compute as pc
        import pyarrow.types as t

        self.nulls += column.null_count
        column = value_column(column)
        kind, present = column.type, column.drop_null()
        if t.is_floating(kind):
            nan = pc.is_nan(present)
            self.nans = (self.nans or 0) + (pc.sum(nan).as_py() or 0)
            present = present.filter(pc.invert(nan))
        self.described = has_statistics(kind)
        if not self.described or not len(present):
            return
        self.present += len(present)
        self.distinct.add(present)
        if has_hints(kind):
            self.hints.add(present)
        if self.hidden:
            return
        found = text_lengths(present)
        if found is not None:
            old = self.lengths or (found[0], found[1], 0)
            self.lengths = (min(old[0], found[0]), max(old[1], found[1]), old[2] + found[2])
        ends = value_range(present, personal=self.personal)
        if ends is not None:
            self.least = ends[0] if self.least is None or ends[0] < self.least else self.least
            self.most = ends[1] if self.most is None or ends[1] > self.most else self.most
        if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind):
            numbers = present.cast(pa.float64(), safe=False) if not t.is_decimal(kind) else present.cast(pa.float64())
            values = numbers.to_numpy()
            self.moments = self.moments or Moments()
            self.moments.add(values)
            self.sample.add(values)
        if self.counts is not None:
            if t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind):
                self.counts = None
                return
            _count(self.counts, present)
            if len(self.counts) > LOW_CARDINALITY:
                self.counts = None

    def result(self) -> dict[str, Any]:
        """The column's part of the profile."""
        out: dict[str, Any] = {"type": self.kind, "nulls": self.nulls}
        if self.nans is not None:
            out["nans"] = self.nans
        if not self.described:
            return out
        estimated: dict[str, Any] = {}
        out["distinct"] = self.distinct.count()
        if not self.distinct.exact:
            estimated["distinct"] = {"standard_error": self.distinct.error}
        hints = self.hints.result(self.name, personal=self.personal)
        if self.present and not self.hidden:
            if self.lengths is not None:
                low, high, total = self.lengths
                out |= {"min_length": low, "max_length": high, "mean_length": rounded(total / self.present)}
            if self.least is not None:
                out |= {"min": json_value(self.least), "max": json_value(self.most)}
            if self.moments is not None:
                quantiles = self.sample.quantiles(QUANTILES)
                out |= {
                    "mean": rounded(self.moments.mean),
                    "std": rounded(self.moments.deviation()),
                    "quantiles": {str(q): rounded(v) for q, v in zip(QUANTILES, quantiles, strict=True)},
                }
                if not self.sample.exact:
                    estimated["quantiles"] = {"sampled_rows": len(self.sample)}
            if self.counts is not None:
                out |= top_of(self.counts, self.personal)
        if estimated:
            out["estimated"] = estimated
        if hints:
            out["hints"] = hints
        return out


def _count(into: dict[Any, int], values: pa.ChunkedArray) -> None:
    import pyarrow.compute as pc

    for row in pc.value_counts(value_column(values)).to_pylist():
        value = _one(row["values"])
        into[value] = into.get(value, 0) + row["counts"]


def _one(value: Any) -> Any:
    return _NAN if isinstance(value, float) and math.isnan(value) else value


class _Stream:
    def __init__(
        self, table: pa.Table, label: str | None, groups: tuple[str, ...], personal: bool, hidden: tuple[str, ...]
    ) -> None:
        for name in ([label] if label else []) + list(groups):
            select_columns(table, [name])
        self.label, self.rows = label, 0
        self.columns = {
            name: _Column(name, type_name(table.schema.field(name).type), personal, personal and name in hidden)
            for name in select_columns(table, None)
        }
        self.labels: dict[Any, int] = {}
        self.groups: dict[str, dict[Any, int]] = {name: {} for name in groups}
        self.classes: dict[str, dict[Any, dict[Any, int]]] = {name: {} for name in groups}

    def add(self, table: pa.Table) -> None:
        self.rows += table.num_rows
        for name, column in self.columns.items():
            column.add(table.column(name))
        if self.label and len(self.labels) <= MAX_GROUPS:
            _count(self.labels, table.column(self.label))
        for name, counts in self.groups.items():
            if len(counts) > MAX_GROUPS:
                continue
            _count(counts, table.column(name))
            if self.label and name != self.label:
                self._classes(table, name, self.label)

    def _classes(self, table: pa.Table, name: str, label: str) -> None:
        import pyarrow as pa

        pair = pa.table({"g": value_column(table.column(name)), "l": value_column(table.column(label))})
        for row in pair.group_by(["g", "l"]).aggregate([([], "count_all")]).to_pylist():
            inner = self.classes[name].setdefault(_one(row["g"]), {})
            value = _one(row["l"])
            if len(inner) <= MAX_GROUPS:
                inner[value] = inner.get(value, 0) + row["count_all"]

    def result(self) -> dict[str, Any]:
        out: dict[str, Any] = {
            "rows": self.rows,
            "columns": {name: column.result() for name, column in self.columns.items()},
        }
        if self.label:
            out["label"] = {"column": self.label, "classes": balance_of(self.labels, self.rows)}
        if self.groups:
            out["groups"] = {
                name: finish_groups(name, counts, self.classes[name] if self.label and name != self.label else None)
                for name, counts in self.groups.items()
            }
        return out
