"""What a governed step refuses: a clear message, no retry, nothing half-written."""

from __future__ import annotations

from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cognify_dagster.governance import adopt_gate_set
from cognify_dagster.records import (
    DatasetSnapshot,
    Evaluation,
    OverlapChecked,
    ReleaseGranted,
    TrainingFailed,
    TrainingRun,
)
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk


def forge(path: Path) -> None:
    """Change one value in a data file and keep everything else."""
    table = pq.read_table(path)
    amounts = table["amount"].to_pylist()
    amounts[17] += 1
    pq.write_table(table.set_column(1, "amount", [amounts]), path)


def blob(desk: Desk, digest: str) -> Path:
    """The stored file of an evidence digest."""
    name = digest.removeprefix("sha256:")
    (found,) = (desk.folder / ".cognify" / "evidence").rglob(f"*{name[4:]}")
    return found


def damage(path: Path) -> None:
    """Flip the last byte of a file."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(bytes(data))


def refused(desk: Desk, assets: list[str], *texts: str) -> None:
    """Run and expect a refusal that says all of the texts and is not retried."""
    ran = desk.run(assets)
    assert not ran.success
    for text in texts:
        assert text in ran.failure, ran.failure
    assert ran.steps("STEP_UP_FOR_RETRY") == []
    run = desk.instance.get_run_by_id(ran.id)
    assert run is not None
    assert run.tags["dagster/max_retries"] == "0"
    desk.assert_verifies()


def test_training_without_a_snapshot(new_desk: Desk):
    refused(new_desk, ["tiny_model"], "'tiny_train' was never snapshotted; materialize its snapshot asset first")
    assert new_desk.entered("training") == 0
    assert "version_opened" not in new_desk.kinds()


def test_a_step_without_a_partition(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    ran = new_desk.run(["tiny_model"], None)
    assert not ran.success
    assert "tiny is trained one version at a time: launch it with a partition, the version" in ran.failure
    assert "version_opened" not in new_desk.kinds()


def test_training_on_data_that_changed_after_the_snapshot(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    forge(new_desk.folder / "data" / "tiny_train.parquet")
    refused(
        new_desk, ["tiny_model"], "dataset tiny_train:", "It is not the data of snapshot entry", "tiny_train.parquet"
    )
    assert new_desk.all(TrainingRun) == []
    (failed,) = new_desk.all(TrainingFailed)
    assert failed.record.reason.startswith("SnapshotChanged: dataset tiny_train")
    # recording the new state mends it
    assert new_desk.run(project.DATA, None).success
    assert new_desk.run(["tiny_model"]).success


def test_training_on_data_that_are_gone(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    (new_desk.folder / "data" / "tiny_train.parquet").unlink()
    refused(new_desk, ["tiny_model"], "tiny_train.parquet")


def test_a_snapshot_of_a_missing_file(new_desk: Desk):
    (new_desk.folder / "data" / "tiny_train.parquet").unlink()
    ran = new_desk.run(["tiny_train"], None)
    assert not ran.success
    assert "tiny_train.parquet" in ran.failure
    assert "dataset_snapshot" not in new_desk.kinds()


def test_a_snapshot_of_an_empty_dataset(new_desk: Desk):
    path = new_desk.folder / "data" / "tiny_train.parquet"
    pq.write_table(pq.read_table(path).slice(0, 0), path)
    ran = new_desk.run(["tiny_train"], None)
    assert not ran.success
    assert "tiny_train" in ran.failure
    assert "empty" in ran.failure or "no rows" in ran.failure or "no records" in ran.failure


def test_a_snapshot_with_duplicate_record_keys(new_desk: Desk):
    path = new_desk.folder / "data" / "tiny_train.parquet"
    table = pq.read_table(path)
    pq.write_table(table.set_column(0, "ID", [[1, 1, *range(2, 200)]]), path)
    ran = new_desk.run(["tiny_train"], None)
    assert not ran.success
    assert "ID" in ran.failure
    assert "dataset_snapshot" not in new_desk.kinds()


def test_evaluation_on_data_never_snapshotted(new_desk: Desk):
    assert new_desk.run(["tiny_train"], None).success
    assert new_desk.run(["tiny_model"]).success
    refused(new_desk, ["tiny_eval"], "'tiny_holdout' was never snapshotted")
    assert new_desk.all(Evaluation) == []


def test_evaluation_on_data_never_compared_with_the_training_data(new_desk: Desk):
    assert new_desk.run(project.DATA, None, checks=()).success
    assert new_desk.run(["tiny_model"]).success
    refused(new_desk, ["tiny_eval"], "tiny_holdout was never compared with the training data; add an overlap check")
    assert new_desk.all(Evaluation) == []


def test_evaluation_of_a_version_that_was_never_trained(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    refused(new_desk, ["tiny_eval"], "tiny v1 has no sealed training run; train it first")


def test_packaging_before_evaluation(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    assert new_desk.run(["tiny_model"]).success
    refused(new_desk, ["tiny_package"], "tiny v1 has no evaluation; evaluate it before packaging")


def test_thresholds_adopted_after_training_had_started(sit, tmp_path_factory: pytest.TempPathFactory):
    desk = sit(stock.found(tmp_path_factory.mktemp("late"), gates=False))
    assert desk.run(project.DATA, None).success
    assert desk.run(["tiny_model"]).success
    adopt_gate_set(desk.workspace, "tiny_gates", "tiny", list(stock.GATES), desk.keys["vera"])
    refused(desk, ["tiny_eval"], "no gate set 'tiny_gates' was adopted for tiny before this training started")
    assert desk.entered("evaluation") == 0
    # the next version is judged by them
    assert desk.run(["tiny_model", "tiny_eval"], "v2").success


def test_overlap_of_training_and_holdout_stops_the_run_and_the_release(new_desk: Desk):
    project.write_data(new_desk.folder / "data", shared=3)
    ran = new_desk.run(project.DATA, None)
    assert not ran.success
    check = ran.checks["no_overlap"]
    assert not check.passed
    assert check.blocking
    assert check.metadata["cognify/overlapping_records"].value == 3
    (recorded,) = new_desk.all(OverlapChecked)
    assert recorded.record.overlapping_records == 3
    # who goes on in runs of their own is stopped by the gate on the recorded overlap
    assert new_desk.run(["tiny_model"]).success
    ran = new_desk.run(["tiny_eval", "tiny_package"])
    assert not ran.success
    assert not ran.checks["data_quality"].passed
    assert "tiny_package" not in ran.steps("STEP_START")


def test_a_failing_fairness_gate_blocks_the_package_in_the_same_run_and_the_release_in_any(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    new_desk.switch("unfair")
    ran = new_desk.run(project.BUILD)
    assert not ran.success
    assert ran.checks["performance"].passed
    assert not ran.checks["fairness"].passed
    assert "0.5" in ran.checks["fairness"].description
    assert "tiny_package" not in ran.steps("STEP_START")
    assert new_desk.entered("evaluation") == 1  # a failed gate is a result, not an accident to retry
    # the package can be built alone, to show what failed; it is not released
    assert new_desk.run(["tiny_package"]).success
    released = new_desk.run([project.SERVICE])
    assert "automated gate 'fairness' failed" in released.failure
    assert new_desk.all(ReleaseGranted) == []


def test_the_model_file_changed_in_the_evidence_store(desk: Desk):
    (training,) = desk.all(TrainingRun)
    digest = training.record.model_file.digest
    desk.approve()
    damage(blob(desk, digest))
    refused(desk, ["tiny_eval"], digest.removeprefix("sha256:")[4:20], "restore it from a backup")
    assert len(desk.all(Evaluation)) == 1
    released = desk.run([project.SERVICE])
    assert not released.success
    assert "the stored model or package does not verify" in released.failure
    assert desk.entered("deployment") == 0
    assert desk.all(ReleaseGranted) == []
    desk.assert_verifies()


def test_the_signed_package_changed_in_the_evidence_store(desk: Desk):
    from cognify_dagster.records import Package

    (package,) = desk.all(Package)
    desk.approve()
    damage(blob(desk, package.record.package.digest))
    assert "the stored model or package does not verify" in desk.run([project.SERVICE]).failure
    assert desk.entered("deployment") == 0


def test_a_ledger_that_was_tampered_with_stops_every_step(desk: Desk):
    import sqlite3

    desk.approve()
    (snapshot,) = desk.all(DatasetSnapshot, "dataset/tiny_train")
    with sqlite3.connect(desk.folder / ".cognify" / "ledger.sqlite") as db:
        db.execute("DROP TRIGGER payload_only_erase")
        db.execute("UPDATE payload SET bytes = replace(bytes, 'tiny', 'Tiny') WHERE seq = ?", (snapshot.seq,))
    for assets in (["tiny_model"], ["tiny_eval"], ["tiny_package"], [project.SERVICE]):
        ran = desk.run(assets)
        assert not ran.success
        assert f"entry {snapshot.seq}" in ran.failure
        assert ran.steps("STEP_UP_FOR_RETRY") == []


def test_a_workspace_that_does_not_exist(new_desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(tmp_path / "elsewhere"))
    ran = new_desk.run(["tiny_train"], None)
    assert not ran.success
    assert "cognify init" in ran.failure


def test_someone_unknown_trains(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    assert new_desk.run(project.BUILD, user="mallory").success
    (training,) = new_desk.all(TrainingRun)
    assert training.record.launched_by == "unattributed"
    assert training.record.unattributed == ("user:mallory",)
    assert "not mapped to an enrolled person" in new_desk.run([project.SERVICE]).failure
