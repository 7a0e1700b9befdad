"""The bundle of a version: whether the newest export tells everything, making a new one, and the file.

Invariant: only the form writes to the ledger; looking and downloading do not, however often.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import BinaryIO

from starlette.responses import Response, StreamingResponse

from cognify_dagster.governance import directory
from cognify_dagster.records import Package
from cognify_dagster.review.errors import Refused, not_found
from cognify_dagster.review.reading.bundles import bundle_file, export_now, export_state
from cognify_dagster.review.rendering import make_path
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit


@page("/models/{model}/{version}/bundle", Need.READ)
def bundle(visit: Visit) -> Response:
    """Show the newest export of a version, and offer to make one where it does not tell everything."""
    model, version = _packaged(visit)
    state = export_state(visit.reading, model, version)
    by = directory(visit.reading).name(state.export.record.exported_by) if state.export is not None else ""
    return visit.render("bundle.html.j2", model=model, version=version, state=state, by=by)


@page("/models/{model}/{version}/bundle", Need.READ, methods=("POST",))
def bundle_made(visit: Visit) -> Response:
    """Export the present state: an entry of the ledger, with who asked for it."""
    model, version = _packaged(visit)
    user = visit.user
    assert user is not None
    export_now(visit.site, model, version, user.person or "unattributed")
    return visit.redirect(make_path("models", model, version, "bundle"))


def give_bundle(visit: Visit, model: str, version: str, name: str) -> Response:
    """Return the file of the newest export; where that does not tell everything, lead to the page on which one is made."""
    state = export_state(visit.refresh(), model, version)
    if state.export is None or not state.current:
        if "application/json" in visit.request.headers.get("accept", ""):
            raise Refused(409, "No bundle tells the present state; a person makes one on the version's page.", "bundle")
        return visit.redirect(make_path("models", model, version, "bundle"))
    found = bundle_file(visit.site, state.export)
    visit.detail = f"bundle.zip {found.digest}"
    size, file = found.path.stat().st_size, found.path.open("rb")  # stays readable where it gives way meanwhile
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Content-Length": str(size)}
    return StreamingResponse(_chunks(file), media_type="application/zip", headers=headers)


def _packaged(visit: Visit) -> tuple[str, str]:
    """The model and version of the address, which have a package."""
    model, version = visit.param("model"), visit.param("version")
    visit.subject = f"model/{model[:80]}@{version[:50]}"
    visit.require_model(model)
    if visit.reading.latest(Package, f"model/{model}@{version}") is None:
        raise not_found(f"A package of {model[:80]} {version[:50]}")
    return model, version


def _chunks(file: BinaryIO) -> Iterator[bytes]:
    with file:
        while chunk := file.read(1 << 18):
            yield chunk
