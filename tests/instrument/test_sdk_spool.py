"""What waits in the spool gets into the ledger once, in order, whatever happened to the process that wrote it."""

from __future__ import annotations

import json
import logging
import os
import resource
import shutil
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.governance import adopt_gate_set
from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.instrument.sdk import api, flushing, sealing
from cognify_dagster.instrument.sdk.journal import JOURNAL, Journal, read_journal
from cognify_dagster.instrument.sdk.spool import FolderLock, spooled
from cognify_dagster.ledger import LedgerError
from cognify_dagster.records import (
    Evaluation,
    ExperimentRun,
    GateRule,
    OverlapChecked,
    Package,
    TrainingFailed,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World
from tests.instrument.sdk_world import ORIGIN, snapshot, write_csv

GOOD = {"auc": {"value": 0.8, "ci_low": 0.78, "ci_high": 0.82, "n": 40}}


class Away:
    """Takes the whole workspace away, as an unmounted disk does, and brings it back."""

    def __init__(self, world: World) -> None:
        self._here, self._there = world.folder / "project", world.folder / "unmounted"
        self._here.rename(self._there)

    def back(self) -> Workspace:
        self._there.rename(self._here)
        return Workspace.open(self._here)


def offline_run(tmp_path: Path, name: str = "m", **config: Any) -> cognify.Outcome:
    """A whole run while the workspace is away."""
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run(config=config or None)
    run.log_metric("loss", 0.5, step=1)
    run.log_artifact("note.txt", b"kept in the spool", "text/plain")
    path = tmp_path / f"{name}.bin"
    path.write_text(name)
    run.save_model(path)
    run.eval(GOOD, "holdout-v3")
    return run.complete()


def states(folder: Path) -> list[tuple[str, str]]:
    return [(item.run, item.state) for item in spooled(folder)]


def counts(workspace: Workspace) -> dict[str, int]:
    reading = workspace.read()
    kinds = (VersionOpened, TrainingRun, TrainingFailed, Evaluation, OverlapChecked, Package, ExperimentRun)
    return {kind.kind: len(reading.all(kind)) for kind in kinds if reading.all(kind)}


def state_spool(tmp_path: Path) -> Path:
    return tmp_path / "state" / "cognify" / "spool"


def test_with_the_workspace_away_training_goes_on_with_one_warning(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(world)
    with caplog.at_level(logging.WARNING):
        outcome = offline_run(tmp_path)
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is not None
    assert outcome.spool.parent == state_spool(tmp_path)
    assert len([r for r in caplog.records if "cannot be reached" in r.getMessage()]) == 1
    away.back()


def test_runs_that_waited_are_sealed_in_the_order_in_which_they_began(world: World, tmp_path: Path) -> None:
    away = Away(world)
    for number in range(3):
        offline_run(tmp_path, f"m{number}", number=number)
    workspace = away.back()
    done = cognify.flush(workspace, [state_spool(tmp_path)])
    assert [item.done for item in done] == [True, True, True]
    runs = workspace.read().all(TrainingRun)
    assert [(item.record.version, item.record.config["number"]) for item in runs] == [("1", 0), ("2", 1), ("3", 2)]
    assert all(item.record.captured_by == "spool" for item in runs)
    assert states(state_spool(tmp_path)) == []


def test_a_run_that_never_saw_the_ledger_cannot_use_thresholds(world: World, tmp_path: Path) -> None:
    away = Away(world)
    offline_run(tmp_path)
    workspace = away.back()
    (done,) = cognify.flush(workspace, [state_spool(tmp_path)])
    assert isinstance(done.outcome, cognify.NotPackaged)
    assert "before this run began" in done.outcome.reason
    record = workspace.read().all(TrainingRun)[0].record
    assert record.started_after_seq == 0
    assert record.extra["results_without_gates"]["holdout-v3"]["auc"]["value"] == 0.8
    assert not workspace.read().all(Evaluation)


def test_thresholds_seen_before_count_and_those_adopted_meanwhile_do_not(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGNIFY_SPOOL", str(tmp_path / "spool"))
    cognify.init(workspace_id=ORIGIN, project=MODEL)  # this machine sees the ledger, and the thresholds in it
    seen = world.workspace.ledger.size()
    away = Away(world)
    offline_run(tmp_path)
    workspace = away.back()
    rule = GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=0.99, source="policy")
    adopt_gate_set(workspace, "credit_gates", MODEL, [rule], world.key("vera"))
    (done,) = cognify.flush(workspace, [tmp_path / "spool"])
    assert isinstance(done.outcome, cognify.Packaged), done
    record = workspace.read().all(TrainingRun)[0].record
    assert record.started_after_seq == seen
    assert workspace.read().all(Evaluation)[0].record.gate_set_seq < seen


def test_bindings_made_after_the_start_do_not_count(world: World, tmp_path: Path) -> None:
    away = Away(world)
    offline_run(tmp_path)
    workspace = away.back()
    old = workspace.read().all(TrainingRun)
    snapshot(workspace, write_csv(tmp_path / "new.csv", 20_000), "newer")
    cognify.bind(workspace, MODEL, {"train": "newer"})
    cognify.flush(workspace, [state_spool(tmp_path)])
    assert old == []
    assert [ref.name for ref in workspace.read().all(TrainingRun)[0].record.learned_from] == ["loans_train"]


def test_a_ledger_that_comes_back_before_the_end_needs_no_flush(world: World, tmp_path: Path) -> None:
    away = Away(world)
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run(config={"lr": 1})
    assert run.governed is None
    assert run.version is None
    path = tmp_path / "m.bin"
    path.write_text("m")
    run.save_model(path)
    workspace = away.back()
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged), outcome
    assert outcome.version == "1"
    record = workspace.read().all(TrainingRun)[0].record
    assert (record.captured_by, record.started_after_seq) == ("sdk", 0)
    assert states(state_spool(tmp_path)) == []


def test_flushing_twice_changes_nothing(world: World, tmp_path: Path) -> None:
    away = Away(world)
    offline_run(tmp_path)
    workspace = away.back()
    cognify.flush(workspace, [state_spool(tmp_path)])
    before = workspace.ledger.size()
    assert cognify.flush(workspace, [state_spool(tmp_path)]) == []
    assert workspace.ledger.size() == before


@pytest.mark.parametrize("step", ["claim_version", "seal_training", "record_evaluations", "build_and_record"])
def test_stopped_after_any_step_a_second_flush_doubles_nothing(
    step: str, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COGNIFY_SPOOL", str(tmp_path / "spool"))
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    away = Away(world)
    offline_run(tmp_path)
    workspace = away.back()
    real = getattr(sealing, step)

    def stop_after(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        raise LedgerError("the connection is gone")

    monkeypatch.setattr(sealing, step, stop_after)
    (first,) = cognify.flush(workspace, [tmp_path / "spool"])
    assert first.stopped
    assert not first.done
    monkeypatch.setattr(sealing, step, real)
    (second,) = cognify.flush(Workspace.open(workspace.config.path), [tmp_path / "spool"])
    assert isinstance(second.outcome, cognify.Packaged), second
    once = {"version_opened": 1, "training_run": 1, "evaluation": 1, "overlap_checked": 1, "package": 1}
    assert counts(workspace) == once


def test_a_ledger_without_room_at_the_end_leaves_the_run_waiting(world: World, tmp_path: Path) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run(config={"lr": 1})
    path = tmp_path / "m.bin"
    path.write_text("m")
    run.save_model(path)
    run.eval(GOOD, "holdout-v3")
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    size = (world.workspace.home / "ledger.sqlite").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        outcome = run.complete()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert isinstance(outcome, cognify.Pending), outcome
    (done,) = cognify.flush(Workspace.open(world.folder / "project"), [world.workspace.home / "spool"])
    assert isinstance(done.outcome, cognify.Packaged), done
    assert counts(world.workspace)["training_run"] == 1


def test_a_full_spool_is_said_once_and_the_record_is_whole_if_the_ledger_answers(
    world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run()
    assert run.spool is not None
    size = (run.spool / JOURNAL).stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 200, hard))
    try:
        with caplog.at_level(logging.WARNING):
            for step in range(50):
                run.log_metric("loss", 1.0, step=step)
            run.log_artifact("a.txt", b"b" * (size + 1000), "text/plain")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert len([r for r in caplog.records if "cannot be written" in r.getMessage()]) == 1
    path = tmp_path / "m.bin"
    path.write_text("m")
    run.save_model(path)
    run.complete()
    record = world.workspace.read().all(TrainingRun)[0].record
    series = json.loads(world.workspace.evidence.get(record.metric_series.digest))  # type: ignore[union-attr]
    assert len(series["loss"]) == 50
    assert [item.name for item in record.artefacts] == ["a.txt"]


def test_what_a_full_spool_lost_is_said_in_a_record_read_back_from_it(world: World, tmp_path: Path) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run()
    assert run.spool is not None
    size = (run.spool / JOURNAL).stat().st_size
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    run.log_metric("loss", 1.0, step=0)
    run.log_metric("loss", 1.0, step=1)
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    run.log_metric("loss", 2.0, step=2)
    (found,) = spooled(run.spool.parent)
    from cognify_dagster.instrument.sdk.replay import ended_of

    assert ended_of(found).incomplete == ("2 calls could not be written to the spool and are not in this record",)
    run.fail("enough")


def test_with_neither_ledger_nor_spool_nothing_stops_and_nothing_is_claimed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    away = Away(world)
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        outcome = offline_run(tmp_path)
    assert isinstance(outcome, cognify.NotPackaged)
    assert "recorded nowhere" in outcome.reason
    assert "no spool can be written" in caplog.text
    away.back()


def test_postgres_that_does_not_answer_is_a_ledger_out_of_reach(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    toml = '[workspace]\norigin = "test.example/pg"\nledger = "postgresql://nobody@127.0.0.1:1/none"\n'
    (project / "cognify.toml").write_text(toml)
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(project))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(api, "_run", None)
    session = cognify.init(workspace_id="test.example/pg", project="m")
    assert session.problem
    run = cognify.run()
    path = tmp_path / "m.bin"
    path.write_text("m")
    run.save_model(path)
    outcome = run.complete()
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is not None
    assert outcome.spool.parent == project / ".cognify" / "spool"


def test_a_model_in_a_deleted_temporary_folder_is_still_there(world: World, tmp_path: Path) -> None:
    away = Away(world)
    folder = tmp_path / "temporary"
    folder.mkdir()
    offline_run(folder)
    shutil.rmtree(folder)
    workspace = away.back()
    cognify.flush(workspace, [state_spool(tmp_path)])
    item = workspace.read().all(TrainingRun)[0].record.model_file
    assert workspace.evidence.get(item.digest) == b"m"


def test_a_model_that_was_changed_while_it_waited_is_not_sealed(world: World, tmp_path: Path) -> None:
    away = Away(world)
    offline_run(tmp_path)
    (tmp_path / "m.bin").write_text("x")
    workspace = away.back()
    (done,) = cognify.flush(workspace, [state_spool(tmp_path)])
    assert not workspace.read().all(TrainingRun)
    failed = workspace.read().all(TrainingFailed)
    assert "m.bin" in failed[0].record.reason
    assert done.done


def journal_of(tmp_path: Path) -> Path:
    (item,) = spooled(state_spool(tmp_path))
    return item.folder / JOURNAL


def test_a_torn_last_line_is_left_out_and_said(world: World, tmp_path: Path) -> None:
    away = Away(world)
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run(config={"a": 1})
    run.log_metric("loss", 1, step=1)
    api._over(run)
    path = journal_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-7])
    workspace = away.back()
    (done,) = cognify.flush(workspace, [state_spool(tmp_path)])
    record = workspace.read().all(ExperimentRun)[0].record
    assert done.done
    assert record.status == "killed"
    assert "torn" in str(record.extra["incomplete"])
    assert record.config == {"a": 1}
    assert record.metrics == {}


def test_a_damaged_journal_is_named_and_kept_and_others_are_sealed(world: World, tmp_path: Path) -> None:
    away = Away(world)
    first = offline_run(tmp_path, "m1")
    offline_run(tmp_path, "m2")
    assert isinstance(first, cognify.Pending)
    assert first.spool is not None
    path = first.spool / JOURNAL
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.write_bytes(bytes(data))
    workspace = away.back()
    done = cognify.flush(workspace, [state_spool(tmp_path)])
    assert [(item.done, item.problem) for item in done] == [(False, True), (True, False)]
    assert "line 1" in done[0].text
    assert path.read_bytes() == bytes(data)
    assert counts(workspace)["training_run"] == 1


@pytest.mark.parametrize("what", ["call", "unknown", "format"])
def test_a_journal_that_says_what_no_release_writes_is_refused(what: str, world: World, tmp_path: Path) -> None:
    away = Away(world)
    offline_run(tmp_path)
    path = journal_of(tmp_path)
    lines = list(read_journal(path.parent).lines)
    path.unlink()
    if what == "format":
        lines[0] = {**lines[0], "format": 99}
    made = Journal(path.parent)
    for line in lines:
        made.write(line)
    if what == "call":
        made.write({"o": "call", "f": "__init__", "a": {"value": []}, "k": {"value": {}}})
    if what == "unknown":
        made.write({"o": "execute", "v": "import os"})
    made.close()
    (done,) = cognify.flush(away.back(), [state_spool(tmp_path)])
    assert done.problem
    assert path.exists()


def rewritten(folder: Path, **changes: Any) -> None:
    """Write a journal anew, with another first line and digests that check."""
    lines = list(read_journal(folder).lines)
    (folder / JOURNAL).unlink()
    made = Journal(folder)
    for line in lines:
        made.write({**line, **changes} if line["o"] == "start" else line)
    made.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"project": "bad project!"},
        {"project": ["x"]},
        {"started": float("nan")},
        {"started": float("inf")},
        {"started": 10**400},
        {"started": -1},
        {"started": "soon"},
        {"seen": "many"},
        {"datasets": 7},
        {"command": 7},
        {"definition": {"model": 1}},
        {"version": "../x"},
    ],
    ids=lambda changes: "-".join(f"{key}={str(value)[:12]}" for key, value in changes.items()),
)
def test_one_bad_journal_keeps_none_of_the_others(changes: dict[str, Any], world: World, tmp_path: Path) -> None:
    away = Away(world)
    bad = offline_run(tmp_path, "m1")
    offline_run(tmp_path, "m2")
    assert isinstance(bad, cognify.Pending)
    assert bad.spool is not None
    rewritten(bad.spool, **changes)
    workspace = away.back()
    done = {item.run: item for item in cognify.flush(workspace, [state_spool(tmp_path)])}
    mine = done.pop(bad.spool.name)
    (other,) = done.values()
    assert other.done
    assert not other.stopped
    assert workspace.read().all(TrainingRun)
    assert mine.problem
    assert not mine.done
    assert not mine.stopped
    assert mine.folder.exists()


def test_a_fault_that_nobody_foresaw_is_said_and_the_next_run_is_sealed(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cli: Cognify
) -> None:
    away = Away(world)
    offline_run(tmp_path, "m1")
    offline_run(tmp_path, "m2")
    workspace = away.back()
    real, calls = flushing.seal, []

    def seal(*arguments: Any, **named: Any) -> Any:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("a fault of ours")
        return real(*arguments, **named)

    monkeypatch.setattr(flushing, "seal", seal)
    shown = cli("spool", "flush", "--json", at=world)
    assert shown.code == 1, "something is left for a person"
    first, second = shown.json
    assert (first["done"], first["problem"], second["done"]) == (False, True, True)
    assert "ZeroDivisionError: a fault of ours" in first["text"]
    monkeypatch.setattr(flushing, "seal", real)
    (again,) = cognify.flush(workspace, [state_spool(tmp_path)])
    assert again.done


def test_a_journal_that_names_another_run_than_its_folder_is_damaged(world: World, tmp_path: Path) -> None:
    away = Away(world)
    bad = offline_run(tmp_path)
    assert isinstance(bad, cognify.Pending)
    assert bad.spool is not None
    rewritten(bad.spool, run="someone-elses-run")
    workspace = away.back()
    (done,) = cognify.flush(workspace, [state_spool(tmp_path)])
    assert done.problem
    assert "'someone-elses-run'" in done.text
    assert states(state_spool(tmp_path)) == [(bad.spool.name, "damaged")]
    assert not workspace.read().all(TrainingRun)
    assert not workspace.read().all(ExperimentRun)


def test_a_live_run_is_not_touched(world: World, tmp_path: Path) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run()
    (done,) = cognify.flush(world.workspace, [world.workspace.home / "spool"])
    assert "is running" in done.text
    assert not world.workspace.read().all(TrainingFailed)
    run.fail("enough")


def test_a_run_of_another_machine_needs_to_be_named_dead(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.instrument.sdk import spool

    monkeypatch.setattr(spool, "boot_id", lambda: "another-kernel")
    monkeypatch.setattr(spool, "host", lambda: "gpu-17")
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run()
    api._over(run)
    monkeypatch.undo()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    folder = world.workspace.home / "spool"
    (done,) = cognify.flush(world.workspace, [folder])
    assert "gpu-17" in done.text
    assert not done.done
    (done,) = cognify.flush(world.workspace, [folder], dead=[run.id])
    assert done.done
    assert len(world.workspace.read().all(TrainingFailed)) == 1


def test_runs_for_other_ledgers_stay_where_they_are(world: World, tmp_path: Path) -> None:
    away = Away(world)
    cognify.init(workspace_id="bank.example/other", project=MODEL)
    cognify.run(experiment="x").complete()
    cognify.init(project=MODEL)
    nameless = cognify.run(experiment="y")
    nameless.complete()
    workspace = away.back()
    done = cognify.flush(workspace, [state_spool(tmp_path)])
    assert [item.done for item in done] == [False, False]
    assert "bank.example/other" in done[0].text
    assert "names no workspace" in done[1].text
    assert cognify.flush(workspace, [state_spool(tmp_path)], only=[nameless.id])[0].done
    with pytest.raises(cognify.SdkError, match="no run sdk-x"):
        cognify.flush(workspace, [state_spool(tmp_path)], only=["sdk-x"])


def test_a_spool_that_others_can_read_is_not_used(world: World, tmp_path: Path) -> None:
    away = Away(world)
    outcome = offline_run(tmp_path)
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is not None
    assert oct(outcome.spool.stat().st_mode)[-3:] == "700"
    assert oct((outcome.spool / JOURNAL).stat().st_mode)[-3:] == "600"
    outcome.spool.chmod(0o755)
    workspace = away.back()
    (done,) = cognify.flush(workspace, [state_spool(tmp_path)])
    assert "chmod 700" in done.text
    assert not workspace.read().all(TrainingRun)


def test_a_folder_that_is_a_link_is_not_followed(world: World, tmp_path: Path) -> None:
    away = Away(world)
    outcome = offline_run(tmp_path)
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is not None
    elsewhere = tmp_path / "elsewhere"
    outcome.spool.rename(elsewhere)
    outcome.spool.symlink_to(elsewhere)
    (done,) = cognify.flush(away.back(), [state_spool(tmp_path)])
    assert "not a folder" in done.text


def test_an_evaluation_that_waits_for_a_comparison_is_recorded_by_the_next_flush(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from cognify_dagster.instrument.sdk import overlaps

    monkeypatch.setattr(overlaps, "_by_digests", lambda *_: None)
    monkeypatch.setattr(overlaps, "_by_tables", lambda *_: None)
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run()
    path = tmp_path / "m.bin"
    path.write_text("m")
    run.save_model(path)
    run.eval(GOOD, "holdout-v3")
    outcome = run.complete()
    assert isinstance(outcome, cognify.NotPackaged)
    assert "cognify dataset overlap loans_train loans_holdout --record" in outcome.reason
    folder = world.workspace.home / "spool"
    assert states(folder) == [(run.id, "sealed")]
    (again,) = cognify.flush(world.workspace, [folder])
    assert not again.done
    monkeypatch.undo()
    (done,) = cognify.flush(world.workspace, [folder])
    assert isinstance(done.outcome, cognify.Packaged), done
    assert counts(world.workspace)["training_run"] == 1
    assert states(folder) == []


def test_two_flushes_at_once_do_not_share_a_run(world: World, tmp_path: Path) -> None:
    away = Away(world)
    outcome = offline_run(tmp_path)
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is not None
    workspace = away.back()
    lock = FolderLock(outcome.spool)
    assert lock.take()
    (done,) = cognify.flush(workspace, [state_spool(tmp_path)])
    assert not done.done
    lock.release()
    assert cognify.flush(workspace, [state_spool(tmp_path)])[0].done


def test_a_folder_that_died_before_its_first_line_is_removed(world: World, tmp_path: Path) -> None:
    folder = world.workspace.home / "spool" / "sdk-20260101T000000-0123456789ab"
    folder.mkdir(parents=True, mode=0o700)
    os.chmod(folder.parent, 0o700)
    (done,) = cognify.flush(world.workspace, [folder.parent])
    assert done.done
    assert not folder.exists()


def test_what_a_killed_removal_left_is_swept_up(world: World) -> None:
    folder = world.workspace.home / "spool" / ".done-sdk-20260101T000000-0123456789ab"
    folder.mkdir(parents=True, mode=0o700)
    (folder / JOURNAL).write_text("sealed long ago")
    assert cognify.flush(world.workspace, [folder.parent]) == []
    assert not folder.exists()
