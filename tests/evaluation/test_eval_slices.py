"""Slices: each number is what counting on that slice alone gives; small cells are never shown and never the worst."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import (
    mean_absolute_error,
    mean_squared_error,
    precision_score,
    r2_score,
    recall_score,
    roc_auc_score,
)

from cognify_dagster.evaluation import EvalResult, EvaluationError, Scorer, evaluate_slices, wilson_interval
from cognify_dagster.evaluation.scoring import SCORERS, auc
from cognify_dagster.records import worst_slice


def hospital(n: int = 900, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    site = rng.choice(["Aarhus", "Bergen", "Cork", "Delft"], n, p=[0.5, 0.3, 0.18, 0.02])
    y = (rng.random(n) < 0.3).astype(int)
    noise = np.where(site == "Cork", 1.2, 0.4)
    score = 1 / (1 + np.exp(-(y * 2.0 - 1.0 + rng.normal(0, 1, n) * noise * 2)))
    return pd.DataFrame({"site": site, "sex": rng.choice(["f", "m"], n), "y": y, "score": score})


def cut(frame, **change):
    options = {
        "by": "site",
        "label": "y",
        "score": "score",
        "metrics": ["auc", "recall"],
        "threshold": 0.5,
        "n_boot": 40,
    }
    return evaluate_slices(frame, **{**options, **change})


def test_each_number_is_what_an_oracle_gives_on_that_slice_alone():
    frame = hospital()
    for one in cut(frame, metrics=["auc", "recall", "precision", "accuracy", "brier"]):
        part = frame[frame.site == one.value]
        assert one.n == len(part)
        if one.value == "Delft":
            continue
        decision = (part.score >= 0.5).astype(int)
        got = {m.name: m for m in one.metrics}
        assert got["auc"].value == pytest.approx(roc_auc_score(part.y, part.score))
        assert got["recall"].value == pytest.approx(recall_score(part.y, decision))
        assert got["precision"].value == pytest.approx(precision_score(part.y, decision))
        assert got["accuracy"].value == pytest.approx((decision == part.y).mean())
        assert got["brier"].value == pytest.approx(((part.score - part.y) ** 2).mean())
        hits, positives = int((decision[part.y == 1] == 1).sum()), int((part.y == 1).sum())
        assert got["recall"].n == positives
        assert (got["recall"].ci_low, got["recall"].ci_high) == pytest.approx(wilson_interval(hits, positives))
        assert got["auc"].ci_low < got["auc"].value < got["auc"].ci_high


def test_metrics_of_amounts_equal_sklearn():
    rng = np.random.default_rng(4)
    y, s = rng.normal(10, 3, 200), rng.normal(10, 3, 200)
    got = {name: SCORERS[name].function(y, s) for name in ("mae", "rmse", "r2")}
    assert got["mae"] == pytest.approx(mean_absolute_error(y, s))
    assert got["rmse"] == pytest.approx(mean_squared_error(y, s) ** 0.5)
    assert got["r2"] == pytest.approx(r2_score(y, s))


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 5)), min_size=2, max_size=60))
def test_auc_equals_sklearn_on_any_sample_with_ties(rows):
    labels, scores = (np.array(part, dtype=float) for part in zip(*rows, strict=True))
    if len(set(labels)) < 2:
        assert np.isnan(auc(labels, scores))
    else:
        assert auc(labels, scores) == pytest.approx(roc_auc_score(labels, scores))


def test_a_small_site_is_listed_by_its_size_only_and_is_never_the_worst():
    slices = cut(hospital(), kind="site")
    delft = next(one for one in slices if one.value == "Delft")
    assert (delft.status, delft.metrics) == ("insufficient_data", ())
    assert delft.n == (hospital().site == "Delft").sum()
    worst = worst_slice(slices)
    assert worst is not None
    assert worst.value == "Cork"
    flat = EvalResult(metrics=(), n=900, slices=slices).flat()
    assert flat["slices.site.insufficient"] == 1
    assert flat["slices.site.worst.auc"] == min(m.value for s in slices for m in s.metrics if m.name == "auc")
    assert flat["slices.site.worst.auc.ci_low"] == worst.metric("auc").ci_low


def test_a_share_on_too_few_records_has_no_value_though_its_slice_has():
    frame = pd.DataFrame({"site": ["A"] * 200, "y": [1] * 10 + [0] * 190, "score": [0.9] * 200})
    (one,) = cut(frame, metrics=["recall", "accuracy"])
    recall, accuracy = one.metrics
    assert (recall.value, recall.n, recall.status) == (None, 10, "insufficient_data")
    assert accuracy.status == "computed"
    flat = EvalResult(metrics=(), n=200, slices=(one,)).flat()
    assert flat["slices.site.A.recall"] == "insufficient_data"
    assert flat["slices.site.worst.recall"] == "insufficient_data"


def test_several_cuts_and_combinations():
    slices = cut(hospital(), by=["sex", ("site", "sex")])
    assert {one.attribute for one in slices} == {"sex", "site × sex"}
    crossed = [one for one in slices if one.attribute == "site × sex"]
    assert len(crossed) == 8
    assert sum(one.n for one in crossed) == 900


def test_records_whose_value_is_not_known_are_a_slice_of_their_own():
    frame = hospital()
    frame.loc[:49, "site"] = None
    slices = cut(frame)
    assert next(one for one in slices if one.value == "(not known)").n == 50
    assert sum(one.n for one in slices) == 900


def test_the_worst_knows_the_direction():
    frame = hospital()
    worst = worst_slice(cut(frame, metrics=["brier"]), "brier")
    by_site = ((frame.score - frame.y) ** 2).groupby(frame.site).mean().drop("Delft")
    assert worst is not None
    assert worst.value == by_site.idxmax()
    assert worst_slice(cut(frame, metrics={"own": lambda y, s: float(s.mean())})) is None


def test_any_table_will_do_and_the_seed_decides():
    frame = hospital()
    first = cut(frame)
    assert cut(pa.Table.from_pandas(frame)) == first
    assert cut({name: list(frame[name]) for name in frame}) == first
    assert cut(frame, seed=1) != first


def test_own_metrics_get_bootstrap_intervals():
    own = Scorer("spread", lambda _y, s: float(s.std()), higher_is_better=False)
    one = cut(hospital(), metrics=[own])[0]
    assert one.metrics[0].ci_low < one.metrics[0].value < one.metrics[0].ci_high


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"by": "hospital"}, "no column 'hospital'"),
        ({"label": "late"}, "no column 'late'"),
        ({"score": "site"}, "site: expected numbers"),
        ({"metrics": ["acuracy"]}, "'acuracy' is unknown"),
        ({"metrics": []}, "name at least one"),
        ({"metrics": ["auc", "auc"]}, "given twice"),
        ({"min_cell": 0}, "min_cell"),
        ({"n_boot": 5}, "n_boot"),
        ({"by": "score"}, "band them first"),
        ({"label": "score"}, "expected only 0 and 1"),
    ],
)
def test_unusable_input_is_named(change, said):
    with pytest.raises(EvaluationError, match=said):
        cut(hospital(), **change)
