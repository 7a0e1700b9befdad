"""The example of a training in a process of its own, run as its README says."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.records import TrainingRun
from cognify_dagster.workspace import Workspace
from tests.governance.world import make_world


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The example's workspace after its two assets were materialized."""
    from examples.pipes_training import definitions

    folder = tmp_path_factory.mktemp("pipes")
    workspace = make_world(folder).workspace
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.ephemeral() as instance:
        patch.setenv("COGNIFY_WORKSPACE", str(workspace.config.path.parent))
        instance.add_dynamic_partitions("exam_line_versions", ["v1"])
        job = definitions.defs.resolve_implicit_global_asset_job_def()
        for name, version in (("exam_scores", None), ("exam_model", "v1")):
            chosen = job.get_subset(asset_selection={dg.AssetKey(name)}, asset_check_selection=set())
            assert chosen.execute_in_process(instance=instance, partition_key=version).success
    return Workspace.open(workspace.config.path)


def test_the_script_needs_neither_dagster_nor_this_package() -> None:
    source = (Path(__file__).parents[2] / "examples" / "pipes_training" / "train.py").read_text()
    imports = [line.split()[1].split(".")[0] for line in source.splitlines() if line.startswith(("import ", "from "))]
    assert set(imports) == {"csv", "hashlib", "json", "pathlib", "dagster_pipes"}


def test_what_the_script_reported_is_sealed(sealed: Workspace) -> None:
    found = sealed.read().latest(TrainingRun, "model/exam_line@v1")
    assert found is not None
    run = found.record
    assert run.config == {"rate": 0.05, "rounds": 200}
    assert run.architecture["name"] == "line"
    assert run.selection_note.startswith("The simplest")
    line = json.loads(sealed.evidence.get(run.model_file.digest))
    assert line["slope"] == pytest.approx(7.5, abs=1.5)
    assert run.metric_series is not None
    curve = json.loads(sealed.evidence.get(run.metric_series.digest))["loss"]
    assert [step for step, _ in curve] == list(range(20, 201, 20))
    assert [(item.name, item.step) for item in run.checkpoints] == [("round-200", 200)]


def test_the_record_says_how_to_run_it_again(sealed: Workspace) -> None:
    found = sealed.read().latest(TrainingRun, "model/exam_line@v1")
    assert found is not None
    assert found.record.rerun is not None
    words = list(found.record.rerun.command)
    assert words[words.index("--module") + 1] == "examples.pipes_training.definitions"
    assert words[words.index("--file") + 1] == "examples/pipes_training/definitions.py"
    assert words[words.index("--partition") + 1] == "v1"
