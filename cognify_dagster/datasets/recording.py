"""Writes snapshots and overlap reports to a workspace as records, with their manifests and profiles as evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cognify_dagster.datasets.compare.snapshots import SnapshotDiff, diff_digest, diff_snapshots
from cognify_dagster.datasets.errors import DatasetError
from cognify_dagster.datasets.overlap.exact import OverlapReport
from cognify_dagster.datasets.provenance import Provenance
from cognify_dagster.datasets.snapshot import (
    Snapshot,
    manifest_bytes,
    observations_bytes,
    record_manifest_bytes,
)
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    DEFAULT_OVERLAP_CHECK,
    CodeRef,
    DatasetDiffRecorded,
    DatasetRef,
    DatasetSnapshot,
    ExclusionCount,
    OverlapChecked,
    QualityCheck,
    SourceRef,
)
from cognify_dagster.records.dataset_acts import change_bounds
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key


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
    author: str = "",
    touched_by: Sequence[str] = (),
    unattributed: Sequence[str] = (),
    code: CodeRef | None = None,
    sources: Sequence[SourceRef] = (),
    quality: Sequence[QualityCheck] = (),
    verified: Mapping[str, str] | None = None,
    manifest_file: Path | None = None,
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
        author: who had it taken: person id or "unattributed"; empty where nobody can say.
        touched_by: people who launched the run or wrote its code.
        unattributed: launchers and authors that map to nobody.
        code: the pipeline's code.
        sources: what the data was made from; those of the provenance are added.
        quality: results of data-quality checks, see `cognify_dagster.datasets.quality.run_quality`.
        verified: what each exclusion rule was checked against, see `cognify_dagster.datasets.exclusions.check_exclusions`.
        manifest_file: the file manifest of a snapshot that was taken in steps (see `.scale`); there is then no sidecar manifest.

    Returns:
        The record as it stands in the ledger. What the first attempt of a run recorded about who, code, sources and checks stands
        for its retries too.
    """
    sensitivity = "personal" if snapshot.provenance.personal else "internal"
    profile = workspace.put("profile.json", canonical_json(snapshot.profile), "application/json", "internal")
    listed = manifest_file if manifest_file is not None else manifest_bytes(snapshot)
    manifest = workspace.put("manifest.parquet", listed, "application/vnd.apache.parquet")
    records = None
    if snapshot.record_root is not None:
        body = record_manifest_bytes(snapshot)
        records = workspace.put("records.bin", body, "application/octet-stream", sensitivity)
    index = None
    if snapshot.record_index:
        index = workspace.put(
            "record-index.parquet", snapshot.record_index, "application/vnd.apache.parquet", sensitivity
        )
    data = None
    if table is not None:
        data = workspace.put("table.parquet", _parquet(table), "application/vnd.apache.parquet", sensitivity)
    held = snapshots_of(workspace.read(), snapshot.name)
    parent = held[-1] if held else None
    earlier = next(
        (i.record for i in held if (i.record.observed.get("run"), i.record.root) == (run, snapshot.root)), None
    )
    provenance = snapshot.provenance
    made: dict[str, Any] = {
        "author": author,
        "touched_by": tuple(touched_by),
        "unattributed": tuple(unattributed),
        "code": code,
        "sources": _sources(provenance, sources),
        "quality": tuple(quality),
    }
    if earlier is not None:
        made = {name: getattr(earlier, name) for name in made}
    header = {key: value for key, value in snapshot.header.items() if key != "tools"}
    observations = None
    if snapshot.file_count and manifest_file is None:
        body = observations_bytes(snapshot)
        observations = workspace.put("observations.parquet", body, "application/vnd.apache.parquet", "internal")
    if earlier is not None:  # a retry finds the files in the index that its first attempt read
        header["evidence"] = earlier.header.get("evidence", header["evidence"])
        observations = earlier.observations
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
                verified=(verified or {}).get(rule.name, ""),
            )
            for rule in provenance.processing
        ),
        parent_root=_parent_root(parent, run),
        change_reason=change_reason,
        header=header,
        profile=profile,
        manifest=manifest,
        record_manifest=records,
        data=data,
        record_index=index,
        observations=observations,
        unjustified_columns=_unjustified(snapshot),
        **made,
        observed={
            **snapshot.observed,
            **(observed or {}),
            "location": snapshot.location,
            "run": run,
            # an upgrade between two attempts must not turn a retry into a conflict
            "tools": snapshot.header.get("tools", {}),
        },
    )
    receipt = workspace.append(record, idem=idempotency_key("dataset_snapshot", snapshot.name, run, snapshot.root))
    found = workspace.read().find(DatasetSnapshot, receipt.seq)
    if found is None:
        raise DatasetError(f"snapshot entry {receipt.seq} cannot be read back; run `cognify ledger verify`")
    return found


def snapshots_of(reading: Reading, name: str) -> list[Recorded[DatasetSnapshot]]:
    """Return the snapshots of exactly this dataset or partition, oldest first."""
    return [item for item in reading.all(DatasetSnapshot, f"dataset/{name}") if item.record.name == name]


def _sources(provenance: Provenance, given: Sequence[SourceRef]) -> tuple[SourceRef, ...]:
    return tuple(dict.fromkeys([*provenance.sources, *given]))


_MAX_COLUMNS = 500


def _unjustified(snapshot: Snapshot) -> tuple[str, ...]:
    """Columns without a stated purpose; of very wide tables the first 500, and how many more there are."""
    columns = [str(item[0]) for item in snapshot.header.get("schema") or ()]
    found = snapshot.provenance.unjustified_columns(columns)
    more = [f"… and {len(found) - _MAX_COLUMNS} more"] if len(found) > _MAX_COLUMNS else []
    return (*found[:_MAX_COLUMNS], *more)


def record_diff(workspace: Workspace, name: str, seq: int, *, check: bool = False) -> Recorded[DatasetDiffRecorded]:
    """Record what the change that brought a snapshot's root consists of; what is on record already is returned.

    Args:
        workspace: where the snapshots and their evidence are.
        name: the dataset, with its partition.
        seq: the entry of the snapshot.
        check: compute the difference also where one is on record, and compare.

    Raises:
        DatasetError: if the entry is no such snapshot, or the difference on record is another one than that of the snapshots.
    """
    reading = workspace.read()
    held = snapshots_of(reading, name)
    place = next((number for number, item in enumerate(held) if item.seq == seq), None)
    if place is None:
        raise DatasetError(f"entry {seq} is no snapshot of dataset {name!r}")
    start, end = change_bounds([item.record.root for item in held], place)
    old, new, seqs = held[start - 1] if start else None, held[start], {item.seq for item in held[start:end]}
    old_root = old.record.root if old is not None else None
    known = [
        item
        for item in reading.all(DatasetDiffRecorded, f"dataset/{name}")
        if (item.record.name, item.record.old_root) == (name, old_root) and item.record.new_seq in seqs
    ]
    if known and not check:
        return known[-1]
    diff = diff_snapshots(workspace, old, new)
    digest = diff_digest(diff)
    if known:
        if known[-1].record.diff_digest != digest:
            raise DatasetError(
                f"dataset {name}: entry {known[-1].seq} records the difference {known[-1].record.diff_digest[:19]}…, but the two "
                f"snapshots (entries {old.seq if old else '–'} and {new.seq}) have {digest[:19]}…; do not approve it"
            )
        return known[-1]
    report = workspace.put(
        "diff.json", canonical_json(diff.to_dict()), "application/json", "personal" if diff.personal else "internal"
    )
    record = DatasetDiffRecorded(
        name=name,
        old_root=old_root,
        new_root=new.record.root,
        old_seq=old.seq if old is not None else None,
        new_seq=new.seq,
        diff_digest=digest,
        summary=diff_summary(diff),
        report=report,
    )
    before = old.leaf if old is not None else "none"
    receipt = workspace.append(record, idem=idempotency_key("dataset_diff_recorded", before, new.leaf))
    found = workspace.read().find(DatasetDiffRecorded, receipt.seq)
    if found is None:
        raise DatasetError(f"entry {receipt.seq} cannot be read back; run `cognify ledger verify`")
    return found


def diff_summary(diff: SnapshotDiff) -> dict[str, Any]:
    """Return the counts of a difference and a sentence, without any value of a record."""
    counts: dict[str, Any] = {
        "files": {
            "added": diff.files.added,
            "removed": diff.files.removed,
            "changed": diff.files.changed,
            "unchanged": diff.files.unchanged,
        },
        "columns": {
            "added": len(diff.schema.added),
            "removed": len(diff.schema.removed),
            "changed": len(diff.schema.retyped),
        },
    }
    if diff.keyed.compared:
        counts["records"] = {"added": diff.keyed.added, "removed": diff.keyed.removed, "changed": diff.keyed.changed}
    elif diff.records.compared:
        counts["records"] = {
            "added": diff.records.added,
            "removed": diff.records.removed,
            "unchanged": diff.records.unchanged,
        }
    return {"text": diff.summary, **counts}


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
    check: str = DEFAULT_OVERLAP_CHECK,
) -> int:
    """Append the result of comparing two snapshots; return the entry's sequence number.

    `check` names the check; where several compare the same snapshots, the newest of each name counts.
    """
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
        check="" if check == DEFAULT_OVERLAP_CHECK else check,
    )
    named = () if check == DEFAULT_OVERLAP_CHECK else (check,)  # without a name the key is as it always was
    return workspace.append(record, idem=idempotency_key("overlap_checked", train.leaf, holdout.leaf, run, *named)).seq


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
