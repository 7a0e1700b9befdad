"""AIF360 as the second oracle: on German Credit its numbers are ours, for each attribute with two groups."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pandas as pd
import pytest

from tests.evaluation.german import german_credit

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # AIF360 warns about each optional library that it does not find
    from aif360.datasets import BinaryLabelDataset
    from aif360.metrics import ClassificationMetric

CREDIT = german_credit()
PAIRS = [("age_25", "over 25", "up to 25"), ("personal_status_and_sex", "A93", "A92")]


def oracle(attribute: str, privileged: str, other: str) -> tuple[Any, Any]:
    """AIF360's metric and our result over the records of two groups."""
    rows = CREDIT.frame[attribute].isin([privileged, other]).to_numpy()
    code = (CREDIT.frame[attribute][rows] == privileged).astype(float).to_numpy()

    def dataset(labels: Any) -> BinaryLabelDataset:
        frame = pd.DataFrame({"group": code, "label": labels[rows].astype(float)})
        return BinaryLabelDataset(
            favorable_label=1.0,
            unfavorable_label=0.0,
            df=frame,
            label_names=["label"],
            protected_attribute_names=["group"],
        )

    metric = ClassificationMetric(
        dataset(CREDIT.good),
        dataset(CREDIT.granted),
        unprivileged_groups=[{"group": 0.0}],
        privileged_groups=[{"group": 1.0}],
    )
    sub = type(CREDIT)(
        CREDIT.frame[rows].reset_index(drop=True), CREDIT.good[rows], CREDIT.granted[rows], CREDIT.score[rows]
    )
    return metric, sub.fairness(attribute)


@pytest.mark.parametrize(("attribute", "privileged", "other"), PAIRS)
def test_disparities_equal_aif360_on_german_credit(attribute: str, privileged: str, other: str) -> None:
    metric, ours = oracle(attribute, privileged, other)
    assert ours["demographic_parity_difference"].value == pytest.approx(abs(metric.statistical_parity_difference()))
    impact = metric.disparate_impact()
    assert ours["adverse_impact_ratio"].value == pytest.approx(min(impact, 1 / impact))
    assert ours["demographic_parity_ratio"].value == pytest.approx(min(impact, 1 / impact))
    assert ours["equal_opportunity_difference"].value == pytest.approx(abs(metric.equal_opportunity_difference()))
    odds = max(abs(metric.true_positive_rate_difference()), abs(metric.false_positive_rate_difference()))
    assert ours["equalized_odds_difference"].value == pytest.approx(odds)
    parity = metric.positive_predictive_value(True) - metric.positive_predictive_value(False)
    assert ours["predictive_parity_difference"].value == pytest.approx(abs(parity))


@pytest.mark.parametrize(("attribute", "privileged", "other"), PAIRS)
def test_the_rates_of_each_group_equal_aif360(attribute: str, privileged: str, other: str) -> None:
    metric, ours = oracle(attribute, privileged, other)
    for name, flag in ((privileged, True), (other, False)):
        (group,) = [item for item in ours.groups if item.group == name]
        assert group.n == metric.num_instances(privileged=flag)
        assert group.selection_rate.value == pytest.approx(metric.selection_rate(privileged=flag))
        assert group.tpr.value == pytest.approx(metric.true_positive_rate(privileged=flag))
        assert group.fpr.value == pytest.approx(metric.false_positive_rate(privileged=flag))
        assert group.ppv.value == pytest.approx(metric.positive_predictive_value(privileged=flag))


def test_the_oracle_would_notice_a_swapped_favourable_outcome() -> None:
    metric, _ = oracle(*PAIRS[0])
    turned = type(CREDIT)(CREDIT.frame, 1 - CREDIT.good, 1 - CREDIT.granted, CREDIT.score).fairness("age_25")
    assert turned["adverse_impact_ratio"].value != pytest.approx(float(np.min([metric.disparate_impact(), 1.0])))
