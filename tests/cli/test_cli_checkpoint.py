"""`cognify checkpoint`: what is wrong with a sharded checkpoint is named, and only the recorded root proves anything."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cognify_dagster.instrument.distributed import RunHeader, make_manifest, save_manifest
from cognify_dagster.instrument.distributed.ranks import new_token, write_rank
from cognify_dagster.instrument.distributed.recorded import MEDIA_TYPE, artifact_name
from tests.cli.conftest import Cognify
from tests.governance.world import MODEL, World
from tests.instrument.distributed.shards import dcp_copy

HEADER = RunHeader(world_size=2, name="step-20", step=20, strategy="fsdp2")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return dcp_copy(tmp_path / "step-20")


@pytest.fixture
def recorded(folder: Path, ready: World) -> str:
    """Version 5's sealed run recorded this checkpoint and an earlier one. Returns the root."""
    manifest = make_manifest(folder, HEADER)
    earlier = make_manifest(folder, RunHeader(world_size=2, name="step-10", step=10))
    items = [
        ready.workspace.put(artifact_name(item.header.name), item.to_bytes(), MEDIA_TYPE)
        for item in (earlier, manifest)
    ]
    ready.train("5", artefacts=(ready.workspace.put("plot.json", b"{}", "application/json"), *items))
    save_manifest(folder, manifest)
    return manifest.root


def test_a_manifest_is_written_once_and_says_its_root(folder: Path, cognify: Cognify) -> None:
    dry = cognify("checkpoint", "manifest", folder, "--dry-run", "--json")
    assert not (folder / "cognify-shards").exists()
    done = cognify("checkpoint", "manifest", folder, "--json")
    assert done.code == 0
    assert done.json["root"] == dry.json["root"] == make_manifest(folder).root
    assert (done.json["world_size"], done.json["shards"], done.json["from_ranks"]) == (2, 12, False)
    again = cognify("checkpoint", "manifest", folder, "--step", 7)
    assert again.code == 1
    assert "another manifest lies there" in again.err


def test_what_the_ranks_recorded_is_joined_and_a_missing_rank_is_named(folder: Path, cognify: Cognify) -> None:
    write_rank(folder, 0, new_token(), HEADER)
    done = cognify("checkpoint", "manifest", folder)
    assert done.code == 1
    assert "rank 1: it recorded nothing" in done.err
    done = cognify("checkpoint", "manifest", folder, "--json")
    assert (done.code, [fault["rank"] for fault in done.json["faults"]]) == (1, [1])


def test_without_a_root_nothing_is_proven(folder: Path, cognify: Cognify) -> None:
    cognify("checkpoint", "manifest", folder)
    done = cognify("checkpoint", "verify", folder)
    assert done.code == 4
    assert "Nothing here shows that this is the recorded root" in done.out
    root = make_manifest(folder).root
    assert cognify("checkpoint", "verify", folder, "--root", root).code == 0
    done = cognify("checkpoint", "verify", folder, "--root", "0" * 64)
    assert done.code == 1
    assert root in done.err


def test_the_sealed_runs_manifest_decides_not_the_folders(
    folder: Path, recorded: str, ready: World, cognify: Cognify
) -> None:
    words = ("checkpoint", "verify", folder, "--model", MODEL, "--version", "5")
    done = cognify(*words, at=ready)
    assert done.code == 0, done.err
    assert f"Root          {recorded}" in done.out
    assert "Every byte is as the sealed run recorded it" in done.out

    data = bytearray((folder / "__1_0.distcp").read_bytes())
    piece = next(p for p in make_manifest(folder).pieces if p.rank == 1 and p.tensor == "model.b.weight")
    at = data.index((6).to_bytes(8, "little"), piece.start)
    data[at] = 9
    (folder / "__1_0.distcp").write_bytes(data)
    (folder / "cognify-shards" / "manifest.json").unlink()
    assert cognify("checkpoint", "manifest", folder, "--step", 20, "--name", "step-20").code == 0, (
        "a forger may do that"
    )
    done = cognify(*words, at=ready)
    assert done.code == 1
    assert "no checkpoint of this version has the root" in done.err
    assert recorded in done.err
    done = cognify(*words, "--checkpoint", "step-20", "--json", at=ready)
    assert done.code == 1
    assert [(f["kind"], f["rank"], f["tensor"]) for f in done.json["faults"]] == [("altered", 1, "model.b.weight")]


def test_a_version_without_sharded_checkpoints_says_so(folder: Path, ready: World, cognify: Cognify) -> None:
    ready.train("6")
    done = cognify("checkpoint", "verify", folder, "--model", MODEL, "--version", "6", at=ready)
    assert done.code == 1
    assert "recorded no sharded checkpoint" in done.err


def test_a_model_is_consolidated_and_its_lineage_proved(folder: Path, cognify: Cognify, tmp_path: Path) -> None:
    cognify("checkpoint", "manifest", folder)
    done = cognify("checkpoint", "consolidate", folder, "-o", "m.safetensors")
    assert done.code == 0, done.err
    assert "all 5 tensors consist of 9 shards" in done.out
    done = cognify("checkpoint", "lineage", folder, "m.safetensors", "-o", "lineage.json", "--json")
    assert (done.json["tensors"], done.json["shards_not_in_the_model"]) == (5, 3)
    assert json.loads(Path("lineage.json").read_text())["checkpoint_root"] == make_manifest(folder).root
    again = cognify("checkpoint", "consolidate", folder, "-o", "m.safetensors")
    assert again.code == 1
    assert "not overwritten" in again.err
    data = bytearray(Path("m.safetensors").read_bytes())
    data[-1] ^= 1
    Path("n.safetensors").write_bytes(data)
    done = cognify("checkpoint", "lineage", folder, "n.safetensors")
    assert done.code == 1
    assert "holds other values" in done.err


def test_wrong_calls_say_what_is_meant(folder: Path, cognify: Cognify) -> None:
    assert cognify("checkpoint", "verify", folder, "--model", MODEL).code == 5
    assert cognify("checkpoint", "verify", folder, "--checkpoint", "x").code == 5
    assert cognify("checkpoint", "verify", "absent").code == 3
    done = cognify("checkpoint", "verify", folder)
    assert done.code == 1
    assert "cognify checkpoint manifest" in done.err
