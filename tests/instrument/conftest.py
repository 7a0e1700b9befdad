"""Worlds are made once a session and copied for each test; the SDK's state of the process is empty before and after each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import cognify as cli
from tests.governance.world import World, clone
from tests.instrument import sdk_world

__all__ = ["cli"]


@pytest.fixture(scope="session")
def sdk_template(tmp_path_factory: pytest.TempPathFactory) -> World:
    return sdk_world.prepare(tmp_path_factory.mktemp("sdk") / "world")


@pytest.fixture
def world(sdk_template: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    """A workspace with people, model, snapshots, bindings and thresholds; `$COGNIFY_WORKSPACE` names it."""
    from cognify_dagster.instrument.sdk import api

    made = clone(sdk_template, tmp_path / "world")
    for name in ("COGNIFY_SPOOL", "COGNIFY_PROJECT", "RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COGNIFY_WORKSPACE", str(made.folder / "project"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.chdir(tmp_path)
    api._run = api._session = None
    yield made
    if api._run is not None:
        api._run._outcome = api._run._outcome or object()  # type: ignore[assignment]  # nothing is recorded at exit
    for lock in api._locks.values():
        lock.release()
    api._locks.clear()
    api._run = api._session = None
