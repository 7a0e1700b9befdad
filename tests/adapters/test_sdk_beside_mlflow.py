"""The script of docs/sdk.md, run as printed beside a real MLflow, with no network, no service and no Dagster."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cognify_dagster.records import Evaluation, Package, TrainingRun
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL, World
from tests.instrument import sdk_world

ROOT = Path(__file__).resolve().parents[2]
SNIPPET = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "sdk.md").read_text(encoding="utf-8"), re.DOTALL)[0]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return sdk_world.prepare(tmp_path_factory.mktemp("sdk") / "world")


def test_the_snippet_runs_as_printed_beside_mlflow(world: World, tmp_path: Path) -> None:
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    block = "import sys\nsys.modules['dagster'] = None\n"
    done = sdk_world.script(
        block + SNIPPET,
        tmp_path / "s",
        env={
            "COGNIFY_WORKSPACE": str(world.folder / "project"),
            "MLFLOW_TRACKING_URI": store,
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "OMP_NUM_THREADS": "1",
        },
    )
    assert "packaged in entry" in done.stdout, done.stdout + done.stderr
    reading = Workspace.open(world.folder / "project").read()
    record = reading.all(TrainingRun)[0].record
    assert record.config == {"learning_rate": 0.1, "steps": 20}
    assert any(item.name.endswith("MLmodel") for item in record.model_files), "the model that MLflow logged was sealed"
    assert reading.all(Evaluation)[0].record.status == "passed"
    assert reading.all(Package)[0].record.model == MODEL

    from mlflow import MlflowClient

    client = MlflowClient(store)
    (mine,) = client.search_runs([client.get_experiment_by_name("credit").experiment_id])
    assert mine.data.params == {"learning_rate": "0.1", "steps": "20"}
    assert mine.data.metrics["loss"] == pytest.approx(float(record.metrics["loss"]))
    assert not [name for name in mine.data.tags if name.startswith("cognify")], "MLflow is left as it is"
