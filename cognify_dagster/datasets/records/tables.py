"""Reading tables: CSV, Parquet and JSON Lines files, and tables held in memory, into Arrow.

Invariants:
    * CSV and JSON Lines types are decided from all rows of a file, never from its first block, and the rules are pinned
      here, so the same bytes give the same table whatever the reader's defaults are.
    * Messages about a bad line name its number and column counts, never its text: the text may be personal data.
"""

from __future__ import annotations

import gzip
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import TableError
from cognify_dagster.datasets.records.cells import require_pyarrow, type_name

if TYPE_CHECKING:
    import pyarrow as pa

MAX_TABLE_BYTES = 4 * 1024**3
"""Largest table file read into memory, in bytes, after decompression."""

FORMATS = {
    b".csv": "csv",
    b".csv.gz": "csv",
    b".parquet": "parquet",
    b".pq": "parquet",
    b".jsonl": "jsonl",
    b".jsonl.gz": "jsonl",
    b".ndjson": "jsonl",
}
CSV_NULLS = ("", "NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null")
"""Texts that stand for a missing value in CSV columns that are not text."""
_BOM = b"\xef\xbb\xbf"


def format_of(path: bytes) -> str | None:
    """The table format that a file name says: ``csv``, ``parquet``, ``jsonl`` or none."""
    low = path.lower()
    return next((fmt for ending, fmt in FORMATS.items() if low.endswith(ending)), None)


def parse_table(data: bytes, path: bytes, types: Mapping[str, str] | None = None) -> pa.Table:
    """Read the bytes of one table file.

    Args:
        data: the file's bytes.
        path: its name, which says the format and appears in messages.
        types: column types as an earlier snapshot recorded them; CSV columns are read as these.

    Raises:
        TableError: the bytes are not a table of this format; the message names the file and the line.
    """
    require_pyarrow()
    shown = path.decode("utf-8", "backslashreplace")
    fmt = format_of(path)
    if path.lower().endswith(b".gz"):
        data = _gunzip(data, shown)
    if fmt == "csv":
        return _read_csv(data, shown, types or {})
    if fmt == "parquet":
        return _read_parquet(data, shown)
    if fmt == "jsonl":
        return _read_jsonl(data, shown)
    raise TableError(f"{shown} is not a table file; known endings: {', '.join(e.decode() for e in FORMATS)}")


def _gunzip(data: bytes, shown: str) -> bytes:
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            out = file.read(MAX_TABLE_BYTES + 1)
    except (OSError, EOFError, zlib.error) as exc:
        raise TableError(f"{shown} is not a whole gzip file; copy it again") from exc
    if len(out) > MAX_TABLE_BYTES:
        raise TableError(f"{shown} unpacks to more than {MAX_TABLE_BYTES} bytes")
    return out


def _read_csv(data: bytes, shown: str, types: Mapping[str, str]) -> pa.Table:
    import pyarrow as pa
    from pyarrow import csv

    if not data.removeprefix(_BOM).strip():
        raise TableError(f"{shown} is empty; a CSV file needs a header line and rows")
    if len(data) >= 2**31 - 1:
        raise TableError(f"{shown} has {len(data)} bytes of CSV; above 2 GiB convert it to Parquet or split it")
    bad: list[Any] = []
    known = {name: kind for name, text in types.items() if (kind := arrow_type(text)) is not None}

    def on_bad_row(row: Any) -> str:
        bad.append(row)
        return "error"

    def read(threads: bool) -> pa.Table:
        return csv.read_csv(
            pa.BufferReader(data),
            # One block for the whole file: types are then inferred from every row.
            read_options=csv.ReadOptions(use_threads=threads, block_size=len(data) + 1),
            **csv_options(on_bad_row, known),
        )

    try:
        table = read(True)
    except (pa.ArrowInvalid, pa.ArrowKeyError) as exc:
        if not bad:
            column = f" ({str(exc).split(':', 1)[0]})" if str(exc).startswith("In CSV column") else ""
            raise TableError(
                f"{shown} cannot be read as CSV{column}; check separator, quotes and encoding"
            ) from None  # the cause may quote a value
        bad.clear()
        try:
            read(False)  # once more on one thread: only then are rows numbered
        except pa.ArrowInvalid:
            row = bad[0]
            raise TableError(
                f"{shown}, line {row.number}: {row.actual_columns} columns where the header has {row.expected_columns}; "
                "mend the line"
            ) from None
        raise
    for field in table.schema:
        if type_name(field.type) == "binary":
            raise TableError(f"{shown}, column {field.name!r} is not UTF-8; convert the file to UTF-8")
    return checked(table, shown)


def csv_options(on_bad_row: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """How CSV is parsed and converted: pinned here, so that the same bytes give the same table."""
    from pyarrow import csv

    return {
        "parse_options": csv.ParseOptions(newlines_in_values=True, invalid_row_handler=on_bad_row),
        "convert_options": csv.ConvertOptions(
            null_values=list(CSV_NULLS),
            strings_can_be_null=False,
            true_values=["true", "True", "TRUE"],
            false_values=["false", "False", "FALSE"],
            column_types=dict(kinds),
        ),
    }


def arrow_type(text: str) -> pa.DataType | None:
    """The Arrow type of a CSV column by its recorded name; None if CSV columns never have it."""
    import pyarrow as pa

    known = {
        "null": pa.null(),
        "bool": pa.bool_(),
        "int64": pa.int64(),
        "float64": pa.float64(),
        "string": pa.string(),
        "date": pa.date32(),
        "time[s]": pa.time32("s"),
        "timestamp[s]": pa.timestamp("s"),
        "timestamp[ns]": pa.timestamp("ns"),
        "timestamp[ns, tz=UTC]": pa.timestamp("ns", "UTC"),
        "timestamp[s, tz=UTC]": pa.timestamp("s", "UTC"),
    }
    return known.get(text)


def _read_parquet(data: bytes, shown: str) -> pa.Table:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return checked(parquet.ParquetFile(pa.BufferReader(data)).read(), shown)
    except (pa.ArrowException, OSError) as exc:
        raise TableError(f"{shown} is not a whole Parquet file ({str(exc)[:200]}); write it again") from exc


def _read_jsonl(data: bytes, shown: str) -> pa.Table:
    rows = [jsonl_row(line, number, shown) for number, line in enumerate(data.split(b"\n"), start=1)]
    return checked(jsonl_arrays([row for row in rows if row is not None], shown), shown)


def jsonl_row(line: bytes, number: int, shown: str) -> dict[str, Any] | None:
    """The object of one line; None for an empty line.

    Raises:
        TableError: it is no JSON object in UTF-8; the message names the line, never its text.
    """
    if number == 1:
        line = line.removeprefix(_BOM)
    if not line.strip():
        return None
    try:
        row = json.loads(line.decode("utf-8"), object_pairs_hook=_unique, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        what = exc.msg if isinstance(exc, json.JSONDecodeError) else str(exc).split(":", 1)[0]
        raise TableError(f"{shown}, line {number}: not a JSON object in UTF-8 ({what}); mend the line") from None
    if not isinstance(row, dict):
        raise TableError(f"{shown}, line {number}: a {type(row).__name__} where a JSON object is needed")
    return row


def jsonl_arrays(rows: Sequence[Mapping[str, Any]], shown: str, schema: pa.Schema | None = None) -> pa.Table:
    """Rows as a table, of a schema or of the types that the values have.

    Raises:
        TableError: a field mixes types.
    """
    import pyarrow as pa

    columns = list(dict.fromkeys(name for row in rows for name in row)) if schema is None else list(schema.names)
    arrays = []
    for name in columns:
        kind = None if schema is None else schema.field(name).type
        try:
            arrays.append(pa.array([row.get(name) for row in rows], kind))
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
            raise TableError(
                f"{shown}, field {name!r} mixes types or holds a number beyond 64 bits; use one type"
            ) from None
    return pa.Table.from_arrays(arrays, names=columns)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) != len(pairs):
        raise ValueError("a field occurs twice")
    return out


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


def checked(table: pa.Table, shown: str) -> pa.Table:
    """The table, if no two of its columns have one name."""
    names = table.column_names
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise TableError(f"{shown} has two columns named {twice!r}; rename one")
    return table


def concat_tables(parts: Sequence[tuple[str, pa.Table]]) -> pa.Table:
    """Put the parts of a dataset one after another, in path order.

    Raises:
        TableError: a part has other columns, or types that do not fit; the message names the part.
    """
    import pyarrow as pa

    first_name, first = parts[0]
    wanted = set(first.column_names)
    for shown, table in parts[1:]:
        if set(table.column_names) != wanted:
            odd = sorted(wanted ^ set(table.column_names))
            raise TableError(
                f"{shown} and {first_name} differ in column {odd[0]!r}; give all parts the same columns, "
                "or take the snapshot with records=False (files only)"
            )
    try:
        return pa.concat_tables([table.select(first.column_names) for _, table in parts], promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as exc:
        raise TableError(f"the parts of the dataset have columns of types that do not fit together: {exc}") from exc


def to_arrow(value: Any) -> pa.Table | None:
    """A table held in memory (pyarrow, pandas, polars, or anything with the Arrow C stream interface) as Arrow.

    In pandas, missing floats and NaN become null, as pandas itself treats them alike; a named index becomes columns, an
    unnamed one is left out.

    Returns:
        The table, or None when the value is not a table.

    Raises:
        TableError: a column mixes types, or two columns have one name.
    """
    module = type(value).__module__.split(".", 1)[0]
    if module not in ("pandas", "pyarrow", "polars") and not hasattr(value, "__arrow_c_stream__"):
        return None
    pa = require_pyarrow()
    if isinstance(value, pa.Table):
        return checked(value, "the table")
    if isinstance(value, pa.RecordBatch):
        return checked(pa.Table.from_batches([value]), "the table")
    if module == "pandas" and type(value).__name__ == "DataFrame":
        if any(name is not None for name in value.index.names):
            value = value.reset_index()
        odd = [name for name in value.columns if not isinstance(name, str)]
        if odd:
            raise TableError(f"column name {odd[0]!r} is not text; name the columns with strings")
        if not value.columns.is_unique:
            raise TableError("the data frame has two columns of one name; rename one")
        try:
            return pa.Table.from_pandas(value, preserve_index=False).replace_schema_metadata(None)
        except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError) as exc:
            where = next((str(arg) for arg in exc.args if "column" in str(arg)), "a column")
            raise TableError(f"the data frame cannot be read: {where}; give each column one type") from None
    if module == "polars" and hasattr(value, "collect"):
        value = value.collect()
    if hasattr(value, "__arrow_c_stream__"):
        try:
            return checked(pa.table(value), "the table")
        except (pa.ArrowException, TypeError, ValueError) as exc:
            raise TableError(f"the {type(value).__name__} is not a table: {exc}") from exc
    return None
