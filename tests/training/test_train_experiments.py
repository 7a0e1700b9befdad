"""Experiments: recorded so that nothing is lost, and never the ground of anything that is governed."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.documents import DocumentError, collect
from cognify_dagster.documents.package.recording import build_and_record
from cognify_dagster.governance import GovernanceError
from cognify_dagster.ledger import IdempotencyConflict
from cognify_dagster.records import (
    DatasetRef,
    EvidenceItem,
    ExperimentRun,
    Package,
    RecordError,
    TrainingRun,
    build,
    read_record,
)
from cognify_dagster.training import SealedError, TrainingError, TrainingRecorder, capture_code, capture_environment
from cognify_dagster.training.recording import Attribution, open_version, seal_experiment
from tests.governance.world import MODEL, World


@pytest.fixture
def recorder(tmp_path: Path) -> TrainingRecorder:
    run = TrainingRecorder()
    run.log_config({"lr": 0.1})
    run.log_metric("loss", 0.5, step=1)
    run.log_seeds(torch=3)
    run.log_extra("mood", "good")
    model = tmp_path / "model.bin"
    model.write_bytes(b"weights")
    run.save_model(model)
    return run


def seal(world: World, recorder: TrainingRecorder, folder: Path, **changes: Any) -> int:
    options: dict[str, Any] = {
        "project": MODEL,
        "run": "exp-1",
        "reason": "no snapshots are bound",
        "status": "completed",
        "code": capture_code(folder),
        "environment": capture_environment(),
        "attribution": Attribution("person/ben"),
        "results": {"auc": 0.8},
        **changes,
    }
    return seal_experiment(world.workspace, recorder, **options)


def test_an_experiment_is_recorded_whole_and_keeps_no_model(founded: World, recorder: TrainingRecorder, tmp_path: Path):
    before = set(founded.workspace.evidence.list_digests())
    seq = seal(founded, recorder, tmp_path, status="failed")
    found = founded.workspace.read().at(seq)
    assert found is not None
    record = found.record
    assert isinstance(record, ExperimentRun)
    assert record.subjects() == (f"experiment/{MODEL}",)
    assert (record.status, record.config, record.metrics, record.results) == (
        "failed",
        {"lr": 0.1},
        {"loss": 0.5},
        {"auc": 0.8},
    )
    assert record.extra == {"seeds": {"torch": 3}, "mood": "good"}
    assert record.model_digest == f"sha256:{recorder.models[0].digest.sha256}"
    assert record.model_digest not in set(founded.workspace.evidence.list_digests()) - before
    with pytest.raises(SealedError):
        recorder.log_metric("late", 1)


def test_it_is_recorded_once_and_says_why(founded: World, recorder: TrainingRecorder, tmp_path: Path):
    with pytest.raises(TrainingError, match="says why"):
        seal(founded, recorder, tmp_path, reason=" ")
    first = seal(founded, recorder, tmp_path)
    assert seal(founded, recorder, tmp_path) == first
    with pytest.raises(IdempotencyConflict):
        seal(founded, recorder, tmp_path, status="killed")


# -- attacks: an experiment is no way to a package ------------------------------------------------------------------------


def test_no_package_and_no_release_can_be_made_of_experiments(
    founded: World, recorder: TrainingRecorder, tmp_path: Path
):
    founded.register()
    seal(founded, recorder, tmp_path, run=f"{MODEL}@1", datasets=[founded.snapshot("loans_train")])
    workspace = founded.workspace
    assert workspace.read().all(TrainingRun) == []
    with pytest.raises(DocumentError):
        collect(workspace.read(), MODEL, "1")
    with pytest.raises((DocumentError, GovernanceError)):
        build_and_record(workspace, MODEL, "1", run="r", built_by="person/ben", now=datetime.now(timezone.utc))
    assert "version_unknown" in founded.codes("1")
    assert workspace.read().all(Package) == []


def test_an_opened_version_stays_untrained_whatever_experiments_there_are(
    founded: World, recorder: TrainingRecorder, tmp_path: Path
):
    founded.register()
    seal(founded, recorder, tmp_path)
    open_version(founded.workspace, MODEL, "1", run="run-1", opened_by="person/ben", run_is_over=lambda _: True)
    assert "not_trained" in founded.codes("1")


def test_neither_subject_nor_kind_can_be_forged_into_the_record(
    founded: World, recorder: TrainingRecorder, tmp_path: Path
):
    """Whatever a workload writes into an experiment, it stays one: the subject follows from the kind, fields it has not go to extra."""
    seq = seal(founded, recorder, tmp_path)
    found = founded.workspace.read().at(seq)
    assert found is not None
    facts = found.record.facts()
    forged = build(ExperimentRun, {**facts, "model": MODEL, "version": "1", "subjects": [f"model/{MODEL}@1"]})
    assert forged.subjects() == (f"experiment/{MODEL}",)
    assert forged.extra["version"] == "1"
    for project in (f"{MODEL}@1", f"model/{MODEL}", "a/b", ""):
        with pytest.raises(RecordError):
            build(ExperimentRun, {**facts, "project": project})
    with pytest.raises(RecordError):  # read as a training run it lacks all that makes one
        read_record("training_run", 1, {"facts": facts})


def test_a_training_run_needs_what_an_experiment_has_not(founded: World):
    item = EvidenceItem(name="m", digest="sha256:" + "0" * 64, size=1, media_type="application/octet-stream")
    with pytest.raises(RecordError, match="datasets"):
        build(TrainingRun, {"model": MODEL, "version": "1", "datasets": (), "model_file": item.model_dump()})
    assert DatasetRef(name="a", root="0" * 64, seq=1).role == "other"
