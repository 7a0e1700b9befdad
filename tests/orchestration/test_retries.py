"""Retry, crash and concurrency: every step may run again, and no entry is written twice."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import dagster as dg
import pytest

from cognify_dagster.records import (
    DeploymentCompleted,
    DeploymentFailed,
    Evaluation,
    GateResult,
    Package,
    ReleaseGranted,
    ReleaseRefused,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Workspace
from tests.orchestration import project
from tests.orchestration.desk import Desk, Ran


@pytest.fixture
def ready(new_desk: Desk) -> Desk:
    """A desk with snapshots."""
    ran = new_desk.run(project.DATA, None)
    assert ran.success, ran.failure
    return new_desk


def test_a_training_that_fails_once_and_is_retried_leaves_one_failure_and_one_sealed_run(ready: Desk):
    ready.switch("fail-training")
    ran = ready.run(["tiny_model"])
    assert ran.success, ran.failure
    assert ran.steps("STEP_RESTARTED") == ["tiny_model"]
    (failed,) = ready.all(TrainingFailed)
    assert failed.record.reason == "RuntimeError: training fails on purpose"
    (sealed,) = ready.all(TrainingRun)
    assert sealed.record.observed["run"] == ran.id
    assert sealed.record.observed["attempt"] == 1
    assert len(ready.all(VersionOpened)) == 1
    ready.assert_verifies()


def test_each_failed_attempt_leaves_its_entry(ready: Desk):
    ready.switch("fail-training", "9")
    ran = ready.run(["tiny_model"])
    assert not ran.success
    assert len(ready.all(TrainingFailed)) == 2
    assert ready.all(TrainingRun) == []


def test_a_version_whose_training_failed_may_be_trained_by_another_run(ready: Desk):
    ready.switch("fail-training", "2")
    assert not ready.run(["tiny_model"]).success
    ran = ready.run(["tiny_model"])
    assert ran.success, ran.failure
    assert len(ready.all(VersionOpened)) == 2


def test_a_sealed_version_is_not_trained_again(desk: Desk):
    before = desk.workspace.ledger.size()
    ran = desk.run(["tiny_model"])
    assert not ran.success
    assert "tiny v1 is sealed (entry" in ran.failure
    assert "and packaged" in ran.failure
    assert "Train a new version" in ran.failure
    assert desk.entered("training") == 0
    assert ran.steps("STEP_UP_FOR_RETRY") == []
    assert desk.workspace.ledger.size() == before
    desk.approve()
    assert "its package is signed" in desk.run(["tiny_model"]).failure


def test_a_version_that_another_run_is_training_is_not_trained_at_the_same_time(ready: Desk):
    other = ready.instance.create_run_for_job(project.version_job(), status=dg.DagsterRunStatus.STARTED)
    ready.workspace.append(
        VersionOpened(model="tiny", version="v1", run=other.run_id, opened_by="person/ben"), idem="0" * 64
    )
    ran = ready.run(["tiny_model"])
    assert not ran.success
    assert f"run {other.run_id} is training tiny v1 now" in ran.failure
    assert ready.entered("training") == 0
    ready.instance.report_run_canceled(other)
    assert ready.run(["tiny_model"]).success


def test_two_runs_that_both_got_past_the_door_seal_once(ready: Desk, monkeypatch: pytest.MonkeyPatch):
    """The second run starts and ends inside the training function of the first; the store refuses the first's seal."""
    inner: list[object] = []
    real = project.enter

    def enter(step: str) -> None:
        real(step)
        if not inner:
            inner.append(None)
            monkeypatch.setattr("cognify_dagster.orchestration.training.run_is_over", lambda *_: True)
            inner.append(ready.run(["tiny_model"]))

    monkeypatch.setattr(project, "enter", enter)
    outer = ready.run(["tiny_model"])
    assert inner[1].success  # type: ignore[attr-defined]
    assert not outer.success
    assert "tiny v1 was sealed by another run meanwhile; train a new version" in outer.failure
    assert len(ready.all(TrainingRun)) == 1
    ready.assert_verifies()


STEPS = {
    "training": ("tiny_model", TrainingRun),
    "evaluation": ("tiny_eval", Evaluation),
    "package": ("tiny_package", Package),
    "deployment": ("tiny_service", DeploymentCompleted),
}


def prepare(desk: Desk, step: str) -> None:
    """Bring v1 to the point where a step is next."""
    assert desk.run(project.DATA, None).success
    for name in ("training", "evaluation", "package"):
        if name == step:
            return
        ran = desk.run([STEPS[name][0]])
        assert ran.success, ran.failure
    desk.approve()


@pytest.mark.parametrize("step", STEPS)
def test_a_step_that_dies_after_its_entry_and_is_retried_returns_that_entry(new_desk: Desk, step: str):
    """An exception between the append and the return stands for a crash; Dagster retries the step, or the run."""
    asset, record = STEPS[step]
    prepare(new_desk, step)
    with pytest.MonkeyPatch.context() as patch:
        die_after(patch, record.kind)
        first = new_desk.run([asset])
    assert len(new_desk.all(record)) == 1
    calls = new_desk.entered(step)
    if first.success:  # the asset's own retry policy was enough
        assert first.steps("STEP_RESTARTED") == [asset]
        again = first
    else:
        again = new_desk.run([asset], tags={"dagster/root_run_id": first.id, "dagster/parent_run_id": first.id})
    assert again.success, again.failure
    (kept,) = new_desk.all(record)
    assert again.materialized[asset]["cognify/ledger_entry"].value == kept.seq
    assert new_desk.entered(step) == calls <= 1  # the user's function is not run for nothing
    if step == "training":
        assert new_desk.all(TrainingFailed) == []  # it was sealed before it died
    if step == "evaluation":
        families = [item.record.family for item in new_desk.all(GateResult)]
        assert sorted(families) == ["data_quality", "fairness", "performance"]
    new_desk.assert_verifies()


def die_after(patch: pytest.MonkeyPatch, kind: str) -> None:
    """Let `Workspace.append` raise once the entry of a kind is in the ledger, and keep raising, as a dead process would."""
    append = Workspace.append
    dead: list[bool] = []

    def dying(self, record, **options):
        if dead:
            raise KeyboardInterrupt("dead processes do not write")
        receipt = append(self, record, **options)
        if record.kind == kind:
            dead.append(True)
            raise OSError("the process dies here")
        return receipt

    patch.setattr(Workspace, "append", dying)


def test_a_deployment_that_fails_once_continues_under_the_same_grant(desk: Desk):
    desk.approve()
    desk.switch("fail-deployment")
    ran = desk.run([project.SERVICE])
    assert ran.success, ran.failure
    (grant,) = desk.all(ReleaseGranted)
    (failed,) = desk.all(DeploymentFailed)
    (done,) = desk.all(DeploymentCompleted)
    assert failed.record.grant_seq == done.record.grant_seq == grant.seq
    assert grant.seq < failed.seq < done.seq
    assert failed.record.reason == "RuntimeError: deployment fails on purpose"
    assert desk.entered("deployment") == 2
    desk.assert_verifies()


def test_a_deployment_that_failed_for_good_continues_under_the_same_grant_in_a_later_run(desk: Desk):
    desk.approve()
    desk.switch("fail-deployment", "3")
    assert not desk.run([project.SERVICE]).success
    assert len(desk.all(DeploymentFailed)) == 3
    ran = desk.run([project.SERVICE])
    assert ran.success, ran.failure
    assert len(desk.all(ReleaseGranted)) == 1
    assert len(desk.all(DeploymentCompleted)) == 1


def deploy_twice(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> tuple[Ran, Ran]:
    """Deploy while a deployment is in the middle of its body; return the first run and the one inside it."""
    desk.approve()
    inner: list[Ran] = []
    real = project.enter

    def enter(step: str) -> None:
        real(step)
        if desk.entered("deployment") == 1:
            inner.append(desk.run([project.SERVICE]))

    monkeypatch.setattr(project, "enter", enter)
    outer = desk.run([project.SERVICE])
    return outer, inner[0]


def test_of_two_deployments_at_once_the_second_does_not_enter_the_body(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    outer, inner = deploy_twice(desk, monkeypatch)
    assert outer.success, outer.failure
    assert not inner.success
    assert f"run {outer.id} is deploying tiny to production now" in inner.failure
    assert desk.entered("deployment") == 1
    assert len(desk.all(ReleaseGranted)) == 1
    assert len(desk.all(DeploymentCompleted)) == 1
    assert desk.all(DeploymentFailed) == []
    assert desk.all(ReleaseRefused) == []  # nothing was decided about the second
    # it was no refusal: what retries runs may retry it, and is then told that the approvals are used up
    run = desk.instance.get_run_by_id(inner.id)
    assert run is not None
    assert "dagster/max_retries" not in run.tags
    assert "were used on production already" in desk.run([project.SERVICE]).failure


def test_where_the_lock_holds_nobody_two_deployments_are_still_one_release(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    """On two hosts both enter the body under one grant; the ledger takes one completion, and the other run says so."""
    monkeypatch.setattr("cognify_dagster.orchestration.exclusive.fcntl", None)
    outer, inner = deploy_twice(desk, monkeypatch)
    assert inner.success, inner.failure
    assert not outer.success
    assert "another run" in outer.failure
    assert len(desk.all(ReleaseGranted)) == 1
    assert len(desk.all(DeploymentCompleted)) == 1


def test_a_file_system_without_locks_is_warned_about_and_deploys(desk: Desk, monkeypatch: pytest.MonkeyPatch):
    import errno
    import fcntl

    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    desk.approve()
    with monkeypatch.context() as patch:
        patch.setattr(
            "cognify_dagster.orchestration.exclusive.fcntl",
            SimpleNamespace(flock=no_locks, LOCK_EX=fcntl.LOCK_EX, LOCK_NB=fcntl.LOCK_NB),
        )
        ran = desk.run([project.SERVICE])
    assert ran.success, ran.failure


def test_a_run_that_died_holding_the_lock_stops_nobody(desk: Desk):
    from cognify_dagster.orchestration.exclusive import pool_name

    desk.approve()
    lock = desk.workspace.home / "locks" / f"{pool_name('tiny', 'production')}.lock"
    lock.parent.mkdir()
    lock.write_text("a run that is no more")
    assert desk.run([project.SERVICE]).success


def test_deployments_of_a_model_to_a_target_share_a_pool():
    assert project.tiny_service.op.pool == "tiny_production_deployment"


def test_a_killed_step_process_is_retried_and_writes_nothing_twice(
    ready: Desk, own_instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch
):
    """The multiprocess executor: the child of the training step exits right after the seal, as a killed pod does."""
    own_instance.add_dynamic_partitions("tiny_versions", ["v1"])
    monkeypatch.setenv("TEST_EXIT_AFTER", "training_run")
    result = dg.execute_job(
        dg.reconstructable(dying_job),
        instance=own_instance,
        asset_selection=[dg.AssetKey("tiny_model")],
        tags={"dagster/partition": "v1", "user": "ben"},
        raise_on_error=False,
    )
    assert result.success
    assert (ready.folder / "exited").exists()
    (sealed,) = ready.all(TrainingRun)
    assert sealed.record.observed["run"] == result.run_id
    assert ready.all(TrainingFailed) == []
    assert ready.entered("training") == 1
    materialized = own_instance.fetch_materializations(dg.AssetKey("tiny_model"), limit=5).records
    entry = materialized[0].asset_materialization.metadata["cognify/ledger_entry"].value
    assert [item.asset_materialization.metadata["cognify/ledger_entry"].value for item in materialized] == [entry]
    assert entry == sealed.seq
    ready.assert_verifies()


def dying_job() -> dg.JobDefinition:
    """The project's job; a step process exits once after the entry that `TEST_EXIT_AFTER` names."""
    append = Workspace.append
    flag = Path(os.environ["COGNIFY_WORKSPACE"]) / "exited"

    def dying(self, record, **options):
        receipt = append(self, record, **options)
        if record.kind == os.environ.get("TEST_EXIT_AFTER") and not flag.exists():
            flag.touch()
            os._exit(9)
        return receipt

    Workspace.append = dying  # type: ignore[method-assign]  # each step runs in a process of its own
    return project.version_job()
