"""Compares two recorded snapshots: what is read is what was recorded, or the comparison is refused.

Invariants: each file is hashed as it is read, against the manifest in evidence, so nothing can be swapped between check and
reading; a table file that the manifest does not know, or that is gone, ends the comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cognify_dagster.datasets.errors import DatasetError, SourceChangedError
from cognify_dagster.datasets.manifest import read_file_manifest
from cognify_dagster.datasets.overlap.levels import OverlapOptions, check_overlap
from cognify_dagster.datasets.overlap.reading import table_batches
from cognify_dagster.datasets.overlap.report import OverlapFindings
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Recorded, Workspace

if TYPE_CHECKING:
    import pyarrow as pa


def compare_snapshots(
    workspace: Workspace,
    train: Recorded[DatasetSnapshot],
    holdout: Recorded[DatasetSnapshot],
    options: OverlapOptions | None = None,
) -> OverlapFindings:
    """Find the records of one snapshot that also stand in another; digests are keyed if those of either snapshot are.

    Raises:
        SourceChangedError: the data of a snapshot are not what was recorded.
        DatasetError: as for `check_overlap`.
    """
    keyed = bool(train.record.record_digest_key or holdout.record.record_digest_key)
    return check_overlap(
        snapshot_batches(workspace, holdout),
        snapshot_batches(workspace, train),
        options,
        key=workspace.record_key() if keyed else None,
        roots=(holdout.record.root, train.record.root),
    )


def snapshot_batches(workspace: Workspace, recorded: Recorded[DatasetSnapshot]) -> Iterator[pa.Table]:
    """Read a recorded snapshot's table in batches, checking every file against the recorded manifest.

    Raises:
        SourceChangedError: naming what differs.
        DatasetError: the snapshot is no table.
    """
    record = recorded.record
    if record.data is not None:  # the table itself lies in the evidence store, under its digest
        import pyarrow as pa
        from pyarrow import parquet

        data = workspace.evidence.get(record.data.digest)
        yield from table_batches(parquet.read_table(pa.BufferReader(data)))
        return
    if record.record_count is None:
        raise DatasetError(f"dataset {record.name!r} was recorded as files only, so it has no records to compare")
    leaves = {leaf.path: leaf for leaf in read_file_manifest(workspace.evidence.get(record.manifest.digest))}
    location = str(record.observed.get("location", ""))
    ignore = record.header.get("params", {}).get("ignore", [])
    try:
        yield from table_batches(location, ignore=ignore, leaves=leaves)
    except SourceChangedError as error:
        raise SourceChangedError(
            f"dataset {record.name}: {str(error).partition(';')[0]}. It is not the data of snapshot entry {recorded.seq}; restore it, or take a new "
            "snapshot"
        ) from error
