"""Shared ledgers: building one takes half a second, so tests that only read share them."""

from __future__ import annotations

from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.documents import VersionFacts, collect, load_framework
from tests.documents.story import Story

NOW = datetime(2026, 11, 21, 8, 0, tzinfo=timezone.utc)


@pytest.fixture(scope="session")
def now() -> datetime:
    return NOW


@pytest.fixture(scope="session")
def frameworks() -> list[Any]:
    return [load_framework("sr26-2"), load_framework("fair-lending")]


def tell_two_versions(folder: Path) -> Story:
    """Version 1 released; version 2 trained on other data, packaged, not signed."""
    frameworks = [load_framework("sr26-2"), load_framework("fair-lending")]
    story = Story(folder)
    story.prepare_version("1")
    story.package(frameworks, NOW)
    story.sign_all()
    story.grant = story.release()
    story.data("c")
    story.train("2", config={"learning_rate": 0.05, "max_iter": 220, "max_leaf_nodes": 24, "l2": {"penalty": 1.0}})
    story.evaluate(auc=0.7841)
    story.content = story.package(frameworks, NOW)
    return story


@pytest.fixture(scope="session")
def two_versions(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Version 1 released; version 2 trained on other data, packaged, not signed."""
    return tell_two_versions(tmp_path_factory.mktemp("two"))


@pytest.fixture(scope="session")
def facts(two_versions: Story) -> VersionFacts:
    """Facts of version 2, packaged and unsigned."""
    return collect(two_versions.ws.read(), two_versions.model, "2")


@pytest.fixture(scope="session")
def released(two_versions: Story) -> VersionFacts:
    """Facts of version 1, signed by all stages and deployed."""
    return collect(two_versions.ws.read(), two_versions.model, "1")


@pytest.fixture
def story(tmp_path: Path) -> Story:
    """A fresh ledger for tests that write."""
    folder = tmp_path / "project"
    folder.mkdir()
    return Story(folder)


@pytest.fixture(scope="session")
def told(tmp_path_factory: pytest.TempPathFactory) -> Story:
    """Version 2 with everything recorded that there is to record, packaged, unsigned; read only."""
    from tests.documents.captured import tell_captured

    folder = tmp_path_factory.mktemp("captured")
    (folder / "project").mkdir()
    story = tell_captured(folder / "project", NOW)
    story.facts = collect(story.ws.read(), story.model, "2")
    return story
