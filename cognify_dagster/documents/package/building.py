"""The package: one canonical JSON document about one model version. Its SHA-256 is what people sign.

Invariants: the same facts, frameworks, time and evidence give the same bytes; the package names the ledger head it was built
from and never its own entry; every statement cites the entry it rests on; it fits `templates/schemas/package-v1.json`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cognify_dagster.documents.catalogues.objectives import Objectives, objectives_part
from cognify_dagster.documents.catalogues.retention_table import RetentionTable, load_retention_table
from cognify_dagster.documents.coverage.engine import CoverageReport, Line, assess_coverage, stated_facts
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.version import DatasetFact, VersionFacts
from cognify_dagster.documents.frameworks.loading import BASIS_TEXT, Framework, template_path
from cognify_dagster.documents.package.capture import experiments_part
from cognify_dagster.documents.package.changes import changes
from cognify_dagster.documents.package.dataset_changes import dataset_changes
from cognify_dagster.documents.package.distributions import ReadProfile, distributions
from cognify_dagster.documents.package.findings import findings
from cognify_dagster.documents.package.parts import (
    attestations_part,
    data_part,
    entry_of,
    evaluation_part,
    gates_part,
    overlap_part,
    profile_in_short,
    sections_part,
    stages_part,
    training_part,
)
from cognify_dagster.documents.package.registers import (
    earlier_decisions_part,
    events_part,
    evidence_part,
    lineage_part,
)
from cognify_dagster.documents.package.retention import retention_part
from cognify_dagster.documents.pdf.fonts import fonts_in_use
from cognify_dagster.ledger import canonical_json, parse_canonical
from cognify_dagster.records import to_json, utc

FORMAT = "cognify-package/v1"
SCHEMA = "schemas/package-v1.json"
TYPST_VERSION = "0.15.0"
MAX_PACKAGE_BYTES = 32 * 1024 * 1024


def build_package(
    facts: VersionFacts,
    *,
    frameworks: Sequence[Framework],
    now: datetime,
    revision: int,
    evidence: Callable[[str], bytes],
    objectives: Objectives | None = None,
    retention: RetentionTable | None = None,
) -> dict[str, Any]:
    """Build the package of a model version.

    Args:
        facts: what the ledger says, from `facts.collect`.
        frameworks: those to compare with, in the order of the document.
        now: the moment of building, with time zone.
        revision: 1 for the first package of the version, then counting.
        evidence: digest -> bytes, as `EvidenceStore.get`; it is read for the profiles of the data.
        objectives: what metrics are evidence for; the shipped table if left out.
        retention: rules on keeping records that no framework holds; the shipped ones if left out.

    Returns:
        JSON values. `canonical_json` of it is the package file; its SHA-256 the package digest.

    Raises:
        DocumentError: if the version is not registered, evidence cannot be read, or the package is too large.
    """
    if facts.registered is None:
        raise DocumentError(
            f"{facts.model}: the model is not registered; register it with owner, tier and intended use"
        )
    if revision < 1:
        raise DocumentError(f"revision {revision}: revisions count from 1")
    unsigned = without_approvals(facts)
    reports = [assess_coverage(unsigned, framework, now) for framework in frameworks]
    record = facts.registered.record
    wanted = [
        leaf.section for f in frameworks for item in f.requirements() for leaf in item.evidence.leaves() if leaf.section
    ]
    package: dict[str, Any] = {
        "format": FORMAT,
        "created": utc(now),
        "trial": facts.trial,
        "ledger": {"origin": facts.origin, "size": facts.size, "root": facts.root},
        "model": {
            "key": facts.model,
            "title": record.title,
            "owner": record.owner,
            "risk_tier": record.risk_tier,
            "frameworks": list(record.frameworks),
            "intended_use": record.intended_use,
            "protected_attributes": list(record.protected_attributes),
            "framework_facts": dict(record.framework_facts),
            "extra": dict(record.extra),
            "entry": entry_of(facts.registered),
        },
        "version": facts.version,
        "revision": revision,
        "previous_package": facts.package.record.package.digest if facts.package else None,
        "supersedes": facts.supersedes,
        "opened": entry_of(facts.opened) if facts.opened else None,
        "training": training_part(facts),
        "data": data_part(facts, evidence),
        "overlap": overlap_part(facts),
        "evaluation": evaluation_part(facts),
        "gates": gates_part(facts),
        "objectives": objectives_part(facts, frameworks, objectives),
        "required_stages": stages_part(facts),
        "coverage": [report_json(report, unsigned) for report in reports],
        "findings": findings(unsigned, reports),
        "lineage": lineage_part(facts),
        "changes": {
            **changes(facts),
            "datasets": dataset_changes(facts),
            "distributions": distributions(facts, _profiles(evidence)),
        },
        "sections": sections_part(facts, wanted),
        "attestations": attestations_part(facts, now),
        "retention": retention_part(facts, frameworks, retention or load_retention_table()),
        "evidence": evidence_part(facts),
        "events": events_part(facts),
        "earlier_decisions": earlier_decisions_part(facts),
        **experiments_part(facts),
        "tools": tools(),
    }
    package = to_json(package)
    data = canonical_json(package)
    if len(data) > MAX_PACKAGE_BYTES:
        raise DocumentError(
            f"the package has {len(data)} bytes; the limit is {MAX_PACKAGE_BYTES}. Move large evaluation tables into artefacts"
        )
    return package


def _profiles(evidence: Callable[[str], bytes]) -> ReadProfile:
    def read(item: DatasetFact) -> dict[str, Any]:
        assert item.snapshot is not None  # asked for recorded snapshots alone
        return profile_in_short(item.snapshot.record.profile, evidence)

    return read


def without_approvals(facts: VersionFacts) -> VersionFacts:
    """Return the facts as a package sees them: nobody can have signed a package that is being built."""
    return replace(facts, packages=(), sign_offs=())


def package_digest(package: dict[str, Any]) -> str:
    """Return `sha256:` and the hex digest over the canonical package bytes."""
    return "sha256:" + hashlib.sha256(canonical_json(package)).hexdigest()


def read_package(data: bytes) -> dict[str, Any]:
    """Read package bytes strictly.

    Raises:
        DocumentError: if they are not a canonical package of this format.
    """
    try:
        value = parse_canonical(data)
    except ValueError as error:
        raise DocumentError(f"the package is not canonical JSON: {error}") from error
    if not isinstance(value, dict) or value.get("format") != FORMAT:
        raise DocumentError(f"this is no package of format {FORMAT}")
    return value


def package_schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of the package."""
    schema: dict[str, Any] = json.loads(template_path(SCHEMA).read_text(encoding="utf-8"))
    return schema


def tools() -> dict[str, Any]:
    """Return versions and the render profile: typst, template digest, fonts."""
    try:
        release = version("cognify-dagster")
    except PackageNotFoundError:
        release = "checkout"
    template = hashlib.sha256(template_path("documents/package.typ").read_bytes()).hexdigest()
    return {
        "cognify_dagster": release,
        "render_profile": {
            "engine": f"typst {TYPST_VERSION}",
            "template_sha256": template,
            "fonts": fonts_in_use().profile,
        },
    }


def report_json(report: CoverageReport, facts: VersionFacts) -> dict[str, Any]:
    """Return one framework's coverage as it stands in the package."""
    framework = report.framework
    stated = stated_facts(facts, framework.id)
    return {
        "framework": framework.id,
        "title": framework.title,
        "version": framework.version,
        "digest": framework.digest(),
        "status": framework.status,
        "jurisdiction": framework.jurisdiction,
        "effective_from": framework.effective_from,
        "as_of": framework.as_of,
        "disclaimer": framework.disclaimer,
        "notes": list(framework.notes),
        "sources": [source.model_dump(mode="json") for source in framework.sources],
        "judged_on": report.as_of,
        "scored": report.scored,
        "scope": report.scope,
        "scope_derivation": [dict(step) for step in report.scope_derivation],
        "facts": [{"name": f.name, "question": f.question, "stated": stated.get(f.name)} for f in framework.facts],
        "law": report.counts("law"),
        "guidance": report.counts("guidance"),
        "mandatory": {
            force: {
                "satisfied": report.score(force)[0],
                "applicable": report.score(force)[1],
                "statuses": report.counts(force, mandatory_only=True),
            }
            for force in ("law", "guidance")
        },
        "sections": [{"id": section.id, "title": section.title} for section in framework.sections],
        "lines": [line_json(line) for line in report.lines],
    }


def line_json(line: Line) -> dict[str, Any]:
    """Return one requirement's result."""
    item = line.requirement
    return {
        "id": item.id,
        "section": line.section,
        "citation": item.citation,
        "basis": item.basis,
        "basis_text": BASIS_TEXT[item.basis],
        "paraphrase": item.paraphrase,
        "force": item.force,
        "mandatory": item.mandatory,
        "effective_from": item.effective_from,
        "counted": line.counted,
        "judged_by": item.judged_by,
        "status": line.status,
        "supports": list(line.supports),
        "entries": [{"seq": ref.seq, "leaf": ref.leaf} for ref in line.entries],
        "gaps": [
            {
                "status": g.status,
                "text": g.text,
                "who": g.who,
                "after_release": g.after_release,
                "answered_by": g.answered_by,
            }
            for g in line.gaps
        ],
        "derivation": [dict(step) for step in line.derivation],
    }
