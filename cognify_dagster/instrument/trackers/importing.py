"""Imports offline runs of W&B and Comet: read, then sealed as a training run or kept as an experiment."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.instrument.trackers.sealing import Imported, keep_experiment, seal_tracked
from cognify_dagster.instrument.trackers.tracked import TrackedRun
from cognify_dagster.workspace import Workspace


def import_wandb(
    workspace: Workspace,
    path: str | Path,
    *,
    model: str = "",
    experiment: str = "",
    version: str | None = None,
    datasets: Sequence[str] = (),
    model_path: str | Path | None = None,
    selection_note: str = "",
    code: str | Path | None = None,
) -> Imported:
    """Import a W&B offline run, as a version of `model` or as an `experiment` of a project.

    Args:
        workspace: where to record.
        path: the run's folder, `wandb/offline-run-…`, or the log in it.
        model: key of a registered model; needs `model_path`, since an offline run holds no model.
        experiment: project of an experiment, in place of a model.
        version: the version; the next free one unless given.
        datasets: `NAME`, `NAME@ENTRY`, each with `=role`; the model's bindings unless given.
        model_path: the model's file or folder.
        selection_note: why this configuration was chosen.
        code: folder of the training code, at the run's commit.

    Raises:
        TrackerError: if the run cannot be read or not be taken over as it is.
    """
    from cognify_dagster.instrument.trackers.wandb import read_wandb

    one_of(model, experiment)
    tracked = read_wandb(path)
    if experiment:
        return keep_experiment(workspace, tracked, project=experiment, datasets=datasets)
    return _sealed(workspace, tracked, model, version, datasets, model_path, selection_note, code)


def import_comet(
    workspace: Workspace,
    path: str | Path,
    *,
    model: str = "",
    experiment: str = "",
    version: str | None = None,
    datasets: Sequence[str] = (),
    model_path: str | Path | None = None,
    model_name: str = "",
    selection_note: str = "",
    code: str | Path | None = None,
) -> Imported:
    """Import a Comet offline experiment, as a version of `model` or as an `experiment` of a project.

    As `import_wandb`; `path` is the zip archive, and the model is the one that was logged (`model_name` among several) unless
    `model_path` names another.
    """
    from cognify_dagster.instrument.trackers.comet import read_comet, unpack_model

    one_of(model, experiment)
    tracked = read_comet(path)
    if experiment:
        return keep_experiment(workspace, tracked, project=experiment, datasets=datasets)
    if model_path is not None or tracked.status != "finished":
        return _sealed(workspace, tracked, model, version, datasets, model_path, selection_note, code)
    with tempfile.TemporaryDirectory(prefix="cognify-comet-") as folder:
        unpacked = unpack_model(path, Path(folder), model_name)
        return _sealed(workspace, tracked, model, version, datasets, unpacked, selection_note, code)


def one_of(model: str, experiment: str) -> None:
    """Demand a model or the project of an experiment, and not both."""
    if bool(model) == bool(experiment):
        raise TrackerError(
            "name either the model that the run is a version of, or the project that it is an experiment of"
        )


def _sealed(
    workspace: Workspace,
    tracked: TrackedRun,
    model: str,
    version: str | None,
    datasets: Sequence[str],
    model_path: str | Path | None,
    selection_note: str,
    code: str | Path | None,
) -> Imported:
    return seal_tracked(
        workspace,
        tracked,
        model=model,
        version=version,
        datasets=datasets,
        model_path=Path(model_path) if model_path is not None else None,
        selection_note=selection_note,
        code=Path(code) if code is not None else None,
    )
