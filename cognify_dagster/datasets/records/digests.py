"""Record digests and the record root of a table.

Invariants:
    * A record digest covers the names of the compared columns and the typed value of each, in name order.
    * The record root depends on the multiset of digests, not on row order, file boundaries or parallelism.
    * With a key the digests are HMAC-SHA256 over the same bytes: without the key nobody can test whether a guessed
      person is in the data. Messages then name rows only, never values.

The byte layout is described in ``docs/dataset-format.md``.
"""

from __future__ import annotations

import hmac
import struct
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

from cognify_dagster.datasets.errors import DatasetError, DuplicateKeyError, ManifestError, TableError
from cognify_dagster.datasets.records.cells import encode_cells, require_pyarrow
from cognify_dagster.datasets.records.helping import HELPED_ROWS, RowHasher
from cognify_dagster.datasets.records.packed import PackedDigests, is_sorted, packed_root, sort_packed
from cognify_dagster.datasets.tree import sha256

if TYPE_CHECKING:
    import pyarrow as pa

KEY_BYTES = 32
"""Length of a record key, in bytes."""
BATCH_ROWS = 65_536

_RECORD_TAG = b"\x00rec/v1"
_ROOT_TAG = b"\x02cognify/records/v1"
_SCHEMA_TAG = b"\x02cognify/rec-schema/v1"
_KEY_ID_TAG = b"cognify/rec-key-id/v1"
_MAGIC = b"CGFYREC1"


class RecordDigestAlgorithm(IntEnum):
    """How record digests were made."""

    SHA256 = 1
    HMAC_SHA256 = 2

    @property
    def label(self) -> str:
        """The name used in headers and documents."""
        return "sha256" if self is RecordDigestAlgorithm.SHA256 else "hmac-sha256"

    @classmethod
    def from_label(cls, label: str) -> RecordDigestAlgorithm:
        """The algorithm with this label.

        Raises:
            DatasetError: there is none.
        """
        for algorithm in cls:
            if algorithm.label == label:
                return algorithm
        raise DatasetError(f"unknown record digest algorithm {label!r}; known: sha256, hmac-sha256")


def schema_id(columns: Sequence[str]) -> bytes:
    """What a record digest says about its columns: their names (types are in the cells).

    ``H(0x02 || "cognify/rec-schema/v1" || u32 count || for each, sorted by UTF-8 bytes: u32 length || UTF-8)``.
    """
    names = sorted(name.encode() for name in columns)
    return sha256(_SCHEMA_TAG + struct.pack(">I", len(names)) + b"".join(struct.pack(">I", len(n)) + n for n in names))


def key_id(key: bytes) -> str:
    """A public name for a record key, from which the key cannot be found: 16 hex digits."""
    return hmac.digest(_checked_key(key), _KEY_ID_TAG, "sha256")[:8].hex()


def _checked_key(key: bytes) -> bytes:
    if not isinstance(key, bytes) or len(key) != KEY_BYTES:
        raise DatasetError(
            f"a record key has to be {KEY_BYTES} bytes from a secure random source (secrets.token_bytes)"
        )
    return key


def record_root_from(merkle: bytes, count: int, algorithm: RecordDigestAlgorithm, schema: bytes) -> bytes:
    """The record root over a finished tree.

    ``H(0x02 || "cognify/records/v1" || u8 algorithm || schema id || u64 count || RFC 6962 root of the sorted digests)``.
    """
    if len(schema) != 32 or len(merkle) != 32:
        raise DatasetError("a record root needs a schema id and a tree root of 32 bytes")
    return sha256(_ROOT_TAG + struct.pack(">B", algorithm) + schema + struct.pack(">Q", count) + merkle)


def record_root(digests: Sequence[bytes], algorithm: RecordDigestAlgorithm, schema: bytes) -> bytes:
    """The record root of digests in any order, each as often as it occurs; no digests is a defined case."""
    ordered = digests if isinstance(digests, PackedDigests) and is_sorted(digests) else sort_packed(digests)
    return record_root_from(packed_root(ordered), len(digests), algorithm, schema)


@dataclass(frozen=True)
class RecordSet:
    """The record digests of one table.

    Attributes:
        columns: names of the columns that the digests cover, sorted by UTF-8 bytes.
        algorithm: SHA-256, or HMAC-SHA256 when a key was given.
        schema_id: 32 bytes, see :func:`schema_id`.
        digests: 32 bytes for each row, in row order.
    """

    columns: tuple[str, ...]
    algorithm: RecordDigestAlgorithm
    schema_id: bytes
    digests: Sequence[bytes] = field(repr=False)

    def sorted_digests(self) -> PackedDigests:
        """The digests in tree order."""
        return sort_packed(self.digests)

    def root(self) -> bytes:
        """The record root."""
        return record_root(self.digests, self.algorithm, self.schema_id)


def record_set(table: pa.Table, columns: Sequence[str] | None = None, key: bytes | None = None) -> RecordSet:
    """Digest every row of a table.

    Args:
        table: an Arrow table.
        columns: the columns to cover; all when left out.
        key: 32 secret bytes for HMAC-SHA256; needed for personal data.

    Raises:
        TableError: no columns, two columns of one name, an unknown column, or a type without canonical bytes.
        DatasetError: the key does not have 32 bytes.
    """
    names = select_columns(table, columns)
    schema = schema_id(names)
    secret = _checked_key(key) if key is not None else None
    algorithm = RecordDigestAlgorithm.SHA256 if secret is None else RecordDigestAlgorithm.HMAC_SHA256
    hasher = RowHasher(secret, helped=table.num_rows >= HELPED_ROWS)
    try:
        waiting: deque[Callable[[], bytes]] = deque()
        packed = bytearray()
        for bounds, data in encoded_rows(table, names):
            waiting.append(hasher.submit(bounds, data))
            if len(waiting) > 2:
                packed += waiting.popleft()()
        for pending in waiting:
            packed += pending()
    finally:
        hasher.close()
    return RecordSet(tuple(names), algorithm, schema, list(PackedDigests(packed)))


def record_digests(table: pa.Table, columns: Sequence[str] | None = None, key: bytes | None = None) -> list[bytes]:
    """The digest of every row, in row order; arguments and errors as :func:`record_set`."""
    return list(record_set(table, columns, key).digests)


def select_columns(table: pa.Table, columns: Sequence[str] | None) -> list[str]:
    """The wanted columns of a table, sorted by UTF-8 bytes.

    Raises:
        TableError: no columns, two columns of one name, or an unknown column.
    """
    names = list(table.column_names)
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise TableError(f"column name {twice[0]!r} occurs twice; rename one of the columns")
    wanted = names if columns is None else list(dict.fromkeys(columns))
    unknown = [name for name in wanted if name not in names]
    if unknown:
        raise TableError(f"there is no column {unknown[0]!r}; the columns are {', '.join(names)}")
    if not wanted:
        raise TableError("a record needs at least one column")
    return sorted(wanted, key=str.encode)


def encoded_rows(table: pa.Table, names: Sequence[str]) -> Iterator[tuple[memoryview, memoryview]]:
    """For each batch: row bounds (int64) and the bytes of its rows, what record digests are made of.

    Args:
        table: the table.
        names: its columns to cover, sorted by UTF-8 bytes.
    """
    prefix = _RECORD_TAG + schema_id(names)
    pa = require_pyarrow()
    import pyarrow.compute as pc

    empty, head = pa.scalar(b"", pa.large_binary()), pa.scalar(prefix, pa.large_binary())
    picked = table.select(list(names))
    for start in range(0, picked.num_rows, BATCH_ROWS):
        part = picked.slice(start, BATCH_ROWS)
        cells = [encode_cells(one_array(part.column(name)), name) for name in names]
        rows = pc.binary_join_element_wise(head, *cells, empty)
        _, bounds, data = rows.buffers()
        view = memoryview(bounds).cast("B").cast("q")[rows.offset : rows.offset + len(rows) + 1]
        yield view, memoryview(data).cast("B")


def one_array(column: pa.ChunkedArray) -> pa.Array:
    import pyarrow as pa

    if column.num_chunks == 1:
        return column.chunk(0)
    if pa.types.is_dictionary(column.type):  # chunks may have dictionaries of their own
        column = column.cast(column.type.value_type)
    return pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)


def check_record_key(table: pa.Table, columns: Sequence[str], *, personal: bool) -> None:
    """Check that the key columns name each record once.

    Args:
        table: the table.
        columns: key columns.
        personal: leave values out of messages.

    Raises:
        DuplicateKeyError: two rows have the same key, or a row has an empty one. Row indices count from 0.
        TableError: a key column does not exist.
    """
    names = select_columns(table, list(columns))
    for name in names:
        column = table.column(name)
        if column.null_count:
            row = column.is_null().to_pylist().index(True)
            raise DuplicateKeyError(
                f"record key {name!r} is empty in row {row} (counted from 0); every record needs a key"
            )
    seen: dict[bytes, int] = {}
    for row, digest in enumerate(record_digests(table, names)):
        first = seen.setdefault(digest, row)
        if first != row:
            values = "" if personal else " = " + ", ".join(str(table.column(name)[row].as_py()) for name in names)
            raise DuplicateKeyError(
                f"record key {', '.join(names)}{values} occurs in rows {first} and {row} (counted from 0); "
                "remove one of them or choose another key"
            )


# --- the packed record manifest ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class RecordManifest:
    """The sorted record digests of a snapshot, as kept in evidence."""

    algorithm: RecordDigestAlgorithm
    schema_id: bytes
    digests: Sequence[bytes] = field(repr=False)

    def root(self) -> bytes:
        """The record root that these digests give."""
        return record_root(self.digests, self.algorithm, self.schema_id)


def pack_records(algorithm: RecordDigestAlgorithm, schema: bytes, digests: bytes) -> bytes:
    """Record manifest bytes: ``"CGFYREC1" || u8 algorithm || schema id || u64 count || sorted digests``."""
    if len(schema) != 32 or len(digests) % 32:
        raise DatasetError("a record manifest holds a 32-byte schema id and 32-byte digests")
    return _MAGIC + struct.pack(">B", algorithm) + schema + struct.pack(">Q", len(digests) // 32) + digests


def unpack_records(data: bytes) -> RecordManifest:
    """Read a record manifest.

    Raises:
        ManifestError: the bytes are cut, not sorted, or of another format.
    """
    head = len(_MAGIC) + 1 + 32 + 8
    if data[: len(_MAGIC)] != _MAGIC or len(data) < head:
        raise ManifestError("this is not a record manifest of version 1")
    try:
        algorithm = RecordDigestAlgorithm(data[len(_MAGIC)])
    except ValueError as exc:
        raise ManifestError(
            f"the record manifest names digest algorithm {data[len(_MAGIC)]}, which is unknown"
        ) from exc
    (count,) = struct.unpack(">Q", data[head - 8 : head])
    if len(data) != head + 32 * count:
        raise ManifestError(f"the record manifest says {count} records but holds {len(data) - head} bytes; it is cut")
    digests = PackedDigests(memoryview(data)[head:])
    if not is_sorted(digests):
        raise ManifestError("the record manifest is not sorted")
    return RecordManifest(algorithm, data[len(_MAGIC) + 1 : head - 8], digests)
