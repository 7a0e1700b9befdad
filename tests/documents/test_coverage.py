"""Coverage is honest: satisfied only with existing entries, and every gap says who does what."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cognify_dagster.documents import VersionFacts, assess_coverage, load_framework
from cognify_dagster.documents.coverage.engine import Line
from cognify_dagster.documents.frameworks.loading import Condition, EvidenceNode
from cognify_dagster.records.base import Record


def lines(facts: VersionFacts, name: str, now: datetime) -> dict[str, Line]:
    return {line.requirement.id: line for line in assess_coverage(facts, load_framework(name), now).lines}


def bend(facts: VersionFacts, part: str, **change: Any) -> VersionFacts:
    """The facts with one record changed."""
    item = getattr(facts, part)
    return replace(facts, **{part: replace(item, record=item.record.model_copy(update=change))})


def stated(facts: VersionFacts, **change: Any) -> VersionFacts:
    return bend(facts, "registered", framework_facts={**facts.registered.record.framework_facts, **change})


def test_a_requirement_is_satisfied_with_its_entries_named(facts: VersionFacts, now: datetime) -> None:
    found = lines(facts, "sr26-2", now)
    inventory = found["mrm.gov.inventory"]
    assert inventory.status == "satisfied"
    assert [(ref.seq, ref.leaf) for ref in inventory.entries] == [(facts.registered.seq, facts.registered.leaf)]
    assert not inventory.gaps
    repro = found["mrm.dev.repro"]
    assert repro.status == "satisfied"
    assert {facts.training.seq, facts.evaluation.seq} < {ref.seq for ref in repro.entries}


def test_what_takes_judgement_is_answered_by_a_signature_only(
    facts: VersionFacts, released: VersionFacts, now: datetime
) -> None:
    unsigned, signed = lines(facts, "sr26-2", now)["mrm.dev.purpose"], lines(released, "sr26-2", now)["mrm.dev.purpose"]
    assert unsigned.status == "needs_human", "the text is there; nobody has judged it"
    assert unsigned.supports
    assert unsigned.entries
    assert [gap.answered_by for gap in unsigned.gaps] == ["model_validator"]
    assert signed.status == "satisfied"
    vera = next(item for item in released.sign_offs if item.record.role == "model_validator")
    assert vera.seq in {ref.seq for ref in signed.entries}, "the signature is among the entries that answer it"
    others = tuple(item for item in released.sign_offs if item is not vera)
    left = lines(replace(released, sign_offs=others), "sr26-2", now)["mrm.dev.purpose"]
    assert left.status == "needs_human", "another role's signature does not answer it"


@pytest.mark.parametrize("name", ["sr26-2", "fair-lending"])
def test_no_text_of_a_person_answers_a_row_by_being_there(name: str) -> None:
    for item in load_framework(name).requirements():
        if any(leaf.kind in ("human", "attestation") for leaf in item.evidence.leaves()):
            assert item.judged_by or item.id == "mrm.gov.inventory", item.id


def test_what_can_hold_only_after_the_release_says_so(
    facts: VersionFacts, released: VersionFacts, now: datetime
) -> None:
    found = lines(facts, "sr26-2", now)
    for name in ("mrm.use.boundaries", "mrm.val.outcomes", "mrm.mon.change"):
        assert found[name].status == "after_release", name
        assert all(gap.after_release for gap in found[name].gaps)
    assert lines(facts, "fair-lending", now)["fl.aa.repro"].status == "after_release"
    assert lines(released, "sr26-2", now)["mrm.mon.change"].status == "missing", "released and not monitored is a gap"


def test_a_written_monitoring_plan_is_judged_without_monitoring_results(facts: VersionFacts, now: datetime) -> None:
    plan = "Monthly: stability of scores and inputs, default rate by decile; the owner acts within ten working days of a breach."
    line = lines(stated(facts, monitoring_plan=plan), "sr26-2", now)["mrm.mon.plan"]
    assert line.status == "needs_human"
    assert [gap.answered_by for gap in line.gaps] == ["model_validator"]
    assert lines(facts, "sr26-2", now)["mrm.mon.plan"].gaps[0].answered_by == "", (
        "an unwritten plan no signature answers"
    )


def test_a_prohibited_basis_in_the_data_that_was_not_compared_is_a_gap(facts: VersionFacts, now: datetime) -> None:
    item = facts.datasets[0]
    provenance = {**item.snapshot.record.provenance, "column_purposes": {"MARRIAGE": "none", "AGE": "-", "STAGE": "-"}}
    snapshot = replace(item.snapshot, record=item.snapshot.record.model_copy(update={"provenance": provenance}))
    bent = replace(facts, datasets=(replace(item, snapshot=snapshot), *facts.datasets[1:]))
    line = lines(bent, "fair-lending", now)["fl.screen"]
    assert line.status == "missing"
    assert [gap.text for gap in line.gaps if "compared" in gap.text] == [
        "marital status is in the data (column MARRIAGE) and was not compared"
    ], "age is compared as AGE_BAND, and STAGE is no age"


def test_code_without_version_control_is_not_known_code(facts: VersionFacts, now: datetime) -> None:
    code = facts.training.record.code.model_copy(update={"vcs": "none", "commit": "none"})
    line = lines(bend(facts, "training", code=code), "sr26-2", now)["mrm.dev.repro"]
    assert any("commit is not known" in gap.text for gap in line.gaps)


def test_every_open_line_says_what_is_open_and_who_does_what(facts: VersionFacts, now: datetime) -> None:
    for name in ("sr26-2", "fair-lending"):
        for line in lines(facts, name, now).values():
            if line.status not in ("satisfied", "not_applicable"):
                assert line.gaps, line.requirement.id
                assert all(gap.text and gap.who for gap in line.gaps)


def test_not_applicable_carries_its_derivation(facts: VersionFacts, now: datetime) -> None:
    line = lines(facts, "sr26-2", now)["mrm.vendor"]
    assert line.status == "not_applicable"
    assert line.derivation == ({"fact": "uses_vendor_components", "expected": [True], "actual": False, "holds": False},)
    unknown = lines(stated(facts, uses_vendor_components=None), "sr26-2", now)["mrm.vendor"]
    assert unknown.status != "not_applicable", "what is not stated is never taken for no"
    assert "uses_vendor_components" in unknown.gaps[0].text


def test_a_generative_model_is_outside_the_guidance(facts: VersionFacts, now: datetime) -> None:
    report = assess_coverage(stated(facts, generative=True), load_framework("sr26-2"), now)
    assert report.scope == "out_of_scope"
    assert {line.status for line in report.lines[1:]} == {"not_applicable"}
    assert all(line.derivation for line in report.lines[1:])
    assert report.lines[0].status != "not_applicable", "the scope determination itself is always asked for"


def test_an_undetermined_scope_stays_open(facts: VersionFacts, now: datetime) -> None:
    report = assess_coverage(stated(facts, is_model=None), load_framework("sr26-2"), now)
    assert report.scope == "undetermined"
    assert any(line.status == "satisfied" for line in report.lines)


def test_facts_under_the_frameworks_own_id_win(facts: VersionFacts, now: datetime) -> None:
    bent = stated(facts, **{"sr26-2": {"agentic": True}})
    assert assess_coverage(bent, load_framework("sr26-2"), now).scope == "out_of_scope"
    assert assess_coverage(bent, load_framework("fair-lending"), now).scope == "in_scope"


def test_approvals_count_from_sign_offs_alone(facts: VersionFacts, released: VersionFacts, now: datetime) -> None:
    assert lines(facts, "sr26-2", now)["mrm.val.independence"].status == "needs_human"
    signed = lines(released, "sr26-2", now)["mrm.val.independence"]
    assert signed.status == "satisfied"
    validator = next(item for item in released.sign_offs if item.record.role == "model_validator")
    assert validator.seq in {ref.seq for ref in signed.entries}


def test_the_builders_own_signature_is_not_independent(released: VersionFacts, now: datetime) -> None:
    bent = bend(released, "training", touched_by=("person/vera",))
    line = lines(bent, "sr26-2", now)["mrm.val.independence"]
    assert line.status == "needs_human"
    assert "built the version" in line.gaps[0].text


def test_a_signature_on_an_earlier_package_does_not_count(released: VersionFacts, now: datetime) -> None:
    package = released.packages[-1]
    newer = replace(package, record=package.record.model_copy(update={"package": package.record.model_card}))
    bent = replace(released, packages=(*released.packages, newer))
    assert lines(bent, "sr26-2", now)["mrm.val.independence"].status == "needs_human"


def test_an_objection_keeps_approval_open(released: VersionFacts, now: datetime) -> None:
    vera = next(item for item in released.sign_offs if item.record.role == "model_validator")
    objection = replace(vera, seq=vera.seq + 900, record=vera.record.model_copy(update={"decision": "reject"}))
    bent = replace(released, sign_offs=(*released.sign_offs, objection))
    assert lines(bent, "sr26-2", now)["mrm.val.independence"].status == "needs_human"


def test_groups_that_are_too_small_are_insufficient_data(facts: VersionFacts, now: datetime) -> None:
    line = lines(facts, "fair-lending", now)["fl.screen"]
    assert line.status == "insufficient_data"
    assert "61+" in line.gaps[0].text
    enough = tuple(
        {**item, "excluded_groups": [], "groups": item["groups"][:2]} for item in facts.evaluation.record.fairness
    )
    bent = bend(facts, "evaluation", fairness=enough)
    assert lines(bent, "fair-lending", now)["fl.screen"].status == "satisfied"


def test_a_declared_attribute_without_a_result_is_missing(facts: VersionFacts, now: datetime) -> None:
    bent = bend(facts, "registered", protected_attributes=("SEX", "AGE_BAND", "MARRIAGE"))
    line = lines(bent, "fair-lending", now)["fl.screen"]
    assert line.status == "missing"
    assert any("MARRIAGE" in gap.text for gap in line.gaps)


@pytest.mark.parametrize("change", [{"training_seq": 1}, {"model_digest": "sha256:" + "0" * 64}])
def test_an_evaluation_of_something_else_is_stale(facts: VersionFacts, now: datetime, change: dict[str, Any]) -> None:
    assert lines(bend(facts, "evaluation", **change), "sr26-2", now)["mrm.dev.testing"].status == "stale"


def test_old_evidence_is_stale(facts: VersionFacts, now: datetime) -> None:
    framework = load_framework("sr26-2")
    node = EvidenceNode(kind="auto:dataset", max_age_days=30)
    section = framework.sections[0]
    requirement = section.requirements[0].model_copy(update={"evidence": node, "judged_by": ""})
    bent = framework.model_copy(update={"sections": (section.model_copy(update={"requirements": (requirement,)}),)})
    taken = datetime.fromtimestamp(facts.datasets[0].snapshot.time_us / 1e6, tz=now.tzinfo)
    assert assess_coverage(facts, bent, taken + timedelta(days=30)).lines[0].status == "satisfied"
    assert assess_coverage(facts, bent, taken + timedelta(days=31)).lines[0].status == "stale"


def test_thresholds_adopted_after_training_do_not_count(facts: VersionFacts, now: datetime) -> None:
    late = replace(facts, gate_set=replace(facts.gate_set, seq=facts.training.record.started_after_seq))
    assert any("after training" in gap.text for gap in lines(late, "sr26-2", now)["mrm.val.outcomes"].gaps)


def test_records_shared_by_training_and_evaluation_are_a_gap(facts: VersionFacts, now: datetime) -> None:
    item = facts.overlaps[0]
    bad = replace(item, record=item.record.model_copy(update={"passed": False, "overlapping_records": 7}))
    line = lines(replace(facts, overlaps=(bad,)), "sr26-2", now)["mrm.dev.data"]
    assert line.status == "missing"
    assert any("share 7 records" in gap.text for gap in line.gaps)


def test_unknown_and_dirty_code_are_gaps(facts: VersionFacts, now: datetime) -> None:
    for dirty in (True, None):
        code = facts.training.record.code.model_copy(update={"dirty": dirty})
        assert lines(bend(facts, "training", code=code), "sr26-2", now)["mrm.dev.repro"].status == "missing"


def test_declared_unavailable_is_shown_and_never_counts(facts: VersionFacts, now: datetime) -> None:
    bent = stated(
        facts, adverse_action_notice={"declared_unavailable": "Handled by the servicer, who has not answered."}
    )
    line = lines(bent, "fair-lending", now)["fl.aa.notice"]
    assert line.status == "declared_unavailable"
    assert "servicer" in line.gaps[0].text


def test_blank_text_is_not_a_section(facts: VersionFacts, now: datetime) -> None:
    assert (
        lines(bend(facts, "registered", limitations="  \n "), "sr26-2", now)["mrm.use.limits"].status == "needs_human"
    )
    assert lines(bend(facts, "registered", limitations="Few."), "sr26-2", now)["mrm.use.limits"].status == "needs_human"


def test_law_and_guidance_are_counted_apart_and_drafts_never(facts: VersionFacts, now: datetime) -> None:
    framework = load_framework("fair-lending")
    report = assess_coverage(facts, framework, now)
    assert sum(report.counts("law").values()) == 11
    assert sum(report.counts("guidance").values()) == 2
    satisfied, applicable = report.score("law")
    assert 0 == satisfied < applicable < 11, "every row of law takes judgement"
    assert sum(report.counts("law", mandatory_only=True).values()) == 11
    draft = assess_coverage(facts, framework.model_copy(update={"status": "draft"}), now)
    assert draft.counts("law") == draft.counts("guidance") == {}
    assert len(draft.lines) == len(report.lines), "listed all the same"
    assert report.summary().law == report.counts("law")


def test_coverage_is_pure(facts: VersionFacts, now: datetime) -> None:
    framework = load_framework("sr26-2")
    assert assess_coverage(facts, framework, now) == assess_coverage(facts, framework, now)


PARTS = ["registered", "opened", "training", "evaluation", "evaluation_data", "gate_set", "policy"]
LISTS = ["datasets", "overlaps", "packages", "sign_offs", "releases", "deployments", "gate_results", "events"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    dropped=st.sets(st.sampled_from(PARTS + LISTS)),
    unpinned=st.booleans(),
    signed=st.booleans(),
    name=st.sampled_from(["sr26-2", "fair-lending"]),
    any_of=st.booleans(),
)
def test_nothing_is_satisfied_without_an_existing_entry(
    facts: VersionFacts,
    released: VersionFacts,
    now: datetime,
    dropped: set[str],
    unpinned: bool,
    signed: bool,
    name: str,
    any_of: bool,
) -> None:
    bent = released if signed else facts
    if unpinned:
        bent = replace(bent, datasets=tuple(replace(item, snapshot=None) for item in bent.datasets))
    bent = replace(bent, **{part: None if part in PARTS else () for part in dropped})
    framework = load_framework(name)
    if any_of:  # the same demands as alternatives
        sections = tuple(
            section.model_copy(
                update={
                    "requirements": tuple(
                        item.model_copy(update={"evidence": EvidenceNode(any_of=tuple(item.evidence.leaves()))})
                        for item in section.requirements
                    )
                }
            )
            for section in framework.sections
        )
        framework = framework.model_copy(update={"sections": sections})
    exist = entries_of(bent)
    for line in assess_coverage(bent, framework, now).lines:
        assert all(exist.get(ref.seq) == ref.leaf for ref in line.entries), line.requirement.id
        if line.status == "satisfied":
            assert line.entries, line.requirement.id
            assert not line.gaps
        elif line.status == "not_applicable":
            assert line.derivation
        else:
            assert line.gaps


def entries_of(value: Any) -> dict[int, str]:
    """Every entry that the facts hold, found by walking them: an oracle that shares no code with coverage."""
    found: dict[int, str] = {}
    if isinstance(value, (list, tuple)):
        for item in value:
            found |= entries_of(item)
    elif hasattr(value, "__dataclass_fields__"):
        if hasattr(value, "seq") and hasattr(value, "leaf"):
            found[value.seq] = value.leaf
        for name in value.__dataclass_fields__:
            part = getattr(value, name)
            if not isinstance(part, (Record, Condition)) and name != "entry":
                found |= entries_of(part)
    return found
