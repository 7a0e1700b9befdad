"""Dagster's own pages and the site lead to each other: from an asset to the version's page, from a refused deployment to where one signs,
from the page back to the run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from cognify_dagster.governance import Choice, sign_off
from cognify_dagster.records import DeploymentCompleted
from tests.browser.chromium import Someone
from tests.browser.dagster_ui import DagsterUi, dagster_dev
from tests.browser.prepared import FIRST, MODEL, at_desk
from tests.browser.served import Served, free_port, serve
from tests.browser.walking import decide_on, sign_in
from tests.orchestration import project
from tests.orchestration.desk import Ran
from tests.orchestration.stock import Stock

PATIENCE = 60_000  # milliseconds: Dagster's pages are large, and the machine may be busy


@pytest.fixture(scope="module")
def both(
    built: Stock, browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[DagsterUi, Served]]:
    """Dagster and the site over a workspace where v1 waits for its first signature; each knows where the other is."""
    folder = tmp_path_factory.mktemp("dagster")
    assert built.home is not None
    shutil.copytree(built.folder, folder / "project")
    shutil.copytree(built.home, folder / "home")
    port = free_port()
    with serve(folder / "project", built.keys, browser, dagster_url=f"http://127.0.0.1:{port}") as site:
        build_package(folder / "project", folder / "home")
        with dagster_dev(folder / "home", folder / "project", port) as ui:
            yield ui, site
        site.close_windows()


@pytest.fixture
def vera(both: tuple[DagsterUi, Served]) -> Someone:
    """Vera's browser, where she signed in to the site with her passkey."""
    _, site = both
    window = site.visitor()
    site.give_passkey(window, "vera")
    sign_in(window)
    return window


@pytest.fixture
def dagster_page(vera: Someone) -> Page:
    """Another tab of Vera's browser, for Dagster."""
    page = vera.context.new_page()
    page.set_default_timeout(PATIENCE)
    page.set_viewport_size({"width": 1400, "height": 900})
    return page


def materialize(ui: DagsterUi, page: Page, asset: str) -> str:
    """Press "Materialize" on an asset's page, for every version (there is one); return the run's id."""
    before = set(ui.runs())
    page.goto(f"{ui.url}/assets/{asset}")
    page.get_by_role("button", name="Materialize").first.click()
    page.get_by_role("button", name="All", exact=True).click()
    page.get_by_role("button", name="Launch 1 run").click()
    return ui.until(lambda: next(iter(set(ui.runs()) - before), None), f"a run of {asset} was launched")


def follow(page: Page, address: str) -> Page:
    """Click a link to the site on one of Dagster's pages; return the tab that opens."""
    with page.context.expect_page() as opened:
        page.get_by_role("link", name=address).first.click()
    return opened.value


def assert_versions_page(page: Page, address: str) -> None:
    """The tab shows the version's page, without another sign-in."""
    page.wait_for_url(address, timeout=PATIENCE)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Tiny model", timeout=PATIENCE)
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()


def build_package(stock_folder: Path, home: Path) -> None:
    """Build v1's package again, now that the workspace names its site; in a thread: playwright's event loop holds this one."""

    def work() -> Ran:
        with at_desk(Stock(stock_folder, {}, home)) as desk:
            return desk.run(["tiny_package"], FIRST)

    with ThreadPoolExecutor(1) as pool:
        ran = pool.submit(work).result()
    assert ran.success, ran.failure


@pytest.mark.timeout(400)  # Dagster's processes start one after the other; a busy machine takes several times as long
def test_dagster_and_the_site_lead_to_each_other(
    both: tuple[DagsterUi, Served], vera: Someone, dagster_page: Page
) -> None:
    ui, site = both
    address = f"{site.url}/models/{MODEL}/{FIRST}"

    # From the package asset to the version's page, and from there back to the run that trained it.
    dagster_page.goto(f"{ui.url}/assets/tiny_package")
    opened = follow(dagster_page, address)
    assert_versions_page(opened, address)
    trained = opened.locator("main a[href*='/runs/']").first
    run = str(trained.get_attribute("href")).rpartition("/")[2]
    assert ui.runs()[run]["status"] == "SUCCESS"
    trained.click()
    opened.wait_for_url(f"{ui.url}/runs/{run}", timeout=PATIENCE)
    expect(opened.get_by_text(run[:8]).first).to_be_visible(timeout=PATIENCE)
    opened.close()

    # "Materialize" on the deployment of a version that nobody signed: it fails, says why, and leads to where one signs.
    run = materialize(ui, dagster_page, project.SERVICE)
    dagster_page.goto(f"{ui.url}/runs/{run}")
    assert ui.ended(run) == "FAILURE"
    said = dagster_page.locator("body")
    expect(said).to_contain_text("tiny v1 may not be deployed to production", timeout=PATIENCE)
    expect(said).to_contain_text("Independent validation is not signed: 1 more from role model_validator")
    expect(said).to_contain_text(f"The package and where it stands: {address}")
    opened = follow(dagster_page, address)
    assert_versions_page(opened, address)
    opened.close()
    assert not site.site.read().all(DeploymentCompleted)

    # Vera signs on the site, the others elsewhere: the sensor requests the release, and the asset leads to the same page.
    decide_on(vera, FIRST, "approve")
    for name in ("carl", "olga"):
        sign_off(site.site.workspace, MODEL, FIRST, site.keys[name], Choice("approve"))
    ui.until(lambda: site.site.read().all(DeploymentCompleted) or None, "the sensor released v1", 200)
    released = [run for run, facts in ui.runs().items() if "cognify/release_round" in facts["tags"]]
    assert [ui.ended(run) for run in released] == ["SUCCESS"]
    dagster_page.goto(f"{ui.url}/assets/{project.SERVICE}")
    expect(dagster_page.get_by_text("Latest materialization").first).to_be_visible(timeout=PATIENCE)
    opened = follow(dagster_page, address)
    assert_versions_page(opened, address)
    expect(opened.locator("main")).to_contain_text("production", timeout=PATIENCE)
