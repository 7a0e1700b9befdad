"""`cognify evaluation`: show, compare, explain, import-lm-eval, at the command line of a real workspace."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from cognify_dagster.evaluation import (
    EvalResult,
    MetricValue,
    compare_on_snapshot,
    decision_explanations,
    evaluate_slices,
    global_explanation,
    perturbation_table,
    predictions_artifact,
)
from cognify_dagster.evaluation.recording import record_results
from cognify_dagster.evaluation.sensitivity import Shift
from cognify_dagster.records import Evaluation
from tests.cli.conftest import Cognify
from tests.evaluation.governed import CODE, holdout, overlap, prepare, rule, train
from tests.evaluation.test_lm_eval_import import GATES, RESULTS
from tests.governance.world import MODEL, World


@pytest.fixture
def evaluated(founded: World) -> World:
    """Versions 1 and 2 with full evaluations on one snapshot; the second against the first."""
    rng = np.random.default_rng(0)
    y = (rng.random(200) < 0.4).astype(int)
    scores = [1 / (1 + np.exp(-(y * gap - gap / 2 + rng.normal(0, 1, 200)))) for gap in (1.0, 4.0)]
    first = prepare(founded, (rule("auc", ">=", 0.5), rule("data.overlap_records", "<=", 0, "data_quality")))
    for version, training, score in (("1", first, scores[0]), ("2", train(founded, "2"), scores[1])):
        frame = {"site": ["North", "South"] * 100, "y": y, "score": score}
        comparisons = ()
        if version == "2":
            comparisons = (
                compare_on_snapshot(
                    founded.workspace.read(), challenger=(MODEL, "2"), champion=(MODEL, "1"), dataset=holdout(founded),
                    labels=y, champion_scores=scores[0], challenger_scores=score, n_boot=50,
                ),
            )  # fmt: skip
        result = EvalResult(
            metrics=(
                MetricValue("auc", 0.8, 0.7, 0.9, 200, "ratio", True, "Ranks risky above safe"),
                MetricValue("oddity", 3.0, None, None, 200, "", None),
            ),
            n=200,
            slices=evaluate_slices(frame, by="site", label="y", score="score", kind="site", n_boot=20),
            comparisons=comparisons,
            perturbations=perturbation_table(lambda x: x["score"], frame, y, [Shift("score", 1.0)]),
            artifacts=(predictions_artifact(range(200), y, score),),
        ).with_explanations(
            global_explanation("permutation_importance", {"income": 0.2, "age": 0.1}, output="loss of AUC"),
            decision_explanations("shap", ["p-1", "p-2"], [[0.5, -0.25], [1, 2]], features=["income", "age"]),
        )
        record_results(
            founded.workspace, training=training, dataset=holdout(founded), results=result, evaluator="user:ben",
            code=CODE, run=f"e{version}",
        )  # fmt: skip
    return founded


def test_show_names_the_worst_site_the_evaluator_and_what_is_unmapped(evaluated: World, cognify: Cognify) -> None:
    shown = cognify("evaluation", "show", MODEL, "2", at=evaluated)
    assert shown.code == 0
    for text in (
        "(worst site)",
        "user:ben (Ben)",
        "unmapped",
        "loans_holdout, root cdcd",
        "permutation_importance",
        "shift",
    ):
        assert text in shown.out
    assert "credit_default@2 against credit_default@1" in shown.out
    value = cognify("evaluation", "show", MODEL, "2", "--json", at=evaluated).json
    (record,) = evaluated.workspace.read().all(Evaluation, evaluated.subject("2"))
    assert value["entry"] == record.seq
    assert value["unmapped"] == ["oddity"]
    assert value["worst_site"]["value"] == record.record.worst_site.value
    assert len(value["evaluation"]["slices"]) == 2
    missing = cognify("evaluation", "show", MODEL, "9", at=evaluated)
    assert missing.code == 1
    assert "no version '9'" in missing.err


def test_compare_says_which_side_the_paired_interval_favours(evaluated: World, cognify: Cognify) -> None:
    size = evaluated.workspace.ledger.size()
    shown = cognify("evaluation", "compare", MODEL, "1", "2", "--replicates", "50", at=evaluated)
    assert shown.code == 0
    assert "better" in shown.out
    value = cognify("evaluation", "compare", MODEL, "2", "1", "--replicates", "50", "--json", at=evaluated).json
    assert value["metrics"][0]["verdict"] == "worse"
    assert value["metrics"][0]["ci_high"] < 0
    assert evaluated.workspace.ledger.size() == size


def test_explain_finds_one_decision_and_a_changed_file_ends_with_1(evaluated: World, cognify: Cognify) -> None:
    call = ("evaluation", "explain", MODEL, "2", "--decision", "p-1")
    shown = cognify(*call, at=evaluated)
    assert shown.code == 0
    assert "(checked)" in shown.out
    assert shown.out.index("income") < shown.out.index("age")
    assert cognify(*call, "--json", at=evaluated).json["contributions"] == [["income", 0.5], ["age", -0.25]]
    missing = cognify("evaluation", "explain", MODEL, "2", "--decision", "p-9", at=evaluated)
    assert missing.code == 1
    assert "none is 'p-9'" in missing.err
    record = evaluated.workspace.read().all(Evaluation, evaluated.subject("2"))[0].record
    digest = next(item for item in record.explanations if item.scope == "decision").item.digest
    (blob,) = (evaluated.folder / "project" / ".cognify" / "evidence" / "sealed").rglob(f"*{digest[-62:]}.cose")
    blob.chmod(0o600)
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))  # a fixed byte would be the right one in one run of 256
    assert cognify(*call, at=evaluated).code == 1


def test_import_lm_eval_records_and_a_failed_gate_ends_with_1(founded: World, cognify: Cognify, tmp_path: Path) -> None:
    prepare(founded, (*GATES, rule("hellaswag_tiny.acc", ">=", 0.9)))
    founded.data["bench"] = founded.snapshot("benchmarks", "be" * 32, record_count=16).seq
    folder = tmp_path / "out"
    shutil.copytree(RESULTS.parent, folder)
    call = ("evaluation", "import-lm-eval", folder / RESULTS.name, "--model", MODEL, "--version", "1")
    refused = cognify(*call, "--dataset", "benchmarks", at=founded)
    assert refused.code == 1
    assert "never compared" in refused.err
    assert cognify(*call, "--dataset", "nothing", at=founded).code == 1
    overlap(founded, "be" * 32, "bench", "benchmarks")
    done = cognify(*call, "--dataset", "benchmarks", at=founded)
    assert done.code == 1, "a gate does not pass"
    assert "Completion by common sense" in done.out
    assert "--model-path compares the files" in done.out
    value = cognify(*call, "--dataset", "benchmarks", "--task", "mmlu_tiny", "--no-samples", "--json", at=founded).json
    assert [item["task"] for item in value["benchmarks"]] == ["mmlu_tiny"]
    assert value["benchmarks"][0]["samples"] is None
    assert len(founded.workspace.read().all(Evaluation)) == 2
