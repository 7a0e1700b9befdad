"""A tiny BERT and a few messages, made once: two layers of random weights, nothing is fetched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

TEXTS = [
    "free prize call now to claim your cash",
    "are you coming home for dinner tonight",
    "win a free phone text win to this number",
    "see you at the station at six",
    "urgent your account won a holiday call now",
    "i will be late sorry start without me",
    "claim your free ringtone reply yes",
    "can you pick up some milk please",
] * 4


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from examples.sms_finetune.base import make_tiny

    return make_tiny(tmp_path_factory.mktemp("base") / "tiny", TEXTS, words=100)


@pytest.fixture(scope="session")
def data(base: Path) -> Any:
    from datasets import Dataset
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(base)
    given = Dataset.from_dict({"text": TEXTS, "label": [1 - number % 2 for number in range(len(TEXTS))]})
    return given.map(
        lambda batch: tokenizer(batch["text"], padding="max_length", max_length=16, truncation=True),
        batched=True,
        remove_columns=["text"],
    )


@pytest.fixture
def make(base: Path, data: Any, tmp_path: Path) -> Any:
    """Makes a stock Trainer; keyword arguments are those of TrainingArguments."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

    def stock(*callbacks: Any, model: Any = None, out: Path | None = None, trainer: Any = None, **given: Any) -> Any:
        settings = {
            "output_dir": str(out or tmp_path / "out"),
            "max_steps": 6,
            "per_device_train_batch_size": 4,
            "learning_rate": 1e-3,
            "logging_steps": 2,
            "save_strategy": "steps",
            "save_steps": 2,
            "eval_strategy": "steps",
            "eval_steps": 2,
            "report_to": "none",
            "disable_tqdm": True,
            "seed": 7,
            "use_cpu": True,
            **given,
        }
        args = TrainingArguments(**settings)
        set_seed(7)
        if model is None:
            model = AutoModelForSequenceClassification.from_pretrained(base, num_labels=2)
        made = (trainer or Trainer)(
            model=model,
            args=args,
            train_dataset=data,
            eval_dataset=data.select(range(8)),
            processing_class=AutoTokenizer.from_pretrained(base),
        )
        for callback in callbacks:
            made.add_callback(callback)
        return made

    return stock
