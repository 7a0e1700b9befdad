"""Taking the records of a snapshot, from a table in memory or from a stream of batches.

Invariants:
    * Both ways give the same digests, index and schema; a stream keeps 32 bytes of a record (64 with a record key) and what
      its profile and index need, not the table.
    * Personal data is digested with a key; messages about its keys name rows, never values.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cognify_dagster.datasets.errors import DatasetError, SourceError
from cognify_dagster.datasets.profile.statistics import profile_table, schema_hash, schema_list
from cognify_dagster.datasets.profile.streaming import profile_batches
from cognify_dagster.datasets.provenance import Provenance
from cognify_dagster.datasets.records.collecting import RecordCollector
from cognify_dagster.datasets.records.digests import RecordSet, check_record_key, record_set
from cognify_dagster.datasets.records.index import record_index
from cognify_dagster.datasets.sources.streaming import TableStream


@dataclass(frozen=True)
class TakenRecords:
    """The records of a snapshot.

    Attributes:
        digests: their digests.
        schema: name, type and nullability of each column.
        schema_hash: SHA-256 of the schema in hex.
        profile: statistics.
        format: csv, parquet, jsonl or table.
        index: digests by record key and column, empty without a record key.
    """

    digests: RecordSet
    schema: list[list[Any]]
    schema_hash: str
    profile: dict[str, Any]
    format: str
    index: bytes


def take_records(
    table: Any,
    fmt: str,
    where: str,
    provenance: Provenance,
    keys: list[str],
    label: str | None,
    group_columns: Sequence[str],
    secret: bytes | None,
) -> TakenRecords:
    """Digest and profile a table or a :class:`TableStream`.

    Raises:
        SourceError: there are no records.
        DuplicateKeyError: two records have the same key, or one has none.
        TableError: a column is missing or cannot be digested.
        DatasetError: the provenance's counts do not fit.
    """
    if isinstance(table, TableStream):
        return _take_stream(table, fmt, where, provenance, keys, label, group_columns, secret)
    _check_count(table.num_rows, where, provenance)
    if keys:
        check_record_key(table, keys, personal=provenance.personal)
    schema = schema_list(table)
    digests = record_set(table, key=secret)
    profile = profile_table(table, label=label, group_columns=group_columns, personal=provenance.personal, hidden=keys)
    index = record_index(table, keys, digests.digests, secret) if keys else b""
    return TakenRecords(digests, schema, schema_hash(schema), profile, fmt, index)


def _take_stream(
    stream: TableStream,
    fmt: str,
    where: str,
    provenance: Provenance,
    keys: list[str],
    label: str | None,
    group_columns: Sequence[str],
    secret: bytes | None,
) -> TakenRecords:
    with contextlib.closing(RecordCollector(keys, secret)) as collector:
        return _collect(collector, stream, fmt, where, provenance, keys, label, group_columns)


def _collect(
    collector: RecordCollector,
    stream: TableStream,
    fmt: str,
    where: str,
    provenance: Provenance,
    keys: list[str],
    label: str | None,
    group_columns: Sequence[str],
) -> TakenRecords:
    batches = collector.watch(stream.batches())
    first = next(batches, None)
    if first is None:
        _check_count(0, where, provenance)
        raise SourceError(f"source {where} holds no records; a dataset cannot be empty")

    def again() -> Any:
        yield first
        yield from batches

    profile = profile_batches(
        again(), label=label, group_columns=group_columns, personal=provenance.personal, hidden=keys
    )
    _check_count(collector.rows, where, provenance)
    digests, index = collector.finish()
    schema = schema_list(stream.schema.empty_table())
    return TakenRecords(digests, schema, schema_hash(schema), profile, fmt, index)


def _check_count(rows: int, where: str, provenance: Provenance) -> None:
    if rows == 0:
        raise SourceError(f"source {where} holds no records; a dataset cannot be empty")
    rules = provenance.processing
    if rules and rules[-1].rows_after != rows:
        raise DatasetError(
            f"the last processing rule {rules[-1].name!r} kept {rules[-1].rows_after} rows, but source {where} holds "
            f"{rows}; record every step that left rows out, the split too"
        )
