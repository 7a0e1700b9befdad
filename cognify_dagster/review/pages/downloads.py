"""Downloads of a version: package, copies, model card, bill of materials, proof, and the whole bundle.

Invariants: what is given are the bytes of evidence, verified against the digest in the ledger, or made from them; each download stands
with its digest in the access log; a download writes nothing to the ledger.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from starlette.responses import Response

from cognify_dagster.documents import DocumentError
from cognify_dagster.documents.html.recorded import package_page
from cognify_dagster.documents.outputs.making import json_text, make_bom
from cognify_dagster.records import EvidenceItem, FinalCopy, Package
from cognify_dagster.review.access.scope import require_readable
from cognify_dagster.review.errors import Refused, not_found
from cognify_dagster.review.pages.bundles import give_bundle
from cognify_dagster.review.pages.ledger import MAX_EVIDENCE, proof_text, read_evidence
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Recorded

_JSON, _PDF, _TEXT = "application/json", "application/pdf", "text/plain; charset=utf-8"
Chosen = Recorded[Package]


@page("/models/{model}/{version}/download/{what}", Need.READ)
def download(visit: Visit) -> Response:
    """Give a file of a version's package: the newest, or that of `revision`."""
    model, version, what = visit.param("model"), visit.param("version"), visit.param("what")
    visit.subject = f"model/{model[:80]}@{version[:50]}"
    visit.require_model(model)
    maker = _FILES.get(what)
    if maker is None:
        raise not_found(f"A file {what[:40]} of a version")
    package = _package(visit, model, version)
    name = f"{model}-{version}-{what}"
    if what == "bundle.zip":
        return _bundle(visit, package, name)
    data, media_type = maker(visit, package)
    visit.detail = f"{what} sha256:{hashlib.sha256(data).hexdigest()}"
    if what == "package.html":
        return Response(data, media_type=media_type, headers={"Content-Security-Policy": _FRAMELESS} | _attached(name))
    return visit.download(data, name, media_type)


_FRAMELESS = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; sandbox; frame-ancestors 'none'"


def _attached(name: str) -> dict[str, str]:
    return {"Content-Disposition": f'attachment; filename="{name}"'}


def _package(visit: Visit, model: str, version: str) -> Chosen:
    found = visit.reading.all(Package, f"model/{model}@{version}")
    revision = visit.query("revision")
    if revision:
        found = [item for item in found if str(item.record.revision) == revision]
    if not found:
        raise not_found(f"A package of {model[:80]} {version[:50]}")
    return found[-1]


# --- one function a file ---------------------------------------------------------------------------------------------


def _blob(visit: Visit, item: EvidenceItem | None, missing: str) -> bytes:
    if item is None:
        raise Refused(404, missing, "not-found")
    require_readable(visit, [item])
    if item.size > MAX_EVIDENCE:
        raise Refused(413, f"{item.name} has {item.size} bytes; copy it with: cognify evidence get {item.digest}")
    return read_evidence(visit, item.digest)


def _json(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    return _blob(visit, package.record.package, ""), _JSON


def _review(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    missing = "This package has no review copy as PDF. Read it on its page, or as package.html."
    return _blob(visit, package.record.review_copy, missing), _PDF


def _final(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    record = package.record
    copies = visit.reading.all(FinalCopy, f"model/{record.model}@{record.version}")
    mine = [item for item in copies if item.record.package_digest == record.package.digest]
    missing = "There is no final copy yet. It is made once the version is released, with the signature page."
    return _blob(visit, mine[-1].record.final_copy if mine else None, missing), _PDF


def _html(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    require_readable(visit, [package.record.package])
    try:
        return package_page(visit.workspace, visit.reading, package).encode(), "text/html; charset=utf-8"
    except DocumentError as error:
        raise Refused(409, f"The page cannot be made: {error}") from error


def _card(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    return _blob(visit, package.record.model_card, ""), "text/markdown; charset=utf-8"


def _proof(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    return proof_text(visit, package.seq).encode(), _TEXT


def _bom(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    record = package.record
    require_readable(visit, [record.package])
    newest = visit.reading.latest(Package, f"model/{record.model}@{record.version}")
    if newest is None or newest.seq != package.seq:
        raise Refused(409, "The bill of materials is made from the newest package; leave out the revision.")
    try:
        return json_text(make_bom(visit.workspace, visit.reading, record.model, record.version)).encode(), _JSON
    except DocumentError as error:
        raise Refused(409, f"The bill of materials cannot be made: {error}") from error


def _none(visit: Visit, package: Chosen) -> tuple[bytes, str]:
    raise AssertionError("bundles are files")


_FILES: dict[str, Callable[[Visit, Chosen], tuple[bytes, str]]] = {
    "package.json": _json, "review.pdf": _review, "final.pdf": _final, "package.html": _html, "model-card.md": _card,
    "proof.txt": _proof, "bom.json": _bom, "bundle.zip": _none,
}  # fmt: skip


def _bundle(visit: Visit, package: Chosen, name: str) -> Response:
    record = package.record
    newest = visit.reading.latest(Package, f"model/{record.model}@{record.version}")
    if newest is None or newest.seq != package.seq:
        raise Refused(409, "A bundle holds the newest package; leave out the revision.")
    return give_bundle(visit, record.model, record.version, name)
