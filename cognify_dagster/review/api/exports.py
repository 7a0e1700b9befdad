"""Tables for a GRC database over HTTP; see `tables`."""

from __future__ import annotations

import json
from typing import Annotated, Literal

from fastapi import APIRouter, Path, Query
from starlette.responses import Response, StreamingResponse

from cognify_dagster.review.api.calls import ApiRoute, needs
from cognify_dagster.review.api.models import READ, Called
from cognify_dagster.review.api.tables import FORMATS, TABLES, Source, lines_of, rows_of, schema_json
from cognify_dagster.review.api.tokens import Scope

router = APIRouter(route_class=ApiRoute)
TableName = Annotated[
    Literal["inventory", "versions", "decisions", "findings", "sign_offs", "external_decisions"], Path()
]
Format = Annotated[
    Literal["csv", "jsonl", "sql"], Query(description="csv marks what a spreadsheet takes for a formula")
]
_FILES = {
    200: {
        "description": "The table.",
        "content": {media_type: {"schema": {"type": "string"}} for media_type in FORMATS.values()},
    }
}


_SCHEMA = {200: {"description": "Tables and columns.", "content": {"application/json": {"schema": {"type": "object"}}}}}


@router.get(
    "/exports",
    tags=["exports"],
    response_class=Response,
    openapi_extra=needs(Scope.READ),
    responses=READ["responses"] | _SCHEMA,
)
def list_exports(call: Called) -> Response:
    """Return the schema of the tables: columns, types, what they mean."""
    data = json.dumps(schema_json(), ensure_ascii=False).encode()
    call.set_tag(data.decode())
    return call.respond(data, "application/json")


@router.get(
    "/exports/{table}",
    tags=["exports"],
    response_class=Response,
    openapi_extra=needs(Scope.READ),
    responses=READ["responses"] | _FILES,
)
def get_export(call: Called, table: TableName, format: Format = "jsonl") -> Response:
    """Return a whole table as CSV, JSON lines or SQL, row by row, as of now."""
    found = TABLES[table]
    source = Source(call.site, call.reading, call.visit.now, call.personal)
    call.visit.subject = f"export/{table}"
    lines = lines_of(found, format, rows_of(found, source), source)
    headers = {
        "Content-Disposition": f'attachment; filename="{table}.{format}"',
        "X-Cognify-Size": str(call.reading.size),
        "Cache-Control": "private, no-store",
    }
    return StreamingResponse((line.encode() for line in lines), media_type=FORMATS[format], headers=headers)
