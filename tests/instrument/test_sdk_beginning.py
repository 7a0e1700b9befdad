"""When a run began is not a journal's to say: whatever it claims, thresholds adopted after the run began do not judge it."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.instrument.sdk.journal import JOURNAL, Journal, read_journal
from cognify_dagster.records import Evaluation, TrainingRun
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL, World
from tests.instrument.sdk_world import ORIGIN, forked, gates

KILLED_AFTER_RESULTS = f"""
import os
from cognify_dagster import sdk
sdk.init(project={MODEL!r})
run = sdk.run(config={{"a": 1}})
open("m.bin", "wb").write(b"model")
run.save_model("m.bin")
run.eval({{"auc": {{"value": 0.8, "n": 40}}}}, "holdout-v3")
print(run.spool)
os._exit(0)
"""
Change = Callable[[dict[str, Any]], None]


def rewrite(folder: Path, change: Change, *, ends: bool = True) -> None:
    """Write a journal anew, as whoever holds the machine can: its chain of digests holds."""
    lines = list(read_journal(folder).lines)
    (folder / JOURNAL).unlink()
    journal = Journal(folder)
    for line in lines:
        change(line)
        journal.write(line)
    if ends:
        journal.write({"o": "complete", "ended": time.time()}, sync=True)
    journal.close()


def claims(**values: Any) -> Change:
    """A journal that claims other sizes of the ledger."""

    def change(line: dict[str, Any]) -> None:
        if line["o"] == "version" and "started_after" in values:
            line["started_after"] = values["started_after"]
        if line["o"] == "start":
            line.update({name: value for name, value in values.items() if name != "started_after"})

    return change


def killed_run(world: World, tmp_path: Path) -> Path:
    """A run that was killed after it had reported its results; return its folder in the spool."""
    code, out = forked(KILLED_AFTER_RESULTS, tmp_path / "script")
    assert code == 0, out
    return Path(out.strip().splitlines()[-1])


def sealed(world: World) -> TrainingRun:
    (found,) = Workspace.open(world.folder / "project").read().all(TrainingRun)
    return found.record


def judged_by(world: World) -> list[int | None]:
    return [item.record.gate_set_seq for item in Workspace.open(world.folder / "project").read().all(Evaluation)]


def test_a_rewritten_journal_does_not_make_later_thresholds_count(world: World, tmp_path: Path) -> None:
    before = world.workspace.read().size
    folder = killed_run(world, tmp_path)
    late = gates(world, threshold=0.1)
    rewrite(folder, claims(started_after=10**6))
    (done,) = cognify.flush(world.workspace, [folder.parent])
    assert done.done, done
    assert judged_by(world)[0] not in (None, late)
    assert sealed(world).started_after_seq == before + 1
    assert sealed(world).extra["start_not_believed"]["claimed"] == 10**6


def test_an_honest_journal_is_believed(world: World, tmp_path: Path) -> None:
    before = world.workspace.read().size
    folder = killed_run(world, tmp_path)
    gates(world, threshold=0.1)
    rewrite(folder, claims())
    cognify.flush(world.workspace, [folder.parent])
    assert sealed(world).started_after_seq == before + 1
    assert "start_not_believed" not in sealed(world).extra


def test_a_copied_journal_under_another_id_opens_nothing_that_was_open_before(world: World, tmp_path: Path) -> None:
    before = world.workspace.read().size
    folder = killed_run(world, tmp_path)
    late = gates(world, threshold=0.1)
    other = folder.with_name(folder.name[:-1] + ("0" if folder.name[-1] != "0" else "1"))
    folder.rename(other)
    rewrite(other, claims(run=other.name, started_after=world.workspace.read().size))
    (done,) = cognify.flush(world.workspace, [other.parent])
    assert done.done, done
    assert sealed(world).started_after_seq <= before
    assert late not in judged_by(world)


def test_what_a_machine_says_it_saw_is_bounded_by_when_it_says_it_began(world: World, tmp_path: Path) -> None:
    here, there = world.folder / "project", world.folder / "away"
    before = world.workspace.read().size
    here.rename(there)
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    run = cognify.run()
    path = tmp_path / "m.bin"
    path.write_bytes(b"model")
    run.save_model(path)
    run.eval({"auc": 0.8}, "holdout-v3")
    outcome = run.complete()
    assert isinstance(outcome, cognify.Pending)
    assert outcome.spool is not None
    there.rename(here)
    late = gates(world, threshold=0.1)
    rewrite(outcome.spool, claims(seen=10**6), ends=False)
    cognify.flush(Workspace.open(here), [outcome.spool.parent])
    assert sealed(world).started_after_seq == before
    assert judged_by(world)[0] not in (None, late)
    assert sealed(world).extra["start_not_believed"] == {"claimed": 10**6, "counted": before}


@pytest.mark.parametrize("value", [-1, True, 1.5, "7", None, 2**60])
@pytest.mark.parametrize("name", ["seen", "started_after"])
def test_a_size_that_is_none_is_a_damaged_journal(name: str, value: Any, world: World, tmp_path: Path) -> None:
    folder = killed_run(world, tmp_path)
    rewrite(folder, claims(**{name: value}))
    (done,) = cognify.flush(world.workspace, [folder.parent])
    assert not done.done
    assert "no number of entries" in done.text
    assert folder.exists()
    assert not world.workspace.read().all(TrainingRun)


@pytest.mark.parametrize("old", [True, False])
def test_a_model_file_older_than_the_run_is_said(old: bool, world: World, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(b"a model trained last year")
    if old:
        os.utime(path, (1_700_000_000, 1_700_000_000))
    cognify.init(project=MODEL)
    run = cognify.run()
    run.save_model(path)
    run.eval({"auc": 0.9}, "holdout-v3")
    run.complete()
    said = sealed(world).extra.get("model_file_older_than_run")
    assert (said is not None) == old
    if old:
        assert (said["changed"], said["count"], said["of"], said["files"]) == (
            "2023-11-14T22:13:20Z",
            1,
            1,
            ["model.bin"],
        )
