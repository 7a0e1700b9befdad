"""Writes what a comparison of two snapshots found to a workspace: the whole report as evidence, its summary as a record."""

from __future__ import annotations

from cognify_dagster.datasets.overlap.report import SHOWN, SHOWN_ROWS, OverlapFindings
from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import DEFAULT_OVERLAP_CHECK, DatasetSnapshot, OverlapChecked, OverlapLevel
from cognify_dagster.workspace import Recorded, Workspace, idempotency_key

_MATCHES = 10_000


def record_findings(
    workspace: Workspace,
    train: Recorded[DatasetSnapshot],
    holdout: Recorded[DatasetSnapshot],
    findings: OverlapFindings,
    *,
    check: str = DEFAULT_OVERLAP_CHECK,
    run: str,
) -> int:
    """Append the result of comparing two snapshots level by level; return the entry's sequence number.

    The record names digests and rows of at most 20 holdout records a level; the report in evidence of at most 10,000.

    Args:
        workspace: where to record.
        train, holdout: the snapshots that were compared.
        findings: what was found.
        check: name of the check; where several compare the same snapshots, the newest of each name counts.
        run: root run id; a retry of the same run returns the entry that exists.
    """
    keyed = train.record.record_digest_key or holdout.record.record_digest_key
    report = workspace.put(
        "overlap.json",
        canonical_json(findings.to_dict(_MATCHES)),
        "application/json",
        "personal" if keyed else "internal",
    )
    record = OverlapChecked(
        train=dataset_ref(train, "train"),
        holdout=dataset_ref(holdout, "holdout"),
        level=findings.level,
        compared_columns=findings.compared_columns,
        ignored_columns=findings.excluded_columns,
        overlapping_records=findings.overlap_holdout,
        passed=not findings.failed,
        detail={
            "holdout_rows": findings.holdout_count,
            "train_rows": findings.train_count,
            "digest": findings.digest,
        },
        check=check,
        levels=tuple(
            OverlapLevel.model_validate({"text_columns": findings.text_columns, **result.to_dict(SHOWN, SHOWN_ROWS)})
            for result in findings.levels
        ),
        report=report,
    )
    named = () if check == DEFAULT_OVERLAP_CHECK else (check,)
    idem = idempotency_key("overlap_checked", train.leaf, holdout.leaf, run, *named)
    return workspace.append(record, idem=idem).seq
