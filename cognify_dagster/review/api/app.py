"""Puts the API together: one FastAPI application, mounted at /api/v1.

Invariants: every route is an `ApiRoute`, so that it names its scope; whatever goes wrong is a problem document; the OpenAPI document
is the same for everybody and tells nothing about the workspace.
"""

from __future__ import annotations

import json
from functools import lru_cache
from typing import Any

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response

from cognify_dagster import __version__
from cognify_dagster.review.api import datasets, exports, external, findings, hooks, ledger, models
from cognify_dagster.review.api.problems import Problem, problem
from cognify_dagster.review.api.tokens import SCOPES
from cognify_dagster.review.site import Site

PREFIX = "/api/v1"
_ROUTERS = (models, findings, datasets, ledger, external, exports, hooks)
_DESCRIPTION = """What a governed workspace knows, for other systems: models, versions, packages, decisions, datasets, findings, entries and
proofs. Every request carries a token (`Authorization: Bearer cgn_…`) that a workspace admin made; no token can sign.

Lists have pages: `next_cursor` of one is `cursor` of the next, and all pages of a list show the ledger as the first did. Answers carry
an entity tag; with `If-None-Match` an unchanged answer is 304. Errors are RFC 9457 problem documents."""


def make_api(site: Site | None) -> FastAPI:
    """Return the API of a site; without one (to print the OpenAPI document) no route can be called."""
    api = FastAPI(
        title="cognify review API",
        version=_api_version(),
        description=_DESCRIPTION,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        servers=[{"url": PREFIX}],
        redirect_slashes=False,
        exception_handlers={HTTPException: _http_problem},
    )
    api.state.site = site
    for module in _ROUTERS:
        api.include_router(module.router)

    @api.get("/openapi.json", include_in_schema=False)
    def document() -> Response:
        return JSONResponse(openapi_document(), headers={"Cache-Control": "public, max-age=300"})

    return api


@lru_cache(maxsize=1)
def openapi_document() -> dict[str, Any]:
    """Return the OpenAPI 3.1 document."""
    found = make_api(None).openapi()
    parts = found["components"]
    parts["schemas"].pop("HTTPValidationError", None)
    parts["schemas"].pop("ValidationError", None)
    parts["schemas"] |= _schemas_of(Problem)
    parts["securitySchemes"] = {
        "token": {
            "type": "http", "scheme": "bearer", "bearerFormat": "cgn_…",
            "description": "Scopes: " + "; ".join(f"`{name}`: {text}" for name, text in SCOPES.items()),
        }
    }  # fmt: skip
    named = parts.setdefault("responses", {})
    for operations in found["paths"].values():
        for operation in operations.values():
            for status, response in operation["responses"].items():
                if status == "304":
                    response.pop("content", None)
                if status >= "304":
                    named[f"Status{status}"] = response
                    operation["responses"][status] = {"$ref": f"#/components/responses/Status{status}"}
    return json.loads(json.dumps(found))  # type: ignore[no-any-return]


def openapi_text() -> str:
    """Return the document as it is kept in docs/openapi.json."""
    return json.dumps(openapi_document(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


def _schemas_of(model: Any) -> dict[str, Any]:
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    parts = schema.pop("$defs", {})
    return {**parts, model.__name__: schema}


async def _http_problem(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    codes = {404: "not-found", 405: "method"}
    title = {404: "There is nothing here; see /api/v1/openapi.json.", 405: "This method is not allowed here."}
    text = title.get(error.status_code, str(error.detail))
    headers = dict(error.headers or {})
    return problem(error.status_code, text, codes.get(error.status_code, "refused"), headers=headers)


def _api_version() -> str:
    return "1." + __version__.partition("+")[0]
