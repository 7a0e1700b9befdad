"""Each check that a framework may name: met only by what the ledger holds; else it names the field and who records it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from cognify_dagster.documents import VersionFacts, collect, load_framework
from cognify_dagster.documents.coverage.checks import check_leaf
from cognify_dagster.documents.coverage.surroundings import Cited, DelegationFact, FindingFact, IncidentFact, PlanFact
from cognify_dagster.documents.coverage.types import Context, Shown
from cognify_dagster.documents.facts.human import AttestationFact, SectionFact
from cognify_dagster.documents.frameworks.model import KIND_CHECKS, EvidenceNode, Framework, RetentionClass
from cognify_dagster.records import CodeRef, Compute, Rerun, RetentionRule
from tests.documents.story import Story
from tests.documents.test_coverage import bend, stated

ENTRY = Cited(3, 1_763_000_000_000_000, "ab" * 32)
OTHER = Cited(4, 1_763_000_000_000_000, "cd" * 32)


def framework(**change: Any) -> Framework:
    return load_framework("sr26-2").model_copy(update=change)


def ask(
    facts: VersionFacts, now: datetime, kind: str, *checks: str, about: Framework | None = None, **more: Any
) -> Shown:
    node = EvidenceNode(kind=kind, checks=checks, **more)
    chosen = about or framework()
    from cognify_dagster.documents.coverage.engine import stated_facts

    return check_leaf(node, Context(facts, stated_facts(facts, chosen.id), now, chosen))


def oversight(facts: VersionFacts, **change: Any) -> VersionFacts:
    return replace(facts, oversight=replace(facts.oversight, **change))


def provenance(facts: VersionFacts, **change: Any) -> VersionFacts:
    """The facts with another provenance of the training data."""
    item = facts.datasets[0]
    assert item.snapshot is not None
    told = {**item.snapshot.record.provenance, **change}
    record = item.snapshot.record.model_copy(update={"provenance": told})
    return replace(facts, datasets=(replace(item, snapshot=replace(item.snapshot, record=record)), *facts.datasets[1:]))


def only_gap(shown: Shown) -> tuple[str, str, str]:
    (gap,) = shown.gaps
    return gap.status, gap.text, gap.who


@pytest.mark.parametrize("kind", sorted(KIND_CHECKS))
def test_every_check_of_every_kind_is_answered(facts: VersionFacts, now: datetime, kind: str) -> None:
    bare = VersionFacts("o", 1, "00", False, facts.model, facts.version)
    for check in sorted(KIND_CHECKS[kind]) or [""]:
        words = {"section": "limitations"} if kind == "human" else {"role": "auditor"} if kind == "attestation" else {}
        checks = (check,) if check else ()
        for about in (facts, bare):
            shown = ask(about, now, kind, *checks, **words)
            assert shown.entries or shown.gaps, (kind, check)
            assert all(gap.text and gap.who for gap in shown.gaps)
        assert ask(bare, now, kind, *checks, **words).gaps, f"{kind} {check}: an empty ledger meets no demand"


FIELDS = [
    ("deidentified", "deidentification_method", "HIPAA Safe Harbor, 45 CFR 164.514(b)(2)"),
    ("licence", "licence", "CC BY 4.0"),
    ("source", "source", "UCI 350"),
    ("jurisdiction", "jurisdiction", "Taiwan"),
    ("consent", "consent", "contract"),
    ("agreement", "agreement_ref", "DUA-17"),
    ("agreement_reviewed", "agreement_reviewed_by", "legal"),
    ("authorised", "source_authorisation", "IRB waiver 2026-3"),
    ("deidentification_certificate", "deidentification_certificate", "expert determination 2026-7"),
]


@pytest.mark.parametrize(("check", "field", "value"), FIELDS)
def test_a_field_of_the_provenance_is_stated_or_missing(
    facts: VersionFacts, now: datetime, check: str, field: str, value: str
) -> None:
    told = ask(provenance(facts, **{field: value}), now, "auto:dataset", check)
    assert not told.gaps
    assert told.entries[0].seq == facts.datasets[0].snapshot.seq
    for nothing in ("", "   ", None, True, ["x"]):
        status, text, who = only_gap(ask(provenance(facts, **{field: nothing}), now, "auto:dataset", check))
        assert status == "missing"
        assert field in text
        assert who.startswith("data owner")


def test_the_period_of_collection_is_two_days_or_a_reason(facts: VersionFacts, now: datetime) -> None:
    assert not ask(facts, now, "auto:dataset", "collection_period").gaps
    half = provenance(facts, collected_to=None)
    assert only_gap(ask(half, now, "auto:dataset", "collection_period"))[0] == "missing"
    why = provenance(half, collected_unknown="The vendor no longer exists.")
    status, text, _ = only_gap(ask(why, now, "auto:dataset", "collection_period"))
    assert status == "declared_unavailable"
    assert "vendor no longer exists" in text


def test_every_column_that_is_listed_has_a_purpose(facts: VersionFacts, now: datetime) -> None:
    assert not ask(facts, now, "auto:dataset", "column_purposes").gaps
    blank = provenance(facts, column_purposes={"AGE": "screening", "SEX": " ", "ID": None})
    assert "column ID, SEX" in only_gap(ask(blank, now, "auto:dataset", "column_purposes"))[1]
    assert ask(provenance(facts, column_purposes={}), now, "auto:dataset", "column_purposes").gaps


def test_groups_are_counted_in_the_current_evaluation(facts: VersionFacts, now: datetime) -> None:
    shown = ask(facts, now, "auto:dataset", "group_counts")
    assert not shown.gaps
    assert facts.evaluation.seq in {ref.seq for ref in shown.entries}
    more = bend(facts, "registered", protected_attributes=("SEX", "AGE_BAND", "MARRIAGE"))
    assert "MARRIAGE" in only_gap(ask(more, now, "auto:dataset", "group_counts"))[1]
    stale = bend(facts, "evaluation", training_seq=1)
    assert "no current evaluation" in only_gap(ask(stale, now, "auto:dataset", "group_counts"))[1]
    none = bend(bend(facts, "registered", protected_attributes=()), "evaluation", protected_attributes=())
    assert "no protected attribute is declared" in only_gap(ask(none, now, "auto:dataset", "group_counts"))[1]
    uncounted = tuple({**item, "groups": [{"group": "a", "n": True}]} for item in facts.evaluation.record.fairness)
    assert ask(bend(facts, "evaluation", fairness=uncounted), now, "auto:dataset", "group_counts").gaps


TRAINING = [
    ("parameters", {"architecture": {"name": "gbt", "parameters": 5280}}, "architecture.parameters"),
    ("modality", {"architecture": {"details": {"modality": "tabular in, score out"}}}, "modality"),
    ("compute", {"extra": {"compute": {"flop": 1e15}}}, "estimated from (compute)"),
    ("compute", {"compute": Compute(flops=1e15, flops_method="counted")}, "estimated from (compute)"),
    ("compute", {"compute": Compute(parameters=7_000_000, tokens=10_000)}, "estimated from (compute)"),
    ("energy", {"compute": Compute(energy_kwh=0.2)}, "energy_kwh"),
    ("parameters", {"compute": Compute(parameters=5280)}, "architecture.parameters"),
    ("duration", {"compute": Compute(device_seconds=12.5)}, "duration_s"),
    ("selection", {"selection_note": "best of six"}, "why this configuration"),
    ("feature_code", {"feature_code": CodeRef(vcs="git", commit="a" * 40)}, "feature_code"),
    ("rerun", {"rerun": Rerun(command=("python", "train.py"))}, "rerun"),
    ("base_identity", {"base_model": {"name": "base", "sha256": "5" * 64}}, "no digest of it"),
    ("energy", {"extra": {"energy_kwh": 0.2}}, "energy_kwh"),
    ("energy", {"extra": {"compute": {"energy_kwh": "0.2"}}}, "energy_kwh"),
    ("duration", {"observed": {"duration_s": 12.5}}, "duration_s"),
    ("base_licence", {"base_model": {"name": "m", "licence": "apache-2.0"}}, "no base model"),
]


@pytest.mark.parametrize(("check", "change", "words"), TRAINING)
def test_the_training_run_records_it_or_it_is_missing(
    facts: VersionFacts, now: datetime, check: str, change: dict[str, Any], words: str
) -> None:
    assert not ask(bend(facts, "training", **change), now, "auto:training", check).gaps
    status, text, who = only_gap(ask(facts, now, "auto:training", check))
    assert status == "missing"
    assert words in text
    assert who.startswith("developer")


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), True, "many", None, [1]])
def test_only_a_number_above_zero_counts_as_one(facts: VersionFacts, now: datetime, value: Any) -> None:
    for check, change in (
        ("parameters", {"architecture": {"parameters": value}}),
        ("energy", {"extra": {"energy_kwh": value}}),
        ("compute", {"extra": {"compute": {"flop": value}}}),
        ("duration", {"observed": {"duration_s": value}}),
    ):
        assert ask(bend(facts, "training", **change), now, "auto:training", check).gaps, check


def test_a_base_model_without_a_licence_has_none(facts: VersionFacts, now: datetime) -> None:
    bent = bend(facts, "training", base_model={"name": "m", "licence": "  "})
    assert "licence" in only_gap(ask(bent, now, "auto:training", "base_licence"))[1]


def test_hardware_and_image_come_from_the_environment(facts: VersionFacts, now: datetime) -> None:
    where = facts.training.record.environment
    assert not ask(facts, now, "auto:environment", "hardware").gaps, "that there is no GPU is a statement"
    unread = bend(facts, "training", environment=where.model_copy(update={"gpu": "unreadable"}))
    assert "hardware is not recorded" in only_gap(ask(unread, now, "auto:environment", "hardware"))[1]
    for image in ("", "none", "registry/x:latest", "sha256:abc"):
        bent = bend(facts, "training", environment=where.model_copy(update={"container_image": image}))
        assert "container_image" in only_gap(ask(bent, now, "auto:environment", "image"))[1]
    digest = where.model_copy(update={"container_image": f"registry.example/x@sha256:{'a' * 64}"})
    assert not ask(bend(facts, "training", environment=digest), now, "auto:environment", "image").gaps


@pytest.mark.parametrize("kind", ["auto:eval", "auto:fairness"])
def test_a_table_that_is_asked_for_is_in_the_evaluation_or_attached(
    facts: VersionFacts, now: datetime, kind: str
) -> None:
    enough = tuple({**i, "excluded_groups": [], "groups": i["groups"][:2]} for i in facts.evaluation.record.fairness)
    facts = bend(facts, "evaluation", fairness=enough)
    assert not ask(facts, now, kind, tables=("calibration", "roc")).gaps, "a table and an attachment"
    status, text, who = only_gap(ask(facts, now, kind, tables=("calibration", "drift_test")))
    assert (status, who.partition(":")[0]) == ("missing", "developer")
    assert "drift_test" in text
    empty = bend(facts, "evaluation", tables={"calibration": []})
    assert ask(empty, now, kind, tables=("calibration",)).gaps, "an empty table holds nothing"


def test_a_rollback_needs_an_earlier_version(released: VersionFacts, facts: VersionFacts, now: datetime) -> None:
    assert not ask(released, now, "auto:deployment", "target").gaps
    assert "supersedes" in only_gap(ask(released, now, "auto:deployment", "rollback"))[1]
    item = released.deployments[0]
    later = replace(item, record=item.record.model_copy(update={"supersedes": "0"}))
    assert not ask(replace(released, deployments=(later,)), now, "auto:deployment", "rollback").gaps
    assert only_gap(ask(facts, now, "auto:deployment", "rollback"))[0] == "after_release"


def keeping(**term: Any) -> Framework:
    item = RetentionClass(id="r", start="created", citation="Act 5", basis="primary", **term)
    return framework(retention=(item,))


def rules(*given: RetentionRule) -> dict[str, Any]:
    return {"retention": given, "retention_entry": ENTRY}


def test_retention_is_adopted_and_as_long_as_the_framework_asks(facts: VersionFacts, now: datetime) -> None:
    about = keeping(artefacts=("package", "evaluation"), years=10)
    assert "retention_adopted" in only_gap(ask(facts, now, "auto:ledger", "retention", about=about))[1]
    long = RetentionRule(id="all", title="everything", months=120)
    shown = ask(oversight(facts, **rules(long)), now, "auto:ledger", "retention", about=about)
    assert not shown.gaps
    assert shown.entries[0].seq == ENTRY.seq
    short = RetentionRule(id="all", title="everything", months=119)
    texts = [
        gap.text for gap in ask(oversight(facts, **rules(short)), now, "auto:ledger", "retention", about=about).gaps
    ]
    assert len(texts) == 2
    assert all("120 months from when it was made (Act 5)" in text and "119 months" in text for text in texts)
    some = RetentionRule(id="some", title="packages", months=120, kinds=("package", "final_copy"))
    (gap,) = ask(oversight(facts, **rules(some)), now, "auto:ledger", "retention", about=about).gaps
    assert "evaluation is to be kept" in gap.text
    assert "no months" in gap.text
    foreign = RetentionRule(id="other", title="other", months=240, frameworks=("hipaa",))
    assert len(ask(oversight(facts, **rules(foreign)), now, "auto:ledger", "retention", about=about).gaps) == 2
    personal = keeping(artefacts=("personal_data",), months=1)
    assert not ask(oversight(facts, **rules(short)), now, "auto:ledger", "retention", about=personal).gaps


def test_a_change_plan_counts_until_it_ends(facts: VersionFacts, now: datetime) -> None:
    assert only_gap(ask(facts, now, "auto:ledger", "change_plan"))[0] == "missing"
    plan = PlanFact(ENTRY, "retrain-monthly", "2026-11-21T08:00:01Z")
    bent = oversight(facts, plans=(plan,))
    assert not ask(bent, now, "auto:ledger", "change_plan").gaps
    status, text, _ = only_gap(ask(bent, now + timedelta(seconds=1), "auto:ledger", "change_plan"))
    assert status == "stale"
    assert "retrain-monthly" in text


def test_silence_about_incidents_is_no_statement(facts: VersionFacts, released: VersionFacts, now: datetime) -> None:
    assert only_gap(ask(facts, now, "auto:ledger", "incidents"))[0] == "after_release"
    status, text, _ = only_gap(ask(released, now, "auto:ledger", "incidents"))
    assert status == "missing"
    assert "does not say that there was none" in text
    bent = oversight(released, incidents=(IncidentFact(ENTRY, "wrong letters"),))
    assert not ask(bent, now, "auto:ledger", "incidents").gaps


def test_findings_are_recorded_and_none_that_weighs_is_open(facts: VersionFacts, now: datetime) -> None:
    assert "does not say that nobody looked" in only_gap(ask(facts, now, "auto:ledger", "findings"))[1]
    open_one = FindingFact(ENTRY, "high", "holdout overlaps")
    status, text, _ = only_gap(ask(oversight(facts, findings=(open_one,)), now, "auto:ledger", "findings"))
    assert status == "needs_human"
    assert "holdout overlaps" in text
    closed = replace(open_one, closed=OTHER)
    shown = ask(oversight(facts, findings=(closed,)), now, "auto:ledger", "findings")
    assert not shown.gaps
    assert {ref.seq for ref in shown.entries} == {ENTRY.seq, OTHER.seq}
    accepted = replace(open_one, accepted_until="2026-12-01T00:00:00Z")
    assert not ask(oversight(facts, findings=(accepted,)), now, "auto:ledger", "findings").gaps
    lapsed = oversight(facts, findings=(accepted,))
    assert ask(lapsed, now + timedelta(days=30), "auto:ledger", "findings").gaps, "an acceptance ends by itself"
    low = replace(open_one, severity="low")
    assert not ask(oversight(facts, findings=(low,)), now, "auto:ledger", "findings").gaps


def test_a_delegation_counts_while_it_runs(facts: VersionFacts, now: datetime) -> None:
    assert ask(facts, now, "auto:ledger", "delegation").gaps
    item = DelegationFact(
        ENTRY, "model_validator", "person/a", "person/b", "2026-11-21T08:00:00Z", "2026-11-22T08:00:00Z"
    )
    bent = oversight(facts, delegations=(item,))
    assert not ask(bent, now, "auto:ledger", "delegation").gaps
    for moment in (now - timedelta(seconds=1), now + timedelta(days=1)):
        assert ask(bent, moment, "auto:ledger", "delegation").gaps


def test_people_are_enrolled_for_every_role_of_the_tier(facts: VersionFacts, now: datetime) -> None:
    shown = ask(facts, now, "auto:ledger", "people")
    assert not shown.gaps
    assert facts.oversight.wanted_roles == ("business_owner", "compliance_officer", "model_validator")
    assert len(shown.entries) == 3
    fewer = {role: cited for role, cited in facts.oversight.holders.items() if role != "model_validator"}
    assert "model validator" in only_gap(ask(oversight(facts, holders=fewer), now, "auto:ledger", "people"))[1]
    assert ask(oversight(facts, wanted_roles=()), now, "auto:ledger", "people").gaps


def test_a_signed_head_is_named_by_somebodys_statement(
    facts: VersionFacts, released: VersionFacts, now: datetime
) -> None:
    (gap,) = ask(facts, now, "auto:ledger", "checkpoint").gaps
    assert gap.answered_by == "*"
    shown = ask(released, now, "auto:ledger", "checkpoint")
    assert not shown.gaps
    assert {0, released.sign_offs[-1].seq} == {ref.seq for ref in shown.entries}, "the key's entry and the statement"


def section(text: str, **change: Any) -> SectionFact:
    base = SectionFact("limitations", text, "person/ben", False, False, False, 1, 77, "ee" * 32, ENTRY.time_us)
    return replace(base, **change)


def test_a_section_of_the_version_comes_before_the_registration(facts: VersionFacts, now: datetime) -> None:
    written = replace(facts, sections={"limitations": section("Only these markets.")})
    shown = ask(written, now, "human", section="limitations")
    assert [ref.seq for ref in shown.entries] == [77]
    short = ask(written, now, "human", section="limitations", min_words=4)
    assert "3 words, fewer than 4" in only_gap(short)[1], "the longer text of the registration does not fill it up"
    assert ask(facts, now, "human", section="limitations").entries[0].seq == facts.registered.seq


def test_a_drafted_text_counts_once_a_person_answers_for_it(facts: VersionFacts, now: datetime) -> None:
    drafted = replace(facts, sections={"limitations": section("Only these markets.", ai_drafted=True)})
    status, text, who = only_gap(ask(drafted, now, "human", section="limitations", role="compliance_officer"))
    assert status == "needs_human"
    assert "drafted by a program" in text
    assert who.startswith("compliance officer")
    from cognify_dagster.governance import Approval

    def signed(*roles: str) -> VersionFacts:
        approval = Approval(78, "aa" * 32, ENTRY.time_us, "person/carl", roles[0], roles)
        item = section("Only these markets.", ai_drafted=True, approved=True, approvals=(approval,))
        return replace(facts, sections={"limitations": item})

    ours = ask(signed("compliance_officer"), now, "human", section="limitations", role="compliance_officer")
    assert [ref.seq for ref in ours.entries] == [77, 78]
    assert ask(signed("ml_engineer"), now, "human", section="limitations", role="compliance_officer").gaps
    assert not ask(signed("ml_engineer"), now, "human", section="limitations", role="model owner").gaps


def test_a_section_declared_unavailable_never_counts(facts: VersionFacts, now: datetime) -> None:
    item = section("", declared_unavailable="The vendor does not say.")
    status, text, _ = only_gap(ask(replace(facts, sections={"limitations": item}), now, "human", section="limitations"))
    assert status == "declared_unavailable"
    assert "The vendor does not say." in text


def attested(facts: VersionFacts, **change: Any) -> VersionFacts:
    base = AttestationFact(
        "licence", "dataset/loans_train", "compliance_officer", "person/carl", None, 80, "ff" * 32, ENTRY.time_us, True
    )
    return replace(facts, attestations=(replace(base, **change),))


def test_an_attestation_counts_by_text_role_and_date(facts: VersionFacts, now: datetime) -> None:
    words: dict[str, Any] = {"text_id": "licence", "role": "compliance_officer"}
    assert only_gap(ask(facts, now, "attestation", **words))[0] == "needs_human"
    shown = ask(attested(facts), now, "attestation", **words)
    assert not shown.gaps
    assert [ref.seq for ref in shown.entries] == [80]
    assert ask(attested(facts, text_id="baa"), now, "attestation", **words).gaps
    assert (
        "made by the model owner" in only_gap(ask(attested(facts, role="model_owner"), now, "attestation", **words))[1]
    )
    withdrawn = attested(facts, valid=False, why="it was withdrawn by entry 90")
    status, text, _ = only_gap(ask(withdrawn, now, "attestation", **words))
    assert (status, "withdrawn by entry 90" in text) == ("needs_human", True)
    ends = attested(facts, expires="2026-11-21T08:00:01Z")
    assert not ask(ends, now, "attestation", **words).gaps
    assert only_gap(ask(ends, now + timedelta(seconds=1), "attestation", **words))[0] == "stale"


def test_an_attestation_with_a_section_needs_both(facts: VersionFacts, now: datetime) -> None:
    words: dict[str, Any] = {"text_id": "licence", "role": "compliance_officer", "section": "data_rights"}
    assert "data_rights" in only_gap(ask(attested(facts), now, "attestation", **words))[1]
    told = stated(attested(facts), data_rights="Bought, with the right to train.")
    assert not ask(told, now, "attestation", **words).gaps
    assert ask(stated(facts, data_rights="Bought."), now, "attestation", **words).gaps, "the text is no signature"


def test_evidence_of_unknown_age_is_never_fresh(facts: VersionFacts, now: datetime) -> None:
    foreign = Cited(9_999, 0, "aa" * 32)
    bent = oversight(facts, plans=(PlanFact(foreign, "p", "2027-01-01T00:00:00Z"),))
    assert "days old" in only_gap(ask(bent, now, "auto:ledger", "change_plan", max_age_days=5))[1]
    policy = replace(facts, policy=replace(facts.policy, seq=9_999), oversight=replace(facts.oversight, times={}))
    assert "age of the evidence is not known" in only_gap(ask(policy, now, "auto:ledger", "policy", max_age_days=5))[1]


def test_people_and_keys_are_collected_from_the_ledger(story: Story) -> None:
    story.prepare_version("1")
    found = collect(story.ws.read(), story.model, "1")
    assert set(found.oversight.holders) == {"business_owner", "compliance_officer", "model_validator"}
    assert found.oversight.log_key is not None
    assert found.oversight.log_key.seq == 0
    for seq, leaf in found.oversight.entries().items():
        assert story.ws.read().view.entry(seq).entry.leaf.hex() == leaf


def test_what_people_did_about_the_model_is_collected_only_where_it_counts(story: Story) -> None:
    from cognify_dagster.governance import adopt_retention, delegate, open_finding, report_event, resolve_finding

    story.prepare_version("1")
    ws, keys = story.ws, story.keys
    later = datetime.now().astimezone() + timedelta(days=5)
    rule = RetentionRule(id="bank", title="bank", months=84)
    adopt_retention(ws, [rule], "our schedule", [keys["person/ada"], keys["person/carl"]])
    delegate(ws, "person/bea", "compliance_officer", keys["person/carl"], expires=later, reason="holiday")
    report_event(ws, keys["person/carl"], model=story.model, event="incident", text="letters with wrong reasons")
    report_event(ws, keys["person/carl"], model=story.model, event="drift_breach", text="scores drift")
    seq = open_finding(
        ws, keys["person/vera"], model=story.model, version="1", severity="high", title="t", text="x"
    ).seq
    before = collect(ws.read(), story.model, "1").oversight
    resolve_finding(
        ws, keys["person/carl"], model=story.model, version="1", finding_seq=seq, outcome="closed", reason="mended"
    )
    found = collect(ws.read(), story.model, "1").oversight
    assert found.retention == (rule,)
    assert [item.role for item in found.delegations] == ["compliance_officer"]
    assert [item.text for item in found.incidents] == ["letters with wrong reasons"]
    assert before.findings[0].closed is None
    assert found.findings[0].closed is not None
    assert found.findings[0].closed.seq == ws.ledger.size() - 1
    assert found.plans == ()
