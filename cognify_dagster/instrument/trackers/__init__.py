"""Runs of other tracking tools, read as they are and sealed as records: W&B and Comet offline runs; the base of the MLflow bridge.

Nothing here needs a network, and nothing of the tools is patched. Names are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cognify_dagster.instrument.trackers.comet import read_comet
    from cognify_dagster.instrument.trackers.errors import RunNotFound, TrackerError, TrackerUnreachable
    from cognify_dagster.instrument.trackers.importing import import_comet, import_wandb
    from cognify_dagster.instrument.trackers.sealing import Imported, keep_experiment, seal_tracked
    from cognify_dagster.instrument.trackers.tracked import ToldEnvironment, TrackedRun
    from cognify_dagster.instrument.trackers.wandb import read_wandb

_WHERE = {
    "Imported": "sealing",
    "RunNotFound": "errors",
    "ToldEnvironment": "tracked",
    "TrackedRun": "tracked",
    "TrackerError": "errors",
    "TrackerUnreachable": "errors",
    "import_comet": "importing",
    "import_wandb": "importing",
    "keep_experiment": "sealing",
    "read_comet": "comet",
    "read_wandb": "wandb",
    "seal_tracked": "sealing",
}

__all__ = [
    "Imported",
    "RunNotFound",
    "ToldEnvironment",
    "TrackedRun",
    "TrackerError",
    "TrackerUnreachable",
    "import_comet",
    "import_wandb",
    "keep_experiment",
    "read_comet",
    "read_wandb",
    "seal_tracked",
]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
