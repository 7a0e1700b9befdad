"""The MLflow bridge: a run is mirrored into a record, where the record stands goes back as tags, and both stores are compared.

MLflow is used through its public client and imported when it is needed. Names are loaded when they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cognify_dagster.instrument.mlflow.comparing import Comparison, Difference, compare
    from cognify_dagster.instrument.mlflow.linking import link_mlflow
    from cognify_dagster.instrument.mlflow.mirroring import mirror
    from cognify_dagster.instrument.mlflow.tagging import Synced, sync

_WHERE = {
    "Comparison": "comparing",
    "Difference": "comparing",
    "Synced": "tagging",
    "compare": "comparing",
    "link_mlflow": "linking",
    "mirror": "mirroring",
    "sync": "tagging",
}

__all__ = ["Comparison", "Difference", "Synced", "compare", "link_mlflow", "mirror", "sync"]


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)
