"""Two versions of a model side by side."""

from __future__ import annotations

from starlette.responses import Response

from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.review.errors import not_found
from cognify_dagster.review.pages.models import address
from cognify_dagster.review.reading.board import board_of
from cognify_dagster.review.reading.briefs import TONES
from cognify_dagster.review.reading.comparison import Comparison, compare, packages_of
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.reading.runs import runs_of
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit


@page("/models/{model}/{version}/compare", Need.READ)
def compare_versions(visit: Visit) -> Response:
    """Show what is different between a version and another."""
    model, version, other = visit.param("model"), visit.param("version"), visit.query("with")[:50]
    visit.require_model(model)
    reading, subject = visit.reading, f"model/{model}@{version}"
    mine = packages_of(reading, model, version) if subject in reading.view.heads else ()
    if not mine:
        raise not_found(f"A package of {model[:80]} {version[:50]}")
    visit.subject = subject
    snapshot = board_of(visit.site).current(reading, visit.now)
    known = [item.version for item in snapshot.versions.get(model, ()) if item.package_seq is not None]
    versions = [name for name in known if name != version]
    if not other:
        return visit.render("compare_pick.html.j2", model=model, version=version, versions=versions)
    theirs = packages_of(reading, model, other) if f"model/{model}@{other}" in reading.view.heads else ()
    if not theirs:
        raise not_found(f"A package of {model} {other}")
    before, after = theirs[-1], mine[-1]
    visit.detail = f"with {other}"
    found: Comparison | None = None
    problem = ""
    try:
        found = compare(visit.site, reading, before, after)
    except DocumentError as error:
        problem = str(error)
    shelf = Shelf(visit)
    sides = [
        {
            "version": name, "package": item, "state": _state(snapshot.version(model, name)),
            "files": shelf.of_package(item), "runs": runs_of(item.record, visit.site.config.dagster_url),
        }
        for name, item in ((other, before), (version, after))
    ]  # fmt: skip
    return visit.render(
        "compare.html.j2",
        model=model,
        version=version,
        other=other,
        versions=versions,
        sides=sides,
        found=found,
        problem=problem,
        tones=TONES,
        address=address,
    )


def _state(brief: object) -> str:
    return str(getattr(brief, "state", ""))
