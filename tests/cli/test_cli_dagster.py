"""`cognify dagster`: what runs remember of the ledger, and a Dagster database that was lost."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest

from cognify_dagster.governance import PersonalKey
from cognify_dagster.ledger import open_checkpoint
from cognify_dagster.workspace import Workspace
from tests.cli.conftest import ROOT, Cognify
from tests.orchestration import project, stock
from tests.orchestration.desk import Desk

GOVERNED = sorted((*project.DATA, *project.BUILD, project.SERVICE))


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> stock.Stock:
    """A project whose version v1 is live, with the Dagster instance that ran it."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("COGNIFY_")]:
            patch.delenv(name)
        founded = stock.found(tmp_path_factory.mktemp("founded"))
        return stock.release(founded, tmp_path_factory.mktemp("released"))


class Place:
    """A copy of the project and its instance."""

    def __init__(self, folder: Path, home: Path, keys: dict[str, PersonalKey]) -> None:
        self.folder, self.home, self.keys = folder, home, keys

    @property
    def workspace(self) -> Workspace:
        return Workspace.open(self.folder)

    def materializations(self) -> dict[str, int]:
        with dg.DagsterInstance.from_config(str(self.home)) as instance:
            return {
                name: len(instance.fetch_materializations(dg.AssetKey(name), limit=10).records) for name in GOVERNED
            }


@pytest.fixture
def place(template: stock.Stock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    folder, home = tmp_path / "project", tmp_path / "dagster"
    shutil.copytree(template.folder, folder)
    assert template.home is not None
    shutil.copytree(template.home, home)
    (folder / "definitions.py").write_text("from tests.orchestration.project import defs\n")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(folder)
    return Place(folder, home, template.keys)


@pytest.fixture
def lose(place: Place) -> Callable[[], None]:
    """Lose Dagster's database; its folder and settings stay."""

    def act() -> None:
        for item in place.home.iterdir():
            if item.is_dir():
                shutil.rmtree(item)
            elif item.name != "dagster.yaml":
                item.unlink()

    return act


def test_a_lost_database_is_rebuilt(place: Place, lose: Callable[[], None], cognify: Cognify) -> None:
    lose()
    assert set(place.materializations().values()) == {0}
    size = place.workspace.ledger.size()
    planned = cognify("dagster", "resync", "--dagster-home", place.home, "--dry-run", "--json")
    assert planned.code == 0, planned.err
    assert set(place.materializations().values()) == {0}
    done = cognify("dagster", "resync", "--dagster-home", place.home, "--json")
    assert done.code == 0, done.err
    assert done.json == {**planned.json, "dry_run": False}
    assert done.json["partitions"] == {"tiny_versions": ["v1"]}
    assert sorted(item["asset"] for item in done.json["materializations"]) == GOVERNED
    assert done.json["notes"] == []
    assert set(place.materializations().values()) == {1}
    again = cognify("dagster", "resync", "--dagster-home", place.home)
    assert again.code == 0
    assert "0 materializations were added; 6 were there already." in again.out
    assert set(place.materializations().values()) == {1}
    assert place.workspace.ledger.size() == size


def test_the_instance_is_found_by_the_environment(
    place: Place, cognify: Cognify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DAGSTER_HOME", str(place.home))
    result = cognify("dagster", "resync", "--dry-run")
    assert result.code == 0
    assert "6 were there already" in result.out


def test_definitions_that_do_not_load_are_an_error(place: Place, lose: Callable[[], None], cognify: Cognify) -> None:
    lose()
    (place.folder / "definitions.py").write_text("raise RuntimeError('broken on purpose')\n")
    result = cognify("dagster", "resync", "--dagster-home", place.home)
    assert result.code == 3
    assert "broken on purpose" in result.err
    assert "--project" in result.err
    assert set(place.materializations().values()) == {0}


def test_no_instance_no_workspace(
    place: Place, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = cognify("dagster", "resync", "--dagster-home", tmp_path / "nowhere")
    assert missing.code == 3
    assert "no such folder" in missing.err
    monkeypatch.chdir(tmp_path)
    assert cognify("dagster", "heads").code == 5
    assert cognify("dagster", "resync", "--dagster-home", place.home).code == 3


def test_heads_are_listed_and_written_as_notes(place: Place, cognify: Cognify, tmp_path: Path) -> None:
    trust = place.workspace.trust()
    shown = cognify("dagster", "heads", "--dagster-home", place.home, "-o", tmp_path / "heads", "--json")
    assert shown.code == 0, shown.err
    assert shown.json["verified"] is True
    rows = shown.json["heads"]
    assert [row["size"] for row in rows] == sorted((row["size"] for row in rows), reverse=True)
    files = sorted((tmp_path / "heads").iterdir())
    assert sorted(row["file"] for row in rows) == [str(path) for path in files]
    for row in rows:
        note = Path(row["file"]).read_text()
        head = open_checkpoint(note, trust.logs)
        assert (note, head.size, head.root.hex()) == (row["note"], row["size"], row["root"])
        assert row["label"].startswith("Dagster run ")
    again = cognify("dagster", "heads", "--dagster-home", place.home, "-o", tmp_path / "heads")
    assert again.code == 0
    assert sorted((tmp_path / "heads").iterdir()) == files
    assert rows[0]["file"] in again.out


def test_heads_need_no_ledger_and_forged_ones_are_left_out(place: Place, cognify: Cognify) -> None:
    note = place.workspace.ledger.latest_checkpoint() or ""
    origin, _, rest = note.split("\n", 2)
    with dg.DagsterInstance.from_config(str(place.home)) as instance:
        instance.report_runless_asset_event(
            dg.AssetMaterialization("tiny_train", metadata={"cognify/checkpoint": f"{origin}\n99999\n{rest}"})
        )
    place.workspace.config.ledger.unlink()
    result = cognify("dagster", "heads", "--dagster-home", place.home)
    assert result.code == 0, result.err
    assert "99999" not in result.out
    assert "reported without a run" in result.err
    assert "was not compared with" in result.err


def test_an_instance_without_heads(place: Place, lose: Callable[[], None], cognify: Cognify) -> None:
    lose()
    result = cognify("dagster", "heads", "--dagster-home", place.home)
    assert result.code == 4
    assert "No signed head" in result.out


def test_a_restored_older_backup_is_found_by_a_runs_head(place: Place, cognify: Cognify, tmp_path: Path) -> None:
    """The file that `heads -o` writes is what `ledger restore --head` takes."""
    backup = tmp_path / "backup.sqlite"
    shutil.copy(place.workspace.config.ledger, backup)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.from_config(str(place.home)) as instance:
        patch.setenv("COGNIFY_WORKSPACE", str(place.folder))
        assert Desk(place.folder, place.keys, instance).run(project.BUILD, "v2").success
    cognify("dagster", "heads", "--dagster-home", place.home, "-o", tmp_path / "heads")
    largest = max((tmp_path / "heads").iterdir())
    proof = tmp_path / "proof.sqlite"
    restored = cognify("ledger", "restore", backup, "--to", proof, "--offline", "--head", largest, "--json")
    assert restored.code == 2, restored.err
    assert restored.json["rolled_back"] is True
    assert any(str(largest) in text for text in restored.json["compared_with"])


def test_verify_external_asks_the_runs_too(
    place: Place, cognify: Cognify, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ledger, signer's memory and trust file are set back together; the runs alone know better."""
    monkeypatch.setenv("DAGSTER_HOME", str(place.home))
    before = cognify("ledger", "verify", "--external", "--json")
    (runs,) = before.json["external"]
    assert (runs["name"], runs["compared"]) == ("Dagster runs", True)
    assert before.code == 4, "Dagster alone is nobody outside"
    older = tmp_path / "older"
    shutil.copytree(place.folder / ".cognify", older)
    with pytest.MonkeyPatch.context() as patch, dg.DagsterInstance.from_config(str(place.home)) as instance:
        patch.setenv("COGNIFY_WORKSPACE", str(place.folder))
        assert Desk(place.folder, place.keys, instance).run(project.BUILD, "v2").success
    shutil.rmtree(place.folder / ".cognify")
    shutil.copytree(older, place.folder / ".cognify")
    assert cognify("ledger", "verify").code == 0
    caught = cognify("ledger", "verify", "--external")
    assert caught.code == 2
    assert "Dagster run " in caught.out
    (place.home / "dagster.yaml").write_text("storage: 7\n")
    unknown = cognify("ledger", "verify", "--external")
    assert unknown.code == 4
    assert "cannot be opened" in unknown.out
    refused = cognify("dagster", "resync")
    assert refused.code == 3
