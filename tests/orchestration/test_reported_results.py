"""What a training measures inside an asset outlives a crash or a refusal between sealing and recording."""

# Dagster reads the annotation of `context` when the module is loaded, so annotations are not postponed here.

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
from click.testing import CliRunner

import cognify_dagster as cg
from cognify_dagster.cli.app import main
from cognify_dagster.evaluation import EvalArtifact, EvaluationError
from cognify_dagster.evaluation.results import as_eval_result
from cognify_dagster.instrument import sdk
from cognify_dagster.instrument.sdk import JournalDamaged, SdkError, bind, reported
from cognify_dagster.instrument.sdk.results import reported as as_reported
from cognify_dagster.orchestration import plain
from cognify_dagster.orchestration.reconciling import _kept_results
from cognify_dagster.records import Evaluation, TrainingFailed, TrainingRun
from cognify_dagster.workspace import Workspace
from tests.orchestration import project, reporting_project
from tests.orchestration.desk import Desk, Ran

ROOT = Path(__file__).parents[2]


@pytest.fixture
def ready(new_desk: Desk) -> Desk:
    """A desk with snapshots, bound to the labels that the SDK knows."""
    ran = new_desk.run(project.DATA, None)
    assert ran.success, ran.failure
    bind(new_desk.workspace, "tiny", {"train": "tiny_train", "holdout-v1": "tiny_holdout"})
    return new_desk


def again(desk: Desk, first: str, definitions: dg.Definitions, asset: str = "tiny_model") -> Ran:
    """Run once more as a retry of a run, as Dagster's run retries and the UI's button do."""
    tags = {"dagster/root_run_id": first, "dagster/parent_run_id": first}
    version = "v1" if asset == "tiny_model" else None
    return desk.run([asset], version, tags=tags, definitions=definitions)


def waiting(desk: Desk) -> list[Path]:
    return sorted(path for path in (desk.workspace.home / reported.FOLDER).glob("*/*/*"))


def test_results_outlive_a_process_that_dies_right_after_sealing(
    ready: Desk, own_instance: dg.DagsterInstance, tmp_path: Path
) -> None:
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    environment = {**os.environ, "DAGSTER_HOME": own_instance.root_directory, "PYTHONPATH": str(ROOT)}
    died = subprocess.run(
        [sys.executable, "-m", "tests.orchestration.reporting_project"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert died.returncode == 9, died.stderr.decode()
    (sealed,) = ready.all(TrainingRun)
    (run,) = own_instance.get_runs()
    assert sealed.record.observed["run"] == run.run_id
    assert ready.all(Evaluation) == []
    (kept,) = waiting(ready)
    assert kept.stat().st_mode & 0o077 == 0
    assert _kept_results(own_instance, ready.workspace, "tiny") is None  # it may go on
    own_instance.report_run_failed(run)
    assert "results of v1 wait to be recorded" in str(_kept_results(own_instance, ready.workspace, "tiny"))

    copy = tmp_path / "copy"  # nobody retries the run: a person flushes
    shutil.copytree(ready.folder, copy)
    call = ["--workspace", str(copy), "spool", "flush", "--spool", str(tmp_path / "none")]
    flushed = CliRunner().invoke(main, [*call, "--json"])
    assert flushed.exit_code == 0, flushed.output
    (told,) = json.loads(flushed.output)
    assert told["done"]
    assert told["text"].startswith("what was measured of tiny v1 is recorded")
    (found,) = Workspace.open(copy).read().all(Evaluation)
    assert "Nothing waits" in CliRunner().invoke(main, call).output

    ready.instance = own_instance  # the run is retried: the version is sealed, so the function is not entered
    for _ in range(2):
        ran = again(ready, run.run_id, reporting_project.defs)
        assert ran.success, ran.failure
    assert ready.entered("training") == 1
    (recorded,) = ready.all(Evaluation)
    assert recorded.record.observed["run"] == found.record.observed["run"] == f"{run.run_id}/eval-1"
    assert recorded.record.observed["benchmark_version"] == "holdout-v1"
    assert {item.name: item.value for item in recorded.record.metrics}["auc"] == reporting_project.RESULTS["auc"]
    assert waiting(ready) == []
    assert ready.all(TrainingFailed) == []
    ready.assert_verifies()


def test_results_that_are_refused_wait_for_the_next_attempt(ready: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise EvaluationError("the holdout is gone")

    with monkeypatch.context() as patch:
        patch.setattr("cognify_dagster.instrument.sdk.judging.record_reported", refuse)
        first = ready.run(["tiny_model"], definitions=reporting_project.defs)
        assert not first.success
        assert "the holdout is gone. The version is sealed; its results wait in" in first.failure
        assert not again(ready, first.id, reporting_project.defs).success
        refused = CliRunner().invoke(main, ["--workspace", str(ready.folder), "spool", "flush"])
        assert refused.exit_code == 1
    (kept,) = waiting(ready)
    assert str(kept) in first.failure
    ran = again(ready, first.id, reporting_project.defs)
    assert ran.success, ran.failure
    assert len(ready.all(Evaluation)) == 1
    assert waiting(ready) == []


def test_a_block_records_what_its_first_attempt_measured_not_what_a_retry_would(
    ready: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = iter((0.8, 0.9))

    @dg.asset(name="block_model", deps=[project.tiny_train])
    def in_a_block(context, ledger: cg.LedgerResource) -> None:
        with ledger.attach(context, model=project.tiny, trained_on=["tiny_train"]):
            run = sdk.run()
            path = project.place() / "model.bin"
            path.write_text("model")
            run.save_model(path)
            run.eval({"auc": next(values), "fairness.SEX.ratio": 0.9}, "holdout-v1", protected_attributes=("SEX",))
            run.complete()

    defs = dg.Definitions(assets=[project.tiny_train, in_a_block], resources={"ledger": cg.LedgerResource()})

    def die(*_: object) -> None:
        raise ConnectionError("the ledger is out of reach")

    with monkeypatch.context() as patch:
        patch.setattr("cognify_dagster.instrument.sdk.attaching.record_kept", die)
        first = ready.run(["block_model"], None, definitions=defs)
        assert not first.success
    assert len(ready.all(TrainingRun)) == 1
    assert ready.all(Evaluation) == []
    ran = again(ready, first.id, defs, "block_model")
    assert ran.success, ran.failure
    (recorded,) = ready.all(Evaluation)
    assert {item.name: item.value for item in recorded.record.metrics}["auc"] == 0.8
    assert waiting(ready) == []


def test_results_that_cannot_be_kept_stop_the_sealing(ready: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reported.Journal, "write", full)
    assert not ready.run(["tiny_model"], definitions=reporting_project.defs).success
    assert ready.all(TrainingRun) == []
    (failed,) = ready.all(TrainingFailed)
    assert "No space left" in failed.record.reason


def test_a_plain_asset_that_somebody_ends_while_it_is_sealed_leaves_a_failure(
    ready: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    @dg.asset(name="plain_model", deps=[project.tiny_train])
    def recorded(context, ledger: cg.LedgerResource):
        path = project.place() / "model.bin"
        path.write_text("model")
        yield from ledger.record(context, model=project.tiny, file=path, trained_on=["tiny_train"])

    def end(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(plain, "seal_training", end)
    defs = dg.Definitions(assets=[project.tiny_train, recorded], resources={"ledger": cg.LedgerResource()})
    assert not ready.run(["plain_model"], None, definitions=defs).success
    (failed,) = ready.all(TrainingFailed)
    assert failed.record.reason.startswith("KeyboardInterrupt")


# -- the folder ----------------------------------------------------------------------------------------------------------


PLOT = bytes(range(256)) * 400


def some(count: int = 2) -> reported.Kept:
    """Results in both forms, one of them too large for a line."""
    large = as_eval_result({"auc": 0.5}, n=10).model_copy(
        update={"artifacts": (EvalArtifact(name="plot.bin", media_type="image/png", data=PLOT),)}
    )
    both = (as_reported({"auc": 0.75}, "holdout-v1", gates="g", n=7), as_reported(large, "holdout-v1"))
    return reported.Kept("tiny", "v1", "run-1", (), both[:count])


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    assert reported.read_kept(folder) is None
    reported.keep(folder, some())
    assert reported.read_kept(folder) == some()
    reported.keep(folder, some(1))  # a later attempt counts alone
    found = reported.read_kept(folder)
    assert found is not None
    assert [(item.results, item.label, item.gates, item.n) for item in found.results] == [
        ({"auc": 0.75}, "holdout-v1", "g", 7)
    ]
    reported.keep(folder, some(0))
    assert not folder.exists()


def test_a_folder_that_was_changed_or_is_open_to_others_is_not_read(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    reported.keep(folder, some())
    journal = folder / "journal.jsonl"
    whole = journal.read_bytes()
    journal.write_bytes(whole.replace(b"0.75", b"0.99"))
    with pytest.raises(JournalDamaged, match="line 2"):
        reported.read_kept(folder)
    journal.write_bytes(whole[: whole.rindex(b"\n", 0, -1) + 1])  # the process died while it wrote: nothing was sealed
    assert reported.read_kept(folder) is None
    journal.write_bytes(whole)
    folder.chmod(0o755)
    with pytest.raises(SdkError, match="others can read or write it"):
        reported.read_kept(folder)
