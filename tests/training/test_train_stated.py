"""What a training states about itself: checkpoints, seeds, cost, processes, links, re-run; refused at once if it can't be recorded."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.training import (
    FLOPS_METHOD,
    SealedError,
    TrainingError,
    TrainingRecorder,
    capture_code,
    digest_files,
    estimate_flops,
    rows_root,
)
from cognify_dagster.training.pieces import checkpoint_files


def facts(run: TrainingRecorder) -> dict[str, Any]:
    return run.to_facts()["facts"]


def written(folder: Path, **content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in content.items():
        (folder / name).write_bytes(data)
    return folder


# -- checkpoints --------------------------------------------------------------------------------------------------------


def test_a_checkpoint_has_step_files_digests_and_one_root_and_may_be_deleted(tmp_path):
    run = TrainingRecorder()
    place = written(tmp_path / "checkpoint-10", weights=b"w", optimizer=b"o")
    assert run.log_checkpoint(place, step=10, note="best") == "checkpoint-10"
    for file in place.iterdir():
        file.unlink()
    place.rmdir()
    run.complete()
    (found,) = facts(run)["checkpoints"]
    rows = [["optimizer", 1, hashlib.sha256(b"o").hexdigest()], ["weights", 1, hashlib.sha256(b"w").hexdigest()]]
    assert found == {
        "name": "checkpoint-10",
        "step": 10,
        "note": "best",
        "keep": False,
        "files": rows,
        "root": rows_root(rows),
        "size": 2,
    }
    assert [item.row() for item in checkpoint_files(run.checkpoints_listing(), "checkpoint-10")] == rows


def test_a_checkpoint_whose_bytes_are_kept_has_to_stay_as_it_was(tmp_path):
    run = TrainingRecorder()
    file = tmp_path / "last.pt"
    file.write_bytes(b"one")
    run.log_checkpoint(file, keep=True)
    file.write_bytes(b"two")
    with pytest.raises(TrainingError, match=r"last\.pt: .* changed after it was logged"):
        run.complete()
    file.unlink()
    with pytest.raises(TrainingError, match="or is gone"):
        run.complete()


def test_one_that_is_written_again_and_again_keeps_every_state_under_its_own_name(tmp_path):
    run = TrainingRecorder()
    file = tmp_path / "last.pt"
    names = []
    for step in (1, 2, 3):
        file.write_bytes(b"%d" % step)
        names.append(run.log_checkpoint(file, step=step))
    names.append(run.log_checkpoint(file, step=3))  # said twice
    file.write_bytes(b"4")
    names.append(run.log_checkpoint(file, step=3))  # trained on after a resume
    assert names == ["last.pt", "last.pt@2", "last.pt@3", "last.pt@3", "last.pt@3#2"]
    assert [item.step for item in run.checkpoints] == [1, 2, 3, 3]
    with pytest.raises(TrainingError, match=r"last\.pt: already recorded with other content"):
        run.log_checkpoint(file, name="last.pt")


def test_unusable_checkpoints_are_refused(tmp_path):
    run = TrainingRecorder()
    with pytest.raises(TrainingError, match="can't be read"):
        run.log_checkpoint(tmp_path / "none")
    place = written(tmp_path / "c", a=b"a")
    with pytest.raises(TrainingError, match="step"):
        run.log_checkpoint(place, step=1.5)  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="note"):
        run.log_checkpoint(place, note="x" * 301)
    (place / "link").symlink_to(place / "a")
    with pytest.raises(TrainingError, match="link"):
        run.log_checkpoint(place)
    assert run.checkpoints == ()


def test_more_checkpoints_than_an_entry_holds_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("cognify_dagster.training.recorder.MAX_CHECKPOINTS", 2)
    run = TrainingRecorder()
    file = tmp_path / "c"
    for step in (1, 2):
        file.write_bytes(b"%d" % step)
        run.log_checkpoint(file, step=step)
    file.write_bytes(b"3")
    with pytest.raises(TrainingError, match="record every n-th"):
        run.log_checkpoint(file, step=3)
    file.write_bytes(b"2")
    assert run.log_checkpoint(file, step=2) == "c@2"


# -- seeds, cost --------------------------------------------------------------------------------------------------------


def test_seeds_by_library_cannot_change():
    run = TrainingRecorder()
    run.log_seeds(torch=1, numpy=2)
    run.log_seeds(torch=1, data=3)
    assert facts(run)["seeds"] == {"data": 3, "numpy": 2, "torch": 1}
    with pytest.raises(TrainingError, match="seed torch: already recorded as 1, now 2"):
        run.log_seeds(torch=2, python=4)
    for bad in (True, 1.5, "7", None, 2**53):
        with pytest.raises(TrainingError, match="seed python"):
            run.log_seeds(python=bad)  # type: ignore[arg-type]
    assert facts(run)["seeds"] == {"data": 3, "numpy": 2, "torch": 1}


def test_operations_are_estimated_as_6pd_and_the_source_is_named():
    assert estimate_flops(22_700_000, 1_000_000) == 6 * 22_700_000 * 1_000_000
    run = TrainingRecorder()
    run.set_compute(parameters=22_700_000)
    assert "flops" not in facts(run)["compute"]
    run.set_compute(tokens=1_000_000)
    assert facts(run)["compute"]["flops"] == 136_200_000_000_000
    assert facts(run)["compute"]["flops_method"] == FLOPS_METHOD
    assert "arXiv:2001.08361" in FLOPS_METHOD
    run.set_compute(flops=2**60, flops_method="counted by the trainer")
    assert facts(run)["compute"]["flops"] == float(2**60)
    assert facts(run)["compute"]["flops_method"] == "counted by the trainer"
    large = TrainingRecorder()
    large.set_compute(parameters=7 * 10**10, tokens=2 * 10**12)
    assert facts(large)["compute"]["flops"] == 8.4e23


def test_what_nobody_stated_is_not_invented():
    run = TrainingRecorder()
    assert facts(run)["compute"] == {}
    run.set_compute(device_seconds=12.5, hardware="1 x H200")
    assert facts(run)["compute"] == {"device_seconds": 12.5, "hardware": "1 x H200"}


@pytest.mark.parametrize(
    "stated",
    [
        {"flops": -1},
        {"flops": float("nan")},
        {"flops": "many"},
        {"flops": True},
        {"tokens": 1.5},
        {"tokens": -1},
        {"parameters": 2**53},
        {"energy_kwh": float("inf")},
        {"hardware": "x" * 1001},
        {"hardware": 7},
    ],
    ids=str,
)
def test_impossible_costs_are_refused_by_name(stated):
    run = TrainingRecorder()
    with pytest.raises(TrainingError, match=f"compute.{next(iter(stated))}"):
        run.set_compute(**stated)
    assert facts(run)["compute"] == {}
    with pytest.raises(TrainingError, match=r"compute\.tokens"):
        estimate_flops(1, -1)


# -- base model, processes, links, re-run --------------------------------------------------------------------------------


def test_a_parent_is_a_model_key_and_a_version():
    run = TrainingRecorder()
    run.set_base_model("mine", sha256="0" * 64, licence="MIT", parent=("credit_default", "3"))
    assert facts(run)["base_model"]["parent"] == {"model": "credit_default", "version": "3"}
    for bad in ("credit_default", ("a", "b", "c"), ("a b", "1"), ("a", ""), (1, 2)):
        with pytest.raises(TrainingError, match=r"base_model\.parent"):
            run.set_base_model("mine", sha256="0" * 64, licence="MIT", parent=bad)  # type: ignore[arg-type]
    run.set_base_model("theirs", sha256="1" * 64, licence="MIT")
    assert "parent" not in facts(run)["base_model"]


def test_the_manifest_of_several_processes_has_a_root():
    run = TrainingRecorder()
    rows = [{"rank": 0, "file": "a"}, {"rank": 1, "file": "b"}]
    run.set_distributed(world_size=2, backend="gloo", strategy="fsdp2", mesh={"dp": 2}, rows=rows)
    found = facts(run)["distributed"]
    assert (found["world_size"], found["mesh"], found["rows"]) == (2, {"dp": 2}, rows)
    assert found["root"] == rows_root(rows)
    run.set_distributed(world_size=4)
    assert facts(run)["distributed"]["root"] is None
    for bad in (0, -1, True, "2"):
        with pytest.raises(TrainingError, match="world_size"):
            run.set_distributed(world_size=bad)


def test_links_to_other_trackers_hold_no_credentials():
    run = TrainingRecorder()
    run.link_external("mlflow", "r1", uri="https://ada:s3cr3t@track.example/x?token=t0ken#f", snapshot=b"{}")
    run.link_external("wandb", "r2", uri="file:///home/ada/wandb")
    text = json.dumps(facts(run)["external"])
    assert "s3cr3t" not in text
    assert "t0ken" not in text
    assert [item["uri"] for item in facts(run)["external"]] == ["https://track.example/x", "local path"]
    assert facts(run)["external"][0]["snapshot_sha256"] == hashlib.sha256(b"{}").hexdigest()
    run.link_external("mlflow", "r1", uri="https://track.example/y")
    assert [item.run for item in run.external] == ["r1", "r2"]
    with pytest.raises(TrainingError, match="expected one of mlflow"):
        run.link_external("neptune", "x")
    with pytest.raises(TrainingError, match="external run"):
        run.link_external("mlflow", " ")


def test_how_to_run_it_again():
    run = TrainingRecorder()
    run.set_rerun(["python", "train.py"], folder="src", tolerances={"auc": 0.001})
    assert facts(run)["rerun"] == {
        "command": ["python", "train.py"],
        "folder": "src",
        "tolerances": {"auc": 0.001},
        "same_bytes": False,
    }
    for bad in ("python train.py", [], ["x"] * 201, [1]):
        with pytest.raises(TrainingError, match=r"rerun\.command"):
            run.set_rerun(bad)  # type: ignore[arg-type]
    for folder in ("/etc", "../other", "a/../../b"):
        with pytest.raises(TrainingError, match=r"rerun\.folder"):
            run.set_rerun(["python"], folder=folder)
    with pytest.raises(TrainingError, match=r"rerun\.tolerances\.auc"):
        run.set_rerun(["python"], tolerances={"auc": -1})


def test_the_feature_pipelines_code_is_captured_or_given(tmp_path):
    run = TrainingRecorder()
    run.set_feature_code(tmp_path)
    assert run.feature_code == capture_code(tmp_path)
    run.set_feature_code(capture_code(Path(__file__)))
    assert facts(run)["feature_code"]["vcs"] in ("git", "none", "unreadable")
    with pytest.raises(TrainingError, match="no such file or folder"):
        run.set_feature_code(tmp_path / "none")


def test_settings_that_are_no_settings_are_refused_for_their_size():
    run = TrainingRecorder()
    with pytest.raises(TrainingError, match="config: larger than"):
        run.log_config({"vocabulary": ["word"] * 300_000})
    with pytest.raises(TrainingError, match=r"extra\.x: larger than"):
        run.log_extra("x", "y" * 2_000_000)
    assert facts(run)["config"] == {}
    run.log_config({"a": "y" * 600_000})
    with pytest.raises(TrainingError, match="config: larger than"):
        run.log_config({"b": "y" * 600_000})
    run.log_extra("a", "y" * 600_000)
    with pytest.raises(TrainingError, match="extra: larger than"):
        run.log_extra("b", "y" * 600_000)
    assert (set(facts(run)["config"]), set(facts(run)["extra"])) == ({"a"}, {"a"})


def test_a_file_whose_name_is_not_utf_8_is_refused(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/m\xff"))
    path.write_bytes(b"x")
    for call in (TrainingRecorder().save_model, TrainingRecorder().log_checkpoint):
        with pytest.raises(TrainingError, match="not UTF-8"):
            call(path)


def test_a_sealed_record_refuses_before_it_reads_any_file(tmp_path):
    run = TrainingRecorder()
    run.complete()
    for call in (run.save_model, run.log_checkpoint):
        with pytest.raises(SealedError):
            call(tmp_path / "none")


# -- completion reads again only what it has to --------------------------------------------------------------------------


def test_completion_reads_a_model_again_unless_its_times_show_that_nobody_wrote(tmp_path, monkeypatch):
    file = tmp_path / "model.bin"
    file.write_bytes(b"weights")
    read: list[Path] = []
    real = digest_files
    monkeypatch.setattr("cognify_dagster.training.recorder.digest_files", lambda path: read.append(path) or real(path))
    young = TrainingRecorder()
    young.save_model(file)
    young.complete()
    assert read == [file, file]
    read.clear()
    now = files_clock(monkeypatch, seconds=10)
    old = TrainingRecorder()
    old.save_model(file)
    old.complete()
    assert read == [file]
    now.undo()


def files_clock(monkeypatch, seconds: int) -> pytest.MonkeyPatch:
    import time

    real = time.time_ns
    patch = pytest.MonkeyPatch()
    patch.setattr("cognify_dagster.training.files.time.time_ns", lambda: real() + seconds * 1_000_000_000)
    return patch
