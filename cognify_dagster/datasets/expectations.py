"""What a table has to look like: columns, types, nulls, ranges and allowed values, as a quality check that needs no other library.

Invariant: messages name columns, counts and limits, never a value of a record, so they may stand in a ledger also for personal data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.records import QualityCheck

if TYPE_CHECKING:
    import pyarrow as pa

MAX_FAULTS = 20
_STRICT = ConfigDict(extra="forbid")


@dataclass(frozen=True, config=_STRICT)
class Range:
    """The smallest and largest value that a column may have, both included; None leaves that side open."""

    least: float | None = None
    most: float | None = None


@dataclass(frozen=True, config=_STRICT)
class SchemaExpectation:
    """A quality check: give it to `quality=[…]` of a snapshot, or as a file to `cognify dataset snapshot --expect`.

    Attributes:
        columns: each expected column with its type as the profile names it (`int64`, `string`), or None for any type.
        name: of the check, as the snapshot records it.
        further_columns: whether there may be others.
        not_null: columns without missing values; NaN counts as missing.
        ranges: least and most value by column.
        allowed: the values that a column may have, as text; missing ones aside.

    Examples:
        >>> SchemaExpectation(columns={"id": "int64", "age": None}, ranges={"age": Range(least=18, most=120)})  # doctest: +SKIP
    """

    columns: dict[str, str | None] = Field(min_length=1)
    name: str = Field(default="schema", min_length=1, max_length=300)
    further_columns: bool = False
    not_null: tuple[str, ...] = ()
    ranges: dict[str, Range] = Field(default_factory=dict)
    allowed: dict[str, tuple[str, ...]] = Field(default_factory=dict)

    def __call__(self, table: pa.Table) -> QualityCheck:
        """Look at a table and say what is wrong."""
        faults = self.faults(table)
        more = f"; and {len(faults) - MAX_FAULTS} more" if len(faults) > MAX_FAULTS else ""
        detail = "; ".join(faults[:MAX_FAULTS]) + more
        return QualityCheck(name=self.name, status="fail" if faults else "pass", detail=detail[:4000])

    def faults(self, table: pa.Table) -> list[str]:
        """Return every fault as one short sentence; a column that is absent is named once."""
        there = set(table.schema.names)
        absent = [name for name in self._named() if name not in there]
        found = [f"column {name!r} is absent" for name in absent]
        if not self.further_columns:
            found += [f"column {name!r} is not expected" for name in table.schema.names if name not in self._named()]
        found += self._types(table.schema)
        for name in self.not_null:
            if name in there and (count := _missing(table[name])):
                found.append(f"column {name!r} has {count} missing values")
        for name, limits in self.ranges.items():
            if name in there:
                found += _outside(name, table[name], limits)
        for name, values in self.allowed.items():
            if name in there and (count := _foreign(table[name], values)):
                found.append(f"column {name!r} has {count} values that are not allowed")
        return found

    def _named(self) -> list[str]:
        return list(dict.fromkeys([*self.columns, *self.not_null, *self.ranges, *self.allowed]))

    def _types(self, schema: pa.Schema) -> list[str]:
        from cognify_dagster.datasets.records.cells import type_name

        found = []
        for name, wanted in self.columns.items():
            if wanted is not None and name in schema.names:
                has = type_name(schema.field(name).type)
                if has != wanted:
                    found.append(f"column {name!r} is {has}, expected {wanted}")
        return found


def expectation_of(value: Any, where: str) -> SchemaExpectation:
    """Read an expectation from plain data, as a YAML file holds it.

    Raises:
        DatasetError: naming file and field.
    """
    try:
        return TypeAdapter(SchemaExpectation).validate_python(value)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"]) or "the file"
        raise DatasetError(f"{where}, {field}: {first['msg']}") from None


def expectation_from(schema: Sequence[Sequence[Any]], name: str = "same schema") -> SchemaExpectation:
    """Expect exactly the columns and types of a recorded schema (`[name, type, nullable]` of each column)."""
    return SchemaExpectation(name=name, columns={str(item[0]): str(item[1]) for item in schema})


def _missing(column: pa.ChunkedArray) -> int:
    import pyarrow as pa
    import pyarrow.compute as pc

    nan = pa.types.is_floating(column.type)
    return int(pc.sum(pc.is_null(column, nan_is_null=nan)).as_py() or 0)


def _outside(name: str, column: pa.ChunkedArray, limits: Range) -> list[str]:
    import pyarrow as pa
    import pyarrow.compute as pc

    if not (pa.types.is_integer(column.type) or pa.types.is_floating(column.type) or pa.types.is_decimal(column.type)):
        return [f"column {name!r} is no number, so its range cannot be checked"]
    numbers = column.cast(pa.float64(), safe=False)
    found = []
    for limit, outside, word in ((limits.least, pc.less, "below"), (limits.most, pc.greater, "above")):
        if limit is not None and (count := int(pc.sum(outside(numbers, limit)).as_py() or 0)):
            found.append(f"column {name!r} has {count} values {word} {limit:g}")
    return found


def _foreign(column: pa.ChunkedArray, values: Sequence[str]) -> int:
    counts: Mapping[str, int] = {
        str(item["values"]): int(item["counts"])
        for item in column.value_counts().to_pylist()
        if item["values"] is not None
    }
    return sum(count for value, count in counts.items() if value not in set(values))
