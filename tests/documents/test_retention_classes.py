"""Retention classes: which terms apply to each artefact, the longest counts, the reason is shown, a proposal never shortens."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import load_framework
from cognify_dagster.documents.catalogues.retention_classes import (
    ARTEFACTS,
    ArtefactTerms,
    RetentionClasses,
    proposed_rules,
    retention_classes,
)
from cognify_dagster.documents.catalogues.retention_table import (
    RetentionTableError,
    load_retention_table,
)
from cognify_dagster.documents.coverage.retention import ARTEFACT_KINDS, months_of, unkept
from cognify_dagster.documents.frameworks.loading import framework_ids
from cognify_dagster.documents.frameworks.model import Framework, RetentionClass
from cognify_dagster.governance.custody.retention import DEFAULT_RULES
from cognify_dagster.records import RetentionRule, kinds

HIPAA = {"hipaa_role": "covered_entity"}
AI_ACT = {"ai_act_eu": True}
CREDIT = {"credit_decision": True}


def of(classes: RetentionClasses, artefact: str) -> ArtefactTerms:
    return next(item for item in classes.artefacts if item.artefact == artefact)


def framework(name: str, retention: list[dict[str, Any]], **more: Any) -> Framework:
    terms = tuple(RetentionClass.model_validate(item) for item in retention)
    return load_framework("fair-lending").model_copy(update={"id": name, "retention": terms, **more})


def block(months: int, start: str = "created", *artefacts: str) -> dict[str, Any]:
    return {
        "id": f"t{months}",
        "artefacts": list(artefacts or ("logs",)),
        "months": months,
        "from": start,
        "citation": "x",
        "basis": "memory",
    }


# --- what applies


def test_the_longest_term_counts_and_the_reason_names_it() -> None:
    found = of(
        retention_classes([load_framework("hipaa"), load_framework("fair-lending")], {**HIPAA, **CREDIT}), "package"
    )
    assert [(term.source, term.months) for term in found.keep] == [("hipaa", 72), ("fair-lending", 25)]
    assert found.longest is found.keep[0]
    assert found.reason.startswith("72 months from when it was last in force (hipaa: 45 CFR 164.316(b)(2)(i)")
    assert "the longest of 2" in found.reason


def test_a_text_not_yet_in_force_counts_and_says_from_when() -> None:
    found = of(retention_classes([load_framework("eu-ai-act-high-risk")], AI_ACT), "technical_file")
    assert found.longest is not None
    assert found.longest.months == 120
    assert "in force from 2027-12-02" in found.reason


def test_a_framework_that_does_not_apply_is_left_out_with_the_fact_that_decides() -> None:
    classes = retention_classes([load_framework("hipaa")], {"hipaa_role": "none", "s1557_covered_entity": False})
    assert classes.keep() == ()
    assert "hipaa_role is none" in classes.left_out["hipaa"]
    assert of(classes, "package").reason == "no term is known: the organisation's own schedule decides"


def test_a_framework_whose_scope_is_open_counts_and_asks() -> None:
    found = of(retention_classes([load_framework("hipaa")], {}), "package")
    assert found.longest is not None
    assert "hipaa_role" in found.longest.open_facts
    assert "whether it applies is open: state" in found.reason


def test_facts_of_one_framework_stand_under_its_id() -> None:
    own = {"hipaa": {"hipaa_role": "none", "s1557_covered_entity": False}, "hipaa_role": "covered_entity"}
    assert "hipaa" in retention_classes([load_framework("hipaa")], own).left_out


@pytest.mark.parametrize("status", ["draft", "superseded", "withdrawn"])
def test_what_is_no_law_now_does_not_count(status: str) -> None:
    old = framework("old", [block(999)], status=status, applicability=None)
    classes = retention_classes([old], {})
    assert (classes.keep(), classes.left_out) == ((), {"old": f"its status is {status}"})


def test_a_framework_without_terms_is_said_to_be_silent() -> None:
    found = retention_classes([load_framework("nist-ai-rmf")], {"nist_rmf_adopted": True})
    assert found.silent == ("nist-ai-rmf",)


def test_of_equal_terms_the_one_that_starts_later_counts_and_a_shorter_one_from_the_end_of_use_is_warned_of() -> None:
    one = framework("one", [block(60, "created")], applicability=None)
    two = framework("two", [block(60, "deployment_end")], applicability=None)
    three = framework("three", [block(120, "placed_on_market")], applicability=None)
    assert of(retention_classes([one, two], {}), "logs").longest.source == "two"  # type: ignore[union-attr]
    reason = of(retention_classes([one, two, three], {}), "logs").reason
    assert "the longest of 3; two can end later where use lasts long" in reason


def test_every_class_of_artefact_is_answered_in_one_order() -> None:
    classes = retention_classes([], {})
    assert tuple(item.artefact for item in classes.artefacts) == ARTEFACTS


# --- rules outside the frameworks


def test_duties_to_erase_stand_beside_and_never_lengthen() -> None:
    facts = {"eu_personal_data": True, "special_categories_for_bias": False}
    found = of(retention_classes([], facts, load_retention_table()), "personal_data")
    assert (found.keep, [term.id for term in found.erase]) == ((), ["eu.gdpr.storage"])
    assert "to be erased: No longer than needed" in found.reason


def test_a_rule_whose_fact_is_not_stated_waits_for_it() -> None:
    classes = retention_classes([], {"broker_dealer": True}, load_retention_table())
    assert [term.id for term in of(classes, "approvals").keep] == ["us.sec-17a-4"]
    assert classes.undecided["us.co.sb26-189"] == ("colorado_admt",)
    assert set(classes.undecided) == {"us.co.sb26-189", "kr.ai-basic-act", "eu.gdpr.storage", "eu.ai-act.4a"}


def test_the_default_of_policy_concerns_models_of_banks() -> None:
    bank = {"us_banking_organisation": True, "is_model": True, "generative": False, "agentic": False}
    found = of(retention_classes([load_framework("sr26-2")], bank, load_retention_table()), "package")
    assert [(term.id, term.months, term.start, term.label) for term in found.keep] == [
        ("mrm.life", 84, "deployment_end", "policy")
    ]
    assert "policy" in found.reason
    assert of(retention_classes([load_framework("hipaa")], HIPAA, load_retention_table()), "logs").keep == ()


def test_no_law_of_the_table_is_called_checked_against_its_text() -> None:
    assert all(rule.basis != "primary" for rule in load_retention_table().rules if rule.label == "law")


OWN = {
    "version": "ours",
    "as_of": "2026-11-01",
    "facts": [{"name": "house_rule", "question": "Does the house rule apply?"}],
    "rules": [
        {
            "id": "mrm.life",
            "title": "House schedule",
            "duty": "keep",
            "label": "policy",
            "artefacts": ["package"],
            "years": 10,
            "from": "deployment_end",
            "applies_when": {"house_rule": True},
            "citation": "Schedule 2026",
            "basis": "primary",
        }
    ],
}


def write_own(folder: Path, change: Any = None) -> Path:
    data = yaml.safe_load(yaml.safe_dump(OWN))
    if change:
        change(data)
    (folder / "retention.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    return folder


def test_an_own_table_replaces_by_id_and_adds(tmp_path: Path) -> None:
    table = load_retention_table(write_own(tmp_path))
    assert len(table.rules) == len(load_retention_table().rules)
    assert next(rule for rule in table.rules if rule.id == "mrm.life").years == 10
    assert "retention" not in framework_ids(tmp_path)
    assert load_retention_table(tmp_path / "headings") == load_retention_table()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["rules"][0].pop("years"), "needs years or months"),
        (lambda d: d["rules"][0].update(months=3), "either years or months"),
        (lambda d: d["rules"][0].update(applies_when={"moon": 1}), "which is not among the facts"),
        (lambda d: d["rules"].append(dict(d["rules"][0], artefacts=["logs"], applies_when=None)), "occurs twice"),
        (lambda d: d["rules"][0].update(duty="erase", years=None), "says in `note` when"),
        (lambda d: d["rules"][0].update(artefacts=["attic"]), "artefacts"),
        (lambda d: d.update(colour=1), "colour"),
    ],
)
def test_a_wrong_table_is_refused_with_its_name(tmp_path: Path, change: Any, words: str) -> None:
    with pytest.raises(RetentionTableError) as caught:
        load_retention_table(write_own(tmp_path, change))
    assert "retention.yaml" in str(caught.value)
    assert words in str(caught.value)


# --- the schedule that is proposed

EVERYTHING = {**HIPAA, **CREDIT, **AI_ACT, "device_manufacturer": True, "eu_model_market": True, "broker_dealer": True}


def test_what_is_proposed_satisfies_every_framework_it_was_made_from() -> None:
    frameworks = [load_framework(name) for name in framework_ids()]
    assert any(unkept(item, DEFAULT_RULES) for item in frameworks), "the built-in rules are not enough"
    rules = proposed_rules([retention_classes(frameworks, EVERYTHING)], DEFAULT_RULES)
    left_out = retention_classes(frameworks, EVERYTHING).left_out
    assert {
        item.id: unkept(item, rules) for item in frameworks if item.id not in left_out and unkept(item, rules)
    } == {}


@pytest.mark.parametrize(("starts", "enough"), [("recorded", False), ("first_live", False), ("use_ended", True)])
def test_months_from_an_earlier_event_are_not_enough(starts: Any, enough: bool) -> None:
    framework = load_framework("hipaa")
    term = framework.retention[0]
    assert (term.start, term.years) == ("last_in_force", 6)
    short = framework.model_copy(update={"retention": (term,)})
    rule = RetentionRule(id="r", title="r", months=72, starts=starts)
    assert (unkept(short, [rule]) == []) == enough


def test_terms_count_in_the_ledger_from_where_the_text_says() -> None:
    rules = {
        rule.id: rule
        for rule in proposed_rules([retention_classes([load_framework(n) for n in framework_ids()], EVERYTHING)])
    }
    assert rules["eu-ai-act-high-risk.hr.keep.file"].starts == "first_live"
    assert rules["eu-ai-act-high-risk.hr.keep.logs"].starts == "recorded"
    assert rules["hipaa.hip.documentation"].starts == "use_ended"
    assert rules["fair-lending.fl.applications"].starts == "use_ended"
    assert "12 CFR 1002.12(b)" in rules["fair-lending.fl.applications"].source
    assert all(set(rule.kinds) <= set(kinds()) and rule.kinds for rule in rules.values())


def test_rules_in_force_stay_and_are_never_shortened() -> None:
    ours = RetentionRule(id="house", title="House", months=240)
    longer = RetentionRule(
        id="hipaa.hip.documentation", title="ours", months=100, kinds=("evaluation",), frameworks=("hipaa",)
    )
    rules = {r.id: r for r in proposed_rules([retention_classes([load_framework("hipaa")], HIPAA)], [ours, longer])}
    assert rules["house"] == ours
    merged = rules["hipaa.hip.documentation"]
    assert (merged.months, merged.starts) == (100, "use_ended")
    assert {"evaluation", "package", "sign_off"} <= set(merged.kinds)


def test_personal_data_makes_no_rule_to_keep() -> None:
    private = framework("private", [block(600, "created", "personal_data")], applicability=None)
    assert ARTEFACT_KINDS["personal_data"] == ()
    assert proposed_rules([retention_classes([private], {})]) == []


def test_long_names_are_cut_and_kept_apart() -> None:
    long = framework("f" * 50, [{**block(6), "id": "a" * 70}, {**block(7), "id": "a" * 69 + "b"}], applicability=None)
    rules = proposed_rules([retention_classes([long], {})])
    assert len({rule.id for rule in rules}) == 2
    assert all(len(rule.id) <= 60 for rule in rules)


terms = st.builds(
    block,
    st.integers(1, 200),
    st.sampled_from(["created", "last_in_force", "placed_on_market", "notice", "deployment_end"]),
    st.sampled_from(ARTEFACTS),
)


@settings(deadline=None)
@given(st.lists(terms, min_size=1, max_size=5, unique_by=lambda item: item["months"]))
def test_no_term_is_longer_than_the_longest_and_each_is_listed_once(listed: list[dict[str, Any]]) -> None:
    made = framework("made", listed, applicability=None)
    classes = retention_classes([made], {})
    for item in classes.artefacts:
        wanted = sorted(months_of(term) for term in made.retention if item.artefact in term.artefacts)
        assert sorted(term.months or 0 for term in item.keep) == wanted
        assert (item.longest.months if item.longest else 0) == max(wanted, default=0)
    assert unkept(made, proposed_rules([classes])) == []
