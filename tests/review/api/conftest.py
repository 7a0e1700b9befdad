"""Calls of the API with a token of the scopes that a test names."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest

from cognify_dagster.review.api.tokens import create_token
from tests.review.site_world import SiteWorld

PREFIX = "/api/v1"
Api = Callable[..., Any]


def make_token(world: SiteWorld, *scopes: str, by: str = "ada", days: int = 30, at: float | None = None) -> str:
    """Return a token made by an admin."""
    now = int(time.time() if at is None else at)
    with world.site.store.begin() as connection:
        text, _ = create_token(
            connection, world.site.read(), name="tests", scopes=scopes, days=days, by=f"person/{by}", now=now
        )
    return text


@pytest.fixture
def api(site_world: SiteWorld) -> Api:
    """`api("/models")` asks with a token of scope read; `scopes=…`, `token=…`, `method=…`, `json=…`, `headers=…` as named."""
    made: dict[tuple[str, ...], str] = {}
    client = site_world.client()

    def ask(path: str, *, scopes: tuple[str, ...] = ("read",), token: str | None = None, **settings: Any) -> Any:
        if token is None:
            token = made.setdefault(scopes, "") or make_token(site_world, *scopes)
            made[scopes] = token
        headers = {"Authorization": f"Bearer {token}"} | settings.pop("headers", {})
        method = settings.pop("method", "POST" if "json" in settings else "GET")
        return client.request(method, PREFIX + path, headers=headers, **settings)

    return ask
