"""Explanations: one file for many decisions, each found by its id, verified; a changed file opens for nobody."""

from __future__ import annotations

import json
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression

from cognify_dagster.evaluation import (
    EvalResult,
    EvaluationError,
    MetricValue,
    decision_explanations,
    find_explanation,
    global_explanation,
    linear_contributions,
)
from cognify_dagster.evaluation.explaining import _in_file
from cognify_dagster.evaluation.recording import record_results
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.records import Evaluation
from tests.evaluation.governed import CODE, holdout, prepare
from tests.governance.world import World

FEATURES = ["income", "age", "debt"]


def fitted(n: int = 300):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 1, (n, 3))
    y = (x @ [1.5, 0.0, -1.0] + rng.normal(0, 0.5, n) > 0).astype(int)
    return LogisticRegression().fit(x, y), x, y


def recorded(world: World, *files):
    training = prepare(world)
    result = EvalResult(metrics=(MetricValue("auc", 0.8, None, None, 200, "", True),), n=200).with_explanations(*files)
    seq, _ = record_results(
        world.workspace, training=training, dataset=holdout(world), results=result, evaluator="user:ben", code=CODE,
        run="e1",
    )  # fmt: skip
    found = world.workspace.read().find(Evaluation, seq)
    assert found is not None
    return found


def test_linear_contributions_add_up_to_the_output():
    model, x, _ = fitted()
    values, base = linear_contributions(model.coef_, x, x.mean(axis=0), intercept=float(model.intercept_[0]))
    assert base + values.sum(axis=1) == pytest.approx(model.decision_function(x))


def test_a_decision_is_found_by_its_id_with_what_moved_it(founded: World):
    model, x, _ = fitted()
    values, base = linear_contributions(model.coef_, x, x.mean(axis=0), intercept=float(model.intercept_[0]))
    output = model.decision_function(x)
    ids = [f"prediction-{row}" for row in range(len(x))]
    found = recorded(
        founded,
        decision_explanations(
            "linear_contributions", ids, values, features=FEATURES, base_values=base, outputs=output, inputs=x,
            output="log-odds",
        ),
    )  # fmt: skip
    assert len(found.record.explanations) == 1
    assert found.record.explanations[0].count == 300
    one = find_explanation(founded.workspace, found, "prediction-17")
    assert one.output_value == pytest.approx(output[17])
    assert one.base_value == pytest.approx(base)
    assert dict(one.contributions) == pytest.approx(dict(zip(FEATURES, values[17], strict=True)))
    sizes = [abs(value) for _, value in one.contributions]
    assert sizes == sorted(sizes, reverse=True)
    assert one.inputs == pytest.approx(dict(zip(FEATURES, x[17], strict=True)))
    assert one.item.sensitivity == "confidential"
    with pytest.raises(EvaluationError, match="explains 300 decisions, and none is 'prediction-300'"):
        find_explanation(founded.workspace, found, "prediction-300")


def test_ten_thousand_decisions_are_one_file(founded: World):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(10_000, 3)).round(4)
    found = recorded(founded, decision_explanations("shap", range(10_000), values, features=FEATURES))
    assert len(found.record.artefacts) == 1
    assert found.record.explanations[0].count == 10_000
    for row in (0, 9_999, 1234):
        one = find_explanation(founded.workspace, found, str(row))
        assert dict(one.contributions) == dict(zip(FEATURES, values[row], strict=True))


def test_a_changed_file_opens_for_nobody(founded: World):
    found = recorded(founded, decision_explanations("shap", ["a", "b"], [[0.25, 2, 3], [4, 5, 6]], features=FEATURES))
    item = found.record.explanations[0].item
    digest = item.digest.removeprefix("sha256:")
    folder = founded.folder / "project" / ".cognify" / "evidence"
    (blob,) = (folder / "sealed").rglob(f"*{digest[4:]}.cose")
    blob.chmod(0o600)
    content = blob.read_bytes()
    blob.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(EvidenceError):
        find_explanation(founded.workspace, found, "b")


def test_global_and_decisions_stand_side_by_side(founded: World):
    model, x, y = fitted()
    importance = permutation_importance(model, x, y, n_repeats=3, random_state=0)
    found = recorded(
        founded,
        global_explanation(
            "permutation_importance",
            importance.importances_mean,
            features=FEATURES,
            spread=importance.importances_std,
            output="loss of accuracy",
        ),
        decision_explanations("shap", ["a"], [[1, 2, 3]], features=FEATURES),
    )
    overall, single = found.record.explanations
    assert (overall.scope, overall.top[0].name, overall.count) == ("global", "income", 3)
    assert single.decision == "a"
    data = json.loads(founded.workspace.evidence.get(overall.item.digest))
    assert data["effects"][0]["effect"] == pytest.approx(importance.importances_mean.max())
    assert find_explanation(founded.workspace, found, "a", method="shap").contributions[0] == ("debt", 3)
    with pytest.raises(EvaluationError, match="none is 'a'"):
        find_explanation(founded.workspace, found, "a", method="lime")


def test_the_array_forms_of_shap_are_taken():
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(4, 3))
    classes = np.stack([-matrix, matrix], axis=-1)
    shap = SimpleNamespace(values=matrix, base_values=np.full(4, 0.5), data=np.ones((4, 3)), feature_names=FEATURES)
    both = SimpleNamespace(values=classes, base_values=np.tile([0.25, 0.5], (4, 1)), data=None, feature_names=FEATURES)
    first, artifact = decision_explanations("shap", "abcd", shap)
    row = _in_file(artifact.data, first, "c", 1)
    assert row is not None
    assert dict(row.contributions) == pytest.approx(dict(zip(FEATURES, matrix[2], strict=True)))
    assert (row.base_value, row.inputs) == (0.5, {"income": 1.0, "age": 1.0, "debt": 1.0})
    for values, extra in (
        (both, {"output_index": 1}),
        ([-matrix, matrix], {"output_index": 1, "features": FEATURES, "base_values": [0.25, 0.5]}),
    ):
        explanation, artifact = decision_explanations("shap", "abcd", values, **extra)
        other = _in_file(artifact.data, explanation, "c", 1)
        assert other is not None
        assert other.contributions == row.contributions
        assert other.base_value == 0.5
    with pytest.raises(EvaluationError, match="say which one by output_index"):
        decision_explanations("shap", "abcd", both)


@pytest.mark.parametrize(
    ("ids", "values", "more", "said"),
    [
        (["a", "a"], [[1.0], [2.0]], {}, "every id occurs once"),
        (["a"], [[1.0], [2.0]], {}, r"shape \(2, 1\) for 1 decisions"),
        (["a"], [[1.0]], {"features": ["x", "y"]}, "2 names for 1 features"),
        (["a"], [[1.0]], {"inputs": [[1, 2]]}, "inputs: expected 1 rows of 1 values"),
        (["a", "b"], [[1.0], [2.0]], {"base_values": [1, 2, 3]}, "base_values: expected one number or 2"),
        ([""], [[1.0]], {}, "1 to 300 characters"),
    ],
)
def test_what_does_not_fit_is_named(ids, values, more, said):
    with pytest.raises(EvaluationError, match=said):
        decision_explanations("shap", ids, values, **more)


def test_an_explanation_without_its_file_is_no_result():
    explanation, _ = global_explanation("coefficients", {"a": 1.0})
    with pytest.raises(ValueError, match="is not among the artifacts"):
        EvalResult(metrics=(), n=1, explanations=(explanation,))


@pytest.mark.parametrize("data", [b"", b"{}\n", b"not json\n", b'{"format":"other","index":{}}\n', b"\xff\xfe\n"])
def test_files_of_another_format_are_named(data):
    explanation, _ = decision_explanations("shap", ["a"], [[1.0]])
    with pytest.raises(EvaluationError, match="cannot be read"):
        _in_file(data, explanation, "a", 1)


@given(
    st.dictionaries(
        st.text(min_size=1, max_size=12), st.lists(st.floats(), min_size=2, max_size=2), max_size=8, min_size=1
    )
)
def test_every_decision_is_found_and_no_other(rows):
    explanation, artifact = decision_explanations("m", list(rows), list(rows.values()), features=["x", "y"])
    for decision, values in rows.items():
        found = _in_file(artifact.data, explanation, decision, 1)
        assert found is not None
        assert found.decision == decision
        assert {name: float(value) for name, value in found.contributions} == pytest.approx(
            dict(zip(["x", "y"], values, strict=True)), nan_ok=True
        )
    assert _in_file(artifact.data, explanation, "".join(rows) + "!" * 20, 1) is None
