"""Puts the site together: pages, REST API, static files, health."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from cognify_dagster.review.access.ends import EveryEnd, shown_path
from cognify_dagster.review.access.log import stop as stop_access_log
from cognify_dagster.review.background import Worker
from cognify_dagster.review.config import ReviewConfig
from cognify_dagster.review.dispatch import endpoint_of
from cognify_dagster.review.errors import ReviewError
from cognify_dagster.review.identity.oidc.config import oidc_config
from cognify_dagster.review.reminders.config import reminders_of
from cognify_dagster.review.rendering import STATIC, Templates
from cognify_dagster.review.routing import ROUTES, Need, PageRoute
from cognify_dagster.review.security.headers import SecurityHeaders
from cognify_dagster.review.security.limits import BodyLimits
from cognify_dagster.review.site import Site
from cognify_dagster.review.store import Store
from cognify_dagster.review.store.belonging import claim
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Workspace

if TYPE_CHECKING:
    from starlette.types import ASGIApp

PAGES = (
    "oidc", "oidc_admin",
    "home", "models", "package", "compare", "login", "health", "webhooks", "reminders", "invite", "account", "people",
    "sign", "receipt", "acts", "sections",
    "ledger", "policy", "datasets", "downloads", "bundles", "access", "grants", "tokens",
)  # fmt: skip
"""Modules of `review.pages` that declare routes."""
PARTS: tuple[str, ...] = (
    "collecting",
    "reading.preparing",
    "identity.tidying",
    "webhooks.jobs",
    "reminders.jobs",
    "access.anchoring",
    "access.verification",
)
"""Other modules of the room that declare routes or jobs."""


def open_site(workspace: Workspace, config: ReviewConfig) -> Site:
    """Open the site's database and templates.

    Raises:
        ReviewError: if the database cannot be opened, or belongs to another ledger.
    """
    oidc_config(config)  # a mistake in [review.oidc] is said at the start, not at the first sign-in
    reminders_of(workspace, config)  # as is one in [review.reminders] and [[notify]]
    store = Store(config.database)
    try:
        claim(store, workspace.origin)
    except ReviewError:
        store.close()
        raise
    return Site(config, workspace, store, Templates(config.templates))


def make_app(site: Site, *, jobs: bool = True) -> Starlette:
    """Return the ASGI application of a site.

    Args:
        site: what `open_site` returned.
        jobs: whether the work in the background runs in this process.
    """
    load_routes()

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        worker = Worker(site) if jobs else None
        if worker is not None:
            worker.start()
        try:
            yield
        finally:
            if worker is not None:
                worker.stop()
            stop_access_log(site)
            site.store.close()

    async def unknown(request: Request, _: Exception) -> Response:
        if request.url.path.startswith("/api/") or "application/json" in request.headers.get("accept", ""):
            problem = {"type": "urn:cognify:problem:not-found", "title": "There is nothing here.", "status": 404}
            return JSONResponse(problem, 404, media_type="application/problem+json")
        return await endpoint_of(_NOWHERE, site)(request)

    routes: list[BaseRoute] = [_static()]
    routes += [Route(item.path, endpoint_of(item, site), methods=list(item.methods), name=item.name) for item in ROUTES]
    api = _api(site)
    if api is not None:
        routes.append(Mount("/api/v1", api))
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={404: unknown},
        middleware=[
            Middleware(SecurityHeaders, secure=site.config.secure),
            Middleware(EveryEnd, site=site),
            Middleware(BodyLimits),
        ],
    )


def load_routes() -> None:
    """Import every module that declares routes or jobs."""
    for name in PAGES:
        importlib.import_module(f"cognify_dagster.review.pages.{name}")
    for name in PARTS:
        importlib.import_module(f"cognify_dagster.review.{name}")


def _nowhere(visit: Visit) -> Response:
    visit.subject = shown_path(visit.request.url.path)
    return visit.render("nowhere.html.j2", status=404)


_NOWHERE = PageRoute("", "nowhere", Need.PUBLIC, ("GET",), _nowhere, logged=False)


def _static() -> Mount:
    class Kept(StaticFiles):
        """Static files may be cached: their address changes with their content."""

        def file_response(self, *args, **kwargs) -> Response:  # type: ignore[no-untyped-def]
            response = super().file_response(*args, **kwargs)
            response.headers["Cache-Control"] = "public, max-age=31536000, immutable"
            return response

    return Mount("/static", Kept(directory=STATIC), name="static")


def _api(site: Site) -> ASGIApp | None:
    """The REST API, mounted at /api/v1."""
    from cognify_dagster.review.api.app import make_api

    return make_api(site)
