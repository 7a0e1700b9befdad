"""German Credit (UCI 144): the numbers by group are those of fairlearn. The same against AIF360 stands in tests/adapters/fairness."""

from __future__ import annotations

import pytest
from fairlearn.metrics import (
    MetricFrame,
    demographic_parity_difference,
    demographic_parity_ratio,
    equal_opportunity_difference,
    equalized_odds_difference,
)
from sklearn.metrics import precision_score, recall_score

from tests.evaluation.german import ATTRIBUTES, german_credit

CREDIT = german_credit()


@pytest.mark.parametrize("attribute", ATTRIBUTES)
def test_disparities_equal_fairlearn_on_german_credit(attribute: str):
    result = CREDIT.fairness(attribute)
    shown = [group.group for group in result.groups if group.status == "computed"]
    rows = CREDIT.frame[attribute].isin(shown)
    same = {
        "y_true": CREDIT.good[rows],
        "y_pred": CREDIT.granted[rows],
        "sensitive_features": CREDIT.frame[attribute][rows],
    }
    assert result["demographic_parity_difference"].value == pytest.approx(demographic_parity_difference(**same))
    assert result["demographic_parity_ratio"].value == pytest.approx(demographic_parity_ratio(**same))
    assert result["adverse_impact_ratio"].value == pytest.approx(demographic_parity_ratio(**same))
    if len(result["equal_opportunity_difference"].groups) == len(shown):
        assert result["equal_opportunity_difference"].value == pytest.approx(equal_opportunity_difference(**same))
    precision = MetricFrame(metrics=precision_score, **same)
    assert result["predictive_parity_difference"].value == pytest.approx(precision.difference())
    recall = MetricFrame(metrics=recall_score, **same).by_group
    for group in result.groups:
        if group.tpr is not None:
            assert group.tpr.value == pytest.approx(recall[group.group])
            assert group.tpr.ci_low < group.tpr.value < group.tpr.ci_high


def test_equalized_odds_equals_fairlearn_where_every_cell_is_large_enough():
    result = CREDIT.fairness("age_25")
    same = {"y_true": CREDIT.good, "y_pred": CREDIT.granted, "sensitive_features": CREDIT.frame["age_25"]}
    assert result["equalized_odds_difference"].value == pytest.approx(equalized_odds_difference(**same))


def test_cells_that_are_too_small_are_kept_out_and_said():
    result = CREDIT.fairness("foreign_worker")
    few = next(group for group in result.groups if group.group == "A202")
    assert few.n == 37
    assert few.fpr is not None
    assert few.fpr.status == "insufficient_data", "four bad outcomes are no rate"
    assert result["equalized_odds_difference"].status == "insufficient_data"
    assert any("A202: fpr rests on 4 records" in note for note in result.notes)


def test_where_an_attribute_comes_from_is_part_of_the_result():
    assert CREDIT.fairness("age_25").source == "column of the file; age as stated by the applicant"
