"""`@distributed_snapshot`: a dataset snapshot whose work is spread over the steps of a graph-backed asset.

For data that one machine should not hash alone. The steps run under any executor (in process, multiprocess, Kubernetes, Celery): one lists,
one hashes each portion of names, one digests the records of each portion of table files, one brings each range of shards in order, and
the last finds the root and records it. What the steps hand to each other through Dagster are short names; the rows lie in a
staging place that every step has to reach.

Invariants:
    * The data version is that of `dataset_snapshot` on the same data.
    * Only the last step writes to the ledger, after every range is there: a run that fails before leaves nothing on record.
    * The last step records who, why, from what and what changed just as `dataset_snapshot` does.
"""

import inspect
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

import dagster as dg

from cognify_dagster.datasets import DatasetError, Provenance
from cognify_dagster.datasets.partitions import partition_name
from cognify_dagster.datasets.scale.finishing import finish
from cognify_dagster.datasets.scale.staging import Staging
from cognify_dagster.datasets.scale.steps import (
    PORTION_FILES,
    list_portions,
    map_portion,
    map_records,
    plan_ranges,
    plan_records,
    reduce_step,
)
from cognify_dagster.orchestration._compat import root_run_id, versioned_output
from cognify_dagster.orchestration.calls import UsageError, compute_function, read_function
from cognify_dagster.orchestration.datasets import (
    SnapshotOptions,
    SnapshotSource,
    dataset_spec,
    partition_of,
    recorded_result,
    source_refs,
)
from cognify_dagster.orchestration.refusal import refuse_on
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.orchestration.translator import GovernedModelTranslator
from cognify_dagster.orchestration.written_in import code_of, source_function
from cognify_dagster.records import SourceRef
from cognify_dagster.workspace import Workspace

RETRIES = dg.RetryPolicy(max_retries=2, delay=5)
"""Steps are done again twice unless asked otherwise: workers of large runs get lost."""
_KEPT_S = 7 * 24 * 3600.0


def distributed_snapshot(
    function: Callable[..., Any] | None = None,
    *,
    provenance: Provenance | None = None,
    ignore: Sequence[str] = (),
    records: bool = True,
    change_reason: str = "",
    sources: Sequence[SourceRef | Mapping[str, Any]] = (),
    staging: str | None = None,
    portion_files: int = PORTION_FILES,
    ranges: int | None = None,
    retry_policy: dg.RetryPolicy | None = RETRIES,
    partitions_def: dg.PartitionsDefinition[Any] | None = None,
    deps: Sequence[Any] = (),
    group_name: str | None = None,
    owners: Sequence[str] = (),
    kinds: set[str] | None = None,
    name: str | None = None,
    translator: GovernedModelTranslator | None = None,
    space: str = "",
) -> Any:
    """Make a graph-backed asset of a function that returns where a large dataset lies: a path or fsspec URL that every step reaches.

    The root is that of `dataset_snapshot` on the same data. Every file is read; there is no stat index. Records are digested (Parquet, CSV,
    JSON Lines), but there is no profile and no index by record key, and `record_key`, `label`, `group_columns`, `quality` and `excluded`
    are not offered: take a snapshot of the table with `dataset_snapshot` where these are needed.

    Args:
        function: the function. It may return a `SnapshotSource` with `provenance`, `change_reason`, `sources` and plain `metadata`.
        records: False takes files only. The digests of all records, 32 bytes each, have to fit the memory of the last step.
        staging: where the steps leave rows for each other: a shared folder or an fsspec URL, in which each run has a place of its own.
            The workspace's `cache/staging` unless given, which is right where all steps run on one machine. File names lie there in plain
            while a run lasts. After a failed run it is kept for a week, so that the run can be re-executed from its failure.
        portion_files: files in a map step.
        ranges: number of reduce steps, a power of two; one for each million files unless given.
        retry_policy: of every step; by default two retries.
        provenance, ignore, change_reason, sources, partitions_def, deps, group_name, owners, kinds, name, translator, space: as for
            `dataset_snapshot`.
    """
    place = Space(space)

    def wrap(target: Callable[..., Any]) -> dg.AssetsDefinition:
        user = read_function(target, {"partition": str} if partitions_def is not None else {})
        dataset = name or user.name
        upstream = tuple(place.upstream(item) for item in deps)
        options = SnapshotOptions(
            name=dataset,
            provenance=provenance or Provenance(),
            change_reason=change_reason,
            ignore=tuple(ignore),
            verify="full",
            sources=source_refs(sources),
            code=code_of(target),
            upstream=upstream,
        )
        spec = dataset_spec(dataset, user, translator, upstream, owners, group_name, kinds, place, partitions_def)
        step = place.named(dataset)
        shape = _Shape(
            dataset, options, place, staging, portion_files, ranges, records, retry_policy, partitions_def, spec.key
        )
        listing = compute_function(user, shape.listing(user), name=f"{step}__list", space=place)
        return _graph_asset(step, shape, listing, spec, upstream, partitions_def)

    return wrap(function) if function is not None else wrap


def build_distributed_snapshot(name: str, source: Any, **options: Any) -> dg.AssetsDefinition:
    """Return a distributed snapshot asset without a decorator.

    Args:
        name: dataset and asset name.
        source: path or fsspec URL, or a function that returns it, called without arguments or, for a partitioned asset, with the
            partition key.
        options: as for `distributed_snapshot`.

    Examples:
        .. code-block:: python

            images = build_distributed_snapshot("images", "s3://bucket/images/", staging="s3://bucket-work/staging", provenance=…)
    """
    partitioned = options.get("partitions_def") is not None
    take = source_function(name, source, partitioned=partitioned, description=options.pop("description", None))
    found: dg.AssetsDefinition = distributed_snapshot(take, name=name, **options)
    return found


class _Shape:
    """One distributed dataset: what its steps share, and their bodies."""

    def __init__(
        self,
        dataset: str,
        options: SnapshotOptions,
        place: Space,
        staging: str | None,
        portion_files: int,
        ranges: int | None,
        records: bool,
        retries: dg.RetryPolicy | None,
        partitions_def: dg.PartitionsDefinition[Any] | None,
        key: dg.AssetKey,
    ) -> None:
        self.dataset, self.options, self.place, self.records = dataset, options, place, records
        self.where, self.portion_files, self.ranges = staging, portion_files, ranges
        self.retries, self.partitions_def, self.key = retries, partitions_def, key

    def workspace(self, context: Any) -> Workspace:
        return self.place.resource(context).open()

    def name(self, context: Any) -> str:
        key = partition_of(context, self.dataset, self.partitions_def)
        return self.dataset if key is None else partition_name(self.dataset, key)

    def staging(self, context: Any, workspace: Workspace) -> Staging:
        """The place of this run, and of those that continue it."""
        folder = f"{quote(self.name(context), safe='')}/{root_run_id(context)}"
        if self.where is not None:
            return Staging(f"{self.where.rstrip('/')}/{folder}")
        return Staging(workspace.home / "cache" / "staging" / folder)

    def listing(self, user: Any) -> Callable[[Any, LedgerResource, Mapping[str, Any]], Any]:
        """The body of the first step."""

        def body(context: Any, ledger: LedgerResource, passed: Mapping[str, Any]) -> Any:
            with refuse_on(context, DatasetError):
                started_us = time.time_ns() // 1000
                workspace = ledger.open()
                key = partition_of(context, self.dataset, self.partitions_def)
                returned = user.call(context, passed, {"partition": key})
                given = returned if isinstance(returned, SnapshotSource) else SnapshotSource(returned)
                told = _told(self.dataset, given)
                if self.where is None:
                    _clear_old(workspace.home / "cache" / "staging" / quote(self.name(context), safe=""))
                staging = self.staging(context, workspace)
                provenance = given.provenance or self.options.provenance
                job, portions = list_portions(
                    staging,
                    _address(given.source),
                    ignore=self.options.ignore,
                    records=self.records,
                    portion_files=self.portion_files,
                    ranges=self.ranges,
                    personal=provenance.personal,
                )
                context.log.info(f"{len(portions)} portions to hash; rows are staged in {staging.label}")
                yield dg.Output(json.dumps({"job": job, "started_us": started_us, **told}), "job")
                for number, portion in enumerate(portions):
                    yield dg.DynamicOutput(json.dumps([job, portion]), f"p{number}", "portions")

        return body


def _address(source: Any) -> str:
    if isinstance(source, str):
        return source
    if hasattr(source, "__fspath__"):
        return str(source.__fspath__())
    raise DatasetError(
        f"a {type(source).__name__} is not snapshotted in steps: return a path or an fsspec address that every step can reach"
    )


def _told(dataset: str, given: SnapshotSource) -> dict[str, Any]:
    """What the function said besides the address, as JSON values for the last step."""
    if given.quality or given.excluded or given.before is not None:
        raise UsageError(f"dataset {dataset}: quality, excluded and before are not offered by distributed_snapshot")
    metadata = dict(given.metadata or {})
    odd = [key for key, value in metadata.items() if not isinstance(value, (str, int, float, bool))]
    if odd:
        raise UsageError(f"dataset {dataset}: metadata {odd[0]!r} has to be a text, number or boolean here")
    return {
        "provenance": given.provenance.model_dump(mode="json") if given.provenance is not None else None,
        "change_reason": given.change_reason,
        "sources": [item.model_dump(mode="json") for item in source_refs(given.sources)],
        "metadata": metadata,
    }


def _clear_old(folder: Path) -> None:
    """Remove what runs of more than a week ago left behind."""
    if not folder.is_dir():
        return
    for item in folder.iterdir():
        try:
            if item.is_dir() and item.stat().st_mtime < time.time() - _KEPT_S:
                Staging(item).clear()
        except OSError:  # another run removes it at the same time
            continue


def _graph_asset(
    step: str,
    shape: _Shape,
    listing: Callable[..., Any],
    spec: dg.AssetSpec,
    upstream: Sequence[dg.AssetKey],
    partitions_def: dg.PartitionsDefinition[Any] | None,
) -> dg.AssetsDefinition:
    """The steps as ops, and the graph of them as an asset."""
    common: dict[str, Any] = {
        "required_resource_keys": {shape.place.ledger},
        "retry_policy": shape.retries,
    }
    after = [f"after_{number}" for number in range(len(upstream))]
    first = dg.op(
        name=f"{step}__list",
        ins={item: dg.In(dg.Nothing) for item in after},
        out={"job": dg.Out(str), "portions": dg.DynamicOut(str)},
        retry_policy=shape.retries,
    )(listing)

    @dg.op(name=f"{step}__hash", **common)
    def hash_portion(context: dg.OpExecutionContext, portion: str) -> str:
        """Hash the files of one portion of names."""
        with refuse_on(context):
            job, item = json.loads(portion)
            return map_portion(shape.staging(context, shape.workspace(context)), job, item)

    @dg.op(name=f"{step}__tables", out=dg.DynamicOut(str), **common)
    def find_tables(context: dg.OpExecutionContext, job: str, hashed: list[str]) -> Any:
        """Find the schema that all table files have together."""
        with refuse_on(context):
            name = json.loads(job)["job"]
            parts = plan_records(shape.staging(context, shape.workspace(context)), name, hashed)
            for number, part in enumerate(parts):
                yield dg.DynamicOutput(json.dumps([name, part]), f"t{number}")

    @dg.op(name=f"{step}__records", **common)
    def digest_records(context: dg.OpExecutionContext, part: str) -> str:
        """Digest the records of one portion of table files."""
        with refuse_on(context):
            workspace = shape.workspace(context)
            staging = shape.staging(context, workspace)
            job, item = json.loads(part)
            secret = workspace.record_key() if staging.get_json(job)["personal"] else None
            return map_records(staging, job, item, secret)

    @dg.op(name=f"{step}__plan", out=dg.DynamicOut(str), **common)
    def plan(context: dg.OpExecutionContext, job: str, hashed: list[str], digested: list[str]) -> Any:
        """Cut the shards into ranges."""
        with refuse_on(context):
            name = json.loads(job)["job"]
            found = plan_ranges(shape.staging(context, shape.workspace(context)), name, hashed, digested)
            for number, item in enumerate(found):
                yield dg.DynamicOutput(json.dumps([name, item]), f"r{number}")

    @dg.op(name=f"{step}__sort", **common)
    def sort_range(context: dg.OpExecutionContext, given: str) -> str:
        """Bring one range of shards in order."""
        with refuse_on(context):
            job, item = json.loads(given)
            return reduce_step(shape.staging(context, shape.workspace(context)), job, item)

    @dg.op(name=f"{step}__record", out=dg.Out(dg.Nothing), **common)
    def record(context: dg.OpExecutionContext, job: str, ranges: list[str]) -> Any:
        """Find the root and record the snapshot."""
        with refuse_on(context):
            workspace = shape.workspace(context)
            staging = shape.staging(context, workspace)
            told = json.loads(job)
            provenance = shape.options.provenance
            if told["provenance"] is not None:
                provenance = Provenance.model_validate(told["provenance"])
            options = replace(shape.options, name=shape.name(context))
            given = SnapshotSource(
                None,
                change_reason=told["change_reason"],
                metadata=told["metadata"],
                sources=[SourceRef.model_validate(item) for item in told["sources"]],
            )
            with finish(
                staging,
                told["job"],
                ranges,
                name=options.name,
                provenance=provenance,
                secret=workspace.record_key() if provenance.personal else None,
                started_us=told["started_us"],
            ) as staged:
                result = recorded_result(
                    context, workspace, staged.snapshot, given, options, shape.key, manifest_file=staged.manifest
                )
            yield versioned_output(dict(result.metadata or {}), dg.DataVersion(staged.snapshot.data_version))
            staging.clear()  # Dagster has stored the result by now

    def compose(**inputs: Any) -> Any:
        job, portions = first(**inputs)
        hashed = portions.map(hash_portion).collect()
        digested = find_tables(job, hashed).map(digest_records).collect()
        return record(job, plan(job, hashed, digested).map(sort_range).collect())

    compose.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
        [inspect.Parameter(item, inspect.Parameter.POSITIONAL_OR_KEYWORD) for item in after]
    )
    graph = dg.graph(name=step, ins={item: dg.GraphIn() for item in after})(compose)
    return dg.AssetsDefinition.from_graph(
        graph,
        keys_by_input_name=dict(zip(after, upstream, strict=True)),
        keys_by_output_name={"result": spec.key},
        partitions_def=partitions_def,
        group_name=spec.group_name,
        descriptions_by_output_name={"result": spec.description or ""},
        metadata_by_output_name={"result": dict(spec.metadata)},
        tags_by_output_name={"result": dict(spec.tags)},
        owners_by_output_name={"result": list(spec.owners)},
        code_versions_by_output_name={"result": spec.code_version},
    )
