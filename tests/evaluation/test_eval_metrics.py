"""Performance metrics: scikit-learn and scipy are the oracles, the intervals are seeded and stratified."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ks_2samp
from sklearn.metrics import brier_score_loss, log_loss, roc_auc_score

from cognify_dagster.evaluation import EvaluationError, best_ks_threshold, evaluate_performance
from cognify_dagster.evaluation.metrics import _generators, _resample_weights


def sample(n: int = 2000, seed: int = 1, decimals: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Scores with many ties, and labels that follow them."""
    rng = np.random.default_rng(seed)
    scores = np.round(rng.beta(1.2, 3, n), decimals)
    return (rng.random(n) < scores).astype(int), scores


def test_point_values_equal_the_oracles():
    labels, scores = sample()
    result = evaluate_performance(labels, scores, n_boot=20)
    assert result["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert result["gini"].value == pytest.approx(2 * roc_auc_score(labels, scores) - 1, abs=1e-12)
    assert result["ks"].value == pytest.approx(
        ks_2samp(scores[labels == 1], scores[labels == 0], method="asymp").statistic, abs=1e-12
    )
    assert result["brier"].value == pytest.approx(brier_score_loss(labels, scores), abs=1e-12)
    inside = np.clip(scores, 1e-15, 1 - 1e-15)
    assert result["log_loss"].value == pytest.approx(log_loss(labels, inside), rel=1e-9)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 1), st.integers(0, 8)), min_size=4, max_size=60).filter(
        lambda rows: len({label for label, _ in rows}) == 2
    )
)
def test_auc_and_ks_equal_the_oracles_on_any_small_sample_with_ties(rows):
    labels = np.array([label for label, _ in rows])
    scores = np.array([score / 8 for _, score in rows])
    result = evaluate_performance(labels, scores, n_boot=20)
    assert result["auc"].value == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
    assert result["ks"].value == pytest.approx(
        ks_2samp(scores[labels == 1], scores[labels == 0], method="asymp").statistic, abs=1e-12
    )
    for metric in result.metrics:
        assert metric.ci_low <= metric.ci_high


def test_the_interval_equals_a_plain_bootstrap_that_draws_rows():
    labels, scores = sample(300)
    result = evaluate_performance(labels, scores, n_boot=50, seed=7)
    weights = _resample_weights(labels, 50, _generators(7)).astype(int)
    replicates = []
    for row in weights:
        drawn = np.repeat(np.arange(labels.size), row)
        replicates.append(roc_auc_score(labels[drawn], scores[drawn]))
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert result["auc"].ci_low == pytest.approx(low, abs=1e-12)
    assert result["auc"].ci_high == pytest.approx(high, abs=1e-12)


def test_resampling_keeps_the_number_of_each_label():
    labels, _ = sample(500)
    weights = _resample_weights(labels, 30, _generators(0))
    assert (weights.sum(axis=1) == 500).all()
    assert (weights @ labels == labels.sum()).all()


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    # Normal scores one standard deviation apart have AUC = Phi(1 / sqrt 2) = 0.7602.
    truth, covered, rounds = 0.7602499389065234, 0, 120
    for seed in range(rounds):
        rng = np.random.default_rng(1000 + seed)
        raw = np.concatenate([rng.normal(0, 1, 150), rng.normal(1, 1, 150)])
        labels = np.repeat([0, 1], 150)
        auc = evaluate_performance(labels, 1 / (1 + np.exp(-raw)), n_boot=200, seed=seed)["auc"]
        covered += auc.ci_low <= truth <= auc.ci_high
    assert 0.88 <= covered / rounds <= 1.0


def test_the_same_seed_gives_the_same_intervals_and_another_seed_others():
    labels, scores = sample(500)
    one, again, other = (evaluate_performance(labels, scores, n_boot=50, seed=seed) for seed in (3, 3, 4))
    assert one == again
    assert one["auc"].value == other["auc"].value
    assert one["auc"].ci_low != other["auc"].ci_low


def test_how_work_is_split_into_chunks_changes_nothing(monkeypatch):
    labels, scores = sample(401)
    whole = evaluate_performance(labels, scores, n_boot=40)
    monkeypatch.setattr("cognify_dagster.evaluation.metrics._CHUNK_CELLS", 401 * 7)
    parts = evaluate_performance(labels, scores, n_boot=40)
    for one, other in zip(whole.metrics, parts.metrics, strict=True):
        assert (other.ci_low, other.ci_high) == pytest.approx((one.ci_low, one.ci_high), abs=1e-12)


def test_the_calibration_table_adds_up_and_is_calibrated_where_the_score_is():
    labels, scores = sample(20_000, decimals=3)
    result = evaluate_performance(labels, scores, n_boot=100)
    table = result.calibration
    assert len(table) == 10
    assert sum(row.n for row in table) == 20_000
    assert sum(row.n * row.observed_rate for row in table) == pytest.approx(labels.sum())
    assert sum(row.n * row.mean_predicted for row in table) == pytest.approx(scores.sum())
    assert [row.bin for row in table] == list(range(1, 11))
    assert all(row.low <= row.mean_predicted <= row.high for row in table)
    assert all(row.ci_low <= row.observed_rate <= row.ci_high for row in table)
    assert sum(row.ci_low <= row.mean_predicted <= row.ci_high for row in table) >= 8
    expected = sum(row.n * abs(row.mean_predicted - row.observed_rate) for row in table) / 20_000
    assert result["ece"].value == pytest.approx(expected)


def test_a_score_without_variation_has_chance_auc_and_one_calibration_row():
    labels = np.array([0, 1] * 50)
    result = evaluate_performance(labels, np.full(100, 0.5), n_boot=20)
    assert result["auc"].value == 0.5
    assert result["ks"].value == 0.0
    assert len(result.calibration) == 1


def test_certain_and_wrong_scores_stay_finite():
    result = evaluate_performance([0, 1, 0, 1], [1.0, 0.0, 0.0, 1.0], n_boot=20)
    assert math.isfinite(result["log_loss"].value)


def test_nine_thousand_records_and_two_hundred_replicates_take_seconds_at_most():
    labels, scores = sample(9000, decimals=12)
    start = time.process_time()
    evaluate_performance(labels, scores, n_boot=200)
    assert time.process_time() - start < 6.0


@pytest.mark.parametrize(
    ("labels", "scores", "named"),
    [
        ([], [], "labels"),
        ([0, 0], [0.1, 0.2], "same label"),
        ([0, 2], [0.1, 0.2], "labels: expected only 0 and 1"),
        (["a", "b"], [0.1, 0.2], "labels"),
        ([0, 1], [0.1], "scores: expected 2 values"),
        ([0, 1], [0.1, 1.2], "row 1"),
        ([0, 1], [float("nan"), 0.2], "row 0"),
    ],
)
def test_unusable_input_is_named(labels, scores, named):
    with pytest.raises(EvaluationError, match=named):
        evaluate_performance(labels, scores)


@pytest.mark.parametrize("setting", [{"n_boot": 5}, {"confidence": 1.0}, {"n_bins": 1}])
def test_settings_without_an_interval_are_refused(setting):
    with pytest.raises(EvaluationError, match=next(iter(setting))):
        evaluate_performance([0, 1], [0.1, 0.2], **setting)


def test_the_best_threshold_reaches_the_ks_distance():
    labels, scores = sample()
    threshold, ks = best_ks_threshold(labels, scores)
    assert ks == pytest.approx(evaluate_performance(labels, scores, n_boot=20)["ks"].value, abs=1e-12)
    predicted = scores >= threshold
    assert predicted[labels == 1].mean() - predicted[labels == 0].mean() == pytest.approx(ks, abs=1e-12)
    assert threshold not in scores
