"""Records about training: sealed runs, failed ones, experiments, and the names that code has for its datasets."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from cognify_dagster.records.base import Digest, Hex64, Json, Metric, ModelKey, Part, Record, VersionId, register
from cognify_dagster.records.data import CodeRef, DatasetRef, EvidenceItem
from cognify_dagster.records.governance import person_subjects


class EnvironmentRef(Part):
    """The environment in short; the whole list is evidence."""

    python: str
    platform: str
    packages_digest: Hex64
    gpu: str
    container_image: str
    detail: EvidenceItem
    lock_file: str = Field(
        default="",
        description="the lock files beside the code, as `uv.lock sha256:…`, joined by `, ` if there are several",
    )


class Checkpoint(Part):
    """A checkpoint that training wrote: which files it had, and one root over them.

    `files` is the evidence that lists the files of all checkpoints of the run, one JSON object of name -> `[[path, size, sha256], …]`;
    `root` is the RFC 6962 root over this checkpoint's rows, each as canonical JSON. The bytes themselves are only kept where
    `kept` says so.
    """

    name: str = Field(max_length=300)
    step: int | None = None
    root: Hex64
    file_count: int
    size: int
    files: EvidenceItem
    kept: tuple[EvidenceItem, ...] = ()
    note: str = Field(default="", max_length=300, description="what it is for: last, best, adapter")


class Compute(Part):
    """What the training cost: floating point operations, accelerator time, energy. None where nobody knows.

    `flops_method` says how the estimate was made, as `6*P*D` with parameters and tokens, or the trainer's own count.
    """

    flops: Metric | None = None
    flops_method: str = ""
    parameters: int | None = None
    tokens: int | None = None
    hardware: str = ""
    device_seconds: Metric | None = None
    energy_kwh: Metric | None = None
    energy_method: str = ""


class Distributed(Part):
    """A training over several processes: how many, over which mesh, and the manifest of what each rank wrote.

    `manifest` is evidence: rank, file, shard, offsets and digest of every piece; `root` the RFC 6962 root over its rows.
    """

    world_size: int
    backend: str = ""
    strategy: str = Field(default="", description="such as ddp or fsdp2")
    mesh: dict[str, Json] = Field(default_factory=dict)
    root: Hex64 | None = None
    manifest: EvidenceItem | None = None


class ExternalRun(Part):
    """The same run in another tracking tool, and what it said when this record was sealed.

    `snapshot` is its state as canonical JSON; later differences are found by comparing with it.
    """

    system: Literal["mlflow", "wandb", "comet"]
    run: str = Field(max_length=300)
    experiment: str = Field(default="", max_length=300)
    uri: str = Field(default="", max_length=1000, description="where, without credentials")
    snapshot: EvidenceItem | None = None


class Rerun(Part):
    """How to run the training again: argument vector, folder inside the repository, and how far results may differ.

    `tolerances` maps a metric's name to the largest absolute difference; what is not named has to be equal.
    """

    command: tuple[str, ...] = Field(max_length=200)
    folder: str = "."
    tolerances: dict[str, Metric] = Field(default_factory=dict)
    same_bytes: bool = Field(default=False, description="the model file has to come out byte for byte")


@register
class TrainingRun(Record):
    """A sealed training run of one model version. A second one for the version is refused.

    A model that is one file is `model_file`. Of one that is a folder, `model_file` is the list of its files (media type
    `application/vnd.cognify.files+json`, the bytes `[[path, size, sha256], …]`, sorted by path), named like the folder, and
    `model_files` are the files themselves, named by their paths. Either way the digest of `model_file` stands for the model.

    `model_files` and what follows came later: entries without them have the facts that they always had.
    """

    kind: ClassVar[str] = "training_run"
    model: ModelKey
    version: VersionId
    datasets: tuple[DatasetRef, ...] = Field(min_length=1)
    model_file: EvidenceItem
    config: dict[str, Json] = Field(default_factory=dict)
    seed: int | None = None
    architecture: dict[str, Json] = Field(default_factory=dict)
    base_model: dict[str, Json] = Field(default_factory=dict)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    metric_series: EvidenceItem | None = None
    artefacts: tuple[EvidenceItem, ...] = ()
    selection_note: str = ""
    code: CodeRef
    environment: EnvironmentRef
    launched_by: str = Field(description="person/… or unattributed")
    touched_by: tuple[str, ...] = Field(default=(), description="everyone who touched the version: person/… ids")
    unattributed: tuple[str, ...] = Field(default=(), description="authors and launchers that map to nobody")
    started_after_seq: int = Field(description="ledger size when training started")
    model_files: tuple[EvidenceItem, ...] = Field(
        default=(), description="the files of a model that is a folder; `model_file` is then the list of them"
    )
    checkpoints: tuple[Checkpoint, ...] = Field(default=(), max_length=10_000)
    seeds: dict[str, int] = Field(default_factory=dict, description="by library: python, numpy, torch, data")
    feature_code: CodeRef | None = Field(default=None, description="the feature pipeline's code, where it is another")
    compute: Compute | None = None
    distributed: Distributed | None = None
    external: tuple[ExternalRun, ...] = ()
    rerun: Rerun | None = None
    captured_by: str = Field(default="", description="what wrote the record: dagster, sdk, spool, import")

    @property
    def learned_from(self) -> tuple[DatasetRef, ...]:
        """The snapshots that the training could learn from: all but those it declared as holdout."""
        return tuple(item for item in self.datasets if item.role != "holdout")

    @property
    def model_size(self) -> int:
        """Bytes of the model: of its file, or of all its files."""
        return sum(item.size for item in self.model_files) if self.model_files else self.model_file.size

    def facts(self) -> dict[str, Any]:
        """Return the facts; what came later and is empty is left out, so that earlier entries read as they were written."""
        data = super().facts()
        for name in _SINCE_CAPTURE:
            if not data[name]:
                del data[name]
        if not data["environment"]["lock_file"]:
            del data["environment"]["lock_file"]
        return data

    def subjects(self) -> tuple[str, ...]:
        data = [f"dataset/{item.name}" for item in self.datasets]
        people = person_subjects((self.launched_by, *self.touched_by))
        return (f"model/{self.model}", f"model/{self.model}@{self.version}", *data, *people)

    def evidence(self) -> tuple[str, ...]:
        items = [self.model_file, self.metric_series, self.environment.detail, *self.artefacts, *self.model_files]
        for checkpoint in self.checkpoints:
            items += [checkpoint.files, *checkpoint.kept]
        items += [run.snapshot for run in self.external]
        items.append(self.distributed.manifest if self.distributed else None)
        return tuple(dict.fromkeys(item.digest for item in items if item is not None))


_SINCE_CAPTURE = (
    "model_files",
    "checkpoints",
    "seeds",
    "feature_code",
    "compute",
    "distributed",
    "external",
    "rerun",
    "captured_by",
)


@register
class ExperimentRun(Record):
    """A run that is not governed: an experiment, recorded so that it is not lost, and never the ground of a package.

    It is about no model version, so nothing that decides on versions can find it. `reason` says why it is an experiment.
    """

    kind: ClassVar[str] = "experiment_run"
    project: ModelKey
    run: str = Field(max_length=300)
    reason: str = Field(max_length=2000)
    status: Literal["completed", "failed", "killed"] = "completed"
    datasets: tuple[DatasetRef, ...] = ()
    model_digest: Digest | None = None
    config: dict[str, Json] = Field(default_factory=dict)
    metrics: dict[str, Metric] = Field(default_factory=dict)
    metric_series: EvidenceItem | None = None
    results: dict[str, Json] = Field(default_factory=dict, description="evaluations as they were reported")
    code: CodeRef
    environment: EnvironmentRef
    launched_by: str = Field(description="person/… or unattributed")
    external: tuple[ExternalRun, ...] = ()

    def subjects(self) -> tuple[str, ...]:
        return (f"experiment/{self.project}",)

    def evidence(self) -> tuple[str, ...]:
        items = [self.metric_series, self.environment.detail, *(run.snapshot for run in self.external)]
        return tuple(dict.fromkeys(item.digest for item in items if item is not None))


class Binding(Part):
    """A name that training code uses for a snapshot: `train`, `holdout-v3`."""

    label: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
    dataset: DatasetRef


@register
class DatasetsBound(Record):
    """Which snapshots a project's training and evaluations use, by the names that its code has for them. The newest counts."""

    kind: ClassVar[str] = "datasets_bound"
    project: ModelKey
    bindings: tuple[Binding, ...] = Field(max_length=200)
    bound_by: str = Field(default="", description="person/… or unattributed")

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.project}", *sorted({f"dataset/{item.dataset.name}" for item in self.bindings}))


@register
class TrainingFailed(Record):
    """A training run that ended without a model; a record too."""

    kind: ClassVar[str] = "training_failed"
    model: ModelKey
    version: VersionId
    run: str = Field(description="the run that opened the version; `observed.dagster_run` is the one that ended")
    reason: str

    def subjects(self) -> tuple[str, ...]:
        return (f"model/{self.model}", f"model/{self.model}@{self.version}")
