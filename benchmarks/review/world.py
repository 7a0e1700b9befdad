"""A ledger with many models: versions trained, evaluated, packaged and signed with real keys, released, superseded, waiting."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.governance.world import filler
from cognify_dagster.governance import adopt_gate_set, check_sign_off, directory, seal, sign_off_statement
from cognify_dagster.governance.signing.statements import PackageRef, SignOffPredicate, statement_digest
from cognify_dagster.ledger import Draft, canonical_json, leaf_hash
from cognify_dagster.ledger.entry import seal_body
from cognify_dagster.records import (
    DatasetRef,
    DeploymentCompleted,
    Evaluation,
    GateResult,
    GateRule,
    ModelRegistered,
    Package,
    Record,
    ReleaseGranted,
    SignOff,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Workspace, idempotency_key
from tests.governance.world import MODEL, World, make_world

WAITING = 2
"""Of each model so many versions, the newest, are not released: one has its first signature, one has none."""
FULL = 3
"""Of each model the newest so many versions have a package of their own with full content; older ones share their bytes."""
DATASETS = 250
SIGNERS = ("vera", "carl", "olga")


@dataclass(frozen=True)
class Size:
    """How large: models, versions of each, entries in all."""

    models: int
    versions: int
    entries: int


class Builder:
    """Writes entries straight into the store, in batches, each signed by the workload as any entry is."""

    def __init__(self, world: World) -> None:
        self.world, self.workspace = world, world.workspace
        self.size = self.workspace.ledger.size()

    def write(self, records: Sequence[Record]) -> list[tuple[int, str]]:
        """Append records; return sequence number and leaf hash of each."""
        store, start = self.workspace.ledger.store, self.size
        for at in range(0, len(records), 2_000):
            drafts = [self._draft(record, start + at + n) for n, record in enumerate(records[at : at + 2_000])]
            store.append_many([seal_body(store.origin, draft) for draft in drafts], time.time_ns() // 1000)
        self.size = start + len(records)
        return [(row.seq, leaf_hash(row.data).hex()) for row in store.entries(start, self.size)]

    def _draft(self, record: Record, number: int) -> Draft:
        writer = self.workspace.writer
        assert writer is not None
        payload, digest = record.payload_and_digest()
        return Draft(
            kind=record.kind, schema=record.schema_version, subjects=record.subjects(), actor=writer.workload,
            idem=idempotency_key("bench-review", number), payload=payload, facts_digest=digest, evidence=record.evidence(),
            key_id=writer.key_id, sign=writer.sign,
        )  # fmt: skip


def content() -> dict[str, Any]:
    """Return the package of a small governed model, as a template for all others."""
    from datetime import datetime, timezone

    from cognify_dagster.documents import load_framework
    from tests.documents.story import Story

    with tempfile.TemporaryDirectory() as folder:
        story = Story(Path(folder))
        story.prepare_version("1")
        frameworks = [load_framework("sr26-2"), load_framework("fair-lending")]
        made: dict[str, Any] = story.package(frameworks, datetime(2026, 11, 21, 8, tzinfo=timezone.utc))
        return made


def many_models(cache: Path, size: Size) -> Workspace:
    """Return a workspace of this size, made once and kept in the cache folder."""
    folder = cache / f"review-{size.models}-{size.versions}-{size.entries}"
    if (folder / "done").exists():
        return Workspace.open(folder / "project")
    print(
        f"making {size.models:,} models, {size.versions} versions each, {size.entries:,} entries in {folder} (once) …",
        flush=True,
    )
    shutil.rmtree(folder, ignore_errors=True)
    world = make_world(folder)
    world.ready("1")
    world.approve_all("1")
    _Making(world, size).run()
    (folder / "done").touch()
    world.workspace.ledger.store.close()  # type: ignore[attr-defined]
    return Workspace.open(folder / "project")


class _Making:
    def __init__(self, world: World, size: Size) -> None:
        self.world, self.size, self.template = world, size, content()
        workspace = world.workspace
        reading = workspace.read()
        self.head = reading.genesis.record.policy_digest
        records = [item.record for item in reading.history(world.subject("1"))]
        self.training = next(item for item in records if isinstance(item, TrainingRun))
        self.evaluation = next(item for item in records if isinstance(item, Evaluation))
        self.package = next(item for item in records if isinstance(item, Package))
        self.gates = [item for item in records if isinstance(item, GateResult)]
        people = directory(reading)
        self.signed: dict[str, tuple[SignOff, SignOffPredicate]] = {}
        for item in reading.all(SignOff, world.subject("1")):
            predicate = check_sign_off(item, reading, people)
            assert not isinstance(predicate, str)
            self.signed[item.record.person.removeprefix("person/")] = (item.record, predicate)
        self.models = [f"model_{number:04d}" for number in range(size.models)]

    def run(self) -> None:
        workspace = self.world.workspace
        count = min(DATASETS, len(self.models))
        self.data = [self.world.snapshot(f"data_{number:03d}") for number in range(count)]
        rules = [GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=0.7, source="policy")]
        self.gate_seqs = [
            adopt_gate_set(workspace, f"gates_{m}", m, rules, self.world.key("vera")).seq for m in self.models
        ]
        reading = workspace.read()
        self.gate_digests = [reading.at(seq).record.digest for seq in self.gate_seqs]  # type: ignore[union-attr]
        registered = reading.latest(ModelRegistered, f"oversight/{MODEL}")
        assert registered is not None
        builder = Builder(self.world)
        titles = [
            registered.record.model_copy(update={"model": m, "title": f"Model {n}"}) for n, m in enumerate(self.models)
        ]
        builder.write(titles)
        per_version = 8 + 3 + 2
        spare = max(0, self.size.entries - builder.size - per_version * len(self.models) * self.size.versions)
        for number in range(1, self.size.versions + 1):
            print(f"  version {number} of {self.size.versions}, {builder.size:,} entries …", flush=True)
            self._round(builder, number)
            filler(workspace, spare // self.size.versions)
            builder.size = workspace.ledger.size()
        filler(workspace, self.size.entries - builder.size)

    def _round(self, builder: Builder, number: int) -> None:
        version, left = str(number), self.size.versions - number
        records: list[Record] = []
        for place, model in enumerate(self.models):
            records += self._made(builder.size + len(records), place, model, version, full=left < FULL)
        written = builder.write(records)
        packages = [
            (record, seq, leaf)
            for record, (seq, leaf) in zip(records, written, strict=True)
            if isinstance(record, Package)
        ]
        signers = SIGNERS if left >= WAITING else SIGNERS[:1] if left == 1 else ()
        signed = builder.write([self._sign(name, *item) for item in packages for name in signers])
        if left < WAITING:
            return
        grants: list[Record] = []
        for place, (record, seq, _) in enumerate(packages):
            seqs = tuple(entry for entry, _ in signed[place * len(signers) : (place + 1) * len(signers)])
            grants.append(self._grant(record, seq, seqs, number))
        granted = builder.write(grants)
        builder.write(
            [
                DeploymentCompleted(
                    model=record.model, version=version, target="production", grant_seq=seq, model_digest=record.model_digest
                )
                for (record, _, _), (seq, _) in zip(packages, granted, strict=True)
            ]
        )  # fmt: skip

    def _made(self, start: int, place: int, model: str, version: str, *, full: bool) -> list[Record]:
        data: DatasetRef = self.data[place % len(self.data)]
        about = {"model": model, "version": version}
        gate_set = {
            "gate_set": f"gates_{model}", "gate_set_seq": self.gate_seqs[place], "gate_set_digest": self.gate_digests[place],
        }  # fmt: skip
        body = self.package.package
        if full:
            value = json.loads(json.dumps(self.template))
            value["model"]["key"], value["version"], value["revision"] = model, version, 1
            body = self.world.workspace.put("package.json", canonical_json(value), "application/json")
        training = self.training.model_copy(update=about | {"datasets": (data,), "started_after_seq": start})
        evaluation = self.evaluation.model_copy(update=about | gate_set | {"training_seq": start + 1})
        package = self.package.model_copy(
            update=about
            | {"training_seq": start + 1, "evaluation_seq": start + 2, "package": body, "dataset_seqs": (data.seq,)}
        )
        return [
            VersionOpened(model=model, version=version, run=f"run-{version}", opened_by="person/ben"),
            training,
            evaluation,
            *(item.model_copy(update=about | {"based_on": (start + 2,)}) for item in self.gates),
            package,
        ]

    def _sign(self, name: str, package: Package, seq: int, leaf: str) -> SignOff:
        record, predicate = self.signed[name]
        about = {"model": package.model, "version": package.version}
        named = PackageRef(digest=package.package.digest, entry_seq=seq, entry_leaf=leaf)
        key = self.world.key(name)
        statement = sign_off_statement(
            predicate.model_copy(update=about | {"package": named, "model_digest": package.model_digest})
        )
        envelope = seal(statement, key.key_id, key.sign)
        return record.model_copy(
            update=about
            | {
                "package_digest": package.package.digest, "package_seq": seq, "envelope": envelope,
                "statement_digest": statement_digest(envelope),
            }
        )  # fmt: skip

    def _grant(self, package: Package, seq: int, signed: tuple[int, ...], number: int) -> ReleaseGranted:
        return ReleaseGranted(
            model=package.model, version=package.version, target="production", round=f"{number:064x}",
            package_digest=package.package.digest, package_seq=seq, model_digest=package.model_digest, sign_off_seqs=signed,
            gate_seqs=(), decided_on_size=seq, decided_at="2026-11-20T10:00:00Z", policy_digest=package.policy_digest,
            relied_on=("people", "policy"),
        )  # fmt: skip
