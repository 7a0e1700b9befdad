"""Gates: what passes, what doesn't, and what a mistake in the file says."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cognify_dagster.evaluation import (
    INSUFFICIENT_DATA,
    Gate,
    GateSet,
    GateSetError,
    all_passed,
    evaluate_gates,
    load_gate_set,
    parse_gate_set,
)

GOOD = """
name: credit_gates
gates:
  - {id: auc, family: performance, metric: auc, op: ">=", threshold: 0.7, source: policy, reason: ranks}
  - id: impact
    family: fairness
    metric: fairness.SEX.adverse_impact_ratio
    op: ">="
    threshold: 0.8
    source: convention
    reason: a screen
    on_insufficient: pass_with_note
"""


def gate(**change) -> Gate:
    fields = {
        "id": "g",
        "family": "performance",
        "metric": "auc",
        "op": ">=",
        "threshold": 0.7,
        "source": "policy",
        "reason": "because",
    }
    return Gate(**{**fields, **change})


def outcome(results, **change):
    return evaluate_gates(GateSet(name="s", gates=(gate(**change),)), results)[0]


@pytest.mark.parametrize(
    ("op", "value", "status"),
    [
        (">=", 0.7, "pass"),
        (">=", 0.6999, "fail"),
        (">", 0.7, "fail"),
        (">", 0.71, "pass"),
        ("<=", 0.7, "pass"),
        ("<=", 0.71, "fail"),
        ("<", 0.7, "fail"),
        ("<", 0.69, "pass"),
    ],
)
def test_each_comparison(op, value, status):
    found = outcome({"auc": value}, op=op)
    assert found.status == status
    assert found.passed is (status == "pass")
    assert found.value == value
    assert "auc" in found.message


def test_a_metric_that_nobody_measured_is_missing_and_not_passed():
    for results in ({}, {"auc": None}, {"AUC": 0.9}):
        found = outcome(results, on_insufficient="pass_with_note")
        assert (found.status, found.passed, found.value) == ("missing", False, None)


def test_too_few_records_fail_unless_the_gate_itself_says_otherwise():
    results = {"auc": INSUFFICIENT_DATA}
    strict, lenient = outcome(results), outcome(results, on_insufficient="pass_with_note")
    assert (strict.status, strict.passed) == ("insufficient_data", False)
    assert (lenient.status, lenient.passed) == ("insufficient_data", True)
    assert "note" in lenient.message


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 10**400, "0.9", [0.9], {}])
@pytest.mark.parametrize("op", [">=", "<=", ">", "<"])
def test_what_is_no_finite_number_never_passes(value, op):
    found = outcome({"auc": value}, op=op, on_insufficient="pass_with_note")
    assert (found.status, found.passed) == ("fail", False)


def test_numpy_numbers_count():
    assert outcome({"auc": np.float32(0.75)}).passed
    assert outcome({"auc": np.int64(0)}, op="<=", threshold=0).passed


@given(st.floats(allow_nan=False, allow_infinity=False), st.floats(allow_nan=False, allow_infinity=False))
def test_a_value_passes_exactly_one_of_a_comparison_and_its_opposite(value, threshold):
    for op, opposite in ((">=", "<"), ("<=", ">")):
        one = outcome({"auc": value}, op=op, threshold=threshold)
        other = outcome({"auc": value}, op=opposite, threshold=threshold)
        assert one.passed != other.passed


def test_outcomes_stand_in_the_order_of_the_file_and_all_have_to_pass():
    gates = parse_gate_set(GOOD)
    outcomes = evaluate_gates(gates, {"auc": 0.8, "fairness.SEX.adverse_impact_ratio": 0.79})
    assert [(o.id, o.status) for o in outcomes] == [("auc", "pass"), ("impact", "fail")]
    assert not all_passed(outcomes)
    assert all_passed(outcomes[:1])
    assert not all_passed([])


def test_the_message_says_where_the_threshold_comes_from():
    outcomes = evaluate_gates(parse_gate_set(GOOD), {"auc": 0.8, "fairness.SEX.adverse_impact_ratio": 0.9})
    assert "convention" in outcomes[1].message


def test_a_gate_set_is_frozen_and_survives_the_way_through_json():
    gates = parse_gate_set(GOOD)
    with pytest.raises(ValueError):
        gates.gates[0].threshold = 0.1
    assert GateSet.model_validate(gates.to_facts()) == gates


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("threshold: 0.7", "treshold: 0.7", r"gates\[0\] \(auc\).treshold: is not a known field"),
        ("threshold: 0.7, ", "", r"gates\[0\] \(auc\).threshold: is required"),
        ("threshold: 0.7", "threshold: .nan", r"threshold: .*finite"),
        ("threshold: 0.7", "threshold: .inf", r"threshold: .*finite"),
        ("threshold: 0.7", "threshold: 1" + "0" * 400, r"threshold: .*finite"),
        ("threshold: 0.7", "threshold: true", r"threshold: .*finite"),
        ("threshold: 0.7", "threshold: high", r"threshold: .*finite"),
        ('op: ">=", threshold: 0.7', 'op: "=>", threshold: 0.7', r"gates\[0\] \(auc\).op"),
        ("family: fairness", "family: fair", r"gates\[1\] \(impact\).family"),
        ("id: impact", "id: auc", "'auc' is used twice"),
        ("source: convention", "source: regulator", r"gates\[1\] \(impact\).source"),
        ("reason: a screen", "reason: ' '", "say why"),
        ("    threshold: 0.8", "    threshold: 0.8\n    threshold: 0.1", "'threshold' is repeated"),
        ("name: credit_gates", "nam: credit_gates", "nam: is not a known field"),
        ("name: credit_gates", "name: [", "not readable as YAML"),
        ("reason: a screen", "reason: !!python/object/apply:os.system ['true']", "not readable as YAML"),
        ("name: credit_gates", "name: &x credit_gates\nother: *x", "aliases"),
    ],
)
def test_a_mistake_in_the_file_is_named_with_file_and_field(tmp_path, old, new, said):
    assert old in GOOD
    file = tmp_path / "gates.yaml"
    file.write_text(GOOD.replace(old, new, 1))
    with pytest.raises(GateSetError, match=said) as caught:
        load_gate_set(file)
    assert str(file) in str(caught.value)


@pytest.mark.parametrize("text", ["", "- a", "name: x\ngates: []", "name: x\ngates: [3]", "? [a]\n: b", "[" * 5000])
def test_other_documents_are_refused(text):
    with pytest.raises(GateSetError):
        parse_gate_set(text)


def test_files_that_are_no_gate_files(tmp_path):
    with pytest.raises(GateSetError, match="can't be read"):
        load_gate_set(tmp_path / "none.yaml")
    file = tmp_path / "big.yaml"
    file.write_bytes(b"#" * 1_000_001)
    with pytest.raises(GateSetError, match="larger than"):
        load_gate_set(file)
    file.write_bytes(b"name: \xff")
    with pytest.raises(GateSetError, match="UTF-8"):
        load_gate_set(file)
