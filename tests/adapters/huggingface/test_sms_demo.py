"""The SMS example from the published messages to an installed release, with a model of two layers and random weights."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.governance import live
from cognify_dagster.records import Evaluation, OverlapChecked, Package, ReleaseRefused, TrainingFailed, TrainingRun
from cognify_dagster.training import digest_files
from cognify_dagster.workspace import Workspace
from examples.sms_finetune import demo, service
from examples.sms_finetune.base import MINILM, PACKAGE, minilm_folder

SUBJECT = f"model/{demo.MODEL}@{demo.VERSION}"


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    """The demo's workspace and what it printed."""
    folder = tmp_path_factory.mktemp("sms") / "workspace"
    before = dict(os.environ)
    capture = request.config.pluginmanager.getplugin("capturemanager")
    capture.suspend_global_capture(in_=False)
    log = folder.parent / "told.txt"
    import contextlib

    try:
        with log.open("w") as stream, contextlib.redirect_stdout(stream), contextlib.redirect_stderr(stream):
            code = demo.main(["--tiny", "--folder", str(folder)])
    finally:
        capture.resume_global_capture()
        os.environ.clear()
        os.environ.update(before)
    text = log.read_text()
    assert code == 0, text[-3000:]
    return Workspace.open(folder), text


def test_the_random_split_is_refused_and_nothing_is_trained_on_it(told: Any) -> None:
    workspace, text = told
    checks = workspace.read().all(OverlapChecked)
    refused = [item for item in checks if not item.record.passed]
    (training,) = workspace.read().all(TrainingRun)
    assert refused
    assert all(item.seq < training.seq for item in refused)
    assert workspace.read().all(TrainingFailed) == []
    roots = {item.record.train.root for item in refused}
    assert training.record.datasets[0].root not in roots
    assert "nothing was trained" in text


def test_the_cleaned_split_was_compared_at_every_level_before_training(told: Any) -> None:
    workspace, _ = told
    (training,) = workspace.read().all(TrainingRun)
    (evaluation,) = workspace.read().all(Evaluation)
    passed = [item for item in workspace.read().all(OverlapChecked) if item.record.passed][-1]
    assert passed.record.train.root == training.record.datasets[0].root
    assert passed.record.holdout.root == evaluation.record.dataset.root
    assert {level.level for level in passed.record.levels} == {"exact", "normalised", "13-gram", "near-duplicate"}


def test_the_record_holds_what_the_trainer_wrote(told: Any) -> None:
    workspace, _ = told
    (training,) = workspace.read().all(TrainingRun)
    record = training.record
    out = workspace.home / "data" / demo.MODEL / "training" / "v1-1" / "out"
    assert record.base_model["name"] == "tiny-bert-of-random-weights"
    assert record.base_model["licence"] == "cc0-1.0"
    assert record.base_model["sha256"] == digest_files(out.parent / "base").sha256
    assert record.model_file.digest == f"sha256:{digest_files(out / 'final-model').sha256}"
    assert len(record.checkpoints) == 4  # one an epoch, although the Trainer kept one
    assert "no other configuration was tried" in record.selection_note
    assert record.compute is not None
    assert float(record.compute.flops or 0) > 0
    series = json.loads(workspace.evidence.get(record.metric_series.digest))
    assert [step for step, _ in series["eval_loss"]] == [item.step for item in record.checkpoints]


def test_the_evaluation_has_intervals_slices_and_typing_errors(told: Any) -> None:
    workspace, _ = told
    (evaluation,) = workspace.read().all(Evaluation)
    record = evaluation.record
    assert {"auc", "spam_caught", "ham_blocked"} <= {metric.name for metric in record.metrics}
    assert {item.attribute for item in record.slices} == {"length", "long_number"}
    assert {item.transformation for item in record.perturbations} == {"typos", "upper_case"}
    assert record.fairness[0]["attribute"] == "DIALECT"
    assert record.status == "passed"


def test_the_package_says_that_the_law_on_general_purpose_models_does_not_bind(told: Any) -> None:
    workspace, _ = told
    (package,) = workspace.read().all(Package)
    content = json.loads(workspace.evidence.get(package.record.package.digest))
    coverage = {item["id"]: item for item in content["frameworks"]} if "frameworks" in content else {}
    assert {item.framework.split("@")[0] for item in package.record.coverage} == {"nist-ai-rmf", "eu-gpai-art53"}
    assert "encoder of 22.7 million parameters" in json.dumps(content)
    assert coverage is not None


def test_nothing_was_released_before_the_signature_and_the_service_loads_only_what_is_live(told: Any) -> None:
    workspace, text = told
    (refusal,) = workspace.read().all(ReleaseRefused)
    assert {reason.code for reason in refusal.record.reasons} == {"stage_compliance"}
    assert "person/ben" in text or "Ben Ito" in text
    current = live(workspace.read(), demo.MODEL, service.TARGET)
    assert current is not None
    folder = service.live_folder(workspace)
    assert f"sha256:{digest_files(folder).sha256}" == current.record.model_digest
    (folder / "config.json").write_text((folder / "config.json").read_text() + " ", encoding="utf-8")
    with pytest.raises(service.RefusedModel, match="digest"):
        service.live_folder(workspace)


def test_the_ledger_verifies(told: Any) -> None:
    workspace, _ = told
    assert not workspace.ledger.verify(workspace.trust()).findings


def test_the_real_checkpoint_is_found_with_its_licence() -> None:
    from cognify_dagster.instrument.huggingface.base_model import licence_of

    folder = minilm_folder()
    assert PACKAGE in str(folder)
    assert (folder / "model.safetensors").stat().st_size > 80_000_000
    assert licence_of(folder) == "apache-2.0"
    assert MINILM["name"].endswith("all-MiniLM-L6-v2")
    assert isinstance(folder, Path)
