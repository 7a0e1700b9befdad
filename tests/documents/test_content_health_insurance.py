"""What the frameworks on health data, devices, insurance and fair lending say: facts that must not drift."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import VersionFacts, assess_coverage, load_framework, template_root
from cognify_dagster.documents.coverage.engine import Line
from cognify_dagster.documents.coverage.surroundings import Cited, PlanFact
from cognify_dagster.documents.facts.human import AttestationFact
from cognify_dagster.documents.frameworks.loading import Framework, Requirement, headings

FILES = ["hipaa", "hti1-source-attributes", "fda-pccp", "21cfr11", "naic-section4", "fair-lending"]


def raw(name: str, folder: str = "frameworks", suffix: str = "yaml") -> str:
    return (template_root() / folder / f"{name}.{suffix}").read_text(encoding="utf-8")


def rows(name: str) -> dict[str, Requirement]:
    return {item.id: item for item in load_framework(name).requirements()}


def with_facts(facts: VersionFacts, **stated: Any) -> VersionFacts:
    """The facts as if these had been stated at registration."""
    item = facts.registered
    assert item is not None
    own = {**item.record.framework_facts, **stated}
    return replace(facts, registered=replace(item, record=item.record.model_copy(update={"framework_facts": own})))


def lines(facts: VersionFacts, name: str, now: datetime) -> dict[str, Line]:
    return {line.requirement.id: line for line in assess_coverage(facts, load_framework(name), now).lines}


def applying(facts: VersionFacts, name: str, now: datetime) -> set[str]:
    return {key for key, line in lines(facts, name, now).items() if line.status != "not_applicable"}


def words(number: int) -> str:
    return " ".join(["word"] * number)


def written(framework: Framework) -> dict[str, str]:
    """A long enough text for every section that people write."""
    leaves = [leaf for item in framework.requirements() for leaf in item.evidence.leaves() if leaf.section]
    return {leaf.section: words(60) for leaf in leaves}


@pytest.mark.parametrize("name", FILES)
def test_every_citation_is_in_the_list_of_headings_and_no_heading_stands_twice(name: str) -> None:
    framework, listed = load_framework(name), headings(name)
    assert listed is not None
    cited = [*(item.citation for item in framework.requirements()), *(item.citation for item in framework.retention)]
    assert [part for citation in cited for part in citation.split("; ") if part not in listed] == []
    assert len(listed) == raw(name, "headings", "txt").count("\t")
    assert framework.as_of == "2026-11-21"
    assert framework.scored("2026-11-21")


@pytest.mark.parametrize("name", FILES)
def test_conditional_and_draft_rows_keep_their_force(name: str) -> None:
    for item in load_framework(name).requirements():
        if item.force in ("draft", "voluntary"):
            assert not item.mandatory, item.id
        if any(leaf.kind in ("human", "attestation") for leaf in item.evidence.leaves()):
            assert item.judged_by in ("compliance_officer", "model_validator", "business_owner"), item.id


def sections_and_facts(name: str) -> tuple[set[str], set[str]]:
    framework = load_framework(name)
    sections = {leaf.section for item in framework.requirements() for leaf in item.evidence.leaves() if leaf.section}
    return sections, {fact.name for fact in framework.facts}


@pytest.mark.parametrize("name", FILES)
def test_no_section_shares_its_name_with_a_fact(name: str) -> None:
    sections, facts = sections_and_facts(name)
    assert sections & facts == set(), "a yes or a word stated as a fact would count as a written section"


# Fair lending


def test_the_effects_test_left_regulation_b_on_21_july_2026() -> None:
    framework = load_framework("fair-lending")
    assert framework.effective_from == "2026-07-21"
    assert not framework.scored("2026-07-20")
    assert any("before 21 July 2026" in text for text in framework.supersedes)
    assert any("Since 21 July 2026" in note and "no effects test" in note for note in framework.notes)
    effects = {
        "29 CFR 1607.4(D)",
        "Fair Housing Act (disparate-impact doctrine)",
        "State law (disparate-impact doctrine)",
    }
    for item in framework.requirements():
        if effects & set(item.citation.split("; ")):
            assert item.force == "guidance", (
                f"{item.id}: a comparison of outcomes is a screen, no duty under Regulation B"
            )
    assert {item.id for item in framework.requirements() if item.force == "guidance"} == {"fl.screen", "fl.lda"}


def test_the_proxy_row_asks_for_intent_and_never_for_a_ratio() -> None:
    item = rows("fair-lending")["fl.proxy"]
    assert "intent" in item.paraphrase
    checks = {check for leaf in item.evidence.leaves() for check in leaf.checks}
    assert checks == {"proxy_review"}


def test_the_withdrawn_circulars_are_told_of_and_cited_nowhere() -> None:
    framework = load_framework("fair-lending")
    assert any("2022-03 and 2023-03" in note and "withdrawn on 12 May 2025" in note for note in framework.notes)
    assert "fl.circulars" not in rows("fair-lending")
    for item in framework.requirements():
        assert "2022-03" not in item.citation + item.paraphrase
        assert "2023-03" not in item.citation + item.paraphrase
    assert not any("CFPB" in reference for reference in headings("fair-lending") or ["CFPB"])


def test_four_fifths_is_a_screen_and_no_pass_mark() -> None:
    item = rows("fair-lending")["fl.screen"]
    assert item.force == "guidance"
    assert "Never a pass mark" in item.paraphrase


# HIPAA

PATIENTS = {"hipaa_role": "covered_entity", "uses_phi": True, "vendors_touch_phi": True}


def baa(facts: VersionFacts, **change: Any) -> AttestationFact:
    fields: dict[str, Any] = {
        "text_id": "baa", "about": f"model/{facts.model}", "role": "compliance_officer", "person": "person/carl",
        "expires": "2027-06-30T00:00:00Z", "seq": facts.registered.seq, "leaf": facts.registered.leaf,
        "time_us": facts.registered.time_us, "valid": True, "party": "Cloud GmbH",
    }  # fmt: skip
    return AttestationFact(**{**fields, **change})


def test_whatever_is_written_the_profile_stays_open_without_a_business_associate_contract(
    released: VersionFacts, now: datetime
) -> None:
    framework = load_framework("hipaa")
    facts = with_facts(released, **written(framework), **PATIENTS)
    line = lines(facts, "hipaa", now)["hip.ba"]
    assert line.status == "needs_human"
    assert "baa" in line.gaps[0].text
    satisfied, applicable = assess_coverage(facts, framework, now).score("law")
    assert satisfied < applicable
    signed = replace(facts, attestations=(baa(facts),))
    assert lines(signed, "hipaa", now)["hip.ba"].status == "satisfied"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"expires": "2026-11-20T00:00:00Z"}, "stale"),
        ({"valid": False, "why": "it was withdrawn"}, "needs_human"),
        ({"role": "model_validator"}, "needs_human"),
        ({"text_id": "licence"}, "needs_human"),
    ],
)
def test_a_contract_that_does_not_count_leaves_the_profile_open(
    released: VersionFacts, now: datetime, change: dict[str, Any], status: str
) -> None:
    facts = with_facts(released, **written(load_framework("hipaa")), **PATIENTS)
    line = lines(replace(facts, attestations=(baa(facts, **change),)), "hipaa", now)["hip.ba"]
    assert line.status == status


def test_who_needs_a_business_associate_contract(facts: VersionFacts, now: datetime) -> None:
    def status(**change: Any) -> str:
        return lines(with_facts(facts, **{**PATIENTS, **change}), "hipaa", now)["hip.ba"].status

    assert status(vendors_touch_phi=False) == "not_applicable"
    assert status(vendors_touch_phi=None) == "needs_human", "not said is not no"
    assert status(vendors_touch_phi=False, hipaa_role="business_associate") == "needs_human"
    line = lines(with_facts(facts, **{**PATIENTS, "vendors_touch_phi": False}), "hipaa", now)["hip.ba"]
    assert any(step["fact"] == "vendors_touch_phi" and step["holds"] is False for step in line.derivation)


def test_de_identification_asks_for_the_route_that_was_taken(facts: VersionFacts, now: datetime) -> None:
    def routes(value: Any) -> set[str]:
        found = applying(with_facts(facts, hipaa_role="covered_entity", deidentification=value), "hipaa", now)
        return {name for name in found if name.startswith("hip.deid")}

    assert routes("safe_harbor") == {"hip.deid.sh"}
    assert routes("expert_determination") == {"hip.deid.ed"}
    assert routes(["safe_harbor", "expert_determination"]) == {"hip.deid.sh", "hip.deid.ed"}
    assert routes("none") == set()


def test_the_proposed_security_rule_is_no_row() -> None:
    framework = load_framework("hipaa")
    assert any("90 FR 898" in note and "proposal" in note for note in framework.notes)
    assert all(item.force != "draft" and "90 FR 898" not in item.citation for item in framework.requirements())
    assert "addressable" in rows("hipaa")["hip.transmit"].paraphrase
    assert (rows("hipaa")["hip.memor"].force, rows("hipaa")["hip.memor"].mandatory) == ("guidance", False)


def test_section_1557_applies_to_decision_support_alone(facts: VersionFacts, now: datetime) -> None:
    stated = {"hipaa_role": "none", "uses_phi": False, "s1557_covered_entity": True}
    found = applying(with_facts(facts, **stated, patient_care_decision_support=True), "hipaa", now)
    mandatory = {name for name in found if name.startswith("s1557")}
    assert mandatory == {"s1557.general", "s1557.identify", "s1557.mitigate"}
    assert not any(name.startswith("hip.") for name in found - {"hip.scope"})
    without = applying(with_facts(facts, **stated, patient_care_decision_support=False), "hipaa", now)
    assert not any(name.startswith("s1557") for name in without)


# Source attributes


def attributes(item: Requirement) -> int:
    """Attributes of a group: one for each demand or choice at the top of its evidence that is about content."""
    extra = {"dsi.B1": 1, "dsi.B5": 1, "dsi.B6": 1, "dsi.B9": 1}  # what the ledger adds to what people write
    return len(item.evidence.all_of) - extra.get(item.id, 0)


def test_the_nine_groups_hold_31_attributes() -> None:
    groups = [item for name, item in rows("hti1-source-attributes").items() if name.startswith("dsi.B")]
    assert [attributes(item) for item in groups] == [4, 4, 2, 4, 2, 4, 5, 4, 2]


def test_an_attribute_that_is_not_available_is_told_apart_from_a_missing_one(
    released: VersionFacts, now: datetime
) -> None:
    texts: Mapping[str, Any] = written(load_framework("hti1-source-attributes"))
    stated = {"predictive_dsi": True, "supplied_by_certified_developer": True}
    complete = with_facts(released, **texts, **stated)
    assert lines(complete, "hti1-source-attributes", now)["dsi.B6"].status == "satisfied"
    unavailable = {"declared_unavailable": "No second site has tested it."}
    changed = with_facts(released, **{**texts, "external_validation_party": unavailable}, **stated)
    assert lines(changed, "hti1-source-attributes", now)["dsi.B6"].status == "declared_unavailable"
    lacking = with_facts(released, **{**texts, "external_validation_party": ""}, **stated)
    assert lines(lacking, "hti1-source-attributes", now)["dsi.B6"].status == "needs_human"


def test_the_proposal_to_remove_the_attributes_changes_nothing_yet() -> None:
    framework = load_framework("hti1-source-attributes")
    assert framework.effective_to is None
    assert any("HTI-5" in note and "would remove" in note for note in framework.notes)
    assert not any("HTI-5" in item.citation for item in framework.requirements())


def test_the_attributes_bind_developers_of_certified_products_alone(facts: VersionFacts, now: datetime) -> None:
    stated = with_facts(facts, predictive_dsi=True, supplied_by_certified_developer=False)
    assert applying(stated, "hti1-source-attributes", now) == {"dsi.scope"}


# FDA

DEVICE = {"device_function": True, "device_manufacturer": True, "pccp_status": "authorised"}


def test_the_plan_s_documents_rest_on_the_signed_change_plan(released: VersionFacts, now: datetime) -> None:
    demanding = {
        name
        for name, item in rows("fda-pccp").items()
        if any("change_plan" in leaf.checks for leaf in item.evidence.leaves())
    }
    assert demanding == {"pccp.dom", "pccp.mp.data", "pccp.mp.retrain", "pccp.trace"}
    facts = with_facts(released, **written(load_framework("fda-pccp")), **DEVICE)
    assert lines(facts, "fda-pccp", now)["pccp.trace"].status == "missing"
    plan = PlanFact(
        Cited(facts.registered.seq, facts.registered.time_us, facts.registered.leaf), "yearly", "2027-12-31T00:00:00Z"
    )
    planned = replace(facts, oversight=replace(facts.oversight, plans=(plan,)))
    found = lines(planned, "fda-pccp", now)
    assert {found[name].status for name in ("pccp.dom", "pccp.mp.retrain", "pccp.trace")} == {"satisfied"}


def test_rows_of_a_plan_apply_where_there_is_one(facts: VersionFacts, now: datetime) -> None:
    def plan_rows(**change: Any) -> set[str]:
        found = applying(with_facts(facts, **{**DEVICE, "change_outside_plan": False, **change}), "fda-pccp", now)
        return {name for name in found if name.startswith("pccp.")}

    everything = {name for name in rows("fda-pccp") if name.startswith("pccp.")}
    assert plan_rows(pccp_status="none") == set()
    assert plan_rows() == plan_rows(pccp_status="planned") == everything - {"pccp.dev"}
    assert plan_rows(change_outside_plan=True) == everything
    assert plan_rows(change_outside_plan=True, pccp_status="planned") == everything - {"pccp.dev"}


def test_good_practice_is_guidance_and_the_life_cycle_draft_is_never_counted(
    facts: VersionFacts, now: datetime
) -> None:
    items = rows("fda-pccp")
    principles = [items[f"gmlp.{number}"] for number in range(1, 11)]
    assert {item.force for item in principles} == {"guidance"}
    assert items["fda.tplc"].force == "draft"
    report = assess_coverage(with_facts(facts, **DEVICE), load_framework("fda-pccp"), now)
    assert report.score("guidance")[1] == len(principles)
    assert report.counts("law", mandatory_only=True)
    assert sum(report.counts("law").values()) == len([item for item in items.values() if item.force == "law"])


def test_part_11_follows_the_predicate_rule(facts: VersionFacts, now: datetime) -> None:
    assert applying(with_facts(facts, predicate_rule=False), "21cfr11", now) == {"p11.scope"}
    stated = {"predicate_rule": True, "open_system": False}
    unsigned = applying(with_facts(facts, **stated, electronic_signatures=False), "21cfr11", now)
    signed = applying(with_facts(facts, **stated, electronic_signatures=True), "21cfr11", now)
    assert signed - unsigned == {"p11.manifest", "p11.link", "p11.unique", "p11.200", "p11.300"}
    assert "p11.open" not in signed


# Insurance

BULLETIN = {
    "naic.prog", "naic.policies", "naic.gov", "naic.data", "naic.inventory", "naic.model", "naic.narr", "naic.val",
    "naic.ret", "naic.tp", "naic.exam",
}  # fmt: skip
OWN = {"CO": "naic.own.co", "NY": "naic.own.ny", "CA": "naic.own.other", "TX": "naic.own.other"}


def in_states(facts: VersionFacts, now: datetime, *states: str) -> set[str]:
    stated = with_facts(facts, insurer=True, third_party_ai=True, state=list(states))
    return applying(stated, "naic-section4", now)


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        (("PA",), BULLETIN),
        (("DC",), BULLETIN),
        (("CO",), {"naic.own.co"}),
        (("NY",), {"naic.own.ny"}),
        (("TX",), {"naic.own.other"}),
        (("PA", "CO"), BULLETIN | {"naic.own.co"}),
        (("OH",), set()),
        (("OH", "adopted_later"), BULLETIN),
    ],
)
def test_the_state_picks_the_rows(
    facts: VersionFacts, now: datetime, states: tuple[str, ...], expected: set[str]
) -> None:
    assert in_states(facts, now, *states) == expected | {"naic.scope"}


def test_the_bulletin_stands_in_25_states_and_the_district() -> None:
    conditions = {item.id: item.applies_when for item in load_framework("naic-section4").requirements()}
    condition = conditions["naic.prog"]
    assert condition is not None
    adopted = set(condition.values) - {"adopted_later"}
    assert len(adopted) == 26
    assert "DC" in adopted
    assert not adopted & set(OWN)


def test_a_state_that_is_not_stated_leaves_every_row_open(facts: VersionFacts, now: datetime) -> None:
    report = lines(with_facts(facts, insurer=True), "naic-section4", now)
    assert {line.status == "not_applicable" for line in report.values()} == {False}


CODES = ["PA", "CT", "DC", "CO", "NY", "CA", "TX", "OH", "FL", "adopted_later"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(CODES), min_size=1, max_size=4, unique=True))
def test_several_states_ask_for_what_each_of_them_asks(facts: VersionFacts, now: datetime, states: list[str]) -> None:
    together = in_states(facts, now, *states)
    assert together == set().union(*(in_states(facts, now, state) for state in states))


def test_the_bulletin_is_guidance_and_pointers_and_drafts_are_never_counted(facts: VersionFacts, now: datetime) -> None:
    stated = with_facts(facts, insurer=True, third_party_ai=True, state=["PA", "CO", "NY", "TX"])
    report = assess_coverage(stated, load_framework("naic-section4"), now)
    assert report.counts("law") == {}
    assert report.score("guidance")[1] == len(BULLETIN - {"naic.exam"}) + 1
    pointers = [item for name, item in rows("naic-section4").items() if name.startswith("naic.own")]
    assert {item.force for item in pointers} == {"voluntary"}


# Retention


def test_only_periods_that_the_texts_name_are_retention_classes() -> None:
    found = {name: [(item.years, item.months, item.start) for item in load_framework(name).retention] for name in FILES}
    assert found == {
        "hipaa": [(6, None, "last_in_force")],
        "fair-lending": [(None, 25, "notice")],
        "fda-pccp": [(2, None, "placed_on_market")],
        "hti1-source-attributes": [],
        "21cfr11": [],
        "naic-section4": [],
    }
