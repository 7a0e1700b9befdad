"""Reads the files of a sealed run back: the model as it was saved, the files of a checkpoint.

Invariants: every byte is compared with the recorded digest while it is copied; a list of files counts only if it has the digest
that the entry names, and only files on it are written, below the folder; a checkpoint's list has to have the recorded root.
"""

from __future__ import annotations

from pathlib import Path

from cognify_dagster.records import Checkpoint, TrainingRun
from cognify_dagster.training._errors import TrainingError
from cognify_dagster.training.files import FILES_MEDIA_TYPE, MAX_LISTING_BYTES, FileDigest, parse_listing, rows_root
from cognify_dagster.training.pieces import checkpoint_files
from cognify_dagster.workspace import Workspace


def model_files(workspace: Workspace, record: TrainingRun) -> tuple[FileDigest, ...]:
    """Returns the files of a sealed run's model: one, or those of its folder.

    Raises:
        TrainingError: if the list of a folder's files and the files that the entry names do not agree.
        EvidenceError: if the list is not in the evidence store, or damaged.
    """
    item = record.model_file
    if item.media_type != FILES_MEDIA_TYPE:
        return (FileDigest(Path(item.name).name, item.size, item.digest.removeprefix("sha256:")),)
    if item.size > MAX_LISTING_BYTES:
        raise TrainingError(f"{record.model} {record.version}: the list of its files has {item.size} bytes")
    listed = parse_listing(workspace.evidence.get(item.digest))
    held = {(part.name, part.size, part.digest.removeprefix("sha256:")) for part in record.model_files}
    if held != {(part.path, part.size, part.sha256) for part in listed}:
        raise TrainingError(
            f"{record.model} {record.version}: the entry names other files than the list of its model's files; the record does not "
            "hold together, run `cognify ledger verify`"
        )
    return listed


def copy_model(workspace: Workspace, record: TrainingRun, folder: Path) -> Path:
    """Writes a sealed run's model below a folder and returns its path, a file or a folder.

    Raises:
        TrainingError: see `model_files`.
        EvidenceError: if a file is missing, or not the one that was recorded; nothing under its name is left then.
    """
    files = model_files(workspace, record)
    name = Path(record.model_file.name).name
    name = "model" if name in ("", ".", "..") else name
    target = folder / name
    if record.model_file.media_type != FILES_MEDIA_TYPE:
        workspace.evidence.copy_to(record.model_file.digest, target)
        return target
    target.mkdir(mode=0o700)
    for item in files:
        place = target.joinpath(*item.path.split("/"))
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        workspace.evidence.copy_to(f"sha256:{item.sha256}", place)
    return target


def checkpoint_of(record: TrainingRun, name: str) -> Checkpoint:
    """Returns a checkpoint of a run by its name, or by its step as text.

    Raises:
        TrainingError: if there is none, or several were written at that step.
    """
    exact = [item for item in record.checkpoints if item.name == name]
    found = exact or [item for item in record.checkpoints if item.step is not None and str(item.step) == name]
    if len(found) != 1:
        known = ", ".join(item.name for item in record.checkpoints[:20]) or "none"
        what = "several checkpoints of step" if found else "no checkpoint"
        raise TrainingError(f"{record.model} {record.version}: {what} {name!r}; on record: {known}")
    return found[0]


def files_of_checkpoint(workspace: Workspace, checkpoint: Checkpoint) -> tuple[FileDigest, ...]:
    """Returns the files that a checkpoint had when it was recorded.

    Raises:
        TrainingError: if the list in evidence is not the one that has the recorded root.
        EvidenceError: if the list is not in the evidence store, or damaged.
    """
    if checkpoint.files.size > MAX_LISTING_BYTES:
        raise TrainingError(f"checkpoint {checkpoint.name}: the list of its files has {checkpoint.files.size} bytes")
    files = checkpoint_files(workspace.evidence.get(checkpoint.files.digest), checkpoint.name)
    if rows_root([item.row() for item in files]) != checkpoint.root or len(files) != checkpoint.file_count:
        raise TrainingError(f"checkpoint {checkpoint.name}: the list of its files does not have the recorded root")
    return files
