"""`cognify dataset diff`, `prove`, `records`, `check-proof` on recorded snapshots of real files."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cognify_dagster.datasets import Provenance, proof_verifier, take_snapshot
from cognify_dagster.datasets.recording import record_snapshot
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import Cognify, Outcome
from tests.workspace.conftest import make

ROWS = {"id": [1, 2, 3], "income": [10.5, None, 30.0], "city": ["x", "y", "<b>z</b>"], "y": [0, 1, 0]}


@dataclass
class Place:
    """A workspace with two versions of `loans` and `people`, and their data."""

    folder: Path
    workspace: Workspace
    roots: dict[str, list[str]]

    def call(self, cognify: Cognify, *words: object) -> Outcome:
        return cognify("--workspace", self.folder / "project", "dataset", *words)


def snapshot(workspace: Workspace, folder: Path, name: str, columns: dict[str, Any], run: str, personal: bool) -> str:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), folder / "part.parquet")
    told = Provenance(source="s", owner="o", licence="l", collected_unknown="made up", contains_personal_data=personal)
    taken = take_snapshot(
        str(folder),
        name=name,
        provenance=told,
        record_key="id",
        label="y",
        group_columns=["city"],
        record_hmac_key=workspace.record_key() if personal else None,
    )
    record_snapshot(workspace, taken, run=run, record_key="id", label="y")
    return taken.root


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("cli-diff")
    workspace = Workspace.open(make(folder / "project"))
    later = {**ROWS, "id": [1, 2, 4], "income": [10.5, 20.0, 30.0]}
    roots = {}
    for name, personal in (("loans", False), ("people", True)):
        roots[name] = [
            snapshot(workspace, folder / f"{name}{i}", name, columns, f"{name}{i}", personal)
            for i, columns in enumerate((ROWS, later))
        ]
    return Place(folder, workspace, roots)


def test_the_newest_version_is_compared_with_the_one_before(place: Place, cognify: Cognify) -> None:
    result = place.call(cognify, "diff", "loans")
    assert result.code == 0, result.err
    for part in (*place.roots["loans"], "sha256:", "records by key", "income", "part.parquet"):
        assert part in result.out, part
    value = place.call(cognify, "diff", "loans", "--json").json
    keyed = value["diff"]["keyed"]
    assert (keyed["added"], keyed["removed"], keyed["changed"], keyed["columns"]) == (1, 1, 1, {"income": 1})
    assert value["diff_digest"].startswith("sha256:")
    assert value["diff_digest"] in result.out


def test_versions_are_chosen_by_their_roots_and_two_datasets_can_be_compared(place: Place, cognify: Cognify) -> None:
    first, second = place.roots["loans"]
    back = place.call(cognify, "diff", "loans", "--from", second[:12], "--to", first, "--json").json
    assert (back["diff"]["old"]["root"], back["diff"]["new"]["root"]) == (second, first)
    both = place.call(cognify, "diff", "loans", "people", "--json").json
    assert [both["diff"][side]["name"] for side in ("old", "new")] == ["loans", "people"]
    assert "only one with a key" in both["diff"]["keyed"]["reason"]


def test_what_is_not_there_is_unreadable(place: Place, cognify: Cognify) -> None:
    for words, part in (
        (("diff", "absent"), "knows no dataset absent"),
        (("diff", "loans", "--from", "0" * 8), "no snapshot whose root begins"),
    ):
        result = place.call(cognify, *words)
        assert result.code == 3
        assert part in result.err
    assert place.call(cognify, "diff", "no such name").code == 5


def test_values_are_shown_on_request_and_for_people_only_when_asked_in_so_many_words(
    place: Place, cognify: Cognify
) -> None:
    result = place.call(cognify, "diff", "loans", "--values")
    assert result.code == 0, result.err
    assert "20.0" in result.out
    refused = place.call(cognify, "diff", "people", "--values")
    assert refused.code == 1
    assert "--show-personal-values" in refused.err
    assert "20.0" not in refused.out + refused.err
    allowed = place.call(cognify, "diff", "people", "--values", "--show-personal-values", "--json").json
    assert allowed["values"] == [{"key": "id=2", "column": "income", "old": None, "new": 20.0}]


def test_values_of_data_that_are_no_longer_those_of_the_snapshot_are_refused(place: Place, cognify: Cognify) -> None:
    result = place.call(cognify, "diff", "loans", "--values", "--old-data", str(place.folder / "loans1"))
    assert result.code == 3
    assert "not those of the snapshot" in result.err


def test_the_page_loads_nothing_and_escapes_what_others_wrote(place: Place, cognify: Cognify, tmp_path: Path) -> None:
    page = tmp_path / "changes.html"
    assert place.call(cognify, "diff", "loans", "--html", page).code == 0
    text = page.read_text("utf-8")
    assert "default-src 'none'" in text
    assert "<script" not in text.lower()
    assert "<b>z" not in text
    assert text.count("<svg") >= 1
    for svg in text.split("<svg")[1:]:  # each plot has its table right below
        after = svg.split("</svg>", 1)[1]
        assert after.lstrip().startswith("<table>")
    again = tmp_path / "again.html"
    assert place.call(cognify, "diff", "loans", "--html", again).code == 0
    assert again.read_bytes() == page.read_bytes()
    assert place.call(cognify, "diff", "loans", "--html", again).code == 5  # nothing is overwritten


def record(folder: Path, **values: Any) -> Path:
    path = folder / f"record{len(list(folder.iterdir()))}.json"
    path.write_text(json.dumps(values), encoding="utf-8")
    return path


@pytest.mark.parametrize("name", ["loans", "people"])
def test_a_record_is_proven_present_or_absent_and_others_can_check_it(
    name: str, place: Place, cognify: Cognify, tmp_path: Path
) -> None:
    root = place.roots[name][0]
    here = record(tmp_path, id=1, income=10.5, city="x", y=0)
    gone = record(tmp_path, id=1, income=10.5, city="x", y=1)
    for path, word in ((here, f"is in dataset {name}"), (gone, f"is NOT in dataset {name}")):
        out = tmp_path / f"{path.stem}.proof.json"
        result = place.call(cognify, "prove", name, "--record", path, "--root", root, "--out", out)
        assert result.code == 0, result.err
        assert word in result.out
        checked = place.call(cognify, "check-proof", out, "--record", path)
        assert checked.code == 0, checked.err
        assert word in checked.out
        other = place.call(cognify, "check-proof", out, "--record", gone if path == here else here)
        assert other.code == 1
        assert cognify("dataset", "check-proof", out, "--root", root).code == 0  # needs no workspace
        assert cognify("dataset", "check-proof", out, "--root", place.roots[name][1]).code == 1
        offline = [sys.executable, "-I", proof_verifier.__file__, str(out)]
        assert subprocess.run([*offline, "--root", root], capture_output=True, check=False).returncode == 0
        assert subprocess.run([*offline, "--root", "0" * 64], capture_output=True, check=False).returncode == 1
        assert subprocess.run(offline, capture_output=True, check=False).returncode == 4
        assert "10.5" not in out.read_text()


def test_a_record_is_found_by_its_key(place: Place, cognify: Cognify) -> None:
    for name in ("loans", "people"):
        assert f"is in dataset {name}" in place.call(cognify, "prove", name, "--key", "id=4").out
        absent = place.call(cognify, "prove", name, "--key", "id=3")
        assert absent.code == 4
        assert "no proof for others" in absent.err
        assert place.call(cognify, "prove", name, "--key", "city=x").code == 5


def test_a_file_is_proven(place: Place, cognify: Cognify, tmp_path: Path) -> None:
    assert "is in dataset loans" in place.call(cognify, "prove", "loans", "--file", "part.parquet").out
    assert "is NOT in dataset loans" in place.call(cognify, "prove", "loans", "--file", "other.parquet").out


def test_records_that_do_not_fit_the_columns_are_named_without_their_values(
    place: Place, cognify: Cognify, tmp_path: Path
) -> None:
    for values, part in (
        ({"id": 1}, "no column"),
        ({"id": 1, "income": "secret", "city": "x", "y": 0, "more": 1}, "no column 'more'"),
        ({"id": "x" * 3, "income": 1.0, "city": 5, "y": 0}, "'city' has type string"),
    ):
        result = place.call(cognify, "prove", "loans", "--record", record(tmp_path, **values))
        assert result.code == 3
        assert part in result.err
        assert "secret" not in result.err
    assert place.call(cognify, "prove", "loans").code == 5


def test_all_records_are_listed_and_rows_of_a_table_looked_up(place: Place, cognify: Cognify, tmp_path: Path) -> None:
    listed = list(csv.DictReader(io.StringIO(place.call(cognify, "records", "loans", "--csv").out)))
    assert len({row["record digest"] for row in listed}) == 3
    keyed = place.call(cognify, "records", "loans", "--with-keys", "--json").json
    assert sorted(row[1] for row in keyed["rows"]) == ["1", "2", "4"]
    assert {row[0] for row in keyed["rows"]} == {row["record digest"] for row in listed}
    refused = place.call(cognify, "records", "people", "--with-keys")
    assert refused.code == 1
    assert "--show-personal-values" in refused.err
    asked = tmp_path / "asked.csv"
    asked.write_text("id,income,city,y\n4,30,<b>z</b>,0\n3,30,<b>z</b>,0\n", encoding="utf-8")
    for name in ("loans", "people"):
        found = place.call(cognify, "records", name, "--contains", asked, "--json")
        assert found.code == 1
        assert [row["count"] for row in found.json["rows"]] == [1, 0]
    asked.write_text("id,income\n4,30\n", encoding="utf-8")
    wrong = place.call(cognify, "records", "loans", "--contains", asked)
    assert wrong.code == 3
    assert "has the columns city, id, income, y" in wrong.err


def test_a_damaged_proof_file_is_unreadable(cognify: Cognify, tmp_path: Path) -> None:
    path = tmp_path / "proof.json"
    for text in ("no json", "[]", "{}", '{"root": "00", "format": "x"}'):
        path.write_text(text, encoding="utf-8")
        assert cognify("dataset", "check-proof", path, "--root", "0" * 64).code == 3
