"""Dagster: assets, checks, sensors, the resource and the component. The only room that imports dagster."""

from dagster_shared.libraries import DagsterLibraryRegistry

from cognify_dagster.orchestration.datasets import SnapshotSource, build_dataset_snapshot, dataset_snapshot
from cognify_dagster.orchestration.deployment import governed_deployment
from cognify_dagster.orchestration.distributed import build_distributed_snapshot, distributed_snapshot
from cognify_dagster.orchestration.evaluation import eval_suite
from cognify_dagster.orchestration.inputs import ModelVersion, Release, Snapshot
from cognify_dagster.orchestration.model import GovernedModel
from cognify_dagster.orchestration.overlap import overlap_check
from cognify_dagster.orchestration.pipes import pipes_training_run, train_with_pipes
from cognify_dagster.orchestration.resource import LedgerResource
from cognify_dagster.orchestration.training import training_run
from cognify_dagster.orchestration.translator import GovernedAssetData, GovernedModelTranslator

DagsterLibraryRegistry.register("cognify-dagster", "0.1.0", is_dagster_package=False)

__all__ = [
    "GovernedAssetData",
    "GovernedModel",
    "GovernedModelTranslator",
    "LedgerResource",
    "ModelVersion",
    "Release",
    "Snapshot",
    "SnapshotSource",
    "build_dataset_snapshot",
    "build_distributed_snapshot",
    "dataset_snapshot",
    "distributed_snapshot",
    "eval_suite",
    "governed_deployment",
    "overlap_check",
    "pipes_training_run",
    "train_with_pipes",
    "training_run",
]
