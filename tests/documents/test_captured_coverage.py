"""What the record of training and evaluation answers of the frameworks, and the compute criterion from its figures."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest

from cognify_dagster.documents import VersionFacts, assess_coverage, load_framework
from cognify_dagster.documents.coverage.gpai import determine
from cognify_dagster.records import Compute
from tests.documents.captured import site
from tests.documents.conftest import NOW
from tests.documents.story import Story
from tests.documents.test_coverage import bend
from tests.documents.test_coverage_checks import ask, only_gap

EVALUATION = [
    ("evaluator_code", {}, "code of the evaluator"),
    ("slices", {"slices": ()}, "slices"),
    ("sites", {"slices": ()}, "sites"),
    ("comparison", {"comparisons": ()}, "comparison"),
    ("sensitivity", {"perturbations": ()}, "sensitivity"),
    ("benchmarks", {"benchmarks": ()}, "benchmark"),
    ("explanations", {"explanations": ()}, "explanation"),
]


@pytest.mark.parametrize(("check_name", "without", "words"), EVALUATION)
def test_the_evaluation_holds_it_or_it_is_missing(
    told: Story, check_name: str, without: dict[str, Any], words: str
) -> None:
    shown = ask(told.facts, NOW, "auto:eval", check_name)
    assert not shown.gaps
    assert words in shown.text
    bare = bend(told.facts, "evaluation", **without)
    if check_name == "evaluator_code":
        gone = told.facts.evaluation.record.code.model_copy(update={"commit": "", "vcs": "none"})
        bare = bend(told.facts, "evaluation", evaluator_code=None, code=gone)
    status, text, who = only_gap(ask(bare, NOW, "auto:eval", check_name))
    assert (status, who.split(":")[0]) == ("missing", "developer")
    assert words in text or check_name in text


def test_one_site_or_sites_without_a_worst_one_are_not_several(told: Story) -> None:
    one = bend(told.facts, "evaluation", slices=(site("Northside", 1480, 0.94), site("Old town", 22, None)))
    assert only_gap(ask(one, NOW, "auto:eval", "sites"))[0] == "missing"


def test_a_change_that_could_not_be_scored_is_no_sensitivity(told: Story) -> None:
    failed = tuple(item for item in told.facts.evaluation.record.perturbations if item.status == "error")
    assert only_gap(ask(bend(told.facts, "evaluation", perturbations=failed), NOW, "auto:eval", "sensitivity"))


def test_a_comparison_is_one_with_the_base_model_only_if_training_started_from_that_version(told: Story) -> None:
    def gaps(facts: VersionFacts) -> Any:
        return ask(facts, NOW, "auto:eval", tables=("base_model_comparison",)).gaps

    assert gaps(told.facts), "the base is letters_base 4, the comparison is with version 1 of this model"
    base = {**told.facts.training.record.base_model, "parent": {"model": "credit_default", "version": "1"}}
    assert not gaps(bend(told.facts, "training", base_model=base))
    assert gaps(bend(told.facts, "training", base_model={**base, "parent": None}))


def test_rows_of_the_evaluation_count_as_the_table_sensitivity_and_not_as_robustness(told: Story) -> None:
    assert not ask(told.facts, NOW, "auto:eval", tables=("sensitivity",)).gaps
    assert ask(told.facts, NOW, "auto:eval", tables=("robustness",)).gaps, "that is about attacks too"


@pytest.mark.parametrize(
    ("framework", "requirement", "words"),
    [
        ("sr26-2", "mrm.dev.testing", "sensitivity to 3 changes"),
        ("sr26-2", "mrm.val.concept", "benchmarks hellaswag, house_style; explanations by"),
        ("sr26-2", "mrm.val.outcomes", "comparison on the same data with credit_default@1"),
        ("eu-ai-act-high-risk", "hr.15", "sensitivity to 3 changes"),
        ("fda-pccp", "gmlp.8", "2 sites, the worst named (Harbour clinic)"),
    ],
)
def test_the_frameworks_find_it(told: Story, framework: str, requirement: str, words: str) -> None:
    facts = told.facts
    stated = {**facts.registered.record.framework_facts, "fda_medical_device": True, "is_medical_device": True}
    registered = facts.registered.record.model_copy(update={"framework_facts": stated})
    report = assess_coverage(
        replace(facts, registered=replace(facts.registered, record=registered)), load_framework(framework), NOW
    )
    (line,) = [line for line in report.lines if line.requirement.id == requirement]
    assert line.status != "not_applicable", line.derivation
    assert words in "; ".join(line.supports)


def test_what_annex_xi_asks_of_those_who_fine_tune_is_found_in_the_record(told: Story) -> None:
    for name in (
        "model_kind",
        "parameters",
        "modality",
        "base_model",
        "base_licence",
        "base_identity",
        "compute",
        "duration",
    ):
        assert not ask(told.facts, NOW, "auto:training", name).gaps, name
    assert only_gap(ask(told.facts, NOW, "auto:training", "energy"))[0] == "missing", (
        "nobody measured it, nobody invents it"
    )
    assert not ask(told.facts, NOW, "auto:environment", "packages", "seed", "hardware", "image", "lock_file").gaps


def test_the_compute_criterion_is_the_same_whether_stated_in_the_record_or_as_earlier_runs_did(told: Story) -> None:
    run = told.facts.training.record
    own = determine(run.model_copy(update={"compute": Compute(tokens=1_365_000, parameters=22_713_986)}))
    earlier = {"tokens": 1_365_000, "parameters": 22_713_986}
    other = determine(run.model_copy(update={"compute": None, "extra": {"compute": earlier}}))
    assert own.verdict == other.verdict == "below"
    assert own.modification_flop == other.modification_flop


def test_of_figures_in_both_places_the_largest_counts(told: Story) -> None:
    run = told.facts.training.record
    both = run.model_copy(
        update={"compute": Compute(flops=1e10, flops_method="counter"), "extra": {"compute": {"flop": 1e12}}}
    )
    assert determine(both).modification_flop == 1e12
    unread = run.model_copy(update={"compute": Compute(flops="NaN", flops_method="counter")})
    assert determine(unread).verdict == "open"
    assert any(re.search(r"compute\.flop: 'NaN'", item) for item in determine(unread).missing)


def test_a_comparison_with_the_validation_data_says_nothing_about_the_evaluation_data(told: Story) -> None:
    assert not ask(told.facts, NOW, "auto:dataset", "splits_disjoint").gaps
    (kept,) = told.facts.overlaps
    other = kept.record.model_copy(update={"holdout": kept.record.holdout.model_copy(update={"root": "0" * 64})})
    facts = replace(told.facts, overlaps=(replace(kept, record=other),))
    assert (
        "no comparison of training and evaluation records"
        in only_gap(ask(facts, NOW, "auto:dataset", "splits_disjoint"))[1]
    )
