"""Run by torchrun: a stock script whose only line of ours is the callback. Writes the record of the first process to a file."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path


def main() -> None:
    base, out = Path(sys.argv[1]), Path(sys.argv[2])
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from datasets import Dataset
    from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments, set_seed

    from cognify_dagster.instrument.huggingface import CognifyCallback
    from cognify_dagster.training import TrainingRecorder

    torch.set_num_threads(1)
    set_seed(3)
    tokenizer = AutoTokenizer.from_pretrained(base)
    texts = [f"call number {number} now" for number in range(24)]
    data = Dataset.from_dict(
        {"label": [number % 2 for number in range(24)], **tokenizer(texts, padding="max_length", max_length=12)}
    )
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained(base, num_labels=2),
        args=TrainingArguments(
            output_dir=str(out / "out"),
            max_steps=4,
            per_device_train_batch_size=2,
            gradient_accumulation_steps=2,
            save_steps=2,
            save_total_limit=1,
            logging_steps=1,
            report_to="none",
            disable_tqdm=True,
            use_cpu=True,
            ddp_backend="gloo",
        ),
        train_dataset=data,
        processing_class=tokenizer,
    )
    recorder = TrainingRecorder()
    rank = int(os.environ["RANK"])
    trainer.add_callback(CognifyCallback(recorder))
    trainer.train()
    found = recorder.to_facts()["facts"]
    found["checkpoint_files"] = {item.name: [file.row() for file in item.digest.files] for item in recorder.checkpoints}
    (out / f"rank-{rank}.json").write_text(json.dumps({"facts": found, "log": trainer.state.log_history}))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main()
