"""Fine-tunes a checkpoint to tell spam from other messages. A stock `transformers.Trainer` script; one line of it is ours.

The validation part, on which the best epoch is chosen, is taken from the training data, again by groups of nearly equal messages.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from examples.sms_finetune.messages import LABEL, SPAM, TEXT, near_groups

if TYPE_CHECKING:
    from cognify_dagster.instrument.huggingface import CognifyCallback

# Progress bars and notes of the libraries would bury the story; both are read when the libraries are imported.
QUIET = {
    "TRANSFORMERS_VERBOSITY": "error",
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_OFFLINE": "1",
    "TOKENIZERS_PARALLELISM": "false",
}
LABELS = {0: "ham", 1: "spam"}
MAX_TOKENS = 128


@dataclass(frozen=True)
class FineTuneConfig:
    """Settings of the fine-tuning. `validation`: the share of the training data that chooses the epoch."""

    epochs: float = 2.0
    batch_size: int = 16
    learning_rate: float = 5e-5
    weight_decay: float = 0.01
    warmup_share: float = 0.1
    seed: int = 2011
    validation: float = 0.1


def fine_tune(
    rows: Sequence[dict[str, Any]], base: Path, out: Path, config: FineTuneConfig, callback: CognifyCallback
) -> Any:
    """Train on `rows` (dicts with text and label) and return the Trainer.

    Args:
        rows: the training messages.
        base: folder of the checkpoint.
        out: the Trainer's output folder.
        config: settings.
        callback: writes the record.
    """
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    import torch
    from datasets import Dataset
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    set_seed(config.seed)  # the new classification layer is random
    tokenizer = AutoTokenizer.from_pretrained(base)
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=2, id2label=LABELS, label2id={name: number for number, name in LABELS.items()}
    )

    def encoded(part: Sequence[dict[str, Any]]) -> Dataset:
        given = Dataset.from_dict(
            {"text": [row[TEXT] for row in part], "label": [int(row[LABEL] == SPAM) for row in part]}
        )
        return given.map(
            lambda batch: tokenizer(batch["text"], truncation=True, max_length=MAX_TOKENS),
            batched=True,
            remove_columns=["text"],
        )

    train, validation = divided(rows, config.validation, config.seed)
    arguments = TrainingArguments(
        output_dir=str(out),
        num_train_epochs=config.epochs,
        per_device_train_batch_size=config.batch_size,
        per_device_eval_batch_size=64,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup_steps=config.warmup_share,
        train_sampling_strategy="group_by_length",
        seed=config.seed,
        eval_strategy="epoch",
        save_strategy="epoch",
        save_total_limit=1,
        load_best_model_at_end=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        logging_steps=10,
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    trainer = Trainer(
        model=model,
        args=arguments,
        train_dataset=encoded(train),
        eval_dataset=encoded(validation),
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        compute_metrics=_accuracy,
    )
    trainer.add_callback(callback)
    trainer.train()
    share = callback.seconds / callback.wall
    print(f"training took {callback.wall:.1f} s, of which the callback {callback.seconds:.2f} s ({share:.2%})")
    return trainer


def divided(
    rows: Sequence[dict[str, Any]], share: float, seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Divide rows into training and validation; nearly equal messages stay on one side."""
    groups = near_groups([row[TEXT] for row in rows])

    def place(group: int) -> bytes:
        return hashlib.sha256(f"{seed}:validation:{rows[group][TEXT]}".encode()).digest()

    ordered = sorted(set(groups), key=place)
    chosen = set(ordered[: max(1, round(len(ordered) * share))])
    return (
        [row for row, group in zip(rows, groups, strict=True) if group not in chosen],
        [row for row, group in zip(rows, groups, strict=True) if group in chosen],
    )


def spam_scores(folder: Path, texts: Sequence[str], *, batch_size: int = 64) -> list[float]:
    """Return each text's probability of being spam, by the model in a folder. Only safetensors are loaded, never a pickle."""
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, local_files_only=True, use_safetensors=True
    ).eval()
    order = sorted(range(len(texts)), key=lambda place: len(texts[place]))
    scores = [0.0] * len(texts)
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        batch = tokenizer(
            [texts[place] for place in places],
            truncation=True,
            max_length=MAX_TOKENS,
            padding=True,
            return_tensors="pt",
        )
        with torch.inference_mode():
            found = model(**batch).logits.double().softmax(dim=-1)[:, 1]
        for place, value in zip(places, found.tolist(), strict=True):
            scores[place] = min(max(float(value), 0.0), 1.0)
    return scores


def _accuracy(predicted: Any) -> dict[str, float]:
    logits, labels = predicted
    return {"accuracy": float((logits.argmax(axis=-1) == labels).mean())}
