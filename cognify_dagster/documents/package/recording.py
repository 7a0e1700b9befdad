"""Builds a version's package from the ledger, stores it with its copies as evidence and records it.

Invariants: the package describes the first n entries and never names its own; its bytes are in the evidence store before the
entry that names them; nothing new since the last package means no new package, so signatures are not voided for nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from cognify_dagster.documents.catalogues.objectives import load_objectives
from cognify_dagster.documents.catalogues.retention_table import load_retention_table
from cognify_dagster.documents.coverage.completeness import completeness
from cognify_dagster.documents.coverage.engine import CoverageReport, assess_coverage
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import VersionFacts, collect
from cognify_dagster.documents.frameworks.loading import Framework, load_framework
from cognify_dagster.documents.labels import STRENGTHS, words
from cognify_dagster.documents.outputs.bom import MEDIA_TYPE as BOM_MEDIA_TYPE
from cognify_dagster.documents.outputs.making import bom_of, json_text
from cognify_dagster.documents.outputs.model_card import render_model_card
from cognify_dagster.documents.package.building import build_package, without_approvals
from cognify_dagster.documents.package.parts import when
from cognify_dagster.documents.pdf.rendering import build_final_copy, render_pdf
from cognify_dagster.documents.pdf.seal import Seal, seal_pdf, sealed_by
from cognify_dagster.governance import Directory, SignOffPredicate, directory, policy_in_force
from cognify_dagster.ledger import canonical_json
from cognify_dagster.records import (
    AttestationMade,
    AttestationWithdrawn,
    DatasetSnapshot,
    Evaluation,
    FinalCopy,
    GateResult,
    ModelClassified,
    ModelRegistered,
    OverlapChecked,
    Package,
    PolicyAdopted,
    ReleaseGranted,
    ReleaseRefused,
    SectionApproved,
    SectionWritten,
    SignOff,
    SignOffRefused,
    TrainingRun,
)
from cognify_dagster.workspace import Reading, Recorded, Workspace, idempotency_key

_MAKES_STALE = (
    ModelRegistered,
    ModelClassified,
    DatasetSnapshot,
    OverlapChecked,
    TrainingRun,
    Evaluation,
    GateResult,
    PolicyAdopted,
    SectionWritten,
    SectionApproved,
    AttestationMade,
    AttestationWithdrawn,
)

_METHODS = {
    "S2": "signed in again at the company's sign-in service (OpenID Connect)",
    "S3": "personal software key (Ed25519)",
    "S4": "passkey (WebAuthn)",
}


#: The bill of materials that lies beside a package, made from it alone.
BOM_FILE = "bom.cdx.json"


@dataclass(frozen=True)
class BuiltPackage:
    """A recorded package, its content, and whether it is the one that was there before."""

    recorded: Recorded[Package]
    content: dict[str, Any]
    reports: tuple[CoverageReport, ...]
    unchanged: bool


def build_and_record(
    workspace: Workspace,
    model: str,
    version: str,
    *,
    run: str,
    built_by: str,
    now: datetime,
    framework_folder: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> BuiltPackage:
    """Judge completeness, build the package and its copies, and record them.

    Args:
        workspace: where to read and write.
        model: model key.
        version: version id.
        run: root run id; a retry of the same run returns what it built before.
        built_by: person id of the builder, or "unattributed".
        now: moment of building, with time zone.
        framework_folder: folder of framework files that override the shipped ones; the workspace's setting unless given.
        progress: called with a sentence before each longer step.

    Raises:
        DocumentError: if the version is not trained and evaluated.
    """
    subject = f"model/{model}@{version}"
    framework_folder = framework_folder or workspace.config.frameworks
    reading = workspace.read()
    earlier = reading.all(Package, subject)
    if earlier and (earlier[-1].record.observed.get("run") == run or not package_stale(reading, earlier[-1])):
        return _existing(workspace, reading, earlier[-1], framework_folder)
    facts = collect(reading, model, version)
    if facts.training is None or facts.registered is None:
        raise DocumentError(f"{model} {version} has no sealed training run; there is nothing to package")
    if facts.evaluation is None:
        raise DocumentError(f"{model} {version} has no evaluation; evaluate it before packaging")
    frameworks = [load_framework(name, framework_folder) for name in facts.registered.record.frameworks]
    _record_completeness(workspace, reading, facts, frameworks)
    reading = workspace.read()
    facts = collect(reading, model, version)
    reports = tuple(assess_coverage(without_approvals(facts), framework, now) for framework in frameworks)
    progress("building the package")
    content = build_package(
        facts,
        frameworks=frameworks,
        now=now,
        revision=len(earlier) + 1,
        evidence=workspace.evidence.get,
        objectives=load_objectives(framework_folder),
        retention=load_retention_table(framework_folder),
    )
    record = _store(workspace, facts, content, reports, run=run, built_by=built_by, progress=progress)
    key = idempotency_key("package", model, version, run)
    seq = workspace.append(record, idem=key, checkpoint=True).seq
    recorded = next(item for item in workspace.read().all(Package, subject) if item.seq == seq)
    return BuiltPackage(recorded, content, reports, unchanged=False)


def _store(
    workspace: Workspace,
    facts: VersionFacts,
    content: dict[str, Any],
    reports: tuple[CoverageReport, ...],
    *,
    run: str,
    built_by: str,
    progress: Callable[[str], None],
) -> Package:
    training, evaluation = facts.training, facts.evaluation
    assert training is not None
    assert evaluation is not None
    assert facts.policy is not None
    body = canonical_json(content)
    progress("setting the review copy")
    review = render_pdf(content, copy="review", package_sha256=hashlib.sha256(body).hexdigest())
    card = render_model_card(content).encode()
    return Package(
        model=facts.model,
        version=facts.version,
        revision=content["revision"],
        package=workspace.put("package.json", body, "application/json"),
        review_copy=workspace.put("review-copy.pdf", review, "application/pdf"),
        model_card=workspace.put("model-card.md", card, "text/markdown"),
        other=(workspace.put(BOM_FILE, json_text(bom_of(workspace, content)).encode(), BOM_MEDIA_TYPE),),
        model_digest=training.record.model_file.digest,
        training_seq=training.seq,
        evaluation_seq=evaluation.seq,
        dataset_seqs=tuple(sorted({item.ref.seq for item in facts.all_datasets()})),
        policy_digest=facts.policy.digest,
        coverage=tuple(report.summary() for report in reports),
        built_by=built_by,
        built_from_size=facts.size,
        observed={"run": run},
    )


def package_stale(reading: Reading, package: Recorded[Package]) -> bool:
    """Return whether anything that the package tells of has a newer entry."""
    record = package.record
    version = f"model/{record.model}@{record.version}"
    subjects = {version, f"model/{record.model}", "policy"}
    for item in reading.history(version):
        if isinstance(item.record, TrainingRun):
            subjects |= {f"dataset/{ref.name}" for ref in item.record.datasets}
    for subject in subjects:
        for item in reading.history(subject):
            if item.seq < record.built_from_size or not isinstance(item.record, _MAKES_STALE):
                continue
            if getattr(item.record, "version", record.version) != record.version:
                continue
            if getattr(item.record, "about", subject) not in subjects:
                continue  # an attestation about another version of the model
            if isinstance(item.record, (DatasetSnapshot, OverlapChecked)):
                continue  # the version keeps the snapshots it was trained on; newer ones belong to newer versions
            return True
    return False


def _existing(workspace: Workspace, reading: Reading, package: Recorded[Package], folder: Path | None) -> BuiltPackage:
    import json

    content = json.loads(workspace.evidence.get(package.record.package.digest))
    facts = collect(reading, package.record.model, package.record.version)
    names = facts.registered.record.frameworks if facts.registered else ()
    now = datetime.fromisoformat(content["created"].replace("Z", "+00:00"))
    reports = tuple(assess_coverage(without_approvals(facts), load_framework(name, folder), now) for name in names)
    return BuiltPackage(package, content, reports, unchanged=True)


def _record_completeness(
    workspace: Workspace, reading: Reading, facts: VersionFacts, frameworks: Sequence[Framework]
) -> None:
    """Gate "completeness": the human-authored sections that the policy demands are there."""
    policy = policy_in_force(reading).policy
    result = completeness(facts, policy, frameworks)
    names = [f"{item.metric}:{item.status}" for item in result.outcomes]
    key = idempotency_key("gate_result", facts.model, facts.version, "completeness", *result.based_on, *names)
    workspace.append(result, idem=key)


def record_final_copy(workspace: Workspace, model: str, version: str) -> Recorded[FinalCopy] | None:
    """Render and record the copy with the signature page; None if there is no package. Doing it again changes nothing."""
    subject = f"model/{model}@{version}"
    reading = workspace.read()
    package = reading.latest(Package, subject)
    if package is None:
        return None
    digest = package.record.package.digest
    signed = [item for item in reading.all(SignOff, subject) if item.record.package_digest == digest]
    done = [item for item in reading.all(FinalCopy, subject) if item.record.package_digest == digest]
    granted = [item for item in reading.all(ReleaseGranted, subject) if item.record.package_digest == digest]
    without = [item for item in granted if item.record.waived]
    if done and done[-1].seq > max((item.seq for item in (*signed, *without)), default=-1):
        return done[-1]
    body = workspace.evidence.get(digest)
    people = directory(reading)
    seal = workspace.config.seal
    pdf = build_final_copy(
        body,
        signature_rows(reading, signed, people),
        refusals=refusal_rows(reading, subject, people),
        waived=waived_stages(without),
        sealed_by=sealed_by(seal.certificate) if seal is not None else "",
    )
    if seal is not None:
        pdf = seal_pdf(pdf, Seal(seal.key, seal.certificate, seal.chain, seal.tsa))
    record = FinalCopy(
        model=model,
        version=version,
        package_digest=digest,
        final_copy=workspace.put("final-copy.pdf", pdf, "application/pdf"),
        sealed=seal is not None,
    )
    key = idempotency_key("final_copy", digest, *(item.seq for item in (*signed, *without)))
    seq = workspace.append(record, idem=key).seq
    return next(item for item in workspace.read().all(FinalCopy, subject) if item.seq == seq)


def waived_stages(grants: Sequence[Recorded[ReleaseGranted]]) -> dict[str, str]:
    """Return the stages that releases went without, each with a sentence that says by what."""
    found: dict[str, str] = {}
    for item in grants:
        record = item.record
        acts = [f"the change plan of entry {record.plan_seq}"] if record.plan_seq is not None else []
        acts += [f"the break-glass act of entry {record.order_seq}"] if record.purpose == "break_glass" else []
        text = f"Not signed: waived by {' and '.join(acts)} for the release on {record.target} (entry {item.seq})."
        found |= dict.fromkeys(record.waived, text)
    return found


def refusal_rows(reading: Reading, subject: str, people: Directory) -> list[dict[str, Any]]:
    """Return refused sign-offs and deployments of a version as the final copy lists them, in order of entry."""
    rows = []
    for item in reading.history(subject):
        record = item.record
        if isinstance(record, SignOffRefused):
            what = f"{people.name(record.person)}'s sign-off at stage {record.stage} ({words(record.decision)})"
            reasons = list(record.reasons)
        elif isinstance(record, ReleaseRefused):
            what = f"deployment on {record.target}, requested by {people.name(record.requested_by)}"
            reasons = [reason.text for reason in record.reasons]
        else:
            continue
        rows.append({"entry_seq": item.seq, "time": when(item), "what": what, "reasons": reasons})
    return rows


def signature_rows(reading: Reading, signed: list[Recorded[SignOff]], people: Directory) -> list[dict[str, Any]]:
    """Return what the signature page shows of each sign-off, as JSON values, in order of entry."""
    from cognify_dagster.governance import check_sign_off

    rows = []
    for item in signed:
        predicate = check_sign_off(item, reading, people)
        if isinstance(predicate, str):
            continue
        rows.append(
            {
                "name": predicate.printed_name,
                "role": predicate.role,
                "stage": predicate.stage,
                "decision": predicate.decision,
                "meaning": predicate.meaning,
                "comments": predicate.comments,
                "conditions": [condition.model_dump(mode="json") for condition in predicate.conditions],
                "signed_at": predicate.signed_at,
                "recorded_at": when(item),
                "expires": predicate.expires,
                "method": _METHODS.get(item.record.strength, words(STRENGTHS.get(item.record.strength, "unknown"))),
                "level": item.record.strength,
                "person": predicate.person,
                "on_behalf_of": _behalf(predicate, people),
                "key_id": predicate.key_id,
                "statement_sha256": item.record.statement_digest,
                "entry_seq": item.seq,
                "entry_leaf": item.leaf,
            }
        )
    return rows


def _behalf(predicate: SignOffPredicate, people: Directory) -> dict[str, Any] | None:
    """Say for whom a delegate signed, and which entry allowed it."""
    found = predicate.on_behalf_of
    if found is None:
        return None
    return {"person": found.person, "name": people.name(found.person), "entry_seq": found.delegation.entry_seq}
