"""Worlds are built once a session and copied for each test; each gets its own site. See `site_world.py` for how they are used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.governance.conftest import approved_template, founded_template, ready_template
from tests.governance.world import World, clone
from tests.review.site_world import SiteWorld, make_site_world

__all__ = ["approved_template", "founded_template", "ready_template"]


@pytest.fixture
def founded_site(founded_template: World, tmp_path: Path) -> Iterator[SiteWorld]:
    """People are enrolled, there is no model."""
    found = make_site_world(clone(founded_template, tmp_path / "world"))
    yield found
    found.site.store.close()


@pytest.fixture
def site_world(ready_template: World, tmp_path: Path) -> Iterator[SiteWorld]:
    """Version 1 of credit_default is trained, evaluated and packaged; nobody signed."""
    found = make_site_world(clone(ready_template, tmp_path / "world"))
    yield found
    found.site.store.close()


@pytest.fixture
def approved_site(approved_template: World, tmp_path: Path) -> Iterator[SiteWorld]:
    """All three stages of version 1 are signed."""
    found = make_site_world(clone(approved_template, tmp_path / "world"))
    yield found
    found.site.store.close()
