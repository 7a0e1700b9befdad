"""Data-parallel training over two gloo processes through torchrun: the first one writes, the files of both are hashed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCRIPT = Path(__file__).with_name("ddp_script.py")
REPOSITORY = Path(__file__).resolve().parents[3]


def torchrun(base: Path, out: Path, **environment: str) -> list[dict[str, Any]]:
    out.mkdir(exist_ok=True)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(SCRIPT),
        str(base),
        str(out),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY), **environment},
        cwd=out,
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads((out / f"rank-{rank}.json").read_text()) for rank in (0, 1)]


@pytest.fixture(scope="module")
def two(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return torchrun(base, tmp_path_factory.mktemp("ddp"))


def test_the_first_process_writes_and_the_other_one_writes_nothing(two: list[dict[str, Any]]) -> None:
    first, second = (item["facts"] for item in two)
    assert first["config"]["max_steps"] == 4
    assert first["config"]["resolved"]["processes"] == 2
    assert first["config"]["resolved"]["effective_batch_size"] == 2 * 2 * 2
    assert len(first["models"]) == 1
    assert second["config"] == {}
    assert second["models"] == []
    assert second["metrics"] == {}


def test_the_files_of_both_processes_are_in_each_checkpoint_and_named_by_process(two: list[dict[str, Any]]) -> None:
    found = two[0]["facts"]
    assert set(found["checkpoint_files"]) == {"checkpoint-2", "checkpoint-4"}
    for name, files in found["checkpoint_files"].items():
        digests = {path: digest for path, _, digest in files}
        assert {"rng_state_0.pth", "rng_state_1.pth", "model.safetensors"} <= set(digests), name
        rows = [row for row in found["distributed"]["rows"] if row["checkpoint"] == name]
        assert {row["rank"] for row in rows} == {0, 1}
        # what a process says of its own file is what the first one found in the folder
        assert all(digests[row["file"]] == row["sha256"] for row in rows)
    assert found["distributed"]["world_size"] == 2
    assert found["distributed"]["backend"] == "gloo"
    assert found["distributed"]["strategy"] == "ddp"


def test_the_loss_is_the_one_over_all_processes(two: list[dict[str, Any]]) -> None:
    logged = [entry["loss"] for entry in two[0]["log"] if "loss" in entry]
    assert two[0]["facts"]["metrics"]["loss"]["last"] == logged[-1]
