"""What a workspace knows of a model or a version, and the sentence for people who asked for another one."""

from __future__ import annotations

from cognify_dagster.records import ModelAdopted, ModelRegistered, VersionOpened
from cognify_dagster.workspace.reading import Reading

_NEWEST = 8


def unknown_model(reading: Reading, model: str) -> str:
    """Return why nothing can be said about a model, with those that there are; empty if the ledger knows it."""
    if f"model/{model}" in reading.view.heads:
        return ""
    known = sorted({item.record.model for item in reading.all(ModelRegistered)})
    return f"this workspace has no model {model!r}; " + (
        f"it has {', '.join(known)}" if known else "none is registered yet"
    )


def unknown_version(reading: Reading, model: str, version: str) -> str:
    """Return why nothing can be said about a version, with the newest that there are; empty if the ledger knows it."""
    if f"model/{model}@{version}" in reading.view.heads:
        return ""
    missing = unknown_model(reading, model)
    if missing:
        return missing
    found = [
        *((item.seq, item.record.version) for item in reading.all(VersionOpened, f"model/{model}")),
        *((item.seq, item.record.version) for item in reading.all(ModelAdopted, f"model/{model}")),
    ]
    known = list(dict.fromkeys(name for _, name in sorted(found)))
    if not known:
        return f"{model} has no version {version!r}; none was opened yet, which the first training run does"
    more = f"{len(known) - _NEWEST} older ones and " if len(known) > _NEWEST else ""
    return f"{model} has no version {version!r}; there are {more}{', '.join(known[-_NEWEST:])}"
