"""Records of one workspace are invisible in another, though the same people are enrolled in both and both sites run side by side."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cognify_dagster.review.app import open_site
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.identity.accounts import set_password_hash
from cognify_dagster.review.identity.passwords import hash_password
from cognify_dagster.review.store import Store
from cognify_dagster.review.store.belonging import claim
from cognify_dagster.review.store.sessions import find_session
from cognify_dagster.review.visit import cookie_name
from tests.governance.world import MODEL, World, clone
from tests.review.api.conftest import make_token
from tests.review.site_world import URL, Client, SiteWorld, make_site_world

PASSWORD = "seven owls in a barn"


@pytest.fixture
def other(founded_template: World, tmp_path: Path) -> Iterator[SiteWorld]:
    """The same people, another ledger, no model; its site runs on the same host under another port."""
    found = make_site_world(clone(founded_template, tmp_path / "other"), url="http://localhost:3071", port=3071)
    yield found
    found.site.store.close()


def test_a_session_of_one_site_is_nothing_in_another(site_world: SiteWorld, other: SiteWorld) -> None:
    here = site_world.client_for("ada")
    assert cookie_name(site_world.site) != cookie_name(other.site), "a browser sends cookies of a host to every port"
    assert here.get(f"/models/{MODEL}/1").status_code == 200
    there = Client(other.site, other.app, here.token)  # somebody copies it under the other's name
    for path in ("/", "/models", f"/models/{MODEL}/1", "/ledger", "/access", "/people"):
        answer = there.get(path)
        assert (answer.status_code, answer.headers["location"].partition("?")[0]) == (303, "/login")
    with other.site.store.begin() as connection:
        assert find_session(connection, here.token, int(time.time()), 10**9) is None


def test_a_token_and_a_password_of_one_site_open_nothing_in_another(site_world: SiteWorld, other: SiteWorld) -> None:
    headers = {"Authorization": f"Bearer {make_token(site_world, 'read')}"}
    assert site_world.client().get("/api/v1/models", headers=headers).status_code == 200
    assert other.client().get("/api/v1/models", headers=headers).status_code == 401
    account = site_world.account("ada").id
    with site_world.site.store.begin() as connection:
        set_password_hash(connection, account, hash_password(PASSWORD))
    other.account("ada")
    assert site_world.client().submit("/login", login="ada", password=PASSWORD).status_code == 303
    assert other.client().submit("/login", login="ada", password=PASSWORD).status_code == 403


def test_the_same_admin_sees_in_each_only_what_is_its_own(site_world: SiteWorld, other: SiteWorld) -> None:
    assert MODEL in site_world.client_for("ada").get("/models").text
    there = other.client_for("ada")
    for path in ("/", "/models", "/models/export.csv", "/datasets", "/ledger", "/acts", "/access"):
        assert MODEL not in there.get(path).text, path
    for path in (f"/models/{MODEL}", f"/models/{MODEL}/1", f"/models/{MODEL}/1/download/package.json"):
        assert there.get(path).status_code == 404
    headers = {"Authorization": f"Bearer {make_token(other, 'read')}"}
    assert other.client().get("/api/v1/models", headers=headers).json()["items"] == []
    assert MODEL not in other.client().get("/api/v1/exports/versions?format=csv", headers=headers).text


def test_a_database_serves_one_ledger_alone(site_world: SiteWorld, tmp_path: Path) -> None:
    """Were it shared, the sessions of one ledger's Ada would be those of the other's."""
    url = f"sqlite:///{tmp_path / 'shared.sqlite'}"
    store = Store(url)
    claim(store, "other.example/ledger")
    claim(store, "other.example/ledger")
    store.close()
    with pytest.raises(ReviewError, match=r"belongs to the ledger other\.example/ledger"):
        open_site(site_world.world.workspace, ReviewConfig(url=URL, database=url))
