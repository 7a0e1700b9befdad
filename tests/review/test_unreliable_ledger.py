"""A ledger that does not verify: what it holds is not shown, nothing is signed on it, and everybody is told so."""

from __future__ import annotations

import pytest

from cognify_dagster.ledger import LedgerUnreadable
from cognify_dagster.review.access import log
from cognify_dagster.review.store.access import find_lines
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Reading
from tests.review.site_world import SiteWorld
from tests.review.webhooks.conftest import tamper


def test_a_page_that_needs_an_altered_entry_says_so_and_shows_nothing(site_world: SiteWorld) -> None:
    vera = site_world.client_for("vera")
    seq = tamper(site_world)
    answer = vera.get(f"/ledger/entries/{seq}")
    assert answer.status_code == 503
    assert "cannot be relied on" in answer.text
    assert f"entry {seq}" in answer.text


def test_programs_get_a_problem_document(site_world: SiteWorld) -> None:
    vera = site_world.client_for("vera")
    seq = tamper(site_world)
    answer = vera.get(f"/ledger/entries/{seq}", headers={"accept": "application/json"})
    assert answer.status_code == 503
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["type"] == "urn:cognify:problem:ledger"


@pytest.mark.parametrize("path", ["/", "/models", "/models/credit/1", "/models/credit/1/sign", "/ledger", "/people"])
def test_no_page_breaks_over_an_altered_entry(site_world: SiteWorld, path: str) -> None:
    vera = site_world.client_for("vera")
    tamper(site_world)
    assert vera.get(path).status_code in (200, 404, 503)


# --- the ledger fails while a refusal is shown -----------------------------------------------------------------------------


def _fails(*_: object) -> Reading:
    raise LedgerUnreadable("the ledger's disk does not answer")


@pytest.mark.parametrize(
    ("path", "headers", "content"),
    [
        ("/login", {"Origin": "https://evil.example"}, b""),
        ("/login", {"Content-Type": "multipart/form-data"}, b"x"),
        ("/login/passkey", {"Content-Type": "application/json"}, b"{"),
        ("/account/password", {"Origin": "http://localhost:3070"}, b""),
    ],
    ids=["another site's form", "a broken form", "broken JSON", "signed out"],
)
def test_a_refusal_that_cannot_be_shown_is_a_plain_503(
    founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch, path: str, headers: dict[str, str], content: bytes
) -> None:
    """Without the mend the exception leaves the site: the client of these tests raises it."""
    browser = founded_site.client()
    monkeypatch.setattr(founded_site.site, "read", _fails)
    answer = browser.post(path, headers=headers, content=content)
    assert answer.status_code == 503
    assert "cannot be relied on" in answer.text
    assert "Traceback" not in answer.text
    assert log.flush(founded_site.site)
    with founded_site.site.store.begin() as connection:
        assert [line.status for line in find_lines(connection, limit=9)] == [503]


def test_so_is_a_failure_of_a_page_and_a_refusal_to_who_is_signed_in(
    founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    vera, original = founded_site.client_for("vera"), founded_site.site.read
    readings = [original(), original()]  # who it is can still be read; the refusal's page reads once more

    def twice() -> Reading:
        return readings.pop() if readings else _fails()

    monkeypatch.setattr(Visit, "reading", property(lambda visit: twice()))
    answer = vera.get("/grants")
    assert (answer.status_code, "cannot be relied on" in answer.text) == (503, True)


def test_a_503_needs_no_template_either(founded_site: SiteWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> str:
        raise RuntimeError("templates are gone")

    browser = founded_site.client()
    monkeypatch.setattr(founded_site.site, "read", _fails)
    monkeypatch.setattr(founded_site.site.templates, "render", broken)
    answer = browser.post("/login", headers={"Origin": "https://evil.example"})
    assert answer.status_code in (500, 503)
    assert answer.headers["content-type"].startswith("text/plain")
