"""`@training_run`: an asset, partitioned by model version, that trains and seals one version."""

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.datasets import demand_hashed
from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.governance import classification_of, directory, policy_in_force, require_ready
from cognify_dagster.instrument.sdk.reported import record_kept
from cognify_dagster.ledger import LedgerError
from cognify_dagster.orchestration._compat import (
    instance_of,
    partition_key,
    root_run_id,
    run_has_ended,
    run_id,
    run_is_over,
)
from cognify_dagster.orchestration.attribution import attribute, identified, with_features
from cognify_dagster.orchestration.calls import UsageError, compute_function, read_function
from cognify_dagster.orchestration.current import CurrentTraining, rerun_by_default, training_is
from cognify_dagster.orchestration.inputs import Snapshot, resolve_snapshot
from cognify_dagster.orchestration.metadata import NOT_KEPT, PREFIX, command, dataset_links, entry_metadata, person
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.refusal import FINAL, refusal, refuse_on
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.snapshot_metadata import code_text
from cognify_dagster.orchestration.spaces import Space
from cognify_dagster.records import DatasetSnapshot, TrainingRun
from cognify_dagster.training import (
    TrainingRecorder,
    capture_code,
    capture_environment,
    prefetch_environment,
)
from cognify_dagster.training.recording import open_version, record_failure, register_model, seal_training
from cognify_dagster.workspace import Recorded, Workspace

ROLE_TAG = "cognify/role"
MODEL_METADATA = "cognify/model"
DATASETS_METADATA = "cognify/datasets"


def training_run(
    model: GovernedModel,
    *,
    datasets: Sequence[str] | Mapping[str, str],
    deps: Sequence[Any] = (),
    partition_mappings: Mapping[str, dg.PartitionMapping] | None = None,
    retry_policy: dg.RetryPolicy | None = None,
    name: str | None = None,
    demand_hashed: bool = False,
    source: str | Path | None = None,
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """Make a training asset of a function that trains and returns the path of the saved model.

    The function may ask for `run` (a `TrainingRecorder`) and for each dataset by its name (a `Snapshot`). Each partition is
    one model version. The run is refused without snapshots, and with snapshots of which the policy asks for a reason or an approval
    that is not there. A version is trained once.

    Args:
        model: the governed model.
        datasets: names of the snapshots it uses. A list means that it trains on all of them; a mapping gives each its role: `train`,
            `validation` (early stopping, choice of settings) or `holdout` (looked at, not learned from).
        deps: further upstream assets.
        partition_mappings: of partitioned datasets, by name, which partition a version is trained on; the newest unless given.
        retry_policy: for failures of the training itself; refusals are never retried.
        name: asset name; the function's name unless given.
        demand_hashed: refuse a snapshot of which files were taken over as unchanged without being read for it.
        source: a file of the training code, whose commit and authors the record names; that of the function unless given.
    """
    given_source = source
    roles = roles_of(datasets)

    def wrap(function: Callable[..., Any]) -> dg.AssetsDefinition:
        if not any(role != "holdout" for role in roles.values()):
            raise UsageError(f"{function.__name__}: name at least one dataset; training without a snapshot is refused")
        user = read_function(function, dict.fromkeys(("run", "version", *roles)))
        asset = name or user.name
        spec = model.spec(
            "training",
            asset,
            description=user.description,
            code_version=user.code_version,
            deps=[*_dataset_deps(model, list(roles), partition_mappings or {}), *map(model.where.upstream, deps)],
            partitions_def=model.partitions,
            metadata={MODEL_METADATA: model.key, DATASETS_METADATA: list(roles)},
        )
        source = Path(given_source or function.__code__.co_filename)

        def body(context: Any, ledger: LedgerResource, passed: Mapping[str, Any]) -> Any:
            step = _Step(context, model, user, source, roles, passed, spec.key, demand_hashed)
            with refuse_on(context):
                workspace = ledger.open()
                recorded = step.run(workspace)
                how = identified(context, directory(workspace.read()))
            yield dg.MaterializeResult(
                data_version=dg.DataVersion(recorded.record.model_file.digest),
                metadata=training_metadata(workspace, recorded, how, model.where),
            )

        step = model.where.named(asset)
        return dg.multi_asset(name=step, specs=[spec], retry_policy=retry_policy)(
            compute_function(user, body, name=step, space=model.where)
        )

    return wrap


def full_snapshot(workspace: Workspace, item: Recorded[DatasetSnapshot]) -> str:
    """The command that snapshots a dataset anew with every file read."""
    record = item.record
    words = [str(record.observed.get("location", "SOURCE")), "--name", record.name, "--verify", "full"]
    for column in record.header["records"].get("key_columns") or ():
        words += ["--key", str(column)]
    words += ["--label", record.label] if record.label else []
    for rule in record.header["params"]["ignore"]:
        words += ["--ignore", str(rule)]
    words += ["--files-only"] if record.header["records"].get("mode") == "none" else []
    return command(workspace, f"dataset snapshot {shlex.join(words)}")


class _Step:
    """One execution of a training asset."""

    def __init__(
        self,
        context: Any,
        model: GovernedModel,
        user: Any,
        source: Path,
        datasets: Mapping[str, str],
        passed: Mapping[str, Any],
        asset: dg.AssetKey,
        demand_hashed: bool,
    ) -> None:
        self.context, self.model, self.user, self.source = context, model, user, source
        self.datasets, self.passed, self.asset = datasets, passed, asset
        self.demand_hashed = demand_hashed

    def run(self, workspace: Workspace) -> Recorded[TrainingRun]:
        """Train and seal, or return what this very run has sealed before it crashed."""
        context, model = self.context, self.model
        version = partition_key(context)
        if version is None:
            raise UsageError(f"{model.key} is trained one version at a time: launch it with a partition, the version")
        run = root_run_id(context)
        where = model.where
        snapshots = {
            name: resolve_snapshot(context, workspace, name, self.asset, where.upstream(name)) for name in self.datasets
        }
        if self.demand_hashed:
            for dataset, item in snapshots.items():
                demand_hashed(item.record, dataset, how=full_snapshot(workspace, item))
        people = directory(workspace.read())
        code = capture_code(self.source.parent)
        attribution = attribute(context, people, code)
        register_model(workspace, model.definition())
        if not workspace.read().all(TrainingRun, f"model/{model.key}@{version}"):
            check_data(workspace, model.key, list(snapshots.values()), f"training {model.key} {version}")
        instance = instance_of(context)
        sealed = open_version(
            workspace,
            model.key,
            version,
            run=run,
            opened_by=attribution.launched_by,
            run_is_over=lambda other: run_is_over(instance, other),
            run_ended=lambda other: run_has_ended(instance, other),
        )
        if sealed is not None:
            context.log.info(f"{model.key} {version} was sealed by this run before (entry {sealed.seq})")
            record_kept(workspace, sealed)  # what it measured, if it ended before that was recorded
            return sealed
        started_after = workspace.ledger.size()
        recorder = TrainingRecorder()
        try:
            prefetch_environment()  # read while the training goes on
            inputs = {name: Snapshot(workspace, item) for name, item in snapshots.items()}
            for snapshot in inputs.values():
                snapshot.verify()  # also for a function that opens the file by itself
            training = CurrentTraining(workspace, model.key, version, run, recorder, inputs)
            with training_is(training):
                path = self.user.call(context, self.passed, {"run": recorder, "version": version, **inputs})
            rerun_by_default(recorder, self.user.function, self.source, code, self.asset.path, version)
            training.keep_evaluations()
            seal_training(
                workspace,
                recorder,
                model=model.key,
                version=version,
                run=run,
                datasets=[dataset_ref(item, self.datasets[name]) for name, item in snapshots.items()],
                model_path=_model_path(path, recorder, self.user.name),
                code=code,
                environment=training.environment or capture_environment(self.source),
                attribution=with_features(context, people, attribution, recorder),
                started_after_seq=started_after,
                observed={"dagster_run": run_id(context), "attempt": getattr(context, "retry_number", 0)},
            )
            training.record_evaluations()
        except BaseException as error:  # a run that somebody ends is a record too
            self._record_failure(workspace, version, run, error)
            if isinstance(error, FINAL):
                raise refusal(context, error) from error
            raise
        found = workspace.read().latest(TrainingRun, f"model/{model.key}@{version}")
        if found is None:
            raise UsageError(f"{model.key} {version}: the sealed run cannot be read back; run `cognify ledger verify`")
        return found

    def _record_failure(self, workspace: Workspace, version: str, run: str, error: BaseException) -> None:
        """Keep the failure, unless the run was sealed before it failed (a retry returns the sealed run).

        If even that cannot be written (a full disk), the first error is the one to show.
        """
        attempt = getattr(self.context, "retry_number", 0)
        reason = f"{type(error).__name__}: {error}"
        try:
            sealed = workspace.read().latest(TrainingRun, f"model/{self.model.key}@{version}")
            if sealed is not None and sealed.record.observed.get("run") == run:
                return
            own = run_id(self.context)  # another one where the whole run is retried
            observed = {"dagster_run": own, "attempt": attempt}
            record_failure(
                workspace,
                self.model.key,
                version,
                run=run,
                attempt=attempt if own == run else f"{own}/{attempt}",
                reason=reason,
                observed=observed,
            )
        except (LedgerError, OSError) as second:
            self.context.log.error(f"the failed run could not be recorded: {second}")


ROLES = ("train", "validation", "holdout")


def roles_of(datasets: Sequence[str] | Mapping[str, str]) -> dict[str, str]:
    """Return the role of each dataset by its name; a list means that all are trained on.

    Raises:
        UsageError: a single name instead of a list, or an unknown role.
    """
    if isinstance(datasets, str):
        raise UsageError(f"datasets={datasets!r}: give a list of names, or a mapping of names to roles")
    if not isinstance(datasets, Mapping):
        return dict.fromkeys(datasets, "train")
    for name, role in datasets.items():
        if role not in ROLES:
            raise UsageError(f"datasets: {name!r} has the role {role!r}; expected one of {', '.join(ROLES)}")
    return dict(datasets)


def _dataset_deps(
    model: GovernedModel, datasets: Sequence[str], mappings: Mapping[str, dg.PartitionMapping]
) -> list[dg.AssetDep | dg.AssetKey]:
    unknown = sorted(set(mappings) - set(datasets))
    if unknown:
        raise UsageError(f"{model.key}: there is a partition mapping for {unknown[0]!r}, which is none of the datasets")
    keys = {name: model.where.upstream(name) for name in datasets}
    return [
        dg.AssetDep(key, partition_mapping=mappings[name]) if name in mappings else key for name, key in keys.items()
    ]


def check_data(workspace: Workspace, model: str, items: Sequence[Recorded[DatasetSnapshot]], purpose: str) -> None:
    """Refuse data of which the policy in force asks for something that is not there, for a model of this tier.

    Raises:
        DatasetNotReady: naming dataset, root, what is missing, who gives it and the command.
    """
    reading = workspace.read()
    people, policy = directory(reading), policy_in_force(reading).policy
    tier = classification_of(reading, people, policy, model).tier
    require_ready(reading, people, policy, items, tier, purpose)


def _model_path(returned: Any, recorder: TrainingRecorder, name: str) -> Path:
    if returned is not None:
        return Path(returned)
    if recorder.models:
        return recorder.models[-1].path
    raise UsageError(f"{name}: return the path of the saved model, or call run.save_model(path)")


def training_metadata(
    workspace: Workspace, recorded: Recorded[TrainingRun], identified_by: str = NOT_KEPT, space: Space | None = None
) -> dict[str, Any]:
    """What the UI shows about a sealed run. `identified_by` says how its launcher was told, `space` where its datasets' assets are."""
    record = recorded.record
    code = record.code
    return {
        **dataset_links(workspace, "trained_on", record.datasets, space),
        f"{PREFIX}launched_by": person(directory(workspace.read()), record.launched_by),
        f"{PREFIX}identified_by": identified_by,
        f"{PREFIX}unattributed": ", ".join(record.unattributed) or "none",
        f"{PREFIX}metrics": dg.MetadataValue.json(dict(record.metrics)),
        f"{PREFIX}config": dg.MetadataValue.json(dict(record.config)),
        f"{PREFIX}code": code_text(code),
        f"{PREFIX}environment": f"Python {record.environment.python}, {record.environment.platform}",
        f"{PREFIX}model_digest": record.model_file.digest,
        **({f"{PREFIX}model_files": len(record.model_files)} if record.model_files else {}),
        **({f"{PREFIX}checkpoints": len(record.checkpoints)} if record.checkpoints else {}),
        f"{PREFIX}status_command": command(workspace, f"status {record.model} {record.version}"),
        **entry_metadata(workspace, recorded.seq, recorded.leaf),
    }
