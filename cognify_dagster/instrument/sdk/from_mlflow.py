"""Takes the model that a script logged to MLflow, where it saved none itself: the snippet beside MLflow needs no further line."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cognify_dagster.instrument.sdk.errors import SdkError

if TYPE_CHECKING:
    from cognify_dagster.instrument.sdk.run import Run

FOLDER = "mlflow"


def take_model(run: Run) -> bool:
    """Save the model of this script's MLflow run as the version's model; return whether there was one.

    Only a run of MLflow that is active now, or that ended after this run began, is looked at, and only where the script has imported
    MLflow. The files are downloaded into the run's spool folder, hashed, and sealed from there.

    Raises:
        SdkError: there is one and it cannot be taken (several models, MLflow gives no answer).
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None or run.spool is None or not hasattr(mlflow, "last_active_run"):
        return False
    found = mlflow.active_run()
    if found is None:
        found = mlflow.last_active_run()
        ended = getattr(found.info, "end_time", None) if found is not None else None
        if ended is None or ended < run._told.ended.started.timestamp() * 1000:
            return False
    from cognify_dagster.instrument.mlflow.artifacts import download, find_model
    from cognify_dagster.instrument.mlflow.store import MlflowStore
    from cognify_dagster.instrument.trackers.errors import TrackerError

    run_id = str(found.info.run_id)
    try:
        store = MlflowStore(str(mlflow.get_tracking_uri()))
        place = find_model(store, store.glance(run_id))
        if place is None:
            return False
        folder = run.spool / FOLDER
        folder.mkdir(mode=0o700)
        got = download(store, run_id, place, folder)
    except (TrackerError, OSError) as error:
        raise SdkError(
            f"no model was saved, and that of the MLflow run {run_id} cannot be taken: {error}. Call run.save_model(PATH), then "
            "run.complete() again"
        ) from error
    if got.model is None:
        return False
    run.save_model(got.model)
    run.log_extra("model_from", f"mlflow:{run_id}")
    return True
