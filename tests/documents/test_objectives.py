"""Objectives: each metric says what it is evidence for; defaults are labelled; what no entry fits is listed, never dropped."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import VersionFacts, load_framework, template_root
from cognify_dagster.documents.catalogues.objectives import (
    Objective,
    ObjectivesError,
    load_objectives,
    objectives_part,
    objectives_schema,
    unresolved,
)
from cognify_dagster.documents.frameworks.loading import framework_ids, parse_framework
from cognify_dagster.documents.package.building import package_schema
from cognify_dagster.evaluation.fairness import _DISPARITIES
from cognify_dagster.evaluation.metrics import _METRICS
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import MetricResult, to_json
from tests.documents.story import Story

OWN: dict[str, Any] = {
    "version": "bank-1",
    "as_of": "2026-11-01",
    "disclaimer": "ours",
    "objectives": [
        {
            "id": "collections_score",
            "family": "credit",
            "title": "Our collections score",
            "metrics": ["collections_*"],
            "objective": "Ranks who pays late",
            "direction": "higher",
            "supports": ["sr26-2:mrm.dev.testing"],
            "threshold": {"label": "policy", "text": "ours"},
        },
        {
            "id": "auc",
            "family": "credit",
            "title": "AUC, as the bank reads it",
            "metrics": ["auc"],
            "objective": "Ranks risky above safe",
            "direction": "higher",
            "threshold": {"label": "policy", "text": "0.72 at the lower end, see the gate set"},
        },
    ],
}


def own(folder: Path, change: Any = None) -> Path:
    data = json.loads(json.dumps(OWN))
    if change:
        change(data)
    (folder / "objectives.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return folder


# --- the shipped table


@pytest.mark.parametrize(
    ("metric", "entry"),
    [
        ("auc", "auc"),
        ("auc.ci_low", "auc"),
        ("gini", "gini"),
        ("ks", "ks"),
        ("brier", "brier"),
        ("log_loss", "brier"),
        ("ece", "calibration"),
        ("psi", "psi"),
        ("income_psi", "psi"),
        ("csi_income", "psi"),
        ("data.overlap_records", "unseen_test_data"),
        ("fairness.SEX.adverse_impact_ratio", "adverse_impact_ratio"),
        ("fairness.AGE_BAND.equalized_odds_difference", "equalized_odds"),
        ("fairness.SEX.smd", "standardised_mean_difference"),
        ("fairness.SEX.p_value", "significance"),
        ("MMLU", "mmlu"),
        ("mmlu.acc,none", "mmlu"),
        ("mmlu_stem/acc", "mmlu"),
        ("hellaswag.acc_norm", "hellaswag"),
        ("truthfulqa_mc2", "truthfulqa"),
        ("bbq.bias_score", "bbq"),
        ("winobias", "winobias"),
        ("toxigen", "toxicity"),
        ("RealToxicityPrompts.expected_max", "toxicity"),
        ("humaneval.pass@1", "humaneval"),
        ("medqa_4options", "medical_qa"),
        ("legalbench.hearsay", "legalbench"),
        ("counterfactual flip-rate", "counterfactual_flip"),
        ("mia_tpr_at_0.1_fpr", "membership_inference"),
        ("canary_exposure", "memorisation"),
        ("PII leak rate", "memorisation"),
        ("memorization.verbatim", "memorisation"),
        ("jailbreak_success", "robustness"),
        ("refusal_rate", "refusal"),
        ("groundedness", "groundedness"),
        ("energy_kwh_per_1k", "resources"),
    ],
)
def test_a_metric_finds_the_entry_about_it(metric: str, entry: str) -> None:
    found = load_objectives().find(metric)
    assert found is not None
    assert found.id == entry


@pytest.mark.parametrize("metric", ["aucune", "kst", "bbqx", "collections_score", "fairness.SEX.luck", "x.mmlu2", ""])
def test_a_metric_that_nobody_described_is_unmapped(metric: str) -> None:
    assert load_objectives().find(metric) is None


def test_what_this_product_measures_itself_is_mapped() -> None:
    table = load_objectives()
    names = [*_METRICS, *(f"fairness.SEX.{name}" for name in _DISPARITIES)]
    assert [name for name in names if table.find(name) is None] == []


def test_every_requirement_that_is_named_is_one_of_a_shipped_framework() -> None:
    assert unresolved(load_objectives()) == []


def test_every_entry_helps_to_answer_something_and_every_shipped_law_of_credit_is_reached() -> None:
    table = load_objectives()
    assert all(item.supports for item in table.objectives)
    frameworks = {name.partition(":")[0] for item in table.objectives for name in item.supports}
    assert {"sr26-2", "fair-lending", "eu-ai-act-high-risk", "eu-gpai-art53", "hipaa", "nist-ai-rmf"} <= frameworks


def test_no_default_is_sold_as_law_and_each_number_says_how_far_it_was_checked() -> None:
    for item in load_objectives().objectives:
        assert item.threshold.label in ("convention", "policy"), f"{item.id}: no regulator set this number"
        assert (item.threshold.value is None) == (item.threshold.label == "policy")
        assert (item.threshold.value is None) == (item.threshold.basis is None)


@pytest.mark.parametrize(
    ("entry", "op", "value", "upper"),
    [
        ("adverse_impact_ratio", ">=", 0.8, None),
        ("demographic_parity_difference", "abs<=", 0.1, None),
        ("demographic_parity_ratio", "within", 0.8, 1.25),
        ("equal_opportunity", "abs<=", 0.1, None),
        ("psi", "<", 0.1, None),
        ("calibration", "<=", 0.05, None),
        ("memorisation", "<=", 0.0, None),
        ("standardised_mean_difference", None, None, None),
        ("equalized_odds", None, None, None),
    ],
)
def test_defaults_are_the_sourced_ones(entry: str, op: str | None, value: float | None, upper: float | None) -> None:
    item = next(item for item in load_objectives().objectives if item.id == entry)
    assert (item.threshold.op, item.threshold.value, item.threshold.upper) == (op, value, upper)


def test_four_fifths_is_a_screen_and_says_so() -> None:
    item = next(item for item in load_objectives().objectives if item.id == "adverse_impact_ratio")
    assert "29 CFR 1607.4(D)" in item.threshold.citation
    assert "Never a pass mark" in item.caution


def test_the_schema_for_editors_is_the_one_that_the_reader_follows() -> None:
    shipped = json.loads((template_root() / "schemas" / "objectives-v1.json").read_text(encoding="utf-8"))
    assert shipped == objectives_schema()
    jsonschema.Draft202012Validator.check_schema(shipped)
    table = yaml.safe_load((template_root() / "objectives.yaml").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(shipped).validate(table)


# --- a user's own table


def test_own_entries_come_first_replace_by_id_and_leave_the_rest(tmp_path: Path) -> None:
    table = load_objectives(own(tmp_path))
    shipped = load_objectives()
    assert len(table.objectives) == len(shipped.objectives) + 1
    assert table.find("collections_30d").id == "collections_score"  # type: ignore[union-attr]
    assert table.find("auc").title == "AUC, as the bank reads it"  # type: ignore[union-attr]
    assert table.find("mmlu").id == "mmlu"  # type: ignore[union-attr]
    assert (table.disclaimer, table.as_of) == ("ours", "2026-11-01")
    assert table.digest() != shipped.digest()
    assert "objectives" not in framework_ids(tmp_path), "the table lies among frameworks and is none"


def test_a_folder_without_a_table_changes_nothing(tmp_path: Path) -> None:
    assert load_objectives(tmp_path) == load_objectives()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["objectives"][0].update(colour="red"), "0 (collections_score).colour: is not a known field"),
        (lambda d: d["objectives"][0].pop("objective"), "objective: is required"),
        (lambda d: d["objectives"][0].update(metrics=["*"]), "fits every metric"),
        (lambda d: d["objectives"][0].update(metrics=["my-score"]), "holds a dash"),
        (lambda d: d["objectives"][0].update(metrics=[]), "metrics"),
        (lambda d: d["objectives"][0].update(supports=["mrm.dev.testing"]), "supports"),
        (lambda d: d["objectives"][1].update(id="collections_score"), "occurs twice"),
        (lambda d: d["objectives"][0]["threshold"].update(value=1), "op and value go together"),
        (
            lambda d: d["objectives"][0].update(threshold={"label": "law", "text": "x", "op": "<", "value": 1, "basis": "primary"}),
            "needs a citation",
        ),
        (
            lambda d: d["objectives"][0].update(threshold={"label": "convention", "text": "x", "op": "<", "value": 1}),
            "needs a basis",
        ),
        (
            lambda d: d["objectives"][0].update(threshold={"label": "policy", "text": "x", "op": "<", "value": 1, "basis": "memory"}),
            "adopts its own",
        ),
        (
            lambda d: d["objectives"][0].update(
                threshold={"label": "convention", "text": "x", "op": "within", "value": 1, "basis": "memory"}
            ),
            "upper belongs",
        ),
    ],
)  # fmt: skip
def test_a_wrong_table_is_refused_with_file_entry_and_field(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(ObjectivesError) as caught:
        load_objectives(own(tmp_path, change))
    assert "objectives.yaml" in str(caught.value)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("data", "words"),
    [(b"a: 1\na: 2\n", "repeated"), (b"[1]", "mapping"), (b"\xff\xfe", "UTF-8"), (b"#" * 1_000_001, "larger")],
)
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, data: bytes, words: str) -> None:
    (tmp_path / "objectives.yaml").write_bytes(data)
    with pytest.raises(ObjectivesError, match=words):
        load_objectives(tmp_path)


def test_what_an_own_entry_names_and_nobody_has_is_said(tmp_path: Path) -> None:
    def wrong(data: dict[str, Any]) -> None:
        data["objectives"][0]["supports"] = ["sr26-2:mrm.nothing", "house:rule.1"]

    assert unresolved(load_objectives(own(tmp_path, wrong)), tmp_path) == [
        "collections_score: sr26-2:mrm.nothing",
        "collections_score: house:rule.1",
    ]


ENTRY = {key: value for key, value in OWN["objectives"][0].items() if key != "metrics"}


@settings(deadline=None)
@given(st.text(alphabet="abz_.AB- ", max_size=12), st.text(alphabet="abz_", min_size=1, max_size=6))
def test_a_plain_pattern_fits_its_name_in_any_spelling_and_what_follows_a_mark(name: str, pattern: str) -> None:
    item = Objective.model_validate({**ENTRY, "metrics": [pattern]})
    plain = "_".join(name.lower().replace("-", "_").split())
    assert item.fits(name) == (plain == pattern or plain.startswith(f"{pattern}."))


# --- in the package


def row(part: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(item for item in part["metrics"] if item["metric"] == name)
    return found


def test_the_package_says_of_each_metric_what_it_is_evidence_for(two_versions: Story) -> None:
    part = two_versions.content["objectives"]
    auc = row(part, "auc")
    assert (auc["value"], auc["objective"], auc["direction"]) == (0.7841, "Ranks risky above safe", "higher")
    assert auc["default_threshold"]["label"] == "convention"
    assert auc["requirements"] == [
        {"framework": "sr26-2", "requirement": "mrm.dev.testing"},
        {"framework": "fair-lending", "requirement": "fl.edds"},
    ]
    assert [(limit["metric"], limit["op"], limit["threshold"], limit["source"]) for limit in auc["adopted"]] == [
        ("auc.ci_low", ">=", 0.72, "policy")
    ]
    ratio = row(part, "fairness.SEX.adverse_impact_ratio")
    assert {item["framework"] for item in ratio["requirements"]} == {"fair-lending"}
    assert ratio["adopted"][0]["threshold"] == 0.8
    assert part["digest"] == load_objectives().digest()


def test_requirements_named_are_those_of_the_frameworks_in_the_package(facts: VersionFacts) -> None:
    part = objectives_part(facts, [load_framework("nist-ai-rmf")])
    assert row(part, "auc")["requirements"] == [{"framework": "nist-ai-rmf", "requirement": "ai.mea2b"}]
    assert all(item["requirements"] == [] for item in objectives_part(facts, [])["metrics"])


def test_a_framework_of_ones_own_that_extends_a_shipped_one_is_reached_by_its_requirements(facts: VersionFacts) -> None:
    house = parse_framework("extends: sr26-2\nid: house-mrm\nversion: '1'\n")
    part = objectives_part(facts, [house])
    assert row(part, "auc")["requirements"] == [{"framework": "house-mrm", "requirement": "mrm.dev.testing"}]


def test_what_nobody_described_is_listed_with_what_the_evaluation_says_of_it(facts: VersionFacts) -> None:
    assert facts.evaluation is not None
    own_metric = MetricResult(name="quokka_index", value=0.4, objective="Counts quokkas")
    record = facts.evaluation.record.model_copy(update={"metrics": (*facts.evaluation.record.metrics, own_metric)})
    part = objectives_part(replace(facts, evaluation=replace(facts.evaluation, record=record)), [])
    assert [(item["metric"], item["stated_objective"]) for item in part["unmapped"]] == [
        ("quokka_index", "Counts quokkas")
    ]
    shown = {item["metric"] for item in (*part["metrics"], *part["unmapped"])}
    assert {metric.name for metric in record.metrics} <= shown, "nothing measured is dropped"


def test_a_limit_on_what_was_not_measured_is_shown_as_missing(facts: VersionFacts) -> None:
    assert facts.evaluation is not None
    outcome = facts.evaluation.record.outcomes[0].model_copy(
        update={"id": "psi-cap", "metric": "psi", "value": None, "status": "missing", "passed": False}
    )
    record = facts.evaluation.record.model_copy(update={"outcomes": (*facts.evaluation.record.outcomes, outcome)})
    psi = row(objectives_part(replace(facts, evaluation=replace(facts.evaluation, record=record)), []), "psi")
    assert (psi["status"], psi["value"], psi["adopted"][0]["status"]) == ("missing", None, "missing")


def test_without_an_evaluation_the_part_is_empty_and_still_fits_the_schema(facts: VersionFacts) -> None:
    part = objectives_part(replace(facts, evaluation=None), [])
    assert (part["metrics"], part["unmapped"]) == ([], [])
    schema = package_schema()
    only = {"$schema": schema["$schema"], "$defs": schema["$defs"], "$ref": "#/$defs/objectives"}
    for value in (part, objectives_part(facts, [load_framework("fair-lending")])):
        jsonschema.Draft202012Validator(only).validate(json.loads(canonical_json(to_json(value))))
