"""Recording results: which data, which bytes, which thresholds, who measured; what is undeclared never passes."""

from __future__ import annotations

import pytest

from cognify_dagster.evaluation import EvalResult, EvaluationError, MetricValue, evaluate_slices
from cognify_dagster.evaluation.recording import family_status, record_results
from cognify_dagster.governance import adopt_gate_set
from cognify_dagster.ledger import IdempotencyConflict
from cognify_dagster.records import CodeRef, DatasetRef, Evaluation, GateResult, MetricResult, TrainingRun, read_record
from tests.evaluation.governed import CODE, HOLDOUT, holdout, prepare, rule, train
from tests.governance.world import MODEL, World

FAIR = rule("fairness.SEX.adverse_impact_ratio", ">=", 0.8, "fairness")
GATES = (rule("auc", ">=", 0.7), FAIR, rule("data.overlap_records", "<=", 0, "data_quality"))


def record(world: World, training, results, **more):
    options = {"dataset": holdout(world), "evaluator": "user:ben", "code": CODE, "run": "eval-1", **more}
    seq, outcomes = record_results(world.workspace, training=training, results=results, **options)
    found = world.workspace.read().find(Evaluation, seq)
    assert found is not None
    return found, outcomes


def gate(world: World, evaluation, family: str) -> GateResult:
    (found,) = [
        item.record
        for item in world.workspace.read().all(GateResult, world.subject("1"))
        if item.record.family == family and evaluation.seq in item.record.based_on
    ]
    return found


def test_a_mapping_of_numbers_becomes_a_judged_evaluation(founded: World):
    training = prepare(founded, GATES)
    ratio = {"fairness.SEX.adverse_impact_ratio": 0.9}
    found, outcomes = record(
        founded, training, {"auc": {"value": 0.78, "ci_low": 0.75, "ci_high": 0.81, "n": 150}, **ratio},
        protected_attributes=["SEX"],
    )  # fmt: skip
    entry = found.record
    assert entry.status == "passed"
    assert [item.status for item in outcomes] == ["pass", "pass", "pass"]
    assert entry.metrics[0] == MetricResult(name="auc", value=0.78, ci_low=0.75, ci_high=0.81, n=150)
    assert entry.metrics[1].ci_low is None
    assert entry.metrics[1].n == 200, "the snapshot's number of records"
    assert entry.dataset.root == HOLDOUT
    assert entry.training_seq == training.seq
    assert entry.model_digest == training.record.model_file.digest
    assert (entry.evaluator, entry.code) == ("user:ben", CODE)
    assert {gate(founded, found, family).status for family in ("performance", "fairness", "data_quality")} == {"pass"}


def test_the_code_of_another_measuring_tool_is_recorded_beside_the_evaluations(founded: World):
    training = prepare(founded)
    tool = CodeRef(vcs="package", commit="lm-eval==0.4.13")
    found, _ = record(founded, training, {"auc": 0.8}, evaluator_code=tool)
    assert found.record.evaluator_code == tool
    again, _ = record(founded, training, {"auc": 0.8}, evaluator_code=CODE, run="eval-2")
    assert again.record.evaluator_code is None, "the same code is not said twice"


@pytest.mark.parametrize("change", [{"seq": 0}, {"root": "ef" * 32}, {"name": "other"}, {"seq": 10_000}])
def test_data_that_nobody_snapshotted_are_refused(founded: World, change):
    training = prepare(founded)
    with pytest.raises(EvaluationError, match="is no snapshot of it"):
        record(founded, training, {"auc": 0.8}, dataset=holdout(founded).model_copy(update=change))
    assert founded.workspace.read().all(Evaluation) == []


def test_data_never_compared_with_the_training_data_are_refused(founded: World):
    training = prepare(founded, compared=False)
    with pytest.raises(EvaluationError, match="never compared with the training data"):
        record(founded, training, {"auc": 0.8})


def test_thresholds_adopted_after_training_do_not_count(founded: World):
    training = prepare(founded)
    adopt_gate_set(founded.workspace, "late", MODEL, [rule("auc", ">=", 0.1)], founded.key("vera"))
    with pytest.raises(EvaluationError, match="no gate set 'late' was adopted"):
        record(founded, training, {"auc": 0.8}, gate_set="late")
    assert record(founded, training, {"auc": 0.8})[0].record.gate_set == "credit_gates", (
        "the late one is not in question"
    )


def test_a_run_that_claims_to_have_started_later_is_judged_by_what_was_adopted_before_its_version_was_opened(
    founded: World,
):
    prepare(founded)
    founded.train("2", started_after_seq=10**6)
    adopt_gate_set(founded.workspace, "credit_gates", MODEL, [rule("auc", ">=", 0.1)], founded.key("vera"))
    training = founded.workspace.read().latest(TrainingRun, f"model/{MODEL}@2")
    found, _ = record(founded, training, {"auc": 0.5})
    assert (found.record.gate_set_seq, found.record.status) == (founded.data["gates"], "failed")
    adopt_gate_set(founded.workspace, "late", MODEL, [rule("auc", ">=", 0.1)], founded.key("vera"))
    with pytest.raises(EvaluationError, match="no gate set 'late' was adopted"):
        record(founded, training, {"auc": 0.5}, gate_set="late", run="eval-2")


def test_which_of_two_gate_sets_judges_has_to_be_said(founded: World):
    prepare(founded)
    adopt_gate_set(founded.workspace, "other", MODEL, [rule("auc", ">=", 0.9)], founded.key("vera"))
    training = train(founded, "2")
    with pytest.raises(EvaluationError, match="say which one judges: credit_gates, other"):
        record(founded, training, {"auc": 0.8})
    assert record(founded, training, {"auc": 0.8}, gate_set="other")[0].record.status == "failed"


def test_the_same_run_is_recorded_once_and_never_with_other_results(founded: World):
    training = prepare(founded)
    first, _ = record(founded, training, {"auc": 0.8})
    again, _ = record(founded, training, {"auc": 0.8})
    assert again.seq == first.seq
    with pytest.raises(IdempotencyConflict):
        record(founded, training, {"auc": 0.9})
    assert record(founded, training, {"auc": 0.9}, run="eval-2")[0].seq > first.seq


def test_a_breach_of_a_fairness_threshold_fails_the_evaluation(founded: World):
    training = prepare(founded, GATES)
    found, _ = record(
        founded, training, {"auc": 0.8, "fairness.SEX.adverse_impact_ratio": 0.79}, protected_attributes=["SEX"]
    )
    assert found.record.status == "failed"
    assert gate(founded, found, "fairness").status == "fail"
    assert gate(founded, found, "performance").status == "pass"


def test_without_declared_attributes_the_fairness_gate_fails_whatever_was_measured(founded: World):
    training = prepare(founded, GATES)
    found, _ = record(founded, training, {"auc": 0.8, "fairness.SEX.adverse_impact_ratio": 1.0})
    assert [item.passed for item in found.record.outcomes] == [True] * 3
    result = gate(founded, found, "fairness")
    assert result.status == "fail"
    assert "no protected attribute is declared" in result.detail["reason"]
    passed, said = family_status(founded.workspace.read(), found, "fairness")
    assert not passed, "the asset check says what the gate result says"
    assert "no protected attribute is declared" in said
    founded.package("1")
    assert "gate_fairness" in founded.codes("1"), "and the release of a high-tier model is blocked"


def test_an_attribute_that_the_model_declares_has_to_be_evaluated(founded: World):
    training = prepare(founded, GATES, protected=("SEX", "AGE_BAND"))
    results = {"auc": 0.8, "fairness.SEX.adverse_impact_ratio": 1.0}
    found, _ = record(founded, training, results, protected_attributes=["SEX"])
    assert gate(founded, found, "fairness").status == "fail"
    assert "not evaluated: AGE_BAND" in gate(founded, found, "fairness").detail["reason"]
    found, _ = record(founded, training, results, protected_attributes=["SEX", "AGE_BAND"], run="eval-2")
    assert gate(founded, found, "fairness").status == "pass"


def test_an_interval_that_nobody_made_is_missing_for_a_gate(founded: World):
    training = prepare(founded, (rule("auc.ci_low", ">=", 0.6, on_insufficient="pass_with_note"),))
    found, (outcome, *_) = record(founded, training, {"auc": 0.9})
    assert (outcome.status, outcome.passed) == ("missing", False)
    assert found.record.status == "failed"


def test_slices_are_recorded_judged_and_the_worst_site_is_named(founded: World):
    training = prepare(founded, (rule("slices.SITE.worst.accuracy", ">=", 0.7),))
    frame = {
        "SITE": ["North"] * 50 + ["South"] * 40 + ["West"] * 5,
        "y": [1, 0] * 47 + [1],
        "p": [1, 0] * 25 + [1] * 45,
    }
    slices = evaluate_slices(frame, by="SITE", label="y", score="p", metrics=["accuracy"], kind="site", n_boot=20)
    found, (outcome, *_) = record(founded, training, {"auc": 0.8, "slices": slices})
    assert [(s.value, s.n, s.status) for s in found.record.sites] == [
        ("North", 50, "computed"),
        ("South", 40, "computed"),
        ("West", 5, "insufficient_data"),
    ]
    assert found.record.worst_site is not None
    assert found.record.worst_site.value == "South"
    assert (outcome.value, outcome.status) == (0.5, "fail")


def test_metrics_without_an_objective_are_listed(founded: World):
    training = prepare(founded)
    known = {"auc": "Ranks risky above safe"}
    found, _ = record(founded, training, {"auc": 0.8, "my_score": 3}, objective_of=lambda name: known.get(name, ""))
    assert found.record.unmapped == ("my_score",)
    assert found.record.metrics[0].objective == "Ranks risky above safe"


def test_an_evaluation_with_nothing_new_has_the_facts_that_it_always_had(founded: World):
    training = prepare(founded)
    plain = EvalResult(metrics=(MetricValue("auc", 0.8, 0.7, 0.9, 200, "ratio", True, "ranking"),), n=200)
    found, _ = record(founded, training, plain)
    later = {"evaluator_code", "slices", "comparisons", "perturbations", "explanations", "benchmarks"}
    assert later.isdisjoint(found.record.facts())
    read = read_record("evaluation", 1, {"facts": found.record.facts(), "observed": {}})
    assert isinstance(read, Evaluation)
    assert read.slices == ()
    assert read.facts() == found.record.facts()


def test_every_file_that_an_evaluation_names_counts_as_its_evidence(founded: World):
    training = prepare(founded)
    found, _ = record(founded, training, {"auc": 0.8})
    entry = found.record
    item = founded.workspace.put("a.json", b"{}", "application/json")
    source = {"task": "t", "metric": "acc", "value": 0.5, "source": item}
    other = founded.workspace.put("b.jsonl", b"x", "application/x-ndjson")
    full = Evaluation.model_validate(
        {**entry.model_dump(), "benchmarks": [{**source, "samples": other}], "explanations": [
            {"scope": "global", "method": "m", "item": item}]}
    )  # fmt: skip
    assert full.evidence() == (item.digest, other.digest)


def test_a_dataset_reference_of_a_partition_counts(founded: World):
    prepare(founded)
    part = founded.snapshot("loans_holdout@2026-01", "ee" * 32, record_count=10)
    ref = DatasetRef(name="loans_holdout@2026-01", root="ee" * 32, seq=part.seq, role="evaluation")
    training = train(founded, "2")
    with pytest.raises(EvaluationError, match="never compared"):
        record(founded, training, {"auc": 0.8}, dataset=ref)
