"""The one line without Dagster: the callback starts a run of the SDK, and the ledger holds what the Trainer did."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from cognify_dagster.cli import main
from cognify_dagster.instrument import sdk
from cognify_dagster.instrument.huggingface import CognifyCallback
from cognify_dagster.instrument.sdk.attaching import attach
from cognify_dagster.instrument.sdk.outcomes import NotPackaged, Packaged
from cognify_dagster.records import Evaluation, ExperimentRun, TrainingFailed, TrainingRun, VersionOpened
from cognify_dagster.training import TrainingRecorder, digest_files
from tests.adapters.huggingface.test_callback import history
from tests.governance.world import MODEL, World, clone
from tests.instrument import sdk_world


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> World:
    return sdk_world.prepare(tmp_path_factory.mktemp("sdk") / "world")


@pytest.fixture
def world(template: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    from cognify_dagster.instrument.sdk import api

    made = clone(template, tmp_path / "world")
    for name in ("COGNIFY_SPOOL", "COGNIFY_PROJECT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(made.folder / "project"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    api._run = api._session = None
    yield made
    if api._run is not None:
        api._run.fail("left open by a test")
    api._run = api._session = None


def trainings(world: World) -> list[Any]:
    return world.workspace.read().all(TrainingRun, f"model/{MODEL}")


def test_one_line_on_a_stock_script_seals_a_version_with_everything_the_trainer_did(
    make: Any, world: World, base: Path
) -> None:
    callback = CognifyCallback(project=MODEL)
    trainer = make(callback)
    trainer.train()
    (sealed,) = trainings(world)
    record = sealed.record
    assert record.captured_by == "sdk"
    assert record.config["learning_rate"] == trainer.args.learning_rate
    assert record.config["resolved"]["effective_batch_size"] == 4
    assert record.seeds == {"python": 7, "numpy": 7, "torch": 7, "data": 7}
    assert [item.name for item in record.datasets if item.role == "train"] == ["loans_train"]
    assert (record.extra["hf.rows_differ"]["trainer"], record.extra["hf.rows_differ"]["bound"]) == (32, 40)
    assert record.base_model["sha256"] == digest_files(base).sha256
    assert record.architecture["name"] == "BertForSequenceClassification"
    evidence = world.workspace.evidence
    assert json.loads(evidence.get(record.metric_series.digest)) == json.loads(json.dumps(history(trainer)))
    for checkpoint in record.checkpoints:
        assert checkpoint.root == digest_files(Path(trainer.args.output_dir) / checkpoint.name).root()
    assert [item.step for item in record.checkpoints] == [2, 4, 6]
    assert record.compute is not None
    assert record.compute.flops == trainer.state.total_flos
    weights = next(item for item in record.model_files if item.name.endswith("model.safetensors"))
    saved = Path(trainer.args.output_dir) / "final-model" / "model.safetensors"
    assert weights.digest == f"sha256:{hashlib.sha256(saved.read_bytes()).hexdigest()}"
    assert isinstance(callback.outcome, NotPackaged)  # nothing was evaluated
    assert callback.outcome.entry == sealed.seq


def test_a_script_that_evaluates_goes_on_to_the_package(make: Any, world: World) -> None:
    sdk.init(project=MODEL)
    run = sdk.run()
    make(CognifyCallback(), eval_strategy="no").train()
    assert trainings(world) == []  # who began the run completes it
    run.note_selection("The only configuration that was tried.")
    run.eval({"auc": {"value": 0.9, "ci_low": 0.85, "ci_high": 0.95, "n": 40}}, benchmark_version="holdout-v3")
    assert isinstance(run.complete(), Packaged)
    (sealed,) = trainings(world)
    (evaluation,) = world.workspace.read().all(Evaluation, f"model/{MODEL}")
    assert evaluation.record.training_seq == sealed.seq


def test_an_error_in_training_is_a_failed_run_and_reaches_the_script(make: Any, world: World) -> None:
    from transformers import Trainer

    class Broken(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if self.state.global_step == 3:
                raise FloatingPointError("the loss is not a number")
            return super().training_step(*args, **kwargs)

    with pytest.raises(FloatingPointError):
        make(CognifyCallback(project=MODEL), trainer=Broken).train()
    (failed,) = world.workspace.read().all(TrainingFailed, f"model/{MODEL}")
    assert failed.record.reason == "FloatingPointError: the loss is not a number"
    assert trainings(world) == []
    make(CognifyCallback(project=MODEL)).train()  # the next one is not held up
    assert len(trainings(world)) == 1


def test_ctrl_c_is_a_failed_run_too(make: Any, world: World) -> None:
    from transformers import Trainer

    class Stopped(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make(CognifyCallback(project=MODEL), trainer=Stopped).train()
    (failed,) = world.workspace.read().all(TrainingFailed, f"model/{MODEL}")
    assert failed.record.reason.startswith("KeyboardInterrupt")


def test_an_experiment_stays_an_experiment(make: Any, world: World) -> None:
    make(CognifyCallback(project=MODEL, experiment="trying a learning rate"), max_steps=2).train()
    assert trainings(world) == []
    (found,) = world.workspace.read().all(ExperimentRun)
    assert found.record.reason == "trying a learning rate"
    assert found.record.config["max_steps"] == 2


def test_a_capture_that_fails_is_named_in_the_record_and_training_goes_on(
    make: Any, world: World, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.instrument.huggingface import capture

    def broken(*_: Any) -> None:
        raise RuntimeError("an optimizer of a kind nobody knows")

    monkeypatch.setattr(capture, "optimizer_facts", broken)
    with caplog.at_level(logging.WARNING):
        make(CognifyCallback(project=MODEL, base_model={"path": "/nowhere"})).train()
    (sealed,) = trainings(world)
    found = sealed.record.extra["hf.not_captured"]
    assert "an optimizer of a kind nobody knows" in found["config"]
    assert "/nowhere" in found["base model"]
    assert "could not be captured" in caplog.text


def test_a_fine_tuned_version_of_a_governed_one_names_its_parent(make: Any, world: World, tmp_path: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    make(CognifyCallback(project=MODEL), max_steps=2).train()
    (first,) = trainings(world)
    parent = tmp_path / "out" / "final-model"
    model = AutoModelForSequenceClassification.from_pretrained(parent)
    callback = CognifyCallback(
        project=MODEL, base_model={"licence": "internal", "parent": (MODEL, first.record.version), "path": parent}
    )
    make(callback, model=model, max_steps=2, out=tmp_path / "second").train()
    second = trainings(world)[-1]
    assert second.record.base_model["parent"]["entry"] == first.seq
    assert f"sha256:{second.record.base_model['sha256']}" == first.record.model_file.digest


def test_a_final_model_that_cannot_be_saved_is_a_failed_run_and_the_script_goes_on(make: Any, world: World) -> None:
    callback = CognifyCallback(project=MODEL)
    trainer = make(callback, save_strategy="no")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    trainer.model.save_pretrained = full
    assert trainer.train().global_step == 6
    (failed,) = world.workspace.read().all(TrainingFailed, f"model/{MODEL}")
    assert "No space left on device" in failed.record.reason
    assert trainings(world) == []


def test_a_run_that_cannot_begin_stops_before_the_first_step_and_leaves_the_trainer_as_it_was(
    make: Any, world: World
) -> None:
    make(CognifyCallback(project=MODEL, version="v9"), max_steps=2).train()
    trainer = make(CognifyCallback(project=MODEL, version="v9"), max_steps=2)
    with pytest.raises(ValueError, match="v9"):
        trainer.train()
    assert trainer.state.global_step == 0
    assert not {"_run_epoch", "_save_checkpoint", "_evaluate", "_finalize_training"} & set(vars(trainer))
    assert len(trainings(world)) == 1


def test_an_open_run_of_the_same_project_is_joined_not_ended(make: Any, world: World) -> None:
    sdk.init(project=MODEL)
    run = sdk.run()
    callback = CognifyCallback(project=MODEL)
    make(callback, max_steps=2).train()
    assert callback.run is run
    assert run.outcome is None
    assert world.workspace.read().all(TrainingFailed) == []


def test_what_the_scripts_own_init_found_is_used(
    make: Any, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    sdk.init(project=MODEL, workspace=world.workspace)
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(tmp_path / "elsewhere"))
    make(CognifyCallback(project=MODEL), max_steps=2).train()
    assert len(trainings(world)) == 1


def test_each_trial_of_a_hyper_parameter_search_is_an_experiment(world: World) -> None:
    callback = CognifyCallback(project=MODEL)
    callback._open(SimpleNamespace(is_hyper_param_search=True, trial_name="trial-3"))
    assert callback.run.governed is False
    callback.run.complete()
    (found,) = world.workspace.read().all(ExperimentRun)
    assert found.record.reason == "a trial of a hyper-parameter search: trial-3"


def test_inside_an_asset_the_line_without_arguments_writes_to_the_assets_recorder(make: Any, world: World) -> None:
    recorder = TrainingRecorder()
    with attach(recorder, model=MODEL, version="v1", run="asset-run", workspace=world.workspace):
        callback = CognifyCallback()
        make(callback, max_steps=2).train()
        assert callback.run.recorder is recorder
        assert callback.outcome is None  # the asset seals it
        callback.run.eval({"auc": 0.9}, benchmark_version="holdout-v3")  # still open
    assert recorder.models[0].path.name == "final-model"
    assert recorder.to_facts()["facts"]["config"]["max_steps"] == 2
    assert trainings(world) == []
    assert world.workspace.read().all(ExperimentRun) == []


def test_a_killed_training_is_found_in_the_spool_and_becomes_a_failed_run(
    make: Any, world: World, tmp_path: Path
) -> None:
    """A forked child trains (the libraries are loaded already) and gets SIGKILL in the middle of its fourth step."""
    from transformers import TrainerCallback

    waiting = tmp_path / "waiting"

    class Slow(TrainerCallback):
        def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            if state.global_step == 3:
                waiting.touch()
                time.sleep(120)

    child = multiprocessing.get_context("fork").Process(
        target=lambda: make(CognifyCallback(project=MODEL), Slow(), logging_steps=1).train()
    )
    child.start()
    end = time.monotonic() + 60
    while not waiting.exists():
        assert child.is_alive(), "the training ended early"
        assert time.monotonic() < end
        time.sleep(0.05)
    assert child.pid is not None
    os.kill(child.pid, signal.SIGKILL)
    child.join(20)
    assert world.workspace.read().all(TrainingFailed, f"model/{MODEL}") == []
    (killed,) = world.workspace.read().all(VersionOpened, f"model/{MODEL}")
    flushed = CliRunner().invoke(main, ["spool", "flush"])
    assert flushed.exit_code == 0, flushed.output
    (failed,) = world.workspace.read().all(TrainingFailed, f"model/{MODEL}")
    assert failed.record.run == killed.record.run
    assert trainings(world) == []
