"""Findings about numbers that pass and still need a reader, and what a model-risk manager looks for in the final copy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import jsonschema
import pytest

from cognify_dagster.documents import package_schema, render_pdf
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.package.changes import changes
from cognify_dagster.documents.package.findings_evaluation import change_findings, interval_findings
from cognify_dagster.documents.package.recording import refusal_rows, signature_rows
from cognify_dagster.documents.package.registers import lineage_part
from cognify_dagster.documents.view.data import data_blocks
from cognify_dagster.documents.view.evaluation import evaluation_blocks
from cognify_dagster.documents.view.registers import event_blocks, evidence_blocks
from cognify_dagster.documents.view.signatures import accepting, approvals_end, asked_for, first_end, sign_offs
from cognify_dagster.documents.view.written import section_blocks
from cognify_dagster.governance import Choice, ReleaseBlocked, SignOffDenied, directory, request_release, sign_off
from cognify_dagster.records import GateOutcome, SignOff
from tests.documents.story import Story
from tests.documents.test_pdf import ALL, lines_of, signature, view_of


def bent(facts: VersionFacts, **change: Any) -> VersionFacts:
    """The facts with another newest evaluation."""
    assert facts.evaluation is not None
    record = facts.evaluation.record.model_copy(update=change)
    return replace(facts, evaluation=replace(facts.evaluation, record=record))


def outcome(metric: str, op: str, threshold: float, value: float, status: str = "pass") -> GateOutcome:
    return GateOutcome(id="g", family="fairness", metric=metric, op=op, threshold=threshold, value=value, status=status)


AIR = "fairness.SEX.adverse_impact_ratio"  # 0.966, interval 0.946 to 0.986
EOD = "fairness.SEX.equal_opportunity_difference"  # 0.021, interval 0.001 to 0.041


def test_an_interval_that_crosses_the_limit_is_a_finding_with_metric_group_and_size(facts: VersionFacts) -> None:
    (found,) = interval_findings(
        bent(facts, outcomes=(outcome(AIR, ">=", 0.95, 0.966), outcome(EOD, "<=", 0.04, 0.021)))
    )
    assert found["severity"] == "medium"
    assert found["title"] == "Interval crosses the limit: Sex"
    assert "Adverse impact ratio, sex 0.9660, interval 0.9460 to 0.9860, limit ≥ 0.9500" in found["observed"]
    assert "Equal opportunity difference, sex 0.0210" in found["observed"]
    assert "n = " in found["observed"]
    assert found["entries"] == [{"seq": facts.evaluation.seq, "leaf": facts.evaluation.leaf}]  # type: ignore[union-attr]
    auc = bent(facts, outcomes=(outcome("auc", ">=", 0.78, 0.7841),))
    assert [item["title"] for item in interval_findings(auc)] == ["Interval crosses the limit: All records"]


@pytest.mark.parametrize(
    "what",
    [
        outcome(AIR, ">=", 0.946, 0.966),  # the end lies on the limit, which holds
        outcome(EOD, "<=", 0.1, 0.021),
        outcome("auc.ci_low", ">=", 0.77, 0.7711),  # this gate is about the end of the interval already
        outcome(AIR, ">=", 0.97, 0.966, "fail"),  # a failed gate is a finding of its own
    ],
)
def test_no_finding_where_the_interval_keeps_to_the_limit_or_the_gate_has_spoken(
    facts: VersionFacts, what: GateOutcome
) -> None:
    assert interval_findings(bent(facts, outcomes=(what,))) == []


def test_a_metric_that_came_closer_to_its_limit_is_named_with_the_reason_or_that_there_is_none(
    facts: VersionFacts,
) -> None:
    assert change_findings(facts) == [], "AUC got better, the ratio did not move"
    assert facts.previous is not None
    closer = bent(facts, outcomes=(outcome(AIR, ">=", 0.8, 0.9),))
    (found,) = change_findings(closer)
    assert found["severity"] == "medium"
    assert found["title"] == f"Closer to a limit than version {facts.previous.version}"
    assert (
        "Adverse impact ratio, sex 0.9660 before, 0.9000 now, limit ≥ 0.8000. No reason recorded" in found["observed"]
    )
    assert change_findings(bent(facts, outcomes=(outcome(AIR, ">=", 0.8, 0.955),))) == [], (
        "less than a tenth of the room"
    )
    assert facts.training is not None
    record = facts.training.record.model_copy(update={"extra": {"change_reason": "other sample"}})
    (told,) = change_findings(replace(closer, training=replace(facts.training, record=record)))
    assert told["severity"] == "low"
    assert "The developer's reason: “other sample”" in told["observed"]
    assert changes(facts)["since"] == facts.previous.version


@pytest.fixture
def package(two_versions: Story) -> dict[str, Any]:
    copied: dict[str, Any] = json.loads(json.dumps(two_versions.content))
    return copied


def conditional(text: str, **more: Any) -> list[dict[str, Any]]:
    condition = {"text": text, "due": "2027-01-20T23:59:59Z"}
    signed = signature("compliance", "Carl J", "approve_with_conditions", seq=41, conditions=[condition], **more)
    return [ALL[0], signed, ALL[2]]


def test_a_finding_accepted_by_condition_says_so_beside_its_first_date(package: dict[str, Any]) -> None:
    first = package["findings"][0]
    assert first["due"] == "before sign-off"
    signed = sign_offs(package, "final", conditional(f"{first['id']}: write it"))
    assert asked_for(first, signed) == (
        f"{first['owner']}; asked for before sign-off; accepted by condition instead, due 2027-01-20T23:59:59Z"
    )
    assert asked_for(package["findings"][1], signed).endswith("; before sign-off")
    review = "\n".join(lines_of(json.loads(view_of(package))))
    assert "accepts it; it may be given by a model validator or a compliance officer or a business owner" in review


def test_naming_one_of_several_requirements_does_not_accept_the_whole_finding(package: dict[str, Any]) -> None:
    several = next(item for item in package["findings"] if len(item["requirements"]) > 2)
    name = several["requirements"][0]
    assert accepting(several, sign_offs(package, "final", conditional(f"{name}: write it"))) == []
    both = sign_offs(package, "final", conditional(f"{several['id']} ({name}): write it"))
    assert accepting(several, both) == [], "the finding and one of its rows: this row only"
    assert len(accepting(several, sign_offs(package, "final", conditional(f"{several['id']}: accepted")))) == 1
    every = conditional(", ".join(several["requirements"]))
    assert len(accepting(several, sign_offs(package, "final", every))) == 1


def test_approvals_end_days_after_their_entry_or_earlier_as_they_say(package: dict[str, Any]) -> None:
    item = signature("validation", "Vera M", recorded_at="2026-11-21T09:00:01Z")
    assert approvals_end(package, item) == "2027-05-20T09:00:01Z"
    assert approvals_end(package, {**item, "expires": "2027-01-01T00:00:00Z"}) == "2027-01-01T00:00:00Z"
    assert approvals_end(package, signature("validation", "Vera M")) == "2027-05-20T09:00:00Z"
    signed = conditional("F-01")
    shown = first_end(package, sign_offs(package, "final", signed))
    assert "ends on 2027-05-20T09:00:00Z" in shown
    assert "first on 2027-01-20T23:59:59Z" in shown
    assert first_end(package, sign_offs(package, "review", [])) == ""
    assert "Ends (UTC)" in view_of(package, "final", signed)
    assert view_of(package, "final", signed).count("Signed subject to the conditions below.") == 1


def test_the_final_copy_lists_what_was_refused(story: Story, frameworks: list[Any]) -> None:
    from tests.documents.conftest import NOW

    story.prepare_version("1")
    package = story.package(frameworks, NOW)
    with pytest.raises(ReleaseBlocked):
        request_release(story.ws, story.model, "1", "production", "early", "person/ben")
    with pytest.raises(SignOffDenied):
        sign_off(story.ws, story.model, "1", story.keys["person/ben"], Choice("approve", stage="validation"))
    story.sign_all()
    reading = story.ws.read()
    people = directory(reading)
    rows = refusal_rows(reading, f"model/{story.model}@1", people)
    assert [row["what"].split(",")[0] for row in rows] == [
        "deployment on production",
        "Ben Okafor's sign-off at stage validation (approve)",
    ]
    assert all(row["reasons"] for row in rows)
    text = "\n".join(lines_of({"blocks": event_blocks(package, rows)}))
    assert "Refused before this copy" in text
    assert rows[0]["reasons"][0] in text
    assert "no refused sign-off or deployment" in "\n".join(lines_of({"blocks": event_blocks(package, [])}))
    assert "Refused before" not in "\n".join(lines_of({"blocks": event_blocks(package)}))
    signed = signature_rows(reading, list(reading.all(SignOff, f"model/{story.model}@1")), people)
    assert render_pdf(package, copy="final", signatures=signed, refusals=rows).startswith(b"%PDF-")


def test_the_report_says_who_adopted_the_limits_and_whether_that_person_judges_by_them(package: dict[str, Any]) -> None:
    def shown(copy: Any, signatures: list[Any]) -> str:
        signed = sign_offs(package, copy, signatures)
        return "\n".join(lines_of({"blocks": evaluation_blocks(package, {}, signed)}))

    person = package["gates"]["set"]["adopted_by"]
    same = [{**ALL[0], "person": person["id"]}, *ALL[1:]]
    text = shown("final", same)
    assert f"{person['name']} also signed “Independent validation” (approve, entry 40)" in text
    assert "the limits carry no signature of another person" in text
    other = [{**s, "person": f"person/x{number}"} for number, s in enumerate(ALL)]
    assert f"{person['name']} signed no stage of this version" in shown("final", other)
    assert "the final copy says whether" in shown("review", [])


def test_comparisons_say_their_limit_or_that_there_is_none_and_a_note_stands_once(package: dict[str, Any]) -> None:
    package["evaluation"]["fairness"][0]["notes"] = ["seen once"]
    package["evaluation"]["notes"] = ["seen once", "general", "general"]
    text = "\n".join(lines_of({"blocks": evaluation_blocks(package, {}, sign_offs(package, "review", []))}))
    assert text.count("seen once") == 1
    assert text.count("Note: general") == 1
    assert "compared, no limit" in text
    assert "≥ 0.8000" in text


def test_who_launched_and_who_wrote_are_told_apart_and_authors_are_named_or_said_to_be_missing(
    package: dict[str, Any],
) -> None:
    text = "\n".join(lines_of({"blocks": evaluation_blocks(package, {}, sign_offs(package, "review", []))}))
    assert "written by workload/pipeline" in text
    assert "Launched by" in text
    assert "evaluation, written by workload/pipeline" in "\n".join(lines_of({"blocks": evidence_blocks(package)}))
    package["sections"][0]["author"] = {"id": "person/ben", "name": "Ben Okafor"}
    lines = [line for line in lines_of({"blocks": section_blocks(package)}) if "by the pipeline" in line]
    assert lines[0].endswith("that entry states no author for them."), "said once, for all of them"
    assert [line.partition(";")[0] for line in lines[1:]] == [
        "Author stated: Ben Okafor",
        "Author stated: Carl Jönsson",
    ]


def test_data_recorded_again_unchanged_is_no_change(facts: VersionFacts) -> None:
    item = facts.datasets[0]
    assert item.snapshot is not None

    def relations(parent: str) -> list[str]:
        record = item.snapshot.record.model_copy(update={"parent_root": parent})  # type: ignore[union-attr]
        data = replace(item, snapshot=replace(item.snapshot, record=record))
        return [edge["relation"] for edge in lineage_part(replace(facts, datasets=(data,)))["edges"]]

    assert "changed into" not in relations(item.ref.root)
    assert "changed into" in relations("9" * 64)


def test_codes_are_shown_with_the_labels_that_the_model_declares(package: dict[str, Any]) -> None:
    package["model"]["framework_facts"]["value_labels"] = {"SEX": {"female": "women"}}
    text = "\n".join(lines_of({"blocks": data_blocks(package)}))
    assert "female: women" in text
    assert "male: no label declared" in text
    jsonschema.Draft202012Validator(package_schema()).validate(package)
    package["model"]["framework_facts"]["value_labels"] = "not a mapping"
    assert "female" in "\n".join(lines_of({"blocks": data_blocks(package)}))
