"""`cognify evaluation record`: numbers in a file become an evaluation of a version that neither Dagster nor the SDK trained."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.datasets.recording import dataset_ref
from cognify_dagster.instrument.sdk.bindings import find_snapshot
from cognify_dagster.records import Evaluation, GateResult, OverlapChecked
from cognify_dagster.training import TrainingRecorder, capture_code, capture_environment
from cognify_dagster.training.recording import Attribution, open_version, seal_training
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World
from tests.instrument.sdk_world import gates, snapshot, write_csv

GOOD = {"auc": {"value": 0.81, "ci_low": 0.79, "ci_high": 0.83, "higher_is_better": True}, "accuracy": 0.7}


@pytest.fixture
def imported(world: World, tmp_path: Path) -> World:
    """Version 1 as an importer seals it: a folder of two files, trained on real data that lie here."""
    ws = world.workspace
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.bin").write_bytes(b"first")
    (folder / "b.bin").write_bytes(b"second")
    open_version(ws, MODEL, "1", run="run-1", opened_by="person/ben", run_is_over=lambda _: True)
    seal_training(
        ws, TrainingRecorder(), model=MODEL, version="1", run="run-1", model_path=folder,
        datasets=[dataset_ref(find_snapshot(ws.read(), "loans_train"), "train")], code=capture_code(tmp_path),
        environment=capture_environment(), attribution=Attribution("person/ben", ("person/ben",)),
        started_after_seq=ws.ledger.size(), captured_by="import",
    )  # fmt: skip
    return world


def results(folder: Path, value: Any = GOOD) -> Path:
    path = folder / "results.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")
    return path


def record(cli: Cognify, world: World, path: Path, *more: object, dataset: str = "loans_holdout") -> Any:
    return cli("evaluation", "record", MODEL, "1", "--dataset", dataset, "--results", path, *more, at=world)


def evaluations(world: World) -> list[Any]:
    return world.workspace.read().all(Evaluation)


def test_an_imported_version_is_evaluated_from_a_file(imported: World, cli: Cognify, tmp_path: Path) -> None:
    path = results(tmp_path)
    done = record(cli, imported, path)
    assert done.code == 0, done.err
    assert "auc" in done.out
    assert "is your word; --model-path" in done.out
    (found,) = evaluations(imported)
    (check,) = imported.workspace.read().all(OverlapChecked)
    assert check.record.passed
    assert f"were compared for it: entry {check.seq}" in done.out
    own = found.record
    assert (own.status, own.version, own.dataset.name, own.dataset.role) == (
        "passed",
        "1",
        "loans_holdout",
        "evaluation",
    )
    assert [(item.name, item.value, item.n) for item in own.metrics] == [("auc", 0.81, 40), ("accuracy", 0.7, 40)]
    assert any("of the sealed model is the reporter's word" in note for note in own.notes)
    (kept,) = own.artefacts
    assert imported.workspace.evidence.get(kept.digest) == path.read_bytes()
    assert {item.record.family for item in imported.workspace.read().all(GateResult)} >= {"performance", "data_quality"}


def test_the_same_file_is_recorded_once_and_other_numbers_are_another_evaluation(
    imported: World, cli: Cognify, tmp_path: Path
) -> None:
    first = record(cli, imported, results(tmp_path), "--json").json
    (tmp_path / "changed-since.py").write_text("x = 1\n")
    again = record(cli, imported, results(tmp_path), "--json", "--code", tmp_path).json
    assert (again["entry"], again["passed"]) == (first["entry"], True)
    assert first["overlap_checks"]
    assert again["overlap_checks"] == []
    other = record(cli, imported, results(tmp_path, {"auc": 0.6}), "--json")
    assert other.code == 1, "the gate on auc does not pass, and the evaluation is recorded all the same"
    assert not other.json["passed"]
    assert [item.record.status for item in evaluations(imported)] == ["passed", "failed"]


def test_shared_records_are_found_before_the_results_count(imported: World, cli: Cognify, tmp_path: Path) -> None:
    snapshot(imported.workspace, write_csv(tmp_path / "leaky.csv", 2000, shared=3), "leaky")
    done = record(cli, imported, results(tmp_path), "--json", dataset="leaky")
    assert done.code == 1
    failed = [item["metric"] for item in done.json["outcomes"] if not item["passed"]]
    assert failed == ["data.overlap_records"]


def test_an_older_snapshot_is_named_by_its_entry(imported: World, cli: Cognify, tmp_path: Path) -> None:
    older = find_snapshot(imported.workspace.read(), "loans_holdout")
    newer = snapshot(imported.workspace, write_csv(tmp_path / "more.csv", 5000), "loans_holdout", run="again")
    assert record(cli, imported, results(tmp_path), dataset=f"loans_holdout@{older.seq}").code == 0
    assert evaluations(imported)[0].record.dataset.root == older.record.root
    refused = record(cli, imported, results(tmp_path), dataset="loans_holdout@9999")
    assert refused.code == 1
    assert str(newer) in refused.err


def test_data_that_cannot_be_compared_are_refused_with_the_command(
    imported: World, cli: Cognify, tmp_path: Path
) -> None:
    imported.snapshot("elsewhere", "be" * 32, record_count=10)
    refused = record(cli, imported, results(tmp_path), dataset="elsewhere")
    assert refused.code == 1
    assert "cognify dataset overlap loans_train elsewhere --record" in refused.err
    assert not evaluations(imported)


def test_thresholds_adopted_after_training_judge_nothing(imported: World, cli: Cognify, tmp_path: Path) -> None:
    gates(imported, "late_gates", 0.1)
    refused = record(cli, imported, results(tmp_path), "--gates", "late_gates")
    assert refused.code == 1
    assert "no gate set 'late_gates' was adopted" in refused.err
    assert not evaluations(imported)


def test_the_model_has_to_be_the_sealed_one_where_it_is_given(imported: World, cli: Cognify, tmp_path: Path) -> None:
    model, swapped = tmp_path / "model", tmp_path / "swapped"
    swapped.mkdir()
    (swapped / "a.bin").write_bytes(b"second")
    (swapped / "b.bin").write_bytes(b"first")
    refused = record(cli, imported, results(tmp_path), "--model-path", swapped)
    assert refused.code == 1
    assert "other bytes: a.bin" in refused.err
    assert record(cli, imported, results(tmp_path), "--model-path", model).code == 0
    assert not any("sealed model is the reporter's word" in note for note in evaluations(imported)[0].record.notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[0.8]", "expected a JSON object of names to numbers"),
        ("{}", "expected a JSON object of names to numbers"),
        ("{'auc': 1}", "not JSON"),
        ('{"auc": 0.6, "auc": 0.9}', "'auc' stands twice"),
        ('{"auc": {"value": 0.9, "value": 0.1}}', "'value' stands twice"),
        ('{"auc": "0.9"}', "results.auc.value: expected a number, got a str"),
        ('{"auc": {"mean": 0.9}}', "'mean' is not a known member"),
        ('{"auc of all": 0.9}', "no metric name"),
    ],
)
def test_an_unusable_file_is_named_with_what_is_wrong(
    imported: World, cli: Cognify, tmp_path: Path, text: str, said: str
) -> None:
    size = imported.workspace.ledger.size()
    refused = record(cli, imported, results(tmp_path, text))
    assert refused.code == 1
    assert "results.json: " in refused.err
    assert said in " ".join(refused.err.split())
    assert imported.workspace.ledger.size() == size


def test_a_version_that_is_not_sealed_has_nothing_to_evaluate(imported: World, cli: Cognify, tmp_path: Path) -> None:
    refused = cli(
        "evaluation", "record", MODEL, "7", "--dataset", "loans_holdout", "--results", results(tmp_path), at=imported
    )
    assert refused.code == 1
    assert "no version '7'" in refused.err
    missing = record(cli, imported, tmp_path / "nothing.json")
    assert missing.code != 0
    assert "no such file" in missing.err
