"""The package page: what people read before they sign."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from starlette.responses import Response

from cognify_dagster.governance import decide, directory
from cognify_dagster.governance.oversight.conditions import ENFORCED
from cognify_dagster.review.errors import not_found
from cognify_dagster.review.pages.models import address
from cognify_dagster.review.reading.board import Snapshot, board_of
from cognify_dagster.review.reading.briefs import TONES, main_target
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.reading.model import events_of
from cognify_dagster.review.reading.package import MINE_BEFORE, PackagePage, package_page
from cognify_dagster.review.reading.preparation import preparation_of
from cognify_dagster.review.reading.runs import runs_of
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.signing.shown import note_shown
from cognify_dagster.review.visit import Visit

_MINE = {"id": "since-mine", "title": "Changes since I last approved", "html": ""}


@dataclass(frozen=True)
class Shown:
    """A package page with what only its template needs."""

    page: PackagePage
    snapshot: Snapshot
    person: str | None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.page, name)

    @cached_property
    def parts(self) -> list[dict[str, Any]]:
        """The document's parts in order; for people with what changed since they last approved."""
        body = self.page.body
        found: list[dict[str, Any]] = [{"id": i, "title": t, "html": h} for i, t, h in (body.parts if body else ())]
        if self.person is not None and body is not None:
            place = next((n for n, part in enumerate(found) if part["title"] == MINE_BEFORE), len(found))
            found.insert(place, _MINE)
        return found

    @cached_property
    def others(self) -> list[str]:
        """Other versions with a package, the newest first."""
        known = self.snapshot.versions.get(self.page.model, ())
        return [item.version for item in known if item.package_seq is not None and item.version != self.page.version]

    @cached_property
    def counted(self) -> set[int]:
        """Entries of the sign-offs that fill a stage."""
        return {item.seq for row in self.page.stages for item in row.signed}


@page("/models/{model}/{version}", Need.READ)
def package(visit: Visit) -> Response:
    """Show a version's package."""
    model, version = visit.param("model"), visit.param("version")
    visit.require_model(model)
    reading, subject = visit.reading, f"model/{model}@{version}"
    if subject not in reading.view.heads:
        raise not_found(f"The version {version[:50]} of {model[:80]}")
    visit.subject = subject
    board = board_of(visit.site)
    snapshot = board.current(reading, visit.now)
    entry = visit.query("entry")
    target = visit.query("target")[:30] or main_target(board.targets(model))
    found = package_page(
        visit, snapshot, model, version, target, int(entry) if entry.isdecimal() and len(entry) < 16 else None
    )
    if found is None:
        if entry:
            raise not_found(f"A package of {model} {version} in entry {entry[:20]}")
        return _unpackaged(visit, model, version, target)
    visit.detail = found.digest
    if found.body is not None:
        note_shown(visit, found.digest)
    person = visit.user.person if visit.user is not None else None
    files = Shelf(visit).of_package(found.package)
    return visit.render(
        "package.html.j2", found=Shown(found, snapshot, person), files=files, tones=TONES, address=address
    )


def _unpackaged(visit: Visit, model: str, version: str, target: str) -> Response:
    """The page of a version without a package: how far it is, what is missing, who can do it."""
    reading, people = visit.reading, directory(visit.reading)
    decision = decide(reading, model, version, target, visit.now, enforces=ENFORCED)
    return visit.render(
        "unpackaged.html.j2",
        model=model,
        version=version,
        found=preparation_of(reading, people, model, version),
        reasons=decision.reasons,
        target=target,
        events=list(events_of(visit, people.name, model, version)),
        runs_of=runs_of,
    )
