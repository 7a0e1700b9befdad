"""`@dataset_snapshot`: an asset whose data version is the Merkle root of the data it returns."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from cognify_dagster.datasets import DatasetError, Provenance, find_overlap, take_snapshot, to_arrow
from cognify_dagster.datasets.recording import record_overlap, record_snapshot, require_snapshot
from cognify_dagster.orchestration._compat import root_run_id, run_id
from cognify_dagster.orchestration.calls import compute_function, read_function
from cognify_dagster.orchestration.inputs import Snapshot
from cognify_dagster.orchestration.metadata import PREFIX, command, entry_metadata, table
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.orchestration.translator import GovernedAssetData, GovernedModelTranslator
from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Recorded, Workspace


@dataclass(frozen=True)
class SnapshotOptions:
    """How a dataset is snapshotted; see `dataset_snapshot`."""

    name: str
    provenance: Provenance
    record_key: str | None = None
    label: str | None = None
    group_columns: tuple[str, ...] = ()
    change_reason: str = ""
    ignore: tuple[str, ...] = ()


@dataclass(frozen=True)
class SnapshotSource:
    """What a snapshot function may return instead of a bare path: the data and facts only known at run time."""

    source: Any
    provenance: Provenance | None = None
    change_reason: str = ""
    metadata: Mapping[str, Any] | None = None


def dataset_snapshot(
    function: Callable[..., Any] | None = None,
    *,
    provenance: Provenance | None = None,
    record_key: str | None = None,
    label: str | None = None,
    group_columns: Sequence[str] = (),
    ignore: Sequence[str] = (),
    change_reason: str = "",
    deps: Sequence[Any] = (),
    group_name: str | None = None,
    owners: Sequence[str] = (),
    kinds: set[str] | None = None,
    name: str | None = None,
    translator: GovernedModelTranslator | None = None,
    space: str = "",
) -> Any:
    """Make an asset of a function that returns a dataset: a path, an fsspec URL or a table (pandas, polars, Arrow).

    Args:
        function: the function.
        provenance: source, owner, licence, collection period and so on; what is missing is recorded as missing.
        record_key: column that names each record; duplicates are an error.
        label: label column, for the class balance.
        group_columns: columns to count groups by.
        ignore: ignore rules; they are part of the root.
        change_reason: why this version differs from the one before.
        deps: upstream assets.
        group_name, owners, kinds: as for `dagster.asset`.
        name: dataset and asset name; the function's name unless given.
        translator: override point for the asset's spec.
        space: where several workspaces share a Dagster instance, the one that the dataset belongs to; see `GovernedModel`.
    """
    place = Space(space)

    def wrap(target: Callable[..., Any]) -> dg.AssetsDefinition:
        user = read_function(target, {})
        dataset = name or user.name
        options = SnapshotOptions(
            name=dataset,
            provenance=provenance or Provenance(),
            record_key=record_key,
            label=label,
            group_columns=tuple(group_columns),
            change_reason=change_reason,
            ignore=tuple(ignore),
        )
        spec = (translator or GovernedModelTranslator()).get_asset_spec(
            GovernedAssetData(
                role="dataset",
                name=dataset,
                owner=owners[0] if owners else None,
                group=group_name or place.group("datasets"),
                space=space,
                description=user.description,
                code_version=user.code_version,
                deps=[place.upstream(item) for item in deps],
                kinds=frozenset(kinds or ()),
            )
        )

        def body(context: Any, ledger: LedgerResource, passed: Mapping[str, Any]) -> Any:
            with refuse_on(context, DatasetError):
                source = user.call(context, passed, {})
                yield snapshot_result(context, ledger.open(), source, options)

        step = place.named(dataset)
        return dg.multi_asset(name=step, specs=[spec])(compute_function(user, body, name=step, space=place))

    return wrap(function) if function is not None else wrap


def snapshot_result(context: Any, workspace: Workspace, source: Any, options: SnapshotOptions) -> dg.MaterializeResult:
    """Take and record a snapshot; return the result that Dagster shows, its data version being the Merkle root."""
    given = source if isinstance(source, SnapshotSource) else SnapshotSource(source)
    provenance = given.provenance or options.provenance
    table_data = None if isinstance(given.source, (str, bytes)) or hasattr(given.source, "__fspath__") else given.source
    snapshot = take_snapshot(
        given.source,
        name=options.name,
        provenance=provenance,
        record_key=options.record_key,
        label=options.label,
        group_columns=options.group_columns,
        record_hmac_key=workspace.record_key() if provenance.personal else None,
        ignore=options.ignore,
    )
    recorded = record_snapshot(
        workspace,
        snapshot,
        run=root_run_id(context),
        record_key=options.record_key,
        label=options.label,
        change_reason=given.change_reason or options.change_reason,
        table=None if table_data is None else to_arrow(table_data),
        observed={"dagster_run": run_id(context)},
    )
    return dg.MaterializeResult(
        data_version=dg.DataVersion(snapshot.data_version),
        metadata={**snapshot_metadata(workspace, recorded, snapshot.profile), **(given.metadata or {})},
    )


def snapshot_metadata(
    workspace: Workspace, recorded: Recorded[DatasetSnapshot], profile: Mapping[str, Any]
) -> dict[str, Any]:
    """What the UI shows about a snapshot."""
    record = recorded.record
    provenance = record.provenance
    metadata: dict[str, Any] = {
        f"{PREFIX}root": record.root,
        f"{PREFIX}location": str(record.observed.get("location", "")),
        f"{PREFIX}source": provenance.get("source") or "not stated",
        f"{PREFIX}licence": provenance.get("licence") or "not stated",
        f"{PREFIX}missing_provenance": ", ".join(record.missing_provenance) or "none",
        f"{PREFIX}profile": dg.MetadataValue.json(dict(profile)),
        f"{PREFIX}changed_since_last": _changed(record),
        f"{PREFIX}verify": command(workspace, "ledger verify"),
    }
    if record.record_count is not None:
        metadata["dagster/row_count"] = record.record_count
    if record.exclusions:
        metadata[f"{PREFIX}exclusions"] = table(
            [
                {
                    "rule": item.rule,
                    "rows before": item.rows_before,
                    "rows after": item.rows_after,
                    "left out": item.rows_before - item.rows_after,
                }
                for item in record.exclusions
            ]
        )
    return {**metadata, **entry_metadata(workspace, recorded.seq, recorded.leaf)}


def _changed(record: DatasetSnapshot) -> str:
    if record.parent_root is None:
        return "first snapshot"
    return "no" if record.parent_root == record.root else f"yes, from root {record.parent_root}"


def overlap_check(
    *, train: str, holdout: str, ignore: Sequence[str] = (), name: str = "no_overlap", space: str = ""
) -> dg.AssetChecksDefinition:
    """Return a blocking check on the holdout asset: no record of it may also be in the training data.

    Args:
        train: name of the training dataset.
        holdout: name of the holdout dataset.
        ignore: columns left out of the comparison, usually key and label.
        name: the check's name.
        space: the space of both datasets.
    """
    place = Space(space)

    @dg.asset_check(
        asset=place.key(holdout),
        additional_deps=[place.key(train)],
        name=name,
        blocking=True,
        required_resource_keys={place.ledger},
        description=f"No record of {holdout} also stands in {train}, compared {_columns(ignore)}.",
    )
    def check(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        with refuse_on(context, DatasetError):
            return _compare(context, place.resource(context).open(), train, holdout, tuple(ignore))

    return check


def _columns(ignore: Sequence[str]) -> str:
    return f"without {', '.join(ignore)}" if ignore else "on all columns"


def _compare(
    context: Any, workspace: Workspace, train: str, holdout: str, ignore: tuple[str, ...]
) -> dg.AssetCheckResult:
    first, second = require_snapshot(workspace, train), require_snapshot(workspace, holdout)
    personal = bool(first.record.record_digest_key or second.record.record_digest_key)
    report = find_overlap(
        Snapshot(workspace, second).table(),
        Snapshot(workspace, first).table(),
        exclude=ignore,
        key=workspace.record_key() if personal else None,
    )
    seq = record_overlap(workspace, first, second, report, ignored=ignore, run=root_run_id(context))
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
            f"{PREFIX}holdout_rows": dg.MetadataValue.json(list(report.holdout_rows[:100])),
        },
    )
