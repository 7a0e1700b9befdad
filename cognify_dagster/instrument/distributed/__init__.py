"""Sharded checkpoints: a manifest over every rank's shards, checks that name what is wrong, and the way to the consolidated model.

Only `save_checkpoint`, `record_checkpoint` and `resume_from` use PyTorch, when they are called; all else works without it.
"""

from __future__ import annotations

from cognify_dagster.instrument.distributed.checking import check, make_manifest, require_whole
from cognify_dagster.instrument.distributed.errors import CheckpointError, Fault
from cognify_dagster.instrument.distributed.lineage import Lineage, TensorLineage, consolidate, verify_consolidated
from cognify_dagster.instrument.distributed.manifest import (
    FileRow,
    Piece,
    ResumedFrom,
    RunHeader,
    ShardManifest,
    parse_manifest,
)
from cognify_dagster.instrument.distributed.ranks import join, load_manifest, manifest_path, save_manifest
from cognify_dagster.instrument.distributed.torchrun import record_checkpoint, resume_from, save_checkpoint

__all__ = [
    "CheckpointError",
    "Fault",
    "FileRow",
    "Lineage",
    "Piece",
    "ResumedFrom",
    "RunHeader",
    "ShardManifest",
    "TensorLineage",
    "check",
    "consolidate",
    "join",
    "load_manifest",
    "make_manifest",
    "manifest_path",
    "parse_manifest",
    "record_checkpoint",
    "require_whole",
    "resume_from",
    "save_checkpoint",
    "save_manifest",
    "verify_consolidated",
]
