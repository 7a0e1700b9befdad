"""The record index of a snapshot with a record key: enough to say later, without the data, which record changed in what column.

It holds, for each record, the digest of its key, its record digest, and a short digest of each column's value. It is evidence
beside the record manifest, not part of the root; its record digests have to be those of the manifest, which is checked.

Invariants:
    * With a record key (personal data) every digest in it is keyed, and the digests of values are bound to their record:
      equal values of two people do not show.
    * Whether a record changed is decided by its 32-byte digest. The short digests (16 bytes; 8 where keyed, since nobody
      without the key can search for collisions) only say in which columns.
    * Rows stand in the order of their key digests, so neither the order of the data nor the files they came from show.

The layout is described in ``docs/dataset-snapshots.md``.
"""

from __future__ import annotations

import hashlib
import hmac
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cognify_dagster.datasets.errors import ManifestError, TableError
from cognify_dagster.datasets.records.cells import encode_cells, require_pyarrow
from cognify_dagster.datasets.records.digests import (
    BATCH_ROWS,
    RecordManifest,
    key_id,
    one_array,
    record_digests,
    record_root,
    select_columns,
)

if TYPE_CHECKING:
    import pyarrow as pa

FORMAT = "cognify/record-index/v1"
MAX_CELLS = 50_000_000
"""Above so many values the index names changed records, not their columns."""
MAX_INDEX_BYTES = 4 * 1024**3
PLAIN_WIDTH, KEYED_WIDTH = 16, 8

_CELL_TAG = b"\x00rec-cell/v1"


@dataclass(frozen=True)
class RecordIndex:
    """A record index, read back.

    Attributes:
        key_columns: what names a record.
        key_id: public name of the record key, None where digests are plain.
        columns: the columns with a digest of each value; may be empty.
        keys: digest of each record's key, in order.
        rows: record digest of each, in the order of the keys.
        values: for each column the short digests, in the order of the keys (Arrow arrays).
    """

    key_columns: tuple[str, ...]
    key_id: str | None
    columns: tuple[str, ...]
    keys: pa.Array = field(repr=False)
    rows: pa.Array = field(repr=False)
    values: dict[str, Any] = field(repr=False)

    def __len__(self) -> int:
        return len(self.keys)


def record_index(
    table: pa.Table, key_columns: Sequence[str], rows: Sequence[bytes], secret: bytes | None = None
) -> bytes:
    """The index of a table as Parquet bytes.

    Args:
        table: the table; its key columns have been checked.
        key_columns: what names a record.
        rows: the record digests in row order, made with the same `secret`.
        secret: the record key, for personal data.

    Raises:
        TableError: a column is missing or cannot be digested.
    """
    builder = IndexBuilder(table, key_columns, secret)
    builder.add(table)
    return builder.finish(b"".join(rows))


class IndexBuilder:
    """Makes an index from batches of rows.

    Args:
        first: a batch, for its columns.
        key_columns: what names a record.
        secret: the record key, for personal data.

    Attributes:
        keys: the key digests so far, in row order.
    """

    def __init__(self, first: pa.Table, key_columns: Sequence[str], secret: bytes | None) -> None:
        self._key = select_columns(first, list(key_columns))
        self._columns = [name for name in select_columns(first, None) if name not in self._key]
        self._secret = secret
        self.keys = bytearray()
        self._values: dict[str, list[Any]] = {name: [] for name in self._columns}

    def add(self, batch: pa.Table) -> None:
        """Add rows.

        Raises:
            TableError: a column is missing or cannot be digested.
        """
        named = record_digests(batch, self._key, self._secret)
        self.keys += b"".join(named)
        if len(self.keys) // 32 * len(self._columns) > MAX_CELLS:
            self._columns, self._values = [], {}
        bound = None
        if self._secret is not None and self._columns:
            secret = self._secret
            bound = [hmac.digest(secret, _CELL_TAG + key, "sha256") for key in named]
        for name in self._columns:
            self._values[name].append(_column_digests(batch.column(name), name, bound))

    def finish(self, rows: bytes | bytearray) -> bytes:
        """The index as Parquet bytes; `rows` are the record digests of all rows, packed, in the order in which they were added."""
        pa = require_pyarrow()
        import pyarrow.compute as pc
        from pyarrow import parquet

        count = len(self.keys) // 32
        keys, digests = (
            pa.Array.from_buffers(pa.binary(32), count, [None, pa.py_buffer(bytes(part))]) for part in (self.keys, rows)
        )
        order = pc.sort_indices(keys.cast(pa.binary()))
        arrays = [keys.take(order), digests.take(order)]
        arrays += [pa.concat_arrays(self._values[name]).take(order) for name in self._columns]
        about = {
            "format": FORMAT,
            "key_columns": self._key,
            "key_id": None if self._secret is None else key_id(self._secret),
            "columns": self._columns,
        }
        names = ["key", "row", *(f"c{i}" for i in range(len(self._columns)))]
        schema = pa.schema(
            [pa.field(name, array.type, nullable=False) for name, array in zip(names, arrays, strict=True)]
        )
        out = io.BytesIO()
        with parquet.ParquetWriter(
            out,
            schema,
            compression="zstd",
            use_dictionary=[name for name in names if name.startswith("c")] if self._secret is None else False,
            store_schema=False,
            write_statistics=False,
        ) as writer:
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            writer.add_key_value_metadata({"cognify": json.dumps(about, ensure_ascii=True, sort_keys=True)})
        return out.getvalue()


def _column_digests(column: pa.ChunkedArray, name: str, bound: Sequence[bytes] | None) -> pa.Array:
    """Short digests of one column's cells, in row order."""
    import pyarrow as pa

    width = PLAIN_WIDTH if bound is None else KEYED_WIDTH
    parts = []
    for start in range(0, len(column), BATCH_ROWS):
        cells = encode_cells(one_array(column.slice(start, BATCH_ROWS)), name)
        if bound is None:
            coded = cells.dictionary_encode()  # most columns hold few different values: each is hashed once
            parts.append(_short(coded.dictionary, None, width).take(coded.indices))
        else:
            parts.append(_short(cells, bound[start : start + BATCH_ROWS], width))
    return pa.concat_arrays(parts) if parts else pa.array([], pa.binary(width))


def _short(cells: pa.LargeBinaryArray, bound: Sequence[bytes] | None, width: int) -> pa.Array:
    """Short digests of cells, straight from their buffers."""
    import pyarrow as pa

    _, offsets, values = cells.buffers()
    bounds = memoryview(offsets).cast("B").cast("q")[cells.offset : cells.offset + len(cells) + 1].tolist()
    data = b"" if values is None else memoryview(values).cast("B")[: bounds[-1]].tobytes()
    spans, sha = pairwise(bounds), hashlib.sha256  # as `cell_digest` does, without a call for each cell
    if bound is None:
        made = b"".join([sha(_CELL_TAG + data[a:b]).digest()[:width] for a, b in spans])
    else:
        made = b"".join([sha(own + data[a:b]).digest()[:width] for (a, b), own in zip(spans, bound, strict=True)])
    return pa.Array.from_buffers(pa.binary(width), len(cells), [None, pa.py_buffer(made)])


def cell_digest(cell: bytes, bound: bytes | None = None) -> bytes:
    """The short digest of one value's canonical bytes.

    ``H(0x00 || "rec-cell/v1" || cell)``, first 16 bytes; keyed: ``H(record's own key || cell)``, first 8 bytes, where the
    record's own key is ``HMAC-SHA256(record key, 0x00 || "rec-cell/v1" || key digest)``.
    """
    if bound is None:
        return hashlib.sha256(_CELL_TAG + cell).digest()[:PLAIN_WIDTH]
    return hashlib.sha256(bound + cell).digest()[:KEYED_WIDTH]


def read_index(data: bytes, manifest: RecordManifest | None = None) -> RecordIndex:
    """Read an index and check that it belongs to a record manifest.

    Raises:
        ManifestError: it is damaged, of another form, or its record digests are not those of the manifest.
    """
    pa = require_pyarrow()
    import pyarrow.compute as pc
    from pyarrow import parquet

    if len(data) > MAX_INDEX_BYTES:
        raise ManifestError(f"the record index has {len(data)} bytes; the limit is {MAX_INDEX_BYTES}")
    try:
        file = parquet.ParquetFile(pa.BufferReader(data))
        table = file.read()
        about = json.loads((file.metadata.metadata or {})[b"cognify"])
        if about["format"] != FORMAT:
            raise ManifestError(f"the record index has format {about['format']!r}; this version reads {FORMAT!r}")
        columns = tuple(str(name) for name in about["columns"])
        width = PLAIN_WIDTH if about["key_id"] is None else KEYED_WIDTH
        wanted = ["key", "row", *(f"c{i}" for i in range(len(columns)))]
        kinds = [pa.binary(32), pa.binary(32), *([pa.binary(width)] * len(columns))]
        if table.column_names != wanted or any(table.column(n).null_count for n in wanted):
            raise ManifestError("the record index does not have the columns that it names")
        arrays = [one_array(table.column(name)).cast(kind) for name, kind in zip(wanted, kinds, strict=True)]
        index = RecordIndex(
            key_columns=tuple(str(name) for name in about["key_columns"]),
            key_id=about["key_id"],
            columns=columns,
            keys=arrays[0],
            rows=arrays[1],
            values=dict(zip(columns, arrays[2:], strict=True)),
        )
    except ManifestError:
        raise
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError, TableError) as exc:
        raise ManifestError(f"the record index cannot be read ({type(exc).__name__}: {str(exc)[:200]})") from exc
    ordered = index.keys.cast(pa.binary())
    if not pc.all(pc.less(ordered[:-1], ordered[1:]), min_count=0).as_py():  # true where there is nothing to compare
        raise ManifestError("the record index is not in the order of its keys, or names a record twice")
    if manifest is not None:
        own = record_root(index.rows.to_pylist(), manifest.algorithm, manifest.schema_id)
        if own != manifest.root():
            raise ManifestError("the record index holds other records than the record manifest: it was altered")
    return index
