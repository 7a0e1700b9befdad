"""Starts the ranks of a training as processes of their own and collects how each ended."""

from __future__ import annotations

import json
import multiprocessing
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
WORKER = Path(__file__).with_name("worker.py")
LIMIT_S = 120


@dataclass(frozen=True)
class Ended:
    """How a rank ended: its exit code (negative: a signal) and what it said."""

    code: int
    text: str


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return int(server.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
        **more,
    }


def run_ranks(folder: Path, world: int, plan: dict[str, Any]) -> list[Ended]:
    """Run a plan on so many ranks; every rank gets the environment that torchrun sets, and nobody ends the others when one dies.

    The ranks are forked from a server that has imported PyTorch once, which saves half a minute of importing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.adapters.distributed.worker"])
    places = {"WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = []
    for rank in range(world):
        env = environment(RANK=str(rank), LOCAL_RANK=str(rank), **{name: str(value) for name, value in places.items()})
        log = str(folder / f"rank-{rank}.log")
        processes.append(context.Process(target=_rank, args=(env, log, {**plan, "out": str(folder)})))
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(LIMIT_S)
    finally:
        for process in processes:
            if process.is_alive():
                process.kill()
                process.join()
    logs = [folder / f"rank-{rank}.log" for rank in range(world)]
    texts = [log.read_text(errors="replace") if log.exists() else "" for log in logs]
    return [Ended(process.exitcode or 0, text) for process, text in zip(processes, texts, strict=True)]


def _rank(env: dict[str, str], log: str, plan: dict[str, Any]) -> None:
    os.environ.update(env)
    handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    sys.stdout = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stderr = os.fdopen(os.dup(2), "w", buffering=1)
    from tests.adapters.distributed import worker

    worker.main(plan)


def torchrun(folder: Path, world: int, plan: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run a plan with the real torchrun."""
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "plan.json"
    file.write_text(json.dumps({**plan, "out": str(folder)}))
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(world), "--master-port", str(free_port()), str(WORKER), str(file)
    ]  # fmt: skip
    return subprocess.run(
        command, env=environment(), capture_output=True, text=True, check=False, timeout=LIMIT_S, cwd=ROOT
    )
