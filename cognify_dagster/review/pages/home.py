"""The first page: what waits for who is signed in, and for whom others wait."""

from __future__ import annotations

from functools import partial

from starlette.responses import Response

from cognify_dagster.documents.labels import words
from cognify_dagster.review.pages.models import address, page_number
from cognify_dagster.review.reading.board import board_of
from cognify_dagster.review.reading.briefs import TONES, aged
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.reading.inbox import KINDS, inbox_of
from cognify_dagster.review.reading.items import NEAR, OVERDUE
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit

ROWS, FIRST = 50, 20
"""Rows on a page of a list, and of each kind of work on the first page."""
_HEADINGS = {
    **KINDS,
    "overdue": "Overdue",
    "soon": "Due within a week",
    "elsewhere": "Overdue elsewhere",
    "others": "What others wait for",
}


@page("/", Need.READ)
def home(visit: Visit) -> Response:
    """Show what waits; with `?kind=` one list of it alone, page by page: a kind of work, or a key of `_HEADINGS`."""
    snapshot = board_of(visit.site).current(visit.reading, visit.now)
    inbox = inbox_of(visit, snapshot)
    if visit.user is not None and visit.user.person is not None:
        visit.waiting = inbox.count  # the navigation says what the page says
    kind, number = visit.query("kind"), page_number(visit)
    chosen = inbox.rows(kind, visit.now)
    pages = max(1, -(-len(chosen) // ROWS))
    number = min(number, pages)
    return visit.render(
        "home.html.j2",
        snapshot=snapshot,
        shelf=Shelf(visit),
        inbox=inbox,
        overdue=len(inbox.pressing(OVERDUE, visit.now)),
        soon=len(inbox.pressing(NEAR, visit.now)),
        headings=_HEADINGS,
        kind=kind if chosen else "",
        rows=chosen[(number - 1) * ROWS : number * ROWS],
        first=FIRST,
        page=number,
        pages=pages,
        ages=partial(aged, now=visit.now),
        tones=TONES,
        words=words,
        address=address,
    )
