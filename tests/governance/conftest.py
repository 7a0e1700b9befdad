"""Worlds are built once a session and copied for each test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.governance.world import World, clone, make_world


@pytest.fixture(scope="session")
def founded_template(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(tmp_path_factory.mktemp("worlds") / "founded")


@pytest.fixture(scope="session")
def ready_template(founded_template: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = clone(founded_template, tmp_path_factory.mktemp("worlds") / "ready")
    world.ready("1")
    return world


@pytest.fixture(scope="session")
def approved_template(ready_template: World, tmp_path_factory: pytest.TempPathFactory) -> World:
    world = clone(ready_template, tmp_path_factory.mktemp("worlds") / "approved")
    world.approve_all("1")
    return world


@pytest.fixture
def founded(founded_template: World, tmp_path: Path) -> World:
    """People are enrolled, nothing else happened."""
    return clone(founded_template, tmp_path / "world")


@pytest.fixture
def ready(ready_template: World, tmp_path: Path) -> World:
    """Version 1 is trained, evaluated and packaged; nobody signed."""
    return clone(ready_template, tmp_path / "world")


@pytest.fixture
def approved(approved_template: World, tmp_path: Path) -> World:
    """All three stages of version 1 are signed."""
    return clone(approved_template, tmp_path / "world")
