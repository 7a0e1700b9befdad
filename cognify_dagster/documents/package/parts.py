"""The parts of a package: training, data, evaluation, gates, stages and sections; the registers are in `package_registers`.

Each function is pure: facts in, JSON values out, every statement with the entry it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.documents.coverage.people import HUMAN_FIELDS, approval_days
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts.human import SectionFact
from cognify_dagster.documents.facts.section_files import human_text
from cognify_dagster.documents.facts.version import DatasetFact, Statement, VersionFacts
from cognify_dagster.documents.labels import section_title
from cognify_dagster.documents.package.capture import (
    environment_part,
    evaluation_capture,
    signatures_part,
    training_capture,
)
from cognify_dagster.records import EvidenceItem, GateResult, OverlapLevel, utc
from cognify_dagster.workspace import Recorded

Json = dict[str, Any]
ReadEvidence = Callable[[str], bytes]
MAX_PROFILE_BYTES = 16 * 1024 * 1024
MAX_COLUMNS = 2_000


def when(item: Recorded[Any] | Statement) -> str:
    """Return an entry's time as UTC text."""
    return utc(datetime.fromtimestamp(item.time_us / 1e6, tz=timezone.utc))


def entry_of(item: Recorded[Any] | Statement) -> Json:
    """Return how a package cites an entry."""
    return {"seq": item.seq, "leaf": item.leaf, "time": when(item), "actor": item.actor}


def person_of(facts: VersionFacts, person: str) -> Json:
    """Return a person's id and name."""
    return {"id": person, "name": facts.name_of(person)}


def training_part(facts: VersionFacts) -> Json | None:
    """What trained the version."""
    if facts.training is None:
        return None
    record = facts.training.record
    return {
        "entry": entry_of(facts.training),
        "started_after_size": facts.started,
        "model_file": item_json(record.model_file),
        "datasets": [ref.model_dump(mode="json") for ref in record.datasets],
        "config": dict(record.config),
        "seed": record.seed,
        "architecture": dict(record.architecture),
        "base_model": dict(record.base_model),
        "metrics": dict(record.metrics),
        "selection_note": record.selection_note,
        "code": record.code.model_dump(mode="json"),
        "environment": environment_part(record.environment),
        "launched_by": person_of(facts, record.launched_by),
        "touched_by": [person_of(facts, person) for person in record.touched_by],
        "unattributed": list(record.unattributed),
        "extra": dict(record.extra),
        "failed_attempts": [{"entry": entry_of(item), "reason": item.record.reason} for item in facts.failures],
        **training_capture(record),
        **signatures_part(facts),
    }


def item_json(item: EvidenceItem) -> Json:
    """Return an evidence reference as JSON."""
    return item.model_dump(mode="json")


def data_part(facts: VersionFacts, read: ReadEvidence) -> list[Json]:
    """Every snapshot relied on, with its profile in short."""
    roles: dict[int, list[str]] = {}
    for item in (*facts.datasets, *([facts.evaluation_data] if facts.evaluation_data else [])):
        roles.setdefault(item.ref.seq, []).append(item.ref.role)
    return [
        {**_snapshot(item, sorted(set(roles[item.ref.seq])), read), **_made(facts, item)}
        for item in sorted(facts.all_datasets(), key=lambda item: item.ref.seq)
    ]


def _snapshot(item: DatasetFact, roles: list[str], read: ReadEvidence) -> Json:
    base: Json = {"name": item.ref.name, "root": item.ref.root, "roles": roles}
    if item.snapshot is None:
        return {**base, "entry": None, "recorded": False}
    record = item.snapshot.record
    return {
        **base,
        "recorded": True,
        "entry": entry_of(item.snapshot),
        "data_version": record.data_version,
        "rows": record.record_count,
        "files": record.file_count,
        "bytes": record.total_bytes,
        "schema_hash": record.schema_hash,
        "record_root": record.record_root,
        "record_key": record.record_key,
        "label": record.label,
        "parent_root": record.parent_root,
        "change_reason": record.change_reason,
        "provenance": dict(record.provenance),
        "missing_provenance": list(record.missing_provenance),
        "exclusions": [rule.model_dump(mode="json") for rule in record.exclusions],
        "profile": profile_in_short(record.profile, read),
        "profile_digest": record.profile.digest,
        "manifest_digest": record.manifest.digest,
        "extra": dict(record.extra),
    }


def _made(facts: VersionFacts, item: DatasetFact) -> Json:
    """Who and what made the snapshot, from what, and how its quality was checked; nothing where the entry does not say."""
    if item.snapshot is None:
        return {}
    record = item.snapshot.record
    found: Json = {}
    if record.author:
        found["author"] = person_of(facts, record.author)
    if record.touched_by:
        found["touched_by"] = [person_of(facts, person) for person in record.touched_by]
    if record.unattributed:
        found["unattributed"] = list(record.unattributed)
    if record.code is not None:
        found["code"] = record.code.model_dump(mode="json")
    if record.sources:
        found["sources"] = [source.model_dump(mode="json") for source in record.sources]
    if record.quality:
        found["quality"] = [check.model_dump(mode="json") for check in record.quality]
    if record.unjustified_columns:
        found["unjustified_columns"] = list(record.unjustified_columns)
    return {"made": found} if found else {}


def profile_in_short(item: EvidenceItem, read: ReadEvidence) -> Json:
    """Return a profile in short: rows, columns with nulls and ranges, class balance, group counts.

    Raises:
        DocumentError: if it cannot be read, or is no profile.
    """
    try:
        data = read(item.digest)
        if len(data) > MAX_PROFILE_BYTES:
            raise ValueError(f"larger than {MAX_PROFILE_BYTES} bytes")
        profile = json.loads(data)
        columns = profile.get("columns", {})
        shown = [
            {"name": name, **{key: column[key] for key in _COLUMN_KEYS if key in column}}
            for name, column in sorted(columns.items())[:MAX_COLUMNS]
        ]
        return {
            "rows": profile.get("rows"),
            "columns": shown,
            "columns_total": len(columns),
            "label": profile.get("label"),
            "groups": profile.get("groups", {}),
        }
    except (ValueError, AttributeError, TypeError, KeyError, OSError) as error:
        raise DocumentError(
            f"the profile {item.digest} ({item.name}) cannot be read: {error}; restore it to the evidence store"
        ) from error


_COLUMN_KEYS = ("type", "nulls", "nans", "distinct", "min", "max", "mean", "std")


def overlap_part(facts: VersionFacts) -> list[Json]:
    """Comparisons of training and evaluation records."""
    return [
        {
            "entry": entry_of(item),
            "train": item.record.train.model_dump(mode="json"),
            "holdout": item.record.holdout.model_dump(mode="json"),
            "level": item.record.level,
            "compared_columns": list(item.record.compared_columns),
            "ignored_columns": list(item.record.ignored_columns),
            "overlapping_records": item.record.overlapping_records,
            "passed": item.record.passed,
            **({"levels": [_level(level) for level in item.record.levels]} if item.record.levels else {}),
        }
        for item in facts.overlaps
    ]


def _level(level: OverlapLevel) -> Json:
    """One level of a comparison, without the records that were found: those stay in the entry and its report."""
    shown = ("level", "overlap_holdout", "overlap_train", "fraction", "not_compared", "text_columns", "parameters")
    return level.model_dump(mode="json", include=set(shown))


def evaluation_part(facts: VersionFacts) -> Json | None:
    """The evaluation that is shown, and whether it is of the sealed training."""
    if facts.evaluation is None:
        return None
    record = facts.evaluation.record
    return {
        "entry": entry_of(facts.evaluation),
        "current": facts.evaluation_current,
        "training_seq": record.training_seq,
        "model_digest": record.model_digest,
        "dataset": record.dataset.model_dump(mode="json"),
        "evaluator": record.evaluator,
        "code": record.code.model_dump(mode="json"),
        "status": record.status,
        "decision_threshold": record.decision_threshold,
        "metrics": [metric.model_dump(mode="json") for metric in record.metrics],
        "tables": dict(record.tables),
        "protected_attributes": list(record.protected_attributes),
        "fairness": [dict(item) for item in record.fairness],
        "notes": list(record.notes),
        "extra": dict(record.extra),
        **evaluation_capture(record),
    }


def gates_part(facts: VersionFacts) -> Json:
    """The limits, who adopted them and when, and what each gate found."""
    rules = {rule.id: rule for rule in facts.gate_set.record.gates} if facts.gate_set else {}
    outcomes = []
    for outcome in facts.evaluation.record.outcomes if facts.evaluation else ():
        rule = rules.get(outcome.id)
        outcomes.append(
            {
                **outcome.model_dump(mode="json"),
                "source": rule.source if rule else None,
                "reason": rule.reason if rule else "",
                "on_insufficient": rule.on_insufficient if rule else None,
            }
        )
    gate_set = None
    if facts.gate_set is not None:
        started = facts.started
        gate_set = {
            "entry": entry_of(facts.gate_set),
            "name": facts.gate_set.record.name,
            "digest": facts.gate_set.record.digest,
            "adopted_by": person_of(facts, facts.gate_set.record.adopted_by),
            "before_training": started is not None and facts.gate_set.seq < started,
        }
    results = [
        {
            "entry": entry_of(item),
            "family": item.record.family,
            "status": item.record.status,
            **({"note": _security_note(item.record)} if item.record.family == "security" else {}),
        }
        for item in facts.gate_results
    ]
    return {"set": gate_set, "outcomes": outcomes, "results": results}


def _security_note(record: GateResult) -> str:
    """What was found, by which advisories (and that they are partial, where they are), and what was accepted."""
    accepted = [
        f"Accepted until {item['expires']}: {item['id']} in {item['package']} {item['version']} ({item['reason']})."
        for item in record.detail.get("accepted") or ()
    ]
    return " ".join([*(item.message for item in record.outcomes), *accepted])


def stages_part(facts: VersionFacts) -> Json:
    """What the policy in force demands for the model's tier."""
    tier = facts.tier if facts.registered else ""
    if facts.policy is None:
        return {"policy": None, "tier": tier, "approval_days": None, "stages": []}
    body = facts.policy.body
    tiers, defined = body.get("tiers") or {}, body.get("stages") or {}
    names = (tiers.get(tier) or {}).get("stages", []) if isinstance(tiers, Mapping) else []
    stages = []
    for name in names:
        stage = defined.get(name) or {}
        further = stage.get("further_roles") or {}
        stages.append(
            {
                **({"further_roles": dict(further)} if further else {}),
                "id": name,
                "kind": stage.get("kind", "sign_off"),
                "title": stage.get("title") or name,
                "role": stage.get("role", ""),
                "quorum": stage.get("quorum", 1) if stage.get("kind", "sign_off") == "sign_off" else 0,
                "min_strength": stage.get("min_strength", "S3"),
                "meaning": stage.get("meaning", ""),
                "gates": list(stage.get("gates", [])),
            }
        )
    policy = {"digest": facts.policy.digest, "title": str(body.get("title", "")), "seq": facts.policy.seq}
    return {
        "policy": {**policy, "leaf": facts.policy.leaf},
        "tier": tier,
        "approval_days": approval_days(facts),
        "stages": stages,
    }


def sections_part(facts: VersionFacts, wanted: Iterable[str]) -> list[Json]:
    """What people wrote, with who recorded it; an unwritten section stays in the list, empty.

    A section with an entry of its own for this version says more: its revision, who drafted, signed and approved it, and whether
    it counts. One that stands in the model's registration says none of this.
    """
    if facts.registered is None:
        return []
    result = []
    for section in dict.fromkeys((*HUMAN_FIELDS, *wanted, *sorted(facts.sections))):
        found = human_text(facts, section)
        assert found is not None  # the model is registered
        own = facts.sections.get(section)
        result.append(
            {
                "id": section,
                "title": section_title(section),
                "text": found.text,
                "declared_unavailable": found.declared_unavailable,
                "author": person_of(facts, found.author) if found.author else None,
                "recorded": entry_of(facts.registered) if own is None else _section_entry(facts, own),
                **({} if own is None else _section_more(facts, own)),
            }
        )
    return result


def _section_entry(facts: VersionFacts, own: SectionFact) -> Json:
    actor = next((item.actor for item in facts.events if item.seq == own.seq), "")
    return {"seq": own.seq, "leaf": own.leaf, "time": _utc(own.time_us), "actor": actor}


def _section_more(facts: VersionFacts, own: SectionFact) -> Json:
    signed = [("approver", item) for item in own.approvals] + ([("author", own.signature)] if own.signature else [])
    return {
        "revision": own.revision,
        "source": own.source,
        "ai_drafted": own.ai_drafted,
        "counts": own.counts,
        "reviewed": own.reviewed,
        "author_signed": own.author_signed,
        "carried_from": own.carried_from.model_dump(mode="json") if own.carried_from else None,
        "signatures": [
            {
                "capacity": capacity,
                "person": person_of(facts, item.person),
                "role": item.role,
                "comment": item.comment,
                "entry": {"seq": item.seq, "leaf": item.leaf, "time": _utc(item.time_us), "actor": item.person},
            }
            for capacity, item in signed
        ],
    }


def _utc(time_us: int) -> str:
    return utc(datetime.fromtimestamp(time_us / 1e6, tz=timezone.utc))


def attestations_part(facts: VersionFacts, now: datetime) -> list[Json]:
    """What people attested about the version, its model and its data; what does not count says why."""
    return [
        {
            "text_id": item.text_id,
            "text": item.text,
            "text_version": item.text_version,
            "about": item.about,
            "digest": item.digest,
            "party": item.party,
            "person": person_of(facts, item.person),
            "role": item.role,
            "expires": item.expires,
            "counts": item.problem(now) is None,
            "why": item.problem(now) or "",
            "documents": [item_json(document) for document in item.documents],
            "entry": {"seq": item.seq, "leaf": item.leaf, "time": _utc(item.time_us), "actor": item.person},
        }
        for item in facts.attestations
    ]
