"""Offline runs of W&B and Comet, written by the real libraries without a network, become records."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.instrument.trackers import TrackerError, import_comet, import_wandb, read_comet, read_wandb
from cognify_dagster.records import ExperimentRun, TrainingFailed, TrainingRun
from tests.adapters.trackers.conftest import Bank, Cognify, offline
from tests.governance.world import MODEL


def evidence(bank: Bank, digest: str) -> Any:
    return json.loads(bank.workspace.evidence.get(digest))


def test_a_wandb_run_as_its_script_logged_it(wandb_runs: dict[str, Path]) -> None:
    run = read_wandb(wandb_runs["finished"])
    assert (run.system, run.status, run.name, run.experiment, run.parent) == (
        "wandb",
        "finished",
        "fit ü",
        "risk/credit",
        "sweep-3",
    )
    assert run.config == {
        "lr": 0.1,
        "opt": {"name": "adam", "betas": [0.9, 0.99]},
        "seed": 7,
        "api_key": "[redacted]",
        "late": "x",
    }
    assert run.metrics["train/loss"] == tuple((step, 1 / (step + 1)) for step in range(40))
    assert run.metrics["nested.acc"][-1] == (39, 39 / 40)
    state = json.loads(run.snapshot())
    assert state["metrics"]["odd"] == [[100, "NaN"]]
    assert state["metrics"]["inf"] == [[100, "-Infinity"]]
    assert state["summary"]["best auc"] == 0.9
    assert state["tags"] == ["dev"]
    assert any(one["path"] == "requirements.txt" for one in state["files"])
    assert any("table" in note for note in run.notes)
    assert run.environment.python.endswith("3.11.7") or "3." in run.environment.python
    assert "wandb" in dict(run.environment.packages)
    assert b"sk-secret-abc" not in run.snapshot()


def test_a_wandb_run_becomes_a_version(wandb_runs: dict[str, Path], bank: Bank, tmp_path: Path) -> None:
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    call = {"model": MODEL, "datasets": bank.datasets, "model_path": model, "selection_note": "best of three"}
    done = import_wandb(bank.workspace, wandb_runs["finished"], **call)
    item = bank.workspace.read().find(TrainingRun, done.entry)
    assert item is not None
    record = item.record
    assert record.model_file.digest == "sha256:" + hashlib.sha256(b"weights").hexdigest()
    assert (record.captured_by, record.seeds, record.selection_note) == ("import", {"seed": 7}, "best of three")
    assert (record.external[0].system, record.external[0].experiment) == ("wandb", "risk/credit")
    assert evidence(bank, record.external[0].snapshot.digest)["format"] == "cognify-wandb/1"
    assert len(evidence(bank, record.metric_series.digest)["train/loss"]) == 40
    again = import_wandb(bank.workspace, wandb_runs["finished"], **call)
    assert (again.entry, again.again) == (done.entry, True)


def test_wandb_runs_that_did_not_finish(wandb_runs: dict[str, Path], bank: Bank) -> None:
    failed, killed = read_wandb(wandb_runs["failed"]), read_wandb(wandb_runs["killed"])
    assert (failed.status, killed.status) == ("failed", "killed")
    assert len(killed.metrics["train/loss"]) > 100
    done = import_wandb(bank.workspace, wandb_runs["failed"], model=MODEL)
    assert done.kind == TrainingFailed.kind
    kept = import_wandb(bank.workspace, wandb_runs["killed"], experiment=MODEL)
    item = bank.workspace.read().find(ExperimentRun, kept.entry)
    assert item is not None
    assert item.record.status == "killed"


def test_a_log_that_was_cut_or_changed(wandb_runs: dict[str, Path], tmp_path: Path) -> None:
    (log,) = wandb_runs["finished"].glob("*.wandb")
    data = log.read_bytes()
    cut = tmp_path / "run-cut.wandb"
    cut.write_bytes(data[: len(data) - 5])
    run = read_wandb(cut)
    assert run.status == "killed"
    assert any("ends in the middle" in note for note in run.notes)
    changed = tmp_path / "run-changed.wandb"
    at = data.index(b"train/loss")
    changed.write_bytes(data[:at] + b"Train/loss" + data[at + 10 :])
    with pytest.raises(TrackerError, match="damaged at byte"):
        read_wandb(changed)


def test_folders_that_hold_no_wandb_run(wandb_runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="no such file or folder"):
        read_wandb(tmp_path / "nothing")
    with pytest.raises(TrackerError, match="holds none"):
        read_wandb(tmp_path)
    two = tmp_path / "two"
    shutil.copytree(wandb_runs["finished"], two)
    (log,) = two.glob("*.wandb")
    shutil.copy(log, two / "run-other.wandb")
    with pytest.raises(TrackerError, match="holds 2 of them"):
        read_wandb(two)


def test_a_comet_experiment_as_its_script_logged_it(comet_archive: Path) -> None:
    run = read_comet(comet_archive)
    assert (run.system, run.status, run.name, run.experiment) == ("comet", "finished", "fit ü", "risk/credit")
    assert run.config == {"lr": 0.1, "opt.name": "adam", "seed": 7, "api_key": "[redacted]"}
    assert run.metrics["train/loss"] == tuple((step, 1 / (step + 1)) for step in range(5))
    assert run.metrics["train/acc"] == ((1, 0.5),)
    assert not any(name.startswith("sys.") for name in run.metrics)
    state = json.loads(run.snapshot())
    assert state["metrics"]["odd"] == [[2, "NaN"]]
    assert (state["tags"], state["others"]) == (["dev"], {"reviewer": "ben"})
    digests = {one["path"]: one["sha256"] for one in state["files"]}
    assert digests["model-element/model.bin"] == hashlib.sha256(b"weights").hexdigest()
    assert "comet-ml" in dict(run.environment.packages)
    assert b"sk-secret-abc" not in run.snapshot()


def test_a_comet_experiment_becomes_a_version_with_its_logged_model(comet_archive: Path, bank: Bank) -> None:
    done = import_comet(bank.workspace, comet_archive, model=MODEL, datasets=bank.datasets)
    item = bank.workspace.read().find(TrainingRun, done.entry)
    assert item is not None
    assert item.record.model_file.name == "model.bin"
    assert item.record.model_file.digest == "sha256:" + hashlib.sha256(b"weights").hexdigest()
    assert item.record.external[0].run in comet_archive.name


def test_the_command(wandb_runs: dict[str, Path], comet_archive: Path, bank: Bank, cognify: Cognify) -> None:
    done = cognify("tracker", "import", "wandb", wandb_runs["finished"], "--experiment", MODEL, "--json", at=bank.world)
    assert (done.code, done.json["kind"]) == (0, "experiment_run"), done.err
    again = cognify("tracker", "import", "wandb", wandb_runs["finished"], "--experiment", MODEL, at=bank.world)
    assert (again.code, "nothing was written" in again.out) == (0, True)
    data = ("--dataset", "loans_train")
    sealed = cognify("tracker", "import", "comet", comet_archive, "--model", MODEL, *data, at=bank.world)
    assert (sealed.code, f"Sealed as {MODEL} 1" in sealed.out) == (0, True), sealed.err
    without = cognify("tracker", "import", "wandb", wandb_runs["finished"], "--model", MODEL, *data, at=bank.world)
    assert (without.code, "has no model" in without.err) == (1, True)
    assert cognify("tracker", "import", "wandb", comet_archive, "--experiment", MODEL, at=bank.world).code == 1
    assert cognify("tracker", "import", "comet", comet_archive, at=bank.world).code == 5


BESIDE = """
import sys, wandb
from cognify_dagster import sdk as cognify
cognify.init(workspace=sys.argv[1], project=sys.argv[2])
run = cognify.run(config={"lr": 0.1}, experiment="a try beside W&B")
with wandb.init(project="credit", config={"lr": 0.1}) as other:
    for step in range(3):
        run.log_metric("loss", 1 / (step + 1), step=step)
        other.log({"loss": 1 / (step + 1)}, step=step)
print(run.complete())
for name in ("init", "log", "finish", "save", "watch"):
    assert getattr(wandb, name).__module__.startswith("wandb"), f"wandb.{name} was patched"
"""


def test_the_sdk_and_wandb_in_one_script_without_a_network(bank: Bank, tmp_path: Path) -> None:
    done = offline(BESIDE, tmp_path / "both", str(bank.world.folder / "project"), MODEL)
    assert done.returncode == 0, done.stderr
    (item,) = bank.workspace.read().all(ExperimentRun)
    (folder,) = (tmp_path / "both").glob("wandb/offline-run-*")
    theirs = read_wandb(folder)
    assert dict(theirs.config) == item.record.config == {"lr": 0.1}
    ours = evidence(bank, item.record.metric_series.digest)
    assert [list(point) for point in theirs.metrics["loss"]] == ours["loss"]
