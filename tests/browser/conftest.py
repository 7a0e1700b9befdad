"""One browser and one site for all tests of a process. The workspace under it was governed by real people in a real Dagster."""

from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.browser.chromium import chromium_program, started
from tests.browser.prepared import build, prepare
from tests.browser.served import SERVED, Served, serve
from tests.orchestration import stock
from tests.orchestration.conftest import founded

__all__ = ["founded"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Keep these tests in one process: one browser, one site, and playwright's event loop away from other tests."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the windows showed, and what the site's process said."""
    report = yield
    if report.failed and Path(__file__).parent in item.path.parents:
        for site in SERVED:
            report.sections.append(("the site's log", site.log[-3000:]))
            report.sections += [("a window", window.shown) for window in site.windows]
    return report


@pytest.fixture(scope="package")
def browser(prepared: stock.Stock) -> Iterator[Browser]:
    """A running Chromium. Its event loop would disturb others: it ends with this folder, and Dagster prepares what is read before it."""
    if chromium_program() is None:
        pytest.skip("no Chromium is installed (Debian: apt install chromium)")
    with started() as found:
        yield found


@pytest.fixture(scope="session")
def built(founded: stock.Stock, tmp_path_factory: pytest.TempPathFactory) -> stock.Stock:
    """A workspace with one version that waits for its first signature."""
    return build(founded, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def prepared(built: stock.Stock, tmp_path_factory: pytest.TempPathFactory) -> stock.Stock:
    """A workspace with something on every page: see `prepared.py`."""
    return prepare(built, tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="package")
def running(prepared: stock.Stock, browser: Browser, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The site that tests read, over a copy of the prepared workspace."""
    folder = tmp_path_factory.mktemp("site") / "project"
    shutil.copytree(prepared.folder, folder)
    with serve(folder, prepared.keys, browser) as found:
        yield found


@pytest.fixture
def site(running: Served) -> Iterator[Served]:
    """The running site; what a test opens is closed after it."""
    yield running
    running.close_windows()
