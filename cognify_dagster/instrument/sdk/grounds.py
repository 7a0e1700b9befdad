"""What a run stands on: the snapshots it is bound to, and whether a governed version may come of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cognify_dagster.instrument.sdk.bindings import BoundDataset, asked_datasets, bindings_at, datasets_of
from cognify_dagster.instrument.sdk.ended import Ended
from cognify_dagster.instrument.sdk.errors import SdkError
from cognify_dagster.instrument.touching import require_refs
from cognify_dagster.records import DatasetRef, DatasetSnapshot, ModelRegistered
from cognify_dagster.training.recording import register_model
from cognify_dagster.workspace import Reading, Workspace


@dataclass(frozen=True)
class Ground:
    """What a run stands on.

    Attributes:
        datasets: the datasets it may use, by their labels.
        ungoverned: why it is an experiment; empty where it is governed.
    """

    datasets: tuple[BoundDataset, ...]
    ungoverned: str = ""

    @property
    def trained_on(self) -> tuple[BoundDataset, ...]:
        """Those that it trains on."""
        return tuple(item for item in self.datasets if item.trained_on)

    @property
    def recorded(self) -> tuple[DatasetRef, ...]:
        """What the record of the training names, each once: what it trains on, and the holdouts that its code had a name for."""
        chosen = [item.ref for item in self.datasets if item.trained_on or item.ref.role == "holdout"]
        return tuple({(ref.role, ref.name, ref.root): ref for ref in chosen}.values())


def ground_of(reading: Reading, ended: Ended) -> Ground:
    """Return what a run stands on, and whether it is governed.

    Raises:
        SdkError: the call named data that were never snapshotted.
    """
    project = ended.project
    if ended.pins is not None:
        datasets = ended.pins
        require_pins(reading, datasets)
    elif ended.asked is not None:
        datasets = asked_datasets(reading, ended.asked)
    else:
        bindings = bindings_at(reading, project, seen=ended.seen, started_us=ended.started_us)
        datasets = datasets_of(reading, bindings)
    if ended.experiment:
        return Ground(datasets, ended.experiment)
    if ended.ungoverned:
        return Ground(datasets, ended.ungoverned)
    if not any(item.trained_on for item in datasets):
        bound = f" (bound are {', '.join(item.label for item in datasets)})" if datasets else ""
        return Ground(
            datasets,
            f"no training snapshot is bound to {project}{bound}, so this was an experiment; name them once with "
            f"`cognify dataset bind {project} train=SNAPSHOT holdout-v1=SNAPSHOT`",
        )
    if reading.latest(ModelRegistered, f"model/{project}") is None and ended.definition is None:
        return Ground(
            datasets,
            f"{project} is not a registered model, so this was an experiment; register it with "
            "cognify.init(project=…, owner=…, risk_tier=…, intended_use=…)",
        )
    return Ground(datasets)


def require_pins(reading: Reading, pins: Sequence[BoundDataset]) -> None:
    """Refuse datasets that were kept outside the ledger and are not in it.

    Raises:
        SdkError: naming the label.
    """
    for item in pins:
        found = reading.find(DatasetSnapshot, item.ref.seq)
        if found is None or (found.record.name, found.record.root) != (item.ref.name, item.ref.root):
            raise SdkError(f"{item.label}: entry {item.ref.seq} is no snapshot of {item.ref.name} in this ledger")


def require_data(reading: Reading, project: str, datasets: tuple[BoundDataset, ...], purpose: str) -> None:
    """Refuse data of which the policy in force asks for something that is not there.

    Raises:
        GovernanceError: naming dataset, what is missing and who gives it.
    """
    require_refs(reading, project, (item.ref for item in datasets), purpose)


def register_if_new(workspace: Workspace, definition: ModelRegistered | None) -> None:
    """Register a model that the ledger does not know yet; one that it knows stays as it is."""
    if definition is None or workspace.read().latest(ModelRegistered, f"model/{definition.model}") is not None:
        return
    register_model(workspace, definition)
