"""Comparisons that a run makes by itself: from digests, from the data without their keys, or not at all and with the command."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from cognify_dagster.datasets import take_snapshot
from cognify_dagster.datasets.provenance import Provenance
from cognify_dagster.datasets.recording import dataset_ref, record_snapshot
from cognify_dagster.evaluation import EvaluationError
from cognify_dagster.instrument.sdk.overlaps import CHECK, LEVEL, ensure_overlaps
from cognify_dagster.records import DatasetSnapshot, OverlapChecked
from cognify_dagster.workspace import Recorded
from tests.governance.world import World
from tests.instrument.sdk_world import snapshot, write_csv


def keyed(world: World, path: Path, name: str, rows: list[tuple[int, int, int]]) -> Recorded[DatasetSnapshot]:
    """A snapshot whose column ID names each record and whose column late is the label."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([("ID", "amount", "late"), *rows])
    taken = take_snapshot(
        path, name=name, provenance=Provenance(source="made", licence="CC0"), record_key="ID", label="late"
    )
    return record_snapshot(world.workspace, taken, run=f"taken-{name}", record_key="ID", label="late")


def check(world: World, train: Recorded[DatasetSnapshot], held: Recorded[DatasetSnapshot]) -> OverlapChecked:
    made = ensure_overlaps(world.workspace, (dataset_ref(train, "train"),), dataset_ref(held, "evaluation"), "run-1")
    found = world.workspace.read().find(OverlapChecked, made[0])
    assert found is not None
    return found.record


def test_records_with_keys_are_compared_without_key_and_label(world: World, tmp_path: Path) -> None:
    train = keyed(world, tmp_path / "t.csv", "t", [(n, n * 10, 0) for n in range(20)])
    held = keyed(world, tmp_path / "h.csv", "h", [(100 + n, (15 + n) * 10, 1) for n in range(10)])
    record = check(world, train, held)
    assert record.overlapping_records == 5, "five amounts are in both, under other keys and labels"
    assert set(record.ignored_columns) == {"ID", "late"}
    assert record.check == CHECK
    assert not record.passed


def test_without_data_and_digests_that_meet_the_command_is_named(world: World, tmp_path: Path) -> None:
    train = keyed(world, tmp_path / "t.csv", "t", [(1, 10, 0)])
    held = keyed(world, tmp_path / "h.csv", "h", [(2, 20, 1)])
    (tmp_path / "t.csv").unlink()
    with pytest.raises(EvaluationError, match="cognify dataset overlap t h --ignore ID,late --record"):
        check(world, train, held)
    assert not world.workspace.read().all(OverlapChecked)


def test_data_that_changed_are_no_ground_for_a_comparison(world: World, tmp_path: Path) -> None:
    train = keyed(world, tmp_path / "t.csv", "t", [(1, 10, 0)])
    held = keyed(world, tmp_path / "h.csv", "h", [(2, 10, 1)])
    (tmp_path / "t.csv").write_text("ID,amount,late\n1,999,0\n")
    with pytest.raises(EvaluationError, match="not enough"):
        check(world, train, held)


def test_records_without_keys_are_compared_by_recorded_digests_alone(world: World, tmp_path: Path) -> None:
    paths = [write_csv(tmp_path / "a.csv", 3000, shared=4), write_csv(tmp_path / "b.csv", 4000, shared=4)]
    seqs = [snapshot(world.workspace, path, path.stem) for path in paths]
    for path in paths:
        path.unlink()
    reading = world.workspace.read()
    train, held = (reading.find(DatasetSnapshot, seq) for seq in seqs)
    assert train is not None
    assert held is not None
    record = check(world, train, held)
    assert (record.level, record.overlapping_records) == (LEVEL, 4)
    assert record.compared_columns == ("amount", "income", "late")


def test_what_was_compared_before_is_not_compared_again(world: World, tmp_path: Path) -> None:
    train = keyed(world, tmp_path / "t.csv", "t", [(1, 10, 0)])
    held = keyed(world, tmp_path / "h.csv", "h", [(2, 20, 1)])
    check(world, train, held)
    assert ensure_overlaps(world.workspace, (dataset_ref(train, "train"),), dataset_ref(held, "holdout"), "run-2") == []
