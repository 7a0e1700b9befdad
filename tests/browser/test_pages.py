"""Every page of the site in a real browser: no violation that axe-core can find (WCAG 2.2 AA and its best practices), in light and dark,
wide and 320 pixels narrow; and on paper."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.review.app import load_routes
from cognify_dagster.review.routing import ROUTES, Need
from tests.browser.addresses import FILES, PAGES, PUBLIC, WALKED
from tests.browser.chromium import Someone, too_wide, violations
from tests.browser.served import Served

WIDE = {"width": 1280, "height": 900}
NARROW = {"width": 320, "height": 640}


@pytest.fixture(scope="module")
def ada(running: Served) -> Iterator[Someone]:
    """An admin, who may open every page."""
    yield running.signed_in("ada", viewport=WIDE)
    running.close_windows()


@pytest.fixture(scope="module")
def nobody(running: Served) -> Iterator[Someone]:
    """A visitor who is not signed in."""
    yield running.visitor(viewport=WIDE)
    running.close_windows()


def test_every_page_of_the_site_is_looked_at() -> None:
    """A new GET route has an example in `addresses.py`, as a page or as a file."""
    load_routes()
    declared = {route.path for route in ROUTES if "GET" in route.methods}
    assert declared == {*PAGES, *PUBLIC, *WALKED, *FILES}
    public = {route.path for route in ROUTES if route.need is Need.PUBLIC and "GET" in route.methods}
    assert set(PUBLIC) <= public


@pytest.mark.parametrize("route", sorted(PAGES))
def test_a_page_is_accessible(route: str, running: Served, ada: Someone) -> None:
    address = PAGES[route](running)
    assert_accessible(ada, address)


@pytest.mark.parametrize("route", sorted(PUBLIC))
def test_a_page_for_everybody_is_accessible(route: str, running: Served, nobody: Someone) -> None:
    assert_accessible(nobody, PUBLIC[route](running))


@pytest.mark.parametrize("address", ["/models/none", "/nothing/here"])
def test_a_refusal_is_accessible(address: str, ada: Someone) -> None:
    assert_accessible(ada, address, status=404)


def assert_accessible(window: Someone, address: str, status: int = 200) -> None:
    """Look at a page wide and light, then narrow and dark."""
    page = window.page
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(WIDE)
    answer = page.goto(address, wait_until="load")
    assert answer is not None
    assert answer.status == status, f"{address}: {answer.status}\n{window.text[:600]}"
    assert page.title().strip(" ·"), address
    assert page.locator("h1").count() == 1, address
    assert not violations(page), address
    page.set_viewport_size(NARROW)
    page.emulate_media(color_scheme="dark")
    assert not too_wide(page), f"{address} scrolls sideways at 320 pixels"
    assert not violations(page), f"{address}, dark and narrow"
    assert not window.complaints, window.complaints


@pytest.mark.parametrize("route", ["/models/{model}/{version}", "/", "/ledger"])
def test_on_paper_a_page_is_the_document_alone(route: str, running: Served, ada: Someone, tmp_path: Path) -> None:
    page = ada.page
    page.set_viewport_size(WIDE)
    page.goto(PAGES[route](running))
    page.emulate_media(media="print")
    try:
        for hidden in ("header.site", ".skip", "main button", "#timeout"):
            for found in page.locator(hidden).all():
                assert not found.is_visible(), hidden
        assert page.locator("h1").is_visible()
        colours = page.evaluate(
            "() => [getComputedStyle(document.body).backgroundColor, getComputedStyle(document.body).color]"
        )
        assert colours == ["rgb(255, 255, 255)", "rgb(0, 0, 0)"], "black on white, whatever the screen shows"
        title = page.locator("h1").inner_text()
        (tmp_path / "page.pdf").write_bytes(page.pdf(format="A4", prefer_css_page_size=True))
    finally:
        page.emulate_media(media="screen")
    if shutil.which("pdftotext") is not None:
        text = subprocess.run(
            ["pdftotext", "-layout", tmp_path / "page.pdf", "-"], capture_output=True, text=True, check=True
        ).stdout
        assert title.split()[0] in text
        assert "Page 1 of " in text
        assert "Sign out" not in text
