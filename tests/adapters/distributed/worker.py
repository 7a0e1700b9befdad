"""One rank of a small FSDP2 training, started by the tests with the environment that torchrun sets (or by torchrun).

Usage: worker.py PLAN.json, where the plan says what to do: mesh, where to resume, where to save, who is killed and when.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

from cognify_dagster.instrument.distributed import record_checkpoint, resume_from, save_checkpoint, torchrun
from cognify_dagster.instrument.recording import Recording
from cognify_dagster.training import TrainingRecorder


def model_on(mesh: Any) -> nn.Sequential:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(7, 10), nn.LayerNorm(10), nn.Linear(10, 3))
    for layer in model:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return model


class KilledWriter(dcp.FileSystemWriter):
    """Ends the process while it writes its shards, as the kernel does when memory runs out."""

    def write_data(self, plan: Any, planner: Any) -> Any:
        os.kill(os.getpid(), signal.SIGKILL)


def main(plan: dict[str, Any]) -> None:
    dist.init_process_group("gloo")
    rank = dist.get_rank()
    if "workspace" in plan:
        from cognify_dagster.instrument import sdk

        sdk.init(workspace=plan["workspace"], project=plan["project"])
        with sdk.run(config={"lr": 0.05, "steps": plan["steps"]}) as run:
            train(plan, run)
    else:
        recorder = TrainingRecorder() if rank == 0 else None
        train(plan, recorder)
        if recorder is not None:
            recorder.complete()
            (Path(plan["out"]) / "record.json").write_text(json.dumps(recorder.to_facts()["facts"]))
    dist.destroy_process_group()


def train(plan: dict[str, Any], recorder: Recording | None) -> None:
    rank, world = dist.get_rank(), dist.get_world_size()
    out = Path(plan["out"])
    shape = tuple(plan.get("mesh", [world]))
    names = ("replica", "shard")[-len(shape) :]
    mesh = init_device_mesh("cpu", shape, mesh_dim_names=names)
    model = model_on(mesh)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.05)

    resumed = None
    if "resume" in plan:
        resumed = resume_from(plan["resume"], run=recorder, root=plan.get("resume_root"))
        model_state, optimizer_state = get_state_dict(model, optimizer)
        state = {"model": model_state, "optim": optimizer_state}
        dcp.load(state, checkpoint_id=plan["resume"])
        set_state_dict(model, optimizer, model_state_dict=state["model"], optim_state_dict=state["optim"])

    kill = plan.get("kill") if plan.get("kill_rank") == rank else None
    if kill == "digest":
        torchrun.digest_share = lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL)
    options: dict[str, Any] = {}
    roots = []
    for step in plan["steps"]:
        torch.manual_seed(step)
        model(torch.randn(4, 7)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
        model_state, optimizer_state = get_state_dict(model, optimizer)
        state = {"model": model_state, "optim": optimizer_state, "step": step}
        folder = out / f"step-{step}"
        if kill == "save":
            options["storage_writer"] = KilledWriter(folder)
        manifest = save_checkpoint(
            state, folder, step=step, strategy="fsdp2", resumed_from=resumed, run=recorder, **options
        )
        roots.append(manifest.root)
    if "safetensors" in plan:  # saved by PyTorch's own writer, and recorded afterwards
        folder = out / plan["safetensors"]
        writer = dcp.HuggingFaceStorageWriter(str(folder), save_distributed=True)
        dcp.save(get_model_state_dict(model), storage_writer=writer)
        (folder / "trainer_state.json").write_text("{}")
        roots.append(record_checkpoint(folder, step=plan["steps"][-1], mesh=mesh).root)

    full = get_model_state_dict(model, options=StateDictOptions(full_state_dict=True, cpu_offload=True))
    (out / f"rank-{rank}.json").write_text(json.dumps(roots))
    if rank == 0 and recorder is not None:
        from safetensors.torch import save_file

        save_file(full, out / "full.safetensors")
        torch.save(full, out / "full.pt")
        recorder.save_model(out / "full.safetensors")


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
