"""Sensitivity: the table is what scoring a changed copy gives; the data stay as they are; the seed decides."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.feature_extraction.text import HashingVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from cognify_dagster.evaluation import (
    Case,
    Edit,
    EvalResult,
    EvaluationError,
    Missing,
    Noise,
    Shift,
    Typos,
    perturbation_table,
)


@pytest.fixture(scope="module")
def tabular():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame({"income": rng.normal(50, 10, 600), "age": rng.normal(40, 9, 600)})
    y = (frame.income + rng.normal(0, 8, 600) < 45).astype(int)
    return LogisticRegression().fit(frame, y), frame, y


def test_a_row_is_what_scoring_the_changed_copy_gives(tabular):
    model, frame, y = tabular

    def predict(x):
        return model.predict_proba(x)[:, 1]

    before = frame.copy()
    table = perturbation_table(
        predict, frame, y, [Shift("income", -1.0), Noise("age", 0.5)], metrics=["auc", "accuracy"], threshold=0.5
    )
    pd.testing.assert_frame_equal(frame, before)
    assert [(row.feature, row.transformation, row.metric) for row in table] == [
        ("income", "shift", "auc"),
        ("income", "shift", "accuracy"),
        ("age", "noise", "auc"),
        ("age", "noise", "accuracy"),
    ]
    moved = frame.assign(income=frame.income - frame.income.to_numpy().std())
    shift = table[1]
    assert shift.before == pytest.approx(((predict(frame) >= 0.5) == y).mean())
    assert shift.after == pytest.approx(((predict(moved) >= 0.5) == y).mean())
    assert shift.change == pytest.approx(shift.after - shift.before)
    assert shift.flipped == pytest.approx(((predict(moved) >= 0.5) != (predict(frame) >= 0.5)).mean())
    assert table[0].after == pytest.approx(roc_auc_score(y, predict(moved)))
    assert abs(table[2].change) < abs(shift.change), "what the model does not use does little"
    assert shift.n == 600


def test_the_same_seed_gives_the_same_table_and_another_seed_another(tabular):
    _, frame, y = tabular
    changes = [Noise("income", 1.0), Missing("age", 0.2)]
    forest = HistGradientBoostingClassifier(max_iter=5, random_state=0).fit(frame, y)

    def table(seed):
        return perturbation_table(lambda x: forest.predict_proba(x)[:, 1], frame, y, changes, seed=seed)

    assert table(1) == table(1)
    assert table(1) != table(2)


def test_a_model_that_cannot_score_the_changed_input_is_a_finding(tabular):
    model, frame, y = tabular
    (row,) = perturbation_table(lambda x: model.predict_proba(x)[:, 1], frame, y, [Missing("income", 0.3)])
    assert (row.status, row.after) == ("error", None)
    assert "NaN" in row.note
    assert "sensitivity.income.missing.0.3.auc" not in EvalResult(metrics=(), n=600, perturbations=(row,)).flat()


def test_gates_name_the_metric_after_a_change(tabular):
    model, frame, y = tabular
    rows = perturbation_table(lambda x: model.predict_proba(x)[:, 1], frame, y, [Noise("income", 0.1)])
    flat = EvalResult(metrics=(), n=600, perturbations=rows).flat()
    assert flat["sensitivity.income.noise.0.1.auc"] == rows[0].after


def test_texts_are_changed_in_letters_only_as_much_as_asked():
    texts = ["Win a free prize now!", "see you at eight", "FREE entry 2026"] * 40
    spam = np.array([1, 0, 1] * 40)
    vectors = HashingVectorizer(n_features=512, lowercase=False)
    model = LogisticRegression().fit(vectors.transform(texts), spam)
    table = perturbation_table(
        lambda x: model.predict_proba(vectors.transform(x))[:, 1],
        texts,
        spam,
        [Typos(0.0), Typos(0.3), Case("upper"), Edit(lambda x, _rng: [t[::-1] for t in x], "reversed")],
        metrics=["accuracy"],
        threshold=0.5,
    )
    assert table[0].change == 0.0
    assert table[0].mean_shift == 0.0
    assert table[1].mean_shift > 0.0
    assert [row.transformation for row in table] == ["typos", "typos", "upper_case", "reversed"]


def test_typos_keep_digits_and_signs():
    rng = np.random.default_rng(1)
    (changed,) = Typos(1.0).apply(["abc 123 !?"], rng)
    assert changed != "abc 123 !?"
    assert [c for c in changed if not c.isalpha()] == list(" 123 !?")


@pytest.mark.parametrize(
    ("changes", "inputs", "said"),
    [
        ([], None, "name at least one change"),
        ([Noise("wealth", 1)], None, "no numeric column 'wealth'"),
        ([Typos(0.1)], None, "a list of texts"),
        ([Case("title")], ["a"] * 600, "expected 'upper' or 'lower'"),
    ],
)
def test_unusable_changes_are_named(tabular, changes, inputs, said):
    _, frame, y = tabular
    data = frame if inputs is None else inputs
    with pytest.raises(EvaluationError, match=said):
        perturbation_table(lambda _x: np.linspace(0, 1, 600), data, y, changes)


def test_a_model_that_fails_on_the_unchanged_data_has_no_table(tabular):
    _, frame, y = tabular
    with pytest.raises(EvaluationError, match="fails on the unchanged inputs: ZeroDivisionError"):
        perturbation_table(lambda _x: 1 / 0, frame, y, [Noise("income", 1)])


def test_matrices_and_mappings_work_like_tables(tabular):
    _, frame, y = tabular
    fitted = LogisticRegression().fit(frame.to_numpy(), y)

    def score(x):
        return fitted.predict_proba(x)[:, 1]

    (from_matrix,) = perturbation_table(score, frame.to_numpy(), y, [Shift(0, 1.0)])
    columns = {name: frame[name].to_numpy() for name in frame}
    (from_mapping,) = perturbation_table(
        lambda x: score(np.column_stack([x["income"], x["age"]])), columns, y, [Shift("income", 1.0)]
    )
    assert from_matrix.after == from_mapping.after
