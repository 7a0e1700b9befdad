"""A workspace with real packages: version 1 released, version 2 waits. Told once a session, copied for each test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from cognify_dagster.governance import Choice, PersonalKey, sign_off
from cognify_dagster.review.app import open_site
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.reading.board import Board, board_of
from cognify_dagster.workspace import Workspace
from tests.documents.conftest import tell_two_versions
from tests.review.site_world import URL, SiteWorld


class StoryWorld:
    """What a `SiteWorld` needs of a world, over a told story."""

    def __init__(self, folder: Path, keys: dict[str, PersonalKey]) -> None:
        self.folder = folder
        self.keys = keys
        self.workspace = Workspace.open(folder)

    def sign(self, name: str, version: str, decision: str = "approve", **more: Any) -> int:
        """Sign as a person; return the entry."""
        choice = Choice(decision=decision, **more)  # type: ignore[arg-type]
        return sign_off(self.workspace, "credit_default", version, self.keys[f"person/{name}"], choice).seq


@pytest.fixture(scope="session")
def told_template(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, PersonalKey]]:
    story = tell_two_versions(tmp_path_factory.mktemp("told") / "project")
    return story.ws.config.path.parent, story.keys


@pytest.fixture
def told_site(told_template: tuple[Path, dict[str, PersonalKey]], tmp_path: Path) -> Iterator[SiteWorld]:
    """Version 1 was signed by vera, carl and bea and released; version 2 has a package that nobody signed."""
    folder, keys = told_template
    shutil.copytree(folder, tmp_path / "project")
    world = StoryWorld(tmp_path / "project", keys)
    config = ReviewConfig(
        url=URL, database=f"sqlite:///{tmp_path / 'review.sqlite'}", dagster_url="https://dagster.example"
    )
    found = SiteWorld(world, open_site(world.workspace, config))  # type: ignore[arg-type]
    yield found
    found.site.store.close()


def look(found: SiteWorld, seconds: float = 60.0) -> Board:
    """Let the board of a site look at everything; return it."""
    board = board_of(found.site)
    board.look(found.site.read(), datetime.now(timezone.utc), seconds)
    return board
