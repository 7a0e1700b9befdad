"""`cognify dataset overlap` and `profile`: on files without a workspace, and on recorded snapshots."""

from __future__ import annotations

import csv
import json
import random
from pathlib import Path

import pytest

from cognify_dagster.datasets import Provenance, take_snapshot
from cognify_dagster.datasets.overlap import reading
from cognify_dagster.datasets.recording import record_snapshot
from cognify_dagster.records import OverlapChecked
from tests.cli.conftest import Cognify
from tests.governance.world import World

WORDS = [f"{a}{b}" for a in "bcdfgklmnprst" for b in ("ado", "elu", "imi", "opa", "uke", "ysa")]


def write(path: Path, texts: list[str]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("id", "text"), *enumerate(texts)])
    return path


@pytest.fixture
def sides(tmp_path: Path) -> tuple[Path, Path]:
    """Training data, and a holdout of which row 2 is a copy and row 5 nearly one."""
    rnd = random.Random(3)
    train = [" ".join(rnd.choice(WORDS) for _ in range(20)) for _ in range(80)]
    holdout = [" ".join(rnd.choice(WORDS) for _ in range(20)) for _ in range(10)]
    holdout[2] = train[40].upper()
    holdout[5] = " ".join([*train[7].split()[:-1], "bye"])
    return write(tmp_path / "train.csv", train), write(tmp_path / "holdout.csv", holdout)


def record(world: World, name: str, path: Path, *, personal: bool = False) -> None:
    provenance = Provenance(
        source="test", owner="team:test", licence="CC0", collected_unknown="made up", contains_personal_data=personal
    )
    workspace = world.workspace
    snapshot = take_snapshot(
        path,
        name=name,
        provenance=provenance,
        record_key="id",
        record_hmac_key=workspace.record_key() if personal else None,
    )
    record_snapshot(workspace, snapshot, run=f"run-{name}", record_key="id")


def test_files_are_compared_without_a_workspace(cognify: Cognify, sides: tuple[Path, Path]) -> None:
    train, holdout = sides
    result = cognify("dataset", "overlap", train, holdout, "--columns", "text")
    assert result.code == 1, result.err
    assert "share records at: normalised, 13-gram, near-duplicate" in result.out
    assert "miss probability at threshold" in result.out
    value = cognify("dataset", "overlap", train, holdout, "--columns", "text", "--json").json
    assert {level["level"]: level["overlap_holdout"] for level in value["levels"]} == {
        "exact": 0,
        "normalised": 1,
        "13-gram": 2,
        "near-duplicate": 2,
    }
    assert [match["train_rows"] for match in value["levels"][3]["matches"]] == [[40], [7]]
    apart = cognify("dataset", "overlap", train, holdout, "--columns", "text", "--levels", "exact")
    assert apart.code == 0
    assert "No shared record at: exact. Nothing is said about other levels." in apart.out


def test_snapshots_are_compared_and_the_result_is_recorded(
    cognify: Cognify, founded: World, sides: tuple[Path, Path]
) -> None:
    for name, path in zip(("texts_train", "texts_holdout"), sides, strict=True):
        record(founded, name, path, personal=True)
    words = ("dataset", "overlap", "texts_train", "texts_holdout", "--columns", "text")
    assert cognify(*words, at=founded).code == 1
    assert not founded.workspace.read().all(OverlapChecked)
    value = cognify(*words, "--record", "--json", at=founded)
    assert value.code == 1
    (item,) = founded.workspace.read().all(OverlapChecked)
    assert item.seq == value.json["entry"]
    assert (item.record.check, item.record.overlapping_records, item.record.passed) == (
        "cognify dataset overlap",
        2,
        False,
    )
    assert item.record.train.root == value.json["train_root"]
    assert value.json["digest"] == "hmac-sha256"
    assert item.record.report is not None
    assert item.record.report.sensitivity == "personal"


@pytest.mark.parametrize(
    ("limit", "message"), [(10**6, "has other content"), (0, "changed between hashing and reading")]
)
def test_data_that_are_not_the_snapshot_any_more_are_not_compared(
    cognify: Cognify,
    founded: World,
    sides: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    limit: int,
    message: str,
) -> None:
    monkeypatch.setattr(reading, "STREAM_BYTES", limit)  # files of more bytes are read batch by batch
    words = ("dataset", "overlap", "texts_train", "texts_holdout", "--columns", "text")
    for name, path in zip(("texts_train", "texts_holdout"), sides, strict=True):
        record(founded, name, path)
    assert "share records" in cognify(*words, at=founded).out
    text = sides[0].read_text(encoding="utf-8")
    sides[0].write_text(text[:-4] + "x" + text[-3:], encoding="utf-8")  # of the same size
    result = cognify(*words, at=founded)
    assert result.code == 1
    assert f"dataset texts_train: file train.csv {message}" in result.err
    assert not result.out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--levels", "fuzzy"), 5, "there is no level 'fuzzy'"),
        (("--levels", ","), 5, "give names separated by commas"),
        (("--threshold", "0.2"), 5, "0.2"),
        (("--record",), 5, "--record compares recorded datasets"),
        (("--columns", "words"), 1, "no column 'words'"),
        (("--columns", "id", "--levels", "ngram"), 1, "compares text"),
    ],
)
def test_wrong_settings_are_said(
    cognify: Cognify, sides: tuple[Path, Path], words: tuple[str, ...], code: int, message: str
) -> None:
    result = cognify("dataset", "overlap", *sides, *words)
    assert result.code == code
    assert message in result.err


def test_an_unknown_dataset_or_file_is_unreadable(cognify: Cognify, founded: World, tmp_path: Path) -> None:
    result = cognify("dataset", "overlap", "nobody", "nothing", at=founded)
    assert result.code == 3
    assert "no dataset nobody" in result.err
    result = cognify("dataset", "overlap", tmp_path / "a.csv", tmp_path / "b.csv")
    assert result.code != 0
    assert "b.csv" in result.err


def test_the_recorded_profile_is_printed(cognify: Cognify, founded: World, sides: tuple[Path, Path]) -> None:
    record(founded, "texts_train", sides[0])
    shown = cognify("dataset", "profile", "texts_train", at=founded)
    assert shown.code == 0, shown.err
    assert "80" in shown.out
    value = cognify("dataset", "profile", "texts_train", "--json", at=founded).json
    assert value["profile"]["rows"] == 80
    assert value["profile"]["columns"]["id"]["max"] == 79
    assert value["schema_hash"]
    assert json.dumps(value)
    assert cognify("dataset", "profile", "texts_train", "--root", value["root"][:12], at=founded).code == 0
    assert cognify("dataset", "profile", "nobody", at=founded).code == 3
