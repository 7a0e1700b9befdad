"""Training: captures what a run did, with which code, on which machine. Pure capture: nothing here knows a ledger."""

from __future__ import annotations

from cognify_dagster.training._errors import SealedError, TrainingError
from cognify_dagster.training.code import CodeState, capture_code, clean_remote
from cognify_dagster.training.environment import Environment, Gpu, Package, capture_environment
from cognify_dagster.training.files import FileDigest, FilesDigest, digest_files, sha256_file
from cognify_dagster.training.recorder import ModelFiles, TrainingArtifact, TrainingRecorder

__all__ = [
    "CodeState",
    "Environment",
    "FileDigest",
    "FilesDigest",
    "Gpu",
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
    "sha256_file",
]
