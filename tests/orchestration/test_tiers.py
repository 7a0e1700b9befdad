"""The tier routes the workflow: which sign-offs a version waits for follows from the signed classification, in Dagster too."""

from __future__ import annotations

from dataclasses import replace

import dagster as dg
import pytest

from cognify_dagster.governance import GovernanceError, classify_model
from cognify_dagster.records import ReleaseGranted
from cognify_dagster.workspace import idempotency_key
from tests.orchestration import project
from tests.orchestration.desk import Desk
from tests.orchestration.test_gate import follow, tick


def classified(desk: Desk, tier: str, *names: str) -> None:
    """The code asks for no more than this tier, and people signed that it applies."""
    record = replace(project.tiny, risk_tier=tier).definition()
    desk.workspace.append(record, idem=idempotency_key("test_tiers", tier))
    facts = {"model": "tiny", "tier": tier, "owner": "person/olga", "rationale": "decides nothing about people"}
    classify_model(desk.workspace, [desk.keys[name] for name in names], **facts)


@pytest.mark.parametrize(
    ("tier", "signers"), [("low", ()), ("medium", ("carl",)), ("high", ("vera", "carl", "olga"))], ids=str
)
def test_each_tier_waits_for_its_own_signatures_and_goes_live(
    desk: Desk, own_instance: dg.DagsterInstance, tier: str, signers: tuple[str, ...]
):
    if tier != "high":
        classified(desk, tier, "carl", "vera")
    for name in signers:
        assert not [item for item in tick(desk, own_instance).run_requests if item.asset_selection]
        desk.approve(name)
    (request,) = [item for item in tick(desk, own_instance).run_requests if item.asset_selection]
    assert follow(desk, own_instance, request).success
    (grant,) = desk.all(ReleaseGranted)
    assert len(grant.record.sign_off_seqs) == len(signers)


def test_one_person_alone_takes_no_sign_off_away(desk: Desk, own_instance: dg.DagsterInstance):
    with pytest.raises(GovernanceError, match="2 different people"):
        classified(desk, "low", "carl")
    assert not [item for item in tick(desk, own_instance).run_requests if item.asset_selection]
    assert not desk.run([project.SERVICE]).success
    assert desk.all(ReleaseGranted) == []


def test_an_experiment_needs_nobodys_approval(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    assert new_desk.run(project.BUILD, "v1").success
    assert new_desk.run(project.BUILD, "v2").success
    assert new_desk.all(ReleaseGranted) == []
