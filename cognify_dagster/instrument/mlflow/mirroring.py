"""Mirrors an MLflow run into a record: parameters, whole curves, tags, data as MLflow names it, artifacts and the model.

The digest that MLflow gives a dataset covers only a first part of its rows. It is kept as MLflow's word; which data the run stands on
is said by snapshots of the ledger, without which nothing is mirrored as a version.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml

from cognify_dagster.instrument.mlflow.artifacts import Downloaded, download, find_model
from cognify_dagster.instrument.mlflow.store import MlflowStore
from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.instrument.trackers.importing import one_of
from cognify_dagster.instrument.trackers.sealing import Imported, keep_experiment, seal_tracked
from cognify_dagster.instrument.trackers.tracked import Status, ToldCode, ToldEnvironment, TrackedRun, clean_uri
from cognify_dagster.instrument.trackers.wandb import requirements
from cognify_dagster.workspace import Workspace

_STATUS: Mapping[str, Status] = {"FINISHED": "finished", "FAILED": "failed", "KILLED": "killed"}
_MAX_YAML = 1024 * 1024
_FLAVOURS = ("sklearn_version", "pytorch_version", "xgb_version", "lgb_version", "tensorflow_version", "keras_version",
             "transformers_version", "catboost_version", "onnx_version")  # fmt: skip


def mirror(
    run_id: str,
    *,
    workspace: Workspace | str | Path | None = None,
    tracking_uri: str = "",
    model: str = "",
    experiment: str = "",
    version: str | None = None,
    datasets: Sequence[str] = (),
    artifact: str = "",
    selection_note: str = "",
    code: str | Path | None = None,
) -> Imported:
    """Mirror a run that has ended, as a version of a governed model or as an experiment of a project.

    The same run mirrored again finds its entry. A run that failed or was killed is recorded as a failed one.

    Args:
        run_id: the run's id in MLflow.
        workspace: where to record: an open workspace or its path; searched as the commands do unless given.
        tracking_uri: address of MLflow; `MLFLOW_TRACKING_URI` unless given.
        model: key of a registered model.
        experiment: project of an experiment, in place of a model.
        version: the version; the one that holds this run already, else the next free one.
        datasets: the snapshots that the run used: `NAME` or `NAME@ENTRY`, each with `=role`; the model's bindings unless given.
        artifact: name or id of the logged model, or path of the artifact that is the model; needed where there are several.
        selection_note: why this configuration was chosen.
        code: folder of the training code, at the commit that MLflow names.

    Raises:
        TrackerError: if the run has not ended, is deleted, logged no model, or cannot be taken over as it is.
        RunNotFound: if there is no such run.
        TrackerUnreachable: if MLflow gives no answer.
    """
    one_of(model, experiment)
    opened = workspace if isinstance(workspace, Workspace) else Workspace.open(workspace)
    store = MlflowStore(tracking_uri)
    state = store.glance(run_id)
    _require_usable(state)
    with tempfile.TemporaryDirectory(prefix="cognify-mlflow-") as folder:
        finished = state["run"]["status"] == "FINISHED"
        place = find_model(store, state, artifact) if finished and not experiment else None
        if finished and not experiment and place is None:
            raise TrackerError(
                f"run {run_id} logged no model; name the artifact that is it (--artifact PATH), or keep the run as an experiment "
                "(--experiment PROJECT)"
            )
        got = download(store, run_id, place, Path(folder))
        store.settled(state)
        tracked = tracked_run(state, got, store.where)
        if experiment:
            return keep_experiment(opened, tracked, project=experiment, datasets=datasets)
        artefacts, _ = got.attachable()
        return seal_tracked(
            opened,
            tracked,
            model=model,
            version=version,
            datasets=datasets,
            model_path=got.model,
            artefacts=artefacts,
            selection_note=selection_note,
            code=Path(code) if code is not None else None,
            architecture=architecture(got),
        )


def tracked_run(state: Mapping[str, Any], got: Downloaded, uri: str) -> TrackedRun:
    """Return a run's state and files in the form that is sealed."""
    run, tags = state["run"], state["tags"]
    _, notes = got.attachable()
    named = sorted({str(one["name"]) for one in state["inputs"]})
    if named:
        notes.append(
            f"MLflow names as data {', '.join(named)}; its digests cover a first part of the rows and prove nothing"
        )
    return TrackedRun(
        system="mlflow",
        run=str(run["id"]),
        name=str(run["name"]),
        status=_STATUS.get(str(run["status"]), "running"),
        config=state["params"],
        metrics={
            name: tuple((int(step), float(str(value).replace("Infinity", "inf"))) for step, value, _ in points)
            for name, points in state["metrics"].items()
        },
        state=with_files(state, got),
        experiment=str(run["experiment"]),
        uri=uri,
        user=str(run["user"]),
        started_us=_started_us(state),
        parent=str(run["parent"]),
        code=ToldCode(
            commit=_commit(str(tags.get("mlflow.source.git.commit", ""))),
            remote=clean_uri(str(tags.get("mlflow.source.git.repoURL", ""))),
            program=str(tags.get("mlflow.source.name", "")),
        ),
        environment=_environment(got),
        notes=tuple(notes),
    )


def with_files(state: Mapping[str, Any], got: Downloaded) -> dict[str, Any]:
    """Return a state with the files that the run left."""
    return {**state, "artifacts": list(got.artifacts), "model": got.model_row}


def architecture(got: Downloaded) -> dict[str, str] | None:
    """Return what the model says about itself: its flavour with its library's version."""
    meta = _yaml(got.model / "MLmodel") if got.model is not None and got.model.is_dir() else {}
    flavours = meta.get("flavors")
    if not isinstance(flavours, dict):
        return None
    for name, said in sorted(flavours.items()):
        if name == "python_function" or not isinstance(said, dict):
            continue
        version = next((str(said[key]) for key in _FLAVOURS if said.get(key)), "")
        if version:
            return {"name": f"MLflow {name} model", "framework": str(name), "framework_version": version}
    return None


def _require_usable(state: Mapping[str, Any]) -> None:
    run = state["run"]
    if run["lifecycle"] == "deleted":
        raise TrackerError(f"run {run['id']} is deleted in MLflow; restore it there first, if it is to count")
    if run["status"] not in _STATUS:
        raise TrackerError(
            f"run {run['id']} has not ended ({run['status']}); a record is sealed once. End the run, then mirror it"
        )


def _started_us(state: Mapping[str, Any]) -> int | None:
    """The earliest moment that MLflow names for the run: its start, or a value logged with an earlier time."""
    moments = [state["run"]["started_ms"], *(point[2] for points in state["metrics"].values() for point in points)]
    known = [int(one) for one in moments if isinstance(one, int) and one > 0]
    return min(known) * 1000 if known else None


def _commit(text: str) -> str:
    return text if re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", text) else ""


def _environment(got: Downloaded) -> ToldEnvironment:
    if got.model is None or not got.model.is_dir():
        return ToldEnvironment()
    python = str(_yaml(got.model / "python_env.yaml").get("python", ""))
    if not python:
        flavours = _yaml(got.model / "MLmodel").get("flavors")
        said = flavours.get("python_function") if isinstance(flavours, dict) else None
        python = str(said.get("python_version", "")) if isinstance(said, dict) else ""
    return ToldEnvironment(python=python[:40], packages=requirements(got.model / "requirements.txt"))


def _yaml(path: Path) -> dict[str, Any]:
    if not path.is_file() or path.stat().st_size > _MAX_YAML:
        return {}
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError):
        return {}
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}
