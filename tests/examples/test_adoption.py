"""The adoption page: its diff is applied to its code, its lines are counted, and both versions run."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import dagster as dg
import pytest

from cognify_dagster.governance import adopt_gate_set
from cognify_dagster.records import DatasetSnapshot, Evaluation, GateRule, OverlapChecked, TrainingRun
from cognify_dagster.workspace import Workspace
from tests.governance.world import make_world

PAGE = (Path(__file__).parents[2] / "docs" / "adoption.md").read_text(encoding="utf-8")
ASSETS = ("raw_digits", "processed_digits", "digit_classifier", "model_evaluation")


def block(name: str) -> str:
    """The code block after a marker of the page."""
    found = re.search(rf"<!-- adoption: {name} -->\n```\w+\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    return found.group(1)


def load(path: Path) -> ModuleType:
    """Import a file as Dagster would."""
    spec = importlib.util.spec_from_file_location(f"adoption_{path.parent.name}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def materialize(module: ModuleType, instance: dg.DagsterInstance, *names: str) -> dg.ExecuteInProcessResult:
    """Run assets in one run; all of them unless named."""
    job = module.defs.resolve_implicit_global_asset_job_def()
    keys = {dg.AssetKey(name) for name in names or ASSETS}
    return job.get_subset(asset_selection=keys).execute_in_process(instance=instance, tags={"user": "ben"})


@dataclass
class Adopted:
    """The project after the change, with a workspace and an instance of its own."""

    folder: Path
    module: ModuleType
    workspace: Workspace
    instance: dg.DagsterInstance
    first: dg.ExecuteInProcessResult

    def runs(self) -> list[TrainingRun]:
        """The sealed trainings."""
        return [item.record for item in self.workspace.read().all(TrainingRun, "model/digits")]


@pytest.fixture(scope="module")
def adopted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Adopted]:
    """Apply the diff with patch's own strictness, adopt a threshold, run all assets once."""
    folder = tmp_path_factory.mktemp("after")
    (folder / "definitions.py").write_text(block("before"), encoding="utf-8")
    (folder / "change.diff").write_text(block("diff"), encoding="utf-8")
    subprocess.run(["git", "apply", "--unidiff-zero", "--recount", "change.diff"], cwd=folder, check=True)
    world = make_world(folder / "ground")
    gate = GateRule(id="reads", family="performance", metric="accuracy", op=">=", threshold=0.9, source="policy")
    adopt_gate_set(world.workspace, "digits_gates", "digits", [gate], world.key("vera"))
    home = folder / "dagster"
    home.mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        dg.instance_for_test(temp_dir=str(home), set_dagster_home=False) as instance,
    ):
        patch.chdir(folder)
        patch.setenv("COGNIFY_WORKSPACE", str(world.workspace.config.path.parent))
        module = load(folder / "definitions.py")
        first = materialize(module, instance)
        assert first.success
        yield Adopted(folder, module, Workspace.open(world.workspace.config.path), instance, first)


def test_the_project_runs_before_the_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "definitions.py").write_text(block("before"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with dg.instance_for_test(temp_dir=str(tmp_path), set_dagster_home=False) as instance:
        assert materialize(load(tmp_path / "definitions.py"), instance).success


def test_the_change_is_smaller_than_ten_lines() -> None:
    lines = block("diff").splitlines()[2:]
    added = [line for line in lines if line.startswith("+")]
    removed = [line for line in lines if line.startswith("-")]
    assert len(added) < 10
    assert len(removed) <= len(added)  # every line that goes is one of those that come, changed
    assert all(len(line) <= 150 for line in added)
    assert "Nine lines" in PAGE
    assert len(added) == 9


def test_data_training_and_evaluation_are_on_record(adopted: Adopted) -> None:
    reading = adopted.workspace.read()
    assert {item.record.name for item in reading.all(DatasetSnapshot)} == {"digits_train", "digits_test"}
    run = adopted.runs()[0]
    assert run.version == f"run-{adopted.first.run_id[:8]}"
    assert run.metrics["train_accuracy"] > 0.95
    assert [(item.name, item.role) for item in run.datasets] == [("digits_train", "train")]
    evaluation = reading.all(Evaluation, f"model/digits@{run.version}")[0].record
    assert evaluation.model_digest == run.model_file.digest
    assert evaluation.dataset.name == "digits_test"
    assert {item.id: item.status for item in evaluation.outcomes}["reads"] == "pass"
    assert reading.all(OverlapChecked)[0].record.overlapping_records == 0


def test_values_still_reach_the_next_asset(adopted: Adopted) -> None:
    parts = adopted.first.output_for_node("processed_digits")
    assert sorted(parts) == ["digits_test", "digits_train"]


def test_the_version_shows_as_a_partition_of_the_model(adopted: Adopted) -> None:
    assert adopted.instance.has_dynamic_partition("digits_versions", adopted.runs()[0].version)


def test_a_run_of_the_evaluation_alone_finds_the_version_by_the_bytes(adopted: Adopted) -> None:
    before = len(adopted.workspace.read().all(Evaluation))
    assert materialize(adopted.module, adopted.instance, "model_evaluation").success
    found = adopted.workspace.read().all(Evaluation)
    assert len(found) == before + 1
    assert found[-1].record.version == adopted.runs()[-1].version


def test_each_further_run_is_a_further_version(adopted: Adopted) -> None:
    done = materialize(adopted.module, adopted.instance, "digit_classifier", "model_evaluation")
    assert done.success
    assert adopted.runs()[-1].version == f"run-{done.run_id[:8]}"
    assert adopted.workspace.read().all(Evaluation)[-1].record.version == f"run-{done.run_id[:8]}"


def test_the_ledger_verifies(adopted: Adopted) -> None:
    report = adopted.workspace.ledger.verify(adopted.workspace.trust())
    assert not report.findings
