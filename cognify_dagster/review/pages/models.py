"""The inventory of models, and the page of one model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

from starlette.responses import Response

from cognify_dagster.review.errors import not_found
from cognify_dagster.review.reading.board import board_of
from cognify_dagster.review.reading.briefs import TONES
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.reading.inventory import SORTS, Wanted, as_csv, as_jsonl, listing, rows_of
from cognify_dagster.review.reading.model import model_page
from cognify_dagster.review.rendering import make_path
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit


def address(base: str, query: Mapping[str, Any], **more: Any) -> str:
    """Return a path of this site with query parameters; those that are None or empty are left out."""
    given = {name: str(value) for name, value in {**query, **more}.items() if value not in (None, "")}
    return base + ("?" + urlencode(given) if given else "")


def page_number(visit: Visit) -> int:
    """Return the page of a list that is asked for, 1 unless it is a sensible number."""
    text = visit.query("page")
    return max(1, int(text)) if text.isascii() and text.isdigit() and len(text) < 7 else 1


def _wanted(visit: Visit) -> Wanted:
    sort = visit.query("sort", "model")
    return Wanted(
        visit.query("q")[:200],
        visit.query("owner")[:200],
        visit.query("tier")[:80],
        visit.query("status")[:40],
        sort if sort in SORTS else "model",
        visit.query("down") == "1",
        page_number(visit),
    )


@page("/models", Need.READ)
def models(visit: Visit) -> Response:
    """Show the inventory."""
    snapshot = board_of(visit.site).current(visit.reading, visit.now)
    rows = rows_of(visit.site, snapshot, visit.user.sees if visit.user else lambda _: False)
    return visit.render(
        "models.html.j2",
        snapshot=snapshot,
        found=listing(rows, _wanted(visit)),
        known=len(rows),
        address=address,
        tones=TONES,
    )


@page("/models/export.csv", Need.READ)
def models_csv(visit: Visit) -> Response:
    """Return the inventory as CSV."""
    return _export(visit, "csv")


@page("/models/export.jsonl", Need.READ)
def models_jsonl(visit: Visit) -> Response:
    """Return the inventory as JSON lines."""
    return _export(visit, "jsonl")


def _export(visit: Visit, form: str) -> Response:
    snapshot = board_of(visit.site).current(visit.reading, visit.now)
    rows = rows_of(visit.site, snapshot, visit.user.sees if visit.user else lambda _: False)
    chosen = listing(rows, _wanted(visit), size=max(1, len(rows))).rows
    visit.detail = f"{len(chosen)} models, as of the first {snapshot.size} entries"
    text, kind = (as_csv(chosen), "text/csv") if form == "csv" else (as_jsonl(chosen), "application/jsonl")
    return visit.download(text.encode(), f"models.{form}", f"{kind}; charset=utf-8")


@page("/models/{model}", Need.READ)
def model(visit: Visit) -> Response:
    """Show one model."""
    name = visit.param("model")
    visit.require_model(name)
    visit.subject = f"model/{name}"
    if visit.query("version"):  # the form that compares two versions
        chosen, other = visit.query("version")[:50], visit.query("with")[:50]
        return visit.redirect(make_path("models", name, chosen, "compare", **{"with": other or None}))
    board = board_of(visit.site)
    snapshot = board.current(visit.reading, visit.now)
    found = model_page(visit, board, snapshot, name)
    if found is None:
        raise not_found(f"The model {name[:80]}")
    return visit.render(
        "model.html.j2", found=found, snapshot=snapshot, shelf=Shelf(visit), address=address, tones=TONES
    )
