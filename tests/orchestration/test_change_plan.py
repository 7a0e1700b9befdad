"""A retraining under an adopted change plan: inside its bounds it goes live without a new signature, outside it is refused."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import dagster as dg
import pytest

from cognify_dagster.governance import adopt_change_plan, end_change_plan
from cognify_dagster.records import DeploymentCompleted, ReleaseGranted, ReleaseRefused, SignOff, utc
from tests.orchestration import project
from tests.orchestration.desk import APPROVERS, Desk
from tests.orchestration.test_standing import PACKAGE, SERVICE, Daemon, release

BOUNDS = {
    "datasets": ["tiny_train"],
    "hyperparameters": {"version": {"one_of": ["v1", "v2", "v3", "v4"]}, "seed": {"min": 0, "max": 9}},
    "metrics": {"auc": {"max_drop_from_base": 0.02}},
}


@pytest.fixture
def daemon(new_desk: Desk, own_instance: dg.DagsterInstance) -> Daemon:
    """Version v1 is live with all its signatures, and a plan starts from it."""
    found = Daemon(new_desk, own_instance)
    new_desk.build()
    release(found, "v1")
    return found


def plan(desk: Desk) -> int:
    facts = {
        "plan": "refresh-2026",
        "model": "tiny",
        "base_version": "v1",
        "bounds": BOUNDS,
        "stages": ("validation", "compliance", "business"),
        "reason": "the same model on newer data",
        "expires": utc(datetime.now(timezone.utc) + timedelta(days=180)),
    }
    return adopt_change_plan(desk.workspace, [desk.keys[name] for name in APPROVERS], **facts).seq


def test_a_retraining_inside_the_plan_goes_live_on_its_own_and_one_outside_is_refused(daemon: Daemon):
    desk = daemon.desk
    seq = plan(desk)
    signed = len(desk.all(SignOff))

    # inside: another seed, within its bounds
    desk.switch("seed", "8")
    assert desk.run(project.BUILD, "v2").success
    assert daemon.releases() == ["v2"]
    state = daemon.page(PACKAGE, "v2")["cognify/state"].value
    assert state.startswith(f"**v2 is covered by change plan refresh-2026 (entry {seq})**")
    assert "seed" in daemon.page(PACKAGE, "v2")["cognify/change_plan"].value
    ran = desk.run([project.SERVICE], "v2", checks=[("tiny_package", "sign_off")])
    assert ran.success, ran.failure
    assert ran.checks["sign_off"].passed
    (*_, grant) = desk.all(ReleaseGranted)
    assert (grant.record.version, grant.record.plan_seq, grant.record.sign_off_seqs) == ("v2", seq, ())
    assert grant.record.waived == ("validation", "compliance", "business")
    shown = ran.materialized[project.SERVICE]
    assert shown["cognify/released_by"].value == f"approvals, change plan (entry {seq})"
    assert shown["cognify/waived_stages"].value == "validation, compliance, business"
    assert len(desk.all(SignOff)) == signed
    assert '"v2"' in (desk.folder / "live" / "tiny.json").read_text()

    # outside: everybody has to sign, and the refusal says why the plan does not do
    desk.switch("seed", "77")
    assert desk.run(project.BUILD, "v3").success
    assert daemon.releases() == []
    page = daemon.page(PACKAGE, "v3")
    assert page["cognify/state"].value.startswith("**v3 waits for Vera**")
    assert page["cognify/change_plan"].value.startswith(f"**Change plan refresh-2026 (entry {seq}) does not cover v3**")
    assert "seed" in page["cognify/change_plan"].value
    refused = desk.run([project.SERVICE], "v3")
    assert not refused.success
    assert "Independent validation is not signed" in refused.failure
    assert f"The change plan refresh-2026 (entry {seq}) does not cover it:" in refused.failure
    assert "seed" in refused.failure
    (entry,) = desk.all(ReleaseRefused)
    assert entry.record.version == "v3"
    assert daemon.page(SERVICE, "v3")["cognify/change_plan"].value == page["cognify/change_plan"].value
    assert [item.record.version for item in desk.all(DeploymentCompleted)] == ["v1", "v2"]

    # a plan that was ended covers nothing any more, though the change is a small one
    end_change_plan(desk.workspace, desk.keys["vera"], plan_seq=seq, model="tiny", reason="drift")
    desk.switch("seed", "7")
    assert desk.run(project.BUILD, "v4").success
    assert not desk.run([project.SERVICE], "v4").success
    desk.assert_verifies()
