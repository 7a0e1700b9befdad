"""Errors as RFC 9457 problem documents (application/problem+json), for everything that goes wrong under /api/v1."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import JSONResponse, Response

MEDIA_TYPE = "application/problem+json"


class FieldError(BaseModel):
    """What is wrong with one field."""

    model_config = ConfigDict(extra="forbid")
    field: str
    text: str


class Problem(BaseModel):
    """An RFC 9457 problem. `type` is stable, for programs; `title` is for people."""

    model_config = ConfigDict(extra="forbid")
    type: str = Field(examples=["urn:cognify:problem:not-found"])
    title: str
    status: int
    errors: list[FieldError] | None = None


_TITLES = {
    400: "The request cannot be understood (a cursor of another list, a wrong page size).",
    401: "A valid token is needed.",
    403: "The token lacks the scope.",
    404: "There is no such thing.",
    405: "The method is not allowed here.",
    409: "It contradicts what is recorded.",
    413: "The body is too large.",
    422: "A value is wrong; `errors` names the fields.",
    500: "The site failed. Nothing was half-done.",
    503: "The ledger cannot be read or written now.",
}


def problem(
    status: int, title: str, code: str, errors: list[FieldError] | None = None, headers: dict[str, str] | None = None
) -> Response:
    """Return a problem document."""
    body = Problem(type=f"urn:cognify:problem:{code}", title=title, status=status, errors=errors)
    return JSONResponse(body.model_dump(exclude_none=True), status, headers=headers, media_type=MEDIA_TYPE)


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return how OpenAPI describes these statuses."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _TITLES[status], "content": {MEDIA_TYPE: {"schema": schema}}} for status in statuses
    }
