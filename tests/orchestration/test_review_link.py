"""Dagster leads to the version's page on the review site, where cognify.toml names one."""

from __future__ import annotations

import dagster as dg
import pytest

from cognify_dagster.workspace import review_page
from tests.orchestration import project
from tests.orchestration.desk import Desk

PAGE = "https://review.bank.example/models/tiny/v1"
KEY = "cognify/review_page"


def name_site(desk: Desk, url: str = "https://review.bank.example/") -> None:
    """Name a review site in the workspace's settings."""
    with (desk.folder / "cognify.toml").open("a", encoding="utf-8") as stream:
        stream.write(f'\n[review]\nurl = "{url}"\n')


def test_the_failure_of_a_refused_deployment_leads_to_the_page(desk: Desk) -> None:
    name_site(desk)
    ran = desk.run([project.SERVICE])
    assert not ran.success
    assert f"The package and where it stands: {PAGE}\nWho is waited for signs with: cognify sign tiny v1" in ran.failure
    failures = [event for event in ran.events if event.is_step_failure]
    metadata = failures[0].step_failure_data.user_failure_data.metadata
    assert metadata[KEY] == dg.MetadataValue.url(PAGE)
    told = desk.instance.fetch_observations(dg.AssetKey(project.SERVICE), limit=1).records[0].asset_observation
    assert told is not None
    assert told.metadata[KEY] == dg.MetadataValue.url(PAGE)


def test_package_check_and_deployment_lead_to_the_page(desk: Desk) -> None:
    name_site(desk)
    built = desk.run(["tiny_package"])
    assert built.materialized["tiny_package"][KEY] == dg.MetadataValue.url(PAGE)
    assert built.checks["sign_off"].metadata[KEY] == dg.MetadataValue.url(PAGE)
    desk.approve()
    released = desk.run([project.SERVICE])
    assert released.success, released.failure
    assert released.materialized[project.SERVICE][KEY] == dg.MetadataValue.url(PAGE)


def test_without_a_site_nothing_is_linked(desk: Desk) -> None:
    ran = desk.run([project.SERVICE])
    assert "where it stands" not in ran.failure
    assert all(KEY not in str(event.event_specific_data) for event in ran.events)


@pytest.mark.parametrize("url", ["javascript:alert(1)", "ftp://x.example", "review.bank.example"])
def test_only_a_web_address_becomes_a_link(desk: Desk, url: str) -> None:
    name_site(desk, url)
    assert review_page(desk.workspace.config, "tiny", "v1") == ""


def test_names_cannot_leave_their_place_in_the_address(desk: Desk) -> None:
    name_site(desk)
    config = desk.workspace.config
    assert review_page(config, "a/../b", "1?x#y") == "https://review.bank.example/models/a%2F..%2Fb/1%3Fx%23y"
    assert review_page(config, "tiny") == "https://review.bank.example/models/tiny"
