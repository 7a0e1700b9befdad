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
from tests.orchestration.test_dataset_changes import policy


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


def test_evaluation_can_demand_it_too(new_desk: Desk, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    entered: list[str] = []

    @cg.eval_suite(project.tiny, dataset="pictures", gates="tiny_gates", trained_by="tiny_model", demand_hashed=True)
    def picture_eval(pictures: cg.Snapshot) -> cg.EvalResult:
        entered.append(pictures.root)
        raise RuntimeError("the function was entered")

    assert new_desk.run(project.DATA, None).success
    assert new_desk.run(["tiny_model"], "one").success
    taken = asset(pictures)
    upstream = project.tiny_model

    def judge() -> None:
        take(new_desk, picture_eval, upstream, taken, partition_key="one", selection=[picture_eval])

    take(new_desk, taken)
    take(new_desk, taken)
    with pytest.raises(dg.Failure, match=r"dataset pictures: only 0\.0%.*dataset snapshot .*pictures --verify full"):
        judge()
    assert not entered
    take(new_desk, asset(pictures, verify="full"))
    with pytest.raises(RuntimeError, match="was entered"):
        judge()
    assert len(entered) == 1


def test_the_place_is_recorded_from_the_root_of_the_file_system(
    new_desk: Desk, pictures: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(pictures.parent)
    take(new_desk, asset(Path("pictures")))
    (item,) = new_desk.all(DatasetSnapshot, "dataset/pictures")
    assert item.record.observed["location"] == str(pictures)


def test_the_commit_is_that_of_the_project_and_not_of_this_package(new_desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "a.csv").write_text("id\n1\n")
    where: dict[str, Any] = {"cg": cg, "folder": str(folder)}
    for text in ("cg.build_dataset_snapshot('here', folder)", "cg.build_dataset_snapshot('here', lambda: folder)"):
        (tmp_path / "project.py").write_text(f"made = {text}\n")
        exec(compile((tmp_path / "project.py").read_text(), str(tmp_path / "project.py"), "exec"), where)
        assert take(new_desk, where["made"]).success
    for item in new_desk.all(DatasetSnapshot, "dataset/here"):
        assert item.record.code is not None
        assert item.record.code.vcs == "none", "the folder of the project is under no version control"


def test_tables_with_different_columns_are_snapshotted_as_files(new_desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "mixed"
    folder.mkdir()
    (folder / "a.csv").write_text("id,x\n1,2\n")
    (folder / "b.csv").write_text("id,y\n1,2\n")
    assert take(new_desk, cg.build_dataset_snapshot("mixed", folder, records=False)).success
    (item,) = new_desk.all(DatasetSnapshot, "dataset/mixed")
    assert item.record.record_count is None


def test_training_reads_no_file_that_the_snapshot_ignored(new_desk: Desk, tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "a.csv").write_text("id\n1\n2\n")
    (folder / "draft.csv").write_text("id\n3\n")
    options: dict[str, Any] = {"ignore": ["draft.csv"], "quality": [lambda table: table.num_rows == 2]}
    assert take(new_desk, cg.build_dataset_snapshot("rows", folder, **options)).success
    (item,) = new_desk.all(DatasetSnapshot, "dataset/rows")
    assert not item.record.failed_quality
    assert cg.Snapshot(new_desk.workspace, item).table().column("id").to_pylist() == [1, 2]


def test_a_policy_can_demand_it_of_every_training(new_desk: Desk, pictures: Path) -> None:
    policy(new_desk, {"names": ["pictures"], "fully_hashed": True})
    taken = asset(pictures)

    @cg.training_run(project.tiny, datasets=["pictures"])
    def picture_model(run: cg.TrainingRecorder, pictures: cg.Snapshot) -> Any:
        path = new_desk.folder / "model.txt"
        path.write_text(pictures.root)
        return run.save_model(path)

    def train() -> None:
        new_desk.instance.add_dynamic_partitions("tiny_versions", ["one"])
        take(new_desk, picture_model, taken, partition_key="one", selection=[picture_model])

    take(new_desk, taken)
    take(new_desk, taken)
    said = f"4 of its files were not read and hashed.*cognify dataset snapshot {pictures} --name pictures --verify full"
    with pytest.raises(dg.Failure, match=f"(?s){said}"):
        train()
    take(new_desk, asset(pictures, verify="full"))
    train()
    assert len(new_desk.all(TrainingRun)) == 1
