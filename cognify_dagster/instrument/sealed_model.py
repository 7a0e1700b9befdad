"""Compares model files on this machine with those that a version was sealed with."""

from __future__ import annotations

from pathlib import Path

from cognify_dagster.records import TrainingRun
from cognify_dagster.training.files import differences
from cognify_dagster.training.reading import model_files
from cognify_dagster.workspace import Recorded, Workspace

_SHOWN = 5


def not_sealed(workspace: Workspace, training: Recorded[TrainingRun], path: Path) -> str:
    """Say in what a file or folder is not the sealed model, path by path; empty if every byte lies where it was recorded.

    A single file may have any name. Files with the recorded bytes under each other's names are another model: which of them is
    loaded as what follows from the name.

    Raises:
        TrainingError: nothing there, links inside, or not readable.
        EvidenceError: the list of a folder's files is not in the evidence store, or damaged.
    """
    record = training.record
    lines = differences(model_files(workspace, record), path)
    if not lines:
        return ""
    more = f" (and {len(lines) - _SHOWN} more)" if len(lines) > _SHOWN else ""
    return (
        f"{path}: not the model that {record.model} {record.version} was sealed with (entry {training.seq}): "
        f"{'; '.join(lines[:_SHOWN])}{more}"
    )
