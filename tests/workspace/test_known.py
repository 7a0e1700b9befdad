"""Who asks for a model or version that is not there is told which ones there are."""

from __future__ import annotations

from pathlib import Path

from cognify_dagster.records import VersionOpened
from cognify_dagster.workspace import unknown_model, unknown_version
from tests.documents.story import Story


def test_what_is_there_has_nothing_to_be_said_about(tmp_path: Path) -> None:
    story = Story(tmp_path)
    story.register()
    story.put(VersionOpened(model=story.model, version="v1", run="r", opened_by="person/ben"))
    reading = story.ws.read()
    assert unknown_model(reading, story.model) == unknown_version(reading, story.model, "v1") == ""


def test_a_misspelt_model_or_version_names_those_that_there_are(tmp_path: Path) -> None:
    story = Story(tmp_path)
    assert unknown_model(story.ws.read(), "credit") == "this workspace has no model 'credit'; none is registered yet"
    story.register()
    reading = story.ws.read()
    assert unknown_model(reading, "credit") == "this workspace has no model 'credit'; it has credit_default"
    assert unknown_version(reading, "credit", "1") == unknown_model(reading, "credit")
    assert "none was opened yet" in unknown_version(reading, story.model, "1")
    for number in range(1, 11):
        story.put(VersionOpened(model=story.model, version=f"v{number}", run=f"r{number}", opened_by="person/ben"))
    told = unknown_version(story.ws.read(), story.model, "3")
    assert told == "credit_default has no version '3'; there are 2 older ones and v3, v4, v5, v6, v7, v8, v9, v10"
