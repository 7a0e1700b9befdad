"""The registers of a package: lineage, evidence, events and earlier decisions.

Each function is pure: facts in, JSON values out, every statement with the entry it comes from.
"""

from __future__ import annotations

from typing import Any

from cognify_dagster.documents.facts.earlier import parent_of
from cognify_dagster.documents.facts.version import VersionFacts
from cognify_dagster.documents.labels import words
from cognify_dagster.documents.package.capture import signatures_of
from cognify_dagster.documents.package.parts import entry_of, person_of, when
from cognify_dagster.records import Checkpoint, EvidenceItem, Record
from cognify_dagster.workspace import Recorded

Json = dict[str, Any]


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
        parent = item.snapshot.record.parent_root if item.snapshot is not None else None
        if (
            item.snapshot is not None and parent and parent != item.ref.root
        ):  # the same data recorded again is no change
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
        if record.code.commit and record.code.vcs != "none":
            edge(node("code", "code", "code", record.code.commit), run, "ran", facts.training)
        environment = record.environment.packages_digest
        edge(node("environment", "environment", "environment", environment), run, "ran in", facts.training)
        if record.base_model:
            label = str(record.base_model.get("name") or record.base_model.get("id") or "base model")
            digest = str(record.base_model.get("digest") or record.base_model.get("sha256") or "")
            base = node("base", "base_model", label, digest)
            edge(base, run, "started from", facts.training)
            if governed := parent_of(record.base_model):
                edge(node("parent", "model", "@".join(governed), ""), base, "is governed here as", facts.training)
        if record.feature_code is not None and record.feature_code.commit and record.feature_code.vcs != "none":
            pipeline = node("features", "code", "feature pipeline", record.feature_code.commit)
            edge(pipeline, run, "made the features of", facts.training)
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
        found.append((facts.training, "List of the model's files" if run.model_files else "Model file", run.model_file))
        found += [(facts.training, f"Model file {item.name}", item) for item in run.model_files]
        found.append((facts.training, "Environment of the training run", run.environment.detail))
        if run.metric_series is not None:
            found.append((facts.training, "Metrics during training", run.metric_series))
        found += [(facts.training, f"Training artefact {item.name}", item) for item in run.artefacts]
        lists: dict[str, list[Checkpoint]] = {}
        for saved in run.checkpoints:  # usually one list for all of them
            lists.setdefault(saved.files.digest, []).append(saved)
        for those in lists.values():
            what = f"checkpoint {those[0].name}" if len(those) == 1 else f"{len(those)} checkpoints"
            found.append((facts.training, f"Files of {what}", those[0].files))
        for saved in run.checkpoints:
            found += [(facts.training, f"Checkpoint {saved.name}: {item.name}", item) for item in saved.kept]
        if run.distributed is not None and run.distributed.manifest is not None:
            found.append((facts.training, "What each process wrote (manifest of shards)", run.distributed.manifest))
        for signed in signatures_of(facts):
            found.append((signed, "Signature over the model's files (OpenSSF model signing)", signed.record.bundle))
        for other in run.external:
            if other.snapshot is not None:
                found.append((facts.training, f"The run in {other.system} when it was sealed", other.snapshot))
    if facts.evaluation is not None:
        test = facts.evaluation.record
        found += [(facts.evaluation, f"Evaluation artefact {item.name}", item) for item in test.artefacts]
        for why in test.explanations:
            about = (
                f"decision {why.decision}" if why.decision else "decisions" if why.scope == "decision" else "the model"
            )
            found.append((facts.evaluation, f"Explanation of {about}, by {words(why.method)}", why.item))
        kept = {(mark.source.digest, "Result file of benchmarks"): mark.source for mark in test.benchmarks}
        kept |= {
            (mark.samples.digest, f"Answers to benchmark {mark.task}"): mark.samples
            for mark in test.benchmarks
            if mark.samples is not None
        }
        found += [(facts.evaluation, shows, item) for (_, shows), item in kept.items()]
    return [
        {
            "id": f"E-{number:03d}",
            "shows": shows,
            "name": item.name,
            "produced_by": f"{words(source.record.kind)}, written by {source.actor}",
            "when": when(source),
            "sha256": item.digest.removeprefix("sha256:"),
            "size": item.size,
            "media_type": item.media_type,
            "sensitivity": item.sensitivity,
            "seq": source.seq,
        }
        for number, (source, shows, item) in enumerate(found, 1)
    ]


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
        behalf = next((s.predicate.on_behalf_of for s in facts.sign_offs if s.seq == item.seq), None)
        whose = f", on behalf of {facts.name_of(behalf.person)}" if behalf else ""
        return f"{facts.name_of(record.person)} ({words(record.role)}{whose}): {words(record.decision)} at stage {record.stage}"
    if kind == "sign_off_refused":
        return f"{facts.name_of(record.person)} tried to sign ({record.decision}) and was refused"
    if kind == "gate_result":
        return f"automated gate {words(record.family)}: {record.status}"
    if kind == "release_granted" and (record.purpose != "release" or record.waived):
        without = f", without {', '.join(record.waived)}" if record.waived else ""
        return f"release granted on {record.target} ({words(record.purpose)}{without})"
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
