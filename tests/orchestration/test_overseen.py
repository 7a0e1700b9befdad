"""What is live, in Dagster: suspended, ordered back, on several targets, under conditions, released by a condition of Dagster's."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from typing import Any

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster import LedgerResource
from cognify_dagster.governance import (
    Choice,
    Condition,
    adopt_model,
    adopt_policy,
    break_glass,
    lift_block,
    open_finding,
    order_rollback,
    policy_in_force,
    resolve_finding,
    sign_off,
)
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.records import (
    DeploymentCompleted,
    Package,
    Reconciliation,
    ReleaseGranted,
    ReleaseSuspended,
    SignOff,
    utc,
)
from tests.orchestration import lanes_project, project
from tests.orchestration.desk import Desk
from tests.orchestration.test_reconciliation import Watch
from tests.orchestration.test_standing import PACKAGE, SERVICE, Daemon, release, rows


@pytest.fixture
def daemon(new_desk: Desk, own_instance: dg.DagsterInstance) -> Daemon:
    """Version v1 was built on an instance of its own and waits."""
    found = Daemon(new_desk, own_instance)
    new_desk.build()
    return found


def evaluate(definitions: dg.Definitions, instance: dg.DagsterInstance, cursor: str | None = None) -> Any:
    """One tick of the approval sensor of other definitions; its events are reported."""
    context = dg.build_sensor_context(
        instance=instance,
        instance_ref=instance.get_ref(),
        definitions=definitions,
        resources={"ledger": LedgerResource()},
        cursor=cursor,
    )
    data = definitions.resolve_sensor_def("tiny_approval_sensor").evaluate_tick(context)
    for event in data.asset_events:
        instance.report_runless_asset_event(event)
    return data


def suspended_tick(daemon: Daemon) -> Any:
    """A tick that finds a suspended release: the run of the check is red, once."""
    context = dg.build_sensor_context(
        instance=daemon.instance,
        instance_ref=daemon.instance.get_ref(),
        definitions=project.defs,
        resources={"ledger": LedgerResource()},
        cursor=daemon.cursor,
    )
    data = project.defs.resolve_sensor_def("tiny_approval_sensor").evaluate_tick(context)
    for event in data.asset_events:
        daemon.instance.report_runless_asset_event(event)
    daemon.cursor = data.cursor
    return data


def block(desk: Desk) -> int:
    return sign_off(desk.workspace, "tiny", "v1", desk.keys["carl"], Choice("block", comments="complaints")).seq


def test_a_release_that_does_not_stand_any_more_is_told_once(daemon: Daemon):
    release(daemon, "v1")
    daemon.tick()
    desk, blocked = daemon.desk, 0
    blocked = block(desk)
    data = suspended_tick(daemon)
    (entry,) = desk.all(ReleaseSuspended)
    (done,) = desk.all(DeploymentCompleted)
    assert entry.record.completed_seq == done.seq
    assert "Carl blocked it" in entry.record.reasons[0]
    for asset in (PACKAGE, SERVICE):
        assert daemon.page(asset, "v1")["cognify/state"].value.startswith(
            "**v1 is suspended on production**: Carl blocked"
        )
    assert "complaints" in daemon.page(SERVICE, "v1")["cognify/suspended_because"].value
    (report,) = data.run_requests
    ran = desk.run([], "v1", checks=[("tiny_package", "sign_off")], tags=dict(report.tags))
    assert not ran.success
    assert ran.checks["sign_off"].severity == dg.AssetCheckSeverity.ERROR
    assert daemon.instance.get_run_by_id(ran.id).tags["dagster/max_retries"] == "0"
    again = suspended_tick(daemon)
    assert again.asset_events == []
    assert again.run_requests == []
    assert again.skip_message.startswith("v1 is suspended on production: Carl blocked it")
    daemon.cursor = None
    suspended_tick(daemon)
    assert len(desk.all(ReleaseSuspended)) == 1
    # two people lift the block: it is live again, without a new release
    desk.keys["carl2"] = enrolled(desk, "cleo", "compliance_officer")
    facts = {"model": "tiny", "version": "v1", "sign_off_seq": blocked, "reason": "settled"}
    lift_block(desk.workspace, [desk.keys["carl"], desk.keys["carl2"]], **facts)
    daemon.tick()
    assert daemon.check("v1").passed
    assert daemon.tick().skip_message.startswith("v1 is live on production since ")
    assert daemon.page(SERVICE, "v1")["cognify/state"].value.startswith("**v1 is live on production**")
    desk.assert_verifies()


def enrolled(desk: Desk, name: str, *roles: str) -> Any:
    from cognify_dagster.governance import create_key, enrol_person
    from cognify_dagster.records import Person

    key = create_key(desk.folder / f"{name}.key.json", f"person/{name}", "a long pass phrase")
    person = Person(person=f"person/{name}", name=name.title(), roles=roles, keys=(key.public,))
    enrol_person(desk.workspace, person, desk.keys["ada"], desk.keys["finn"])
    return key


def test_an_ordered_rollback_is_requested_once_and_takes_its_own_grant(daemon: Daemon):
    release(daemon, "v1")
    assert daemon.desk.run(project.BUILD, "v2").success
    release(daemon, "v2")
    daemon.tick()
    desk = daemon.desk
    assert daemon.releases() == []
    facts = {"model": "tiny", "version": "v1", "target": "production", "reason": "v2 drifts"}
    order = order_rollback(desk.workspace, desk.keys["olga"], **facts)
    data = daemon.tick()
    (request,) = [item for item in data.run_requests if "cognify/release_round" in item.tags]
    assert request.partition_key == "v1"
    assert [item.run_key for item in daemon.tick().run_requests if "cognify/release_round" in item.tags] == [
        request.run_key
    ]
    assert daemon.page(PACKAGE, "v1")["cognify/state"].value.startswith("**the rollback to v1 is ordered (entry ")
    ran = desk.run([project.SERVICE], "v1", checks=[("tiny_package", "sign_off")])
    assert ran.success, ran.failure
    assert ran.checks["sign_off"].passed
    (*_, grant) = desk.all(ReleaseGranted)
    assert (grant.record.purpose, grant.record.order_seq, grant.record.supersedes) == ("rollback", order.seq, "v2")
    shown = ran.materialized[project.SERVICE]
    assert shown["cognify/released_by"].value == f"a rollback order (entry {order.seq})"
    assert daemon.releases() == []
    assert daemon.tick().skip_message.startswith("v1 is live on production since ")
    assert daemon.page(SERVICE, "v2")["cognify/state"].value.startswith("**v2 was superseded by v1**")
    refused = desk.run([project.SERVICE], "v1")
    assert not refused.success  # the order is used up
    assert '"v1"' in (desk.folder / "live" / "tiny.json").read_text()
    desk.assert_verifies()


def approve_everywhere(desk: Desk, conditions: tuple[Condition, ...] = ()) -> None:
    for name in ("vera", "carl", "olga"):
        decision = "approve_with_conditions" if conditions and name == "carl" else "approve"
        terms = conditions if name == "carl" else ()
        choice = Choice(decision, targets=("canary", "production"), conditions=terms)  # type: ignore[arg-type]
        sign_off(desk.workspace, "tiny", "v1", desk.keys[name], choice)


def test_each_target_takes_its_own_grant(desk: Desk, own_instance: dg.DagsterInstance):
    desk.instance = own_instance
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    approve_everywhere(desk)
    data = evaluate(lanes_project.defs, own_instance)
    wanted = {
        item.asset_selection[0].to_user_string(): [key.name for key in item.asset_check_keys]
        for item in data.run_requests
    }
    assert wanted == {"tiny_service": ["sign_off"], "tiny_canary": ["sign_off_canary"]}
    assert len({item.run_key for item in data.run_requests}) == 2
    ran = desk.run(["tiny_canary"], checks=[("tiny_package", "sign_off_canary")], definitions=lanes_project.defs)
    assert ran.success, ran.failure
    after = evaluate(lanes_project.defs, own_instance, data.cursor)
    assert [item.asset_selection[0].to_user_string() for item in after.run_requests if item.asset_selection] == [
        "tiny_service"
    ]
    (notice, *_) = [item for item in after.asset_events if item.asset_key == PACKAGE]
    assert notice.metadata["cognify/on_canary"].value.startswith("**v1 is live on canary**")
    assert notice.metadata["cognify/state"].value.startswith("**v1 is signed by everyone**")
    assert desk.run(["tiny_service"], definitions=lanes_project.defs).success
    grants = {item.record.target: item.record.round for item in desk.all(ReleaseGranted)}
    assert set(grants) == {"canary", "production"}
    assert "v1 is live on production" in evaluate(lanes_project.defs, own_instance).skip_message
    desk.assert_verifies()


def test_a_use_cap_releases_only_to_the_deployment_that_enforces_it(desk: Desk, own_instance: dg.DagsterInstance):
    desk.instance = own_instance
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    approve_everywhere(desk, (Condition(text="At most 1000 a day", kind="use_cap", limit={"per_day": 1000}),))
    data = evaluate(lanes_project.defs, own_instance)
    assert [item.asset_selection[0].to_user_string() for item in data.run_requests if item.asset_selection] == [
        "tiny_canary"
    ]
    assert "v1 is blocked: Carl approved with a use_cap condition" in data.cursor
    refused = desk.run(["tiny_service"], definitions=lanes_project.defs)
    assert "does not say it enforces" in refused.failure
    ran = desk.run(["tiny_canary"], checks=[("tiny_package", "sign_off_canary")], definitions=lanes_project.defs)
    assert ran.success, ran.failure
    (done,) = desk.all(DeploymentCompleted)
    assert done.record.detail["caps"] == "[{'per_day': 1000}]"
    (row,) = rows(ran.materialized["tiny_canary"]["cognify/bound_to"])
    assert (row["condition"], row["kind"]) == ("At most 1000 a day", "use cap: per_day 1000")


def test_a_release_on_one_target_forges_none_on_another(desk: Desk, own_instance: dg.DagsterInstance):
    """The production asset shows the entry of the canary's deployment."""
    desk.instance = own_instance
    approve_everywhere(desk)
    assert desk.run(["tiny_canary"], definitions=lanes_project.defs).success
    (done,) = desk.all(DeploymentCompleted)

    @dg.asset(name="tiny_service", partitions_def=project.tiny.partitions)
    def forged() -> dg.MaterializeResult:
        return dg.MaterializeResult(metadata={"cognify/ledger_entry": done.seq, "cognify/entry_leaf": done.leaf})

    Watch(own_instance).tick()
    assert desk.all(Reconciliation) == []
    assert dg.materialize([forged], instance=own_instance, partition_key="v1").success
    Watch(own_instance).tick()
    (finding,) = desk.all(Reconciliation)
    assert "a deployment to another target" in finding.record.text


def test_wrong_lanes_are_refused_at_load():
    @cg.governed_deployment(project.tiny, target="canary", name="second")
    def second(release: cg.Release) -> None: ...

    assets = [project.tiny_model, project.tiny_eval, lanes_project.tiny_canary]
    with pytest.raises(UsageError, match="more than one deployment asset for target 'canary'"):
        project.tiny.build_defs(assets=[*assets, second])
    with pytest.raises(UsageError, match="needs exactly one deployment asset"):
        project.tiny.build_defs(assets=[*assets, project.tiny_service], release_by="automation")
    with pytest.raises(UsageError, match='use "sensor" or "automation"'):
        project.tiny.build_defs(assets=assets, release_by="hope")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="no kind of condition to enforce"):
        cg.governed_deployment(project.tiny, enforces=("everything",))


def test_an_automation_condition_asks_only_after_the_check_passed(desk: Desk, own_instance: dg.DagsterInstance):
    """The check never ran; it ran and did not pass; it passed; then the package was built again."""
    desk.instance = own_instance
    defs = lanes_project.automated
    asked: list[set[str]] = []
    cursor = None

    def ask() -> set[str]:
        nonlocal cursor
        found = dg.evaluate_automation_conditions(defs=defs, instance=own_instance, cursor=cursor)
        cursor = found.cursor
        asked.append({str(key) for key in found.get_requested_partitions(dg.AssetKey("tiny_auto"))})
        return asked[-1]

    ran = desk.run(["tiny_package"], checks=(), definitions=defs)
    assert ran.success, ran.failure
    assert ask() == set()
    own = evaluate(defs, own_instance)
    assert own.run_requests == []
    desk.approve("vera")
    (report,) = evaluate(defs, own_instance, own.cursor).run_requests
    guards = [("tiny_package", "sign_off"), ("tiny_package", "coverage_sr26_2")]
    assert [(key.asset_key.to_user_string(), key.name) for key in report.asset_check_keys] == guards
    assert desk.run([], checks=guards, tags=dict(report.tags), definitions=defs).success
    assert ask() == set()
    desk.approve("carl", "olga")
    ready = evaluate(defs, own_instance, own.cursor)
    assert [(item.asset_selection, item.tags["cognify/purpose"]) for item in ready.run_requests] == [
        ([], "report_sign_off")
    ]
    assert desk.run([], checks=guards, tags=dict(ready.run_requests[0].tags), definitions=defs).success
    assert ask() == {"v1"}
    assert ask() == set()
    ran = desk.run(["tiny_auto"], definitions=defs)
    assert ran.success, ran.failure
    sensor = defs.resolve_sensor_def("tiny_automation_sensor")
    assert sensor.default_status == dg.DefaultSensorStatus.RUNNING
    assert desk.run(["tiny_eval", "tiny_package"], definitions=defs).success  # a new package
    assert ask() == set()


def test_a_model_that_was_live_before_is_shown_as_unattested(daemon: Daemon):
    desk = daemon.desk
    facts = {"model": "tiny", "version": "old", "target": "production"}
    adopt_model(desk.workspace, desk.keys["olga"], **facts)
    assert "; old is live on production since before this ledger: unattested" in daemon.tick().skip_message
    release(daemon, "v1")
    assert "unattested" not in daemon.tick().skip_message


def fields(page: Mapping[str, Any]) -> dict[str, str]:
    names = ("validation_status", "compliance_review", "business_approval", "open_findings", "deployment_tier")
    return {name: page[f"cognify/{name}"].value for name in names}


def test_the_workflow_fields_say_findings_and_conditions(daemon: Daemon):
    desk = daemon.desk
    desk.approve("vera")
    finding = open_finding(
        desk.workspace, desk.keys["vera"], model="tiny", version="v1", severity="high", title="Not reproduced"
    )
    daemon.tick()
    page = daemon.page(PACKAGE, "v1")
    assert page["cognify/state"].value.startswith("**v1 is blocked**: finding ")
    assert fields(page) == {
        "validation_status": "signed",
        "compliance_review": "pending",
        "business_approval": "pending",
        "open_findings": "1 high",
        "deployment_tier": "high",
    }
    facts = {"model": "tiny", "version": "v1", "finding_seq": finding.seq, "outcome": "closed", "reason": "it was"}
    resolve_finding(desk.workspace, desk.keys["vera"], **facts)
    terms = (Condition(text="Write the notice"),)
    sign_off(desk.workspace, "tiny", "v1", desk.keys["carl"], Choice("approve_with_conditions", conditions=terms))
    daemon.tick()
    page = daemon.page(PACKAGE, "v1")
    assert fields(page)["open_findings"] == "none"
    assert fields(page)["compliance_review"] == "signed, with conditions"


def test_honest_work_raises_no_finding(daemon: Daemon):
    """Rebuilt packages, further evaluations, observations, reports, refusals, retries and releases; each tick, all along."""
    desk, watch = daemon.desk, Watch(daemon.instance)
    steps = (
        lambda: desk.run(["tiny_package"]),
        lambda: desk.run([project.SERVICE]),
        lambda: desk.approve("vera"),
        lambda: desk.run(["tiny_eval", "tiny_package"]),
        lambda: desk.run(project.DATA, None),
        lambda: release(daemon, "v1"),
        lambda: desk.run([project.SERVICE]),
        lambda: desk.run(project.BUILD, "v2"),
        lambda: daemon.instance.report_runless_asset_event(dg.AssetObservation("tiny_package", partition="v1")),
        lambda: release(daemon, "v2"),
        lambda: block_and_report(daemon),
    )
    for step in steps:
        step()
        watch.tick()
        Watch(daemon.instance).tick()  # and with a lost cursor
        assert desk.all(Reconciliation) == []
    assert len(desk.all(Package)) == 3
    assert desk.all(SignOff)


def block_and_report(daemon: Daemon) -> None:
    desk = daemon.desk
    sign_off(desk.workspace, "tiny", "v2", desk.keys["carl"], Choice("block", comments="complaints"))
    for item in suspended_tick(daemon).run_requests:
        assert not desk.run([], item.partition_key, checks=[("tiny_package", "sign_off")], tags=dict(item.tags)).success


def test_broken_glass_is_shown_wherever_the_release_is(daemon: Daemon):
    desk = daemon.desk
    policy = policy_in_force(desk.workspace.read()).policy
    opened = policy.break_glass.model_copy(update={"enabled": True})
    signers = [desk.keys["ada"], desk.keys["finn"]]
    adopt_policy(desk.workspace, policy.model_copy(update={"break_glass": opened}), "emergencies", signers)
    facts = {
        "model": "tiny",
        "version": "v1",
        "target": "production",
        "waived": ("validation", "compliance", "business"),
        "reason": "fraud wave, the old model fails",
        "expires": utc(datetime.now(timezone.utc) + timedelta(hours=24)),
    }
    glass = break_glass(desk.workspace, [desk.keys["carl"], desk.keys["olga"]], **facts)
    assert daemon.releases() == ["v1"]
    page = daemon.page(PACKAGE, "v1")
    assert page["cognify/state"].value.startswith(f"**v1 is opened by broken glass (entry {glass.seq})**")
    assert page["cognify/validation_status"].value == f"waived by broken glass (entry {glass.seq})"
    assert [row["state"] for row in rows(page["cognify/stages"])][1:] == [
        f"waived by broken glass (entry {glass.seq})"
    ] * 3
    ran = desk.run([project.SERVICE], checks=[("tiny_package", "sign_off")])
    assert ran.success, ran.failure
    shown = ran.materialized[project.SERVICE]
    assert shown["cognify/released_by"].value == f"broken glass (entry {glass.seq})"
    assert shown["cognify/waived_stages"].value == "validation, compliance, business"
    daemon.tick()
    assert "the release went without validation" in daemon.page(PACKAGE, "v1")["cognify/compliance_review"].value
    desk.assert_verifies()


def test_the_notification_sensor_tells_once_and_no_failure_stops_it(daemon: Daemon):
    desk = daemon.desk
    config = desk.workspace.config.path
    program = "import sys; open('told.jsonl', 'a').write(sys.stdin.read() + chr(10)); sys.exit(len(sys.argv) - 1)"
    original = config.read_text()
    cursor: str | None = None

    def told() -> str:
        nonlocal cursor
        context = dg.build_sensor_context(
            instance=daemon.instance,
            instance_ref=daemon.instance.get_ref(),
            definitions=project.defs,
            resources={"ledger": LedgerResource()},
            cursor=cursor,
        )
        data = project.defs.resolve_sensor_def("tiny_notification_sensor").evaluate_tick(context)
        cursor = data.cursor or cursor
        return data.skip_message or ""

    def hook(*more: str) -> None:
        command = json.dumps([sys.executable, "-c", program, *more])
        config.write_text(f'{original}\n[[notify]]\nkind = "command"\ncommand = {command}\n')

    assert told().startswith("nobody is told")
    hook("fail")
    assert "1 messages were not taken: person/vera: notify 'command-1': the command ended with status 1" in told()
    hook()
    assert told() == "nothing new to tell"  # a minute has not passed
    assert cursor is not None
    cursor = json.dumps({**json.loads(cursor), "failures": {}})
    assert told() == "1 people were told"
    assert told() == "nothing new to tell"
    release(daemon, "v1")
    assert told() == "1 people were told"
    (*_, last) = [json.loads(line) for line in (config.parent / "told.jsonl").read_text().splitlines()]
    assert last["person"] == "team:tests"
    assert [item["event"] for item in last["items"]] == ["released"]
