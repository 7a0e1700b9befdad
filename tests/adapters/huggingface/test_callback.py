"""The record equals what the Trainer did: its arguments, its log, the files of its checkpoints, its model. Real transformers, tiny model."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.instrument.huggingface import CognifyCallback
from cognify_dagster.instrument.huggingface.callback import FINAL_MODEL
from cognify_dagster.training import TrainingError, TrainingRecorder, digest_files


def facts(recorder: TrainingRecorder) -> dict[str, Any]:
    return recorder.to_facts()["facts"]


def series(recorder: TrainingRecorder) -> dict[str, list[list[Any]]]:
    return json.loads(recorder.metric_series())


def history(trainer: Any) -> dict[str, list[list[Any]]]:
    """The Trainer's log as curves."""
    curves: dict[str, list[list[Any]]] = {}
    for entry in trainer.state.log_history:
        for name, value in entry.items():
            if name != "step":
                curves.setdefault(name, []).append([entry["step"], value])
    return curves


def sha256sum(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture(scope="module")
def trained(base: Path, data: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """One training that most tests look at: accumulation, an evaluation every two steps, only the newest checkpoint kept."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

    out = tmp_path_factory.mktemp("trained")
    recorder = TrainingRecorder()
    callback = CognifyCallback(recorder)
    seen: dict[str, dict[str, str]] = {}

    class Watched(Trainer):
        def _save_checkpoint(self, model: Any, trial: Any) -> None:
            super()._save_checkpoint(model, trial)
            folder = out / f"checkpoint-{self.state.global_step}"
            seen[folder.name] = {item.name: sha256sum(item) for item in sorted(folder.iterdir())}

    set_seed(7)
    trainer = Watched(
        model=AutoModelForSequenceClassification.from_pretrained(base, num_labels=2),
        args=TrainingArguments(
            output_dir=str(out),
            max_steps=6,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=3,
            learning_rate=1e-3,
            weight_decay=0.01,
            warmup_steps=2,
            lr_scheduler_type="cosine",
            logging_steps=1,
            eval_strategy="steps",
            eval_steps=2,
            save_steps=2,
            save_total_limit=1,
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            include_num_input_tokens_seen="all",
            report_to="none",
            disable_tqdm=True,
            hub_token="hf_" + "a" * 34,
            seed=7,
            data_seed=11,
            use_cpu=True,
        ),
        train_dataset=data,
        eval_dataset=data.select(range(8)),
        processing_class=AutoTokenizer.from_pretrained(base),
    )
    trainer.add_callback(callback)
    trainer.train()
    return trainer, recorder, callback, out, seen


def test_the_config_is_what_the_trainer_really_used(trained: Any) -> None:
    trainer, recorder, *_ = trained
    config = facts(recorder)["config"]
    for name, value in trainer.args.to_dict().items():
        if isinstance(value, (bool, int, float)) or (isinstance(value, str) and not name.endswith("token")):
            assert config[name] == value, name
    resolved = config["resolved"]
    assert resolved["effective_batch_size"] == 2 * 3 == trainer.get_total_train_batch_size(trainer.args)
    assert resolved["max_steps"] == trainer.state.max_steps == 6
    assert resolved["device"] == "cpu"
    assert resolved["optimizer"]["class"] == f"{type(trainer.optimizer.optimizer).__module__}.AdamW"
    assert {group["lr"] for group in resolved["optimizer"]["groups"]} == {1e-3}
    assert {group["weight_decay"] for group in resolved["optimizer"]["groups"]} == {0.01, 0.0}
    assert resolved["scheduler"]["warmup_steps"] == 2


def test_no_token_reaches_the_record(trained: Any) -> None:
    _, recorder, *_ = trained
    assert "hf_aaaa" not in json.dumps(facts(recorder))


def test_seeds_are_recorded_by_library(trained: Any) -> None:
    assert facts(trained[1])["seeds"] == {"python": 7, "numpy": 7, "torch": 7, "data": 11}


def test_the_curves_are_the_trainers_log_point_by_point(trained: Any) -> None:
    trainer, recorder, *_ = trained
    assert series(recorder) == json.loads(json.dumps(history(trainer)))
    assert len(series(recorder)["loss"]) == 6
    assert "train_runtime" in series(recorder)


def test_every_checkpoint_has_the_digests_of_its_files_although_the_trainer_deleted_it(trained: Any) -> None:
    _, recorder, _, out, seen = trained
    recorded = {item.name: {file.path: file.sha256 for file in item.digest.files} for item in recorder.checkpoints}
    assert recorded == seen
    assert list(seen) == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert len([item for item in out.iterdir() if item.name.startswith("checkpoint-")]) < 3
    assert [item.step for item in recorder.checkpoints] == [2, 4, 6]
    assert "model.safetensors" in seen["checkpoint-2"]
    assert "trainer_state.json" in seen["checkpoint-2"]


def test_the_best_checkpoint_is_named(trained: Any) -> None:
    trainer, recorder, *_ = trained
    best = facts(recorder)["extra"]["hf.best_checkpoint"]
    assert best == {
        "name": Path(trainer.state.best_model_checkpoint).name,
        "metric": "eval_loss",
        "value": trainer.state.best_metric,
        "step": trainer.state.best_global_step,
    }


def test_the_data_sets_are_described_with_their_fingerprints(trained: Any) -> None:
    trainer, recorder, *_ = trained
    found = facts(recorder)["extra"]["hf.datasets"]
    assert found["train"]["rows"] == len(trainer.train_dataset) == 32
    assert found["train"]["fingerprint"] == trainer.train_dataset._fingerprint
    assert set(found["train"]["features"]) >= {"input_ids", "label"}
    assert found["eval"]["rows"] == 8


def test_architecture_and_base_model_are_stated(trained: Any, base: Path) -> None:
    trainer, recorder, *_ = trained
    found = facts(recorder)["architecture"]
    assert found["name"] == "BertForSequenceClassification"
    assert found["framework"] == "transformers"
    assert found["parameters"] == sum(item.numel() for item in trainer.model.parameters())
    assert found["details"]["trainable_parameters"] == found["parameters"]
    assert found["details"]["shape"]["num_hidden_layers"] == 2
    stated = facts(recorder)["base_model"]
    assert stated["sha256"] == digest_files(base).sha256
    assert stated["licence"] == "cc0-1.0"  # as its card says


def test_compute_is_the_trainers_own_count(trained: Any) -> None:
    trainer, recorder, *_ = trained
    found = facts(recorder)["compute"]
    assert found["flops"] == trainer.state.total_flos > 0
    assert found["tokens"] == trainer.state.num_input_tokens_seen == 32 * 16  # one pass over the data
    assert found["device_seconds"] > 0
    assert not found.get("energy_kwh")  # nobody measured it


def test_the_final_model_is_the_one_in_memory_and_what_the_script_saves_has_the_same_weights(
    trained: Any, tmp_path: Path
) -> None:
    trainer, recorder, _, out, _ = trained
    (model,) = recorder.models
    assert model.path == out / FINAL_MODEL
    trainer.save_model(str(tmp_path / "saved"))
    assert sha256sum(tmp_path / "saved" / "model.safetensors") == sha256sum(model.path / "model.safetensors")
    names = {item.path for item in model.digest.files}
    assert "tokenizer.json" in names
    assert not {name for name in names if name.endswith((".bin", ".pt", ".pkl"))}  # no pickle in what is released


def test_the_wrappers_are_gone_after_training_and_nothing_was_left_out(trained: Any) -> None:
    trainer, recorder, callback, *_ = trained
    assert not {"_run_epoch", "_save_checkpoint", "_evaluate", "_finalize_training"} & set(vars(trainer))
    assert "hf.not_captured" not in facts(recorder)["extra"]
    assert callback.seconds > 0


def test_the_callback_changes_nothing_about_the_training(make: Any, tmp_path: Path) -> None:
    plain = make(out=tmp_path / "a")
    plain.train()
    watched = make(CognifyCallback(TrainingRecorder()), out=tmp_path / "b")
    watched.train()
    kept = [{k: v for k, v in e.items() if "time" not in k and "per_second" not in k} for e in plain.state.log_history]
    assert kept == [
        {k: v for k, v in e.items() if "time" not in k and "per_second" not in k} for e in watched.state.log_history
    ]
    one, other = (tmp_path / name / "checkpoint-6" / "model.safetensors" for name in "ab")
    assert sha256sum(one) == sha256sum(other)
    assert {item.name for item in (tmp_path / "a" / "checkpoint-6").iterdir()} == {
        item.name for item in (tmp_path / "b" / "checkpoint-6").iterdir()
    }


def test_a_resumed_training_names_the_checkpoint_by_the_root_in_the_first_record(make: Any, tmp_path: Path) -> None:
    first, second = TrainingRecorder(), TrainingRecorder()
    make(CognifyCallback(first), max_steps=4).train()
    resumed = make(CognifyCallback(second))
    resumed.train(resume_from_checkpoint=True)
    found = facts(second)["extra"]["hf.resumed_from"]
    (source,) = [item for item in first.checkpoints if item.name == "checkpoint-4"]
    assert found["name"] == "checkpoint-4"
    assert found["step"] == 4
    assert found["root"] == source.to_facts()["root"]
    assert series(second) == json.loads(json.dumps(history(resumed)))
    assert [step for step, _ in series(second)["loss"]] == [2, 4, 6]  # also the part before, as the Trainer has it
    assert second.models[0].path.name == f"{FINAL_MODEL}-2"  # the first model is not overwritten


def test_a_resume_from_another_folder_is_found_too(make: Any, tmp_path: Path) -> None:
    make(CognifyCallback(TrainingRecorder()), out=tmp_path / "first", max_steps=2).train()
    recorder = TrainingRecorder()
    make(CognifyCallback(recorder), out=tmp_path / "second", max_steps=4).train(
        resume_from_checkpoint=str(tmp_path / "first" / "checkpoint-2")
    )
    root = digest_files(tmp_path / "first" / "checkpoint-2").root()
    assert facts(recorder)["extra"]["hf.resumed_from"]["root"] == root


@pytest.mark.parametrize("where", ["training_step", "evaluate", "_save_checkpoint", "get_eval_dataloader"])
def test_an_error_passes_unchanged_and_takes_the_wrappers_off(make: Any, where: str) -> None:
    from transformers import Trainer

    def broken(self: Any, *_: Any, **__: Any) -> None:
        raise KeyboardInterrupt("stopped")

    trainer = make(CognifyCallback(TrainingRecorder()), trainer=type("Broken", (Trainer,), {where: broken}))
    with pytest.raises(KeyboardInterrupt, match="stopped"):
        trainer.train()
    assert not {"_run_epoch", "_save_checkpoint", "_evaluate", "_finalize_training"} & set(vars(trainer))


def test_a_smaller_batch_after_running_out_of_memory_is_said(make: Any) -> None:
    from transformers import Trainer

    class Small(Trainer):
        def training_step(self, *args: Any, **kwargs: Any) -> Any:
            if self._train_batch_size > 2:
                raise RuntimeError("CUDA out of memory. (not really)")
            return super().training_step(*args, **kwargs)

    recorder = TrainingRecorder()
    trainer = make(CognifyCallback(recorder), trainer=Small, auto_find_batch_size=True)
    trainer.train()
    found = facts(recorder)
    assert found["config"]["resolved"]["batch_size_per_process"] == 4
    assert found["extra"]["hf.restarted_with"]["batch_size_per_process"] == 2
    assert len(recorder.models) == 1


def test_without_the_trainer_capture_still_works(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from cognify_dagster.instrument.huggingface import callback

    monkeypatch.setattr(callback, "find_trainer", lambda: (None, None))
    recorder = TrainingRecorder()
    trainer = make(CognifyCallback(recorder), save_total_limit=1)
    trainer.train()
    assert series(recorder) == json.loads(json.dumps(history(trainer)))
    assert [item.name for item in recorder.checkpoints] == ["checkpoint-2", "checkpoint-4", "checkpoint-6"]
    assert facts(recorder)["extra"]["hf.datasets"]["train"]["rows"] == 32
    assert len(recorder.models) == 1


def test_in_an_asset_a_base_model_that_is_not_there_stops_training_from_being_sealed(make: Any) -> None:
    recorder = TrainingRecorder()
    trainer = make(CognifyCallback(recorder, base_model={"name": "somebody/else", "path": "/nowhere"}))
    with pytest.raises(TrainingError, match="base model"):
        trainer.train()


def test_the_script_may_save_the_model_itself(make: Any, tmp_path: Path) -> None:
    recorder = TrainingRecorder()
    callback = CognifyCallback(recorder, final_model="script")
    trainer = make(callback)
    trainer.train()
    assert recorder.models == ()
    trainer.save_model(str(tmp_path / "mine"))
    callback.save_model(tmp_path / "mine")
    assert recorder.models[0].path == tmp_path / "mine"


def test_bad_calls_are_refused_with_what_to_do() -> None:
    with pytest.raises(TrainingError, match="final_model"):
        CognifyCallback(final_model="never")  # type: ignore[arg-type]
    with pytest.raises(TrainingError, match="not both"):
        CognifyCallback(TrainingRecorder(), project="sms")
    with pytest.raises(TrainingError, match="'license'"):
        CognifyCallback(base_model={"license": "mit"})
