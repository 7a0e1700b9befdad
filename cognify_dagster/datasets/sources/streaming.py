"""The table of a source as a stream of batches, for sources that are larger than memory should have to be.

Invariant: batches are parsed from bytes that have the digest of their leaf. This is known when a file has been read to its
end, and an error is raised before the stream ends if it does not hold.
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, BinaryIO

from cognify_dagster.datasets.errors import SourceChangedError, TableError
from cognify_dagster.datasets.records.reading import TablePart
from cognify_dagster.datasets.records.tables import MAX_TABLE_BYTES
from cognify_dagster.datasets.records.verified import VerifiedReader
from cognify_dagster.datasets.sources.local import Found, LocalSource
from cognify_dagster.datasets.sources.remote import RemoteSource
from cognify_dagster.datasets.tree import FileLeaf, content_digest, show_path

if TYPE_CHECKING:
    import pyarrow as pa

STREAM_BYTES = 32 * 1024 * 1024
"""Table files that together have more bytes than this are streamed."""


class TableStream:
    """The table of several files, in path order.

    Args:
        source: where the files are.
        files: the table files.
        leaves: leaves by path.
        types: recorded column types for CSV.

    Attributes:
        schema: the schema that all batches have.

    Raises:
        TableError: a file is not a table, or the files' columns do not fit together.
        SourceChangedError: a file is no longer the one that was hashed.
    """

    def __init__(
        self,
        source: LocalSource | RemoteSource,
        files: Sequence[Found],
        leaves: Mapping[bytes, FileLeaf],
        types: Mapping[str, str] | None = None,
    ) -> None:
        self._source, self._files, self._leaves, self._types = source, files, leaves, types
        schemas = []
        for item in files:
            with ExitStack() as stack:
                schemas.append((show_path(item.path), self._part(item, stack)[0].schema))
        self.schema: pa.Schema = _common(schemas)

    def batches(self) -> Iterator[pa.Table]:
        """The rows of all files."""
        import pyarrow as pa

        empty = self.schema.empty_table()
        for item in self._files:
            with ExitStack() as stack:
                part, reader = self._part(item, stack)
                for batch in part.batches():
                    table = batch.select(self.schema.names)
                    if table.schema != self.schema:
                        table = pa.concat_tables([empty, table], promote_options="permissive")
                    yield table
                if reader is not None:
                    reader.finish()

    def _part(self, item: Found, stack: ExitStack) -> tuple[TablePart, VerifiedReader | None]:
        leaf = self._leaves[item.path]
        if not isinstance(self._source, LocalSource):
            data = self._source.read(item, MAX_TABLE_BYTES)
            if (len(data), *content_digest(data)) != (leaf.size, leaf.algorithm, leaf.digest):
                raise SourceChangedError(
                    f"file {show_path(item.path)} changed between hashing and reading; "
                    "take the snapshot when nothing writes to it"
                )
            return TablePart(lambda: io.BytesIO(data), item.path, self._types), None
        fd = stack.enter_context(self._source.open_file(item))
        reader = VerifiedReader(lambda at, size: os.pread(fd, size, at), leaf)

        def again() -> BinaryIO:
            reader.seek(0)
            return _Unclosed(reader)  # type: ignore[return-value]

        return TablePart(again, item.path, self._types), reader


class _Unclosed(io.RawIOBase):
    """A view of a reader that may be closed without closing the reader."""

    def __init__(self, reader: VerifiedReader) -> None:
        self._reader = reader

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._reader.seek(offset, whence)

    def tell(self) -> int:
        return self._reader.tell()

    def size(self) -> int:
        return self._reader.size()

    def readinto(self, buffer: Any) -> int:
        return self._reader.readinto(buffer)


def _common(schemas: Sequence[tuple[str, pa.Schema]]) -> pa.Schema:
    """One schema for all files, as putting their tables one after another would give."""
    from cognify_dagster.datasets.records.tables import concat_tables

    if not schemas:
        raise TableError("there are no table files")
    return concat_tables([(name, schema.empty_table()) for name, schema in schemas]).schema
