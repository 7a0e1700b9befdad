"""The content of four frameworks, row by row: NIST AI RMF, Colorado and New York insurance, California AB 2013."""

from __future__ import annotations

import re
from typing import Any

import pytest

from cognify_dagster.documents import load_framework, template_root
from cognify_dagster.documents.frameworks.linting import problems
from cognify_dagster.documents.frameworks.loading import Framework, Requirement, framework_ids, headings

IDS = ("nist-ai-rmf", "colorado-insurance", "nydfs-cl-2024-7", "california-ab2013")

# id -> (citation, basis, condition); "-" is no condition. One line a row: what was checked against the sources.
NIST = "NIST.AI.100-1 "
ROWS: dict[str, dict[str, tuple[str, str]]] = {
    "nist-ai-rmf": {
        "ai.scope": ("NIST.AI.100-1", "memory"),
        "ai.gov1": ("GOVERN 1.1, 1.2, 1.4", "memory"),
        "ai.gov1m": ("GOVERN 1.5, 1.6, 1.7", "memory"),
        "ai.gov2": ("GOVERN 2.1, 2.2, 2.3", "memory"),
        "ai.gov4": ("GOVERN 4.1, 4.2, 4.3", "memory"),
        "ai.gov6": ("GOVERN 6.1, 6.2", "memory"),
        "ai.map1": ("MAP 1.1, 1.5, 1.6", "memory"),
        "ai.map2": ("MAP 2.1, 2.2, 2.3", "memory"),
        "ai.map3": ("MAP 3.1, 3.2, 3.3, 3.4, 3.5", "memory"),
        "ai.map4": ("MAP 4.1, 4.2", "memory"),
        "ai.map5": ("MAP 5.1, 5.2", "memory"),
        "ai.mea1": ("MEASURE 1.1, 1.3", "memory"),
        "ai.mea2a": ("MEASURE 2.1, 2.2, 2.3", "memory"),
        "ai.mea2b": ("MEASURE 2.4, 2.5, 2.6, 2.7", "memory"),
        "ai.mea2c": ("MEASURE 2.8, 2.9, 2.10, 2.11", "memory"),
        "ai.mea2d": ("MEASURE 2.12, 2.13", "memory"),
        "ai.mea3": ("MEASURE 3.1, 3.2, 3.3, 4", "memory"),
        "ai.man1": ("MANAGE 1.1, 1.2, 1.3, 1.4", "memory"),
        "ai.man2": ("MANAGE 2.1, 2.2, 2.3, 2.4", "memory"),
        "ai.man3": ("MANAGE 3.1, 3.2", "memory"),
        "ai.man4": ("MANAGE 4.1, 4.2, 4.3", "memory"),
        "ai.genai.cbrn": ("NIST.AI.600-1 CBRN information", "secondary"),
        "ai.genai.confabulation": ("NIST.AI.600-1 confabulation", "secondary"),
        "ai.genai.dangerous": ("NIST.AI.600-1 dangerous, violent and hateful content", "secondary"),
        "ai.genai.privacy": ("NIST.AI.600-1 data privacy", "secondary"),
        "ai.genai.environment": ("NIST.AI.600-1 environmental impact", "secondary"),
        "ai.genai.bias": ("NIST.AI.600-1 harmful bias and homogenisation", "secondary"),
        "ai.genai.human_ai": ("NIST.AI.600-1 human-AI configuration", "secondary"),
        "ai.genai.integrity": ("NIST.AI.600-1 information integrity", "secondary"),
        "ai.genai.security": ("NIST.AI.600-1 information security", "secondary"),
        "ai.genai.ip": ("NIST.AI.600-1 intellectual property", "secondary"),
        "ai.genai.obscene": ("NIST.AI.600-1 obscene and degrading content", "secondary"),
        "ai.genai.value_chain": ("NIST.AI.600-1 value chain and component integration", "secondary"),
    },
    "colorado-insurance": {
        "co.scope": ("C.R.S. 10-3-1104.9; 3 CCR 702-10 (Regulation 10-1-1)", "secondary"),
        "co.gov": ("Regulation 10-1-1 §5", "secondary"),
        "co.inv": ("Regulation 10-1-1 §5", "secondary"),
        "co.vendor": ("Regulation 10-1-1 §5", "secondary"),
        "co.review": ("Regulation 10-1-1 §5", "secondary"),
        "co.test": ("Regulation 10-1-1 §5.A; Bulletin B-10.004", "secondary"),
        "co.consumer": ("Regulation 10-1-1 §5", "secondary"),
        "co.report": ("3 CCR 702-10 (Regulation 10-1-1); C.R.S. 10-3-1104.9; Bulletin B-10.004", "secondary"),
    },
    "nydfs-cl-2024-7": {
        "ny.scope": ("CL 2024-7", "secondary"),
        "ny.actuarial": ("CL 2024-7", "secondary"),
        "ny.steps": ("CL 2024-7", "secondary"),
        "ny.metrics": ("CL 2024-7", "memory"),
        "ny.gov": ("CL 2024-7", "secondary"),
        "ny.transp": ("CL 2024-7; 11 NYCRR 243", "secondary"),
    },
    "california-ab2013": {
        "ab.scope": ("Cal. Civ. Code 3110; Cal. Civ. Code 3111", "primary"),
        "ab.publication": ("Cal. Civ. Code 3111", "primary"),
        "ab.sources": ("Cal. Civ. Code 3111(a)(1)", "primary"),
        "ab.purpose": ("Cal. Civ. Code 3111(a)(2)", "primary"),
        "ab.points": ("Cal. Civ. Code 3111(a)(3)", "primary"),
        "ab.types": ("Cal. Civ. Code 3111(a)(4)", "primary"),
        "ab.ip": ("Cal. Civ. Code 3111(a)(5)", "primary"),
        "ab.licensed": ("Cal. Civ. Code 3111(a)(6)", "primary"),
        "ab.personal": ("Cal. Civ. Code 3111(a)(7)", "primary"),
        "ab.aggregate": ("Cal. Civ. Code 3111(a)(8)", "primary"),
        "ab.processing": ("Cal. Civ. Code 3111(a)(9)", "primary"),
        "ab.period": ("Cal. Civ. Code 3111(a)(10)", "secondary"),
        "ab.first_use": ("Cal. Civ. Code 3111(a)(11)", "secondary"),
        "ab.synthetic": ("Cal. Civ. Code 3111(a)(12)", "secondary"),
    },
}
FORCE = {
    "nist-ai-rmf": ("voluntary", False),
    "colorado-insurance": ("law", True),
    "nydfs-cl-2024-7": ("guidance", True),
    "california-ab2013": ("law", True),
}
EFFECTIVE = {
    "nist-ai-rmf": "2023-01-26",
    "colorado-insurance": "2025-10-15",
    "nydfs-cl-2024-7": "2024-07-11",
    "california-ab2013": "2026-01-01",
}


def spelled(citation: str) -> str:
    """`GOVERN 1.1, 1.2` is `NIST.AI.100-1 GOVERN 1.1; NIST.AI.100-1 GOVERN 1.2`."""
    function, _, numbers = citation.partition(" ")
    if function not in ("GOVERN", "MAP", "MEASURE", "MANAGE"):
        return citation
    return "; ".join(f"{NIST}{function} {number}" for number in numbers.split(", "))


def rows(framework: Framework) -> dict[str, Requirement]:
    return {item.id: item for item in framework.requirements()}


@pytest.mark.parametrize("name", IDS)
def test_every_row_stands_there_with_its_citation_and_how_far_it_was_checked(name: str) -> None:
    found = {item.id: (item.citation, item.basis) for item in load_framework(name).requirements()}
    assert found == {row: (spelled(citation), basis) for row, (citation, basis) in ROWS[name].items()}


@pytest.mark.parametrize("name", IDS)
def test_force_and_duty_follow_what_the_text_is(name: str) -> None:
    framework = load_framework(name)
    assert {(item.force, item.mandatory) for item in framework.requirements()} == {FORCE[name]}
    assert (framework.status, framework.effective_from, framework.as_of) == ("in_force", EFFECTIVE[name], "2026-11-21")
    assert framework.scored("2026-11-21")


@pytest.mark.parametrize("name", IDS)
def test_nothing_is_wrong_with_the_file(name: str) -> None:
    known = {other: {row.id for row in load_framework(other).requirements()} for other in framework_ids()}
    raw = (template_root() / "frameworks" / f"{name}.yaml").read_text(encoding="utf-8")
    assert problems(load_framework(name), headings(name), known, raw) == []


@pytest.mark.parametrize("name", IDS)
def test_every_heading_is_cited_so_the_list_holds_nothing_that_was_not_needed(name: str) -> None:
    framework = load_framework(name)
    cited = {reference for item in framework.requirements() for reference in item.citation.split("; ")}
    assert set(headings(name) or {}) == cited


@pytest.mark.parametrize("name", IDS)
def test_who_writes_needs_somebody_who_judges(name: str) -> None:
    for item in load_framework(name).requirements():
        if any(leaf.kind == "human" for leaf in item.evidence.leaves()):
            assert item.judged_by in ("compliance_officer", "model_validator", "business_owner"), item.id


def asks(condition: Any, facts: dict[str, Any]) -> bool | None:
    result: bool | None = condition.evaluate(facts, [])
    return result


def test_generative_risks_concern_generative_models_only() -> None:
    for item in load_framework("nist-ai-rmf").requirements():
        assert (item.applies_when is not None) == item.id.startswith("ai.genai.")
        if item.applies_when is not None:
            assert asks(item.applies_when, {"generative": False}) is False
            assert asks(item.applies_when, {"generative": True}) is True
    assert sum(item.id.startswith("ai.genai.") for item in load_framework("nist-ai-rmf").requirements()) == 12


@pytest.mark.parametrize(
    ("facts", "verdict"),
    [
        ({"insurer": True, "state": "CO", "insurance_line": "life"}, True),
        ({"insurer": True, "state": ["NY", "CO"], "insurance_line": ["other", "health_benefit_plan"]}, True),
        ({"insurer": True, "state": "TX", "insurance_line": "life"}, False),
        ({"insurer": True, "state": "CO", "insurance_line": "other"}, False),
        ({"insurer": False}, False),
        ({"insurer": True, "state": "CO"}, None),
    ],
)
def test_colorado_concerns_three_lines_in_that_state(facts: dict[str, Any], verdict: bool | None) -> None:
    assert asks(load_framework("colorado-insurance").applicability, facts) is verdict


def test_an_insurer_without_external_data_in_colorado_owes_the_scope_and_its_attestation_alone() -> None:
    for item in load_framework("colorado-insurance").requirements():
        if item.scope_determination:
            assert item.applies_when is None
            assert "attestation" in {leaf.kind for leaf in item.evidence.leaves()}
        else:
            assert asks(item.applies_when, {"uses_ecdis": False}) is False
            assert asks(item.applies_when, {}) is None


def test_new_york_concerns_underwriting_and_pricing() -> None:
    framework = load_framework("nydfs-cl-2024-7")
    facts = {"insurer": True, "state": ["NJ", "NY"], "underwriting_or_pricing": True}
    assert asks(framework.applicability, facts) is True
    assert asks(framework.applicability, {**facts, "underwriting_or_pricing": False}) is False


def test_california_concerns_generative_models_that_are_public_there() -> None:
    framework = load_framework("california-ab2013")
    assert asks(framework.applicability, {"generative": False}) is False
    for item in framework.requirements():
        if not item.scope_determination:
            assert asks(item.applies_when, {"made_public_california": False}) is False


def test_what_could_not_be_confirmed_is_not_said() -> None:
    colorado, new_york = load_framework("colorado-insurance"), load_framework("nydfs-cl-2024-7")
    assert not any("§6" in item.citation for item in colorado.requirements())
    text = " ".join([*new_york.notes, *(item.paraphrase for item in new_york.requirements())])
    assert not re.search(r"year|annual|0\.30|six", text), "neither the interval nor limits nor terms were confirmed"
    assert all(leaf.max_age_days is None for item in new_york.requirements() for leaf in item.evidence.leaves())
    assert all(load_framework(name).retention == () for name in IDS), "no retention term of these four was confirmed"


def test_references_to_iso_42001_name_controls_on_its_list() -> None:
    known = headings("iso42001") or {}
    assert len(known) == 38
    for name in framework_ids():
        for item in load_framework(name).requirements():
            for reference in item.cross_refs:
                standard, _, control = reference.partition(":")
                assert standard != "iso42001" or control in known, f"{item.id}: {reference}"
