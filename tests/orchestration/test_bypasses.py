"""Ways around the gate, each tried on real Dagster, and who notices.

| tried | noticed by | test |
|---|---|---|
| direct launch of the deployment | deployment body: `release_refused` entry | test_gate.py: test_a_direct_launch_of_the_deployment… |
| launch without the sign-off check | deployment body | test_gate.py: test_a_launch_that_leaves_the_check_out… |
| a report tag on a release run | deployment body | test_standing.py: test_a_report_tag_on_a_release_run_opens_no_door |
| backfill of the deployment | deployment body, in the run the daemon launched | test_a_backfill… |
| `dagster asset materialize` | deployment body | test_the_command_line… |
| materialization forged through REST | reconciliation sensor: finding, which holds back releases | test_a_materialization_forged_through_rest… |
| check pass forged through REST | reconciliation sensor: finding; deployment body | test_a_check_pass_forged_through_rest… |
| check pass forged by another code location's run | reconciliation sensor decides again: finding | test_a_check_pass_that_another_run_made_up… |
| entry of another asset, version or target shown | reconciliation sensor: finding | test_reconciliation.py; test_overseen.py: test_a_release_on_one_target… |
| release run deleted | approval sensor and body ask the ledger | test_a_deleted_run_and_a_wiped_asset… |
| asset wiped | reconciliation sensor says what is no longer shown; nothing is released again | the same |
| sensor renamed (its run keys are forgotten) | approval sensor asks the ledger | the same |
| run again after the release | decision: `already_released` | the same |
| two sensors at once | one run key; the second run is refused | test_two_sensors_at_once… |
| two runs at once | lock, pool, one completion a grant | test_retries.py: test_of_two_deployments_at_once… |
| approval of v1 used for v2 | decision: the statement names its package | test_an_approval_of_v1… |
| package rebuilt after approval | decision: `package_rebuilt` or another package | test_a_package_rebuilt… |
| approval revoked between sensor and run | deployment body decides again | test_an_approval_withdrawn_between… |
| approval expired between sensor and run | deployment body decides again | test_an_expired_approval… |
| clock set back to before the expiry | ledger: time never decreases | test_a_clock_set_back… |
| policy file edited | decision reads the adopted policy | test_an_edited_policy_file… |
| ledger row edited | reading verifies: step fails | test_an_edited_ledger_row… |
| key revoked | decision: `key_revoked` | test_gate.py: test_a_revoked_signature_closes_the_gate_again |
| one person under two roles | decision: distinct people | test_one_person_under_two_roles… |
| a machine's key signs | sign-off refused; in the ledger it counts for nobody | test_a_machine… |
| quorum of two with one person twice | decision: distinct people | test_a_quorum_of_two… |
| staging approval replayed in production | decision: `target_not_approved` | test_a_staging_approval… |
| `user` tag spoofed | run coordinator overwrites it | test_coordinator.py |
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from cognify_dagster.governance import (
    Choice,
    SignatureError,
    SignOffDenied,
    adopt_policy,
    decide,
    policy_in_force,
    propose,
    read_sign_off,
    seal,
    sign_off,
    submit,
)
from cognify_dagster.governance.signing.statements import statement_digest
from cognify_dagster.records import DeploymentCompleted, Reconciliation, ReleaseGranted, ReleaseRefused, SignOff, utc
from cognify_dagster.workspace import idempotency_key
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk
from tests.orchestration.test_gate import follow, tick
from tests.orchestration.test_overseen import enrolled
from tests.orchestration.test_reconciliation import Watch
from tests.orchestration.webserver import ROOT, Webserver, serve

CHECK = [("tiny_package", "sign_off")]


def codes(desk: Desk, version: str = "v1") -> set[str]:
    now = datetime.now(timezone.utc)
    return {reason.code for reason in decide(desk.workspace.read(), "tiny", version, "production", now).reasons}


def refused(desk: Desk, version: str = "v1", **how: Any) -> str:
    """Try to deploy; the body is not entered, and the refusal is on record. Return what it says."""
    before, entered = len(desk.all(ReleaseRefused)), desk.entered("deployment")
    ran = desk.run([project.SERVICE], version, **how)
    assert not ran.success
    assert desk.entered("deployment") == entered
    assert len(desk.all(ReleaseRefused)) == before + 1
    return ran.failure


# --- through the webserver, the daemon and the command line


@dataclass
class Site:
    """A desk where v1 is live and v2 waits, with the webserver that its instance runs behind."""

    desk: Desk
    server: Webserver
    home: Path


@pytest.fixture(scope="module")
def site(released: stock.Stock, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    assert released.home is not None
    shutil.copytree(released.folder, folder / "project")
    shutil.copytree(released.home, folder / "home")
    with (
        pytest.MonkeyPatch.context() as patch,
        dg.instance_for_test(
            temp_dir=str(folder / "home"),
            overrides={
                "run_coordinator": {"module": "dagster._core.run_coordinator", "class": "DefaultRunCoordinator"}
            },
        ) as instance,
    ):
        patch.setenv("COGNIFY_WORKSPACE", str(folder / "project"))
        patch.setenv("PYTHONPATH", str(ROOT))
        desk = Desk(folder / "project", released.keys, instance)
        assert desk.run(project.BUILD, "v2").success
        Watch(instance).tick()
        assert desk.all(Reconciliation) == []
        with serve(folder / "home", folder / "project") as server:
            yield Site(desk, server, folder / "home")


@pytest.fixture
def at(site: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(site.desk.folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("DAGSTER_HOME", str(site.home))
    return site


def test_the_command_line_of_dagster_opens_nothing(at: Site):
    before = len(at.desk.all(ReleaseRefused))
    done = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-m", "tests.orchestration.project"),
            *("--select", project.SERVICE, "--partition", "v2"),
        ],
        cwd=ROOT,
        env=os.environ,
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    (*_, last) = at.desk.all(ReleaseRefused)
    assert len(at.desk.all(ReleaseRefused)) == before + 1
    assert last.record.version == "v2"
    assert at.desk.entered("deployment") == 1  # that of v1, long before


def test_a_backfill_is_refused_by_the_body_of_each_run(at: Site):
    from dagster._core.test_utils import create_test_daemon_workspace_context
    from dagster._core.workspace.load_target import ModuleTarget
    from dagster._daemon import get_default_daemon_logger
    from dagster._daemon.backfill import execute_backfill_iteration

    instance = at.desk.instance
    before = len(at.desk.all(ReleaseRefused))
    backfill = at.server.backfill(project.SERVICE, ["v1", "v2"], {"user": "vera"})
    target = ModuleTarget("tests.orchestration.project", None, str(ROOT), "tests.orchestration.project")
    with create_test_daemon_workspace_context(target, instance) as context:
        deadline = time.monotonic() + 90
        while not _over(instance, backfill, 2):
            assert time.monotonic() < deadline
            list(execute_backfill_iteration(context, get_default_daemon_logger("BackfillDaemon")))
            time.sleep(0.5)
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    assert {run.status for run in runs} == {dg.DagsterRunStatus.FAILURE}
    new = at.desk.all(ReleaseRefused)[before:]
    assert {item.record.version for item in new} == {"v1", "v2"}
    assert at.desk.entered("deployment") == 1


def _over(instance: dg.DagsterInstance, backfill: str, count: int) -> bool:
    runs = instance.get_runs(dg.RunsFilter(tags={"dagster/backfill": backfill}))
    return len(runs) == count and all(run.is_finished for run in runs)


def test_a_materialization_forged_through_rest_is_a_finding_that_holds_back_the_release(at: Site):
    status, answer = at.server.request(
        f"/report_asset_materialization/{project.SERVICE}", {"partition": "v2", "metadata": {"live": True}}
    )
    assert status == 200, answer
    watch = Watch(at.desk.instance)
    watch.tick()
    (finding,) = at.desk.all(Reconciliation)
    assert (finding.record.asset, finding.record.version) == (project.SERVICE, "v2")
    assert "finding_open" in codes(at.desk, "v2")
    assert codes(at.desk, "v1") <= {"already_released", "finding_open"}
    watch.tick()
    assert len(at.desk.all(Reconciliation)) == 1


def test_a_check_pass_forged_through_rest_is_a_finding_and_opens_nothing(at: Site):
    body = {"check_name": "sign_off", "passed": True, "partition": "v2"}
    status, answer = at.server.request("/report_asset_check/tiny_package", body)
    assert status == 200, answer
    watch, before = Watch(at.desk.instance), len(at.desk.all(Reconciliation))
    watch.tick()
    assert "was reported without a run" in _new_check_finding(at.desk)
    assert "Independent validation is not signed" in refused(at.desk, "v2")
    watch.tick()
    Watch(at.desk.instance).tick()
    assert len(at.desk.all(Reconciliation)) <= before + 2


def _new_check_finding(desk: Desk) -> str:
    found = [item.record.text for item in desk.all(Reconciliation) if item.record.code == "unattested_check"]
    assert found
    return found[-1]


# --- with a copied desk


@pytest.fixture
def known(desk: Desk, own_instance: dg.DagsterInstance) -> Desk:
    """A desk where v1 waits, on an instance of its own that knows the version."""
    desk.instance = own_instance
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    return desk


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({}, "without naming the ledger entries"),
        (
            {"cognify/decided_on_size": "SIZE", "cognify/decided_at": "2001-01-01T00:00:00Z"},
            "not when it was evaluated",
        ),
        ({"cognify/decided_on_size": "SIZE", "cognify/decided_at": "NOW"}, "though the ledger says: Independent"),
        ({"cognify/decided_on_size": "99999", "cognify/decided_at": "NOW"}, "without naming the ledger entries"),
    ],
)
def test_a_check_pass_that_another_run_made_up_is_a_finding(known: Desk, metadata: dict[str, str], said: str):
    values = {"SIZE": str(known.workspace.read().size), "NOW": utc(datetime.now(timezone.utc))}
    shown = {key: values.get(value, value) for key, value in metadata.items()}

    @dg.asset(name="tiny_package", partitions_def=project.tiny.partitions)
    def other() -> None: ...

    @dg.asset_check(asset=other, name="sign_off", partitions_def=project.tiny.partitions)
    def forged() -> dg.AssetCheckResult:
        return dg.AssetCheckResult(passed=True, metadata=shown)

    defs = dg.Definitions(assets=[other], asset_checks=[forged])
    job = defs.resolve_implicit_global_asset_job_def().get_subset(
        asset_selection=set(), asset_check_selection={dg.AssetCheckKey(dg.AssetKey("tiny_package"), "sign_off")}
    )
    assert job.execute_in_process(instance=known.instance, partition_key="v1").success
    watch = Watch(known.instance)
    watch.tick()
    (finding,) = known.all(Reconciliation)
    assert said in finding.record.text
    assert (finding.record.code, finding.record.version) == ("unattested_check", "v1")
    assert "finding_open" in codes(known)
    watch.tick()
    assert len(known.all(Reconciliation)) == 1


def released_by_sensor(desk: Desk) -> tuple[Any, Any]:
    desk.approve()
    (request,) = tick(desk, desk.instance).run_requests
    ran = follow(desk, desk.instance, request)
    assert ran.success, ran.failure
    return request, ran


def test_a_deleted_run_and_a_wiped_asset_and_a_renamed_sensor_release_nothing_again(known: Desk):
    """Dagster forgets; the ledger does not. A renamed sensor starts without cursor and run keys, as here."""
    _, ran = released_by_sensor(known)
    known.instance.delete_run(ran.id)
    assert not tick(known, known.instance, None).run_requests
    assert "already" in refused(known)
    known.instance.wipe_assets([dg.AssetKey(project.SERVICE), dg.AssetKey("tiny_package")])
    assert not tick(known, known.instance, None).run_requests
    said = Watch(known.instance).tick()
    assert "Dagster no longer shows " in said
    assert f"v1 of {project.SERVICE}" in said
    assert known.all(Reconciliation) == []
    assert len(known.all(DeploymentCompleted)) == 1


def test_two_sensors_at_once_ask_for_one_release_and_the_second_run_is_refused(known: Desk):
    known.approve()
    (first,) = tick(known, known.instance).run_requests
    (second,) = tick(known, known.instance).run_requests
    assert first.run_key == second.run_key
    assert follow(known, known.instance, first).success
    assert not follow(known, known.instance, second).success  # had Dagster forgotten the key
    assert known.entered("deployment") == 1
    assert len(known.all(ReleaseGranted)) == 1


def test_an_approval_of_v1_is_worth_nothing_for_v2(known: Desk):
    known.approve()
    assert known.run(project.BUILD, "v2").success
    (entry,) = [item for item in known.all(SignOff) if item.record.person == "person/vera"]
    forge(known, entry.record.model_copy(update={"version": "v2"}))
    text = refused(known, "v2")
    assert "Independent validation is not signed" in text
    assert "the statement says something else than the entry" in text


def forge(desk: Desk, record: SignOff) -> None:
    """Append past every check of the governance room, as somebody with the machine's key could."""
    desk.workspace.append(record, idem=idempotency_key("forged", desk.workspace.ledger.size()))


def test_a_package_rebuilt_after_the_approval_needs_new_ones(known: Desk):
    known.approve()
    assert known.run(["tiny_eval", "tiny_package"]).success
    assert not [item for item in tick(known, known.instance).run_requests if item.asset_selection]
    assert "Independent validation is not signed" in refused(known)


def test_an_approval_withdrawn_between_sensor_and_run_is_seen_by_the_body(known: Desk):
    known.approve()
    (request,) = tick(known, known.instance).run_requests
    from cognify_dagster.governance import EntryRef

    (*_, given) = known.all(SignOff)
    choice = Choice("withdraw", stage="business", reference=EntryRef(entry_seq=given.seq, entry_leaf=given.leaf))
    sign_off(known.workspace, "tiny", "v1", known.keys["olga"], choice)
    stopped = follow(known, known.instance, request)
    assert not stopped.success
    assert not stopped.checks["sign_off"].passed
    assert "Business sign-off is not signed" in refused(known)


def approve_until(desk: Desk, end: datetime) -> None:
    for name in ("vera", "carl"):
        desk.approve(name)
    sign_off(desk.workspace, "tiny", "v1", desk.keys["olga"], Choice("approve", expires=utc(end)))


def test_an_expired_approval_is_seen_by_the_body(known: Desk):
    end = datetime.now(timezone.utc) + timedelta(seconds=8)
    approve_until(known, end)
    (request,) = tick(known, known.instance).run_requests
    time.sleep(max(0.0, (end - datetime.now(timezone.utc)).total_seconds()) + 1.1)
    assert not follow(known, known.instance, request).success
    assert "has expired" in refused(known)


def test_a_clock_set_back_to_before_the_expiry_grants_nothing(known: Desk, monkeypatch: pytest.MonkeyPatch):
    """The ledger's newest entry is later than the clock says, by more than clocks differ."""
    from cognify_dagster.governance.release import granting as release

    end = datetime.now(timezone.utc) + timedelta(seconds=8)
    approve_until(known, end)
    time.sleep(max(0.0, (end - datetime.now(timezone.utc)).total_seconds()) + 1.1)
    assert "has expired" in refused(known)
    back = timedelta(hours=2)

    class Set(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:  # type: ignore[override]
            return datetime.now(tz) - back

    real = time.time_ns
    monkeypatch.setattr(release, "datetime", Set)
    monkeypatch.setattr(time, "time_ns", lambda: real() - int(back.total_seconds() * 1e9))
    ran = known.run([project.SERVICE])
    assert not ran.success
    assert "clock is" in ran.failure
    assert known.all(ReleaseGranted) == []
    assert known.entered("deployment") == 0


def test_an_edited_policy_file_changes_nothing(known: Desk):
    path = known.workspace.config.path.parent / "policy.yaml"
    text = path.read_text()
    path.write_text(text.replace("stages: [automated, validation, compliance, business]", "stages: [automated]"))
    assert path.read_text() != text
    assert "Independent validation is not signed" in refused(known)


def test_an_edited_ledger_row_stops_every_step(known: Desk):
    known.approve("vera", "carl")
    with sqlite3.connect(known.workspace.config.ledger) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        (data,) = db.execute("SELECT bytes FROM payload WHERE seq = (SELECT max(seq) FROM payload)").fetchone()
        changed = bytes(data).replace(b"compliance_officer", b"business_owner_xxx"[:18])
        assert changed != bytes(data)
        db.execute("UPDATE payload SET bytes = ? WHERE seq = (SELECT max(seq) FROM payload)", (changed,))
    db.close()
    ran = known.run([project.SERVICE])
    assert not ran.success
    assert known.entered("deployment") == 0


def test_one_person_under_two_roles_fills_one_stage(known: Desk):
    known.keys["dora"] = enrolled(known, "dora", "compliance_officer", "business_owner")
    known.approve("vera")
    sign_off(known.workspace, "tiny", "v1", known.keys["dora"], Choice("approve", stage="compliance"))
    with contextlib.suppress(SignOffDenied):  # whether it is taken at all does not matter here
        sign_off(known.workspace, "tiny", "v1", known.keys["dora"], Choice("approve", stage="business"))
    assert "Business sign-off is not signed" in refused(known)


def test_a_quorum_of_two_is_not_met_by_one_person_twice(known: Desk):
    policy = policy_in_force(known.workspace.read()).policy
    stages = {**policy.stages, "validation": policy.stages["validation"].model_copy(update={"quorum": 2})}
    signers = [known.keys["ada"], known.keys["finn"]]
    adopt_policy(known.workspace, policy.model_copy(update={"stages": stages}), "two validators", signers)
    known.approve("vera")
    submit(known.workspace, again(known, "vera"))
    assert len(known.all(SignOff)) == 2
    text = refused(known)
    assert "Independent validation is not signed: 1 more from role model_validator" in text


def again(desk: Desk, name: str) -> Any:
    """The same decision, signed a second time in a new statement."""
    key = desk.keys[name]
    choice = Choice("approve", stage="validation", comments="once more")
    return seal(propose(desk.workspace.read(), "tiny", "v1", key.person, key.key_id, choice), key.key_id, key.sign)


def forge_signed(desk: Desk, envelope: Any, like: SignOff, **changes: Any) -> None:
    predicate = read_sign_off(base64.b64decode(envelope.payload))
    values = {
        "envelope": envelope,
        "statement_digest": statement_digest(envelope),
        "signed_at": predicate.signed_at,
        "stage": predicate.stage,
        **changes,
    }
    forge(desk, like.model_copy(update=values))


def test_a_machine_signs_for_nobody(known: Desk):
    """The workload's own key signs a statement in its own name, and in Vera's."""
    known.approve("vera")
    (given,) = known.all(SignOff)
    writer = known.workspace.writer
    assert writer is not None
    vera = known.keys["vera"]
    statement = propose(
        known.workspace.read(), "tiny", "v1", vera.person, vera.key_id, Choice("approve", comments="bot")
    )
    envelope = seal(statement, writer.key_id, writer.sign)
    with pytest.raises((SignOffDenied, SignatureError)):
        submit(known.workspace, envelope)
    forge_signed(known, envelope, given.record, key_id=writer.key_id, person=writer.workload)
    forge_signed(known, envelope, given.record)
    now = datetime.now(timezone.utc)
    decision = decide(known.workspace.read(), "tiny", "v1", "production", now)
    assert [signed.person for stage in decision.stages for signed in stage.signed] == ["person/vera"]
    assert "Compliance and legal review is not signed" in refused(known)


def test_a_staging_approval_opens_no_production(known: Desk):
    for name in ("vera", "carl", "olga"):
        sign_off(known.workspace, "tiny", "v1", known.keys[name], Choice("approve", targets=("staging",)))
    assert not [item for item in tick(known, known.instance).run_requests if item.asset_selection]
    assert "approves staging, not production" in refused(known)
    (entry, *_) = known.all(SignOff)
    forge(known, entry.record)  # the same statement once more
    assert "approves staging, not production" in refused(known)
