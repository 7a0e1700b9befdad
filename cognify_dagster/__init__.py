"""cognify_dagster: audit-ready Dagster pipelines.

Names are loaded when they are first used (PEP 562), so that `import cognify_dagster.ledger` works without Dagster.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_HOME = {
    "EvalResult": "evaluation",
    "GovernedAssetData": "orchestration",
    "GovernedModel": "orchestration",
    "GovernedModelTranslator": "orchestration",
    "LedgerResource": "orchestration",
    "ModelVersion": "orchestration",
    "Provenance": "datasets",
    "Release": "orchestration",
    "Snapshot": "orchestration",
    "SnapshotSource": "orchestration",
    "TrainingRecorder": "training",
    "Workspace": "workspace",
    "build_dataset_snapshot": "orchestration",
    "build_distributed_snapshot": "orchestration",
    "dataset_snapshot": "orchestration",
    "distributed_snapshot": "orchestration",
    "eval_suite": "orchestration",
    "governed_deployment": "orchestration",
    "overlap_check": "orchestration",
    "pipes_training_run": "orchestration",
    "train_with_pipes": "orchestration",
    "training_run": "orchestration",
}

_MODULES = {"sdk": "cognify_dagster.instrument.sdk"}

__all__ = ["__version__", *sorted((*_HOME, *_MODULES))]  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(_MODULES[name])
    home = _HOME.get(name)
    if home is None:
        raise AttributeError(f"module 'cognify_dagster' has no attribute {name!r}")
    return getattr(import_module(f"cognify_dagster.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
