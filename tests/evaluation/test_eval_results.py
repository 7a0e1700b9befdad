"""Plain results: what is accepted, what is filled in (nothing), and what is refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.evaluation import (
    EvalArtifact,
    EvalResult,
    EvaluationError,
    MetricValue,
    as_eval_result,
    evaluate_fairness,
    evaluate_performance,
)
from cognify_dagster.records import SliceResult


def test_numbers_keep_their_value_and_get_no_interval():
    result = as_eval_result({"acc": 0.9, "loss": np.float32(0.25), "steps": 7}, n=100)
    assert [(m.name, m.value, m.ci_low, m.n) for m in result.metrics] == [
        ("acc", 0.9, None, 100),
        ("loss", 0.25, None, 100),
        ("steps", 7.0, None, 100),
    ]
    assert result.n == 100
    assert set(result.flat()) == {"n", "fairness.declared_attributes", "acc", "loss", "steps"}


def test_a_standard_error_gives_a_normal_interval():
    (metric,) = as_eval_result({"acc": {"value": 0.5, "stderr": 0.1, "n": 25}}).metrics
    assert metric.ci_low == pytest.approx(0.5 - 1.959964 * 0.1, abs=1e-6)
    assert metric.ci_high == pytest.approx(0.5 + 1.959964 * 0.1, abs=1e-6)


def test_pieces_of_results_go_where_they_belong():
    rng = np.random.default_rng(1)
    score, labels = rng.random(200), rng.integers(0, 2, 200)
    fairness = evaluate_fairness(
        "SEX", ["f", "m"] * 100, good_outcome=labels, favourable_decision=(score > 0.5).astype(int), favourable="granted",
        n_boot=20,
    )  # fmt: skip
    site = SliceResult(kind="site", attribute="SITE", value="A", n=200)
    result = as_eval_result(
        {"model": evaluate_performance(labels, score, n_boot=20), "fairness": [fairness], "sites": (site,), "cost": 3.5}
    )
    assert {metric.name for metric in result.metrics} >= {"auc", "brier", "cost"}
    assert result.fairness == (fairness,)
    assert result.protected_attributes == ("SEX",)
    assert result.slices == (site,)
    assert result.n == 200
    assert result.calibration


@pytest.mark.parametrize(
    ("results", "said"),
    [
        ({"acc": "0.9"}, r"results\.acc\.value: expected a number, got a str"),
        ({"acc": True}, "expected a number, got a bool"),
        ({"acc": None}, "expected a number"),
        ({"acc": [0.9]}, "expected a number"),
        ({"acc": {"valeu": 0.9}}, "'valeu' is not a known member"),
        ({"acc": {"ci_low": 0.9}}, "value is missing"),
        ({"acc": {"value": 0.9, "ci_low": 0.8}}, "go together"),
        ({"acc": {"value": 0.9, "ci_low": 0.8, "ci_high": 0.7}}, "is above"),
        ({"acc": {"value": 0.9, "stderr": -1}}, "not negative"),
        ({"acc": {"value": 0.9, "n": 1.5}}, "expected a number of records"),
        ({"acc": {"value": 0.9, "higher_is_better": "yes"}}, "true or false"),
        ({"my acc": 0.9}, "is no metric name"),
        ({3: 0.9}, "is no metric name"),
        (0.9, "expected an EvalResult or a mapping"),
        ([{"acc": 0.9}], "not a list.*Give each of several results a name.*as_eval_result"),
    ],
)
def test_what_has_no_accepted_form_is_named(results, said):
    with pytest.raises(EvaluationError, match=said):
        as_eval_result(results, n=10)


def test_how_many_records_were_evaluated_has_to_be_known():
    with pytest.raises(EvaluationError, match="give n"):
        as_eval_result({"acc": 0.9})
    assert as_eval_result({"acc": {"value": 0.9, "n": 12}}).n == 12


def test_protected_attributes_can_be_named_among_the_results():
    result = as_eval_result(
        {"acc": 0.9, "protected_attributes": ["SEX", "AGE"]}, n=1, protected_attributes=["AGE", "RACE"]
    )
    assert result.protected_attributes == ("SEX", "AGE", "RACE")
    assert [metric.name for metric in result.metrics] == ["acc"]
    with pytest.raises(EvaluationError, match="expected a list of names"):
        as_eval_result({"acc": 0.9, "protected_attributes": "SEX"}, n=1)


def test_joined_results_keep_everything_and_refuse_two_of_a_name():
    one = as_eval_result({"acc": 0.9}, n=10)
    other = EvalResult(
        metrics=(MetricValue("auc", 0.8, None, None, 5, "", True),),
        n=5,
        data_checks={"data.x": 1.0},
        artifacts=(EvalArtifact(name="a.json", media_type="application/json", data=b"{}"),),
    )
    both = one.merged(other)
    assert [m.name for m in both.metrics] == ["acc", "auc"]
    assert both.n == 10
    assert both.data_checks == {"data.x": 1.0}
    assert len(both.artifacts) == 1
    with pytest.raises(EvaluationError, match="'auc' is given twice"):
        both.merged(other.model_copy(update={"artifacts": (), "data_checks": {}}))
    with pytest.raises(EvaluationError, match=r"data check 'data\.x'"):
        both.merged(other)


@given(st.floats(), st.integers(0, 2**60))
def test_any_number_survives_into_facts_that_json_can_hold(value: float, n: int):
    result = as_eval_result({"m": {"value": value, "n": n}}, n=1)
    (fact,) = result.to_facts()["metrics"]
    if math.isfinite(value):
        assert fact["value"] == value
    else:
        assert fact["value"] in ("NaN", "Infinity", "-Infinity")
    assert int(fact["n"]) == n
