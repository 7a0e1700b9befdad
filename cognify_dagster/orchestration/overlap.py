"""`overlap_check`: a blocking check that no record of a holdout also stands in the training data, at the levels named.

Invariants: the data that are compared are hashed against their snapshots first; a comparison that cannot be made fails the check and
never passes it; the result is in the ledger, where the evaluation's gate reads it, so leaving the check out of a run does not help.
"""

from collections.abc import Sequence
from typing import Any

import dagster as dg

from cognify_dagster.datasets import DatasetError, OverlapOptions, find_overlap
from cognify_dagster.datasets.overlap.recording import record_findings
from cognify_dagster.datasets.overlap.snapshots import compare_snapshots
from cognify_dagster.datasets.partitions import partition_name
from cognify_dagster.datasets.recording import record_overlap, require_snapshot
from cognify_dagster.orchestration._compat import partition_key, partitioned_checks, root_run_id
from cognify_dagster.orchestration.inputs import Snapshot
from cognify_dagster.orchestration.metadata import PREFIX, table
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.records import DEFAULT_OVERLAP_CHECK, DatasetSnapshot
from cognify_dagster.workspace import Recorded, Workspace

_SHOWN = 100


def overlap_check(
    *,
    train: str,
    holdout: str,
    ignore: Sequence[str] = (),
    name: str = DEFAULT_OVERLAP_CHECK,
    space: str = "",
    levels: Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
    threshold: float | None = None,
    ngram: int | None = None,
    partitions_def: Any = None,
) -> dg.AssetChecksDefinition:
    """Return a blocking check on the holdout asset: no record of it may also be in the training data.

    Without `levels`, `columns`, `threshold` and `ngram` records are compared as they are, on all columns but the ignored ones. Every
    check needs a name of its own where several compare the same two datasets; the newest result of each name counts.

    Args:
        train: name of the training dataset.
        holdout: name of the holdout dataset.
        ignore: columns left out of the comparison, usually key and label.
        name: the check's name.
        space: the space of both datasets.
        levels: any of "exact", "normalised", "ngram", "near-duplicate"; chosen by the columns unless given.
        columns: the only columns to compare; name the text columns for "ngram" and "near-duplicate".
        threshold: least Jaccard index of a near-duplicate (0.6).
        ngram: words in a row that mark a record (13).
        partitions_def: partitions of the holdout asset. Each is compared with the same partition of the training data, or with the
            whole of it where that is not partitioned.

    Raises:
        UsageError: for a level, threshold or n-gram length that there is not.
    """
    place = Space(space)
    options = _options(ignore, levels, columns, threshold, ngram, name)

    with partitioned_checks():

        @dg.asset_check(
            asset=place.key(holdout),
            additional_deps=[place.key(train)],
            name=name,
            blocking=True,
            required_resource_keys={place.ledger},
            description=_description(train, holdout, ignore, options),
            **({"partitions_def": partitions_def} if partitions_def is not None else {}),
        )
        def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
            with refuse_on(context, DatasetError):
                workspace = place.resource(context).open()
                part = partition_key(context) if partitions_def is not None else None
                first, second = _snapshot(workspace, train, part), _snapshot(workspace, holdout, part)
                if options is None:
                    return _compare(context, workspace, first, second, tuple(ignore), name)
                return _compare_levels(context, workspace, first, second, options, name)

    return check


def _options(
    ignore: Sequence[str],
    levels: Sequence[str] | None,
    columns: Sequence[str] | None,
    threshold: float | None,
    ngram: int | None,
    name: str,
) -> OverlapOptions | None:
    if levels is None and columns is None and threshold is None and ngram is None:
        return None
    for given in (levels, columns):
        if isinstance(given, str):
            raise UsageError(f"overlap check {name!r}: give levels and columns as lists, not as the text {given!r}")
    more: dict[str, Any] = {"threshold": threshold} if threshold is not None else {}
    more |= {"ngram": ngram} if ngram is not None else {}
    try:
        return OverlapOptions(
            levels=None if levels is None else tuple(levels),
            columns=None if columns is None else tuple(columns),
            ignore=tuple(ignore),
            **more,
        )
    except DatasetError as error:
        raise UsageError(f"overlap check {name!r}: {error}") from error


def _description(train: str, holdout: str, ignore: Sequence[str], options: OverlapOptions | None) -> str:
    left_out = f"without {', '.join(ignore)}" if ignore else "on all columns"
    if options is None:
        return f"No record of {holdout} also stands in {train}, compared {left_out}."
    shown = f"on {', '.join(options.columns)}" if options.columns is not None else left_out
    at = f"at the levels {', '.join(options.levels)}" if options.levels else "at the levels that its columns allow"
    return f"No record of {holdout} also stands in {train}, compared {shown}, {at}."


def _snapshot(workspace: Workspace, name: str, part: str | None) -> Recorded[DatasetSnapshot]:
    if part is not None:
        of_part = partition_name(name, part)
        found = workspace.read().latest(DatasetSnapshot, f"dataset/{of_part}")
        if found is not None and found.record.name == of_part:
            return found
    return require_snapshot(workspace, name)


def compare_and_record(
    context: Any,
    workspace: Workspace,
    first: Recorded[DatasetSnapshot],
    second: Recorded[DatasetSnapshot],
    ignore: tuple[str, ...],
) -> None:
    """Compare two snapshots as the check of the default name would, and record it; what it finds is for the gate to judge."""
    found = _compare(context, workspace, first, second, ignore, DEFAULT_OVERLAP_CHECK)
    context.log.info(f"{second.record.name} was compared with {first.record.name}: {found.description}")


def _compare(
    context: Any,
    workspace: Workspace,
    first: Recorded[DatasetSnapshot],
    second: Recorded[DatasetSnapshot],
    ignore: tuple[str, ...],
    name: str,
) -> dg.AssetCheckResult:
    personal = bool(first.record.record_digest_key or second.record.record_digest_key)
    report = find_overlap(
        Snapshot(workspace, second).table(),
        Snapshot(workspace, first).table(),
        exclude=ignore,
        key=workspace.record_key() if personal else None,
    )
    seq = record_overlap(workspace, first, second, report, ignored=ignore, run=root_run_id(context), check=name)
    return dg.AssetCheckResult(
        passed=report.overlap_holdout == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{report.overlap_holdout} of {report.holdout_count} holdout records also stand in the training data "
            f"({report.train_count} records), compared on {len(report.compared_columns)} columns."
        ),
        metadata={
            f"{PREFIX}overlapping_records": report.overlap_holdout,
            f"{PREFIX}recorded_in": f"ledger entry {seq}",
            f"{PREFIX}level": report.level,
            f"{PREFIX}holdout_rows": dg.MetadataValue.json(list(report.holdout_rows[:_SHOWN])),
        },
    )


def _compare_levels(
    context: Any,
    workspace: Workspace,
    first: Recorded[DatasetSnapshot],
    second: Recorded[DatasetSnapshot],
    options: OverlapOptions,
    name: str,
) -> dg.AssetCheckResult:
    findings = compare_snapshots(workspace, first, second, options)
    seq = record_findings(workspace, first, second, findings, check=name, run=root_run_id(context))
    failed = f"Failed at {', '.join(findings.failed)}. " if findings.failed else ""
    return dg.AssetCheckResult(
        passed=not findings.failed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=(
            f"{failed}{findings.summary()} Compared with {findings.train_count} training records. Nothing is said about other levels."
        ),
        metadata={
            f"{PREFIX}overlapping_records": findings.overlap_holdout,
            f"{PREFIX}recorded_in": f"ledger entry {seq}",
            f"{PREFIX}level": findings.level,
            f"{PREFIX}failed_levels": ", ".join(findings.failed) or "none",
            f"{PREFIX}levels": table(
                [
                    {
                        "level": item.level,
                        "holdout records": str(item.overlap_holdout),
                        "part": f"{item.fraction:.4%}",
                        "training records": str(item.overlap_train),
                        "parameters": ", ".join(f"{key} {value}" for key, value in item.parameters.items()),
                    }
                    for item in findings.levels
                ]
            ),
            f"{PREFIX}holdout_rows": dg.MetadataValue.json(list(findings.holdout_rows[:_SHOWN])),
        },
    )
