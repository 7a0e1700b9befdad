"""A workspace as a team would have it before its first run: people, a registered model, snapshots, bindings, adopted thresholds."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cognify_dagster.datasets import take_snapshot
from cognify_dagster.datasets.provenance import Provenance
from cognify_dagster.datasets.recording import record_snapshot
from cognify_dagster.governance import adopt_gate_set
from cognify_dagster.instrument.sdk.bindings import bind
from cognify_dagster.records import GateRule, ModelRegistered
from cognify_dagster.training.recording import register_model
from cognify_dagster.workspace import Workspace, os_login
from tests.governance.world import MODEL, World, make_world

ROOT = Path(__file__).resolve().parents[2]
ORIGIN = "test.example/credit"
ROWS = 40


def write_csv(path: Path, start: int, count: int = ROWS, *, shared: int = 0) -> Path:
    """Write a table of numbers; the first `shared` rows are those that every table begins with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(["amount", "income", "late"])
        for number in range(count):
            at = number if number < shared else start + number
            out.writerow([at * 10, 1000 + at, at % 2])
    return path


def snapshot(workspace: Workspace, path: Path, name: str, run: str = "taken") -> int:
    """Take and record a snapshot of a file; return its entry."""
    taken = take_snapshot(path, name=name, provenance=Provenance(source="made", licence="CC0"))
    return record_snapshot(workspace, taken, run=f"{run}-{name}").seq


def prepare(folder: Path) -> World:
    """Make the workspace."""
    world = make_world(folder)
    world.enrol("train", "data_scientist", aliases=(f"os:{os_login()}",))
    ws = world.workspace
    register_model(ws, definition())
    data = folder / "data"
    snapshot(ws, write_csv(data / "train.csv", 0), "loans_train")
    snapshot(ws, write_csv(data / "holdout.csv", 1000), "loans_holdout")
    gates(world)
    bind(ws, MODEL, {"train": "loans_train", "holdout-v3": "loans_holdout"})
    return world


def definition(**changes: Any) -> ModelRegistered:
    """The model's definition."""
    facts: dict[str, Any] = {
        "model": MODEL,
        "owner": "team:risk",
        "risk_tier": "high",
        "intended_use": "Rank applications",
    }
    return ModelRegistered(**{**facts, **changes})


def gates(world: World, name: str = "credit_gates", threshold: float = 0.7) -> int:
    """Adopt thresholds as vera."""
    rules = [
        GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=threshold, source="policy"),
        GateRule(
            id="overlap", family="data_quality", metric="data.overlap_records", op="<=", threshold=0, source="policy"
        ),
    ]
    return adopt_gate_set(world.workspace, name, MODEL, rules, world.key("vera")).seq


def script(
    code: str, cwd: Path, *arguments: str, check: bool = True, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run Python code in a process of its own, from a folder that is no repository."""
    cwd.mkdir(parents=True, exist_ok=True)
    path = cwd / "script.py"
    path.write_text(code, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("COGNIFY")}
    environment |= {"PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(cwd / "state"), **(env or {})}
    done = subprocess.run(
        [sys.executable, str(path), *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False,
        timeout=120, **options,
    )  # fmt: skip
    assert not check or done.returncode == 0, done.stderr
    return done


def fork(code: str, cwd: Path, env: Mapping[str, str] | None = None) -> int:
    """Run Python code in a forked child, which has everything imported already; return its process number. See `wait`."""
    cwd.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child:
        return child
    status = 1
    try:
        out = os.open(cwd / "out.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(out, 1)
        os.dup2(out, 2)
        os.chdir(cwd)
        os.environ.update({"XDG_STATE_HOME": str(cwd / "state"), **(env or {})})
        exec(compile(code, "script.py", "exec"), {"__name__": "__main__", "print": _say})
        status = 0
    except BaseException:
        os.write(2, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _say(*words: object) -> None:
    """`print` for a child: pytest has taken `sys.stdout`."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def wait(child: int) -> int:
    """Wait for a child; return its exit code, negative for the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def forked(code: str, cwd: Path, env: Mapping[str, str] | None = None) -> tuple[int, str]:
    """Run Python code in a forked child; return its exit code and what it printed."""
    code_ = wait(fork(code, cwd, env))
    return code_, (cwd / "out.txt").read_text(encoding="utf-8")
