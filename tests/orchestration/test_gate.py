"""The path of one version through the gate, as the UI's buttons and the daemon's sensor would drive it."""

from __future__ import annotations

import dagster as dg
from dagster._core.events import RunFailureReason
from dagster._core.execution.retries import auto_reexecution_should_retry_run

from cognify_dagster import LedgerResource
from cognify_dagster.records import DeploymentCompleted, ReleaseGranted, ReleaseRefused
from tests.orchestration import project
from tests.orchestration.desk import Desk

EVERYTHING = (*project.BUILD, project.SERVICE)
SIGN_OFF = ("tiny_package", "sign_off")


def tick(desk: Desk, instance: dg.DagsterInstance, cursor: str | None = None) -> dg.SensorResult | object:
    """Evaluate the approval sensor once, as the daemon does."""
    sensor = project.defs.resolve_sensor_def("tiny_approval_sensor")
    context = dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        definitions=project.defs,
        resources={"ledger": LedgerResource()},
        cursor=cursor,
    )
    return sensor.evaluate_tick(context)


def follow(desk: Desk, instance: dg.DagsterInstance, request: dg.RunRequest):
    """Execute what the sensor asked for, as the daemon would launch it."""
    assert request.partition_key is not None
    return desk.run(
        [key.to_user_string() for key in request.asset_selection or ()],
        request.partition_key,
        checks=[(key.asset_key.to_user_string(), key.name) for key in request.asset_check_keys or ()],
        tags={"dagster/sensor_name": "tiny_approval_sensor", **request.tags},
        user="",
        instance=instance,
    )


def test_materialize_all_on_a_new_version_ends_green_with_a_package_and_no_deployment(new_desk: Desk):
    assert new_desk.run(project.DATA, None).success
    ran = new_desk.run(EVERYTHING)
    assert ran.success, ran.failure
    assert set(ran.materialized) == set(project.BUILD)
    check = ran.checks["sign_off"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.WARN
    assert new_desk.entered("deployment") == 0
    assert "release_refused" not in new_desk.kinds()
    assert "release_granted" not in new_desk.kinds()
    new_desk.assert_verifies()


def test_a_direct_launch_of_the_deployment_is_refused_once_with_reasons_and_not_retried(desk: Desk, own_instance):
    ran = desk.run([project.SERVICE], instance=own_instance)
    assert not ran.success
    (refused,) = desk.all(ReleaseRefused)
    assert refused.record.run == ran.id
    assert refused.record.requested_by == "person/ben"
    texts = [reason.text for reason in refused.record.reasons]
    assert any("Independent validation is not signed" in text for text in texts)
    assert all(reason.resolved_by for reason in refused.record.reasons if reason.code.startswith("stage_"))
    assert f"ledger entry {refused.seq}" in ran.failure
    assert all(text in ran.failure for text in texts)
    assert desk.entered("deployment") == 0
    # the asset allows two op retries, the instance two run retries: neither repeats a refusal
    assert ran.steps("STEP_START") == [project.SERVICE]
    assert ran.steps("STEP_UP_FOR_RETRY") == []
    run = own_instance.get_run_by_id(ran.id)
    assert run.tags["dagster/max_retries"] == "0"
    assert not auto_reexecution_should_retry_run(own_instance, run, RunFailureReason.STEP_FAILURE)
    desk.assert_verifies()


def test_a_refusal_in_a_step_process_of_its_own_is_not_retried_either(desk: Desk, own_instance):
    """The multiprocess executor is the default of launched runs: the refusal crosses a process boundary."""
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    result = dg.execute_job(
        dg.reconstructable(project.version_job),
        instance=own_instance,
        asset_selection=[dg.AssetKey(project.SERVICE)],
        tags={"dagster/partition": "v1", "user": "ben"},
        raise_on_error=False,
    )
    assert not result.success
    kinds = [event.event_type_value for event in result.all_events]
    assert kinds.count("STEP_START") == 1
    assert "STEP_UP_FOR_RETRY" not in kinds
    run = own_instance.get_run_by_id(result.run_id)
    assert not auto_reexecution_should_retry_run(own_instance, run, RunFailureReason.STEP_FAILURE)
    assert len(desk.all(ReleaseRefused)) == 1


def test_a_run_that_fails_by_accident_would_be_retried(desk: Desk, own_instance):
    desk.approve()
    desk.switch("fail-deployment", "9")
    ran = desk.run([project.SERVICE], instance=own_instance)
    assert not ran.success
    run = own_instance.get_run_by_id(ran.id)
    assert auto_reexecution_should_retry_run(own_instance, run, RunFailureReason.STEP_FAILURE)


def test_a_retry_of_a_refused_run_leaves_no_second_entry(desk: Desk):
    first = desk.run([project.SERVICE])
    again = desk.run([project.SERVICE], tags={"dagster/root_run_id": first.id, "dagster/parent_run_id": first.id})
    assert not again.success
    assert len(desk.all(ReleaseRefused)) == 1


def test_a_release_run_before_the_signatures_stops_at_the_check(desk: Desk):
    ran = desk.run([project.SERVICE], checks=[SIGN_OFF])
    assert not ran.success
    check = ran.checks["sign_off"]
    assert not check.passed
    assert check.severity == dg.AssetCheckSeverity.ERROR
    assert "Independent validation is not signed" in check.description
    assert project.SERVICE not in ran.steps("STEP_START")
    assert "release_refused" not in desk.kinds()


def test_a_launch_that_leaves_the_check_out_is_refused_all_the_same(desk: Desk):
    ran = desk.run([project.SERVICE, "tiny_package"], checks=())
    assert not ran.success
    assert desk.entered("deployment") == 0
    assert desk.kinds().count("release_refused") == 1


def test_someone_who_had_a_hand_in_the_version_does_not_open_the_gate(desk: Desk):
    desk.approve("vera", "carl")
    ran = desk.run([project.SERVICE])
    assert not ran.success
    assert "Business sign-off is not signed" in ran.failure
    assert "Independent validation" not in ran.failure


def test_the_sensor_waits_then_asks_for_one_run_and_then_for_none_even_if_dagster_forgets(desk: Desk, own_instance):
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    waiting = tick(desk, own_instance)
    assert not waiting.run_requests
    assert waiting.skip_message == (
        "v1 waits for Vera (Independent validation), then Carl (Compliance and legal review), then Olga (Business sign-off)"
    )
    desk.approve()
    (request,) = tick(desk, own_instance).run_requests
    (repeated,) = tick(desk, own_instance).run_requests
    assert request.run_key == repeated.run_key  # the daemon launches a key once
    assert request.run_key.startswith(f"{desk.workspace.origin}/tiny/v1/production/")
    assert request.asset_check_keys == [dg.AssetCheckKey(dg.AssetKey("tiny_package"), "sign_off")]

    ran = follow(desk, own_instance, request)
    assert ran.success, ran.failure
    assert ran.checks["sign_off"].passed
    (grant,) = desk.all(ReleaseGranted)
    (done,) = desk.all(DeploymentCompleted)
    assert done.record.grant_seq == grant.seq
    assert done.record.detail["run"] == ran.id
    assert (desk.folder / "live" / "tiny.json").exists()

    after = tick(desk, own_instance)
    assert not after.run_requests
    assert after.skip_message.startswith("v1 is live on production since ")
    assert after.skip_message.endswith(f" UTC (entry {done.seq})")
    own_instance.delete_run(ran.id)
    assert not tick(desk, own_instance).run_requests

    again = desk.run([project.SERVICE], instance=own_instance)
    assert not again.success
    assert f"were used on production already (entry {done.seq})" in again.failure
    assert desk.entered("deployment") == 1
    assert [r.record.reasons[0].code for r in desk.all(ReleaseRefused)] == ["already_released"]
    desk.assert_verifies()


def test_the_sensor_adds_a_partition_that_dagster_does_not_know(desk: Desk, own_instance):
    desk.approve()
    data = tick(desk, own_instance)
    assert [item.partition_keys for item in data.dynamic_partitions_requests] == [["v1"]]
    assert [item.partition_key for item in data.run_requests] == ["v1"]


def test_a_second_version_supersedes_the_first(desk: Desk):
    desk.approve()
    assert desk.run([project.SERVICE]).success
    assert desk.run(project.BUILD, "v2").success
    desk.approve(version="v2")
    ran = desk.run([project.SERVICE], "v2")
    assert ran.success, ran.failure
    assert ran.materialized[project.SERVICE]["cognify/supersedes"].value == "v1"
    assert '"v2"' in (desk.folder / "live" / "tiny.json").read_text()


def test_a_revoked_signature_closes_the_gate_again(desk: Desk):
    from cognify_dagster.governance import revoke_key

    desk.approve()
    revoke_key(desk.workspace, "person/carl", desk.keys["carl"].key_id, "lost laptop", desk.keys["ada"])
    ran = desk.run([project.SERVICE])
    assert not ran.success
    assert "the key was revoked since" in ran.failure


def test_a_release_signed_for_another_target_does_not_count(desk: Desk):
    from cognify_dagster.governance import Choice, sign_off

    for name in ("vera", "carl", "olga"):
        sign_off(desk.workspace, "tiny", "v1", desk.keys[name], Choice("approve", targets=("staging",)))
    ran = desk.run([project.SERVICE])
    assert not ran.success
    assert "approves staging, not production" in ran.failure
