"""The package: fits its schema, same bytes for the same input, cites only what exists, and nobody has signed it yet."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

import jsonschema
import pytest

from cognify_dagster.documents import (
    DocumentError,
    VersionFacts,
    build_package,
    collect,
    load_framework,
    package_digest,
    package_schema,
    read_package,
)
from cognify_dagster.ledger import canonical_json
from tests.documents.story import Story
from tests.documents.test_coverage import stated


def check(package: dict[str, Any]) -> None:
    schema = package_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(package)


def refs(value: Any) -> list[tuple[int, str]]:
    if isinstance(value, dict):
        own = [(value["seq"], value["leaf"])] if {"seq", "leaf"} <= set(value) else []
        return own + [found for item in value.values() for found in refs(item)]
    return [found for item in value for found in refs(item)] if isinstance(value, list) else []


def codes(package: dict[str, Any]) -> dict[str, str]:
    return {item["title"]: item["severity"] for item in package["findings"]}


@pytest.fixture
def build(two_versions: Story, frameworks: list, now: datetime) -> Any:
    def run(facts: VersionFacts, **change: Any) -> dict[str, Any]:
        options = {"frameworks": frameworks, "now": now, "revision": 1, "evidence": two_versions.ws.evidence.get}
        return build_package(facts, **{**options, **change})

    return run


def test_it_fits_its_schema(two_versions: Story) -> None:
    check(two_versions.content)


def test_the_same_facts_give_the_same_bytes(facts: VersionFacts, build: Any) -> None:
    first, second = canonical_json(build(facts)), canonical_json(build(facts))
    assert first == second
    assert read_package(first) == json.loads(second)
    assert package_digest(build(facts)) != package_digest(build(facts, revision=2))


def test_everything_it_cites_stands_in_the_ledger_before_it(two_versions: Story) -> None:
    package = two_versions.content
    entries = two_versions.ws.read().view.entries
    cited = refs(package)
    assert len(cited) > 60
    assert all(entries[seq].entry.leaf.hex() == leaf for seq, leaf in cited)
    assert max(seq for seq, _ in cited) < package["ledger"]["size"] <= two_versions.package_seq


def test_nobody_has_signed_what_is_being_built(released: VersionFacts, build: Any) -> None:
    package = build(released)
    line = next(i for i in package["coverage"][0]["lines"] if i["id"] == "mrm.val.independence")
    assert line["status"] == "needs_human"
    decisions = package["earlier_decisions"]
    assert [item["person"]["name"] for item in decisions] == ["Vera Marković", "Carl Jönsson", "Béatrice Dupont"]
    assert {item["revision"] for item in decisions} == {1}
    check(package)


def test_what_the_policy_asks_for_stands_in_it(two_versions: Story) -> None:
    stages = two_versions.content["required_stages"]
    assert [(s["id"], s["role"], s["quorum"]) for s in stages["stages"]] == [
        ("automated", "", 0),
        ("validation", "model_validator", 1),
        ("compliance", "compliance_officer", 1),
        ("business", "business_owner", 1),
    ]
    assert stages["approval_days"] == 180


def test_changes_since_the_released_version(two_versions: Story, released: VersionFacts, build: Any) -> None:
    changes = two_versions.content["changes"]
    found = {(item["area"], item["field"]): item for item in changes["items"]}
    assert changes["since"] == "1"
    assert found[("data", "loans_train: root")]["after"] == "c" * 64
    assert found[("configuration", "learning_rate")]["before"] == 0.06
    assert found[("metric", "auc")]["delta"] == pytest.approx(0.0052)
    assert ("configuration", "max_iter") not in found
    assert found[("data", "evaluation data: root")]["before"] == "b" * 64
    assert build(released)["changes"]["since"] is None


def test_the_profile_and_the_register_are_shown(two_versions: Story) -> None:
    package = two_versions.content
    train = next(item for item in package["data"] if item["name"] == "loans_train")
    assert train["profile"]["rows"] == 23970
    assert {c["name"]: c.get("min") for c in train["profile"]["columns"]}["AGE"] == 21
    assert train["exclusions"][0]["rows_before"] - train["exclusions"][0]["rows_after"] == 35
    assert [item["id"] for item in package["evidence"]][:2] == ["E-001", "E-002"]
    model = next(item for item in package["evidence"] if item["shows"] == "Model file")
    assert "sha256:" + model["sha256"] == package["training"]["model_file"]["digest"]


def test_sections_name_their_author_and_unwritten_ones_stay_visible(two_versions: Story) -> None:
    sections = {item["id"]: item for item in two_versions.content["sections"]}
    assert sections["scope_rationale"]["author"]["name"] == "Carl Jönsson"
    assert sections["failure_modes"]["text"] == ""
    assert sections["fcra_disclosure"]["title"] == "FCRA disclosure"
    assert sections["eu_human_review"]["title"] == "EU human review"
    assert sections["intended_use"]["recorded"]["actor"] == "workload/pipeline"


def test_open_mandatory_law_and_small_groups_are_findings(two_versions: Story) -> None:
    found = codes(two_versions.content)
    assert found["fl.aa.reasons: missing"] == "high"
    assert found["Groups too small to measure"] == "medium"
    ids = [item["id"] for item in two_versions.content["findings"]]
    assert ids == [f"F-{n:02d}" for n in range(1, len(ids) + 1)]
    later = next(item for item in two_versions.content["findings"] if "only after the release" in item["title"])
    assert (later["severity"], later["due"], later["requirements"]) == ("note", "after release", ["fl.aa.repro"])


def test_every_open_mandatory_row_of_law_is_named_by_a_finding(two_versions: Story) -> None:
    named = {name for item in two_versions.content["findings"] for name in item["requirements"]}
    for report in two_versions.content["coverage"]:
        open_rows = {
            line["id"] for line in report["lines"]
            if line["mandatory"] and line["status"] not in ("satisfied", "not_applicable")
        }  # fmt: skip
        assert open_rows <= named
        assert open_rows, report["framework"]
    assert {"fl.aa.repro", "fl.disp_treat", "fl.attr"} <= named


def test_the_counts_of_each_force_add_up(two_versions: Story) -> None:
    for report in two_versions.content["coverage"]:
        for force in ("law", "guidance"):
            score = report["mandatory"][force]
            counted = sum(n for status, n in score["statuses"].items() if status != "not_applicable")
            assert counted == score["applicable"]
            assert score["statuses"].get("satisfied", 0) == score["satisfied"]


def test_a_prohibited_basis_that_was_not_compared_is_a_finding(
    two_versions: Story, facts: VersionFacts, build: Any
) -> None:
    assert not any(title.startswith("Prohibited bases") for title in codes(two_versions.content))
    registered = facts.registered
    record = registered.record.model_copy(update={"protected_attributes": ("SEX", "AGE_BAND", "MARRIAGE")})
    found = codes(build(replace(facts, registered=replace(registered, record=record))))
    assert found["Prohibited bases not compared: marital status"] == "medium"


def test_rows_of_law_that_may_not_apply_are_one_finding_with_the_questions(facts: VersionFacts, build: Any) -> None:
    """A reader is asked for the facts once, and not given one finding for each row that may not be asked at all."""
    package = build(facts, frameworks=[load_framework("hipaa")])
    about = [item for item in package["findings"] if item["requirements"]]
    (asked,) = [item for item in about if item["title"] == "hipaa: facts to state before it is known what applies"]
    undecided = {
        line["id"]
        for line in package["coverage"][0]["lines"]
        if any(gap["text"].startswith("whether it applies is open") for gap in line["gaps"]) and line["mandatory"]
    }
    law = {line["id"] for line in package["coverage"][0]["lines"] if line["force"] == "law"}
    assert set(asked["requirements"]) == undecided & law
    assert len(undecided) > 10
    assert asked["severity"] == "high"
    assert "hipaa_role: What is the organisation" in asked["expected"]
    others = [name for item in about if item is not asked for name in item["requirements"]]
    assert not set(others) & set(asked["requirements"]), "each row is in one finding"
    told = stated(facts, hipaa_role="none", s1557_covered_entity=False, uses_phi=False)
    assert "facts to state" not in " ".join(codes(build(told, frameworks=[load_framework("hipaa")])))


def test_failed_gates_dirty_code_and_unknown_people_are_findings(story: Story, frameworks: list, now: datetime) -> None:
    story.register()
    story.gates()
    story.data()
    code = {"vcs": "git", "commit": "a" * 40, "dirty": True}
    story.train("1", code=code, unattributed=("git:who@example.org",), started_after_seq=0)
    story.evaluate(auc=0.70)
    facts = collect(story.ws.read(), story.model, "1")
    package = build_package(facts, frameworks=frameworks, now=now, revision=1, evidence=story.ws.evidence.get)
    check(package)
    found = codes(package)
    assert found["Gate auc-floor: fail"] == "high"
    assert found["Code differs from its commit"] == "medium"
    assert found["People not identified"] == "medium"
    assert found["Limits not adopted before training"] == "high"


def test_a_version_without_training_or_evaluation_is_said_plainly(facts: VersionFacts, build: Any) -> None:
    bare = replace(
        facts,
        training=None,
        evaluation=None,
        evaluation_data=None,
        datasets=(),
        overlaps=(),
        gate_set=None,
        previous=None,
    )
    package = build(bare)
    check(package)
    assert {"No sealed training run", "No evaluation"} <= set(codes(package))


def test_a_trial_ledger_is_stamped(tmp_path: Any, frameworks: list, now: datetime) -> None:
    story = Story(tmp_path, trial=True)
    story.prepare_version()
    package = story.package(frameworks, now)
    check(package)
    assert package["trial"] is True
    assert codes(package)["Trial ledger"] == "note"


def test_what_json_cannot_hold_is_written_as_text(facts: VersionFacts, build: Any) -> None:
    evaluation = facts.evaluation
    record = evaluation.record.model_copy(update={"tables": {"odd": [float("nan"), 2**60, float("inf")]}})
    package = build(replace(facts, evaluation=replace(evaluation, record=record)))
    assert package["evaluation"]["tables"]["odd"] == ["NaN", str(2**60), "Infinity"]


def test_clear_errors(facts: VersionFacts, build: Any) -> None:
    with pytest.raises(DocumentError, match="not registered"):
        build(replace(facts, registered=None))
    with pytest.raises(DocumentError, match="revision 0"):
        build(facts, revision=0)
    with pytest.raises(DocumentError, match=r"profile sha256:.* cannot be read"):
        build(facts, evidence=lambda digest: b"not json")
    with pytest.raises(DocumentError, match="no package"):
        read_package(b'{"format":"other"}')
    with pytest.raises(DocumentError, match="canonical"):
        read_package(b'{ "format":"cognify-package/v1"}')
