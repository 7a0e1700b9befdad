"""Facts of the bank and EU frameworks that must not slip: dates, exclusions, what is law and what is not, and the references."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest

from cognify_dagster.documents import VersionFacts, assess_coverage, load_framework, template_root
from cognify_dagster.documents.coverage.engine import CoverageReport
from cognify_dagster.documents.frameworks.loading import Condition

NAMES = ["eu-ai-act-high-risk", "eu-gpai-art53", "mrm-genai-aligned", "sr11-7-legacy", "sr26-2"]
TODAY = "2026-11-21"


def headings(name: str) -> dict[str, str]:
    lines = (template_root() / "headings" / f"{name}.txt").read_text(encoding="utf-8").splitlines()
    return dict(line.split("\t") for line in lines if line and not line.startswith("#"))


def stated(facts: VersionFacts, **change: Any) -> VersionFacts:
    assert facts.registered is not None
    record = facts.registered.record
    bent = record.model_copy(update={"framework_facts": {**record.framework_facts, **change}})
    return replace(facts, registered=replace(facts.registered, record=bent))


def trained(facts: VersionFacts, **change: Any) -> VersionFacts:
    assert facts.training is not None
    return replace(facts, training=replace(facts.training, record=facts.training.record.model_copy(update=change)))


def statuses(report: CoverageReport) -> dict[str, str]:
    return {line.requirement.id: line.status for line in report.lines}


@pytest.mark.parametrize("name", NAMES)
def test_every_citation_is_a_transcribed_heading(name: str) -> None:
    framework, known = load_framework(name), headings(name)
    cited = [(item.id, item.citation) for item in framework.requirements()]
    cited += [(item.id, item.citation) for item in framework.retention]
    for where, citation in cited:
        assert set(citation.split("; ")) <= set(known), where


@pytest.mark.parametrize("name", NAMES)
def test_no_row_that_people_write_or_law_demands_is_answered_without_a_person(name: str) -> None:
    for item in load_framework(name).requirements():
        written = any(leaf.kind in ("human", "attestation") for leaf in item.evidence.leaves())
        if (written and item.id != "mrm.gov.inventory") or item.force == "law":
            assert item.judged_by, item.id
        assert item.mandatory == (item.force in ("law", "guidance")), item.id


@pytest.mark.parametrize("name", NAMES)
def test_wording_claims_no_conformity(name: str) -> None:
    text = (template_root() / "frameworks" / f"{name}.yaml").read_text(encoding="utf-8").lower()
    for word in ("compliant", "certified", "guarantee", "immutable", "unconfirmed"):
        assert word not in text, word
    assert "no verdict" in text
    assert "not legal advice" in text


# US banks


def test_the_guidance_of_2026_leaves_generative_ai_and_prescribes_no_interval() -> None:
    framework = load_framework("sr26-2")
    assert (framework.status, framework.effective_from, framework.effective_to) == ("in_force", "2026-04-17", None)
    assert framework.scored(TODAY)
    assert framework.applicability is not None
    facts = {"us_banking_organisation": True, "is_model": True, "generative": True, "agentic": False}
    assert framework.applicability.evaluate(facts, []) is False
    assert framework.applicability.evaluate({**facts, "generative": False}, []) is True
    assert "assets_over_30bn" not in set(framework.applicability.facts()), "no bright line"
    interval = next(item for item in framework.requirements() if item.id == "mrm.val.scope_freq")
    assert "No yearly cycle" in interval.paraphrase
    assert {item.force for item in framework.requirements()} == {"guidance"}
    assert "sr11-7-legacy" in framework.supersedes


def test_the_guidance_of_2011_is_listed_and_never_scored(facts: VersionFacts, now: datetime) -> None:
    framework = load_framework("sr11-7-legacy")
    assert (framework.status, framework.effective_from, framework.effective_to) == (
        "superseded",
        "2011-04-04",
        "2026-04-17",
    )
    for day in ("2011-04-04", "2020-01-01", "2026-04-17", TODAY):
        assert not framework.scored(day)
    report = assess_coverage(facts, framework, now)
    assert report.counts("guidance") == {}
    assert report.score("guidance") == (0, 0)
    assert len(report.lines) == 23
    annual = next(item for item in framework.requirements() if item.id == "mrm11.val.annual")
    assert "once a year" in annual.paraphrase, "this is what the successor dropped"


def test_the_generative_template_mirrors_the_rows_by_analogy_and_demands_nothing(
    facts: VersionFacts, now: datetime
) -> None:
    ours, theirs = load_framework("mrm-genai-aligned"), load_framework("sr26-2")
    assert [item.id for item in ours.requirements()] == [item.id for item in theirs.requirements()]
    for item in ours.requirements():
        assert item.force == "voluntary"
        assert not item.mandatory
        assert all(part.startswith("By analogy: ") or "fn. 3" in part for part in item.citation.split("; ")), item.id
        assert f"sr26-2:{item.id}" in item.cross_refs
    assert "Outside the scope of SR 26-2" in ours.disclaimer
    generative = stated(facts, generative=True)
    assert assess_coverage(generative, theirs, now).scope == "out_of_scope"
    assert assess_coverage(generative, ours, now).scope == "in_scope"
    assert assess_coverage(facts, ours, now).scope == "out_of_scope", "the two never claim the same model"
    assert assess_coverage(generative, ours, now).score("guidance") == (0, 0)


# EU: high-risk systems

DAYS = ("2026-07-26", "2026-07-27", TODAY, "2027-12-02")


def test_high_risk_dates_are_those_after_the_amendment_of_2026() -> None:
    framework = load_framework("eu-ai-act-high-risk")
    assert (framework.status, framework.effective_from) == ("future", "2027-12-02")
    counted = {day: [i.id for i in framework.requirements() if framework.counts(i, day)] for day in DAYS}
    assert [len(counted[day]) for day in DAYS[:3]] == [0, 1, 2]
    assert counted[TODAY] == ["hr.4a.special", "hr.50"], "what applies already, whatever the rest waits for"
    assert len(counted[DAYS[-1]]) == len(list(framework.requirements()))
    notes = " ".join(framework.notes)
    assert "Annex III from 2 December 2027, products of Annex I from 2 August 2028" in notes
    assert "Art. 50 since 2 August 2026" in notes
    assert "Art. 4a since 27 July 2026" in notes
    assert "Art. 10(5) was deleted" in notes
    cited = " ".join(item.citation for item in framework.requirements())
    assert "Art. 10(5)" not in cited
    assert "Art. 29a" not in cited
    assert "AI Act Art. 27" in cited


def test_high_risk_rows_are_those_of_chapter_iii_and_annex_iv() -> None:
    framework = load_framework("eu-ai-act-high-risk")
    ids = {item.id for item in framework.requirements()}
    assert len(ids) == 40
    assert {f"hr.a4.2{letter}" for letter in "abcdefgh"} <= ids
    assert {"hr.class", "hr.9.test", "hr.10.quality", "hr.12.log", "hr.14.oversight", "hr.15", "hr.27", "hr.73"} <= ids
    signed = next(item for item in framework.requirements() if item.id == "hr.a4.2g")
    assert {"auto:eval", "auto:fairness", "auto:approval"} == {leaf.kind for leaf in signed.evidence.leaves()}
    limits = next(item for item in framework.requirements() if item.id == "hr.9.test")
    assert any("thresholds_before_training" in leaf.checks for leaf in limits.evidence.leaves())
    terms = {item.id: (item.years, item.months, item.start) for item in framework.retention}
    assert terms == {"hr.keep.file": (10, None, "placed_on_market"), "hr.keep.logs": (None, 6, "created")}


def test_high_risk_rows_follow_role_and_class() -> None:
    rows = {item.id: item.applies_when for item in load_framework("eu-ai-act-high-risk").requirements()}

    def applies(name: str, **known: Any) -> bool | None:
        condition = rows[name]
        assert isinstance(condition, Condition), name
        return condition.evaluate(known, [])

    assert rows["hr.class"] is None
    assert applies("hr.11.file", high_risk=True, ai_act_role="provider") is True
    assert applies("hr.11.file", high_risk=True, ai_act_role="deployer") is False
    assert applies("hr.26", high_risk=True, ai_act_role="deployer") is True
    assert applies("hr.26", high_risk=True, ai_act_role="provider_and_deployer") is True
    assert applies("hr.26", high_risk=True, ai_act_role="provider") is False
    assert applies("hr.27", high_risk=True, ai_act_role="deployer", fria_deployer=False) is False
    assert applies("hr.50", interacts_or_generates=True) is True, "in any risk class"
    assert applies("hr.4a.special", special_categories_for_bias=True) is True, "in any risk class"
    assert applies("hr.49", high_risk=False, annex_iii_exception_used=True) is True
    assert applies("hr.11.file", high_risk=True) is None, "an unstated role stays open"


# EU: general-purpose models

DETAILS = {"parameters": 7e9, "training_compute_flop": 1.7e24, "training_compute_source": "report"}
ADAPTER = {"compute": {"tokens": 5e6}}
LONG_RUN = {"compute": {"tokens": 2e14}}
MODIFIER = {
    "eu_model_market": True,
    "base_is_gpai": True,
    "gpai_provider_otherwise": False,
    "open_source_exempt": False,
    "systemic_risk": False,
    "established_outside_eu": False,
    "code_signatory": False,
}


def modified(facts: VersionFacts, extra: dict[str, Any], **change: Any) -> VersionFacts:
    base = {"name": "base", "sha256": "1" * 64, "licence": "apache-2.0", "details": DETAILS}
    return trained(stated(facts, **{**MODIFIER, **change}), base_model=base, extra=extra)


def test_general_purpose_duties_are_in_force_and_ask_for_the_role_first() -> None:
    framework = load_framework("eu-gpai-art53")
    assert (framework.status, framework.effective_from) == ("in_force", "2025-08-02")
    assert framework.scored(TODAY)
    rows = list(framework.requirements())
    assert rows[0].id == "gpai.role"
    assert rows[0].applies_when is None
    assert all(item.applies_when is not None for item in rows[1:])
    assert len([item for item in rows if item.force == "law"]) == 18
    assert "2 August 2026" in framework.notes[0]
    assert "2 August 2027" in framework.notes[0]
    assert "gpai_compute_ratio_above_third" not in {fact.name for fact in framework.facts}, "worked out, never asked"


def test_below_the_line_only_the_role_is_asked_for(facts: VersionFacts, now: datetime) -> None:
    report = assess_coverage(modified(facts, ADAPTER), load_framework("eu-gpai-art53"), now)
    assert report.scope == "in_scope"
    assert {name for name, status in statuses(report).items() if status != "not_applicable"} == {"gpai.role"}
    line = next(line for line in report.lines if line.requirement.id == "gpai.summary")
    derived = [step for step in line.derivation if step["fact"] == "gpai_compute_ratio_above_third"]
    assert [(step["actual"], step["holds"]) for step in derived] == [(False, False)]


def test_past_the_line_the_duties_apply_and_a_free_licence_never_spares_copyright_and_summary(
    facts: VersionFacts, now: datetime
) -> None:
    framework = load_framework("eu-gpai-art53")
    closed = statuses(assess_coverage(modified(facts, LONG_RUN), framework, now))
    assert closed["gpai.a11.2c"] != "not_applicable"
    assert closed["gpai.copyright"] != "not_applicable"
    assert closed["gpai.a11.s2"] == closed["gpai.rep"] == closed["gpai.code.form"] == "not_applicable"
    free = statuses(assess_coverage(modified(facts, LONG_RUN, open_source_exempt=True), framework, now))
    applicable = {name for name, status in free.items() if status != "not_applicable"}
    assert applicable == {"gpai.role", "gpai.copyright", "gpai.summary"}


def test_an_open_computation_keeps_the_duties_open(facts: VersionFacts, now: datetime) -> None:
    report = assess_coverage(modified(facts, {}), load_framework("eu-gpai-art53"), now)
    assert "not_applicable" not in {
        status for name, status in statuses(report).items() if name in ("gpai.copyright", "gpai.summary", "gpai.a11.1a")
    }


def test_a_stated_value_never_replaces_the_derived_one(facts: VersionFacts, now: datetime) -> None:
    bent = modified(facts, LONG_RUN, gpai_compute_ratio_above_third=False)
    assert statuses(assess_coverage(bent, load_framework("eu-gpai-art53"), now))["gpai.summary"] != "not_applicable"
    unmeasured = modified(facts, {}, gpai_compute_ratio_above_third=False)
    assert (
        statuses(assess_coverage(unmeasured, load_framework("eu-gpai-art53"), now))["gpai.summary"] != "not_applicable"
    )
