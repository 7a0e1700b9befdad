"""The receipt of a sign-off: its entry, the digest of the statement, the proof. Its address stays."""

from __future__ import annotations

import base64
import json

from starlette.responses import Response

from cognify_dagster.governance import GovernanceError, check_sign_off, directory
from cognify_dagster.records import Package, SignOff
from cognify_dagster.review.errors import not_found
from cognify_dagster.review.reading.files import Shelf
from cognify_dagster.review.routing import Need, page
from cognify_dagster.review.signing import flow
from cognify_dagster.review.signing.statements import DECISIONS, shown
from cognify_dagster.review.visit import Visit
from cognify_dagster.workspace import Recorded


@page("/models/{model}/{version}/receipt/{seq}", Need.READ)
def receipt(visit: Visit) -> Response:
    """Show a sign-off as it is recorded, and what comes next."""
    model, version = flow.version_of(visit)
    item = _sign_off(visit, model, version)
    people = directory(visit.reading)
    checked = check_sign_off(item, visit.reading, people)
    record = item.record
    predicate = None if isinstance(checked, str) else checked
    target = predicate.target_environments[0] if predicate and predicate.target_environments else "production"
    try:
        decision = flow.decision_of(visit, model, version, target)
    except GovernanceError:
        decision = None
    statement = base64.b64decode(record.envelope.payload)
    mine = visit.user is not None and visit.user.person == record.person
    packages = visit.reading.all(Package, f"model/{model}@{version}")
    package = next((one for one in packages if one.record.package.digest == record.package_digest), None)
    shelf = Shelf(visit)
    return visit.render(
        "receipt.html.j2",
        model=model,
        version=version,
        item=item,
        record=record,
        name=people.name(record.person),
        word=DECISIONS.get(record.decision, record.decision),
        problem=checked if isinstance(checked, str) else "",
        statement=shown(statement, people, strength=record.strength, to_signer=mine),
        decision=decision,
        package=package,
        files=shelf.of_package(package) if package is not None else None,
        proof=shelf.of_entry(item.seq),
        link=visit.site.url(visit.request.url.path),
    )


@page("/models/{model}/{version}/receipt/{seq}/envelope.json", Need.READ)
def receipt_envelope(visit: Visit) -> Response:
    """Hand out the signed envelope (DSSE), to be checked anywhere."""
    model, version = flow.version_of(visit)
    item = _sign_off(visit, model, version)
    data = json.dumps(item.record.envelope.model_dump(mode="json"), indent=2).encode() + b"\n"
    visit.detail = f"statement sha256:{item.record.statement_digest}"
    return visit.download(data, f"{model}-{version}-sign-off-{item.seq}.dsse.json", "application/json")


def _sign_off(visit: Visit, model: str, version: str) -> Recorded[SignOff]:
    text = visit.param("seq")
    seq = int(text) if text.isdecimal() and len(text) < 12 else -1
    item = visit.reading.find(SignOff, seq) if seq >= 0 else None
    if item is None or (item.record.model, item.record.version) != (model, version):
        raise not_found(f"A sign-off of this version with entry {text[:20]}")
    return item
