"""A ledger that does not verify: what it holds is not shown, nothing is signed on it, and everybody is told so."""

from __future__ import annotations

import pytest

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
