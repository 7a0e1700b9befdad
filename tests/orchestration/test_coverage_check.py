"""A check for each framework: it warns, unless the policy lets the framework block a release; then the deployment itself refuses."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import pytest
import yaml

import cognify_dagster as cg
from cognify_dagster.governance import SectionText, adopt_policy, break_glass, policy_in_force, write_sections
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.coverage_check import coverage_checks, coverage_keys
from cognify_dagster.records import ReleaseGranted, ReleaseRefused, utc
from tests.orchestration import lanes_project, project
from tests.orchestration.desk import Desk
from tests.orchestration.test_gate import SIGN_OFF, follow, tick

COVERAGE = ("tiny_package", "coverage_sr26_2")
NOTE = "Nobody but the tests uses this model."


def framework(**changes: Any) -> dict[str, Any]:
    """The organisation's own rules in place of the shipped ones: somebody writes a note."""
    return {
        "id": "sr26-2",
        "title": "House rules",
        "version": "1",
        "jurisdiction": "here",
        "industry": "any",
        "status": "in_force",
        "effective_from": "2026-01-01",
        "effective_to": None,
        "as_of": "2026-11-21",
        "sources": [{"title": "House rules"}],
        "disclaimer": "Evidence for a reader, no verdict.",
        "sections": [
            {
                "id": "notes",
                "title": "Notes",
                "requirements": [
                    {
                        "id": "house.note",
                        "citation": "House rule 1",
                        "basis": "primary",
                        "paraphrase": "Somebody writes a note.",
                        "force": "law",
                        "mandatory": True,
                        "scope_determination": True,
                        "judged_by": "compliance_officer",
                        "evidence": {"kind": "human", "section": "house_note", "min_words": 3},
                    }
                ],
            }
        ],
        **changes,
    }


def house(desk: Desk, *blocking: str, text: str | None = None, glass: bool = False) -> None:
    """Take the house rules for sr26-2, and let the policy name frameworks that block."""
    folder = desk.folder / "frameworks"
    folder.mkdir()
    (folder / "sr26-2.yaml").write_text(text if text is not None else yaml.safe_dump(framework()))
    config = desk.workspace.config.path
    config.write_text(config.read_text().replace("[workspace]", '[workspace]\nframeworks = "frameworks"', 1))
    policy = policy_in_force(desk.workspace.read()).policy
    high = policy.tiers["high"].model_copy(update={"blocking_frameworks": blocking})
    opened = policy.break_glass.model_copy(update={"enabled": glass})
    changed = policy.model_copy(update={"tiers": {**policy.tiers, "high": high}, "break_glass": opened})
    adopt_policy(desk.workspace, changed, "for this test", [desk.keys["ada"], desk.keys["finn"]])


def test_a_framework_that_the_policy_does_not_name_warns_and_holds_nothing_back(desk: Desk):
    house(desk, "fair-lending")
    desk.approve()
    ran = desk.run([project.SERVICE], checks=[SIGN_OFF, COVERAGE])
    assert ran.success, ran.failure
    found = ran.checks["coverage_sr26_2"]
    assert (found.passed, found.severity) == (False, dg.AssetCheckSeverity.WARN)
    assert found.description.endswith("1 need work (the policy does not stop a release on this): house.note")
    (row,) = [record.data for record in found.metadata["cognify/open"].records]
    assert (row["requirement"], row["who"]) == ("house.note", "model owner: write it")
    assert found.description.startswith("v1: ")
    assert found.metadata["cognify/version"].value == "v1"
    assert found.metadata["cognify/command"].value.endswith("coverage tiny v1 --framework sr26-2")


def test_a_framework_that_the_policy_names_is_asked_by_the_deployment_itself(
    desk: Desk, own_instance: dg.DagsterInstance
):
    house(desk, "sr26-2")
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    desk.approve()
    held = tick(desk, own_instance)
    assert [item for item in held.run_requests if item.asset_selection] == []
    why = (
        "v1 is blocked: sr26-2, which the policy lets block a release: 1 mandatory requirement needs work (house.note)"
    )
    assert why in held.cursor
    # whoever leaves every check out is refused all the same, with an entry
    alone = desk.run([project.SERVICE], checks=())
    assert not alone.success
    assert "sr26-2, which the policy lets block a release" in alone.failure
    (refused,) = desk.all(ReleaseRefused)
    assert [reason.code for reason in refused.record.reasons] == ["framework_sr26-2"]
    assert refused.record.reasons[0].resolved_by == "model owner"
    assert desk.entered("deployment") == 0
    # with its check the run ends before the body
    checked = desk.run([project.SERVICE], checks=[SIGN_OFF, COVERAGE])
    assert not checked.success
    assert checked.checks["coverage_sr26_2"].severity == dg.AssetCheckSeverity.ERROR
    assert len(desk.all(ReleaseRefused)) == 1
    # a run that only shows the checks stays green
    report = next(item for item in held.run_requests if not item.asset_selection)
    assert report.asset_check_keys == [
        dg.AssetCheckKey(dg.AssetKey("tiny_package"), name) for _, name in (SIGN_OFF, COVERAGE)
    ]
    assert follow(desk, own_instance, report).success
    # somebody writes the note: the same signatures release it
    write_sections(desk.workspace, "tiny", "v1", [SectionText("house_note", NOTE, author="person/carl")])
    (request,) = [item for item in tick(desk, own_instance).run_requests if item.asset_selection]
    ran = follow(desk, own_instance, request)
    assert ran.success, ran.failure
    assert ran.checks["coverage_sr26_2"].passed
    assert len(desk.all(ReleaseGranted)) == 1
    desk.assert_verifies()


def test_a_blocking_framework_that_cannot_be_read_counts_as_open(desk: Desk):
    house(desk, "sr26-2", text="id: [")
    desk.approve()
    ran = desk.run([project.SERVICE], checks=())
    assert not ran.success
    assert "sr26-2 cannot be compared" in ran.failure
    assert desk.all(ReleaseGranted) == []


def test_broken_glass_is_not_held_back_by_a_framework(desk: Desk):
    house(desk, "sr26-2", glass=True)
    facts = {
        "model": "tiny",
        "version": "v1",
        "target": "production",
        "waived": ("validation", "compliance", "business"),
        "reason": "fraud wave, the old model fails",
        "expires": utc(datetime.now(timezone.utc) + timedelta(hours=24)),
    }
    break_glass(desk.workspace, [desk.keys["carl"], desk.keys["olga"]], **facts)
    ran = desk.run([project.SERVICE], checks=[SIGN_OFF])
    assert ran.success, ran.failure
    (grant,) = desk.all(ReleaseGranted)
    assert grant.record.purpose == "break_glass"


def test_where_an_automation_condition_releases_an_open_framework_holds_back_only_if_it_blocks(desk: Desk):
    """The condition waits for every blocking check to pass, so a mere warning must pass."""
    ran = desk.run([], checks=[COVERAGE], definitions=lanes_project.automated)
    assert ran.checks["coverage_sr26_2"].passed
    assert "need work" in ran.checks["coverage_sr26_2"].description
    house(desk, "sr26-2")
    ran = desk.run([], checks=[COVERAGE], definitions=lanes_project.automated)
    assert not ran.checks["coverage_sr26_2"].passed


def test_each_framework_has_one_check_and_a_clash_is_said():
    facts: dict[str, Any] = {"key": "other", "owner": "team:tests", "risk_tier": "low"}
    model = cg.GovernedModel(**facts, frameworks=["sr26-2", "fair-lending", "sr26-2"])
    assert [key.name for key in coverage_keys(model)] == ["coverage_sr26_2", "coverage_fair_lending"]
    assert [name for check in coverage_checks(model) for name in (key.name for key in check.check_keys)] == [
        "coverage_sr26_2",
        "coverage_fair_lending",
    ]
    with pytest.raises(UsageError, match="differ in punctuation only"):
        coverage_keys(cg.GovernedModel(**facts, frameworks=["a.b", "a-b"]))
    names = {key.name for key in project.defs.resolve_asset_graph().asset_check_keys}
    assert "coverage_sr26_2" in names
