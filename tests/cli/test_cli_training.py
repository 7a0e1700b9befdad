"""`cognify training`: what the sealed run recorded, and whether files are those of its record."""

from __future__ import annotations

from pathlib import Path

import pytest

from cognify_dagster.instrument.distributed.recorded import MEDIA_TYPE, artifact_name
from cognify_dagster.records import DatasetRef, TrainingFailed
from cognify_dagster.training import TrainingRecorder, capture_code, capture_environment
from cognify_dagster.training.recording import Attribution, open_version, seal_training
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World


@pytest.fixture
def trained(founded: World, tmp_path: Path) -> World:
    """Version 1 has a sealed run with a folder model and two checkpoints, after a failed attempt."""
    workspace = founded.workspace
    founded.register()
    data = DatasetRef(name="loans_train", root="ab" * 32, seq=founded.snapshot("loans_train").seq, role="train")
    folder = tmp_path / "model"
    (folder / "weights").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "weights" / "w.bin").write_bytes(b"weights")
    run = TrainingRecorder()
    for step in (10, 20):
        point = tmp_path / f"checkpoint-{step}"
        point.mkdir()
        (point / "state").write_text(str(step))
        run.log_checkpoint(point, step=step, note="best" if step == 20 else "")
    run.log_config({"lr": 0.1})
    run.log_metric("loss", 0.25)
    run.log_seeds(torch=3)
    run.set_compute(parameters=10, tokens=100)
    run.note_selection("best of two\x1b[2J")
    open_version(workspace, MODEL, "1", run="run-1", opened_by="person/ben", run_is_over=lambda _: True)
    founded.write(TrainingFailed(model=MODEL, version="1", run="run-0", reason="out of memory"))
    seal_training(
        workspace,
        run,
        model=MODEL,
        version="1",
        run="run-1",
        datasets=[data],
        model_path=folder,
        code=capture_code(tmp_path),
        environment=capture_environment(),
        attribution=Attribution("person/ben", ("person/ben",)),
        started_after_seq=workspace.ledger.size(),
    )
    return founded


def test_seeds_and_image_that_are_not_there_are_said_so(founded: World, cognify: Cognify) -> None:
    founded.train("1", seed=None)
    shown = cognify("training", "show", MODEL, "1", at=founded)
    seeds = next(line for line in shown.out.splitlines() if "Seeds" in line)
    assert "not recorded" in seeds
    founded.train("2", seed=0)
    seeds = next(
        line for line in cognify("training", "show", MODEL, "2", at=founded).out.splitlines() if "Seeds" in line
    )
    assert seeds.split()[-1] == "0"


def test_a_distributed_checkpoint_is_verified_by_another_command(
    founded: World, cognify: Cognify, tmp_path: Path
) -> None:
    item = founded.workspace.put(artifact_name("step-20"), b"{}", MEDIA_TYPE)
    founded.train("1", artefacts=(item,))
    refused = cognify("training", "verify", MODEL, "1", tmp_path, "--checkpoint", "step-20", at=founded)
    assert refused.code == 1
    said = " ".join(refused.err.split())
    assert f"cognify checkpoint verify {tmp_path} --model {MODEL} --version 1 --checkpoint step-20" in said


def test_a_run_is_shown_with_what_it_recorded(trained: World, cognify: Cognify) -> None:
    shown = cognify("training", "show", MODEL, "1", at=trained)
    assert shown.code == 0
    for text in (
        "a folder of 2 files, 9 bytes",
        "torch 3",
        "6000 FLOP",
        "energy not measured",
        "GPU",
        "checkpoint-20",
        "best",
        "loans_train",
        "out of memory",
        "none found",
    ):
        assert text in shown.out, text
    assert "\x1b[2J" not in shown.out


def test_json_has_the_whole_record(trained: World, cognify: Cognify) -> None:
    found = cognify("training", "show", MODEL, "1", "--json", at=trained).json
    run = found["training_run"]
    assert [item["name"] for item in run["model_files"]] == ["config.json", "weights/w.bin"]
    assert [item["step"] for item in run["checkpoints"]] == [10, 20]
    assert run["observed"]["run"] == "run-1"
    assert [item["reason"] for item in found["failed_attempts"]] == ["out of memory"]


def test_a_version_without_a_sealed_run(founded: World, cognify: Cognify) -> None:
    founded.register()
    open_version(founded.workspace, MODEL, "1", run="r", opened_by="person/ben", run_is_over=lambda _: True)
    shown = cognify("training", "show", MODEL, "1", at=founded)
    assert shown.code == 1
    assert "no sealed training run" in shown.out
    assert cognify("training", "show", MODEL, "1", "--json", at=founded).json["training_run"] is None
    refused = cognify("training", "verify", MODEL, "1", ".", at=founded)
    assert refused.code == 1
    assert "nothing to compare with" in refused.err
    unknown = cognify("training", "show", MODEL, "9", at=founded)
    assert unknown.code == 1
    assert "has no version '9'" in unknown.err


def test_files_that_are_those_of_the_record(trained: World, cognify: Cognify, tmp_path: Path) -> None:
    held = cognify("training", "verify", MODEL, "1", tmp_path / "model", at=trained)
    assert held.code == 0
    assert "is the model of credit_default 1" in held.out
    for name in ("checkpoint-20", "20"):
        held = cognify("training", "verify", MODEL, "1", tmp_path / "checkpoint-20", "--checkpoint", name, at=trained)
        assert held.code == 0, held.err
        assert "is the checkpoint checkpoint-20" in held.out


def test_tampered_missing_and_additional_files_are_named(trained: World, cognify: Cognify, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "weights" / "w.bin").write_bytes(b"w3ights")
    (model / "config.json").unlink()
    (model / "extra.bin").write_bytes(b"x")
    found = cognify("training", "verify", MODEL, "1", model, at=trained)
    assert found.code == 1
    for text in ("NOT the model", "missing: config.json", "not in the record: extra.bin", "other bytes: weights/w.bin"):
        assert text in found.out
    as_json = cognify("training", "verify", MODEL, "1", model, "--json", at=trained)
    assert as_json.code == 1
    assert (as_json.json["holds"], len(as_json.json["differences"])) == (False, 3)
    other = cognify("training", "verify", MODEL, "1", tmp_path / "checkpoint-10", "--checkpoint", "20", at=trained)
    assert other.code == 1
    assert "other bytes: state" in other.out


def test_what_cannot_be_compared_is_said(trained: World, cognify: Cognify, tmp_path: Path) -> None:
    gone = cognify("training", "verify", MODEL, "1", tmp_path / "none", at=trained)
    assert (gone.code, "there is no such file or folder" in gone.err) == (3, True)
    unknown = cognify("training", "verify", MODEL, "1", tmp_path / "model", "--checkpoint", "30", at=trained)
    assert unknown.code == 1
    assert "no checkpoint '30'; on record: checkpoint-10, checkpoint-20" in unknown.err
    (tmp_path / "model" / "link").symlink_to("/etc/hostname")
    linked = cognify("training", "verify", MODEL, "1", tmp_path / "model", at=trained)
    assert linked.code == 1
    assert "a link or special file" in linked.err
