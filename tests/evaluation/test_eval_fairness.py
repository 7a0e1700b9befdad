"""Group fairness: fairlearn is the oracle, small cells are kept out, the favourable outcome is explicit."""

from __future__ import annotations

import math
import sys

import numpy as np
import pandas as pd
import pytest
from fairlearn.metrics import (
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import precision_score, roc_auc_score

from cognify_dagster.evaluation import EvaluationError, evaluate_fairness, wilson_interval


def people(n: int = 1200, seed: int = 5):
    rng = np.random.default_rng(seed)
    groups = rng.choice(["a", "b", "c"], n, p=[0.5, 0.3, 0.2])
    score = np.clip(rng.normal(0.6, 0.2, n) - 0.1 * (groups == "b"), 0, 1)
    good = (rng.random(n) < score).astype(int)
    return groups, good, (score > 0.55).astype(int), score


def measure(groups, good, granted, score=None, **settings_):
    options = {"favourable": "credit granted", "n_boot": 200, "auc_n_boot": 50, **settings_}
    return evaluate_fairness(
        "GROUP", list(groups), good_outcome=good, favourable_decision=granted, score=score, **options
    )


def test_disparities_equal_fairlearn():
    groups, good, granted, score = people()
    result = measure(groups, good, granted, score)
    same = {"y_true": good, "y_pred": granted, "sensitive_features": groups}
    assert result["demographic_parity_difference"].value == pytest.approx(demographic_parity_difference(**same))
    assert result["demographic_parity_ratio"].value == pytest.approx(demographic_parity_ratio(**same))
    assert result["equalized_odds_difference"].value == pytest.approx(equalized_odds_difference(**same))
    assert result["equal_opportunity_difference"].value == pytest.approx(equal_opportunity_difference(**same))
    ppv = [precision_score(good[groups == g], granted[groups == g]) for g in "abc"]
    assert result["predictive_parity_difference"].value == pytest.approx(max(ppv) - min(ppv))
    rates = [granted[groups == g].mean() for g in "abc"]
    impact = result["adverse_impact_ratio"]
    assert impact.value == pytest.approx(min(rates) / max(rates))
    assert impact.lowest_group == "abc"[int(np.argmin(rates))]
    assert impact.highest_group == "abc"[int(np.argmax(rates))]


def test_the_table_by_group_is_what_counting_gives():
    groups, good, granted, score = people()
    for row in measure(groups, good, granted, score).groups:
        mask = groups == row.group
        assert row.n == mask.sum()
        assert row.positives == good[mask].sum()
        assert row.selection_rate.value == pytest.approx(granted[mask].mean())
        assert row.tpr.value == pytest.approx(granted[mask & (good == 1)].mean())
        assert row.tpr.n == (mask & (good == 1)).sum()
        assert row.fpr.value == pytest.approx(granted[mask & (good == 0)].mean())
        assert row.ppv.value == pytest.approx(good[mask & (granted == 1)].mean())
        assert row.auc == pytest.approx(roc_auc_score(good[mask], score[mask]))
        assert row.auc_ci_low < row.auc < row.auc_ci_high
        assert row.selection_rate.ci_low < row.selection_rate.value < row.selection_rate.ci_high


def test_intervals_of_disparities_equal_a_plain_bootstrap_of_rows_closely():
    groups, good, granted, _ = people(3000)
    impact = measure(groups, good, granted, n_boot=4000)["adverse_impact_ratio"]
    rng = np.random.default_rng(11)
    by_group = [granted[groups == g] for g in "abc"]
    replicates = []
    for _ in range(4000):
        rates = [rng.choice(values, values.size).mean() for values in by_group]
        replicates.append(min(rates) / max(rates))
    low, high = np.quantile(replicates, [0.025, 0.975])
    assert impact.ci_low == pytest.approx(low, abs=0.01)
    assert impact.ci_high == pytest.approx(high, abs=0.01)


def test_a_small_group_is_shown_by_its_size_only_and_enters_no_comparison():
    groups, good, granted, score = people()
    small = np.array(["tiny"] * 29)
    with_small = measure(
        np.concatenate([groups, small]),
        np.concatenate([good, np.ones(29, int)]),
        np.concatenate([granted, np.zeros(29, int)]),  # nobody granted: it would dominate every disparity
        np.concatenate([score, np.full(29, 0.1)]),
    )
    tiny = with_small.groups[-1]
    assert (tiny.group, tiny.n, tiny.status) == ("tiny", 29, "insufficient_data")
    assert tiny.positives is None
    assert tiny.selection_rate is None
    assert tiny.auc is None
    assert with_small.excluded_groups == ("tiny",)
    assert any("tiny" in note and "29" in note for note in with_small.notes)
    without = measure(groups, good, granted, score)
    for before, after in zip(without.disparities, with_small.disparities, strict=True):
        assert after.value == before.value
        assert "tiny" not in after.groups


def test_thirty_records_are_enough():
    groups, good, granted, _ = people()
    result = measure(
        np.concatenate([groups, ["thirty"] * 30]),
        np.concatenate([good, np.ones(30, int)]),
        np.concatenate([granted, np.zeros(30, int)]),
    )
    assert result.excluded_groups == ()
    assert result["adverse_impact_ratio"].value == 0.0
    assert result["adverse_impact_ratio"].lowest_group == "thirty"


def test_a_rate_on_too_few_records_stays_out_of_its_own_comparisons_only():
    groups, good, granted, _ = people()
    n = 40
    result = measure(
        np.concatenate([groups, ["few_bad"] * n]),
        np.concatenate([good, np.ones(n - 2, int), np.zeros(2, int)]),
        np.concatenate([granted, np.ones(n, int)]),
    )
    row = result.groups[-1]
    assert row.status == "computed"
    assert row.fpr.status == "insufficient_data"
    assert "few_bad" in result["adverse_impact_ratio"].groups
    assert any("few_bad" in note and "fpr" in note for note in result.notes)
    without = measure(groups, good, granted)
    tpr = [row.tpr.value for row in result.groups]
    fpr = [row.fpr.value for row in without.groups]
    worst = max(max(tpr) - min(tpr), max(fpr) - min(fpr))
    assert result["equalized_odds_difference"].value == pytest.approx(worst)


def test_one_usable_group_is_insufficient_data_and_never_equality():
    result = measure(["a"] * 100 + ["b"] * 5, [0, 1] * 52 + [1], [1, 1, 0] * 35)
    assert all(d.status == "insufficient_data" and d.value is None for d in result.disparities)


def test_a_decision_nobody_got_gives_no_ratio():
    result = measure(["a", "b"] * 100, [0, 1, 1, 0] * 50, [0] * 200)
    assert result["adverse_impact_ratio"].status == "insufficient_data"
    assert result["adverse_impact_ratio"].value is None
    assert result["demographic_parity_difference"].value == 0.0


def test_unknown_groups_are_counted_and_in_no_group():
    groups, good, granted, _ = people()
    mixed = [None, float("nan"), pd.NA, *groups[3:]]
    result = measure(mixed, good, granted)
    assert result.missing == 3
    assert sum(row.n for row in result.groups) == len(groups) - 3
    assert any("3 records have no known group" in note for note in result.notes)


def test_everything_is_labelled_a_screen_and_names_the_favourable_decision():
    groups, good, granted, _ = people()
    result = measure(groups, good, granted)
    assert result.purpose == "screen"
    assert result.favourable == "credit granted"


def test_groups_stand_in_the_order_asked_for():
    groups, good, granted, _ = people()
    assert [row.group for row in measure(groups, good, granted, group_order=("c", "a")).groups] == ["c", "a", "b"]


def test_turning_round_what_is_favourable_changes_the_numbers():
    groups, good, granted, _ = people()
    one, other = measure(groups, good, granted), measure(groups, 1 - good, 1 - granted)
    assert one["adverse_impact_ratio"].value != pytest.approx(other["adverse_impact_ratio"].value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"favourable": " "}, "favourable"),
        ({"min_cell": 0}, "min_cell"),
        ({"n_boot": 1}, "n_boot"),
    ],
)
def test_unusable_settings_are_named(change, named):
    groups, good, granted, _ = people(200)
    with pytest.raises(EvaluationError, match=named):
        measure(groups, good, granted, **change)


def test_columns_of_different_length_are_refused():
    with pytest.raises(EvaluationError, match=r"groups \(GROUP\)"):
        measure(["a", "b"], [0, 1, 1], [0, 1, 1])


def test_a_column_of_values_instead_of_groups_is_refused():
    with pytest.raises(EvaluationError, match="band the values first"):
        measure([str(i) for i in range(500)], [0, 1] * 250, [0, 1] * 250)


def test_without_fairlearn_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "fairlearn.metrics", None)
    with pytest.raises(EvaluationError, match=r"cognify-dagster\[fairness\]"):
        measure(["a", "b"], [0, 1], [0, 1])


def test_wilson_equals_the_published_example():
    # Newcombe 1998, table I: 81 of 263 gives 0.2553 to 0.3662; 0 of 20 gives 0 to 0.1611.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 10_000), st.floats(0, 1))
def test_wilson_holds_the_share_and_stays_in_bounds(n, part):
    successes = round(n * part)
    low, high = wilson_interval(successes, n)
    assert 0.0 <= low <= successes / n <= high <= 1.0


def test_wilson_of_nothing_is_not_a_number():
    assert all(math.isnan(end) for end in wilson_interval(0, 0))
    with pytest.raises(EvaluationError):
        wilson_interval(3, 2)
