"""`@dataset_snapshot`: an asset whose data version is the Merkle root of the data it returns."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.datasets import (
    DatasetError,
    Provenance,
    read_table,
    record_manifest_bytes,
    take_snapshot,
    to_arrow,
    unpack_records,
)
from cognify_dagster.datasets import Snapshot as TakenSnapshot
from cognify_dagster.datasets.caching import kept_index
from cognify_dagster.datasets.exclusions import check_exclusions
from cognify_dagster.datasets.partitions import partition_name
from cognify_dagster.datasets.quality import run_quality
from cognify_dagster.datasets.recording import record_diff, record_snapshot
from cognify_dagster.evidence.errors import EvidenceError
from cognify_dagster.governance import directory
from cognify_dagster.ledger.errors import WriterRefused
from cognify_dagster.orchestration._compat import instance_of, latest_version, partition_key, root_run_id, run_id
from cognify_dagster.orchestration.attribution import attribute
from cognify_dagster.orchestration.calls import UsageError, UserFunction, compute_function, read_function
from cognify_dagster.orchestration.inputs import Snapshot
from cognify_dagster.orchestration.metadata import PREFIX
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.snapshot_metadata import quality_table, snapshot_metadata
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.orchestration.translator import GovernedAssetData, GovernedModelTranslator
from cognify_dagster.orchestration.written_in import code_of, source_function
from cognify_dagster.records import DatasetSnapshot, QualityCheck, SourceRef, build, utc
from cognify_dagster.training import CodeState, capture_code
from cognify_dagster.training.recording import code_ref
from cognify_dagster.workspace import Recorded, Workspace

QUALITY = "quality"
_QUALITY_TITLE = "The data-quality checks of the dataset, as its snapshot records them."


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
    verify: str = "quick"
    records: bool = True
    sources: tuple[SourceRef, ...] = ()
    quality: tuple[Any, ...] | None = None
    code: Path | None = None
    upstream: tuple[dg.AssetKey, ...] = ()


@dataclass(frozen=True)
class SnapshotSource:
    """What a snapshot function may return instead of a bare path: the data and facts only known at run time.

    Attributes:
        source: path, fsspec address or table.
        provenance, change_reason, sources, quality: as for `dataset_snapshot`; sources and quality are added to those given there.
        metadata: further metadata of the materialization.
        excluded: the records that processing rules left out (path, address or table), by the rule's name. Count and digest of the
            rule are then checked against them.
        before: the records that the first rule began with; then what was left out has to be the difference exactly.
    """

    source: Any
    provenance: Provenance | None = None
    change_reason: str = ""
    metadata: Mapping[str, Any] | None = None
    sources: Sequence[SourceRef | Mapping[str, Any]] = ()
    quality: Sequence[Any] = ()
    excluded: Mapping[str, Any] | None = None
    before: Any = None


def dataset_snapshot(
    function: Callable[..., Any] | None = None,
    *,
    provenance: Provenance | None = None,
    record_key: str | None = None,
    label: str | None = None,
    group_columns: Sequence[str] = (),
    ignore: Sequence[str] = (),
    verify: str = "quick",
    records: bool = True,
    change_reason: str = "",
    sources: Sequence[SourceRef | Mapping[str, Any]] = (),
    quality: Sequence[Any] | None = None,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    deps: Sequence[Any] = (),
    group_name: str | None = None,
    owners: Sequence[str] = (),
    kinds: set[str] | None = None,
    name: str | None = None,
    translator: GovernedModelTranslator | None = None,
    space: str = "",
) -> Any:
    """Make an asset of a function that returns a dataset: a path, an fsspec URL or a table (pandas, polars, Arrow).

    With partitions each partition is a dataset version of its own, named `loans@2026-01`; the function may ask for `partition`.
    The upstream assets stand in the record as sources with their data versions and times, who launched the run and the commit of the
    code with it.

    Args:
        function: the function.
        provenance: source, owner, licence, collection period and so on; what is missing is recorded as missing.
        record_key: column that names each record; duplicates are an error.
        label: label column, for the class balance.
        group_columns: columns to count groups by.
        ignore: ignore rules; they are part of the root.
        verify: how much is read of a source that was snapshotted before: `quick` reads files whose size, times or inode changed,
            `sample:P` besides these a random P percent of the others, `full` everything.
        records: False takes files only, such as tables with different columns in one folder.
        change_reason: why this version differs from the one before. A change without a reason is recorded and marked; whether data
            without one may be used, the policy says.
        sources: tables or files that it was made from, with version and time: `{"name": …, "version": …, "time": …}`.
        quality: data-quality checks: functions of the Arrow table, pandera schemas, results of asset checks. Their results stand in
            the snapshot and show as the asset check `quality`; see `cognify_dagster.datasets.quality`.
        partitions_def: partitions; one partition is snapshotted a run.
        deps: upstream assets.
        group_name, owners, kinds: as for `dagster.asset`.
        name: dataset and asset name; the function's name unless given.
        translator: override point for the asset's spec.
        space: where several workspaces share a Dagster instance, the one that the dataset belongs to; see `GovernedModel`.
    """
    place = Space(space)

    def wrap(target: Callable[..., Any]) -> dg.AssetsDefinition:
        user = read_function(target, {"partition": str} if partitions_def is not None else {})
        dataset = name or user.name
        upstream = tuple(place.upstream(item) for item in deps)
        options = SnapshotOptions(
            name=dataset,
            provenance=provenance or Provenance(),
            record_key=record_key,
            label=label,
            group_columns=tuple(group_columns),
            change_reason=change_reason,
            ignore=tuple(ignore),
            verify=verify,
            records=records,
            sources=source_refs(sources),
            quality=None if quality is None else tuple(quality),
            code=code_of(target),
            upstream=upstream,
        )
        spec = dataset_spec(dataset, user, translator, upstream, owners, group_name, kinds, place, partitions_def)
        checks = [dg.AssetCheckSpec(QUALITY, asset=spec.key, description=_QUALITY_TITLE)] if quality is not None else []

        def body(context: Any, ledger: LedgerResource, passed: Mapping[str, Any]) -> Any:
            with refuse_on(context, DatasetError):
                key = partition_of(context, dataset, partitions_def)
                source = user.call(context, passed, {"partition": key})
                named = options if key is None else replace(options, name=partition_name(dataset, key))
                yield snapshot_result(context, ledger.open(), source, named, spec.key)

        step = place.named(dataset)
        return dg.multi_asset(name=step, specs=[spec], check_specs=checks)(
            compute_function(user, body, name=step, space=place)
        )

    return wrap(function) if function is not None else wrap


def build_dataset_snapshot(name: str, source: Any, **options: Any) -> dg.AssetsDefinition:
    """Return a snapshot asset without a decorator, for data that needs no function of its own.

    Args:
        name: dataset and asset name.
        source: path, fsspec address, table or `SnapshotSource`; or a function that returns one of these, called without arguments or,
            for a partitioned asset, with the partition key.
        options: as for `dataset_snapshot`.

    Examples:
        .. code-block:: python

            claims = build_dataset_snapshot("claims", "s3://bucket/claims/", provenance=…, record_key="id")
    """
    partitioned = options.get("partitions_def") is not None
    take = source_function(name, source, partitioned=partitioned, description=options.pop("description", None))
    found: dg.AssetsDefinition = dataset_snapshot(take, name=name, **options)
    return found


def dataset_spec(
    dataset: str,
    user: UserFunction,
    translator: GovernedModelTranslator | None,
    upstream: Sequence[dg.AssetKey],
    owners: Sequence[str],
    group_name: str | None,
    kinds: set[str] | None,
    place: Space,
    partitions_def: dg.PartitionsDefinition[Any] | None,
) -> dg.AssetSpec:
    """Return the spec of a dataset's asset; whole or spread over steps, it is the same to whoever looks at it."""
    return (translator or GovernedModelTranslator()).get_asset_spec(
        GovernedAssetData(
            role="dataset",
            name=dataset,
            owner=owners[0] if owners else None,
            group=group_name or place.group("datasets"),
            space=place.name,
            description=user.description,
            code_version=user.code_version,
            deps=list(upstream),
            partitions_def=partitions_def,
            kinds=frozenset(kinds or ()),
        )
    )


def partition_of(context: Any, dataset: str, partitions_def: dg.PartitionsDefinition[Any] | None) -> str | None:
    if partitions_def is None:
        return None
    key = partition_key(context)
    if key is None:
        raise UsageError(f"dataset {dataset} is snapshotted one partition at a time: launch it with one partition")
    return key


def source_refs(given: Sequence[SourceRef | Mapping[str, Any]]) -> tuple[SourceRef, ...]:
    """Return sources as the record holds them. A time may be a `datetime` with time zone; `asset` or `table` may stand for `name`."""
    found = []
    for item in given:
        if isinstance(item, SourceRef):
            found.append(item)
            continue
        value = dict(item)
        for kind in ("asset", "table", "file"):
            if kind in value:
                value |= {"name": value.pop(kind), "kind": kind}
        if isinstance(value.get("time"), datetime):
            value["time"] = utc(value["time"])
        found.append(build(SourceRef, value))
    return tuple(found)


def upstream_sources(context: Any, keys: Sequence[dg.AssetKey]) -> tuple[SourceRef, ...]:
    """Return upstream assets with the data version and time of their newest materialization, as this instance knows them."""
    instance = instance_of(context)
    found = []
    for key in keys:
        known = latest_version(instance, key) if instance is not None else None
        time = utc(datetime.fromtimestamp(known[1], timezone.utc)) if known else None
        found.append(SourceRef(name=key.to_user_string(), version=known[0] if known else "", time=time, kind="asset"))
    return tuple(found)


def snapshot_result(
    context: Any, workspace: Workspace, source: Any, options: SnapshotOptions, asset: dg.AssetKey
) -> dg.MaterializeResult:
    """Take and record a snapshot; return the result that Dagster shows, its data version being the Merkle root."""
    given = source if isinstance(source, SnapshotSource) else SnapshotSource(source)
    provenance = given.provenance or options.provenance
    in_memory = not (isinstance(given.source, (str, bytes)) or hasattr(given.source, "__fspath__"))
    source = given.source if in_memory else from_the_root(given.source)
    key = workspace.record_key() if provenance.personal else None
    index = None if in_memory else kept_index(workspace, options.name)
    snapshot = take_snapshot(
        source,
        name=options.name,
        provenance=provenance,
        record_key=options.record_key,
        label=options.label,
        group_columns=options.group_columns,
        record_hmac_key=key,
        ignore=options.ignore,
        index=index.path if index else None,
        index_digest=index.digest if index else None,
        verify=options.verify if index else None,
        records=options.records,
    )
    verified: dict[str, str] = {}
    if given.excluded:
        kept = unpack_records(record_manifest_bytes(snapshot))
        checked, verified = check_exclusions(provenance, kept, given.excluded, before=_before(given.before), key=key)
        snapshot = replace(snapshot, provenance=checked)
    wanted = [*(options.quality or ()), *given.quality]
    quality = (
        run_quality(wanted, _table_of(source, in_memory, options.ignore), personal=provenance.personal)
        if wanted
        else ()
    )
    table = to_arrow(source) if in_memory else None
    return recorded_result(
        context, workspace, snapshot, given, options, asset, table=table, quality=quality, verified=verified
    )


def recorded_result(
    context: Any,
    workspace: Workspace,
    snapshot: TakenSnapshot,
    given: SnapshotSource,
    options: SnapshotOptions,
    asset: dg.AssetKey,
    *,
    table: Any = None,
    quality: Sequence[QualityCheck] = (),
    verified: Mapping[str, str] | None = None,
    manifest_file: Path | None = None,
) -> dg.MaterializeResult:
    """Record a snapshot that was taken, with who, why and from what; return the result that Dagster shows."""
    code = capture_code(options.code) if options.code is not None else None
    who = attribute(context, directory(workspace.read()), code or CodeState(vcs="none"))
    recorded = record_snapshot(
        workspace,
        snapshot,
        run=root_run_id(context),
        record_key=options.record_key,
        label=options.label,
        change_reason=given.change_reason or options.change_reason,
        table=table,
        observed={"dagster_run": run_id(context)},
        author=who.launched_by,
        touched_by=who.touched_by,
        unattributed=who.unattributed,
        code=code_ref(code) if code is not None else None,
        sources=(*options.sources, *source_refs(given.sources), *upstream_sources(context, options.upstream)),
        quality=quality,
        verified=verified,
        manifest_file=manifest_file,
    )
    _record_change(context, workspace, recorded)
    results = [quality_result(asset, recorded)] if options.quality is not None else []
    return dg.MaterializeResult(
        data_version=dg.DataVersion(snapshot.data_version),
        metadata={**snapshot_metadata(workspace, recorded, snapshot.profile), **(given.metadata or {})},
        check_results=results,
    )


def _before(given: Any) -> Any:
    """A recorded snapshot says by its record manifest which records there were."""
    if not isinstance(given, Snapshot):
        return given
    item = given.recorded.record.record_manifest
    if item is None:
        raise DatasetError(f"dataset {given.name} has no records on record, so no difference can be checked against it")
    return unpack_records(given.workspace.evidence.get(item.digest))


def from_the_root(source: Any) -> Any:
    """A local path from the root of the file system, so that the data are found again from any folder; addresses stay as they are."""
    path = os.fspath(source)
    if not path or (isinstance(path, str) and ("://" in path or "::" in path)):
        return path
    return os.path.abspath(path)


def _table_of(source: Any, in_memory: bool, ignore: Sequence[str]) -> Callable[[], Any]:
    return lambda: to_arrow(source) if in_memory else read_table(source, ignore=ignore)


def _record_change(context: Any, workspace: Workspace, recorded: Recorded[DatasetSnapshot]) -> None:
    """Record what changed. That it cannot be done takes nothing from the snapshot: it is done again before somebody approves it."""
    try:
        record_diff(workspace, recorded.record.name, recorded.seq)
    except (DatasetError, EvidenceError, WriterRefused) as error:
        context.log.warning(f"what changed in {recorded.record.name} could not be recorded: {error}")


def quality_result(asset: dg.AssetKey, recorded: Recorded[DatasetSnapshot]) -> dg.AssetCheckResult:
    """Show the recorded results of the quality checks as an asset check."""
    record = recorded.record
    failed = record.failed_quality
    text = (
        f"{len(record.quality)} checks, all passed"
        if not failed
        else f"{len(failed)} of {len(record.quality)} failed: "
    )
    return dg.AssetCheckResult(
        asset_key=asset,
        check_name=QUALITY,
        passed=not failed,
        severity=dg.AssetCheckSeverity.ERROR,
        description=text + ", ".join(item.name for item in failed),
        metadata={f"{PREFIX}quality": quality_table(record), f"{PREFIX}ledger_entry": recorded.seq},
    )
