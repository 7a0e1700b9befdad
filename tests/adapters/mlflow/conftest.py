"""A real MLflow server with a SQLite store on the loopback address, one for all tests, and a workspace with people, data and gates."""

from __future__ import annotations

import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.records import DatasetRef
from tests.cli.conftest import Cognify, cognify
from tests.governance.conftest import founded, founded_template
from tests.governance.world import World

__all__ = ["Cognify", "cognify", "founded", "founded_template"]

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")


@dataclass(frozen=True)
class Server:
    """A running server: its address and the files behind it."""

    uri: str
    database: Path
    artifacts: Path

    def edit(self, statement: str, *values: object) -> int:
        """Change the store as its owner can, past every rule of MLflow; return how many rows were changed."""
        with sqlite3.connect(self.database, timeout=30) as db:
            changed = db.execute(statement, values).rowcount
        db.close()
        return changed


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("mlflow")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    found = Server(f"http://127.0.0.1:{port}", folder / "mlflow.db", folder / "artifacts")
    words = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{found.database}", "--artifacts-destination", str(found.artifacts)]  # fmt: skip
    with (folder / "server.log").open("wb") as log:
        environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            _await(f"{found.uri}/health", process, folder / "server.log")
            yield found
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(20)


def _await(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.3)
    raise RuntimeError(f"the MLflow server did not start: {log.read_text(errors='replace')[-3000:]}")


@pytest.fixture(autouse=True)
def _own_address(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)


@dataclass
class Bank:
    """A workspace in which the model is registered, its data snapshotted and its thresholds adopted."""

    world: World
    train: DatasetRef
    holdout: DatasetRef

    @property
    def workspace(self) -> Any:
        return self.world.workspace

    @property
    def datasets(self) -> list[str]:
        return ["loans_train", "loans_holdout=holdout"]


@pytest.fixture
def bank(founded: World) -> Bank:
    founded.register()
    train, holdout = founded.snapshot("loans_train"), founded.snapshot("loans_holdout", "cd" * 32)
    founded.data |= {"train": train.seq, "holdout": holdout.seq, "gates": founded.adopt_gates()}
    time.sleep(0.002)  # MLflow counts milliseconds: the run begins after the last entry
    return Bank(founded, train, holdout)


def log_run(
    uri: str,
    *,
    params: Mapping[str, Any] | None = None,
    metrics: Mapping[str, Sequence[float]] | None = None,
    tags: Mapping[str, str] | None = None,
    files: Mapping[str, bytes] | None = None,
    status: str = "FINISHED",
    name: str = "run",
) -> str:
    """Log a run through MLflow's client, as scripts do; return its id. `files` are artifacts by their path."""
    import tempfile

    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    client = MlflowClient(uri)
    run = client.create_run("0", run_name=name, tags=dict(tags or {}))
    run_id = str(run.info.run_id)
    told = [Param(key, str(value)) for key, value in (params or {}).items()]
    for start in range(0, len(told), 100):
        client.log_batch(run_id, params=told[start : start + 100])
    now = int(time.time() * 1000)
    points = [
        Metric(key, value, now, step) for key, curve in (metrics or {}).items() for step, value in enumerate(curve)
    ]
    for start in range(0, len(points), 1000):
        client.log_batch(run_id, metrics=points[start : start + 1000])
    with tempfile.TemporaryDirectory() as folder:
        for path, data in (files or {}).items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        if files:
            client.log_artifacts(run_id, folder)
    if status != "RUNNING":
        client.set_terminated(run_id, status)
    return run_id


MODEL_FILES = {
    "model/MLmodel": b"flavors:\n  sklearn:\n    sklearn_version: 1.9.1\n  python_function:\n    python_version: 3.11.7\n",
    "model/model.bin": b"weights",
    "model/requirements.txt": b"scikit-learn==1.9.1\nnumpy==2.4.6\n",
    "plots/roc.txt": b"a plot",
}
