"""Real processes: killed at every point, several at once, forked, spawned, ranked, without Dagster, without a network."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cognify_dagster.instrument import sdk as cognify
from cognify_dagster.records import Evaluation, ExperimentRun, Package, TrainingFailed, TrainingRun, VersionOpened
from cognify_dagster.workspace import Workspace
from tests.governance.world import MODEL, World
from tests.instrument.sdk_world import ORIGIN, ROOT, fork, forked, script, wait

START = f"""
import os, signal, sys
from pathlib import Path
from cognify_dagster import sdk as cognify
def die(): os.kill(os.getpid(), signal.SIGKILL)
def model(name="m.bin"):
    Path(name).write_text("weights"); return name
GOOD = {{"auc": {{"value": 0.8, "ci_low": 0.78, "ci_high": 0.82, "n": 40}}}}
cognify.init(workspace_id="{ORIGIN}", project="{MODEL}")
"""
WHOLE = """
run = cognify.run(config={"lr": 1})
run.log_metric("loss", 0.5, step=1)
run.save_model(model())
cognify.eval(results=GOOD, benchmark_version="holdout-v3")
print(run.complete())
"""


def env(world: World) -> dict[str, str]:
    return {"COGNIFY_WORKSPACE": str(world.folder / "project")}


def reopened(world: World) -> Workspace:
    return Workspace.open(world.folder / "project")


def test_the_snippet_needs_no_dagster(world: World, tmp_path: Path) -> None:
    block = "import sys; sys.modules['dagster'] = None; sys.modules['cognify_dagster.orchestration'] = None\n"
    more = "assert not [m for m in sys.modules if m.partition('.')[0] in ('torch', 'transformers', 'mlflow')]"
    done = script(block + START + WHOLE + more, tmp_path / "s", env=env(world))
    assert "packaged in entry" in done.stdout
    assert len(reopened(world).read().all(Package)) == 1


def test_the_whole_path_without_a_network(world: World, tmp_path: Path) -> None:
    if shutil.which("unshare") is None or os.geteuid() != 0:
        pytest.skip("cutting the network off needs unshare and root")
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "script.py").write_text(
        "import socket\n"
        "try: socket.create_connection(('127.0.0.1', 9), timeout=1); raise SystemExit('there is a network')\n"
        "except OSError as error: assert error.errno == 101, error\n" + START + WHOLE
    )
    variables = {k: v for k, v in os.environ.items() if not k.startswith("COGNIFY")} | env(world)
    done = subprocess.run(
        ["unshare", "-n", sys.executable, "script.py"], cwd=tmp_path / "s", env={**variables, "PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "packaged in entry" in done.stdout


POINTS = {
    "after_start": "run = cognify.run(config={'lr': 1}); die()",
    "while_logging": "run = cognify.run(config={'lr': 1})\nfor i in range(500): run.log_metric('loss', i, step=i)\ndie()",
    "after_eval": "run = cognify.run(config={'lr': 1}); run.save_model(model()); cognify.eval(GOOD, 'holdout-v3'); die()",
}


@pytest.mark.parametrize("point", list(POINTS))
def test_killed_before_the_end_it_becomes_a_failed_run(point: str, world: World, tmp_path: Path) -> None:
    code, said = forked(START + POINTS[point], tmp_path / "s", env(world))
    assert code == -signal.SIGKILL, said
    workspace = reopened(world)
    spool = workspace.home / "spool"
    (found,) = [item for item in cognify_spool(spool) if item.state == "killed"]
    assert found.start["pid"] > 1
    if point == "while_logging":
        from cognify_dagster.instrument.sdk.replay import ended_of

        assert ended_of(found).recorder.to_facts()["facts"]["metrics"]["loss"]["points"] == 500, "nothing is lost"
    (result,) = cognify.flush(workspace, [spool])
    assert result.done
    failed = workspace.read().all(TrainingFailed)
    assert [(item.record.version, item.record.run) for item in failed] == [("1", found.run)]
    assert "killed" in failed[0].record.reason
    assert cognify.flush(workspace, [spool]) == []
    assert not workspace.read().all(TrainingRun)


def cognify_spool(folder: Path) -> list:  # type: ignore[type-arg]
    from cognify_dagster.instrument.sdk.spool import spooled

    return spooled(folder)


SEALING = [
    ("seal_training", "before"),
    ("seal_training", "after"),
    ("record_evaluations", "after"),
    ("build_and_record", "after"),
]


@pytest.mark.parametrize(("step", "when"), SEALING)
def test_killed_while_it_is_sealed_the_flush_finishes_once(step: str, when: str, world: World, tmp_path: Path) -> None:
    kill = f"""
from cognify_dagster.instrument.sdk import sealing
real = sealing.{step}
def killed(*a, **k):
    if {when == "after"}: real(*a, **k)
    die()
sealing.{step} = killed
"""
    code, said = forked(START + kill + WHOLE, tmp_path / "s", env(world))
    assert code == -signal.SIGKILL, said
    workspace = reopened(world)
    (result,) = cognify.flush(workspace, [workspace.home / "spool"])
    assert isinstance(result.outcome, cognify.Packaged), result
    reading = workspace.read()
    for kind in (VersionOpened, TrainingRun, Evaluation, Package):
        assert len(reading.all(kind)) == 1, kind
    assert cognify.flush(workspace, [workspace.home / "spool"]) == []


def test_killed_in_the_middle_of_a_flush_nothing_is_lost_or_doubled(world: World, tmp_path: Path) -> None:
    project, away = world.folder / "project", world.folder / "unmounted"
    project.rename(away)
    several = "for number in range(3):\n    run = cognify.run(config={'number': number})\n"
    several += (
        "    run.save_model(model(f'm{number}.bin'))\n    cognify.eval(GOOD, 'holdout-v3')\n    print(run.complete())\n"
    )
    code, said = forked(START + several, tmp_path / "s", {**env(world), "COGNIFY_SPOOL": str(tmp_path / "spool")})
    assert code == 0, said
    away.rename(project)
    flush = f"""
import os, signal
from cognify_dagster.instrument.sdk import flushing, sealing
from cognify_dagster.workspace import Workspace
real, count = sealing.seal_training, []
def killed(*a, **k):
    real(*a, **k); count.append(1)
    if len(count) == 2: os.kill(os.getpid(), signal.SIGKILL)
sealing.seal_training = killed
from pathlib import Path
flushing.flush(Workspace.open(), [Path({str(tmp_path / "spool")!r})])
"""
    code, said = forked(flush, tmp_path / "f", env(world))
    assert code == -signal.SIGKILL, said
    workspace = reopened(world)
    results = cognify.flush(workspace, [tmp_path / "spool"])
    assert len(results) == 2, "the first run was recorded already"
    runs = workspace.read().all(TrainingRun)
    assert [(item.record.version, item.record.config["number"]) for item in runs] == [("1", 0), ("2", 1), ("3", 2)]


@pytest.mark.parametrize("how", ["ends", "raises"])
def test_a_script_that_ends_without_complete_is_a_failed_run(how: str, world: World, tmp_path: Path) -> None:
    body = "run = cognify.run()\n" + ("raise RuntimeError('out of memory')" if how == "raises" else "")
    done = script(START + body, tmp_path / "s", env=env(world), check=False)
    assert done.returncode == (1 if how == "raises" else 0)
    failed = reopened(world).read().all(TrainingFailed)
    expected = "RuntimeError: out of memory" if how == "raises" else "the script ended without run.complete()"
    assert [item.record.reason for item in failed] == [expected]


def test_a_notebook_may_begin_again_in_the_same_process(world: World, tmp_path: Path) -> None:
    """No script file, and cells that are run twice: what was begun before ends as failed, and the next run is whole."""
    again = START.partition("cognify.init")[2]
    cells = f"exec({WHOLE!r})\ncognify.init{again}" + 'lost = cognify.run(config={"cell": 2})\n' + WHOLE
    (tmp_path / "nb").mkdir()
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COGNIFY")}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(tmp_path / "state"), **env(world)}
    done = subprocess.run(
        [sys.executable, "-"], input=START + cells, cwd=tmp_path / "nb", env=environment, capture_output=True, text=True,
        check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("packaged in entry") == 2, done.stdout + done.stderr
    reading = reopened(world).read()
    assert [item.record.version for item in reading.all(TrainingRun)] == ["1", "3"]
    assert [item.record.version for item in reading.all(TrainingFailed)] == ["2"]
    assert all(item.record.rerun is None for item in reading.all(TrainingRun)), "there is no script to run again"


def test_processes_at_once_get_a_version_each(world: World, tmp_path: Path) -> None:
    code = "run = cognify.run(config={'n': NUMBER})\nrun.save_model(model())\nprint(run.version)\nrun.complete()"
    children = [fork(f"NUMBER = {n}\n{START}{code}", tmp_path / str(n), env(world)) for n in range(4)]
    assert [wait(child) for child in children] == [0, 0, 0, 0]
    said = sorted((tmp_path / str(n) / "out.txt").read_text().split()[0] for n in range(4))
    assert said == ["1", "2", "3", "4"]
    runs = reopened(world).read().all(TrainingRun)
    assert sorted(item.record.version for item in runs) == ["1", "2", "3", "4"]
    assert sorted(item.record.config["n"] for item in runs) == [0, 1, 2, 3]
    assert not reopened(world).read().all(TrainingFailed)


def test_forked_children_and_spawned_workers_write_nothing(world: World, tmp_path: Path) -> None:
    code = (
        START
        + """
import multiprocessing
run = cognify.run(config={"lr": 1})
def work(n):
    run.log_metric("child", n); run.log_config({"child": n}); run.save_model("nothing")
    assert run.complete().reason.startswith("process")
    assert not run.writes
    assert cognify.current_run() is not run
if __name__ == "__main__":
    child = os.fork()
    if child == 0:
        work(1); os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    spawned = multiprocessing.get_context("spawn").Process(target=print, args=("spawned",))
    spawned.start(); spawned.join(); assert spawned.exitcode == 0
    run.log_metric("parent", 1); run.save_model(model()); run.complete()
"""
    )
    script(code, tmp_path / "s", env=env(world))
    reading = reopened(world).read()
    (sealed,) = reading.all(TrainingRun)
    assert sealed.record.metrics == {"parent": 1}
    assert sealed.record.config == {"lr": 1}
    assert not reading.all(TrainingFailed), "the worker that imported the script again began nothing"
    assert len(reading.all(VersionOpened)) == 1


def test_of_several_ranks_only_the_first_writes(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    other = cognify.run(config={"lr": 1})
    other.log_metric("loss", 1)
    other.save_model("nothing")
    cognify.eval({"auc": 1}, "unbound")
    assert (other.rank, other.world_size, other.writes) == (1, 2, False)
    assert isinstance(other.complete(), cognify.NotPackaged)
    assert not world.workspace.read().all(VersionOpened)
    assert cognify_spool(world.workspace.home / "spool") == []
    monkeypatch.setenv("RANK", "0")
    first = cognify.run()
    assert (first.rank, first.world_size, first.writes) == (0, 2, True)
    first.fail("enough")


def test_threads_of_one_run_lose_nothing(world: World, tmp_path: Path) -> None:
    code = (
        START
        + """
import threading
run = cognify.run()
def work(n):
    for step in range(200): cognify.current_run().log_metric(f"m{n}", step, step=step)
    run.log_artifact(f"a{n}.txt", b"x" * n, "text/plain")
threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
[t.start() for t in threads]; [t.join() for t in threads]
die()
"""
    )
    assert forked(code, tmp_path / "s", env(world))[0] == -signal.SIGKILL
    from cognify_dagster.instrument.sdk.replay import ended_of

    (found,) = cognify_spool(reopened(world).home / "spool")
    facts = ended_of(found).recorder.to_facts()["facts"]
    assert {name: item["points"] for name, item in facts["metrics"].items()} == {f"m{n}": 200 for n in range(6)}
    assert len(facts["artifacts"]) == 6


def test_a_live_run_of_another_process_is_not_touched(world: World, tmp_path: Path) -> None:
    code = """
import time
run = cognify.run()
Path("began").touch()
while not Path("go").exists(): time.sleep(0.01)
run.save_model(model()); run.complete()
"""
    child = fork(START + code, tmp_path / "s", env(world))
    while not (tmp_path / "s" / "began").exists():
        time.sleep(0.01)
    (done,) = cognify.flush(world.workspace, [world.workspace.home / "spool"])
    assert "is running" in done.text
    (tmp_path / "s" / "go").touch()
    assert wait(child) == 0
    assert len(reopened(world).read().all(TrainingRun)) == 1
    assert not reopened(world).read().all(TrainingFailed)


def test_killed_while_the_workspace_was_away_it_is_an_experiment_that_was_killed(world: World, tmp_path: Path) -> None:
    project, away = world.folder / "project", world.folder / "unmounted"
    project.rename(away)
    spool = tmp_path / "spool"
    body = "run = cognify.run(config={'lr': 1}); run.log_metric('loss', 0.25, step=3); die()"
    code, said = forked(START + body, tmp_path / "s", {**env(world), "COGNIFY_SPOOL": str(spool)})
    assert code == -signal.SIGKILL, said
    away.rename(project)
    workspace = reopened(world)
    (done,) = cognify.flush(workspace, [spool])
    assert done.done
    record = workspace.read().all(ExperimentRun)[0].record
    assert record.status == "killed"
    assert record.config == {"lr": 1}
    assert record.metrics == {"loss": 0.25}
    assert not workspace.read().all(VersionOpened), "no version number is spent on it"


def test_a_record_takes_less_than_a_second(world: World, tmp_path: Path) -> None:
    cognify.init(workspace_id=ORIGIN, project=MODEL)
    cognify.run().fail("the first one reads the list of packages")
    path, best = tmp_path / "m.bin", 9.0
    for number in range(3):  # a busy disk may take a second for one flush: the best of three says what the code can do
        path.write_text(f"m{number}")
        run = cognify.run()
        run.save_model(path)
        before = time.perf_counter()
        run.complete()
        best = min(best, time.perf_counter() - before)
    assert best < 1.0
