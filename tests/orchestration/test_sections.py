"""Texts beside the code: the package asset records them, once, for the version it builds; a wrong file stops the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import dagster as dg
import pytest

import cognify_dagster as cg
from cognify_dagster.orchestration.calls import UsageError
from cognify_dagster.orchestration.sections import record_sections
from cognify_dagster.records import Package, SectionWritten
from tests.orchestration import project
from tests.orchestration.desk import Desk

TEXT = "---\nauthor: person/ben\nai_drafted: false\n---\nOne issuer in Taiwan, 2005.\n"


def write(desk: Desk, name: str, text: str) -> Path:
    folder = desk.folder / "texts"
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    return folder


def with_texts() -> dg.Definitions:
    """The project, with a folder of texts stated at the model."""
    assets = [project.tiny_model, project.tiny_eval, project.tiny_service]
    data = dg.Definitions(assets=[project.tiny_train, project.tiny_holdout], resources={"ledger": cg.LedgerResource()})
    return dg.Definitions.merge(data, replace(project.tiny, sections="texts").build_defs(assets=assets))


def test_the_package_asset_records_the_folder_and_a_rebuild_nothing(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(desk, "failure_modes.md", TEXT)
    definitions = with_texts()
    built = desk.run(["tiny_package"], definitions=definitions)
    assert built.success, built.failure
    (written,) = desk.all(SectionWritten)
    assert (written.record.section, written.record.source) == ("failure_modes", "texts/failure_modes.md")
    packages = len(desk.all(Package))
    assert desk.run(["tiny_package"], definitions=definitions).success
    assert len(desk.all(SectionWritten)) == 1
    assert len(desk.all(Package)) == packages, "nothing new, no new package"
    write(desk, "failure_modes.md", TEXT + "\nPrices too.\n")
    assert desk.run(["tiny_package"], definitions=definitions).success
    assert [item.record.revision for item in desk.all(SectionWritten)] == [1, 2]
    assert len(desk.all(Package)) == packages + 1


def test_a_wrong_file_stops_the_package_and_records_nothing(desk: Desk) -> None:
    write(desk, "failure_modes.md", TEXT)
    write(desk, "limitations.md", "---\nauthor: person/ben\n---\nno word about who drafted it\n")
    definitions = with_texts()
    size = len(desk.kinds())
    stopped = desk.run(["tiny_package"], definitions=definitions)
    assert not stopped.success
    assert "limitations.md" in stopped.failure
    assert "ai_drafted" in stopped.failure
    assert "section_written" not in desk.kinds()[size:]


@pytest.mark.parametrize("folder", ["no-such", "..", "/etc"])
def test_the_folder_lies_in_the_project(desk: Desk, folder: str) -> None:
    with pytest.raises(UsageError, match="there is no such folder"):
        record_sections(desk.workspace, "tiny", "v1", folder, print)
