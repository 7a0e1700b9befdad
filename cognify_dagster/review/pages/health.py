"""Whether the process lives, and whether it can do its work. For load balancers: no words about the workspace."""

from __future__ import annotations

from starlette.responses import JSONResponse, PlainTextResponse, Response

from cognify_dagster.ledger import LedgerError
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit


@page("/healthz", Need.PUBLIC, logged=False)
def health(visit: Visit) -> Response:
    """Say that the process answers."""
    return PlainTextResponse("ok\n")


@page("/readyz", Need.PUBLIC, logged=False)
def ready(visit: Visit) -> Response:
    """Say whether the site's database answers and the ledger can be read and verified."""
    checks = {"database": visit.site.store.alive()}
    try:
        visit.reading  # noqa: B018  (reading verifies what is new)
        checks["ledger"] = True
    except (LedgerError, OSError):
        checks["ledger"] = False
    return JSONResponse(checks, 200 if all(checks.values()) else 503)
