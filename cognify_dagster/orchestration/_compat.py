"""The few Dagster calls that are not marked public, in one place, so that a Dagster upgrade is checked here."""

import contextlib
import uuid
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import dagster as dg
from dagster._core.definitions.data_version import extract_data_version_from_entry
from dagster._core.definitions.partitions.context import partition_loading_context
from dagster._core.run_coordinator import (
    QueuedRunCoordinator,  # noqa: F401  (for coordinator.py)
    SubmitRunContext,  # noqa: F401
)
from dagster._core.scheduler.instigation import (
    InstigatorStatus,  # noqa: F401  (for health.py)
    InstigatorType,  # noqa: F401
)
from dagster._serdes import ConfigurableClassData  # noqa: F401
from dagster._utils.warnings import BetaWarning, PreviewWarning

MAX_RETRIES_TAG = "dagster/max_retries"
ROOT_RUN_TAG = "dagster/root_run_id"


def step_context(context: Any) -> Any:
    """Return the context that knows run and partition; a check's context wraps it."""
    return getattr(context, "op_execution_context", context)


def forbid_run_retries(context: Any) -> None:
    """Tell the daemon not to retry this run: a refusal must not be repeated. Outside a run there is nothing to tell."""
    with contextlib.suppress(Exception):  # in direct invocation there is neither a run nor an instance
        context = step_context(context)
        context.instance.add_run_tags(context.run.run_id, {MAX_RETRIES_TAG: "0"})


def run_tags(context: Any) -> dict[str, str]:
    """Return the run's tags; empty in direct invocation."""
    try:
        return dict(step_context(context).run.tags)
    except Exception:
        return {}


def run_id(context: Any) -> str:
    """Return the run's id; in direct invocation there is none, so each invocation gets one of its own."""
    try:
        return str(step_context(context).run.run_id)
    except Exception:
        return f"direct-{uuid.uuid4()}"


def root_run_id(context: Any) -> str:
    """Return the id of the first run of a chain of retries and re-executions, the run's own id otherwise."""
    found = run_tags(context).get(ROOT_RUN_TAG)
    with contextlib.suppress(Exception):  # a re-execution from Python carries it in the run instead of its tags
        found = found or step_context(context).run.root_run_id
    return found or run_id(context)


def partition_key(context: Any) -> str | None:
    """Return the partition key of a step or check, None if it has none."""
    try:
        inner = step_context(context)
        if inner.has_partition_key:
            return str(inner.partition_key)
    except Exception:  # some contexts raise instead of saying no
        return run_tags(context).get("dagster/partition")
    return run_tags(context).get("dagster/partition")


@contextlib.contextmanager
def partitioned_checks() -> Iterator[None]:
    """Define a partitioned asset check without the preview warning, which the reader of a project's log can do nothing about."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=PreviewWarning)
        yield


def versioned_output(metadata: Mapping[str, Any], version: dg.DataVersion) -> dg.Output[None]:
    """Return the output of an op that materializes a graph-backed asset; that it takes a data version is marked beta."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=BetaWarning)
        return dg.Output(None, metadata=metadata, data_version=version)


def run_builds(context: Any, key: dg.AssetKey) -> bool:
    """Whether the run materializes an asset too; False where that cannot be told."""
    try:
        return key in step_context(context).job_def.asset_layer.selected_asset_keys
    except Exception:
        return False


def run_is_over(instance: dg.DagsterInstance | None, run_id: str) -> bool:
    """Whether a run has ended or is unknown to this instance."""
    if instance is None:
        return True
    run = instance.get_run_by_id(run_id)
    return run is None or run.is_finished


def run_has_ended(instance: dg.DagsterInstance | None, run_id: str) -> bool:
    """Whether a run that this instance knows has ended."""
    run = instance.get_run_by_id(run_id) if instance is not None else None
    return run is not None and run.is_finished


def runs_of(instance: dg.DagsterInstance, root: str, limit: int) -> list[dg.DagsterRun]:
    """Return a run and its retries and re-executions, the first run first, then the newest; empty if it is not known."""
    first = instance.get_run_by_id(root)
    if first is None:
        return []
    later = instance.get_runs(filters=dg.RunsFilter(tags={ROOT_RUN_TAG: root}), limit=limit)
    return [first, *(run for run in later if run.run_id != root)]


def step_was_started(instance: dg.DagsterInstance, run_id: str, step: str) -> bool:
    """Whether a step of a run began."""
    records = instance.get_records_for_run(run_id, of_type=dg.DagsterEventType.STEP_START).records
    return any(item.event_log_entry.step_key == step for item in records)


def instance_of(context: Any) -> dg.DagsterInstance | None:
    """Return the context's instance, None in direct invocation without one."""
    try:
        found: dg.DagsterInstance = context.instance
    except Exception:
        return None
    return found


def latest_materializations(instance: dg.DagsterInstance, key: dg.AssetKey, after: int | None, limit: int) -> list[Any]:
    """Return materialization records of an asset after a storage id, oldest first."""
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, after_storage_id=after), limit=limit, ascending=True
    ).records
    return list(records)


def pool_limit(instance: dg.DagsterInstance, pool: str) -> int | None:
    """Return how many steps of a pool may run at once; None if there is no limit."""
    if not instance.event_log_storage.supports_global_concurrency_limits:
        return None
    if pool not in instance.event_log_storage.get_concurrency_keys():
        return instance.global_op_concurrency_default_limit
    return instance.event_log_storage.get_concurrency_info(pool).slot_count


def open_instance(home: Path) -> dg.DagsterInstance:
    """Open the instance of a DAGSTER_HOME that is not this process's own."""
    return dg.DagsterInstance.from_config(str(home.absolute()))


def check_evaluations(
    instance: dg.DagsterInstance, key: dg.AssetCheckKey, limit: int, pages: int
) -> Iterator[list[Any]]:
    """Yield the newest evaluations of a check, newest first, page by page; planned ones without a result are left out."""
    cursor: int | None = None
    for _ in range(pages):
        records = instance.event_log_storage.get_asset_check_execution_history(key, limit=limit, cursor=cursor)
        yield [item for item in records if item.event is not None and item.event.asset_check_evaluation is not None]
        if len(records) < limit:
            return
        cursor = records[-1].id


def latest_version(instance: dg.DagsterInstance, key: dg.AssetKey) -> tuple[str, float] | None:
    """Return the data version of an asset's newest materialization or observation and its time; None if there is none."""
    event = instance.get_latest_materialization_event(key)
    if event is None:
        return None
    version = extract_data_version_from_entry(event)
    return (version.value if version is not None else "", event.timestamp)


def upstream_partitions(context: Any, asset: dg.AssetKey, upstream: dg.AssetKey) -> list[str] | None:
    """Return the partitions of an upstream asset that this step's partition depends on; None if the asset has no partitions.

    Without a mapping of its own an upstream asset with other partitions is mapped as a whole, which says nothing: then the list
    is empty.
    """
    inner = step_context(context)
    graph = inner.job_def.asset_layer.asset_graph
    if not graph.has(upstream) or graph.get(upstream).partitions_def is None or not inner.has_partition_key:
        return None
    parents, child = graph.get(upstream).partitions_def, graph.get(asset).partitions_def
    mapping = graph.get_partition_mapping(asset, upstream)
    if isinstance(mapping, dg.AllPartitionMapping) or child is None:
        return []
    with partition_loading_context(dynamic_partitions_store=inner.instance):
        wanted = child.subset_with_partition_keys([inner.partition_key])
        found = mapping.get_upstream_mapped_partitions_result_for_partitions(wanted, child, parents)
        return sorted(found.partitions_subset.get_partition_keys())


def asset_function(context: Any) -> Any:
    """Return the function behind the asset that a step computes.

    Raises:
        ValueError: outside an asset's step.
    """
    compute = getattr(getattr(context.assets_def, "op", None), "compute_fn", None)
    found = getattr(compute, "decorated_fn", None)
    if found is None or not hasattr(found, "__code__"):
        raise ValueError("this works in the function of an asset only")
    return found


def model_partitions(context: Any) -> set[str]:
    """Return the names of the dynamic partitions of the asset that a step computes."""
    found = getattr(context.assets_def, "partitions_def", None)
    parts = found.partitions_defs if isinstance(found, dg.MultiPartitionsDefinition) else [found]
    definitions = [getattr(item, "partitions_def", item) for item in parts]
    return {str(item.name) for item in definitions if isinstance(item, dg.DynamicPartitionsDefinition) and item.name}


def step_started_us(context: Any) -> int | None:
    """Return when the step first began, in microseconds since 1970 by Dagster's clock; None where that is not on record."""
    try:
        inner = step_context(context)
        step = inner.get_step_execution_context().step.key
        records = inner.instance.get_records_for_run(inner.run.run_id, of_type=dg.DagsterEventType.STEP_START).records
        times = [item.event_log_entry.timestamp for item in records if item.event_log_entry.step_key == step]
    except Exception:  # in direct invocation there is neither a run nor an instance
        return None
    return int(min(times) * 1_000_000) if times else None


def assets_of(definitions: dg.Definitions) -> list[dg.AssetsDefinition]:
    """Return the assets of definitions that have a function, not yet bound to the definitions' resources."""
    return [item for item in definitions.assets or () if isinstance(item, dg.AssetsDefinition) and item.is_executable]


class _NoValues:
    """Stands in where an instance has no key-value table: nothing is found again."""

    def get_cursor_values(self, keys: set[str]) -> Mapping[str, str]:
        return {}

    def set_cursor_values(self, pairs: Mapping[str, str]) -> None:
        return


def value_store(instance: dg.DagsterInstance) -> Any:
    """Return the key-value table in which Dagster's daemons keep their cursors."""
    storage = getattr(instance, "daemon_cursor_storage", None)
    return storage if storage is not None else _NoValues()
