"""Writes snapshots and overlap reports to a workspace as records, with their manifests and profiles as evidence."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.overlap.exact import OverlapReport
from cognify_dagster.datasets.snapshot import Snapshot, manifest_bytes, record_manifest_bytes
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import DatasetRef, DatasetSnapshot, ExclusionCount, OverlapChecked
from cognify_dagster.workspace import Recorded, Workspace, idempotency_key


def record_snapshot(
    workspace: Workspace,
    snapshot: Snapshot,
    *,
    run: str,
    record_key: str | None = None,
    label: str | None = None,
    change_reason: str = "",
    table: Any = None,
    observed: Mapping[str, Any] | None = None,
) -> Recorded[DatasetSnapshot]:
    """Store a snapshot's manifest and profile as evidence and append its record.

    Args:
        workspace: where to record.
        snapshot: what `take_snapshot` returned.
        run: root run id; a retry of the same run returns the entry that exists.
        record_key: column that names each record.
        label: label column.
        change_reason: why this version differs from the one before.
        table: the Arrow table itself where there is no file to point at; it is kept as Parquet evidence.
        observed: location, host and the like.

    Returns:
        The record as it stands in the ledger.
    """
    sensitivity = "personal" if snapshot.provenance.personal else "internal"
    profile = workspace.put("profile.json", canonical_json(snapshot.profile), "application/json", "internal")
    manifest = workspace.put("manifest.parquet", manifest_bytes(snapshot), "application/vnd.apache.parquet")
    records = None
    if snapshot.record_root is not None:
        body = record_manifest_bytes(snapshot)
        records = workspace.put("records.bin", body, "application/octet-stream", sensitivity)
    data = None
    if table is not None:
        data = workspace.put("table.parquet", _parquet(table), "application/vnd.apache.parquet", sensitivity)
    parent = workspace.read().latest(DatasetSnapshot, f"dataset/{snapshot.name}")
    provenance = snapshot.provenance
    record = DatasetSnapshot(
        name=snapshot.name,
        root=snapshot.root,
        data_version=snapshot.data_version,
        file_count=snapshot.file_count,
        total_bytes=snapshot.total_bytes,
        record_count=snapshot.record_count,
        record_root=snapshot.record_root,
        record_digest_key=snapshot.record_key_id,
        schema_hash=snapshot.schema_hash,
        record_key=record_key,
        label=label,
        provenance=provenance.to_dict(),
        missing_provenance=tuple(provenance.missing_mandatory()),
        exclusions=tuple(
            ExclusionCount(
                rule=rule.name,
                description=rule.description,
                rows_before=rule.rows_before,
                rows_after=rule.rows_after,
                excluded_digest=rule.excluded_digest_root or "",
            )
            for rule in provenance.processing
        ),
        parent_root=_parent_root(parent, run),
        change_reason=change_reason,
        header={key: value for key, value in snapshot.header.items() if key != "tools"},
        profile=profile,
        manifest=manifest,
        record_manifest=records,
        data=data,
        observed={
            **(observed or {}),
            "location": snapshot.location,
            "run": run,
            # an upgrade between two attempts must not turn a retry into a conflict
            "tools": snapshot.header.get("tools", {}),
        },
    )
    receipt = workspace.append(record, idem=idempotency_key("dataset_snapshot", snapshot.name, run, snapshot.root))
    return next(
        item for item in workspace.read().all(DatasetSnapshot, f"dataset/{snapshot.name}") if item.seq == receipt.seq
    )


def _parent_root(parent: Recorded[DatasetSnapshot] | None, run: str) -> str | None:
    """The root before this one; on a retry of the same run that is the parent of the entry already written."""
    if parent is None:
        return None
    if parent.record.observed.get("run") == run:
        return parent.record.parent_root
    return parent.record.root


def _parquet(table: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    sink = pa.BufferOutputStream()
    pq.write_table(table, sink, compression="zstd")
    return bytes(sink.getvalue())


def record_overlap(
    workspace: Workspace,
    train: Recorded[DatasetSnapshot],
    holdout: Recorded[DatasetSnapshot],
    report: OverlapReport,
    *,
    ignored: tuple[str, ...],
    run: str,
) -> int:
    """Append the result of comparing two snapshots; return the entry's sequence number."""
    record = OverlapChecked(
        train=dataset_ref(train, "train"),
        holdout=dataset_ref(holdout, "holdout"),
        level=report.level,
        compared_columns=report.compared_columns,
        ignored_columns=ignored,
        overlapping_records=report.overlap_holdout,
        passed=report.overlap_holdout == 0,
        detail={
            "holdout_rows": report.holdout_count,
            "train_rows": report.train_count,
            "distinct": report.overlap_distinct,
            "digest": report.digest,
        },
    )
    return workspace.append(record, idem=idempotency_key("overlap_checked", train.leaf, holdout.leaf, run)).seq


def dataset_ref(item: Recorded[DatasetSnapshot], role: str) -> DatasetRef:
    """Return the reference by which other records name a snapshot."""
    return DatasetRef.model_validate(
        {"name": item.record.name, "root": item.record.root, "seq": item.seq, "role": role}
    )


def require_snapshot(workspace: Workspace, name: str) -> Recorded[DatasetSnapshot]:
    """Return the newest snapshot of a dataset.

    Raises:
        DatasetError: if it was never snapshotted.
    """
    found = workspace.read().latest(DatasetSnapshot, f"dataset/{name}")
    if found is None:
        raise DatasetError(f"dataset {name!r} was never snapshotted; materialize its snapshot asset first")
    return found
