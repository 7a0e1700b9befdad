"""Governed records from plain `@dg.asset` functions, without this package's decorators: what `LedgerResource` calls.

A plain project has partitions of its own or none, so its runs are mapped to versions: the partition where it is one of the model's
versions, else a name made of the run's id. An evaluation finds its version by the very bytes that it evaluated.

Invariants: training data are hashed against their snapshots before a run is sealed; a snapshot counts only if it was taken before the
training step began or upstream in the same run; a threshold counts only if it was adopted before the training step began.
"""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dagster as dg

from cognify_dagster.datasets.recording import dataset_ref, snapshots_of
from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.evaluation.recording import FAMILIES, family_status, overlap_of, record_results
from cognify_dagster.governance import directory
from cognify_dagster.instrument.sdk.reported import record_kept
from cognify_dagster.orchestration._compat import (
    asset_function,
    instance_of,
    model_partitions,
    partition_key,
    root_run_id,
    run_id,
    run_is_over,
    step_started_us,
)
from cognify_dagster.orchestration.attribution import attribute, identified, launcher_alias, with_features
from cognify_dagster.orchestration.current import CurrentTraining, rerun_by_default, training_is
from cognify_dagster.orchestration.evaluation import evaluation_metadata
from cognify_dagster.orchestration.inputs import Snapshot
from cognify_dagster.orchestration.metadata import PREFIX
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.names import UsageError
from cognify_dagster.orchestration.overlap import compare_and_record
from cognify_dagster.orchestration.training import check_data, training_metadata
from cognify_dagster.records import DatasetSnapshot, Evaluation, ModelRegistered, TrainingRun
from cognify_dagster.training import TrainingRecorder, capture_code, capture_environment, digest_files
from cognify_dagster.training.recording import code_ref, open_version, record_failure, register_model, seal_training
from cognify_dagster.workspace import Recorded, Workspace

_UNUSABLE = re.compile(r"[^A-Za-z0-9_.+-]+")


@dataclass
class Attached:
    """What `ledger.attach` gives: a recorder with the data that the training was declared to use.

    Attributes:
        run: the `TrainingRecorder` to write to.
        version: the version that will be sealed.
        datasets: the snapshots, by name; reading one checks its bytes.
        recorded: the sealed run, once the block has ended.
    """

    run: TrainingRecorder
    version: str
    datasets: Mapping[str, Snapshot]
    recorded: Recorded[TrainingRun] | None = field(default=None, repr=False)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self.run, name)


def model_of(workspace: Workspace, model: GovernedModel | str) -> str:
    """Return a model's key after registering it; one that is only named has to be registered already.

    Raises:
        UsageError: if nobody registered it.
    """
    if isinstance(model, GovernedModel):
        register_model(workspace, model.definition())
        return model.key
    if workspace.read().latest(ModelRegistered, f"model/{model}") is None:
        raise UsageError(
            f'model {model!r} is not registered in this ledger: give a cg.GovernedModel(key="{model}", owner=…, risk_tier=…) '
            "instead of its name"
        )
    return model


def version_of(context: Any, model: GovernedModel | str) -> str:
    """Return the version that a run trains: its partition if that is a version of the model, else one named after the run.

    A partition of another kind stands before the run: `2026-01.run-1a2b3c4d`.
    """
    run = f"run-{_UNUSABLE.sub('', root_run_id(context).removeprefix('direct-'))[:8]}"
    key = partition_key(context)
    if key is None:
        return run
    name = model.partitions.name if isinstance(model, GovernedModel) else f"{model}_versions"
    if name in model_partitions(context):
        return key
    usable = _UNUSABLE.sub("-", key).strip("-.+_") or "partition"
    if usable != key or len(usable) > 36:
        usable = f"{usable[:27]}-{hashlib.sha256(key.encode()).hexdigest()[:8]}"
    return f"{usable}.{run}"


class PlainTraining:
    """One training of a plain asset: opens the version, seals it or records its failure."""

    def __init__(
        self,
        context: Any,
        workspace: Workspace,
        model: GovernedModel | str,
        trained_on: Sequence[str],
        version: str | None,
    ) -> None:
        if isinstance(trained_on, str) or not trained_on:
            raise UsageError(
                "trained_on: name the snapshots that it was trained on, as a list; training without one is refused"
            )
        self.context, self.workspace, self.root = context, workspace, root_run_id(context)
        self.given = model
        self.model = model_of(workspace, model)
        self.version = version or version_of(context, model)
        self.function = asset_function(context)
        self.file = Path(self.function.__code__.co_filename)
        self.code = capture_code(self.file.parent)
        self.who = attribute(context, directory(workspace.read()), self.code)
        self.started_after = self._started_after()
        found = {name: self._snapshot(name) for name in trained_on}
        self.snapshots = {name: Snapshot(workspace, item) for name, item in found.items()}
        check_data(workspace, self.model, list(found.values()), f"training {self.model} {self.version}")

    def open(self, digest: str | None = None) -> Recorded[TrainingRun] | None:
        """Open the version. What this run sealed before a crash is returned if its model file is the same (`digest`)."""
        instance = instance_of(self.context)
        first = self.version
        for attempt in range(2, 100):
            sealed = open_version(
                self.workspace,
                self.model,
                self.version,
                run=self.root,
                opened_by=self.who.launched_by,
                run_is_over=lambda other: run_is_over(instance, other),
            )
            if sealed is None or digest is None or sealed.record.model_file.digest.removeprefix("sha256:") == digest:
                return sealed
            self.version = f"{first}.{attempt}"  # a retry that trained other bytes is another version
        raise UsageError(f"{self.model} {first}: this run sealed a hundred versions; give version=")

    def seal(self, recorder: TrainingRecorder, path: Path, training: CurrentTraining) -> Recorded[TrainingRun]:
        """Check the data, seal the run, and show the version as a partition if the model has such."""
        context = self.context
        for snapshot in self.snapshots.values():
            snapshot.verify()
        rerun_by_default(
            recorder,
            self.function,
            self.file,
            self.code,
            list(context.asset_key.path),
            partition_key(context),
            upstream=True,
        )
        training.keep_evaluations()
        seal_training(
            self.workspace,
            recorder,
            model=self.model,
            version=self.version,
            run=self.root,
            datasets=[dataset_ref(item.recorded, "train") for item in self.snapshots.values()],
            model_path=path,
            code=self.code,
            environment=training.environment or capture_environment(self.file),
            attribution=with_features(context, directory(self.workspace.read()), self.who, recorder),
            started_after_seq=self.started_after,
            began_us=step_started_us(context) or 0,
            observed={"dagster_run": run_id(context), "attempt": getattr(context, "retry_number", 0)},
        )
        instance, name = instance_of(context), f"{self.model}_versions"
        if isinstance(self.given, GovernedModel):
            name = self.given.partitions.name or name
        if instance is not None:
            instance.add_dynamic_partitions(name, [self.version])
        found = self.workspace.read().latest(TrainingRun, f"model/{self.model}@{self.version}")
        if found is None:
            raise UsageError(
                f"{self.model} {self.version}: the sealed run cannot be read back; run `cognify ledger verify`"
            )
        return found

    def failed(self, error: BaseException) -> None:
        """Record that it ended without a model; see `training._Step`."""
        try:
            record_failure(
                self.workspace,
                self.model,
                self.version,
                run=self.root,
                attempt=getattr(self.context, "retry_number", 0),
                reason=f"{type(error).__name__}: {error}",
            )
        except Exception as second:
            self.context.log.error(f"the failed run could not be recorded: {second}")

    def current(self, recorder: TrainingRecorder) -> CurrentTraining:
        """What `train_with_pipes` and the SDK find."""
        return CurrentTraining(self.workspace, self.model, self.version, self.root, recorder, self.snapshots)

    def _started_after(self) -> int:
        """How many entries the ledger had when this step began; as many as now where nobody knows when that was."""
        started = step_started_us(self.context)
        reading = self.workspace.read()
        size = reading.size
        if started is None:
            return size
        while size and reading.view.entries[size - 1].entry.time_us > started:
            size -= 1
        return size

    def _snapshot(self, name: str) -> Recorded[DatasetSnapshot]:
        held = snapshots_of(self.workspace.read(), name)
        own = [item for item in held if item.record.observed.get("run") == self.root]
        before = [item for item in held if item.seq < self.started_after]
        if not own and not before:
            raise UsageError(
                f"dataset {name!r} was not snapshotted before this training began: record it in the asset that makes it, "
                "`yield from ledger.record(context, dataset=…)`, and materialize that first"
            )
        return (own or before)[-1]


@contextmanager
def attached(
    context: Any, workspace: Workspace, model: GovernedModel | str, trained_on: Sequence[str], version: str | None
) -> Iterator[Attached]:
    """See `LedgerResource.attach`."""
    training = PlainTraining(context, workspace, model, trained_on, version)
    sealed = training.open()
    if sealed is not None:
        context.log.info(f"{training.model} {training.version} was sealed by this run before (entry {sealed.seq})")
        record_kept(workspace, sealed)  # what it measured, if it ended before that was recorded
    recorder = TrainingRecorder()
    handle = Attached(recorder, training.version, training.snapshots)
    current = training.current(recorder)
    try:
        with training_is(current):
            yield handle
        if sealed is None:
            if not recorder.models:
                raise UsageError(
                    f"{training.model} {training.version}: call run.save_model(path) before the block ends"
                )
            sealed = training.seal(recorder, recorder.models[-1].path, current)
            current.record_evaluations()
    except BaseException as error:
        if sealed is None:
            training.failed(error)
        raise
    handle.recorded = sealed
    metadata = training_metadata(workspace, sealed, identified(context, directory(workspace.read())))
    context.add_output_metadata({**metadata, f"{PREFIX}version": sealed.record.version})
    context.set_data_version(context.asset_key, dg.DataVersion(sealed.record.model_file.digest))


def training_result(
    context: Any,
    workspace: Workspace,
    model: GovernedModel | str,
    file: Path,
    trained_on: Sequence[str],
    *,
    version: str | None,
    logged: Mapping[str, Any],
) -> dg.MaterializeResult:
    """Seal what a plain asset has trained; return the result that Dagster shows."""
    training = PlainTraining(context, workspace, model, trained_on, version)
    sealed = training.open(digest_files(file).sha256)
    if sealed is None:
        recorder = TrainingRecorder()
        try:
            recorder.log(**{key: value for key, value in logged.items() if value})
            recorder.save_model(file)
            sealed = training.seal(recorder, file, training.current(recorder))
        except BaseException as error:  # a run that somebody ends is a record too
            training.failed(error)
            raise
    else:
        context.log.info(f"{training.model} {training.version} was sealed by this run before (entry {sealed.seq})")
    metadata = training_metadata(workspace, sealed, identified(context, directory(workspace.read())))
    return dg.MaterializeResult(
        data_version=dg.DataVersion(sealed.record.model_file.digest),
        metadata={**metadata, f"{PREFIX}version": sealed.record.version},
    )


def evaluation_result(
    context: Any,
    workspace: Workspace,
    model: GovernedModel | str,
    results: Any,
    evaluated_on: str,
    *,
    file: Path | None,
    version: str | None,
    gates: str | None,
    ignore: Sequence[str],
    protected_attributes: Sequence[str],
) -> dg.MaterializeResult:
    """Record what a plain asset has measured; return the result that Dagster shows."""
    key = model_of(workspace, model)
    training = _evaluated(context, workspace, model, key, file, version)
    reading = workspace.read()
    subject, run = f"model/{key}@{training.record.version}", f"{root_run_id(context)}/{training.record.version}"
    done = [item for item in reading.all(Evaluation, subject) if item.record.observed.get("run") == run]
    if done:
        context.log.info(f"this run recorded its evaluation before (entry {done[-1].seq})")
        recorded = done[-1]
    else:
        held = snapshots_of(reading, evaluated_on)
        if not held:
            raise EvaluationError(
                f"dataset {evaluated_on!r} was never snapshotted; an evaluation on other data is refused"
            )
        data = held[-1]
        check_data(workspace, key, [data], f"evaluating {key} {training.record.version}")
        Snapshot(workspace, data).verify()
        for ref in training.record.learned_from:
            if not overlap_of(reading, [ref], data.record.root):
                source = reading.find(DatasetSnapshot, ref.seq)
                if source is not None:
                    compare_and_record(context, workspace, source, data, _ignored(data.record, ignore))
        seq, _ = record_results(
            workspace,
            training=training,
            dataset=dataset_ref(data, "evaluation"),
            results=results,
            evaluator=launcher_alias(context),
            code=code_ref(capture_code(Path(asset_function(context).__code__.co_filename).parent)),
            run=run,
            gate_set=gates,
            protected_attributes=protected_attributes,
            observed={"dagster_run": run_id(context)},
        )
        recorded = next(item for item in workspace.read().all(Evaluation, subject) if item.seq == seq)
    families = {
        f"{PREFIX}{family}": ("passed: " if passed else "failed: ") + text
        for family in FAMILIES
        for passed, text in [family_status(workspace.read(), recorded, family)]
    }
    return dg.MaterializeResult(
        data_version=dg.DataVersion(recorded.leaf),
        metadata={
            **evaluation_metadata(workspace, recorded),
            **families,
            f"{PREFIX}version": training.record.version,
        },
    )


def _evaluated(
    context: Any, workspace: Workspace, model: GovernedModel | str, key: str, file: Path | None, version: str | None
) -> Recorded[TrainingRun]:
    """Find the sealed run of what was evaluated: by the file's bytes, else as named, else by the partition or this very run."""
    reading = workspace.read()
    runs = reading.all(TrainingRun, f"model/{key}")
    if version is not None:
        runs = [item for item in runs if item.record.version == version]
    if file is not None:
        digest = digest_files(file).sha256
        found = [item for item in runs if item.record.model_file.digest.removeprefix("sha256:") == digest]
        if not found:
            raise EvaluationError(
                f"{file} (sha256 {digest}) is the model file of no sealed run of {key}"
                + (f" {version}" if version else "")
                + "; record the training first, and evaluate the file that it saved"
            )
        return found[-1]
    if version is None:
        wanted, root = version_of(context, model), root_run_id(context)
        runs = [item for item in runs if item.record.version == wanted or item.record.observed.get("run") == root]
    if not runs:
        raise EvaluationError(
            f"{key}: this run trained no version; say what was evaluated with file=<the model's file> or version=<its version>"
        )
    return runs[-1]


def _ignored(record: DatasetSnapshot, ignore: Sequence[str]) -> tuple[str, ...]:
    """The columns left out of the comparison with the training data: those named, else key and label."""
    if ignore:
        return tuple(ignore)
    columns = [str(name) for name in record.header["records"].get("key_columns") or ()]
    return (*columns, *([record.label] if record.label else []))
