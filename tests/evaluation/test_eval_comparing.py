"""Champion and challenger: one snapshot or none, paired intervals, verdicts from the interval alone."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from cognify_dagster.evaluation import (
    EvalResult,
    EvaluationError,
    MetricValue,
    compare_evaluations,
    compare_on_snapshot,
    differences,
    predictions_artifact,
)
from cognify_dagster.evaluation.recording import record_results
from cognify_dagster.evaluation.scoring import auc
from cognify_dagster.records import Evaluation
from tests.evaluation.governed import CODE, holdout, overlap, prepare, train
from tests.governance.world import MODEL, World


def scored(n: int = 200, seed: int = 2, gap: float = 1.0):
    rng = np.random.default_rng(seed)
    y = (rng.random(n) < 0.4).astype(int)
    truth = y * 2.0 - 1.0
    old = 1 / (1 + np.exp(-(truth * 0.5 + rng.normal(0, 1, n))))
    new = 1 / (1 + np.exp(-(truth * (0.5 + gap) + rng.normal(0, 1, n))))
    return y, old, new


def test_differences_are_challenger_minus_champion_and_the_interval_decides():
    y, old, new = scored()
    area, brier = differences(y, old, new, metrics=["auc", "brier"], n_boot=200)
    assert area.champion == pytest.approx(roc_auc_score(y, old))
    assert area.challenger == pytest.approx(roc_auc_score(y, new))
    assert area.difference == pytest.approx(area.challenger - area.champion)
    assert area.ci_low < area.difference < area.ci_high
    assert area.ci_low > 0
    assert area.verdict == "better"
    assert brier.ci_high < 0
    assert brier.verdict == "better", "lower is better"
    (turned,) = differences(y, new, old, n_boot=200)
    assert turned.verdict == "worse"
    (same,) = differences(y, old, old, n_boot=50)
    assert (same.difference, same.ci_low, same.ci_high, same.verdict) == (0, 0, 0, "no_clear_difference")


def test_pairing_makes_the_interval_narrower_than_two_independent_ones():
    y, old, _ = scored(400)
    new = np.clip(old + 0.02 * (y - 0.5), 0, 1)
    (row,) = differences(y, old, new, n_boot=300, seed=1)
    rng = np.random.default_rng(3)
    apart = []
    for _ in range(300):
        a, b = rng.integers(0, 400, 400), rng.integers(0, 400, 400)
        apart.append(auc(y[b], new[b]) - auc(y[a], old[a]))
    low, high = np.quantile(apart, [0.025, 0.975])
    assert row.ci_high - row.ci_low < 0.5 * (high - low)


@settings(deadline=None, max_examples=25)
@given(st.integers(0, 1000))
def test_swapping_the_sides_turns_sign_and_verdict(seed: int):
    y, old, new = scored(60, seed, 0.3)
    if len(set(y)) < 2:
        return
    (a,) = differences(y, old, new, n_boot=20, seed=seed)
    (b,) = differences(y, new, old, n_boot=20, seed=seed)
    assert a.difference == pytest.approx(-b.difference)
    assert (a.ci_low, a.ci_high) == pytest.approx((-b.ci_high, -b.ci_low))
    assert {a.verdict, b.verdict} in ({"better", "worse"}, {"no_clear_difference"})


def test_a_metric_without_direction_is_not_judged():
    y, old, new = scored()
    (row,) = differences(y, old, new, metrics=["mean_score"], n_boot=50)
    assert row.verdict == "not_judged"
    assert row.ci_low is not None


@pytest.fixture
def two(founded: World):
    """Versions 1 and 2, sealed, with snapshots of 200 records."""
    first = prepare(founded)
    return founded, first, train(founded, "2")


def compared(world: World, **change):
    y, old, new = scored()
    facts = {
        "challenger": (MODEL, "2"),
        "champion": (MODEL, "1"),
        "dataset": holdout(world),
        "labels": y,
        "champion_scores": old,
        "challenger_scores": new,
        "n_boot": 50,
    }
    return compare_on_snapshot(world.workspace.read(), **{**facts, **change})


def evaluate(world: World, training, results, run: str, **more):
    options = {"dataset": holdout(world), "evaluator": "user:ben", "code": CODE, "run": run, **more}
    seq, _ = record_results(world.workspace, training=training, results=results, **options)
    return seq


def test_a_comparison_made_by_scoring_both_is_recorded_and_gates_can_name_it(two):
    world, _, second = two
    found = compared(world)
    assert found.champion.name == f"{MODEL}@1"
    assert found.champion.evaluation_seq is None
    assert found.n == 200
    evaluate(world, second, {"auc": 0.8, "against the champion".replace(" ", "_"): found}, "e2")
    (entry,) = world.workspace.read().all(Evaluation, world.subject("2"))
    assert entry.record.comparisons == (found,)
    flat = EvalResult(metrics=(), n=1, comparisons=(found,)).flat()
    assert flat[f"comparison.{MODEL}@1.auc.difference"] == found.metrics[0].difference
    assert flat[f"comparison.{MODEL}@1.auc.difference.ci_low"] == found.metrics[0].ci_low


def test_an_approach_outside_governance_can_be_the_champion(two):
    world, *_ = two
    found = compared(world, champion="scorecard in use since 2019")
    assert found.champion.name == "scorecard in use since 2019"
    assert found.champion.model is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"champion": (MODEL, "9")}, "9 has no sealed training run"),
        ({"champion": (MODEL, "2")}, "same model bytes"),
        ({"labels": scored()[0][:100]}, "200 values for 100 records"),
    ],
)
def test_sides_that_cannot_be_compared_are_refused(two, change, said):
    with pytest.raises(EvaluationError, match=said):
        compared(two[0], **change)


def test_scoring_less_than_the_snapshot_is_refused(two):
    y, old, new = scored(150)
    with pytest.raises(EvaluationError, match=r"150 records were scored, loans_holdout entry .* has 200"):
        compared(two[0], labels=y, champion_scores=old, challenger_scores=new)


def test_a_comparison_on_another_snapshot_or_about_another_version_is_not_recorded(two):
    world, first, second = two
    other = world.snapshot("other_holdout", "ef" * 32, record_count=200)
    elsewhere = compared(world, dataset=other.model_copy(update={"role": "evaluation"}))
    with pytest.raises(EvaluationError, match="Compare both on the same snapshot"):
        evaluate(world, second, {"auc": 0.8, "c": elsewhere}, "e2")
    with pytest.raises(EvaluationError, match="is about credit_default@2, not about credit_default 1"):
        evaluate(world, first, {"auc": 0.8, "c": compared(world)}, "e1")
    assert world.workspace.read().all(Evaluation) == []


def test_two_sealed_evaluations_without_pairs_stand_side_by_side_unjudged(two):
    world, first, second = two
    a = evaluate(world, first, {"auc": 0.75, "only_old": 1}, "e1")
    b = evaluate(world, second, {"auc": 0.80, "only_new": 1}, "e2")
    found = compare_evaluations(world.workspace, MODEL, "1", "2")
    (row,) = found.metrics
    assert (row.name, row.difference, row.verdict, row.ci_low) == ("auc", pytest.approx(0.05), "not_judged", None)
    assert (found.champion.evaluation_seq, found.challenger.evaluation_seq) == (a, b)
    with pytest.raises(EvaluationError, match="'only_old' is not a metric of both"):
        compare_evaluations(world.workspace, MODEL, "1", "2", metrics=["only_old"])


def test_kept_predictions_give_two_sealed_evaluations_a_paired_interval(two):
    world, first, second = two
    y, old, new = scored()
    order = np.random.default_rng(0).permutation(200)
    for training, score, place in ((first, old, np.arange(200)), (second, new, order)):
        kept = predictions_artifact(place, y[place], score[place], threshold=0.5)
        result = EvalResult(metrics=(MetricValue("auc", 0.8, None, None, 200, "", True),), n=200, artifacts=(kept,))
        evaluate(world, training, result, f"e{training.record.version}")
    found = compare_evaluations(world.workspace, MODEL, "1", "2", n_boot=100)
    assert found.n == 200
    assert found.metrics[0].difference == pytest.approx(roc_auc_score(y, new) - roc_auc_score(y, old))
    assert found.metrics[0].verdict == "better"
    assert compare_evaluations(world.workspace, MODEL, "1", "2", n_boot=100) == found


def test_evaluations_on_different_roots_are_not_compared(two):
    world, first, second = two
    evaluate(world, first, {"auc": 0.75}, "e1")
    world.data["other"] = world.snapshot("other_holdout", "ef" * 32, record_count=10).seq
    overlap(world, "ef" * 32, "other", "other_holdout")
    ref = holdout(world).model_copy(update={"name": "other_holdout", "root": "ef" * 32, "seq": world.data["other"]})
    evaluate(world, second, {"auc": 0.8}, "e2", dataset=ref)
    with pytest.raises(EvaluationError, match="results on different data are not compared"):
        compare_evaluations(world.workspace, MODEL, "1", "2")
    with pytest.raises(EvaluationError, match="3 has no evaluation on record"):
        compare_evaluations(world.workspace, MODEL, "3", "2")


def test_predictions_name_each_record_once():
    with pytest.raises(EvaluationError, match="different ids"):
        predictions_artifact(["a", "a"], [0, 1], [0.1, 0.2])
