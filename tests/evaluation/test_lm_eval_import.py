"""Importing a real results file of lm-eval 0.4.13 (made by tests/adapters/lm_eval/harness.py)."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from cognify_dagster.datasets import DatasetError
from cognify_dagster.evaluation import EvaluationError, as_eval_result
from cognify_dagster.evaluation.results import Z95
from cognify_dagster.instrument.lm_eval import LmEvalError, import_lm_eval, objective_of, read_lm_eval, samples_beside
from cognify_dagster.records import Evaluation
from tests.evaluation.governed import overlap, prepare, rule
from tests.governance.world import MODEL, World

FOLDER = Path(__file__).parent / "data" / "lm_eval"
(RESULTS,) = FOLDER.glob("results_*.json")
NAMES = {
    "hellaswag_tiny.acc",
    "hellaswag_tiny.acc_norm",
    "mmlu_tiny.acc",
    "mmlu_tiny_sums.acc",
    "mmlu_tiny_colours.acc",
}


def given() -> dict:
    return json.loads(RESULTS.read_text())


def changed(folder: Path, change) -> Path:
    """The same results and samples with something changed in the results."""
    for path in FOLDER.iterdir():
        shutil.copy(path, folder / path.name)
    data = given()
    change(data)
    path = folder / RESULTS.name
    path.write_text(json.dumps(data))
    return path


def test_each_number_comes_with_version_shots_interval_and_objective():
    result = read_lm_eval(RESULTS)
    assert {metric.name for metric in result.metrics} == NAMES
    said = given()["results"]["hellaswag_tiny"]
    one = next(item for item in result.benchmarks if item.metric_name == "hellaswag_tiny.acc_norm")
    assert (one.task, one.version, one.n_shot, one.n, one.n_available) == ("hellaswag_tiny", "1.0", 0, 6, 6)
    assert one.value == said["acc_norm,none"]
    assert one.stderr == said["acc_norm_stderr,none"]
    assert one.ci_low == pytest.approx(one.value - Z95 * one.stderr)
    assert one.higher_is_better is True
    assert one.objective_id == "hellaswag"
    assert one.objective == "Completion by common sense was not damaged by fine-tuning"
    assert one.harness == "lm-eval 0.4.13"
    group = next(item for item in result.benchmarks if item.task == "mmlu_tiny")
    assert (group.n, group.version, group.n_shot, group.objective_id) == (10, "2", 1, "mmlu")
    assert result.n == 16
    assert result.unmapped == ()
    assert result.evaluator_code is not None
    assert result.evaluator_code.commit == "lm-eval==0.4.13"


def test_how_the_harness_ran_and_its_files_are_kept():
    result = read_lm_eval(RESULTS)
    (told,) = result.settings.values()
    assert told["task_hashes"] == given()["task_hashes"]
    assert told["lm_eval_version"] == "0.4.13"
    assert told["config"]["model_args"] == given()["config"]["model_args"]
    assert told["data"]["hellaswag_tiny"]["dataset_path"] == "json"
    assert {item.name for item in result.artifacts} == {path.name for path in FOLDER.iterdir()}
    samples = next(item for item in result.benchmarks if item.task == "hellaswag_tiny").samples
    assert samples is not None
    assert told["samples"]["hellaswag_tiny"]["sha256"] == samples.digest.removeprefix("sha256:")


def test_only_the_tasks_asked_for():
    result = read_lm_eval(RESULTS, tasks=["mmlu_tiny"])
    assert [metric.name for metric in result.metrics] == ["mmlu_tiny.acc"]
    assert result.n == 10
    with pytest.raises(LmEvalError, match="no task 'arc'"):
        read_lm_eval(RESULTS, tasks=["arc"])


def test_known_benchmarks_map_and_unknown_ones_are_listed():
    said = objective_of()
    names = ["hellaswag.acc_norm", "mmlu.acc", "mmlu_anatomy.acc", "truthfulqa_mc1.acc", "truthfulqa_mc2.acc"]
    assert all(said(name) for name in names)
    assert said("our_own_task.score_of_ours") == ""


def test_an_unmapped_task_is_listed_by_name(tmp_path):
    def rename(data):
        for member in ("results", "versions", "n-shot", "higher_is_better", "n-samples", "configs", "task_hashes"):
            data[member]["zebra"] = data[member].pop("hellaswag_tiny")

    path = changed(tmp_path, rename)
    result = read_lm_eval(path, samples=[])
    assert result.unmapped == ("zebra.acc", "zebra.acc_norm")


def test_a_limit_is_said(tmp_path):
    path = changed(tmp_path, lambda data: data["n-samples"]["hellaswag_tiny"].update(original=10_042))
    result = read_lm_eval(path)
    one = next(item for item in result.benchmarks if item.task == "hellaswag_tiny")
    assert (one.n, one.n_available) == (6, 10_042)
    assert "hellaswag_tiny: a limit was set, only part of the questions was asked." in result.notes


def test_a_number_without_standard_error_gets_no_interval(tmp_path):
    path = changed(tmp_path, lambda data: data["results"]["hellaswag_tiny"].update({"acc_stderr,none": "N/A"}))
    one = read_lm_eval(path).benchmarks[0]
    assert (one.metric, one.stderr, one.ci_low) == ("acc", None, None)


def test_another_way_of_reading_answers_is_part_of_the_name(tmp_path):
    def add(data):
        data["results"]["hellaswag_tiny"].update(
            {"exact_match,strict-match": 0.5, "exact_match_stderr,strict-match": 0.1}
        )

    names = {metric.name for metric in read_lm_eval(changed(tmp_path, add)).metrics}
    assert "hellaswag_tiny.exact_match.strict-match" in names


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda data: data["task_hashes"].update(hellaswag_tiny="0" * 64), "not the samples of the results"),
        (lambda data: data["n-samples"]["hellaswag_tiny"].update(effective=5), "answers to 6 questions"),
        (lambda data: data["results"]["hellaswag_tiny"].update({"acc,none": 0.9}), "is 0.9 in the results and 0.16"),
        (lambda data: data["results"]["hellaswag_tiny"].update({"acc ä,none": 0.9}), "gates cannot name this metric"),
        (lambda data: data.pop("results"), "no member 'results'"),
        (lambda data: data.update(results={}), "no member 'results'"),
        (lambda data: data["results"].update(hellaswag_tiny=3), "expected a mapping"),
        (lambda data: data.pop("n-samples"), "says no number of questions"),
    ],
)
def test_results_that_do_not_hold_together_are_refused(tmp_path, change, said):
    with pytest.raises(LmEvalError, match=said):
        read_lm_eval(changed(tmp_path, change))


@pytest.mark.parametrize(
    "config",
    [
        {"model_args": {"pretrained": "m", "token": "hf_" + "a" * 30}},
        {"model_args": "pretrained=m,token=abc123def"},
        {"model_args": {"base_url": "https://ann:secret@models.example/v1"}},
        {"gen_kwargs": {"api_key": "abc"}},
    ],
)
def test_settings_with_a_secret_are_refused_before_they_are_kept(tmp_path, config):
    path = changed(tmp_path, lambda data: data["config"].update(config))
    with pytest.raises(LmEvalError, match="config holds what looks like a password or access token") as refused:
        read_lm_eval(path)
    assert "secret@" not in str(refused.value)


def test_samples_of_another_run_are_refused(tmp_path):
    path = changed(tmp_path, lambda _data: None)
    one = next(item for item in samples_beside(path) if "hellaswag" in item.name)
    lines = one.read_text().splitlines()
    one.write_text("\n".join([lines[1], lines[0], *lines[2:]]) + "\n")
    with pytest.raises(LmEvalError, match="not the samples of the results"):
        read_lm_eval(path)
    one.write_text("[]\n")
    with pytest.raises(LmEvalError, match="not the samples of lm-eval"):
        read_lm_eval(path)
    stranger = tmp_path / "samples_arc_x.jsonl"
    stranger.write_text("")
    with pytest.raises(LmEvalError, match="samples of no task"):
        read_lm_eval(path, samples=[stranger])


@pytest.mark.parametrize("content", ["", "[]", '{"a": 1}', "{" * 5000, '{"results": {"a": {"b": 1}}}'])
def test_other_files_are_refused(tmp_path, content):
    path = tmp_path / "results.json"
    path.write_text(content)
    with pytest.raises(LmEvalError):
        read_lm_eval(path)
    with pytest.raises(LmEvalError, match="cannot be read"):
        read_lm_eval(tmp_path / "nothing.json")


def test_a_group_that_names_itself_ends(tmp_path):
    path = changed(tmp_path, lambda data: data["group_subtasks"].update(mmlu_tiny=["mmlu_tiny", "mmlu_tiny_sums"] * 50))
    assert next(item for item in read_lm_eval(path).benchmarks if item.task == "mmlu_tiny").n == 6


# --- into the ledger -----------------------------------------------------------------------------------------------------

GATES = (
    rule("hellaswag_tiny.acc_norm", ">=", 0.5),
    rule("mmlu_tiny.acc", ">=", 0.1),
    rule("data.overlap_records", "<=", 0, "data_quality"),
)


def sealed(world: World, gates=GATES):
    training = prepare(world, gates)
    world.data["bench"] = world.snapshot("benchmarks", "be" * 32, record_count=16).seq
    return training


def run_import(world: World, *paths: Path, **change):
    options = {"workspace": world.workspace, "model": MODEL, "version": "1", "dataset": "benchmarks", **change}
    return import_lm_eval(paths or RESULTS, **options)


def test_results_become_one_evaluation_judged_by_the_adopted_gates(founded: World):
    training = sealed(founded)
    overlap(founded, "be" * 32, "bench", "benchmarks")
    done = run_import(founded)
    found = founded.workspace.read().find(Evaluation, done.seq)
    assert found is not None
    record = found.record
    assert record.status == "passed"
    assert done.passed
    assert record.dataset.root == "be" * 32
    assert record.training_seq == training.seq
    assert {item.metric_name for item in record.benchmarks} == NAMES
    assert {item.name for item in record.metrics} == NAMES
    assert record.evaluator.startswith("os:")
    assert json.loads(founded.workspace.evidence.get(record.benchmarks[0].source.digest)) == given()
    assert any("importer's word" in note for note in record.notes)
    assert run_import(founded).seq == done.seq, "the same files are recorded once"


def test_a_benchmark_that_was_never_snapshotted_or_compared_is_refused(founded: World):
    sealed(founded)
    with pytest.raises(DatasetError, match="never snapshotted"):
        run_import(founded, dataset="mmlu")
    with pytest.raises(EvaluationError, match="benchmarks was never compared with the training data"):
        run_import(founded)
    with pytest.raises(LmEvalError, match="no version '7'"):
        run_import(founded, version="7")
    assert founded.workspace.read().all(Evaluation) == []


def test_the_harness_has_to_have_run_the_sealed_model_where_its_files_are_given(founded: World, tmp_path: Path):
    sealed(founded)
    overlap(founded, "be" * 32, "bench", "benchmarks")
    model = tmp_path / "model.bin"
    model.write_bytes(b"another model")
    with pytest.raises(LmEvalError, match=r"not the model that credit_default 1 was sealed with .* model\.bin"):
        run_import(founded, model_path=model)
    model.write_bytes(b"model 1")
    done = run_import(founded, model_path=model)
    assert done.model_compared
    found = founded.workspace.read().find(Evaluation, done.seq)
    assert found is not None
    assert not any("weights is the importer's word" in note for note in found.record.notes)


def test_the_sealed_bytes_under_another_name_in_a_folder_are_another_model(founded: World, tmp_path: Path):
    sealed(founded)
    overlap(founded, "be" * 32, "bench", "benchmarks")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "tokenizer.bin").write_bytes(b"model 1")
    with pytest.raises(LmEvalError, match=r"missing: model\.bin; not in the record: tokenizer\.bin"):
        run_import(founded, model_path=folder)
    (folder / "tokenizer.bin").rename(folder / "model.bin")
    assert run_import(founded, model_path=folder).model_compared


def test_several_results_files_are_one_evaluation(founded: World, tmp_path: Path):
    sealed(founded)
    overlap(founded, "be" * 32, "bench", "benchmarks")

    def only(name):
        def change(data):
            for other in [key for key in data["results"] if not key.startswith(name)]:
                del data["results"][other]

        return change

    paths = []
    for name in ("hellaswag", "mmlu"):
        folder = tmp_path / name
        folder.mkdir()
        path = changed(folder, only(name))
        for sample in folder.glob("samples_*"):
            if name not in sample.name:
                sample.unlink()
        paths.append(path.rename(path.with_name(path.name.replace("results_", f"results_{name}_"))))
    done = run_import(founded, *paths)
    found = founded.workspace.read().find(Evaluation, done.seq)
    assert found is not None
    assert {item.metric_name for item in found.record.benchmarks} == NAMES
    with pytest.raises(EvaluationError, match="cannot be joined"):
        run_import(founded, paths[0], paths[0])


def test_an_evaluation_function_may_return_it_with_other_results():
    both = as_eval_result({"harness": read_lm_eval(RESULTS), "refusal_rate": 0.02}, n=20)
    assert {metric.name for metric in both.metrics} == NAMES | {"refusal_rate"}
    assert both.benchmarks
