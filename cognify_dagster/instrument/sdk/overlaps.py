"""Compares training and evaluation data where nobody has yet, as far as that can be done without asking for the data again.

Invariant: a comparison that cannot be made is refused with the command that makes it; it never passes for one that found nothing.
"""

from __future__ import annotations

import os

from cognify_dagster.datasets import DatasetError
from cognify_dagster.datasets.compare.records import diff_record_manifests
from cognify_dagster.datasets.overlap.levels import OverlapOptions
from cognify_dagster.datasets.overlap.recording import record_findings
from cognify_dagster.datasets.overlap.snapshots import compare_snapshots
from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.datasets.records.digests import unpack_records
from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.evaluation.recording import overlap_of
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.records import DatasetRef, DatasetSnapshot, OverlapChecked
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

CHECK = "cognify sdk"
LEVEL = "exact record digests"
_MAX_BYTES = 2 * 1024**3


def ensure_overlaps(
    workspace: Workspace, trained_on: tuple[DatasetRef, ...], holdout: DatasetRef, run: str
) -> list[int]:
    """Compare an evaluation snapshot with each training snapshot that it was never compared with; return the new entries.

    Raises:
        EvaluationError: a comparison can be made neither from evidence nor from data at hand; it names the command.
    """
    reading = workspace.read()
    made = []
    for ref in trained_on:
        if overlap_of(reading, [ref], holdout.root):
            continue
        train, held = _snapshot(reading, ref), _snapshot(reading, holdout)
        seq = _by_digests(workspace, train, held, run) or _by_tables(workspace, train, held, run)
        if seq is None:
            left_out = f" --ignore {','.join(_left_out(train, held))}" if _left_out(train, held) else ""
            raise EvaluationError(
                f"{holdout.name} was never compared with the training data {ref.name}, and the ledger's evidence is not enough to do it "
                f"now: run `cognify dataset overlap {ref.name} {holdout.name}{left_out} --record` where both lie"
            )
        made.append(seq)
    return made


def _snapshot(reading: Reading, ref: DatasetRef) -> Recorded[DatasetSnapshot]:
    found = reading.find(DatasetSnapshot, ref.seq)
    if found is None or found.record.root != ref.root:
        raise EvaluationError(f"{ref.name}: entry {ref.seq} is no snapshot of it with root {ref.root[:16]}…")
    return found


def _by_digests(
    workspace: Workspace, train: Recorded[DatasetSnapshot], held: Recorded[DatasetSnapshot], run: str
) -> int | None:
    """Compare the recorded record digests; only where no column names each record, since such digests never meet."""
    sides = (train.record, held.record)
    if any(side.record_manifest is None or _keys(side) for side in sides):
        return None
    if sides[0].record_digest_key != sides[1].record_digest_key:
        return None
    try:
        before, after = (
            unpack_records(workspace.evidence.get(side.record_manifest.digest))
            for side in sides
            if side.record_manifest
        )
        found = diff_record_manifests(before, after)
    except (DatasetError, EvidenceError):
        return None
    record = OverlapChecked(
        train=dataset_ref(train, "train"),
        holdout=dataset_ref(held, "holdout"),
        level=LEVEL,
        compared_columns=tuple(_columns(held.record)),
        ignored_columns=(),
        overlapping_records=found.unchanged,
        passed=found.unchanged == 0,
        detail={
            "holdout_rows": len(after.digests),
            "train_rows": len(before.digests),
            "digest": after.algorithm.name.lower(),
        },
        check=CHECK,
    )
    return workspace.append(record, idem=idempotency_key("overlap_checked", train.leaf, held.leaf, run, CHECK)).seq


def _by_tables(
    workspace: Workspace, train: Recorded[DatasetSnapshot], held: Recorded[DatasetSnapshot], run: str
) -> int | None:
    """Compare the data themselves where they are at hand and not too large; each file is hashed against its manifest first."""
    if not all(_at_hand(item.record) for item in (train, held)):
        return None
    options = OverlapOptions(levels=("exact", "normalised"), ignore=tuple(_left_out(train, held)))
    try:
        findings = compare_snapshots(workspace, train, held, options)
    except (DatasetError, EvidenceError, OSError):
        return None
    return record_findings(workspace, train, held, findings, check=CHECK, run=run)


def _at_hand(record: DatasetSnapshot) -> bool:
    if record.total_bytes > _MAX_BYTES or record.record_count is None:
        return False
    return record.data is not None or os.path.exists(str(record.observed.get("location", "")))


def _left_out(train: Recorded[DatasetSnapshot], held: Recorded[DatasetSnapshot]) -> list[str]:
    """Key and label columns of either snapshot, as far as both have them."""
    sides = (train.record, held.record)
    common = set(_columns(sides[0])) & set(_columns(sides[1]))
    named = [name for side in sides for name in (*_keys(side), *([side.label] if side.label else []))]
    return [name for name in dict.fromkeys(named) if name in common]


def _keys(record: DatasetSnapshot) -> list[str]:
    listed = (record.header.get("records") or {}).get("key_columns") or ()
    return [str(name) for name in listed] or ([record.record_key] if record.record_key else [])


def _columns(record: DatasetSnapshot) -> list[str]:
    return [str(item[0]) for item in record.header.get("schema") or ()]
