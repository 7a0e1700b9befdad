"""Runs the real lm-evaluation-harness on a tiny model and tiny local tasks; no network. Also a script: `python -m … FOLDER`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

SUBJECTS = {
    "hellaswag_tiny": [
        ("the cat sat on the", ["mat", "moon", "sea", "sun"], 0),
        ("a dog ran to the", ["door", "moon", "sun", "sea"], 0),
        ("the man ate the", ["sun", "bread", "moon", "sea"], 1),
        ("she read a", ["sea", "sun", "book", "moon"], 2),
        ("he rode the", ["sun", "sea", "moon", "horse"], 3),
        ("they drank the", ["water", "sun", "moon", "door"], 0),
    ],
    "mmlu_tiny_sums": [("one and one is", ["two", "ten", "six", "one"], 0), ("one and two is", ["six", "three"], 1)]
    * 3,
    "mmlu_tiny_colours": [("grass is", ["red", "green"], 1), ("blood is", ["red", "green"], 0)] * 2,
}
_TASK = """task: {name}
dataset_path: json
dataset_name: null
dataset_kwargs:
  data_files:
    test: {data}
test_split: test
fewshot_split: test
fewshot_config:
  sampler: first_n
num_fewshot: {shots}
output_type: multiple_choice
doc_to_text: "{{{{question}}}}"
doc_to_target: label
doc_to_choice: "{{{{choices}}}}"
metric_list:
{metrics}
metadata:
  version: {version}
"""
_METRIC = "  - metric: {name}\n    aggregation: mean\n    higher_is_better: true"
_GROUP = """group: mmlu_tiny
task: [mmlu_tiny_sums, mmlu_tiny_colours]
aggregate_metric_list:
  - metric: acc
    weight_by_size: true
metadata:
  version: 2
"""


def write_data(folder: Path) -> Path:
    """Write the questions of all tasks; return the folder, which is what a snapshot is taken of."""
    data = folder / "benchmarks"
    data.mkdir(parents=True, exist_ok=True)
    for name, questions in SUBJECTS.items():
        rows = [{"question": text, "choices": choices, "label": label} for text, choices, label in questions]
        (data / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return data


def write_tasks(folder: Path, data: Path) -> Path:
    """Write the tasks' configuration; return its folder."""
    tasks = folder / "tasks"
    tasks.mkdir(parents=True, exist_ok=True)
    for name in SUBJECTS:
        names = ("acc", "acc_norm") if name.startswith("hellaswag") else ("acc",)
        text = _TASK.format(
            name=name,
            data=data / f"{name}.jsonl",
            shots=0 if name.startswith("hellaswag") else 1,
            metrics="\n".join(_METRIC.format(name=metric) for metric in names),
            version="1.0",
        )
        (tasks / f"{name}.yaml").write_text(text, encoding="utf-8")
    (tasks / "group.yaml").write_text(_GROUP, encoding="utf-8")
    return tasks


def write_model(folder: Path) -> Path:
    """Make a two-layer GPT-2 with random weights of a fixed seed, and a tokenizer of whole words."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

    words = sorted({w for q in SUBJECTS.values() for text, choices, _ in q for w in [*text.split(), *choices]})
    vocabulary = {word: number for number, word in enumerate(["<unk>", "<eos>", *words])}
    base = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    base.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=base, unk_token="<unk>", eos_token="<eos>", pad_token="<eos>")
    torch.manual_seed(7)
    config = GPT2Config(
        vocab_size=len(vocabulary), n_positions=128, n_embd=16, n_layer=2, n_head=2, bos_token_id=1, eos_token_id=1
    )
    model = folder / "tiny-gpt2"
    GPT2LMHeadModel(config).save_pretrained(model)
    tokenizer.save_pretrained(model)
    return model


def run(folder: Path, *, limit: int | None = None) -> tuple[Path, list[Path]]:
    """Run the harness; return its results file and its files of samples."""
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    tasks = write_tasks(folder, write_data(folder))
    out = folder / "out"
    tracker = EvaluationTracker(output_path=str(out))
    results = simple_evaluate(
        model="hf",
        model_args={"pretrained": str(write_model(folder)), "dtype": "float32"},
        tasks=["hellaswag_tiny", "mmlu_tiny"],
        task_manager=TaskManager(include_path=str(tasks), include_defaults=False),
        device="cpu",
        batch_size=8,
        bootstrap_iters=100,
        limit=limit,
        evaluation_tracker=tracker,
    )
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    for name, rows in samples.items():
        tracker.save_results_samples(task_name=name, samples=rows)
    (found,) = out.rglob("results_*.json")
    return found, sorted(out.rglob("samples_*.jsonl"))


if __name__ == "__main__":
    print(*run(Path(sys.argv[1])), sep="\n")
