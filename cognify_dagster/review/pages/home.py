"""The first page: what waits for who is signed in, and for whom others wait."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from cognify_dagster.review.pages.models import address, page_number
from cognify_dagster.review.reading.board import board_of
from cognify_dagster.review.reading.briefs import TONES, aged
from cognify_dagster.review.reading.inbox import KINDS, inbox_of
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit

ROWS, FIRST = 50, 20
"""Rows on a page of a list, and of each kind of work on the first page."""


@page("/", Need.READ)
def home(visit: Visit) -> Response:
    """Show what waits; with `?kind=` one kind of work alone, page by page, `others` for what others wait for."""
    snapshot = board_of(visit.site).current(visit.reading, visit.now)
    inbox = inbox_of(visit, snapshot)
    kind, number = visit.query("kind"), page_number(visit)
    chosen = inbox.others if kind == "others" else next((items for name, items in inbox.mine if name == kind), ())
    pages = max(1, -(-len(chosen) // ROWS))
    number = min(number, pages)
    return visit.render(
        "home.html.j2",
        snapshot=snapshot,
        inbox=inbox,
        kinds=KINDS,
        kind=kind if chosen else "",
        rows=chosen[(number - 1) * ROWS : number * ROWS],
        first=FIRST,
        page=number,
        pages=pages,
        ages=partial(aged, now=visit.now),
        tones=TONES,
        address=address,
    )
