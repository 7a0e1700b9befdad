"""The real harness runs a tiny model on tiny local tasks, offline; what it writes is read, checked and recorded."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path

import pytest

from cognify_dagster.instrument.lm_eval import LmEvalError, import_lm_eval, read_lm_eval, samples_beside
from cognify_dagster.records import DatasetSnapshot, Evaluation, TrainingRun
from tests.adapters.lm_eval import harness
from tests.evaluation.governed import overlap, prepare, rule
from tests.governance.conftest import founded, founded_template
from tests.governance.world import MODEL, World

__all__ = ["founded", "founded_template"]


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path], Path]:
    """Results, samples and the folder of one run."""
    folder = tmp_path_factory.mktemp("harness")
    results, samples = harness.run(folder)
    return results, samples, folder


def test_every_number_of_the_harness_is_taken_as_it_is(ran: tuple[Path, list[Path], Path]) -> None:
    results, samples, _ = ran
    assert samples_beside(results) == samples
    said = json.loads(results.read_text())["results"]
    found = read_lm_eval(results)
    assert {item.metric_name: item.value for item in found.benchmarks} == {
        f"{task}.{name.partition(',')[0]}": value
        for task, numbers in said.items()
        for name, value in numbers.items()
        if name in ("acc,none", "acc_norm,none")
    }
    assert all(item.stderr is not None and item.ci_low <= item.value <= item.ci_high for item in found.benchmarks)
    assert {item.n for item in found.benchmarks if item.task == "mmlu_tiny"} == {10}
    assert found.benchmarks[0].harness == f"lm-eval {version('lm_eval')}"
    assert {item.objective_id for item in found.benchmarks} == {"hellaswag", "mmlu"}


def test_samples_with_one_answer_changed_are_refused(ran: tuple[Path, list[Path], Path], tmp_path: Path) -> None:
    results, samples, _ = ran
    path = tmp_path / samples[0].name
    lines = [json.loads(line) for line in samples[0].read_text().splitlines()]
    lines[0]["acc"] = 1.0 - lines[0]["acc"]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(LmEvalError, match="in the results and"):
        read_lm_eval(results, samples=[path])


def test_the_run_becomes_an_evaluation_of_the_sealed_model(founded: World, ran: tuple[Path, list[Path], Path]) -> None:
    results, _, folder = ran
    prepare(
        founded, (rule("hellaswag_tiny.acc_norm", ">=", 0.0), rule("data.overlap_records", "<=", 0, "data_quality"))
    )
    weights = folder / "tiny-gpt2" / "model.safetensors"
    sealed = founded.workspace.put("model.safetensors", weights, "application/octet-stream")
    founded.train("2", model_file=sealed)
    training = founded.workspace.read().latest(TrainingRun, founded.subject("2"))
    assert training is not None
    founded.data["bench"] = founded.snapshot("benchmarks", "be" * 32, record_count=16).seq
    assert founded.workspace.read().latest(DatasetSnapshot, "dataset/benchmarks") is not None
    overlap(founded, "be" * 32, "bench", "benchmarks")
    facts = {"workspace": founded.workspace, "model": MODEL, "version": "2", "dataset": "benchmarks"}
    with pytest.raises(LmEvalError, match=r"not the model that .* was sealed with"):
        import_lm_eval(results, model_path=folder / "tiny-gpt2" / "config.json", **facts)
    done = import_lm_eval(results, model_path=weights, **facts)
    found = founded.workspace.read().find(Evaluation, done.seq)
    assert found is not None
    assert found.record.status == "passed"
    assert found.record.training_seq == training.seq
    assert found.record.evaluator_code is not None
    assert founded.workspace.evidence.get(found.record.benchmarks[0].source.digest) == results.read_bytes()


def test_a_limited_run_is_said_to_be_one(tmp_path: Path) -> None:
    results, _ = harness.run(tmp_path, limit=3)
    found = read_lm_eval(results)
    assert [(item.n, item.n_available) for item in found.benchmarks if item.task == "hellaswag_tiny"] == [(3, 6)] * 2
    assert any("a limit was set" in note for note in found.notes)
