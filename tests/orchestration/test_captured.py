"""What a training records in Dagster: folder models to the release and the bundle, roles, and runs that were killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

import cognify_dagster as cg
from cognify_dagster.cli import main
from cognify_dagster.documents.package.bundle import export_bundle
from cognify_dagster.orchestration._compat import run_has_ended
from cognify_dagster.orchestration.ended import record_ended_trainings
from cognify_dagster.records import DeploymentCompleted, Reconciliation, TrainingFailed, TrainingRun, VersionOpened
from cognify_dagster.training import digest_files
from tests.orchestration import captured_project, project
from tests.orchestration.desk import Desk

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ready(new_desk: Desk) -> Desk:
    """A desk with snapshots."""
    ran = new_desk.run(project.DATA, None)
    assert ran.success, ran.failure
    return new_desk


def test_a_folder_model_goes_from_training_to_the_service_and_into_a_bundle(ready: Desk, tmp_path: Path):
    built = ready.run(project.BUILD, definitions=captured_project.defs)
    assert built.success, built.failure
    (sealed,) = ready.all(TrainingRun)
    record = sealed.record
    known = digest_files(ready.folder / "models" / "tiny-v1")
    assert record.model_file.digest == f"sha256:{known.sha256}"
    assert [item.name for item in record.model_files] == ["config.json", "weights/cut.json"]
    assert [(item.name, item.role) for item in record.datasets] == [
        ("tiny_train", "train"),
        ("tiny_holdout", "holdout"),
    ]
    assert (record.seed, record.captured_by) == (7, "dagster")
    assert [item.name for item in record.checkpoints] == ["checkpoint-1", "checkpoint-2"]
    shown = built.materialized["tiny_model"]
    assert (shown["cognify/model_files"].value, shown["cognify/checkpoints"].value) == (2, 2)

    ready.approve()
    live = ready.run([project.SERVICE], definitions=captured_project.defs)
    assert live.success, live.failure
    assert digest_files(ready.folder / "live").files == known.files
    assert len(ready.all(DeploymentCompleted)) == 1
    ready.assert_verifies()

    workspace = ready.workspace
    bundle = export_bundle(workspace, "tiny", "v1", tmp_path / "bundle")
    for item in (record.model_file, *record.model_files, record.checkpoints[0].files):
        assert (bundle / "evidence" / item.digest[7:]).is_file()
    trust = tmp_path / "trust.txt"
    trust.write_text(workspace.config.trust.read_text())
    call = [sys.executable, "-I", "verify.py", ".", "--trust", str(trust)]
    offline = subprocess.run(call, cwd=bundle, capture_output=True, text=True, timeout=120, check=False)
    assert offline.returncode == 0, offline.stdout + offline.stderr
    part = bundle / "evidence" / record.model_files[1].digest[7:]
    part.write_bytes(b"0")
    offline = subprocess.run(call, cwd=bundle, capture_output=True, text=True, timeout=120, check=False)
    assert offline.returncode == 1, offline.stdout + offline.stderr

    point = ready.folder / "checkpoints" / "checkpoint-2"
    assert cognify(ready, "training", "verify", "tiny", "v1", ready.folder / "live") == (0, 2)
    assert cognify(ready, "training", "verify", "tiny", "v1", point, "--checkpoint", "2") == (0, 1)
    (point / "state.json").write_text("{}")
    assert cognify(ready, "training", "verify", "tiny", "v1", point, "--checkpoint", "checkpoint-2")[0] == 1


def cognify(desk: Desk, *words: object) -> tuple[int, int]:
    """Exit code, and how many files were compared."""
    call = ["--workspace", str(desk.folder), *map(str, words), "--json"]
    result = CliRunner().invoke(main, call)
    return result.exit_code, json.loads(result.stdout)["files"]


@pytest.mark.parametrize(
    ("datasets", "text"),
    [
        ({"tiny_train": "training"}, "has the role 'training'; expected one of train, validation, holdout"),
        ({"tiny_train": "holdout"}, "name at least one dataset"),
        ({}, "name at least one dataset"),
        ("tiny_train", "give a list of names"),
    ],
)
def test_roles_that_make_no_sense(datasets: dict[str, str], text: str):
    def train(tiny_train: cg.Snapshot) -> None:
        """Never called."""

    with pytest.raises(Exception, match=text):
        cg.training_run(project.tiny, datasets=datasets)(train)


# -- runs that end without a word ----------------------------------------------------------------------------------------


def steps() -> set[str]:
    return {"tiny_model"}


def test_a_run_process_that_is_killed_is_recorded_as_failed_once_dagster_knows_that_it_is_over(
    ready: Desk, own_instance: dg.DagsterInstance
):
    """SIGKILL hits the process of a run; run monitoring (or a person) then marks the run as failed."""
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    environment = {**os.environ, "DAGSTER_HOME": own_instance.root_directory, "PYTHONPATH": str(ROOT)}
    child = subprocess.Popen(
        [sys.executable, "-m", "tests.orchestration.captured_project"],
        env=environment,
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 90
        while not (ready.folder / "began").exists():
            assert child.poll() is None, "the run ended by itself"
            assert time.monotonic() < deadline
            time.sleep(0.05)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait(30)
    (run,) = own_instance.get_runs()
    assert not run.is_finished
    (opened,) = ready.all(VersionOpened)
    assert opened.record.run == run.run_id
    workspace = ready.workspace
    assert record_ended_trainings(own_instance, workspace, "tiny", steps()) == 0
    refused = ready.run(["tiny_model"], instance=own_instance)
    assert f"run {run.run_id} is training tiny v1 now" in refused.failure

    own_instance.report_run_failed(run)  # what Dagster's run monitoring does
    assert run_has_ended(own_instance, run.run_id)
    assert record_ended_trainings(own_instance, workspace, "tiny", steps()) == 1
    assert record_ended_trainings(own_instance, workspace, "tiny", steps()) == 0
    (failed,) = ready.all(TrainingFailed)
    assert failed.record.run == run.run_id
    assert "killed" in failed.record.reason
    assert failed.record.observed == {
        "dagster_run": run.run_id,
        "dagster_status": "FAILURE",
        "found_by": "reconciliation",
    }
    trained = ready.run(["tiny_model"], instance=own_instance)
    assert trained.success, trained.failure
    assert record_ended_trainings(own_instance, workspace, "tiny", steps()) == 0
    ready.assert_verifies()


def test_a_step_that_kills_itself_is_found_by_the_reconciliation_sensor(ready: Desk, own_instance: dg.DagsterInstance):
    """The multiprocess executor: Dagster sees the child die and fails the run; the ledger hears of it from the sensor."""
    ready.switch("kill-itself")
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    result = dg.execute_job(
        dg.reconstructable(captured_project.endless_job),
        instance=own_instance,
        asset_selection=[dg.AssetKey("tiny_model")],
        tags={"dagster/partition": "v1", "user": "ben"},
        raise_on_error=False,
    )
    assert not result.success
    assert ready.all(TrainingFailed) == []
    context = dg.build_sensor_context(
        instance=own_instance,
        instance_ref=own_instance.get_ref(),
        definitions=captured_project.endless,
        resources={"ledger": cg.LedgerResource()},
    )
    data = captured_project.endless.resolve_sensor_def("tiny_reconciliation_sensor").evaluate_tick(context)
    assert "1 trainings that ended without a word" in (data.skip_message or "")
    (failed,) = ready.all(TrainingFailed)
    assert failed.record.run == result.run_id
    assert ready.all(Reconciliation) == []  # no finding: it changes nothing about any model


def test_the_next_training_records_it_too_where_no_sensor_runs(ready: Desk, own_instance: dg.DagsterInstance):
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    lost = own_instance.create_run_for_job(
        project.defs.resolve_implicit_global_asset_job_def(), tags={"dagster/partition": "v1"}
    )
    own_instance.report_run_failed(lost)
    workspace = ready.workspace
    workspace.append(VersionOpened(model="tiny", version="v1", run=lost.run_id, opened_by="person/ben"), idem="0" * 64)
    ran = ready.run(["tiny_model"], instance=own_instance)
    assert ran.success, ran.failure
    (failed,) = ready.all(TrainingFailed)
    assert failed.record.observed == {"dagster_run": lost.run_id, "found_by": ran.id}
    assert record_ended_trainings(own_instance, workspace, "tiny", steps()) == 0


def test_a_run_that_recorded_its_own_failure_is_not_recorded_again(ready: Desk):
    ready.switch("fail-training", "9")
    assert not ready.run(["tiny_model"]).success
    before = len(ready.all(TrainingFailed))
    assert before == 2
    assert record_ended_trainings(ready.instance, ready.workspace, "tiny", steps()) == 0


def test_a_run_that_somebody_ends_is_recorded_as_failed(ready: Desk):
    @cg.training_run(project.tiny, datasets=["tiny_train"], name="tiny_model")
    def ended(tiny_train: cg.Snapshot) -> None:
        """Stands for the interrupt that Dagster raises in a run that is terminated."""
        raise KeyboardInterrupt

    assert not ready.run(["tiny_model"], definitions=captured_project.definitions(ended)).success
    (failed,) = ready.all(TrainingFailed)
    assert failed.record.reason.startswith("KeyboardInterrupt")


def test_the_authors_of_the_feature_pipeline_touched_the_version_too(ready: Desk, tmp_path: Path):
    """Who wrote the features may not sign off the model that learned from them."""
    from cognify_dagster.training import CodeState

    pipeline = CodeState(vcs="git", commit="f" * 40, dirty=False, authors=("ben@bank.example", "nobody@bank.example"))

    @cg.training_run(project.tiny, datasets=["tiny_train"], name="tiny_model")
    def train(run: cg.TrainingRecorder) -> Path:
        """Names the code that made its features."""
        run.set_feature_code(pipeline)
        path = tmp_path / "model.json"
        path.write_text("{}")
        return path

    ran = ready.run(["tiny_model"], definitions=captured_project.definitions(train), user="vera")
    assert ran.success, ran.failure
    (sealed,) = ready.all(TrainingRun)
    assert sealed.record.feature_code is not None
    assert sealed.record.feature_code.commit == "f" * 40
    assert "person/ben" in sealed.record.touched_by
    assert "git:nobody@bank.example" in sealed.record.unattributed
