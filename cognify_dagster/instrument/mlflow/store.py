"""Reads runs of an MLflow tracking store through MLflow's own client.

Invariants: no run is taken that changes while it is read (everything is read twice); no store is created by looking into it; waiting
is bounded; no message, state or record holds the credentials of an address; our own tags (`cognify.…`) are never part of a state.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import unquote, urlsplit

from cognify_dagster.instrument.environ import where_unset
from cognify_dagster.instrument.trackers.errors import RunNotFound, TrackerError, TrackerUnreachable
from cognify_dagster.instrument.trackers.tracked import MAX_PARAMS, MAX_POINTS, clean_uri, kept, number

FORMAT = "cognify-mlflow/1"
OWN_TAGS = "cognify."
URI_VARIABLE = "MLFLOW_TRACKING_URI"
MAX_METRICS = 20_000
MAX_KEPT_TEXT = 4_096
_RUN_ID = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$")
_PATIENCE = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "30",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
}
_SETTLE = 3
_ABSENT = ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND", "ENDPOINT_NOT_FOUND")
_ENDED = ("FINISHED", "FAILED", "KILLED")
T = TypeVar("T")


class MlflowStore:
    """A tracking store, at an address that the caller names.

    Args:
        uri: address of the store; where it is empty `MLFLOW_TRACKING_URI`, else the one that a script with MLflow uses. MLflow's own
            default is never taken: it would create a store.

    Raises:
        TrackerError: if there is no address.
        TrackerUnreachable: if MLflow is not installed, or a local store is not there.
    """

    def __init__(self, uri: str = "") -> None:
        self.uri = uri or os.environ.get(URI_VARIABLE, "") or _of_this_script()
        if not self.uri:
            raise TrackerError(f"which MLflow? Name its address (--tracking-uri, or ${URI_VARIABLE})")
        _require_there(self.uri)
        self.client: Any = self.ask("open the store", self._open)

    def _open(self) -> Any:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    @property
    def where(self) -> str:
        """The address without credentials."""
        return clean_uri(self.uri)

    def ask(self, what: str, call: Callable[[], T]) -> T:
        """Call MLflow with bounded patience.

        Raises:
            RunNotFound: if MLflow says that there is no such thing.
            TrackerUnreachable: if it gives no answer, or none that can be used.
        """
        with patient():
            try:
                return call()
            except ImportError as error:
                if (error.name or "").partition(".")[0] == "mlflow":
                    raise TrackerUnreachable(
                        "MLflow is not installed here: pip install 'cognify-dagster[mlflow]'"
                    ) from error
                raise TrackerUnreachable(f"MLflow needs {error.name} to {what}: {self._plain(error)}") from error
            except (TrackerError, KeyboardInterrupt):
                raise
            except Exception as error:
                text = self._plain(error)
                if getattr(error, "error_code", "") in _ABSENT:
                    raise RunNotFound(f"MLflow at {self.where} cannot {what}: {text}") from None
                raise TrackerUnreachable(f"MLflow at {self.where} gives no usable answer ({what}): {text}") from None

    def _plain(self, error: Exception) -> str:
        text = " ".join(str(error).split()).replace(self.uri, self.where)
        return f"{type(error).__name__}: {kept('', text)}"[:400]

    def state(self, run_id: str) -> dict[str, Any]:
        """Return what MLflow says about a run, as JSON values, read until two readings are the same.

        Raises:
            RunNotFound: if there is no such run.
            TrackerError: if it does not stop changing, or holds more than a record can.
        """
        before = self.glance(run_id)
        for _ in range(_SETTLE):
            after = self.glance(run_id)
            if after == before:
                return after
            before = after
        raise TrackerError(f"run {run_id} changes while it is read; wait until nothing writes to it")

    def glance(self, run_id: str) -> dict[str, Any]:
        """Return what MLflow says about a run in one reading; `settled` tells later whether it was whole."""
        if not _RUN_ID.match(run_id):
            raise TrackerError(f"{run_id[:80]!r} is no id of an MLflow run; it is in the run's page and address")
        run = self.ask(f"find run {run_id}", lambda: self.client.get_run(run_id))
        info, data = run.info, run.data
        if info.run_id != run_id:
            raise TrackerError(f"MLflow answered with run {info.run_id} to the question for {run_id}")
        if len(data.params) > MAX_PARAMS or len(data.tags) > MAX_PARAMS or len(data.metrics) > MAX_METRICS:
            raise TrackerError(f"run {run_id} has more parameters, tags or metrics than a record can hold")
        experiment = self.ask(
            f"find experiment {info.experiment_id}", lambda: self.client.get_experiment(info.experiment_id)
        )
        tags = {str(key): kept(str(key), value) for key, value in data.tags.items() if not key.startswith(OWN_TAGS)}
        return {
            "format": FORMAT,
            "run": {
                "id": run_id,
                "name": str(info.run_name or tags.get("mlflow.runName", "")),
                "status": str(info.status),
                "lifecycle": str(info.lifecycle_stage),
                "experiment_id": str(info.experiment_id),
                "experiment": str(experiment.name),
                "started_ms": info.start_time,
                "ended_ms": info.end_time,
                "user": str(tags.get("mlflow.user", "")),
                "parent": str(tags.get("mlflow.parentRunId", "")),
            },
            "params": {str(key): kept(str(key), value) for key, value in sorted(data.params.items())},
            "metrics": self._metrics(run_id, sorted(data.metrics)),
            "tags": tags,
            "inputs": _inputs(run),
            "models": self._models(run),
        }

    def settled(self, state: Mapping[str, Any]) -> None:
        """Read a run again, after its files were read.

        Raises:
            TrackerError: if it is not as it was.
        """
        run_id = str(state["run"]["id"])
        if self.glance(run_id) != state:
            raise TrackerError(
                f"run {run_id} changes while it is read; wait until nothing writes to it, then try again"
            )

    def _metrics(self, run_id: str, names: list[str]) -> dict[str, list[list[Any]]]:
        found: dict[str, list[list[Any]]] = {}
        count = 0
        for name in names:
            points = self.ask(f"read metric {name}", lambda key=name: self.client.get_metric_history(run_id, key))  # type: ignore[misc]
            rows = [[int(one.step), number(float(one.value)), int(one.timestamp)] for one in points]
            found[name] = sorted(rows, key=lambda row: (row[0], row[2], str(row[1])))
            count += len(rows)
            if count > MAX_POINTS:
                raise TrackerError(f"run {run_id} has more than {MAX_POINTS} metric points; log every n-th step")
        return found

    def _models(self, run: Any) -> list[dict[str, Any]]:
        outputs = getattr(getattr(run, "outputs", None), "model_outputs", None) or ()
        found = []
        for output in outputs:
            model_id = str(output.model_id)
            try:
                model = self.ask(f"find model {model_id}", lambda one=model_id: self.client.get_logged_model(one))  # type: ignore[misc]
            except RunNotFound:  # the run goes on to name a model that was deleted
                continue
            found.append({"id": model_id, "name": str(model.name), "step": output.step})
        return sorted(found, key=lambda one: str(one["id"]))

    def set_tags(self, run_id: str, tags: Mapping[str, str]) -> None:
        """Write tags of our own on a run."""
        for name, value in tags.items():
            self.ask(f"tag run {run_id}", lambda key=name, text=value: self.client.set_tag(run_id, key, text))  # type: ignore[misc]

    def own_tags(self, run_id: str) -> dict[str, str]:
        """Return the tags on a run that are ours by their name."""
        run = self.ask(f"find run {run_id}", lambda: self.client.get_run(run_id))
        if run.info.lifecycle_stage == "deleted":
            raise TrackerError(f"run {run_id} is deleted in MLflow; restore it there, then its tags can be written")
        return {key: value for key, value in run.data.tags.items() if key.startswith(OWN_TAGS)}


def patient() -> AbstractContextManager[None]:
    """Let MLflow wait no longer than we want and report nothing to anybody, unless the environment says otherwise."""
    return where_unset(_PATIENCE)


def ended(state: Mapping[str, Any]) -> bool:
    """Whether the run had ended when its state was read."""
    return state["run"]["status"] in _ENDED


def _of_this_script() -> str:
    """The address that MLflow is set to in this process, where somebody uses it here at all."""
    used = sys.modules.get("mlflow")
    return str(used.get_tracking_uri()) if used is not None and hasattr(used, "get_tracking_uri") else ""


def _require_there(uri: str) -> None:
    """MLflow creates a local store that is not there; looking for a run must not."""
    scheme = urlsplit(uri).scheme if "://" in uri else uri.partition(":")[0] if uri.startswith("file:") else ""
    if scheme.partition("+")[0] == "sqlite":
        path = Path(unquote(uri.partition("://")[2].partition("?")[0])[1:])
    elif scheme in ("", "file"):
        path = Path(unquote(urlsplit(uri).path) if scheme else uri)
    else:
        return
    if not path.exists():
        raise TrackerUnreachable(f"{clean_uri(uri)}: there is no MLflow store; check the address")


def _inputs(run: Any) -> list[dict[str, Any]]:
    """Return what MLflow knows about the run's data. Its digest is computed from a first part of the rows only."""
    found = []
    for one in getattr(getattr(run, "inputs", None), "dataset_inputs", None) or ():
        data = one.dataset
        found.append(
            {
                "name": str(data.name),
                "digest": str(data.digest),
                "source_type": str(data.source_type),
                "source": _short(_source(str(data.source or ""))),
                "schema": _short(str(data.schema or "")),
                "profile": _short(str(data.profile or "")),
                "tags": {str(tag.key): kept(str(tag.key), str(tag.value)) for tag in one.tags},
            }
        )
    return sorted(found, key=lambda item: json.dumps(item, sort_keys=True))


def _source(text: str) -> str:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return str(kept("", text))
    return json.dumps(kept("", value), sort_keys=True, ensure_ascii=False)


def _short(text: str) -> str:
    if len(text) <= MAX_KEPT_TEXT:
        return text
    return f"sha256:{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()} of {len(text)} characters"
