"""Real FSDP2 trainings on gloo processes: manifest of the shards, consolidated model, a resumed run, killed ranks.

PyTorch itself is the oracle: what its own loader makes of a checkpoint has to equal what is made here without it.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.distributed.checkpoint.format_utils import dcp_to_torch_save

from cognify_dagster.instrument.distributed import (
    CheckpointError,
    check,
    consolidate,
    load_manifest,
    make_manifest,
    resume_from,
    verify_consolidated,
)
from cognify_dagster.instrument.distributed.recorded import recorded_manifests
from cognify_dagster.records import TrainingFailed, TrainingRun
from tests.adapters.distributed.ranks import ROOT, environment, run_ranks, torchrun
from tests.governance.world import MODEL, World
from tests.instrument.sdk_world import prepare


def roots(folder: Path, world: int) -> list[list[str]]:
    return [json.loads((folder / f"rank-{rank}.json").read_text()) for rank in range(world)]


def command(*words: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "cognify_dagster.cli", "checkpoint", *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, check=False, env=environment(), cwd=ROOT)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    """A workspace whose model is registered and bound to snapshots."""
    return prepare(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def two(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two ranks under the real torchrun, recorded through the SDK: two steps, a checkpoint after each."""
    folder = tmp_path_factory.mktemp("two") / "run"
    done = torchrun(folder, 2, {"steps": [1, 2], "workspace": str(world.folder / "project"), "project": MODEL})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def four(two: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four ranks on a 2x2 mesh (replicated and sharded) go on from the two ranks' last checkpoint."""
    folder = tmp_path_factory.mktemp("four") / "run"
    resume = two / "step-2"
    plan = {"steps": [3], "mesh": [2, 2], "resume": str(resume), "resume_root": load_manifest(resume).root}
    plan["safetensors"] = "hf-3"
    for rank, ended in enumerate(run_ranks(folder, 4, plan)):
        assert ended.code == 0, f"rank {rank}: {ended.text}"
    return folder


def equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return set(one) == set(other) and all(torch.equal(one[name], other[name]) for name in one)


def test_every_rank_gets_the_root_that_one_process_computes_from_the_folder(two: Path, tmp_path: Path) -> None:
    found = roots(two, 2)
    assert found[0] == found[1]
    for step, root in zip((1, 2), found[0], strict=True):
        manifest = load_manifest(two / f"step-{step}")
        assert manifest.root == root
        moved = shutil.copytree(two / f"step-{step}", tmp_path / f"elsewhere-{step}")
        shutil.rmtree(moved / "cognify-shards")
        assert make_manifest(moved, manifest.header).root == root


def test_each_shards_digest_is_that_of_the_tensor_that_pytorch_loads(two: Path, tmp_path: Path) -> None:
    manifest = load_manifest(two / "step-2")
    dcp_to_torch_save(two / "step-2", tmp_path / "whole.pt")
    whole = torch.load(tmp_path / "whole.pt", weights_only=True)
    flat = {f"model.{name}": tensor for name, tensor in whole["model"].items()}
    for index, state in whole["optim"]["state"].items():
        flat |= {f"optim.state.{index}.{name}": value for name, value in state.items()}
    checked = 0
    for (_, name), pieces in manifest.tensors().items():
        for piece in pieces:
            block = flat[name]
            for axis, (start, size) in enumerate(zip(piece.offsets or (), piece.sizes or (), strict=True)):
                block = block.narrow(axis, start, size)
            data = block.contiguous().numpy().tobytes()
            assert hashlib.sha256(data).hexdigest() == piece.sha256, (name, piece)
            checked += 1
    assert checked > 40
    assert {piece.rank for piece in manifest.pieces} == {0, 1}


def test_the_header_states_ranks_mesh_and_step(two: Path, four: Path) -> None:
    header = load_manifest(two / "step-2").header
    assert (header.world_size, header.backend, header.strategy, header.step) == (2, "gloo", "fsdp2", 2)
    assert header.mesh == {"device_type": "cpu", "names": ["shard"], "shape": [2], "ranks": [0, 1]}
    assert load_manifest(four / "step-3").header.mesh["shape"] == [2, 2]


def test_the_consolidated_model_equals_what_pytorch_gathers_and_loads(two: Path, tmp_path: Path) -> None:
    folder = two / "step-2"
    manifest = load_manifest(folder)
    lineage = consolidate(folder, manifest, tmp_path / "model.safetensors")
    dcp_to_torch_save(folder, tmp_path / "whole.pt")
    loaded = load_file(tmp_path / "model.safetensors")
    assert equal(loaded, torch.load(tmp_path / "whole.pt", weights_only=True)["model"])
    assert equal(loaded, load_file(two / "full.safetensors"))
    assert {item.name for item in lineage.tensors} == set(loaded)
    assert {piece.rank for item in lineage.tensors for piece in item.pieces} == {0, 1}


@pytest.mark.parametrize("name", ["full.safetensors", "full.pt"])
def test_a_model_that_pytorch_saved_is_proved_to_come_from_the_shards(name: str, two: Path) -> None:
    manifest = load_manifest(two / "step-2")
    lineage = verify_consolidated(manifest, two / name)
    assert lineage.unused > 0, "the optimizer's state is in the checkpoint and not in the model"
    with pytest.raises(CheckpointError, match="does not come from the checkpoint"):
        verify_consolidated(load_manifest(two / "step-1"), two / name)


def test_what_dcp_to_torch_save_writes_is_proved_too(two: Path, tmp_path: Path) -> None:
    folder = two / "step-2"
    dcp_to_torch_save(folder, tmp_path / "whole.pt")
    lineage = verify_consolidated(load_manifest(folder), tmp_path / "whole.pt", prefix="")
    assert len(lineage.tensors) > 20


def test_a_transposed_tensor_is_digested_row_by_row(tmp_path: Path) -> None:
    import torch.distributed.checkpoint as dcp

    weight = torch.arange(12, dtype=torch.float32).reshape(3, 4)
    dcp.save({"w": weight.t()}, checkpoint_id=tmp_path / "step", no_dist=True)
    manifest = make_manifest(tmp_path / "step")
    assert manifest.pieces[0].sha256 == hashlib.sha256(weight.t().contiguous().numpy().tobytes()).hexdigest()
    consolidate(tmp_path / "step", manifest, tmp_path / "model.safetensors")
    assert torch.equal(load_file(tmp_path / "model.safetensors")["w"], weight.t())


def test_the_sealed_run_holds_checkpoints_manifest_and_world(two: Path, world: World) -> None:
    (entry,) = world.workspace.read().all(TrainingRun, f"model/{MODEL}")
    manifest = load_manifest(two / "step-2")
    assert entry.record.distributed is not None
    assert entry.record.distributed.root == manifest.root, "the record computes the root over the rows itself"
    assert (entry.record.distributed.world_size, entry.record.distributed.backend) == (2, "gloo")
    assert [(item.name, item.step) for item in entry.record.checkpoints] == [("step-1", 1), ("step-2", 2)]
    recorded = recorded_manifests(world.workspace, MODEL, entry.record.version)
    assert [item.manifest.root for item in recorded] == roots(two, 2)[0]
    words = ("--model", MODEL, "--version", entry.record.version, "--workspace", world.folder / "project")
    done = command("verify", two / "step-1", *words)
    assert done.returncode == 0, done.stderr
    assert f"(entry {entry.seq})" in done.stdout


def test_a_lost_and_an_altered_shard_are_named(two: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(two / "step-2", tmp_path / "step")
    manifest = load_manifest(folder)
    path = folder / "__1_0.distcp"
    piece = next(item for item in manifest.pieces if item.rank == 1 and item.tensor == "model.0.weight")
    data = path.read_bytes()
    raw = load_file(two / "full.safetensors")["0.weight"][5:].contiguous().numpy().tobytes()
    at = data.index(raw, piece.start)
    path.write_bytes(data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :])
    assert [(fault.kind, fault.rank, fault.tensor) for fault in check(folder, manifest)] == [
        ("altered", 1, "model.0.weight")
    ]
    path.unlink()
    with pytest.raises(CheckpointError, match=r"missing: rank 1, file __1_0.distcp"):
        resume_from(folder)


# Resumed ----------------------------------------------------------------------------------------------------------------


def test_the_resumed_run_links_to_the_checkpoint_it_went_on_from(two: Path, four: Path) -> None:
    before = load_manifest(two / "step-2")
    link = load_manifest(four / "step-3").header.resumed_from
    assert link is not None
    assert (link.root, link.name, link.step) == (before.root, "step-2", 2)
    facts = json.loads((four / "record.json").read_text())
    assert facts["extra"]["resumed_from"] == {"root": before.root, "name": "step-2", "step": 2}


def test_it_trains_on_with_the_weights_of_the_checkpoint(two: Path, four: Path, tmp_path: Path) -> None:
    """Replicated over two and sharded over two, each block is written once, and the model equals what PyTorch gathers."""
    folder = four / "step-3"
    manifest = load_manifest(folder)
    assert not manifest.faults()
    assert manifest.header.world_size == 4
    consolidate(folder, manifest, tmp_path / "model.safetensors")
    assert equal(load_file(tmp_path / "model.safetensors"), load_file(four / "full.safetensors"))
    assert not equal(load_file(tmp_path / "model.safetensors"), load_file(two / "full.safetensors"))


def test_shards_that_pytorchs_safetensors_writer_left_are_recorded_afterwards(four: Path, tmp_path: Path) -> None:
    manifest = load_manifest(four / "hf-3")
    assert {item.path for item in manifest.files if item.rank is None} == {"trainer_state.json"}
    assert len(manifest.files) > 2
    consolidate(four / "hf-3", manifest, tmp_path / "model.safetensors")
    assert equal(load_file(tmp_path / "model.safetensors"), load_file(four / "full.safetensors"))


def test_a_trainers_checkpoint_with_several_parts_gives_its_model(tmp_path: Path) -> None:
    """The Hugging Face Trainer keeps model, optimizer and random states under FSDP in one folder."""
    import torch.distributed.checkpoint as dcp

    folder = tmp_path / "checkpoint-5"
    weight = torch.arange(6, dtype=torch.bfloat16).reshape(2, 3)
    dcp.save({"model": {"lin.weight": weight}}, checkpoint_id=folder / "pytorch_model_fsdp_0", no_dist=True)
    dcp.save({"optimizer": {"lin.weight": weight}}, checkpoint_id=folder / "optimizer_0", no_dist=True)
    torch.save({"cpu": torch.get_rng_state()}, folder / "rng_state_0.pth")
    manifest = make_manifest(folder)
    assert {"pytorch_model_fsdp_0/__0_0.distcp", "optimizer_0/.metadata"} <= {item.path for item in manifest.files}
    lineage = consolidate(folder, manifest, tmp_path / "model.safetensors")
    assert [item.name for item in lineage.tensors] == ["lin.weight"]
    assert torch.equal(load_file(tmp_path / "model.safetensors")["lin.weight"], weight)
    with pytest.raises(CheckpointError, match="no tensor in 'optimizer_0' begins with"):
        consolidate(folder, manifest, tmp_path / "other.safetensors", part="optimizer_0", prefix="model.")


# Killed -----------------------------------------------------------------------------------------------------------------


def test_a_rank_killed_while_it_saves_leaves_no_checkpoint_and_is_named(world: World, tmp_path: Path) -> None:
    plan = {"steps": [1], "kill": "save", "kill_rank": 2, "workspace": str(world.folder / "project"), "project": MODEL}
    ended = run_ranks(tmp_path / "run", 3, plan)
    assert ended[2].code == -9
    for rank in (0, 1):
        assert ended[rank].code == 1, ended[rank].text
        assert "CheckpointError" in ended[rank].text
        assert "rank 2: it started to save and never finished" in ended[rank].text
    folder = tmp_path / "run" / "step-1"
    with pytest.raises(CheckpointError, match=r"never recorded as whole.*rank 2: it started to save"):
        resume_from(folder)
    done = command("manifest", folder)
    assert done.returncode == 1
    assert "rank 2: it started to save and never finished" in done.stderr
    assert not (folder / "cognify-shards" / "manifest.json").exists()
    failed = world.workspace.read().all(TrainingFailed, f"model/{MODEL}")
    assert [("rank 2" in entry.record.reason) for entry in failed] == [True], (
        "the run is recorded as failed, and by whom"
    )


def test_a_rank_killed_while_it_digests_makes_the_checkpoint_incomplete_for_all(tmp_path: Path) -> None:
    ended = run_ranks(tmp_path / "run", 2, {"steps": [1], "kill": "digest", "kill_rank": 0})
    assert ended[0].code == -9
    assert ended[1].code == 1
    assert "rank 0: it started to save and never finished" in ended[1].text
    folder = tmp_path / "run" / "step-1"
    assert (folder / ".metadata").exists(), "PyTorch had finished; the record had not"
    with pytest.raises(CheckpointError, match=r"never recorded as whole.*rank 0: it started to save"):
        resume_from(folder)


# The command --------------------------------------------------------------------------------------------------------------


def test_the_command_verifies_consolidates_and_proves(two: Path, tmp_path: Path) -> None:
    folder, root = two / "step-2", load_manifest(two / "step-2").root
    done = command("verify", folder, "--root", root, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["faults"] == []
    assert command("consolidate", folder, "-o", tmp_path / "m.safetensors").returncode == 0
    manifest = folder / "cognify-shards" / "manifest.json"
    done = command("lineage", manifest, tmp_path / "m.safetensors", "-o", tmp_path / "lineage.json")
    assert done.returncode == 0, done.stderr
    document = json.loads((tmp_path / "lineage.json").read_text())
    assert document["checkpoint_root"] == root
    assert {shard["rank"] for tensor in document["tensors"] for shard in tensor["shards"]} == {0, 1}
