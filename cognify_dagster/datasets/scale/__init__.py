"""Snapshots of more files than one machine should hold at once: taken in steps, and compared and proven shard by shard.

``steps`` and ``finishing`` hold the steps, ``staging`` the place where they leave rows for each other; ``manifests`` reads and writes
manifests in parts, ``looking`` compares them and proves from them. See ``docs/large-datasets.md``.
"""

from __future__ import annotations

from cognify_dagster.datasets.scale.finishing import StagedSnapshot, finish
from cognify_dagster.datasets.scale.looking import LeafDiff, all_added, diff_manifests, prove_in_manifest
from cognify_dagster.datasets.scale.manifests import LargeManifest
from cognify_dagster.datasets.scale.staging import Staging, StagingError
from cognify_dagster.datasets.scale.steps import (
    list_portions,
    map_portion,
    map_records,
    plan_ranges,
    plan_records,
    reduce_step,
)

__all__ = [
    "LargeManifest",
    "LeafDiff",
    "StagedSnapshot",
    "Staging",
    "StagingError",
    "all_added",
    "diff_manifests",
    "finish",
    "list_portions",
    "map_portion",
    "map_records",
    "plan_ranges",
    "plan_records",
    "prove_in_manifest",
    "reduce_step",
]
