"""Takes the model that a script logged to MLflow, where it saved none itself: the snippet beside MLflow needs no further line."""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.instrument.sdk.errors import SdkError

if TYPE_CHECKING:
    from cognify_dagster.instrument.sdk.run import Run

PREFIX = "mlflow-"


def take_model(run: Run) -> bool:
    """Save the model of this script's MLflow run as the version's model; return whether there was one.

    Only a run of MLflow that was active when this run began, or that started after it, is looked at, and only where the script has
    imported MLflow. The files are downloaded into a folder of their own in the run's spool folder, hashed, and sealed from there; the
    record links the MLflow run.

    Raises:
        SdkError: there is one and it cannot be taken (several models, MLflow gives no answer, no spool to put it into).
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or not hasattr(mlflow, "last_active_run"):
        return False
    found = _run_of(mlflow, run._told.ended.started.timestamp() * 1000)
    if found is None:
        return False
    from cognify_dagster.instrument.mlflow.artifacts import download, find_model
    from cognify_dagster.instrument.mlflow.store import MlflowStore
    from cognify_dagster.instrument.trackers.errors import TrackerError

    run_id = str(found.info.run_id)
    then = "Call run.save_model(PATH), then run.complete() again"
    folder: Path | None = None
    try:
        store = MlflowStore(str(mlflow.get_tracking_uri()))
        state = store.glance(run_id)
        place = find_model(store, state)
        if place is None:
            return False
        if run.spool is None:
            raise SdkError(
                f"no model was saved, and there is no spool folder into which that of the MLflow run {run_id} could be taken. {then}"
            )
        folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=run.spool))
        got = download(store, run_id, place, folder)
        if got.model is not None:
            run.save_model(got.model)
    except (TrackerError, OSError) as error:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
        raise SdkError(
            f"no model was saved, and that of the MLflow run {run_id} cannot be taken: {error}. {then}"
        ) from error
    if got.model is None:
        shutil.rmtree(folder, ignore_errors=True)
        return False
    run.log_extra("model_from", f"mlflow:{run_id}")
    if ("mlflow", run_id) not in {(item.system, item.run) for item in run.recorder.external}:
        run.link_external("mlflow", run_id, experiment=str(state["run"]["experiment"])[:300], uri=store.where[:1000])
    return True


def _run_of(mlflow: Any, began_ms: float) -> Any:
    """The run of MLflow that is active, or the last one; None where it was over before this run began."""
    found = mlflow.active_run()
    if found is not None:
        return found
    found = mlflow.last_active_run()
    if found is None:
        return None
    started, ended = (getattr(found.info, name, None) for name in ("start_time", "end_time"))
    began_later = isinstance(started, (int, float)) and started >= int(began_ms)
    was_active = isinstance(ended, (int, float)) and ended >= int(began_ms)
    return found if began_later or was_active else None
