"""Adapters and TRL: the same one line, the same record, with the base model that the adapters sit on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.instrument.huggingface import CognifyCallback
from cognify_dagster.training import TrainingRecorder, digest_files
from tests.adapters.huggingface.conftest import TEXTS
from tests.adapters.huggingface.test_callback import facts, history, series


def test_lora_adapters_are_recorded_with_the_base_model_they_sit_on(make: Any, base: Path) -> None:
    from peft import LoraConfig, TaskType, get_peft_model
    from transformers import AutoModelForSequenceClassification

    whole = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
    model = get_peft_model(
        whole, LoraConfig(task_type=TaskType.SEQ_CLS, r=4, lora_alpha=8, target_modules=["query", "value"])
    )
    recorder = TrainingRecorder()
    trainer = make(CognifyCallback(recorder), model=model)
    trainer.train()
    found = facts(recorder)
    assert found["base_model"]["sha256"] == digest_files(base).sha256
    assert found["base_model"]["licence"] == "cc0-1.0"
    architecture = found["architecture"]
    trainable, total = model.get_nb_trainable_parameters()
    assert architecture["name"] == "BertForSequenceClassification"
    assert architecture["parameters"] == total
    assert architecture["details"]["trainable_parameters"] == trainable < total
    adapter = architecture["details"]["adapters"]["default"]
    assert adapter["r"] == 4
    assert adapter["lora_alpha"] == 8
    assert adapter["target_modules"] == ["query", "value"]
    assert str(base) not in json.dumps(adapter)  # a path of this machine says nothing to others; the digest does
    names = {item.path for item in recorder.models[0].digest.files}
    assert {"adapter_model.safetensors", "adapter_config.json"} <= names
    assert "model.safetensors" not in names
    assert {"adapter_model.safetensors"} <= {item.path for item in recorder.checkpoints[0].digest.files}


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny GPT-2 with a vocabulary of letters."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("gpt") / "tiny-gpt2"
    words = sorted({word for text in TEXTS for word in text.split()})
    vocabulary = {word: number for number, word in enumerate(["<pad>", "<eos>", "<unk>", *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>", model_max_length=32
    ).save_pretrained(folder)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_embd=32, n_layer=2, n_head=2, n_positions=32, bos_token_id=1, eos_token_id=1
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# tiny\n", encoding="utf-8")
    return folder


def test_supervised_fine_tuning_with_trl_is_recorded_the_same_way(writer: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    recorder = TrainingRecorder()
    args = SFTConfig(
        output_dir=str(tmp_path),
        max_steps=4,
        per_device_train_batch_size=4,
        logging_steps=1,
        save_steps=2,
        report_to="none",
        disable_tqdm=True,
        use_cpu=True,
        bf16=False,
        max_length=32,
        eos_token="<eos>",
        model_init_kwargs={"dtype": "float32", "token": "hf_" + "b" * 34},
    )
    trainer = SFTTrainer(
        model=str(writer),
        args=args,
        train_dataset=Dataset.from_dict({"text": TEXTS}),
        callbacks=[CognifyCallback(recorder, base_model={"name": "tiny-gpt2"})],
    )
    trainer.train()
    found = facts(recorder)
    assert found["architecture"]["name"] == "GPT2LMHeadModel"
    assert found["base_model"]["name"] == "tiny-gpt2"
    assert found["base_model"]["licence"] == "mit"
    assert found["base_model"]["sha256"] == digest_files(writer).sha256
    assert found["config"]["max_length"] == 32
    assert found["config"]["eos_token"] == "<eos>"  # a setting, though its name ends like a secret's
    assert "hf_bbbb" not in json.dumps(found)
    assert series(recorder) == json.loads(json.dumps(history(trainer)))
    assert [item.name for item in recorder.checkpoints] == ["checkpoint-2", "checkpoint-4"]
    assert "model.safetensors" in {item.path for item in recorder.models[0].digest.files}
