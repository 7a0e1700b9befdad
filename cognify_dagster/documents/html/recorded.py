"""The page of a package that stands in a ledger, with the sign-offs it has so far, and the index of all packages."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cognify_dagster.documents.html.rendering import render_html, render_template
from cognify_dagster.documents.labels import STATUS_LABELS
from cognify_dagster.documents.package.building import read_package
from cognify_dagster.documents.package.parts import when
from cognify_dagster.documents.package.recording import refusal_rows, signature_rows, waived_stages
from cognify_dagster.documents.view.cleaning import clean, screen_text
from cognify_dagster.governance import directory
from cognify_dagster.records import DeploymentCompleted, FinalCopy, Package, ReleaseGranted, SignOff
from cognify_dagster.workspace import Reading, Recorded, Workspace

INDEX = "documents/packages.html.j2"


def package_page(workspace: Workspace, reading: Reading, package: Recorded[Package]) -> str:
    """Return the page of a recorded package: with its sign-offs once there is one, before that with open signatures.

    Raises:
        DocumentError: if the package cannot be shown.
    """
    subject = f"model/{package.record.model}@{package.record.version}"
    digest = package.record.package.digest
    content = read_package(workspace.evidence.get(digest))
    signed = signatures_of(reading, package)
    granted = [item for item in reading.all(ReleaseGranted, subject) if item.record.package_digest == digest]
    waived = waived_stages([item for item in granted if item.record.waived])
    if not signed and not waived:
        return render_html(content, package_sha256=digest)
    refusals = refusal_rows(reading, subject, directory(reading))
    return render_html(content, signed, refusals=refusals, waived=waived, package_sha256=digest)


def signatures_of(reading: Reading, package: Recorded[Package]) -> list[dict[str, Any]]:
    """Return the valid sign-offs on exactly this package, as the copies show them."""
    subject = f"model/{package.record.model}@{package.record.version}"
    mine = [s for s in reading.all(SignOff, subject) if s.record.package_digest == package.record.package.digest]
    return signature_rows(reading, mine, directory(reading))


def package_index(reading: Reading, model: str = "") -> list[dict[str, Any]]:
    """Return every recorded package, model by model, the newest first, with what has happened to it since.

    Args:
        reading: the ledger.
        model: only this model; empty for all.
    """
    found = list(_rows(reading, model))
    return sorted(found, key=lambda row: (row["model"], -row["entry"]))


def _rows(reading: Reading, model: str) -> Iterator[dict[str, Any]]:
    recorded = reading.all(Package, f"model/{model}" if model else None)
    newest = {(item.record.model, item.record.version): item.seq for item in recorded}
    for item in recorded:
        record = item.record
        subject = f"model/{record.model}@{record.version}"
        digest = record.package.digest
        final = [f for f in reading.all(FinalCopy, subject) if f.record.package_digest == digest]
        granted = {g.seq for g in reading.all(ReleaseGranted, subject) if g.record.package_digest == digest}
        deployed = [d for d in reading.all(DeploymentCompleted, subject) if d.record.grant_seq in granted]
        yield {
            "model": record.model,
            "version": record.version,
            "revision": record.revision,
            "newest": newest[record.model, record.version] == item.seq,
            "entry": item.seq,
            "describes": record.built_from_size,
            "time": when(item),
            "digest": digest,
            "model_digest": record.model_digest,
            "signatures": len({s["person"] for s in signatures_of(reading, item)}),
            "final_copy": final[-1].record.final_copy.digest if final else None,
            "deployed_on": list(dict.fromkeys(d.record.target for d in deployed)),
            "coverage": [
                {"framework": part.framework, "law": dict(part.law), "guidance": dict(part.guidance)}
                for part in record.coverage
            ],
        }


def index_page(reading: Reading, rows: list[dict[str, Any]]) -> str:
    """Return the index of packages as a page.

    Raises:
        DocumentError: if the template fails.
    """
    models: dict[str, list[dict[str, Any]]] = {}
    for row in clean(rows, screen_text):
        models.setdefault(row["model"], []).append(row)
    head = {"origin": reading.origin, "size": reading.size, "trial": reading.trial}
    return render_template(
        INDEX, None, models=models, ledger=clean(head, screen_text), charts={}, qr="", labels=STATUS_LABELS
    )
