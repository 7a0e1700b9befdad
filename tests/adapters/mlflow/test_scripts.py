"""The scripts of docs/mlflow.md, run as printed: before and after, beside a real MLflow, and what comparing says about them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from cognify_dagster.instrument.mlflow import compare
from cognify_dagster.instrument.sdk.bindings import bind
from cognify_dagster.records import ExperimentRun, TrainingRun
from tests.adapters.mlflow.conftest import Bank, Server, log_run
from tests.governance.world import MODEL
from tests.instrument.sdk_world import snapshot, write_csv

ROOT = Path(__file__).resolve().parents[3]
SCRIPTS = re.findall(r"```diff\n(.*?)```", (ROOT / "docs" / "mlflow.md").read_text(encoding="utf-8"), re.DOTALL)


def before(diff: str) -> str:
    return "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] != "+")


def after(diff: str) -> str:
    return "".join(f"{line[1:]}\n" for line in diff.splitlines() if line[:1] != "-")


@pytest.fixture
def project(bank: Bank, tmp_path: Path) -> Path:
    """A folder with the data, snapshotted and bound."""
    folder = tmp_path / "script"
    snapshot(bank.workspace, write_csv(folder / "data" / "train.csv", 0), "loans_fit")
    bind(bank.workspace, MODEL, {"train": "loans_fit"})
    return folder


def execute(code: str, folder: Path, bank: Bank, server: Server) -> None:
    (folder / "train.py").write_text(code, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("COGNIFY", "MLFLOW"))}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "MLFLOW_TRACKING_URI": server.uri,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "COGNIFY_WORKSPACE": str(bank.world.folder / "project"),
        "XDG_STATE_HOME": str(folder / "state"),
    }
    done = subprocess.run(
        [sys.executable, "train.py"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr


def test_an_existing_script_comes_under_governance_in_fewer_than_ten_lines(
    server: Server, bank: Bank, project: Path
) -> None:
    diff = SCRIPTS[0]
    assert sum(line[:1] in "+-" for line in diff.splitlines()) < 10
    execute(after(diff), project, bank, server)
    item = bank.workspace.read().latest(TrainingRun, f"model/{MODEL}@1")
    assert item is not None
    assert item.record.config == {"C": "0.5", "random_state": "7"}
    assert "accuracy" in item.record.metrics
    assert "model.skops" in {one.name for one in item.record.model_files} or len(item.record.model_files) > 3
    assert compare(workspace=bank.workspace, model=MODEL, version="1", tracking_uri=server.uri).equal


def test_one_script_writes_the_same_facts_to_both_stores(server: Server, bank: Bank, project: Path) -> None:
    from mlflow import MlflowClient

    diff = SCRIPTS[1]
    assert sum(line[:1] in "+-" for line in diff.splitlines()) < 10
    execute(after(diff), project, bank, server)
    item = bank.workspace.read().latest(TrainingRun, f"model/{MODEL}@1")
    assert item is not None, [one.record.reason for one in bank.workspace.read().all(ExperimentRun)]
    assert (item.record.captured_by, item.record.config) == ("sdk", {"C": 0.5, "random_state": 7})
    same = compare(workspace=bank.workspace, model=MODEL, version="1", tracking_uri=server.uri)
    assert same.differences == (), "the run went on to its end after it was linked, which is no difference"

    client, run_id = MlflowClient(server.uri), item.record.external[0].run
    client.log_metric(run_id, "accuracy", 0.999, step=1)
    told = compare(workspace=bank.workspace, model=MODEL, version="1", tracking_uri=server.uri).differences
    assert [(one.kind, one.name, one.edited) for one in told] == [("metric", "accuracy", True)]


def test_values_that_a_script_logs_differently_are_told(server: Server, bank: Bank, project: Path) -> None:
    from cognify_dagster import sdk
    from cognify_dagster.instrument.mlflow import link_mlflow

    run_id = log_run(
        server.uri, params={"C": 0.7, "depth": 3}, metrics={"accuracy": [0.99], "only_here": [1.0], "loss": [2, 1]}
    )
    (project / "model.bin").write_bytes(b"weights")
    sdk.init(workspace=bank.workspace, project=MODEL)
    run = sdk.run(config={"C": 0.5, "depth": 3, "names": ["a"]})
    run.log_metric("accuracy", 0.9)
    run.log_metric("loss", 2.0, step=0)
    run.log_metric("loss", 1.0, step=1)
    run.save_model(project / "model.bin")
    link_mlflow(run, run_id, tracking_uri=server.uri)
    outcome = run.complete()
    assert getattr(outcome, "entry", None) is not None, outcome

    options = {"workspace": bank.workspace, "run_id": run_id, "tracking_uri": server.uri}
    told = compare(**options).differences
    assert [(one.kind, one.name, one.edited) for one in told] == [
        ("param", "C", False),
        ("param", "names", False),
        ("metric", "accuracy", False),
        ("metric", "only_here", False),
    ]
    shared = compare(**options, shared_only=True).differences
    assert [(one.name, one.record, one.now) for one in shared if one.kind == "param"] == [("C", "0.5", "0.7")]
    assert [one.name for one in shared] == ["C", "accuracy"]


def test_nothing_of_mlflow_is_patched_and_its_environment_is_left_alone(server: Server, bank: Bank) -> None:
    import mlflow

    from cognify_dagster.instrument.mlflow import link_mlflow
    from cognify_dagster.training import TrainingRecorder

    names = [name for name in dir(mlflow) if not name.startswith("_")]
    before_call = {name: getattr(mlflow, name) for name in names}
    environment = dict(os.environ)
    mlflow.set_tracking_uri(server.uri)
    try:
        with mlflow.start_run() as run:
            mlflow.log_param("lr", 1)
            recorder = TrainingRecorder()
            assert link_mlflow(recorder) == run.info.run_id
            assert mlflow.active_run() is not None
        assert mlflow.get_tracking_uri() == server.uri
    finally:
        mlflow.set_tracking_uri(None)
    assert {name: getattr(mlflow, name) for name in names} == before_call
    changed = {name for name in {*environment, *os.environ} if environment.get(name) != os.environ.get(name)}
    assert changed <= {"MLFLOW_TRACKING_URI", "_MLFLOW_TELEMETRY_SESSION_ID"}
    assert recorder.external[0].uri == server.uri
