"""The published OpenAPI document: it is the one in docs/, it is OpenAPI 3.1, and the site answers as it says, whatever it is asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    negative_data_rejection,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
    unsupported_method,
)

from cognify_dagster.review.api.app import make_api, openapi_document, openapi_text
from cognify_dagster.review.api.calls import ApiRoute
from cognify_dagster.review.api.tokens import Scope
from tests.governance.conftest import approved_template, founded_template, ready_template
from tests.governance.world import World, clone
from tests.review.api.conftest import make_token
from tests.review.site_world import SiteWorld, make_site_world

__all__ = ["approved_template", "founded_template", "ready_template"]
DOCUMENT = Path(__file__).parents[3] / "docs" / "openapi.json"
CHECKS = [
    not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance,
    response_headers_conformance, unsupported_method, negative_data_rejection,
]  # fmt: skip


def test_the_document_in_docs_is_the_one_that_the_site_serves(site_world: SiteWorld) -> None:
    """Write it anew with `python -m cognify_dagster.review.api > docs/openapi.json`."""
    assert DOCUMENT.read_text() == openapi_text()
    served = site_world.client().get("/api/v1/openapi.json")
    assert served.json() == json.loads(DOCUMENT.read_text())
    assert openapi_document()["openapi"].startswith("3.1")


def test_every_route_names_its_scope_and_its_errors() -> None:
    document = openapi_document()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["x-scope"] in {scope.value for scope in Scope} - {""}, path
            assert operation["security"] == [{"token": []}], path
            assert operation["description"], path
            assert {"401", "403", "422", "500"} <= set(operation["responses"]), path
            for status in (item for item in operation["responses"] if item >= "400"):
                response = document["components"]["responses"][f"Status{status}"]
                assert list(response["content"]) == ["application/problem+json"], (path, method, status)


def test_a_route_without_a_scope_cannot_be_declared() -> None:
    from fastapi import APIRouter

    router = APIRouter(route_class=ApiRoute)
    with pytest.raises(TypeError, match="scope"):
        router.get("/open")(lambda: None)


def test_the_api_itself_has_no_other_routes() -> None:
    paths = {getattr(route, "path", "") for route in make_api(None).routes} - {""}
    assert paths - set(openapi_document()["paths"]) <= {"/openapi.json"}


# --- whatever it is asked ---------------------------------------------------------------------------------------------


KNOWN = {"model": "credit_default", "version": "1", "dataset": "loans_train", "entry": 3}
OPERATIONS = [(path, method) for path, methods in openapi_document()["paths"].items() for method in methods]


@pytest.fixture(scope="module")
def asked(approved_template: World, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Any, dict[str, str]]]:
    world = make_site_world(clone(approved_template, tmp_path_factory.mktemp("asked") / "world"))
    world.world.snapshot("loans_train", "ef" * 32)
    token = make_token(world, "read", "read:personal", "external:write", "webhooks")
    yield schemathesis.openapi.from_asgi("/api/v1/openapi.json", world.app), {"Authorization": f"Bearer {token}"}
    world.site.store.close()


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_the_site_answers_as_the_document_says(asked: tuple[Any, dict[str, str]], path: str, method: str) -> None:
    """Generated requests, some about what there is: no fault of the site, no undocumented status, type or member."""
    schema, headers = asked

    @settings(
        max_examples=4, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck),
        phases=[Phase.explicit, Phase.generate],
    )  # fmt: skip
    @given(case=schema[path][method].as_strategy())
    def ask(case: Any) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)
        if case.path_parameters:
            case.path_parameters = {name: KNOWN.get(name, value) for name, value in case.path_parameters.items()}
            case.call_and_validate(headers=headers, checks=CHECKS[:4])

    ask()
