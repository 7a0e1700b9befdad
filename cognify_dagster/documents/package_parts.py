"""The parts of a package: training, data, evaluation, gates, stages, lineage, evidence register, sections, events.

Each function is pure: facts in, JSON values out, every statement with the entry it comes from.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timezone
from typing import Any

from cognify_dagster.documents.coverage_people import HUMAN_FIELDS, approval_days
from cognify_dagster.documents.errors import DocumentError
from cognify_dagster.documents.facts import DatasetFact, Statement, VersionFacts
from cognify_dagster.records import EvidenceItem, Record, utc
from cognify_dagster.workspace import Recorded

Json = dict[str, Any]
ReadEvidence = Callable[[str], bytes]
MAX_PROFILE_BYTES = 16 * 1024 * 1024
MAX_COLUMNS = 2_000

SECTION_TITLES = {
    "intended_use": "Intended use",
    "out_of_scope": "Uses out of scope",
    "limitations": "Limitations",
    "failure_modes": "Failure modes",
}


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
        "started_after_size": record.started_after_seq,
        "model_file": item_json(record.model_file),
        "datasets": [ref.model_dump(mode="json") for ref in record.datasets],
        "config": dict(record.config),
        "seed": record.seed,
        "architecture": dict(record.architecture),
        "base_model": dict(record.base_model),
        "metrics": dict(record.metrics),
        "selection_note": record.selection_note,
        "code": record.code.model_dump(mode="json"),
        "environment": record.environment.model_dump(mode="json"),
        "launched_by": person_of(facts, record.launched_by),
        "touched_by": [person_of(facts, person) for person in record.touched_by],
        "unattributed": list(record.unattributed),
        "extra": dict(record.extra),
        "failed_attempts": [{"entry": entry_of(item), "reason": item.record.reason} for item in facts.failures],
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
        _snapshot(item, sorted(set(roles[item.ref.seq])), read)
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
        "profile": _profile(record.profile, read),
        "profile_digest": record.profile.digest,
        "manifest_digest": record.manifest.digest,
        "extra": dict(record.extra),
    }


def _profile(item: EvidenceItem, read: ReadEvidence) -> Json:
    """The profile in short: rows, columns with nulls and ranges, class balance, group counts."""
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
        }
        for item in facts.overlaps
    ]


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
        started = facts.training.record.started_after_seq if facts.training else None
        gate_set = {
            "entry": entry_of(facts.gate_set),
            "name": facts.gate_set.record.name,
            "digest": facts.gate_set.record.digest,
            "adopted_by": person_of(facts, facts.gate_set.record.adopted_by),
            "before_training": started is not None and facts.gate_set.seq < started,
        }
    results = [
        {"entry": entry_of(item), "family": item.record.family, "status": item.record.status}
        for item in facts.gate_results
    ]
    return {"set": gate_set, "outcomes": outcomes, "results": results}


def stages_part(facts: VersionFacts) -> Json:
    """What the policy in force demands for the model's tier."""
    tier = facts.registered.record.risk_tier if facts.registered else ""
    if facts.policy is None:
        return {"policy": None, "tier": tier, "approval_days": None, "stages": []}
    body = facts.policy.body
    tiers, defined = body.get("tiers") or {}, body.get("stages") or {}
    names = (tiers.get(tier) or {}).get("stages", []) if isinstance(tiers, Mapping) else []
    stages = []
    for name in names:
        stage = defined.get(name) or {}
        stages.append(
            {
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


def lineage_part(facts: VersionFacts) -> Json:
    """Nodes and edges from data to evaluation, each edge with the entry that states it."""
    nodes: dict[str, Json] = {}
    edges: list[Json] = []

    def node(key: str, kind: str, label: str, digest: str) -> str:
        nodes.setdefault(key, {"id": key, "kind": kind, "label": label, "digest": digest})
        return key

    def edge(source: str, target: str, relation: str, item: Recorded[Any]) -> None:
        edges.append({"from": source, "to": target, "relation": relation, "seq": item.seq, "leaf": item.leaf})

    for item in facts.all_datasets():
        data = node(f"data:{item.ref.seq}", "dataset", item.ref.name, item.ref.root)
        if item.snapshot is not None and item.snapshot.record.parent_root:
            parent = item.snapshot.record.parent_root
            edge(
                node(f"root:{parent}", "dataset", f"{item.ref.name}, earlier", parent),
                data,
                "changed into",
                item.snapshot,
            )
    if facts.training is not None:
        record = facts.training.record
        run = node("training", "training", "training run", facts.training.leaf)
        for data_ref in record.datasets:
            edge(f"data:{data_ref.seq}", run, f"used as {data_ref.role}", facts.training)
        if record.code.commit:
            edge(node("code", "code", "code", record.code.commit), run, "ran", facts.training)
        environment = record.environment.packages_digest
        edge(node("environment", "environment", "environment", environment), run, "ran in", facts.training)
        if record.base_model:
            label = str(record.base_model.get("name") or record.base_model.get("id") or "base model")
            digest = str(record.base_model.get("digest", ""))
            edge(node("base", "base_model", label, digest), run, "started from", facts.training)
        edge(
            run,
            node("model", "model", f"{facts.model}@{facts.version}", record.model_file.digest),
            "produced",
            facts.training,
        )
    if facts.evaluation is not None:
        test = node("evaluation", "evaluation", "evaluation", facts.evaluation.leaf)
        edge(f"data:{facts.evaluation.record.dataset.seq}", test, "used as evaluation data", facts.evaluation)
        if facts.evaluation_current:
            edge("model", test, "was evaluated in", facts.evaluation)
        if facts.gate_set is not None:
            gates = node("gates", "gates", facts.gate_set.record.name, facts.gate_set.record.digest)
            edge(gates, test, "set the limits of", facts.evaluation)
    return {"nodes": [nodes[key] for key in sorted(nodes)], "edges": edges}


def evidence_part(facts: VersionFacts) -> list[Json]:
    """The register: every blob that an entry of this version, or its data, refers to."""
    found: list[tuple[Recorded[Any], str, EvidenceItem]] = []
    for data in sorted(facts.all_datasets(), key=lambda item: item.ref.seq):
        if data.snapshot is not None:
            record = data.snapshot.record
            found.append((data.snapshot, f"Profile of {record.name}", record.profile))
            found.append((data.snapshot, f"File manifest of {record.name}", record.manifest))
            if record.record_manifest is not None:
                found.append((data.snapshot, f"Record digests of {record.name}", record.record_manifest))
            if record.data is not None:
                found.append((data.snapshot, f"The table {record.name} itself", record.data))
    if facts.training is not None:
        run = facts.training.record
        found.append((facts.training, "Model file", run.model_file))
        found.append((facts.training, "Environment of the training run", run.environment.detail))
        if run.metric_series is not None:
            found.append((facts.training, "Metrics during training", run.metric_series))
        found += [(facts.training, f"Training artefact {item.name}", item) for item in run.artefacts]
    if facts.evaluation is not None:
        found += [
            (facts.evaluation, f"Evaluation artefact {item.name}", item) for item in facts.evaluation.record.artefacts
        ]
    return [
        {
            "id": f"E-{number:03d}",
            "shows": shows,
            "name": item.name,
            "produced_by": f"{source.record.kind} by {source.actor}",
            "when": when(source),
            "sha256": item.digest.removeprefix("sha256:"),
            "size": item.size,
            "media_type": item.media_type,
            "sensitivity": item.sensitivity,
            "seq": source.seq,
        }
        for number, (source, shows, item) in enumerate(found, 1)
    ]


def sections_part(facts: VersionFacts, wanted: Iterable[str]) -> list[Json]:
    """What people wrote, with who recorded it; an unwritten section stays in the list, empty."""
    if facts.registered is None:
        return []
    record = facts.registered.record
    stated: dict[str, Any] = {}
    for key, value in record.framework_facts.items():
        stated.update(value if isinstance(value, Mapping) and key in record.frameworks else {key: value})
    result = []
    for section in dict.fromkeys((*HUMAN_FIELDS, *wanted)):
        value = getattr(record, section) if section in HUMAN_FIELDS else stated.get(section, "")
        author, unavailable = "", ""
        if isinstance(value, Mapping):
            author, unavailable = str(value.get("author", "")), str(value.get("declared_unavailable", ""))
            value = value.get("text", "")
        result.append(
            {
                "id": section,
                "title": SECTION_TITLES.get(section, section.replace("_", " ").capitalize()),
                "text": value if isinstance(value, str) else "",
                "declared_unavailable": unavailable,
                "author": person_of(facts, author) if author else None,
                "recorded": entry_of(facts.registered),
            }
        )
    return result


def events_part(facts: VersionFacts) -> list[Json]:
    """Every entry about the version so far, in order."""
    return [
        {
            "seq": i.seq,
            "time": when(i),
            "kind": i.record.kind,
            "actor": i.actor,
            "text": describe(facts, i),
            "leaf": i.leaf,
        }
        for i in facts.events
    ]


def describe(facts: VersionFacts, item: Recorded[Record]) -> str:
    """Say in a few words what an entry records."""
    record: Any = item.record
    kind = record.kind
    if kind == "sign_off":
        return f"{facts.name_of(record.person)} ({record.role}): {record.decision} at stage {record.stage}"
    if kind == "sign_off_refused":
        return f"{facts.name_of(record.person)} tried to sign ({record.decision}) and was refused"
    if kind == "gate_result":
        return f"automated gate {record.family}: {record.status}"
    if kind in ("release_granted", "release_refused", "deployment_completed", "deployment_failed"):
        return f"{kind.replace('_', ' ')} on {record.target}"
    if kind == "package":
        return f"package revision {record.revision}"
    if kind == "finding":
        return f"reconciliation: {record.text}"
    return str(
        {"version_opened": "version opened", "training_run": "training sealed", "evaluation": "evaluated"}.get(
            kind, kind.replace("_", " ")
        )
    )


def earlier_decisions_part(facts: VersionFacts) -> list[Json]:
    """Statements made on earlier revisions: they stay visible and do not count for this one."""
    revisions = {item.record.package.digest: item.record.revision for item in facts.packages}
    return [
        {
            "entry": entry_of(item),
            "revision": revisions.get(item.record.package_digest),
            "person": person_of(facts, item.record.person),
            "role": item.record.role,
            "stage": item.record.stage,
            "decision": item.record.decision,
        }
        for item in facts.sign_offs
    ]
