"""The corpus as a stream of tables: files of up to 64 MiB together are read at once, larger ones batch by batch."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from cognify_dagster.datasets.errors import DatasetError, SourceChangedError, TableError
from cognify_dagster.datasets.records.reading import TablePart
from cognify_dagster.datasets.records.tables import MAX_TABLE_BYTES, concat_tables, parse_table, to_arrow
from cognify_dagster.datasets.sources.ignore import IgnoreRules
from cognify_dagster.datasets.sources.local import Found, LocalSource
from cognify_dagster.datasets.sources.opening import TableSource, open_source, table_files
from cognify_dagster.datasets.sources.remote import RemoteSource
from cognify_dagster.datasets.sources.streaming import STREAM_BYTES, TableStream
from cognify_dagster.datasets.tree import FileLeaf, content_digest, show_path

if TYPE_CHECKING:
    import pyarrow as pa

BATCH_ROWS = 8192


def table_batches(
    source: Any,
    *,
    ignore: Sequence[str] = (),
    leaves: Mapping[bytes, FileLeaf] | None = None,
    storage_options: Mapping[str, Any] | None = None,
) -> Iterator[pa.Table]:
    """Read a source in batches of at most 8,192 rows, in the order in which a snapshot reads it.

    Args:
        source: a path, an fsspec address, a table, or an iterable of Arrow tables or record batches.
        ignore: ignore rules.
        leaves: leaves of a recorded snapshot by path; the files then have to be these.
        storage_options: arguments for the fsspec filesystem.

    Raises:
        SourceError: the source is missing or unreadable.
        SourceChangedError: a file is not that of the recorded snapshot, is missing or was added.
        TableError: a file is not a table; the message names it.
    """
    for table in _tables(source, ignore, leaves, storage_options):
        for start in range(0, table.num_rows, BATCH_ROWS):
            yield table.slice(start, BATCH_ROWS)


def _tables(
    source: Any,
    ignore: Sequence[str],
    leaves: Mapping[bytes, FileLeaf] | None,
    storage_options: Mapping[str, Any] | None,
) -> Iterator[pa.Table]:
    if isinstance(source, Iterable) and not isinstance(source, (str, bytes)) and to_arrow(source) is None:
        for part in source:
            table = to_arrow(part)
            if table is None:
                raise TableError(f"a batch is a {type(part).__name__}; give Arrow tables or record batches")
            yield table
        return
    opened = open_source(source, storage_options)
    if isinstance(opened, TableSource):
        yield opened.table
        return
    found, _ = opened.entries(IgnoreRules(ignore))
    fmt, files = table_files(found)
    if fmt is None:
        raise DatasetError(f"source {opened.describe()} holds no table (CSV, Parquet or JSON Lines files of one kind)")
    if leaves is not None:
        for path in sorted({item.path for item in found} ^ set(leaves)):
            raise SourceChangedError(f"file {show_path(path)} {'is missing' if path in leaves else 'was added'}")
    if sum(item.size for item in files) <= STREAM_BYTES:
        yield concat_tables([(show_path(item.path), _small(opened, item, leaves)) for item in files])
    elif leaves is not None:
        yield from TableStream(opened, files, leaves).batches()
    else:
        for item in files:
            with ExitStack() as stack:
                yield from _part(opened, item, stack).batches()


def _small(source: LocalSource | RemoteSource, item: Found, leaves: Mapping[bytes, FileLeaf] | None) -> pa.Table:
    data = source.read(item, MAX_TABLE_BYTES)
    leaf = leaves[item.path] if leaves is not None else None
    if leaf is not None and (len(data), *content_digest(data)) != (leaf.size, leaf.algorithm, leaf.digest):
        raise SourceChangedError(f"file {show_path(item.path)} has other content")
    return parse_table(data, item.path)


def _part(source: LocalSource | RemoteSource, item: Found, stack: ExitStack) -> TablePart:
    """A file of which no digest is known; each pass opens it anew."""
    if not isinstance(source, LocalSource):
        data = source.read(item, MAX_TABLE_BYTES)
        return TablePart(lambda: io.BytesIO(data), item.path)

    def again() -> BinaryIO:
        return os.fdopen(stack.enter_context(source.open_file(item)), "rb", closefd=False)

    return TablePart(again, item.path)
