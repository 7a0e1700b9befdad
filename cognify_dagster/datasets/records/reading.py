"""Table files read batch by batch: the same tables as `parse_table` gives, with memory that does not follow the file.

Invariant: the types of a column are those that reading the whole file at once would give. Types of CSV columns are found by
trying: a type that a later value does not fit is replaced by the next one in the order in which the parser itself tries them,
and the file is read again from its start. JSON Lines are read twice, the first time for their types.
"""

from __future__ import annotations

import gzip
import io
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, BinaryIO

from cognify_dagster.datasets.errors import DatasetError, TableError
from cognify_dagster.datasets.records.cells import require_pyarrow, type_name
from cognify_dagster.datasets.records.digests import BATCH_ROWS
from cognify_dagster.datasets.records.tables import arrow_type, checked, csv_options, format_of, jsonl_arrays, jsonl_row

if TYPE_CHECKING:
    import pyarrow as pa

BLOCK_BYTES = 16 * 1024 * 1024
MAX_BLOCK_BYTES = 1024 * 1024 * 1024
_COLUMN = re.compile(r"In CSV column #(\d+)")


class TablePart:
    """One table file of a dataset, to be read in batches.

    Args:
        opener: opens the file's bytes from the start; called once for each pass.
        path: its name, which says the format and appears in messages.
        types: recorded column types for CSV.
        block: bytes of text read at once.

    Attributes:
        schema: the file's columns, as reading it at once would give them.

    Raises:
        TableError: the bytes are not a table of this format; the message names the file and the line or row group.
    """

    def __init__(
        self,
        opener: Callable[[], BinaryIO],
        path: bytes,
        types: Mapping[str, str] | None = None,
        block: int = BLOCK_BYTES,
    ) -> None:
        require_pyarrow()
        self._opener, self._block = opener, block
        self.shown = path.decode("utf-8", "backslashreplace")
        self._packed = path.lower().endswith(b".gz")
        self._format = format_of(path)
        self._types = dict(types or {})
        if self._format not in ("csv", "parquet", "jsonl"):
            raise TableError(f"{self.shown} is not a table file")
        self.schema: pa.Schema = {
            "csv": self._csv_schema,
            "parquet": self._parquet_schema,
            "jsonl": self._jsonl_schema,
        }[self._format]()

    def batches(self) -> Iterator[pa.Table]:
        """The rows, some at a time, all with :attr:`schema`."""
        read = {"csv": self._csv, "parquet": self._parquet, "jsonl": self._jsonl}[str(self._format)]
        yield from read()

    def _text(self) -> BinaryIO:
        raw = self._opener()
        return gzip.GzipFile(fileobj=raw) if self._packed else raw  # type: ignore[return-value]

    # Parquet: row group by row group

    def _file(self) -> Any:
        import pyarrow as pa
        from pyarrow import parquet

        try:
            return parquet.ParquetFile(pa.PythonFile(self._opener(), mode="r"))
        except (pa.ArrowException, OSError) as exc:
            raise TableError(f"{self.shown} is not a whole Parquet file ({str(exc)[:200]}); write it again") from exc

    def _parquet_schema(self) -> pa.Schema:
        import pyarrow as pa

        schema = self._file().schema_arrow.remove_metadata()
        return checked(pa.Table.from_batches([], schema), self.shown).schema

    def _parquet(self) -> Iterator[pa.Table]:
        import pyarrow as pa

        file = self._file()
        for group in range(file.num_row_groups):
            try:
                for batch in file.iter_batches(batch_size=BATCH_ROWS, row_groups=[group]):
                    yield pa.Table.from_batches([batch]).replace_schema_metadata(None)
            except (pa.ArrowException, OSError) as exc:
                raise TableError(
                    f"{self.shown}, row group {group} of {file.num_row_groups}: damaged ({str(exc)[:200]}); write it again"
                ) from exc

    # CSV

    def _csv_schema(self) -> pa.Schema:
        import pyarrow as pa

        known = {name: kind for name, text in self._types.items() if (kind := arrow_type(text)) is not None}
        self._kinds: dict[str, Any] = known
        self._first: pa.Schema | None = None
        next(self._read_csv(), None)
        if self._first is None:
            raise TableError(f"{self.shown} is empty; a CSV file needs a header line and rows")
        first = checked(self._first.empty_table(), self.shown)
        self._kinds = {field.name: field.type for field in first.schema}
        while True:
            try:
                for _ in self._read_csv():
                    pass
            except _Misfit as misfit:
                if misfit.column < 0:
                    continue
                name = first.column_names[misfit.column]
                if name in known:
                    raise TableError(
                        f"{self.shown} cannot be read as CSV (column {name!r} is no {type_name(known[name])} any more)"
                    ) from None
                self._kinds[name] = self._looser(name)
                continue
            break
        schema = pa.schema([(name, self._kinds[name]) for name in first.column_names])
        for field in schema:
            if type_name(field.type) == "binary":
                raise TableError(f"{self.shown}, column {field.name!r} is not UTF-8; convert the file to UTF-8")
        return schema

    def _looser(self, name: str) -> Any:
        ladder = _ladder()
        here = self._kinds[name]
        place = next((i for i, kind in enumerate(ladder) if kind.equals(here)), len(ladder))
        if place + 1 >= len(ladder):
            raise TableError(f"{self.shown}, column {name!r} is not UTF-8; convert the file to UTF-8")
        return ladder[place + 1]

    def _csv(self) -> Iterator[pa.Table]:
        try:
            yield from self._read_csv()
        except _Misfit as misfit:
            raise TableError(f"{self.shown} changed while it was read (column {misfit.column})") from None

    def _read_csv(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        from pyarrow import csv

        bad: list[Any] = []

        def on_bad_row(row: Any) -> str:
            bad.append(row)
            return "error"

        while True:
            begun = False
            try:
                with self._text() as raw:
                    reader = csv.open_csv(
                        pa.PythonFile(raw, mode="r"),
                        read_options=csv.ReadOptions(use_threads=False, block_size=self._block),
                        **csv_options(on_bad_row, self._kinds),
                    )
                    self._first = reader.schema
                    for batch in reader:
                        begun = True
                        yield pa.Table.from_batches([batch])
                return
            except (pa.ArrowInvalid, pa.ArrowKeyError) as exc:
                text = str(exc)
                if "straddling" in text and not begun and self._block < MAX_BLOCK_BYTES:
                    self._block *= 2
                    continue
                if "straddling" in text and self._block < MAX_BLOCK_BYTES:
                    self._block *= 2
                    raise _Misfit(-1) from None
                found = _COLUMN.match(text)
                if found and not bad:
                    raise _Misfit(int(found[1])) from None
                if bad:
                    row = bad[0]
                    where = f", line {row.number}" if row.number is not None else ""
                    raise TableError(
                        f"{self.shown}{where}: {row.actual_columns} columns where the header has {row.expected_columns}; "
                        "mend the line"
                    ) from None
                if "Empty CSV" in text:
                    return
                raise TableError(f"{self.shown} cannot be read as CSV; check separator, quotes and encoding") from None
            except (OSError, EOFError, zlib.error) as exc:
                raise self._unpacked(exc) from exc

    def _unpacked(self, exc: BaseException) -> DatasetError:
        if isinstance(exc, DatasetError):
            return exc
        return TableError(f"{self.shown} is not a whole gzip file; copy it again")

    # JSON Lines

    def _lines(self) -> Iterator[list[tuple[int, dict[str, Any]]]]:
        """Rows with their line numbers, some megabytes of text at a time."""
        rows: list[tuple[int, dict[str, Any]]] = []
        size = 0
        try:
            with io.BufferedReader(self._text(), 1 << 20) as file:  # type: ignore[type-var]
                for number, line in enumerate(file, start=1):
                    row = jsonl_row(line, number, self.shown)
                    if row is not None:
                        rows.append((number, row))
                        size += len(line)
                    if size > self._block or len(rows) >= BATCH_ROWS:
                        yield rows
                        rows, size = [], 0
        except (OSError, EOFError, zlib.error) as exc:
            raise self._unpacked(exc) from exc
        if rows:
            yield rows

    def _jsonl_schema(self) -> pa.Schema:
        import pyarrow as pa

        schema = pa.schema([])
        for rows in self._lines():
            here = jsonl_arrays([row for _, row in rows], self.shown).schema
            try:
                schema = pa.unify_schemas([schema, here], promote_options="permissive")
            except (pa.ArrowInvalid, pa.ArrowTypeError):
                odd = next((f.name for f in here if f.name in schema.names and f.type != schema.field(f.name).type), "")
                raise TableError(
                    f"{self.shown}, field {odd!r} mixes types or holds a number beyond 64 bits; use one type"
                ) from None
        return schema

    def _jsonl(self) -> Iterator[pa.Table]:
        for rows in self._lines():
            yield jsonl_arrays([row for _, row in rows], self.shown, self.schema)


class _Misfit(Exception):
    """A value does not fit the type that its column was taken to have; column -1: read again with larger blocks."""

    def __init__(self, column: int) -> None:
        super().__init__(column)
        self.column = column


def _ladder() -> list[Any]:
    """The types that the CSV parser tries, in its order."""
    import pyarrow as pa

    return [
        pa.null(),
        pa.int64(),
        pa.bool_(),
        pa.date32(),
        pa.time32("s"),
        pa.timestamp("s"),
        pa.timestamp("s", "UTC"),
        pa.timestamp("ns"),
        pa.timestamp("ns", "UTC"),
        pa.float64(),
        pa.string(),
    ]
