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

_NO_RECORDS = "source {} holds no records; a dataset cannot be empty"


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


@dataclass(frozen=True)
class Wanted:
    """What to take the records with.

    Attributes:
        where: the source, for messages.
        provenance: says whether the data is personal, and the counts that its processing left.
        keys: columns that name each record.
        label: label column.
        group_columns: columns to count groups by.
        secret: the key of the digests, for personal data.
    """

    where: str
    provenance: Provenance
    keys: Sequence[str] = ()
    label: str | None = None
    group_columns: Sequence[str] = ()
    secret: bytes | None = None

    def profile(self) -> dict[str, Any]:
        """The settings of the profile."""
        return {
            "label": self.label,
            "group_columns": self.group_columns,
            "personal": self.provenance.personal,
            "hidden": self.keys,
        }


def take_records(table: Any, fmt: str, wanted: Wanted) -> TakenRecords:
    """Digest and profile a table or a :class:`TableStream`.

    Raises:
        SourceError: there are no records.
        DuplicateKeyError: two records have the same key, or one has none.
        TableError: a column is missing or cannot be digested.
        DatasetError: the provenance's counts do not fit.
    """
    if isinstance(table, TableStream):
        with contextlib.closing(RecordCollector(list(wanted.keys), wanted.secret)) as collector:
            return _collect(collector, table, fmt, wanted)
    _check_count(table.num_rows, wanted)
    keys = list(wanted.keys)
    if keys:
        check_record_key(table, keys, personal=wanted.provenance.personal)
    schema = schema_list(table)
    digests = record_set(table, key=wanted.secret)
    profile = profile_table(table, **wanted.profile())
    index = record_index(table, keys, digests.digests, wanted.secret) if keys else b""
    return TakenRecords(digests, schema, schema_hash(schema), profile, fmt, index)


def _collect(collector: RecordCollector, stream: TableStream, fmt: str, wanted: Wanted) -> TakenRecords:
    batches = collector.watch(stream.batches())
    first = next(batches, None)
    if first is None:
        raise SourceError(_NO_RECORDS.format(wanted.where))

    def again() -> Any:
        yield first
        yield from batches

    profile = profile_batches(again(), **wanted.profile())
    _check_count(collector.rows, wanted)
    digests, index = collector.finish()
    schema = schema_list(stream.schema.empty_table())
    return TakenRecords(digests, schema, schema_hash(schema), profile, fmt, index)


def _check_count(rows: int, wanted: Wanted) -> None:
    if rows == 0:
        raise SourceError(_NO_RECORDS.format(wanted.where))
    rules = wanted.provenance.processing
    if rules and rules[-1].rows_after != rows:
        raise DatasetError(
            f"the last processing rule {rules[-1].name!r} kept {rules[-1].rows_after} rows, but source {wanted.where} holds "
            f"{rows}; record every step that left rows out, the split too"
        )
