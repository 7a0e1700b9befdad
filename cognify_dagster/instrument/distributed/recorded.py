"""Finds in a workspace what manifests of sharded checkpoints a model version's sealed training recorded."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cognify_dagster.instrument.distributed.errors import CheckpointError
from cognify_dagster.instrument.distributed.manifest import ShardManifest, parse_manifest
from cognify_dagster.records import TrainingRun
from cognify_dagster.workspace import Workspace

MEDIA_TYPE = "application/vnd.cognify.shards+json"
"""Of a manifest that a training run holds as an artefact."""


@dataclass(frozen=True)
class RecordedManifest:
    """A manifest from the evidence store, and the ledger entry that names it."""

    seq: int
    manifest: ShardManifest

    @property
    def name(self) -> str:
        """The checkpoint's name."""
        return self.manifest.header.name


def artifact_name(checkpoint: str) -> str:
    """The plain file name under which a checkpoint's manifest is attached to the run."""
    return "shards-" + re.sub(r"[^A-Za-z0-9._-]", "-", checkpoint)[:100] + ".json"


def recorded_manifests(workspace: Workspace, model: str, version: str) -> list[RecordedManifest]:
    """Return the manifests that the version's sealed run names, in the order it recorded them. Evidence is checked as it is read.

    Raises:
        CheckpointError: the version has no sealed run, or the run recorded no sharded checkpoint.
    """
    found = workspace.read().latest(TrainingRun, f"model/{model}@{version}")
    if found is None:
        raise CheckpointError(f"{model} {version} has no sealed training run")
    manifests = [
        RecordedManifest(found.seq, parse_manifest(workspace.evidence.get(item.digest), item.name))
        for item in found.record.artefacts
        if item.media_type == MEDIA_TYPE
    ]
    if not manifests:
        raise CheckpointError(f"{model} {version}: its run (entry {found.seq}) recorded no sharded checkpoint")
    return manifests


def choose(manifests: list[RecordedManifest], *, root: str = "", name: str = "") -> RecordedManifest:
    """Return the manifest with a root or a checkpoint's name.

    Raises:
        CheckpointError: there is none; the message lists those there are.
    """
    for item in manifests:
        if (root and item.manifest.root == root) or (name and item.name == name):
            return item
    listed = ", ".join(f"{item.name} (root {item.manifest.root})" for item in manifests)
    wanted = f"the root {root}" if root else f"the name {name!r}"
    raise CheckpointError(f"no checkpoint of this version has {wanted}; recorded are: {listed}")
