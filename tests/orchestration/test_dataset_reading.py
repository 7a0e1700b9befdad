"""What of a dataset is read again in Dagster, and that a training can demand that all of it was."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster.datasets.hashing import index
from cognify_dagster.records import DatasetSnapshot, TrainingRun
from tests.orchestration import project
from tests.orchestration.desk import Desk


@pytest.fixture(autouse=True)
def _old_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(index, "RACY_NS", -(10**10))


@pytest.fixture
def pictures(new_desk: Desk, tmp_path: Path) -> Path:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for number in range(4):
        (folder / f"{number}.bin").write_bytes(bytes([number]) * 1000)
    return folder


def take(desk: Desk, *assets: dg.AssetsDefinition, **options: Any) -> dg.ExecuteInProcessResult:
    resources = {"ledger": cg.LedgerResource()}
    return dg.materialize(list(assets), instance=desk.instance, resources=resources, tags={"user": "ben"}, **options)


def counts(desk: Desk) -> list[tuple[int, int]]:
    found = [item.record.header["evidence"] for item in desk.all(DatasetSnapshot, "dataset/pictures")]
    return [(item["hashed"], item["reused"]) for item in found]


def asset(folder: Path, **options: Any) -> dg.AssetsDefinition:
    made: dg.AssetsDefinition = cg.build_dataset_snapshot(
        "pictures", folder, provenance=project.PROVENANCE, change_reason="for this test", **options
    )
    return made


def test_a_second_run_reads_only_what_changed_unless_it_is_told_otherwise(new_desk: Desk, pictures: Path) -> None:
    take(new_desk, asset(pictures))
    (pictures / "0.bin").write_bytes(b"new")
    take(new_desk, asset(pictures))
    take(new_desk, asset(pictures, verify="full"))
    take(new_desk, asset(pictures, verify="sample:100"))
    assert counts(new_desk) == [(4, 0), (1, 3), (4, 0), (4, 0)]
    roots = [item.record.root for item in new_desk.all(DatasetSnapshot, "dataset/pictures")]
    assert roots[0] != roots[1] == roots[2] == roots[3]
    assert (new_desk.workspace.home / "cache" / "datasets" / "pictures.index").is_file()


def test_an_altered_index_is_not_believed(new_desk: Desk, pictures: Path) -> None:
    take(new_desk, asset(pictures))
    kept = new_desk.workspace.home / "cache" / "datasets" / "pictures.index"
    kept.write_bytes(kept.read_bytes()[::-1])
    take(new_desk, asset(pictures))
    assert counts(new_desk) == [(4, 0), (4, 0)]


def test_training_can_demand_that_every_file_was_read(new_desk: Desk, pictures: Path) -> None:
    taken = asset(pictures)

    @cg.training_run(project.tiny, datasets=["pictures"], demand_hashed=True)
    def picture_model(run: cg.TrainingRecorder, pictures: cg.Snapshot) -> Any:
        path = new_desk.folder / "model.txt"
        path.write_text(pictures.root)
        return run.save_model(path)

    def train(version: str) -> None:
        new_desk.instance.add_dynamic_partitions("tiny_versions", [version])
        take(new_desk, picture_model, taken, partition_key=version, selection=[picture_model])

    take(new_desk, taken)
    take(new_desk, taken)
    with pytest.raises(dg.Failure, match=r"dataset pictures: only 0\.0%.*dataset snapshot .*pictures --verify full"):
        train("one")
    assert not new_desk.all(TrainingRun)
    take(new_desk, asset(pictures, verify="full"))
    train("two")
    (run,) = new_desk.all(TrainingRun)
    assert run.record.datasets[0].name == "pictures"
