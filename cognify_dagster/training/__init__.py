"""Training: captures what a run did, with which code, on which machine.

Capture is pure; only `training.recording` and `training.experiments` write to a workspace.
"""

from __future__ import annotations

from cognify_dagster.training._errors import SealedError, TrainingError
from cognify_dagster.training.code import CodeState, capture_code, clean_remote
from cognify_dagster.training.compute import FLOPS_METHOD, estimate_flops
from cognify_dagster.training.environment import (
    Environment,
    Gpu,
    Package,
    capture_environment,
    prefetch_environment,
)
from cognify_dagster.training.files import (
    FILES_MEDIA_TYPE,
    FileDigest,
    FilesDigest,
    digest_files,
    parse_listing,
    rows_root,
    sha256_file,
)
from cognify_dagster.training.lockfiles import LockFile, find_lock_files
from cognify_dagster.training.pieces import CheckpointFiles, ExternalLink, ModelFiles, TrainingArtifact
from cognify_dagster.training.recorder import TrainingRecorder

__all__ = [
    "FILES_MEDIA_TYPE",
    "FLOPS_METHOD",
    "CheckpointFiles",
    "CodeState",
    "Environment",
    "ExternalLink",
    "FileDigest",
    "FilesDigest",
    "Gpu",
    "LockFile",
    "ModelFiles",
    "Package",
    "SealedError",
    "TrainingArtifact",
    "TrainingError",
    "TrainingRecorder",
    "capture_code",
    "capture_environment",
    "clean_remote",
    "digest_files",
    "estimate_flops",
    "find_lock_files",
    "parse_listing",
    "prefetch_environment",
    "rows_root",
    "sha256_file",
]
