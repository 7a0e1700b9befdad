"""Where a workspace keeps the stat index of a dataset, and which index it trusts.

Invariant: an index is used only if its digest is the one that the dataset's newest recorded snapshot left, so whoever can write
to the workspace's folder, but not to its ledger, cannot have files passed over.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from cognify_dagster.records import DatasetSnapshot
from cognify_dagster.workspace import Workspace


@dataclass(frozen=True)
class KeptIndex:
    """The index of a dataset: where it lies, and the digest (SHA-256, hex) that it has to have; empty if none is recorded."""

    path: Path
    digest: str


def kept_index(workspace: Workspace, name: str) -> KeptIndex:
    """The stat index that a workspace keeps for a dataset or partition, whether or not it is there.

    Args:
        workspace: whose.
        name: the dataset's name.
    """
    held = [item for item in workspace.read().all(DatasetSnapshot, f"dataset/{name}") if item.record.name == name]
    digest = held[-1].record.observed.get("index") if held else None
    path = workspace.home / "cache" / "datasets" / f"{quote(name, safe='')}.index"
    return KeptIndex(path, digest if isinstance(digest, str) else "")
