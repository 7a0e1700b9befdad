"""Links a record that is being written with the MLflow run of the same script: same facts, one script, two stores.

Nothing of MLflow is patched: the script goes on logging to it as before, and says once that both are the same run.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cognify_dagster.instrument.mlflow.artifacts import download, find_model
from cognify_dagster.instrument.mlflow.mirroring import with_files
from cognify_dagster.instrument.mlflow.store import MlflowStore
from cognify_dagster.instrument.trackers.errors import TrackerError
from cognify_dagster.instrument.trackers.tracked import state_bytes

if TYPE_CHECKING:
    from cognify_dagster.instrument.recording import Recording


def link_mlflow(
    run: Recording, mlflow_run: Any = None, *, tracking_uri: str = "", files: bool = True, artifact: str = ""
) -> str:
    """Link a record with an MLflow run, just before the record is completed. Returns the MLflow run's id.

    What MLflow holds at this moment becomes evidence of the record; `cognify mlflow compare` finds what is changed there later.

    Args:
        run: the SDK's run, or the recorder of a Dagster asset.
        mlflow_run: a run of MLflow or its id; the script's active run, or the one that it ended last, unless given.
        tracking_uri: address of MLflow; the one that the script uses unless given.
        files: download and hash what the run left in MLflow too.
        artifact: the model among several, see `mirror`.

    Raises:
        TrackerError: if there is no run to link, or it does not stop changing.
        TrackerUnreachable: if MLflow gives no answer.
    """
    run_id = _run_id(mlflow_run)
    if not getattr(run, "writes", True):  # another process of this training writes the record
        return run_id
    store = MlflowStore(tracking_uri or _script_address())
    state: dict[str, Any] = store.glance(run_id) if files else store.state(run_id)
    if files:
        with tempfile.TemporaryDirectory(prefix="cognify-mlflow-") as folder:
            got = download(store, run_id, find_model(store, state, artifact), Path(folder))
            store.settled(state)
            state = with_files(state, got)
    told: Mapping[str, Any] = state["run"]
    run.link_external(
        "mlflow",
        run_id,
        experiment=str(told["experiment"])[:300],
        uri=store.where[:1000],
        snapshot=state_bytes(state, f"mlflow:{run_id}"),
    )
    return run_id


def _run_id(given: Any) -> str:
    if isinstance(given, str):
        return given
    if given is None:
        import mlflow

        given = mlflow.active_run() or mlflow.last_active_run()
        if given is None:
            raise TrackerError(
                "there is no MLflow run in this script; link it inside `with mlflow.start_run():`, or name its id"
            )
    return str(given.info.run_id)


def _script_address() -> str:
    import mlflow

    return str(mlflow.get_tracking_uri())
