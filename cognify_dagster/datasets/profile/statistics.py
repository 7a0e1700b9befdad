"""Statistics and schema of a table, as JSON values that a plain recomputation gives again.

Missing values (null, and NaN in float columns, which pandas treats alike) are left out of every statistic and counted.
``std`` divides by n-1; quantiles are interpolated linearly; both are what ``pandas`` gives by default. Means, deviations
and quantiles are rounded to 12 significant digits so that they are equal on every machine.
"""

from __future__ import annotations

import datetime as dt
import decimal
import hashlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.profile.hints import HintScan
from cognify_dagster.datasets.records.cells import require_pyarrow, type_name
from cognify_dagster.datasets.records.digests import select_columns

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
TOP_VALUES = 20
LOW_CARDINALITY = 50
MAX_GROUPS = 1_000
SMALL_CELL = 10
"""In personal data, top values with fewer rows than this are counted together instead of being shown."""
MAX_TEXT = 200


def json_value(value: Any) -> Any:
    """A value as canonical JSON can hold it.

    Numbers that JSON forbids become text (``"NaN"``, ``"Infinity"``, ``"-Infinity"``, integers beyond 2^53-1), as do dates
    (ISO 8601), decimals and bytes (hex). Text is cut after 200 characters.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= 2**53 - 1 else str(value)
    if isinstance(value, float):
        if math.isnan(value):
            return "NaN"
        if math.isinf(value):
            return "Infinity" if value > 0 else "-Infinity"
        return value + 0.0
    if isinstance(value, str):
        return value if len(value) <= MAX_TEXT else value[:MAX_TEXT] + "…"
    if isinstance(value, dt.datetime | dt.date | dt.time):
        return value.isoformat()
    if isinstance(value, dt.timedelta):
        return f"{value.total_seconds()!r}s"
    if isinstance(value, bytes):
        return value[: MAX_TEXT // 2].hex()
    if isinstance(value, decimal.Decimal):
        return format(value, "f")
    return str(value)[:MAX_TEXT]


def schema_list(table: pa.Table) -> list[list[Any]]:
    """``[name, type, nullable]`` of each column, sorted by name (UTF-8 bytes)."""
    fields = sorted(table.schema, key=lambda field: field.name.encode())
    return [[field.name, type_name(field.type), bool(field.nullable)] for field in fields]


def schema_hash(schema: list[list[Any]]) -> str:
    """SHA-256 of the canonical JSON (RFC 8785) of :func:`schema_list`, as hex."""
    from cognify_dagster.ledger import canonical_json

    return hashlib.sha256(canonical_json(schema)).hexdigest()


def profile_table(
    table: pa.Table,
    *,
    label: str | None = None,
    group_columns: Sequence[str] = (),
    personal: bool = False,
    hidden: Sequence[str] = (),
) -> dict[str, Any]:
    """Profile a table.

    Args:
        table: the table.
        label: column whose class balance is given.
        group_columns: columns whose values are counted, with the label's classes within each when there is a label.
        personal: show no ranges of text columns, and no top value with fewer than 10 rows.
        hidden: columns of which no values are shown at all (record keys of personal data).

    Returns:
        ``rows``, ``columns`` (by name), ``label`` and ``groups``; all values are JSON.

    Raises:
        TableError: a named column does not exist.
        DatasetError: a group column has more than 1,000 values.
    """
    require_pyarrow()
    select_columns(table, None)
    for name in ([label] if label else []) + list(group_columns):
        select_columns(table, [name])
    out: dict[str, Any] = {
        "rows": table.num_rows,
        "columns": {
            name: _column(name, table.column(name), personal=personal, hidden=personal and name in hidden)
            for name in sorted(table.column_names, key=str.encode)
        },
    }
    if label:
        out["label"] = {"column": label, "classes": balance_of(_counts(table.column(label)), table.num_rows)}
    if group_columns:
        out["groups"] = {name: _groups(table, name, label) for name in group_columns}
    return out


def value_column(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """A column without dictionary, extension type or view."""
    import pyarrow as pa

    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        return column.cast(kind.storage_type)
    if pa.types.is_dictionary(kind):
        return column.cast(kind.value_type)
    if pa.types.is_float16(kind):
        return column.cast(pa.float64())
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    return column


def has_statistics(kind: pa.DataType) -> bool:
    """Whether more than missing values is counted for a type."""
    import pyarrow.types as t

    return not (t.is_nested(kind) or t.is_null(kind) or t.is_run_end_encoded(kind))


def has_hints(kind: pa.DataType) -> bool:
    """Whether values of a type are looked at for hints of personal data."""
    import pyarrow.types as t

    return bool(t.is_string(kind) or t.is_large_string(kind) or t.is_integer(kind))


def text_lengths(present: pa.ChunkedArray) -> tuple[int, int, int] | None:
    """Shortest, longest and total length of texts (characters) or binary values (bytes); None for other types."""
    import pyarrow.compute as pc
    import pyarrow.types as t

    kind = present.type
    if t.is_string(kind) or t.is_large_string(kind):
        lengths = pc.utf8_length(present)
    elif t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind):
        lengths = pc.binary_length(present)
    else:
        return None
    ends = pc.min_max(lengths).as_py()
    return ends["min"], ends["max"], pc.sum(lengths).as_py()


def value_range(present: pa.ChunkedArray, *, personal: bool) -> tuple[Any, Any] | None:
    """Least and greatest value; None where they are not shown (booleans, binary values, texts of personal data)."""
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    kind = present.type
    text = t.is_string(kind) or t.is_large_string(kind)
    raw = t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind)
    if t.is_boolean(kind) or raw or (text and personal):
        return None
    ordered = present.cast(pa.int64()) if t.is_duration(kind) else present  # Arrow has no min_max of durations
    ends = pc.min_max(ordered)
    least, most = (pa.scalar(ends[side].as_py(), ordered.type).cast(kind).as_py() for side in ("min", "max"))
    return least, most


def _column(name: str, column: pa.ChunkedArray, *, personal: bool, hidden: bool) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.types as t

    out: dict[str, Any] = {"type": type_name(column.type), "nulls": column.null_count}
    column = value_column(column)
    kind = column.type
    present = column.drop_null()
    if t.is_floating(kind):
        nan = pc.is_nan(present)
        out["nans"] = pc.sum(nan).as_py() or 0
        present = present.filter(pc.invert(nan))
        present = pc.if_else(pc.equal(present, 0), pa.scalar(0.0, kind), present)  # -0.0 and 0.0 are one value
    if not has_statistics(kind):
        return out
    out["distinct"] = pc.count_distinct(present).as_py()
    scan = HintScan()
    if has_hints(kind):
        scan.add(present)
    hints = scan.result(name, personal=personal)
    last = {"hints": hints} if hints else {}
    if not len(present) or hidden:
        return out | last
    lengths = text_lengths(present)
    if lengths is not None:
        low, high, total = lengths
        out |= {"min_length": low, "max_length": high, "mean_length": rounded(total / len(present))}
    ends = value_range(present, personal=personal)
    if ends is not None:
        out |= {"min": json_value(ends[0]), "max": json_value(ends[1])}
    if t.is_integer(kind) or t.is_floating(kind) or t.is_decimal(kind):
        out |= _numbers(present if not t.is_decimal(kind) else present.cast(pa.float64()))
    raw = t.is_binary(kind) or t.is_large_binary(kind) or t.is_fixed_size_binary(kind)
    if out["distinct"] <= LOW_CARDINALITY and not raw:
        out |= top_of(_counts(present), personal)
    return out | last


def _numbers(values: pa.ChunkedArray) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    values = values.cast(pa.float64(), safe=False)
    deviation = pc.stddev(values, ddof=1).as_py() if len(values) > 1 else None
    quantiles = pc.quantile(values, q=list(QUANTILES), interpolation="linear").to_pylist()
    return {
        "mean": rounded(pc.mean(values).as_py()),
        "std": rounded(deviation),
        "quantiles": {str(q): rounded(value) for q, value in zip(QUANTILES, quantiles, strict=True)},
    }


def rounded(value: float | None) -> Any:
    """A statistic with 12 significant digits, as JSON."""
    if value is None or not math.isfinite(value):
        return json_value(value)
    return float(f"{value:.12g}") + 0.0


def _counts(values: pa.ChunkedArray) -> dict[Any, int]:
    import pyarrow.compute as pc

    return {row["values"]: row["counts"] for row in pc.value_counts(value_column(values)).to_pylist()}


def _ordered(counts: Mapping[Any, int]) -> list[tuple[Any, int]]:
    """Values with their counts, most frequent first; ties by text."""
    return sorted(counts.items(), key=lambda pair: (-pair[1], str(pair[0])))


def top_of(counts: Mapping[Any, int], personal: bool) -> dict[str, Any]:
    """The most frequent values; in personal data only those of at least 10 rows."""
    counted = _ordered(counts)
    shown = [(value, count) for value, count in counted if not personal or count >= SMALL_CELL][:TOP_VALUES]
    out: dict[str, Any] = {"top": [{"value": json_value(value), "count": count} for value, count in shown]}
    rest = sum(count for _, count in counted) - sum(count for _, count in shown)
    return out | ({"other_rows": rest} if rest else {})


def balance_of(counts: Mapping[Any, int], rows: int) -> list[dict[str, Any]]:
    """Count and fraction of each class; one line that says so where there are too many to be classes."""
    if len(counts) > MAX_GROUPS:
        return [{"value": None, "count": rows, "fraction": 1.0, "note": "label is continuous"}]
    return [
        {"value": json_value(value), "count": count, "fraction": rounded(count / max(rows, 1))}
        for value, count in _ordered(counts)
    ]


def finish_groups(
    name: str, counts: Mapping[Any, int], classes: Mapping[Any, Mapping[Any, int]] | None
) -> list[dict[str, Any]]:
    """Count of each group, with the label's classes within it where there are any.

    Raises:
        DatasetError: there are more than 1,000 groups.
    """
    if len(counts) > MAX_GROUPS:
        shown = f"{len(counts)}" if classes is None else f"more than {MAX_GROUPS}"
        raise DatasetError(f"group column {name!r} has {shown} values; bin it into at most {MAX_GROUPS} groups")
    out = []
    for value, count in _ordered(counts):
        group: dict[str, Any] = {"value": json_value(value), "count": count}
        if classes is not None:
            group["classes"] = balance_of(classes[value], count)
        out.append(group)
    return out


def _groups(table: pa.Table, name: str, label: str | None) -> list[dict[str, Any]]:
    import pyarrow.compute as pc

    column = value_column(table.column(name))
    counts = _counts(column)
    classes: dict[Any, Mapping[Any, int]] | None = None
    if label and name != label and len(counts) <= MAX_GROUPS:
        classes = {}
        for value in counts:
            if value is None:
                mask = column.is_null()
            elif isinstance(value, float) and math.isnan(value):
                mask = pc.is_nan(column)
            else:
                mask = pc.equal(column, value)
            classes[value] = _counts(table.column(label).filter(mask))
    return finish_groups(name, counts, classes)
