"""A small real workspace with people, used by the governance tests. Everything is real: keys, signatures, ledger, evidence."""

from __future__ import annotations

import base64
import itertools
import shutil
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import yaml

from cognify_dagster.governance import (
    DEFAULT_POLICY_YAML,
    Choice,
    Decision,
    Founder,
    PersonalKey,
    adopt_gate_set,
    classify_model,
    create_key,
    decide,
    enrol_person,
    found_workspace,
    parse_policy,
    propose,
    read_sign_off,
    seal,
    sign_off,
    sign_off_statement,
)
from cognify_dagster.governance.signing.statements import statement_digest
from cognify_dagster.records import (
    CodeRef,
    DatasetRef,
    DatasetSnapshot,
    Envelope,
    EnvironmentRef,
    Evaluation,
    GateOutcome,
    GateResult,
    GateRule,
    MetricResult,
    ModelRegistered,
    Package,
    PayloadErased,
    Person,
    Record,
    SignOff,
    TrainingRun,
    VersionOpened,
)
from cognify_dagster.workspace import Workspace, idempotency_key

PASSPHRASE = "correct horse battery"
MODEL = "credit_default"
FAMILIES = ("performance", "fairness", "data_quality", "completeness")
_counter = itertools.count()


@dataclass
class World:
    """A founded workspace and the keys of its people."""

    workspace: Workspace
    folder: Path
    keys: dict[str, PersonalKey] = field(default_factory=dict)
    data: dict[str, int] = field(default_factory=dict)
    tier: str = "high"

    def key(self, name: str) -> PersonalKey:
        """Return (creating once) the key of a person called `name`."""
        if name not in self.keys:
            self.keys[name] = create_key(self.folder / f"{name}.key.json", f"person/{name}", PASSPHRASE)
        return self.keys[name]

    def enrol(
        self, name: str, *roles: str, aliases: tuple[str, ...] = (), vouchers: tuple[str, ...] = ("ada", "finn")
    ) -> None:
        """Enrol a person with roles."""
        key = self.key(name)
        person = Person(person=key.person, name=name.title(), roles=roles, aliases=aliases, keys=(key.public,))
        enrol_person(self.workspace, person, *(self.key(voucher) for voucher in vouchers))

    def subject(self, version: str) -> str:
        """Return the subject id of a version."""
        return f"model/{MODEL}@{version}"

    def snapshot(self, name: str, root: str = "ab" * 32, *, take: int = 0, **changes: object) -> DatasetRef:
        """Record a dataset snapshot; `take` counts further ones of the same root."""
        ws = self.workspace
        item = ws.put("profile.json", b"{}", "application/json")
        record = DatasetSnapshot(
            name=name,
            root=root,
            data_version=f"sha256:{root}",
            file_count=1,
            total_bytes=3,
            profile=item,
            manifest=item,
        )
        record = record.model_copy(update=changes)
        again = (take,) if take else ()
        seq = ws.append(record, idem=idempotency_key("snap", name, root, *again)).seq
        return DatasetRef(name=name, root=root, seq=seq, role="train")

    def register(self) -> None:
        """Register the model with the world's risk tier."""
        self.write(
            ModelRegistered(
                model=MODEL,
                owner="team:risk",
                risk_tier=self.tier,
                frameworks=("sr26-2", "fair-lending"),
                intended_use="Rank applications",
                limitations="Taiwan 2005",
            )
        )
        if self.tier in ("low", "medium"):
            self.classify()

    def classify(self, *names: str, tier: str | None = None) -> int:
        """Sign the model's tier, as carl and olga unless others are named."""
        signers = [self.key(name) for name in names or ("carl", "olga")]
        facts = {"model": MODEL, "tier": tier or self.tier, "owner": "person/olga", "rationale": "small exposure"}
        return classify_model(self.workspace, signers, **facts).seq

    def adopt_gates(self, name: str = "vera", threshold: float = 0.7) -> int:
        """Adopt thresholds as a person."""
        gates = [GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=threshold, source="policy")]
        return adopt_gate_set(self.workspace, "credit_gates", MODEL, gates, self.key(name)).seq

    def write(self, record: Record) -> int:
        """Append a record directly, past every check of the governance room; return its sequence number."""
        return self.workspace.append(
            record, idem=idempotency_key("direct", next(_counter), self.workspace.ledger.size())
        ).seq

    def erase(self, seq: int) -> None:
        """Erase a payload, as a lawful erasure does it."""
        with sqlite3.connect(self.workspace.config.ledger) as db:
            db.execute("UPDATE payload SET bytes = NULL, salt = NULL, facts_digest = NULL WHERE seq = ?", (seq,))
        db.close()
        self.write(PayloadErased(seq=seq, basis="request of the person concerned", approved_by="person/ada"))

    def decide(self, version: str = "1", target: str = "production", days: float = 0) -> Decision:
        """Decide as of now, or some days later."""
        now = datetime.now(timezone.utc) + timedelta(days=days)
        return decide(self.workspace.read(), MODEL, version, target, now)

    def codes(self, version: str = "1", target: str = "production", days: float = 0) -> list[str]:
        """Return the codes of the reasons against a release, sorted."""
        return sorted({reason.code for reason in self.decide(version, target, days).reasons})

    def train(
        self,
        version: str,
        *,
        launched_by: str = "person/ben",
        unattributed: tuple[str, ...] = (),
        **changes: object,
    ) -> int:
        """Record a sealed training run, with everything before it that it needs."""
        ws = self.workspace
        if not ws.read().all(ModelRegistered):
            self.register()
            self.data["train"] = self.snapshot("loans_train").seq
            self.data["holdout"] = self.snapshot("loans_holdout", "cd" * 32).seq
            self.data["gates"] = self.adopt_gates()
        self.write(VersionOpened(model=MODEL, version=version, run=f"run-{version}", opened_by=launched_by))
        model = ws.put("model.bin", f"model {version}".encode(), "application/octet-stream")
        env = ws.put("environment.json", b"{}", "application/json")
        record = TrainingRun(
            model=MODEL,
            version=version,
            datasets=(DatasetRef(name="loans_train", root="ab" * 32, seq=self.data["train"], role="train"),),
            model_file=model,
            config={"learning_rate": 0.1},
            seed=7,
            code=CodeRef(vcs="git", commit="c" * 40, dirty=False),
            environment=EnvironmentRef(
                python="3.11.7",
                platform="Linux",
                packages_digest="e" * 64,
                gpu="absent",
                container_image="none",
                detail=env,
            ),
            launched_by=launched_by,
            touched_by=("person/ben",),
            unattributed=unattributed,
            started_after_seq=ws.ledger.size(),
        )
        return self.write(record.model_copy(update=changes))

    def evaluate(
        self,
        version: str,
        *,
        failing: Collection[str] = (),
        families: Collection[str] = FAMILIES,
        **changes: object,
    ) -> int:
        """Record an evaluation and the gate results of the families named."""
        ws = self.workspace
        reading = ws.read()
        training = reading.latest(TrainingRun, self.subject(version))
        gate_set = reading.at(self.data["gates"])
        assert training is not None
        assert gate_set is not None
        outcome = GateOutcome(
            id="auc", family="performance", metric="auc", op=">=", threshold=0.7, value=0.78, status="pass"
        )
        record = Evaluation(
            model=MODEL,
            version=version,
            model_digest=training.record.model_file.digest,
            training_seq=training.seq,
            dataset=DatasetRef(name="loans_holdout", root="cd" * 32, seq=self.data["holdout"], role="evaluation"),
            evaluator="workload/pipeline",
            code=training.record.code,
            metrics=(MetricResult(name="auc", value=0.78, ci_low=0.77, ci_high=0.79, n=9000),),
            gate_set="credit_gates",
            gate_set_seq=gate_set.seq,
            gate_set_digest=gate_set.record.digest,  # type: ignore[attr-defined]
            outcomes=(outcome,),
            status="passed",
        )
        seq = self.write(record.model_copy(update=changes))
        for family in families:
            status = "fail" if family in failing else "pass"
            self.write(
                GateResult.model_validate(
                    {"model": MODEL, "version": version, "family": family, "status": status, "based_on": (seq,)}
                )
            )
        return seq

    def package(self, version: str, *, built_by: str = "person/ben", text: str = "", **changes: object) -> int:
        """Record a package."""
        ws = self.workspace
        reading = ws.read()
        training = reading.latest(TrainingRun, self.subject(version))
        evaluation = reading.latest(Evaluation, self.subject(version))
        assert training is not None
        assert evaluation is not None
        earlier = reading.all(Package, self.subject(version))
        body = ws.put("package.json", f'{{"v":"{version}{text}{len(earlier)}"}}'.encode(), "application/json")
        record = Package(
            model=MODEL,
            version=version,
            revision=len(earlier) + 1,
            package=body,
            review_copy=ws.put("review.pdf", f"pdf {version} {len(earlier)}".encode(), "application/pdf"),
            model_card=ws.put("card.md", b"# card", "text/markdown"),
            model_digest=training.record.model_file.digest,
            training_seq=training.seq,
            evaluation_seq=evaluation.seq,
            dataset_seqs=(self.data["train"], self.data["holdout"]),
            policy_digest=reading.genesis.record.policy_digest,
            built_by=built_by,
            built_from_size=reading.size,
        )
        return self.write(record.model_copy(update=changes))

    def ready(self, version: str = "1", **training: object) -> None:
        """Bring a version up to the point where people sign; `training` changes its training run."""
        self.train(version, **training)  # type: ignore[arg-type]
        self.evaluate(version)
        self.package(version)

    def approve(self, name: str, version: str = "1", **choice: object) -> int:
        """Sign an approval as a person."""
        return sign_off(
            self.workspace,
            MODEL,
            version,
            self.key(name),
            Choice(decision="approve", **choice),  # type: ignore[arg-type]
        ).seq

    def sign(
        self,
        name: str,
        decision: str = "approve",
        version: str = "1",
        *,
        alter: dict[str, object] | None = None,
        key: PersonalKey | None = None,
        **choice: object,
    ) -> Envelope:
        """Return a signed statement, with members of its predicate altered before it is signed."""
        own = self.key(name)
        chosen = Choice(decision=decision, **choice)  # type: ignore[arg-type]
        statement = propose(self.workspace.read(), MODEL, version, own.person, own.key_id, chosen)
        if alter:
            statement = sign_off_statement(read_sign_off(statement).model_copy(update=alter))
        signer = key or own
        return seal(statement, signer.key_id, signer.sign)

    def force(self, envelope: Envelope, **changes: object) -> int:
        """Append a signed statement directly, past every check of `submit`."""
        predicate = read_sign_off(base64.b64decode(envelope.payload))
        record = SignOff(
            model=predicate.model,
            version=predicate.version,
            stage=predicate.stage,
            decision=predicate.decision,
            role=predicate.role,
            person=predicate.person,
            key_id=predicate.key_id,
            strength="S3",
            package_digest=predicate.package.digest,
            package_seq=predicate.package.entry_seq,
            statement_digest=statement_digest(envelope),
            signed_at=predicate.signed_at,
            envelope=envelope,
        )
        return self.write(record.model_copy(update=changes))

    def approve_all(self, version: str = "1") -> None:
        """Sign all three stages."""
        for name in ("vera", "carl", "olga"):
            self.approve(name, version)


def make_world(folder: Path) -> World:
    """Found a workspace with two founders and enrol builder, validator, compliance officer and business owner."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = {name: create_key(folder / f"{name}.key.json", f"person/{name}", PASSPHRASE) for name in ("ada", "finn")}
    workspace = found_workspace(
        folder / "project",
        origin="test.example/credit",
        founders=[Founder(keys["ada"], "Ada"), Founder(keys["finn"], "Finn")],
        policy=parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML)),
        policy_text=DEFAULT_POLICY_YAML,
    )
    world = World(workspace, folder, dict(keys))
    world.enrol("ben", "data_scientist", "model_validator", aliases=("user:ben", "git:ben@bank.example"))
    world.enrol("vera", "model_validator")
    world.enrol("carl", "compliance_officer")
    world.enrol("olga", "business_owner")
    return world


def clone(world: World, folder: Path) -> World:
    """Return a copy of a world that a test may change: copying is far cheaper than founding and unlocking keys anew."""
    shutil.copytree(world.folder, folder)
    return World(Workspace.open(folder / "project"), folder, dict(world.keys), dict(world.data), world.tier)
