"""The evaluation result: flat names for gates, JSON without forbidden numbers, attachments by digest."""

from __future__ import annotations

import hashlib
import json
import math
import subprocess
import sys

import numpy as np
import pytest

from cognify_dagster.evaluation import (
    INSUFFICIENT_DATA,
    EvalArtifact,
    EvalResult,
    EvaluationError,
    MetricValue,
    evaluate_fairness,
    evaluate_performance,
    json_safe,
)


def result(**change) -> EvalResult:
    rng = np.random.default_rng(0)
    score = rng.random(300)
    labels = (rng.random(300) < score).astype(int)
    groups = ["men", "women"] * 140 + ["other"] * 20
    fairness = evaluate_fairness(
        "SEX",
        groups,
        good_outcome=1 - labels,
        favourable_decision=(score < 0.5).astype(int),
        favourable="granted",
        score=1 - score,
        n_boot=50,
        auc_n_boot=20,
    )
    performance = evaluate_performance(labels, score, n_boot=20)
    fields = {
        "metrics": performance.metrics,
        "calibration": performance.calibration,
        "fairness": (fairness,),
        "protected_attributes": ("SEX",),
        "n": 300,
        "artifacts": (EvalArtifact(name="roc.json", media_type="application/json", data=b"[]"),),
    }
    return EvalResult(**{**fields, **change})


def test_gates_find_every_number_by_its_flat_name():
    measured = result()
    flat = measured.flat()
    assert flat["auc"] == measured.metrics[0].value
    assert flat["auc.ci_low"] == measured.metrics[0].ci_low
    assert flat["fairness.SEX.adverse_impact_ratio"] == measured.fairness[0]["adverse_impact_ratio"].value
    assert flat["fairness.SEX.groups.men.n"] == 140
    assert flat["fairness.SEX.insufficient_groups"] == 1
    assert flat["fairness.SEX.groups.other.tpr"] == INSUFFICIENT_DATA
    assert flat["fairness.declared_attributes"] == 1
    assert flat["n"] == 300


def test_data_checks_join_under_their_own_prefix_and_the_first_result_stays():
    measured = result()
    more = measured.with_data_checks(overlap_records=0, drift=None)
    assert more.flat()["data.overlap_records"] == 0
    assert more.flat()["data.drift"] == INSUFFICIENT_DATA
    assert "data.overlap_records" not in measured.flat()


def test_facts_are_plain_json_and_name_attachments_by_digest():
    facts = result().to_facts()
    assert json.loads(json.dumps(facts, allow_nan=False)) == facts
    assert facts["artifacts"] == [
        {
            "name": "roc.json",
            "media_type": "application/json",
            "size": 2,
            "sha256": hashlib.sha256(b"[]").hexdigest(),
        }
    ]


def test_numbers_that_json_forbids_become_text():
    metric = MetricValue("auc", math.nan, -math.inf, math.inf, 3, "ratio", True)
    facts = result(metrics=(metric,)).to_facts()
    assert [facts["metrics"][0][k] for k in ("value", "ci_low", "ci_high")] == ["NaN", "-Infinity", "Infinity"]


def test_json_safe_coerces_numpy_and_big_integers_and_names_what_it_cannot():
    assert json_safe({"a": np.float32(0.5), "b": np.array([1, 2]), "c": 2**60, "d": np.nan}) == {
        "a": 0.5,
        "b": [1, 2],
        "c": str(2**60),
        "d": "NaN",
    }
    with pytest.raises(EvaluationError, match=r"settings\.x\[1\]"):
        json_safe({"x": [1, object()]}, where="settings")


def test_fairness_of_an_attribute_that_was_not_declared_is_refused():
    with pytest.raises(ValueError, match="not in protected_attributes"):
        result(protected_attributes=())


def test_two_results_of_one_name_are_refused():
    metric = MetricValue("auc", 0.5, 0.4, 0.6, 3, "ratio", True)
    with pytest.raises(ValueError, match="'auc' is given twice"):
        result(metrics=(metric, metric))
    with pytest.raises(EvaluationError, match="auc: two results"):
        result(data_checks={"auc": 1.0}).flat()


@pytest.mark.parametrize("name", ["../roc.json", "a/b", "", ".hidden", "a b"])
def test_attachments_have_plain_names(name):
    with pytest.raises(ValueError, match="plain file name"):
        EvalArtifact(name=name, media_type="application/json", data=b"")


def test_the_result_is_frozen():
    with pytest.raises(ValueError):
        result().n = 4


def test_importing_the_room_imports_nothing_heavy():
    code = (
        "import sys, cognify_dagster.evaluation, cognify_dagster.training; "
        "print([m for m in ('numpy', 'pandas', 'sklearn', 'fairlearn', 'dagster') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
