"""A process killed in the middle of any step: the ledger verifies, a retry goes on, nothing is written twice.

The child is a real process (a fork), killed with SIGKILL at a named point; nothing gets the chance to tidy up.
"""

from __future__ import annotations

import os
import signal
import time

import dagster as dg
import pytest

from cognify_dagster.evidence import EvidenceStore
from cognify_dagster.ledger import Ledger
from cognify_dagster.records import DeploymentCompleted, Evaluation, GateResult, Package, ReleaseGranted, TrainingRun
from tests.orchestration import project
from tests.orchestration.desk import Desk

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork, so Linux or macOS")

ASSETS = {"training": "tiny_model", "evaluation": "tiny_eval", "package": "tiny_package", "deployment": "tiny_service"}
ENTRIES = {"training": TrainingRun, "evaluation": Evaluation, "package": Package, "deployment": DeploymentCompleted}
POINTS = [
    ("training", "append version_opened", "before"),
    ("training", "append version_opened", "after"),
    ("training", "put", "before"),
    ("training", "put", "after"),
    ("training", "append training_run", "before"),
    ("training", "append training_run", "after"),
    ("training", "checkpoint", "before"),
    ("training", "checkpoint", "after"),
    ("evaluation", "append evaluation", "before"),
    ("evaluation", "append evaluation", "after"),
    ("evaluation", "append gate_result", "after"),
    ("package", "append gate_result", "after"),
    ("package", "put", "after"),
    ("package", "append package", "before"),
    ("package", "append package", "after"),
    ("deployment", "append release_granted", "before"),
    ("deployment", "append release_granted", "after"),
    ("deployment", "user", "after"),
    ("deployment", "append deployment_completed", "before"),
    ("deployment", "append deployment_completed", "after"),
    ("deployment", "checkpoint", "before"),
]


def die() -> None:
    """End this process as `kill -9` does."""
    os.kill(os.getpid(), signal.SIGKILL)


def arm(point: str, when: str) -> None:
    """Make this process kill itself before or after the first time a point is reached."""

    def wrap(holder: type, name: str, matches) -> None:  # type: ignore[no-untyped-def]
        real = getattr(holder, name)

        def deadly(*args, **options):  # type: ignore[no-untyped-def]
            hit = matches(*args, **options)
            if hit and when == "before":
                die()
            result = real(*args, **options)
            if hit:
                die()
            return result

        setattr(holder, name, deadly)

    what, _, kind = point.partition(" ")
    if what == "append":
        wrap(Ledger, "append", lambda self, draft, *_: draft.kind == kind)
    elif what == "put":
        wrap(EvidenceStore, "put", lambda *_, **__: True)
    elif what == "checkpoint":
        wrap(Ledger, "sign_checkpoint", lambda *_, **__: True)
    elif what == "user":
        wrap(project, "enter", lambda step: True)  # type: ignore[arg-type]
    else:
        raise AssertionError(point)


def killed_run(desk: Desk, asset: str, point: str, when: str) -> dg.DagsterRun:
    """Run an asset in a child that dies at a point; return the run it leaves behind."""
    child = os.fork()
    if child == 0:
        try:
            arm(point, when)
            desk.run([asset])
        finally:
            os._exit(0)  # not reached where the point was
    end = time.monotonic() + 60
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert os.WIFSIGNALED(status), f"the point {when} {point!r} was never reached"
            return desk.instance.get_runs(limit=1)[0]
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hangs")


@pytest.fixture
def at(request: pytest.FixtureRequest):
    """Return a desk where a step is next."""

    def prepare(step: str) -> Desk:
        if step in ("training", "evaluation", "package"):
            desk: Desk = request.getfixturevalue("new_desk")
            assert desk.run(project.DATA, None).success
            for name in ("training", "evaluation"):
                if step in ("training", name):
                    break
                assert desk.run([ASSETS[name]]).success
            return desk
        desk = request.getfixturevalue("desk")
        desk.approve()
        return desk

    return prepare


@pytest.mark.parametrize(("step", "point", "when"), POINTS, ids=lambda value: str(value).replace(" ", "-"))
def test_after_the_kill_the_ledger_verifies_and_the_retry_goes_on(at, step: str, point: str, when: str):
    desk = at(step)
    run = killed_run(desk, ASSETS[step], point, when)
    assert not run.is_finished  # nobody told Dagster
    assert_holds(desk)

    # run monitoring finds the dead worker, ends the run and retries it under the same root
    desk.instance.report_run_failed(run, "the run worker died")
    again = desk.run([ASSETS[step]], tags={"dagster/root_run_id": run.run_id, "dagster/parent_run_id": run.run_id})
    assert again.success, again.failure
    (entry,) = desk.all(ENTRIES[step])
    assert again.materialized[ASSETS[step]]["cognify/ledger_entry"].value == entry.seq
    if step == "evaluation":
        assert sorted(item.record.family for item in desk.all(GateResult)) == [
            "data_quality",
            "fairness",
            "performance",
        ]
    if step == "deployment":
        assert len(desk.all(ReleaseGranted)) == 1
        assert entry.record.grant_seq == desk.all(ReleaseGranted)[0].seq  # type: ignore[attr-defined]
    desk.assert_verifies()


def assert_holds(desk: Desk) -> None:
    """No finding at all; entries that no checkpoint covers yet are not a finding."""
    workspace = desk.workspace
    report = workspace.ledger.verify(workspace.trust())
    assert not report.findings, report.findings


@pytest.mark.parametrize(
    ("point", "when", "texts"),
    [
        ("append version_opened", "after", ("is training tiny v1 now; wait for it",)),
        ("append training_run", "after", ("tiny v1 is sealed", "Train a new version")),
    ],
)
def test_another_run_of_a_training_that_was_killed_is_refused_clearly(
    at, point: str, when: str, texts: tuple[str, ...]
):
    desk = at("training")
    run = killed_run(desk, "tiny_model", point, when)
    second = desk.run(["tiny_model"])
    assert not second.success
    for text in texts:
        assert text in second.failure
    # ending the dead run in Dagster is enough where nothing was sealed
    desk.instance.report_run_failed(run, "the run worker died")
    third = desk.run(["tiny_model"])
    assert third.success == ("version_opened" in point)
    assert len(desk.all(TrainingRun)) == 1


def test_another_run_of_a_deployment_that_was_killed_continues_its_grant_or_finds_it_done(at):
    desk = at("deployment")
    killed_run(desk, "tiny_service", "user", "after")
    (grant,) = desk.all(ReleaseGranted)
    second = desk.run(["tiny_service"])
    assert second.success, second.failure
    (done,) = desk.all(DeploymentCompleted)
    assert done.record.grant_seq == grant.seq
    third = desk.run(["tiny_service"])
    assert "were used on production already" in third.failure
    desk.assert_verifies()


def test_a_snapshot_killed_before_its_entry_leaves_no_trace_of_a_dataset(new_desk: Desk):
    run = killed_run_of_data(new_desk)
    assert_holds(new_desk)
    assert "dataset_snapshot" not in new_desk.kinds()
    new_desk.instance.report_run_failed(run, "the run worker died")
    assert new_desk.run(project.DATA, None).success
    assert new_desk.kinds().count("dataset_snapshot") == 2
    new_desk.run(["tiny_model"])
    new_desk.assert_verifies()


def killed_run_of_data(desk: Desk) -> dg.DagsterRun:
    class Unpartitioned:
        instance = desk.instance

        def run(self, assets):  # type: ignore[no-untyped-def]
            return desk.run(assets, None)

    return killed_run(Unpartitioned(), "tiny_train", "append dataset_snapshot", "before")  # type: ignore[arg-type]
