"""Workspaces that are made once and copied for each test. All is real: keys, signatures, ledger, evidence, Dagster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import dagster as dg
import pytest

from tests.orchestration import desk as desks
from tests.orchestration import stock
from tests.orchestration.desk import Desk


@pytest.fixture(scope="session")
def founded(tmp_path_factory: pytest.TempPathFactory) -> stock.Stock:
    """A workspace with people and adopted gates, and data files that nothing has recorded yet."""
    return stock.found(tmp_path_factory.mktemp("founded"))


@pytest.fixture(scope="session")
def packaged(founded: stock.Stock, tmp_path_factory: pytest.TempPathFactory) -> stock.Stock:
    """The same with version v1 trained, evaluated and packaged."""
    return stock.package(founded, tmp_path_factory.mktemp("packaged"))


@pytest.fixture(scope="session")
def released(founded: stock.Stock, tmp_path_factory: pytest.TempPathFactory) -> stock.Stock:
    """The same with version v1 live, and the Dagster home that remembers how."""
    return stock.release(founded, tmp_path_factory.mktemp("released"))


@pytest.fixture(scope="module")
def instance() -> Iterator[dg.DagsterInstance]:
    """An instance that the tests of a module share; run ids keep them apart."""
    with dg.instance_for_test(set_dagster_home=False) as made:
        yield made


@pytest.fixture
def own_instance() -> Iterator[dg.DagsterInstance]:
    """An instance of the test's own, on which failed runs would be retried twice."""
    with dg.instance_for_test(overrides={"run_retries": {"enabled": True, "max_retries": 2}}) as made:
        yield made


@pytest.fixture
def sit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, instance: dg.DagsterInstance) -> Callable[[stock.Stock], Desk]:
    """Copy a prepared workspace and sit down at it."""

    def copy(prepared: stock.Stock) -> Desk:
        folder = tmp_path / "project"
        shutil.copytree(prepared.folder, folder)
        monkeypatch.setenv("COGNIFY_WORKSPACE", str(folder))
        return desks.Desk(folder, prepared.keys, instance)

    return copy


@pytest.fixture
def new_desk(sit: Callable[[stock.Stock], Desk], founded: stock.Stock) -> Desk:
    """A desk where nothing was trained yet."""
    return sit(founded)


@pytest.fixture
def desk(sit: Callable[[stock.Stock], Desk], packaged: stock.Stock) -> Desk:
    """A desk where v1 waits for signatures."""
    return sit(packaged)


@pytest.fixture(autouse=True)
def _no_foreign_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith("COGNIFY_") and name != "COGNIFY_REQUIRE_ALL":
            monkeypatch.delenv(name)
