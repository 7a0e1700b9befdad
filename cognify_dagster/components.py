"""The `dg` registry entry point: the components this package offers."""

from cognify_dagster.orchestration.component import GovernedModelComponent

__all__ = ["GovernedModelComponent"]
