"""A ledger in memory with real entries, signatures and people, for tests that need thousands of histories.

What takes the time on disk (locks, fsync, checkpoints) is left out; bytes, hashes and signatures are the real ones. A ledger can be
forked: the entries before are shared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import Any

import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cognify_dagster.governance import DEFAULT_POLICY_YAML, PersonalKey, parse_policy, public_key
from cognify_dagster.governance.genesis import NOT_FOR_WORKLOADS
from cognify_dagster.governance.policy.adoption import gate_set_adoption
from cognify_dagster.governance.signing.statements import (
    SignOffPredicate,
    seal,
    sign_act,
    sign_off_statement,
    statement_digest,
)
from cognify_dagster.ledger import Draft, Entry, VerifiedEntry, VerifiedView, merkle_root
from cognify_dagster.ledger.entry import NO_PREVIOUS, assemble, seal_body
from cognify_dagster.records import (
    CodeRef,
    DatasetRef,
    DatasetSnapshot,
    Envelope,
    EnvironmentRef,
    Evaluation,
    EvidenceItem,
    GateOutcome,
    GateResult,
    GateRule,
    Genesis,
    MetricResult,
    ModelRegistered,
    Package,
    Person,
    PersonEnrolled,
    Record,
    SignOff,
    TrainingRun,
    VersionOpened,
    Workload,
    kinds,
    utc,
)
from cognify_dagster.workspace import Reading
from cognify_dagster.workspace.reading import RecordCache

ORIGIN = "test.example/memory"
START = datetime(2026, 1, 1, tzinfo=timezone.utc)
MODEL = "credit"
FAMILIES = ("performance", "fairness", "data_quality", "completeness")
MACHINE = Ed25519PrivateKey.from_private_bytes(b"\x77" * 32)
MACHINE_KEY = public_key(MACHINE.public_key().public_bytes_raw())
ROLES_OF: dict[str, tuple[str, ...]] = {
    "ada": ("workspace_admin",),
    "finn": ("workspace_admin",),
    "vera": ("model_validator",),
    "vito": ("model_validator",),
    "carl": ("compliance_officer",),
    "cleo": ("compliance_officer",),
    "olga": ("business_owner",),
    "ben": ("data_scientist", "model_validator", "compliance_officer", "business_owner"),
    "mia": ("model_validator", "compliance_officer", "business_owner"),
    "otto": ("business_owner",),
    "ian": ("auditor",),
    "nat": (),
}
PEOPLE = tuple(ROLES_OF)
_PRIVATE = {
    name: Ed25519PrivateKey.from_private_bytes(bytes([number + 1]) * 32)
    for number, name in enumerate((*PEOPLE, "eve", "forger"))
}
PUBLIC = {name: public_key(key.public_key().public_bytes_raw()) for name, key in _PRIVATE.items()}


def moment(day: float) -> datetime:
    """The time of a day of a history."""
    return START + timedelta(days=day)


def key(name: str) -> PersonalKey:
    """The personal key of somebody; `eve` and the forger have one too, but nobody enrolled it."""
    return PersonalKey(f"person/{name}", _PRIVATE[name])


def item(name: str, content: str, media_type: str = "application/json") -> EvidenceItem:
    """Evidence of which only the digest matters here."""
    data = content.encode()
    return EvidenceItem(
        name=name, digest=f"sha256:{hashlib.sha256(data).hexdigest()}", size=len(data), media_type=media_type
    )


class Memory:
    """Entries in memory, as a verified ledger would hand them out."""

    def __init__(self) -> None:
        self.entries: list[VerifiedEntry] = []
        self.heads: dict[str, int] = {}
        self.cache = RecordCache()
        self._reading: Reading | None = None

    def fork(self) -> Memory:
        """A ledger that goes on from here on its own. What was parsed is shared, what was concluded is not."""
        other = Memory()
        other.entries, other.heads = list(self.entries), dict(self.heads)
        other.cache._kept = dict(self.cache._kept)
        return other

    @property
    def size(self) -> int:
        return len(self.entries)

    def append(self, record: Record, day: float, *, signed: bool = True) -> int:
        """Append as the workload (or, unsigned, as nobody) past every check; return the sequence number."""
        seq = self.size
        draft = Draft(
            kind=record.kind, schema=record.schema_version, subjects=tuple(sorted(set(record.subjects()))),
            actor="workload/pipeline", idem=f"{seq:064x}", payload=record.payload(), facts_digest=record.facts_digest(),
            evidence=record.evidence(), key_id=MACHINE_KEY.key_id if signed else "", sign=MACHINE.sign if signed else None,
        )  # fmt: skip
        heads = {subject: self.heads.get(subject, -1) for subject in draft.subjects}
        prev = self.entries[-1].entry.leaf.hex() if self.entries else NO_PREVIOUS
        body = seal_body(ORIGIN, draft, salt=bytes(32)).body
        data = assemble(ORIGIN, body, heads, prev, seq, int(moment(day).timestamp() * 1_000_000))
        self.heads.update(dict.fromkeys(draft.subjects, seq))
        self.entries.append(VerifiedEntry(Entry.parse(data), json.loads(draft.payload), None))
        self._reading = None
        return seq

    def view(self) -> VerifiedView:
        """All entries, with their real root."""
        return self.reading().view

    def reading(self) -> Reading:
        """All entries as records."""
        if self._reading is None:
            root = merkle_root(entry.entry.leaf for entry in self.entries)
            view = VerifiedView(ORIGIN, self.size, root, tuple(self.entries), dict(self.heads))
            self._reading = Reading(view, self.cache)
        return self._reading

    def leaf(self, seq: int) -> str:
        """The leaf hash of an entry, in hex."""
        return self.entries[seq].entry.leaf.hex()

    def sealed(self, record: Record, signers: Sequence[tuple[str, bool]]) -> Record:
        """The record of an act with the signatures of people; a signature that is not genuine names them all the same."""
        found: list[Envelope] = []
        for name, real in signers:
            envelope = sign_act(record, key(name), ledger=ORIGIN, role="x", meaning="…", head=self.view().checkpoint())
            if not real:
                envelope = forged(envelope)
            found.append(envelope)
        update: dict[str, Any] = {}
        if "envelopes" in type(record).model_fields:
            update["envelopes"] = tuple(found)
        elif found:
            update["envelope"] = found[0]
        return record.model_copy(update=update)

    def signed_off(self, predicate: SignOffPredicate, name: str, *, real: bool = True) -> SignOff:
        """The record of a sign-off statement with its signature."""
        statement = sign_off_statement(predicate)
        envelope = seal(statement, PUBLIC[name].key_id, key(name).sign)
        envelope = envelope if real else forged(envelope)
        return SignOff(
            model=predicate.model, version=predicate.version, stage=predicate.stage, decision=predicate.decision,
            role=predicate.role, person=predicate.person, key_id=predicate.key_id, strength="S3",
            package_digest=predicate.package.digest, package_seq=predicate.package.entry_seq,
            statement_digest=statement_digest(envelope), signed_at=predicate.signed_at, envelope=envelope,
        )  # fmt: skip


def forged(envelope: Envelope) -> Envelope:
    """The same statement under somebody else's signature."""
    import base64

    statement = base64.b64decode(envelope.payload)
    return seal(statement, envelope.signatures[0].keyid, key("forger").sign)


def enrolment(memory: Memory, name: str, roles: tuple[str, ...]) -> Record:
    """The enrolment of a person with roles, by the two founders."""
    person = Person(person=f"person/{name}", name=name, roles=roles, keys=(PUBLIC[name],))
    record = PersonEnrolled(
        person=person,
        vouched_by="person/ada",
        witnesses=("person/finn",),
        envelope=forged(_blank(memory)),
        envelopes=(),
    )
    head = memory.view().checkpoint()
    one, two = (sign_act(record, key(who), ledger=ORIGIN, role="x", meaning="…", head=head) for who in ("ada", "finn"))
    return record.model_copy(update={"envelope": one, "envelopes": (two,)})


def _blank(memory: Memory) -> Envelope:
    return seal(b"{}", PUBLIC["forger"].key_id, key("forger").sign)


def founded() -> Memory:
    """A ledger with its people, one registered model, two data sets and adopted thresholds; entries 0 to 16 or so, on day 0."""
    memory = Memory()
    policy = parse_policy(yaml.safe_load(DEFAULT_POLICY_YAML))
    founders = tuple(
        Person(person=f"person/{who}", name=who, roles=ROLES_OF[who], keys=(PUBLIC[who],)) for who in PEOPLE[:2]
    )
    allowed = tuple(sorted(set(kinds()) - NOT_FOR_WORKLOADS))
    genesis = Genesis(
        origin=ORIGIN, log_key="none", trial=False, founders=founders, policy=policy.as_json(),
        policy_digest=policy.digest, recovery_threshold=2, recovery_keys=(PUBLIC["ada"], PUBLIC["finn"]), created=utc(START),
        workloads=(Workload(workload="workload/pipeline", key=MACHINE_KEY, kinds=allowed),),
    )  # fmt: skip
    memory.append(memory.sealed(genesis, [("ada", True), ("finn", True)]), 0, signed=False)
    for name in PEOPLE[2:]:
        memory.append(enrolment(memory, name, ROLES_OF[name]), 0)
    register(memory, "high", 0)
    snapshot(memory, "loans_train", "ab" * 32, 0)
    snapshot(memory, "loans_holdout", "cd" * 32, 0)
    gates = [GateRule(id="auc", family="performance", metric="auc", op=">=", threshold=0.7, source="policy")]
    memory.append(memory.sealed(gate_set_adoption("credit_gates", MODEL, gates, "person/vera"), [("vera", True)]), 0)
    return memory


def register(memory: Memory, tier: str, day: float) -> int:
    """What the model's code says about it."""
    return memory.append(
        ModelRegistered(model=MODEL, owner="team:risk", risk_tier=tier, intended_use="x", limitations="y"), day
    )


def snapshot(memory: Memory, name: str, root: str, day: float) -> int:
    """A snapshot of a data set."""
    profile = item("profile.json", "{}")
    return memory.append(
        DatasetSnapshot(
            name=name, root=root, data_version=f"sha256:{root}", file_count=1, total_bytes=3, profile=profile,
            manifest=profile,
        ),
        day,
    )  # fmt: skip


def train(memory: Memory, version: str, by: str, rate: float, day: float) -> int:
    """A sealed training run on the first snapshot."""
    reading = memory.reading()
    data = next(found for found in reading.all(DatasetSnapshot) if found.record.name == "loans_train")
    started = memory.append(
        VersionOpened(model=MODEL, version=version, run=f"run-{version}", opened_by=f"person/{by}"), day
    )
    return memory.append(
        TrainingRun(
            model=MODEL, version=version, config={"learning_rate": rate}, seed=7, launched_by=f"person/{by}",
            datasets=(DatasetRef(name="loans_train", root=data.record.root, seq=data.seq, role="train"),),
            model_file=item("model.bin", f"model {version}", "application/octet-stream"),
            code=CodeRef(vcs="git", commit="c" * 40, dirty=False), touched_by=("person/ben",), started_after_seq=started,
            environment=EnvironmentRef(
                python="3.11.7", platform="Linux", packages_digest="e" * 64, gpu="absent", container_image="none",
                detail=item("environment.json", "{}"),
            ),
        ),
        day,
    )  # fmt: skip


def evaluate(memory: Memory, version: str, failing: str | None, day: float) -> int:
    """An evaluation and its gate results."""
    reading = memory.reading()
    training = reading.latest(TrainingRun, f"model/{MODEL}@{version}")
    gates = next(found for found in reading.view.of_kind("gate_set_adopted"))
    holdout = next(found for found in reading.all(DatasetSnapshot) if found.record.name == "loans_holdout")
    adopted: Any = reading.at(gates.entry.seq)
    assert training is not None
    outcome = GateOutcome(
        id="auc", family="performance", metric="auc", op=">=", threshold=0.7, value=0.78, status="pass"
    )
    record = Evaluation(
        model=MODEL, version=version, model_digest=training.record.model_file.digest, training_seq=training.seq,
        dataset=DatasetRef(name="loans_holdout", root="cd" * 32, seq=holdout.seq, role="evaluation"),
        evaluator="workload/pipeline", code=training.record.code, gate_set="credit_gates", gate_set_seq=adopted.seq,
        metrics=(MetricResult(name="auc", value=0.78, ci_low=0.77, ci_high=0.79, n=9000),),
        gate_set_digest=adopted.record.digest, outcomes=(outcome,), status="passed",
    )  # fmt: skip
    seq = memory.append(record, day)
    for family in FAMILIES:
        status = "fail" if family == failing else "pass"
        value = {"model": MODEL, "version": version, "family": family, "status": status, "based_on": (seq,)}
        memory.append(GateResult.model_validate(value), day)
    return seq


def package(memory: Memory, version: str, by: str, day: float) -> int:
    """A package of the newest evaluation."""
    reading, subject = memory.reading(), f"model/{MODEL}@{version}"
    training, evaluation = reading.latest(TrainingRun, subject), reading.latest(Evaluation, subject)
    assert training is not None
    assert evaluation is not None
    number = len(reading.all(Package, subject)) + 1
    content = f"{version} {number // 3}"  # the second one has the very bytes of the first
    return memory.append(
        Package(
            model=MODEL, version=version, revision=number, package=item("package.json", content),
            review_copy=item("review.pdf", f"pdf {version} {number}", "application/pdf"),
            model_card=item("card.md", "# card", "text/markdown"), model_digest=training.record.model_file.digest,
            training_seq=training.seq, evaluation_seq=evaluation.seq, dataset_seqs=(), built_by=f"person/{by}",
            policy_digest=reading.genesis.record.policy_digest, built_from_size=reading.size,
        ),
        day,
    )  # fmt: skip
