"""A full disk in turn for ledger, evidence, keys and signer, everything together, and Dagster's own storage.

The disks are real: small filesystems in memory that a training fills up while it runs.
"""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.ledger.sqlite.connection import close_all
from cognify_dagster.records import TrainingRun
from tests.orchestration import project
from tests.orchestration.desk import Desk

WHERE = ("ledger", "evidence", "home")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A filesystem of its own of 8 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    problem = "mounting a small filesystem needs root" if mount is None or os.geteuid() != 0 else ""
    if not problem:
        made = subprocess.run(
            [str(mount), "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
        )
        problem = made.stderr.decode()
    if problem:
        if os.environ.get("COGNIFY_REQUIRE_ALL") == "1":
            pytest.fail(f"no small disk could be made: {problem}")
        pytest.skip(problem)
    try:
        yield folder
    finally:
        close_all()
        gc.collect()  # workspaces of the runs above may be waiting for it with files open
        subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> None:
    """Leave no block free."""
    with open(disk / "filler", "wb", buffering=0) as stream:
        for size in (1 << 16, 1 << 12):
            try:
                while True:
                    stream.write(b"\0" * size)
            except OSError:
                continue


def make_room(disk: Path) -> None:
    (disk / "filler").unlink()


def move(desk: Desk, where: str, disk: Path) -> None:
    """Put a part of the workspace on the small disk, as an operator would, with `cognify.toml` or a link."""
    config = desk.folder / "cognify.toml"
    home = desk.folder / ".cognify"
    if where == "ledger":
        shutil.move(home / "ledger.sqlite", disk / "ledger.sqlite")
        config.write_text(config.read_text() + f'ledger = "{disk / "ledger.sqlite"}"\n')
    elif where == "evidence":
        shutil.move(home / "evidence", disk / "evidence")
        config.write_text(config.read_text() + f'evidence = "{disk / "evidence"}"\n')
    else:
        shutil.move(home, disk / "home")
        home.symlink_to(disk / "home")


@pytest.fixture
def trainee(new_desk: Desk) -> Desk:
    """A desk with snapshots."""
    assert new_desk.run(project.DATA, None).success
    return new_desk


@pytest.mark.parametrize("where", WHERE)
def test_a_disk_that_fills_up_during_training(trainee: Desk, disk: Path, where: str, monkeypatch: pytest.MonkeyPatch):
    move(trainee, where, disk)
    real = project.enter

    def enter(step: str) -> None:
        real(step)
        fill(disk)

    monkeypatch.setattr(project, "enter", enter)
    ran = trainee.run(["tiny_model"])
    assert not ran.success
    assert any(word in ran.failure.lower() for word in ("no space", "full", "room")), ran.failure
    run = trainee.instance.get_run_by_id(ran.id)
    assert run is not None
    assert "dagster/max_retries" not in run.tags  # a retry may mend it, so none is forbidden
    assert trainee.all(TrainingRun) == []
    assert not [path for path in disk.rglob("*") if ".tmp" in path.name or path.name.endswith(".new")]

    monkeypatch.setattr(project, "enter", real)
    make_room(disk)
    trainee.assert_verifies()
    again = trainee.run(["tiny_model"], tags={"dagster/root_run_id": ran.id, "dagster/parent_run_id": ran.id})
    assert again.success, again.failure
    assert len(trainee.all(TrainingRun)) == 1
    trainee.assert_verifies()


@pytest.mark.parametrize("where", WHERE)
def test_a_disk_that_fills_up_during_a_deployment(desk: Desk, disk: Path, where: str, monkeypatch: pytest.MonkeyPatch):
    """The grant is there, the installation worked, its completion cannot be written; the retry continues the grant."""
    from cognify_dagster.records import DeploymentCompleted, ReleaseGranted

    desk.approve()
    move(desk, where, disk)
    real = project.enter

    def enter(step: str) -> None:
        real(step)
        fill(disk)

    monkeypatch.setattr(project, "enter", enter)
    ran = desk.run([project.SERVICE])
    if where != "evidence":  # a deployment writes no evidence
        assert not ran.success
        assert any(word in ran.failure.lower() for word in ("no space", "full", "room")), ran.failure
    make_room(disk)
    monkeypatch.setattr(project, "enter", real)
    desk.assert_verifies()
    again = desk.run([project.SERVICE], tags={"dagster/root_run_id": ran.id, "dagster/parent_run_id": ran.id})
    assert again.success, again.failure
    assert len(desk.all(ReleaseGranted)) == 1
    assert len(desk.all(DeploymentCompleted)) == 1
    desk.assert_verifies()


def test_dagsters_own_storage_full(trainee: Desk, disk: Path, monkeypatch: pytest.MonkeyPatch):
    """What Dagster could not store does not matter: the ledger has the entry, and a retry shows it."""
    real = project.enter

    def enter(step: str) -> None:
        real(step)
        fill(disk)

    with dg.instance_for_test(temp_dir=str(disk), set_dagster_home=False) as instance:
        monkeypatch.setattr(project, "enter", enter)
        with pytest.raises(Exception, match="disk"):  # Dagster passes on what SQLite says
            trainee.run(["tiny_model"], instance=instance)
        monkeypatch.setattr(project, "enter", real)
        make_room(disk)
        trainee.assert_verifies()
        (run,) = instance.get_runs()
        sealed = trainee.all(TrainingRun)
        if not run.is_finished:
            instance.report_run_failed(run, "the run worker died")
        again = trainee.run(
            ["tiny_model"],
            instance=instance,
            tags={"dagster/root_run_id": run.run_id, "dagster/parent_run_id": run.run_id},
        )
        assert again.success, again.failure
        (kept,) = trainee.all(TrainingRun)
        assert not sealed or sealed[0].seq == kept.seq
        (shown,) = instance.fetch_materializations(dg.AssetKey("tiny_model"), limit=5).records
        assert shown.asset_materialization.metadata["cognify/ledger_entry"].value == kept.seq
    trainee.assert_verifies()
