"""Makes the documents from an opened workspace: finds the record, the package and the evidence that each one needs.

Invariants: it writes nothing; a document is made from the package that was recorded and would be signed, never from a new one; evidence
that is named by the record is read through the store, which verifies its digest.
"""

from __future__ import annotations

import json
from typing import Any, Literal

from cognify_dagster.datasets import read_file_manifest
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import collect
from cognify_dagster.documents.outputs.bom import Spec, cyclonedx_bom
from cognify_dagster.documents.outputs.content import Document, as_json
from cognify_dagster.documents.outputs.croissant import croissant
from cognify_dagster.documents.outputs.markdown import render_markdown
from cognify_dagster.documents.outputs.page import render_page
from cognify_dagster.documents.outputs.provenance import Snapshot
from cognify_dagster.documents.outputs.slsa import sign_statement, slsa_statement
from cognify_dagster.documents.package.building import read_package
from cognify_dagster.evaluation.pins import environment_pins
from cognify_dagster.evidence import EvidenceError
from cognify_dagster.records import DatasetSnapshot, Package, TrainingRun
from cognify_dagster.workspace import Reading, Recorded, Workspace, unknown_version

Json = dict[str, Any]
Format = Literal["md", "html", "json"]


def newest_package(workspace: Workspace, reading: Reading, model: str, version: str) -> tuple[Recorded[Package], Json]:
    """Return the newest package of a version, as recorded, and its content.

    Raises:
        DocumentError: if there is none, or its bytes are no package.
    """
    found = reading.latest(Package, f"model/{model}@{version}")
    if found is None:
        raise DocumentError(
            unknown_version(reading, model, version)
            or f"{model} {version} has no package yet, and this document is made from it; see `cognify status {model}`"
        )
    return found, read_package(workspace.evidence.get(found.record.package.digest))


def make_bom(workspace: Workspace, reading: Reading, model: str, version: str, *, spec: Spec = "1.6") -> Json:
    """Return the bill of materials of a version's newest package, as `bom_of` does.

    Raises:
        DocumentError: if the version has no package.
    """
    return bom_of(workspace, newest_package(workspace, reading, model, version)[1], spec=spec)


def bom_of(workspace: Workspace, content: Json, *, spec: Spec = "1.6") -> Json:
    """Return the bill of materials of a package; where the list of installed packages cannot be read, it says so and has none."""
    run = content["training"]
    if run is None:
        return cyclonedx_bom(content, None, problem="no sealed training run is on record", spec=spec)
    environment = run["environment"]
    try:
        detail = workspace.evidence.get(environment["detail"]["digest"])
    except EvidenceError as error:
        return cyclonedx_bom(content, None, problem=str(error), spec=spec)
    pins = environment_pins(detail, environment["packages_digest"])
    if pins.problems:
        return cyclonedx_bom(content, None, problem="; ".join(pins.problems), spec=spec)
    return cyclonedx_bom(content, [(pin.name, pin.version, pin.files_sha256) for pin in pins.pins], spec=spec)


def make_croissant(workspace: Workspace, reading: Reading, item: Snapshot) -> Json:
    """Return a snapshot as Croissant metadata.

    Raises:
        DocumentError: if its profile is no JSON object.
        ManifestError: if its file manifest is damaged.
    """
    record = item.record
    try:
        profile = json.loads(workspace.evidence.get(record.profile.digest))
    except ValueError as error:
        raise DocumentError(
            f"the profile {record.profile.digest} of dataset/{record.name} is no JSON: {error}"
        ) from error
    files = read_file_manifest(workspace.evidence.get(record.manifest.digest))
    roots = list(dict.fromkeys(one.record.root for one in reading.all(DatasetSnapshot, f"dataset/{record.name}")))
    return croissant(
        item,
        files,
        profile if isinstance(profile, dict) else {},
        number=roots.index(record.root) + 1,
        trial=reading.trial,
    )


def make_slsa(workspace: Workspace, reading: Reading, model: str, version: str, *, sign: bool = False) -> Json:
    """Return the SLSA provenance of a version's training run, or with `sign` a DSSE envelope over it by this workspace's workload.

    Raises:
        DocumentError: if the version has no sealed training run, or there is no workload key to sign with, or another workload than
            the one that sealed the run would sign.
    """
    known = collect(reading, model, version)
    statement = slsa_statement(known)
    if not sign:
        return statement
    writer, run = workspace.writer, known.training
    if writer is None or run is None or not isinstance(run.record, TrainingRun):
        raise DocumentError("this process has no workload key, so it cannot sign; run it where the keys are")
    if run.actor != writer.workload:
        raise DocumentError(f"the run was sealed by {run.actor}; {writer.workload} cannot sign for it")
    return sign_statement(statement, writer.key_id, writer.sign)


def render(document: Document, form: Format) -> str:
    """Return a document as Markdown, as a web page or as JSON."""
    if form == "json":
        return json_text(as_json(document))
    markdown = render_markdown(document)
    return markdown if form == "md" else render_page(markdown, document.title)


def json_text(value: Json) -> str:
    """Return JSON for a file: indented, in the order of the document, ended by a line feed."""
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
